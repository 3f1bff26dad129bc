"""Shared by the four programs: the text in batches, the initial weights and the settings.

The model predicts a byte from the two before it: ``logits = tanh(a[x] + b[before]) @ kernel + bias``. It is so small
that the program in plain NumPy can write out its gradients.
"""

import numpy as np

from seqloss.parity import text

CLASSES, FEATURES, STEPS, RATE = 256, 48, 60, 4.0
PAD = -100


def weights():
    """The same initial numbers for every framework."""
    rng = np.random.default_rng(0)
    shapes = {"a": (CLASSES, FEATURES), "b": (CLASSES, FEATURES), "kernel": (FEATURES, CLASSES), "bias": (CLASSES,)}
    return {name: (0.3 * rng.normal(size=shape)).astype("float32") for name, shape in shapes.items()}


def batches(steps=STEPS, rows=16, micro=4):
    """For each step a list of micro-batches (x, before, targets), padded to one size, and the tokens of all of them.

    The sentences have 8 to 256 bytes, so the micro-batches have very different numbers of tokens.
    """
    sentences = text.read(None).sentences
    rng = np.random.default_rng(1)
    longest = max(map(len, sentences))
    for _ in range(steps):
        drawn = sorted(rng.choice(len(sentences), rows, replace=False), key=lambda i: len(sentences[i]))
        x, before = np.zeros((2, rows, longest), "int32")
        targets = np.full((rows, longest), PAD, "int32")
        for row, i in enumerate(drawn):
            given = np.frombuffer(sentences[i], np.uint8)
            x[row, 1 : len(given)], before[row, 2 : len(given)] = given[:-1], given[:-2]
            targets[row, : len(given)] = given
        tokens = int((targets != PAD).sum())
        parts = (np.split(array, rows // micro) for array in (x, before, targets))
        yield list(zip(*parts, strict=True)), tokens
