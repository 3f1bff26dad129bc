"""The loss of a batch of sequences: the main entrance."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from seqloss.core import arguments, checks, custom_loss, reduction
from seqloss.core.errors import BackendError
from seqloss.core.protocol import Array


def sequence_loss(
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Array] | None = None,
    name: str | None = None,
    *,
    check_labels: bool | None = None,
) -> Array:
    r"""Weighted cross entropy of a batch of sequences, with the reductions of TensorFlow's ``seq2seq.sequence_loss``.
    """
    checks.flags(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    checks.loss_function(softmax_loss_function)
    checks.scope_name(name)
    plan = reduction.plan(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    ranged = softmax_loss_function is None
    call = arguments.sequence(logits, targets, weights, check_labels=check_labels, ranged=ranged)
    backend = call.backend
    with nullcontext() if name is None else backend.scope(name):
        if softmax_loss_function is None:
            nll = backend.differentiable_token_nll(call.logits, call.targets, call.skippable)
        else:
            nll = custom_loss.token_losses(call, call.logits, softmax_loss_function)
        return call.guard(reduction.forward(backend, plan, nll, call.weights))


def sequence_loss_and_grad(
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Array] | None = None,
    name: str | None = None,
    *,
    check_labels: bool | None = None,
    cotangent: Array | None = None,
    wrt: str | tuple[str, ...] = "logits",
) -> tuple[Array, Array | tuple[Array, ...]]:
    r"""The sequence loss with its gradient, on every backend, NumPy too.
    """
    checks.flags(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    checks.loss_function(softmax_loss_function)
    checks.scope_name(name)
    names = checks.gradient_names(wrt)
    plan = reduction.plan(average_across_timesteps, average_across_batch, sum_over_timesteps, sum_over_batch)
    ranged = softmax_loss_function is None
    call = arguments.sequence(logits, targets, weights, check_labels=check_labels, ranged=ranged, wrt=names)
    backend = call.backend
    with nullcontext() if name is None else backend.scope(name):
        nll, pull = _token_losses(call, softmax_loss_function)
        loss = reduction.forward(backend, plan, nll, call.weights)
        upstream = arguments.cotangent(call, cotangent, loss)
        to_nll, to_weights = reduction.pullback(backend, plan, nll, call.weights, upstream)
        gradients = {}
        if "logits" in names:
            gradients["logits"] = call.guard(pull(to_nll))
        if "weights" in names:
            gradients["weights"] = call.guard(backend.astype(to_weights, call.weights_dtype))
        loss = call.guard(loss)
    return loss, gradients[wrt] if isinstance(wrt, str) else tuple(gradients[name] for name in names)


def _token_losses(call: arguments.Sequence, function: Callable[..., Any] | None) -> tuple[Array, Callable[[Array], Array]]:
    """The token losses and the map from their cotangent to that of the logits."""
    backend = call.backend
    if function is not None:
        differentiated = backend.vjp(lambda logits: custom_loss.token_losses(call, logits, function), call.logits)
        if differentiated is None:
            raise BackendError(
                "a softmax_loss_function on NumPy arrays has no gradient, because nothing can differentiate it; "
                "pass arrays of another framework, or call sequence_loss for the value"
            )
        return differentiated
    arrays = (call.logits, call.targets, call.skippable)
    statistics = backend.token_nll(*arrays)
    return statistics.nll, lambda cotangent: backend.token_nll_pullback(cotangent, *arrays, statistics)
