"""A cause is offered only where what it is about is there and where it changes the number."""

import explained
import numpy as np
import pytest
from explained import ACCUMULATION, EPS, PAD, WORLD
from explaining import SINGLES, batch, cause, planted, told

from seqloss.testing.explain import causes, explain_mismatch, inputs, values
from seqloss.testing.explain.causes import tokens


def situation(rows, pad_id=PAD, world_size=WORLD, accumulation_steps=ACCUMULATION, label_smoothing=EPS):
    return inputs.situation(rows, pad_id, world_size, accumulation_steps, None, label_smoothing)


def offered(given, **known):
    """What the causes that are tried on a batch do, but for those over swapped axes, where rows are time steps."""
    found = values.values(inputs.read(given)[0], situation(len(given.targets), **known))
    made_of = [values.choices(convention) for convention in found.conventions]
    return {x.does for each in made_of for x in each if tokens.time_major not in [choice.step for choice in each]}


def does(*names):
    """What all forms of some causes do."""
    return {choice.does for axis in causes.AXES for choice in axis.choices if choice.name in names}


def changed(**arrays):
    return batch()._replace(**arrays)


PROBABILITIES = np.exp(explained.log_softmax(batch().logits))
SIGNED = np.where(np.arange(11) == batch().targets[..., None], 3, -0.2)
NO_PAD = np.where(batch().targets == PAD, PAD + 1, batch().targets)
BINARY = (batch().weights != 0).astype(float)
POSITIVE = batch().weights + 0.5
PADDING = "divides by the number of positions, batch * time, padding included"
ONE_MORE = "reads label y as class y + 1, as where class 0 is kept for padding or blanks"
ORDER = "reads targets and weights of shape [batch, time] in the order of [time, batch]"

