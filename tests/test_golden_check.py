"""What was recorded is computed again: by seqloss on every backend, or by somebody's own function."""

import functools
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import seqloss
from seqloss.testing import GoldenError, compare, golden, oracle
from seqloss.testing.golden.scales import allowed

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(3, 4, 7))).astype(np.float32)
TARGETS = RNG.integers(0, 7, (3, 4))
WEIGHTS = (np.arange(4) < np.array([[4], [2], [1]])).astype(np.float32) * np.float32(0.5)
INPUTS = {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS}


def computed(inputs=INPUTS, **flags):
    loss, (dlogits, dweights) = seqloss.sequence_loss_and_grad(**inputs, **flags, wrt=("logits", "weights"))
    tokens = seqloss.sequence_loss(**inputs, **{**flags, **dict.fromkeys(golden.checking.AVERAGES, False)})
    return {"loss": loss, "dlogits": dlogits, "dweights": dweights, "token_losses": tokens}


FLAGS = [
    {},
    {"average_across_batch": False},
    dict.fromkeys(("average_across_timesteps", "average_across_batch"), False) | {"sum_over_batch": True},
    {"exact": True},
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_what_seqloss_recorded_is_what_it_computes(tmp_path, framework_name, flags):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, computed(**flags), flags=flags))
    found = golden.check(got, backend=framework_name)
    assert found.keys() == got.results.keys()
    for name, comparison in found.items():
        assert comparison.same, comparison.report()
        assert comparison.name == name
        assert comparison.actual.framework == framework_name
    if framework_name == "numpy":
        assert all(golden.check(got, bound=0).values())


def by_textbook(logits, targets, weights):
    """The loss by the formulas of most frameworks, which lose digits where the model is confident."""
    z = logits - logits.max(-1, keepdims=True)
    own = np.take_along_axis(z, targets[..., None], -1)[..., 0]
    total = np.exp(z).sum(-1)
    tokens = (np.log(total) - own) * weights
    loss = tokens.sum() / weights.sum()
    slope = np.exp(z) / total[..., None] - (np.arange(z.shape[-1]) == targets[..., None]).astype(z.dtype)
    dweights = (np.log(total) - own - loss) / weights.sum()
    dlogits = slope * (weights / weights.sum())[..., None]
    return {"loss": loss, "dlogits": dlogits, "dweights": dweights, "token_losses": tokens}


def confident(sharpness):
    """Logits that are far above the others at most of the targets."""
    at_target = np.arange(7) == TARGETS[..., None]
    return {**INPUTS, "logits": (LOGITS + sharpness * at_target).astype(np.float32)}


@pytest.mark.parametrize("sharpness", [0, 5, 12, 18, 40])
def test_other_formulas_are_no_difference_where_they_cannot_be(tmp_path, sharpness):
    inputs = confident(sharpness)
    got = golden.read(golden.write(tmp_path / "x", inputs, by_textbook(**inputs)))
    for comparison in golden.check(got).values():
        assert comparison.same, comparison.report()
    # Without the scale of the summands the same numbers would differ.
    strict = [compare(x, by_textbook(**inputs)[name]).same for name, x in computed(inputs).items()]
    assert all(strict) == (sharpness == 0)


@pytest.mark.parametrize("name", ["loss", "dlogits", "dweights", "token_losses"])
@pytest.mark.parametrize("factor", [1.0001, 0.9999])
def test_other_numbers_are_a_difference(tmp_path, name, factor):
    inputs = confident(3)
    results = computed(inputs)
    wrong = {**results, name: results[name] * np.float32(factor)}
    found = golden.check(golden.read(golden.write(tmp_path / "x", inputs, wrong)))
    assert [other for other in found if not found[other].same] == [name]
    assert found[name].problems == ("values",)


@pytest.mark.parametrize("sharpness, at_target", [(0, True), (0, False), (5, False)])
def test_a_gradient_has_its_digits(tmp_path, sharpness, at_target):
    inputs = confident(sharpness)
    results = computed(inputs)
    here = (np.arange(7) == TARGETS[..., None]) == at_target
    results["dlogits"] = np.where(here, results["dlogits"] * np.float32(1 + 3e-5), results["dlogits"])
    found = golden.check(golden.read(golden.write(tmp_path / "x", inputs, results)))["dlogits"]
    assert found.problems == ("values",)
    if not at_target:
        assert found.differing == here[WEIGHTS != 0].sum()


