"""Nested tensors of the layout torch.jagged: the loss, and gradients that come back nested."""

import pytest
import torch

import seqloss

LENGTHS = (3, 0, 5, 1)
OFFSETS = torch.tensor([0, 3, 3, 8, 9])


def nested(values):
    return torch.nested.nested_tensor_from_jagged(values, OFFSETS)


def batch():
    """Values of logits, targets and weights of nine tokens."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 7, (9,), generator=generator)
    return torch.randn(9, 7, generator=generator), targets, torch.rand(9, generator=generator) + 0.5


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "per_sequence", "sequence_mean"])
@pytest.mark.parametrize("is_soft", [False, True])
def test_it_is_the_loss_of_packed_values(reduction, is_soft):
    logits, targets, weights = batch()
    targets = torch.rand(9, 7, generator=torch.Generator().manual_seed(1)) if is_soft else targets
    given = {"reduction": reduction, "label_smoothing": 0.1}
    wrt = ("logits", "weights", "targets")[: 2 + is_soft]
    expected, of_packed = seqloss.sequence_loss_and_grad(logits, targets, weights, cu_seqlens=OFFSETS, wrt=wrt, **given)
    loss, gradients = seqloss.sequence_loss_and_grad(*map(nested, (logits, targets, weights)), wrt=wrt, **given)
    assert loss.is_nested == (reduction == "none")
    torch.testing.assert_close(loss.values() if loss.is_nested else loss, expected, rtol=0, atol=0)
    for got, wanted in zip(gradients, of_packed, strict=True):
        assert got.is_nested and got.layout is torch.jagged
        torch.testing.assert_close(got.offsets(), OFFSETS)
        torch.testing.assert_close(got.values(), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("compiled", [False, True])
def test_autograd_gives_a_nested_gradient(compiled):
    logits, targets, weights = batch()
    given = nested(logits).detach().requires_grad_()
    loss = torch.compile(seqloss.sequence_loss, backend="aot_eager", fullgraph=True) if compiled else None
    value = (loss or seqloss.sequence_loss)(given, nested(targets), nested(weights))
    value.backward()
    expected, gradient = seqloss.sequence_loss_and_grad(logits, targets, weights, cu_seqlens=OFFSETS)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-6, atol=0)
    assert given.grad.is_nested
    torch.testing.assert_close(given.grad.values(), gradient, rtol=1e-5, atol=1e-7)


def test_a_cotangent_may_be_nested():
    logits, targets, _ = batch()
    cotangent = torch.linspace(0.5, 2, 9)
    given = {"reduction": "none"}
    _, gradient = seqloss.sequence_loss_and_grad(nested(logits), nested(targets), cotangent=nested(cotangent), **given)
    _, expected = seqloss.sequence_loss_and_grad(logits, targets, cu_seqlens=OFFSETS, cotangent=cotangent, **given)
    torch.testing.assert_close(gradient.values(), expected, rtol=0, atol=0)


def test_a_cotangent_of_another_form_is_an_error():
    logits, targets, _ = map(nested, batch())
    other = torch.nested.nested_tensor_from_jagged(torch.ones(9), torch.tensor([0, 3, 4, 8, 9]))
    given = {"reduction": "none"}
    with pytest.raises(seqloss.ShapeError, match="cotangent must have the sequence lengths of ragged logits"):
        seqloss.sequence_loss_and_grad(logits, targets, cotangent=other, **given)
    with pytest.raises(seqloss.ArgumentTypeError, match="logits are ragged but cotangent are not"):
        seqloss.sequence_loss_and_grad(logits, targets, cotangent=torch.ones(9), **given)
    with pytest.raises(seqloss.ArgumentTypeError, match="cotangent are ragged but logits are not"):
        seqloss.sequence_loss_and_grad(logits.values(), targets.values(), cu_seqlens=OFFSETS, cotangent=other, **given)


def test_another_batch_is_an_error():
    logits, targets, _ = batch()
    other = torch.nested.nested_tensor_from_jagged(targets, torch.tensor([0, 3, 4, 5, 8, 9]))
    with pytest.raises(seqloss.ShapeError, match=r"targets must have the batch size \[4\] of ragged logits, got \[5\]"):
        seqloss.sequence_loss(nested(logits), other)


def test_other_lengths_are_an_error():
    logits, targets, _ = batch()
    other = torch.nested.nested_tensor_from_jagged(targets, torch.tensor([0, 3, 4, 8, 9]))
    with pytest.raises(seqloss.ShapeError, match=r"logits, \[3, 0, 5, 1\], got \[3, 1, 4, 1\]"):
        seqloss.sequence_loss(nested(logits), other)


def test_a_narrowed_tensor_has_holes():
    logits, targets, _ = batch()
    padded, starts, lengths = torch.randn(4, 5, 7), torch.zeros(4, dtype=torch.int64), torch.tensor(LENGTHS)
    narrowed = torch.nested.narrow(padded, 1, starts, lengths, layout=torch.jagged)
    with pytest.raises(seqloss.ArgumentTypeError, match="to_padded_tensor"):
        seqloss.sequence_loss(narrowed, nested(targets))
    with pytest.raises(seqloss.ArgumentTypeError, match="targets are ragged but logits are not"):
        seqloss.sequence_loss(padded, nested(targets))
    with pytest.raises(seqloss.OptionError, match="cu_seqlens cannot be combined with ragged logits"):
        seqloss.sequence_loss(nested(logits), nested(targets), cu_seqlens=OFFSETS)


def test_functions_that_take_no_ragged_arrays_say_so():
    logits, targets, _ = batch()
    with pytest.raises(seqloss.ArgumentTypeError, match="to_padded_tensor"):
        seqloss.token_loss(nested(logits), nested(targets))


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_all_arrays_are_of_one_form(argument):
    arrays = [nested(x) if i != argument else x for i, x in enumerate(batch())]
    text = (
        "targets are ragged but logits"
        if argument == 0
        else f"logits are ragged but {['', 'targets', 'weights'][argument]}"
    )
    with pytest.raises(seqloss.ArgumentTypeError, match=text):
        seqloss.sequence_loss(*arrays)
