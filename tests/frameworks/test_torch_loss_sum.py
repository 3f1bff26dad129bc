"""Sums of losses in PyTorch: trees, compiled functions, transformations, and derivatives."""

import contextlib
import copy
import io
import weakref

import numpy as np
import pytest
import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

import seqloss
from seqloss.backends import torch as backend

REFUSED = "a LossSum cannot be differentiated"


def draw(seed=0):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(0, 3, (2, 3, 5)).astype("float32"), rng.integers(0, 5, (2, 3))
    return torch.from_numpy(z), torch.from_numpy(y), torch.from_numpy(rng.uniform(0, 1, (2, 3)).astype("float32"))


def test_it_is_a_tree():
    one, other = (seqloss.loss_sum(*draw(seed), accuracy=True) for seed in range(2))
    total = _pytree.tree_map(torch.add, one, other)
    assert type(total) is seqloss.LossSum
    assert total.to_dict() == (one + other).to_dict()


def test_it_is_saved_and_copied():
    one = seqloss.loss_sum(*draw())
    file = io.BytesIO()
    torch.save({"loss": one.to_dict(), "limbs": one.limbs}, file)
    file.seek(0)
    again = torch.load(file, weights_only=True)
    assert seqloss.LossSum.from_dict(again["loss"], like=one.limbs).to_dict() == one.to_dict()
    assert copy.deepcopy(one).to_dict() == one.to_dict()


def test_a_gradient_is_refused_at_the_backward_pass():
    z, y, w = draw()
    z.requires_grad_()
    total = seqloss.loss_sum(z, y, w) + seqloss.loss_sum(z.detach(), y, w)
    mean = total.mean()
    assert mean.requires_grad
    for backward in (mean.backward, lambda: torch.autograd.grad(total.perplexity(), z, create_graph=True)):
        with pytest.raises(seqloss.BackendError, match=REFUSED):
            backward()
    with pytest.raises(seqloss.BackendError, match=REFUSED):
        (seqloss.sequence_loss(z, y, w) + seqloss.loss_sum(z, y, w).mean()).backward()
    assert z.grad is None


@pytest.mark.parametrize("transformed", [torch.func.grad, torch.func.jacrev])
def test_transformations_are_refused(transformed):
    z, y, w = draw()
    with pytest.raises(seqloss.BackendError, match=REFUSED):
        transformed(lambda z: seqloss.loss_sum(z, y, w).mean())(z)


@pytest.mark.parametrize("accuracy", [False, True])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("on_host", [True, False])
def test_a_sum_keeps_neither_logits_nor_weights(accuracy, exact, on_host):
    """Though it refuses to be differentiated with respect to them."""
    z, y, w = draw()
    leaves = z.requires_grad_(), w.requires_grad_()
    z, w = z * 2, w * 2
    ghosts = [weakref.ref(x.untyped_storage()) for x in (z, w)] + [weakref.ref(x) for x in (z, w)]
    with contextlib.nullcontext() if on_host else _Largest():  # beneath which NumPy does not compute
        total = seqloss.loss_sum(z, y, w, accuracy=accuracy, exact=exact)
    del z, w
    assert [ghost() for ghost in ghosts] == [None] * 4
    for leaf in leaves:
        with pytest.raises(seqloss.BackendError, match=REFUSED):
            torch.autograd.grad(total.mean(), leaf)


def test_detached_logits_hold_no_graph():
    z, y, w = draw()
    z.requires_grad_()
    hidden = z * 2
    total, ghost = seqloss.loss_sum(hidden.detach(), y, w), weakref.ref(hidden)
    assert not total.mean().requires_grad
    del hidden
    assert ghost() is None


class _Largest(TorchDispatchMode):
    """The most numbers in a tensor that an operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, *(x.numel() for x in _pytree.tree_leaves(made)))
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_device_accuracy_makes_nothing_of_the_size_of_the_logits(dtype):
    z, y, _ = draw()
    z = z.to(dtype)
    with _Largest() as seen:
        is_right = backend.is_highest(z, y)
    assert torch.equal(is_right, z.argmax(-1) == y)
    assert seen.numbers == y.numel()


def test_compiled_it_takes_logits_without_a_gradient():
    z, y, w = draw()
    z.requires_grad_()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(z, y, w):
        return seqloss.sequence_loss(z, y, w), seqloss.loss_sum(z.detach(), y, w, exact=True)

    loss, total = step(z, y, w)
    loss.backward()
    expected = seqloss.loss_sum(*draw(), exact=True)
    # The float64 losses of tokens may differ in their last bits.
    assert total.mean().item() == expected.mean().item()
    assert total.to_dict()["weights"] == expected.to_dict()["weights"]
    np.testing.assert_allclose(z.grad, seqloss.sequence_loss_and_grad(*draw())[1], rtol=1e-5, atol=1e-8)


def test_compiled_logits_with_a_gradient_are_refused_at_once():
    """A compiler differentiates all that it can, before anybody asks."""
    z, y, w = draw()
    z.requires_grad_()
    with pytest.raises(Exception, match=REFUSED):
        torch.compile(lambda z: seqloss.loss_sum(z, y, w), fullgraph=True, backend="aot_eager")(z)
