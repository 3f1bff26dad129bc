"""A language model of 256 x 256 numbers: the next byte from the one before it."""

from collections.abc import Iterable
from typing import Any

import numpy as np

Array = Any

CLASSES = 256
START = ord("\n")
"""The byte that stands before the first one of a sentence."""

STRENGTH = 1.0
"""How many counts the distribution of single bytes is worth."""


def pairs(sentence: bytes) -> tuple[Array, Array]:
    """Inputs and targets: each byte of the sentence and the one before it."""
    targets = np.frombuffer(sentence, np.uint8).astype(np.int32)
    return np.concatenate([[START], targets[:-1]]).astype(np.int32), targets


def fit(sentences: Iterable[bytes]) -> Array:
    """Logits in float32, a row for each byte before: the logarithm of smoothed counts.

    ``count(before, next) + STRENGTH * p(next)``, where p is the add-one estimate of single bytes. The rows are not
    normalised: on log-probabilities a loss that forgets to normalise would be right.
    """
    counts = np.zeros((CLASSES, CLASSES))
    for sentence in sentences:
        np.add.at(counts, pairs(sentence), 1)
    single = counts.sum(0) + 1
    return np.log(counts + STRENGTH * single / single.sum()).astype(np.float32)
