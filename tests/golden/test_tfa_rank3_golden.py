"""The losses of the compat modules that the main entrance does not have, in every framework, eager and compiled.

``tfa_sequence_loss_rank3_*`` holds targets [batch, time, classes]: one-hot and soft. The mixed tags of
``sequence_loss_*``, an average of one axis with a sum over the other one, were legal in TensorFlow 1.15 alone.
"""

import numpy as np
import programs
import pytest
import vectors
from programs import Case

import seqloss
from seqloss.compat import tf1, tfa
from seqloss.testing import frameworks

KINDS = ("ones", "prefix_mask", "fractional", "mixed", "all_zero")
RANK_3 = ("2_3_5", "4_7_11")
TARGETS = ("onehot", "soft")
QUANTITIES = ("val", "dlogits", "dtargets", "dweights")
# What a compiled mode is asked by default: no axis reduced, one averaged, one summed up.
COMPILED_TAGS = ("nT_nB", "nT_aB", "sT_nB")
# JAX compiles for each shape and dtype, and the others would tell no more.
SOME = [("2_3_5", "f32")]

# --- running ---------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc):
    shapes = RANK_3 if metafunc.function is test_targets_of_three_axes else vectors.SHAPES
    every = [(shape, dtype) for shape in shapes for dtype in vectors.DTYPES]
    # Nothing else compiles the functions of compat.
    programs.parametrize(metafunc, ("shape", "dtype"), every, SOME, compiled=SOME)


def cases(function, tags, wrt):
    """From tags to calls, whose inputs are targets, logits and weights."""

    def loss(tag):
        return lambda targets, logits, weights: function(logits, targets, weights, **vectors.flags(tag))

    return {tag: Case(loss(tag), ("targets", "logits", "weights"), wrt, f"gy_{tag}") for tag in tags}


def by_hand(driver, cases):
    """On NumPy: the gradients of the loss with what remains of the flags, an average of one axis."""

    def run(tag, arrays):
        case = cases[tag]
        logits, targets, weights = (arrays[i] for i in ("logits", "targets", "weights"))
        options = vectors.flags(tag.replace("s", "n")) | {"cotangent": arrays[case.cotangent]}
        _, gradients = seqloss.sequence_loss_and_grad(logits, targets, weights, wrt=("logits", "weights"), **options)
        return case.function(targets, logits, weights), gradients

    return lambda arrays: {tag: run(tag, arrays) for tag in cases}


def outcomes(driver, step, stored, targets, tags, dtype):
    """For each kind of weights: from tags to value and gradients."""
    name = vectors.DTYPES[dtype]
    arrays = {f"gy_{tag}": driver.array(stored[f"gy_{tag}"], name) for tag in tags}
    arrays["logits"] = driver.array(stored["logits"], name)
    arrays["targets"] = driver.array(stored[targets], name if targets in TARGETS else None)
    for weights in stored["weights"]:
        found = {}
        for tag, (value, gradients) in step({**arrays, "weights": driver.array(weights, name)}).items():
            assert all(driver.is_array(x) for x in (value, *gradients))
            found[tag] = [driver.to_numpy(x) for x in (value, *gradients)]
        yield found


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


def test_targets_of_three_axes(driver_name, mode, shape, dtype, pytestconfig):
    driver, stored = frameworks.load(driver_name), vectors.load(f"tfa_sequence_loss_rank3_{shape}")
    everything = mode in programs.EAGER or pytestconfig.getoption("--full")
    tags = vectors.TAGS if everything else COMPILED_TAGS
    with driver.precision(vectors.DTYPES[dtype]):
        # One-hot and soft targets go through the same program.
        step = programs.WAYS[driver_name][mode](driver, cases(tfa.seq2seq.sequence_loss, tags, (1, 0, 2)))
        results = {targets: list(outcomes(driver, step, stored, targets, tags, dtype)) for targets in TARGETS}
    for targets, by_kind in results.items():
        assert len(by_kind) == len(KINDS)
        for key, tag, quantity, values in recorded(shape, targets, dtype):
            if tag not in tags:
                continue
            for kind, by_tag in enumerate(by_kind):
                scale = np.abs(values[kind]).max(initial=0)
                result = by_tag[tag][QUANTITIES.index(quantity)]
                close(result, values[kind], dtype, scale, f"{key}, {KINDS[kind]} weights")


# --- an average and a sum --------------------------------------------------------------------------------------------


def test_an_average_overrules_the_sum(driver_name, mode, shape, dtype):
    driver = frameworks.load(driver_name)
    way = by_hand if driver_name == "numpy" else programs.WAYS[driver_name][mode]
    with driver.precision(vectors.DTYPES[dtype]):
        step = way(driver, cases(tf1.contrib.seq2seq.sequence_loss, vectors.MIXED, (1, 2)))
        stored = vectors.load(f"sequence_loss_{shape}")
        results = list(outcomes(driver, step, stored, "targets", vectors.MIXED, dtype))
    for tag in vectors.MIXED:
        for vector in vectors.recorded(shape, tag, dtype):
            for place, kind in enumerate(vector.kinds):
                result = results[kind][tag][("val", "dlogits", "dweights").index(vector.quantity)]
                scale = largest_summand(shape, tag, vector.quantity, kind) if dtype == "f32" else 0.0
                compare(result, vector, place, dtype, scale, vectors.KINDS[kind])


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
