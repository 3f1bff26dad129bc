"""Comparing what torch has beside plain tensors."""

import numpy as np
import pytest
import torch

import seqloss
from seqloss.testing import compare

X = np.array([[1.5, 0.0], [np.nan, 0.1]], np.float32)


def test_a_batched_tensor_has_no_values():
    with pytest.raises(seqloss.UnreadableError, match="expected has no values to read"):
        torch.func.vmap(lambda x: compare(X, x).same)(torch.tensor(X))


def test_other_forms_are_refused():
    with pytest.raises(seqloss.ArgumentTypeError, match=r"actual is a Tensor, not a dense array; pass actual.to_dense"):
        compare(torch.tensor(X).to_sparse(), X)
    with pytest.raises(seqloss.ArgumentTypeError, match="actual is a list that holds a Tensor; stack it"):
        compare([torch.tensor(1.0)], [1.0])
    with pytest.raises(seqloss.UnreadableError, match="actual has no values to read"):
        compare(torch.tensor(X, device="meta"), X)
    with pytest.raises(seqloss.DTypeError, match="got float8_e4m3fn; cast it first"):
        compare(torch.tensor(X).to(torch.float8_e4m3fn), X)


def test_gradients_and_graphs_are_left_alone():
    x = torch.tensor(X, dtype=torch.bfloat16, requires_grad=True)
    y = x * 2
    assert compare(y, (x.detach() * 2)).same
    y.sum().backward()
    assert compare(x.grad, torch.full_like(x.grad, 2)).same
    assert compare(x.grad, np.full((2, 2), 2.0)).problems == ("dtype",)
