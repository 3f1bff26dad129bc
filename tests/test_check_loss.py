"""What check_loss says of losses that are wrong in known ways, on NumPy, where nothing has to be compiled."""

import json
import re
import sys
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import right_loss
import wrong_losses

import seqloss
from seqloss.testing import Conventions, Finding, LossCheck, check_loss, frameworks
from seqloss.testing.check import judging, resolve
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.shrinking import Smallest, Violating, smallest
from seqloss.testing.check.subjects import subject
from seqloss.testing.invariants import INVARIANTS, Batch, InvariantViolation, NotApplicable, Subject
from seqloss.testing.invariants.probe import Probe

RETURNED = {
    "mean": Conventions(gradient="returned"),
    "sum": Conventions(gradient="returned", returns="sum"),
    "tokens": Conventions(("logits", "targets"), gradient="returned", returns="tokens"),
    "weighted tokens": Conventions(gradient="returned", returns="tokens"),
    "packed": Conventions(("logits", "targets", "weights"), layout="packed", gradient="returned"),
    "time": Conventions(("targets", "w=weights", "z=logits"), layout="time", gradient="returned"),
    "ignoring": Conventions(("logits", "targets"), ignore_label=-100, gradient="returned"),
    "unweighted": Conventions(("logits", "targets"), gradient="returned"),
}


def tokens(z, y):
    with np.errstate(all="ignore"):
        return right_loss.with_nan(right_loss.accurate, z.astype(np.float32), y)


def right(z, y, w):
    """Whatever the dtype, computed in float32."""
    return right_loss.PIECES(z.astype(np.float32), y, w.astype(np.float32))


def weighted_tokens(z, y, w):
    w = w.astype(np.float32)
    return tuple(right_loss.masked(w, x) * w.reshape(w.shape + (1,) * (x.ndim - w.ndim)) for x in tokens(z, y))


def summed(z, y, w):
    nll, slope = weighted_tokens(z, y, w)
    return nll.sum(), slope


def packed(z, y, w):
    assert z.ndim == 2 and y.shape == w.shape == z.shape[:1]
    value, dlogits = right(z[None], y[None], w[None])
    return value, dlogits[0]


def by_time(y, *, z, w):
    value, dlogits = right(*(np.swapaxes(x, 0, 1) for x in (z, y, w)))
    return value, np.swapaxes(dlogits, 0, 1)


def ignoring(z, y):
    w = (y != -100).astype(np.float32)
    return right(z, np.where(w == 0, 0, y), w)


def unweighted(z, y):
    return right(z, y, np.ones(y.shape, np.float32))


RIGHT = {
    "mean": right,
    "sum": summed,
    "weighted tokens": weighted_tokens,
    "packed": packed,
    "time": by_time,
    "ignoring": ignoring,
    "unweighted": unweighted,
}


def checked(loss, conventions, *invariants):
    return check_loss(loss, backend="numpy", conventions=conventions, invariants=invariants or None)


def verdicts(check):
    return {finding.invariant: finding.verdict for finding in check.findings if finding.dtype == "float32"}


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


@pytest.mark.parametrize("convention", RIGHT)
def test_right_loss_holds_by_its_conventions(convention):
    check = checked(RIGHT[convention], RETURNED[convention])
    assert check.holds, check.report()
    assert bool(check)
    absent = {name for name, verdict in verdicts(check).items() if verdict == "not applicable"}
    weighted = {"weight_scaling", "negative_weights", "bool_weights"}
    lacking = {"ignoring": weighted, "unweighted": {*weighted, "padding", "unsafe_masks"}}
    recorded = {name for name in INVARIANTS if INVARIANTS[name].needs not in ("", "layouts", "cast")}
    assert absent == recorded | lacking.get(convention, set())


def test_tokens_are_weighted_as_users_do_it():
    """The weights are multiplied in outside: NaN behind them stays NaN, and nothing else is wrong."""
    assert violated(checked(tokens, RETURNED["tokens"])) == {"unsafe_masks"}


