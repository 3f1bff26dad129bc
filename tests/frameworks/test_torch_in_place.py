"""A loss may be changed in place, as that of PyTorch may: ``loss /= steps``, ``losses[mask] = 0``."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import seqloss
from seqloss.testing import families

# One of each function that has gradients to something, and results of more than one number where there are such.
ROWS = {}
for _row in families.FAMILIES:
    if _row.wrt and "eager" not in _row.refusals:
        ROWS.setdefault(_row.function, _row)


def given(row):
    """The arrays of a row, in float32."""
    return [torch.from_numpy(np.array(x, "float32" if x.dtype == np.float64 else None)) for x in row.arrays()]


def leaves(arrays, wrt):
    return [x.detach().clone().requires_grad_() if i in wrt else x for i, x in enumerate(arrays)]


def scaled(value):
    value *= 2
    return value


def divided(value):
    value /= 4
    return value


def emptied(value):
    value[...] = 0
    return value


CHANGES = {"times": (scaled, 2), "over": (divided, 0.25), "set": (emptied, 0)}


class Mine(torch.Tensor):
    """A subclass, which stands for something else than its storage."""


def plainly(function, arrays):
    return function(*arrays)


def as_subclass(function, arrays):
    return function(*[x.as_subclass(Mine) if x.is_floating_point() else x for x in arrays])


def counted(function, arrays):
    with FlopCounterMode(display=False):
        return function(*arrays)


def compiled(function, arrays):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")(*arrays)


WAYS = {"plain": plainly, "subclass": as_subclass, "flops": counted, "compile": compiled}


def gradients(value, inputs):
    total = value.as_subclass(torch.Tensor).sum()
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in inputs]
    found = torch.autograd.grad(total, inputs, materialize_grads=True)
    return [x.to_dense() if x.layout is not torch.strided else x.as_subclass(torch.Tensor) for x in found]


def check(function, arrays, wrt, run, change):
    change, factor = CHANGES[change]
    expected = leaves(arrays, wrt)
    slopes = gradients(factor * function(*expected), [expected[i] for i in wrt])
    actual = leaves(arrays, wrt)
    value = change(run(function, actual))
    for got, wanted in zip(gradients(value, [actual[i] for i in wrt]), slopes, strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True)


@pytest.mark.parametrize("way", ["plain", "subclass", "flops"])
@pytest.mark.parametrize("function", ROWS)
def test_a_function_of_the_family(function, way):
    row = ROWS[function]
    check(row.call, given(row), row.wrt, WAYS[way], "times")


LOSSES = {
    "sequence": lambda z, y, w: seqloss.sequence_loss(z, y, w),
    "tokens of a sequence": lambda z, y, w: seqloss.sequence_loss(z, y, w, False, False),
    "token": lambda z, y, w: seqloss.token_loss(z, y),
    "exact": lambda z, y, w: seqloss.sequence_loss(z, y, w, False, False, exact=True),
    "exact token": lambda z, y, w: seqloss.token_loss(z, y, exact=True),
}


def batch():
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.normal(0, 2, (2, 3, 5)).astype("float32"))
    y = torch.from_numpy(rng.integers(0, 5, (2, 3)))
    return [z, y, torch.tensor([[1.0, 0.0, 0.5], [2.0, 1.0, 1.0]])]


@pytest.mark.parametrize(
    ("way", "change"), [("plain", change) for change in CHANGES] + [(way, "times") for way in WAYS if way != "plain"]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_of_sequences(loss, way, change):
    wrt = (0,) if "token" in loss.split() else (0, 2)
    check(LOSSES[loss], batch(), wrt, WAYS[way], change)


@pytest.mark.parametrize("function", ["softmax_cross_entropy_with_logits", "sigmoid_cross_entropy_with_logits"])
def test_a_compiled_function_of_the_family(function):
    row = ROWS[function]
    check(row.call, given(row), row.wrt, compiled, "times")


@pytest.mark.parametrize("loss", LOSSES)
def test_inside_of_a_compiled_function(loss):
    wrt = (0,) if "token" in loss.split() else (0, 2)
    function = LOSSES[loss]
    expected, actual = leaves(batch(), wrt), leaves(batch(), wrt)
    slopes = gradients(function(*expected) / 4, [expected[i] for i in wrt])
    value = compiled(lambda *arrays: divided(function(*arrays)), actual)
    for got, wanted in zip(gradients(value, [actual[i] for i in wrt]), slopes, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("function", [*ROWS, *LOSSES])
def test_on_another_device(function):
    """The operations of tensors that are not on the CPU: of a meta tensor there are no values, but the graph is."""
    if function in ROWS:
        row = ROWS[function]
        call, arrays, wrt = row.call, given(row), row.wrt
    else:
        call, arrays, wrt = LOSSES[function], batch(), (0,)
    moved = leaves([x.to("meta") for x in arrays], wrt)
    value = call(*moved)
    value *= 2
    value.sum().backward()
    assert [moved[i].grad.shape for i in wrt] == [arrays[i].shape for i in wrt]
