"""NumPy's bools are legal where Python's are: comparisons of arrays and entries of configurations come out as such."""

import numpy as np
import pytest
from row import LOGITS, TARGETS, WEIGHTS

import seqloss
from seqloss.compat import tfa


def loss(framework, targets=TARGETS, **options):
    arrays = (framework.array(x) for x in (LOGITS, targets, WEIGHTS))
    return framework.to_numpy(seqloss.sequence_loss(*arrays, **options))


@pytest.mark.parametrize("flag", ["average_across_timesteps", "average_across_batch"])
def test_flags(framework, flag):
    np.testing.assert_array_equal(loss(framework, **{flag: np.False_}), loss(framework, **{flag: False}))


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("option", ["check_labels", "exact"])
def test_options(framework, option, answer):
    np.testing.assert_array_equal(loss(framework, **{option: np.bool_(answer)}), loss(framework, **{option: answer}))


def test_false_leaves_labels_unread(framework):
    with np.errstate(all="ignore"):
        assert np.isnan(loss(framework, np.where(WEIGHTS == 0, TARGETS, -100), check_labels=np.False_))


def test_a_loss_keeps_bools_of_python():
    """Those of NumPy could not be saved with a model."""
    config = tfa.seq2seq.SequenceLoss(sum_over_timesteps=np.True_, sum_over_batch=np.True_).get_config()
    assert [type(value) for name, value in config.items() if name.startswith(("sum", "average"))] == [bool] * 4
