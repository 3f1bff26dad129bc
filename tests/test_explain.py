"""Every cause and every pair of causes is named, on the side that has it."""

from itertools import combinations

import explained
import pytest
from explained import OPTIONS, PAD, RIGHT
from explaining import IDS, SINGLES, batch, cause, explain, named, told

from seqloss.testing.explain import causes, explain_mismatch


def effective():
    """Pairs that give another loss than either of their mistakes alone: without weights there is no padding."""
    for names in explained.pairs():
        loss = explained.loss(batch(), names)
        alone = [explained.loss(batch(), one) for one in explained.singles() if set(named(one)) <= set(named(names))]
        if all(abs(loss / other - 1) > 1e-9 for other in (explained.loss(batch()), *alone)):
            yield names


PAIRS = list(effective())
ORDINARY = [names for names in SINGLES if "half" not in names[2]]


@pytest.mark.parametrize("names", SINGLES, **IDS)
def test_every_cause_is_named(names):
    mine, theirs = explained.loss(batch()), explained.loss(batch(), names)
    found = explain_mismatch(mine, theirs, batch(), **OPTIONS)
    assert found.verdict == "explained"
    assert named(names) in told(found)
    assert len(found.causes) == 1
    assert found.confidence > 0.99 or found.alternatives or "bare factor" in found.certainty


@pytest.mark.parametrize("names", SINGLES, **IDS)
def test_the_side_is_the_one_that_departs(names):
    found = explain(explained.loss(batch(), names), explained.loss(batch()))
    assert named(names) in told(found, "mine")


@pytest.mark.parametrize("names", PAIRS, **IDS)
def test_every_pair_of_causes_is_named(names):
    found = explain(explained.loss(batch()), explained.loss(batch(), names))
    assert named(names) in told(found)


@pytest.mark.parametrize("names", PAIRS[::5], **IDS)
def test_one_cause_on_each_side_is_told_apart(names):
    first, second = split(names)
    found = explain(explained.loss(batch(), first), explained.loss(batch(), second))
    sets = [{(c.side, c.name) for c in causes} for causes in (found.causes, *found.alternatives)]
    assert {("mine", *named(first)), ("theirs", *named(second))} in sets


def split(names):
    """The two mistakes of a pair, each made alone."""
    places = [i for i, (name, right) in enumerate(zip(names, RIGHT, strict=True)) if name != right]
    return [tuple(name if i == place else RIGHT[i] for i, name in enumerate(names)) for place in places]


@pytest.mark.parametrize("names", ORDINARY, **IDS)
@pytest.mark.parametrize("seed", range(3))
def test_float32_losses_are_explained_or_too_short(names, seed):
    losses = [explained.loss(batch(seed, "float32"), which) for which in (RIGHT, names)]
    found = explain(*losses, seed, "float32")
    assert found.verdict in ("explained", "undecided")
    assert named(names) in told(found)


SPREADS = [name for name in explained.COSTS if name.startswith("label smoothing")]
HARD_TO_SEE = {
    "time-major confusion of weights": 6,
    "labels shifted forward, weights not": 8,
    "labels shifted forward, round": 7,
    "labels shifted backward, weights not": 8,
    "labels shifted backward, round": 8,
    "doubled shift": 8,
    "last token dropped": 6,
    "last token dropped, of those that count": 5,
    "ignored pad id": 7,
    "ignored pad id, no weights": 6,
    "weights not used": 8,
    "weights taken as a mask": 8,
    "mean of micro-batch means": 8,
    "mean of per-rank means": 7,
    "mean of micro-batch means, the last one smaller": 4,
    "mean of per-rank means, strided": 6,
    **{name: 0 for name in explained.COSTS if name.startswith(explained.OF_A_NUMBER)},
}
"""Causes that often change a loss by less than a percent, and how many of ten batches show them in float32. Those with
a number that nobody has named have to fit more closely than float32 can: test_explain_named.py names it."""


def shown(first, second, count):
    """How many batches show in float32 that one loss has the first mistakes and the other one the second."""
    seen = 0
    for seed in range(count):
        losses = [explained.loss(batch(seed, "float32"), which) for which in (first, second)]
        seen += explain(*losses, seed, "float32").verdict == "explained"
    return seen


@pytest.mark.parametrize("names", ORDINARY, **IDS)
def test_every_cause_shows_in_float32(names):
    (name,) = explained.mistakes(names)
    assert shown(RIGHT, names, 10) >= HARD_TO_SEE.get(name, 9)


@pytest.mark.parametrize("spread", ["label smoothing eps/K", "label smoothing eps/(K-1)"])
def test_smoothing_against_none_shows_in_float32(spread):
    assert shown(RIGHT, smoothed(spread), 20) >= 18


def test_two_ways_to_smooth_show_in_float32():
    """They are often closer than one in ten thousand, where no float32 number tells more than that it fits."""
    assert shown(smoothed("label smoothing eps/K"), smoothed("label smoothing eps/(K-1)"), 10) >= 5


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("first, second", list(combinations(SPREADS, 2)))
def test_what_is_reproduced_on_both_sides_is_explained(first, second, seed):
    losses = [explained.loss(batch(seed, "float32"), smoothed(spread)) for spread in (first, second)]
    found = explain(*losses, seed, "float32")
    reproduced = {note.partition(" is ")[0] for note in found.notes if " of these inputs" in note}
    assert found.verdict == "explained" or len(reproduced) < 2


def smoothed(spread):
    return (RIGHT[0], spread, *RIGHT[2:])


@pytest.mark.parametrize("names", PAIRS[::5], **IDS)
def test_a_pair_in_float32_is_named_or_too_short(names):
    mine, theirs = (explained.loss(batch(dtype="float32"), which) for which in (RIGHT, names))
    found = explain(mine, theirs, dtype="float32")
    assert found.verdict in ("explained", "undecided")
    assert found.verdict == "undecided" or named(names) in told(found)


def test_every_cause_of_the_table_has_a_test():
    there = {choice.name for axis in causes.AXES for choice in axis.choices if choice.name}
    made = {cause(name) for names in SINGLES for name in explained.mistakes(names)}
    assert there - made == {"logits taken as probabilities"}, "test_explain_there.py makes that one"


# Causes of several steps.


@pytest.mark.parametrize("weigh", [True, False])
def test_padding_left_out_of_the_losses_alone(weigh):
    nll = explained.COSTS["no smoothing"](*batch()[:2])
    kept = (batch().targets != PAD) * (batch().weights if weigh else 1)
    theirs = (nll * kept).sum() / batch().weights.sum()
    found = explain(explained.loss(batch()), theirs)
    assert told(found) == [["ignored pad id"]]
    assert "not out of the sum of the weights" in found.causes[0].does


@pytest.mark.parametrize("tokens", ["labels shifted forward", "labels shifted backward", "doubled shift"])
def test_a_shift_divided_by_all_positions(tokens):
    shifted = explained.loss(batch(), (tokens, RIGHT[1], "sum", RIGHT[3]))
    found = explain(explained.loss(batch()), shifted / batch().targets.size)
    assert sorted([tokens, "mean over padding"]) in told(found)
    assert "those included that the shift drops" in " ".join(c.does for c in found.causes)
