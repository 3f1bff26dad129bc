"""Losses with options, right ones and ones with a mistake each, and the invariants that must notice it.

All are NumPy functions ``loss(logits, targets, weights) -> (value, dlogits)``. They compute in float64.
"""

import numpy as np
from right_loss import accurate, masked, onehot_of, over

from seqloss import Smoothing

CLASS_WEIGHTS = (0.5, 2.0, 1.0, 1.5)

# --- what labels are smoothed with: functions of eps, the capped logits and the one-hot labels


def over_the_possible(eps, x, onehot):
    possible = x > -np.inf
    return (1 - eps) * onehot + eps * possible / possible.sum(-1, keepdims=True)


def over_all(eps, x, onehot):
    return (1 - eps) * onehot + eps / x.shape[-1]


def over_the_others(eps, x, onehot):
    others = (x > -np.inf) * (1 - onehot)
    count = others.sum(-1, keepdims=True)
    return np.where(count == 0, onehot, (1 - eps) * onehot + eps * others / np.maximum(count, 1))


def beside_what_the_label_keeps(eps, x, onehot):
    """The label does not get its part of eps: they add up to less than 1."""
    return np.where(onehot > 0, 1 - eps, over_the_possible(eps, x, onehot))


def by_a_prior(eps, x, onehot):
    prior = np.asarray(PRIOR.prior) * (x > -np.inf)
    return (1 - eps) * onehot + eps * prior / prior.sum(-1, keepdims=True)


def by_a_prior_as_it_is(eps, x, onehot):
    return (1 - eps) * onehot + eps * np.asarray(PRIOR.prior) * (x > -np.inf)


# --- the cap


def capped(z, cap):
    return np.where(np.isinf(z), z, cap * np.tanh(z / cap))


def slope_of_cap(z, cap):
    return 1 / np.cosh(z / cap) ** 2


def slope_in_float32(z, cap):
    return 1 - np.tanh((z / cap).astype(np.float32)) ** 2


# --- what a mean is divided by: functions of the weights and the class weights of the labels

DENOMINATORS = {
    "weights": lambda w, v: (w * v).sum(),
    "weights_alone": lambda w, v: w.sum(),
    "tokens": lambda w, v: np.count_nonzero(w),
    "positions": lambda w, v: w.size,
    "batch": lambda w, v: len(w) * (w.size > 0),
}


def made(
    eps=0.0,
    class_weights=None,
    z_loss=0.0,
    cap=None,
    spread=over_the_possible,
    cap_of=capped,
    cap_slope=slope_of_cap,
    denominator=DENOMINATORS["weights"],
    entropy=0.0,
    of_label_alone=False,
    of_penalty=lambda v: v,
    of_slope=lambda cw: cw,
    penalised=lambda z, x: x,
    penalty_slope=2,
):
    """A loss from its options and its pieces; each default is right."""

    def tokens(z, y):
        x = z if cap is None else cap_of(z, cap)
        onehot, classes = onehot_of(x, y), np.arange(x.shape[-1])
        cw = np.ones(classes.size) if class_weights is None else np.asarray(class_weights)
        v = cw[y]
        nll, gap = accurate(x, y)
        shares = spread(eps, x, onehot) if eps else onehot
        cost = nll[..., None] + np.where(onehot > 0, 0, np.take_along_axis(x, y[..., None], -1) - x)

        def weighed(cw):
            parts = shares * (v[..., None] if of_label_alone else cw)
            return parts, parts.sum(-1, keepdims=True)

        parts, _ = weighed(cw)
        loss = np.where(parts == 0, 0, parts * cost).sum(-1) - entropy
        parts, mass = weighed(of_slope(cw))
        slope = mass * gap + (mass * onehot - parts)
        if z_loss:
            t = penalised(z, x)
            highest = t.max(-1, keepdims=True)
            e = np.exp(t - highest)
            lse = (highest + np.log(e.sum(-1, keepdims=True)))[..., 0]
            loss = loss + of_penalty(v) * z_loss * lse**2
            slope = slope + (penalty_slope * of_penalty(v) * z_loss * lse)[..., None] * e / e.sum(-1, keepdims=True)
        return loss, slope if cap is None else slope * cap_slope(z, cap), v

    def loss(z, y, w):
        with np.errstate(all="ignore"):
            legal = (y >= 0) & (y < z.shape[-1])
            nll, slope, v = tokens(z.astype(np.float64), np.where(legal, y, 0))
            nll, slope = np.where(legal, nll, np.nan), np.where(legal[..., None], slope, np.nan)
            w = w.astype(np.float64)
            d = denominator(w, np.where(legal, v, 1))
            value, dlogits = over((masked(w, nll) * w).sum(), d), masked(w, slope) * over(w, d)[..., None]
        return np.float32(value), dlogits.astype(np.float32)

    return loss


def penalised_everywhere(z, y, w):
    """The z-loss is the mean over all positions, whatever their weights."""
    value, dlogits = made()(z, y, w)
    with np.errstate(all="ignore"):
        x = z.astype(np.float64)
        e = np.exp(x - x.max(-1, keepdims=True))
        lse = x.max(-1) + np.log(e.sum(-1))
        added = 0.01 * lse**2 / max(w.size, 1)
        slope = (0.02 * lse / max(w.size, 1))[..., None] * e / e.sum(-1, keepdims=True)
    return np.float32(value + added.sum()), (dlogits + slope).astype(np.float32)


