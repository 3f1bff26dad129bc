"""Faults of the kernels of soft labels and of independent classes: for each a name, and the function that has it."""

import numpy as np
from broken import right
from broken.tokens import every_class


def soft_with(**changes):
    """The statistics, changed by functions of (logits, labels, prior, spec, statistics)."""

    def kernel(logits, labels, active, prior, spec):
        got = right.label_statistics(logits, labels, active, prior, spec)
        with np.errstate(all="ignore"):
            new = {name: change(logits, labels, prior, spec, got) for name, change in changes.items()}
        return got._replace(**{name: x.astype(got.nll.dtype) for name, x in new.items() if x is not None})

    return kernel


def soft_given(change):
    def kernel(*arguments):
        with np.errstate(all="ignore"):
            return right.label_statistics(*change(*arguments))

    return kernel


def where_active(change):
    """A change where the token has a loss."""
    return lambda z, y, p, s, got: np.where(np.isfinite(got.nll) & (got.nll != 0), change(z, y, s, got), got.nll)


def capped(z, spec):
    z = z.astype(spec.dtype)
    return z if spec.softcap is None else spec.softcap * np.tanh(z / spec.softcap)


def soft_naive(z, y, spec, got):
    """lse - z as everyone writes it: 0 where the model is sure."""
    z = capped(z, spec)
    highest = z.max(-1, keepdims=True)
    lse = np.log(np.exp(z - highest).sum(-1, keepdims=True)) + highest
    return (y * (lse - z)).sum(-1)


def soft_zero_times_infinity(z, y, spec, got):
    z = capped(z, spec)
    highest = z.max(-1, keepdims=True)
    return (y * ((highest - z) + np.log(np.exp(z - highest).sum(-1, keepdims=True)))).sum(-1)


def ties_left_out(z, y, spec, got):
    """All highest classes left out of the rest, instead of the first alone."""
    z = capped(z, spec)
    highest = z.max(-1, keepdims=True)
    ties = (z == highest).sum(-1, keepdims=True) - 1
    total = np.exp(z - highest).sum(-1, keepdims=True)
    return got.nll + np.where(ties > 0, y.sum(-1, keepdims=True) * np.log((total - ties) / total), 0)[..., 0]


def labels_overwritten(z, y, *rest):
    y *= 1.5
    return z, y, *rest


def soft_pullback_with(change=lambda d, *_: d, to_labels=lambda d, *_: d, mass=lambda y, mass: mass):
    """The gradients changed by functions of (gradient, cotangents, logits, labels, mass, spec)."""

    def pullback(cotangents, logits, labels, given_mass, active, prior, statistics, spec, wrt_labels):
        used = mass(labels, given_mass)
        rest = (active, prior, statistics, spec, wrt_labels)
        d, e = right.label_pullback(cotangents, logits, labels, used, *rest)
        with np.errstate(all="ignore"):
            d = change(d, cotangents, logits, labels, used, spec)
            return d, None if e is None else to_labels(e, cotangents, logits, labels, used, spec)

    return pullback


def soft_pulled(change):
    def pullback(*arguments):
        with np.errstate(all="ignore"):
            return right.label_pullback(*change(*arguments))

    return pullback


def soft_p_minus_y(d, g, z, y, mass, spec):
    if g.nll is None or g.lse is not None or g.unl is not None or spec.softcap:
        return d
    p = np.exp(z - z.max(-1, keepdims=True))
    p = p / p.sum(-1, keepdims=True)
    naive = (g.nll[..., None] * (mass[..., None] * p - y)).astype(d.dtype)
    return np.where(np.isfinite(d) & (d != 0), naive, d)


def soft_from_1(d, g, z, y, mass, spec):
    """At the highest class counted from 1, whatever its share."""
    if g.nll is None or g.lse is not None or g.unl is not None or spec.softcap or z.shape[-1] < 1000:
        return d
    z = z.astype(spec.dtype)
    e = np.exp(z - z.max(-1, keepdims=True))
    rest = e.sum(-1, keepdims=True) - 1
    from_1 = g.nll[..., None] * ((mass[..., None] - y) - mass[..., None] * (rest / (1 + rest)))
    return np.where(e == 1, from_1, d).astype(d.dtype)


def soft_with_a_table(*arguments):
    got = right.label_statistics(*arguments)
    return got._replace(saved=(*got.saved, np.exp(arguments[0])))


def behind_its_cap(e, g, z, y, mass, spec):
    """The labels are not behind the cap."""
    return e if not spec.softcap else (e / np.cosh(z / spec.softcap) ** 2).astype(e.dtype)


