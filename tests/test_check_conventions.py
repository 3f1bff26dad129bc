"""How a loss is called and what it returns: masks, lengths, counts, labels that leave a token out."""

from functools import partial

import numpy as np
import pytest
import right_loss

import seqloss
from seqloss.testing import Conventions, check_loss, frameworks
from seqloss.testing.invariants import INVARIANTS

CHEAP = ("padding", "unsafe_masks", "empty", "split_batches", "permutation", "one_hot", "repeated_calls")
UNREDUCED = {"average_across_timesteps": False, "average_across_batch": False}


def of_weights(framework):
    """The loss that the framework differentiates, or that returns its gradient."""
    return seqloss.sequence_loss_and_grad if framework.name == "numpy" else seqloss.sequence_loss


def with_mask(framework):
    return lambda logits, targets, mask: of_weights(framework)(logits, targets, mask)


def with_lengths(framework):
    def loss(logits, targets, lengths):
        mask = seqloss.sequence_mask(lengths, logits.shape[1], dtype="float32")
        return of_weights(framework)(logits, targets, mask)

    return loss


def one_too_many(framework):
    return lambda logits, targets, lengths: with_lengths(framework)(logits, targets, lengths + 1)


def all_but_the_mask(framework):
    return lambda logits, targets, mask: of_weights(framework)(logits, targets)


FORMS = {"mask": with_mask, "float_mask": with_mask, "lengths": with_lengths}
WRONG = {"lengths": one_too_many, "mask": all_but_the_mask}


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


def checked(framework, loss, *invariants, **conventions):
    given = {"backend": framework.name, "conventions": conventions, "modes": ()}
    return check_loss(loss, **given, invariants=invariants)


@pytest.mark.few_where_compiled("third")
@pytest.mark.parametrize("third", FORMS)
def test_masks_and_lengths(framework, third):
    """Few questions, because each is compiled somewhere."""
    loss = FORMS[third](framework)
    check = checked(framework, loss, "padding", "one_hot", "weight_scaling", arguments=("logits", "targets", third))
    assert check.holds, check.report()
    absent = {f.invariant: f.detail for f in check.findings if f.verdict == "not applicable"}
    which = "weights that are 1 up to an end and 0 after it" if third == "lengths" else "weights of 0 and 1"
    assert absent == {"weight_scaling": f"the loss takes only {which}"}


@pytest.mark.parametrize("third", FORMS)
def test_masks_and_lengths_are_asked_everything(third):
    conventions = {"arguments": ("logits", "targets", third), "gradient": "returned"}
    check = check_loss(FORMS[third](frameworks.load("numpy")), backend="numpy", conventions=conventions)
    assert check.holds, check.report()
    weighted = {"weight_scaling", "negative_weights", "bool_weights"}
    absent = {f.invariant for f in check.findings if f.verdict == "not applicable"}
    assert absent == weighted | {n for n in INVARIANTS if INVARIANTS[n].needs not in ("", "layouts", "cast")}


@pytest.mark.parametrize("third", FORMS)
@pytest.mark.parametrize("returns", ["tokens", "sum"])
def test_masks_and_lengths_beside_what_is_returned(third, returns):
    """A mean of their tokens or sum is over the tokens that count."""

    def loss(logits, targets, given):
        weights = seqloss.sequence_mask(given, targets.shape[1]) if third == "lengths" else given
        losses, slope = seqloss.sequence_loss_and_grad(logits, targets, weights, **UNREDUCED)
        return (losses if returns == "tokens" else losses.sum()), slope

    conventions = {"arguments": ("logits", "targets", third), "returns": returns}
    check = check_loss(loss, backend="numpy", conventions=conventions, invariants=CHEAP)
    assert check.holds, check.report()


@pytest.mark.parametrize("third", WRONG)
def test_masks_and_lengths_that_are_wrong(third):
    numpy = frameworks.load("numpy")
    check = checked(numpy, WRONG[third](numpy), *CHEAP, arguments=("logits", "targets", third))
    assert violated(check) == {"padding", "unsafe_masks", "empty", "one_hot", "split_batches"}, check.report()


