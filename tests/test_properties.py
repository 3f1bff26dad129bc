"""Hypothesis: whatever the arrays hold, the outcome is the oracle's, or a LabelError exactly where one is due.

Eager mode only: a compiler would run for every example. The examples are the same in every run.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seqloss
from seqloss.testing import cases, oracle, tolerances

PROFILE = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class Space(NamedTuple):
    """Where the shapes [batch, time, classes], the flags, and the dtypes of labels and weights are drawn from."""

    shapes: st.SearchStrategy
    flags: tuple[str, ...]
    labels: tuple[str, ...]
    others: tuple[str | None, ...]
    """The dtypes of weights beside that of the logits; None is a call without weights."""


ANY = Space(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(1, 9)),
    tuple(cases.FLAGS),
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    ("bool", "int32", "uint8", None),
)
# JAX compiles every operation anew for each shape and dtype, in a tenth of a second or more.
FEW = Space(st.sampled_from([(4, 5, 9), (3, 1, 2)]), ("average_both", "sum_time"), ("int32",), (None,))
SPACE = {"jax": FEW}
SMALLEST_ACTIVE = 2.0**-126

# Sums of these are exact in any order, and a quotient of two does not underflow. Those below 2**-126 are 0.
WEIGHTS = (0.0, -0.0, 1e-40, -5e-324, 0.125, 0.5, 1.0, 1.5, 3.0, 1024.0, -0.25, -1.0, -2.0)

# A product or an exponential below the smallest normal number may be flushed on the way to a result above it.
LOST = 2.0**20


def logit(dtype, largest):
    """Ordinary logits, large ones, and those that are no number."""
    width = np.dtype(dtype).itemsize * 8
    special = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 88.0, -104.0, 1e4, 2.0**27)
    return (
        st.floats(-30, 30, width=width)
        | st.floats(-largest, largest, width=width)
        | st.sampled_from([np.dtype(dtype).type(x) for x in special])
    )


LARGEST = {"float32": float(np.float32(1e30)), "float64": 1e300}
ORDINARY = {dtype: logit(dtype, largest) for dtype, largest in LARGEST.items()}
EXTREME = {dtype: logit(dtype, float(np.finfo(dtype).max)) for dtype in LARGEST}


def labels(dtype, classes, shape, legal):
    """Labels of an integer dtype: all legal, or any. The framework's own arrays need not hold more than 32 bits."""
    info = np.iinfo(dtype)
    low, high = max(int(info.min), -(2**31)), min(int(info.max), 2**31 - 1)
    some = st.integers(0, min(classes - 1, high))
    if not legal:
        some |= st.integers(max(low, -2), min(classes + 1, high)) | st.integers(low, high)
    return hnp.arrays(dtype, shape, elements=some)


@st.composite
def calls(draw, framework, dtype, elements=ORDINARY, weights=WEIGHTS):
    """logits, targets and weights (or None) as NumPy arrays."""
    space = SPACE.get(framework.name, ANY)
    *shape, classes = draw(space.shapes)
    z = draw(hnp.arrays(dtype, (*shape, classes), elements=elements[dtype]))
    y = draw(labels(draw(st.sampled_from(space.labels)), classes, tuple(shape), draw(st.booleans())))
    kind = draw(st.sampled_from([dtype, dtype, *space.others]))
    if kind is None:
        return z, y, None
    values = st.sampled_from(
        [0, 1, 2, 200] if kind in ("int32", "uint8") else [np.dtype(kind).type(w) for w in weights]
    )
    return z, y, draw(hnp.arrays(kind, tuple(shape), elements=values))


def bad_labels(z, y, w, compute):
    """Which tokens count and have a label that is no class."""
    bad = (y.astype(object) < 0) | (y.astype(object) >= z.shape[-1])
    bad = bad.astype(bool)
    return bad if w is None else bad & ~(np.abs(w.astype(compute)) < SMALLEST_ACTIVE)


def placed(framework, *arrays):
    return [framework.array(x) for x in arrays if x is not None]


def form(framework, actual, expected, dtype):
    """Type, shape and dtype; then the values for NumPy."""
    assert framework.is_array(actual), type(actual)
    assert tuple(actual.shape) == expected.shape
    assert framework.dtype(actual) == dtype
    return framework.to_numpy(actual)


