"""The gradient that the forward pass makes: what backward passes do with it, and who may write into it."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import torch

import seqloss
from seqloss.backends import on_numpy
from seqloss.losses.sequence_op import SequenceLossOp
from seqloss.testing import tolerances

DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
UPSTREAM = [1.0, 2.0, 0.5, -0.25, 0.3, 0.0, -1.0, 1e30, 1e-30, float("inf"), float("nan")]


def batch(dtype=torch.float32, shape=(4, 5, 9)):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, shape)).to(dtype)
    logits[0, 0, 0] = torch.nan  # at weight 0
    logits[-1, -1] = torch.linspace(-110, 0, shape[2])
    weights = torch.from_numpy(rng.integers(0, 3, shape[:2]) / 2).float()
    weights[0, 0], weights[-1, -1] = 0, 1
    return logits.requires_grad_(), torch.from_numpy(rng.integers(0, shape[2], shape[:2])), weights


@pytest.fixture
def hindsight(monkeypatch):
    """Switch off what this file is about: every pullback is a pass of its own."""

    def switch():
        monkeypatch.setattr(SequenceLossOp, "is_foreseen", False)
        on_numpy.RunOnNumPy.of.cache_clear()

    yield switch
    on_numpy.RunOnNumPy.of.cache_clear()


@pytest.fixture
def passes(monkeypatch):
    """The calls of the operation on NumPy, by their names."""
    seen = []
    for name in ("forward", "pullback", "at_once"):
        method = getattr(SequenceLossOp, name)
        monkeypatch.setattr(
            SequenceLossOp, name, lambda *x, method=method, name=name, **more: seen.append(name) or method(*x, **more)
        )
    return seen


def gradients(arrays, upstream, **options):
    logits, _, weights = arrays
    loss = seqloss.sequence_loss(*arrays, **options)
    wanted = [x for x in (logits, weights) if x.requires_grad]
    return torch.autograd.grad(loss, wanted, torch.tensor(upstream, dtype=loss.dtype))


def same(x, y):
    assert (x.dtype, x.shape) == (y.dtype, y.shape)
    torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("upstream", UPSTREAM, ids=str)
@pytest.mark.parametrize(
    "dtype, is_exact", [(x, False) for x in DTYPES] + [(x, True) for x in DTYPES if x != "float64"]
)
def test_any_upstream(hindsight, dtype, is_exact, upstream):
    arrays = batch(DTYPES[dtype])
    arrays[2].requires_grad_()
    given = gradients(arrays, upstream, exact=is_exact)
    hindsight()
    for x, y in zip(given, gradients(arrays, upstream, exact=is_exact), strict=True):
        if is_exact or dtype in ("float16", "bfloat16") or upstream in (1, 0.5, -0.25):
            same(x, y)
        else:
            same(x.isnan(), y.isnan())
            same(x == 0, y == 0)
            known = ~x.isnan()
            assert (tolerances.ulps(x[known].numpy(), y[known].numpy(), str(x.dtype).removeprefix("torch.")) <= 4).all()


def test_nothing_flows_where_nothing_arrives():
    """Not NaN times 0."""
    logits, targets, weights = batch()
    weights[0, 0] = 1
    given = gradients((logits, targets, weights), 1.0)[0]
    assert given[0, 0].isnan().all()
    assert (gradients((logits, targets, weights), 0.0)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_powers_of_two_on_the_way_to_zero(hindsight, dtype):
    """What is rounded once, and would be so twice: entries that become subnormal, or that exact mode makes 0."""
    logits = torch.linspace(0, 100, 64).reshape(1, 1, 64).to(dtype).requires_grad_()
    arrays = logits, torch.tensor([[63]]), torch.ones(1, 1)
    given = [gradients(arrays, 2.0**-k, exact=True)[0] for k in (1, 9, 60)]
    hindsight()
    for x, k in zip(given, (1, 9, 60), strict=True):
        same(x, gradients(arrays, 2.0**-k, exact=True)[0])


def test_a_gradient_is_made_in_the_forward_pass_and_returned(passes):
    logits, targets, weights = batch()
    loss = seqloss.sequence_loss(logits, targets, weights)
    assert passes == ["at_once"]
    loss.backward()
    assert passes == ["at_once"] and logits.grad is not None


@pytest.mark.parametrize(
    "surroundings",
    [torch.no_grad, torch.inference_mode, lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)],
    ids=["no_grad", "inference_mode", "hooks"],
)
def test_nothing_of_it_where_nobody_will_ask(surroundings, passes):
    with surroundings():
        seqloss.sequence_loss(*batch())
    assert passes == ["forward"]


def test_nothing_of_it_for_logits_without_a_gradient(passes):
    logits, targets, weights = batch()
    gradients((logits.detach(), targets, weights.requires_grad_()), 1.0)
    seqloss.sequence_loss(logits.detach(), targets)
    assert passes == ["forward", "pullback", "forward"]


@pytest.mark.parametrize("options", [{"reduction": "none"}, {"average_across_batch": False}], ids=["tokens", "rows"])
def test_nothing_of_it_for_several_losses(options, passes):
    seqloss.sequence_loss(*batch(), **options).sum().backward()
    assert passes == ["forward", "pullback"]


@pytest.mark.parametrize("upstream", [1.0, 0.3, 0.5])
def test_two_backward_passes_have_arrays_of_their_own(upstream):
    logits, targets, weights = batch()
    loss, up = seqloss.sequence_loss(logits, targets, weights), torch.tensor(upstream)
    (first,) = torch.autograd.grad(loss, logits, up, retain_graph=True)
    expected = first.clone()
    first.fill_(torch.nan)
    (second,) = torch.autograd.grad(loss, logits, up, retain_graph=True)
    second.mul_(3)
    (third,) = torch.autograd.grad(loss, logits, 2 * up)
    torch.testing.assert_close(second, 3 * expected)
    torch.testing.assert_close(third, 2 * expected)


def test_gradients_add_up():
    logits, targets, weights = batch()
    loss = seqloss.sequence_loss(logits, targets, weights)
    loss.backward(retain_graph=True)
    one = logits.grad.clone()
    loss.backward()
    seqloss.sequence_loss(logits, targets, weights).backward()
    torch.testing.assert_close(logits.grad, 3 * one)


def test_hooks_may_write_into_it():
    logits, targets, weights = batch()
    leaf = logits.detach().requires_grad_()
    middle = leaf * 1
    middle.register_hook(lambda g: g.mul_(2))
    loss = seqloss.sequence_loss(middle, targets, weights)
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(loss, leaf)
    (plain,) = torch.autograd.grad(seqloss.sequence_loss(leaf, targets, weights), leaf)
    same(first, 2 * plain)
    same(second, 2 * plain)


def test_second_derivatives_before_and_after():
    logits, targets, weights = batch(torch.float64)
    logits = logits.detach()[1:].requires_grad_()
    loss = seqloss.sequence_loss(logits, targets[1:], weights[1:])
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), logits, retain_graph=True)
    (again,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(again, first.detach())
    assert torch.autograd.gradgradcheck(lambda x: seqloss.sequence_loss(x, targets[1:], weights[1:]), [logits])
    assert second.abs().max() > 0


def test_checkpoint_keeps_no_gradient(passes):
    logits, targets, weights = batch()
    plain = torch.autograd.grad(seqloss.sequence_loss(logits, targets, weights), logits)[0]
    passes.clear()
    loss = torch.utils.checkpoint.checkpoint(seqloss.sequence_loss, logits, targets, weights, use_reentrant=False)
    same(torch.autograd.grad(loss, logits)[0], plain)
    assert "at_once" not in passes


def test_many_cotangents_at_a_time():
    logits, targets, weights = batch()
    loss = seqloss.sequence_loss(logits, targets, weights)
    up = torch.tensor([1.0, 2.0])
    (both,) = torch.autograd.grad(loss, logits, up, is_grads_batched=True, retain_graph=True)
    (one,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(both, torch.stack([one, 2 * one]))


@pytest.mark.parametrize("upstream", [1.0, 0.3])
def test_no_copy_is_made(monkeypatch, upstream):
    """Nor does autograd make one, because nobody else holds the array."""
    made, at_once = [], SequenceLossOp.at_once

    def watched(self, *arguments):
        outputs, gradients = at_once(self, *arguments)
        made.append(gradients[0].ctypes.data)
        return outputs, gradients

    monkeypatch.setattr(SequenceLossOp, "at_once", watched)
    logits, targets, weights = batch()
    seqloss.sequence_loss(logits, targets, weights).backward(torch.tensor(upstream))
    assert made == [logits.grad.data_ptr()]


def test_the_gradient_goes_with_the_graph():
    made = []
    taken = on_numpy._Residuals.__init__

    def init(self, *arguments):
        taken(self, *arguments)
        made.append(weakref.ref(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_numpy._Residuals, "__init__", init)
        loss = seqloss.sequence_loss(*batch())
    assert made[0]()._gradients is not None
    del loss
    gc.collect()
    assert made[0]() is None


# What is made of the gradient does not depend on how it was computed: the exact one is made anew and scaled.
ONE_AT_A_TIME = [(False, 1.0), (False, 0.3), (False, 0.5), (False, float("inf")), (True, 0.3)]


@pytest.mark.parametrize("is_exact, upstream", ONE_AT_A_TIME)
def test_one_gradient_at_a_time(is_exact, upstream):
    logits, targets, weights = batch(shape=(8, 256, 2048))
    up = torch.tensor(upstream)

    def step():
        seqloss.sequence_loss(logits, targets, weights, exact=is_exact).backward(up)

    step()
    logits.grad = None
    gc.collect()
    tracemalloc.start()
    try:
        step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = logits.numel() * 4
    assert size < peak < 1.05 * size + (8 << 20)
    assert logits.grad.shape == logits.shape
