"""One definition of the loss, in each framework, run eagerly and compiled."""

import importlib

import numpy as np
import pytest
from zloss import on_numpy

BATCH = {
    "logits": (np.arange(70, dtype="float32") * 37 % 19 / 2 - 4).reshape(2, 5, 7),
    "targets": np.array([[1, 0, 6, 2, 2], [3, 5, 0, 0, 0]]),
    "weights": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], "float32"),
}


@pytest.fixture
def z_loss(seqloss_backend):
    """The implementation for the framework under test."""
    return importlib.import_module(f"zloss.on_{seqloss_backend.name}").z_loss


@pytest.mark.seqloss_modes("eager", "compiled")
def test_loss_and_gradient_are_as_recorded(z_loss, seqloss_backend, seqloss_run, seqloss_golden):
    arrays = [seqloss_backend.array(x) for x in BATCH.values()]
    loss, gradients = seqloss_run(z_loss, arrays)
    if gradients is None:  # NumPy does not differentiate
        gradients = on_numpy.z_loss_and_gradient(*arrays)[1:]
    seqloss_golden("batch", {"loss": loss, "d_logits": gradients[0]}, inputs=BATCH)


def test_padding_does_not_count(z_loss, seqloss_backend, assert_parity):
    padded = [seqloss_backend.array(x[1:]) for x in BATCH.values()]
    cut = [x[:, :2] for x in padded]
    assert_parity(z_loss(*padded), z_loss(*cut))


def test_the_reference_is_that_of_float64(assert_parity):
    wide = {name: x.astype("float64") if x.dtype == "float32" else x for name, x in BATCH.items()}
    assert_parity(on_numpy.z_loss(**BATCH), on_numpy.z_loss(**wide), check_dtype=False)
