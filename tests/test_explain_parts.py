"""What explain_mismatch accepts and refuses, and the parts that it is made of."""

import json

import explained
import numpy as np
import pytest
from explained import OPTIONS, RIGHT
from explaining import KNOWN, SINGLES, batch, told
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloss.core.errors import ArgumentTypeError, DTypeError, OptionError, ShapeError
from seqloss.testing import oracle
from seqloss.testing.explain import Explanation, digits, explain_mismatch, half, inputs
from seqloss.testing.explain.causes import costs

PROFILE = settings(max_examples=12, deadline=None, derandomize=True, database=None)


# Arguments.


def test_inputs_by_name_and_without_weights():
    logits, targets, _ = batch()
    by_name = explain_mismatch(1.0, 2.0, {"logits": logits, "targets": targets})
    assert by_name == explain_mismatch(1.0, 2.0, (logits, targets, np.ones((10, 7), bool)))
    assert isinstance(by_name, Explanation)


def test_labels_behind_the_mask_are_free():
    hidden = batch()._replace(targets=np.where(batch().weights == 0, -100, batch().targets))
    summed = explained.loss(batch(), (*RIGHT[:2], "sum", RIGHT[3]))
    assert told(explain_mismatch(explained.loss(batch()), summed, hidden)) == [["sum"]]


@pytest.mark.parametrize("logit", [np.inf, -np.inf, np.nan])
def test_what_is_masked_may_be_infinite(logit):
    """Without a warning: a number that is not finite counts for nothing there."""
    hidden = batch()._replace(logits=batch().logits.copy())
    tokens = batch().weights == 0
    hidden.logits[tokens, batch().targets[tokens]] = logit
    assert told(explain_mismatch(explained.loss(batch()), explained.loss(batch()) / np.log(2), hidden)) == [
        ["base-2 logarithms"]
    ]


def test_micro_batches_of_any_sizes():
    sizes = [1, 7, 2]
    nll = explained.COSTS["no smoothing"](*batch()[:2])
    parts = zip(np.split(nll, np.cumsum(sizes)[:-1]), np.split(batch().weights, np.cumsum(sizes)[:-1]), strict=True)
    theirs = np.mean([explained.mean(n, w) for n, w in parts])
    found = explain_mismatch(explained.loss(batch()), theirs, batch(), micro_batches=sizes)
    assert told(found) == [["mean of micro-batch means"]]


@pytest.mark.parametrize(
    "error, match, arguments, options",
    [
        (ShapeError, r"mine has the shape \[2\]", (np.ones(2), 1.0), {}),
        (DTypeError, "theirs must be a float, integer or bool array, got complex128", (1.0, np.complex128(1)), {}),
        (DTypeError, "mine is of dtype bool; expected a real number", (True, 1.0), {}),
        (ShapeError, r"expected \[batch, time, classes\]", (1.0, 2.0, (np.ones((2, 3)), np.ones((2, 3), int))), {}),
        (ShapeError, r"targets have the shape \[3, 2\]", (1.0, 2.0, (np.ones((2, 3, 4)), np.ones((3, 2), int))), {}),
        (DTypeError, "targets are of dtype float64", (1.0, 2.0, (np.ones((2, 3, 4)), np.ones((2, 3)))), {}),
        (DTypeError, "logits are of dtype int64", (1.0, 2.0, (np.ones((2, 3, 4), int), np.ones((2, 3), int))), {}),
        (
            DTypeError,
            "weights must be a float, integer or bool array",
            (1.0, 2.0, (np.ones((2, 3, 4)), np.ones((2, 3), int), np.ones((2, 3)) * 1j)),
            {},
        ),
        (ArgumentTypeError, "inputs lack", (1.0, 2.0, {"logits": np.ones((2, 3, 4))}), {}),
        (ArgumentTypeError, r"inputs hold \['labels'\]", (1.0, 2.0, {"labels": 1}), {}),
        (ArgumentTypeError, "neither a mapping nor", (1.0, 2.0, 3), {}),
        (OptionError, "world_size is 0", (1.0, 2.0), {"world_size": 0}),
        (OptionError, "accumulation_steps is True", (1.0, 2.0), {"accumulation_steps": True}),
        (OptionError, "pad_id is 0.5", (1.0, 2.0), {"pad_id": 0.5}),
        (OptionError, "label_smoothing is 1", (1.0, 2.0), {"label_smoothing": 1}),
        (OptionError, r"micro_batches is \[3, 4\].*the batch, 10", (1.0, 2.0), {"micro_batches": [3, 4]}),
        (OptionError, "micro_batches is 0", (1.0, 2.0), {"micro_batches": 0}),
        (OptionError, "softcap is 0", (1.0, 2.0), {"softcap": 0}),
        (OptionError, "temperature is -1", (1.0, 2.0), {"temperature": -1}),
        (OptionError, "z_loss is inf", (1.0, 2.0), {"z_loss": np.inf}),
        (OptionError, "rtol is 0", (1.0, 2.0), {"rtol": 0}),
    ],
)
def test_what_is_refused(error, match, arguments, options):
    mine, theirs, given_inputs = (*arguments, batch())[:3]
    with pytest.raises(error, match=match):
        explain_mismatch(mine, theirs, given_inputs, **options)


