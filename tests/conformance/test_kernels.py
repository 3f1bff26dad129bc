"""The kernels as operations, in every mode: three statistics at once, behind a cap, with a prior and a mask.

And their second derivatives, against differences of the oracle's gradients.
"""

import choosing
import numpy as np
import pytest
import suite

from seqloss.core import dispatch
from seqloss.core.contract import Spec
from seqloss.losses.kernels import LabelKernel, TokenKernel
from seqloss.testing import frameworks, oracle_statistics, tolerances

PRIOR = np.array([0.5, 0, 2, 1, 0.25])
LOOKS = {
    "nll": Spec("float32"),
    "all": Spec("float32", lse=True, unl=True),
    "capped": Spec("float32", lse=True, unl=True, softcap=3.0),
}
FACTORS = {"nll": 1.0, "lse": 2.0, "unl": 3.0}
STEP = np.longdouble(1e-6)


def pytest_generate_tests(metafunc):
    if "look" in metafunc.fixturenames:
        rows = choosing.in_modes(metafunc.config, lambda driver: driver.MODES, list(LOOKS))
        metafunc.parametrize("name, mode, look", [marked(*row) for row in rows])
    else:
        metafunc.parametrize("name", metafunc.config.getoption("--backends").split(","))


def marked(name, mode, look):
    identity = f"{name}-{mode}-kernel-{look}"
    return pytest.param(name, mode, look, id=identity, marks=suite.marks(identity))


def tokens(soft, sure=True):
    """Logits [2, 4, 5], labels, and which tokens are active: the others have bad labels. The first one may be sure."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 2, (2, 4, 5)), rng.integers(0, 5, (2, 4))
    active = np.array([[True, True, False, True], [True, False, True, True]])
    logits[0, 0, targets[0, 0]] += 20 * sure
    if soft:
        return logits, rng.integers(0, 9, (2, 4, 5)) / 8, active
    return logits, np.where(active, targets, -100), active


def kernel(driver, soft, spec, prior):
    """The statistics that a spec asks for, as a function of logits, labels and active."""
    backend = dispatch.load(driver.name)
    given = None if prior is None else driver.array(prior, spec.dtype)

    def function(logits, labels, active):
        if soft:
            op, more = LabelKernel(backend, spec, False), (labels, backend.sum(labels, axis=(2,)))
        else:
            op, more = TokenKernel(backend, spec), (labels,)
        found = op.statistics(backend.run(op, (logits, *more, active, given)))
        return [x for x in found[:3] if x is not None]

    return function


def exact(soft, logits, labels, prior, spec):
    of = oracle_statistics.of_labels if soft else oracle_statistics.of_tokens
    return of(logits, labels, prior=prior, softcap=spec.softcap)


@pytest.mark.parametrize("soft", [False, True], ids=["label", "soft"])
def test_value_and_gradient(name, mode, look, soft):
    driver, spec = frameworks.load(name), LOOKS[look]
    prior = PRIOR if spec.unl else None
    logits, labels, active = tokens(soft, sure=mode not in driver.CAN.forgetful)
    logits = logits.astype("float32")
    of_kernel = kernel(driver, soft, spec, prior)

    def function(*arrays):
        found = of_kernel(*arrays)
        return sum((x * factor for x, factor in zip(found[1:], (2.0, 3.0), strict=False)), found[0])

    cotangent = np.linspace(0.5, 2, active.size).reshape(active.shape).astype("float32")
    native = [driver.array(logits), driver.array(labels, "float32" if soft else None), driver.array(active)]
    value, gradients = driver.MODES[mode](function, (0,))(native, driver.array(cotangent))
    expected = exact(soft, logits, labels, prior, spec)
    names = ("nll", "lse", "unl")[: 1 + spec.lse + spec.unl]
    wanted = np.where(active, sum(FACTORS[key] * getattr(expected, key) for key in names), 0)
    size = np.where(active, sum(FACTORS[key] * abs(getattr(expected, key)) for key in names), 0)
    bound, of_entries = tolerances.capped_bound(logits, spec.softcap)
    scale = size if spec.lse else 0.0
    assert tolerances.excess(driver.to_numpy(value), wanted, "float32", bound, scale).max() <= 1
    if gradients is not None:
        used = cotangent * active
        rows, scale = oracle_statistics.pulled(expected, *(used * FACTORS[key] for key in names))
        result = driver.to_numpy(gradients[0])
        np.testing.assert_array_equal(result[~active], 0)
        assert tolerances.excess(result, rows, "float32", of_entries, scale).max() <= 1


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("soft", [False, True], ids=["label", "soft"])
def test_second_derivatives(name, soft, softcap):
    """Of half the sum of the squares of all three."""
    driver, spec = frameworks.load(name), Spec("float64", lse=True, unl=True, softcap=softcap)
    if not driver.CAN.differentiates:
        return
    logits, labels, active = tokens(soft)
    direction = np.random.default_rng(1).normal(size=logits.shape)

    def gradient(z):
        found = exact(soft, z, labels, PRIOR, spec)
        upstream = (np.where(active, x, 0) for x in (found.nll, found.lse, found.unl))
        return oracle_statistics.pulled(found, *upstream)[0]

    wide = logits.astype(np.longdouble)
    expected = (gradient(wide + STEP * direction) - gradient(wide - STEP * direction)) / (2 * STEP)
    with driver.precision("float64"):
        of_kernel = kernel(driver, soft, spec, PRIOR)

        def function(*arrays):
            nll, lse, unl = of_kernel(*arrays)
            return driver.total(nll * nll + lse * lse + unl * unl) * 0.5

        native = [driver.array(x) for x in (logits, labels, active)]
        product = driver.to_numpy(driver.hessian_product(function, native, driver.array(direction)))
    np.testing.assert_allclose(product, expected.astype("float64"), rtol=1e-8, atol=1e-10)


def test_weights_of_0_move_the_gradient(name):
    """The mixed derivative by a weight and the logits is the slope of the token, whatever the weight is."""
    driver, spec = frameworks.load(name), Spec("float64")
    if not driver.CAN.differentiates:
        return
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 2, (4, 5)), np.array([0, 3, 2, 4])
    # The weights are a last column, so that there is one array to differentiate.
    packed = np.concatenate([logits, np.array([[0.0], [1], [0], [0.5]])], 1)
    direction = np.zeros_like(packed)
    direction[:, 5] = rng.normal(size=4)
    with driver.precision("float64"):
        backend = dispatch.load(name)
        op = TokenKernel(backend, spec)

        def function(x, y):
            return driver.total(x[:, 5] * backend.run(op, (x[:, :5], y, None, None))[0])

        native = driver.array(packed), driver.array(targets)
        product = driver.to_numpy(driver.hessian_product(function, native, driver.array(direction)))
    slopes = oracle_statistics.of_tokens(logits, targets).dnll * direction[:, 5:]
    np.testing.assert_allclose(product[:, :5], slopes.astype("float64"), rtol=1e-12, atol=1e-15)
