"""Checked by mypy, never run: each built-in backend is a ``Backend``, name by name and argument by argument."""

import seqloss.backends.jax
import seqloss.backends.numpy
import seqloss.backends.tensorflow
import seqloss.backends.torch
from seqloss.core.protocol import Backend

BACKENDS: list[Backend] = [
    seqloss.backends.numpy,
    seqloss.backends.torch,
    seqloss.backends.tensorflow,
    seqloss.backends.jax,
]
