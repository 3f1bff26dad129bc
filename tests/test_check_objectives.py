"""Losses with options, as check_loss asks for them: smoothing, class weights, z-loss, softcap, other denominators."""

import json
from functools import partial

import numpy as np
import pytest
import right_loss
import wrong_objectives
from wrong_objectives import ALL, BOTH, CAPPED, CLASS_WEIGHTS, DENOMINATORS, PENALISED, SMOOTHED, WEIGHTED, made

import seqloss
from seqloss import Smoothing
from seqloss.testing import Conventions, check_loss, frameworks
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.averages import Averages
from seqloss.testing.check.subjects import subject
from seqloss.testing.invariants import INVARIANTS, Batch, InvariantViolation, NotApplicable, Subject
from seqloss.testing.invariants.batches import draw, of_classes, relabelled
from seqloss.testing.invariants.probe import Probe
from seqloss.testing.invariants.reference import hessian_product, reference
from seqloss.testing.oracle_objectives import Objective

RECORDED = {name for name in INVARIANTS if INVARIANTS[name].needs not in ("", "layouts", "cast")}
"""What NumPy has not."""
UNSHIFTED = {"shift", "gradient_rows", "far_from_0"}
NO_LAW = {
    "plain": set(),
    "smoothed": {"gradient_sign"},
    "off_target": {"gradient_sign"},
    "prior": {"gradient_sign", "many_classes"},
    "class_weights": {"many_classes"},
    "smoothed_with_class_weights": {"gradient_sign", "many_classes"},
    "z_loss": {"gradient_sign", *UNSHIFTED},
    "softcap": {"gradient_sign", *UNSHIFTED},
    "all": {"gradient_sign", "many_classes", *UNSHIFTED},
}


def checked(loss, conventions, *invariants):
    given = {"gradient": "returned", **conventions}
    return check_loss(loss, backend="numpy", conventions=given, invariants=invariants or None)


def by_verdict(check, verdict):
    return {finding.invariant for finding in check.findings if finding.verdict == verdict}


def violated(loss, conventions):
    """Without the search for an example."""
    asked = subject(Adapted(loss, Conventions(gradient="returned", **conventions), frameworks.load("numpy")))
    found = set()
    for name, invariant in INVARIANTS.items():
        try:
            invariant(asked, 0)
        except InvariantViolation:
            found.add(name)
        except NotApplicable:
            pass
    return found


@pytest.mark.parametrize("name", wrong_objectives.RIGHT)
def test_right_losses_hold(name):
    check = checked(*wrong_objectives.RIGHT[name])
    assert check.holds, check.report()
    assert by_verdict(check, "not applicable") == RECORDED | NO_LAW[name]


@pytest.mark.parametrize("mistake", wrong_objectives.WRONG)
def test_mistake_is_noticed_by(mistake):
    loss, conventions, expected = wrong_objectives.WRONG[mistake]
    assert violated(loss, conventions) == expected


# --- what is known of the losses of this library

