"""The class of sums of losses."""

import math
from typing import Any, NamedTuple

from seqloss.core import dispatch, options
from seqloss.core.errors import ArgumentTypeError, OptionError, UnreadableError
from seqloss.core.hints import shown
from seqloss.core.protocol import Array
from seqloss.losses import columns, totals


class LossSum(NamedTuple):
    """Totals of token losses that can be added up: what :func:`seqloss.loss_sum` returns.

    ``a + b`` is the sum over the tokens of both, and ``sum(...)`` adds up many. Totals are integers inside, so neither
    the order nor the grouping changes a bit of what the methods return, and no count of tokens is rounded.

    Parameters
    ----------
    limbs : array of int32 and of the shape [19, 2 or 3]
        The totals: the weighted losses, the weights, and with ``accuracy=True`` the weights of the tokens that are
        right. A column stands for ``sum(limbs[k] * 2**(16 * k - 112) for k in range(16))``; its last three entries
        count NaN, infinities and negative infinities.
    barrier : array of the shape []
        0, in the dtype of the results. It is there to refuse derivatives. It is NaN if sizes that are unknown in a
        TensorFlow graph have turned out to differ.

    See Also
    --------
    seqloss.loss_sum : The sum of a batch.

    Notes
    -----
    A sum is a named tuple of two arrays: a pytree of JAX and PyTorch and a nest of TensorFlow, in and out of compiled
    functions, scans and checkpoints. Both arrays may be added as they are, as ``jax.lax.psum``, ``jax.tree.map(jnp.add,
    a, b)`` and all-reduce do. Do so at most 2**14 times in a row; ``+`` carries, and has no such limit.

    The results have the dtype of the losses. They are the quotients of the exact totals, rounded once, and 0 where the
    denominator is 0: of no tokens the mean is 0, and the perplexity 1. A NaN or an infinity shows in all that it would
    be a part of.

    None of the results can be differentiated: a BackendError says so when a gradient reaches one.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> one = seqloss.loss_sum(np.zeros((1, 2, 4)), np.array([[0, 1]]), accuracy=True)
    >>> other = seqloss.loss_sum(np.zeros((1, 1, 2)), np.array([[1]]), accuracy=True)
    >>> total = sum([one, other])
    >>> print(total)
    LossSum(mean=1.15525, weight=3, accuracy=0.333333)
    >>> print(total.perplexity().round(4), total.bits_per_token().round(4))
    3.1748 1.6667
    """

    limbs: Array
    barrier: Array

    def __add__(self, other: Any) -> "LossSum":
        if isinstance(other, LossSum):
            return _added(self, other)
        if type(other) is int and other == 0:
            return self
        raise ArgumentTypeError(f"a LossSum can only be added to another LossSum or to 0, got {shown(other)}")

    def __radd__(self, other: Any) -> "LossSum":
        return self.__add__(other)

    def __mul__(self, other: Any) -> "LossSum":
        """Refused, because a tuple would be repeated."""
        raise ArgumentTypeError("a LossSum cannot be multiplied; it can only be added to another LossSum or to 0")

    def __rmul__(self, other: Any) -> "LossSum":
        return self.__mul__(other)

    def mean(self) -> Array:
        """The mean loss of a token: ``sum(weights * nll) / sum(weights)``.

        Returns
        -------
        array of shape []
            The mean, in nats.
        """
        return totals.quotient(totals.Totals(*self), columns.LOSSES)

    def bits_per_token(self) -> Array:
        """The mean in bits: ``mean / log(2)``.

        Returns
        -------
        array of shape []
            The mean, in bits.
        """
        mean = self.mean()
        backend = dispatch.argument("mean", mean).facts
        return backend.astype(mean / math.log(2), backend.dtype(mean))

    def perplexity(self) -> Array:
        """The exponential of the mean.

        Returns
        -------
        array of shape []
            The perplexity: 1 of no tokens, and infinite where that is too large.
        """
        mean = self.mean()
        backend = dispatch.argument("mean", mean).facts
        with backend.scope(None):
            return backend.exp(mean)

    def accuracy(self) -> Array:
        """The weights of the tokens that are right, divided by all weights.

        A token is right if its label has the largest logit, and no class before it has the same. One with a NaN among
        its logits is wrong.

        Returns
        -------
        array of shape []
            A number from 0 to 1, if no weight is negative.

        Raises
        ------
        OptionError
            If the sum was made without ``accuracy=True``.
        """
        if not _counts_right(self.limbs):
            raise OptionError("this LossSum has not counted the tokens that are right; pass accuracy=True to loss_sum")
        return totals.quotient(totals.Totals(*self), columns.RIGHT)

    def to_dict(self) -> dict[str, Any]:
        """The sum as lists of integers, of which JSON loses no digit; :meth:`from_dict` reads it in any framework.

        Equal totals give equal dicts, however they were added up.

        Returns
        -------
        dict of str to object
            The columns of the totals, and the dtype of the results.

        Raises
        ------
        UnreadableError
            If the sum is traced.
        """
        backend = dispatch.argument("limbs", self.limbs).facts
        if backend.location(self.limbs) == "traced":
            raise UnreadableError(
                "a LossSum that is traced or batched has no values yet; return it from the compiled function, and "
                "call to_dict outside"
            )
        host = dispatch.argument("limbs", backend.to_numpy(self.limbs))
        found = columns.settled(host.facts, host.value).tolist()
        if backend.to_numpy(self.barrier) != 0:  # what sizes that differ have made of it
            for column in found:
                column[columns.DIGITS] += 1
        return {"dtype": backend.dtype(self.barrier), **dict(zip(_NAMES, found, strict=False))}

    @classmethod
    def from_dict(cls, values: dict[str, Any], like: Array | None = None) -> "LossSum":
        """Restore a sum from the dict that :meth:`to_dict` returned.

        Parameters
        ----------
        values : dict
            The dict, from this or from another framework.
        like : array, optional
            An array with the framework and the device that the sum is to have. None: a sum of NumPy arrays, which can
            be added to one of any framework.

        Raises
        ------
        OptionError
            If the dict does not come from :meth:`to_dict`.
        """
        if not isinstance(values, dict) or any(name not in values for name in _NAMES[:2]):
            raise OptionError(f"values must be what LossSum.to_dict returned, got {values!r}")
        given, dtype = [values[name] for name in _NAMES if name in values], values.get("dtype")
        if dtype not in ("float32", "float64") or not all(map(columns.is_column, given)):
            raise OptionError(f"values must be what LossSum.to_dict returned, got {values!r}")
        return cls(*totals.placed([list(row) for row in zip(*given, strict=True)], dtype, like))

    @classmethod
    def empty(cls, like: Array | None = None, *, accuracy: bool = False) -> "LossSum":
        """The sum of no tokens: the initial value of a loop, such as ``jax.lax.scan``.

        Parameters
        ----------
        like : array, optional
            The logits, or another array of their framework and dtype. None: a sum of NumPy arrays for float32 losses.
        accuracy : bool, default False
            Whether the sums to be added have ``accuracy=True``.
        """
        dtype = None if like is None else dispatch.argument("like", like).dtype
        zeros = [[0] * (3 if options.flag("accuracy", accuracy) else 2)] * columns.SIZE
        return cls(*totals.placed(zeros, "float64" if dtype == "float64" else "float32", like))

    def __repr__(self) -> str:
        try:
            values = self.to_dict()
            numbers = {"mean": self.mean(), "weight": columns.number(values["weights"])}
            if _counts_right(self.limbs):
                numbers["accuracy"] = self.accuracy()
        except Exception:  # a tree of something else than arrays, as frameworks make them for a while
            return f"LossSum(limbs={self.limbs!r}, barrier={self.barrier!r})"
        return f"LossSum({', '.join(f'{name}={float(x):.6g}' for name, x in numbers.items())})"


_NAMES = ("losses", "weights", "right")
"""The columns, in a dict."""


def _added(one: LossSum, other: LossSum) -> LossSum:
    if _counts_right(one.limbs) is not _counts_right(other.limbs):
        raise OptionError(
            "a LossSum with accuracy=True cannot be added to one without; pass accuracy=True for both, or for neither"
        )
    return LossSum(*totals.added(totals.Totals(*one), totals.Totals(*other)))


def _counts_right(limbs: Array) -> bool:
    shape = dispatch.argument("limbs", limbs).shape
    return shape is not None and shape[1] == 3
