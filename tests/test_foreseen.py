"""A gradient that is made beside the loss has the bits of a pullback behind it, whatever the options."""

import covering
import numpy as np
import pytest

import seqloss
from seqloss.backends import numpy as backend
from seqloss.losses.sequence_op import SequenceLossOp

BATCH, TIME, CLASSES = 4, 5, 9
SMOOTHINGS = {
    "none": 0.0,
    "number": 0.1,
    "prior": seqloss.Smoothing(0.3, prior=np.arange(CLASSES) / 4),
    "prior of one class": seqloss.Smoothing(0.3, prior=np.arange(CLASSES) == 3),
    "excluding": seqloss.Smoothing(0.2, exclude=(1, 2)),
    "off target": seqloss.Smoothing(0.1, off_target=True),
    "centred": seqloss.Smoothing(0.1, off_target=True, centred=True),
    "centred prior": seqloss.Smoothing(0.1, centred=True, prior=np.arange(CLASSES) / 4),
}
FACTORS = {
    "smoothing": list(SMOOTHINGS),
    "class_weights": [False, True],
    "z_loss": [0.0, 0.01],
    "softcap": [None, 4.0],
    "out": ["none", "ignored", "lengths", "packed"],
    "reduction": ["mean", "sum", "sequence_mean", "counted"],
    "normalizer": [None, 7, 0],
    "weights": ["floats", "none", "all 0", "infinite"],
    "logits": ["plain", "impossible classes", "bad rows"],
    "dtype": ["float32", "float64", "float16"],
    "exact": [False, True],
    "wrt": ["logits", "both"],
    "cotangent": [None, 0.3, 0.0, np.inf],
}


def is_legal(row):
    is_plain = "off" not in row["smoothing"] and "centred" not in row["smoothing"]
    return (
        (is_plain or not row["class_weights"])
        and not (row["exact"] and row["dtype"] == "float64")
        and not (row["wrt"] == "both" and row["weights"] == "none")
        and not (row["normalizer"] is not None and row["reduction"] == "counted")
    )


OF_CLASSES = np.array([1, 0, 2, 0.5, 1, 1, 3, 1, 1])
ROWS = covering.pairwise(FACTORS, is_legal)


def arguments(row):
    """The arrays of a call and its options."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (BATCH, TIME, CLASSES))
    targets = rng.integers(0, CLASSES, (BATCH, TIME))
    weights = rng.integers(0, 3, (BATCH, TIME)) / 2
    if row["logits"] != "plain":
        logits[rng.random(logits.shape) < 0.3] = -np.inf
    if row["logits"] == "bad rows":
        logits[0, 0, 0], logits[0, 1], weights[0, 0], logits[1, 2, 3] = np.nan, -np.inf, 0, np.inf
    weights = {"floats": weights, "none": None, "all 0": 0 * weights, "infinite": np.where(weights > 0.7, np.inf, 0)}[
        row["weights"]
    ]
    options = {
        "label_smoothing": SMOOTHINGS[row["smoothing"]],
        "class_weights": OF_CLASSES if row["class_weights"] else None,
        "z_loss": row["z_loss"],
        "softcap": row["softcap"],
        "normalizer": row["normalizer"],
        "exact": row["exact"],
    }
    if row["reduction"] == "counted":
        options |= dict.fromkeys(["average_across_timesteps", "average_across_batch"], False)
        options |= dict.fromkeys(["sum_over_timesteps", "sum_over_batch"], True)
    else:
        options["reduction"] = row["reduction"]
    if row["out"] == "ignored":
        options["ignore_index"] = (1, -100)
        targets[2, 2] = -100
    elif row["out"] == "lengths":
        options["lengths"] = [5, 3, 0, 2]
    elif row["out"] == "packed":
        options["cu_seqlens"] = [0, 7, 7, 20]
        logits, targets = logits.reshape(-1, CLASSES), targets.reshape(-1)
        weights = None if weights is None else weights.reshape(-1)
    weights = None if weights is None else weights.astype("float32")
    return [logits.astype(row["dtype"]), targets, weights], options


def identity(row):
    return " ".join(f"{name}={x}" for name, x in row.items() if x is not FACTORS[name][0]) or "plain"


@pytest.fixture
def hindsight(monkeypatch):
    """Switch off what this file is about: every pullback is a pass of its own."""
    return lambda: monkeypatch.setattr(SequenceLossOp, "is_foreseen", False)


@pytest.mark.parametrize("row", ROWS, ids=identity)
def test_the_bits_are_those_of_a_pullback(hindsight, row):
    arrays, options = arguments(row)
    options["wrt"] = ("logits",) if row["wrt"] == "logits" else ("logits", "weights")
    options["cotangent"] = row["cotangent"]
    loss, gradients = seqloss.sequence_loss_and_grad(*arrays, **options)
    hindsight()
    expected, behind = seqloss.sequence_loss_and_grad(*arrays, **options)
    assert (loss.dtype, loss.tobytes()) == (expected.dtype, expected.tobytes())
    for x, y in zip(gradients, behind, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(np.signbit(x[x == 0]), np.signbit(y[y == 0]))


ONE_LOOK = ["none", "number", "prior", "prior of one class", "excluding", "off target", "centred"]


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("smoothing", ONE_LOOK)
def test_one_look_at_the_logits_is_enough(monkeypatch, smoothing, z_loss):
    row = {name: values[0] for name, values in FACTORS.items()} | {"smoothing": smoothing, "z_loss": z_loss}
    arrays, options = arguments(row)
    looks = []
    for name in ("token_statistics", "token_pullback", "token_statistics_and_pullback"):
        kernel = getattr(backend, name)
        monkeypatch.setattr(backend, name, lambda *x, kernel=kernel, name=name: looks.append(name) or kernel(*x))
    seqloss.sequence_loss_and_grad(*arrays, **options)
    assert looks == ["token_statistics_and_pullback"]


def test_a_loss_alone_makes_no_gradient(monkeypatch):
    arrays, options = arguments({name: values[0] for name, values in FACTORS.items()})
    monkeypatch.delattr(backend, "token_statistics_and_pullback")
    monkeypatch.delattr(backend, "token_pullback")
    seqloss.sequence_loss(*arrays, **options)