OPTIONS = {
    "smoothed": SMOOTHED,
    "with class weights": BOTH,
    "class weights, one of them 0": {**SMOOTHED, "class_weights": (0.0, 2.0, 1.0)},
    "z-loss": PENALISED,
    "softcap": CAPPED,
    "all": ALL,
    "off target, centred, without class 5": {"label_smoothing": Smoothing(0.2, True, True, exclude=(5,))},
    "centred": {"label_smoothing": Smoothing(0.1, centred=True)},
    "prior": {"label_smoothing": Smoothing(0.1, prior=(0.0, 2.0, 1.0, 3.0, 1.0))},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_sequence_loss_are_known(name):
    check = check_loss(partial(seqloss.sequence_loss, **OPTIONS[name]))
    assert check.conventions == Conventions(gradient="returned", **OPTIONS[name])
    assert check.holds, check.report()
    assert ("non_negative" in by_verdict(check, "not applicable")) == ("centred" in name)


def test_numbers_of_classes_may_be_arrays():
    options = {
        "class_weights": np.array(CLASS_WEIGHTS, np.float32),
        "label_smoothing": Smoothing(0.1, prior=np.array([1, 2, 3, 2])),
    }
    check = check_loss(partial(seqloss.sequence_loss, **options), invariants=["one_hot", "split_batches"])
    assert check.conventions.class_weights == CLASS_WEIGHTS
    assert check.conventions.label_smoothing == Smoothing(0.1, prior=(1.0, 2.0, 3.0, 2.0))
    assert check.holds, check.report()


def test_options_of_none():
    check = check_loss(partial(seqloss.sequence_loss, class_weights=None, softcap=None), invariants=["padding"])
    assert check.conventions == Conventions(gradient="returned")


# --- each invariant that G asks of the library, through a function that calls it so


def one_hot_targets(z, y, w):
    """A label that is no class has no one-hot vector."""
    soft = np.where((y[..., None] >= 0) & (y[..., None] < z.shape[-1]), np.arange(z.shape[-1]) == y[..., None], np.nan)
    return seqloss.sequence_loss_and_grad(z, np.where(w[..., None] == 0, 0, soft).astype("float32"), w)


def with_normalizer(z, y, w):
    return seqloss.sequence_loss_and_grad(z, y, w, reduction="sum", normalizer=w.sum(dtype=np.float64))


def nan_weights_taken_out(z, y):
    w = np.where(y == -100, np.float32(np.nan), np.float32(1))
    return seqloss.sequence_loss_and_grad(z, y, w, ignore_index=-100)


@pytest.mark.parametrize(
    "loss, conventions",
    [
        (one_hot_targets, {}),
        (with_normalizer, {}),
        (nan_weights_taken_out, {"arguments": ("logits", "targets"), "ignore_label": -100}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_other_ways_to_call_the_library(loss, conventions):
    check = checked(loss, conventions)
    assert check.holds, check.report()


# --- denominators

SHARES = ("padding", "split_batches", "one_hot", "negative_weights", "weight_scaling", "sizes_of_one", "empty")


@pytest.mark.parametrize("is_by", DENOMINATORS)
@pytest.mark.parametrize("said", DENOMINATORS)
def test_denominators(said, is_by):
    """The right one is turned into the mean over the weights; by any other no mean is right."""
    loss = made(0.1, CLASS_WEIGHTS, denominator=DENOMINATORS[is_by])
    check = checked(loss, {**BOTH, "denominator": said}, *SHARES)
    wrong = by_verdict(check, "violated")
    assert wrong == set() if said == is_by else {"one_hot"} <= wrong, check.report()


def test_numbers_of_tokens_in_half_precision():
    """The denominator is no matter of the dtype of the loss."""
    check = checked(made(denominator=DENOMINATORS["positions"]), {"denominator": "positions"}, "count_of_70000")
    assert check.holds, check.report()


@pytest.mark.parametrize("kind", DENOMINATORS)
def test_gradient_of_weights_is_that_of_the_mean_over_weights(kind):
    """From that of the loss itself, which moves its own denominator."""
    averages = Averages(Conventions(**BOTH, denominator=kind))
    summed, loss = (made(0.1, CLASS_WEIGHTS, denominator=d) for d in (lambda w, v: 1, DENOMINATORS[kind]))
    batch = draw(np.random.default_rng(0))
    z, y, w = batch.logits, batch.targets, batch.weights.astype(np.float64)
    # Each token by itself, as a batch of one.
    alone = (x.reshape(6, 1, 1, *x.shape[2:]) for x in (z, y, np.ones_like(w)))
    tokens = np.array([summed(*token)[0] for token in zip(*alone, strict=True)]).reshape(2, 3).astype(np.float64)
    class_weights = np.asarray(CLASS_WEIGHTS)[y]
    total, own = (tokens * w).sum(), DENOMINATORS[kind](w, class_weights)
    by_own = {"weights": class_weights, "weights_alone": np.ones_like(w)}.get(kind, np.zeros_like(w))
    gradient = tokens / own - total * by_own / own**2
    expected = (tokens - total / w.sum()) / w.sum()
    assert loss(z, y, w)[0] == pytest.approx(total / own)
    np.testing.assert_allclose(averages.weight_gradient(gradient, total / own, y, w), expected, rtol=1e-6)


def test_denominator_of_nothing_is_not_applicable():
    averages = Averages(Conventions(class_weights=(0.0, 1.0)))
    with pytest.raises(NotApplicable, match="the denominator is 0"):
        averages.ratio(np.zeros((1, 2), int), np.ones((1, 2)))
    assert averages.ratio(np.zeros((1, 2), int), np.zeros((1, 2))) == 1
    # Of labels that are no class the loss is none either.
    assert averages.ratio(np.full((1, 2), -1), np.ones((1, 2))) == 1


@pytest.mark.parametrize("returns", ["tokens", "sum"])
def test_what_has_no_denominator_is_divided_by_the_sum_of_the_weights(returns):
    def loss(z, y, w):
        weights = {"class_weights": CLASS_WEIGHTS, "reduction": "none" if returns == "tokens" else "sum"}
        return seqloss.sequence_loss_and_grad(z, y, w, **weights)

    check = checked(loss, {**WEIGHTED, "returns": returns}, *SHARES)
    assert check.holds, check.report()


# --- batches


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.0, 1.0, 2.0, 0.5, 0.0, 1.0, 3.0), (0.5, 1.0) * 16])
def test_batches_have_as_many_classes_as_weights(weights):
    sizes, labels = set(), []

    def loss(z, y, w):
        sizes.add(z.shape[-1])
        labels.append(y[(w != 0) & (y >= 0) & (y < len(weights))])
        return made(0.1, weights)(z, y, w)

    check = checked(loss, {**SMOOTHED, "class_weights": weights})
    assert check.holds, check.report()
    assert sizes == {len(weights)}
    assert np.all(np.take(weights, np.concatenate(labels)) > 0)
    detail = {f.invariant: f.detail for f in check.findings}
    assert detail["many_classes"] == "the numbers for each class say how many classes there are"
    assert detail["permutation"] == "its classes are told apart: their order was not changed"


def test_example_keeps_the_number_of_classes():
    def loss(z, y, w):
        value, dlogits = made(class_weights=CLASS_WEIGHTS)(z, y, w)
        return 2 * value, dlogits

    finding, *_ = checked(loss, WEIGHTED, "one_hot").findings
    assert np.shape(finding.example["logits"]) == (1, 1, 4)


def test_a_loss_of_any_number_of_classes_is_asked_with_its_own():
    finding, *_ = checked(right_loss.PIECES, WEIGHTED, "one_hot").findings
    assert np.shape(finding.example["logits"])[-1] == 4
    probe = Probe(Subject(right_loss.PIECES, objective=Objective(class_weights=CLASS_WEIGHTS)), "one_hot")
    with pytest.raises(NotApplicable, match="the loss has not 3 classes"):
        probe.ask(draw(np.random.default_rng(0), classes=3))


def test_more_classes_are_drawn_from_the_logits_there_are():
    batch = draw(np.random.default_rng(0))
    wide, narrow = of_classes(batch, 9), of_classes(batch, 2)
    assert wide.logits.shape == (2, 3, 9) and wide.logits.dtype == np.float32
    assert np.array_equal(wide.logits[..., :4], batch.logits) and np.isin(wide.logits, batch.logits).all()
    assert narrow.logits.shape == (2, 3, 2) and narrow.targets.max() == 1


def test_labels_that_are_avoided_become_the_next():
    targets = np.array([[0, 1, 2, 3, -100, 9]])
    assert relabelled(targets, np.array([True, False, True, True])).tolist() == [[1, 1, 1, 1, -100, 9]]
    for same in (np.zeros(4, bool), np.ones(4, bool)):
        assert relabelled(targets, same) is targets


# --- how much may be lost


@pytest.mark.parametrize("cap", [None, 30.0])
def test_a_cap_may_cost_digits(cap):
    """Of a capped logit of 20 or 30 a rounding is worth so much in an exponential."""

    def loss(z, y, w):
        return tuple(x * np.float32(1 + 100 * 2.0**-23) for x in made(cap=cap)(z, y, w))

    names = {"hopeless_tokens", "confident_tokens"}
    assert by_verdict(checked(loss, {"softcap": cap}, *names), "violated") == (names if cap is None else set())


@pytest.mark.parametrize("weight", [1.0, 512.0])
def test_digits_that_are_lost_weigh_as_much_as_their_class(weight):
    def loss(z, y, w):
        return tuple(np.float32(weight) * x for x in right_loss.made(right_loss.plain)(z, y, w))

    conventions = {"class_weights": (weight, weight), "denominator": "weights_alone"}
    (finding,) = checked(loss, conventions, "confident_tokens").findings
    assert (finding.verdict, finding.kind) == ("violated", "digits")


# --- the reference


def test_reference_of_a_part_that_does_nothing_is_the_plain_one():
    batch = draw(np.random.default_rng(0))
    plain, ones = (reference(batch, Objective(class_weights=given)) for given in (None, np.ones(4)))
    for name, x, y in zip(plain._fields, plain, ones, strict=True):
        if not name.endswith("scale"):
            np.testing.assert_allclose(x.astype(float), y.astype(float), rtol=1e-15, atol=1e-18)


def test_second_derivatives_by_differences():
    rng = np.random.default_rng(0)
    batch = draw(rng)
    direction = rng.normal(size=batch.logits.shape).astype(np.float32)
    plain, ones = (hessian_product(batch, Objective(class_weights=given), direction) for given in (None, np.ones(4)))
    np.testing.assert_allclose(ones, plain, rtol=1e-8, atol=1e-10)
    by_hand = right_loss.hessian_product(batch.logits, batch.weights, direction)
    np.testing.assert_allclose(plain, by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", INVARIANTS)
def test_checks_work_on_the_smallest_batches(name):
    """The shrinker may hand them one token of two classes."""
    batch = Batch(np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), int), np.ones((1, 1), np.float32))
    options = {"label_smoothing": 0.1, "class_weights": (1.0, 2.0)}
    loss = made(0.1, options["class_weights"])
    asked = subject(Adapted(loss, Conventions(gradient="returned", **options), frameworks.load("numpy")))
    try:
        INVARIANTS[name].check(Probe(asked, name), batch, np.random.default_rng(0))
    except NotApplicable:
        assert name in RECORDED | NO_LAW["smoothed_with_class_weights"]


