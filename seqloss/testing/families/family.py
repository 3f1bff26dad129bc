"""One row of the table of families."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seqloss.testing.families.reference import Expected

Array = Any


class Family(NamedTuple):
    """A public function with arguments to try it on in every backend, mode and dtype.

    ``call`` takes the arrays alone, so that a framework can compile and differentiate it. It goes with arrays of any
    sizes, and of lists of any length; a number that the function is told beside them is a keyword of ``call``.
    """

    name: str
    function: str
    """The public function, as it is reached from ``seqloss``."""
    arguments: tuple[str, ...]
    """The name of each array. What is passed as a list has one name for all of its arrays."""
    build: Callable[[np.random.Generator], list[Array]]
    """The arrays; those in float64 are cast to the dtype under test, the others are passed as they are."""
    call: Callable[..., Any]
    expected: Callable[..., Expected]
    """``expected(*arrays, cotangent=)`` on the arrays as the framework holds them; a cotangent of None is ones."""
    wrt: tuple[int, ...] = (0,)
    """The arguments to differentiate."""
    result: str | None = None
    """The dtype of the result; None is that which is computed in, "own" that of the array under test."""
    refusals: dict[str, tuple[str, str]] = {}  # noqa: RUF012  # a table of constants, never written into
    """Modes in which the call must raise: the name of the error, and a part of its text which says why."""

    def arrays(self) -> list[Array]:
        return self.build(np.random.default_rng(0))
