"""One verdict for two numbers, and one wording of it."""

import explained
import numpy as np
import pytest
from explained import RIGHT
from explaining import SINGLES, batch, explain, loss, named, told
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloss.testing.explain import candidates, explain_mismatch, match

PROFILE = settings(max_examples=25, deadline=None, derandomize=True, database=None)

# What cannot be told apart, and what cannot be told.


def test_causes_that_cannot_be_told_apart_are_listed_together():
    loss = explained.loss(batch())
    found = explain_mismatch(loss, 4 * loss, batch(), world_size=4, accumulation_steps=4)
    assert told(found)[:2] == [["times world_size"], ["times accumulation_steps"]]
    factor = "a bare factor of 4 can have many reasons"
    assert found.certainty == f"ambiguous with times accumulation_steps (theirs); {factor}"
    assert found.confidence == pytest.approx(1 / 4, rel=1e-3)
    assert "It could also be this:\ntimes accumulation_steps: theirs" in found.report()
    assert "To tell them apart: use inputs with padding" in found.report()


@pytest.mark.parametrize("world_size", [50, 10**9])
def test_ranks_without_a_row_cost_nothing(world_size):
    """An average over as many ranks as one likes is that over the sequences."""
    one, other = (explain_mismatch(1.2345678901234, 2.5, batch(), world_size=size) for size in (49, world_size))
    assert (one.verdict, told(one)) == (other.verdict, told(other))


def test_division_by_time_steps_is_no_pair():
    """It is what batch-size division is over swapped axes, but simpler."""
    planted = (*RIGHT[:2], "division by time steps", RIGHT[3])
    found = explain(explained.loss(batch()), explained.loss(batch(), planted))
    assert (told(found), found.certainty) == ([["division by time steps"]], "certain")


OF_MANY_THINGS = "likely; a bare factor of {} can have many reasons"


def test_factors_alone_are_never_certain():
    """With 2 steps on 4 ranks twice the loss is a quarter by an eighth, and whatever else doubles it."""
    right = loss()
    found = explain_mismatch(right, 2 * right, batch(), world_size=4, accumulation_steps=8)
    assert told(found)[0] == ["divided by world_size", "times accumulation_steps"]
    assert found.certainty == OF_MANY_THINGS.format(2)
    assert found.chance > candidates.CERTAIN


@pytest.mark.parametrize(
    "ratio, known", [(2, {"world_size": 2}), (0.25, {"accumulation_steps": 4}), (7, {}), (300, {"world_size": 300})]
)
def test_one_bare_factor_is_not_certain(ratio, known):
    """Whether it is a number that the caller gave or one of the shape: here 7 is the length over weights of 1."""
    full = batch()._replace(weights=np.ones((10, 7)))
    found = explain_mismatch(explained.loss(full), ratio * explained.loss(full), full, **known)
    assert (found.verdict, found.certainty) == ("explained", OF_MANY_THINGS.format(ratio))
    assert 0.4 < found.confidence <= 0.5
    assert f"{found.certainty[1:]}. Unrelated numbers " in found.report()


def test_a_factor_that_is_bare_by_the_ratio_alone_is_not_certain_either():
    found = explain_mismatch(1.2345678901234, 2 * 1.2345678901234, batch(), world_size=2)
    assert found.certainty.endswith("; a bare factor of 2 can have many reasons")
    assert found.notes == ("no convention gives either number; only their ratio is explained",)


@pytest.mark.parametrize("steps", [{"end": "base-2 logarithms"}, {"sums": "mean over padding"}, {"end": "sign"}])
def test_a_factor_that_is_nothing_else_is_certain(steps):
    found = explain(loss(), loss(**steps))
    assert (found.certainty, found.confidence > 0.99) == ("certain", True)


def test_a_cause_is_no_rival_of_its_own_other_form():
    """With equal weights it does not matter which of them a shift takes."""
    even = batch()._replace(weights=np.ones((10, 7)))
    theirs = explained.loss(even, ("labels shifted forward", *RIGHT[1:]))
    found = explain_mismatch(explained.loss(even), theirs, even)
    assert (told(found), found.certainty) == ([["labels shifted forward"]], "certain")
    assert found.confidence > 0.99


def test_a_rarer_pair_that_fits_as_well_is_listed_too():
    """40 tokens, 10 rows and 4 ranks: a fortieth, whether of the tokens or of rows and ranks."""
    planted = (*RIGHT[:2], "batch-size division", "divided by world_size")
    losses = [explained.loss(batch(0, "float32"), names) for names in (RIGHT, planted)]
    found = explain(*losses, 0, "float32")
    assert np.count_nonzero(batch(0).weights) == 40
    assert told(found)[0] == ["count of non-zero weights"]
    assert named(planted) in told(found)


def test_a_half_precision_sum_is_never_certain():
    """Such sums are few, and those of two batches can be the same."""
    planted = (*RIGHT[:2], "half-precision sum (bfloat16)", RIGHT[3])
    found = explain(explained.loss(batch()), explained.loss(batch(), planted))
    assert told(found)[0] == ["half-precision sum (bfloat16)"]
    assert found.chance > 1e-5


def test_a_ratio_is_explained_without_the_inputs_numbers():
    found = explain_mismatch(2.0123456789012345, 16.098765431209876, batch(), world_size=8)
    assert told(found) == [["times world_size"]]
    assert told(found, "mine") == [["divided by world_size"]]
    assert found.notes == ("no convention gives either number; only their ratio is explained",)


def test_a_cause_on_both_sides_is_no_difference():
    summed, shifted = (*RIGHT[:2], "sum", RIGHT[3]), ("doubled shift", RIGHT[1], "sum", RIGHT[3])
    found = explain(explained.loss(batch(), summed), explained.loss(batch(), shifted))
    assert told(found) == [["doubled shift"]]
    assert found.notes == ("apart from that, both sides are the documented weighted mean with sum",)


