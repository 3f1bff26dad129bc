"""The oracle against mpmath with 60 digits, and the arithmetic of the tolerances."""

import itertools

import mpmath
import numpy as np
import pytest

from seqloss.testing import cases, oracle, tolerances

NAN, INF = float("nan"), float("inf")

# Where long double is no wider than float64 the oracle is only as good as float64 makes it.
RELATIVE = max(1e-15, 1e3 * float(np.finfo(np.longdouble).eps))


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


# --- tokens --------------------------------------------------------------------------------------------------------


def exact_token(z, y):
    """nll and the gradient of one token, straight from the definition."""
    z = [mpmath.mpf(float(x)) for x in z]
    total = mpmath.fsum(mpmath.exp(x) for x in z)
    nll = mpmath.log(total) - z[y]
    return nll, [mpmath.exp(x) / total - (j == y) for j, x in enumerate(z)]


def mp(x):
    """A long double as a number of mpmath, exactly."""
    high = float(x)
    return mpmath.mpf(high) + mpmath.mpf(float(x - np.longdouble(high)))


def error(actual, exact):
    """The relative error, as a float."""
    return float(abs(mp(actual) - exact) / abs(exact)) if exact else float(abs(mp(actual)))


def stress(scale, margin, offset, classes):
    """One token; multiples of 2**-20 below 2**28, so that logits with their offset are exact in float64."""
    rng = np.random.default_rng([classes, int(scale * 100), int(margin + 100)])
    z = rng.normal(0, scale, classes)
    y = int(rng.integers(classes))
    z[y] = np.delete(z, y).max() + margin
    return np.round(z * 2**20) / 2**20 + offset, y


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("scale", [0.01, 0.5, 2.0, 10.0, 50.0])
def test_tokens(scale, classes):
    for margin, offset in itertools.product((-40, -3, -0.001, 0, 0.5, 17, 25, 60, 80), (0.0, -1e4, 1e8)):
        z, y = stress(scale, margin, offset, classes)
        nll, slope = oracle.tokens(z, np.array(y))
        exact_nll, exact_slope = exact_token(z, y)
        assert error(nll, exact_nll) <= RELATIVE, (margin, offset)
        assert max(map(error, slope, exact_slope)) <= RELATIVE, (margin, offset)


def test_tokens_of_every_dtype_are_widened():
    z, y = stress(2.0, 3.0, 0.0, 10)
    for dtype in ("float16", "float32", "float64"):
        nll, _ = oracle.tokens(z.astype(dtype), np.array(y, "uint8"))
        assert nll.dtype == np.longdouble
        assert error(nll, exact_token(z.astype(dtype), y)[0]) <= RELATIVE


@pytest.mark.parametrize(
    "logits, target, nll",
    [
        ([0, NAN, 0], 0, NAN),
        ([0, NAN, 0], 1, NAN),
        ([0, INF, 0], 0, NAN),
        ([0, INF, 0], 1, NAN),
        ([-INF, -INF, -INF], 1, NAN),
        ([0, -INF, 0], 1, INF),
        ([0, -INF, 0], 0, np.log(2)),
        ([0, 0, 0], -1, NAN),
        ([0, 0, 0], 3, NAN),
        ([7], 0, 0),
    ],
)
def test_tokens_that_are_no_number(logits, target, nll):
    got, slope = oracle.tokens(np.array(logits, float), np.array(target))
    np.testing.assert_allclose(float(got), nll, rtol=1e-15)
    assert np.isnan(slope).all() == np.isnan(nll)
    assert not np.isnan(slope).any() or np.isnan(nll)


# --- soft labels and independent classes ---------------------------------------------------------------------------


SOFT_LABELS = {
    "normalised": lambda rng, n: rng.dirichlet(np.ones(n)),
    "one-hot": lambda rng, n: np.eye(n)[rng.integers(n)],
    "of any sum": lambda rng, n: rng.uniform(0, 2, n),
    "of both signs": lambda rng, n: rng.normal(0, 1, n),
    "none": lambda rng, n: np.zeros(n),
}


