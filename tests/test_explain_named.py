"""Causes with a number that the caller may name, and the advice that gives the same as a recording."""

import re

import explained
import numpy as np
import pytest
from explained import ACCUMULATION, EPS, OPTIONS, RIGHT
from explaining import IDS, SINGLES, batch, loss, told

import seqloss
from seqloss.testing import oracle_objectives
from seqloss.testing.explain import causes, explain_mismatch, inputs, values

# --- the advice, followed


def softmax(z):
    return np.exp(explained.log_softmax(z))


def followed(advice, given):
    """The loss of the library with the arguments that an advice names."""
    arguments, more = re.fullmatch(r"pass (.*) to seqloss\.sequence_loss(, .*)?", advice).groups()
    assert more is None or "label smoothing" not in arguments
    rows, time, classes = given.logits.shape
    names = {**given._asdict(), "batch": rows, "time": time, "classes": classes, "softmax": softmax}
    said = eval(f"dict({arguments})", {"np": np, "seqloss": seqloss, **names})
    return seqloss.sequence_loss(**{**given._asdict(), **said})


NUMBERS = {  # what follows the loss of the library
    "divide by ln 2": lambda x: x / np.log(2),
    "divide by ln 10": lambda x: x / np.log(10),
    "multiply by world_size": lambda x: x * explained.WORLD,
    "divide by world_size": lambda x: x / explained.WORLD,
    "multiply by accumulation_steps": lambda x: x * ACCUMULATION,
    "divide by accumulation_steps": lambda x: x / ACCUMULATION,
    "multiply by -1": lambda x: -x,
    "take exp of the loss": np.exp,
    "take 2 ** loss": np.exp2,
}
IN_WORDS = ("average seqloss.sequence_loss of each micro-batch", "average seqloss.sequence_loss of each rank")
WITHOUT = ("time-major confusion", "half-precision", "label smoothing eps/(K-2)")
"""Mistakes that no option makes."""


@pytest.mark.parametrize("names", SINGLES, **IDS)
def test_who_does_as_advised_gets_their_number(names):
    """Their number is a recording, which cannot change."""
    theirs = loss(**dict(zip(("tokens", "cost", "sums", "end"), names, strict=True)))
    cause, *_ = explain_mismatch(loss(), theirs, batch(), **OPTIONS).causes
    advice = cause.same
    if not advice:
        (mistake,) = explained.mistakes(names)
        assert mistake.startswith(WITHOUT) or "of those that count" in mistake
    elif advice in NUMBERS:
        np.testing.assert_allclose(NUMBERS[advice](seqloss.sequence_loss(*batch())), theirs, rtol=1e-12)
    elif "subtract that entropy" in advice:
        q = np.full(11, EPS / 11) + (1 - EPS) * np.eye(11)[0]
        np.testing.assert_allclose(
            followed(advice.partition(", and take")[0], batch()) + (q * np.log(q)).sum(), theirs, rtol=1e-12
        )
    elif advice not in IN_WORDS:
        np.testing.assert_allclose(followed(advice, batch()), theirs, rtol=1e-12)


def test_advice_is_given_where_there_is_an_option():
    """Each choice without one is a mistake that nobody has to make again."""
    bare = {choice.name for axis in causes.AXES for choice in axis.choices if choice.name and not choice.same}
    allowed = {"first token dropped", "last token dropped"}
    assert {name for name in bare if not name.startswith(WITHOUT)} == allowed


@pytest.mark.parametrize("name", ["sum", "batch-size division"])
def test_what_to_pass_in_mine_is_said_of_their_causes_alone(name):
    theirs = explain_mismatch(loss(), loss(sums=name), batch())
    mine = explain_mismatch(loss(sums=name), loss(), batch())
    assert theirs.causes[0].advice == (
        "in theirs: divide by the sum of the weights",
        f"or in mine: {theirs.causes[0].same}",
    )
    assert f"\n    Or in mine: {theirs.causes[0].same}.\n" in theirs.report()
    assert mine.causes[0].advice == ("in mine: divide by the sum of the weights",)
    assert "Or in" not in mine.report()
    assert theirs.as_dict()["causes"][0]["same"] == theirs.causes[0].same


