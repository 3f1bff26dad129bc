"""Loss and every gradient entry of single tokens against 60 digits, over all that logits can be.

A row of logits has many classes and few distinct values. So its exact sum takes one exponential of 60 digits for each
value, however many classes there are, and each of the classes can be judged. Rows differ in the spread of the logits,
in the margin of the target over the largest other, and in an offset that costs them their last digits (which is no
error of the loss: the logits are what they are after that).
"""

import functools
import itertools
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

import seqloss
from seqloss.testing import cases, frameworks, tolerances

pytestmark = [pytest.mark.few_where_compiled, pytest.mark.usefixtures("numpys_own_kernels")]

SCALES = (0.01, 1.0, 10.0, 50.0)
MARGINS = (-40.0, -20.5, -3.0, -0.25, 0.0, 0.25, 3.0, 9.0, 17.0, 25.0, 40.0, 60.0, 80.0)
OFFSETS = (0.0, -1e4, 1e8)
CLASSES = (2, 3, 17, 257, 4099, 131_072)
HALF_CLASSES = (17, 4099)
DISTINCT = 60
# Rows of the most classes are a choice, in which every scale, margin and offset occurs.
MANY_CLASSES, EVERY = 100_000, 5
LARGEST = {"float16": 65504.0, "bfloat16": 3e38, "float32": 3e38, "float64": 1e308}


class Grid(NamedTuple):
    """Distinct values [rows, values], the target last; which of them each class has [rows, classes]; targets [rows]."""

    values: Any
    place: Any
    targets: Any
    labels: list[str]

    @property
    def logits(self):
        return np.take_along_axis(self.values, self.place, -1)


class Exact(NamedTuple):
    """Loss [rows] and the gradient of each distinct value [rows, values], as unevaluated sums of two floats."""

    nll: tuple[Any, Any]
    slope: tuple[Any, Any]


def grid(classes, dtype):
    """Values in float64, not yet rounded to the dtype."""
    rng = np.random.default_rng(classes)
    rows = list(itertools.product(SCALES, MARGINS, (x for x in OFFSETS if abs(x) < LARGEST[dtype] / 2)))
    rows = rows[::EVERY] if classes > MANY_CLASSES else rows
    scales, margins, offsets = np.array(rows).T[..., None]
    others = rng.normal(0, scales, (len(rows), min(classes - 1, DISTINCT)))
    values = np.concatenate([others, others.max(-1, keepdims=True) + margins], -1) + offsets
    count = values.shape[-1] - 1
    places = np.concatenate([[count], np.arange(count), rng.integers(0, count, classes - 1 - count)])
    place = np.stack([rng.permutation(places) for _ in rows])
    labels = ["scale {:g}, margin {:g}, offset {:g}".format(*row) for row in rows]
    return Grid(values, place, (place == count).argmax(-1), labels)


@functools.cache
def exact(classes, dtype):
    """The grid in float32 or float64, which are NumPy's own, with what is to come out."""
    rows = grid(classes, dtype)
    rows = rows._replace(values=rows.values.astype(dtype))
    return rows, expected(rows)


def expected(rows):
    """The formulas as they stand in a textbook: 60 digits have some to lose."""
    count = rows.values.shape[-1]
    with mpmath.workdps(60):
        results = [token(row, np.bincount(place, minlength=count)) for row, place in zip(*rows[:2], strict=True)]
        return Exact(*(double_double(part) for part in zip(*results, strict=True)))


def token(values, counts):
    z = [mpmath.mpf(float(x)) for x in values]
    e = [mpmath.exp(x) for x in (v - max(z) for v in z)]
    total = mpmath.fsum(int(n) * x for n, x in zip(counts, e, strict=True))
    slope = [x / total for x in e]
    slope[-1] -= 1
    return mpmath.log(total) - (z[-1] - max(z)), slope


def double_double(numbers):
    numbers = np.array(numbers, object)
    high = numbers.astype(np.float64)
    return high, (numbers - high).astype(np.float64)


