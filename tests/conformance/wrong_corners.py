"""Losses that are right on every ordinary batch, with the invariants that must notice them all the same."""

import numpy as np
from right_loss import (
    PIECES,
    accurate,
    cast,
    dweights,
    made,
    over,
    subject,
    upstream,
    value,
    with_nan,
)

from seqloss.testing.invariants import Subject

# --- dtypes, sizes and layouts of the arrays


def wrong_for_labels_of(dtype):
    def loss(z, y, w):
        return PIECES(z, np.roll(y, 1, -1) if y.dtype == dtype else y, w)

    return loss


def classes_as_the_labels_count_them(z, y, w):
    """The number of classes, as an int16."""
    classes = np.asarray(z.shape[-1]).astype(y.dtype)
    return PIECES(z[..., : classes or None] if classes >= 0 else z[..., classes:], y, w)


def as_stored(z, y, w):
    """The numbers as they lie in memory, whatever the strides."""
    return PIECES(z[::-1], y, w)


def batch_of_one_is_squeezed(z, y, w):
    value, slope = PIECES(z, y, w)
    return (value, slope) if z.shape[0] > 1 else (value * z.shape[1], slope)


def step_of_one_is_dropped(z, y, w):
    value, slope = PIECES(z, y, w)
    return (value, slope) if z.shape[1] != 1 else (0 * value, 0 * slope)


def token_of_one(z, y, w):
    value, slope = PIECES(z, y, w)
    return (value, slope) if y.size > 1 else (value / 2, slope / 2)


def labels_of_16_bits(tokens, z, y):
    return with_nan(tokens, z, np.where(y < 2**15, y, y - 2**15))


def without_a_class(which):
    """In blocks of 30, one class of which is forgotten."""

    def tokens(z, y):
        forgotten = (np.arange(z.shape[-1]) % 30 == which) & (np.arange(z.shape[-1]) != y[..., None])
        return accurate(np.where(forgotten, -np.inf, z).astype(z.dtype), y)

    return tokens


def rest_of_a_vector(z, y):
    """Vectors of 16 classes, and what is left of them forgotten where there are some."""
    whole = z.shape[-1] // 16 * 16 or z.shape[-1]
    cut = (np.arange(z.shape[-1]) >= whole) & (np.arange(z.shape[-1]) != y[..., None])
    return accurate(np.where(cut, -np.inf, z).astype(z.dtype), y)


def absolute_weights(z, y, w):
    return PIECES(z, y, abs(w))


def weights_clipped(z, y, w):
    return PIECES(z, y, np.maximum(w, 0) if w.dtype.kind == "f" else w)


def bools_as_bits(z, y, w):
    """True as -1, as some compilers store it."""
    return PIECES(z, y, -w.astype(np.float32) * 2 + 3 if w.dtype == bool else w)


def integers_counted_once(z, y, w):
    return PIECES(z, y, (w * w.shape[1] + 1).astype(np.float32) if w.dtype == np.int32 else w)


def single(dtype):
    """float64 computed in float32, and called float64."""
    loss = cast("float32")
    return Subject(lambda z, y, w: tuple(x.astype(np.float64) for x in loss(z, y, w)))


# --- extremes


def clipped_at_30(z, y):
    nll, slope = accurate(z, y)
    return np.minimum(nll, 30), slope


def gradient_clipped(z, y):
    nll, slope = accurate(z, y)
    return nll, np.where(nll[..., None] > 30, 0, slope)


def log_of_a_probability(z, y):
    """Infinite where the probability is 0, and exact elsewhere."""
    nll, slope = accurate(z, y)
    return np.where(nll > 104, np.inf, nll), slope


def nan_for_a_hopeless_token(z, y):
    nll, slope = accurate(z, y)
    return nll, np.where(nll[..., None] > 104, np.nan, slope)


def onehot_times_log_softmax(z, y):
    """0 times -inf."""
    nll, slope = accurate(z, y)
    return np.where(np.isinf(z).any(-1), np.nan, nll), slope


def gradient_of_impossible_classes(z, y):
    nll, slope = accurate(z, y)
    return nll, np.where(np.isneginf(z), np.nan, slope)


def rounded_at_its_size(z, y):
    """The logarithm of the sum in the digits of bfloat16, where the logits are large."""
    nll, slope = accurate(z, y)
    size = abs(z).max(-1)
    step = 2.0 ** np.floor(np.log2(np.maximum(size, 2.0**-100)) - 7)
    return np.where((size > 100) & (size < 1000), np.round(nll / step + 0.3) * step, nll).astype(z.dtype), slope


# --- gradients


def divided_by_the_upstream(z, y, w, cotangent):
    values, slope = upstream(z, y, w, cotangent)
    with np.errstate(all="ignore"):
        return values, slope * (cotangent / cotangent)[..., None]


def one_buffer():
    """All losses write their gradient into the same memory."""
    kept = {}

    def pulled(z, y, w):
        kept["slope"] = PIECES(z, y, w)[1]
        return lambda: kept["slope"]

    return pulled


