"""What TensorFlow raised, and what the compat modules do in the same call.

``errors.json`` holds calls that failed in TensorFlow 1.15.5 or Addons 0.23, as Python expressions (README.md tells what
the names in them stand for). Each is evaluated here, against the compat module of the release that it failed in.
"""

import collections
import json
import pathlib
import types

import numpy as np
import pytest

import seqloss
from seqloss.compat import tf1, tfa

ROWS = json.loads((pathlib.Path(__file__).parent / "errors.json").read_text(encoding="utf-8"))
SYSTEMS = {"115": tf1.contrib.seq2seq, "115e": tf1.contrib.seq2seq, "tfa": tfa.seq2seq}
IDS = collections.defaultdict(list)
for row in ROWS:
    IDS[row["id"]].append(row)

RAISES = """
logits_rank2 logits_rank4 targets_rank1 targets_rank3_int targets_rank4 order_weights_before_flags
flags_at0_ab1_st0_sb1 flags_at0_ab1_st1_sb1 flags_at1_ab0_st0_sb1 flags_at1_ab0_st1_sb0 flags_at1_ab0_st1_sb1
flags_at1_ab1_st0_sb1 flags_at1_ab1_st1_sb0 flags_at1_ab1_st1_sb1 flags_all_default_plus_sum_over_batch targets_more_T
logits_int32_weights_f32 custom_swapped_names custom_2d_return_none custom_not_callable custom_false SL_bad_flag_type
SL_avg_only sigmoid_positional sparse_scalar_logits sparse_labels_float sparse_logits_int sparse_zero_classes
sparse_zero_batch_zero_classes softmax_axis_3 softmax_axis_and_dim sigmoid_broadcast sigmoid_int_logits
weighted_shape_mismatch bad_reduction bad_reduction_None sigmoid_shape sparse_shape softmax_w_B_on_3d
softmax_w_wrong_B_2d sparse_labels_BV_not_squeezable sparse_w_B2_notsqueezable softmax_labels_broadcast
sampled_softmax_loss_labels_rank1 sampled_softmax_loss_label_oob sampled_softmax_loss_num_true_mismatch
sampled_softmax_loss_bad_partition sampled_softmax_loss_num_true0 nce_loss_label_oob nce_loss_num_sampled_wrong_rm1
nce_loss_bad_partition log_uniform_num_sampled_too_big_unique log_uniform_num_sampled_0 log_uniform_range0
uniform_num_sampled_too_big_unique uniform_true_rank1 uniform_num_sampled_0 uniform_range0 uniform_true_oob
learned_unigram_true_rank1 learned_unigram_num_true_mismatch learned_unigram_num_sampled_0 learned_unigram_range0
sequence_loss_tensor_not_list sequence_loss_by_example_len_targets sequence_loss_by_example_tensor_not_list
sequence_loss_by_example_empty sequence_loss_by_example_oob buckets_enc buckets_w
"""
SAME = tuple(RAISES.split())
"""It raises here too: a ValueError or TypeError where that was the class, else one of the two (TensorFlow's own)."""

IS_NONE = "None is a wrong type here, a TypeError, and the text says which argument it is and what to pass"
OTHER_CLASS = {
    **dict.fromkeys(("weights_None", "logits_None", "targets_None"), f"{IS_NONE}; it was an AttributeError"),
    **dict.fromkeys(
        (
            *("sparse_missing_labels", "softmax_v2_missing", "loss_none_labels", "sigmoid_none_labels"),
            *("weights_none_softmax", "weights_none_sparse", "weights_none_sigmoid", "cwl_weights_none"),
        ),
        f"{IS_NONE}; it was a ValueError",
    ),
    **dict.fromkeys(
        ("sampled_softmax_loss_two_tuple", "nce_loss_two_tuple"),
        "a pair is a wrong type here, and the text names the three arrays; it was the ValueError of unpacking",
    ),
}
"""It raises here too, but better: the reasons."""

MASKED = "the label belongs to a token of weight 0, which is never looked at"
CASTS = "weights of any dtype are cast to the dtype of the loss"
LABELS = "labels of any integer dtype are legal"
RETURNS = {
    **dict.fromkeys(
        (
            *("label_V", "label_V_masked", "label_minus1_masked", "label_big", "label_big_masked"),
            "sparse_oob_masked",
        ),
        MASKED,
    ),
    **dict.fromkeys(
        (
            *("logits_float16_weights_f32", "logits_float64_weights_f32", "logits_bfloat16_weights_f32"),
            *("weights_float16_logits_f32", "weights_float16_logits_f32_none", "weights_float64_logits_f32"),
            *("weights_float64_logits_f32_none", "weights_int32_logits_f32", "weights_int64_logits_f32"),
            *("weights_int64_logits_f32_none", "weights_bool_logits_f32", "sequence_loss_by_example_f64_weights"),
        ),
        CASTS,
    ),
    **dict.fromkeys(
        (
            *("targets_uint8", "targets_int16", "targets_uint16", "targets_uint32", "sparse_labels_int16"),
            *("uniform_true_int32", "learned_unigram_true_int32"),
        ),
        LABELS,
    ),
    "numpy_inputs": "NumPy arrays are arrays",
    "targets_onehot_float": "floats with an axis of classes are soft targets, which Addons took too",
    "custom_f64_return": "what a custom loss returns is cast to the dtype of the loss",
    "softmax_axis_neg2": "any axis may be counted from the end",
    "sigmoid_dtype_mismatch": "labels of any dtype are cast to the dtype of the loss",
    **dict.fromkeys(
        ("sampled_softmax_loss_f64_inputs_f32_weights", "nce_loss_f64_inputs_f32_weights"),
        "weights and expected counts are cast to the dtype of the inputs",
    ),
    **dict.fromkeys(
        ("sequence_loss_scalar_targets_B1", "sequence_loss_scalar_target_avgB"),
        "the batch size is that of the logits, so a number may be the target of a single sequence",
    ),
}
"""It raises nothing here: the reasons."""


