"""Values and gradients are those of TensorFlow 1.15 and Addons 0.23, in every framework, eager and compiled."""

import functools
import importlib

import numpy as np
import programs
import pytest
import vectors

import seqloss
from seqloss.testing import frameworks

# --- ways to run: a function of logits, targets, weights and a cotangent for each tag, to loss and gradients for each


def explicit(driver):
    def step(arrays, cotangents):
        results = {}
        for tag, cotangent in cotangents.items():
            options = {**vectors.flags(tag), "cotangent": cotangent, "wrt": ("logits", "weights")}
            results[tag] = seqloss.sequence_loss_and_grad(*arrays, **options)
        return results

    return step


def loss(tag):
    return functools.partial(seqloss.sequence_loss, **vectors.flags(tag))


def autodiff(driver, loss=loss):
    def step(arrays, cotangents):
        return {tag: driver.MODES["eager"](loss(tag), (0, 2))(arrays, g) for tag, g in cotangents.items()}

    return step


def torch_compile(driver):
    def losses(*arrays):
        return {tag: loss(tag)(*arrays) for tag in vectors.TAGS}

    # One program for all tags and sizes, because tracing takes seconds.
    options = {"fullgraph": True, "dynamic": True, "backend": "aot_eager"}
    compiled = importlib.import_module("torch").compile(losses, **options)
    return autodiff(driver, lambda tag: lambda *arrays: compiled(*arrays)[tag])


def tf_function(driver, **options):
    return importlib.import_module("tensorflow").function(autodiff(driver), **options)


def jax_jit(driver):
    return importlib.import_module("jax").jit(autodiff(driver))


EAGER = {"explicit": explicit, "eager": autodiff}
MODES = {
    "numpy": {"explicit": explicit},
    "torch": {**EAGER, "compile": torch_compile},
    "tensorflow": {**EAGER, "function": tf_function, "xla": functools.partial(tf_function, jit_compile=True)},
    "jax": {**EAGER, "jit": jax_jit},
}


EVERY = [(shape, dtype) for shape in vectors.SHAPES for dtype in vectors.DTYPES]
SOME = [("4_7_11", "f64")]


@functools.cache
def prepared(driver_name, mode):
    """Once for all shapes: what is compiled is kept as far as the framework can use it again."""
    return MODES[driver_name][mode](frameworks.load(driver_name))


def pytest_generate_tests(metafunc):
    programs.parametrize(metafunc, ("shape", "dtype"), EVERY, SOME, MODES)


def outcomes(driver, step, shape, dtype):
    """For each kind of weights: from tags to the loss, d/dlogits and d/dweights."""
    stored = vectors.load(f"sequence_loss_{shape}")
    name = vectors.DTYPES[dtype]
    logits, targets = driver.array(stored["logits"], name), driver.array(stored["targets"])
    cotangents = {tag: driver.array(stored[f"gy_{tag}"], name) for tag in vectors.TAGS}
    for weights in stored["weights"]:
        results = step((logits, targets, driver.array(weights, name)), cotangents)
        yield {tag: {"val": x, "dlogits": dz, "dweights": dw} for tag, (x, (dz, dw)) in results.items()}


def close(result, vector, place, shape, tag, dtype):
    """Compare a NumPy array with the recorded one of the weights ``vector.kinds[place]``."""
    kind, expected = vector.kinds[place], vector.values[place].astype(float)
    assert (result.dtype.name, result.shape) == (vector.dtype, expected.shape)
    limit = vectors.allowed(vector, expected, dtype, vectors.largest_summand(shape, tag, vector.quantity, kind))
    wrong = ~(np.abs(result - expected) <= limit)
    message = f"{vector.key}, {vectors.KINDS[kind]} weights, at {np.argwhere(wrong).tolist()}"
    assert not wrong.any(), f"{message}: {result[wrong]}, recorded {expected[wrong]}"


def test_vectors(driver_name, mode, shape, dtype):
    driver = frameworks.load(driver_name)
    with driver.precision(vectors.DTYPES[dtype]):
        results = list(outcomes(driver, prepared(driver_name, mode), shape, dtype))
    for tag in vectors.TAGS:
        for vector in vectors.recorded(shape, tag, dtype):
            for place, kind in enumerate(vector.kinds):
                result = results[kind][tag][vector.quantity]
                assert driver.is_array(result)
                close(driver.to_numpy(result), vector, place, shape, tag, dtype)


@pytest.mark.parametrize("tag", vectors.MIXED)
def test_mixed_tags_are_refused(framework, tag):
    """Vectors exist for them; that they raise is a documented difference."""
    stored = vectors.load("sequence_loss_2_3_5")
    arrays = [framework.array(x) for x in (stored["logits"], stored["targets"], stored["weights"][0])]
    with pytest.raises(seqloss.OptionError, match="cannot both be True, because their order would be ambiguous"):
        seqloss.sequence_loss(*arrays, **vectors.flags(tag))


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    compared = {
        vector.key
        for shape in vectors.SHAPES
        for tag in vectors.TAGS
        for dtype in vectors.DTYPES
        for vector in vectors.recorded(shape, tag, dtype)
    }
    files = {path.stem: vectors.load(path.stem) for path in vectors.FOLDER.glob("*sequence_loss_[0-9]*.npz")}
    assert len(files) == 2 * len(vectors.SHAPES)
    results = ("val", "dlogits", "dweights")
    stored = {f"{file}:{key}" for file, arrays in files.items() for key in arrays if key.startswith(results)}
    assert {key for key in stored if not any(tag in key for tag in vectors.MIXED)} == compared


@pytest.mark.parametrize(("dtype", "factor"), [("f64", 1 + 1e-8), ("f32", 1 + 1e-4)])
@pytest.mark.parametrize("quantity", ["val", "dlogits", "dweights"])
@pytest.mark.parametrize("tag", vectors.TAGS)
def test_a_perturbed_result_is_noticed(tag, quantity, dtype, factor):
    shape, kind = "2_3_5", vectors.KINDS.index("fractional")
    (vector, *_) = (v for v in vectors.recorded(shape, tag, dtype) if v.quantity == quantity)
    result = vector.values[kind].astype(vectors.DTYPES[dtype])
    close(result, vector, kind, shape, tag, dtype)
    with pytest.raises(AssertionError, match=f"{vector.key}, fractional weights"):
        close((result * factor).astype(result.dtype), vector, kind, shape, tag, dtype)


@pytest.mark.parametrize("wrong", [lambda x: x.astype("float32"), lambda x: x[..., None], lambda x: x * np.nan])
def test_a_wrong_dtype_shape_or_nan_is_noticed(wrong):
    vector = vectors.recorded("2_3_5", "aT_nB", "f64")[0]
    with pytest.raises(AssertionError):
        close(wrong(vector.values[0]), vector, 0, "2_3_5", "aT_nB", "f64")
