"""The generic backend, on arrays that can do what the Array API standard says and nothing else."""

import sys

import numpy as np
import pytest

import seqloss
from seqloss.core import dispatch
from seqloss.testing import cases, frameworks
from seqloss.testing.conformance import assert_conforms

STRICT = frameworks.load("array_api_strict")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """As ``register_backend`` does it, for one test."""
    monkeypatch.setitem(dispatch._adapters, STRICT.name, STRICT.BACKEND)


def test_it_conforms_and_passes_every_case():
    assert_conforms(dispatch.load(STRICT.name))


def test_it_is_written_for_the_version_that_is_tried():
    assert STRICT.xp.get_array_api_strict_flags()["api_version"] == "2023.12"


@pytest.mark.parametrize("others", ["arrays of NumPy", "lists"])
def test_host_values_are_placed_beside_the_logits(others):
    logits, targets, weights = cases.draw(2, 3, 5)
    expected = seqloss.sequence_loss_and_grad(logits, targets, weights)
    if others == "lists":
        targets, weights = targets.tolist(), weights.tolist()
    value, gradient = seqloss.sequence_loss_and_grad(STRICT.array(logits), targets, weights)
    assert STRICT.is_array(value) and STRICT.is_array(gradient)
    np.testing.assert_allclose(STRICT.to_numpy(value), expected[0], rtol=1e-14)
    np.testing.assert_allclose(STRICT.to_numpy(gradient), expected[1], rtol=1e-12, atol=1e-16)


def test_arrays_stay_on_their_device():
    device = STRICT.xp.Device("device1")
    logits, targets, _ = cases.draw(2, 3, 5)
    array = STRICT.xp.asarray(logits, device=device)
    value, gradient = seqloss.sequence_loss_and_grad(array, targets)
    assert (value.device, gradient.device) == (device, device)
    with pytest.raises(seqloss.DeviceError, match=r"targets is on .*CPU_DEVICE"):
        seqloss.sequence_loss(array, STRICT.array(targets))


def test_labels_are_checked():
    logits, targets, _ = cases.draw(2, 3, 5)
    targets[1, 2] = -100
    with pytest.raises(seqloss.LabelError, match=r"targets\[1, 2\] is -100"):
        seqloss.sequence_loss(STRICT.array(logits), STRICT.array(targets))


def test_arrays_of_frameworks_with_a_backend_are_not_its_own(framework):
    assert not dispatch.load(STRICT.name).owns(framework.array(np.zeros(2)))


def test_a_name_that_is_misspelt_is_shown(monkeypatch):
    """It is registered, and found nowhere."""
    monkeypatch.setitem(dispatch._adapters, "cuppy", STRICT.BACKEND)
    with pytest.raises(
        seqloss.ArgumentTypeError, match=r"\(cuppy: registered, but no module of that name is imported\)"
    ):
        seqloss.sequence_loss(object(), [[0]])


def test_without_a_framework_there_is_no_array(monkeypatch):
    monkeypatch.delitem(sys.modules, "array_api_strict")
    with pytest.raises(seqloss.BackendError, match=r"frameworks of the Array API standard .* none is imported"):
        dispatch.load(STRICT.name).asarray([1.0])
