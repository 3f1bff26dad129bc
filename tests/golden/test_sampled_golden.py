"""Sampled losses: values and gradients are those of TensorFlow 1.15, in every framework, eager and compiled.

Keys of the file: ``cN/<fn>__rm<0|1>__sub<0|1>__<dtype>/<quantity>``, with rm for remove_accidental_hits and sub for
subtract_log_q; the inputs of case N stand beside. Shards of the weights are given by the ids of their rows.
"""

import functools
import importlib
import pathlib
from typing import NamedTuple

import numpy as np
import programs
import pytest
from packed import unpack

from seqloss import sampling
from seqloss.core.contract import Spec
from seqloss.losses.kernels import LabelKernel, SigmoidKernel
from seqloss.losses.sampled import arguments, logits
from seqloss.testing import frameworks

PATH = pathlib.Path(__file__).parent / "sampled_losses.npz"
FUNCTIONS = {"sampled_softmax": sampling.sampled_softmax_loss, "nce": sampling.nce_loss}
NAMES = ("weights", "biases", "labels", "inputs", "sampled", "true_expected", "sampled_expected")
CASES = ("c0", "c1", "c2", "c3")
SHARDED = ("c0", "c1")
DTYPES = {"f64": "float64", "f32": "float32"}
WRT = {"dweights": 0, "dbiases": 1, "dinputs": 3}
VARIANTS = [(name, rm, sub) for name in FUNCTIONS for rm in (0, 1) for sub in (0, 1)]


class Case(NamedTuple):
    """The arrays of a case in a framework and a dtype: those of a call, the candidates, a cotangent, the sizes."""

    arrays: list
    cotangent: object
    options: dict


def recorded(key):
    return unpack(PATH)[key]


def case(driver, name, dtype):
    """The arrays have the order of NAMES."""

    def array(key):
        x = recorded(f"{name}/{key}")
        return driver.array(x, dtype if x.dtype == np.float32 else None)

    _, classes, _, sampled, true = (int(size) for size in recorded(f"{name}/cfg"))
    options = {"num_sampled": sampled, "num_classes": classes, "num_true": true}
    return Case([array(key) for key in NAMES], array("gy"), options)


def function(name, rm, sub, options):
    def loss(weights, biases, labels, inputs, *values):
        flags = {"remove_accidental_hits": bool(rm), "subtract_log_q": bool(sub)}
        return FUNCTIONS[name](weights, biases, labels, inputs, **options, **flags, sampled_values=values)

    return loss


EVERY = [(name, dtype) for name in CASES for dtype in DTYPES]
# The cases differ in their sizes, and what is compiled is the same program in both dtypes.
SOME = [("c1", "f64")]


def pytest_generate_tests(metafunc):
    programs.parametrize(metafunc, ("name", "dtype"), EVERY, SOME)


@functools.cache
def outcomes(driver_name, mode, name, dtype):
    """From variants to value and gradients."""
    driver = frameworks.load(driver_name)
    with driver.precision(dtype):
        arrays, cotangent, options = case(driver, name, dtype)
        losses = {variant: function(*variant, options) for variant in VARIANTS}
        if driver_name == "numpy":
            return {key: (loss(*arrays), explicit(name, dtype, key)) for key, loss in losses.items()}
        table = {key: programs.Case(loss, NAMES, tuple(WRT.values()), "gy") for key, loss in losses.items()}
        given = dict(zip(NAMES, arrays, strict=True), gy=cotangent)
        return programs.WAYS[driver_name][mode](driver, table)(given)


def dense(driver, x):
    """A gradient as a NumPy array: sparse ones are added up."""
    if driver.name == "torch" and x.is_sparse:
        x = x.to_dense()
    if driver.name == "tensorflow":
        x = importlib.import_module("tensorflow").convert_to_tensor(x)
    assert driver.is_array(x)
    return driver.to_numpy(x)


def close(result, key, dtype):
    """Compare with what was recorded in float64; in float32 the allowed distance is that of its arithmetic."""
    exact = recorded(key.format("f64"))
    assert (result.dtype.name, result.shape) == (DTYPES[dtype], exact.shape)
    largest = np.abs(exact[np.isfinite(exact) & (exact > -3e38)]).max()
    relative, of_largest = (1e-10, 1e-12) if dtype == "f64" else (2e-5, 1e-6)
    limit = relative * np.abs(exact) + of_largest * largest
    wrong = ~(np.abs(result - exact) <= limit)
    assert not wrong.any(), f"{key}: {result[wrong]}, recorded {exact[wrong]}"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "{}-rm{}-sub{}".format(*variant))
def test_vectors(driver_name, mode, name, dtype, variant):
    driver = frameworks.load(driver_name)
    value, gradients = outcomes(driver_name, mode, name, DTYPES[dtype])[variant]
    key = "{}/{}__rm{}__sub{}__{}".format(name, *variant, "{}")
    assert driver.is_array(value)
    close(driver.to_numpy(value), f"{key}/val", dtype)
    for quantity, gradient in zip(WRT, gradients, strict=True):
        close(dense(driver, gradient), f"{key}/{quantity}", dtype)