@pytest.mark.parametrize("convention", ["packed", "time", "sum", "weighted tokens", "ignoring"])
def test_conventions_matter(convention):
    """By the wrong ones no right loss is right, or it cannot be called."""
    try:
        check = checked(RIGHT[convention], RETURNED["mean"])
    except seqloss.OptionError:
        return
    assert not check.holds


MISTAKES = [name for name, (loss, _) in wrong_losses.WRONG.items() if not isinstance(loss, Subject)]


@pytest.mark.parametrize(
    "mistake", [name for name in MISTAKES if name not in ("value_of_one_entry", "denominator_of_two_calls")]
)
def test_mistakes_are_found_under_their_names(mistake):
    """All but the counts, in which the search for an example takes long, and what remembers other tests."""
    loss, expected = wrong_losses.WRONG[mistake]
    names = {name for name in INVARIANTS if not name.startswith("count_of") and not INVARIANTS[name].needs}
    check = check_loss(loss, backend="numpy", invariants=names)
    assert {f.invariant for f in check.findings if f.verdict == "violated" and f.dtype == "float32"} == expected & names


@pytest.mark.parametrize(
    "convention, loss, array",
    [
        ("mean", wrong_losses.in_place, "logits"),
        ("mean", wrong_losses.labels_masked_in_place, "targets"),
        ("time", lambda y, *, z, w: by_time(y, z=np.subtract(z, z.max(-1, keepdims=True), out=z), w=w), "logits"),
    ],
)
def test_writing_into_arguments_is_found_under_its_name_alone(convention, loss, array):
    check = checked(loss, RETURNED[convention], *(name for name in INVARIANTS if not INVARIANTS[name].half))
    assert violated(check) == {"arguments_unwritten"}, check.report()
    (finding,) = [f for f in check.findings if f.verdict == "violated"]
    assert finding.example["what"] == f"the {array} after the call"
    assert finding.example["got"] != finding.example["expected"] == finding.example[array]


@pytest.mark.parametrize("most", [5, 1030, 4000])
def test_many_classes_are_as_few_as_can_be(most):
    def loss(z, y, w):
        value, dlogits = right(z, y, w)
        return value * (1 if z.shape[-1] <= most else 3), dlogits

    check = checked(loss, RETURNED["mean"], "one_hot", "many_classes")
    assert violated(check) == {"many_classes"}
    (finding,) = [f for f in check.findings if f.verdict == "violated"]
    logits = finding.example["logits"]
    classes = int(re.search(r"(\d+)\]", logits)[1]) if isinstance(logits, str) else np.shape(logits)[-1]
    assert most < classes <= most + 1 + most // 8
    assert (most > 5) == isinstance(logits, str)


# --- the smallest example ------------------------------------------------------------------------------------------


EXAMPLES = {
    "weight_times_NaN": ("unsafe_masks", [2, 0]),
    "mean_over_padding": ("padding", [2, 1]),
    "labels_wrapped": ("label_policy", [1, 1]),
    "0_by_0": ("empty", [1, 1]),
    "base_2_logarithm": ("one_hot", [1, 1]),
    "exponential_without_the_shift": ("shift", [1, 1]),
}


@pytest.mark.parametrize("mistake", EXAMPLES)
def test_example_is_small_and_still_violates(mistake):
    invariant, _ = EXAMPLES[mistake]
    loss = wrong_losses.WRONG[mistake][0]
    finding, *_ = check_loss(loss, backend="numpy", invariants=[invariant]).findings
    example = finding.example
    logits = np.array(example["logits"])
    assert logits.size <= 4
    assert set(np.unique(logits[np.isfinite(logits)])) <= {0, 1e4, -1e4} or invariant == "padding"
    if invariant != "label_policy":
        assert set(np.ravel(example["targets"])) <= {0, -100}
    assert example["expected"] != example["got"]
    assert finding.detail.startswith(example["what"])


