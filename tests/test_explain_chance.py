"""Nothing is explained where there is nothing to explain, and the stated chance is that of an accident."""

import explained
import numpy as np
import pytest
from explaining import KNOWN, NAMED, SINGLES, batch, explain, loss, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloss.testing.explain import digits, match

PROFILE = settings(max_examples=25, deadline=None, derandomize=True, database=None)


def unrelated(dtype, count):
    """Numbers of other batches of the same shape, and numbers that are a little or much wrong."""
    for seed in range(10):
        rng, own = np.random.default_rng(seed), batch(seed, dtype)
        conventions = [*SINGLES, *explained.pairs()]
        for i in range(count // 10):
            other = explained.draw(1000 + 1000 * seed + i, dtype)
            names = conventions[rng.integers(len(conventions))]
            factor = 1 + rng.choice([-1, 1]) * 10 ** rng.uniform(-5, 0)
            right = explained.loss(own)
            wrong = right.dtype.type(right * factor)
            pairs = (
                (right, explained.loss(other)),
                (explained.loss(own, names), explained.loss(other)),
                (right, explained.loss(other, names)),
                (explained.loss(other), explained.loss(explained.draw(500_000 + 1000 * seed + i, dtype), names)),
                (right, wrong),
                (wrong, right),
                (right, right.dtype.type(explained.loss(own, names) * factor)),
            )
            yield (seed, *pairs[i % len(pairs)])


@pytest.mark.parametrize("known", [KNOWN, NAMED], ids=["usual", "named"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_thousand_unrelated_pairs_have_no_explanation(dtype, known):
    found = [(explain(mine, theirs, seed, dtype, known=known), seed) for seed, mine, theirs in unrelated(dtype, 1000)]
    assert [each for each in found if each[0].verdict not in ("none", "undecided")] == []


def test_short_numbers_have_no_explanation():
    """Two decimals fit something nearly always, which says nothing."""
    right = float(explained.loss(batch()))
    verdicts = {explain(round(right, 2), round(right + step, 2)).verdict for step in np.arange(0.05, 5, 0.05).tolist()}
    assert verdicts <= {"none", "undecided"}


@PROFILE
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_what_is_explained_is_reproduced(mine, theirs):
    """Any two numbers: an explanation holds for them as numbers, or there is none."""
    found = explain(mine, theirs)
    assert found.verdict in ("same", "none", "undecided")
    assert found.causes == ()
    assert found.confidence == (found.verdict == "same")


# Invented numbers: of all sizes and signs.


def log_uniform(rng, low, high):
    return 10 ** rng.uniform(low, high)


LAWS = {
    "around mine": lambda rng, right: (right, right * np.exp(rng.normal(0, 0.5))),
    "near mine": lambda rng, right: (right, right * np.exp(rng.normal(0, 0.02))),
    "minus something": lambda rng, right: (right, -right * np.exp(rng.normal(0, 0.5))),
    "mine is negative": lambda rng, _: (-log_uniform(rng, -1, 1), log_uniform(rng, -0.5, 1.5)),
    "both are negative": lambda rng, _: (-log_uniform(rng, -1, 1), -log_uniform(rng, -0.5, 1.5)),
    "both are invented": lambda rng, _: (log_uniform(rng, 0, 1), log_uniform(rng, -0.5, 1.5)),
    "mine is zero": lambda rng, _: (0.0, log_uniform(rng, -0.5, 1.5)),
    "mine is infinite": lambda rng, _: (np.inf, log_uniform(rng, -0.5, 1.5)),
    "mine is huge": lambda rng, _: (log_uniform(rng, 20, 300), log_uniform(rng, -0.5, 1.5)),
    "mine is tiny": lambda rng, _: (-log_uniform(rng, -300, -20), log_uniform(rng, -0.5, 1.5)),
    "of any size": lambda rng, _: tuple(rng.choice([-1, 1], 2) * 10 ** rng.uniform(-3, 4, 2)),
}
COUNT = 300


def invented(law):
    """Pairs that are not the same, and the seed of the batch that they have nothing to do with."""
    rng = np.random.default_rng(sorted(LAWS).index(law))
    for i in range(COUNT):
        seed = i % 10
        mine, theirs = (float(x) for x in LAWS[law](rng, loss(seed)))
        if mine == 0 or abs(theirs / mine - 1) > 0.01:
            yield seed, mine, theirs


@pytest.mark.parametrize("known", [KNOWN, NAMED], ids=["usual", "named"])
@pytest.mark.parametrize("law", LAWS)
def test_the_chance_is_no_smaller_than_that_of_an_accident(law, known):
    """Of invented numbers that may be off by a percent, one in ten has a chance of at most one tenth, and so on."""
    chances = []
    for seed, mine, theirs in invented(law):
        numbers = digits.number("theirs", theirs), digits.number("mine", mine)
        fits = match.readings(*numbers, tables(seed, known=known), 0.01)
        chances.append(min((reading.chance for reading in fits), default=1.0))
    assert min(chances) > 0
    for limit in (0.3, 0.1, 0.03, 0.01):
        expected = limit * COUNT
        assert np.count_nonzero(np.array(chances) <= limit) <= expected + 3 * expected**0.5, limit


@pytest.mark.parametrize("law", LAWS)
def test_invented_numbers_are_not_called_documented(law):
    """As many are as the largest chance allows at which anything is named: of three hundred pairs none."""
    named = []
    for i, (seed, mine, theirs) in enumerate(invented(law)):
        made_up = ("theirs",) if mine == loss(seed) else ("mine", "theirs")
        mine, theirs = (float(f"{number:.{1 + i % 4}e}") for number in (mine, theirs))
        found = explain(mine, theirs, seed)
        notes = [note for note in found.notes if "documented" in note and note.startswith(made_up)]
        if found.verdict == "explained" or notes:
            named.append((mine, theirs, found))
    assert 2 * COUNT * match.LIKELY < 1
    assert named == []
