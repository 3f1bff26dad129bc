"""A batch to be split over devices, what NumPy finds on one, and how far results are from that. Imports NumPy alone."""

import numpy as np

import seqloss

BATCH, TIME, CLASSES = 4, 8, 512


def arrays():
    """Logits, targets and weights: uneven counts of tokens, none in the last sequence, and one confident token."""
    rng = np.random.default_rng(0)
    z = (4 * rng.normal(size=(BATCH, TIME, CLASSES))).astype("float32")
    y = rng.integers(0, CLASSES, (BATCH, TIME)).astype("int32")
    w = rng.integers(0, 4, (BATCH, TIME)).astype("float32")
    w[0, 0], w[1, 2:], w[3] = 1, 0, 0
    z[0, 0, y[0, 0]] += 40
    return z, y, w


def soft_targets():
    z = np.random.default_rng(1).normal(size=(BATCH, TIME, CLASSES))
    e = np.exp(3 * z)
    return (e / e.sum(-1, keepdims=True)).astype("float32")


OPTIONS = {
    "class weights": {"class_weights": np.linspace(0.5, 2, CLASSES).astype("float32")},
    "ignored": {"ignore_index": tuple(range(0, CLASSES, 3))},
    "smoothing and z": {"label_smoothing": 0.1, "z_loss": 0.01},
}


def expected(z, y, w, wrt=("logits",), **options):
    """Loss and gradients as NumPy has them, in exact mode: the bits of one device."""
    loss, found = seqloss.sequence_loss_and_grad(z, y, w, exact=True, wrt=wrt, **options)
    return loss, *found


def compared(got, wanted):
    """Types and shapes that differ; how many bits of the loss do, and of the gradients; and how far each is off."""
    assert len(got) == len(wanted)
    got = [np.asarray(x) for x in got]
    kinds = [[str(x.dtype), x.shape] for x in got] == [[str(x.dtype), x.shape] for x in wanted]
    assert kinds, f"{[(x.dtype, x.shape) for x in got]} in place of {[(x.dtype, x.shape) for x in wanted]}"
    differ = [int((x.view("uint32") != np.asarray(e).view("uint32")).sum()) for x, e in zip(got, wanted, strict=True)]
    off = [float(np.abs(x - e).max() / np.abs(e).max()) for x, e in zip(got, wanted, strict=True)]
    return {"loss differs": differ[0], "gradients differ": sum(differ[1:]), "off": max(off)}