def test_example_of_a_large_batch_is_told_and_not_listed():
    loss = right_loss.made(denominator=lambda w: w.sum() if w.size <= 65504 else np.inf)
    finding, half = check_loss(loss, backend="numpy", invariants=["count_of_70000"]).findings
    rows, steps, _ = map(int, finding.example["logits"].partition("[")[2].partition("]")[0].split(","))
    assert 65504 < rows * steps <= 70000
    assert finding.example["logits"].endswith("all 0")
    assert finding.example["logits"].startswith("float32[")
    assert half.example["logits"].startswith("float16[")
    assert half.example["weights"].startswith("float16[")
    assert half.example["targets"].startswith("int64[")


def test_shrinking_ends_where_no_calls_are_left():
    calls = []

    def loss(z, y, w):
        calls.append(z.shape)
        value, dlogits = right_loss.PIECES(z, y, w)
        return value + 1, dlogits

    subject, invariant = Subject(loss), INVARIANTS["one_hot"]
    batch = invariant.draw(np.random.default_rng(0))
    with pytest.raises(InvariantViolation) as caught:
        invariant.check(Probe(subject, "one_hot"), batch, np.random.default_rng(0))
    start = Smallest(batch, caught.value)
    for limit, least in ((0, 0), (5, 5), (200, 8)):
        calls.clear()
        found = smallest(Violating(subject, invariant, 0, limit, start.violation), start)
        assert least <= len(calls) <= limit
        assert (found is start) == (limit == 0)
    assert found.batch.logits.tolist() == [[[0, 0]]]
    assert found.violation.batch.logits.tolist() == [[[0, 0]]]


def test_shrinking_keeps_to_batches_that_violate():
    """Only label 1 is wrong, and only beside another token."""

    def loss(z, y, w):
        value, dlogits = right_loss.PIECES(z, y, w)
        return value + (1 in y and y.size > 1), dlogits

    (finding,) = check_loss(loss, backend="numpy", invariants=["one_hot"]).findings
    example = finding.example
    assert np.size(example["targets"]) == 2
    assert sorted(np.ravel(example["targets"])) == [0, 1]
    assert np.array(example["logits"]).shape[-1] == 2


def test_the_same_seed_finds_the_same():
    loss = wrong_losses.WRONG["smoothed_labels"][0]
    one, same = (check_loss(loss, backend="numpy", seed=3).as_dict() for _ in range(2))
    assert one == same


def test_quick_form_finds_the_example_and_the_loss_confirms_it():
    wrong, right = wrong_losses.WRONG["base_2_logarithm"][0], right_loss.PIECES
    sizes = []

    def counted(z, y, w):
        sizes.append(z.size)
        return wrong(z, y, w)

    found = judging.finding(Subject(counted, quick=wrong), INVARIANTS["one_hot"], 0)
    assert sizes == [24, 2]
    assert found.example["logits"] == [[[0, 0]]]
    # A quick form that knows better finds nothing smaller.
    found = judging.finding(Subject(wrong, quick=right), INVARIANTS["one_hot"], 0)
    assert np.shape(found.example["logits"]) == (1, 1, 2)
    assert found.verdict == "violated"


def test_example_keeps_a_token_that_counts():
    """Where none counts, 0 / 0 would be taken for the NaN behind the mask."""
    loss = right_loss.made(hide=lambda w, x: x, divide=np.divide)
    finding, *_ = check_loss(loss, backend="numpy", invariants=["unsafe_masks"]).findings
    assert finding.example["weights"] == [[1.0, 0.0]]


@pytest.mark.parametrize("other", ["exception", "nan", "shape"])
def test_example_keeps_the_kind_of_failure(other):
    """A loss that is twice too large fails otherwise where there are two classes, or one token."""

    def loss(z, y, w):
        value, dlogits = right_loss.PIECES(z, y, w)
        if z.shape[-1] > 2 and y.size > 1:
            return 2 * value, dlogits
        if other == "exception":
            raise IndexError("too few classes")
        return (np.float32(np.nan), dlogits) if other == "nan" else (np.zeros(2), dlogits)

    finding, *_ = check_loss(loss, backend="numpy", invariants=["one_hot"]).findings
    assert np.shape(finding.example["logits"]) in ((1, 2, 3), (2, 1, 3))
    assert finding.example["got"] == pytest.approx(2 * finding.example["expected"])


