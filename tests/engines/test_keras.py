"""seqloss.keras on Keras's three backends, each in a process of its own, which ``keras_program.py`` is.

A test is about one fact on one backend. The program gives what was found beside what must be, where that is a number.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
BACKENDS = ("tensorflow", "jax", "torch")
WAYS = {"tensorflow": ("eager", "default", "compiled"), "jax": ("eager", "default"), "torch": ("default", "compiled")}


@functools.cache
def program(backend):
    """What the program said: once, also if it fails."""
    return subprocess.run(
        [sys.executable, str(HERE / "keras_program.py"), backend],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def facts(backend):
    done = program(backend)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=BACKENDS)
def found(request):
    """A fact by its name."""

    def look_up(name):
        fact = facts(request.param)[name]
        assert not (isinstance(fact, dict) and "error" in fact), fact["error"]
        return fact

    look_up.backend = request.param
    return look_up


def only(backend):
    return pytest.mark.parametrize("found", [backend], indirect=True)


def agree(pair, rtol=2e-6):
    result, expected = pair
    np.testing.assert_allclose(result, expected, rtol=rtol)


# --- as a plain callable


def test_no_other_framework_is_loaded(found):
    """Than Keras loads by itself for its backend."""
    loaded = found("frameworks")
    assert loaded["ours"] == loaded["keras"]
    assert found.backend in loaded["ours"]


@pytest.mark.parametrize("options", ["nothing", "of tokens", "of means", "function"])
def test_options_are_those_of_the_function(found, options):
    agree(found("options")[options])


@pytest.mark.parametrize("name", ["none", "per_sequence", "call"])
def test_losses_that_keep_an_axis(found, name):
    result, expected, is_of_keras = found("arrays")[name]
    assert is_of_keras
    agree((result, expected))


@pytest.mark.parametrize("targets", ["soft", "floats", "lists"])
def test_targets_that_are_no_integers(found, targets):
    agree(found("other_targets")[targets])


MASKS = ["none", "tokens", "integers", "sequences", "NaN", "no mask, sequences", "no mask, bools"]


@pytest.mark.parametrize("weights", MASKS)
def test_mask_and_sample_weight_become_weights(found, weights):
    agree(found("mask")[weights])


def test_masks_and_weights_are_not_the_same_number_by_chance(found):
    results = [row[0] for row in found("mask").values()]
    assert len({round(x, 4) for x in results}) == len(results) - 1  # behind the mask, NaN and a number are one


@only("torch")
@pytest.mark.parametrize(
    "case",
    [
        *("plain", "mask", "weights", "mask and weights", "sum"),
        *("a weight for a sequence", "spread along time by Keras", "its default counts tokens"),
    ],
)
def test_beside_the_reductions_of_keras(found, case):
    agree(found("beside_keras")[case])


WIDE = ("float64", "float32 to float64")


@pytest.mark.parametrize("logits", ["float16", "bfloat16", "float32", "float32 to bfloat16", *WIDE])
def test_the_loss_is_as_wide_as_that_of_the_function(found, logits):
    fact = found("dtypes")
    if found.backend == "jax" and logits in WIDE:
        assert logits not in fact  # without the 64-bit mode
        return
    dtype, result, expected = fact[logits]
    assert dtype == ("float64" if logits in WIDE else "float32")
    agree((result, expected), rtol=1e-14 if logits == "float64" else 3e-7)


HERE_IT_IS = "reduction must be one of 'mean', 'sum', 'none', 'per_sequence', 'sequence_mean' or None, got"
ERRORS = {
    "reduction": f"OptionError: {HERE_IT_IS} 'sum_over_batch_size'; here it is reduction='mean' without ",
    "mean_with_sample_weight": f"OptionError: {HERE_IT_IS} 'mean_with_sample_weight'; here it is reduction='mean'",
    "None": "OptionError: reduction must be one of 'mean', 'sum', 'none', 'per_sequence', 'sequence_mean', got None",
    "flags": "ArgumentTypeError: SequenceLoss has no argument 'average_across_batch'; it has softmax_loss_function, ",
    "two names": "OptionError: ignore_class and ignore_index are two names of one option; pass one of them",
    "z_loss": "OptionError: z_loss must be at least 0 and finite, got -1",
    "softcap": "OptionError: softcap must be positive and finite, got 0",
    "smoothing": "ArgumentTypeError: Perplexity has no argument 'label_smoothing'; it has ignore_index, softcap, check",
    "weights": "ShapeError: weights must have the shape [batch, time] = [3, 5] of logits, got [2, 5]",
    "weights of sequences": "ShapeError: sample_weight must have the shape [batch] or [batch, time] = [3, 5] of y_pred",
    "rank": "ShapeError: sample_weight must have the shape [batch] or [batch, time] = [3, 5] of y_pred, got [3, 5, 1]",
    "fraction": "LabelError: targets[0, 0] is -2147483648, outside [0, 6)",
    "flat": "ShapeError: logits must have the shape [batch, time, classes], got [5, 6]",
    "label": "LabelError: targets[0, 0] is 6, outside [0, 6) (and 5 more)",
}


@only("torch")
@pytest.mark.parametrize("case", ERRORS)
def test_errors(found, case):
    assert found("errors")[case].startswith(ERRORS[case])


# --- saving

PLAIN = {
    "softmax_loss_function": None,
    "ignore_index": None,
    "label_smoothing": 0.0,
    "class_weights": None,
    "z_loss": 0.0,
    "softcap": None,
    "reduction": "mean",
    "check_labels": None,
    "exact": False,
    "name": "sequence_loss",
    "dtype": None,
}
SMOOTHING = {"eps": 0.125, "off_target": False, "centred": False, "prior": [1.0] * 6, "exclude": [0, 1]}
COOLER = {"module": "builtins", "class_name": "function", "config": "tests>cooler", "registered_name": "function"}
CONFIGS = {
    "loss": {**PLAIN, "ignore_index": [0, 1], "z_loss": 0.5, "reduction": "sum", "exact": True},
    "smoothing": {**PLAIN, "label_smoothing": SMOOTHING, "class_weights": [1.0] * 6, "name": "mine"},
    "function": {**PLAIN, "softmax_loss_function": COOLER, "dtype": "bfloat16"},
    "metric": {
        "name": "ppl",
        "dtype": "float16",
        "ignore_index": 0,
        "softcap": 30.0,
        "check_labels": None,
        "exact": False,
    },
}


@pytest.mark.parametrize("case", CONFIGS)
def test_the_configuration_is_json_and_makes_the_same(found, case):
    fact = found("configs")[case]
    assert fact["config"] == CONFIGS[case]
    assert fact["same"]
    assert fact["registered"] == ("seqloss>Perplexity" if case == "metric" else "seqloss>SequenceLoss")


@only("torch")
def test_a_deep_copy(found):
    assert found("copies") is True


def test_a_saved_model_has_the_loss_and_the_metric(found):
    fact = found("saved")
    assert fact["loss"]
    before, after = fact["results"]
    assert set(before) == {"loss", "perplexity"}
    assert before == after


# --- the metric


@pytest.mark.parametrize("case", ["batches", "nothing", "long"])
def test_perplexity(found, case):
    agree(found("perplexity")[case])


def test_the_dtype_of_perplexity(found):
    assert found("perplexity")["dtype"] == "float32"


# --- in fit and evaluate

RUNS = [(backend, way) for backend in BACKENDS for way in WAYS[backend]]
IN_EACH_WAY = pytest.mark.parametrize("found, way", RUNS, indirect=["found"])


@IN_EACH_WAY
def test_evaluate(found, way):
    """With the mask of a layer, sample weights [batch], and the metrics with and without these."""
    result, expected = found("trained")[way]["evaluate"]
    assert set(result) == set(expected) == {"loss", "perplexity", "weighted"}
    for name, value in expected.items():
        agree((result[name], value))


@IN_EACH_WAY
def test_fit_takes_a_step_along_the_gradient(found, way):
    fact = found("trained")[way]
    agree(fact["fit"])
    result, expected = fact["step"]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert fact["moved"] > 0.05


@IN_EACH_WAY
def test_the_mask_on_its_way_to_the_metrics_of_fit(found, way):
    """JAX's trainer of Keras 3.15 loses it, for all metrics; the page and the docstring say so."""
    fact = found("trained")[way]["perplexity of fit"]
    assert abs(fact["masked"] - fact["all"]) > 0.1
    agree((fact["it"], fact["all" if found.backend == "jax" else "masked"]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_digits(found, policy):
    fact = found("mixed")[policy]
    assert fact["logits"] == policy.removeprefix("mixed_")
    agree(fact["loss"])
    assert abs(fact["addons"] / fact["loss"][1] - 1) > 3e-5  # the class of Addons rounds to half precision
    assert fact["finite"]


def test_bad_labels(found):
    fact = found("bad_labels")
    assert fact["eager"].startswith("LabelError: targets[0, 0] is 9, outside [0, 6)")
    assert fact["default"] == ("nan" if found.backend != "torch" else fact["eager"])


@only("tensorflow")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_replicas_take_the_step_of_one_process(found, reduction):
    """With as many tokens each, since a mean is that of a replica."""
    one, two = found("replicas")[reduction]
    np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-7)


@only("torch")
def test_the_examples_of_the_docstrings(found):
    assert found("examples") == "2.3679"