def worst(actual, expected, bound, dtype, place=None, missing=0.0):
    """For each row the largest distance as a fraction of what is allowed, and the same in ULP; NaN is infinitely far.

    ``missing`` is what the result may lack because summands were flushed to zero. Where ``place`` is given, ``actual``
    has a class axis and ``expected`` one of distinct values.
    """
    high, low = expected
    unit = tolerances.unit(high, dtype).astype(np.float64)
    smallest = tolerances.PRECISION[dtype].smallest_normal
    free = np.where(np.abs(high) < smallest, smallest, 0)
    allowed = np.maximum(bound * unit + missing, free)
    fractions, ulps = np.empty(len(actual)), np.empty(len(actual))
    for row in range(len(actual)):
        at = row if place is None else (row, place[row])
        error = np.abs((actual[row].astype(np.float64) - high[at]) - low[at])
        error = np.where(np.isnan(error), np.inf, error)
        fractions[row] = (error / allowed[at]).max()
        ulps[row] = np.where(error <= free[at], 0, error / unit[at]).max()
    return fractions, ulps


def flushed(rows, dtype):
    """The most that is lost when executors flush exponentials below the smallest normal number to zero."""
    smallest = tolerances.PRECISION[dtype].smallest_normal
    values = rows.values.astype(np.float64)
    gone = np.exp(values - values.max(-1, keepdims=True)) < smallest
    return np.take_along_axis(gone, rows.place, -1).sum(-1) * smallest


def judge(rows, exact, value, gradient, dtype):
    """(what, fractions, ulps, labels) of the loss, the gradient at the target and the gradient elsewhere."""
    bound, missing = tolerances.token_bound(rows.values), flushed(rows, dtype)
    high, low = exact.slope
    at_target = np.take_along_axis(gradient, rows.targets[:, None], -1)[:, 0]
    parts = {
        "loss": worst(value, exact.nll, bound, dtype, missing=missing),
        "gradient at the target": worst(at_target, (high[:, -1], low[:, -1]), bound, dtype, missing=missing),
        "gradient": worst(gradient, exact.slope, np.where(high < 0, np.inf, bound[:, None]), dtype, rows.place),
    }
    return [(name, *figures) for name, figures in parts.items()]


def check(rows, exact, value, gradient, dtype):
    for name, fractions, ulps in judge(rows, exact, value, gradient, dtype):
        row = fractions.argmax()
        assert fractions[row] <= 1, f"{name}: {ulps[row]:.1f} ULP at {rows.labels[row]}"


def loss_and_gradient(driver, run, logits, targets):
    """Both [rows], [rows, classes]. NumPy's gradient is the explicit one."""
    native = logits[None], driver.array(targets[None])
    value, gradients = run(seqloss.token_loss, (0,))(native, None)
    gradient = seqloss.sequence_loss_and_grad(*native, **cases.PLAIN)[1] if gradients is None else gradients[0]
    assert driver.dtype(value) == ("float64" if driver.dtype(logits) == "float64" else "float32")
    assert driver.dtype(gradient) == driver.dtype(logits)
    assert tuple(value.shape) == (1, len(targets)) and tuple(gradient.shape) == (1, *logits.shape)
    return driver.to_numpy(value)[0], driver.to_numpy(gradient)[0]


# How a program is compiled for speed, which takes up to ten seconds each time; NumPy has no such thing.
COMPILED = {"torch": "inductor", "tensorflow": "xla", "jax": "jit"}
COMPILED_ROWS = ((17, "float32"), (4099, "float64"), (131_072, "float32"))


def rows_of(name):
    """What is judged of a framework: (name, mode, classes, dtype)."""
    eager = [(name, "eager", classes, dtype) for classes in CLASSES for dtype in ("float32", "float64")]
    return eager + [(name, COMPILED[name], *row) for row in COMPILED_ROWS if name in COMPILED]


def half_rows_of(name):
    halves = [dtype for dtype in frameworks.load(name).DTYPES if dtype in ("float16", "bfloat16")]
    return [(name, half, classes) for half in halves for classes in HALF_CLASSES]


def runner(driver, mode):
    return {**driver.MODES, **getattr(driver, "INDUCTOR", {})}[mode]


def pytest_generate_tests(metafunc):
    names = metafunc.config.getoption("--backends").split(",")
    for fixture, parameters, table in (
        ("mode", "name, mode, classes, dtype", rows_of),
        ("half", "name, half, classes", half_rows_of),
    ):
        if fixture in metafunc.fixturenames:
            rows = [row for name in names for row in table(name)]
            metafunc.parametrize(parameters, rows, ids=["-".join(map(str, row)) for row in rows])


def test_loss_and_gradient(name, mode, classes, dtype):
    driver = frameworks.load(name)
    rows, results = exact(classes, dtype)
    with driver.precision(dtype):
        value, gradient = loss_and_gradient(driver, runner(driver, mode), driver.array(rows.logits), rows.targets)
    check(rows, results, value, gradient, dtype)


