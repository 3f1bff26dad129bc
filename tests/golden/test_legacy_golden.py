"""The losses of lists are those of TensorFlow 1.15's legacy_seq2seq: values and gradients, in every framework.

The files hold logits [T, B, C], targets [T, B] and twelve kinds of weights [T, B]; the tags say which function was
called with which averages.
"""

import functools
import importlib

import numpy as np
import pytest
import vectors

import seqloss
from seqloss import legacy
from seqloss.testing import frameworks

SHAPES = ("1_1_1", "2_3_5", "2_5_10", "4_7_11", "5_10_2")
TAGS = {
    **{
        f"by_example_aT{time:d}": functools.partial(seqloss.sequence_loss_by_example, average_across_timesteps=time)
        for time in (True, False)
    },
    **{
        f"seqloss_aT{time:d}_aB{batch:d}": functools.partial(
            legacy.sequence_loss, average_across_timesteps=time, average_across_batch=batch
        )
        for time in (True, False)
        for batch in (True, False)
    },
}

# --- ways to run: a function of stacked logits, targets, weights and a cotangent for each tag, to loss and gradients --


def of_lists(tag):
    def loss(*arrays):
        return TAGS[tag](*([x[step] for step in range(x.shape[0])] for x in arrays))

    return loss


def autodiff(driver, loss=of_lists):
    def step(arrays, cotangents):
        return {tag: driver.MODES["eager"](loss(tag), arrays, (0, 2), g) for tag, g in cotangents.items()}

    return step


def torch_compile(driver):
    def losses(*arrays):
        return {tag: of_lists(tag)(*arrays) for tag in TAGS}

    # One program for all tags, because tracing takes seconds.
    compiled = importlib.import_module("torch").compile(losses, fullgraph=True, backend="aot_eager")
    return autodiff(driver, lambda tag: lambda *arrays: compiled(*arrays)[tag])


def tf_function(driver, **options):
    return importlib.import_module("tensorflow").function(autodiff(driver), **options)


def jax_jit(driver):
    return importlib.import_module("jax").jit(autodiff(driver))


MODES = {
    "numpy": {"eager": autodiff},
    "torch": {"eager": autodiff, "compile": torch_compile},
    "tensorflow": {"eager": autodiff, "function": tf_function, "xla": functools.partial(tf_function, jit_compile=True)},
    "jax": {"eager": autodiff, "jit": jax_jit},
}


COMPILED = (("2_3_5", "f32"), ("2_3_5", "f64"), ("4_7_11", "f32"))
"""What runs compiled. Every number of timesteps is a program of its own, and takes seconds to compile."""


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        every = [(shape, dtype) for shape in SHAPES for dtype in vectors.DTYPES]
        modes = [(name, mode, every if mode == "eager" else COMPILED) for name in names for mode in MODES[name]]
        rows = [(name, mode, *row) for name, mode, some in modes for row in some]
        metafunc.parametrize(("driver_name", "mode", "shape", "dtype"), rows, ids=["-".join(row) for row in rows])


# --- comparing --------------------------------------------------------------------------------------------------------


def recorded(shape, dtype):
    """The arrays to compare with when running in a dtype: those of float64, else, where there is none, of float32."""
    arrays = vectors.load(f"legacy_{shape}")
    for tag in TAGS:
        for quantity in ("val", "dlogits", "dweights"):
            wide, own = f"{quantity}_f64_{tag}", f"{quantity}_{dtype}_{tag}"
            if wide in arrays:
                like = arrays.get(own, arrays[wide].astype(vectors.DTYPES[dtype]))
                key = f"{shape}:{own if own in arrays else wide}"
                places = tuple(range(len(vectors.KINDS)))
                yield tag, vectors.Vector(key, quantity, places, arrays[wide], like.dtype.name)


def largest_summand(shape, tag, quantity, kind):
    """The largest number that was added up for each entry of a result."""
    arrays = vectors.load(f"legacy_{shape}")
    if quantity == "dlogits":
        return 0.0
    weights = arrays["weights"][kind].astype(float)
    # Of the sum of the losses, which no weight has a part in but as a factor, this gradient is the loss of each token.
    nll = arrays["dweights_f64_seqloss_aT0_aB0"][vectors.KINDS.index("ones")]
    denominator = np.abs(weights.sum(0) + 1e-12) if "aT1" in tag else np.ones(weights.shape[1])
    summands = np.abs(weights * nll) / denominator
    scale = 1 / weights.shape[1] if "aB1" in tag else 1.0
    if quantity == "val":
        return scale * (summands.max(0) if "by_example" in tag else summands.max())
    cotangent = np.abs(arrays["gy_B"].astype(float)) if "by_example" in tag else scale
    return cotangent / denominator * (nll + (summands.max(0) if "aT1" in tag else 0))


def close(result, vector, kind, shape, tag, dtype):
    expected = vector.values[kind]
    assert (result.dtype.name, result.shape) == (vector.dtype, expected.shape)
    limit = vectors.allowed(vector, expected, dtype, largest_summand(shape, tag, vector.quantity, kind))
    wrong = ~(np.abs(result - expected) <= limit)
    message = f"{vector.key}, {vectors.KINDS[kind]} weights, at {np.argwhere(wrong).tolist()}"
    assert not wrong.any(), f"{message}: {result[wrong]}, recorded {expected[wrong]}"


def test_vectors(driver_name, mode, shape, dtype):
    driver, name = frameworks.load(driver_name), vectors.DTYPES[dtype]
    stored = vectors.load(f"legacy_{shape}")
    with driver.precision(name):
        step = MODES[driver_name][mode](driver)
        logits, targets = driver.array(stored["logits"], name), driver.array(stored["targets"])
        gy = driver.array(stored["gy_B"], name)
        cotangents = {tag: gy if "by_example" in tag else driver.array(np.ones(()), name) for tag in TAGS}
        results = [step((logits, targets, driver.array(w, name)), cotangents) for w in stored["weights"]]
    for tag, vector in recorded(shape, dtype):
        for kind, by_tag in enumerate(results):
            loss, gradients = by_tag[tag]
            if vector.quantity != "val" and gradients is None:
                continue  # NumPy has no automatic differentiation
            index = ("dlogits", "dweights").index(vector.quantity) if vector.quantity != "val" else None
            result = loss if index is None else gradients[index]
            assert driver.is_array(result)
            close(driver.to_numpy(result), vector, kind, shape, tag, dtype)


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    files = {path.stem.removeprefix("legacy_"): path.stem for path in vectors.FOLDER.glob("legacy_*.npz")}
    assert set(files) == set(SHAPES)
    results = ("val", "dlogits", "dweights")
    stored = {f"{s}:{key}" for s, file in files.items() for key in vectors.load(file) if key.startswith(results)}
    assert {vector.key for s in SHAPES for dtype in vectors.DTYPES for _, vector in recorded(s, dtype)} == stored


@pytest.mark.parametrize(("dtype", "factor"), [("f64", 1 + 1e-8), ("f32", 1 + 1e-4)])
@pytest.mark.parametrize("kind", ["fractional", "cancel", "tiny"])
def test_a_perturbed_result_is_noticed(kind, dtype, factor):
    place = vectors.KINDS.index(kind)
    for tag, vector in recorded("2_3_5", dtype):
        result = vector.values[place].astype(vector.dtype)
        close(result, vector, place, "2_3_5", tag, dtype)
        with pytest.raises(AssertionError, match=f"{vector.key}, {kind} weights"):
            close((result * factor).astype(result.dtype), vector, place, "2_3_5", tag, dtype)
