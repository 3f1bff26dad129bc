"""Every public function in all frameworks in one process: the same answer in each two of them."""

import functools
import itertools

import family_suite
import numpy as np
import pytest

from seqloss.testing import families, frameworks, tolerances

# Each beside the next: what is the same in neighbours is the same in all.
PAIRS = list(itertools.pairwise(frameworks.NAMES))
ROWS = {row.name: row for row in families.FAMILIES}
# All in float32, and each in one of the other dtypes.
CHOSEN = [
    *(("float32", name) for name in ROWS),
    *((("float64", "float16")[i % 2], name) for i, name in enumerate(ROWS)),
]
# JAX compiles each, and its own suite holds it against the oracle: of the other dtypes it has two rows of four.
FEWER = {*CHOSEN[: len(ROWS)], *(pair for i, pair in enumerate(CHOSEN[len(ROWS) :]) if i % 4 < 2)}
EVERY = [(*pair, *chosen) for chosen in CHOSEN for pair in PAIRS if "jax" not in pair or chosen in FEWER]


@functools.cache
def results(name, row, dtype):
    """Value and gradients as (NumPy array, dtype), and what they may be off by: (scale, roundings) of each."""
    driver, family = frameworks.load(name), ROWS[row]
    with driver.precision(dtype), np.errstate(all="ignore"):
        native = [driver.array(x, dtype if x.dtype == np.float64 else None) for x in family.arrays()]
        expected = family.expected(*map(driver.to_numpy, native))
        value, gradients = family_suite.call(driver, "eager", family, native, None)
        arrays = [value, *(driver.dense(x) for x in gradients or ())]
        sizes = [expected.scale, *expected.scales]
        roundings = [1, *(expected.roundings or (1,) * len(family.wrt))]
        parts = zip(arrays, sizes, roundings, strict=False)
        return [(driver.to_numpy(x), driver.dtype(x), size, often) for x, size, often in parts], expected.bound


@pytest.mark.parametrize("one, other, dtype, row", EVERY, ids=["-".join(row) for row in EVERY])
def test_same_shapes_dtypes_zeros_and_values(one, other, dtype, row):
    (left, bound), (right, _) = results(one, row, dtype), results(other, row, dtype)
    # NumPy has the value alone.
    assert "numpy" in (one, other) or len(left) == len(right)
    for (a, a_dtype, scale, often), (b, b_dtype, _, _) in zip(left, right, strict=False):
        is_narrowed = "jax" in (one, other) and dtype != "float64" and ROWS[row].result in ("int64", "float64")
        assert (a.shape, a_dtype) == (b.shape, b_dtype) or (is_narrowed and a.shape == b.shape)
        if a.dtype.kind == "i":
            np.testing.assert_array_equal(a, b)
            continue
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        dead = (a == 0) & (scale == 0)
        np.testing.assert_array_equal(b[dead], 0)
        # Each may be off by its bound, to either side.
        allowed = 2 * (often if a_dtype == "float16" else bound)
        narrow = b_dtype if is_narrowed and other == "jax" else a_dtype
        assert tolerances.ulps(a, b, narrow, scale).max(initial=0) <= allowed
