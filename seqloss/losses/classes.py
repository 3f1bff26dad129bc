"""Numbers of classes, [classes]: class weights, and the prior of a smoothing."""

from typing import Any

from seqloss.core.contract import SMALLEST_ACTIVE
from seqloss.core.protocol import Array, Backend


def weights_and_prior(
    backend: Backend,
    logits: Array,
    class_weights: Array | None,
    prior: Array | None,
    exclude: tuple[int, ...],
    dtype: str,
    wide: str,
) -> tuple[Array | None, Array | None]:
    """Both cast to the dtype of the loss and then to that of a kernel, ``wide``; the prior without excluded classes."""
    if class_weights is None and prior is None and len(exclude) == 0:
        return None, None
    class_weights, prior = (None if x is None else _in_dtype(backend, x, dtype, wide) for x in (class_weights, prior))
    return class_weights, _without(backend, prior, logits, exclude, wide)


def times(backend: Backend, labels: Array, class_weights: Array) -> Array:
    """Soft labels [batch, time, classes], or their gradient, each times the weight of its class.

    0 where the weight is 0, whatever it multiplies; and where the weight is NaN but the class is not asked for.
    """
    row = backend.expand_dims(backend.expand_dims(class_weights, axis=0), axis=0)
    labels = backend.astype(labels, backend.dtype(class_weights))
    is_free = backend.equal(row, 0.0) | (backend.equal(labels, 0.0) & ~backend.isfinite(row))
    return backend.where(is_free, 0.0, labels * row)


def of_labels(backend: Backend, x: Array, logits: Array, targets: Array) -> Array:
    """The entry of ``x`` [classes] of each label: 1 where it is no class, since a 0 would hide its NaN loss."""
    index, legal = backend.indices(logits, targets)
    return backend.where(legal, backend.take(x, index), 1.0)


def _in_dtype(backend: Backend, x: Array, dtype: str, wide: str) -> Array:
    """Class weights or a prior in the dtype of a kernel: cast as weights are, and NaN where they are negative."""
    x = backend.astype(backend.stop_gradient(x), dtype)
    x = backend.where(abs(x) < SMALLEST_ACTIVE, 0.0, x)
    return backend.astype(backend.nan_unless(~(x < 0), x), wide)


def _without(backend: Backend, prior: Array | None, logits: Array, exclude: tuple[int, ...], dtype: str) -> Any:
    """A prior with 0 at excluded classes; None means ones."""
    if len(exclude) == 0:
        return prior
    numbers = backend.arange(backend.sizes(logits)[-1], like=logits)
    is_excluded = backend.equal(numbers, exclude[0])
    for i in exclude[1:]:
        is_excluded = is_excluded | backend.equal(numbers, i)
    ones = backend.ones_like(is_excluded, dtype=dtype) if prior is None else prior
    return backend.where(is_excluded, 0.0, ones)
