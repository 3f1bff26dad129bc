"""The options of the loss against the losses that PyTorch programs have: PyTorch's own, and those of three projects.

The formulas of the projects are written out as their programs have them.
"""

import itertools
import math
import pathlib

import pytest
import torch
from torch.nn import functional

import seqloss

PAD, CLASSES = 0, 9
SHAPE = (3, 5)
CLASS_WEIGHTS = torch.tensor([1, 2, 0.5, 0, 1.5, 1, 3, 0.25, 1], dtype=torch.float64)


def batch():
    """Logits [3, 5, 9] and targets, whose padding is at the end of two sequences."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(*SHAPE, CLASSES, dtype=torch.float64, generator=generator)
    targets = torch.randint(1, CLASSES, SHAPE, generator=generator)
    targets[1, 3:], targets[2, 1:] = PAD, PAD
    return logits.requires_grad_(), targets


def agree(logits, loss, expected):
    """Value and gradient, for a cotangent that is not uniform."""
    assert isinstance(loss, torch.Tensor)
    assert loss.dtype == expected.dtype == torch.float64
    assert loss.shape == expected.shape
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=torch.float64).reshape(loss.shape)
    gradients = [torch.autograd.grad(x, logits, upstream, retain_graph=True)[0] for x in (loss, expected)]
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-15)
    assert gradients[1].abs().max() > 1e-3


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("has_weight", [False, True])
@pytest.mark.parametrize("ignored", [-100, PAD, 4])
def test_cross_entropy(reduction, eps, has_weight, ignored):
    logits, targets = batch()
    if ignored == -100:
        targets = targets.masked_fill(targets == PAD, -100)
    weight = CLASS_WEIGHTS if has_weight else None
    expected = functional.cross_entropy(
        logits.flatten(0, 1),
        targets.flatten(),
        weight=weight,
        ignore_index=ignored,
        label_smoothing=eps,
        reduction=reduction,
    )
    loss = seqloss.sequence_loss(
        logits, targets, class_weights=weight, ignore_index=ignored, label_smoothing=eps, reduction=reduction
    )
    agree(logits, loss, expected.reshape(loss.shape))


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("has_weight", [False, True])
def test_cross_entropy_of_tokens(eps, has_weight):
    logits, targets = batch()
    weight = CLASS_WEIGHTS if has_weight else None
    more = {"weight": weight, "label_smoothing": eps, "reduction": "none"}
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), **more)
    loss = seqloss.token_loss(logits, targets, class_weights=weight, label_smoothing=eps)
    agree(logits, loss, expected.reshape(SHAPE))


@pytest.mark.parametrize("steps", [2, 3])
def test_cross_entropy_of_a_batch_in_steps(steps):
    """Gradient accumulation: the sum of each part by the count of the whole batch."""
    logits, targets = batch()
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=0.1)
    count = (targets != PAD).sum()
    parts = zip(logits.tensor_split(steps), targets.tensor_split(steps), strict=True)
    more = {"ignore_index": PAD, "label_smoothing": 0.1, "normalizer": count}
    agree(logits, sum(seqloss.sequence_loss(z, y, **more) for z, y in parts), expected)


def label_smoother(logits, labels, epsilon, ignore_index=-100):
    """``LabelSmoother.__call__`` of transformers.trainer_pt_utils, without the shift."""
    log_probs = -functional.log_softmax(logits, dim=-1)
    if labels.dim() == log_probs.dim() - 1:
        labels = labels.unsqueeze(-1)
    padding_mask = labels.eq(ignore_index)
    labels = torch.clamp(labels, min=0)
    nll_loss = log_probs.gather(dim=-1, index=labels)
    smoothed_loss = log_probs.sum(dim=-1, keepdim=True, dtype=torch.float64)
    nll_loss = nll_loss.masked_fill(padding_mask, 0.0)
    smoothed_loss = smoothed_loss.masked_fill(padding_mask, 0.0)
    num_active_elements = padding_mask.numel() - padding_mask.long().sum()
    nll_loss = nll_loss.sum() / num_active_elements
    smoothed_loss = smoothed_loss.sum() / (num_active_elements * log_probs.shape[-1])
    return (1 - epsilon) * nll_loss + epsilon * smoothed_loss


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.4])
def test_the_label_smoother_of_hugging_face(eps):
    logits, targets = batch()
    labels = targets.masked_fill(targets == PAD, -100)
    loss = seqloss.sequence_loss(logits, labels, ignore_index=-100, label_smoothing=eps)
    agree(logits, loss, label_smoother(logits, labels, eps))


def t5x_cross_entropy(logits, targets, weights, eps, z_loss, loss_normalizing_factor):
    """``compute_weighted_cross_entropy`` of t5x.losses; its 1e-20 is left out."""
    vocab_size = logits.shape[-1]
    confidence, low_confidence = 1 - eps, eps / (vocab_size - 1)
    normalizing_constant = 0.0
    if eps > 0:
        entropy = confidence * math.log(confidence)
        entropy += (vocab_size - 1) * low_confidence * math.log(low_confidence)
        normalizing_constant = -entropy
    soft_targets = torch.full_like(logits, low_confidence).scatter(-1, targets[..., None], confidence)
    log_z = torch.logsumexp(logits, dim=-1)
    total_loss = -(soft_targets * (logits - log_z[..., None])).sum(-1) - normalizing_constant
    total_loss = (total_loss + z_loss * log_z**2) * weights
    return total_loss.sum() / loss_normalizing_factor


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("factor", ["count", 7.0])
def test_the_loss_of_t5x(eps, z_loss, factor):
    logits, targets = batch()
    weights = (targets != PAD).double()
    factor = weights.sum() if factor == "count" else factor
    expected = t5x_cross_entropy(logits, targets, weights, eps, z_loss, factor)
    smoothing = seqloss.Smoothing(eps, off_target=True, centred=True)
    more = {"label_smoothing": smoothing, "z_loss": z_loss, "reduction": "sum", "normalizer": factor}
    agree(logits, seqloss.sequence_loss(logits, targets, weights, **more), expected)


@pytest.mark.parametrize("z_loss", [1e-4, 0.1])
@pytest.mark.parametrize("has_weight", [False, True])
def test_z_loss_is_the_square_of_logsumexp(z_loss, has_weight):
    """Beside the loss without it, times the class weight of the token."""
    logits, targets = batch()
    weight = CLASS_WEIGHTS if has_weight else None
    plain, more = (seqloss.token_loss(logits, targets, class_weights=weight, z_loss=x) for x in (0.0, z_loss))
    units = CLASS_WEIGHTS[targets] if has_weight else 1.0
    agree(logits, more, plain + units * z_loss * torch.logsumexp(logits, -1) ** 2)


def opennmt_divergence(logits, targets, eps):
    """``LabelSmoothingLoss`` of OpenNMT-py: the sum over all tokens of KL to labels smoothed without the padding."""
    output, target = functional.log_softmax(logits.flatten(0, 1), -1), targets.flatten()
    one_hot = torch.full((CLASSES,), eps / (CLASSES - 2), dtype=torch.float64)
    one_hot[PAD] = 0
    model_prob = one_hot.repeat(target.size(0), 1)
    model_prob.scatter_(1, target.unsqueeze(1), 1 - eps)
    model_prob.masked_fill_((target == PAD).unsqueeze(1), 0)
    return functional.kl_div(output, model_prob, reduction="sum")


@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_the_divergence_of_opennmt(eps):
    logits, targets = batch()
    smoothing = seqloss.Smoothing(eps, off_target=True, centred=True, exclude=(PAD,))
    loss = seqloss.sequence_loss(logits, targets, label_smoothing=smoothing, ignore_index=PAD, reduction="sum")
    agree(logits, loss, opennmt_divergence(logits, targets, eps))


def test_the_formulas_differ():
    """So that none of the tests above passes for another formula."""
    logits, targets = batch()
    weights = (targets != PAD).double()
    found = [
        label_smoother(logits, targets, 0.1, PAD),
        t5x_cross_entropy(logits, targets, weights, 0.1, 0.0, weights.sum()),
        t5x_cross_entropy(logits, targets, weights, 0.1, 1e-4, weights.sum()),
        opennmt_divergence(logits, targets, 0.1) / weights.sum(),
    ]
    assert all(abs(x - y) > 1e-5 for x, y in itertools.combinations(found, 2))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("has_weight", [False, True])
def test_cross_entropy_of_probabilities(reduction, eps, has_weight):
    """With class weights PyTorch's mean divides by the number of tokens, which is a normalizer here."""
    logits, _ = batch()
    targets = torch.rand(*SHAPE, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets.requires_grad_()
    weight = CLASS_WEIGHTS if has_weight else None
    given = {"label_smoothing": eps, "reduction": reduction}
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), weight=weight, **given)
    if has_weight and reduction == "mean":
        given.update(reduction="sum", normalizer=math.prod(SHAPE))
    loss = seqloss.sequence_loss(logits, targets, class_weights=weight, **given)
    loss = loss.flatten() if reduction == "none" else loss
    agree(logits, loss, expected)
    agree(targets, loss, expected)


# --- torch.nn.functional.linear_cross_entropy, which is new in torch 2.13


def test_a_nan_behind_the_mask_reaches_the_kernel_there_and_not_here(capsys):
    """The program of the page."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "linear.md").read_text(encoding="utf-8")
    before, _, _ = page.partition("\n```\n\nprints `True` and `False`")
    exec(compile(before.rpartition("```python\n")[2], "docs/linear.md", "exec"), {})
    assert capsys.readouterr().out == "True\nFalse\n"
