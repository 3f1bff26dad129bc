"""One call of a public function: its framework, its arrays, and what can only be compared when the graph runs.

Every function but the sequence loss, whose path is its own for speed, goes through the same steps: :meth:`Call.beside`
for each argument, the checks of ``shapes`` and ``dtypes`` on the facts, :meth:`Call.place`, then arithmetic, and
:meth:`Call.guard` on what is returned.
"""

from typing import Any

from seqloss.core import dispatch, dtypes, labels
from seqloss.core.protocol import Argument, Array, Backend


class Call:
    """The main argument decides the framework; the others are arrays of the same one, or host values."""

    def __init__(self, name: str, value: Any) -> None:
        self.main = dispatch.argument(name, value)
        self.backend: Backend = self.main.facts
        self._agree: Array | None = None

    def beside(self, name: str, value: Any) -> Argument:
        """Another argument. Nothing of it has been looked at but its framework, device, shape and dtype."""
        return dispatch.beside(self.main, name, value)

    def place(self, argument: Argument, dtype: str | None = None, rank: int | None = None) -> Array:
        """The array of an argument beside the main one, cast first (host values on the host), of a rank if given."""
        if dtype is not None and argument.dtype != dtype:
            with argument.facts.scope(None):  # what overflows is infinite, as it is beside any logits
                argument = argument.holding(argument.facts.astype(argument.value, dtype))
        array = self._shaped(argument)
        return self.backend.with_rank(array, rank) if rank is not None and argument.shape is None else array

    def place_labels(
        self, argument: Argument, classes: int | None, mend: str, weights: Argument | None = None
    ) -> Array:
        """Integer labels, read and checked where that costs no waiting: see :mod:`seqloss.core.labels`."""
        labels.check(argument, classes, weights, None, mend=mend, dtype=dtypes.compute_dtype(self.main.dtype))
        return self._shaped(labels.for_placing(argument, classes) if argument.is_host else argument)

    def _shaped(self, argument: Argument) -> Array:
        """The array of an argument, without the last axis if :meth:`Argument.shaped` has taken it off."""
        array = dispatch.place(self.backend, argument, self.main.value)
        own = self.backend.shape(array)
        if argument.shape is None or own is None or len(own) == len(argument.shape):
            return array
        sizes = self.backend.sizes(array)
        return self.backend.reshape(array, sizes[: len(argument.shape)])

    def compare(self, arrays: list[Array], message: str) -> list[Array]:
        """The arrays, compared when the graph runs: each must have the leading sizes of the first."""
        agree, arrays = self.backend.sizes_agree(arrays, message)
        self._note(agree)
        return arrays

    def compare_same(self, one: Array, other: Array, message: str) -> tuple[Array, Array]:
        """Two arrays that must have one shape."""
        one, other = self.compare([one, other], message)
        other, one = self.compare([other, one], message)
        return one, other

    def broadcast(self, x: Array, like: Array, message: str) -> Array:
        """``x`` in the shape of ``like``; see :func:`seqloss.core.shapes.broadcastable` for what is legal."""
        agree, x = self.backend.broadcast_like(x, like, message)
        if agree is not None:
            self._note(agree)
        return x

    def _note(self, agree: Array) -> None:
        self._agree = agree if self._agree is None else self._agree & agree

    def guard(self, x: Array) -> Array:
        """NaN where sizes turn out to differ, because compilers may drop the assertion that says so."""
        return x if self._agree is None else self.backend.nan_unless(self._agree, x)
