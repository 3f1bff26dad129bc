"""One test for each row of the table "Differences from TensorFlow" in docs/semantics.md, and for what is the same.

What TensorFlow does is stated there and in the golden vectors; these tests hold this library to its side.
"""

import inspect
import pathlib
import re

import numpy as np
import pytest

import seqloss

RNG = np.random.RandomState(7)
LOGITS = (RNG.randn(2, 3, 5) * 2).astype("float32")
TARGETS = RNG.randint(0, 5, (2, 3))
WEIGHTS = np.array([[1, 1, 0], [0.5, 2, 0]], "float32")
UNREDUCED = {"average_across_timesteps": False, "average_across_batch": False}
MASKED = WEIGHTS == 0


def batch(framework, logits=LOGITS, targets=TARGETS, weights=WEIGHTS):
    return framework.array(logits), framework.array(targets), framework.array(weights)


def value(framework, *arguments, **options):
    # Infinities and NaN are results here; NumPy alone warns when arithmetic meets them.
    with np.errstate(all="ignore"):
        return framework.to_numpy(seqloss.sequence_loss(*arguments, **options))


def gradient(framework, *arguments, **options):
    with np.errstate(all="ignore"):
        return framework.to_numpy(seqloss.sequence_loss_and_grad(*arguments, **options)[1])


# --- differences ---------------------------------------------------------------------------------------------------


def test_sizes_are_validated(framework):
    logits, _, weights = batch(framework)
    with pytest.raises(seqloss.ShapeError, match=r"targets .* transposed"):
        seqloss.sequence_loss(logits, framework.array(TARGETS.T), weights)
    with pytest.raises(seqloss.ShapeError, match=r"weights .* transposed"):
        seqloss.sequence_loss(logits, framework.array(TARGETS), framework.array(WEIGHTS.T))


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (2,), ()])
def test_nothing_is_broadcast(framework, shape):
    logits, targets, _ = batch(framework)
    with pytest.raises(seqloss.ShapeError, match="weights"):
        seqloss.sequence_loss(logits, targets, framework.array(np.ones(shape, "float32")))


def test_one_hot_targets_raise(framework):
    logits, _, weights = batch(framework)
    with pytest.raises(seqloss.ShapeError, match="argmax"):
        seqloss.sequence_loss(logits, framework.array(np.eye(5, dtype="int64")[TARGETS]), weights)
    one_hot = framework.array(np.eye(5, dtype="float32")[TARGETS])
    loss = framework.to_numpy(seqloss.sequence_loss(logits, one_hot, weights))
    expected = framework.to_numpy(seqloss.sequence_loss(*batch(framework)))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_no_classes_is_a_shape_error(framework):
    with pytest.raises(seqloss.ShapeError, match="no classes"):
        seqloss.sequence_loss(*batch(framework, logits=LOGITS[..., :0]))


@pytest.mark.parametrize("flag", [5, 1, 0, "yes", None])
def test_flags_must_be_bools(framework, flag):
    with pytest.raises(seqloss.ArgumentTypeError, match="average_across_timesteps must be True or False"):
        seqloss.sequence_loss(*batch(framework), flag)


@pytest.mark.parametrize(
    ("one", "other"),
    [("average_across_batch", "sum_over_timesteps"), ("average_across_timesteps", "sum_over_batch")],
)
def test_mixed_flags_raise(framework, one, other):
    with pytest.raises(seqloss.OptionError, match=f"{one} and {other} cannot both be True"):
        seqloss.sequence_loss(*batch(framework), **{**UNREDUCED, one: True, other: True})


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_masks_mask_what_is_not_finite(framework, junk):
    dirty = np.where(MASKED[..., None], np.float32(junk), LOGITS)
    at_target = LOGITS.copy()
    np.put_along_axis(at_target, TARGETS[..., None], np.where(MASKED, junk, 0)[..., None].astype("float32"), -1)
    clean = value(framework, *batch(framework))
    np.testing.assert_array_equal(value(framework, *batch(framework, logits=dirty)), clean)
    for logits in (dirty, at_target):
        assert np.isfinite(value(framework, *batch(framework, logits=logits), **UNREDUCED)).all()
        assert (value(framework, *batch(framework, logits=logits), **UNREDUCED)[MASKED] == 0).all()
        d_logits = gradient(framework, *batch(framework, logits=logits))
        assert (d_logits[MASKED] == 0).all()
        assert np.isfinite(d_logits).all()
        assert np.isfinite(gradient(framework, *batch(framework, logits=logits), wrt="weights")).all()


@pytest.mark.parametrize("label", [-100, -1, 5, 2**31 - 1])
def test_labels_at_weight_zero_are_free(framework, label):
    targets = np.where(MASKED, label, TARGETS)
    np.testing.assert_array_equal(
        value(framework, *batch(framework, targets=targets)), value(framework, *batch(framework))
    )
    assert (gradient(framework, *batch(framework, targets=targets))[MASKED] == 0).all()