@pytest.mark.few_where_compiled("count", "expected")
@pytest.mark.parametrize("count, expected", [("weights", set()), ("tokens", {"padding", "one_hot"})])
def test_sum_and_count(framework, count, expected):
    def loss(logits, targets, weights):
        total = framework.total(seqloss.sequence_loss(logits, targets, weights, **UNREDUCED))
        return total, framework.total(weights if count == "weights" else 0 * weights + 1)

    given = {"backend": framework.name, "conventions": {"returns": "sum_and_count"}}
    if framework.name == "numpy":
        with pytest.raises(seqloss.OptionError, match="returns no gradient with it"):
            check_loss(loss, **given)
        return
    check = check_loss(loss, **given, modes=(), invariants=["padding", "one_hot"])
    assert violated(check) == expected, check.report()


# --- a label that leaves a token out


def ignoring(label):
    def loss(z, y):
        w = (y != label).astype(np.float32)
        return right_loss.PIECES(z.astype(np.float32), np.where(w == 0, 0, y), w)

    return loss


def verdicts(check):
    return {(f.invariant, f.mode, f.dtype): f.verdict for f in check.findings}


@pytest.mark.parametrize("label", [0, 1, 3])
def test_ignored_label_may_be_a_class(label):
    """No token that counts gets it, in no batch: everything that can be asked of -100 can be asked."""
    conventions = {"arguments": ("logits", "targets"), "ignore_label": label}
    check = check_loss(ignoring(label), backend="numpy", conventions=conventions)
    assert check.holds, check.report()
    plain = check_loss(ignoring(-100), backend="numpy", conventions={**conventions, "ignore_label": -100})
    assert verdicts(check) == verdicts(plain)


@pytest.mark.parametrize("label", [0, 1])
def test_example_gives_the_ignored_label_to_no_token_that_counts(label):
    def loss(z, y):
        value, dlogits = ignoring(label)(z, y)
        return 2 * value, dlogits

    conventions = {"arguments": ("logits", "targets"), "ignore_label": label}
    finding, *_ = check_loss(loss, backend="numpy", conventions=conventions, invariants=["one_hot"]).findings
    assert finding.example["targets"] == [[1 - label]]


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_no_batch_gives_it_to_a_token_that_counts(invariant):
    labels = []

    def loss(z, y, w):
        labels.append(y[w != 0])
        return right_loss.PIECES(z, y, w)

    part = right_loss.subject(loss, compiled=loss, ignore_label=1)
    INVARIANTS[invariant](part, 0)
    assert 1 not in np.concatenate([np.zeros(0), *labels])


# --- conventions that are changed


def test_mapping_changes_what_is_known():
    check = check_loss(seqloss.sequence_loss, backend="numpy", conventions={"layout": "batch"}, invariants=["padding"])
    assert check.conventions == Conventions(gradient="returned")
    assert check.holds


def test_mapping_changes_the_usual():
    check = check_loss(
        ignoring(-100),
        backend="numpy",
        conventions={"arguments": ("logits", "targets"), "ignore_label": -100},
        invariants=["padding"],
    )
    assert check.conventions == Conventions(("logits", "targets"), ignore_label=-100, gradient="returned")


@pytest.mark.parametrize(
    "said, error, text",
    [
        ({"label": 0}, seqloss.OptionError, "conventions are arguments, layout, .*, got label"),
        ({"returns": "median"}, seqloss.OptionError, "returns must be one of"),
        (["tokens"], seqloss.ArgumentTypeError, "conventions must be a seqloss.testing.Conventions, a mapping or None"),
        ({"weight_gradient": 1}, seqloss.ArgumentTypeError, "weight_gradient must be True or False"),
        (
            {"arguments": ("logits", "targets", "lengths"), "layout": "packed"},
            seqloss.OptionError,
            "lengths need a time",
        ),
        ({"arguments": ("logits", "targets", "mask", "weights")}, seqloss.OptionError, "at most one of weights, mask"),
    ],
)
def test_conventions_that_make_no_sense(said, error, text):
    with pytest.raises(error, match=text):
        check_loss(right_loss.PIECES, backend="numpy", conventions=said)


def test_partial_of_a_known_loss_keeps_what_it_does_not_change():
    check = check_loss(partial(seqloss.sequence_loss, check_labels=True), invariants=["padding"])
    assert (check.name, check.conventions) == ("seqloss.sequence_loss", Conventions(gradient="returned"))
