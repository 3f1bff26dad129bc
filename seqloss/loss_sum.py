"""Sums of losses, for evaluation and logs."""

from seqloss.core import objectives, options
from seqloss.core.call import Call
from seqloss.core.types import AnyArray, ArrayLike
from seqloss.losses import arguments, ops
from seqloss.losses.objective import objective_of
from seqloss.losses.sums import LossSum


def loss_sum(
    logits: AnyArray,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    ignore_index: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    cu_seqlens: ArrayLike | None = None,
    softcap: float | None = None,
    accuracy: bool = False,
    check_labels: bool | None = None,
    exact: bool = False,
) -> LossSum:
    """Total loss of a batch, to be added up over batches: for the perplexity of a corpus, and for logs.

    The mean over all tokens of many batches is not the mean of their means, because batches have different numbers of
    tokens. With the token losses ``nll`` of :func:`sequence_loss`, in nats, the sum of several batches has ::

        mean()           = sum(weights * nll) / sum(weights)
        perplexity()     = exp(mean())
        bits_per_token() = mean() / log(2)
        accuracy()       = sum(weights * is_right) / sum(weights)

    These are the same bits for every order and every grouping of the batches.

    Parameters
    ----------
    logits : array of shape [batch, time, classes]
        As in :func:`sequence_loss`, like all arguments below except ``accuracy``.
    targets : array of shape [batch, time]
        Class ids. Soft targets are refused: the exponential of their loss is not a perplexity.
    weights : array of shape [batch, time], optional
        The weight of each token.
    ignore_index : int or tuple of int, optional
        Labels to ignore.
    lengths : array of shape [batch], optional
        The number of tokens in each sequence.
    cu_seqlens : array of shape [batch + 1], optional
        The offsets of packed sequences.
    softcap : float, optional
        A cap of the logits.
    accuracy : bool, default False
        Also count the tokens that are right, in a separate pass that stores nothing of the size of the logits.
    check_labels : bool, optional
        Whether to read the labels and check them.
    exact : bool, default False
        Compute the token losses in float64.

    Returns
    -------
    LossSum
        The totals, of the framework of the logits.

    Raises
    ------
    OptionError
        If targets are soft.
    SeqlossError
        Also what :func:`sequence_loss` raises for these arguments.
    BackendError
        If a gradient reaches what is computed from the sum.

    See Also
    --------
    sequence_loss : The loss to train with.
    LossSum : What the sum can do.

    Notes
    -----
    The weighted losses are added up as ``reduction="none"`` returns them; with ``exact=True``, before they are rounded.
    The part of a loss below 2**-112 is cut off. A loss of 2**128 or more counts as infinite.

    In a function that also computes a loss to train with, pass logits without a gradient: ``jax.lax.stop_gradient``,
    ``.detach()``, ``tf.stop_gradient``. Inside of ``torch.compile``, which differentiates all that it can, and in a
    ``tf.function`` with the tape outside, this is required. Elsewhere the sum keeps no array, neither logits nor
    weights; but in PyTorch it keeps the graph that they come from, if they have one. A backward pass frees that graph;
    detached logits or ``torch.no_grad`` avoid it.

    Under tracing the function follows the rules of :func:`sequence_loss`; what is NaN there makes the sum NaN.

    References
    ----------
    C. E. Shannon, "Prediction and entropy of printed English", 1951, for the perplexity; U. W. Kulisch, "Advanced
    Arithmetic for the Digital Computer", 2002, for sums in fixed point.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> total = 0
    >>> for length in (3, 1):
    ...     logits = np.zeros((1, 3, 8))
    ...     total += seqloss.loss_sum(logits, np.array([[0, 1, 2]]), lengths=[length], accuracy=True)
    >>> print(f"{total.mean():.4f} nats, {total.bits_per_token():.1f} bits, accuracy {total.accuracy():.2f}")
    2.0794 nats, 3.0 bits, accuracy 0.50

    A checkpoint, and on from there:

    >>> import json
    >>> saved = json.dumps(total.to_dict())
    >>> print(seqloss.LossSum.from_dict(json.loads(saved)).perplexity().round(4))
    8.0
    """
    counts_right = options.flag("accuracy", accuracy)
    check_labels = options.loss_options(None, None, check_labels)
    exact = options.exact(exact)
    objective, more = objective_of(0.0, None, 0.0, softcap)
    more = more.counting(objectives.ignore_index(ignore_index), lengths, None)
    call = Call("logits", logits, opens=True)
    with call.backend.scope(None):
        given = arguments.sequence(
            call,
            targets,
            weights,
            check_labels,
            labels_are_classes=True,
            exact=exact,
            more=more,
            needs_ids="seqloss.loss_sum",
            cu_seqlens=cu_seqlens,
        )
        limbs, barrier = ops.totals(given, objective, exact, counts_right)
        return LossSum(limbs, call.guard(barrier))