@pytest.mark.parametrize("label", [-1, 5])
def test_a_bad_label_is_named_or_nan(framework, label):
    bad = np.zeros_like(MASKED)
    bad[1, 1] = True
    arguments = batch(framework, targets=np.where(bad, label, TARGETS))
    with pytest.raises(seqloss.LabelError, match=re.escape(f"targets[1, 1] is {label}, outside [0, 5)")):
        seqloss.sequence_loss(*arguments)
    losses = value(framework, *arguments, check_labels=False, **UNREDUCED)
    np.testing.assert_array_equal(np.isnan(losses), bad)
    rows = gradient(framework, *arguments, check_labels=False, **UNREDUCED)
    np.testing.assert_array_equal(np.isnan(rows), np.broadcast_to(bad[..., None], rows.shape))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_targets_of_any_integer_dtype(framework, dtype):
    expected = value(framework, *batch(framework))
    np.testing.assert_array_equal(value(framework, *batch(framework, targets=TARGETS.astype(dtype))), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float64"])
def test_weights_of_any_dtype(framework, dtype):
    weights = (WEIGHTS * 2).astype(dtype)
    loss = seqloss.sequence_loss(*batch(framework, weights=weights))
    assert framework.dtype(loss) == "float32"
    expected = value(framework, *batch(framework, weights=weights.astype("float32")))
    np.testing.assert_array_equal(framework.to_numpy(loss), expected)


def test_weights_are_optional(framework):
    logits, targets, ones = batch(framework, weights=np.ones_like(WEIGHTS))
    np.testing.assert_array_equal(value(framework, logits, targets), value(framework, logits, targets, ones))


def test_host_values_are_placed_beside_the_logits(framework):
    logits = framework.array(LOGITS)
    expected = value(framework, *batch(framework))
    np.testing.assert_array_equal(value(framework, logits, TARGETS, WEIGHTS), expected)
    np.testing.assert_array_equal(value(framework, logits, TARGETS.tolist(), WEIGHTS.tolist()), expected)


def test_half_precision_is_computed_in_float32(framework):
    _, targets, weights = batch(framework)
    # NumPy of itself has no bfloat16.
    for dtype in {"float16", "bfloat16"} & set(framework.DTYPES):
        half = framework.array(LOGITS, dtype)
        loss, d_logits = seqloss.sequence_loss_and_grad(half, targets, weights)
        assert framework.dtype(loss) == "float32"
        assert framework.dtype(d_logits) == dtype
        widened = framework.array(framework.to_numpy(half).astype("float32"))
        np.testing.assert_array_equal(framework.to_numpy(loss), value(framework, widened, targets, weights))


def test_counts_are_exact_in_half_precision(framework):
    logits = framework.array(np.zeros((1, 70_000, 2)), "float16")
    targets = framework.array(np.zeros((1, 70_000), "int64"))
    weights = framework.array(np.ones((1, 70_000)), "float16")
    np.testing.assert_allclose(value(framework, logits, targets, weights), np.log(2), rtol=1e-5)
    options = {**UNREDUCED, "sum_over_timesteps": True, "sum_over_batch": True}
    np.testing.assert_allclose(value(framework, logits, targets, weights, **options), np.log(2), rtol=1e-5)


@pytest.mark.parametrize("margin", [10, 20, 40, 80])
def test_confident_tokens_keep_their_loss(framework, margin):
    logits = framework.array(np.array([[[margin, 0, 0]]], "float32"))
    targets = framework.array(np.array([[0]]))
    exact = np.log1p(2 * np.exp(-float(margin)))
    np.testing.assert_allclose(value(framework, logits, targets), exact, rtol=1e-5)
    np.testing.assert_allclose(gradient(framework, logits, targets)[0, 0, 0], np.expm1(-exact), rtol=1e-5)


def test_tiny_weights_are_zero(framework):
    options = {**UNREDUCED, "sum_over_timesteps": True, "sum_over_batch": True}
    tiny = np.where(MASKED, np.float32(2.0**-127), WEIGHTS)
    np.testing.assert_array_equal(
        value(framework, *batch(framework, weights=tiny), **options), value(framework, *batch(framework), **options)
    )
    smallest = np.where(MASKED, np.float32(2.0**-126), WEIGHTS)
    ratio = value(framework, *batch(framework, weights=smallest), **options) / value(
        framework, *batch(framework), **options
    )
    np.testing.assert_allclose(ratio, 4 / 6, rtol=1e-6)


@pytest.mark.parametrize("wrong", [lambda x: x, lambda x: x[:, :1], lambda x: x[0, 0], lambda x: x[:2, 0]])
def test_custom_loss_shape_is_checked(framework, wrong):
    with pytest.raises(seqloss.ShapeError, match="one loss per token"):
        seqloss.sequence_loss(*batch(framework), softmax_loss_function=lambda labels, logits: wrong(logits))


def test_custom_loss_result_is_cast(framework):
    def half(labels, logits):
        return framework.array(np.ones(6), "float16")

    loss = seqloss.sequence_loss(*batch(framework), softmax_loss_function=half)
    assert framework.dtype(loss) == "float32"
    np.testing.assert_array_equal(framework.to_numpy(loss), 1)


def test_custom_loss_never_sees_what_is_masked(framework):
    seen = {}

    def spy(labels, logits):
        seen.update(labels=framework.to_numpy(labels), logits=framework.to_numpy(logits))
        return seqloss.token_loss(logits, labels)

    dirty = np.where(MASKED[..., None], np.float32(np.nan), LOGITS)
    arguments = batch(framework, logits=dirty, targets=np.where(MASKED, -100, TARGETS))
    loss = value(framework, *arguments, softmax_loss_function=spy)
    np.testing.assert_array_equal(seen["labels"], np.where(MASKED, 0, TARGETS).ravel())
    np.testing.assert_array_equal(seen["logits"], np.where(MASKED[..., None], 0, LOGITS).reshape(6, 5))
    np.testing.assert_array_equal(loss, value(framework, *batch(framework)))


# --- the same on purpose -------------------------------------------------------------------------------------------


def test_averages_divide_by_the_sum_of_weights(framework):
    losses = value(framework, *batch(framework), **UNREDUCED).astype("float64")
    np.testing.assert_allclose(value(framework, *batch(framework)), losses.sum() / WEIGHTS.sum(), rtol=1e-6)
    over_batch = value(framework, *batch(framework), average_across_timesteps=False)
    np.testing.assert_allclose(over_batch[:2], losses.sum(0)[:2] / WEIGHTS.sum(0)[:2], rtol=1e-6)


def test_sums_divide_by_the_number_of_weights(framework):
    losses = value(framework, *batch(framework), **UNREDUCED).astype("float64")
    options = {**UNREDUCED, "sum_over_timesteps": True, "sum_over_batch": True}
    np.testing.assert_allclose(value(framework, *batch(framework), **options), losses.sum() / 4, rtol=1e-6)


@pytest.mark.parametrize("weights", [np.zeros_like(WEIGHTS), np.array([[1, -1, 0], [2, -2, 0]], "float32")])
def test_a_denominator_of_zero_gives_zero(framework, weights):
    arguments = batch(framework, weights=weights)
    assert value(framework, *arguments) == 0
    assert (gradient(framework, *arguments) == 0).all()
    assert (gradient(framework, *arguments, wrt="weights") == 0).all()


def test_empty_batches_give_zeros(framework):
    no_batch = batch(framework, LOGITS[:0], TARGETS[:0], WEIGHTS[:0])
    no_time = batch(framework, LOGITS[:, :0], TARGETS[:, :0], WEIGHTS[:, :0])
    assert value(framework, *no_batch) == 0
    assert value(framework, *no_time) == 0
    np.testing.assert_array_equal(value(framework, *no_batch, average_across_timesteps=False), np.zeros(3))
    np.testing.assert_array_equal(value(framework, *no_time, average_across_batch=False), np.zeros(2))


@pytest.mark.parametrize(
    ("row", "loss", "slopes"),
    [
        ((0, -np.inf, 0), np.log(2), (-0.5, 0, 0.5)),
        ((-np.inf, 0, 0), np.inf, (-1, 0.5, 0.5)),
        ((0, np.inf, 0), np.nan, (np.nan,) * 3),
        ((np.inf, 0, 0), np.nan, (np.nan,) * 3),
        ((-np.inf,) * 3, np.nan, (np.nan,) * 3),
        ((0, np.nan, 0), np.nan, (np.nan,) * 3),
        ((3e38, -3e38, 0), 0, (0, 0, 0)),
        ((-3e38, 3e38, 0), np.inf, (-1, 1, 0)),
    ],
)
def test_infinite_logits_that_count(framework, row, loss, slopes):
    logits, targets = framework.array(np.array([[row]], "float32")), framework.array(np.array([[0]]))
    np.testing.assert_allclose(value(framework, logits, targets), loss, rtol=1e-6)
    np.testing.assert_allclose(gradient(framework, logits, targets)[0, 0], slopes, rtol=1e-6)


def test_infinite_and_nan_weights_show(framework):
    for junk, unreduced in ((np.nan, np.nan), (np.inf, np.inf)):
        arguments = batch(framework, weights=np.where(WEIGHTS == 2, np.float32(junk), WEIGHTS))
        np.testing.assert_array_equal(value(framework, *arguments, **UNREDUCED)[1, 1], unreduced)
        assert np.isnan(value(framework, *arguments))


def test_the_gradient_of_a_weight_of_zero(framework):
    losses = framework.to_numpy(seqloss.token_loss(*batch(framework)[:2])).astype("float64")
    expected = (losses - float(value(framework, *batch(framework)))) / WEIGHTS.sum()
    actual = gradient(framework, *batch(framework), wrt="weights")
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


# --- the table and this file agree -----------------------------------------------------------------------------------


def test_every_row_has_its_test():
    text = (pathlib.Path(__file__).parents[1] / "docs" / "semantics.md").read_text(encoding="utf-8")
    named = set(re.findall(r"tests/test_differences\.py::(test_\w+)", text))
    here = {name for name, item in globals().items() if name.startswith("test_") and inspect.isfunction(item)}
    assert named == here - {"test_every_row_has_its_test"}
