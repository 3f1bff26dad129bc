"""The gradient of a chunk of logits is written where these are: the same bits as in memory of its own."""

import numpy as np
import pytest

from seqloss.backends import numpy as backend
from seqloss.core.contract import Cotangents, Spec

OPTIONS = {
    "plain": Spec("float32"),
    "capped": Spec("float32", softcap=3.0),
    "smoothed": Spec("float32", unl=True, lse=True),
    "all": Spec("float32", unl=True, lse=True, softcap=3.0),
    "float64": Spec("float64", unl=True, lse=True, softcap=3.0),
}


@pytest.mark.parametrize("scale", [1.0, 1e-30], ids=["usual", "tiny"])
@pytest.mark.parametrize("classes", [5, 64, 65, 300, 1500])
@pytest.mark.parametrize("options", OPTIONS)
def test_gradient_in_the_place_of_the_logits(options, classes, scale):
    rng, spec, rows = np.random.default_rng(0), OPTIONS[options], 37
    dtype = np.dtype(spec.dtype)
    logits = rng.normal(0, 3, (rows, classes)).astype(dtype)
    targets, active = rng.integers(0, classes, rows), rng.integers(0, 3, rows) > 0
    made = [(rng.normal(size=rows) * scale).astype(dtype) * active for _ in range(3)]
    cotangents = Cotangents(made[0], made[1] if spec.lse else None, made[2] if spec.unl else None)
    prior = np.full(classes, 1 / classes, dtype) if spec.unl else None
    given = cotangents, logits, targets, active, prior, spec
    expected, slope = backend.token_statistics_and_pullback(*given)
    shared = logits.copy()
    found, there = backend.token_statistics_and_pullback(cotangents, shared, *given[2:], None, shared)
    for one, other in zip(
        (found.nll, found.lse, found.unl, there), (expected.nll, expected.lse, expected.unl, slope), strict=True
    ):
        np.testing.assert_array_equal(one, other)