def test_same():
    loss = explained.loss(batch(dtype="float32"))
    found = explain_mismatch(loss, np.nextafter(loss, np.float32(9)), batch(dtype="float32"))
    assert (found.verdict, found.certainty, found.confidence) == ("same", "the same", 1.0)
    assert "The same" in found.report()
    assert explain_mismatch(float("nan"), float("nan"), batch()).verdict == "same"


def test_none():
    found = explain(loss(), loss() * 1.2345678901)
    assert (found.verdict, found.certainty, found.confidence, found.causes) == ("none", "none of these", 0.0, ())
    assert found.notes == ("mine is the documented weighted mean of these inputs",)
    assert "None of these: no known cause" in found.report()


def test_half_precision_losses_have_too_few_digits():
    rounded = [float(explained.bfloat16(x)) for x in (loss(), loss(end="base-2 logarithms"))]
    found = explain_mismatch(*rounded, batch())
    assert (found.verdict, found.certainty, found.causes, found.confidence) == ("undecided", "undecided", (), 0)
    assert found.chance > match.LIKELY
    assert "base-2 logarithms (theirs)" in map(str, found.alternatives[0])
    assert "Undecided: unrelated numbers with so few digits would fit as well in one of " in found.report()
    assert "It could be this:\nbase-2 logarithms: theirs is in bits." in found.report()


def test_a_zero_fits_whatever_is_zero():
    """Two rows of weight 0 on both ends of a shift: nothing is left of it, and 0 has no digits."""
    weights = np.zeros((10, 7))
    weights[:, 0] = 1
    found = explain_mismatch(explained.loss(batch()._replace(weights=weights)), 0.0, batch()._replace(weights=weights))
    assert (found.verdict, found.causes) == ("undecided", ())
    assert ["first token dropped"] in told(found)
    assert "Undecided: a zero, a NaN or an infinity has no digits to compare." in found.report()


VERDICTS = {
    "same": ("The same: ", lambda right: (right, right)),
    "none": ("None of these: ", lambda right: (right, right * 1.2345678901)),
    "undecided": ("Undecided: ", lambda right: (round(right, 2), round(right / np.log(2), 2))),
    "explained": ("Certain. ", lambda right: (right, right / np.log(2))),
    "overflow": ("Likely: ", lambda right: (right, np.inf)),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_one_verdict_has_one_wording(verdict):
    """No answer says both that nothing reconciles the numbers and what would."""
    large = batch()._replace(logits=batch().logits.astype("float32"))
    large.logits[0, 0, 0] = 100
    begins, numbers = VERDICTS[verdict]
    found = explain_mismatch(*numbers(float(explained.loss(large))), large)
    lines = found.report().splitlines()
    assert found.verdict == verdict
    assert [line for line in lines if line.startswith(tuple(start for start, _ in VERDICTS.values()))] == [
        line for line in lines if line.startswith(begins)
    ]
    assert sum(line.startswith(begins) for line in lines) == 1
    assert ("explains the difference" in found.report()) == (verdict == "none")
    assert (found.causes == ()) == (verdict not in ("explained", "overflow"))


def test_a_loss_from_a_log():
    """A few decimals suffice for a cause that changes much, and rtol overrules what the digits say."""
    loss = float(explained.loss(batch()))
    assert told(explain_mismatch(round(loss, 6), round(8 * loss, 6), batch(), world_size=8)) == [["times world_size"]]
    close = explain_mismatch(loss, loss * (1 + 1e-8), batch())
    assert (close.verdict, explain_mismatch(loss, loss * (1 + 1e-8), batch(), rtol=1e-7).verdict) == ("none", "same")


def test_a_count_in_bfloat16_is_stuck():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(20, 50, 5)).astype(np.float32), rng.integers(0, 5, (20, 50))
    many = explained.Batch(logits, targets, np.ones((20, 50), np.float32))
    found = explain_mismatch(
        explained.loss(many),
        explained.loss(many, (*RIGHT[:2], "half-precision count (bfloat16), one by one", RIGHT[3])),
        many,
    )
    assert told(found)[0] == ["half-precision count (bfloat16)"]
    assert "one by one" in found.causes[0].does


def test_the_report_says_what_to_change():
    found = explain_mismatch(explained.loss(batch()), explained.loss(batch(), (*RIGHT[:2], "sum", RIGHT[3])), batch())
    lines = found.report().splitlines()
    assert lines[3:5] == ["sum: theirs does not divide at all.", "    In theirs: divide by the sum of the weights."]
    assert lines[5] == "    Or in mine: pass reduction='sum' to seqloss.sequence_loss."
    assert lines[7].startswith("Certain. ")
    assert found.as_dict()["causes"][0]["mend"] == "divide by the sum of the weights"
    assert str(found.causes[0]) == "sum (theirs)"


@PROFILE
@given(st.sampled_from([RIGHT, *SINGLES]), st.sampled_from([RIGHT, *SINGLES]), st.integers(0, 2))
def test_sides_are_symmetric(a, b, seed):
    losses = [explained.loss(batch(seed), names) for names in (a, b)]
    there, back = explain(*losses, seed), explain(*losses[::-1], seed)
    assert (there.verdict, there.tried) == (back.verdict, back.tried)
    assert np.isclose(there.confidence, back.confidence, rtol=1e-3)

    def sets(found, mine, theirs):
        swap = {"mine": mine, "theirs": theirs}
        return {frozenset((c.name, swap[c.side]) for c in causes) for causes in (found.causes, *found.alternatives)}

    assert sets(there, "mine", "theirs") == sets(back, "theirs", "mine")
