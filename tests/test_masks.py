"""sequence_mask: the values of tf.sequence_mask, in every framework."""

import numpy as np
import pytest

import seqloss

LENGTHS = {
    "vector": np.array([1, 3, 0]),
    "matrix": np.array([[2, 1], [0, 4]]),
    "scalar": np.array(2),
    "negative": np.array([-1, 2]),
    "none": np.zeros(0, "int64"),
    "narrow": np.array([1, 127], "int8"),
}


@pytest.mark.parametrize("dtype", ["bool", "float32", "int32"])
@pytest.mark.parametrize("maxlen", [None, 0, 2, 300])
@pytest.mark.parametrize("name", LENGTHS)
def test_values(framework, name, maxlen, dtype):
    lengths = LENGTHS[name]
    mask = seqloss.sequence_mask(framework.array(lengths), maxlen, dtype)
    width = max(0, int(lengths.max(initial=0))) if maxlen is None else maxlen
    assert framework.is_array(mask)
    assert framework.dtype(mask) == dtype
    expected = (np.arange(width) < lengths[..., None].astype("int64")).astype(dtype)
    np.testing.assert_array_equal(framework.to_numpy(mask), expected)


def test_a_length_of_2_to_the_31_is_not_wrapped(framework):
    lengths = framework.array(np.array([2**31, 1], "uint32"))
    mask = framework.to_numpy(seqloss.sequence_mask(lengths, 3))
    np.testing.assert_array_equal(mask, [[True, True, True], [True, False, False]])


def test_a_dtype_is_named_in_full():
    with pytest.raises(seqloss.DTypeError, match=r"must name a bool, integer or float dtype .* got 'other\.bool'"):
        seqloss.sequence_mask([1], dtype="other.bool")


def test_a_dtype_that_the_framework_lacks(python):
    """In a process of its own: where ml_dtypes is loaded, NumPy has bfloat16."""
    program = """
import seqloss
try:
    seqloss.sequence_mask([1], dtype="bfloat16")
except seqloss.DTypeError as error:
    print(error)
"""
    message = python(program)
    assert message.startswith("the framework of lengths has no dtype bfloat16: ")
    assert message.endswith("; choose another dtype\n")
