"""The oracle of the statistics of a token against mpmath with 60 digits: the definitions, and their differences."""

import itertools

import mpmath
import numpy as np
import pytest

from seqloss.testing import oracle_statistics as oracle

NAN, INF = float("nan"), float("inf")
RELATIVE = max(1e-15, 1e3 * float(np.finfo(np.longdouble).eps))
STEP = mpmath.mpf(10) ** -20
"""Of a central difference: with 60 digits its error is about 1e-40."""

PRIORS = {
    "uniform": None,
    "positive": [0.5, 1, 2, 0.25, 4, 1, 0.125],
    "with zeros": [0, 1, 0, 0.25, 4, 0, 0.125],
    "one class": [0, 0, 1, 0, 0, 0, 0],
}
ROWS = {
    "ordinary": [0.5, -1, 2, 0.25, 0, 1, -3],
    "sure": [0.5, -1, 40, 0.25, 0, 1, -3],
    "wrong": [0.5, -1, -40, 0.25, 0, 1, -3],
    "impossible": [0.5, -INF, 2, -INF, 0, 1, -3],
    "all but one impossible": [-INF, -INF, 2, -INF, -INF, -INF, -INF],
    "tied": [2, 2, 2, 2, 2, 2, 2],
    "far from 0": [1e4, 1e4 + 1, 1e4 + 2, 1e4, 1e4, 1e4 - 7, 1e4],
}
LABEL = 2


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def wide(x):
    return [mpmath.mpf(float(v)) for v in x]


def statistics(row, labels, mass, prior, softcap):
    """nll, lse, unl and the mass of the prior, from the definitions."""
    z = [x if softcap is None or mpmath.isinf(x) else softcap * mpmath.tanh(x / softcap) for x in row]
    possible = [j for j, x in enumerate(z) if not mpmath.isinf(x)]
    lse = mpmath.log(mpmath.fsum(mpmath.exp(z[j]) for j in possible))
    weights = {j: mpmath.mpf(1 if prior is None else prior[j]) for j in possible}
    whole = mpmath.fsum(weights.values())
    unl = mpmath.fsum(weights[j] / whole * (lse - z[j]) for j in possible) if whole else mpmath.mpf(0)
    given = [j for j, y in enumerate(labels) if y]
    nll = mpmath.inf if set(given) - set(possible) else mpmath.fsum(labels[j] * (lse - z[j]) for j in given)
    # What is not the sum of the labels is no function of the logits: its derivative is defined, not its value.
    extra = (mass - mpmath.fsum(labels)) * lse
    return nll + extra, lse, unl, whole


def differences(row, labels, mass, prior, softcap):
    """The derivatives of the three statistics by each logit, as central differences."""
    for j, x in enumerate(row):
        if mpmath.isinf(x):
            yield [mpmath.mpf(0)] * 3
            continue
        above, below = ([*row[:j], x + sign * STEP, *row[j + 1 :]] for sign in (1, -1))
        pairs = zip(*(statistics(z, labels, mass, prior, softcap)[:3] for z in (above, below)), strict=True)
        yield [(a - b) / (2 * STEP) for a, b in pairs]


def mp(x):
    """A long double as a number of mpmath, exactly."""
    high = float(x)
    return mpmath.mpf(high) + mpmath.mpf(float(x - np.longdouble(high)))


def near(actual, exact, scale=0.0):
    return abs(mp(actual) - exact) <= RELATIVE * max(float(scale), float(abs(exact))) + mpmath.mpf(10) ** -38


@pytest.mark.parametrize("softcap", [None, 3.0, 30.0])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", ROWS)
def test_one_label(name, prior, softcap):
    row, prior = wide(ROWS[name]), PRIORS[prior]
    got = oracle.of_tokens(np.array(ROWS[name]), np.array(LABEL), prior, softcap)
    labels = wide(np.arange(7) == LABEL)
    nll, lse, unl, mass = statistics(row, labels, 1, prior, softcap)
    assert near(got.nll, nll)
    assert near(got.lse, lse, 1)
    assert near(got.unl, unl)
    assert near(got.mass, mass)
    for j, (dnll, dlse, dunl) in enumerate(differences(row, labels, 1, prior, softcap)):
        assert near(got.dnll[j], dnll), j
        assert near(got.dlse[j], dlse), j
        assert near(got.dunl[j], dunl, got.dunl_scale[j]), j


