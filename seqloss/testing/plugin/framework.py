"""A framework under test, as a test sees it."""

from collections.abc import Callable, Sequence
from typing import Any

from seqloss.testing import frameworks

Array = Any

# The compiler that people train with, one for each framework that has one.
_COMPILERS: dict[str, Callable[[Any], Any]] = {
    "torch": lambda driver: driver.INDUCTOR["inductor"],
    "tensorflow": lambda driver: driver.MODES["xla"],
    "jax": lambda driver: driver.MODES["jit"],
}


class Framework:
    """A framework under test: what the fixture ``seqloss_backend`` gives.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"torch"``, ``"tensorflow"`` or ``"jax"``. The framework is imported.

    Attributes
    ----------
    name : str
        The same.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._driver = frameworks.load(name)

    def __repr__(self) -> str:
        return f"<seqloss_backend {self.name}>"

    def array(self, x: Array, dtype: str | None = None) -> Array:
        """An array of this framework from anything that NumPy makes an array of; in NumPy it is read-only."""
        return self._driver.array(x, dtype)

    def to_numpy(self, x: Array) -> Array:
        """The values of an array of this framework in NumPy: detached, and bfloat16 as float32."""
        return self._driver.to_numpy(x)

    def dtype(self, x: Array) -> str:
        """The name of the dtype of an array of this framework, as in ``"float32"``."""
        return str(self._driver.dtype(x))

    def is_array(self, x: Any) -> bool:
        """Whether something is an array of this framework."""
        return bool(self._driver.is_array(x))

    def run(
        self, mode: str, function: Callable[..., Array], arrays: Sequence[Array], wrt: Sequence[int], cotangent: Array
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """The value of a function and its gradients, run eagerly or compiled."""
        way = self._driver.MODES["eager"] if mode == "eager" else _COMPILERS[self.name](self._driver)
        value, gradients = way(function, tuple(wrt))(arrays, cotangent)
        return value, None if gradients is None else tuple(self._driver.dense(x) for x in gradients)
