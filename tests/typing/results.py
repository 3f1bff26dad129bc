"""Checked by mypy and pyright, never run: results have the type of their argument, and mistakes are found.

A line with an ``ignore`` must be an error for both, and any other line must be none.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import seqloss
from seqloss.testing import Conventions

Floats = NDArray[np.float32]


def right(logits: Floats, targets: NDArray[np.int64], weights: Floats) -> None:
    """Calls that are right."""
    assert_type(seqloss.sequence_loss(logits, targets, weights, reduction="sum", normalizer=8), Floats)
    assert_type(seqloss.sequence_loss(logits, [[1, 2]], ((1.0, 0.0),), label_smoothing=seqloss.Smoothing(0.1)), Floats)
    assert_type(seqloss.sequence_loss_and_grad(logits, targets, wrt="weights", exact=True), tuple[Floats, Floats])
    both = seqloss.sequence_loss_and_grad(logits, targets, weights, False, wrt=("logits", "weights"), lengths=[1])
    assert_type(both, tuple[Floats, tuple[Floats, ...]])
    assert_type(seqloss.token_loss(logits, targets, active=[True]), Floats)
    assert_type(seqloss.next_token(targets), tuple[NDArray[np.int64], NDArray[np.int64]])
    assert_type(seqloss.sequence_mask(targets), NDArray[np.int64])
    assert_type(seqloss.sequence_mask([1, 3]), NDArray[Any])
    assert_type(seqloss.sequence_loss_by_example([logits], [targets], [[1.0]]), Floats)
    assert_type(seqloss.softmax_cross_entropy_with_logits(logits, logits), Floats)
    assert_type(seqloss.sparse_softmax_cross_entropy(targets, logits, 0.5, reduction=seqloss.Reduction.MEAN), Floats)
    assert_type(seqloss.nce_loss([logits, logits], weights, targets, logits, 2, 3), Floats)
    assert_type(seqloss.loss_sum(logits, targets, accuracy=True), seqloss.LossSum)
    assert_type(seqloss.linear_sequence_loss(logits, weights, targets, bias=[1.0], reduction="sum"), Floats)
    slopes = seqloss.linear_sequence_loss_and_grad(logits, weights, targets, chunk=8)[1]
    assert_type(slopes, tuple[Floats, ...])
    assert_type(seqloss.linear_sequence_loss_and_grad(logits, weights, targets, wrt="bias")[1], Floats)
    assert_type(seqloss.linear_loss_sum(logits, weights, targets), seqloss.LossSum)
    assert_type(Conventions(layout="packed").takes_weights, bool)


def wrong(x: Floats, y: NDArray[np.int64]) -> None:
    """Calls that are mistakes: an error on each line."""
    seqloss.sequence_loss(x, y).no_such_method()  # type: ignore[attr-defined]  # pyright: ignore
    seqloss.sequence_loss("logits", y)  # type: ignore[type-var]  # pyright: ignore
    seqloss.sequence_loss(None, y)  # type: ignore[type-var]  # pyright: ignore
    seqloss.sequence_loss(x, None)  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss(x, "targets")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss(x, y, "weights")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss(x, y, reduction="weighted_sum")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss(x, y, reduction=seqloss.Reduction.SUM)  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss(x, y, redaction="sum")  # type: ignore[call-arg]  # pyright: ignore
    seqloss.sequence_loss_and_grad(x, y, wrt="target")  # type: ignore[call-overload]  # pyright: ignore
    seqloss.sequence_loss_and_grad(x, y, wrt=("logits", "target"))  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_loss_and_grad(x, y, ignore_label=-100)  # type: ignore[call-overload]  # pyright: ignore
    seqloss.sequence_loss_and_grad(x, y)[1].no_such_method()  # type: ignore[attr-defined]  # pyright: ignore
    seqloss.linear_sequence_loss(x, x, y, reduction="average")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.linear_sequence_loss(x, None, y)  # type: ignore[arg-type]  # pyright: ignore
    seqloss.linear_sequence_loss_and_grad(x, x, y, wrt="logits")  # type: ignore[call-overload]  # pyright: ignore
    seqloss.compute_weighted_loss(x, reduction="mean")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sigmoid_cross_entropy(x, x, reduction="sum")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.sequence_mask("lengths")  # type: ignore[call-overload]  # pyright: ignore
    seqloss.nce_loss(x, x, y, x, 2, 3, partition_strategy="modulo")  # type: ignore[arg-type]  # pyright: ignore
    seqloss.loss_sum(x, y).no_such_method()  # type: ignore[attr-defined]  # pyright: ignore
    seqloss.no_such_function(x)  # type: ignore[attr-defined]  # pyright: ignore
    seqloss.cross_entropy(x, y)  # type: ignore[attr-defined]  # pyright: ignore
    Conventions(layout="flat")  # type: ignore[arg-type]  # pyright: ignore
    Conventions(returns="average")  # type: ignore[arg-type]  # pyright: ignore
    Conventions(gradient="none")  # type: ignore[arg-type]  # pyright: ignore
    Conventions(denominator="count")  # type: ignore[arg-type]  # pyright: ignore