OFF = Smoothing(0.1, off_target=True)
CENTRED = Smoothing(0.1, off_target=True, centred=True)
PRIOR = Smoothing(0.1, prior=(1.0, 2.0, 3.0, 2.0))
SMOOTHED, WEIGHTED = {"label_smoothing": 0.1}, {"class_weights": CLASS_WEIGHTS}
BOTH = {**SMOOTHED, **WEIGHTED}
PENALISED, CAPPED = {"z_loss": 0.01}, {"softcap": 2.0}
ALL = {**BOTH, **PENALISED, **CAPPED}

OF_FEW = {"one_hot", "every_class", "confident_tokens", "hopeless_tokens"}
VALUES = {*OF_FEW, "many_classes"}
"""Those that compare with the reference, of any number of classes."""
REACHED = {"impossible_classes"}
"""It does so too where a low logit is not as good as an impossible one: with smoothing, or behind a cap."""

WRONG = {
    "eps_over_the_other_classes": (made(0.1, spread=over_the_others), SMOOTHED, VALUES | REACHED),
    "eps_over_all_for_off_target": (made(0.1), {"label_smoothing": OFF}, VALUES | REACHED),
    "label_without_its_part_of_eps": (
        made(0.1, spread=beside_what_the_label_keeps),
        SMOOTHED,
        # Of a confident token the label's part is nothing, and its gradient that of the others.
        VALUES - {"confident_tokens"} | REACHED,
    ),
    "mass_for_impossible_classes": (made(0.1, spread=over_all), SMOOTHED, {"impossible_classes"}),
    "mass_for_an_excluded_class": (
        made(0.1),
        {"label_smoothing": Smoothing(0.1, exclude=(0,))},
        VALUES | REACHED,
    ),
    "entropy_left_in": (made(0.1, spread=over_the_others), {"label_smoothing": CENTRED}, VALUES | REACHED),
    "prior_that_adds_up_to_8": (
        made(0.1, spread=by_a_prior_as_it_is),
        {"label_smoothing": PRIOR},
        OF_FEW | REACHED,
    ),
    "z_loss_without_weights": (
        penalised_everywhere,
        PENALISED,
        {"empty", "one_hot", "padding", "split_batches", "unsafe_masks"},
    ),
    "z_loss_of_uncapped_logits": (
        made(z_loss=0.01, cap=2.0, penalised=lambda z, x: z),
        {**PENALISED, **CAPPED},
        VALUES | REACHED,
    ),
    "z_loss_without_its_gradient": (made(z_loss=0.01, penalty_slope=0), PENALISED, VALUES),
    "z_loss_without_class_weights": (
        made(class_weights=CLASS_WEIGHTS, z_loss=0.01, of_penalty=np.ones_like),
        {**WEIGHTED, **PENALISED},
        OF_FEW,
    ),
    "cap_without_its_derivative": (made(cap=2.0, cap_slope=lambda z, cap: np.ones_like(z)), CAPPED, VALUES | REACHED),
    "derivative_of_the_cap_in_float32": (made(cap=2.0, cap_slope=slope_in_float32), CAPPED, {"confident_tokens"}),
    "cap_on_impossible_classes": (
        made(cap=2.0, cap_of=lambda z, cap: cap * np.tanh(z / cap)),
        CAPPED,
        {"impossible_classes"},
    ),
    "class_weights_left_out_of_the_denominator": (
        made(class_weights=CLASS_WEIGHTS, denominator=DENOMINATORS["weights_alone"]),
        WEIGHTED,
        OF_FEW | {"negative_weights", "split_batches"},
    ),
    "class_weights_of_the_label_alone": (
        made(0.1, class_weights=CLASS_WEIGHTS, of_label_alone=True),
        BOTH,
        OF_FEW | REACHED,
    ),
    "class_weights_without_their_gradient": (
        made(class_weights=CLASS_WEIGHTS, of_slope=np.ones_like),
        WEIGHTED,
        OF_FEW,
    ),
    "class_weights_of_other_classes": (
        made(class_weights=CLASS_WEIGHTS[::-1]),
        WEIGHTED,
        # A single token has the same mean whatever its class weighs.
        {"one_hot", "every_class", "negative_weights", "split_batches"},
    ),
}

RIGHT = {
    "plain": (made(), {}),
    "smoothed": (made(0.1), SMOOTHED),
    "off_target": (made(0.1, spread=over_the_others), {"label_smoothing": OFF}),
    "prior": (made(0.1, spread=by_a_prior), {"label_smoothing": PRIOR}),
    "class_weights": (made(class_weights=CLASS_WEIGHTS), WEIGHTED),
    "smoothed_with_class_weights": (made(0.1, class_weights=CLASS_WEIGHTS), BOTH),
    "z_loss": (made(z_loss=0.01), PENALISED),
    "softcap": (made(cap=2.0), CAPPED),
    "all": (made(0.1, CLASS_WEIGHTS, 0.01, 2.0), ALL),
}
