"""Losses with one mistake each, as they are met in the wild, and the invariants that must notice it.

All are NumPy functions ``loss(logits, targets, weights) -> (value, dlogits)``, or subjects that have one, made of the
pieces of ``right_loss``. ``right`` is the same without a mistake.
"""

import numpy as np
from right_loss import (
    accurate,
    made,
    masked,
    onehot_of,
    over,
    plain,
    right,
    second,
    softmax,
    subject,
    upstream,
    with_nan,
)
from wrong_corners import CORNERS

from seqloss.testing.invariants import INVARIANTS, Subject

# --- the loss of a token -------------------------------------------------------------------------------------------


def shifted_back(z, y):
    highest = z.max(-1)
    lse = highest + np.log(np.exp(z - highest[..., None]).sum(-1))
    return lse - np.take_along_axis(z, y[..., None], -1)[..., 0], accurate(z, y)[1]


def unshifted(z, y):
    e = np.exp(z)
    p = e / e.sum(-1, keepdims=True)
    return np.log(e.sum(-1)) - np.take_along_axis(z, y[..., None], -1)[..., 0], p - onehot_of(z, y)


def p_minus_1(z, y):
    return accurate(z, y)[0], softmax(z) - onehot_of(z, y)


def no_onehot(z, y):
    return accurate(z, y)[0], softmax(z)


def log_of_p_plus_epsilon(z, y):
    p = np.take_along_axis(softmax(z), y[..., None], -1)[..., 0]
    return -np.log(p + z.dtype.type(1e-6)), accurate(z, y)[1]


def base_2(z, y):
    return tuple(x / np.log(2) for x in accurate(z, y))


def smoothed(z, y):
    nll, slope = accurate(z, y)
    classes = z.shape[-1]
    uniform = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1) - z.mean(-1)
    return 0.9 * nll + 0.1 * uniform, 0.9 * slope + 0.1 * (softmax(z) - 1 / classes)


def opposite(z, y):
    nll, slope = accurate(z, y)
    return nll, -slope


def first_1024(z, y):
    """One block, and what is beyond it forgotten."""
    cut = np.where(np.arange(z.shape[-1]) < 1024, z, -np.inf)
    return accurate(np.where(onehot_of(z, y) > 0, z, cut).astype(z.dtype), y)


def slope_of_1024(z, y):
    nll, slope = accurate(z, y)
    return nll, np.where(np.arange(z.shape[-1]) < 1024, slope, 0)


def previous_label(z, y):
    return accurate(z, np.roll(y, 1, axis=1))


# --- labels that are no class: functions of the formula and its arrays --------------------------------------------


def wrapped(tokens, z, y):
    """As an index in Python."""
    return tokens(z, y % z.shape[-1])


def clamped(tokens, z, y):
    return tokens(z, np.clip(y, 0, z.shape[-1] - 1))


def ignored(tokens, z, y):
    return tuple(np.where(np.isnan(x), 0, x) for x in with_nan(tokens, z, y))


def row_forgotten(tokens, z, y):
    nll, slope = with_nan(tokens, z, y)
    return nll, np.nan_to_num(slope)


def checked_under_the_mask(tokens, z, y):
    if y.size and not (y.min() >= 0 and y.max() < z.shape[-1]):
        raise ValueError("label out of range")
    return tokens(z, y)


# --- the tokens of a batch -----------------------------------------------------------------------------------------


def mean_of_row_means(z, y, w):
    parts = [right(*(x[i : i + 1] for x in (z, y, w))) for i in range(len(z))]
    counted = max(sum(row.any() for row in w), 1)
    dlogits = [dlogits for _, dlogits in parts]
    return sum(value for value, _ in parts) / counted, np.concatenate([*dlogits, z[:0]]) / counted


def unweighted_gradient(z, y, w):
    with np.errstate(all="ignore"):
        return right(z, y, w)[0], masked(w, with_nan(accurate, z, y)[1]) * over(np.ones_like(w), w.sum())[..., None]


def first_row_of_weights(z, y, w):
    return right(z, y, np.broadcast_to(w[:1], w.shape))


def in_place(z, y, w):
    with np.errstate(all="ignore"):
        z -= z.max(-1, keepdims=True)
    return right(z, y, w)


def labels_masked_in_place(z, y, w):
    y[(y < 0) & (w == 0)] = 0
    return right(z, y, w)


def one_entry(z, y, w):
    value, dlogits = right(z, y, w)
    return np.reshape(value, [1]), dlogits


def detached(z, y, w, direction):
    """The second derivative of what does not know that its gradient depends on the logits."""
    slope = right(z, y, w)[1]
    return slope * (slope * direction).sum()


