"""exact=True in every backend and mode: the true value, rounded once."""

import choosing
import mpmath
import numpy as np
import pytest
import suite

import seqloss
from seqloss.testing import cases, frameworks, tolerances


def modes(config, explicit=False):
    for name in config.getoption("--backends").split(","):
        driver = frameworks.load(name)
        yield from ((name, mode) for mode in (driver.EXPLICIT if explicit else driver.MODES))


def marked(pair, *more):
    return pytest.param(*pair, *more, id="-".join((*pair, *more)), marks=suite.marks("-".join((*pair, "exact"))))


def pytest_generate_tests(metafunc):
    if "flags" in metafunc.fixturenames:
        rows = choosing.in_modes(metafunc.config, lambda driver: driver.MODES, list(cases.FLAGS))
        metafunc.parametrize("name, mode, flags", [marked((name, mode), flags) for name, mode, flags in rows])
    elif "mode" in metafunc.fixturenames:
        pairs = list(modes(metafunc.config, "explicit" in metafunc.function.__name__))
        if "half" in metafunc.function.__name__:  # the deviation shows in one of the two dtypes alone
            pairs = [pair for pair in pairs if "-".join((*pair, "exact")) not in suite.XFAIL]
        metafunc.parametrize("name, mode", [marked(pair) for pair in pairs])


class True_:
    """The loss of a batch and its gradients with 60 digits, each rounded once."""

    def __init__(self, logits, targets, weights, flags, cotangent=None):
        with mpmath.workdps(60):
            self._compute(logits, targets, weights, flags, cotangent)

    def _compute(self, logits, targets, weights, flags, cotangent):
        nll = np.empty(targets.shape, object)
        slope = np.empty(logits.shape, object)
        wide = np.vectorize(lambda x: mpmath.mpf(float(x)), otypes=[object])
        for at in np.ndindex(*targets.shape):
            e = [mpmath.exp(x) for x in wide(logits[at])]
            total = mpmath.fsum(e)
            nll[at] = mpmath.log(total) - mpmath.mpf(float(logits[at][targets[at]]))
            slope[at] = [x / total for x in e]
            slope[at][targets[at]] = -(mpmath.fsum(e[: targets[at]]) + mpmath.fsum(e[targets[at] + 1 :])) / total
        w = wide(weights)
        axis = (0,) * (flags["average_across_batch"] or flags.get("sum_over_batch", False))
        axis += (1,) * (flags["average_across_timesteps"] or flags.get("sum_over_timesteps", False))
        counts = flags.get("sum_over_batch", False) or flags.get("sum_over_timesteps", False)
        if axis:
            denominator = (wide(weights != 0) if counts else w).sum(axis, keepdims=True)
        else:
            denominator = wide(np.ones_like(weights))
        safe = np.where(denominator == 0, mpmath.mpf(1), denominator)
        summed = (w * nll).sum(axis, keepdims=True) if axis else w * nll
        loss = np.where(denominator == 0, mpmath.mpf(0), summed / safe)
        self.loss = loss.reshape([n for i, n in enumerate(loss.shape) if i not in axis])
        g = wide(np.ones(self.loss.shape) if cotangent is None else cotangent).reshape(loss.shape) / safe
        g = np.where(denominator == 0, mpmath.mpf(0), g) * np.ones_like(w)
        self.dlogits = (g * w)[..., None] * slope
        self.dweights = g * (nll if counts or not axis else nll - loss)


def rounded(x, dtype):
    """Numbers of 60 digits in a dtype, rounded to the nearest once; subnormal float32 numbers are 0."""
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype]
    # Halves have gradual underflow: a fixed last place below the smallest normal number.
    smallest = tolerances.PRECISION[dtype].smallest_normal

    def one(value):
        if abs(value) < 2.0**-126:
            return 0.0
        with mpmath.workprec(bits):
            if abs(value) >= smallest:
                return float(+value)
        unit = mpmath.mpf(smallest) * mpmath.mpf(2) ** (1 - bits)
        with mpmath.workdps(60):
            return float(mpmath.nint(value / unit) * unit)

    return np.vectorize(one, otypes=[float])(x)


def batch(dtype, driver, shape=(3, 4, 23), scale=4.0):
    logits, targets, weights = cases.draw(*shape, scale=scale)
    logits[0, 0] *= 8  # some entries of its gradient are below the smallest normal float32
    logits[0, 1, targets[0, 1]] += 60  # and here the model is sure
    native = [driver.array(logits, dtype), driver.array(targets), driver.array(weights * 1.1, "float32")]
    return native, [driver.to_numpy(x) for x in native]


