"""Conversion between the NumPy arrays of an invariant and the arrays that a loss takes by its conventions."""

from typing import Any

import numpy as np

from seqloss.testing.check.conventions import Conventions
from seqloss.testing.invariants import Answer, NotApplicable
from seqloss.testing.invariants.batches import LACKING, fitting

Array = Any


class Arrays:
    """Arrays of a framework in the layout and the dtype of a loss, and back."""

    def __init__(self, conventions: Conventions, driver: Any, dtype: str) -> None:
        self.conventions, self.driver, self.dtype = conventions, driver, dtype

    def given(self, logits: Array, targets: Array, weights: Array) -> list[Any]:
        """The arguments of the loss: logits, targets, and weights or what replaces them.

        The last add up to the number that a sum is divided by, in each of their forms, even lengths.
        """
        conventions, driver = self.conventions, self.driver
        label, counting = conventions.ignore_label, weights != 0
        if not np.array_equal(weights, fitting(weights, conventions.weights)):
            raise NotApplicable(f"the loss takes {LACKING[conventions.weights]}")
        if label is not None:
            if np.any(targets[counting] == label):
                raise NotApplicable(f"a token of the label {label} does not count")
            targets = np.where(counting, targets, label).astype(targets.dtype)
        if conventions.third == "lengths":
            third = driver.array(counting.sum(1).astype(np.int32))
        else:
            third = self.laid_out(counting if conventions.third == "mask" else weights)
            third = driver.array(third, self.dtype if third.dtype.kind == "f" else None)
        arrays = [driver.array(self.laid_out(logits), self.dtype), driver.array(self.laid_out(targets)), third]
        return arrays if driver.writable is None else [driver.writable(x) for x in arrays]

    def laid_out(self, x: Array) -> Array:
        """In the layout of the loss."""
        if self.conventions.layout == "packed":
            return x.reshape(-1, *x.shape[2:])
        return np.swapaxes(x, 0, 1) if self.conventions.layout == "time" else x

    def batch_major(self, x: Array, batch: tuple[int, ...]) -> Array:
        """In the layout of a batch again, of which ``batch`` are the sizes of the first two axes."""
        if self.conventions.layout == "packed" and x.ndim:
            return x.reshape(*batch, *x.shape[1:])
        return np.swapaxes(x, 0, 1) if self.conventions.layout == "time" and x.ndim > 1 else x

    def answer(self, value: Any, gradient: Any, batch: tuple[int, ...]) -> Answer:
        """What the loss said, in NumPy's arrays."""
        driver = self.driver
        gradient = driver.dense(gradient)
        # A function that returns its gradient may compute a Python number.
        value = np.float64(value) if isinstance(value, (int, float)) else value
        number = isinstance(value, np.float64)
        value_array, gradient_array = value if number else driver.to_numpy(value), driver.to_numpy(gradient)
        return Answer(
            self.batch_major(value_array, batch),
            self.batch_major(gradient_array, batch),
            "float64" if number else driver.dtype(value),
            driver.dtype(gradient),
        )
