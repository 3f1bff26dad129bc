"""Weighted losses of any kind, and the keys of their reductions."""

from typing import Any, Final

from seqloss.core import dtypes, options
from seqloss.core.call import Call
from seqloss.core.types import ArrayLike, Main, ReductionKey
from seqloss.losses import weighting


class Reduction:
    """How weighted losses become one number.

    Each key is a string, the same as in TensorFlow. With losses l and weights w, broadcast to the losses, they mean:

    ===============================  =============================================================================
    ``NONE``                         ``w * l``, of the shape of the losses
    ``SUM``                          ``sum(w * l)``
    ``MEAN``                         ``sum(w * l) / sum(w)``
    ``SUM_OVER_BATCH_SIZE``          ``sum(w * l)`` divided by the number of losses, which is not the batch size
    ``SUM_BY_NONZERO_WEIGHTS``       ``sum(w * l)`` divided by the number of weights that are not 0
    ``SUM_OVER_NONZERO_WEIGHTS``     another name of the last one
    ===============================  =============================================================================

    A denominator of 0 gives 0.

    See Also
    --------
    compute_weighted_loss : Applies a reduction to losses of any kind.

    References
    ----------
    ``tf.losses.Reduction`` of TensorFlow 1.15.
    """

    NONE: Final = "none"
    SUM: Final = "weighted_sum"
    MEAN: Final = "weighted_mean"
    SUM_OVER_BATCH_SIZE: Final = "weighted_sum_over_batch_size"
    SUM_BY_NONZERO_WEIGHTS: Final = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS: Final = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[ReductionKey, ...]:
        """All keys, the last one under both of its names.

        Returns
        -------
        tuple of str
            The six values of the attributes.
        """
        return (
            *(cls.NONE, cls.SUM, cls.MEAN, cls.SUM_OVER_BATCH_SIZE),
            *(cls.SUM_OVER_NONZERO_WEIGHTS, cls.SUM_BY_NONZERO_WEIGHTS),
        )

    @classmethod
    def validate(cls, key: Any) -> None:
        """Raise an error unless this is a key.

        Parameters
        ----------
        key : str
            A key.

        Raises
        ------
        OptionError
            If it is not a key.
        """
        options.reduction_key(key)


def compute_weighted_loss(
    losses: Main,
    weights: ArrayLike = 1.0,
    scope: str | None = None,
    loss_collection: Any = "losses",
    reduction: ReductionKey = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Main:
    """A weighted reduction of losses of any kind.

    With losses l and weights w, broadcast to them, and the default reduction the result is ::

        sum(w * l) / count(w != 0)

    A loss of weight 0 is removed exactly, even if it is NaN or infinite.

    Parameters
    ----------
    losses : array of shape [...]
        The losses, bfloat16, float16, float32 or float64. Their framework is that of the call and of the result.
    weights : array or number, default 1.0
        The weight of each loss: a scalar, or an array of as many axes as the losses, [...], in which any size may be
        1. Any float, integer or bool dtype, any sign. What is smaller in magnitude than ``2**-126`` is 0.
    scope : str, optional
        The name of these operations in the framework's profiler or graph viewer.
    loss_collection : object
        Ignored: there are no global collections. Collect losses in a list of your own, as in ``losses.append(loss)``.
    reduction : str, default ``Reduction.SUM_BY_NONZERO_WEIGHTS``
        A key of :class:`Reduction`.

    Returns
    -------
    array
        The loss, in the unit of the losses: a scalar, or with ``Reduction.NONE`` an array of the shape of the losses;
        float64 for float64 losses, else float32.

    Raises
    ------
    ShapeError
        If the losses are a ragged list, or weights cannot be broadcast to the losses.
    DTypeError
        If losses are not floats, or weights not numbers.
    ArgumentTypeError
        If an array is None or no dense array, or scope is not a string.
    OptionError
        If reduction is not a key of :class:`Reduction`.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    Reduction : The reductions and their keys.
    sequence_loss : Reductions along single axes.

    Notes
    -----
    The gradient flows to losses and weights, in their dtypes; the weights change the denominator of ``Reduction.MEAN``
    only. Where a denominator is 0, all gradients are 0.

    Under tracing all checks of structure run and raise the same errors. Sizes, and ranks, that are unknown in a
    TensorFlow graph are compared when it runs.

    References
    ----------
    ``tf.losses.compute_weighted_loss`` of TensorFlow 1.15.

    Examples
    --------
    >>> import seqloss
    >>> losses = [[1.0, 2.0], [3.0, float("nan")]]
    >>> weights = [[1.0, 1.0], [2.0, 0.0]]
    >>> print(seqloss.compute_weighted_loss(losses, weights))  # (1 + 2 + 2 * 3) / 3
    3.0
    >>> print(seqloss.compute_weighted_loss(losses, weights, reduction=seqloss.Reduction.MEAN))
    2.25

    Losses of several terms are kept in a list, and added up by hand:

    >>> total = [seqloss.compute_weighted_loss([1.0, 3.0]), seqloss.compute_weighted_loss([4.0])]
    >>> print(sum(total))
    6.0
    """
    options.reduction_key(reduction)
    options.scope_name("scope", scope)
    call = Call("losses", losses)
    dtypes.float_dtype("losses", call.main.dtype)
    weights = weighting.check(weighting.argument(call, "weights", weights), call.main.shape, "losses")
    with call.backend.scope(scope):
        values = call.place(call.main, dtypes.compute_dtype(call.main.dtype))
        return call.guard(weighting.reduced(call, values, weights, reduction))