LACKING = {
    "a label that is the pad id": (changed(targets=NO_PAD), does("ignored pad id")),
    "padding": (changed(targets=NO_PAD, weights=POSITIVE), {PADDING}),
    "weights": (
        changed(targets=NO_PAD, weights=np.ones((10, 7))),
        does("weights not used", "weights taken as a mask", "weights in the denominator only"),
    ),
    "weights other than 0 and 1": (
        changed(weights=BINARY),
        does("weights taken as a mask", "count of non-zero weights"),
    ),
    "a second step": (
        explained.draw(0, "float64", time=1),
        does("labels shifted forward", "labels shifted backward", "first token dropped", "last token dropped")
        | {ORDER},
    ),
    "a third step": (explained.draw(0, "float64", time=2), does("doubled shift")),
    "a second sequence": (explained.draw(0, "float64", batch=1), does("mean of per-rank means") | {ORDER}),
    "a third class": (explained.draw(0, "float64", classes=2), does("label smoothing eps/(K-2)")),
    "probabilities": (changed(logits=np.abs(batch().logits)), does("logits taken as probabilities")),
    "probabilities that are not negative": (changed(logits=SIGNED), does("logits taken as probabilities")),
    "room for another label": (changed(targets=np.where(BINARY, 10, 0)), {ONE_MORE}),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_not_there_is_no_cause(lacking):
    given, absent = LACKING[lacking]
    assert absent and not absent & offered(given)


WITH_ALL = {
    "a label that is the pad id": batch(),
    "padding": changed(targets=NO_PAD),
    "weights": batch(),
    "weights other than 0 and 1": batch(),
    "a second step": batch(),
    "a third step": batch(),
    "a second sequence": batch(),
    "a third class": batch(),
    "probabilities": changed(logits=PROBABILITIES),
    "probabilities that are not negative": changed(logits=PROBABILITIES),
    "room for another label": changed(targets=batch().targets % 10),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_there_may_be_a_cause(lacking):
    assert LACKING[lacking][1] & offered(WITH_ALL[lacking])


NOT_KNOWN = {
    "pad_id": ("ignored pad id",),
    "world_size": ("times world_size", "divided by world_size", "mean of per-rank means"),
    "accumulation_steps": ("times accumulation_steps", "divided by accumulation_steps", "mean of micro-batch means"),
    "label_smoothing": tuple(name for name in explained.COSTS if name.startswith("label smoothing")),
}


@pytest.mark.parametrize("option", NOT_KNOWN)
def test_what_is_not_known_is_no_cause(option):
    absent = does(*map(cause, NOT_KNOWN[option]))
    assert absent & offered(batch())
    assert not absent & offered(batch(), **{option: None})


def computed(convention, grid, known):
    """The number under a convention, step by step."""
    state, known = grid, known._replace(positions=grid.targets.size)
    for axis, i in zip(causes.AXES, convention, strict=True):
        state = axis.choices[i].step(state, known)
    return float(state)


@pytest.mark.parametrize("seed", range(16))
def test_every_cause_that_is_tried_changes_the_number(seed):
    """Whatever the arrays lack: without any one of its causes a convention gives another number."""
    rng = np.random.default_rng(seed)
    logits, targets, weights = explained.draw(seed, "float64", *rng.integers(1, 5, 2), rng.integers(2, 6))
    plain = rng.integers(0, 2, 4)
    logits = logits * (0 if plain[0] and plain[1] else 1)
    targets = targets % 2 if plain[1] else targets
    weights = np.sign(weights) if plain[2] else weights
    weights = np.ones_like(weights) if plain[3] else weights
    grid, _ = inputs.read((logits, targets, weights))
    known = situation(len(targets))
    found = values.values(grid, known)
    for convention, number in zip(found.conventions, found.losses, strict=True):
        for axis in np.flatnonzero(convention):
            without = computed(tuple(np.where(np.arange(len(convention)) == axis, 0, convention)), grid, known)
            assert not np.isclose(without, number, rtol=1e-14, atol=0), convention


def test_no_pad_label_means_no_pad_cause():
    """The weights in the denominator alone are not padding that was left out, if no label is the pad id."""
    given = changed(targets=NO_PAD)
    for names, causes_told in (
        (planted(sums="weights in the denominator only"), ["weights in the denominator only"]),
        (planted(tokens="weights not used"), ["weights not used"]),
    ):
        found = explain_mismatch(explained.loss(given), explained.loss(given, names), given, pad_id=PAD)
        assert (told(found), found.certainty) == ([causes_told], "certain")


def test_padding_that_is_not_there_is_no_cause():
    full = changed(weights=np.ones((10, 7)))
    found = explain_mismatch(explained.loss(full), 7 * explained.loss(full), full)
    assert told(found) == [["batch-size division"]]
    assert explain_mismatch(explained.loss(full), explained.loss(full, SINGLES[0]), full).verdict == "explained"


# The forms of the causes that need arrays of their own.


def test_logits_that_are_probabilities():
    """Mine takes a softmax of them, which is the second one; theirs takes them as they are."""
    given = changed(logits=PROBABILITIES)
    found = explain_mismatch(explained.loss(given), explained.loss(batch()), given)
    assert (told(found), found.certainty) == ([["logits taken as probabilities"]], "certain")
    assert "the other side has a double softmax" in found.causes[0].does


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_of_few_digits_are_probabilities(dtype):
    assert does("logits taken as probabilities") & offered(changed(logits=PROBABILITIES.astype(dtype)))


def test_smoothing_beside_a_double_softmax():
    """The losses of all classes are those of the probabilities that are scored."""
    nll = -explained.log_softmax(PROBABILITIES)
    smooth = (1 - EPS) * explained.gather(nll, batch().targets) + EPS * nll.mean(-1)
    theirs = explained.mean(smooth, batch().weights)
    found = explain_mismatch(explained.loss(batch()), theirs, batch(), label_smoothing=EPS)
    assert told(found) == [["double softmax", "label smoothing eps/K"]]


def test_smoothing_of_logits_that_are_probabilities():
    nll = -np.log(PROBABILITIES)
    smooth = (1 - EPS) * explained.gather(nll, batch().targets) + EPS * nll.mean(-1)
    given = changed(logits=PROBABILITIES)
    found = explain_mismatch(explained.loss(given), explained.mean(smooth, given.weights), given, label_smoothing=EPS)
    assert told(found) == [["label smoothing eps/K", "logits taken as probabilities"]]


def test_log_probabilities_are_logits():
    """Softmax of them gives the same probabilities once more, and softmax of those is a double softmax as ever."""
    given = changed(logits=explained.log_softmax(batch().logits))
    right, twice = explained.loss(given), explained.loss(given, planted(cost="double softmax"))
    assert np.isclose(right, explained.loss(batch()), rtol=1e-14)
    assert told(explain_mismatch(right, twice, given)) == [["double softmax"]]


def test_labels_that_are_one_too_small():
    given = changed(targets=batch().targets % 10)
    theirs = explained.loss(given._replace(targets=given.targets + 1))
    found = explain_mismatch(explained.loss(given), theirs, given)
    assert (told(found), found.causes[0].does) == ([["ids from 1"]], ONE_MORE)


def test_a_label_that_is_no_class_adds_nothing_to_a_sum_without_weights():
    hidden = changed(targets=np.where(batch().weights == 0, -100, batch().targets))
    nll = explained.COSTS["no smoothing"](*batch()[:2])
    theirs = nll[batch().weights != 0].sum() / batch().weights.sum()
    found = explain_mismatch(explained.loss(batch()), theirs, hidden)
    assert (told(found), found.certainty) == ([["weights in the denominator only"]], "certain")


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_token_at_the_end_of_each_sequence(end):
    """Sequences that end at the right, as those that are padded on the left."""
    left = explained.Batch(*(np.ascontiguousarray(x[:, ::-1]) for x in batch()))
    names = planted(tokens=f"{end} token dropped, of those that count")
    found = explain_mismatch(explained.loss(left), explained.loss(left, names), left)
    assert told(found)[0] == [f"{end} token dropped"]


def test_a_perplexity_of_bits():
    """2 ** bits is exp(nats), so that it is the perplexity; exp(bits) is a pair."""
    right, bits = (explained.loss(batch(), planted(end=end)) for end in ("as it is", "base-2 logarithms"))
    assert told(explain_mismatch(right, 2.0**bits, batch())) == [["perplexity"]]
    assert told(explain_mismatch(right, np.exp(bits), batch())) == [["base-2 logarithms", "perplexity"]]


def test_a_perplexity_of_a_large_loss_has_fewer_digits():
    """An error of the loss grows with it: exp(60) of float32 has lost two of its digits."""
    large = changed(logits=(25 * batch().logits).astype("float32"), weights=batch().weights.astype("float32"))
    right = explained.loss(large)
    assert right > 50
    assert ["perplexity"] in told(explain_mismatch(right, np.exp(right), large))


# The search.


def test_the_search_stays_small():
    """Pairs of causes of which each is rare are left out."""
    sizes = {cost: sum(values.cost(convention) == cost for convention in values.TRIED) for cost in range(4)}
    assert sizes[3] == 0 and sizes[0] + sizes[1] < 150 and sizes[2] < 1600
    rare = [[choice.weight for choice in values.choices(c)] for c in values.TRIED if values.cost(c) == 2]
    assert min(np.prod(weights) for weights in rare) >= values.LEAST_PAIR


def test_each_step_is_taken_once(monkeypatch):
    """What conventions have in common is computed for all of them together."""
    taken = []

    def counted(axis):
        def watch(choice):
            return choice._replace(step=lambda x, known: taken.append(axis.name) or choice.step(x, known))

        return axis._replace(choices=tuple(map(watch, axis.choices)))

    monkeypatch.setattr(values, "AXES", tuple(map(counted, causes.AXES)))
    values.values(inputs.read(batch())[0], situation(10))
    paths = {convention[:n] for convention in values.TRIED for n in range(1, len(convention) + 1)}
    assert len(taken) <= len(paths)
    assert taken.count("layout") == 8


def test_a_long_way_round_is_not_tried():
    """Over swapped axes rows are time steps, and exp of decimal digits is what nobody takes for a perplexity."""
    pairs = [{choice.name for choice in values.choices(convention)} for convention in values.TRIED]
    assert {"base-2 logarithms", "perplexity"} in pairs
    assert {"base-10 logarithms", "perplexity"} not in pairs
