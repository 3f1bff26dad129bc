"""Soft targets of a sequence loss, eagerly: what is no number, what does not count, dtypes, and one-hot ones."""

import numpy as np
import pytest
from test_objective_corners import CLASSES, LABEL, NO_NUMBERS, OBJECTIVES, draw, kind, options, with_rows, zeros

import seqloss
from seqloss.testing import frameworks, oracle_objectives
from seqloss.testing.oracle import WIDE
from seqloss.testing.oracle_objectives import Objective

pytestmark = pytest.mark.few_where_compiled("each", "name")
NEED_NO_LABEL = [name for name, x in OBJECTIVES.items() if not (x.off_target or x.centred)]


def pytest_generate_tests(metafunc):
    if "dtype" in metafunc.fixturenames:
        drivers = {name: frameworks.load(name) for name in metafunc.config.getoption("--backends").split(",")}
        metafunc.parametrize("backend, dtype", [(name, dtype) for name, x in drivers.items() for dtype in x.DTYPES])


def soft(shape, dtype="float32", seed=3):
    """Soft targets of any sum, some of them 0."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 9, (*shape, CLASSES)) / 8).astype(dtype)


def one_hot(targets, dtype="float32"):
    return np.eye(CLASSES, dtype=dtype)[targets]


def explicit(driver, arrays, wrt=("logits", "targets"), **given):
    """The loss and its gradients, for NumPy."""
    native = [None if x is None else driver.array(x) for x in arrays]
    value, gradients = seqloss.sequence_loss_and_grad(*native, **given, wrt=wrt)
    return [driver.to_numpy(x) for x in (value, *gradients)]


def differentiated(driver, arrays, wrt, **given):
    """The same by the framework; None for a gradient that it cannot have."""
    run = driver.MODES["eager"](lambda *x: seqloss.sequence_loss(*x, **given), wrt)
    value, gradients = run([driver.array(x) for x in arrays if x is not None], None)
    return [driver.to_numpy(value), *(driver.to_numpy(x) for x in gradients or ())]


@pytest.mark.parametrize("name", NEED_NO_LABEL)
@pytest.mark.parametrize("wrt_weights", [False, True])
@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_weight_0_leaves_nothing(framework, name, wrt_weights, bad):
    """Neither of rows that are no numbers nor of targets that are none."""
    logits, _, weights = with_rows(NO_NUMBERS)
    targets = soft(weights.shape)
    logits = np.concatenate([logits, logits[:, :1]], 1)
    targets, weights = (np.concatenate([x, x[:, :1]], 1) for x in (targets, weights))
    weights[0, 1:-1], targets[0, 2], targets[0, -2, LABEL] = 0, bad, bad
    given = options(framework, OBJECTIVES[name])
    arrays, names = (logits, targets, weights), ("logits", "targets", "weights")[: 2 + wrt_weights]
    by_framework = differentiated(framework, arrays, tuple(range(len(names))), **given)
    for loss, *gradients in (explicit(framework, arrays, names, **given), by_framework):
        assert kind(loss) == "finite"
        for gradient, is_row in zip(gradients, (True, True, False), strict=False):
            assert kind(gradient) == "finite"
            if is_row:
                zeros(gradient[0, 1:-1])
                assert (gradient[0, [0, -1]] != 0).any(-1).all()


@pytest.mark.parametrize("name", NEED_NO_LABEL)
@pytest.mark.parametrize("bad", [np.nan, -1e-3])
def test_what_is_no_number_shows_in_its_token_alone(framework, name, bad):
    logits, _, weights = draw(2)
    targets = soft(weights.shape)
    targets[0, 1, LABEL] = bad
    given = {**options(framework, OBJECTIVES[name]), "reduction": "none"}
    loss, dlogits, dtargets = explicit(framework, (logits, targets, weights), **given)
    wrong = np.zeros(weights.shape, bool)
    wrong[0, 1] = True
    np.testing.assert_array_equal(np.isnan(loss), wrong)
    np.testing.assert_array_equal(np.isnan(dlogits), np.broadcast_to(wrong[..., None], logits.shape))
    assert kind(dtargets[~wrong]) == "finite"


def test_a_cotangent_of_0_leaves_nothing(framework):
    logits, _, _ = with_rows(NO_NUMBERS)
    targets = soft(logits.shape[:2])
    targets[0, 0] = np.nan
    cotangent = np.zeros(targets.shape[:2], "float32")
    cotangent[0, -1] = 1
    given = {**options(framework, OBJECTIVES["all"]), "cotangent": framework.array(cotangent), "reduction": "none"}
    _, dlogits, dtargets = explicit(framework, (logits, targets, None), **given)
    for gradient in (dlogits, dtargets):
        zeros(gradient[0, :-1])
        assert (gradient[0, -1] != 0).all()


def test_targets_of_weight_0_are_free_where_they_are_read(framework):
    logits, _, weights = draw(2)
    targets = soft(weights.shape)
    targets[1, 2], weights[1, 2] = -1, 0
    arrays = [framework.array(x) for x in (logits, targets, weights)]
    loss = framework.to_numpy(seqloss.sequence_loss(*arrays, check_labels=True))
    assert kind(loss) == "finite"
    with pytest.raises(seqloss.LabelError, match=r"targets\[1, 2, 0\] is -1\.0"):
        seqloss.sequence_loss(*arrays[:2], check_labels=True)


@pytest.mark.parametrize("name", NEED_NO_LABEL)
@pytest.mark.parametrize("reduction", ["mean", "sum", "per_sequence"])
def test_one_hot_targets_are_class_ids(framework, name, reduction):
    """In exact mode: the same bits of the loss and its gradients."""
    logits, targets, weights = draw(2)
    logits[0, 1, 0] = -np.inf
    given = {**options(framework, OBJECTIVES[name]), "reduction": reduction, "exact": True}
    of_ids = explicit(framework, (logits, targets, weights), ("logits", "weights"), **given)
    of_soft = explicit(framework, (logits, one_hot(targets), weights), ("logits", "weights"), **given)
    for got, wanted in zip(of_soft, of_ids, strict=True):
        np.testing.assert_array_equal(got, wanted, strict=True)


def test_a_class_weight_of_0_takes_out_what_has_no_other_class(framework):
    numbers = np.ones(CLASSES, "float32")
    numbers[LABEL] = 0
    logits, targets, weights = draw(2)
    given = {**options(framework, Objective(class_weights=numbers)), "reduction": "mean"}
    mixed = one_hot(targets)
    mixed[1, 1, 0] = 0.5
    loss, dlogits, dtargets = explicit(framework, (logits, mixed, weights), **given)
    out = mixed @ numbers == 0
    assert out.any() and not out[1, 1]
    zeros(dlogits[out])
    zeros(dtargets[out])
    nll = oracle_objectives.tokens(logits, mixed, Objective(class_weights=numbers)).loss
    np.testing.assert_allclose(loss, float((weights * nll).sum() / (weights * (mixed @ numbers)).sum()), rtol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_a_class_weight_of_0_at_an_impossible_class(framework, exact):
    """Whose cost is infinite, and 0 times infinity is 0."""
    numbers = np.ones(CLASSES, "float32")
    numbers[LABEL] = 0
    logits, _, weights = draw(2)
    logits[..., LABEL] = -np.inf
    given = {**options(framework, Objective(0.1, class_weights=numbers)), "exact": exact}
    arrays = logits, soft(weights.shape), weights
    ways = [explicit(framework, arrays, **given), differentiated(framework, arrays, (0, 1), **given)]
    for _, *gradients in ways:
        for gradient in gradients:
            assert kind(gradient) == "finite"
            zeros(gradient[..., LABEL])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_class_weight_that_is_no_number_shows_where_its_class_is_asked_for(framework, number):
    numbers = np.ones(CLASSES, "float32")
    numbers[LABEL] = number
    logits, targets, weights = draw(2)
    given = {**options(framework, Objective(class_weights=numbers)), "reduction": "none"}
    loss, *_ = explicit(framework, (logits, one_hot(targets), weights), **given)
    np.testing.assert_array_equal(np.isfinite(loss), targets != LABEL)


@pytest.mark.parametrize("exact", [False, True])
def test_the_gradient_is_in_the_dtype_of_the_targets(backend, dtype, exact):
    driver, (logits, _, weights) = frameworks.load(backend), draw(2)
    targets = soft(weights.shape)
    with driver.precision("float64" if dtype == "float64" else "float32"):
        arrays = driver.array(logits), driver.array(targets, dtype), driver.array(weights)
        loss, gradient = seqloss.sequence_loss_and_grad(*arrays, wrt="targets", exact=exact)
        assert (driver.dtype(loss), driver.dtype(gradient)) == ("float32", dtype)
    expected = explicit(frameworks.load("numpy"), (logits, targets, weights), exact=exact)
    np.testing.assert_allclose(driver.to_numpy(loss), expected[0], rtol=1e-6)
    epsilon = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 2e-6)
    np.testing.assert_allclose(driver.to_numpy(gradient).astype("float64"), expected[2], rtol=epsilon)


def test_host_values_are_cast_on_the_host(framework):
    logits, _, weights = draw(2)
    targets = soft(weights.shape, "float64")
    expected = explicit(framework, (logits, targets.astype("float32"), weights))
    value, gradient = seqloss.sequence_loss_and_grad(framework.array(logits), targets, weights, wrt="targets")
    assert framework.dtype(gradient) == ("float64" if framework.name == "numpy" else "float32")
    np.testing.assert_array_equal(framework.to_numpy(value), expected[0])
    np.testing.assert_array_equal(framework.to_numpy(gradient), expected[2])


@pytest.mark.parametrize("name", ["plain", "all"])
def test_second_derivatives(framework, name):
    """Of the logits, against differences of the oracle's gradient."""
    objective, step = OBJECTIVES[name], WIDE(1e-6)
    logits, _, weights = draw(2, dtype="float64")
    targets, weights[1, 0] = soft(weights.shape, "float64"), 0
    direction = np.random.default_rng(1).normal(size=logits.shape)

    def gradient(z):
        of = oracle_objectives.tokens(z, targets, objective)
        return oracle_objectives.averaged(of, weights, np.ones((2, 3), bool), objective, "mean").dlogits

    expected = (gradient(logits + step * direction) - gradient(logits - step * direction)) / (2 * step)
    if framework.hessian_product is None:
        assert not framework.CAN.differentiates
        return
    with framework.precision("float64"):
        more = options(framework, objective, "float64")
        native = [framework.array(x) for x in (logits, targets, weights)]
        given = framework.array(direction)
        product = framework.hessian_product(lambda *x: seqloss.sequence_loss(*x, **more), native, given)
        product = framework.to_numpy(product)
    np.testing.assert_allclose(product, expected.astype("float64"), rtol=1e-8, atol=2e-9)
    zeros(product[1, 0])
