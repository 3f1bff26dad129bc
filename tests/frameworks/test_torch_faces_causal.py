"""``seqloss.torch.causal_lm_loss``, called as a trainer calls it. ``tests/engines`` has the trainer itself."""

import collections

import pytest
import torch
from torch.nn import functional

import seqloss
from seqloss import Smoothing
from seqloss.torch import causal_lm, causal_lm_loss

CLASSES = 7


def batch(dtype=torch.float32, batch=3, time=5, classes=CLASSES):
    generator = torch.Generator().manual_seed(2)
    logits = (2 * torch.randn(batch, time, classes, generator=generator)).to(dtype).requires_grad_()
    labels = torch.randint(classes, (batch, time), generator=generator)
    labels[1, 3:], labels[2, :1] = -100, -100
    return logits, labels


def shifted(logits, labels, count=None, shift=True, **options):
    """The loss of Hugging Face: ``ForCausalLMLoss``, with the smoothing of PyTorch."""
    logits = logits.float()
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    reduction = "mean" if count is None else "sum"
    loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction=reduction, **options)
    return loss if count is None else loss / count


def agree(logits, loss, expected):
    assert loss.dtype == expected.dtype == torch.float32
    assert loss.shape == ()
    gradients = [torch.autograd.grad(x, logits)[0] for x in (loss, expected)]
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-5 if logits.dtype is torch.float32 else 1e-2, atol=1e-7)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize(
    "count", [None, 9, torch.tensor(9), torch.tensor(9.0)], ids=["none", "int", "integer", "float"]
)
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_loss_of_hugging_face(eps, count, shift):
    logits, labels = batch()
    loss = causal_lm_loss({"logits": logits}, labels, num_items_in_batch=count, label_smoothing=eps, shift=shift)
    agree(logits, loss, shifted(logits, labels, count, shift, label_smoothing=eps))


@pytest.mark.parametrize("shift", [True, False])
def test_lengths_and_weights_are_those_of_the_labels_as_given(shift):
    """What is behind the end of a sequence is predicted by nobody, whatever its label."""
    logits, labels = batch()
    lengths, weights = torch.tensor([4, 3, 5]), torch.rand(labels.shape)
    behind = torch.arange(labels.shape[1]) >= lengths[:, None]
    loss = causal_lm_loss(logits, labels.where(~behind, 1), lengths=lengths, weights=weights, shift=shift)
    at, of = (slice(-1), slice(1, None)) if shift else (slice(None), slice(None))
    kept = (weights * ~behind)[:, of] * (labels[:, of] != -100)
    expected = seqloss.sequence_loss(logits[:, at], labels[:, of].where(kept != 0, 0), kept)
    agree(logits, loss, expected)


def test_packed_sequences_do_not_predict_each_other():
    logits, labels = batch()
    labels = labels.where(labels >= 0, 2)
    packed = causal_lm_loss(logits.flatten(0, 1), labels.flatten(), cu_seqlens=torch.tensor([0, 5, 10, 15]))
    agree(logits, packed, causal_lm_loss(logits, labels))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    logits, labels = batch(dtype)
    agree(logits, causal_lm_loss(logits, labels, 9), shifted(logits, labels, 9))


class Output(collections.OrderedDict):
    """As ``transformers.ModelOutput`` is: a dict that yields its values when it is made a tuple."""


FORMS = {
    "dict": lambda logits: {"loss": None, "logits": logits},
    "ModelOutput": lambda logits: Output(logits=logits, past_key_values=None),
    "tuple": lambda logits: (logits, "past"),
    "tensor": lambda logits: logits,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_outputs(form):
    logits, labels = batch()
    agree(logits, causal_lm_loss(FORMS[form](logits), labels), shifted(logits, labels))


@pytest.mark.parametrize(
    "outputs, said",
    [
        ({"loss": 1}, "dict with the keys 'loss';"),
        ({}, "dict with the keys none;"),
        ((), "tuple;"),
        (None, "NoneType;"),
        ([[[0.0]]], "list;"),
    ],
)
def test_outputs_without_logits(outputs, said):
    with pytest.raises(seqloss.ArgumentTypeError, match=f"^outputs must have logits, got a {said} pass what a model"):
        causal_lm_loss(outputs, batch()[1])


@pytest.mark.parametrize(
    "more, error",
    [
        ({"labels": None}, seqloss.ArgumentTypeError),
        ({"labels": None, "shift": False}, seqloss.ArgumentTypeError),
        ({"shift": 1}, seqloss.ArgumentTypeError),
        ({"label_smoothing": 1.0}, seqloss.OptionError),
        ({"num_items_in_batch": torch.tensor([[9], [9]])}, seqloss.ShapeError),
        ({"reduction": "sum"}, TypeError),
        ({"normalizer": 3}, TypeError),
    ],
)
def test_refusals(more, error):
    logits, labels = batch()
    with pytest.raises(error):
        causal_lm_loss(logits, **({"labels": labels} | more))


def test_ignore_index():
    logits, labels = batch()
    pad = labels.masked_fill(labels == -100, 3)
    agree(logits, causal_lm_loss(logits, pad, ignore_index=3), shifted(logits, pad, ignore_index=3))
    everything = labels.masked_fill(labels == -100, 0)
    agree(logits, causal_lm_loss(logits, everything, ignore_index=None), shifted(logits, everything))


@pytest.mark.parametrize(
    "options",
    [{"z_loss": 0.1}, {"softcap": 1.0}, {"exact": True}, {"label_smoothing": Smoothing(0.1, off_target=True)}],
)
def test_further_options(options):
    logits, labels = batch()
    loss = causal_lm_loss(logits, labels, 9, **options)
    targets, weights = seqloss.next_token(labels, ignore_index=-100)
    expected = seqloss.sequence_loss(logits, targets, weights, reduction="sum", normalizer=9, **options)
    assert torch.equal(loss, expected)


def test_rows_without_a_label():
    """Where nothing is predicted the loss is 0, not NaN, and the last position has no gradient."""
    logits, labels = batch()
    loss = causal_lm_loss(logits, labels.masked_fill(torch.ones_like(labels, dtype=torch.bool), -100))
    assert loss == 0
    assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros_like(logits))
    gradient = torch.autograd.grad(causal_lm_loss(logits, labels), logits)[0]
    assert (gradient[:, -1] == 0).all()
    assert (gradient[0, :-1] != 0).all()


def test_the_trainer_may_multiply_the_loss_in_place():
    logits, labels = batch()
    loss = causal_lm_loss(logits, labels, 9)
    loss *= 2
    expected = torch.autograd.grad(2 * causal_lm_loss(logits, labels, 9), logits)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected)


@pytest.mark.parametrize("shift", [True, False])
def test_logits_are_not_copied(monkeypatch, shift):
    """They go to the loss, which keeps no copy either, as the model returned them."""
    seen = []
    monkeypatch.setattr(causal_lm, "sequence_loss", lambda logits, *others, **options: seen.append(logits))
    logits, labels = batch(torch.bfloat16)
    causal_lm_loss({"logits": logits}, labels, 9, shift=shift)
    assert len(seen) == 1
    assert seen[0] is logits


def test_compiled():
    torch.compiler.reset()
    logits, labels = batch()
    compiled = torch.compile(causal_lm_loss, fullgraph=True, backend="aot_eager")
    agree(logits, compiled({"logits": logits}, labels, torch.tensor(9)), shifted(logits, labels, 9))
