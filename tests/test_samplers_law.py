"""How candidates are distributed: single draws, unique ones, and the number of tries that these take.

All seeds are fixed, so a test that passes goes on passing; tests of the tests show that a wrong law fails.
"""

import math
from collections import Counter

import numpy as np
import pytest
from test_samplers import PROBABILITY, SAMPLERS

from seqloss import samplers
from seqloss.samplers import distributions, drawing

P4 = np.array([0.5, 0.25, 0.15, 0.1])


def chi_square(observed, expected):
    """Pearson's statistic over its critical value at a risk of 1e-6; above 1, the counts are not as expected.

    With f degrees of freedom the cube root of statistic / f is nearly normal, with mean 1 - 2 / (9 f) and variance
    2 / (9 f) (Wilson and Hilferty); 4.753 is the quantile of the normal distribution. Within a few percent of the
    exact value for every f from 1 on, which is enough here: the seeds are fixed, and a wrong law is far off.
    """
    observed, expected = np.asarray(observed, float), np.asarray(expected, float)
    assert observed.sum() == pytest.approx(expected.sum())
    assert expected.min() > 5, "too few draws for one of the outcomes"
    spread = 2 / (9 * (len(expected) - 1))
    critical = (len(expected) - 1) * (1 - spread + 4.753 * math.sqrt(spread)) ** 3
    return ((observed - expected) ** 2 / expected).sum() / critical


def compare(draws, law):
    """Chi-square of a list of outcomes with the probability of each; those that are rare are put together."""
    seen, rare = Counter(draws), 1 - sum(law.values())
    assert rare > -1e-9
    observed, expected = [], []
    for outcome, share in sorted(law.items(), key=lambda item: item[1], reverse=True):
        if share * len(draws) > 10:
            observed.append(seen[outcome])
            expected.append(share * len(draws))
        else:
            rare += share
    if rare * len(draws) > 10:
        observed.append(0)
        expected.append(rare * len(draws))
    elif rare > 1e-9:  # too rare even together
        expected[-1] += rare * len(draws)
    observed[-1] += len(draws) - sum(observed)
    return chi_square(observed, expected)


def law_of_unique(p, wanted, most=60):
    """The probability of each (ids in order, number of tries), by going through all tries up to ``most``."""
    law, open_ends = Counter(), {(): 1.0}
    for tries in range(1, most + 1):
        following = Counter()
        for ids, weight in open_ends.items():
            for k, share in enumerate(p):
                following[ids if k in ids else (*ids, k)] += weight * share
        law.update({(ids, tries): weight for ids, weight in following.items() if len(ids) == wanted})
        open_ends = {ids: weight for ids, weight in following.items() if len(ids) < wanted}
    return law


class Edges:
    """A generator of the two ends of what random() may return."""

    def random(self, size):
        return np.array([0.0, np.nextafter(1, 0)])


@pytest.mark.parametrize("range_max", [1, 2, 3, 7, 10, 1000, 10**6, 10**9, 2**52, 2**53])
def test_log_uniform_ids_at_the_ends_are_in_range(range_max):
    first, last = distributions.LogUniform(range_max).draw(Edges(), 2)
    assert first == 0
    assert range_max * (1 - 1e-14) - 1 <= last <= range_max - 1


def test_ids_of_weight_0_at_the_ends_are_never_drawn():
    assert distributions.Unigram(np.array([0.0, 0.0, 3.0, 0.1, 0.2, 0.0])).draw(Edges(), 2).tolist() == [2, 4]


def test_huge_weights():
    distribution = distributions.Unigram(np.array([1e308, 1e308, 1e308, 1e308]))
    assert distribution.probability(np.arange(4)).tolist() == [0.25] * 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_frequencies(name):
    ids = SAMPLERS[name]([[0]], 1, 200_000, False, 5, seed=21).sampled
    assert chi_square(np.bincount(ids, minlength=5), 200_000 * np.array(PROBABILITY[name])) < 1


def test_frequencies_of_rare_ids():
    """Of 10,000 classes, in bins of equal logarithmic width."""
    ids = samplers.log_uniform_candidate_sampler([[0]], 1, 400_000, False, 10_000, seed=22).sampled
    ends = np.unique(np.geomspace(1, 10_001, 40).astype(int))
    observed = np.histogram(ids + 1, ends)[0]
    assert chi_square(observed, 400_000 * np.diff(np.log(ends)) / math.log(10_001)) < 1