def same(driver, actual, expected, dtype):
    assert driver.is_array(actual)
    assert driver.dtype(actual) == dtype
    assert tuple(actual.shape) == expected.shape
    np.testing.assert_array_equal(driver.to_numpy(actual).astype(float), rounded(expected, dtype))


def test_loss_and_gradients_are_rounded_once(name, mode, flags):
    driver, flags = frameworks.load(name), cases.FLAGS[flags]
    native, host = batch("float32", driver)
    shape = True_(host[0][..., :1], 0 * host[1], host[2], flags).loss.shape
    cotangent = None if shape == () else np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape).astype("float32")

    def function(*arrays):
        return seqloss.sequence_loss(*arrays, **flags, exact=True)

    g = None if cotangent is None else driver.array(cotangent)
    loss, gradients = driver.MODES[mode](function, (0, 2))(native, g)
    expected = True_(*host, flags, cotangent)
    same(driver, loss, expected.loss, "float32")
    if gradients is not None:
        same(driver, gradients[0], expected.dlogits, "float32")
        same(driver, gradients[1], expected.dweights, "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gradients_are_rounded_once(name, mode, dtype):
    driver = frameworks.load(name)
    if dtype not in driver.DTYPES:
        dtype = "float16"  # NumPy has no bfloat16 of its own
    native, host = batch(dtype, driver, (2, 8, 40))

    def function(*arrays):
        return seqloss.sequence_loss(*arrays, exact=True)

    loss, gradients = driver.MODES[mode](function, (0,))(native, None)
    expected = True_(*host, cases.AVERAGE)
    same(driver, loss, expected.loss, "float32")
    if gradients is not None:
        same(driver, gradients[0], expected.dlogits, dtype)


def test_token_loss(name, mode):
    driver = frameworks.load(name)
    _, host = batch("float32", driver)
    host = [x.copy() for x in host]
    active = host[2] > 0.5
    host[0][~active] = np.nan
    host[1][~active] = -100
    native = [driver.array(x) for x in (*host[:2], active)]

    def function(z, y, a):
        return seqloss.token_loss(z, y, active=a, exact=True)

    value, gradients = driver.MODES[mode](function, (0,))(native, driver.array(active.astype("float32")))
    clean = np.where(active[..., None], host[0], 0), np.where(active, host[1], 0), active.astype("float32")
    expected = True_(*clean, cases.PLAIN)
    same(driver, value, expected.loss, "float32")
    if gradients is not None:
        same(driver, gradients[0], expected.dlogits, "float32")


@pytest.mark.parametrize("wrt", ["logits", ("weights", "logits")], ids=["logits", "both"])
def test_explicit_gradients(name, mode, wrt):
    driver = frameworks.load(name)
    native, host = batch("float32", driver)

    def function(*arrays):
        return seqloss.sequence_loss_and_grad(*arrays, exact=True, wrt=wrt)

    loss, gradients = driver.EXPLICIT[mode](function)(*native)
    expected = True_(*host, cases.AVERAGE)
    same(driver, loss, expected.loss, "float32")
    same(driver, gradients if wrt == "logits" else gradients[1], expected.dlogits, "float32")
    if wrt != "logits":
        same(driver, gradients[0], expected.dweights, "float32")


def test_what_counts_and_is_bad_is_nan_and_what_does_not_is_zero(name, mode):
    driver = frameworks.load(name)
    logits, targets, weights = cases.draw(2, 4, 5)
    logits[:, 0], targets[:, 1] = np.nan, -1
    weights[:] = [[0, 0, 1, 2], [1, 1, 1, 1]]
    native = [driver.array(logits, "float32"), driver.array(targets), driver.array(weights, "float32")]

    def function(*arrays):
        return seqloss.sequence_loss(*arrays, **cases.PLAIN, check_labels=False, exact=True)

    ones = driver.array(np.ones((2, 4), "float32"))
    loss, gradients = driver.MODES[mode](function, (0,))(native, ones)
    loss = driver.to_numpy(loss)
    np.testing.assert_array_equal(np.isnan(loss), [[False] * 4, [True, True, False, False]])
    np.testing.assert_array_equal(loss[0, :2], 0)
    if gradients is not None:
        rows = driver.to_numpy(gradients[0])
        np.testing.assert_array_equal(np.isnan(rows).all(-1), [[False] * 4, [True, True, False, False]])
        np.testing.assert_array_equal(rows[0, :2], 0)
        assert (rows[0, 2:] != 0).all()
