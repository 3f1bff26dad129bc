"""The losses of the compat modules that the main entrance does not have, in every framework, eager and compiled.

``tfa_sequence_loss_rank3_*`` holds targets [batch, time, classes]: one-hot and soft. The mixed tags of
``sequence_loss_*``, an average of one axis with a sum over the other one, were legal in TensorFlow 1.15 alone. What
runs compiled are the vectors of one shape: a program of seven losses takes long to compile, and the other shapes would
tell no more.
"""

import functools
import importlib

import numpy as np
import pytest
import vectors

from seqloss.compat import tf1, tfa
from seqloss.testing import frameworks

KINDS = ("ones", "prefix_mask", "fractional", "mixed", "all_zero")
RANK_3 = ("2_3_5", "4_7_11")
TARGETS = ("onehot", "soft")
COMPILED = (("2_3_5", "f32"),)
QUANTITIES = {"val": None, "dlogits": 0, "dtargets": 1, "dweights": 2}

# --- ways to run: a function of arrays and cotangents by tag, to value and gradients by tag --------------------------


def eager(driver, loss, wrt):
    def step(arrays, cotangents):
        return {tag: driver.MODES["eager"](loss(tag), arrays, wrt, g) for tag, g in cotangents.items()}

    return step


def torch_compile(driver, loss, wrt):
    def losses(tags, *arrays):
        return {tag: loss(tag)(*arrays) for tag in tags}

    # One program for all tags and sizes, because tracing takes seconds.
    compiled = importlib.import_module("torch").compile(losses, fullgraph=True, dynamic=True, backend="aot_eager")

    def step(arrays, cotangents):
        return eager(driver, lambda tag: lambda *a: compiled(tuple(cotangents), *a)[tag], wrt)(arrays, cotangents)

    return step


def tf_function(driver, loss, wrt, **options):
    return importlib.import_module("tensorflow").function(eager(driver, loss, wrt), **options)


def jax_jit(driver, loss, wrt):
    return importlib.import_module("jax").jit(eager(driver, loss, wrt))


MODES = {
    "numpy": {"eager": eager},
    "torch": {"eager": eager, "compile": torch_compile},
    "tensorflow": {"eager": eager, "function": tf_function, "xla": functools.partial(tf_function, jit_compile=True)},
    "jax": {"eager": eager, "jit": jax_jit},
}


def soft(tag):
    return functools.partial(tfa.seq2seq.sequence_loss, **vectors.flags(tag))


def mixed(tag):
    return functools.partial(tf1.contrib.seq2seq.sequence_loss, **vectors.flags(tag))


@functools.cache
def prepared(name, mode, loss, wrt):
    """Once for all shapes: what is compiled is kept as far as the framework can use it again."""
    return MODES[name][mode](frameworks.load(name), loss, wrt)


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        shapes = RANK_3 if "targets" in metafunc.fixturenames else vectors.SHAPES
        names = metafunc.config.getoption("--backends").split(",")
        every = [(shape, dtype) for shape in shapes for dtype in vectors.DTYPES]
        modes = [(name, mode, every if mode == "eager" else COMPILED) for name in names for mode in MODES[name]]
        rows = [(name, mode, *row) for name, mode, some in modes for row in some]
        metafunc.parametrize(("driver_name", "mode", "shape", "dtype"), rows, ids=["-".join(row) for row in rows])


# --- targets of three axes -------------------------------------------------------------------------------------------


def recorded(shape, targets, dtype):
    """Tag, quantity and numbers of each recorded array. There are float64 ones alone."""
    arrays = vectors.load(f"tfa_sequence_loss_rank3_{shape}")
    for tag in vectors.TAGS:
        for quantity in QUANTITIES:
            key = f"{quantity}_f64_{targets}_{tag}"
            if key in arrays:
                yield f"{shape}:{key}", tag, quantity, arrays[key]


def close(result, expected, dtype, scale, message):
    assert (result.dtype.name, result.shape) == (vectors.DTYPES[dtype], expected.shape)
    limit = 1e-10 * np.abs(expected) + 1e-12 * scale if dtype == "f64" else 2e-5 * np.abs(expected) + 1e-6 * scale
    wrong = ~(np.abs(result - expected) <= limit)
    assert not wrong.any(), f"{message}: {result[wrong]}, recorded {expected[wrong]}"


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_of_three_axes(driver_name, mode, shape, targets, dtype):
    driver, name = frameworks.load(driver_name), vectors.DTYPES[dtype]
    stored = vectors.load(f"tfa_sequence_loss_rank3_{shape}")
    with driver.precision(name):
        step = prepared(driver_name, mode, soft, (0, 1, 2))
        logits, labels = (driver.array(stored[key], name) for key in ("logits", targets))
        cotangents = {tag: driver.array(stored[f"gy_{tag}"], name) for tag in vectors.TAGS}
        results = [step((logits, labels, driver.array(w, name)), cotangents) for w in stored["weights"]]
    assert len(results) == len(KINDS)
    for key, tag, quantity, values in recorded(shape, targets, dtype):
        for kind, by_tag in enumerate(results):
            loss, gradients = by_tag[tag]
            if quantity != "val" and gradients is None:
                continue  # NumPy has no automatic differentiation
            result = loss if quantity == "val" else gradients[QUANTITIES[quantity]]
            assert driver.is_array(result)
            scale = np.abs(values[kind]).max(initial=0)
            close(driver.to_numpy(result), values[kind], dtype, scale, f"{key}, {KINDS[kind]} weights")


