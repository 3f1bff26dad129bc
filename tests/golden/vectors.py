"""Reading the recorded vectors, and how close a result has to come to them.

A file holds the inputs of one shape (``logits``, ``targets``, twelve kinds of ``weights``, a cotangent ``gy_<tag>`` for
each combination of the flags) and what TensorFlow returned: ``val``, ``dlogits`` and ``dweights``, for each tag and for
the dtype that TensorFlow ran in. README.md of this folder tells how the files were made.
"""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

FOLDER = pathlib.Path(__file__).parent
SHAPES = ("1_1_1", "2_3_5", "2_5_10", "3_6_50", "3_6_1000", "4_7_11", "5_10_2")
DTYPES = {"f32": "float32", "f64": "float64"}
KINDS = (
    *("ones", "prefix_mask", "random_mask", "row_masked", "col_masked", "all_zero"),
    *("fractional", "large", "negative", "mixed", "cancel", "tiny"),
)
TAGS = ("aT_aB", "aT_nB", "nT_aB", "sT_sB", "sT_nB", "nT_sB", "nT_nB")
MIXED = ("aT_sB", "sT_aB")
"""Legal in TensorFlow 1.15 alone, which ignores the sum; Addons raise, and so does this library."""


class Vector(NamedTuple):
    """One recorded array: ``values[i]`` belongs to the weights ``kinds[i]``; ``dtype`` is the one to return."""

    key: str
    quantity: str
    kinds: tuple[int, ...]
    values: np.ndarray
    dtype: str


def flags(tag):
    """The flags of a tag: a, s or n (average, sum, neither), over timesteps and over the batch."""
    time, batch = tag[0], tag[3]
    return {
        "average_across_timesteps": time == "a",
        "average_across_batch": batch == "a",
        "sum_over_timesteps": time == "s",
        "sum_over_batch": batch == "s",
    }


@functools.cache
def load(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def recorded(shape, tag, dtype):
    """The vectors to compare with when running in a dtype: those of float64, else, where there is none, of float32."""
    vectors = []
    for source in ("sequence_loss", "tfa_sequence_loss"):
        arrays = load(f"{source}_{shape}")
        for quantity in ("val", "dlogits", "dweights"):
            for suffix, kinds in (("", KINDS), *((f"__{kind}", (kind,)) for kind in KINDS)):
                wide, own = (f"{quantity}_{t}_{tag}{suffix}" for t in ("f64", dtype))
                if wide not in arrays and own not in arrays:
                    continue
                values = arrays[wide if wide in arrays else own]
                # The float32 vector gives dtype and shape, the float64 one the numbers.
                like = arrays.get(own, values.astype(DTYPES[dtype]))
                assert like.shape == values.shape
                if suffix:
                    values = values[None]
                places = tuple(KINDS.index(kind) for kind in kinds)
                key = f"{source}_{shape}:{own if own in arrays else wide}"
                vectors.append(Vector(key, quantity, places, values, like.dtype.name))
    return vectors


def largest_summand(shape, tag, quantity, kind):
    """The largest number that was added up for each entry of a result, from the vectors themselves."""
    arrays = load(f"sequence_loss_{shape}")
    if quantity == "dlogits":
        return 0.0
    # The unreduced loss with unit weights is the loss of each token.
    nll, weights = arrays["val_f64_nT_nB"][KINDS.index("ones")], arrays["weights"][kind].astype(float)
    averaged, summed = "a" in tag, "s" in tag
    axis = (0,) * (tag[3] != "n") + (1,) * (tag[0] != "n")
    denominator = np.ones_like(weights)
    if averaged or summed:
        denominator = (weights if averaged else weights != 0).sum(axis, keepdims=True)
    inverse = np.divide(1.0, np.abs(denominator), out=np.zeros_like(weights * denominator), where=denominator != 0)
    summands = np.abs(weights * nll) * inverse
    if quantity == "val":
        return summands.max(axis) if axis else summands
    cotangent = np.abs(arrays[f"gy_{tag}"].astype(float)).reshape(denominator.shape)
    reduced = summands.max(axis, keepdims=True) if averaged else 0.0
    return cotangent * inverse * np.maximum(nll, reduced)


def allowed(vector, expected, dtype, summand):
    """The distance that a result in ``dtype`` may have from the entries of ``expected``, one kind of a vector."""
    if dtype == "f64":
        return 1e-10 * np.abs(expected) + 1e-12 * np.abs(expected).max(initial=0)
    if vector.values.dtype == np.float32:
        # No float64 vector: TensorFlow's own rounding, relative to the largest entry, comes on top.
        summand = np.abs(expected).max(initial=0)
    return 2e-5 * np.abs(expected) + 1e-6 * summand
