"""Logits of JAX on four devices of one process: ``jax_sharding.py`` computes, and here is what it must find."""

import pytest
from programs import of, results
from split_batch import BATCH, OPTIONS, TIME

SPLIT = [
    *("batch", "time", "classes", "batch and classes"),
    *("batch, explicit", "time, explicit", "classes, explicit", "batch and classes, explicit"),
    *("batch, donated", *(f"batch, {name}" for name in OPTIONS), "batch, soft targets", "packed"),
    *("classes, soft targets, explicit", "classes, smoothing, explicit"),
]
UNCOUNTED = ["batch, eager", "classes, eager", "classes, explicit, eager", "classes, crossed blocks, explicit"]
MAPPED = ["mapped", "mapped, gradient outside"]
ROUNDED = ["batch, rounded", "classes, rounded", "classes, smoothing, rounded"]


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("jax_sharding.py", tmp_path_factory)


def test_every_row_is_looked_at(found):
    assert set(found) == {*SPLIT, *UNCOUNTED, *MAPPED, *ROUNDED, "gathered", "explicit functions"}


@pytest.mark.parametrize("row", [*SPLIT, *UNCOUNTED, "explicit functions"])
def test_exact_loss_has_the_bits_of_one_device(found, row):
    assert of(found, row)["loss differs"] == 0


@pytest.mark.parametrize("row", [*SPLIT, *UNCOUNTED, *MAPPED, "explicit functions"])
def test_exact_gradients_have_the_bits_of_one_device(found, row):
    assert of(found, row)["gradients differ"] == 0


@pytest.mark.parametrize("row", [*MAPPED, *ROUNDED])
def test_other_results_are_close(found, row):
    """Losses of devices that are added up are rounded once each."""
    assert of(found, row)["off"] < 3e-7


@pytest.mark.parametrize("row", [*SPLIT, *UNCOUNTED, *ROUNDED])
def test_gradients_lie_where_their_arrays_do(found, row):
    assert of(found, row)["stays"]


@pytest.mark.parametrize("row", [*SPLIT, *MAPPED, *ROUNDED])
def test_no_device_is_shown_more_than_a_number_of_each_token(found, row):
    assert of(found, row)["moved"] <= BATCH * TIME


@pytest.mark.parametrize("row", [*SPLIT, *MAPPED, *ROUNDED])
def test_what_devices_add_up_is_smaller_than_their_logits(found, row):
    assert of(found, row)["added"] < of(found, row)["shard"]


def test_traffic_is_seen(found):
    """The test of the test: a program that gathers the logits, and one that adds them up."""
    programs = of(found, "gathered")
    assert programs["everywhere"]["moved"] == 4 * programs["everywhere"]["shard"]
    assert programs["sums"]["added"] == programs["sums"]["shard"]


def test_donated_logits_are_taken(found):
    assert of(found, "batch, donated")["deleted"]
    assert not of(found, "batch")["deleted"]


def test_token_losses_of_explicitly_sharded_classes(found):
    assert of(found, "explicit functions")["tokens differ"] == 0
