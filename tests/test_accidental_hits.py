"""Which candidates are true classes of an example."""

import numpy as np
import pytest
from test_samplers import TRUE

import seqloss
from seqloss import samplers


def hits(framework, true_classes, candidates):
    results = samplers.compute_accidental_hits(
        framework.array(np.array(true_classes)), framework.array(np.array(candidates)), len(true_classes[0])
    )
    assert all(framework.is_array(x) for x in results)
    indices, ids, weights = (framework.to_numpy(x) for x in results)
    assert (indices.dtype, weights.dtype, weights.shape) == ("int32", "float32", indices.shape)
    assert ids.dtype == ("int32" if framework.name == "jax" else "int64")
    assert (weights == np.finfo("float32").min).all()
    return list(zip(indices.tolist(), ids.tolist(), strict=True))


def test_hits_row_by_row(framework):
    assert hits(framework, [[3, 1], [2, 1]], [1, 2, 3]) == [(0, 2), (0, 0), (1, 1), (1, 0)]


def test_repeated_candidates_are_hit_at_the_last_and_repeated_true_classes_twice(framework):
    """As TensorFlow does."""
    assert hits(framework, [[1, 1], [0, 1]], [1, 1, 3]) == [(0, 1), (0, 1), (1, 1)]
    assert hits(framework, [[3, 1], [2, 1]], [1, 2, 3, 1]) == [(0, 2), (0, 3), (1, 1), (1, 3)]


def test_many_repeated_candidates(framework):
    candidates = np.random.default_rng(1).integers(5, size=1000)
    last = {k: int(np.flatnonzero(candidates == k)[-1]) for k in range(5)}
    assert hits(framework, [[k] for k in range(5)], candidates) == list(last.items())


def test_no_hits(framework):
    assert hits(framework, [[9, -1]], [1, 2]) == []
    assert hits(framework, [[-1, 0]], [5]) == []


def test_candidates_may_be_host_values_but_no_other_array(framework):
    indices, _, _ = samplers.compute_accidental_hits(framework.array(TRUE), [3, 7], 2)
    assert framework.to_numpy(indices).tolist() == [0, 1]
    if framework.name == "numpy":
        return
    with pytest.raises(seqloss.MixedBackendsError, match="true_classes is a numpy array but sampled_candidates is"):
        samplers.compute_accidental_hits(TRUE, framework.array([3, 7]), 2)