def test_a_gradient_in_the_padding_is_a_difference(tmp_path):
    results = computed()
    results["dlogits"] = np.where(WEIGHTS[..., None] == 0, np.float32(1e-9), results["dlogits"])
    found = golden.check(golden.read(golden.write(tmp_path / "x", INPUTS, results)))
    assert found["dlogits"].problems == ("zeros",)
    assert found["dlogits"].first.index == (1, 2, 0)
    assert (found["dlogits"].first.label, found["dlogits"].first.weight) == (TARGETS[1, 2], 0)


def test_a_bound_takes_the_place_of_the_known_one(tmp_path):
    results = {"loss": computed()["loss"] * np.float32(1 + 1e-6)}
    got = golden.read(golden.write(tmp_path / "x", INPUTS, results))
    assert golden.check(got)["loss"].same
    assert not golden.check(got, bound=0)["loss"].same
    assert not golden.check(got, bound=0.5)["loss"].same
    assert golden.check(got, bound=1000)["loss"].same


def test_a_recording_without_weights(tmp_path, framework_name):
    inputs = {"logits": LOGITS, "targets": TARGETS}
    results = dict(zip(("loss", "dlogits"), seqloss.sequence_loss_and_grad(**inputs), strict=True))
    got = golden.read(golden.write(tmp_path / "x", inputs, results))
    assert all(golden.check(got, backend=framework_name).values())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_recordings_in_other_dtypes(tmp_path, framework, dtype):
    """A half-precision gradient is rounded once more, and float64 is not what JAX computes in unless it is told."""
    if dtype not in framework.DTYPES:
        return
    with framework.precision(dtype):
        inputs = {"logits": framework.array(LOGITS, dtype), "targets": framework.array(TARGETS)}
        results = dict(zip(("loss", "dlogits"), seqloss.sequence_loss_and_grad(**inputs), strict=True))
        got = golden.read(golden.write(tmp_path / "x", inputs, results))
    assert (got.dtypes["logits"], got.dtypes["dlogits"]) == (dtype, dtype)
    found = golden.check(got, backend=framework.name)
    assert [comparison.report() for comparison in found.values() if not comparison.same] == []
    assert found["loss"].dtype == ("float64" if dtype == "float64" else "float32")
    assert found["dlogits"].dtype == dtype


def test_own_computations_get_arrays_of_the_backend(tmp_path, framework):
    got = golden.read(
        golden.write(tmp_path / "x", {"a": LOGITS, "b": 2.0}, {"sum": LOGITS + 2, "more": 0}, function="f")
    )
    seen = []

    def compute(a, b):
        seen.extend((a, b))
        return {"sum": a + framework.array(2.0, "float32")}

    with framework.precision("float64"):
        found = golden.check(got, compute, backend=framework.name)
    assert all(map(framework.is_array, seen))
    assert list(found) == ["sum"]
    assert found["sum"].same
    assert found["sum"].actual.framework == framework.name


def test_gradients_of_a_loss_are_those_of_its_framework(tmp_path, framework):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, computed()))
    found = golden.check(got, seqloss.sequence_loss, backend=framework.name)
    gradients = [] if framework.name == "numpy" else ["dlogits", "dweights"]
    assert sorted(found) == [*gradients, "loss"]
    assert [comparison.report() for comparison in found.values() if not comparison.same] == []
    wrong = golden.check(got, lambda **inputs: 2 * seqloss.sequence_loss(**inputs), backend=framework.name)
    assert sorted(wrong) == [*gradients, "loss"] and not any(wrong.values())


def test_gradients_without_their_loss(tmp_path, framework):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, {"dlogits": computed()["dlogits"]}))
    if framework.name == "numpy":
        with pytest.raises(
            GoldenError, match="compute returned the loss alone; recorded are dlogits: return some of them"
        ):
            golden.check(got, seqloss.sequence_loss)
        return
    found = golden.check(got, seqloss.sequence_loss, backend=framework.name)
    assert list(found) == ["dlogits"] and found["dlogits"].same


