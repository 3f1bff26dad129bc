"""What the four programs share: pairs of bytes of a text as tokens of 65,536 classes, and the memory of a process.

The model predicts a pair from the one before it: ``logits = tanh(table[x]) @ kernel``.
"""

import re
import resource
import sys
from pathlib import Path

import numpy as np

from seqloss.parity import text

CLASSES, FEATURES, STEPS, RATE, CHUNK, PAD = 2**16, 32, 3, 20.0, 64, -100


def weights():
    """The same initial numbers for every framework."""
    rng = np.random.default_rng(0)
    table, kernel = rng.normal(size=(CLASSES, FEATURES)), 0.1 * rng.normal(size=(FEATURES, CLASSES))
    return table.astype("float32"), kernel.astype("float32")


def batch(rows=8, time=64):
    """The first pairs of long sentences, and the pairs that follow them: the logits are 128 MiB."""
    sentences = sorted(text.read(None).sentences, key=len)[-rows:]
    pairs = np.full((rows, time + 1), PAD)
    for row, sentence in zip(pairs, sentences, strict=True):
        given = np.frombuffer(sentence[: len(sentence) // 2 * 2], np.uint8).reshape(-1, 2)[: time + 1]
        row[: len(given)] = given @ [256, 1]
    return np.maximum(pairs[:, :-1], 0), pairs[:, 1:]


def compare(train):
    """Train with the logits stored and not, and print the loss and by how much the peak of the process grew.

    A peak only grows, so that the smaller one is first.
    """
    before = _peak()
    for fused in (True, False):
        loss = train(fused)
        print(f"{'never stored' if fused else 'logits stored'}: loss {loss:.4f}, {(_peak() - before) // 2**20} MiB")


def _peak():
    """Bytes of the largest size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss may be that of the process that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
