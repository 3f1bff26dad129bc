"""The table of sequence-loss cases that every backend must pass in every mode and dtype.

A case is a name with a builder of its arrays, so that the table itself costs nothing. Arrays come as float64 and are
cast to the dtype under test before anything is computed from them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any

AVERAGE = {"average_across_timesteps": True, "average_across_batch": True}
PLAIN = {"average_across_timesteps": False, "average_across_batch": False}
FLAGS: dict[str, dict[str, bool]] = {
    "average_both": AVERAGE,
    "average_time": {**PLAIN, "average_across_timesteps": True},
    "average_batch": {**PLAIN, "average_across_batch": True},
    "sum_both": {**PLAIN, "sum_over_timesteps": True, "sum_over_batch": True},
    "sum_time": {**PLAIN, "sum_over_timesteps": True},
    "sum_batch": {**PLAIN, "sum_over_batch": True},
    "none": PLAIN,
}

TUTORIAL_WEIGHTS = [
    [1, 0, 1, 1, 1, 0, 0, 1, 1, 1],
    [1, 0, 0, 0, 0, 0, 0, 1, 1, 1],
    [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    [1, 0, 0, 1, 1, 1, 1, 0, 0, 0],
]


class Arrays(NamedTuple):
    """logits [batch, time, classes], targets and weights [batch, time]; weights None: a call without weights."""

    logits: Array
    targets: Array
    weights: Array | None


class Case(NamedTuple):
    """One row of the table.

    ``weights_dtype`` is None for weights in the dtype of the logits. ``check_labels`` goes to the call: a case with
    bad labels that count turns the check off, to see the NaN that tracing gives.
    """

    name: str
    build: Callable[[], Arrays]
    flags: dict[str, bool] = AVERAGE
    weights_dtype: str | None = None
    check_labels: bool | None = None

    @property
    def kind(self) -> str:
        """What a case is about: the first word of its name."""
        return self.name.partition("_")[0]


# The shape of a case that is not about shapes. One for all, since a shape of its own is a program of its own.
SHAPE = (4, 7, 11)


def draw(batch: int, time: int, classes: int, scale: float = 2.0, seed: int = 0) -> Arrays:
    """Ordinary arrays: normal logits, uniform targets, weights of 0.25 … 2 with every fifth token masked."""
    rng = np.random.default_rng([batch, time, classes, seed])
    logits = rng.normal(0, scale, (batch, time, classes))
    targets = rng.integers(0, classes, (batch, time))
    weights = rng.integers(1, 9, (batch, time)) / 4
    weights.reshape(-1)[2::5] = 0
    return Arrays(logits, targets, weights)


def _weighted(make: Callable[[Array], Array]) -> Callable[[], Arrays]:
    """Ordinary arrays with other weights, made from the ordinary ones."""

    def build() -> Arrays:
        arrays = draw(*SHAPE)
        return arrays._replace(weights=make(np.array(arrays.weights)))

    return build


def _edited(edit: Callable[[Array, Array, Array], None]) -> Callable[[], Arrays]:
    """Ordinary arrays after an edit in place."""

    def build() -> Arrays:
        arrays = draw(*SHAPE)
        edit(*arrays)
        return arrays

    return build


def _at(row: tuple[int, int], label: int, weight: float, **logits: float) -> Callable[[], Arrays]:
    """One token with a chosen label, weight and logits; ``all`` fills its row, ``zN`` sets class N."""

    def edit(z: Array, y: Array, w: Array) -> None:
        y[row], w[row] = label, weight
        for key, value in logits.items():
            if key == "all":
                z[row] = value
            else:
                z[row][int(key[1:])] = value

    return _edited(edit)


def _all_masked(z: Array, y: Array, w: Array) -> None:
    z[:], y[:], w[:] = NAN, -100, 0


def _confident() -> Arrays:
    """Margins of 20 … 60 in favour of the target, where lse - t is 0 and p - 1 is 0."""
    logits, targets, weights = draw(*SHAPE, scale=1.0)
    margins = np.linspace(20, 60, targets.size).reshape(targets.shape)
    np.put_along_axis(logits, targets[..., None], logits.max(-1, keepdims=True) + margins[..., None], -1)
    return Arrays(logits, targets, np.ones_like(weights))


def _many(batch: int, time: int) -> Callable[[], Arrays]:
    def build() -> Arrays:
        logits, targets, _ = draw(batch, time, 2, scale=1.0)
        return Arrays(logits, targets, np.ones((batch, time)))

    return build


def _row_masked(w: Array) -> Array:
    w[-1] = 0
    return w


def _column_masked(w: Array) -> Array:
    w[:, -1] = 0
    return w


def _cancelling(w: Array) -> Array:
    return np.where(np.arange(w.size).reshape(w.shape) % 2 == 0, 1.0, -1.0)


def _one(value: float) -> Callable[[Array], Array]:
    """The ordinary weights with another one at a place that counts."""

    def make(w: Array) -> Array:
        w[0, 0] = value
        return w

    return make


def _tiny(w: Array) -> Array:
    """Weights below 2**-126, hence 0 in float32, where a half dtype has them at all; in float64 2**-1030 is 0 too."""
    w[0] = 2.0**-1030
    w[1] = 2.0**-130
    return w


WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "ones": np.ones_like,
    "prefix_mask": lambda w: (np.arange(7) < np.array([7, 3, 1, 5])[:, None]) * 1.0,
    "zero_one": lambda w: (w > 0.9) * 1.0,
    "row_masked": _row_masked,
    "column_masked": _column_masked,
    "all_zero": np.zeros_like,
    "large": lambda w: w * 8,
    "negative": lambda w: -w,
    "mixed_signs": lambda w: w - 0.75,
    "cancelling": _cancelling,
    "one_nan": _one(np.nan),
    "one_inf": _one(np.inf),
    "flushed": _tiny,
    "minus_zero": lambda w: np.where(w == 0, -0.0, w),
}

NAN, INF = float("nan"), float("inf")

CASES: tuple[Case, ...] = (
    *(Case(f"flags_{name}", lambda: draw(*SHAPE), flags) for name, flags in FLAGS.items()),
    *(Case(f"weights_{name}", _weighted(make)) for name, make in WEIGHTS.items()),
    *(
        Case(f"weights_{name}_sum_time", _weighted(WEIGHTS[name]), FLAGS["sum_time"])
        for name in ("row_masked", "mixed_signs", "flushed")
    ),
    *(Case(f"weights_{name}_none", _weighted(WEIGHTS[name]), PLAIN) for name in ("mixed_signs", "one_inf", "flushed")),
    Case("weights_row_masked_average_time", _weighted(_row_masked), FLAGS["average_time"]),
    Case("weights_column_masked_average_batch", _weighted(_column_masked), FLAGS["average_batch"]),
    Case("weights_absent", lambda: draw(*SHAPE)._replace(weights=None)),
    Case("weights_absent_sum", lambda: draw(*SHAPE)._replace(weights=None), FLAGS["sum_time"]),
    Case("weights_bool", _weighted(lambda w: w > 0), FLAGS["average_time"], weights_dtype="bool"),
    Case("weights_int32", _weighted(lambda w: w * 4), weights_dtype="int32"),
    Case("weights_uint8", _weighted(lambda w: w * 4), FLAGS["sum_both"], weights_dtype="uint8"),
    Case("tutorial_5_10_2", lambda: draw(5, 10, 2)._replace(weights=np.array(TUTORIAL_WEIGHTS, float))),
    Case("tutorial_2_5_10", lambda: draw(2, 5, 10)._replace(weights=np.ones((2, 5)))),
    Case("vocabulary_3_6_10000", lambda: draw(3, 6, 10000)),
    Case("one_token_one_class", lambda: draw(1, 1, 1)),
    Case("one_class", lambda: draw(2, 3, 1)),
    Case("empty_batch", lambda: draw(0, 3, 5)),
    Case("empty_batch_average_batch", lambda: draw(0, 3, 5), FLAGS["average_batch"]),
    Case("empty_batch_average_time", lambda: draw(0, 3, 5), FLAGS["average_time"]),
    Case("empty_time", lambda: draw(2, 0, 5), FLAGS["sum_both"]),
    Case("empty_time_average_time", lambda: draw(2, 0, 5), FLAGS["average_time"]),
    Case("empty_time_none", lambda: draw(2, 0, 5), PLAIN),
    Case("confident", _confident, PLAIN),
    Case("confident_average", _confident),
    Case("wide_logits", lambda: draw(*SHAPE, scale=12.0), PLAIN),
    Case("equal_logits", _edited(lambda z, y, w: z.fill(0.5))),
    Case("tied_maximum", _at((0, 0), 1, 1.0, all=0, z1=3, z2=3), PLAIN),
    Case("many_tokens_1001", _many(7, 143), FLAGS["sum_both"]),
    Case("many_tokens_70000", _many(70, 1000)),
    Case("masked_nan_row", _at((0, 0), 1, 0.0, all=NAN)),
    Case("masked_nan_target_only", _at((0, 0), 1, 0.0, z1=NAN), PLAIN),
    Case("masked_inf", _at((0, 0), 1, 0.0, z2=INF), FLAGS["average_time"]),
    Case("masked_target_minus_inf", _at((0, 0), 1, 0.0, z1=-INF), FLAGS["sum_batch"]),
    Case("masked_row_minus_inf", _at((0, 0), 1, 0.0, all=-INF)),
    Case("masked_label_minus_100", _at((0, 0), -100, 0.0)),
    Case("masked_label_too_large", _at((0, 0), SHAPE[2], 0.0), FLAGS["average_batch"]),
    Case("masked_everywhere", _edited(_all_masked)),
    Case("counted_nan_row", _at((0, 0), 1, 1.0, all=NAN), PLAIN),
    Case("counted_nan_at_target", _at((0, 0), 1, 1.0, z1=NAN), FLAGS["average_time"]),
    Case("counted_nan_elsewhere", _at((0, 0), 1, 1.0, z3=NAN), PLAIN),
    Case("counted_inf", _at((0, 0), 1, 1.0, z2=INF), PLAIN),
    Case("counted_inf_at_target", _at((0, 0), 1, 1.0, z1=INF), PLAIN),
    Case("counted_minus_inf_elsewhere", _at((0, 0), 1, 1.0, z2=-INF)),
    Case("counted_target_minus_inf", _at((0, 0), 1, 1.0, z1=-INF), PLAIN),
    Case("counted_row_minus_inf", _at((0, 0), 1, 1.0, all=-INF), PLAIN),
    Case("counted_label_minus_1", _at((0, 0), -1, 1.0), PLAIN, check_labels=False),
    Case("counted_label_too_large", _at((0, 0), SHAPE[2], 1.0), FLAGS["average_time"], check_labels=False),
)