@pytest.mark.parametrize("kind", SOFT_LABELS)
@pytest.mark.parametrize("mass", [None, 1.0])
def test_soft_tokens(kind, mass):
    for seed, margin in enumerate((-40, -3, 0, 0.5, 17, 40)):
        rng = np.random.default_rng(seed)
        z = rng.normal(0, 2, 7)
        z[2] = np.delete(z, 2).max() + margin
        y = SOFT_LABELS[kind](rng, 7)
        got = oracle.soft_tokens(z, y, mass)
        logits, labels = ([mpmath.mpf(float(x)) for x in array] for array in (z, y))
        total = mpmath.fsum(mpmath.exp(x) for x in logits)
        costs = [mpmath.log(total) - x for x in logits]
        whole = mpmath.fsum(labels) if mass is None else mpmath.mpf(mass)
        # The sum of the labels is a sum of wide floats.
        rounding = mpmath.mpf(0 if mass else RELATIVE) * mpmath.fsum(abs(x) for x in labels)
        assert near(got.nll, mpmath.fsum(a * b for a, b in zip(labels, costs, strict=True)), got.nll_scale)
        assert max(map(error, got.dlabels, costs)) <= RELATIVE
        for j in range(7):
            p = mpmath.exp(logits[j]) / total
            away = abs(mp(got.dlogits[j]) - (whole * p - labels[j]))
            assert float(away - rounding * p) <= RELATIVE * float(got.dlogits_scale[j])


def test_soft_tokens_of_one_hot_labels_are_tokens():
    z, y = np.random.default_rng(0).normal(0, 3, (4, 6)), np.array([0, 5, 2, 2])
    soft, hard = oracle.soft_tokens(z, np.eye(6)[y]), oracle.tokens(z, y)
    np.testing.assert_allclose(soft.nll, hard.nll, rtol=1e-17)
    np.testing.assert_allclose(soft.dlogits, hard.slope, rtol=1e-16)


@pytest.mark.parametrize(
    "logits, labels, nll",
    [
        ([0, -INF, 0], [0.5, 0, 0.5], np.log(2)),
        ([0, -INF, 0], [0.5, 0.5, 0], INF),
        ([0, NAN, 0], [1, 0, 0], NAN),
        ([0, INF, 0], [0, 1, 0], NAN),
        ([-INF, -INF, -INF], [0, 0, 1], NAN),
        ([0, 0, 0], [0, 0, 0], 0),
    ],
)
def test_soft_tokens_that_are_no_number(logits, labels, nll):
    got = oracle.soft_tokens(np.array(logits, float), np.array(labels, float))
    np.testing.assert_allclose(float(got.nll), nll, rtol=1e-15)
    assert np.isnan(got.dlogits).all() == np.isnan(nll)
    assert not np.isnan(got.dlogits).any() or np.isnan(nll)


@pytest.mark.parametrize("q", [1.0, 2.5, 0.25, 0.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25, 2.0, -0.5])
def test_binary_entries(y, q):
    for x in (0.0, 1e-6, -0.5, 3.0, -20.0, 20.0, -45.0, 90.0):
        got = oracle.binary_entries(x, y, q)
        z = mpmath.mpf(x)
        up, down = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
        rise, fall = -mpmath.log(down), -mpmath.log(up)
        assert near(got.nll, (1 - y) * rise + q * y * fall, got.nll_scale), x
        assert near(got.dlogits, (1 - y) * up - q * y * down, got.dlogits_scale), x
        assert near(got.dlabels, q * fall - rise, got.dlabels_scale), x
        assert near(got.dpos_weight, y * fall, abs(got.dpos_weight)), x


@pytest.mark.parametrize(
    "x, y, q, nll, dlabels",
    [
        (INF, 1.0, 1.0, 0, -INF),
        (INF, 0.0, 1.0, INF, -INF),
        (-INF, 0.0, 1.0, 0, INF),
        (-INF, 1.0, 0.25, INF, INF),
        (-INF, 1.0, 0.0, 0, 0),
        (INF, 1.0, 0.0, 0, -INF),
        (NAN, 1.0, 0.0, NAN, NAN),
    ],
)
def test_binary_entries_at_the_ends(x, y, q, nll, dlabels):
    got = oracle.binary_entries(x, y, q)
    np.testing.assert_array_equal([float(got.nll), float(got.dlabels)], [nll, dlabels])


# --- reductions ----------------------------------------------------------------------------------------------------


