"""Logits of JAX over two processes: ``jax_processes.py`` starts them, and here is what both must find."""

import pytest
from programs import of, results

SPLIT = ["batch", "classes", "batch, eager"]
OTHERS = ["mapped", "targets of NumPy"]
RANKS = [0, 1]


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("jax_processes.py", tmp_path_factory)


def test_every_row_is_looked_at(found):
    rows = *SPLIT, *OTHERS, "bad label", "bad replicated label", "sum"
    assert set(found) == {f"{row}, rank {rank}" for row in rows for rank in RANKS}


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("row", [*SPLIT, "targets of NumPy"])
def test_exact_loss_has_the_bits_of_one_device(found, row, rank):
    assert of(found, f"{row}, rank {rank}")["loss differs"] == 0


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("row", [*SPLIT, *OTHERS])
def test_exact_gradients_have_the_bits_of_one_device(found, row, rank):
    assert of(found, f"{row}, rank {rank}")["gradients differ"] == 0


@pytest.mark.parametrize("rank", RANKS)
def test_losses_that_are_added_up_are_close(found, rank):
    assert of(found, f"mapped, rank {rank}")["off"] < 3e-7


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("row", SPLIT)
def test_gradients_lie_where_their_arrays_do(found, row, rank):
    assert of(found, f"{row}, rank {rank}")["stays"]


@pytest.mark.parametrize("rank", RANKS)
def test_a_bad_label_that_no_process_can_read_makes_nan(found, rank):
    assert of(found, f"bad label, rank {rank}")["loss"] == "nan"


@pytest.mark.parametrize("rank", RANKS)
def test_a_bad_label_that_each_process_has_is_an_error(found, rank):
    assert of(found, f"bad replicated label, rank {rank}")["text"].startswith("targets[0, 0] is 512, outside [0, 512)")


@pytest.mark.parametrize("rank", RANKS)
def test_a_sum_that_each_process_has_is_read(found, rank):
    row = of(found, f"sum, rank {rank}")
    assert not row["addressable"]
    assert row["weights"] and row["right"]
    got, expected = row["mean"]
    assert abs(got / expected - 1) < 1e-6
    assert row["shown"].startswith("LossSum(mean=")
