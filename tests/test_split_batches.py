"""A batch in parts, as in gradient accumulation: with the count of all of them as normalizer, the bits of the whole.

The count has to reach the kernel in float64. Divided by outside, or rounded to float32 on the way, it moves the last
bit of many entries.
"""

import numpy as np
import pytest

import seqloss
from seqloss.testing import frameworks

PARTS, ROWS, TIME, CLASSES = 8, 2, 6, 101
EMPTY = 5
"""The part without a token that counts."""


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        modes = {name: ("eager", *frameworks.load(name).COMPILED[:1]) for name in names}
        metafunc.parametrize("backend, mode", [(name, mode) for name in names for mode in modes[name]])


def draw():
    """A batch of uneven rows. A third of the tokens have a weight that is no power of 2."""
    rng = np.random.default_rng(0)
    shape = PARTS * ROWS, TIME
    z, y = rng.normal(0, 3, (*shape, CLASSES)).astype("float32"), rng.integers(0, CLASSES, shape)
    w = (np.arange(TIME) < rng.integers(1, TIME + 1, shape[:1])[:, None]) * rng.choice([1, 1, 0.7], shape)
    w[EMPTY * ROWS : (EMPTY + 1) * ROWS] = 0
    return z, y, w.astype("float32")


def parts(arrays):
    return [[x[i * ROWS : (i + 1) * ROWS] for x in arrays] for i in range(PARTS)]


def gradient(driver, mode, arrays, **given):
    """The gradient of the logits of a plain sum, in NumPy."""

    def loss(z, y, w):
        return seqloss.sequence_loss(z, y, w, reduction="sum", exact=True, **given)

    native = [driver.array(x) for x in arrays]
    if driver.CAN.differentiates:
        key = mode, *given.items()
        if key not in PROGRAMS.setdefault(driver.name, {}):
            PROGRAMS[driver.name][key] = driver.MODES[mode](loss, (0,))
        found = PROGRAMS[driver.name][key](native, None)[1][0]
    else:
        found = seqloss.sequence_loss_and_grad(*native, reduction="sum", exact=True, **given)[1]
    assert driver.dtype(found) == "float32"
    return driver.to_numpy(found)


PROGRAMS = {}


def differing(a, b):
    return np.count_nonzero(np.ascontiguousarray(a).view(np.uint32) != np.ascontiguousarray(b).view(np.uint32))


def count(w):
    return float(w.sum(dtype="float64"))


def test_gradients_of_parts_are_those_of_the_whole(backend, mode):
    driver, arrays = frameworks.load(backend), draw()
    n = count(arrays[2])
    assert n != np.float32(1) * int(n)  # a count that is whole would be exact in float32 too
    whole = gradient(driver, mode, arrays, normalizer=n)
    found = [gradient(driver, mode, part, normalizer=n) for part in parts(arrays)]
    assert [not x.any() for x in found] == [i == EMPTY for i in range(PARTS)]
    assert differing(np.concatenate(found), whole) == 0


def test_the_sum_with_this_normalizer_is_the_mean(backend, mode):
    driver, (z, y, w) = frameworks.load(backend), draw()
    _, mean = seqloss.sequence_loss_and_grad(z, y, w, exact=True)
    assert differing(gradient(driver, mode, (z, y, w), normalizer=count(w)), mean) == 0


@pytest.mark.parametrize("how", ["divided outside", "a count in float32"])
def test_this_test_can_fail(how):
    driver, arrays = frameworks.load("numpy"), draw()
    n = count(arrays[2])
    whole = gradient(driver, "eager", arrays, normalizer=n)
    if how == "divided outside":
        found = [gradient(driver, "eager", part) * np.float32(1 / n) for part in parts(arrays)]
    else:
        found = [gradient(driver, "eager", part, normalizer=np.float32(n)) for part in parts(arrays)]
    assert differing(np.concatenate(found), whole) > 0


def test_losses_of_parts_add_up_to_that_of_the_whole(backend, mode):
    driver, arrays = frameworks.load(backend), draw()

    def of_part(z, y, w):
        return seqloss.loss_sum(z, y, w, exact=True)

    if mode != "eager":
        of_part = driver.EXPLICIT[next(name for name in driver.EXPLICIT if name != "explicit")](of_part)
    total = sum(of_part(*map(driver.array, part)) for part in parts(arrays))
    whole = seqloss.sequence_loss(*arrays, exact=True)
    mean = total.mean()
    assert driver.is_array(mean) and driver.dtype(mean) == "float32"
    assert differing(driver.to_numpy(mean), whole) == 0
    assert total.to_dict()["weights"] == seqloss.loss_sum(*arrays).to_dict()["weights"]