def test_an_example_of_an_exception_raises_the_same():
    def loss(z, y, w):
        if z.shape[-1] == 2:
            raise IndexError("too few classes")
        raise ZeroDivisionError("always")

    finding, *_ = check_loss(
        lambda z, y, w: right_loss.PIECES(z, y, w) if w.all() else loss(z, y, w),
        backend="numpy",
        invariants=["unsafe_masks"],
    ).findings
    assert finding.detail == "an exception: ZeroDivisionError('always')"
    assert np.shape(finding.example["logits"])[-1] == 3


KINDS = {
    "lse_minus_t": ("confident_tokens", "digits"),
    "lse_minus_t_without_the_shift": ("shift", "digits"),
    "exponential_without_the_shift": ("shift", "numbers"),
    "labels_wrapped": ("label_policy", "refusal"),
    "bad_labels_without_a_NaN_row": ("label_policy", "refusal"),
    "base_2_logarithm": ("one_hot", "numbers"),
    "weight_times_NaN": ("unsafe_masks", "numbers"),
}


@pytest.mark.parametrize("mistake", KINDS)
def test_kinds_of_violations(mistake):
    invariant, kind = KINDS[mistake]
    check = check_loss(wrong_losses.WRONG[mistake][0], backend="numpy", invariants=[invariant])
    assert {(f.verdict, f.kind) for f in check.findings} == {("violated", kind)}
    shown = {"digits": "DIGITS LOST", "refusal": "NOT REFUSED", "numbers": "VIOLATED"}[kind]
    assert shown in check.report().splitlines()[3]
    assert check.as_dict()["findings"][0]["kind"] == kind


def test_half_without_tokens_that_count_is_no_matter_of_split_batches():
    batch = INVARIANTS["split_batches"].draw(np.random.default_rng(0))
    batch.weights[2:] = 0
    probe = Probe(right_loss.made(divide=np.divide), "split_batches")
    INVARIANTS["split_batches"].check(probe, batch, np.random.default_rng(0))
    assert probe.asked == 4


# --- verdicts ------------------------------------------------------------------------------------------------------


def test_half_precision_is_counted_in_each_half_dtype():
    check = check_loss(seqloss.sequence_loss, backend="numpy", invariants=["count_of_1001", "padding", "shift"])
    assert [(f.invariant, f.dtype) for f in check.findings] == [
        ("padding", "float32"),
        ("padding", "float16"),
        ("shift", "float32"),
        ("count_of_1001", "float32"),
        ("count_of_1001", "float16"),
    ]


@pytest.mark.parametrize(
    "mistake, invariant",
    [
        ("mean_over_padding", "padding"),
        ("weight_times_NaN", "unsafe_masks"),
        ("0_by_0", "empty"),
        ("labels_clamped", "label_policy"),
    ],
)
def test_mistake_in_half_precision_alone(mistake, invariant):
    def loss(z, y, w):
        wrong = wrong_losses.WRONG[mistake][0] if z.dtype == np.float16 else right
        return wrong(z, y, w)

    check = check_loss(loss, backend="numpy", invariants=["padding", "unsafe_masks", "empty", "label_policy"])
    assert {(f.invariant, f.dtype) for f in check.findings if f.verdict == "violated"} == {(invariant, "float16")}


def test_refused_dtype_is_not_applicable():
    def loss(z, y, w):
        if z.dtype != np.float32:
            raise TypeError("float32 alone")
        return right_loss.PIECES(z, y, w)

    check = check_loss(loss, backend="numpy", invariants=["count_of_1001"])
    assert [f.verdict for f in check.findings] == ["holds", "not applicable"]
    assert check.findings[1].detail == "float16 is refused: TypeError"