# --- causes with a number

RARE = [("softcap", 15.0), ("temperature", 3.0), ("z_loss", 1e-3)]
CAUSE = {"softcap": "softcap", "temperature": "temperature", "z_loss": "z-loss"}
USUAL = {"softcap": (30, 50), "temperature": (0.5, 0.7, 0.8, 2, 4), "z_loss": (1e-4,)}
ALL = [(name, by) for name, numbers in USUAL.items() for by in numbers]


def with_number(name, by, given, *, smoothing=0.0, dtype="float64"):
    """The reference with one number; a temperature is none of its options."""
    logits = given.logits / by if name == "temperature" else given.logits
    options = {} if name == "temperature" else {name: by}
    losses = oracle_objectives.tokens(logits, given.targets, oracle_objectives.Objective(eps=smoothing, **options))
    kept = np.ones(given.targets.shape, bool)
    reduced = oracle_objectives.averaged(losses, given.weights, kept, oracle_objectives.Objective(), "mean")
    return np.dtype(dtype).type(reduced.loss)


@pytest.mark.parametrize("side", ["mine", "theirs"])
@pytest.mark.parametrize("name, by", ALL)
@pytest.mark.parametrize("as_given", [float, np.asarray], ids=["numbers", "arrays"])
def test_usual_numbers_need_no_name_in_float64(name, by, side, as_given):
    both = [as_given(loss()), as_given(with_number(name, by, batch()))]
    found = explain_mismatch(*(both if side == "theirs" else both[::-1]), batch())
    assert (told(found, side), found.certainty) == ([[CAUSE[name]]], "certain")
    assert f"{by:g}" in found.causes[0].does


@pytest.mark.parametrize("name, by", [*ALL, *RARE])
def test_a_number_that_is_named_is_found(name, by):
    found = explain_mismatch(loss(), with_number(name, by, batch()), batch(), **{name: by})
    assert (told(found), found.certainty) == ([[CAUSE[name]]], "certain")
    np.testing.assert_allclose(followed(found.causes[0].same, batch()), found.theirs, rtol=1e-12)


@pytest.mark.parametrize("name, by", RARE)
def test_a_number_that_nobody_named_is_not_guessed(name, by):
    found = explain_mismatch(loss(), with_number(name, by, batch()), batch())
    assert (found.verdict, found.causes) == ("none", ())


@pytest.mark.parametrize("name, by", ALL)
def test_numbers_that_are_named_show_in_float32(name, by):
    """A z-loss of 1e-4 changes these losses by less than one in a thousand."""
    seen = 0
    for seed in range(10):
        given = batch(seed, "float32")
        theirs = with_number(name, by, given, dtype="float32")
        found = explain_mismatch(loss(seed, "float32"), theirs, given, **{name: by})
        assert [CAUSE[name]] in told(found) and found.verdict in ("explained", "undecided")
        seen += found.verdict == "explained"
    assert seen >= (4 if name == "z_loss" else 9)


@pytest.mark.parametrize("name, by", ALL)
def test_who_names_one_number_has_no_other(name, by):
    """The usual ones are tried no more: two that are close together are not told apart by a name."""
    other = {"softcap": 20.0, "temperature": 0.6, "z_loss": 2e-4}[name]
    found = explain_mismatch(loss(), with_number(name, by, batch()), batch(), **{name: other})
    assert (found.verdict, found.causes) == ("none", ())


