"""Packed sequences: what they share with a padded batch, and offsets that cannot be read."""

import numpy as np
import pytest
from test_objective_corners import CLASSES, OBJECTIVES, options

import seqloss
from seqloss.testing import frameworks, tolerances

pytestmark = pytest.mark.few_where_compiled("each", "name")
LENGTHS = np.array([3, 0, 5, 1])
BATCH, TIME = len(LENGTHS), 6
KEPT = np.arange(TIME) < LENGTHS[:, None]
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])


def pytest_generate_tests(metafunc):
    if "compiler" in metafunc.fixturenames:
        drivers = {name: frameworks.load(name) for name in metafunc.config.getoption("--backends").split(",")}
        pairs = [(name, compiler) for name, driver in drivers.items() for compiler in ("none", *driver.COMPILERS)]
        metafunc.parametrize("backend, compiler", pairs)


def draw():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (BATCH, TIME, CLASSES)).astype("float32")
    weights = (rng.integers(4, 17, (BATCH, TIME)) / 8).astype("float32")
    weights[2, 1] = 0
    return logits, rng.integers(0, CLASSES, (BATCH, TIME)), weights


def both(driver, objective, **given):
    """Losses and gradients of the padded batch, and of the packed one, for NumPy."""
    arrays, given = draw(), {**options(driver, objective), **given, "wrt": ("logits", "weights")}
    padded = [driver.array(x) for x in arrays], {"lengths": driver.array(LENGTHS)}
    packed = [driver.array(x[KEPT]) for x in arrays], {"cu_seqlens": driver.array(OFFSETS)}
    found = []
    for native, where in (padded, packed):
        loss, gradients = seqloss.sequence_loss_and_grad(*native, **where, **given)
        found.append([driver.to_numpy(x) for x in (loss, *gradients)])
    return found


@pytest.mark.parametrize("name", ["plain", "divergence", "all"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "per_sequence", "sequence_mean"])
@pytest.mark.parametrize("exact", [False, True])
def test_packed_is_padded(framework, name, reduction, exact):
    """In exact mode: the same bits."""
    padded, packed = both(framework, OBJECTIVES[name], reduction=reduction, exact=exact)
    padded[0] = padded[0][KEPT] if reduction == "none" else padded[0]
    for got, wanted in zip(packed, [padded[0], padded[1][KEPT], padded[2][KEPT]], strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype == np.float32
        np.testing.assert_array_equal(got == 0, wanted == 0)
        most = 0 if exact else 8
        assert tolerances.ulps(got, wanted.astype(np.longdouble), "float32").max() <= most


@pytest.mark.parametrize("reduction", ["none", "per_sequence", "sequence_mean"])
def test_a_loss_of_ones_own(framework, reduction):
    def squares(labels, logits):
        return (logits * logits)[..., 0]

    logits, targets, weights = draw()
    given = {"softmax_loss_function": squares, "reduction": reduction}
    padded = [framework.array(x) for x in (logits, targets, weights * KEPT)]
    expected = framework.to_numpy(seqloss.sequence_loss(*padded, **given))
    packed = [framework.array(x[KEPT]) for x in (logits, targets, weights)]
    got = seqloss.sequence_loss(*packed, cu_seqlens=framework.array(OFFSETS), **given)
    expected = expected[KEPT] if reduction == "none" else expected
    np.testing.assert_allclose(framework.to_numpy(got), expected, rtol=1e-6)
    if framework.CAN.differentiates:
        more = {**given, "wrt": ("logits", "weights")}
        _, wanted = seqloss.sequence_loss_and_grad(*padded, **more)
        _, gradients = seqloss.sequence_loss_and_grad(*packed, cu_seqlens=framework.array(OFFSETS), **more)
        for one, other in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(framework.to_numpy(one), framework.to_numpy(other)[KEPT], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["mean", "none", "per_sequence", "sequence_mean"])
def test_no_sequence(framework, reduction):
    arrays = [framework.array(np.zeros(shape, dtype)) for shape, dtype in (((0, 7), "float32"), ((0,), "int64"))]
    given = {"cu_seqlens": framework.array(np.array([0])), "reduction": reduction}
    loss, gradient = seqloss.sequence_loss_and_grad(*arrays, **given)
    loss, gradient = framework.to_numpy(loss), framework.to_numpy(gradient)
    assert gradient.shape == (0, 7)
    np.testing.assert_array_equal(loss, np.zeros((0,) if reduction in ("none", "per_sequence") else (), "float32"))


def test_a_padded_buffer_is_one_more_sequence(framework):
    logits, targets, weights = (x[KEPT] for x in draw())
    whole = np.concatenate([logits, np.full((4, CLASSES), np.nan, "float32")])
    arrays = whole, np.pad(targets, (0, 4), constant_values=-1), np.pad(weights, (0, 4))
    offsets = framework.array(np.append(OFFSETS, len(whole)))
    native = [framework.array(x) for x in arrays]
    got = framework.to_numpy(seqloss.sequence_loss(*native, cu_seqlens=offsets, reduction="sequence_mean"))
    native = [framework.array(x) for x in (logits, targets, weights)]
    offsets = framework.array(OFFSETS)
    expected = seqloss.sequence_loss(*native, cu_seqlens=offsets, reduction="sequence_mean")
    np.testing.assert_allclose(got, framework.to_numpy(expected), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("reduction", ["mean", "sequence_mean"])
@pytest.mark.parametrize("wrong", [[0, 3, 9], [0, 5, 3, 9], [1, 9], [0, 8], [0, 10], [0, 0], [12, 12]])
def test_offsets_that_cannot_be_read(backend, compiler, dtype, reduction, wrong):
    """Right ones give the loss, wrong ones NaN; where they can be read, an error."""
    driver, (logits, targets, _) = frameworks.load(backend), draw()
    arrays = logits[KEPT], targets[KEPT], np.array(wrong, dtype)
    native = [driver.array(x) for x in arrays]

    def loss(logits, targets, offsets):
        return seqloss.sequence_loss(logits, targets, cu_seqlens=offsets, reduction=reduction)

    is_right = wrong == [0, 3, 9]
    if compiler == "none" and not is_right:
        with pytest.raises(seqloss.OptionError, match="cu_seqlens must"):
            loss(*native)
        return
    found = driver.to_numpy((loss if compiler == "none" else driver.COMPILERS[compiler](loss))(*native))
    expected = seqloss.sequence_loss(*arrays[:2], cu_seqlens=wrong, reduction=reduction) if is_right else np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-6)
