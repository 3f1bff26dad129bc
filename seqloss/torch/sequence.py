"""``seqloss.torch.SequenceLoss``: the loss of sequences as a module."""

import inspect
from typing import Any

import torch
from torch import nn

from seqloss.compat.derived import show_options
from seqloss.core import dispatch, objectives
from seqloss.core.call import Call
from seqloss.core.smoothing import Smoothing
from seqloss.losses import beside
from seqloss.losses.settings import settings
from seqloss.sequence import sequence_loss
from seqloss.torch import options


class SequenceLoss(nn.Module):
    """Mean cross entropy over the tokens that count, as a module whose options are checked when it is made.

    Pass what belongs to a batch in the call: ``loss(logits, targets, weights=None, *, lengths=None,
    cu_seqlens=None, normalizer=None)``. It returns, in nats, what :func:`seqloss.sequence_loss` returns for the same
    arguments, with its dtypes, gradients and errors; by default ::

        loss = sum(weights * nll) / sum(weights)

    Raises
    ------
    SeqlossError
        What :func:`seqloss.sequence_loss` raises for the options. What depends on the logits, such as the number of
        class weights, is left to the call.

    See Also
    --------
    seqloss.sequence_loss : The function, which has the formulas, shapes and dtypes.

    Notes
    -----
    Class weights and the prior of a :class:`seqloss.Smoothing` become the buffers ``class_weights`` and
    ``smoothing_prior``: ``.to(device)`` moves them, a ``state_dict`` has them, and ``.half()`` rounds them, as with all
    buffers. A ``softmax_loss_function`` that is a module becomes a part of this one, with its parameters.

    The module holds nothing else, and can be copied, pickled and compiled, with ``fullgraph=True`` too. Under tracing
    and under autocast it is what the function is: logits in half precision give a loss in float32.

    References
    ----------
    ``tfa.seq2seq.SequenceLoss`` of TensorFlow Addons 0.23, and ``torch.nn.CrossEntropyLoss``.

    Examples
    --------
    >>> import torch
    >>> import seqloss
    >>> criterion = seqloss.torch.SequenceLoss(ignore_index=-100, label_smoothing=0.1)
    >>> criterion
    SequenceLoss(ignore_index=-100, label_smoothing=0.1)
    >>> logits = torch.tensor([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).log().requires_grad_()
    >>> loss = criterion(logits, torch.tensor([[0, -100]]))
    >>> print(f"{loss:.4f}")  # -(0.9 + 0.1 / 3) log 0.8 - 2 * 0.1 / 3 log 0.1
    0.3618
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        given = options.given("SequenceLoss", OPTIONS, kwargs, "the call")
        class_weights, prior = _arrays(settings(**given).more)
        smoothing = given["label_smoothing"]
        if prior is not None:
            given["label_smoothing"] = _with_prior(smoothing, None)
        del given["class_weights"]
        for name, value in given.items():
            setattr(self, name, value)
        self.register_buffer("class_weights", class_weights)
        self.register_buffer("smoothing_prior", prior)

    def forward(
        self,
        logits: Any,
        targets: Any,
        weights: Any = None,
        *,
        lengths: Any = None,
        cu_seqlens: Any = None,
        normalizer: Any = None,
    ) -> Any:
        """The loss of a batch.

        Parameters
        ----------
        logits : tensor of shape [batch, time, classes]
            As in :func:`seqloss.sequence_loss`, like all arguments below.
        targets : tensor of shape [batch, time] or [batch, time, classes]
            Class ids or soft targets.
        weights : tensor of shape [batch, time], optional
            The weight of each token.
        lengths : tensor of shape [batch], optional
            The number of tokens in each sequence.
        cu_seqlens : tensor of shape [batch + 1], optional
            The offsets of packed sequences.
        normalizer : number or tensor of shape [], optional
            In place of the denominator.

        Returns
        -------
        tensor
            The loss, in nats.
        """
        return sequence_loss(
            logits,
            targets,
            weights,
            lengths=lengths,
            cu_seqlens=cu_seqlens,
            normalizer=normalizer,
            **self._options(),
        )

    def extra_repr(self) -> str:
        """The options that are not as they are by default.

        Returns
        -------
        str
            Arguments of the constructor. Of tensors the number of classes is shown, and of functions the name.
        """
        return options.shown(OPTIONS, self._options())

    def _options(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in NAMES}
        if self.smoothing_prior is not None:
            given["label_smoothing"] = _with_prior(self.label_smoothing, self.smoothing_prior)
        return given


OPTIONS = options.of(sequence_loss, inspect.signature(SequenceLoss.forward).parameters)
NAMES = tuple(OPTIONS.parameters)
show_options(SequenceLoss, OPTIONS, sequence_loss)


def _with_prior(smoothing: Any, prior: Any) -> Smoothing:
    eps, off_target, centred, _, exclude = smoothing
    return Smoothing(eps, off_target, centred, prior, exclude)


def _arrays(more: beside.Beside) -> tuple[Any, Any]:
    """Class weights and prior as tensors, checked as far as that goes without logits."""
    given = {"class_weights": more.class_weights, "Smoothing.prior": more.prior}
    given = {name: x for name, x in given.items() if x is not None}
    if not given:
        objectives.excluded(more.exclude, None)
        return None, None
    shape: Any = next(dispatch.argument(name, x).shape for name, x in given.items())
    device = next((x.device for x in given.values() if isinstance(x, torch.Tensor)), None)
    call = Call("logits", torch.empty(0, 0, shape[-1] if shape else 1, device=device))
    placed = beside.of_classes(call, beside.check(call, more), call.main.value)
    class_weights, prior = (None if x is None else x.detach().clone() for x in placed)
    return class_weights, prior
