"""The batch that all backends are given."""

from typing import Any, NamedTuple

import numpy as np

from seqloss.parity import bigram

Array = Any

MOST_POSITIONS = 16384
"""Rows times time: 16 MiB of logits, so that the largest text stays a matter of seconds and of little memory."""

MARGINS = np.arange(20, 61)
"""How far the targets of the confident row lie above all other classes. There ``logsumexp - t`` gives 0 in float32."""


class Batch(NamedTuple):
    """Sentences in rows, padded with NaN logits and label -100; the last row is the confident one."""

    logits: Array
    targets: Array
    lengths: Array
    sentences: int
    bytes: int

    @property
    def text_lengths(self) -> Array:
        """The lengths with the confident row left out: loss and perplexity are those of the text."""
        return np.concatenate([self.lengths[:-1], [0]]).astype(np.int32)

    @property
    def inputs(self) -> dict[str, Array]:
        """What the workers of the sequence loss are given."""
        names = ("logits", "targets", "lengths", "text_lengths")
        return {name: getattr(self, name) for name in names}

    @property
    def padding(self) -> int:
        return int(self.targets.size - self.lengths.sum())


def build(sentences: list[bytes]) -> Batch:
    """As many sentences as fit, the model fitted on them, and its logits."""
    used = _fitting(sentences)
    model = bigram.fit(used)
    rows = [bigram.pairs(sentence) for sentence in used]
    logits = [*(model[inputs] for inputs, _ in rows), _confident(model)]
    targets = [*(targets for _, targets in rows), _confident_targets()]
    lengths = np.array([len(row) for row in targets], np.int32)
    shape = (len(targets), int(lengths.max()))
    batch = Batch(
        np.full((*shape, bigram.CLASSES), np.nan, np.float32),
        np.full(shape, -100, np.int32),
        lengths,
        len(used),
        sum(map(len, used)),
    )
    for row, length in enumerate(lengths):
        batch.logits[row, :length] = logits[row]
        batch.targets[row, :length] = targets[row]
    return batch


def _fitting(sentences: list[bytes]) -> list[bytes]:
    """The first sentences, so many that the padded batch stays within MOST_POSITIONS."""
    longest = len(MARGINS)
    for count, sentence in enumerate(sentences):
        longest = max(longest, len(sentence))
        if (count + 2) * longest > MOST_POSITIONS:
            return sentences[:count]
    return sentences


def _confident_targets() -> Array:
    """Labels over the whole range, both ends included."""
    return np.linspace(0, bigram.CLASSES - 1, len(MARGINS)).astype(np.int32)


def _confident(model: Array) -> Array:
    """Rows of the model, lowered to a maximum of 0, with the target raised to its margin."""
    targets = _confident_targets()
    logits = model[targets].copy()
    tokens = np.arange(len(targets))
    logits[tokens, targets] = -np.inf
    logits -= logits.max(-1, keepdims=True)
    logits[tokens, targets] = MARGINS
    return logits
