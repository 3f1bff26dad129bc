"""A softmax_loss_function in every backend and mode: its value, its gradients, and masks that mask there too."""

import choosing
import numpy as np
import pytest
import suite

import seqloss
from seqloss.testing import cases, frameworks, oracle

FLAGS = ["average_both", "sum_time", "none"]


def pytest_generate_tests(metafunc):
    rows = choosing.in_modes(metafunc.config, lambda driver: (*driver.MODES, *driver.EXPLICIT), FLAGS)
    # Without automatic differentiation there is no gradient of somebody else's loss.
    metafunc.parametrize("name, mode, flags", [marked(*row) for row in rows if row[:2] != ("numpy", "explicit")])


def marked(name, mode, flags):
    identity = f"{name}-{mode}-custom_loss-{flags}"
    return pytest.param(name, mode, flags, id=identity, marks=suite.marks(identity))


def twice(labels, logits):
    return 2 * seqloss.token_loss(logits, labels)


def test_custom_loss(name, mode, flags):
    driver = frameworks.load(name)
    logits, targets, weights = cases.draw(3, 4, 5)
    logits, weights = logits.astype("float32"), weights.astype("float32")
    logits[0, 2], targets[0, 2], weights[0, 2] = np.nan, -100, 0
    options = {**cases.FLAGS[flags], "softmax_loss_function": twice}
    plain = oracle.sequence_loss(logits, targets, weights, **cases.FLAGS[flags])
    cotangent = suite.upstream(plain.loss.shape, "float32")
    plain = oracle.sequence_loss(logits, targets, weights, **cases.FLAGS[flags], cotangent=cotangent)
    native = [driver.array(x) for x in (logits, targets, weights)]
    g = None if cotangent is None else driver.array(cotangent)
    if mode in driver.EXPLICIT:
        loss, gradient = driver.EXPLICIT[mode](lambda *a: seqloss.sequence_loss_and_grad(*a, **options, cotangent=g))(
            *native
        )
    else:
        loss, gradients = driver.MODES[mode](lambda *a: seqloss.sequence_loss(*a, **options), (0,))(native, g)
        gradient = None if gradients is None else gradients[0]
    assert driver.dtype(loss) == "float32"
    np.testing.assert_allclose(driver.to_numpy(loss), np.float32(2 * plain.loss), rtol=1e-5)
    if gradient is not None:
        assert driver.dtype(gradient) == "float32"
        np.testing.assert_allclose(driver.to_numpy(gradient), np.float32(2 * plain.dlogits), rtol=1e-5, atol=1e-8)
        np.testing.assert_array_equal(driver.to_numpy(gradient)[0, 2], 0)