# --- conventions


@pytest.mark.parametrize(
    "given, error, text",
    [
        ({"label_smoothing": 1.5}, seqloss.OptionError, r"label_smoothing must be in \[0, 1\), got 1.5"),
        ({"label_smoothing": "0.1"}, seqloss.ArgumentTypeError, "label_smoothing must be a Python number or a seqloss"),
        ({"label_smoothing": Smoothing(0.1, exclude=(64,))}, seqloss.OptionError, r"class ids in \[0, 64\), got 64"),
        (
            {"label_smoothing": Smoothing(0.1, exclude=(2,)), "class_weights": (1.0, 1.0)},
            seqloss.OptionError,
            r"class ids in \[0, 2\), got 2",
        ),
        (
            {"label_smoothing": Smoothing(0.1, prior=(1.0,) * 3), "class_weights": (1.0, 1.0)},
            seqloss.OptionError,
            "must have the same number of classes",
        ),
        (
            {"label_smoothing": Smoothing(0.1, prior=np.ones(3))},
            seqloss.ArgumentTypeError,
            "Smoothing.prior must be a tuple of numbers or None",
        ),
        (
            {"label_smoothing": Smoothing(0.1, off_target=True), "class_weights": (1.0, 1.0)},
            seqloss.OptionError,
            "class_weights cannot be combined with",
        ),
        ({"class_weights": [1.0, 2.0]}, seqloss.ArgumentTypeError, "class_weights must be a tuple of numbers or None"),
        ({"class_weights": (1.0,)}, seqloss.OptionError, "numbers for 2 to 64 classes, got 1 of them"),
        ({"class_weights": (1.0,) * 65}, seqloss.OptionError, "got 65 of them; check the loss with few classes"),
        ({"class_weights": (0.0, 0.0)}, seqloss.OptionError, "one of them more than 0"),
        ({"class_weights": (1.0, -1.0)}, seqloss.OptionError, "finite and not negative"),
        ({"z_loss": -1.0}, seqloss.OptionError, "z_loss must be at least 0"),
        ({"softcap": 0.0}, seqloss.OptionError, "softcap must be positive"),
        ({"denominator": "labels"}, seqloss.OptionError, "denominator must be one of 'weights', 'weights_alone', 'tok"),
        ({"denominator": "tokens", "returns": "sum"}, seqloss.OptionError, "of returns='sum' has no denominator"),
        ({"denominator": "batch", "layout": "packed"}, seqloss.OptionError, "needs a batch axis"),
    ],
    ids=str,
)
def test_conventions_that_make_no_sense(given, error, text):
    with pytest.raises(error, match=text):
        Conventions(**given)


def test_as_dict_names_the_parts_of_the_smoothing():
    loss = partial(seqloss.sequence_loss, label_smoothing=Smoothing(0.1, exclude=(0,)), softcap=2)
    said = json.loads(json.dumps(check_loss(loss, invariants=["padding"]).as_dict(), allow_nan=False))["conventions"]
    assert (said["softcap"], said["class_weights"]) == (2, None)
    parts = {"eps": 0.1, "off_target": False, "centred": False, "prior": None, "exclude": [0]}
    assert said["label_smoothing"] == parts
