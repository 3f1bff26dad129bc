"""From a loss of a framework to the subject of invariants: NumPy arrays go in and come out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqloss.core.errors import OptionError
from seqloss.testing.check.answers import PlainCall
from seqloss.testing.check.conventions import ROLES, Conventions
from seqloss.testing.invariants import Answer, Loss, NotApplicable, Subject
from seqloss.testing.invariants.probe import draw

Array = Any
Run = Callable[..., tuple[Any, Any]]


class Adapted:
    """A loss, its conventions and the driver of its framework."""

    def __init__(self, loss: Callable[..., Any], conventions: Conventions, driver: Any, dtype: str = "float32") -> None:
        self.loss, self.conventions, self.driver, self.dtype = loss, conventions, driver, dtype
        self.returned = conventions.gradient == "returned"

    def subject(self, modes: tuple[str, ...]) -> Subject:
        """What the invariants are asked of."""
        differentiable = not self.returned
        half = tuple(dtype for dtype in ("float16", "bfloat16") if dtype in self.driver.DTYPES)
        return Subject(
            self._asked(self._eager) if self.driver.writable is None else self._watched,
            upstream=self._upstream if differentiable else None,
            modes={mode: self._asked(self._in_mode(mode), mode) for mode in modes},
            second=self._second if differentiable and self.driver.hessian_product is not None else None,
            cast=lambda dtype: Adapted(self.loss, self.conventions, self.driver, dtype).subject(()),
            dtypes=half,
            scalar=self.conventions.returns != "tokens",
            weights=self.conventions.weights,
            ignore_label=self.conventions.ignore_label,
            quick=self._quick(),
        )

    def try_out(self, name: str, shell: bool) -> None:
        """One plain call: a loss that is not called as the conventions say is no matter of invariants.

        ``shell``: errors speak of options of the command line.
        """
        batch = draw(np.random.default_rng(0))
        arrays = self._arrays(batch.logits, batch.targets, np.ones_like(batch.weights))
        call = PlainCall(name, self.loss, self.conventions, self.driver, arrays, shell)
        try:
            with np.errstate(all="ignore"):
                said = self.called(*arrays)
        except (Exception, SystemExit) as error:  # whatever a loss makes of arrays that it does not expect
            raise OptionError(call.failed(error)) from error
        call.check(said)

    # --- from NumPy to the framework and back

    def _arrays(self, logits: Array, targets: Array, weights: Array) -> list[Any]:
        """The arrays in the layout, the framework and the dtype of the loss."""
        kind, label = self.conventions.weights, self.conventions.ignore_label
        if kind == "ones" and not np.all(weights == 1):
            raise NotApplicable("the loss takes neither weights nor a label that leaves a token out")
        if kind == "binary" and not np.all((weights == 0) | (weights == 1)):
            raise NotApplicable("the loss takes no weights but 0 and 1")
        if label is not None:
            targets = np.where(weights == 0, label, targets)
        logits, targets, weights = map(self._laid_out, (logits, targets, weights))
        array, writable = self.driver.array, self.driver.writable
        arrays = [array(logits, self.dtype), array(targets), array(weights, self.dtype)]
        return arrays if writable is None else [writable(x) for x in arrays]

    def _laid_out(self, x: Array) -> Array:
        if self.conventions.layout == "packed":
            return x.reshape(-1, *x.shape[2:])
        return np.swapaxes(x, 0, 1) if self.conventions.layout == "time" else x

    def _batch_major(self, x: Array, batch: tuple[int, ...]) -> Array:
        """The layout of the arrays of a batch again, of which ``batch`` are the sizes of the first two axes."""
        if self.conventions.layout == "packed" and x.ndim:
            return x.reshape(*batch, *x.shape[1:])
        return np.swapaxes(x, 0, 1) if self.conventions.layout == "time" and x.ndim > 1 else x

    def _answer(self, value: Any, gradient: Any, batch: tuple[int, ...]) -> Answer:
        driver = self.driver
        gradient = driver.dense(gradient)
        # A function that returns its gradient may compute a Python number.
        value = np.float64(value) if isinstance(value, (int, float)) else value
        number = isinstance(value, np.float64)
        value_array, gradient_array = value if number else driver.to_numpy(value), driver.to_numpy(gradient)
        return Answer(
            self._batch_major(value_array, batch),
            self._batch_major(gradient_array, batch),
            "float64" if number else driver.dtype(value),
            driver.dtype(gradient),
        )

    # --- what the framework runs

    def called(self, *arrays: Any) -> Any:
        """What the loss returns for arrays of the framework."""
        given = dict(zip(ROLES, arrays, strict=True))
        spelled = self.conventions.spelled
        positional = [given[role] for keyword, role in spelled if not keyword]
        return self.loss(*positional, **{keyword: given[role] for keyword, role in spelled if keyword})

    def _weighted(self, *arrays: Any) -> Any:
        """The losses of the tokens times their weights; of a loss that is one number, the mean."""
        if self.conventions.returns != "tokens":
            return self._mean(*arrays)
        losses = self.called(*arrays)
        return losses if self.conventions.takes_weights else self.driver.weighted(losses, arrays[2])

    def _mean(self, *arrays: Any) -> Any:
        """The weighted mean, whatever the loss returns."""
        if self.conventions.returns == "mean":
            return self.called(*arrays)
        if self.conventions.returns == "sum":
            return self.driver.over(self.called(*arrays), arrays[2])
        return self.driver.over(self.driver.total(self._weighted(*arrays)), arrays[2])

    # --- the ways to run it: each from arrays to value and gradient

    def _eager(self, arrays: list[Any], watch: Callable[[Any], None] | None = None) -> tuple[Any, Any]:
        def mean(*leaves: Any) -> Any:
            # The framework may hand over others than it was given.
            if watch is not None:
                watch(leaves)
            return self._mean(*leaves)

        if self.returned:
            if watch is not None:
                watch(arrays)
            value, gradient = self.called(*arrays)
            return value, gradient
        value, gradients = self.driver.MODES["eager"](mean, (0,))(arrays, None)
        return value, gradients[0]

    def _watched(self, logits: Array, targets: Array, weights: Array) -> Answer:
        """Eagerly; what the loss writes into its arrays is written into these."""
        snapshots: list[tuple[Any, Array]] = []

        def watch(arrays: Any) -> None:
            snapshots.extend((x, np.array(self.driver.to_numpy(x))) for x in arrays)

        answer: Answer = self._asked(lambda arrays: self._eager(arrays, watch))(logits, targets, weights)
        for given, (array, before) in zip((logits, targets, weights), snapshots, strict=True):
            after = self.driver.to_numpy(array)
            if after.tobytes() != before.tobytes():
                given[...] = self._batch_major(after, weights.shape)
        return answer

    def _quick(self) -> Loss | None:
        quick = self.driver.QUICK
        return None if quick is None else self._asked(self.driver.COMPILERS[quick](self._eager))

    def _in_mode(self, mode: str) -> Run:
        """Another way to run it. What is compiled is kept: a second question of the same shape costs nothing."""
        driver = self.driver
        if mode not in driver.COMPILERS:
            run = driver.MODES[mode](self._mean, (0,))
            return lambda arrays: self._unpacked(run(arrays, None))
        if self.returned:
            explicit = driver.COMPILERS[mode](self.called)
            return lambda arrays: tuple(explicit(*arrays))
        compiled = driver.MODES["eager"](driver.COMPILERS[mode](self._mean), (0,))
        return lambda arrays: self._unpacked(compiled(arrays, None))

    def _unpacked(self, answer: tuple[Any, Any]) -> tuple[Any, Any]:
        value, (gradient,) = answer
        return value, gradient

    # --- the parts of a subject

    def _asked(self, run: Run, mode: str = "") -> Loss:
        def loss(logits: Array, targets: Array, weights: Array) -> Answer:
            with np.errstate(all="ignore"):
                arrays = self._arrays(logits, targets, weights)
                answer = self._answer(*run(arrays), weights.shape)
                return self._divided(answer, weights) if self.returned else answer

        return self._unless_missing(loss, mode) if mode else loss

    def _unless_missing(self, loss: Loss, mode: str) -> Loss:
        """Not applicable where the compiler itself does not work on this machine."""
        if mode not in self.driver.COMPILERS:
            return loss

        def asked(logits: Array, targets: Array, weights: Array) -> Any:
            try:
                return loss(logits, targets, weights)
            except Exception:
                try:
                    self.driver.COMPILERS[mode](lambda x: x * x)(self.driver.array(np.ones(2, np.float32)))
                except Exception as missing:  # whatever a machine without a compiler raises
                    reason = f"{mode} does not work on this machine: {type(missing).__name__}: {missing}"
                    raise NotApplicable(reason.partition("\n")[0]) from missing
                raise

        return asked

    def _divided(self, answer: Answer, weights: Array) -> Answer:
        """The mean, from what a loss said that returns its gradient."""
        if self.conventions.returns == "mean":
            return answer
        value, dlogits, weights = (np.asarray(x, np.float64) for x in (answer.value, answer.dlogits, weights))
        if self.conventions.returns == "tokens":
            scale = np.ones_like(weights) if self.conventions.takes_weights else weights
            value, dlogits = (value * scale).sum(), dlogits * scale[..., None]
        count = weights.sum()
        return answer._replace(
            value=np.where(count == 0, 0, value / (count or 1)), dlogits=np.where(count == 0, 0, dlogits / (count or 1))
        )

    def _upstream(self, logits: Array, targets: Array, weights: Array, cotangent: Array) -> Answer:
        driver, arrays = self.driver, self._arrays(logits, targets, weights)
        dtype = driver.dtype(self._weighted(*arrays))
        given = driver.array(self._laid_out(cotangent) if cotangent.ndim else cotangent, dtype)
        value, gradients = driver.MODES["eager"](self._weighted, (0,))(arrays, given)
        return self._answer(value, gradients[0], weights.shape)

    def _second(self, logits: Array, targets: Array, weights: Array, direction: Array) -> Array:
        driver, arrays = self.driver, self._arrays(logits, targets, weights)
        along = driver.array(self._laid_out(direction), self.dtype)

        def half_square(*arrays: Any) -> Any:
            value = self._mean(*arrays)
            return value * value / 2

        product = driver.hessian_product(half_square, arrays, along)
        return None if product is None else self._batch_major(driver.to_numpy(driver.dense(product)), weights.shape)