# --- an average and a sum --------------------------------------------------------------------------------------------


def test_an_average_overrules_the_sum(driver_name, mode, shape, dtype):
    driver, name = frameworks.load(driver_name), vectors.DTYPES[dtype]
    stored = vectors.load(f"sequence_loss_{shape}")
    with driver.precision(name):
        step = prepared(driver_name, mode, mixed, (0, 2))
        logits, targets = driver.array(stored["logits"], name), driver.array(stored["targets"])
        cotangents = {tag: driver.array(stored[f"gy_{tag}"], name) for tag in vectors.MIXED}
        results = [step((logits, targets, driver.array(w, name)), cotangents) for w in stored["weights"]]
    for tag in vectors.MIXED:
        for vector in vectors.recorded(shape, tag, dtype):
            for place, kind in enumerate(vector.kinds):
                loss, gradients = results[kind][tag]
                if vector.quantity != "val" and gradients is None:
                    continue  # NumPy has no automatic differentiation
                result = loss if vector.quantity == "val" else gradients[vector.quantity == "dweights"]
                scale = largest_summand(shape, tag, vector.quantity, kind) if dtype == "f32" else 0.0
                compare(driver.to_numpy(result), vector, place, dtype, scale, vectors.KINDS[kind])


def largest_summand(shape, tag, quantity, kind):
    """The largest number that was added up for each entry of an average along one axis."""
    arrays = vectors.load(f"sequence_loss_{shape}")
    if quantity == "dlogits":
        return 0.0
    nll, weights = arrays["val_f64_nT_nB"][vectors.KINDS.index("ones")], arrays["weights"][kind].astype(float)
    axis = 1 if tag[0] == "a" else 0
    total = np.abs(weights.sum(axis, keepdims=True))
    inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total != 0)
    largest = (np.abs(weights * nll) * inverse).max(axis, keepdims=True)
    if quantity == "val":
        return largest.squeeze(axis)
    return np.abs(np.expand_dims(arrays[f"gy_{tag}"].astype(float), axis)) * inverse * (nll + largest)


def compare(result, vector, place, dtype, scale, kind):
    expected = vector.values[place].astype(float)
    assert (result.dtype.name, result.shape) == (vector.dtype, expected.shape)
    wrong = ~(np.abs(result - expected) <= vectors.allowed(vector, expected, dtype, scale))
    assert not wrong.any(), f"{vector.key}, {kind} weights: {result[wrong]}, recorded {expected[wrong]}"


# --- tests of the test -----------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    prefix = "tfa_sequence_loss_rank3_"
    files = {path.stem.removeprefix(prefix): path.stem for path in vectors.FOLDER.glob(f"{prefix}*.npz")}
    assert set(files) == set(RANK_3)
    results = tuple(f"{quantity}_" for quantity in QUANTITIES)
    stored = {f"{s}:{key}" for s, file in files.items() for key in vectors.load(file) if key.startswith(results)}
    assert {key for s in RANK_3 for y in TARGETS for key, *_ in recorded(s, y, "f64")} == stored


def test_every_mixed_array_is_compared():
    compared = {
        vector.key.partition(":")[2]
        for shape in vectors.SHAPES
        for tag in vectors.MIXED
        for dtype in vectors.DTYPES
        for vector in vectors.recorded(shape, tag, dtype)
    }
    stored = {
        key
        for shape in vectors.SHAPES
        for key in vectors.load(f"sequence_loss_{shape}")
        if any(tag in key for tag in vectors.MIXED) and not key.startswith("gy_")
    }
    assert compared == stored


@pytest.mark.parametrize(("dtype", "factor"), [("f64", 1 + 1e-8), ("f32", 1 + 1e-4)])
def test_a_perturbed_result_is_noticed(dtype, factor):
    for key, _, _, values in recorded("2_3_5", "soft", dtype):
        expected = values[KINDS.index("fractional")]
        result = expected.astype(vectors.DTYPES[dtype])
        scale = np.abs(expected).max()
        close(result, expected, dtype, scale, key)
        with pytest.raises(AssertionError, match=key):
            close((result * factor).astype(result.dtype), expected, dtype, scale, key)
