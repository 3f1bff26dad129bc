"""A loss by its conventions: whatever it takes and returns, the weighted mean and the steps to it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.check.arrays import Arrays
from seqloss.testing.check.conventions import Conventions


class Adapted:
    """A loss, its conventions and the driver of its framework.

    Its functions take ``arrays.given(...)``, the arrays that the framework has. For a loss that makes the logits itself
    these are hidden, targets and weights, and a kernel and a bias may follow; without them the kernel is the identity,
    so that what is hidden are the logits.
    """

    def __init__(self, loss: Callable[..., Any], conventions: Conventions, driver: Any, dtype: str = "float32") -> None:
        self.loss, self.conventions, self.driver, self.dtype = loss, conventions, driver, dtype
        self.arrays = Arrays(conventions, driver, dtype)
        self.returned = conventions.gradient == "returned"

    def but(self, loss: Callable[..., Any] | None = None, dtype: str | None = None) -> "Adapted":
        """The same with another loss, or of another dtype."""
        return Adapted(loss or self.loss, self.conventions, self.driver, dtype or self.dtype)

    def called(self, *arrays: Any) -> Any:
        """What the loss returns."""
        given = {"logits": arrays[0], "targets": arrays[1], self.conventions.third: arrays[2]}
        if self.conventions.layer:
            given |= self._layer(*arrays[:1], *arrays[3:])
        spelled = self.conventions.spelled
        positional = [given[role] for keyword, role in spelled if not keyword]
        return self.loss(*positional, **{keyword: given[role] for keyword, role in spelled if keyword})

    def _layer(self, hidden: Any, kernel: Any = None, bias: Any = None) -> dict[str, Any]:
        kernel = self.driver.identity(hidden) if kernel is None else kernel
        given = {"hidden": hidden, **dict.fromkeys(("kernel", "embedding"), kernel)}
        return {**given, "bias": kernel[0] * 0 if bias is None else bias}

    def answered(self, *arrays: Any) -> tuple[Any, Any]:
        """What a loss returns that returns its gradient, with that of the logits alone."""
        value, gradient = self.called(*arrays)
        return value, gradient[0] if self.conventions.layer else gradient

    def weighted(self, *arrays: Any) -> Any:
        """The losses of the tokens times their weights; of a loss that is one number, the mean."""
        if self.conventions.returns != "tokens":
            return self.mean(*arrays)
        losses = self.called(*arrays)
        return losses if self.conventions.takes_weights else self.driver.weighted(losses, arrays[2])

    def mean(self, *arrays: Any) -> Any:
        """The weighted mean, whatever the loss returns."""
        returns, driver = self.conventions.returns, self.driver
        if returns == "mean":
            return self.called(*arrays)
        if returns == "sum_and_count":
            total, count = self.called(*arrays)
            return driver.over(total, count if driver.is_array(count) else driver.array(np.float32(count)))
        if returns == "sum":
            return driver.over(self.called(*arrays), arrays[2])
        return driver.over(driver.total(self.weighted(*arrays)), arrays[2])

    def eager(self, arrays: list[Any], watch: Callable[[Any], None] = lambda arrays: None) -> tuple[Any, Any]:
        """What the loss returns, and its gradient. ``watch`` is shown the arrays that it gets, which may be copies."""
        if self.returned:
            watch(arrays)
            return self.answered(*arrays)

        def mean(*leaves: Any) -> Any:
            watch(leaves)
            return self.mean(*leaves)

        value, (gradient,) = self.driver.MODES["eager"](mean, (0,))(arrays, None)
        return value, gradient

    def in_mode(self, mode: str) -> Callable[[list[Any]], tuple[Any, Any]]:
        """Another way to run it. What is compiled is kept: a second call with the same shape does not compile."""
        driver = self.driver
        if self.returned:
            explicit = driver.COMPILERS[mode](self.answered)
            return lambda arrays: tuple(explicit(*arrays))
        if mode in driver.COMPILERS:
            run = driver.MODES["eager"](driver.COMPILERS[mode](self.mean), (0,))
        else:
            run = driver.MODES[mode](self.mean, (0,))

        def asked(arrays: list[Any]) -> tuple[Any, Any]:
            value, (gradient,) = run(arrays, None)
            return value, gradient

        return asked