def test_what_a_function_writes_into_its_inputs_is_its_own_affair(tmp_path, framework):
    if framework.writable is None:
        return
    got = golden.read(golden.write(tmp_path / "x", INPUTS, computed()))

    def overwriting(logits, targets, weights):
        loss = seqloss.sequence_loss(logits, targets * 1, weights)
        targets[...] = 0
        return loss

    found = golden.check(got, overwriting, backend=framework.name)
    assert [comparison.report() for comparison in found.values() if not comparison.same] == []
    for name, array in INPUTS.items():
        np.testing.assert_array_equal(got.inputs[name], array)


def by_position(logits, targets, weights, /):
    return 0.0


def keyword(logits, *, targets, weights, times=1):
    return seqloss.sequence_loss(logits, targets, weights) * np.float32(times)


class Port:
    """A callable with a state, as a module is."""

    def __call__(self, logits, targets, weights, times=1):
        return keyword(logits, targets=targets, weights=weights, times=times)


@pytest.mark.parametrize("function", [keyword, Port(), functools.partial(keyword), Port().__call__])
def test_functions_get_the_flags_that_they_name(tmp_path, function):
    results = {"loss": 3 * computed()["loss"]}
    got = golden.read(golden.write(tmp_path / "x", INPUTS, results, flags={"times": 3, "logits": 7, "other": None}))
    assert golden.check(got, function)["loss"].same


@pytest.mark.parametrize("function", [by_position, lambda logits: 0.0, lambda a, **inputs: 0.0])
def test_functions_that_cannot_be_called(tmp_path, function):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, {"loss": 1.0}))
    message = "compute cannot be called with what was recorded: .*; wrap it in a function that takes logits, targets, w"
    with pytest.raises(GoldenError, match=message):
        golden.check(got, function)


@pytest.mark.parametrize(
    "returned, message",
    [
        (None, "compute returned a NoneType; expected the loss, or results by name as in a dict"),
        ("1.0", "compute returned a str; expected the loss, or results by name as in a dict"),
        ((1.0, 2.0), "compute returned a tuple; expected the loss, or results by name as in a dict"),
        ({}, "compute returned the results []; recorded are loss"),
        ({"loss": 1.0, "other": 1.0}, "compute returned the results ['other']; recorded are loss"),
    ],
    ids=str,
)
def test_computations_that_return_something_else(tmp_path, returned, message):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, {"loss": np.float32(1)}))
    with pytest.raises(GoldenError, match=re.escape(message)):
        golden.check(got, lambda **inputs: returned)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"function": "nce_loss"},
            "(function: nce_loss); pass compute= to seqloss.testing.golden.check, "
            "a function that takes logits, targets, weights",
        ),
        ({"inputs": {**INPUTS, "more": 1.0}}, "(inputs: more)"),
        ({"inputs": {"logits": LOGITS}}, "(missing inputs: targets)"),
        ({"results": {"loss": 1.0, "dtargets": 1.0, "z": 1.0}}, "(results: dtargets, z)"),
        ({"flags": {"softmax_loss_function": "f", "exact": True}}, "(flags: softmax_loss_function)"),
        (
            {"inputs": {"logits": LOGITS, "targets": TARGETS}, "results": {"dweights": 1.0}},
            "(missing inputs beside dweights: weights)",
        ),
    ],
    ids=lambda x: str(x)[-40:],
)
def test_what_is_not_known_to_compute_is_refused(tmp_path, change, message):
    got = golden.read(golden.write(tmp_path / "x", **{"inputs": INPUTS, "results": {"loss": 1.0}, **change}))
    with pytest.raises(GoldenError, match=re.escape(f"seqloss does not know how to compute this recording {message}")):
        golden.check(got)


@pytest.mark.parametrize("flags", [{"average_across_batch": "no"}, {"sum_over_batch": True}], ids=str)
def test_flags_that_seqloss_refuses(tmp_path, flags):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, {"loss": 1.0}, flags=flags))
    with pytest.raises(GoldenError, match=r"seqloss cannot compute this recording: .*(average_across|sum_over)_batch"):
        golden.check(got)


