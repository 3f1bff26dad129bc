"""The losses of lists are those of TensorFlow 1.15's legacy_seq2seq: values and gradients, in every framework.

The files hold logits [T, B, C], targets [T, B] and twelve kinds of weights [T, B]; the tags say which function was
called with which averages.
"""

import functools

import numpy as np
import programs
import pulled
import pytest
import vectors
from programs import Case

import seqloss
from seqloss import legacy
from seqloss.backends import numpy
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

# --- running: each timestep is an array of its own, as it is for users -----------------------------------------------


def thirds(function):
    """A function of three lists as one of all their arrays."""

    def loss(*arrays):
        time = len(arrays) // 3
        return function(list(arrays[:time]), list(arrays[time : 2 * time]), list(arrays[2 * time :]))

    return loss


def cases(time):
    steps = [f"{name}{step}" for name in ("logits", "targets", "weights") for step in range(time)]
    wrt = (*range(time), *range(2 * time, 3 * time))
    cotangent = {tag: "gy_B" if "by_example" in tag else None for tag in TAGS}
    return {tag: Case(thirds(function), tuple(steps), wrt, cotangent[tag]) for tag, function in TAGS.items()}


def by_hand(driver, cases):
    """On NumPy: the pullback of the kernel, and the derivative of the average written down once more."""

    def run(tag, arrays):
        case = cases[tag]
        with pulled.recording() as seen:
            value = case.function(*[arrays[i] for i in case.inputs])
        ((op, operands), _) = seen["run"]
        dtype = operands[0].dtype
        weights = np.stack([arrays[i] for i in case.inputs[2 * len(case.inputs) // 3 :]]).astype("float64")
        # The gradient to a weight of 0 needs the loss of its token.
        (nll,), statistics = op.forward(*operands)
        nll = nll.reshape(weights.shape).astype("float64")
        cotangent = arrays["gy_B"].astype("float64") if case.cotangent else 1 / nll.shape[1] if "aB1" in tag else 1.0
        mean = 0.0
        if "aT1" in tag:
            total = weights.sum(0) + 1e-12
            mean, cotangent = (weights * nll).sum(0) / total, cotangent / total
        slope = (cotangent * weights).reshape(-1).astype(dtype)
        to_logits, *_ = op.pullback(operands, statistics, (slope,))
        to_weights = (cotangent * (nll - mean)).astype(dtype)
        return value, [*to_logits.reshape(*nll.shape, -1), *to_weights]

    return lambda arrays: {tag: run(tag, arrays) for tag in cases}


EVERY = [(shape, dtype) for shape in SHAPES for dtype in vectors.DTYPES]
# Every number of timesteps is a program of its own, and takes seconds to compile.
SOME = [("4_7_11", "f32")]


def pytest_generate_tests(metafunc):
    programs.parametrize(metafunc, ("shape", "dtype"), EVERY, SOME)


def outcomes(driver_name, mode, shape, dtype):
    """For each kind of weights: from tags to value, dlogits and dweights."""
    driver, name = frameworks.load(driver_name), vectors.DTYPES[dtype]
    stored = vectors.load(f"legacy_{shape}")
    time = len(stored["logits"])
    with driver.precision(name):
        way = by_hand if driver_name == "numpy" else programs.WAYS[driver_name][mode]
        step = way(numpy if driver_name == "numpy" else driver, cases(time))
        arrays = {"gy_B": driver.array(stored["gy_B"], name)}
        arrays |= {f"logits{i}": driver.array(x, name) for i, x in enumerate(stored["logits"])}
        arrays |= {f"targets{i}": driver.array(x) for i, x in enumerate(stored["targets"])}
        for weights in stored["weights"]:
            arrays |= {f"weights{i}": driver.array(x, name) for i, x in enumerate(weights)}
            found = {}
            for tag, (value, gradients) in step(arrays).items():
                assert all(driver.is_array(x) for x in (value, *gradients))
                dz, dw = (np.stack([driver.to_numpy(x) for x in part]) for part in (gradients[:time], gradients[time:]))
                found[tag] = {"val": driver.to_numpy(value), "dlogits": dz, "dweights": dw}
            yield found


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
    results = list(outcomes(driver_name, mode, shape, dtype))
    assert len(results) == len(vectors.KINDS)
    for tag, vector in recorded(shape, dtype):
        for kind, by_tag in enumerate(results):
            close(by_tag[tag][vector.quantity], vector, kind, shape, tag, dtype)


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