# 2 of 5 ids are mostly found in the first blocks of draws, and all 5 mostly not: both ways must have one law.
@pytest.mark.parametrize("wanted", [2, 5])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_first_two_of_unique_candidates(name, wanted):
    rng, p = np.random.default_rng(23), PROBABILITY[name]
    law = {(i, j): p[i] * p[j] / (1 - p[i]) for i in range(5) for j in range(5) if i != j}
    draws = [SAMPLERS[name]([[4]], 1, wanted, True, 5, seed=rng).sampled[:2].tolist() for _ in range(2000)]
    assert compare([tuple(pair) for pair in draws], law) < 1


def outcome(drawn):
    ids, tries = drawn
    return tuple(ids.tolist()), int(tries)


@pytest.mark.parametrize("wanted", [2, 3, 4])
def test_order_and_tries_together(wanted):
    rng, distribution = np.random.default_rng(24), distributions.Unigram(P4)
    draws = [outcome(drawing.candidates(distribution, wanted, True, rng)) for _ in range(5000)]
    assert compare(draws, law_of_unique(P4, wanted)) < 1


@pytest.mark.parametrize("wanted", [2, 4])
def test_order_and_tries_without_drawing_each_try(wanted):
    rng, distribution = np.random.default_rng(25), distributions.Unigram(P4)
    draws = [outcome(drawing._remaining(distribution, np.zeros(0, int), wanted, rng)) for _ in range(5000)]
    assert compare(draws, law_of_unique(P4, wanted)) < 1


def test_the_tail_after_some_ids_were_found():
    """Tries are geometric with p = 0.25, and independent of them the id is 2 with 0.15 / 0.25."""
    rng, distribution = np.random.default_rng(26), distributions.Unigram(P4)
    draws = [outcome(drawing._remaining(distribution, np.array([1, 0]), 1, rng)) for _ in range(5000)]
    law = {((k,), n): share * 0.25 * 0.75 ** (n - 1) for k, share in ((2, 0.6), (3, 0.4)) for n in range(1, 99)}
    assert compare(draws, law) < 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_expected_counts_are_the_mean_of_counts(name):
    values = SAMPLERS[name](np.arange(5)[:, None], 1, 50, False, 5, seed=0)
    rng, draws = np.random.default_rng(27), 2000
    counts = [np.bincount(SAMPLERS[name]([[0]], 1, 50, False, 5, seed=rng).sampled, minlength=5) for _ in range(draws)]
    error = np.std(counts, axis=0) / math.sqrt(draws)
    assert (np.abs(np.mean(counts, axis=0) - values.true_expected[:, 0]) < 5 * error).all()


@pytest.mark.parametrize("name", ["log_uniform", "uniform"])
def test_expected_counts_with_unique_are_nearly_the_mean_of_counts(name):
    """TensorFlow's estimate takes the number of tries for a constant, which is wrong by about 1 percent here."""
    rng, draws, ids = np.random.default_rng(28), 2000, np.arange(50)[:, None]
    values = [SAMPLERS[name](ids, 1, 20, True, 50, seed=rng) for _ in range(draws)]
    share = np.mean([np.bincount(x.sampled, minlength=50) for x in values], axis=0)
    expected = np.mean([x.true_expected[:, 0] for x in values], axis=0)
    error = np.sqrt(share * (1 - share) / draws)
    assert (np.abs(share - expected) < 4.5 * error + 0.012).all()


@pytest.mark.parametrize(
    "wrong",
    [
        np.array(PROBABILITY["uniform"]),
        np.array(PROBABILITY["log_uniform"])[::-1],
        np.array(PROBABILITY["log_uniform"]) * 0.95 + 0.05 / 5,
    ],
)
def test_a_wrong_distribution_is_noticed(wrong):
    ids = samplers.log_uniform_candidate_sampler([[0]], 1, 200_000, False, 5, seed=21).sampled
    assert chi_square(np.bincount(ids, minlength=5), 200_000 * wrong) > 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ids, tries: (ids, max(3, tries - 1)),
        lambda ids, tries: (ids, tries + 1),
        lambda ids, tries: (tuple(sorted(ids)), tries),
        lambda ids, tries: (ids, round(1.1 * tries)),
    ],
)
def test_a_wrong_law_of_order_and_tries_is_noticed(change):
    rng, distribution = np.random.default_rng(24), distributions.Unigram(P4)
    draws = [outcome(drawing.candidates(distribution, 3, True, rng)) for _ in range(5000)]
    assert compare([change(*draw) for draw in draws], law_of_unique(P4, 3)) > 1