def names(framework, system):
    """What the expressions of ``errors.json`` may refer to."""
    logits = (np.random.RandomState(7).randn(2, 3, 5) * 2).astype("float32")
    targets = np.array([[4, 0, 4], [3, 1, 3]], "int32")
    weights = np.array([[1, 1, 0], [0.5, 2, 0]], "float32")

    def constant(x):
        # As tf.constant: numbers of Python have 32 bits, arrays the dtype that they have.
        array = np.array(x)
        narrow = {"f": "float32", "i": "int32"}.get(array.dtype.kind) if not isinstance(x, np.ndarray) else None
        return framework.array(array.astype(narrow) if narrow else array)

    def cast(x, dtype):
        # NumPy alone has no bfloat16, and half precision of either kind is refused for the same reason.
        dtype = "float16" if (framework.name, dtype) == ("numpy", "bfloat16") else dtype
        return framework.array(framework.to_numpy(x), dtype)

    def one_hot(x, depth):
        return constant((framework.to_numpy(x)[..., None] == np.arange(depth)).astype("float32"))

    def reduce_sum(x, axis, keepdims=False):
        return constant(framework.to_numpy(x).sum(axis, keepdims=keepdims))

    dtypes = ("uint8", "int16", "uint16", "uint32", "int32", "int64", "bool", "float16", "bfloat16", "float64")
    softmax = types.SimpleNamespace(softmax=lambda x, axis: x)
    tf = types.SimpleNamespace(
        cast=cast, one_hot=one_hot, reduce_sum=reduce_sum, nn=softmax, random=tf1.nn, **{name: name for name in dtypes}
    )
    arrays = {"L": constant(logits), "Y": constant(targets), "W": constant(weights)}
    module = SYSTEMS[system]

    def sequence_loss(L=arrays["L"], Y=arrays["Y"], W=arrays["W"], **flags):
        return module.sequence_loss(L, Y, W, **flags)

    no_average = {"average_across_timesteps": False, "average_across_batch": False}
    return {
        **arrays,
        "Ln": logits,
        "Yn": targets,
        "Wn": weights,
        "np": np,
        "c": constant,
        "tf": tf,
        "v1": tf1,
        "S": module,
        "LS": tf1.contrib.legacy_seq2seq,
        "sl": sequence_loss,
        "avg0": no_average,
    }


def outcomes(framework, name):
    """For each record of a call: the names of the classes that TensorFlow raised, and what is raised here."""
    for row in IDS[name]:
        for system in {SYSTEMS[mode]: mode for mode in row["modes"]}.values():
            try:
                with framework.precision("float64"):
                    eval(row["args"], names(framework, system))
            except (TypeError, ValueError) as error:
                yield row["exception"], error
            else:
                yield row["exception"], None


BUILTIN = {"TypeError": TypeError, "ValueError": ValueError}


@pytest.mark.parametrize("name", SAME)
def test_it_raises_too(framework, name):
    found = list(outcomes(framework, name))
    recorded = tuple(BUILTIN[theirs] for theirs, _ in found if theirs in BUILTIN)
    for theirs, ours in found:
        assert ours is not None, f"{theirs} is lost"
        # The unexpected keyword of a custom loss is Python's own error.
        assert isinstance(ours, seqloss.SeqlossError) or name == "custom_swapped_names"
        assert isinstance(ours, recorded or (TypeError, ValueError))


@pytest.mark.parametrize("name", OTHER_CLASS)
def test_it_raises_another_class(framework, name):
    for theirs, ours in outcomes(framework, name):
        assert isinstance(ours, seqloss.ArgumentTypeError)
        assert theirs in ("AttributeError", "ValueError")


@pytest.mark.parametrize("name", RETURNS)
def test_it_raises_nothing(framework, name):
    assert [str(ours) for _, ours in outcomes(framework, name) if ours is not None] == []


def test_a_bad_label_that_counts_is_an_error(framework):
    """In the records of bad labels the token has weight 0."""
    arrays = names(framework, "115")
    targets = arrays["c"](np.array([[0, 5, 2], [3, 4, 0]], "int32"))
    for system in SYSTEMS.values():
        with pytest.raises(ValueError, match=r"targets\[0, 1\] is 5, outside \[0, 5\)"):
            system.sequence_loss(arrays["L"], targets, arrays["W"])


def test_every_record_has_a_verdict():
    assert len(ROWS) == 214
    assert sorted((*SAME, *OTHER_CLASS, *RETURNS)) == sorted(IDS)
