"""The linear loss in eager PyTorch: autograd's corners, layouts, dtypes, and memory."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import seqloss
from seqloss.core.linear import LinearSpec
from seqloss.losses.linear_op import LinearLossOp

FEATURES, CLASSES = 6, 11
REDUCTIONS = ["mean", "none"]


def batch(dtype=torch.float32, shape=(3, 5), classes=CLASSES, features=FEATURES):
    """Hidden, kernel and targets; one token is out, and its row of hidden is NaN."""
    rng = np.random.default_rng(0)
    hidden = torch.from_numpy(rng.normal(size=(*shape, features))).to(dtype)
    kernel = torch.from_numpy(rng.normal(size=(features, classes))).float()
    targets = torch.from_numpy(rng.integers(0, classes, shape))
    if targets.numel() > 0:
        targets[0, 1], hidden[0, 1] = -100, torch.nan
    return hidden.requires_grad_(), kernel.requires_grad_(), targets


def loss_of(hidden, kernel, targets, **options):
    return seqloss.linear_sequence_loss(hidden, kernel, targets, ignore_index=-100, **options)


def explicit(hidden, kernel, targets, **options):
    return seqloss.linear_sequence_loss_and_grad(hidden, kernel, targets, ignore_index=-100, **options)[1]


def assert_same(found, expected):
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def assert_close(found, expected):
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)


@pytest.fixture
def asked(monkeypatch):
    """The gradients that forward passes were asked for: of hidden, kernel and bias."""
    seen, through = [], LinearLossOp._through

    def watched(self, arrays, counted, cotangents):
        seen.append(tuple(self.spec[-3:]) if cotangents is not None else None)
        return through(self, arrays, counted, cotangents)

    monkeypatch.setattr(LinearLossOp, "_through", watched)
    return seen


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast_changes_nothing(reduction):
    hidden, kernel, targets = batch()
    loss = loss_of(hidden, kernel, targets, reduction=reduction)
    with torch.autocast("cpu", torch.bfloat16):
        other = loss_of(hidden, kernel, targets, reduction=reduction)
    assert_same([other], [loss])
    assert_same(torch.autograd.grad(other.sum(), (hidden, kernel)), torch.autograd.grad(loss.sum(), (hidden, kernel)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_gradient_that_is_scaled_up_is_rounded_once(dtype):
    """As GradScaler does it; for the cotangent 1 float16 would have few of its digits, or 0."""
    hidden, kernel, targets = batch(dtype)
    kernel = (kernel.detach() * 1e-5).requires_grad_()
    (scaled,) = torch.autograd.grad(65536.0 * loss_of(hidden, kernel, targets), hidden)
    wide = hidden.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(loss_of(wide, kernel, targets), wide)
    assert 0 < expected.abs().max() < 1e-5
    assert_same([scaled], [(65536 * expected).to(dtype)])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_upstream_0_is_0_where_the_gradient_is_not_finite(reduction):
    hidden, kernel, targets = batch()
    with torch.no_grad():
        hidden[1, 1] = torch.nan  # of a token that counts
    loss = loss_of(hidden, kernel, targets, reduction=reduction)
    found = torch.autograd.grad(loss, (hidden, kernel), torch.zeros_like(loss))
    assert_same(found, [torch.zeros_like(hidden), torch.zeros_like(kernel)])


@pytest.mark.parametrize("is_turned", [False, True], ids=["rows", "turned"])
@pytest.mark.parametrize("upstream", [1.0, 65536.0, -0.3, 1e30])
def test_two_backward_passes(upstream, is_turned):
    """The second finds what the first has scaled in place and given away."""
    hidden, kernel, targets = batch()
    if is_turned:
        kernel = kernel.detach().T.contiguous().T.requires_grad_()
    expected = [x * upstream for x in explicit(hidden, kernel, targets)]
    loss, up = loss_of(hidden, kernel, targets), torch.tensor(upstream)
    first = torch.autograd.grad(loss, (hidden, kernel), up, retain_graph=True)
    kept = [x.clone() for x in first]
    second = torch.autograd.grad(loss, (hidden, kernel), torch.tensor(2.0))
    assert_same(first, kept)
    again, close = [x * (upstream / 2) for x in second], {"rtol": 1e-5, "atol": 1e-6 * abs(upstream)}
    torch.testing.assert_close(list(first), expected, **close)
    torch.testing.assert_close(again, expected, **close)


def test_gradients_of_two_calls_add_up_and_the_first_is_nobody_elses():
    hidden, kernel, targets = batch()
    for _ in range(2):
        loss_of(hidden, kernel, targets).backward()
    to_hidden, to_kernel = explicit(hidden, kernel, targets)
    assert_same([hidden.grad, kernel.grad], [2 * to_hidden, 2 * to_kernel])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_where_autograd_is_off_no_gradient_is_made(asked, off, reduction):
    with off():
        assert not loss_of(*batch(), reduction=reduction).requires_grad
    assert asked == [None]


@pytest.mark.parametrize("frozen", ["hidden", "kernel"])
def test_what_is_frozen_gets_no_gradient(asked, frozen):
    hidden, kernel, targets = batch()
    wanted = kernel if frozen == "hidden" else hidden
    (hidden if frozen == "hidden" else kernel).requires_grad_(False)
    loss_of(hidden, kernel, targets).backward()
    assert asked == [(frozen != "hidden", frozen != "kernel", False)]
    assert_same([wanted.grad], [explicit(hidden, kernel, targets, wrt="kernel" if frozen == "hidden" else "hidden")])


def test_a_tied_embedding_gets_its_gradient_without_a_copy(monkeypatch):
    made, at_once = [], LinearLossOp.at_once

    def watched(self, *arguments):
        outputs, gradients = at_once(self, *arguments)
        made.append(gradients[1].ctypes.data)
        return outputs, gradients

    monkeypatch.setattr(LinearLossOp, "at_once", watched)
    hidden, kernel, targets = batch()
    weight = kernel.detach().T.contiguous().requires_grad_()
    loss_of(hidden, weight.T, targets).backward(torch.tensor(3.0))
    assert weight.grad.data_ptr() == made[0]
    assert weight.grad.is_contiguous()
    torch.testing.assert_close(weight.grad, 3 * explicit(hidden, kernel, targets)[1].T)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("is_reentrant", [False, True])
def test_checkpoint(asked, is_reentrant, reduction):
    hidden, kernel, targets = batch()

    def part(hidden, kernel):
        return loss_of(2 * hidden, kernel, targets, reduction=reduction).sum()

    expected = torch.autograd.grad(part(hidden, kernel), (hidden, kernel))
    del asked[:]
    checkpoint(part, hidden, kernel, use_reentrant=is_reentrant).backward()
    assert_same([hidden.grad, kernel.grad], expected)
    assert sum(x is not None for x in asked) == 1, "the gradients are made once"


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_func_grad(reduction):
    hidden, kernel, targets = batch()

    def total(hidden, kernel):
        return loss_of(hidden, kernel, targets, reduction=reduction).square().sum()

    expected = torch.autograd.grad(total(hidden, kernel), (hidden, kernel))
    assert_close(torch.func.grad(total, argnums=(0, 1))(hidden.detach(), kernel.detach()), expected)


def test_vmap_over_the_batch():
    hidden, kernel, targets = batch()

    def of_one(x, y):
        return loss_of(x[None], kernel, y[None])

    found = torch.func.vmap(of_one)(hidden.detach(), targets)
    assert_close([found], [torch.stack([of_one(x, y) for x, y in zip(hidden, targets, strict=True)])])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_may_differ(dtype):
    hidden, kernel, targets = batch(dtype)
    loss = loss_of(hidden, kernel, targets)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    other = hidden.detach().to(wide).requires_grad_()
    expected = loss_of(other, kernel, targets)
    assert loss.dtype == wide
    assert_same([loss], [expected])
    to_hidden, to_kernel = torch.autograd.grad(expected, (other, kernel))
    assert_same(torch.autograd.grad(loss, (hidden, kernel)), [to_hidden.to(dtype), to_kernel])


def test_hidden_in_any_order_of_memory():
    hidden, kernel, targets = batch()
    other = hidden.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    assert not other.is_contiguous()
    found = torch.autograd.grad(loss_of(other, kernel, targets), (other, kernel))
    assert_same(found, explicit(hidden, kernel, targets))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "per_sequence", "sequence_mean"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)], ids=str)
def test_empty_batches(shape, reduction):
    hidden, kernel, targets = batch(shape=shape)
    loss = loss_of(hidden, kernel, targets, reduction=reduction)
    loss.sum().backward()
    assert loss.sum() == 0
    assert_same([hidden.grad, kernel.grad], [torch.zeros_like(hidden), torch.zeros_like(kernel)])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_second_derivative_is_refused(reduction):
    hidden, kernel, targets = batch()
    loss = loss_of(hidden, kernel, targets, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, kernel, create_graph=True)
    with pytest.raises(seqloss.BackendError, match="only first derivatives, in reverse mode"):
        gradient.sum().backward()


def test_the_gradient_of_soft_targets_is_refused():
    hidden, kernel, _ = batch()
    soft = torch.full((3, 5, CLASSES), 1 / CLASSES, requires_grad=True)
    loss = seqloss.linear_sequence_loss(hidden, kernel, soft)
    with pytest.raises(seqloss.BackendError, match=r"cannot be differentiated|no gradient for soft targets"):
        loss.backward()


def test_hooks_of_the_kernel_see_its_gradient_once():
    hidden, kernel, targets = batch()
    seen = []
    kernel.register_hook(lambda g: seen.append(g.clone()) or 2 * g)
    loss_of(hidden, kernel, targets).backward()
    expected = explicit(hidden, kernel, targets)[1]
    assert_same([*seen, kernel.grad], [expected, 2 * expected])


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_logits_are_stored(reduction):
    hidden, kernel, targets = batch(shape=(4, 512), classes=8192, features=64)
    sizes = [x.numel() * 4 for x in (hidden, kernel)]

    def step():
        loss_of(hidden, kernel, targets, reduction=reduction, chunk=256).sum().backward()
        hidden.grad = kernel.grad = None

    step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    chunk = 256 * 8192 * 4
    assert chunk == LinearSpec("float32", 256, True, True, False).size(2048, 8192) * 8192 * 4
    assert chunk < peak < 1.1 * chunk + sum(sizes) + (2 << 20)


@pytest.fixture
def mesh(tmp_path):
    """Of one process, which is the whole world."""
    store = tmp_path / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    from torch.distributed.device_mesh import init_device_mesh

    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("place", [0, 1], ids=["hidden", "kernel"])
@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
def test_distributed_tensors_are_refused(mesh, place, is_compiled):
    from torch.distributed.tensor import Shard, distribute_tensor

    arrays = list(batch())
    arrays[place] = distribute_tensor(arrays[place].detach(), mesh, [Shard(0)])
    call = torch.compile(loss_of, fullgraph=True, backend="eager") if is_compiled else loss_of
    text = r"takes no DTensor; pass hidden\.to_local\(\)" if place == 0 else r"a DTensor is passed .*x\.full_tensor\(\)"
    # What torch.compile raises has the text of the cause.
    with pytest.raises((seqloss.BackendError, RuntimeError), match=text):
        call(*arrays)
