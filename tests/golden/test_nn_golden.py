"""Values and gradients of the cross entropies are those of ``tf.nn`` in 1.15, in every framework, eager and compiled.

``nn_xent.npz`` holds five shapes; in ``5x7`` the rows 0 to 3 are extreme. For labels that do not add up to 1 TensorFlow
computes another gradient to logits than the derivative of its loss: the vectors are compared with the option of the
core that does so too, and the public function with the derivative. (Rounded to float32, the soft labels of the vectors
add up to 1 in seven digits, so they too need that option where float64 is compared.)
"""

import functools
import pathlib

import numpy as np
import packed
import programs
import pytest
from programs import Case

import seqloss
from seqloss.core.call import Call
from seqloss.losses import cross_entropies
from seqloss.testing import frameworks

FILE = pathlib.Path(__file__).parent / "nn_xent.npz"
DTYPES = {"f32": "float32", "f64": "float64"}
SHAPES = ("1x1", "5x7", "2x3x5", "3x4x50", "4x2x3x6")
QUANTITIES = ("val", "dlogits", "dlabels")


def tf_soft(labels, logits, axis=-1, stop_labels=False):
    """The loss with TensorFlow's gradient."""
    call = Call("logits", logits)
    given = call.beside("labels", labels)
    with call.backend.scope(None):
        return call.guard(cross_entropies.soft(call, given, axis, tf_gradient=True, stop_labels=stop_labels))


def cases(shape):
    """From the names of the recorded functions to calls, whose inputs are labels and logits."""
    soft = seqloss.softmax_cross_entropy_with_logits
    sigmoid, weighted = seqloss.sigmoid_cross_entropy_with_logits, seqloss.weighted_cross_entropy_with_logits
    found = {
        "sparse": Case(seqloss.sparse_softmax_cross_entropy_with_logits, ("labels", "logits"), (1,), "gy"),
        "softmax_v2_soft": Case(tf_soft, ("soft", "logits"), (1, 0), "gy"),
        "softmax_v2_unnorm": Case(tf_soft, ("unnorm", "logits"), (1, 0), "gy"),
        "softmax_v1_soft": Case(functools.partial(tf_soft, stop_labels=True), ("soft", "logits"), (1,), "gy"),
        "true_soft": Case(soft, ("soft", "logits"), (1, 0), "gy"),
        "true_unnorm": Case(soft, ("unnorm", "logits"), (1, 0), "gy"),
    }
    for labels in ("sig", "hard", "unnorm"):
        found[f"sigmoid_{labels}"] = Case(sigmoid, (labels, "logits"), (1, 0), "gyfull")
    for pos_weight in (0.3, 2.5):
        function = functools.partial(weighted, pos_weight=pos_weight)
        found[f"weighted_pw{pos_weight}"] = Case(function, ("sig", "logits"), (1, 0), "gyfull")
    if shape.count("x") == 2:
        for axis in range(3):
            function = functools.partial(tf_soft, axis=axis)
            found[f"softmax_v2_axis{axis}"] = Case(function, ("soft", "logits"), (1,), None)
    return found


def stored(shape, name):
    return packed.unpack(FILE)[f"{shape}/{name}"]


def expectations(shape, dtype):
    """For each recorded function and quantity: the key, the numbers (of float64 if there are any), and the dtype."""
    arrays = packed.unpack(FILE)
    for name in cases(shape):
        for quantity in QUANTITIES:
            own, wide = (f"{shape}/{name}/{quantity}_{t}" for t in (dtype, "f64"))
            if wide in arrays:
                assert own not in arrays or arrays[own].dtype == DTYPES[dtype]
                yield name, quantity, own if own in arrays else wide, arrays[wide]


def summands(shape, name, quantity):
    """The size of the largest number that was added up for each entry of a result."""
    z = stored(shape, "logits").astype("float64")
    case = cases(shape)[name]
    y = np.eye(z.shape[-1])[stored(shape, "labels")] if name == "sparse" else stored(shape, case.inputs[0])
    y = np.abs(y.astype("float64"))
    if "sigmoid" in name or "weighted" in name:
        q = max(1.0, float(name.removeprefix("weighted_pw"))) if "weighted" in name else 1.0
        cotangent = np.abs(stored(shape, "gyfull").astype("float64"))
        sizes = {"val": 1 + q * y, "dlogits": cotangent * (1 + q * y), "dlabels": cotangent * q}
        return sizes[quantity] * (1.0 if quantity == "dlogits" else 1 + np.abs(z))
    axis = int(name[-1]) if "axis" in name else -1
    costs = 1 + z.max(axis, keepdims=True) - z
    if quantity == "val":
        return (y * costs).max(axis)
    cotangent = 1.0 if "axis" in name else np.abs(stored(shape, "gy").astype("float64"))[..., None]
    return cotangent * (costs if quantity == "dlabels" else np.maximum(1, y.sum(axis, keepdims=True)) + 0 * z)


