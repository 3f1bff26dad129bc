"""Values and gradients of the weighted losses are those of ``tf.losses`` in 1.15, in every framework.

TensorFlow reduced in float32 even where the logits were float64, so its numbers are compared as float32 ones; the
precision that this library keeps is tested elsewhere. What is compiled is compared in float32, because tracing takes
many seconds.
"""

import functools
import pathlib

import numpy as np
import packed
import programs
import pytest
from programs import Case

import seqloss
from seqloss.testing import frameworks

FOLDER = pathlib.Path(__file__).parent
DTYPES = {"f32": "float32", "f64": "float64"}
LOSSES = {
    "softmax": seqloss.softmax_cross_entropy,
    "sparse": seqloss.sparse_softmax_cross_entropy,
    "sigmoid": seqloss.sigmoid_cross_entropy,
}
FILES = [f"{loss}_{rank}" for loss in LOSSES for rank in ("2d", "3d")]
REDUCTIONS = ("NONE", "SUM", "MEAN", "SUM_OVER_BATCH_SIZE", "SUM_BY_NONZERO_WEIGHTS")
QUANTITIES = ("val", "dlogits", "dweights")


def load(file):
    return packed.unpack(FOLDER / f"tflosses_{file}.npz")


def weights_of(file):
    return [name for name in load(file) if name.startswith("w_")]


def smoothings(file):
    return ("ls0",) if file.startswith("sparse") else ("ls0", "ls0.1")


def cases(file):
    """From what the recorded keys end in to calls, whose inputs are labels, logits and weights."""
    found = {}
    for reduction in REDUCTIONS:
        for smoothing in smoothings(file):
            options = {"reduction": getattr(seqloss.Reduction, reduction)}
            if not file.startswith("sparse"):
                options["label_smoothing"] = float(smoothing[2:])
            function = functools.partial(LOSSES[file.partition("_")[0]], **options)
            inputs, cotangent = ("labels", "logits", "weights"), "gy_NONE" if reduction == "NONE" else None
            found[f"{reduction}__{smoothing}"] = Case(function, inputs, (1, 2), cotangent)
    return found


def expectations(file, weights, dtype):
    """For each case and quantity: the key, the numbers, and the dtype to return; of float32 if there are no others."""
    arrays = load(file)
    for name in cases(file):
        for quantity in QUANTITIES:
            own, other = (f"{quantity}_{t}__{weights[2:]}__{name}" for t in (dtype, "f32"))
            if own in arrays:
                assert arrays[own].dtype == DTYPES[dtype]
            yield name, quantity, own if own in arrays else other, arrays[own if own in arrays else other]


def summands(file, weights, name, quantity):
    """The size of the largest number that was added up, for all entries of a result."""
    arrays = load(file)
    reduction, smoothing = name.split("__")
    nll = arrays[f"val_f64__full_ones__NONE__{smoothing}"]
    w = arrays[weights].astype("float64")
    w = np.broadcast_to(w[..., 0] if weights == "w_full_squeezable" else w, nll.shape)
    denominators = {
        "NONE": 1.0,
        "SUM": 1.0,
        "MEAN": abs(w.sum()),
        "SUM_OVER_BATCH_SIZE": w.size,
        "SUM_BY_NONZERO_WEIGHTS": np.count_nonzero(w),
    }
    denominator = denominators[reduction] or 1.0
    cotangent = np.abs(arrays["gy_NONE"]).max() if reduction == "NONE" else 1.0
    if quantity == "val":
        return np.abs(w * nll).max() / denominator
    if quantity == "dlogits":
        return cotangent * np.abs(w).max() / denominator
    spread = w.size / arrays[weights].size  # so many are added up for each weight
    return spread * cotangent * nll.max() / denominator * (1 + np.abs(w).sum() / denominator)


def close(result, expected, scale, dtype, key):
    """Compare a NumPy array with recorded numbers."""
    assert (result.dtype.name, result.shape) == (DTYPES[dtype], expected.shape), key
    expected = expected.astype("float64")
    relative = 1e-5 if dtype == "f64" else 2e-5
    wrong = ~(np.abs(result - expected) <= relative * np.abs(expected) + 1e-6 * scale)
    assert not wrong.any(), f"{key} at {np.argwhere(wrong).tolist()}: {result[wrong]}, recorded {expected[wrong]}"


def compare(driver, results, file, weights, dtype):
    for name, quantity, key, expected in expectations(file, weights, dtype):
        value, gradients = results[name]
        result = {"val": value, "dlogits": gradients[0], "dweights": gradients[1]}[quantity]
        assert driver.is_array(result)
        close(driver.to_numpy(result), expected, summands(file, weights, name, quantity), dtype, f"{file}: {key}")


def inputs(driver, file, weights, dtype):
    arrays = load(file)
    floats = {"logits": arrays["logits"], "gy_NONE": arrays["gy_NONE"], "weights": arrays[weights]}
    return {"labels": driver.array(arrays["labels"])} | {k: driver.array(x, DTYPES[dtype]) for k, x in floats.items()}


EVERY = [(file, dtype) for file in FILES for dtype in DTYPES]
SOME = [("softmax_2d", "f32"), ("sparse_3d", "f32"), ("sigmoid_3d", "f32")]
# One array of weights for each way to broadcast it; all values go through the same program.
FEW_WEIGHTS = {"softmax_2d": ["w_scalar_0.7"], "sparse_3d": ["w_full_squeezable"], "sigmoid_3d": ["w_row_1x"]}


def pytest_generate_tests(metafunc):
    programs.parametrize(metafunc, ("file", "dtype"), EVERY, SOME)


def test_vectors(driver_name, mode, file, dtype, pytestconfig):
    driver = frameworks.load(driver_name)
    some = driver_name == "jax" and not pytestconfig.getoption("--full")
    with driver.precision(DTYPES[dtype]):
        step = programs.WAYS[driver_name][mode](driver, cases(file))
        for weights in FEW_WEIGHTS[file] if some else weights_of(file):
            compare(driver, step(inputs(driver, file, weights, dtype)), file, weights, dtype)


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    for file in FILES:
        compared = {
            key
            for weights in weights_of(file)
            for dtype in DTYPES
            for _, _, key, _ in expectations(file, weights, dtype)
        }
        assert compared == {key for key in load(file) if "__" in key}
    assert sorted(path.stem for path in FOLDER.glob("tflosses_*")) == sorted(f"tflosses_{file}" for file in FILES)


def test_every_reduction_is_recorded():
    assert {getattr(seqloss.Reduction, name) for name in REDUCTIONS} == set(seqloss.Reduction.all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file", FILES)
def test_a_perturbed_result_is_noticed(file, dtype):
    for name, quantity, key, expected in expectations(file, "w_full_mixed", dtype):
        result, scale = expected.astype(DTYPES[dtype]), summands(file, "w_full_mixed", name, quantity)
        close(result, expected, scale, dtype, key)
        with pytest.raises(AssertionError, match=key):
            close((result + np.abs(result).max() * result.dtype.type(1e-3)), expected, scale, dtype, key)


@pytest.mark.parametrize("wrong", [lambda x: x.astype("float16"), lambda x: x[..., None], lambda x: x * np.nan])
def test_a_wrong_dtype_shape_or_nan_is_noticed(wrong):
    expected = load("sparse_2d")["val_f32__full_ones__NONE__ls0"]
    with pytest.raises(AssertionError, match="the vector"):
        close(wrong(expected), expected, 1.0, "f32", "the vector")
