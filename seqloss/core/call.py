"""One call of a public function: its framework, its arrays, and what can only be compared at run time.

Every function goes through the same steps: :meth:`Call.beside` for each argument, the checks of ``shapes`` and
``dtypes`` on the facts, :meth:`Call.place`, then arithmetic, and :meth:`Call.guard` on what is returned.
"""

from typing import Any

from seqloss.core import dispatch, dtypes, labels, shapes
from seqloss.core.argument import Argument
from seqloss.core.protocol import Array, Backend


class Call:
    """The main argument decides the framework; the others are arrays of the same one, or host values.

    With ``opens`` an argument may be ragged, and its values are taken.
    """

    def __init__(self, name: str, value: Any, opens: bool = False) -> None:
        self.main = dispatch.argument(name, value, opens)
        self.backend: Backend = self.main.facts
        self._sizes_match: Array | None = None

    def beside(self, name: str, value: Any, opens: bool = False) -> Argument:
        """Another argument. Nothing of it has been looked at but its framework, device, shape and dtype."""
        return dispatch.beside(self.main, name, value, opens)

    def place(self, argument: Argument, dtype: str | None = None, rank: int | None = None) -> Array:
        """The array of an argument beside the main one, cast first (host values on the host), of a rank if given."""
        if dtype is not None and argument.dtype != dtype:
            with argument.facts.scope(None):  # what overflows is infinite, as it is beside any logits
                argument = argument.holding(argument.facts.astype(argument.value, dtype))
        if argument.is_reshaped:
            return self._shaped(argument)
        array = self.backend.asarray(argument.value, like=self.main.value)
        return self.backend.with_rank(array, rank) if rank is not None and argument.shape is None else array

    def place_labels(
        self, argument: Argument, classes: int | None, mend: str, weights: Argument | None = None
    ) -> Array:
        """Integer labels, read and checked where that costs no waiting: see :mod:`seqloss.core.labels`."""
        labels.check(argument, classes, weights, None, mend=mend, dtype=dtypes.compute_dtype(self.main.dtype))
        return self._shaped(labels.for_placing(argument, classes) if argument.is_host else argument)

    def checked_labels(
        self,
        targets: Argument,
        weights: Argument | None,
        check_labels: bool | None,
        mask: str = "weights",
        dtype: str | None = None,
        out: labels.Out = labels.NONE_OUT,
        mend: str | None = None,
    ) -> Argument:
        """Labels beside logits [..., classes] that passed the check as far as they were read, ready to be placed."""
        classes = None if self.main.shape is None else self.main.shape[-1]
        labels.check(targets, classes, weights, check_labels, mask, mend, dtype, out=out)
        return labels.for_placing(targets, classes) if targets.is_host else targets

    def is_constant(self, argument: Argument, array: Array) -> bool:
        """Whether nobody can ask for the gradient of an argument, which was placed as this array."""
        return argument.is_host or argument.dtype not in dtypes.FLOATS or not self.backend.needs_grad(array)

    def _shaped(self, argument: Argument) -> Array:
        """The array of an argument, without the last axis if :meth:`Argument.shaped` has taken it off."""
        array = self.backend.asarray(argument.value, like=self.main.value)
        if not argument.is_reshaped or argument.shape is None or self.backend.shape(array) is None:
            return array
        sizes = self.backend.sizes(array)
        return self.backend.reshape(array, sizes[: len(argument.shape)])

    def compare(self, arrays: list[Array], message: str) -> list[Array]:
        """The arrays, compared at run time: each must have the leading sizes of the first."""
        sizes_match, arrays = self.backend.sizes_agree(arrays, message)
        self.require(sizes_match)
        return arrays

    def compare_same(self, one: Array, other: Array, message: str) -> tuple[Array, Array]:
        """Two arrays that must have one shape."""
        one, other = self.compare([one, other], message)
        other, one = self.compare([other, one], message)
        return one, other

    def broadcast(self, x: Array, like: Array, message: str) -> Array:
        """``x`` in the shape of ``like``; see :func:`seqloss.core.shapes.scalar_or_equal_rank` for what is legal."""
        sizes_match, x = self.backend.broadcast_like(x, like, message)
        if sizes_match is not None:
            self.require(sizes_match)
        return x

    def require(self, is_right: Array) -> None:
        """Make NaN of all that the call returns unless this bool scalar turns out to be True."""
        self._sizes_match = is_right if self._sizes_match is None else self._sizes_match & is_right

    def guard(self, x: Array) -> Array:
        """NaN where sizes turn out to differ, because XLA (TensorFlow 2.21) may drop the assertion that says so."""
        return x if self._sizes_match is None else self.backend.nan_unless(self._sizes_match, x)


def see_order(logits: Argument, labels: Argument, more: int = 1) -> None:
    """Check that the two are not swapped: other libraries, or old versions of one, have them in the other order.

    ``more`` is how many axes more logits have than labels.
    """
    if logits.dtype in dtypes.INTEGERS and labels.dtype in dtypes.FLOATS:
        shapes.swapped(logits.name, logits.shape, labels.name, labels.shape, more)