def sigmoid_with(**functions):
    """The forward kernel of independent classes in a formula that cancels or forgets something."""

    def kernel(logits, labels, pos_weight):
        got = right.sigmoid_nll(logits, labels, pos_weight)
        with np.errstate(all="ignore"):
            x, q = logits.astype(got.dtype), 1 if pos_weight is None else pos_weight
            return functions["nll"](x, labels, q, got).astype(got.dtype)

    return kernel


def sigmoid_of_tensorflow(x, y, q, got):
    """(1 - y) x + (1 + (q - 1) y) softplus(-x): cancels where the model is right and sure."""
    tail = np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)
    return np.where(np.isfinite(x), (1 - y) * x + (1 + (q - 1) * y) * tail, got)


def binary_pullback_with(**functions):
    """The pullback with functions of (gradient, cotangent, logits, labels) for the three gradients."""

    def pullback(cotangent, logits, labels, pos_weight, wrt_labels):
        results = right.sigmoid_pullback(cotangent, logits, labels, pos_weight, wrt_labels)
        with np.errstate(all="ignore"):
            return tuple(
                d if d is None or name not in functions else functions[name](d, cotangent, logits, labels)
                for name, d in zip(("logits", "labels", "pos_weight"), results, strict=True)
            )

    return pullback


def s_minus_y(d, g, x, y):
    naive = (g * (1 / (1 + np.exp(-x)) - y)).astype(d.dtype)
    return np.where(np.isfinite(d) & (d != 0) & (y == 1), naive, d)


