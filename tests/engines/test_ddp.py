"""Data parallel training in PyTorch: ``ddp.py`` trains in two processes, and here is what must come out."""

import numpy as np
import pytest
from programs import of, results

EXACT = ("DDP", "FSDP2", "no_sync", "compiled DDP")
ALL = (*EXACT, "compiled step")


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("ddp.py", tmp_path_factory)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ALL)
def test_parameters_and_losses_are_those_of_one_process(found, name, rank):
    """With a rank whose tokens do not count, and one without rows."""
    one, other = of(found[rank], "one process"), of(found[rank], name)
    for key in ("losses", "parameters"):
        assert other[key].dtype == one[key].dtype
        assert other[key].shape == one[key].shape
        np.testing.assert_allclose(other[key], one[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EXACT)
def test_gradients_of_logits_are_those_of_one_process_in_bits(found, name):
    inside = of(found[0], name)
    assert inside["got"].shape == inside["expected"].shape
    assert inside["got"].dtype == inside["expected"].dtype == np.float32
    np.testing.assert_array_equal(inside["got"].view("int32"), inside["expected"].view("int32"))


def test_gradients_of_logits_of_a_compiled_step(found):
    inside = of(found[0], "compiled step")
    np.testing.assert_allclose(inside["got"], inside["expected"], rtol=1e-5, atol=1e-8)


def test_the_mean_of_the_means_of_ranks_is_another_loss(found):
    """What the documentation warns of; else the tests above would find nothing."""
    one, other = of(found[0], "one process"), of(found[0], "mean of means")
    assert abs(other["losses"][0] - one["losses"][0]) > 0.01
    assert abs(other["parameters"] - one["parameters"]).max() > 0.01