def exact_sequence(arrays, flags, cotangent):
    """Loss and gradients of the reduction as plain sums in mpmath, one entry after the other."""
    z, y, w = arrays
    batch, time, _ = z.shape
    tokens = [[exact_token(z[b, t], y[b, t]) for t in range(time)] for b in range(batch)]
    weights = [[mpmath.mpf(float(w[b, t])) for t in range(time)] for b in range(batch)]
    over_batch = flags.get("average_across_batch") or flags.get("sum_over_batch")
    over_time = flags.get("average_across_timesteps") or flags.get("sum_over_timesteps")
    averages = flags.get("average_across_batch") or flags.get("average_across_timesteps")
    everywhere = list(itertools.product(range(batch), range(time)))
    loss, dlogits, dweights = {}, {}, {}
    for b, t in everywhere:
        place = (() if over_batch else (b,)) + (() if over_time else (t,))
        group = [(i, j) for i, j in everywhere if (over_batch or i == b) and (over_time or j == t)]
        total = mpmath.fsum(weights[i][j] * tokens[i][j][0] for i, j in group)
        if averages:
            denominator = mpmath.fsum(weights[i][j] for i, j in group)
        else:
            denominator = sum(weights[i][j] != 0 for i, j in group) if over_batch or over_time else 1
        mean = total / denominator if denominator else mpmath.mpf(0)
        up = mpmath.mpf(float(cotangent[place])) / denominator if denominator else mpmath.mpf(0)
        loss[place] = mean
        dlogits[b, t] = [up * weights[b][t] * s for s in tokens[b][t][1]]
        dweights[b, t] = up * (tokens[b][t][0] - (mean if averages else 0))
    return loss, dlogits, dweights


WEIGHTS = ("ones", "row_masked", "all_zero", "negative", "mixed_signs", "cancelling")


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("flags", cases.FLAGS)
def test_reductions(flags, weights):
    arrays = cases.draw(4, 7, 3)
    arrays = arrays._replace(weights=cases.WEIGHTS[weights](arrays.weights.copy()))
    reduction = cases.FLAGS[flags]
    shape = oracle.sequence_loss(*arrays, **reduction).loss.shape
    cotangent = np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape)
    got = oracle.sequence_loss(*arrays, **reduction, cotangent=cotangent)
    loss, dlogits, dweights = exact_sequence(arrays, reduction, cotangent)
    for place, exact in loss.items():
        assert near(got.loss[place], exact, got.loss_scale[place]), place
    for place, exact in dlogits.items():
        assert max(map(error, got.dlogits[place], exact)) <= RELATIVE, place
        assert near(got.dweights[place], dweights[place], got.dweights_scale[place]), place


def near(actual, exact, scale):
    """Within the error of the largest summand, and exactly 0 where there is none."""
    return float(abs(mp(actual) - exact)) <= RELATIVE * float(scale)


def test_scale_is_that_of_the_summands():
    """+1 and -1: the loss cancels, its error does not."""
    z = np.zeros((1, 2, 2))
    got = oracle.sequence_loss(z, np.zeros((1, 2), int), np.array([[1.0, -1.0]]), **cases.FLAGS["sum_both"])
    assert got.loss == 0
    assert got.loss_scale == pytest.approx(np.log(2))


def test_masks_and_empty_batches():
    z = np.full((2, 2, 3), NAN)
    z[0, 0] = 0
    y = np.array([[1, -100], [7, 0]])
    got = oracle.sequence_loss(z, y, np.array([[2.0, 0.0], [2.0**-127, -0.0]]))
    assert got.loss == pytest.approx(np.log(3))
    assert np.isfinite(got.dweights).all()
    assert (got.dlogits[0, 1] == 0).all()
    assert (got.dlogits[1] == 0).all()
    for nothing in ((z, y, np.zeros((2, 2))), (z[:0], y[:0], np.zeros((0, 2)))):
        got = oracle.sequence_loss(*nothing)
        assert (got.loss, got.loss_scale) == (0, 0)
        assert (got.dlogits == 0).all()
        assert (got.dweights == 0).all()


# --- tolerances ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [1.0, 1.5, 1.999, 2.0, 0.3, 1000.0, 6.2e-5])
def test_unit_is_that_of_numpy(dtype, size):
    size = np.dtype(dtype).type(size)
    assert tolerances.unit(size, dtype) == np.spacing(size)
    assert tolerances.unit(-size, dtype) == np.spacing(size)