def test_a_z_loss_beside_smoothing():
    """As in t5x, of which the smoothed part and the penalty are found in one loss."""
    theirs = with_number("z_loss", 1e-4, batch(), smoothing=EPS)
    found = explain_mismatch(loss(), theirs, batch(), label_smoothing=EPS, z_loss=1e-4)
    assert told(found) == [["label smoothing eps/K", "z-loss"]]
    assert [cause.same for cause in found.causes] == [
        "pass label_smoothing=0.1 to seqloss.sequence_loss",
        "pass z_loss=0.0001 to seqloss.sequence_loss",
    ]


@pytest.mark.parametrize("name", ["softcap", "temperature", "z_loss"])
@pytest.mark.parametrize("beside", ["mean over padding", "sum"])
def test_a_number_beside_another_denominator(name, beside):
    by = USUAL[name][0]
    total = batch().weights.sum()
    theirs = with_number(name, by, batch()) * total / (70 if beside == "mean over padding" else 1)
    found = explain_mismatch(loss(), theirs, batch(), **{name: by})
    assert told(found)[0] == sorted([CAUSE[name], beside])


def test_both_sides_with_a_cap_differ_in_something_else():
    capped = batch()._replace(logits=30 * np.tanh(batch().logits / 30))
    summed = (*RIGHT[:2], "sum", RIGHT[3])
    found = explain_mismatch(explained.loss(capped), explained.loss(capped, summed), batch(), softcap=30)
    assert told(found) == [["sum"]]
    assert found.notes == ("apart from that, both sides are the documented weighted mean with softcap",)


# --- where there is nothing of the kind


def test_what_changes_nothing_is_no_cause():
    """All classes are as likely: no cap and no temperature moves them."""
    even = batch()._replace(logits=np.zeros_like(batch().logits))
    found = values.values(inputs.read(even)[0], inputs.situation(10, None, None, None, None, None))
    names = {choice.name for convention in found.conventions for choice in values.choices(convention)}
    assert not names & {"softcap", "temperature"} and "z-loss" in names


@pytest.mark.parametrize("other", [{"sums": "sum"}, {"end": "base-2 logarithms"}, {"tokens": "doubled shift"}])
@pytest.mark.parametrize("options", [{}, {"softcap": 30, "temperature": 0.7, "z_loss": 1e-4}], ids=["usual", "named"])
def test_what_is_something_else_is_not_a_number(other, options):
    found = explain_mismatch(loss(), loss(**other), batch(), **options)
    offered = {cause.name for one in (found.causes, *found.alternatives) for cause in one}
    assert found.verdict == "explained" and not offered & set(CAUSE.values())


@pytest.mark.parametrize(
    "below, above, named",
    [(True, True, None), (False, True, "count of non-zero weights"), (False, False, "weights taken as a mask")],
)
def test_class_weights_are_weights(below, above, named):
    """They are no input: the mask times those of the labels is, and tells where a side has them."""
    mask = (batch().weights != 0).astype(float)
    each = mask * np.linspace(0.5, 2, 11)[batch().targets]
    nll = explained.COSTS["no smoothing"](*batch()[:2])
    theirs = (nll * (each if above else mask)).sum() / (each if below else mask).sum()
    given = batch()._replace(weights=each)
    assert told(explain_mismatch(explained.loss(given), theirs, given)) == ([[named]] if named else [])


def test_the_rows_of_micro_batches_leave_nothing_open():
    """A number of them may be cut evenly, or with a last one that is smaller; row counts may not."""
    known = inputs.situation(10, None, None, None, 3, None)
    assert (known.micro_batches, known.chunks) == ((4, 3, 3), (4, 4, 2))
    assert inputs.situation(10, None, None, None, [4, 3, 3], None).chunks is None
    theirs = loss(sums="mean of micro-batch means, the last one smaller")
    assert "smaller" in explain_mismatch(loss(), theirs, batch(), micro_batches=3).causes[0].does
    assert told(explain_mismatch(loss(), theirs, batch(), micro_batches=[4, 4, 2])) == [["mean of micro-batch means"]]
    assert explain_mismatch(loss(), theirs, batch(), micro_batches=[4, 3, 3]).verdict == "none"
