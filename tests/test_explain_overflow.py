"""A number without digits is traced to what is too large on the way to it."""

import explained
import numpy as np
import pytest
from explaining import batch, loss, told

from seqloss.testing.explain import explain_mismatch, overflow


def scaled(dtype, factor=1.0, weight=1.0):
    """Logits and weights as large as they have to be."""
    given = batch()
    return explained.Batch((given.logits * factor).astype(dtype), given.targets, (given.weights * weight).astype(dtype))


def terms(given):
    nll = explained.COSTS["no smoothing"](given.logits.astype("float64"), given.targets)
    return nll, given.weights.astype("float64")


def naive(dtype):
    """log(sum(exp(z))) - z[y], without taking off the largest one."""

    def compute(given):
        z = given.logits.astype(dtype)
        nll = np.log(np.exp(z).sum(-1)) - explained.gather(z, given.targets)
        return explained.mean(nll, given.weights.astype(dtype))

    return compute


def quotient(given):
    """Softmax as a quotient: inf / inf is NaN."""
    e = np.exp(given.logits)
    return explained.mean(-np.log(explained.gather(e / e.sum(-1, keepdims=True), given.targets)), given.weights)


def of_probabilities(select):
    def compute(given):
        e = np.exp(given.logits - given.logits.max(-1, keepdims=True))
        nll = -np.log(explained.gather(e / e.sum(-1, keepdims=True), given.targets))
        return explained.mean(np.where(given.weights == 0, 0, nll) if select else nll, given.weights)

    return compute


def in_half(above, below):
    def compute(given):
        nll, w = terms(given)
        top, bottom = (nll * w).sum(), w.sum()
        return (np.float16(top) if above else top) / (np.float16(bottom) if below else bottom)

    return compute


def perplexity(given):
    nll, w = terms(given)
    return np.exp(np.float32(explained.mean(nll, w)))


CASES = {
    "exp in float32": (scaled("float32", 20), naive("float32"), "overflow of exp(logits) (float32)"),
    "exp in float16": (scaled("float32", 3), naive("float16"), "overflow of exp(logits) (float16)"),
    "exp in float64": (scaled("float64", 200), naive("float64"), "overflow of exp(logits) (float64)"),
    "softmax as a quotient": (scaled("float32", 20), quotient, "overflow of exp(logits) (float32)"),
    "log of 0": (scaled("float32", 20), of_probabilities(True), "underflow of a probability (float32)"),
    "log of 0, weight 0": (scaled("float32", 20), of_probabilities(False), "infinity times weight 0 (float32)"),
    "sum in float16": (scaled("float32", 1, 1000), in_half(True, False), "overflow of the sum (float16)"),
    "count in float16": (scaled("float32", 1, 3000), in_half(False, True), "overflow of the count (float16)"),
    "both in float16": (scaled("float32", 1, 3000), in_half(True, True), "overflow of both sums (float16)"),
    "perplexity in float32": (scaled("float32", 60), perplexity, "overflow of the perplexity (float32)"),
}


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_is_too_large_is_named(name):
    given, compute, cause = CASES[name]
    theirs = compute(given)
    assert not np.isfinite(theirs) or theirs == 0
    found = explain_mismatch(explained.loss(given._replace(logits=given.logits.astype("float64"))), theirs, given)
    assert (found.verdict, found.chance) == ("overflow", 1.0)
    assert [cause] in told(found)
    assert found.confidence == pytest.approx(0.5 / len(told(found)))
    assert ": a zero, a NaN or an infinity has no digits to compare, but these inputs can lead to it." in found.report()
    assert "none of these" not in found.report().lower()


def test_the_size_and_the_end_of_the_dtype_are_told():
    given = scaled("float32", 20)
    (cause, *_), size = explain_mismatch(1.0, np.inf, given).causes, given.logits.max()
    assert cause.does == f"takes exp of logits as large as {size:.4g}, where float32 ends at exp(88.72)"
    assert cause.mend == "subtract the largest logit of each token before exp, as log-sum-exp does"


def test_the_other_side_and_both():
    given = scaled("float32", 20)
    assert told(explain_mismatch(np.nan, 1.0, given), "mine")[0] == ["overflow of exp(logits) (float32)"]
    both = explain_mismatch(np.nan, np.inf, given)
    assert {cause.side for cause in both.causes} == {"mine", "theirs"}


def test_minus_infinity_is_a_log_likelihood_too():
    found = explain_mismatch(1.0, -np.inf, scaled("float32", 20))
    assert all("sign" in names and "overflow of the perplexity (float16)" not in names for names in told(found))


def test_a_narrower_dtype_than_that_of_the_logits_is_meant_only_if_there_is_no_other():
    """In float16 the same logits, losses and sums are too large as well."""
    assert "float16" not in str(explain_mismatch(1.0, np.inf, scaled("float32", 20)))
    assert "float16" in str(explain_mismatch(1.0, np.inf, scaled("float32", 3)))
    assert "float32" not in str(explain_mismatch(1.0, np.inf, scaled("float64", 200)))


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 0.0])
def test_nothing_is_named_where_nothing_is_too_large(number):
    found = explain_mismatch(loss(), number, batch())
    assert (found.verdict, found.causes) == ("none", ())
    assert "nothing on the way is too large for float16" in found.notes[1]


def test_a_number_with_digits_is_no_overflow():
    given = scaled("float32", 20)
    right = explained.loss(given._replace(logits=given.logits.astype("float64")))
    assert explain_mismatch(right, right * 1.23456789, given).verdict == "none"


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_ranges_are_those_of_numpy(dtype):
    ends, real = overflow.RANGES[dtype], np.dtype(dtype).type
    assert [np.isfinite(np.exp(real(ends.exponent * by))) for by in (0.999, 1.001)] == [True, False]
    assert [np.exp(real(-ends.depth * by)) > 0 for by in (0.99, 1.01)] == [True, False]
    assert [np.isfinite(real(ends.largest * by)) for by in (1.0, 1.001)] == [True, False]
