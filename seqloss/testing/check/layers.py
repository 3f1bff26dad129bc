"""A loss that makes the logits itself, as its invariants ask it: arrays of NumPy go in and come out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.averages import Averages
from seqloss.testing.invariants import Layer, LayerAnswer, Linear, NotApplicable

Array = Any
HIDDEN, KERNEL, BIAS = 0, 3, 4
"""Their places, behind hidden, targets and weights."""


class Layers:
    """The parts of a subject that have a kernel."""

    def __init__(self, adapted: Adapted) -> None:
        self.adapted, self.driver, self.arrays = adapted, adapted.driver, adapted.arrays
        conventions = adapted.conventions
        self.has_bias, self.turned = "bias" in conventions.layer, "embedding" in conventions.layer
        self.wrt = (HIDDEN, KERNEL, BIAS) if self.has_bias else (HIDDEN, KERNEL)
        self.averages = Averages(conventions)

    def linear(self) -> Linear:
        upstream = None if self.adapted.returned else self.upstream
        return Linear(self.ask, upstream, self.tied, self.has_bias, self.turned)

    def modes(self, names: tuple[str, ...]) -> dict[str, Callable[..., LayerAnswer]]:
        return {name: self._in_mode(name) for name in names}

    # --- how it is asked

    def ask(self, layer: Layer) -> LayerAnswer:
        if self.adapted.returned:
            with np.errstate(all="ignore"):
                return self._over_tokens(self._answer(layer, self.adapted.called(*self._given(layer))), layer)
        return self._asked(self.driver.MODES["eager"](self.adapted.mean, self.wrt), layer)

    def upstream(self, layer: Layer, cotangent: Array) -> LayerAnswer:
        weighted, given = self.adapted.weighted, self._given(layer)
        upstream = self.arrays.laid_out(cotangent) if cotangent.ndim else cotangent
        upstream = self.driver.array(upstream, self.driver.dtype(weighted(*given)))
        return self._asked(self.driver.MODES["eager"](weighted, self.wrt), layer, upstream)

    def tied(self, x: Array, targets: Array, weights: Array) -> Array:
        """The gradient of an array that is both hidden and the kernel."""
        ratio = self.averages.ratio(targets, weights)
        both, *others = self.arrays.given(x[None], targets, weights)
        bias = [self.driver.array(np.zeros(len(x)), self.adapted.dtype)] if self.has_bias else []
        flat = self.driver.array(x, self.adapted.dtype)
        if self.adapted.returned:
            value, (to_hidden, to_kernel, *_) = self.adapted.called(both, *others, both[0], *bias)
            layer = Layer(x[None], x, None, targets, weights)
            found = self._over_tokens(self._answer(layer, (value, (to_hidden, to_kernel)), turn=False), layer)
            return np.asarray(found.hidden[0], np.float64) + np.asarray(found.kernel, np.float64)

        def mean(kernel: Any) -> Any:
            # In the layout of the loss; that which is packed has the shape of the kernel.
            at = {"batch": (None,), "time": (slice(None), None), "packed": ()}[self.adapted.conventions.layout]
            return self.adapted.mean(kernel[at] if at else kernel, *others, kernel, *bias)

        _, (gradient,) = self.driver.MODES["eager"](mean, (0,))([flat], None)
        return np.asarray(self.driver.to_numpy(self.driver.dense(gradient)), np.float64) * ratio

    def _in_mode(self, name: str) -> Callable[[Layer], LayerAnswer]:
        adapted, driver = self.adapted, self.driver
        if adapted.returned:
            explicit = driver.COMPILERS[name](adapted.called)
            return lambda layer: self._over_tokens(self._answer(layer, explicit(*self._given(layer))), layer)
        if name in driver.COMPILERS:
            run = driver.MODES["eager"](driver.COMPILERS[name](adapted.mean), self.wrt)
        else:
            run = driver.MODES[name](adapted.mean, self.wrt)
        return lambda layer: self._asked(run, layer)

    def _asked(self, run: Any, layer: Layer, cotangent: Any = None) -> LayerAnswer:
        with np.errstate(all="ignore"):
            found = self._answer(layer, run(self._given(layer), cotangent))
        return self._times(found, self.averages.ratio(layer.targets, layer.weights))

    # --- arrays

    def _given(self, layer: Layer) -> list[Any]:
        kernel = layer.kernel.T if self.turned else layer.kernel
        more = [kernel] if layer.bias is None else [kernel, layer.bias]
        made = [self.driver.array(np.ascontiguousarray(x), self.adapted.dtype) for x in more]
        return [*self.arrays.given(layer.hidden, layer.targets, layer.weights), *made]

    def _answer(self, layer: Layer, said: Any, turn: bool = True) -> LayerAnswer:
        driver, batch = self.driver, layer.weights.shape
        value, (first, *others) = said
        answer = self.arrays.answer(value, first, batch)
        kernel, *bias = (driver.to_numpy(driver.dense(x)) for x in others)
        dtypes = answer.value_dtype, driver.dtype(others[0])
        kernel = kernel.T if self.turned and turn else kernel
        return LayerAnswer(answer.value, answer.dlogits, kernel, bias[0] if bias else None, *dtypes)

    def _over_tokens(self, found: LayerAnswer, layer: Layer) -> LayerAnswer:
        """The mean, from what a loss said that returns its gradients."""
        conventions, weights = self.adapted.conventions, layer.weights
        if conventions.returns == "mean":
            return self._times(found, self.averages.ratio(layer.targets, weights))
        if conventions.returns == "tokens":
            if not conventions.takes_weights and not np.all(weights == 1):
                raise NotApplicable("it returns the gradient of a kernel, and takes no weights")
            found = found._replace(value=np.asarray(found.value, np.float64).sum())
        return self._times(found, 1 / (float(weights.sum()) or 1.0))

    def _times(self, found: LayerAnswer, factor: float) -> LayerAnswer:
        if factor == 1:
            return found
        value, *gradients = [None if x is None else np.asarray(x, np.float64) * factor for x in found[:4]]
        hidden, kernel, bias = gradients
        return found._replace(value=value, hidden=hidden, kernel=kernel, bias=bias)