SOFT_LABELS = {
    "of any sum": [0.5, 0, 2, 0, 0.125, 1, 0.25],
    "of both signs": [0.5, 0, -2, 0, 0.125, 1, 0.25],
    "one": [0, 0, 1, 0, 0, 0, 0],
    "none": [0, 0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("mass", [None, 1.0])
@pytest.mark.parametrize("labels", SOFT_LABELS)
@pytest.mark.parametrize("name", ["ordinary", "sure", "impossible", "tied"])
def test_soft_labels(name, labels, mass, softcap):
    row, y, prior = wide(ROWS[name]), wide(SOFT_LABELS[labels]), PRIORS["with zeros"]
    got = oracle.of_labels(np.array(ROWS[name]), np.array(SOFT_LABELS[labels]), mass, prior, softcap)
    whole = mpmath.fsum(y) if mass is None else mass
    nll, lse, unl, _ = statistics(row, y, mpmath.fsum(y), prior, softcap)
    assert near(got.nll, nll, got.nll_scale)
    assert near(got.lse, lse, 1)
    assert near(got.unl, unl)
    z, _ = oracle.capped(np.array(ROWS[name]), softcap)
    for j, (dnll, _, dunl) in enumerate(differences(row, y, whole, prior, softcap)):
        assert near(got.dnll[j], dnll, got.dnll_scale[j]), j
        assert near(got.dunl[j], dunl, got.dunl_scale[j]), j
        assert mpmath.isinf(row[j]) or near(got.dlabels[j], lse - mp(z[j]), 1), j


def test_one_hot_labels_are_labels():
    z, y = np.random.default_rng(0).normal(0, 3, (4, 7)), np.array([0, 5, 2, 2])
    soft, hard = (
        f(z, x, prior=PRIORS["positive"], softcap=3.0)
        for f, x in ((oracle.of_labels, np.eye(7)[y]), (oracle.of_tokens, y))
    )
    for one, other in zip(soft[:7], hard[:7], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_where_no_class_is_possible_or_one_is_certain_all_is_nan(softcap):
    for row in ([NAN, 0, 1], [0, INF, 1], [-INF] * 3, [INF, 0, NAN]):
        got = oracle.of_tokens(np.array(row), np.array(1), softcap=softcap)
        assert all(np.isnan(x).all() for x in got[:7])


def test_a_bad_label_has_no_nll():
    for label in (-1, 3):
        got = oracle.of_tokens(np.array([0.0, 1, 2]), np.array(label))
        assert np.isnan(got.nll) and np.isnan(got.dnll).all()
        assert np.isfinite(got.lse) and np.isfinite(got.unl) and np.isfinite(got.dunl).all()


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_an_impossible_label(softcap):
    """Infinite, with a finite gradient; behind a cap the gradient of an infinite logit is 0."""
    got = oracle.of_tokens(np.array([0.5, -INF, 0.5]), np.array(1), softcap=softcap)
    np.testing.assert_array_equal(np.float64([got.nll, got.mass]), [INF, 2])
    assert np.isfinite(got.lse) and np.isfinite(got.unl)
    assert got.dnll[1] == (-1 if softcap is None else 0)
    assert (got.dlse[1], got.dunl[1]) == (0, 0)


def test_without_mass_there_is_no_unl():
    got = oracle.of_tokens(np.array([-INF, 1, 2]), np.array(1), [1, 0, 0])
    assert (got.mass, got.unl) == (0, 0)
    assert (got.dunl == 0).all() and (got.dunl_scale == 0).all()
    assert np.isfinite(got.nll)


def test_a_cap_in_the_tail():
    """1 - tanh**2 is 0 there in every float."""
    got = oracle.of_tokens(np.array([0.0, 90.0]), np.array(0), softcap=1.0)
    _, slope = oracle.capped(np.array([0.0, 90.0]), 1.0)
    assert near(slope[1], 1 / mpmath.cosh(90) ** 2)
    assert got.dnll[1] > 0


def test_pulled_together():
    """The derivative of a sum is the sum of the derivatives; rows of which nothing is asked are 0."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 2, (4, 7)), np.array([0, 5, 2, 2])
    z[3] = NAN
    got = oracle.of_tokens(z, y, PRIORS["positive"])
    a, b, c = rng.normal(size=(3, 4))
    a[2:], b[2:], c[2:] = 0, 0, 0
    gradient, scale = oracle.pulled(got, a, b, c)
    assert (gradient[2:] == 0).all() and (scale[2:] == 0).all()
    for combination in itertools.product((None, a), (None, b), (None, c)):
        total = sum(
            oracle.pulled(got, *(x if i == j else None for j in range(3)))[0] for i, x in enumerate(combination)
        )
        np.testing.assert_allclose(oracle.pulled(got, *combination)[0], total, rtol=1e-14, atol=1e-18)
    assert (abs(gradient) <= scale * (1 + 1e-12)).all()
