"""The corners of the options of the loss, run eagerly: rows that are no numbers, tokens that are out, empty batches.

And what must not matter: how a batch is split, a shift of the logits, the order of the classes.
"""

import numpy as np
import pytest
import suite

import seqloss
from seqloss.testing import frameworks, oracle_objectives, tolerances
from seqloss.testing.oracle import WIDE
from seqloss.testing.oracle_objectives import Objective

CLASSES, LABEL, OTHER = 7, 3, 5
PRIOR = np.array([1, 0.5, 2, 1.5, 1, 0.25, 3], "float32")
CLASS_WEIGHTS = np.array([1, 2, 0.5, 1.5, 1, 0.25, 3], "float32")
OBJECTIVES = {
    "plain": Objective(),
    "smoothed": Objective(0.1),
    "smoothed_excluding": Objective(0.3, prior=PRIOR, exclude=(1, 2)),
    "off_target": Objective(0.2, off_target=True, exclude=(1,)),
    "divergence": Objective(0.2, off_target=True, centred=True, prior=PRIOR, exclude=(1,)),
    "class_weights": Objective(class_weights=CLASS_WEIGHTS),
    "z_loss": Objective(z_loss=0.01),
    "all": Objective(0.1, prior=PRIOR, exclude=(1,), class_weights=CLASS_WEIGHTS, z_loss=0.01, softcap=4.0),
}
SMOOTHED = [name for name, objective in OBJECTIVES.items() if objective.eps > 0]
SHIFTABLE = [name for name, objective in OBJECTIVES.items() if objective.z_loss == 0 and objective.softcap is None]
MEANS = {name: {"reduction": name} for name in ("mean", "sum", "none", "per_sequence", "sequence_mean")}
NO_AVERAGES = {"average_across_timesteps": False, "average_across_batch": False}
REDUCTIONS = {
    **MEANS,
    "sum_both": {**NO_AVERAGES, "sum_over_timesteps": True, "sum_over_batch": True},
    "sum_time": {**NO_AVERAGES, "sum_over_timesteps": True},
    "sum_batch": {**NO_AVERAGES, "sum_over_batch": True},
}
pytestmark = pytest.mark.few_where_compiled("each", "name")
WAYS = ["eager", "explicit"]
"""The derivative of the framework (NumPy has none), or the one that is given back with the loss."""


def pytest_generate_tests(metafunc):
    drivers = {name: frameworks.load(name) for name in metafunc.config.getoption("--backends").split(",")}
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS)
    if "each" in metafunc.fixturenames:
        metafunc.parametrize("each", list(OBJECTIVES))
    if "compiler" in metafunc.fixturenames:
        # Without a compiler, and so with values, there is an error.
        pairs = [(name, compiler) for name, driver in drivers.items() for compiler in ("none", *driver.COMPILERS)]
        metafunc.parametrize("backend, compiler", pairs)
    elif "half" in metafunc.fixturenames:
        halves = ("float16", "bfloat16")
        pairs = [(name, half) for name, driver in drivers.items() for half in driver.DTYPES if half in halves]
        metafunc.parametrize("backend, half", pairs)


