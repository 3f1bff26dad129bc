"""Arrays of any two frameworks can be compared."""

import itertools

import numpy as np
import pytest

from seqloss.testing import compare, frameworks

PAIRS = list(itertools.product(frameworks.NAMES, repeat=2))
X = np.array([[1.5, 0.0, -0.1], [np.nan, np.inf, -np.inf]], np.float32)


@pytest.mark.parametrize("one, other", PAIRS, ids=["-".join(pair) for pair in PAIRS])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_two_frameworks(one, other, dtype):
    x = X if dtype.startswith("float") else np.nan_to_num(X, posinf=3, neginf=-3)
    x = x.astype(dtype)
    a, e = frameworks.load(one).array(x), frameworks.load(other).array(x)
    result = compare(a, e)
    assert result.same, result
    assert (result.actual.framework, result.expected.framework) == (one, other)
    assert compare(a, e, check_framework=True).same is (one == other)
    wrong = x.copy()
    wrong[0, 0] = 0
    assert not compare(a, frameworks.load(other).array(wrong)).same


HALF = [pair for pair in PAIRS if "numpy" not in pair]


@pytest.mark.parametrize("one, other", HALF, ids=["-".join(pair) for pair in HALF])
def test_bfloat16(one, other):
    a, e = (frameworks.load(name).array(X, "bfloat16") for name in (one, other))
    result = compare(a, e, bound=0)
    assert result.same, result
    assert result.actual.dtype == result.expected.dtype == "bfloat16"