@pytest.mark.parametrize("convention, weight", [("ignoring", 0.5), ("unweighted", 0.0)])
def test_weights_that_the_loss_cannot_take_are_not_applicable(convention, weight):
    asked = subject(Adapted(RIGHT[convention], RETURNED[convention], frameworks.load("numpy")))
    batch = INVARIANTS["one_hot"].draw(np.random.default_rng(0))
    batch.weights[:] = weight
    with pytest.raises(NotApplicable):
        asked(*batch)


def test_warnings_of_the_loss_are_not_shown():
    def loss(z, y, w):
        warnings.warn("deprecated", stacklevel=1)
        return right(z, y, w)

    assert check_loss(loss, backend="numpy", invariants=["padding"]).holds


def test_exception_is_a_violation_and_the_detail_names_it():
    def loss(z, y, w):
        if not w.all():
            raise ZeroDivisionError("a weight of 0")
        return right_loss.PIECES(z, y, w)

    check = check_loss(loss, backend="numpy", invariants=["unsafe_masks"])
    assert check.findings[0].verdict == "violated"
    assert "ZeroDivisionError('a weight of 0')" in check.findings[0].detail


@pytest.mark.parametrize("which", ["loss", "second"])
def test_exit_is_a_violation(which):
    """Even where an exception would be a right answer."""

    def exits(*arrays):
        raise SystemExit(3)

    subject = right_loss.subject(**{which: exits})
    names = {"loss": ("padding", "label_policy", "empty"), "second": ("double_backward",)}[which]
    for name in names:
        (found,) = judging.findings(subject, INVARIANTS[name], 0)
        assert (found.verdict, found.detail) == ("violated", "an exception: SystemExit(3)")


def test_exit_of_a_plain_call_is_an_error():
    with pytest.raises(seqloss.OptionError, match="raised SystemExit for plain arrays"):
        check_loss(lambda z, y, w: sys.exit(1), backend="numpy")


