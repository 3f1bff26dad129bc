"""The logits of the true classes and of the candidates, and the labels that go with them.

For the inputs x of an example, the rows W and the biases b of the classes, and the expected counts q::

    logit(class) = <x, W[class]> + b[class] - log(q[class])
    label        = 1 / num_true for a true class, 0 for a candidate

A candidate that is a true class of the example has the logit -inf where accidental hits are removed: it is left out of
the loss, and its gradient is 0, in every dtype and with any other logits.
"""

from seqloss.core.protocol import Array
from seqloss.losses import ops
from seqloss.losses.sampled import shards
from seqloss.losses.sampled.arguments import Problem

LEFT_OUT = -1e30
"""The logit of a candidate that is left out.

Its exponential is 0, like that of minus infinity, but a tool that looks for the first infinity in a program finds none
here. It is small enough to be multiplied by a cotangent without overflow.
"""


def logits_and_labels(problem: Problem) -> tuple[Array, Array]:
    """Both of shape [batch, num_true + num_sampled] and in the compute dtype, the true classes first."""
    backend, options = problem.call.backend, problem.options
    of_true, of_sampled = _logits(problem)
    if options.subtracts:
        true_counts, sampled_counts = problem.counts
        of_true = of_true - _log(problem, true_counts)
        of_sampled = of_sampled - backend.expand_dims(_log(problem, sampled_counts), axis=0)
    if options.removes_hits:
        of_sampled = backend.where(_hits(problem), LEFT_OUT, of_sampled)
    ones = backend.ones_like(of_true, dtype=problem.dtype)
    labels = [ones / options.num_true, backend.ones_like(of_sampled, dtype=problem.dtype) * 0.0]
    return backend.concat([of_true, of_sampled], axis=1), backend.concat(labels, axis=1)


def _logits(problem: Problem) -> tuple[Array, Array]:
    """<x, W> + b. One look-up for all ids, so that the gradient of the weights is put together once."""
    backend, x, options = problem.call.backend, problem.inputs, problem.options
    batch, dim = backend.sizes(x)
    count = batch * options.num_true
    ids = backend.concat([backend.reshape(problem.labels, (count,)), problem.sampled], axis=0)
    rows, biases = (
        shards.take(backend, parts, ids, problem.known, options.num_classes, options.strategy, problem.dtype)
        for parts in (problem.weights, problem.biases)
    )
    true_rows = backend.reshape(rows[:count, ...], (batch, options.num_true, dim))
    of_true = backend.sum(backend.expand_dims(x, axis=1) * true_rows, axis=(2,))
    of_true = of_true + backend.reshape(biases[:count, ...], (batch, options.num_true))
    return of_true, x @ backend.permute_dims(rows[count:, ...], (1, 0)) + backend.expand_dims(
        biases[count:, ...], axis=0
    )


def _log(problem: Problem, counts: Array) -> Array:
    """A count that is not positive makes the loss NaN; by itself 0 would make it infinite, or even 0."""
    backend = problem.call.backend
    return backend.log(backend.nan_unless(counts > 0, counts))


def _hits(problem: Problem) -> Array:
    """Where a candidate is a true class of the example: bool [batch, num_sampled].

    Of a candidate that was drawn more than once only the last one counts, as in TensorFlow.
    """
    backend, hits = problem.call.backend, None
    for column in range(problem.options.num_true):
        same = backend.equal(problem.labels[:, column : column + 1], backend.expand_dims(problem.sampled, axis=0))
        hits = same if hits is None else hits | same
    last = _last(problem)
    return hits if last is None else hits & last


def _last(problem: Problem) -> Array | None:
    """Which candidates are not drawn again later; None if all are different."""
    backend, sampled, count = problem.call.backend, problem.sampled, problem.options.num_sampled
    if problem.known is not None:
        import numpy as np

        ids = problem.known[1]
        _, first_from_behind = np.unique(ids[::-1], return_index=True)
        if len(first_from_behind) == count:
            return None
        last = np.zeros(count, bool)
        last[count - 1 - first_from_behind] = True
        return backend.asarray(last, like=problem.inputs)
    places = backend.arange(count, like=sampled)
    is_later = backend.expand_dims(places, axis=0) > backend.expand_dims(places, axis=1)
    again = backend.equal(backend.expand_dims(sampled, axis=0), backend.expand_dims(sampled, axis=1)) & is_later
    return backend.all(~again, axis=1)


def finished(problem: Problem, loss: Array) -> Array:
    """The loss with NaN for examples that are not good, and with a NaN gradient that flows only to their inputs."""
    call, good = problem.call, problem.good
    backend = call.backend
    if good is not None:
        # The result of the token kernel for a bad label, with the inputs as logits: it does not depend on the rows of
        # weights that replaced the missing ones.
        label = backend.astype(good, "int32") - 1
        loss = backend.where(good, loss, ops.token_losses(backend, problem.inputs, label, None))
    return call.guard(loss)
