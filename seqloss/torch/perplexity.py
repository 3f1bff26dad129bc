"""``seqloss.torch.Perplexity``: the perplexity of many batches, as a module."""

import copy
import inspect
from typing import Any

import torch
from torch import nn

from seqloss.backends.torch.mesh import is_distributed
from seqloss.compat.derived import show_options
from seqloss.core.errors import OF_ONE_PROCESS, BackendError
from seqloss.loss_sum import loss_sum
from seqloss.losses.settings import settings
from seqloss.losses.sums import LossSum
from seqloss.torch import options
from seqloss.torch.sequence import OPTIONS as OF_LOSSES


class Perplexity(nn.Module):
    """The perplexity of all batches since the last reset, and the other results of their LossSum.

    With the token losses ``nll`` of all batches, in nats, it is the exponential of their mean ::

        perplexity = exp(sum(weights * nll) / sum(weights))

    whatever the order of the batches, and however they were spread over processes: no bit depends on that.

    Raises
    ------
    SeqlossError
        What :func:`seqloss.loss_sum` raises for the options.

    See Also
    --------
    seqloss.loss_sum : The sum of one batch, with the shapes and dtypes.
    seqloss.LossSum : What :meth:`sum` returns.

    Notes
    -----
    The state is one buffer of integers, which a ``state_dict`` has, ``.to(device)`` moves and ``.half()`` leaves as it
    is. The module has to be on the device of the logits.

    Nothing is differentiated: logits may have a graph, and none is kept. ``update`` does not wait for an accelerator,
    and can be compiled; the others read the state.

    Keep it outside of a model in ``DistributedDataParallel``, which gives all processes the buffers of the first one.

    References
    ----------
    F. Jelinek et al., "Perplexity, a measure of the difficulty of speech recognition tasks", 1977.

    Examples
    --------
    >>> import torch
    >>> import seqloss
    >>> metric = seqloss.torch.Perplexity(ignore_index=-100)
    >>> for classes, targets in ((4, [[0, 1, -100]]), (2, [[1, -100, -100]])):
    ...     metric.update(torch.zeros(1, 3, classes), torch.tensor(targets))
    >>> print(f"{metric.compute():.4f}")  # (4 * 4 * 2) ** (1 / 3)
    3.1748
    >>> print(f"{metric.all_reduce().sum().bits_per_token():.4f}")  # of all processes, where there are several
    1.6667
    """

    limbs: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        given = options.given("Perplexity", OPTIONS, kwargs, "update")
        defaults = {name: parameter.default for name, parameter in OF_LOSSES.parameters.items()}
        settings(**defaults | given)
        for name, value in given.items():
            setattr(self, name, value)
        self.register_buffer("limbs", torch.tensor(LossSum.empty().limbs))

    def update(
        self,
        logits: Any,
        targets: Any,
        weights: Any = None,
        *,
        lengths: Any = None,
        cu_seqlens: Any = None,
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        logits : tensor of shape [batch, time, classes]
            As in :func:`seqloss.loss_sum`, like all arguments below.
        targets : tensor of shape [batch, time]
            Class ids.
        weights : tensor of shape [batch, time], optional
            The weight of each token.
        lengths : tensor of shape [batch], optional
            The number of tokens in each sequence.
        cu_seqlens : tensor of shape [batch + 1], optional
            The offsets of packed sequences.

        Raises
        ------
        BackendError
            If one is a DTensor: a metric counts the rows of its own process only.
        SeqlossError
            Also what :func:`seqloss.loss_sum` raises.
        """
        arrays = {"logits": logits, "targets": targets, "weights": weights, "lengths": lengths}
        for name, x in arrays.items():
            if isinstance(x, torch.Tensor) and is_distributed(x):
                raise BackendError(OF_ONE_PROCESS.format(name))
        given = {name: getattr(self, name) for name in NAMES}
        with torch.no_grad():
            batch = loss_sum(logits, targets, weights, lengths=lengths, cu_seqlens=cu_seqlens, **given)
            self.limbs.copy_((LossSum(self.limbs, batch.barrier) + batch).limbs)

    def sum(self) -> LossSum:
        """The LossSum of all batches so far, on the CPU.

        Returns
        -------
        LossSum
            Its results are float64.
        """
        return LossSum(self.limbs.cpu(), torch.zeros((), dtype=torch.float64))

    def compute(self) -> Any:
        """The perplexity of all batches so far, in this process.

        Returns
        -------
        tensor of shape []
            On the CPU, float64: 1 where there were no tokens, and infinite where it is too large.
        """
        return self.sum().perplexity()

    def reset(self) -> None:
        """Forget all batches so far."""
        self.limbs.zero_()

    def all_reduce(self, group: Any = None) -> "Perplexity":
        """A metric with the totals of all processes of ``torch.distributed``. Every process must call it.

        Parameters
        ----------
        group : ProcessGroup, optional
            The processes. None: all.

        Returns
        -------
        Perplexity
            A new one, so that nothing is counted twice if you go on with this one; in a single process, a copy.
        """
        total = copy.deepcopy(self)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total.limbs, group=group)
        return total

    def extra_repr(self) -> str:
        """The options that are not as they are by default.

        Returns
        -------
        str
            Arguments of the constructor.
        """
        return options.shown(OPTIONS, {name: getattr(self, name) for name in NAMES})


OPTIONS = options.of(loss_sum, {"accuracy", *inspect.signature(Perplexity.update).parameters})
NAMES = tuple(OPTIONS.parameters)
show_options(Perplexity, OPTIONS, loss_sum)