def to_8_bits(x):
    """Rounded to the digits of bfloat16."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 256) / 256, exponent)


UNSAFE = made(hide=lambda w, x: x)
PLAIN = {name for name, invariant in INVARIANTS.items() if not invariant.needs}

WRONG = {
    "lse_minus_t": (made(plain), {"confident_tokens"}),
    "lse_minus_t_without_the_shift": (made(shifted_back), {"confident_tokens", "shift"}),
    "exponential_without_the_shift": (made(unshifted), {"confident_tokens", "far_from_0", "shift"}),
    "p_minus_1": (made(p_minus_1), {"confident_tokens"}),
    "gradient_without_the_target": (
        made(no_onehot),
        {
            "confident_tokens",
            "every_class",
            "gradient_rows",
            "gradient_sign",
            "hopeless_tokens",
            "many_classes",
            "one_hot",
        },
    ),
    "log_of_p_plus_epsilon": (
        made(log_of_p_plus_epsilon),
        {"confident_tokens", "every_class", "hopeless_tokens", "many_classes", "non_negative"},
    ),
    "base_2_logarithm": (
        made(base_2),
        {"confident_tokens", "every_class", "hopeless_tokens", "many_classes", "one_hot"},
    ),
    "smoothed_labels": (
        made(smoothed),
        {
            "confident_tokens",
            "every_class",
            "gradient_sign",
            "hopeless_tokens",
            "impossible_classes",
            "many_classes",
            "one_hot",
            "shift",
        },
    ),
    "labels_of_the_step_before": (
        made(previous_label),
        {
            "count_of_1001",
            "count_of_70000",
            "every_class",
            "gradient_sign",
            "many_classes",
            "one_hot",
            "padding",
            "permutation",
            "sizes_of_one",
            "split_batches",
            "unsafe_masks",
        },
    ),
    "labels_wrapped": (made(label=wrapped), {"label_policy"}),
    "labels_clamped": (made(label=clamped), {"label_policy"}),
    "bad_labels_ignored": (made(label=ignored), {"label_policy"}),
    "bad_labels_without_a_NaN_row": (made(label=row_forgotten), {"label_policy"}),
    "labels_checked_under_the_mask": (made(label=checked_under_the_mask), {"unsafe_masks"}),
    "mean_over_padding": (
        made(denominator=lambda w: w.size),
        {"negative_weights", "one_hot", "padding", "split_batches", "weight_scaling"},
    ),
    "divided_by_the_batch_size": (
        made(denominator=len),
        {
            "count_of_1001",
            "count_of_70000",
            "every_class",
            "many_classes",
            "negative_weights",
            "one_hot",
            "padding",
            "sizes_of_one",
            "split_batches",
            "weight_scaling",
        },
    ),
    "divided_by_the_number_of_tokens": (
        made(denominator=np.count_nonzero),
        {"negative_weights", "one_hot", "split_batches", "weight_scaling"},
    ),
    "sum": (
        made(denominator=lambda w: 1),
        {
            "count_of_1001",
            "count_of_70000",
            "every_class",
            "many_classes",
            "negative_weights",
            "one_hot",
            "sizes_of_one",
            "split_batches",
            "weight_scaling",
        },
    ),
    "mean_of_row_means": (mean_of_row_means, {"negative_weights", "one_hot", "split_batches"}),
    "epsilon_in_the_denominator": (made(denominator=lambda w: w.sum() + np.float32(1e-6)), {"weight_scaling"}),
    "0_by_0": (made(divide=np.divide), {"empty"}),
    "weight_times_NaN": (UNSAFE, {"unsafe_masks"}),
    "gradient_times_NaN": (lambda z, y, w: (right(z, y, w)[0], UNSAFE(z, y, w)[1]), {"unsafe_masks"}),
    "gradient_without_weights": (unweighted_gradient, {"negative_weights", "one_hot", "weight_scaling"}),
    "weights_of_the_first_row": (
        first_row_of_weights,
        {"label_policy", "negative_weights", "one_hot", "padding", "permutation", "split_batches"},
    ),
    "count_in_bfloat16": (made(denominator=lambda w: to_8_bits(w.sum())), {"count_of_1001", "count_of_70000"}),
    "sum_in_float16": (made(denominator=lambda w: w.sum(dtype=np.float16)), {"count_of_70000"}),
    "written_in_place": (in_place, {"arguments_unwritten"}),
    "labels_masked_in_place": (labels_masked_in_place, {"arguments_unwritten"}),
    "classes_beyond_1024_left_out": (made(first_1024), {"many_classes"}),
    "gradient_of_some_classes": (made(slope_of_1024), {"many_classes"}),
    "gradient_of_the_opposite_sign": (
        made(opposite),
        {"confident_tokens", "every_class", "gradient_sign", "hopeless_tokens", "many_classes", "one_hot"},
    ),
    "value_of_one_entry": (one_entry, PLAIN),
    "upstream_averaged": (
        subject(upstream=lambda z, y, w, c: upstream(z, y, w, c.mean())),
        {"upstream_gradients", "zero_upstream"},
    ),
    "upstream_of_the_first_step": (
        subject(upstream=lambda z, y, w, c: upstream(z, y, w, c[:, :1])),
        {"upstream_gradients"},
    ),
    "upstream_ignored": (
        Subject(right.loss, upstream=lambda z, y, w, c: right.loss(z, y, w), scalar=True),
        {"upstream_gradients", "zero_upstream"},
    ),
    "mask_lost_in_compiled_code": (subject(compiled=made(hide=lambda w, x: x)), {"compiled_is_eager"}),
    "another_denominator_in_compiled_code": (subject(compiled=made(denominator=len)), {"compiled_is_eager"}),
    "NaN_of_the_gradient_lost_in_compiled_code": (
        subject(lambda z, y, w: (right(z, y, w)[0], UNSAFE(z, y, w)[1])),
        {"unsafe_masks", "compiled_is_eager"},
    ),
    "NaN_lost_in_compiled_code": (
        subject(UNSAFE, compiled=made()),
        {"unsafe_masks", "compiled_is_eager"},
    ),
    "gradient_detached": (subject(second=detached), {"double_backward"}),
    "gradient_of_a_constant": (subject(second=lambda z, y, w, v: np.zeros_like(z)), {"double_backward"}),
    "second_derivative_of_the_sum": (
        subject(second=lambda z, y, w, v: second(z, y, w, v * w.sum())),
        {"double_backward"},
    ),
    **CORNERS,
}