def test_module_that_exits_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "a_script_that_exits.py").write_text("raise SystemExit('no arguments')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(seqloss.OptionError, match="cannot be imported: SystemExit: no arguments"):
        resolve("a_script_that_exits:loss")


def test_partial_of_a_known_loss_is_known():
    loss = partial(partial(seqloss.sequence_loss, exact=True), average_across_batch=True)
    check = check_loss(loss, invariants=["padding"])
    assert (check.name, check.backend, check.holds) == ("seqloss.sequence_loss", "numpy", True)


def test_arguments_of_a_partial_are_kept():
    with pytest.raises(seqloss.OptionError, match=r"returned a loss of shape \(2, 3\)"):
        check_loss(partial(seqloss.sequence_loss, average_across_timesteps=False, average_across_batch=False))


def test_partial_with_bound_arrays_is_not_known():
    with pytest.raises(seqloss.OptionError, match=r"not known; pass backend=, .*, and conventions="):
        check_loss(partial(seqloss.sequence_loss, np.zeros((2, 3, 4), np.float32)))


@pytest.mark.parametrize("mode", ["first", "second"])
def test_each_compiled_form_has_a_verdict_of_its_own(mode):
    wrong = right_loss.made(denominator=len)
    modes = {name: wrong if name == mode else right_loss.PIECES for name in ("first", "second")}
    found = list(judging.findings(Subject(right_loss.PIECES, modes=modes), INVARIANTS["compiled_is_eager"], 0))
    assert {f.mode: f.verdict for f in found} == {
        name: "violated" if name == mode else "holds" for name in ("first", "second")
    }


def test_missing_compiler_is_not_applicable():
    def loss(*arrays):
        raise NotApplicable("no compiler")

    subject = Subject(right_loss.PIECES, modes={"inductor": loss})
    (found,) = judging.findings(subject, INVARIANTS["compiled_is_eager"], 0)
    assert (found.verdict, found.detail) == ("not applicable", "no compiler")


@pytest.mark.parametrize("dtype, holds", [("float16", True), ("float32", False)])
def test_rounding_of_what_is_returned_is_no_mistake(dtype, holds):
    """Numbers with the digits of float16 are wrong in float32 and right in float16."""

    def loss(z, y, w):
        value, dlogits = right_loss.PIECES(z, y, w)
        return np.float16(value).astype(dtype), dlogits.astype(np.float16).astype(dtype)

    names = ("padding", "split_batches", "permutation", "one_hot", "gradient_rows")
    check = check_loss(loss, backend="numpy", invariants=names)
    assert check.holds == holds, check.report()


# --- the report ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrong():
    return check_loss(wrong_losses.WRONG["mean_over_padding"][0], backend="numpy", invariants=["padding", "shift"])


def test_report(wrong):
    lines = wrong.report().splitlines()
    assert lines[0] == "right_loss:made.<locals>.loss (numpy): 2 of 3 checks that apply are VIOLATED: 2 wrong results"
    assert lines[2].split() == ["invariant", "mode", "dtype", "verdict"]
    assert lines[3].startswith("padding    eager  float32  VIOLATED  the value after padding with rows: ")
    assert lines[4].startswith("padding    eager  float16  VIOLATED  ")
    assert lines[5].split() == ["shift", "eager", "float32", "holds"]
    assert lines[7].startswith("padding (eager, float32): More time steps or rows of weight 0")
    assert [line.split()[0] for line in lines[8:14]] == ["what", "expected", "got", "logits", "targets", "weights"]
    assert wrong.report().isascii()


def test_report_is_ascii():
    def loss(z, y, w):
        if not w.all():
            raise ValueError("Gewicht gleich 0 \N{MULTIPLICATION SIGN} ung\N{LATIN SMALL LETTER U WITH DIAERESIS}ltig")
        return right(z, y, w)

    report = check_loss(loss, backend="numpy", invariants=["padding"]).report()
    assert report.isascii()
    assert "Gewicht gleich 0 \\xd7 ung\\xfcltig" in report


def test_report_of_a_right_loss():
    check = check_loss(seqloss.sequence_loss, invariants=["padding", "compiled_is_eager"])
    head, _, *rows = check.report().splitlines()
    assert head == "seqloss.sequence_loss (numpy): all 2 checks that apply hold"
    assert rows[-1].split()[:4] == ["compiled_is_eager", "-", "float32", "not"]


def test_as_dict_is_strict_json():
    check = check_loss(wrong_losses.WRONG["weight_times_NaN"][0], backend="numpy", invariants=["unsafe_masks"])
    data = json.loads(json.dumps(check.as_dict(), allow_nan=False))
    assert data["holds"] is False
    assert data["findings"][0]["example"]["got"] == "nan"
    assert data["conventions"]["returns"] == "mean"
    assert (data["name"], data["backend"], data["seed"]) == (check.name, "numpy", 0)


def test_no_violation_is_a_check_that_holds():
    finding = Finding("padding", "eager", "float32", "not applicable", "", "More.")
    check = LossCheck("loss", "numpy", Conventions(), 0, (finding,))
    assert check.holds
    assert not replace(check, findings=(finding, replace(finding, verdict="violated", example={}))).holds


# --- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, error, text",
    [
        (
            {"returns": "average"},
            seqloss.OptionError,
            "returns must be one of 'tokens', 'mean', 'sum', 'sum_and_count', got 'average'",
        ),
        ({"layout": "TBV"}, seqloss.OptionError, "layout must be one of"),
        ({"gradient": None}, seqloss.OptionError, "gradient must be one of"),
        ({"arguments": "logits"}, seqloss.ArgumentTypeError, "arguments must be a tuple of strings"),
        ({"arguments": ("logits", "weights")}, seqloss.OptionError, "must name logits, targets"),
        ({"arguments": ("logits", "targets", "labels")}, seqloss.OptionError, "must name logits, targets"),
        ({"arguments": ("logits", "targets", "y=targets")}, seqloss.OptionError, "each once"),
        ({"arguments": ("labels=targets", "logits")}, seqloss.OptionError, "a keyword cannot come before"),
        ({"ignore_label": True}, seqloss.ArgumentTypeError, "ignore_label must be an integer or None, got True"),
        ({"ignore_label": -100.0}, seqloss.ArgumentTypeError, "ignore_label must be an integer or None"),
    ],
    ids=str,
)
def test_conventions_that_make_no_sense(given, error, text):
    with pytest.raises(error, match=text):
        Conventions(**given)


