"""All chosen frameworks in one process: one call, the same answer."""

import functools
import itertools

import numpy as np
import pytest
import suite

import seqloss
from seqloss.testing import cases, frameworks, tolerances

# Each beside the next: what is the same in neighbours is the same in all.
PAIRS = list(itertools.pairwise(frameworks.NAMES))
FINITE = {
    case.name: case
    for case in cases.CASES
    if not case.name.startswith(("counted_", "weights_one_")) and case.check_labels is None
}
# The kernels of other dtypes have a suite of their own: here are some cases of each, and all in float32.
CHOSEN = [
    *(("float32", name) for name in FINITE),
    *((("float64", "float16")[i % 2], name) for i, name in enumerate(FINITE)),
]
# JAX compiles each, and its own suite holds it against the oracle: of the other dtypes it has two cases of four.
FEWER = {*CHOSEN[: len(FINITE)], *(pair for i, pair in enumerate(CHOSEN[len(FINITE) :]) if i % 4 < 2)}
EVERY = [(*pair, *chosen) for chosen in CHOSEN for pair in PAIRS if "jax" not in pair or chosen in FEWER]


@functools.cache
def results(name, case, dtype):
    """Loss and gradients of a framework as (NumPy array, dtype, scale of its summands)."""
    driver, case = frameworks.load(name), FINITE[case]
    with driver.precision(dtype):
        native, host = suite.cast(driver, case, dtype)
        differentiable = len(native) > 2 and case.weights_dtype is None
        wrt = ("logits", "weights") if differentiable else ("logits",)
        loss, gradients = seqloss.sequence_loss_and_grad(*native, **case.flags, wrt=wrt)
        reference, _ = suite.reference(host, case, driver.dtype(loss))
        scales = (reference.loss_scale, 0.0, reference.dweights_scale)
        return [(driver.to_numpy(x), driver.dtype(x), s) for x, s in zip((loss, *gradients), scales, strict=False)]


@pytest.mark.parametrize("one, other, dtype, case", EVERY, ids=["-".join(row) for row in EVERY])
def test_same_shapes_dtypes_zeros_and_values(one, other, dtype, case):
    pairs = zip(results(one, case, dtype), results(other, case, dtype), strict=True)
    for (a, a_dtype, scale), (b, b_dtype, _) in pairs:
        assert (a.shape, a_dtype) == (b.shape, b_dtype)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        # Each may be off by its bound, to either side.
        bound = 2 * (tolerances.HALF_ULPS if a_dtype == "float16" else tolerances.WIDE_ULPS)
        assert tolerances.ulps(a, b, a_dtype, scale).max(initial=0) <= bound


MIXED = list(itertools.permutations(frameworks.NAMES[1:], 2))


@pytest.mark.parametrize("main, stranger", MIXED, ids=["-".join(pair) for pair in MIXED])
@pytest.mark.parametrize("argument", ["targets", "weights"])
def test_arrays_of_two_frameworks_are_refused(main, stranger, argument):
    logits, targets, weights = cases.draw(2, 3, 5)
    home, away = frameworks.load(main), frameworks.load(stranger)
    arrays = {"targets": home.array(targets), "weights": home.array(weights)}
    arrays[argument] = away.array({"targets": targets, "weights": weights}[argument])
    with pytest.raises(seqloss.MixedBackendsError) as error:
        seqloss.sequence_loss(home.array(logits), **arrays)
    assert str(error.value) == (
        f"logits is a {main} array but {argument} is a {stranger} array; pass {argument} as a {main} or NumPy array"
    )


@pytest.mark.parametrize("stranger", frameworks.NAMES[1:])
def test_numpy_logits_beside_another_framework_are_refused(stranger):
    logits, targets, weights = cases.draw(2, 3, 5)
    with pytest.raises(seqloss.MixedBackendsError, match=f"a {stranger} array; convert logits to {stranger}"):
        seqloss.sequence_loss(logits, frameworks.load(stranger).array(targets), weights)


@pytest.mark.parametrize("name", frameworks.NAMES[1:])
def test_numpy_arrays_go_beside_any_logits(name):
    logits, targets, weights = cases.draw(2, 3, 5)
    driver = frameworks.load(name)
    native = seqloss.sequence_loss(*(driver.array(x) for x in (logits, targets, weights)))
    mixed = seqloss.sequence_loss(driver.array(logits), targets, weights)
    assert driver.is_array(mixed) and driver.dtype(mixed) == driver.dtype(native)
    np.testing.assert_array_equal(driver.to_numpy(mixed), driver.to_numpy(native))