def agree(framework, actual, expected, dtype, bound, scale=0.0):
    got = form(framework, actual, expected, dtype)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), "NaN places")
    fraction = tolerances.excess(got, expected, dtype, bound, scale)
    with np.errstate(invalid="ignore"):
        lost = np.abs(got - expected) <= LOST * tolerances.PRECISION[dtype].smallest_normal
    wrong = (fraction > 1) & ~lost
    assert not wrong.any(), (got[wrong][0], expected[wrong][0], fraction.max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_the_oracle(framework, dtype):
    # Where each shape is a program, fewer.
    @settings(PROFILE, max_examples=50 if framework.QUICK else 150)
    @given(calls(framework, dtype), st.sampled_from(SPACE.get(framework.name, ANY).flags))
    def check(arrays, flags):
        reduction = cases.FLAGS[flags]
        z, y, w = arrays
        differentiable = w is not None and w.dtype.name == dtype
        with framework.precision(dtype):
            native = placed(framework, *arrays)

            def loss(*arrays):
                return seqloss.sequence_loss(*arrays, **reduction)

            def explicit():
                wrt = ("logits", "weights") if differentiable else ("logits",)
                return seqloss.sequence_loss_and_grad(*native, **reduction, wrt=wrt)

            if bad_labels(z, y, w, dtype).any():
                for call in (lambda: loss(*native), explicit):
                    with pytest.raises(seqloss.LabelError):
                        call()
                return
            weights = np.ones(y.shape, dtype) if w is None else w.astype(dtype)
            expected = oracle.sequence_loss(z, y, weights, **reduction)
            eager = framework.MODES["eager"](loss, (0, 2) if differentiable else (0,))(native, None)
            for value, gradients in (eager, explicit()):
                compared(framework, value, gradients or (), expected, z, weights, dtype)

    check()


def compared(framework, value, gradients, expected, z, weights, dtype):
    bound = tolerances.token_bound(z)
    worst = bound.max(initial=tolerances.TIGHT_ULPS)
    agree(framework, value, expected.loss, dtype, worst, expected.loss_scale)
    for gradient, wanted, allowed, scale in zip(
        gradients,
        (expected.dlogits, expected.dweights),
        (bound[..., None], worst),
        (0.0, expected.dweights_scale),
        strict=False,  # NumPy has no gradients, and not every weight is differentiable
    ):
        agree(framework, gradient, wanted, dtype, allowed, scale)
    if gradients:
        rows = framework.to_numpy(gradients[0])[np.abs(weights) < SMALLEST_ACTIVE]
        np.testing.assert_array_equal(rows, np.zeros_like(rows), "rows of weight 0")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outcome_is_that_of_numpy(framework, dtype):
    """To the limits of the dtype, weights included: an error with the same text, or NaN and infinities in one place."""
    limits = (*WEIGHTS, np.finfo(dtype).max, np.finfo(dtype).tiny, np.inf, np.nan)

    @PROFILE
    @given(calls(framework, dtype, EXTREME, limits), st.sampled_from([None, False]))
    def check(arrays, check_labels):
        def outcome(arrays):
            try:
                return seqloss.sequence_loss(*arrays, **cases.PLAIN, check_labels=check_labels)
            except seqloss.LabelError as error:
                return str(error)

        with framework.precision(dtype):
            got, expected = outcome(placed(framework, *arrays)), outcome([x for x in arrays if x is not None])
            assert isinstance(got, str) == isinstance(expected, str), (got, expected)
            if isinstance(expected, str):
                assert got == expected
                return
            got = form(framework, got, expected, dtype)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), "NaN places")
        np.testing.assert_array_equal(np.where(np.isinf(got), got, 0), np.where(np.isinf(expected), expected, 0))

    check()


@pytest.mark.parametrize("label_dtype", ["int64", "uint64"])
def test_host_labels_of_any_size(framework, label_dtype):
    """Labels from NumPy beside logits of the framework: 2**32 is no class 0, whatever integers the framework has."""
    info = np.iinfo(label_dtype)

    @PROFILE
    @given(st.integers(1, 9), st.data())
    def check(classes, data):
        near = st.integers(0, classes) | st.integers(0, 2 * classes).map(lambda n: 2**32 + n)
        elements = near | st.integers(int(info.min), int(info.max))
        y = data.draw(hnp.arrays(label_dtype, (2, 3), elements=elements))
        z = framework.array(np.zeros((2, 3, classes), "float32"))
        w = np.array([[1, 0, 1], [1, 1, 0]], "float32")
        bad = bad_labels(np.zeros((2, 3, classes)), y, w, "float32")
        if bad.any():
            with pytest.raises(seqloss.LabelError):
                seqloss.sequence_loss(z, y, w)
        value = seqloss.sequence_loss(z, y, w, **cases.PLAIN, check_labels=False)
        expected = np.where(bad, np.nan, w * np.log(classes))
        np.testing.assert_allclose(form(framework, value, expected, "float32"), expected, rtol=1e-6)

    check()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_token_loss_of_any_rank(framework, dtype):
    @PROFILE
    @given(st.data())
    def check(data):
        shapes = st.tuples(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), st.integers(1, 9))
        if SPACE.get(framework.name) is FEW:
            shapes = st.sampled_from([((), 4), ((0,), 5), ((2, 1, 3), 2)])
        shape, classes = data.draw(shapes)
        z = data.draw(hnp.arrays(dtype, (*shape, classes), elements=ORDINARY[dtype]))
        y = data.draw(labels("int32", classes, shape, data.draw(st.booleans())))
        active = data.draw(st.none() | hnp.arrays(bool, shape))
        with framework.precision(dtype):
            native = framework.array(z), framework.array(y)
            mask = None if active is None else framework.array(active)
            if bad_labels(z, y, active, "float32").any():
                with pytest.raises(seqloss.LabelError):
                    seqloss.token_loss(*native, active=mask)
                return
            value = seqloss.token_loss(*native, active=mask)
        expected = oracle.tokens(z, y).nll
        expected = expected if active is None else np.where(active, expected, 0)
        agree(framework, value, np.asarray(expected), dtype, tolerances.token_bound(z))

    check()


def test_the_comparison_can_fail(framework):
    """A result that is off by 1 part in 10**4 is noticed, and one that is NaN."""
    expected = np.array([1.0, 2.0])
    agree(framework, framework.array(expected.astype("float32")), expected, "float32", 20.0)
    for wrong in ([1.0, 2.0002], [np.nan, 2.0]):
        with pytest.raises(AssertionError):
            agree(framework, framework.array(np.array(wrong, "float32")), expected, "float32", 20.0)