def draw(batch=1, time=3, dtype="float32"):
    """Logits and targets, of which the second label of each sequence is LABEL, and weights."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (batch, time, CLASSES)).astype(dtype)
    targets = rng.integers(0, CLASSES, (batch, time))
    targets[:, 1:2] = LABEL
    return logits, targets, (rng.integers(4, 17, (batch, time)) / 8).astype(dtype)


def options(driver, objective, dtype=None):
    """An objective of the oracle as options of the loss."""
    eps, off_target, centred, exclude, prior, class_weights, z_loss, softcap = objective
    prior, class_weights = (None if x is None else driver.array(x, dtype) for x in (prior, class_weights))
    smoothing = seqloss.Smoothing(eps, off_target, centred, prior, exclude)
    return {"label_smoothing": smoothing, "class_weights": class_weights, "z_loss": z_loss, "softcap": softcap}


def run(driver, way, arrays, cotangent=None, wrt_weights=False, **given):
    """Loss, gradient of logits and gradient of weights in the framework; None where there is none."""
    native = [None if x is None else driver.array(x) for x in arrays]
    upstream = None if cotangent is None else driver.array(cotangent)
    if way == "explicit":
        wrt = ("logits", "weights") if wrt_weights else ("logits",)
        value, gradients = seqloss.sequence_loss_and_grad(*native, **given, cotangent=upstream, wrt=wrt)
    else:
        present = [x for x in native if x is not None]
        run = driver.MODES["eager"](lambda *x: seqloss.sequence_loss(*x, **given), (0, 2) if wrt_weights else (0,))
        value, gradients = run(present, upstream)
    return value, *(*(gradients or (None,)), None)[:2]


def agrees(driver, results, expected, bound, dtype="float32"):
    """Type, dtype, shape, NaN places and exact zeros before values; returns the results for NumPy."""
    scales = expected.loss_scale, expected.dlogits_scale, expected.dweights_scale
    bounds = bound.max(initial=0), bound[..., None], bound.max(initial=0)
    for got, true, scale, most in zip(results, expected[:3], scales, bounds, strict=True):
        if got is not None:
            true, scale = np.asarray(true, WIDE), np.asarray(scale, WIDE)
            suite.matches(driver, got, true, scale, dtype, driver.device(got))
            suite.values(driver, got, true, most, scale, dtype)
    return [None if got is None else driver.to_numpy(got) for got in results]


def bound_of(logits, objective):
    """That of tokens, with what the cap adds."""
    bound, slopes = tolerances.capped_bound(logits, objective.softcap)
    return np.maximum(bound, slopes.max(-1, initial=0))


def against_the_oracle(
    driver, way, objective, arrays, reduction="none", kept=None, cotangent=None, normalizer=None, wrt="both", **given
):
    """Run, compare, and return the results for NumPy. ``kept`` says which tokens are not out."""
    logits, targets, weights = arrays
    kept = np.ones(targets.shape, bool) if kept is None else kept
    w = np.ones(targets.shape, "float32") if weights is None else weights.astype("float32")
    with np.errstate(all="ignore"):
        of = oracle_objectives.tokens(logits, targets, objective)
        # A token counts for as much whatever its logits are.
        numbers = np.ones(CLASSES) if objective.class_weights is None else objective.class_weights
        of = of._replace(units=np.take(numbers.astype(WIDE), targets, mode="clip"))
        g = 1.0 if cotangent is None else cotangent
        expected = oracle_objectives.averaged(of, w, kept, objective, reduction, normalizer, g)
    if normalizer is not None:
        given["normalizer"] = normalizer
    wrt_weights = wrt == "both" and weights is not None and weights.dtype.kind == "f"
    more = {**options(driver, objective), **REDUCTIONS[reduction], **given}
    results = run(driver, way, arrays, cotangent, wrt_weights, **more)
    return agrees(driver, results, expected, bound_of(np.where(kept[..., None], logits, 0), objective))


def zeros(x):
    np.testing.assert_array_equal(x, np.zeros_like(x))


def kind(x):
    """What all the numbers are: finite, inf or nan."""
    found = {str(number) if not np.isfinite(number) else "finite" for number in np.ravel(x)}
    return found.pop() if len(found) == 1 else found


# The logits of a row by their classes, and what loss and gradient row are.
EVERY = tuple(range(CLASSES))
ROWS = {
    "nan_elsewhere": ({OTHER: np.nan}, "nan", "nan"),
    "nan_at_the_label": ({LABEL: np.nan}, "nan", "nan"),
    "inf_elsewhere": ({OTHER: np.inf}, "nan", "nan"),
    "inf_at_the_label": ({LABEL: np.inf}, "nan", "nan"),
    "all_impossible": (dict.fromkeys(EVERY, -np.inf), "nan", "nan"),
    "another_impossible": ({OTHER: -np.inf}, "finite", "finite"),
    "label_impossible": ({LABEL: -np.inf}, "inf", "finite"),
    "both_impossible": ({LABEL: -np.inf, OTHER: -np.inf}, "inf", "finite"),
    "label_alone_possible": ({j: -np.inf for j in EVERY if j != LABEL}, "finite", "finite"),
}
NO_NUMBERS = [row for row, (_, loss, _) in ROWS.items() if loss != "finite"]


def with_rows(rows, batch=1):
    """A batch whose first sequence has these rows between two ordinary ones, all with the label LABEL."""
    logits, targets, weights = draw(batch, len(rows) + 2)
    targets[0] = LABEL
    for t, row in enumerate(rows, 1):
        for j, x in ROWS[row][0].items():
            logits[0, t, j] = x
    return logits, targets, weights


def test_rows_of_the_table(framework, way, each):
    loss, dlogits, _ = against_the_oracle(framework, way, OBJECTIVES[each], with_rows(ROWS))
    rows = [("finite", "finite"), *(kinds for _, *kinds in ROWS.values()), ("finite", "finite")]
    assert [kind(x) for x in loss[0]] == [of_loss for of_loss, _ in rows]
    if dlogits is not None:
        assert [kind(x) for x in dlogits[0]] == [of_row for _, of_row in rows]
        for (changed, _, of_row), slopes in zip(ROWS.values(), dlogits[0, 1:], strict=False):
            zeros(slopes[[j for j in changed if j != LABEL and of_row == "finite"]])


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("out", [False, True])
def test_a_class_weight_that_is_nan(framework, way, eps, out):
    """Without smoothing the tokens of that class are NaN, with it all are; but not one that is out."""
    arrays, numbers = draw(2), CLASS_WEIGHTS.copy()
    numbers[LABEL] = np.nan
    given = {**options(framework, Objective(eps, class_weights=numbers)), "reduction": "none"}
    kept = np.ones((2, 3), bool)
    if out:
        given["lengths"], kept[0] = framework.array(np.array([0, 3])), False
    wrong = kept & ((arrays[1] == LABEL) | (eps > 0))
    value, dlogits, _ = run(framework, way, arrays, **given)
    loss = framework.to_numpy(value)
    np.testing.assert_array_equal(np.isnan(loss), wrong)
    zeros(loss[~kept])
    if dlogits is not None:
        slopes = framework.to_numpy(dlogits)
        np.testing.assert_array_equal(np.isnan(slopes), np.broadcast_to(wrong[..., None], slopes.shape))
        zeros(slopes[~kept])


@pytest.mark.parametrize("off_target", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_a_prior_that_is_nan(framework, way, off_target, centred):
    prior = PRIOR.copy()
    prior[OTHER] = np.nan
    more = options(framework, Objective(0.1, off_target, centred, prior=prior))
    value, dlogits, _ = run(framework, way, draw(), **more, reduction="none")
    assert kind(framework.to_numpy(value)) == "nan"
    if dlogits is not None:
        assert kind(framework.to_numpy(dlogits)) == "nan"


@pytest.mark.parametrize("name", [*SMOOTHED, "plain", "small_prior"])
@pytest.mark.parametrize("exact", [False, True])
def test_differences_that_overflow(framework, way, name, exact):
    """In float32 the smoothed loss is infinite, in float64 it has its value. The gradient row is right in both."""
    objective = {**OBJECTIVES, "small_prior": Objective(0.1, prior=PRIOR / 16)}[name]
    objective = objective._replace(z_loss=0.0, softcap=None)
    logits, targets, _ = draw()
    logits[0, 1] = 0
    logits[0, 1, LABEL], logits[0, 1, OTHER] = 3e38, -3e38
    more = {**options(framework, objective), "reduction": "none", "exact": exact}
    value, dlogits, _ = run(framework, way, (logits, targets, None), **more)
    with np.errstate(all="ignore"):
        expected = oracle_objectives.tokens(logits, targets, objective)
    true = expected.loss.copy()
    if objective.eps > 0 and not exact:
        true[0, 1] = np.inf
    suite.matches(framework, value, true, expected.loss_scale, "float32", framework.device(value))
    suite.values(framework, value, true, tolerances.EXP_RANGE, expected.loss_scale, "float32")
    if dlogits is not None:
        assert kind(framework.to_numpy(dlogits)) == "finite"
        suite.matches(
            framework, dlogits, expected.dlogits, expected.dlogits_scale, "float32", framework.device(dlogits)
        )
        suite.values(framework, dlogits, expected.dlogits, tolerances.TIGHT_ULPS, expected.dlogits_scale, "float32")


@pytest.mark.parametrize("wrt", ["both", "logits", "bools"])
def test_weight_0_leaves_no_row(framework, way, each, wrt):
    logits, targets, weights = with_rows(NO_NUMBERS)
    weights[0, 1:-1] = 0
    weights = weights > 0 if wrt == "bools" else weights
    arrays = logits, targets, weights
    loss, dlogits, dweights = against_the_oracle(framework, way, OBJECTIVES[each], arrays, "mean", wrt=wrt)
    assert kind(loss) == "finite"
    if dlogits is not None:
        zeros(dlogits[0, 1:-1])
        assert (dlogits[0, [0, -1]] != 0).any(-1).all()
    if dweights is not None:
        assert kind(dweights) == "finite"


@pytest.mark.parametrize("name", ["plain", "divergence", "class_weights", "all"])
@pytest.mark.parametrize("wrt", ["both", "logits", "bools"])
def test_weight_0_leaves_no_label(framework, way, name, wrt):
    logits, targets, weights = draw()
    targets[0, 1], weights[0, 1] = -100, 0
    weights = weights > 0 if wrt == "bools" else weights
    arrays = logits, targets, weights
    loss, dlogits, dweights = against_the_oracle(framework, way, OBJECTIVES[name], arrays, "sum", wrt=wrt)
    assert kind(loss) == "finite"
    if dlogits is not None:
        zeros(dlogits[0, 1])
    if dweights is not None:
        zeros(dweights[0, 1])


def test_a_cotangent_of_0_leaves_no_row(framework, way, each):
    logits, targets, _ = with_rows(NO_NUMBERS)
    cotangent = np.zeros(targets.shape, "float32")
    cotangent[0, [0, -1]] = 1, 0.5
    arrays = logits, targets, None
    loss, dlogits, _ = against_the_oracle(framework, way, OBJECTIVES[each], arrays, cotangent=cotangent)
    assert [kind(x) for x in loss[0, 1:-1]] == [ROWS[row][1] for row in NO_NUMBERS]
    if dlogits is not None:
        zeros(dlogits[0, 1:-1])
        assert (dlogits[0, [0, -1]] != 0).any(-1).all()


def test_token_loss_leaves_no_row(framework, each):
    """Neither where a token is not active, nor where its cotangent is 0; class weights multiply."""
    objective = OBJECTIVES[each]
    logits, targets, _ = with_rows(NO_NUMBERS, 2)
    logits[1], targets[1, 1:] = logits[0], -100
    active, cotangent = np.ones(targets.shape, bool), np.full(targets.shape, 0.5, "float32")
    active[1, 1:], cotangent[0, 1:-1] = False, 0
    more = options(framework, objective)
    token_loss = framework.MODES["eager"](lambda z, y, a: seqloss.token_loss(z, y, active=a, **more), (0,))
    native = [framework.array(x) for x in (logits, targets, active)]
    value, gradients = token_loss(native, framework.array(cotangent))
    with np.errstate(all="ignore"):
        of = oracle_objectives.tokens(logits, targets, objective)
        of = of._replace(units=np.ones(targets.shape))
        expected = oracle_objectives.averaged(of, active, active, objective, "none", cotangent=cotangent)
    results = value, *(gradients or (None,)), None
    loss, dlogits, _ = agrees(framework, results, expected, bound_of(np.where(active[..., None], logits, 0), objective))
    assert [kind(x) for x in loss[0, 1:-1]] == [ROWS[row][1] for row in NO_NUMBERS]
    zeros(loss[~active])
    if dlogits is not None:
        zeros(dlogits[~active])
        zeros(dlogits[0, 1:-1])


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_token_loss_leaves_no_class_weight(framework, eps):
    """Of a token that is not active."""
    numbers = CLASS_WEIGHTS.copy()
    numbers[LABEL] = np.nan
    logits, targets, _ = draw()
    more = {"label_smoothing": eps, "class_weights": framework.array(numbers)}
    run = framework.MODES["eager"](lambda z, y, a: seqloss.token_loss(z, y, active=a, **more), (0,))
    arrays = logits, targets, (targets != LABEL) & (eps == 0)
    value, gradients = run([framework.array(x) for x in arrays], None)
    loss = framework.to_numpy(value)
    assert kind(loss) == "finite"
    zeros(loss[~arrays[2]])
    if gradients is not None:
        assert kind(framework.to_numpy(gradients[0])) == "finite"
        zeros(framework.to_numpy(gradients[0])[~arrays[2]])


@pytest.mark.parametrize("how, reduction", [("ignored", "none"), ("lengths", "mean"), ("both", "sequence_mean")])
def test_what_is_out_leaves_nothing(framework, way, each, how, reduction):
    """Its row, its weight and its label may be anything."""
    logits, targets, weights = draw(2)
    kept = np.array([[True, True, False], [True, False, False]])
    logits[~kept], weights[~kept] = np.nan, [np.nan, np.inf, np.nan]
    targets[~kept] = -100 if how == "ignored" else [-100, 1_000, 2]
    more = {} if how == "lengths" else {"ignore_index": -100}
    if how != "ignored":
        more["lengths"] = framework.array(np.array([2, 1]))
    arrays, objective = (logits, targets, weights), OBJECTIVES[each]
    loss, dlogits, dweights = against_the_oracle(framework, way, objective, arrays, reduction, kept, **more)
    assert kind(loss) == "finite"
    if reduction == "none":
        zeros(loss[~kept])
    if dlogits is not None:
        zeros(dlogits[~kept])
        zeros(dweights[~kept])
        assert (dlogits[kept] != 0).any(-1).all()


@pytest.mark.parametrize("ignored", [0, (LABEL, 0)])
@pytest.mark.parametrize("name", ["plain", "smoothed", "all"])
def test_an_ignored_class(framework, way, ignored, name):
    """Its tokens are out, but the class stays one of those that others are compared with."""
    logits, targets, weights = draw(2)
    targets[0, 0], targets[1] = 0, [0, 4, 0]
    kept = ~np.isin(targets, ignored)
    given = {"reduction": "mean", "kept": kept, "ignore_index": ignored}
    _, dlogits, _ = against_the_oracle(framework, way, OBJECTIVES[name], (logits, targets, weights), **given)
    if dlogits is not None:
        assert (dlogits[kept][:, 0] != 0).all()
        zeros(dlogits[~kept])


@pytest.mark.parametrize("ignored", [-100, 256, (-1, 300)])
def test_an_ignored_label_that_is_no_number_of_the_dtype(framework, way, ignored):
    """156 is -100 in 8 bits, and 0 is 256, and 255 is -1."""
    logits, targets, _ = draw(1)
    logits, targets = np.repeat(logits, 40, -1), np.array([[0, 156, 255]], "uint8")
    arrays = logits, targets, None
    one, other = (run(framework, way, arrays, ignore_index=i) for i in (None, ignored))
    for got, wanted in zip(other, one, strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(framework.to_numpy(got), framework.to_numpy(wanted), strict=True)
    assert framework.to_numpy(one[0]) > 0


EMPTY = {"no_sequences": (0, 3), "no_time": (2, 0), "all_ignored": (2, 3), "lengths_of_0": (2, 3), "no_weights": (2, 3)}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("empty", EMPTY)
def test_nothing_counts(framework, way, reduction, empty):
    logits, targets, weights = draw(*EMPTY[empty])
    more = {**options(framework, OBJECTIVES["all"]), **REDUCTIONS[reduction]}
    if empty == "all_ignored":
        targets[:], more["ignore_index"] = -100, -100
    elif empty == "lengths_of_0":
        more["lengths"] = framework.array(np.zeros(2, "int32"))
    elif empty == "no_weights":
        weights[:] = 0
    shape = {"none": targets.shape, "sum_batch": targets.shape[1:]}.get(reduction, ())
    shape = targets.shape[:1] if reduction in ("per_sequence", "sum_time") else shape
    value, dlogits, dweights = run(framework, way, (logits, targets, weights), None, True, **more)
    pairs = [(value, shape), (dlogits, logits.shape)]
    if empty != "no_weights" or reduction not in ("sum", "none"):  # whose derivative by a weight is the loss
        pairs.append((dweights, weights.shape))
    for got, wanted in pairs:
        if got is not None:
            suite.matches(framework, got, np.zeros(wanted), np.zeros(wanted), "float32", framework.device(got))


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_class_weight_of_0(framework, way, eps, reduction):
    """Without smoothing its tokens are not active; with it they are, and lack their own part."""
    numbers = CLASS_WEIGHTS.copy()
    numbers[LABEL] = 0
    logits, targets, weights = draw(2)
    targets[:] = [[1, LABEL, 2], [LABEL, LABEL, LABEL]]
    objective = Objective(eps, class_weights=numbers)
    arrays = logits, targets, weights
    loss, dlogits, _ = against_the_oracle(framework, way, objective, arrays, reduction)
    if dlogits is not None and eps == 0:
        zeros(dlogits[targets == LABEL])
    if reduction == "sum_both":
        nll = weights * oracle_objectives.tokens(logits, targets, objective).loss
        np.testing.assert_allclose(loss, float(nll.sum()) / (6 if eps else 2), rtol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_a_label_that_is_no_class_is_seen_beside_a_class_weight_of_0(framework, eps):
    numbers = CLASS_WEIGHTS.copy()
    numbers[0] = 0
    logits, targets, weights = draw()
    targets[0, 1] = 1_000
    given = {**options(framework, Objective(eps, class_weights=numbers)), "reduction": "none", "check_labels": False}
    loss = seqloss.sequence_loss(*map(framework.array, (logits, targets, weights)), **given)
    np.testing.assert_array_equal(np.isnan(framework.to_numpy(loss)), [[False, True, False]])


def test_an_infinite_loss_leaves_no_gradient_to_a_weight_beside_a_class_weight_of_0(framework):
    numbers = CLASS_WEIGHTS.copy()
    numbers[LABEL] = 0
    logits, targets, weights = draw()
    targets[0, 0] = 1
    logits[0, 0, 1] = -np.inf
    arrays = [framework.array(x) for x in (logits, targets, weights)]
    given = {**options(framework, Objective(class_weights=numbers)), "wrt": "weights"}
    loss, gradient = map(framework.to_numpy, seqloss.sequence_loss_and_grad(*arrays, **given))
    assert np.isposinf(loss)
    assert gradient[0, 1] == 0


@pytest.mark.parametrize("wrt", ["both", "logits", "bools"])
def test_a_class_weight_of_0_leaves_no_row(framework, way, wrt):
    numbers = CLASS_WEIGHTS.copy()
    numbers[LABEL] = 0
    logits, targets, weights = with_rows(NO_NUMBERS)
    targets[0, [0, -1]] = 1
    arrays = logits, targets, weights > 0 if wrt == "bools" else weights
    objective = Objective(class_weights=numbers, z_loss=0.01)
    loss, dlogits, dweights = against_the_oracle(framework, way, objective, arrays, "mean", wrt=wrt)
    assert kind(loss) == "finite"
    for gradient in (dlogits, dweights):
        if gradient is not None:
            zeros(gradient[0, 1:-1])


@pytest.mark.parametrize("reduction", ["mean", "sum", "sequence_mean"])
@pytest.mark.parametrize("dtype", [None, "float32", "int32"])
def test_a_normalizer_of_0(framework, way, reduction, dtype):
    more = {**options(framework, OBJECTIVES["all"]), "reduction": reduction}
    more["normalizer"] = 0 if dtype is None else framework.array(np.zeros((), dtype))
    arrays = draw(2)
    for got, shape in zip(run(framework, way, arrays, None, True, **more), ((), (2, 3, 7), (2, 3)), strict=True):
        if got is not None:
            suite.matches(framework, got, np.zeros(shape), np.zeros(shape), "float32", framework.device(got))


@pytest.mark.parametrize("exact, reduction", [(False, "mean"), (True, "mean"), (True, "sum")])
def test_parts_of_a_batch_add_up(framework, way, each, exact, reduction):
    """With the count of the whole batch; in exact mode each row of the gradient has its bits from either."""
    objective = OBJECTIVES[each]
    numbers = np.ones(CLASSES) if objective.class_weights is None else objective.class_weights
    arrays = draw(4)
    count = float((arrays[2] * numbers[arrays[1]]).sum())
    more = {**options(framework, objective), "exact": exact, "reduction": reduction}

    def part(rows, **normalizer):
        results = run(framework, way, [x[rows] for x in arrays], **more, **normalizer)
        return [None if x is None else framework.to_numpy(x) for x in results]

    whole = part(slice(4), **({} if reduction == "mean" else {"normalizer": count}))
    halves = [part(slice(i, i + 2), normalizer=count) for i in (0, 2)]
    # Each loss is rounded for itself: three times half a unit of the largest.
    most = 1.5 if exact else 3 * bound_of(arrays[0], objective).max()
    total = np.add(halves[0][0].astype(WIDE), halves[1][0])
    assert tolerances.ulps(whole[0], total, "float32").max() <= most
    if whole[1] is not None:
        rows = np.concatenate([half[1] for half in halves])
        if exact:
            np.testing.assert_array_equal(rows, whole[1], strict=True)
        bound = 2 * bound_of(arrays[0], objective)[..., None]
        assert tolerances.excess(rows, whole[1], "float32", bound, abs(whole[1]).max()).max() <= 1


@pytest.mark.parametrize("name", SHIFTABLE)
@pytest.mark.parametrize("shift", [-5, 64])
def test_a_shift_of_the_logits(framework, way, name, shift):
    """Of logits whose differences are exact: the same bits in exact mode. (In float32 JAX has a pivot of its own.)"""
    logits, targets, weights = draw(2)
    logits = np.round(8 * logits) / 8
    more = {**options(framework, OBJECTIVES[name]), "exact": True}
    one, other = (run(framework, way, (z, targets, weights), None, True, **more) for z in (logits, logits + shift))
    for got, wanted in zip(other, one, strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(framework.to_numpy(got), framework.to_numpy(wanted), strict=True)
    assert framework.to_numpy(one[0]) != 0


def test_the_order_of_the_classes(framework, way, each):
    """Of the logits, and alike of labels, class weights, prior and exclude."""
    order = np.array([4, 0, 6, 2, 1, 5, 3])
    place, objective = np.argsort(order), OBJECTIVES[each]
    prior, numbers = (None if x is None else x[order] for x in (objective.prior, objective.class_weights))
    exclude = tuple(int(place[j]) for j in objective.exclude)
    permuted = objective._replace(prior=prior, class_weights=numbers, exclude=exclude)
    logits, targets, weights = draw(2)
    one = against_the_oracle(framework, way, objective, (logits, targets, weights), "mean")
    other = against_the_oracle(framework, way, permuted, (logits[..., order], place[targets], weights), "mean")
    np.testing.assert_allclose(other[0], one[0], rtol=1e-5)
    if one[1] is not None:
        np.testing.assert_allclose(other[1], one[1][..., order], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(other[2], one[2], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("off_target", [False, True])
def test_excluded_classes(framework, off_target):
    """A class without a part of the label only has its probability to lose; an excluded label keeps 1 - eps."""
    logits, targets, _ = draw(1, 2, "float64")
    targets[0] = [LABEL, OTHER]
    objective = Objective(0.2, off_target, exclude=(1, OTHER))
    with framework.precision("float64"):
        arrays = logits, targets, None
        _, dlogits, _ = run(framework, "explicit", arrays, **options(framework, objective), reduction="sum")
        slopes = framework.to_numpy(dlogits)[0]
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    smoothed = np.full((2, CLASSES), 0.2 / 5)
    smoothed[:, [1, OTHER]] = 0
    if off_target:
        smoothed[0] *= 5 / 4
        smoothed[0, LABEL] = 0
    smoothed[0, LABEL] += 0.8
    smoothed[1, OTHER] = 0.8
    np.testing.assert_allclose(slopes, p - smoothed, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(slopes[:, 1], p[:, 1], rtol=1e-13)


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_half_precision_with_50_000_classes(backend, half, way, softcap):
    driver, objective = frameworks.load(backend), Objective(0.1, z_loss=1e-4, softcap=softcap)
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, (1, 2, 50_000)).astype("float32")
    logits[0, 1, 17] = 60
    native, targets = driver.array(logits, half), np.array([[49_999, 17]])
    host = driver.to_numpy(native).astype("float32")
    expected = oracle_objectives.tokens(host, targets, objective)
    more = {**options(driver, objective), **MEANS["none"]}
    if way == "explicit":
        value, dlogits = seqloss.sequence_loss_and_grad(native, driver.array(targets), **more)
    else:
        loss = driver.MODES["eager"](lambda *x: seqloss.sequence_loss(*x, **more), (0,))
        value, (dlogits, *_) = [x or [None] if x is None else x for x in loss([native, driver.array(targets)], None)]
    bound, slopes = tolerances.capped_bound(host, softcap)
    suite.matches(driver, value, expected.loss, expected.loss_scale, "float32", driver.device(value))
    suite.values(driver, value, expected.loss, bound, expected.loss_scale, "float32")
    if dlogits is not None:
        assert kind(driver.to_numpy(dlogits)) == "finite"
        suite.matches(driver, dlogits, expected.dlogits, expected.dlogits_scale, half, driver.device(dlogits))
        suite.values(driver, dlogits, expected.dlogits, slopes, expected.dlogits_scale, "float32")


def test_second_derivatives(framework, each):
    """Against differences of the oracle's gradient; NumPy, which has none, by differences of its own."""
    objective, step = OBJECTIVES[each], WIDE(1e-6)
    logits, targets, weights = draw(2, dtype="float64")
    kept = np.ones((2, 3), bool)
    kept[1, 2], targets[1, 2], logits[1, 2], logits[0, 1, OTHER] = False, -100, np.nan, -np.inf
    weights[1, 0] = 0
    direction = np.random.default_rng(1).normal(size=logits.shape)

    def gradient(z):
        of = oracle_objectives.tokens(z, targets, objective)
        return oracle_objectives.averaged(of, weights, kept, objective, "mean").dlogits

    wide = logits.astype(WIDE)
    with np.errstate(all="ignore"):
        expected = (gradient(wide + step * direction) - gradient(wide - step * direction)) / (2 * step)
    with framework.precision("float64"):
        more = {**options(framework, objective, "float64"), "ignore_index": -100}
        native = [framework.array(x) for x in (logits, targets, weights)]
        if framework.hessian_product is None:
            ends = [logits + s * float(step) * direction for s in (1, -1)]
            up, down = (seqloss.sequence_loss_and_grad(z, *native[1:], **more)[1] for z in ends)
            product = (up - down) / (2 * float(step))
        else:
            given = framework.array(direction)
            function = framework.hessian_product(lambda *x: seqloss.sequence_loss(*x, **more), native, given)
            product = framework.to_numpy(function)
    np.testing.assert_allclose(product, expected.astype("float64"), rtol=1e-8, atol=2e-9)
    zeros(product[~kept])
    zeros(product[1, 0])
    zeros(product[0, 1, OTHER])


