"""check_loss on losses of torch that are right, or wrong, where nobody looks."""

import pytest
import torch
import torch.nn.functional as F

import seqloss
from seqloss.testing import Conventions, check_loss
from seqloss.testing.invariants import INVARIANTS

TOKENS = Conventions(("logits", "targets"), returns="tokens")
QUIET = [name for name in INVARIANTS if not name.startswith("count_of")]


def found(check):
    """What is violated, and how."""
    return {finding.invariant: finding.kind for finding in check.findings if finding.verdict == "violated"}


def nll(logits, targets):
    return F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none")


def onehot(logits, targets):
    return (torch.arange(logits.shape[-1]) == targets[..., None]).to(logits.dtype)


class Fused(torch.autograd.Function):
    """As one writes it: a right first derivative, and no word about a second one."""

    @staticmethod
    def forward(ctx, logits, targets):
        p = torch.softmax(logits, -1)
        ctx.save_for_backward(p, targets)
        return -torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]

    @staticmethod
    def backward(ctx, cotangent):
        p, targets = ctx.saved_tensors
        return cotangent[..., None] * (p - onehot(p, targets)), None


def test_right_function_lacks_a_refusal_and_digits():
    check = check_loss(Fused.apply, backend="torch", conventions=TOKENS, modes=(), invariants=QUIET)
    assert found(check) == {"unsafe_masks": "numbers", "confident_tokens": "digits", "double_backward": "refusal"}
    first, *_ = check.report().splitlines()
    assert first.startswith("test_torch_check_corners:Fused.apply (torch): 5 of ")
    # A mask that is multiplied in hides no NaN in three dtypes.
    assert first.endswith("are VIOLATED: 3 wrong results, 1 missing refusal, 1 loss of digits")


def test_compiled_loss_meets_any_number_of_shapes():
    loss = torch.compile(F.cross_entropy, backend="aot_eager", fullgraph=True, dynamic=False)
    names = ("padding", "permutation", "split_batches", "one_hot", "sizes_of_one", "every_class")
    conventions = Conventions(("logits", "targets"), layout="packed", ignore_label=-100)
    check = check_loss(loss, backend="torch", conventions=conventions, modes=(), invariants=names)
    assert check.holds, check.report()


class OneBuffer(torch.autograd.Function):
    """A gradient that is ready after the forward pass, in memory that all losses share."""

    memory = None

    @staticmethod
    def forward(ctx, logits, targets):
        p = torch.softmax(logits, -1)
        slope = p - onehot(p, targets)
        if OneBuffer.memory is None or (OneBuffer.memory.shape, OneBuffer.memory.dtype) != (slope.shape, slope.dtype):
            OneBuffer.memory = slope
        ctx.slope = OneBuffer.memory.copy_(slope)
        return nll(logits, targets)

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.slope * cotangent[..., None], None


class InPlace(torch.autograd.Function):
    """The upstream gradient is multiplied into what is kept."""

    @staticmethod
    def forward(ctx, logits, targets):
        ctx.slope = torch.softmax(logits, -1) - onehot(logits, targets)
        return nll(logits, targets)

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.slope.mul_(cotangent[..., None]), None


class NormalizedUpstream(torch.autograd.Function):
    """The gradient of a token by the share of its upstream gradient."""

    @staticmethod
    def forward(ctx, logits, targets, weights):
        ctx.slope = (torch.softmax(logits, -1) - onehot(logits, targets)) * weights[..., None]
        return nll(logits, targets) * weights

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.slope * (cotangent * cotangent / cotangent)[..., None], None, None


class Mapped(torch.autograd.Function):
    """With a rule of its own for vmap, which mixes up the batches."""

    @staticmethod
    def forward(logits, targets):
        return nll(logits, targets)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, cotangent):
        logits, targets = ctx.saved_tensors
        return cotangent[..., None] * (torch.softmax(logits, -1) - onehot(logits, targets)), None

    @staticmethod
    def vmap(info, in_dims, logits, targets):
        losses = [nll(z, y) for z, y in zip(logits, targets.flip(0), strict=True)]
        return torch.stack(losses), 0