def test_half_precision(name, half, classes):
    """The loss as accurate as that of float32; of the gradient what float32 may give, rounded to the dtype."""
    driver = frameworks.load(name)
    rows = grid(classes, half)
    rounded = driver.to_numpy(driver.array(rows.values, half)).astype(np.float32)
    rows = rows._replace(values=rounded)
    results, bound = expected(rows), tolerances.token_bound(rows.values)
    value, gradient = loss_and_gradient(driver, driver.MODES["eager"], driver.array(rows.logits, half), rows.targets)
    fractions, ulps = worst(value, results.nll, bound, "float32", missing=flushed(rows, "float32"))
    assert fractions.max() <= 1, f"loss: {ulps.max():.1f} ULP at {rows.labels[fractions.argmax()]}"
    lowest, highest = acceptable(results.slope[0], bound, flushed(rows, "float32"), half)
    for row, place in enumerate(rows.place):
        low, high, got = lowest[row, place], highest[row, place], gradient[row].astype(np.float64)
        inside = (low <= got) & (got <= high)
        assert inside.all(), (rows.labels[row], got[~inside][0], low[~inside][0], high[~inside][0])


def acceptable(slope, bound, missing, half):
    """The numbers of the half dtype to which a float32 result within its bound is rounded, the least and the most."""
    margin = bound[:, None] * tolerances.unit(slope, "float32").astype(np.float64)
    margin[:, -1] += missing
    ends = [nearest(slope + sign * margin, half) for sign in (-1, 1)]
    precision = tolerances.PRECISION[half]
    if precision.flushed:
        slack = np.where(np.abs(slope) < precision.smallest_normal, precision.smallest_normal, 0)
        ends = [slope - np.maximum(slope - ends[0], slack), slope + np.maximum(ends[1] - slope, slack)]
    return ends


def nearest(x, dtype):
    """``x`` rounded to a dtype that NumPy may not have; to even where two are as near."""
    unit = tolerances.unit(x, dtype).astype(np.float64)
    return np.rint(x / unit) * unit


def plain_formulas(logits, targets):
    """The loss as ``logsumexp - logit`` and its gradient as ``softmax - onehot``, in the dtype of the logits."""
    at_target = targets[:, None]
    highest = logits.max(-1, keepdims=True)
    e = np.exp(logits - highest)
    total = e.sum(-1, keepdims=True)
    value = (highest + np.log(total) - np.take_along_axis(logits, at_target, -1))[:, 0]
    gradient = e / total
    np.put_along_axis(gradient, at_target, np.take_along_axis(gradient, at_target, -1) - 1, -1)
    return value, gradient


@pytest.mark.parametrize("classes", CLASSES[:-1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_plain_formulas_fail(dtype, classes):
    """They are far out of bounds, in the loss and at the target, so the tests above can fail."""
    rows, results = exact(classes, dtype)
    (_, loss, _), (_, target, _), (_, elsewhere, _) = judge(
        rows, results, *plain_formulas(rows.logits, rows.targets), dtype
    )
    assert loss.max() > 1e4 and target.max() > 1e4
    # Away from the target they are sound.
    assert elsewhere.max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_wrong_entry_is_found(dtype):
    """The float nearest to the truth passes; one entry among all, that is off by more than its bound, does not."""
    rows, results = exact(257, dtype)
    value = results.nll[0].astype(dtype)
    gradient = np.take_along_axis(results.slope[0], rows.place, -1).astype(dtype)
    check(rows, results, value, gradient, dtype)
    gradient[70, 200] *= 1 + 200 * np.finfo(dtype).eps
    with pytest.raises(AssertionError, match="gradient: "):
        check(rows, results, value, gradient, dtype)


def test_a_half_gradient_that_is_rounded_down_is_found():
    slope, bound, nothing = np.array([[0.1, -0.3]]), np.array([20.0]), np.zeros(1)
    lowest, highest = acceptable(slope, bound, nothing, "float16")
    np.testing.assert_array_equal(lowest, slope.astype(np.float16))
    np.testing.assert_array_equal(highest, slope.astype(np.float16))
    between = np.array([[1 + 2.0**-11, -1]])  # half way between two numbers: either is right
    lowest, highest = acceptable(between, bound, nothing, "float16")
    assert highest[0, 0] - lowest[0, 0] == 2.0**-10