def scaled_in_place(z, y, w):
    """Each backward pass multiplies what is kept."""
    slope = PIECES(z, y, w)[1]

    def backward():
        result = slope.copy()
        slope[...] = 2 * slope
        return result

    return backward


# --- surroundings


def first_labels_are_kept():
    """Constants of the first call of a shape, as if they were compiled into the program."""
    kept = {}

    def compiled(z, y, w):
        return PIECES(z, kept.setdefault(y.shape, y.copy()), w)

    return compiled


def running_mean():
    """The denominator of this call and of the last one."""
    kept = []

    def loss(z, y, w):
        kept.append(w.sum())
        share = over(kept[-1], np.mean(kept[-2:]))
        value, slope = PIECES(z, y, w)
        return value * share, slope * share

    return loss


def mapped_mean(z, y, w):
    """The mean over all that is mapped."""
    values, slopes = zip(*map(PIECES, z, y, w), strict=True)
    return np.full(len(values), np.mean(values)), slopes


def mapped_with_one_mask(z, y, w):
    values, slopes = zip(*(PIECES(*each, w[0]) for each in zip(z, y, strict=True)), strict=True)
    return values, slopes


CORNERS = {
    "labels_of_int32": (wrong_for_labels_of("int32"), {"label_dtypes"}),
    "labels_of_uint8": (wrong_for_labels_of("uint8"), {"label_dtypes"}),
    "classes_of_an_int16": (classes_as_the_labels_count_them, {"label_dtypes"}),
    "strides_forgotten": (subject(layouts={"reversed": as_stored}), {"memory_layouts"}),
    "batch_of_one": (
        batch_of_one_is_squeezed,
        {"count_of_1001", "count_of_70000", "every_class", "many_classes", "sizes_of_one", "split_batches"},
    ),
    "step_of_one": (step_of_one_is_dropped, {"confident_tokens", "hopeless_tokens", "sizes_of_one"}),
    "token_of_one": (token_of_one, {"confident_tokens", "hopeless_tokens", "sizes_of_one"}),
    "labels_of_16_bits": (made(label=labels_of_16_bits), {"many_classes"}),
    "one_class_in_thirty": (made(without_a_class(7)), {"every_class", "many_classes"}),
    "the_thirtieth_class": (made(without_a_class(29)), {"every_class", "many_classes"}),
    "the_rest_of_a_vector": (made(rest_of_a_vector), {"every_class", "many_classes"}),
    "absolute_weights": (absolute_weights, {"negative_weights"}),
    "weights_clipped": (weights_clipped, {"negative_weights"}),
    "bools_as_bits": (bools_as_bits, {"bool_weights"}),
    "integer_weights": (integers_counted_once, {"bool_weights"}),
    "float64_in_float32": (subject(cast=single), {"double_precision"}),
    "clipped_at_30": (made(clipped_at_30), {"hopeless_tokens"}),
    "gradient_clipped": (made(gradient_clipped), {"hopeless_tokens"}),
    "infinite_for_a_hopeless_token": (made(log_of_a_probability), {"hopeless_tokens"}),
    "NaN_for_a_hopeless_token": (made(nan_for_a_hopeless_token), {"hopeless_tokens"}),
    "NaN_beside_an_impossible_class": (made(onehot_times_log_softmax), {"impossible_classes"}),
    "NaN_at_an_impossible_class": (made(gradient_of_impossible_classes), {"impossible_classes"}),
    "rounded_at_the_size_of_the_logits": (made(rounded_at_its_size), {"far_from_0", "hopeless_tokens"}),
    "weights_are_constants": (subject(dweights=lambda z, y, w: np.zeros_like(w)), {"weight_gradients"}),
    "gradient_to_the_weights_is_negative": (subject(dweights=lambda *x: -dweights(*x)), {"weight_gradients"}),
    "divided_by_the_upstream": (subject(upstream=divided_by_the_upstream), {"zero_upstream"}),
    "one_buffer_for_all_gradients": (subject(pullback=one_buffer()), {"repeated_backward"}),
    "gradient_scaled_in_place": (subject(pullback=scaled_in_place), {"repeated_backward"}),
    "right_while_gradients_are_recorded": (
        subject(unrecorded={"without a gradient": lambda z, y, w: value(z, y, w) * 2}),
        {"without_gradients"},
    ),
    "labels_baked_in": (subject(compiled=first_labels_are_kept()), {"compiled_is_eager"}),
    "denominator_of_two_calls": (
        running_mean(),
        {
            "bool_weights",
            "confident_tokens",
            "count_of_1001",
            "count_of_70000",
            "every_class",
            "impossible_classes",
            "negative_weights",
            "permutation",
            "repeated_calls",
            "shift",
            "sizes_of_one",
            "split_batches",
            "weight_scaling",
        },
    ),
    "mapped_into_one_mean": (subject(vmapped=mapped_mean), {"mapped"}),
    "mapped_with_one_mask": (subject(vmapped=mapped_with_one_mask), {"mapped"}),
    "another_setting_changes_it": (
        subject(surroundings={"another setting": made(denominator=lambda w: w.size)}),
        {"other_settings"},
    ),
}