def traced(backend, compiler, function, arrays):
    """What a compiled function gives back, as NumPy's; without a compiler an error is due."""
    driver = frameworks.load(backend)
    native = [driver.array(x) for x in arrays]
    if compiler == "none":
        with pytest.raises(seqloss.OptionError):
            function(*native)
        return None
    return driver.to_numpy(driver.COMPILERS[compiler](function)(*native))


@pytest.mark.parametrize("length", [-1, 4])
def test_a_length_beyond_time(backend, compiler, length):
    """Where it cannot be read, that sequence is NaN and no other one."""
    logits, targets, _ = draw(3)
    lengths = np.array([2, length, 3], "int32")
    loss = traced(
        backend,
        compiler,
        lambda z, y, n: seqloss.sequence_loss(z, y, lengths=n, reduction="per_sequence"),
        (logits, targets, lengths),
    )
    if loss is not None:
        np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
        right = seqloss.sequence_loss(logits, targets, lengths=np.array([2, 0, 3]), reduction="per_sequence")
        np.testing.assert_allclose(loss[[0, 2]], right[[0, 2]], rtol=1e-5)


def test_a_negative_class_weight(backend, compiler):
    logits, targets, _ = draw(2)
    numbers = CLASS_WEIGHTS.copy()
    numbers[LABEL] = -1
    loss = traced(
        backend,
        compiler,
        lambda z, y, c: seqloss.sequence_loss(z, y, class_weights=c, reduction="none"),
        (logits, targets, numbers),
    )
    if loss is not None:
        np.testing.assert_array_equal(np.isnan(loss), targets == LABEL)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_negative_normalizer(backend, compiler, dtype):
    logits, targets, _ = draw(2)
    loss = traced(
        backend,
        compiler,
        lambda z, y, n: seqloss.sequence_loss(z, y, normalizer=n),
        (logits, targets, np.array(-2, dtype)),
    )
    if loss is not None:
        assert np.isnan(loss)


@pytest.mark.few_where_compiled("count")
@pytest.mark.parametrize("count", [7.3, 1e-3, 2.0**31 + 1, 2**40 + 1, np.float64(0.1), np.int64(2**33 + 1)])
def test_a_normalizer_keeps_its_digits_in_exact_mode(backend, compiler, count):
    """Not those of float32 alone: rounded first, one loss in a few would be another."""
    driver, (logits, targets, weights) = frameworks.load(backend), draw(2)

    def loss(*arrays):
        return seqloss.sequence_loss(*arrays, reduction="sum", normalizer=count, exact=True)

    native = [driver.array(x) for x in (logits * 10, targets, weights)]
    found = driver.to_numpy((loss if compiler == "none" else driver.COMPILERS[compiler](loss))(*native))
    nll = oracle_objectives.tokens(logits * 10, targets, Objective()).loss
    expected = float((weights.astype(WIDE) * nll).sum() / WIDE(int(count) if count > 2**31 else float(count)))
    assert found == np.float32(expected)
