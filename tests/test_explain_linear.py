"""explain_mismatch of losses that make the logits themselves."""

import numpy as np
import pytest

import seqloss
from seqloss.testing import explain_mismatch

RNG = np.random.default_rng(0)
WEIGHTS = (np.arange(7) < np.array([7, 4, 2])[:, None]).astype(np.float32)
INPUTS = {
    "hidden": RNG.normal(0, 1, (3, 7, 16)).astype(np.float32),
    "kernel": RNG.normal(0, 1, (16, 33)).astype(np.float32),
    "targets": RNG.integers(0, 33, (3, 7)),
    "weights": WEIGHTS,
    "bias": RNG.normal(0, 1, 33).astype(np.float32),
}
INPUTS["hidden"][WEIGHTS == 0] = np.nan


def test_denominator_of_a_linear_loss():
    right = seqloss.linear_sequence_loss(**INPUTS)
    found = explain_mismatch(right * np.float32(WEIGHTS.sum() / WEIGHTS.size), right, INPUTS)
    assert [str(cause) for cause in found.causes] == ["mean over padding (mine)"], found.report()


def test_same():
    loss = seqloss.linear_sequence_loss(**INPUTS, chunk=3)
    assert explain_mismatch(loss, seqloss.linear_sequence_loss(**INPUTS), INPUTS).verdict == "same"


@pytest.mark.parametrize(
    "changed, error, text",
    [
        ({"kernel": None}, seqloss.ArgumentTypeError, "lack the kernel"),
        ({"kernel": INPUTS["kernel"].T}, seqloss.ShapeError, "transpose"),
        ({"bias": np.zeros(3)}, seqloss.ShapeError, "bias has the shape"),
        ({"hidden": INPUTS["hidden"][0]}, seqloss.ShapeError, "expected 3 axes"),
        ({"kernel": INPUTS["kernel"].astype(int)}, seqloss.DTypeError, "expected floats"),
    ],
)
def test_what_is_no_layer(changed, error, text):
    with pytest.raises(error, match=text):
        explain_mismatch(1.0, 2.0, {**INPUTS, **changed})
