"""The reductions add next to nothing to the error of the token losses.

With weights that are not negative nothing cancels in ``sum(w * nll) / sum(w)``. So the reduced loss is held against the
exactly weighted mean, computed in integers, of the token losses that the same framework has computed: what those are
off by is no matter here.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from test_stress_grid import COMPILED, runner

import seqloss
from seqloss.testing import cases, frameworks, tolerances

pytestmark = pytest.mark.few_where_compiled

ULPS = 2
# The axis along which each flag reduces; None stands for both.
AXES = {"average_both": None, "average_time": 1, "average_batch": 0, "sum_both": None, "sum_time": 1, "sum_batch": 0}
# 2**17 tokens: rounding after every addition would show.
LONG, TALL = (8, 16_384), (16_384, 8)
SHAPES = ((3, 5), LONG, TALL)
WEIGHTS = {
    "ones": lambda rng, shape: np.ones(shape),
    "uniform": lambda rng, shape: rng.uniform(0.1, 1.0, shape),
    "mask": lambda rng, shape: (rng.random(shape) < 0.5) * 1.0,
    "wide": lambda rng, shape: np.exp(rng.uniform(-9, 9, shape)),
}
# A choice: each is a compilation of its own.
COMPILED_ROWS = (("average_both", LONG), ("average_batch", TALL), ("sum_time", LONG))
UNIT = 2**160


def tokens(shape, dtype):
    """Logits of three classes, whose losses lie between 1e-9 and 30, and targets."""
    rng = np.random.default_rng(shape)
    logits = rng.normal(0, 2, (*shape, 3))
    logits[::3, ::5, 0] += rng.uniform(-20, 20, logits[::3, ::5, 0].shape)
    return logits.astype(dtype), np.zeros(shape, np.int64)


def make_weights(kind, shape, dtype):
    return WEIGHTS[kind](np.random.default_rng(1), shape).astype(dtype)


def integers(x):
    """Floats as integers in units of 2**-160."""
    mantissas, exponents = np.frexp(x.astype(np.float64).reshape(-1))
    exponents = exponents.astype(np.int64) + (160 - 53)
    assert (exponents[mantissas != 0] >= 0).all()
    whole = (mantissas * 2.0**53).astype(np.int64).astype(object)
    return (whole << np.maximum(exponents, 0).astype(object)).reshape(x.shape)


class Exact:
    """The reductions of these losses in fractions."""

    def __init__(self, losses, weights):
        self.counts, self.weights = (weights != 0).astype(object) * UNIT, integers(weights)
        self.products = integers(losses) * self.weights

    def mean(self, name):
        """A list in the order of the result; 0 where there is nothing to divide by."""
        products = np.sum(self.products, AXES[name])
        divisors = np.sum(self.counts if name.startswith("sum") else self.weights, AXES[name])
        pairs = zip(np.ravel(products), np.ravel(divisors), strict=True)
        return [Fraction(int(a), int(b) * UNIT) if b else Fraction(0) for a, b in pairs]


def distance(actual, exact, dtype):
    """In ULP of the exact value."""
    if exact == 0:
        return 0.0 if actual == 0 else math.inf
    return float(abs(Fraction(float(actual)) - exact) / Fraction(float(tolerances.unit(float(exact), dtype))))


def worst(loss, exact, name, dtype):
    means = exact.mean(name)
    assert loss.size == len(means)
    assert loss.dtype == dtype
    return max(distance(a, e, dtype) for a, e in zip(loss.reshape(-1), means, strict=True))


# Sums in float64 are the same code, whatever is added up.
ROWS = [(kind, "float32", shape) for shape in SHAPES for kind in WEIGHTS] + [
    ("wide", "float64", shape) for shape in (LONG, TALL)
]


@pytest.mark.parametrize("kind, dtype, shape", ROWS, ids=["-".join(map(str, (*row[:2], *row[2]))) for row in ROWS])
def test_all_flags(framework, kind, dtype, shape):
    weights = make_weights(kind, shape, dtype)
    with framework.precision(dtype):
        logits, targets, w = (framework.array(x) for x in (*tokens(shape, dtype), weights))
        exact = Exact(framework.to_numpy(seqloss.token_loss(logits, targets)), weights)
        reduced = {name: seqloss.sequence_loss(logits, targets, w, **cases.FLAGS[name]) for name in AXES}
    found = {name: worst(framework.to_numpy(loss), exact, name, dtype) for name, loss in reduced.items()}
    too_far = {name: round(ulps, 2) for name, ulps in found.items() if ulps > ULPS}
    assert not too_far


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        modes = [(name, COMPILED.get(name, "eager")) for name in names]
        rows = [(*mode, *row) for mode in modes for row in COMPILED_ROWS]
        metafunc.parametrize("name, mode, flags, shape", rows, ids=["-".join(row[:3]) for row in rows])


def test_given_losses_in_compiled_programs(name, mode, flags, shape):
    """The losses go in: computed inside, they could be others than those computed elsewhere."""
    dtype = "float32"
    driver, weights = frameworks.load(name), make_weights("wide", shape, dtype)
    logits, targets = (driver.array(x) for x in tokens(shape, dtype))
    losses = seqloss.token_loss(logits, targets)

    def reduced(losses):
        options = {**cases.FLAGS[flags], "softmax_loss_function": lambda labels, logits: logits[:, 0]}
        return seqloss.sequence_loss(losses[..., None], targets, driver.array(weights), **options)

    loss, _ = runner(driver, mode)(reduced, (0,))((losses,), None)
    ulps = worst(driver.to_numpy(loss), Exact(driver.to_numpy(losses), weights), flags, dtype)
    assert ulps <= ULPS


def test_the_mean_as_one_program(framework):
    """Kernel and reduction together. The token losses of another program differ from those inside by chance."""
    run = runner(framework, COMPILED.get(framework.name, "eager"))
    weights = make_weights("uniform", LONG, "float32")
    arrays = [framework.array(x) for x in (*tokens(LONG, "float32"), weights)]
    losses, _ = run(seqloss.token_loss, (0,))(arrays[:2], None)
    loss, _ = run(seqloss.sequence_loss, (0,))(arrays, None)
    exact = Exact(framework.to_numpy(losses), weights)
    ulps = worst(framework.to_numpy(loss), exact, "average_both", "float32")
    assert ulps <= ULPS


@pytest.mark.parametrize("name", ["average_both", "average_time"])
def test_a_plain_running_sum_fails(name):
    weights = make_weights("uniform", LONG, "float32")
    losses = np.random.default_rng(2).exponential(1.0, LONG).astype("float32")
    order = (-1,) if AXES[name] is None else LONG
    weighted, divisors = ((x.reshape(order)).cumsum(-1, dtype="float32")[..., -1] for x in (losses * weights, weights))
    assert worst(weighted / divisors, Exact(losses, weights), name, "float32") > ULPS


@pytest.mark.parametrize("name", AXES)
def test_the_exact_means(name):
    """The test of the test, against floats that hold everything exactly."""
    losses, weights = np.array([[1.5, 2.0, 4.0], [0.25, 8.0, 1.0]]), np.array([[1.0, 0.5, 0.0], [2.0, 4.0, 0.0]])
    count = weights.sum(AXES[name]) if name.startswith("average") else (weights != 0).sum(AXES[name])
    expected = np.ravel((losses * weights).sum(AXES[name]) / np.where(count == 0, 1, count))
    np.testing.assert_array_equal([float(x) for x in Exact(losses, weights).mean(name)], expected)
