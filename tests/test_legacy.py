"""The losses of lists: masks, shapes and dtypes, custom losses, and the ways to run."""

import numpy as np
import pytest

import seqloss
from seqloss import legacy
from seqloss.losses import ops, time_lists
from seqloss.testing import frameworks

pytestmark = pytest.mark.few_where_compiled

RNG = np.random.RandomState(3)
LOGITS = (2 * RNG.randn(3, 4, 5)).astype("float32")  # [time, batch, classes]
TARGETS = RNG.randint(0, 5, (3, 4)).astype("int32")
WEIGHTS = np.array([[1, 0.5, 2, 0], [1, 0, 3, 0], [0, 0, 1, 0]], "float32")
NLL = np.log(np.exp(LOGITS.astype(float)).sum(-1)) - np.take_along_axis(LOGITS, TARGETS[..., None], -1)[..., 0]
EXPECTED = (NLL * WEIGHTS).sum(0) / (WEIGHTS.sum(0) + 1e-12)


def lists(framework, logits=LOGITS, targets=TARGETS, weights=WEIGHTS):
    return [[framework.array(x) for x in arrays] for arrays in (logits, targets, weights)]


def value(framework, function, *arguments, **options):
    return framework.to_numpy(function(*arguments, **options))


def masked():
    """What no result may depend on, at every token of weight 0."""
    return np.where(WEIGHTS[..., None] == 0, np.float32(np.nan), LOGITS), np.where(WEIGHTS == 0, -100, TARGETS)


