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
    assert set(found) == {f"{row}, rank {rank}" for row in (*SPLIT, *OTHERS, "bad label") for rank in RANKS}


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
