"""Logits of TensorFlow on two logical CPUs: ``tf_strategies.py`` computes, and here is what it must find."""

import pytest
from programs import of, results

REPLICAS = [f"replicas, {name}" for name in ("eager", "function", "xla", "empty", "smoothing and z")]
LAYOUTS = [f"layout, {name}" for name in ("batch", "time", "classes", "smoothing and z")]
ROUNDED = ["replicas, rounded", "layout, rounded"]
REFUSED = [
    *("sequence_loss", "exact", "labels to be read", "sequence_loss_and_grad", "token_loss", "sigmoid"),
    *("compute_weighted_loss", "next_token", "variable", "beside"),
]
ARGUMENTS = ["logits", "targets", "weights"]


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("tf_strategies.py", tmp_path_factory)


def test_every_row_is_looked_at(found):
    refused = [f"refused, {name}" for name in REFUSED]
    outside = [f"outside, {argument}" for argument in ARGUMENTS]
    assert set(found) == {*REPLICAS, *LAYOUTS, *ROUNDED, *refused, *outside, "mended", "closed over"}


@pytest.mark.parametrize("row", [*REPLICAS, *LAYOUTS])
def test_exact_gradients_have_the_bits_of_one_device(found, row):
    assert of(found, row)["gradients differ"] == 0


@pytest.mark.parametrize("row", LAYOUTS)
def test_exact_loss_has_the_bits_of_one_device(found, row):
    assert of(found, row)["loss differs"] == 0


@pytest.mark.parametrize("row", [*REPLICAS, *ROUNDED])
def test_other_results_are_close(found, row):
    """Losses of replicas that are added up are rounded once each."""
    assert of(found, row)["off"] < 3e-7


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_values_of_all_replicas_are_refused(found, argument):
    row = found[f"outside, {argument}"]
    assert row["error"] == "ArgumentTypeError"
    assert row["text"] == (
        f"{argument} is a PerReplica, which holds a value for each replica; call the function inside strategy.run, "
        "where each replica has its own"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_eager_dtensors_are_refused(found, name):
    row = found[f"refused, {name}"]
    assert row["error"] == "BackendError"
    assert row["text"] == (
        "an argument is a DTensor, which TensorFlow computes with in graphs only; call the function inside a "
        "tf.function, as in tf.function(seqloss.sequence_loss)(logits, targets, weights), and take gradients there too"
    )


def test_the_call_that_the_refusal_names_works(found):
    assert of(found, "mended")["off"] < 3e-7


def test_labels_that_a_graph_closes_over_are_not_read(found):
    row = found["closed over"]
    assert row["error"] == "UnreadableError"
    assert "check_labels=True must read targets and weights" in row["text"]