# The parts.


@PROFILE
@given(
    st.sampled_from(SINGLES),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(2, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_no_input_is_too_small(names, rows, time, classes, seed, dtype):
    """Whatever the shapes, there is an outcome, and what it says fits in JSON and on the screen."""
    small = explained.draw(seed, dtype, rows, time, classes)
    with np.errstate(all="ignore"):
        found = explain_mismatch(1.25, explained.loss(batch(), names), small, **OPTIONS)
    assert 0 <= found.confidence <= 1
    assert json.loads(json.dumps(found.as_dict()))["verdict"] == found.verdict
    assert found.report().startswith("mine")


@pytest.mark.parametrize("spread_over, at_label", [(0, 1 - 0.1 + 0.1 / 11), (1, 0.9), (2, 0.9)])
def test_smoothing_is_the_oracles_loss_of_soft_labels(spread_over, at_label):
    labels = np.full(batch().logits.shape, 0.1 / (11 - spread_over), oracle.WIDE)
    np.put_along_axis(labels, batch().targets[..., None], oracle.WIDE(at_label), -1)
    grid, _ = inputs.read(batch())
    smooth = costs.soft(spread_over)(costs.once(grid, KNOWN), KNOWN).nll
    np.testing.assert_allclose(smooth, oracle.soft_tokens(batch().logits, labels).nll, rtol=1e-14)
    np.testing.assert_allclose(costs.own(grid), oracle.tokens(*batch()[:2]).nll, rtol=1e-14)


@pytest.mark.parametrize("dtype, rounded", [("bfloat16", explained.bfloat16), ("float16", explained.float16)])
def test_half_precision_sums(dtype, rounded):
    x = np.random.default_rng(0).uniform(0, 3, (4, 400)).astype(np.float32)
    x[0] = 1
    x[1, :2] = 256, 1
    x[2, :4] = 257, 259, 2049, 2051
    np.testing.assert_array_equal(half.rounded(x, dtype), rounded(x))
    np.testing.assert_array_equal(half.one_by_one(x, dtype), [explained.one_by_one(row, rounded) for row in x])
    assert half.one_by_one(np.ones((1, 0)), dtype) == 0


@pytest.mark.parametrize(
    "value, kind",
    [
        (0.1234567890123, "float64"),
        (float(np.float32(0.1)), "float32"),
        (np.float32(0.1), "float32"),
        (float(np.float16(0.1)), "float16"),
        (3.140625, "bfloat16"),
        (3.1416, "5 digits"),
        (np.float32(2.5), "bfloat16"),
        (np.float16(0.1), "float16"),
    ],
)
def test_a_number_shows_where_it_comes_from(value, kind):
    assert digits.number("mine", value).kind == kind


def test_arrays_of_a_framework_are_read_in_their_own_dtype(framework):
    dtype = "bfloat16" if "bfloat16" in framework.DTYPES else "float16"
    given = [framework.array(batch().logits, dtype), framework.array(batch().targets)]
    grid, name = inputs.read(given)
    assert name == dtype
    np.testing.assert_array_equal(grid.logits, framework.to_numpy(given[0]))
    loss = framework.array(np.array(0.1), dtype)
    assert digits.number("mine", loss)[:2] == (framework.to_numpy(loss), dtype)
