"""Reading packed files of recorded arrays: one flat array for each dtype, and an index of what lies where."""

import functools
import json
import math

import numpy as np


@functools.cache
def unpack(path):
    """From names to arrays, which nobody may write into."""
    with np.load(path) as file:
        index = json.loads(bytes(file["index"]).decode())
        flat = {kind: file[f"flat_{kind}"] for kind in {kind for kind, _, _ in index.values()}}
    for array in flat.values():
        array.flags.writeable = False
    return {k: flat[kind][start : start + math.prod(shape)].reshape(shape) for k, (kind, start, shape) in index.items()}
