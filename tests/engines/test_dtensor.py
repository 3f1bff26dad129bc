"""Distributed logits of PyTorch: ``dtensor.py`` computes in four processes, and here is what it must find."""

import numpy as np
import pytest
from dtensor_cases import CASES, MENDED, REFUSED, ROUNDED, SUMS
from programs import of, results

PARTS = (
    "logits have the placements {}, but each row must be whole on one device, not split by class and not partial; "
    "pass logits.redistribute(placements={})"
)
MESH = "a DTensor is passed with a plain tensor, or with one of another mesh; distribute the logits as well "


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    return results("dtensor.py", tmp_path_factory)


def arrays(inside):
    names = [name for name in ("loss", "logits", "weights") if f"{name} got" in inside]
    return [(inside[f"{name} got"], inside[f"{name} expected"]) for name in names]


def facts(inside, case):
    assert len(arrays(inside)) == (2 if case.beside in ("numpy", "list") else 3)
    for got, expected in arrays(inside):
        assert got.dtype == expected.dtype == np.float32
        assert got.shape == expected.shape
    assert inside["type"] == "DTensor"
    assert inside["kept"] or case.is_moved


def same_bits(inside):
    for got, expected in arrays(inside):
        np.testing.assert_array_equal(got.view("int32"), expected.view("int32"))


@pytest.mark.parametrize("name", CASES)
def test_exact_bits_are_those_of_one_device(found, name):
    for rank in found["eager"]:
        inside = of(rank, f"{name} True")
        facts(inside, CASES[name])
        same_bits(inside)


@pytest.mark.parametrize("name", ROUNDED)
def test_other_numbers_are_as_close_as_any(found, name):
    for rank in found["eager"]:
        inside = of(rank, f"{name} False")
        facts(inside, CASES[name])
        for got, expected in arrays(inside):
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["beside plain", "beside plain, two axes", "beside plain, empty rank"])
def test_gradients_of_plain_weights_are_plain(found, name):
    assert all(of(rank, f"{name} True")["same type"] for rank in found["eager"])


@pytest.mark.parametrize("name", REFUSED)
def test_rows_in_parts_are_refused_with_a_call_that_works(found, name):
    before = {"2": "[Shard(dim=2)]", "02": "[Shard(dim=0), Shard(dim=2)]", "p": "[Partial(sum)]"}[REFUSED[name].logits]
    for rank in found["eager"]:
        inside = of(rank, name)
        assert inside["text"] == PARTS.format(before, MENDED.get(name, "[Shard(dim=0)]"))
        assert inside["mended"].dtype == np.float32
        assert inside["mended"].tobytes() == inside["expected"].tobytes()


def test_a_single_row_is_replicated(found):
    assert of(found["eager"][0], "row")["text"] == PARTS.format("[Shard(dim=0)]", "[Replicate()]")


@pytest.mark.parametrize("name", ["plain", "mesh"])
def test_a_distributed_argument_needs_logits_on_its_mesh(found, name):
    assert str(of(found["eager"][0], name)["text"]).startswith(MESH)


def test_labels_are_read_where_they_are_plain(found):
    """As on an accelerator, distributed ones make NaN."""
    for rank in found["eager"]:
        inside = of(rank, "label")
        assert np.isnan(inside["distributed"])
        assert str(inside["plain"]).startswith("targets[1, 2] is 33, outside [0, 33)")


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_has_the_rows_of_all_ranks(found, name):
    for rank in found["eager"]:
        inside = of(rank, f"sum {name}")
        np.testing.assert_array_equal(inside["got"], inside["expected"])
        assert inside["mean"].dtype == inside["of one"].dtype == np.float32
        assert inside["mean"].tobytes() == inside["of one"].tobytes()


def test_a_metric_takes_the_rows_of_its_process(found):
    text = str(of(found["eager"][0], "metric")["text"])
    assert text.startswith("logits is a DTensor, but a Perplexity counts the rows of its own process only; pass those")


def test_compiled(found):
    for rank in found["compiled"]:
        inside = of(rank, "bits")
        facts(inside, CASES["beside plain"])
        same_bits(inside)
        assert of(rank, "classes")["text"] == PARTS.format("[Shard(dim=2)]", "[Shard(dim=0)]")


def test_nothing_distributed_is_loaded_for_plain_tensors(python):
    """It takes a second, and some builds lack it."""
    program = """
import sys, torch, seqloss
before = {name for name in sys.modules if name.startswith("torch.distributed")}
z = torch.zeros(1, 2, 3, requires_grad=True)
seqloss.sequence_loss(z, [[0, 1]], lengths=[1], label_smoothing=0.1, exact=True).backward()
after = {name for name in sys.modules if name.startswith("torch.distributed")}
print("torch.distributed.tensor" in after, after - before)
"""
    assert python(program) == "False set()\n"
