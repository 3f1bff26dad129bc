"""From a loss of a framework to the subject of invariants: NumPy arrays go in and come out."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.averages import Averages, objective
from seqloss.testing.check.layers import Layers
from seqloss.testing.invariants import Answer, Loss, NotApplicable, Subject

Array = Any
Run = Callable[[list[Any]], tuple[Any, Any]]
Context = Callable[[], AbstractContextManager[Any]]


def subject(adapted: Adapted, modes: tuple[str, ...] = ()) -> Subject:
    """What the invariants are asked of."""
    return _Parts(adapted).subject(modes)


class _Parts:
    """The parts of a subject, each a function of NumPy arrays."""

    def __init__(self, adapted: Adapted) -> None:
        self.adapted, self.driver, self.arrays = adapted, adapted.driver, adapted.arrays
        self.averages = Averages(adapted.conventions)

    def subject(self, modes: tuple[str, ...]) -> Subject:
        adapted, driver, conventions = self.adapted, self.driver, self.adapted.conventions
        recorded = not adapted.returned
        has_weights = conventions.third == "weights" and conventions.weight_gradient
        layers = Layers(adapted) if conventions.layer else None
        return Subject(
            self.asked(adapted.eager) if driver.writable is None else self.watched,
            upstream=self.upstream if recorded else None,
            modes={mode: self.unless_missing(self.asked(adapted.in_mode(mode)), mode) for mode in modes},
            layouts={name: self.asked(self.changed(change).eager) for name, change in driver.LAYOUTS.items()},
            surroundings={name: self.asked(adapted.eager, within) for name, within in driver.SURROUNDINGS.items()},
            unrecorded={name: self.value(within) for name, within in driver.UNRECORDED.items() if recorded},
            second=self.second if recorded and driver.hessian_product is not None else None,
            dweights=self.dweights if recorded and has_weights else None,
            pullback=self.pullback if recorded and driver.pullback is not None else None,
            vmapped=self.vmapped if recorded and driver.mapped is not None else None,
            cast=lambda dtype: subject(adapted.but(dtype=dtype)),
            dtypes=tuple(dtype for dtype in driver.DTYPES if dtype != "float32"),
            scalar=conventions.returns != "tokens",
            weights=conventions.weights,
            ignore_label=conventions.ignore_label,
            quick=None if driver.QUICK is None else self.asked(driver.COMPILERS[driver.QUICK](adapted.eager)),
            objective=objective(conventions),
            linear=None if layers is None else layers.linear(),
            linear_modes={
                mode: self.unless_missing(ask, mode) for mode, ask in (layers.modes(modes) if layers else {}).items()
            },
        )

    # --- value and gradient

    def asked(self, run: Run, within: Context = nullcontext) -> Loss:
        """The loss, run in this way."""
        wide = self.adapted.dtype == "float64"

        def loss(logits: Array, targets: Array, weights: Array) -> Answer:
            with np.errstate(all="ignore"), self.driver.precision("float64") if wide else nullcontext(), within():
                answer = self.arrays.answer(*run(self.arrays.given(logits, targets, weights)), weights.shape)
                answer = self.divided(answer, weights) if self.adapted.returned else answer
            return self.over_weights(answer, targets, weights)

        return loss

    def over_weights(self, answer: Answer, targets: Array, weights: Array) -> Answer:
        """The mean over the weights, whatever the loss divides by."""
        ratio = self.averages.ratio(targets, weights)
        if ratio == 1:
            return answer
        value, dlogits = (np.asarray(x, np.float64) * ratio for x in (answer.value, answer.dlogits))
        return answer._replace(value=value, dlogits=dlogits)

    def watched(self, logits: Array, targets: Array, weights: Array) -> Answer:
        """Eagerly; what the loss writes into its arrays is written into these."""
        snapshots: list[tuple[Any, Array]] = []

        def watch(arrays: Any) -> None:
            snapshots.extend((x, np.array(self.driver.to_numpy(x))) for x in arrays)

        answer: Answer = self.asked(lambda arrays: self.adapted.eager(arrays, watch))(logits, targets, weights)
        for given, (array, before) in zip((logits, targets, weights), snapshots, strict=False):
            after = self.driver.to_numpy(array)
            if after.tobytes() != before.tobytes():
                # Lengths have another shape than the weights in whose place they are.
                given[...] = self.arrays.batch_major(after, weights.shape) if after.size == given.size else np.nan
        return answer

    def changed(self, change: Callable[[Any], Any]) -> Adapted:
        """The same loss, of arrays that are changed before it gets them."""

        def loss(*arrays: Any, **named: Any) -> Any:
            return self.adapted.loss(*map(change, arrays), **{name: change(x) for name, x in named.items()})

        return self.adapted.but(loss)

    def unless_missing(self, loss: Any, mode: str) -> Any:
        """Not applicable where the compiler itself does not work on this machine."""
        if mode not in self.driver.COMPILERS:
            return loss

        def asked(*arrays: Any) -> Any:
            try:
                return loss(*arrays)
            except Exception:
                try:
                    self.driver.COMPILERS[mode](lambda x: x * x)(self.driver.array(np.ones(2, np.float32)))
                except Exception as missing:  # whatever a machine without a compiler raises
                    reason = f"{mode} does not work on this machine: {type(missing).__name__}: {missing}"
                    raise NotApplicable(reason.partition("\n")[0]) from missing
                raise

        return asked

    def divided(self, answer: Answer, weights: Array) -> Answer:
        """The mean, from a loss that returns its gradient."""
        conventions = self.adapted.conventions
        if conventions.returns == "mean":
            return answer
        value, dlogits, weights = (np.asarray(x, np.float64) for x in (answer.value, answer.dlogits, weights))
        if conventions.returns == "tokens":
            scale = np.ones_like(weights) if conventions.takes_weights else weights
            value, dlogits = (value * scale).sum(), dlogits * scale[..., None]
        count = weights.sum()
        return answer._replace(
            value=np.where(count == 0, 0, value / (count or 1)), dlogits=np.where(count == 0, 0, dlogits / (count or 1))
        )

    # --- what frameworks have beside them

    def upstream(self, logits: Array, targets: Array, weights: Array, cotangent: Array) -> Answer:
        driver, given, weighted = self.driver, self.arrays.given(logits, targets, weights), self.adapted.weighted
        dtype = driver.dtype(weighted(*given))
        upstream = driver.array(self.arrays.laid_out(cotangent) if cotangent.ndim else cotangent, dtype)
        value, gradients = driver.MODES["eager"](weighted, (0,))(given, upstream)
        return self.over_weights(self.arrays.answer(value, gradients[0], weights.shape), targets, weights)

    def second(self, logits: Array, targets: Array, weights: Array, direction: Array) -> Array:
        driver, given = self.driver, self.arrays.given(logits, targets, weights)
        along = driver.array(self.arrays.laid_out(direction), self.adapted.dtype)

        def half_square(*arrays: Any) -> Any:
            value = self.adapted.mean(*arrays)
            return value * value / 2

        product = driver.hessian_product(half_square, given, along)
        # Of the square of a loss, which has the ratio twice.
        ratio = self.averages.ratio(targets, weights) ** 2
        return None if product is None else self.numbers(product, weights) * ratio

    def dweights(self, logits: Array, targets: Array, weights: Array) -> Array:
        value, gradients = self.driver.MODES["eager"](self.adapted.mean, (2,))(
            self.arrays.given(logits, targets, weights), None
        )
        gradient, number = self.numbers(gradients[0], weights), float(self.driver.to_numpy(value))
        return self.averages.weight_gradient(gradient, number, targets, weights)

    def pullback(self, logits: Array, targets: Array, weights: Array) -> Callable[[], Array]:
        backward = self.driver.pullback(self.adapted.mean, self.arrays.given(logits, targets, weights))
        return lambda: self.numbers(backward(), weights) * self.averages.ratio(targets, weights)

    def vmapped(self, logits: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        batches = [self.arrays.given(*batch) for batch in zip(logits, targets, weights, strict=True)]
        values, slopes = self.driver.mapped(self.adapted.mean, batches)
        ratios = [self.averages.ratio(*pair) for pair in zip(targets, weights, strict=True)]
        slopes = [self.numbers(slope, weights[0]) * ratio for slope, ratio in zip(slopes, ratios, strict=True)]
        return self.driver.to_numpy(values) * np.asarray(ratios), slopes

    def value(self, within: Context) -> Callable[[Array, Array, Array], Array]:
        """The value alone, where no gradient is recorded."""

        def value(logits: Array, targets: Array, weights: Array) -> Array:
            given = self.arrays.given(logits, targets, weights)
            with np.errstate(all="ignore"), within():
                return self.driver.to_numpy(self.adapted.mean(*given)) * self.averages.ratio(targets, weights)

        return value

    def numbers(self, gradient: Any, weights: Array) -> Array:
        """A gradient in the layout of the batch."""
        return self.arrays.batch_major(self.driver.to_numpy(self.driver.dense(gradient)), weights.shape)