def test_the_formula(framework):
    result = seqloss.sequence_loss_by_example(*lists(framework))
    assert framework.is_array(result)
    assert framework.dtype(result) == "float32"
    np.testing.assert_allclose(framework.to_numpy(result), EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(value(framework, legacy.sequence_loss, *lists(framework)), EXPECTED.mean(), rtol=1e-6)


def test_a_sequence_without_weight_counts_in_the_batch(framework):
    """The difference to seqloss.sequence_loss, which divides by the weights."""
    three = lists(framework, *(x[:, :3] for x in (LOGITS, TARGETS, WEIGHTS)))
    four = value(framework, legacy.sequence_loss, *lists(framework))
    np.testing.assert_allclose(4 * four, 3 * value(framework, legacy.sequence_loss, *three), rtol=1e-6)


def test_sums_without_averages(framework):
    options = {"average_across_timesteps": False}
    by_example = value(framework, seqloss.sequence_loss_by_example, *lists(framework), **options)
    np.testing.assert_allclose(by_example, (NLL * WEIGHTS).sum(0), rtol=1e-6)
    total = value(framework, legacy.sequence_loss, *lists(framework), average_across_batch=False, **options)
    np.testing.assert_allclose(total, (NLL * WEIGHTS).sum(), rtol=1e-6)


def test_masked_tokens_are_never_looked_at(framework):
    logits, targets = masked()
    result = value(framework, seqloss.sequence_loss_by_example, *lists(framework, logits, targets))
    np.testing.assert_array_equal(result, value(framework, seqloss.sequence_loss_by_example, *lists(framework)))
    assert result[3] == 0


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        pairs = [(name, mode) for name in names for mode in frameworks.load(name).MODES]
        metafunc.parametrize("name, mode", pairs, ids=["-".join(pair) for pair in pairs])


def of_lists(function, **options):
    """A function of arrays [time, batch, ...], for the ways to run that differentiate with respect to arrays."""
    return lambda *arrays: function(*([x[step] for step in range(3)] for x in arrays), **options)


@pytest.mark.parametrize("custom", [False, True])
def test_every_mode(name, mode, custom):
    driver = frameworks.load(name)
    logits, targets = masked()
    options = {"softmax_loss_function": lambda labels, logits: 2 * seqloss.token_loss(logits, labels)} if custom else {}
    arrays = [driver.array(x) for x in (logits, targets, WEIGHTS)]
    function = of_lists(seqloss.sequence_loss_by_example, **options)
    cotangent = np.array([1, 2, 3, 4], "float32")
    loss, gradients = driver.MODES[mode](function, (0,))(arrays, driver.array(cotangent))
    factor = 2 if custom else 1
    np.testing.assert_allclose(driver.to_numpy(loss), factor * EXPECTED, rtol=2e-6)
    if gradients is not None:
        probabilities = np.exp(LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True)))
        slopes = (cotangent * WEIGHTS / (WEIGHTS.sum(0) + 1e-12))[..., None] * (probabilities - np.eye(5)[TARGETS])
        result = driver.to_numpy(gradients[0])
        np.testing.assert_allclose(result, factor * slopes, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(result[WEIGHTS == 0], 0)


def test_the_gradient_of_the_weights_beside_masked_junk(framework):
    """A token of weight 0 has the gradient of the formula, with a loss that is not finite counted as 0."""
    arrays = [framework.array(x) for x in (*masked(), WEIGHTS)]
    function = of_lists(seqloss.sequence_loss_by_example)
    loss, found = framework.MODES["eager"](function, (0, 2))(arrays, None)
    np.testing.assert_allclose(framework.to_numpy(loss), EXPECTED, rtol=1e-6)
    if found is not None:
        rows, slopes = (framework.to_numpy(x) for x in found)
        counted = np.where(WEIGHTS == 0, 0, NLL)
        np.testing.assert_allclose(slopes, (counted - EXPECTED) / (WEIGHTS.sum(0) + 1e-12), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(rows[WEIGHTS == 0], 0)


def test_large_steps_are_not_copied(framework, monkeypatch):
    """Each gets a kernel call of its own, with the same result."""
    small = value(framework, seqloss.sequence_loss_by_example, *lists(framework))
    monkeypatch.setattr(time_lists, "LARGE", LOGITS[0].size)
    called, token_losses = [], ops.token_losses

    def counted(*arrays):
        called.append(arrays)
        return token_losses(*arrays)

    monkeypatch.setattr(ops, "token_losses", counted)
    logits, targets = masked()
    large = value(framework, seqloss.sequence_loss_by_example, *lists(framework, logits, targets))
    assert len(called) == len(LOGITS)
    np.testing.assert_allclose(large, small, rtol=1e-6)


def test_labels_of_several_dtypes(framework):
    logits, targets, weights = lists(framework)
    targets[1] = framework.array(TARGETS[1].astype("uint8"))
    result = value(framework, seqloss.sequence_loss_by_example, logits, targets, weights)
    np.testing.assert_allclose(result, EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (2, 2)])
def test_targets_of_any_shape_with_batch_entries(framework, shape):
    arrays = lists(framework, targets=TARGETS.reshape(3, *shape))
    np.testing.assert_allclose(value(framework, seqloss.sequence_loss_by_example, *arrays), EXPECTED, rtol=1e-6)


def test_a_single_sequence_with_a_number_as_target(framework):
    arrays = lists(framework, LOGITS[:, :1], TARGETS[:, 0], WEIGHTS[:, :1])
    np.testing.assert_allclose(value(framework, legacy.sequence_loss, *arrays), EXPECTED[0], rtol=1e-6)


@pytest.mark.parametrize("weights", [[1.0, 0, True], [np.ones(4), 0.0, np.float32(1)]])
def test_numbers_are_weights_for_all_sequences(framework, weights):
    logits, targets, _ = lists(framework)
    targets[1] = framework.array(np.full(4, -100))
    result = value(framework, seqloss.sequence_loss_by_example, logits, tuple(targets), weights)
    np.testing.assert_allclose(result, NLL[[0, 2]].mean(0), rtol=1e-6)


def test_integer_and_bool_weights(framework):
    expected = (NLL * (WEIGHTS != 0)).sum(0) / ((WEIGHTS != 0).sum(0) + 1e-12)
    for dtype in ("bool", "int64", "uint8"):
        arrays = lists(framework, weights=(WEIGHTS != 0).astype(dtype))
        np.testing.assert_allclose(value(framework, seqloss.sequence_loss_by_example, *arrays), expected, rtol=1e-6)


def test_half_precision_gives_float32(framework):
    """In float16 the 1e-12 would be 0, and a sequence without weight NaN."""
    arrays = lists(framework, LOGITS.astype("float16"), weights=WEIGHTS.astype("float16"))
    result = seqloss.sequence_loss_by_example(*arrays)
    assert framework.dtype(result) == "float32"
    np.testing.assert_allclose(framework.to_numpy(result), EXPECTED, rtol=1e-2)
    assert framework.to_numpy(result)[3] == 0


def test_float64_stays(framework):
    with framework.precision("float64"):
        arrays = lists(framework, LOGITS.astype(float), weights=WEIGHTS.astype(float))
        result = legacy.sequence_loss(*arrays)
        assert framework.dtype(result) == "float64"
        np.testing.assert_allclose(framework.to_numpy(result), EXPECTED.mean(), rtol=1e-12)


def test_an_empty_batch(framework):
    arrays = lists(framework, LOGITS[:, :0], TARGETS[:, :0], WEIGHTS[:, :0])
    assert value(framework, seqloss.sequence_loss_by_example, *arrays).shape == (0,)
    assert value(framework, legacy.sequence_loss, *arrays) == 0


def test_weights_that_cancel_are_divided_by_1e_12(framework):
    arrays = lists(framework, LOGITS[:2], TARGETS[:2], np.array([[1.0] * 4, [-1.0] * 4], "float32"))
    result = value(framework, seqloss.sequence_loss_by_example, *arrays)
    np.testing.assert_allclose(result, (NLL[0] - NLL[1]) * 1e12, rtol=1e-5)


def test_a_custom_loss_is_called_once_for_each_step_with_what_was_given(framework):
    calls = []

    def function(*, labels, logits):
        calls.append((framework.to_numpy(labels), framework.to_numpy(logits)))
        return seqloss.token_loss(logits, labels[:, 0])

    logits, targets = masked()
    arrays = lists(framework, logits, targets[..., None])
    result = value(framework, seqloss.sequence_loss_by_example, *arrays, softmax_loss_function=function)
    np.testing.assert_allclose(result, EXPECTED, rtol=1e-6)
    assert len(calls) == 3
    for step, (labels, rows) in enumerate(calls):
        np.testing.assert_array_equal(labels[:, 0], np.where(WEIGHTS[step] == 0, 0, TARGETS[step]))
        np.testing.assert_array_equal(rows, np.where(WEIGHTS[step][:, None] == 0, 0, LOGITS[step]))


def test_numpy_arrays_beside_those_of_a_framework(framework):
    logits, _, _ = lists(framework)
    result = seqloss.sequence_loss_by_example(logits, list(TARGETS), WEIGHTS.tolist())
    assert framework.is_array(result)
    np.testing.assert_allclose(framework.to_numpy(result), EXPECTED, rtol=1e-6)


def test_steps_of_another_size_or_dtype(framework):
    logits, targets, weights = lists(framework)
    with pytest.raises(
        seqloss.ShapeError, match=r"logits\[1\] must have the shape \[4, 5\] of logits\[0\], got \[4, 4\]"
    ):
        legacy.sequence_loss([logits[0], logits[1][:, :4], logits[2]], targets, weights)
    with pytest.raises(seqloss.ShapeError, match=r"targets\[2\] must have one label for each of the 4 sequences"):
        legacy.sequence_loss(logits, [*targets[:2], targets[2][:3]], weights)
    half = framework.array(LOGITS[1].astype("float16"))
    with pytest.raises(
        seqloss.DTypeError, match=r"logits\[1\] must have the dtype float32 of logits\[0\], got float16"
    ):
        legacy.sequence_loss([logits[0], half, logits[2]], targets, weights)
    with pytest.raises(seqloss.ArgumentTypeError, match=r"^targets\[1\] is None"):
        legacy.sequence_loss(logits, [targets[0], None, targets[2]], weights)
