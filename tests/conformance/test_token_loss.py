"""token_loss in every backend and mode: values and gradients, with and without a mask."""

import numpy as np
import pytest

import seqloss
from seqloss.testing import cases, frameworks, oracle, tolerances


def pytest_generate_tests(metafunc):
    names = metafunc.config.getoption("--backends").split(",")
    pairs = [(name, mode) for name in names for mode in frameworks.load(name).MODES]
    metafunc.parametrize("name, mode", pairs, ids=["-".join(pair) for pair in pairs])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rank", [2, 3])
def test_token_loss(name, mode, rank, masked):
    driver = frameworks.load(name)
    logits, targets, weights = (x.reshape(-1, *x.shape[2:]) if rank == 2 else x for x in cases.draw(3, 4, 9))
    logits, active = logits.astype("float32"), weights > 0
    if masked:
        logits[~active], targets[~active] = np.nan, -100
    native = [driver.array(x) for x in (logits, targets, active)]
    nll, slope = oracle.tokens(logits, targets)
    cotangent = np.linspace(0.5, 2, nll.size).reshape(nll.shape).astype("float32")
    expected = np.where(active, nll, 0) if masked else nll
    gradient = cotangent[..., None] * slope
    gradient = np.where(active[..., None], gradient, 0) if masked else gradient

    def function(z, y, a):
        return seqloss.token_loss(z, y, active=a if masked else None)

    value, gradients = driver.MODES[mode](function, (0,))(native, driver.array(cotangent))
    for actual, wanted in ((value, expected), *([] if gradients is None else [(gradients[0], gradient)])):
        assert (driver.dtype(actual), tuple(actual.shape)) == ("float32", wanted.shape)
        result = driver.to_numpy(actual)
        np.testing.assert_array_equal(result[wanted == 0], 0)
        assert tolerances.ulps(result, wanted, "float32").max() <= tolerances.TIGHT_ULPS