def test_results_of_other_shapes_are_told(tmp_path):
    got = golden.read(golden.write(tmp_path / "x", INPUTS, {"loss": np.zeros(3, np.float32)}))
    assert golden.check(got)["loss"].problems == ("shape",)
    odd = golden.read(
        golden.write(tmp_path / "odd", {"logits": LOGITS[0], "targets": TARGETS}, {"loss": np.float32(1)})
    )
    assert not golden.check(odd, lambda **inputs: {"loss": np.float32(2)})["loss"].same
    with pytest.raises(GoldenError, match="seqloss cannot compute this recording: logits must"):
        golden.check(odd)


def test_bounds_need_no_wide_arrays_of_the_size_of_the_logits():
    inputs = {"logits": np.zeros((64, 16, 1000), np.float32), "targets": np.zeros((64, 16), np.int64)}
    tracemalloc.start()
    allowed(inputs, {}, "float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * inputs["logits"].nbytes


def test_scales_are_those_of_the_summands_and_of_ones():
    weights = np.array([[1, -0.5, 2, 0]] * 3, np.float32)
    known = allowed({**INPUTS, "weights": weights}, {}, "float32")
    wide = oracle.sequence_loss(LOGITS, TARGETS, weights)
    # Losses of 1: the size of the sum, and the mean once more for each unit by which the denominator cancels.
    size = abs(weights).sum() / weights.sum()
    np.testing.assert_allclose(np.float64(known["loss"].scale), np.float64(wide.loss_scale + 2 * size), 1e-6)
    ones = (1 + 2 * size) * (1 + size) / weights.sum()
    np.testing.assert_allclose(np.float64(known["dweights"].scale), np.float64(wide.dweights_scale + ones), 1e-6)
    at_target = np.take_along_axis(known["dlogits"].scale, TARGETS[..., None], -1)[..., 0]
    np.testing.assert_allclose(at_target, abs(weights) / weights.sum(), 1e-6)
    assert np.count_nonzero(known["dlogits"].scale) == np.count_nonzero(at_target)
    np.testing.assert_array_equal(known["token_losses"].scale, abs(weights))


def test_inputs_of_another_layout_are_for_own_computations(tmp_path):
    inputs = {**INPUTS, "targets": TARGETS.T}
    got = golden.read(golden.write(tmp_path / "x", inputs, {"loss": np.float32(1)}))
    assert golden.check(got, lambda **_: {"loss": np.float32(1)})["loss"].same


def test_targets_that_are_no_labels_are_for_own_computations(tmp_path):
    inputs = {**INPUTS, "targets": np.full(TARGETS.shape, np.nan, np.float32)}
    got = golden.read(golden.write(tmp_path / "x", inputs, {"loss": np.float32(1)}))
    assert golden.check(got, lambda **_: {"loss": np.float32(1)})["loss"].same


def test_an_unknown_backend(tmp_path):
    recorded = golden.read(golden.write(tmp_path / "x", INPUTS, computed()))
    with pytest.raises(seqloss.BackendError, match="unknown backend 'mxnet'"):
        golden.check(recorded, backend="mxnet")


VECTORS = Path(__file__).parent / "golden" / "sequence_loss_4_7_11.npz"


@pytest.mark.parametrize("tag", ["aT_aB", "aT_nB", "nT_sB", "nT_nB"])
def test_recordings_of_tensorflow_1_15(tmp_path, tag):
    """Weights of twelve kinds: fractional, negative, of both signs with a sum next to 0, tiny, all 0 and so on."""
    axes = {"T": "timesteps", "B": "batch"}
    flags = {f"average_across_{axes[axis]}": kind == "a" for kind, axis in tag.split("_")}
    flags |= {f"sum_over_{axes[axis]}": kind == "s" for kind, axis in tag.split("_")}
    with np.load(VECTORS) as file:
        logits, targets, losses = file["logits"], file["targets"], file[f"val_f32_{tag}"]
        kinds = file["weights"].astype(np.float32)
    for weights, loss in zip(kinds, losses, strict=True):
        inputs = {"logits": logits, "targets": targets, "weights": weights}
        got = golden.read(golden.write(tmp_path / "x", inputs, {"loss": loss}, flags=flags, overwrite=True))
        found = golden.check(got)["loss"]
        assert found.same, found.report()
