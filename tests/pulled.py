"""Gradients on NumPy arrays: the pullbacks of whatever a public function handed to its kernel and its reduction."""

import contextlib
from unittest import mock

import numpy as np

from seqloss.backends import numpy as backend
from seqloss.losses import reduction


@contextlib.contextmanager
def recording():
    """The last operation that NumPy ran, and the last reduction with its result, while the body runs."""
    seen = {}

    def kept(name, function):
        def call(*arguments):
            result = function(*arguments)
            seen[name] = (arguments, result)
            return result

        return call

    with (
        mock.patch.object(backend, "run", kept("run", backend.run)),
        mock.patch.object(reduction, "forward", kept("reduction", reduction.forward)),
        # A kernel that knows that nobody asks for the gradient of the weights leaves out tokens that it needs.
        mock.patch.object(backend, "needs_grad", return_value=True),
    ):
        yield seen


def value_and_gradients(function, inputs, wrt, cotangent):
    """The value and its gradients to ``inputs[i]`` for i in wrt.

    Inputs are labels, logits and weights; or losses and weights, if no kernel is called. Derivatives of casts, of
    broadcasting and of moving the class axis to the end are made up for here.
    """
    with recording() as seen:
        value = function(*inputs)
    g = np.ones_like(value) if cotangent is None else cotangent
    to_weights = ()
    if "reduction" in seen:
        (_, plan, losses, weights), reduced = seen.pop("reduction")
        g, *to_weights, _ = reduction.pullback(backend, plan, losses, weights, reduced, g, True)
        g = np.broadcast_to(g, losses.shape)
    gradients = (*through_kernel(*seen["run"], g), *to_weights) if seen else (g, *to_weights)
    return value, [unspread(gradients[i], inputs[i]) for i in wrt]


def through_kernel(arguments, outputs, g):
    """The gradients to labels (None for class ids) and to logits."""
    op, arrays = arguments
    with np.errstate(all="ignore"):
        _, residuals = op.forward(*arrays)
        to_logits, to_labels, *_ = op.pullback(arrays, residuals, (g.reshape(outputs[0].shape),))
    return to_labels, to_logits


def unspread(gradient, x):
    """The gradient of an array that was broadcast, from that of the result; a last axis of size 1 may be missing."""
    extra = gradient.ndim - x.ndim
    gradient = gradient.sum(tuple(range(extra)) if extra > 0 else ())
    if extra < 0:
        gradient = gradient[..., None]
    spread = tuple(i for i, size in enumerate(x.shape) if size == 1 and gradient.ndim == x.ndim)
    return gradient.sum(spread, keepdims=True).astype(x.dtype)