def close(result, expected, scale, dtype, key):
    """Compare a NumPy array with recorded numbers."""
    assert (result.dtype.name, result.shape) == (DTYPES[dtype], expected.shape), key
    relative, absolute = (1e-10, 1e-12) if dtype == "f64" else (2e-5, 1e-6)
    with np.errstate(over="ignore", invalid="ignore"):
        # A loss that float32 cannot hold is infinite in TensorFlow too.
        expected = expected.astype(DTYPES[dtype]).astype("float64")
        near = np.abs(result - expected) <= relative * np.abs(expected) + absolute * scale
    wrong = ~(near | (result == expected))
    assert not wrong.any(), f"{key} at {np.argwhere(wrong).tolist()}: {result[wrong]}, recorded {expected[wrong]}"


def derivative(shape, labels):
    """d/dlogits of the loss against soft labels, written down once more."""
    z, y, g = (stored(shape, name).astype("float64") for name in ("logits", labels, "gy"))
    e = np.exp(z - z.max(-1, keepdims=True))
    return g[..., None] * (y.sum(-1, keepdims=True) * (e / e.sum(-1, keepdims=True)) - y)


@functools.cache
def inputs(driver_name, shape, dtype):
    driver = frameworks.load(driver_name)
    names = ("logits", "labels", "soft", "unnorm", "sig", "hard", "gy", "gyfull")
    return {name: driver.array(stored(shape, name), None if name == "labels" else DTYPES[dtype]) for name in names}


EVERY = [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
# A program takes many seconds to compile; this one has the class axes.
SOME = [("2x3x5", "f64")]


def pytest_generate_tests(metafunc):
    programs.parametrize(metafunc, ("shape", "dtype"), EVERY, SOME)


def test_vectors(driver_name, mode, shape, dtype):
    driver = frameworks.load(driver_name)
    with driver.precision(DTYPES[dtype]):
        results = programs.WAYS[driver_name][mode](driver, cases(shape))(inputs(driver_name, shape, dtype))
    for name, quantity, key, expected in expectations(shape, dtype):
        value, gradients = results[name]
        result = value if quantity == "val" else gradients[("dlogits", "dlabels").index(quantity)]
        assert driver.is_array(result)
        result = driver.to_numpy(result)
        if "axis" in name and quantity == "dlogits" and driver_name == "numpy":
            result = np.moveaxis(result, -1, int(name[-1]))  # the kernel saw the class axis last
        close(result, expected, summands(shape, name, quantity), dtype, key)
    for labels in ("soft", "unnorm"):
        (value, (to_logits, to_labels)), of_tf = results[f"true_{labels}"], results[f"softmax_v2_{labels}"]
        np.testing.assert_array_equal(driver.to_numpy(value), driver.to_numpy(of_tf[0]))
        np.testing.assert_array_equal(driver.to_numpy(to_labels), driver.to_numpy(of_tf[1][1]))
        scale = summands(shape, f"true_{labels}", "dlogits")
        close(driver.to_numpy(to_logits), derivative(shape, labels), scale, dtype, f"{shape}, the derivative")


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    compared = {key for shape in SHAPES for dtype in DTYPES for _, _, key, _ in expectations(shape, dtype)}
    assert compared == {key for key in packed.unpack(FILE) if key.count("/") == 2}
    assert {key.split("/")[0] for key in packed.unpack(FILE)} == set(SHAPES)


@pytest.mark.parametrize(("dtype", "factor"), [("f64", 1 + 1e-9), ("f32", 1 + 1e-4)])
def test_a_perturbed_result_is_noticed(dtype, factor):
    for name, quantity, key, expected in expectations("2x3x5", dtype):
        scale = summands("2x3x5", name, quantity)
        result = expected.astype(DTYPES[dtype])
        close(result, expected, scale, dtype, key)
        with pytest.raises(AssertionError, match=f"{key} at"):
            close((result * factor).astype(result.dtype), expected, scale, dtype, key)


@pytest.mark.parametrize("wrong", [lambda x: x.astype("float32"), lambda x: x[..., None], lambda x: x * np.nan])
def test_a_wrong_dtype_shape_or_nan_is_noticed(wrong):
    expected = stored("2x3x5", "sparse/val_f64")
    close(expected, expected, 0.0, "f64", "the vector")
    with pytest.raises(AssertionError, match="the vector"):
        close(wrong(expected), expected, 0.0, "f64", "the vector")


def test_the_derivative_differs_from_what_tensorflow_returns():
    recorded = stored("2x3x5", "softmax_v2_unnorm/dlogits_f64")
    assert np.abs(derivative("2x3x5", "unnorm") - recorded).max() > 0.1
