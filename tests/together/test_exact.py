"""exact=True is the same bits in every framework, eager and compiled: twenty million entries of gradients."""

import functools

import choosing
import ml_dtypes
import numpy as np
import pytest
import suite

import seqloss
from seqloss.testing import cases, frameworks

FULL, HALF = "full", "half masked"
# shape, dtype of the logits, scale, offset, mask, flags
BATCHES = {
    "many classes": ((4, 8, 128_000), "float32", 1.0, 0.0, FULL, "average_both"),
    "many tokens": ((512, 256, 32), "float32", 10.0, 0.0, HALF, "average_both"),
    "plain": ((64, 16, 4096), "float32", 3.0, 0.0, FULL, "average_time"),
    "wide": ((8, 64, 8192), "float32", 30.0, 0.0, HALF, "sum_both"),
    "far away": ((128, 8, 4001), "float32", 2.0, 1e4, FULL, "none"),
    "bfloat16": ((16, 16, 4096), "bfloat16", 3.0, 0.0, HALF, "average_batch"),
    "float16": ((16, 16, 4096), "float16", 3.0, 0.0, FULL, "sum_time"),
}


def explicit(driver):
    """The ways in which the library itself returns gradients; NumPy is what all are compared with."""
    return () if driver.name == "numpy" else driver.EXPLICIT


def differentiated(driver):
    """The ways in which the framework differentiates."""
    every = {} if driver.name == "numpy" else driver.MODES | getattr(driver, "INDUCTOR", {})
    return [mode for mode in every if f"{driver.name}-{mode}-exact" not in suite.XFAIL]


def pytest_generate_tests(metafunc):
    if "key" in metafunc.fixturenames:
        modes = explicit if metafunc.function is test_loss_and_gradients else differentiated
        rows = list(choosing.in_modes(metafunc.config, modes, list(BATCHES)))
        metafunc.parametrize("name, mode, key", rows, ids=["-".join(row) for row in rows])


@functools.cache
def batch(key):
    shape, dtype, scale, offset, mask, _ = BATCHES[key]
    rng = np.random.default_rng(list(shape))
    logits = (rng.standard_normal(shape, dtype="float32") * np.float32(scale) + np.float32(offset)).astype(
        ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    )
    targets = rng.integers(0, shape[2], shape[:2])
    weights = rng.random(shape[:2], dtype="float32")
    # Confident tokens, where the target is what the plain formulas lose.
    at = targets[::2, ::3, None]
    np.put_along_axis(logits[::2, ::3], at, np.take_along_axis(logits[::2, ::3], at, -1) + logits.dtype.type(25), -1)
    if mask == HALF:
        weights[:, 1::2] = 0
    return logits, targets, weights


def flags(key):
    return cases.FLAGS[BATCHES[key][-1]]


@functools.cache
def on_numpy(key):
    loss, gradients = seqloss.sequence_loss_and_grad(*batch(key), **flags(key), exact=True, wrt=("logits", "weights"))
    return loss, *gradients


def native(driver, key):
    logits, targets, weights = batch(key)
    dtype = BATCHES[key][1]
    # bfloat16 goes through float32, which holds all of its numbers.
    given = logits.astype("float32") if dtype == "bfloat16" else logits
    return [driver.array(given, dtype), driver.array(targets), driver.array(weights)]


def bits(x):
    return np.asarray(x).view({2: np.uint16, 4: np.uint32}[np.asarray(x).dtype.itemsize])


def same_bits(driver, key, results):
    for name, got, expected in zip(("loss", "logits", "weights"), results, on_numpy(key), strict=True):
        array = driver.to_numpy(got)
        assert driver.dtype(got) == expected.dtype.name
        # To float32 and back: some drivers read bfloat16 as float32.
        array = array.astype(expected.dtype)
        assert array.shape == expected.shape
        different = bits(array) != bits(expected)
        assert not different.any(), (
            f"{name}: {different.sum()} of {different.size} entries differ, first at {np.argwhere(different)[0]}: "
            f"{array[different][0]!r}, on NumPy {expected[different][0]!r}"
        )


def test_every_mode_meets_float32(pytestconfig):
    """Where tests/frameworks leaves it to this file."""
    rows = choosing.in_modes(pytestconfig, differentiated, list(BATCHES))
    met = {(name, mode) for name, mode, key in rows if BATCHES[key][1] == "float32"}
    assert {("torch", "inductor")} < met
    assert met == {(name, mode) for name in frameworks.NAMES for mode in differentiated(frameworks.load(name))}


def test_there_are_twenty_million_entries():
    assert sum(np.prod(shape) for shape, dtype, *_ in BATCHES.values() if dtype == "float32") >= 20_000_000


def test_loss_and_gradients(name, mode, key):
    driver = frameworks.load(name)

    def function(*arrays):
        return seqloss.sequence_loss_and_grad(*arrays, **flags(key), exact=True, wrt=("logits", "weights"))

    loss, gradients = driver.EXPLICIT[mode](function)(*native(driver, key))
    same_bits(driver, key, (loss, *gradients))


def test_gradients_by_the_framework(name, mode, key):
    driver = frameworks.load(name)

    def function(*arrays):
        return seqloss.sequence_loss(*arrays, **flags(key), exact=True)

    ones = driver.array(np.ones_like(on_numpy(key)[0]))
    loss, gradients = driver.MODES.get(mode, getattr(driver, "INDUCTOR", {}).get(mode))(function, (0, 2))(
        native(driver, key), ones
    )
    same_bits(driver, key, (loss, *gradients))


def test_a_flipped_bit_is_seen():
    key = "float16"
    loss, to_logits, to_weights = (x.copy() for x in on_numpy(key))
    bits(to_logits)[3, 5, 1000] ^= 1
    with pytest.raises(AssertionError, match="1 of 1048576 entries differ, first at"):
        same_bits(frameworks.load("numpy"), key, (loss, to_logits, to_weights))
