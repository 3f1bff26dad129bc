"""Calls with distributed logits, for ``dtensor.py``. Placements are written 0, 1, 2 (split along that axis), r, p."""

from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    logits: str
    """Placements, one for each axis of the mesh: of [4], or of [2, 2]."""
    beside: Any = None
    """Targets and weights: placements, or what they are instead; None: the placements of the logits."""
    shape: tuple[int, int, int] = (8, 4, 33)
    options: Any = {}  # noqa: RUF012 that of a named tuple, which nobody changes
    function: str = "sequence_loss"
    is_moved: bool = False
    """Whether torch puts the gradient elsewhere, because a rank has nothing of an axis."""


SEPARATE = {"average_across_timesteps": False, "average_across_batch": False}
COUNTED = np.arange(33) % 3

CASES = {
    "batch": Case("0"),
    "time": Case("1"),
    "replicated": Case("r"),
    "batch and time": Case("01"),
    "batch twice": Case("00"),
    "uneven": Case("0", shape=(6, 3, 33)),
    "empty rank": Case("0", shape=(1, 6, 33), is_moved=True),
    "empty rank in time": Case("1", shape=(6, 1, 33), is_moved=True),
    "empty rank of two axes": Case("01", shape=(1, 6, 33), is_moved=True),
    "a rank without a row": Case("0", shape=(5, 3, 33)),
    "beside replicated": Case("0", "r"),
    "beside another axis": Case("0", "1"),
    "beside plain": Case("0", "plain"),
    "beside plain, two axes": Case("01", "plain"),
    "beside plain, empty rank": Case("0", "plain", shape=(1, 6, 33), is_moved=True),
    "beside NumPy": Case("0", "numpy"),
    "beside lists": Case("0", "list"),
    "no reduction": Case("0", options=SEPARATE),
    "each sequence": Case("0", options={"average_across_batch": False}),
    "each timestep": Case("0", options={"average_across_timesteps": False}),
    "mean of sequences": Case("0", options={"reduction": "sequence_mean"}),
    "lengths": Case("0", options={"lengths": [4, 3, 1, 0, 2, 2, 4, 1]}),
    "ignored": Case("0", options={"ignore_index": (3, 5)}),
    "normalizer": Case("0", options={"normalizer": 7.3}),
    "smoothed": Case("0", options={"label_smoothing": 0.1, "class_weights": COUNTED}),
    "z loss, capped": Case("0", options={"z_loss": 1e-3, "softcap": 10.0}),
    "soft": Case("0", "soft"),
    "explicit gradient": Case("0", function="sequence_loss_and_grad"),
    "in loss_parallel": Case("0", function="in_loss_parallel"),
}

ROUNDED = ("batch", "time", "batch and time", "empty rank", "soft", "smoothed", "each timestep", "explicit gradient")
"""Those that run without ``exact`` too, in float32."""

SUMS = {
    "batch": ("0", {}),
    "time": ("1", {}),
    "batch and time": ("01", {}),
    "replicated": ("r", {}),
    "lengths": ("0", {"lengths": [4, 3, 1, 0, 2, 2, 4, 1]}),
}
"""Placements and options of sums of losses."""

REFUSED = {
    "classes": Case("2", "r"),
    "classes, two axes": Case("02", "0r"),
    "partial": Case("p", "r"),
    "soft, classes": Case("2", "soft"),
    "classes in loss_parallel": Case("2", "r", function="in_loss_parallel"),
}
"""Logits whose rows are in parts."""

MENDED = {"classes": "[Shard(dim=0)]", "classes, two axes": "[Shard(dim=0), Shard(dim=0)]", "partial": "[Shard(dim=0)]"}
"""The placements that the message proposes."""