def test_unit_of_bfloat16_and_of_what_has_none():
    assert tolerances.unit(1.0, "bfloat16") == 2.0**-7
    smallest = 2.0**-126 * 2.0**-23
    np.testing.assert_array_equal(tolerances.unit([0.0, 1e-45, NAN, INF], "float32"), [smallest] * 4)


@pytest.mark.parametrize(
    "actual, expected, distance",
    [
        (1.0, 1.0, 0),
        (1 + 2**-23, 1.0, 1),
        (1 - 2**-23, 1.0, 1),
        (1 + 20 * 2**-23, 1.0, 20),
        (2.0, 1.0, 2**23),
        (-1.0, 1.0, 2**24),
        (0.0, -0.0, 0),
        (NAN, NAN, 0),
        (NAN, 1.0, INF),
        (1.0, NAN, INF),
        (INF, INF, 0),
        (-INF, INF, INF),
        (INF, 1.0, INF),
        (1.0, INF, INF),
        (0.0, 2.0**-127, 0),  # flushed
        (2.0**-126, 2.0**-127, 0),  # within one smallest normal
        (2.0**-125, 2.0**-127, 2**22 * 3),
        (0.0, 2.0**-125, 2**23),  # no subnormal: lost for good
        (1.5 * 2.0**-125, 2.0**-125, 2**22),  # as far off as the smallest normal, but not below it
    ],
)
def test_ulps(actual, expected, distance):
    assert tolerances.ulps(actual, expected, "float32") == distance


def test_float16_keeps_its_subnormals():
    assert tolerances.ulps(0.0, 2.0**-24, "float16") == 1
    assert tolerances.ulps(0.0, 2.0**-15, "float16") == 2**9


def test_ulps_at_a_scale():
    """Summands of 1024 that cancel to 1: the unit is that of the summands, unless the result is larger."""
    one, off = 1.0, 1 + 2.0**-13
    assert tolerances.ulps(off, one, "float32") == 2**10
    assert tolerances.ulps(off, one, "float32", scale=1024.0) == 1
    assert tolerances.ulps(off, one, "float32", scale=2.0**-10) == 2**10
    assert tolerances.ulps(off, one, "float32", scale=NAN) == 2**10
    np.testing.assert_array_equal(tolerances.ulps([off, one], one, "float32", scale=np.array([1024.0, 1])), [1, 0])


def test_excess_is_the_fraction_of_the_bound():
    assert tolerances.excess(1 + 10 * 2.0**-23, 1.0, "float32", 20.0) == 0.5
    assert tolerances.excess(1 + 40 * 2.0**-23, 1.0, "float32", 20.0) == 2
    assert tolerances.excess(NAN, 1.0, "float32", 20.0) == INF
    assert tolerances.excess(NAN, NAN, "float32", 20.0) == 0
    assert tolerances.excess(1e-45, 0.0, "float32", 20.0) == 0


def test_excess_of_half_precision_allows_its_one_rounding():
    """One unit of the half dtype beside the units that were computed in."""
    one_off, two_off = 1 + 2.0**-10, 1 + 2.0**-9
    assert tolerances.excess(one_off, 1.0, "float16", 20.0, compute="float32") < 1
    assert tolerances.excess(two_off, 1.0, "float16", 20.0, compute="float32") > 1.9
    assert tolerances.excess(1 + 2.0**-7, 1.0, "bfloat16", 20.0, compute="float32") < 1


@pytest.mark.parametrize(
    "row, bound",
    [
        ([0.0, 20.0], tolerances.TIGHT_ULPS),
        ([-10.0, 10.5], tolerances.WIDE_ULPS),
        ([1e8, 1e8 + 8], tolerances.TIGHT_ULPS),
        ([0.0, -INF], tolerances.TIGHT_ULPS),
        ([0.0, INF], tolerances.TIGHT_ULPS),
        ([NAN, NAN], tolerances.TIGHT_ULPS),
        ([0.0, NAN, 30.0], tolerances.WIDE_ULPS),
        ([0.0, 100.0], 2 * tolerances.WIDE_ULPS),
        ([0.0, 300.0], 300.0),
        ([0.0, 2000.0], 745.0),
    ],
)
def test_token_bound_is_by_the_range_of_finite_logits(row, bound):
    np.testing.assert_array_equal(tolerances.token_bound(np.array([row, row])), [bound, bound])
    assert tolerances.token_bound(np.zeros((0, len(row)))).shape == (0,)