class OnlyWithGradients(torch.autograd.Function):
    """A fused kernel that computes its loss together with the gradient, if there is to be one."""

    @staticmethod
    def forward(ctx, logits, targets):
        if not ctx.needs_input_grad[0]:
            return torch.zeros_like(logits[..., 0])
        ctx.slope = torch.softmax(logits, -1) - onehot(logits, targets)
        return nll(logits, targets)

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.slope * cotangent[..., None], None


def as_it_lies_in_memory(logits, targets):
    """What a kernel does that takes a pointer, and no strides."""
    shape = logits.shape
    return nll(logits.as_strided(shape, (shape[1] * shape[2], shape[2], 1)), targets)


def in_the_default_dtype(logits, targets):
    return nll(logits, targets) + 2**23 * torch.finfo(torch.get_default_dtype()).eps - 1


def by_int16(logits, targets):
    return nll(logits, targets if targets.dtype != torch.int32 else targets.to(torch.int8).long() % logits.shape[-1])


def negative_log_of_probabilities(logits, targets):
    return -torch.log(torch.softmax(logits, -1).gather(-1, targets[..., None])[..., 0])


def clipped(logits, targets):
    return nll(logits, targets).clamp(max=30)


def onehot_times(logits, targets):
    return -(F.one_hot(targets, logits.shape[-1]) * torch.log_softmax(logits, -1)).sum(-1)


def in_float32(logits, targets):
    return nll(logits.float(), targets).to(logits.dtype)


WRONG = {
    OneBuffer.apply: {"repeated_backward"},
    InPlace.apply: {"repeated_backward"},
    OnlyWithGradients.apply: {"without_gradients"},
    as_it_lies_in_memory: {"memory_layouts"},
    in_the_default_dtype: {"other_settings"},
    by_int16: {"label_dtypes"},
    negative_log_of_probabilities: {"hopeless_tokens"},
    clipped: {"hopeless_tokens"},
    onehot_times: {"impossible_classes"},
    in_float32: {"double_precision"},
    Mapped.apply: {"mapped"},
}
ASKED = set().union(*WRONG.values()) | {"one_hot", "padding", "permutation", "upstream_gradients"}


@pytest.mark.parametrize("loss", WRONG)
def test_noticed_by_exactly(loss):
    check = check_loss(loss, backend="torch", conventions=TOKENS, modes=(), invariants=ASKED)
    assert set(found(check)) == WRONG[loss], check.report()


def detached(logits, targets, weights):
    weights = weights.detach()
    return (nll(logits, targets) * weights).sum() / weights.sum().clamp(min=1e-6)


def negated(logits, targets, weights):
    return seqloss.sequence_loss(logits, targets, 2 * weights.detach() - weights)


@pytest.mark.parametrize("loss", [detached, negated])
def test_gradients_to_the_weights(loss):
    asked = ["one_hot", "padding", "weight_gradients", "negative_weights", "double_backward"]
    check = check_loss(loss, backend="torch", modes=(), invariants=asked)
    assert set(found(check)) == {"weight_gradients"}, check.report()


def test_weights_without_a_gradient_by_convention():
    check = check_loss(detached, backend="torch", conventions={"weight_gradient": False}, modes=(), invariants=QUIET)
    assert "weight_gradients" not in found(check), check.report()


def test_upstream_gradient_of_0():
    conventions = {"returns": "tokens"}
    names = ["upstream_gradients", "zero_upstream", "one_hot", "padding"]
    check = check_loss(NormalizedUpstream.apply, backend="torch", conventions=conventions, modes=(), invariants=names)
    assert set(found(check)) == {"zero_upstream"}, check.report()
