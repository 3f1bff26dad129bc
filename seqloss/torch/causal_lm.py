"""``seqloss.torch.causal_lm_loss``: the loss that the Trainer of Hugging Face takes as ``compute_loss_func``."""

from collections.abc import Mapping
from typing import Any

import torch

from seqloss.core.errors import ArgumentTypeError
from seqloss.core.options import flag
from seqloss.core.smoothing import Smoothing
from seqloss.sequence import sequence_loss
from seqloss.shift import next_token


def causal_lm_loss(
    outputs: Any,
    labels: Any,
    num_items_in_batch: Any = None,
    *,
    label_smoothing: float | Smoothing = 0.0,
    ignore_index: int | tuple[int, ...] | None = -100,
    shift: bool = True,
    weights: Any = None,
    lengths: Any = None,
    cu_seqlens: Any = None,
    **options: Any,
) -> Any:
    """The loss of a causal language model, for ``Trainer(..., compute_loss_func=seqloss.torch.causal_lm_loss)``.

    With the token losses ``nll`` of the positions whose next label is not ``ignore_index``, in nats, it is ::

        loss = sum(nll) / num_items_in_batch        (or / the number of these positions, if it is None)

    Parameters
    ----------
    outputs : dict, ModelOutput, tuple or tensor
        What the model returned: logits [batch, time, classes], or what has them as ``"logits"``, or as its first entry.
    labels : tensor of shape [batch, time]
        The ids of the tokens as the model got them, not shifted. They are moved to the device of the logits.
    num_items_in_batch : int or tensor of shape [], optional
        What the sum is divided by: the number of labels in all the batches of an optimizer step, which the Trainer
        counts.
    label_smoothing : float or Smoothing, default 0
        As in :func:`seqloss.sequence_loss`. The ``label_smoothing_factor`` of the Trainer is not read when there is a
        ``compute_loss_func``, so pass it here.
    ignore_index : int, tuple of int or None, default -100
        Labels that are not predicted. The Trainer counts those that are not -100, whatever is given here.
    shift : bool, default True
        Whether a position predicts the next label. False for labels that are shifted already, and for encoder-decoder
        models.
    weights, lengths, cu_seqlens : tensor, optional
        As in :func:`seqloss.sequence_loss`, for the labels as the model got them: they are shifted with them.
    **options
        Further options of :func:`seqloss.sequence_loss`, such as ``z_loss``, ``softcap`` or ``exact``; but for
        ``reduction`` and ``normalizer``, which follow from ``num_items_in_batch``.

    Returns
    -------
    tensor of shape []
        The loss, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ArgumentTypeError
        If there are no logits in ``outputs``, or no labels.
    SeqlossError
        Also what :func:`seqloss.sequence_loss` raises.

    See Also
    --------
    seqloss.next_token : The shift.
    seqloss.sequence_loss : The loss.

    Notes
    -----
    The labels are shifted and the logits are not, so these are not copied, nor widened to float32. The gradient with
    respect to the logits is exactly 0 at the last position, and wherever the next label is ignored. Under tracing the
    checks are those of :func:`seqloss.sequence_loss`.

    Options are given with ``functools.partial``, because the Trainer passes three arguments.

    In several processes the Trainer (transformers 5.24) counts the labels of all of them, and multiplies what is
    returned by the number of processes, because the gradients are averaged afterwards. Where
    ``average_tokens_across_devices`` is False, each process counts its own labels and nothing is multiplied. With
    several GPUs in one process (``nn.DataParallel``) the Trainer passes a count for each GPU, which is refused with a
    :class:`seqloss.ShapeError`; start a process for each GPU, with ``torchrun``.

    References
    ----------
    ``ForCausalLMLoss`` and ``LabelSmoother`` of transformers 5.24.

    Examples
    --------
    >>> import functools
    >>> import torch
    >>> import seqloss
    >>> logits = torch.tensor([[[1.0, 1.0, 8.0], [1.0, 8.0, 1.0], [1.0, 1.0, 1.0]]]).log()
    >>> labels = torch.tensor([[0, 2, 1]])
    >>> print(f"{seqloss.torch.causal_lm_loss({'logits': logits}, labels):.4f}")  # -log 0.8
    0.2231
    >>> print(f"{seqloss.torch.causal_lm_loss(logits, labels, num_items_in_batch=4):.4f}")
    0.1116
    >>> smoothed = functools.partial(seqloss.torch.causal_lm_loss, label_smoothing=0.1)
    >>> print(f"{smoothed(logits, labels):.4f}")
    0.3618
    """
    logits = _logits(outputs)
    # A model over several devices may have its head on another one.
    labels, num_items_in_batch = (
        x.to(logits.device) if isinstance(x, torch.Tensor) else x for x in (labels, num_items_in_batch)
    )
    if flag("shift", shift):
        labels, weights = next_token(labels, weights, lengths=lengths, cu_seqlens=cu_seqlens, ignore_index=ignore_index)
        ignore_index = lengths = None  # they are in the weights
    return sequence_loss(
        logits,
        labels,
        weights,
        ignore_index=ignore_index,
        lengths=lengths,
        cu_seqlens=cu_seqlens,
        label_smoothing=label_smoothing,
        reduction="mean",
        normalizer=num_items_in_batch,
        **options,
    )


def _logits(outputs: Any) -> Any:
    """The logits of what a model returned."""
    found = outputs.get("logits") if isinstance(outputs, Mapping) else outputs
    if isinstance(found, tuple) and found:
        found = found[0]
    if not isinstance(found, torch.Tensor):
        kind = f"with the keys {', '.join(map(repr, outputs)) or 'none'}" if isinstance(outputs, Mapping) else ""
        raise ArgumentTypeError(
            f"outputs must have logits, got a {type(outputs).__name__} {kind}".rstrip()
            + "; pass what a model with a language head returns, or its logits as a tensor"
        )
    return found