FAULTS = {
    "label_statistics naive": {"label_statistics": soft_with(nll=where_active(soft_naive))},
    "label_statistics 0 times infinity": {"label_statistics": soft_with(nll=where_active(soft_zero_times_infinity))},
    "label_statistics of normalised labels": {
        "label_statistics": soft_with(
            nll=lambda z, y, p, s, got: np.where(y.sum(-1) == 0, got.nll, got.nll / y.sum(-1))
        )
    },
    "label_statistics of labels of 0 or more": {
        "label_statistics": soft_given(lambda z, y, *rest: (z, np.maximum(y, 0), *rest))
    },
    "label_statistics zero for NaN": {
        "label_statistics": soft_with(nll=lambda z, y, p, s, got: np.where(np.isnan(got.nll), 0, got.nll))
    },
    "label_statistics in place": {"label_statistics": soft_given(labels_overwritten)},
    "label_statistics leaves out all that tie": {"label_statistics": soft_with(nll=where_active(ties_left_out))},
    "label_statistics widens": {
        "label_statistics": lambda *a: (got := right.label_statistics(*a))._replace(nll=got.nll.astype("float64"))
    },
    "label_statistics without active": {
        "label_statistics": soft_given(lambda z, y, active, *rest: (z, y, None, *rest))
    },
    "label_statistics always has lse": {
        "label_statistics": soft_given(lambda z, y, a, p, spec: (z, y, a, p, spec._replace(lse=True)))
    },
    "label_statistics has nll in place of lse": {
        "label_statistics": soft_with(lse=lambda z, y, p, s, got: None if got.lse is None else got.nll)
    },
    "label_statistics without the prior": {
        "label_statistics": soft_given(lambda z, y, active, prior, spec: (z, y, active, None, spec))
    },
    "label_statistics has the mass of all classes": {"label_statistics": soft_with(mass=every_class)},
    "label_statistics has the mass of the labels": {
        "label_statistics": soft_with(mass=lambda z, y, p, s, got: None if got.mass is None else y.sum(-1))
    },
    "label_statistics without a mass of bad rows": {
        "label_statistics": soft_with(
            mass=lambda z, y, p, s, got: None if got.mass is None else np.where(np.isnan(got.nll), np.nan, got.mass)
        )
    },
    "label_statistics without the cap": {
        "label_statistics": soft_given(lambda z, y, a, p, spec: (z, y, a, p, spec._replace(softcap=None)))
    },
    "label_statistics saves a table": {"label_statistics": soft_with_a_table},
    "label_pullback counts from 1": {"label_pullback": soft_pullback_with(soft_from_1)},
    "label_pullback p - y": {"label_pullback": soft_pullback_with(soft_p_minus_y)},
    "label_pullback with mass 1": {"label_pullback": soft_pullback_with(mass=lambda y, mass: np.ones_like(mass))},
    "label_pullback with the sum as mass": {"label_pullback": soft_pullback_with(mass=lambda y, mass: y.sum(-1))},
    "label_pullback 0 times NaN": {
        "label_pullback": soft_pullback_with(lambda d, g, z, *_: d + (0 * z).astype(d.dtype))
    },
    "label_pullback 0 times infinity for labels": {
        "label_pullback": soft_pullback_with(to_labels=lambda e, g, z, *_: e + (0 * z).astype(e.dtype))
    },
    "label_pullback in the compute dtype": {
        "label_pullback": soft_pullback_with(lambda d, g, z, y, *_: d.astype(y.dtype))
    },
    "label_pullback of labels in half": {
        "label_pullback": soft_pullback_with(to_labels=lambda e, g, z, *_: e.astype(z.dtype))
    },
    "label_pullback of labels behind the cap": {"label_pullback": soft_pullback_with(to_labels=behind_its_cap)},
    "label_pullback without the labels": {
        "label_pullback": lambda *a: (right.label_pullback(*a)[0], None),
    },
    "label_pullback without active": {
        "label_pullback": soft_pulled(lambda g, z, y, m, active, *rest: (g, z, y, m, None, *rest))
    },
    "label_pullback without that of lse": {
        "label_pullback": soft_pulled(lambda g, *rest: (g._replace(lse=None), *rest))
    },
    "label_pullback without that of unl": {
        "label_pullback": soft_pulled(lambda g, *rest: (g._replace(unl=None), *rest))
    },
    "label_pullback without the prior": {
        "label_pullback": soft_pulled(lambda g, z, y, m, active, prior, *rest: (g, z, y, m, active, None, *rest))
    },
    "label_pullback without the cap": {
        "label_pullback": soft_pulled(lambda *a: (*a[:-2], a[-2]._replace(softcap=None), a[-1]))
    },
    "label_pullback rounds float64 to float32 and a bit": {
        "label_pullback": soft_pullback_with(
            lambda d, g, z, y, m, spec: (d * (1 + 2.0**-22)).astype(d.dtype) if spec.dtype != d.dtype else d
        )
    },
    "label_pullback leaves the gradient of labels wide": {
        "label_pullback": soft_pullback_with(to_labels=lambda e, g, z, y, m, spec: e.astype(spec.dtype))
    },
    "label_pullback rounds the gradient of labels twice": {
        "label_pullback": soft_pullback_with(
            to_labels=lambda e, g, z, y, m, spec: (e * (1 + 2.0**-22)).astype(e.dtype) if spec.dtype != e.dtype else e
        )
    },
    "sigmoid_nll as TensorFlow": {"sigmoid_nll": sigmoid_with(nll=sigmoid_of_tensorflow)},
    "sigmoid_nll without pos_weight": {"sigmoid_nll": lambda x, y, q: right.sigmoid_nll(x, y, None)},
    "sigmoid_nll with pos_weight on both": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, got: got * q)},
    "sigmoid_nll zero for NaN": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, got: np.where(np.isnan(x), 0, got))},
    "sigmoid_nll 0 times infinity": {"sigmoid_nll": sigmoid_with(nll=lambda x, y, q, got: got + 0 * x)},
    "sigmoid_nll of labels up to 1": {"sigmoid_nll": lambda x, y, q: right.sigmoid_nll(x, np.clip(y, 0, 1), q)},
    "sigmoid_nll widens": {"sigmoid_nll": lambda x, y, q: right.sigmoid_nll(x, y, q).astype("float64")},
    "sigmoid_pullback s - y": {"sigmoid_pullback": binary_pullback_with(logits=s_minus_y)},
    "sigmoid_pullback 0 times NaN": {
        "sigmoid_pullback": binary_pullback_with(logits=lambda d, g, x, y: d + (g * (x - x)).astype(d.dtype))
    },
    "sigmoid_pullback of labels, 0 times infinity": {
        "sigmoid_pullback": binary_pullback_with(labels=lambda d, g, x, y: d + (0 * x).astype(d.dtype))
    },
    "sigmoid_pullback of labels without pos_weight": {
        "sigmoid_pullback": binary_pullback_with(labels=lambda d, g, x, y: np.where(g == 0, 0, -g * x))
    },
    "sigmoid_pullback of pos_weight without labels": {
        "sigmoid_pullback": binary_pullback_with(
            pos_weight=lambda d, g, x, y: np.where((y == 0) | (g == 0), d, d / np.where(y == 0, 1, y)).astype(d.dtype)
        )
    },
    "sigmoid_pullback in the compute dtype": {
        "sigmoid_pullback": binary_pullback_with(logits=lambda d, g, x, y: d.astype(g.dtype))
    },
}
