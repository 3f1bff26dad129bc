"""A right loss in pieces, to be put together with a wrong one among them.

It is a NumPy function ``loss(logits, targets, weights) -> (value, dlogits)``: how a token's loss and gradient are
computed, and how they are put together.
"""

from dataclasses import replace

import numpy as np

from seqloss.testing.invariants import Subject


def accurate(z, y):
    """nll and the gradient of each token, in the form that keeps its relative accuracy."""
    onehot = onehot_of(z, y) > 0
    highest = z.max(-1, keepdims=True)
    t = np.take_along_axis(z, y[..., None], -1)
    e = np.exp(z - highest)
    rest = np.where(onehot, 0, e).sum(-1, keepdims=True)
    total = rest + np.exp(t - highest)
    nll = np.where(t == highest, np.log1p(rest), highest - t + np.log(total))[..., 0]
    return nll, np.where(onehot, np.expm1(-nll)[..., None], e / total)


def plain(z, y):
    """Everyone's formulas: the largest logit is subtracted, the rest is as in the textbook."""
    z = z - z.max(-1, keepdims=True)
    lse = np.log(np.exp(z).sum(-1))
    nll = lse - np.take_along_axis(z, y[..., None], -1)[..., 0]
    return nll, softmax(z) - onehot_of(z, y)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def onehot_of(z, y):
    return (np.arange(z.shape[-1]) == y[..., None]).astype(z.dtype)


def masked(w, x):
    """``x`` where the weight is not 0."""
    return np.where(w.reshape(w.shape + (1,) * (x.ndim - w.ndim)) != 0, x, 0)


def over(numerator, denominator):
    return numerator / denominator if denominator else 0 * numerator


def with_nan(tokens, z, y):
    """The tokens of a formula that knows good labels only."""
    legal = (y >= 0) & (y < z.shape[-1])
    nll, slope = tokens(z, np.where(legal, y, 0))
    return np.where(legal, nll, np.nan), np.where(legal[..., None], slope, np.nan)


def made(tokens=accurate, denominator=lambda w: w.sum(), divide=over, hide=masked, label=with_nan):
    """A loss from its pieces; each default is right."""

    def loss(z, y, w):
        with np.errstate(all="ignore"):
            nll, slope = label(tokens, z, y)
            d = denominator(w)
            value = divide((hide(w, nll) * w).sum(), d)
            return value, hide(w, slope) * divide(w, d)[..., None]

    return loss


PIECES = made()


def upstream(z, y, w, cotangent):
    nll, slope = with_nan(accurate, z, y)
    return masked(w, nll) * w, masked(w, slope) * (w * cotangent)[..., None]


def second(z, y, w, direction):
    """Of half the square of the loss."""
    value, slope = PIECES(z, y, w)
    return slope * (slope * direction).sum() + value * hessian_product(z, w, direction)


def hessian_product(z, w, direction):
    p = softmax(z)
    return over(w, w.sum())[..., None] * p * (direction - (p * direction).sum(-1, keepdims=True))


def dweights(z, y, w):
    nll, _ = accurate(z, y)
    return (nll - PIECES(z, y, w)[0]) * over(np.ones_like(w), w.sum())


def pullback(z, y, w):
    slope = PIECES(z, y, w)[1]
    return lambda: slope


def vmapped(z, y, w):
    values, slopes = zip(*map(PIECES, z, y, w), strict=True)
    return values, slopes


def value(z, y, w):
    return PIECES(z, y, w)[0]


def cast(dtype):
    """Arrays of another dtype; those of bfloat16 are float32 arrays of which the last digits are 0."""
    return Subject(lambda z, y, w: PIECES(z.astype(dtype), y, w.astype(dtype)))


def subject(loss=PIECES, compiled=PIECES, **parts):
    """A loss with all that an invariant can ask for; each default is right."""
    whole = Subject(
        loss,
        upstream=upstream,
        modes={"compiled": compiled},
        layouts={"reversed": PIECES},
        surroundings={"another setting": PIECES},
        unrecorded={"without a gradient": value},
        second=second,
        dweights=dweights,
        pullback=pullback,
        vmapped=vmapped,
        cast=cast,
        dtypes=("float64",),
    )
    return replace(whole, **parts)


right = subject()
