"""What PyTorch adds to the sampled losses: sparse gradients, and second derivatives."""

import numpy as np
import pytest
import torch
from sampled_cases import CLASSES, SAMPLED, draw, oracle, split

from seqloss import sampling

SIZES = {"num_sampled": SAMPLED, "num_classes": CLASSES, "num_true": 2}
# Class 7 and class 8 are in no example and no candidate, and not every other class need be.
ARRAYS = draw()
USED = sorted({*ARRAYS[2].ravel().tolist(), *ARRAYS[4].tolist()})


def parameters():
    weights, biases, labels, inputs, *values = (torch.from_numpy(x.copy()) for x in ARRAYS)
    return torch.nn.Parameter(weights), torch.nn.Parameter(biases), labels, inputs, tuple(values)


def loss(weights, biases, labels, inputs, values, **options):
    return sampling.sampled_softmax_loss(weights, biases, labels, inputs, **SIZES, sampled_values=values, **options)


def test_parameters_have_sparse_gradients_of_the_used_rows_alone():
    weights, biases, *rest = parameters()
    loss(weights, biases, *rest).sum().backward()
    expected = oracle("softmax", ARRAYS)
    for parameter, wanted in ((weights, expected.dweights), (biases, expected.dbiases)):
        assert parameter.grad.is_sparse
        gradient = parameter.grad.coalesce()
        assert gradient.indices().tolist() == [USED]
        np.testing.assert_allclose(gradient.to_dense(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_sparse_gradients_have_the_dtype_of_the_parameter(half):
    weights, biases, *rest = parameters()
    weights = torch.nn.Parameter(weights.detach().to(half))
    loss(weights, biases, *rest).sum().backward()
    assert (weights.grad.dtype, weights.grad.is_sparse) == (half, True)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.SparseAdam])
def test_optimizers_step_with_them_and_leave_the_other_rows(optimizer):
    weights, biases, *rest = parameters()
    before = weights.detach().clone()
    steps = optimizer([weights, biases], lr=0.05)
    losses = []
    for _ in range(5):
        steps.zero_grad()
        mean = loss(weights, biases, *rest).mean()
        mean.backward()
        steps.step()
        losses.append(mean.item())
    assert losses == sorted(losses, reverse=True)
    moved = (weights.detach() != before).any(1)
    assert torch.nonzero(moved).ravel().tolist() == USED


def test_each_shard_has_a_sparse_gradient_of_its_used_rows_alone():
    _, biases, *rest = parameters()
    for strategy in ("mod", "div"):
        shards = [torch.nn.Parameter(torch.from_numpy(x.copy())) for x in split(ARRAYS[0], 3, strategy)]
        loss(shards, biases, *rest, partition_strategy=strategy).sum().backward()
        owned = split(np.arange(CLASSES), 3, strategy)
        for shard, ids in zip(shards, owned, strict=True):
            used = [row for row, i in enumerate(ids) if i in USED]
            assert (shard.grad is None) == (not used)
            if used:
                assert shard.grad.is_sparse
                assert shard.grad.coalesce().indices().tolist() == [used]


def dense_view(weights):
    return weights.view_as(weights)


def compiled(weights, biases, *rest):
    torch.compiler.reset()
    return torch.compile(loss, fullgraph=True, backend="aot_eager")(weights, biases, *rest)


@pytest.mark.parametrize("run", [lambda w, *rest: loss(dense_view(w), *rest), compiled], ids=["view", "compiled"])
def test_gradients_are_dense_elsewhere(run):
    weights, biases, *rest = parameters()
    run(weights, biases, *rest).sum().backward()
    assert not weights.grad.is_sparse
    np.testing.assert_allclose(weights.grad, oracle("softmax", ARRAYS).dweights, rtol=1e-5, atol=1e-6)


def doubles(function):
    """A loss of three leaves, in float64."""
    weights, biases, labels, inputs, *values = (torch.from_numpy(x) for x in draw(dtype="float64"))

    def total(weights, biases, inputs):
        options = {"sampled_values": tuple(values), "remove_accidental_hits": True}
        return function(weights, biases, labels, inputs, **SIZES, **options).sum()

    return total, [x.requires_grad_() for x in (weights, biases, inputs)]


@pytest.mark.parametrize("function", [sampling.sampled_softmax_loss, sampling.nce_loss])
def test_second_derivatives(function):
    total, leaves = doubles(function)
    # gradgradcheck wants dense gradients.
    assert torch.autograd.gradgradcheck(lambda *views: total(*map(dense_view, views)), leaves)


def test_second_derivatives_of_parameters():
    """A sparse gradient could not be differentiated again, so that here it is dense."""
    total, leaves = doubles(sampling.sampled_softmax_loss)

    def penalty(*arrays):
        gradients = torch.autograd.grad(total(*arrays), leaves, create_graph=True)
        return torch.autograd.grad(sum((g * g).sum() for g in gradients), leaves)

    for own, wanted in zip(penalty(*leaves), penalty(*map(dense_view, leaves)), strict=True):
        torch.testing.assert_close(own.to_dense(), wanted)
