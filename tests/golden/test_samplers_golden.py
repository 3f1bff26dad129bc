"""What TensorFlow's samplers returned: the expected counts follow from the probabilities and the number of tries.

``samplers.npz`` holds three consecutive runs of each sampler, ``samplers.json`` how it was called and the number of
tries of each run, which TensorFlow does not tell and which was inferred. The ids themselves come from TensorFlow's
private random stream, so they are not compared.
"""

import functools
import json
import math
import pathlib

import numpy as np
import pytest

from seqloss import samplers
from seqloss.samplers import distributions, drawing

FOLDER = pathlib.Path(__file__).parent
RUNS = json.loads((FOLDER / "samplers.json").read_text())
# TensorFlow computes P in float32 from its logarithm of (k + 2) / (k + 1): for k near 50,000 that alone is worth 1e-4.
COUNTS = {"rtol": 2e-4}
# Without repeated tries the count is a product of float32 numbers.
PRODUCTS = {"rtol": 1e-6}


@functools.cache
def recorded():
    with np.load(FOLDER / "samplers.npz") as file:
        index = json.loads(bytes(file["index"]).decode())
        flat = {kind: file[f"flat_{kind}"] for kind, _, _ in index.values()}
    return {k: flat[kind][start : start + math.prod(shape)].reshape(shape) for k, (kind, start, shape) in index.items()}


def learned(run, calls):
    """The state of the learning sampler after some runs."""
    sampler = samplers.LearnedUnigram(run["range_max"])
    for _ in range(calls):
        sampler.sample(recorded()[f"{run['id']}/true_classes"], run["num_true"], 1, unique=False)
    return sampler


def distribution(run, call):
    if run["kind"] == "learned_unigram":
        return distributions.Unigram(learned(run, call).counts.astype(float))
    if run["kind"] == "fixed_unigram":
        return distributions.Unigram(recorded()[f"{run['id']}/unigrams"].astype(float) ** run["distortion"])
    return {"uniform": distributions.Uniform, "log_uniform": distributions.LogUniform}[run["kind"]](run["range_max"])


def sampled(run, call, true_classes):
    """The public call that matches a recorded one."""
    arguments = true_classes, run["num_true"], run["num_sampled"], run["unique"]
    if run["kind"] == "learned_unigram":
        return learned(run, call).sample(*arguments)
    function = getattr(samplers, f"{run['kind']}_candidate_sampler")
    options = {}
    if run["kind"] == "fixed_unigram":
        options = {"unigrams": recorded()[f"{run['id']}/unigrams"], "distortion": run["distortion"]}
    return function(*arguments, run["range_max"], **options)


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['id']}-{run['kind']}")
def test_expected_counts(run, call):
    prefix, tries = f"{run['id']}/call{call}", run["num_tries_inferred"][call]
    limits = PRODUCTS if tries == run["num_sampled"] and run["kind"] != "log_uniform" else COUNTS
    for ids, counts in (
        (recorded()[f"{run['id']}/true_classes"], recorded()[f"{prefix}/true_expected"]),
        (recorded()[f"{prefix}/sampled"], recorded()[f"{prefix}/sampled_expected"]),
    ):
        result = drawing.expected_counts(distribution(run, call).probability(ids), run["num_sampled"], tries)
        np.testing.assert_allclose(result, counts, **limits)


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize(
    "run", [run for run in RUNS if not run["unique"]], ids=lambda run: f"{run['id']}-{run['kind']}"
)
def test_public_calls_without_unique(framework, run, call):
    true_classes = framework.array(recorded()[f"{run['id']}/true_classes"])
    values = sampled(run, call, true_classes)
    limits = COUNTS if run["kind"] == "log_uniform" else PRODUCTS
    expected = recorded()[f"{run['id']}/call{call}/true_expected"]
    np.testing.assert_allclose(framework.to_numpy(values.true_expected), expected, **limits)


def test_all_candidates(framework):
    values = samplers.all_candidate_sampler(framework.array([[1, 3], [0, 3]]), 2, 5, True)
    for field, array in values._asdict().items():
        np.testing.assert_array_equal(framework.to_numpy(array), recorded()[f"all/{field}"])


def test_accidental_hits(framework):
    true_classes = framework.array([[1, 3], [0, 3], [2, 2], [9, 9]])
    hits = samplers.compute_accidental_hits(true_classes, framework.array([3, 7, 2, 3]), 2)
    for field, array in zip(("indices", "ids", "weights"), hits, strict=True):
        np.testing.assert_array_equal(framework.to_numpy(array), recorded()[f"acchits/{field}"])


# --- tests of the test ------------------------------------------------------------------------------------------------


def test_every_kind_of_sampler_and_every_run_is_compared():
    assert {run["kind"] for run in RUNS} == {"uniform", "log_uniform", "learned_unigram", "fixed_unigram"}
    assert {key.partition("/")[0] for key in recorded()} == {run["id"] for run in RUNS} | {"all", "acchits"}


@pytest.mark.parametrize("run", [run for run in RUNS if run["unique"]], ids=lambda run: f"{run['id']}-{run['kind']}")
def test_another_number_of_tries_is_noticed(run):
    counts = recorded()[f"{run['id']}/call0/sampled_expected"]
    probability = distribution(run, 0).probability(recorded()[f"{run['id']}/call0/sampled"])
    result = drawing.expected_counts(probability, run["num_sampled"], run["num_tries_inferred"][0] + 1)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(result, counts, **COUNTS)
