"""The linear loss of JAX on four devices of one process: ``jax_linear.py`` computes, and here is what it must find."""

import pytest
from programs import of, results

BATCH, TIME, FEATURES, CLASSES, CHUNK = 8, 16, 16, 512, 32
ROWS = ["batch", "time", "batch, explicit", "time, explicit", "batch, one chunk", "batch, per sequence", "batch, exact"]


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("jax_linear.py", tmp_path_factory)


def test_every_row_is_looked_at(found):
    assert set(found) == {*ROWS, "mapped"}


@pytest.mark.parametrize("row", [*ROWS, "mapped"])
def test_results_are_those_of_one_device(found, row):
    assert of(found, row)["off"] < 2e-6


@pytest.mark.parametrize("row", ROWS)
def test_the_gradient_of_hidden_lies_where_hidden_does(found, row):
    assert of(found, row)["stays"]


@pytest.mark.parametrize("row", [*ROWS, "mapped"])
def test_no_device_is_shown_hidden_or_logits_of_another(found, row):
    """At most a number of each token, and of devices that have no tokens in common the gradient of the kernel."""
    assert of(found, row)["moved"] <= BATCH * TIME
    assert of(found, row)["added"] <= FEATURES * CLASSES