@pytest.mark.parametrize(
    "given, error, text",
    [
        ({"fn": "my.loss"}, seqloss.ArgumentTypeError, "fn must be a callable, got 'my.loss'; .*resolve"),
        ({"backend": None}, seqloss.OptionError, "the framework of .* is not known; pass backend="),
        ({"backend": "mxnet"}, seqloss.OptionError, "backend must be one of 'numpy', .*, got 'mxnet'"),
        ({"conventions": "tokens"}, seqloss.ArgumentTypeError, "conventions must be a seqloss.testing.Conventions"),
        ({"conventions": Conventions()}, seqloss.OptionError, "NumPy differentiates nothing; .*gradient='returned'"),
        ({"invariants": ["paddings"]}, seqloss.OptionError, r"invariants must be names out of .*got \['paddings'\]"),
        ({"invariants": []}, seqloss.OptionError, "invariants must be names"),
        ({"modes": ["jit"]}, seqloss.OptionError, "modes of numpy are none, got jit"),
        ({"seed": -1}, seqloss.ArgumentTypeError, "seed must be an integer of at least 0, got -1"),
        ({"fn": tokens}, seqloss.OptionError, "raised TypeError for plain arrays of the shapes .*conventions"),
        ({"fn": weighted_tokens}, seqloss.OptionError, r"a loss of shape \(2, 3\), expected \(\) for returns='mean'"),
        ({"fn": lambda z, y, w: 0.5}, seqloss.OptionError, r"must return \(loss, gradient\) .* got float"),
    ],
)
def test_arguments_that_make_no_sense(given, error, text):
    given = {"fn": right_loss.PIECES, "backend": "numpy", **given}
    with pytest.raises(error, match=text):
        check_loss(given.pop("fn"), **given)


@pytest.mark.parametrize(
    "module, backend",
    [("torch.nn", "torch"), ("optax.losses", "jax"), ("flax.training", "jax"), ("keras.src", "tensorflow")],
)
def test_the_framework_of_a_package_is_known(monkeypatch, module, backend):
    def loss(logits, targets, weights):
        """Of whatever module."""

    def missing(name):
        raise ImportError(f"no {name}")

    monkeypatch.setattr(frameworks, "load", missing)
    loss.__module__ = module
    with pytest.raises(seqloss.BackendError, match=f"^{backend} cannot be imported: no {backend}; "):
        check_loss(loss)


@pytest.mark.parametrize(
    "name, text",
    [
        ("seqloss.sequence_loss", "is named as package.module:function, .*; is it 'seqloss:sequence_loss'?"),
        ("seqloss:", "is named as package.module:function"),
        (":sequence_loss", "is named as package.module:function"),
        ("no_such_module:loss", "cannot be imported: ModuleNotFoundError: .*python -c 'import no_such_module'"),
        ("seqloss:no_loss", "does not exist: 'seqloss' has no 'no_loss'"),
        ("seqloss:sequence_loss.no_part", "does not exist: 'sequence_loss' has no 'no_part'"),
        ("seqloss:__version__", "is not callable, it is a str"),
    ],
)
def test_names_that_stand_for_nothing(name, text):
    with pytest.raises(seqloss.OptionError, match=text):
        resolve(name)


def test_resolved_name():
    assert resolve("seqloss:sequence_loss") is seqloss.sequence_loss
    assert resolve("seqloss.testing:Conventions.__post_init__") is Conventions.__post_init__
    with pytest.raises(seqloss.ArgumentTypeError):
        resolve(seqloss.sequence_loss)


@pytest.mark.parametrize("name", INVARIANTS)
def test_checks_work_on_the_smallest_batches(name):
    """The shrinker may hand them one token of two classes."""
    batch = Batch(np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), int), np.ones((1, 1), np.float32))
    INVARIANTS[name].check(Probe(right_loss.right, name), batch, np.random.default_rng(0))