def problem(driver, name, dtype, rm, sub):
    arrays, _, options = case(driver, name, dtype)
    chosen = arguments.Options(**options, removes_hits=bool(rm), strategy="mod", subtracts=bool(sub))
    return arguments.place(arguments.receive(chosen, *arrays[:4]), chosen, tuple(arrays[4:]))


def explicit(name, dtype, variant):
    """The gradients on NumPy: the pullback of the kernel, and that of the look-up written out."""
    from seqloss.backends import numpy as backend

    (function, rm, sub), driver = variant, frameworks.load("numpy")
    (weights, biases, labels, inputs, sampled, *_), cotangent, _ = case(driver, name, dtype)
    z, y = logits.logits_and_labels(problem(driver, name, dtype, rm, sub))
    if function == "nce":
        op, arrays, g = SigmoidKernel(backend, False), (z, y, None), cotangent[:, None] * np.ones_like(z)
    else:
        op, arrays, g = LabelKernel(backend, Spec(dtype), False), (z, y, np.ones_like(cotangent), None, None), cotangent
    slope = op.pullback(arrays, op.forward(*arrays)[1], (g,))[0]
    ids = np.concatenate([labels, np.broadcast_to(sampled, (len(labels), len(sampled)))], axis=1)
    dweights, dbiases = np.zeros_like(weights), np.zeros_like(biases)
    np.add.at(dweights, ids, slope[..., None] * inputs[:, None])
    np.add.at(dbiases, ids, slope)
    return dweights, dbiases, (slope[..., None] * weights[ids]).sum(1)


@pytest.mark.parametrize("sub", [0, 1])
@pytest.mark.parametrize("rm", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_logits_and_labels(framework, name, dtype, rm, sub):
    with framework.precision(DTYPES[dtype]), np.errstate(all="raise"):
        z, y = (
            framework.to_numpy(x) for x in logits.logits_and_labels(problem(framework, name, DTYPES[dtype], rm, sub))
        )
    key = f"{name}/logits__rm{rm}__sub{sub}__{{}}"
    # TensorFlow adds the most negative float32 to what it removes; here it takes its place.
    removed = recorded(key.format(dtype) + "/out_logits") < -3e38
    np.testing.assert_array_equal(z == logits.LEFT_OUT, removed)
    assert removed.any() == bool(rm)
    close(np.where(removed, -np.finfo("float32").max, z).astype(z.dtype), f"{key}/out_logits", dtype)
    close(y, f"{key}/out_labels", dtype)


@pytest.mark.parametrize("shards_biases", [False, True], ids=["biases", "shards_of_biases"])
@pytest.mark.parametrize("function_name", FUNCTIONS)
@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("name", SHARDED)
def test_shards(framework, name, strategy, function_name, shards_biases):
    with framework.precision("float64"):
        (_, biases, labels, inputs, *values), _, options = case(framework, name, "float64")
        rows = recorded(f"{name}/weights")
        of_shard = [recorded(f"{name}/shard_rows_{strategy}_{i}") for i in range(3)]
        shards = [framework.array(rows[ids], "float64") for ids in of_shard]
        if shards_biases:
            biases = [framework.array(recorded(f"{name}/biases")[ids], "float64") for ids in of_shard]
        options.update(partition_strategy=strategy, remove_accidental_hits=True, sampled_values=values)
        loss = FUNCTIONS[function_name](shards, biases, labels, inputs, **options)
    np.testing.assert_allclose(
        framework.to_numpy(loss), recorded(f"{name}/{function_name}__sharded3_{strategy}__rm1/val"), rtol=1e-10
    )


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_recorded_array_is_compared():
    compared = {
        f"{name}/{function}__rm{rm}__sub{sub}__{dtype}/{quantity}"
        for name in CASES
        for function, rm, sub in VARIANTS
        for dtype in DTYPES
        for quantity in ("val", *WRT)
        if dtype == "f64" or quantity == "val" or name == "c0"
    }
    compared |= {
        f"{name}/logits__rm{rm}__sub{sub}__{dtype}/{quantity}"
        for name in CASES
        for rm in (0, 1)
        for sub in (0, 1)
        for dtype in DTYPES
        for quantity in ("out_logits", "out_labels")
    }
    compared |= {
        f"{name}/{function}__sharded3_{strategy}__rm1/val"
        for name in SHARDED
        for function in FUNCTIONS
        for strategy in ("mod", "div")
    }
    assert {key for key in unpack(PATH) if "__" in key} == compared


@pytest.mark.parametrize(("dtype", "factor"), [("f64", 1 + 1e-8), ("f32", 1 + 1e-4)])
@pytest.mark.parametrize("quantity", ["val", *WRT])
def test_a_perturbed_result_is_noticed(quantity, dtype, factor):
    key = f"c3/nce__rm1__sub1__{{}}/{quantity}"
    result = recorded(key.format("f64")).astype(DTYPES[dtype])
    close(result, key, dtype)
    with pytest.raises(AssertionError, match="recorded"):
        close((result * factor).astype(result.dtype), key, dtype)
