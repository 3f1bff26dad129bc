"""Calls of the cross entropies of tf.nn and of the weighted losses of tf.losses."""

import functools

import numpy as np
from row import (
    CLASS_SECOND,
    EXACT,
    FLOATS,
    KINDS,
    LOGITS,
    NO_CLASSES,
    NO_IDS,
    TARGETS,
    TOO_LARGE,
    WEIGHTS,
    edited,
    like,
    row,
    static,
)

import seqloss
from seqloss import ArgumentTypeError, DTypeError, LabelError, OptionError, ShapeError

TRACED = {"traced": "labels of a tracer have no values; the loss is NaN instead"}
IDS = {"labels": TARGETS, "logits": LOGITS}
SOFT = {"labels": LOGITS, "logits": LOGITS}
REDUCTIONS = (
    "'none', 'weighted_sum', 'weighted_mean', 'weighted_sum_over_batch_size', 'weighted_sum_by_nonzero_weights'"
)
UNLIKE_LOGITS = "labels must have the shape [2, 3, 5] of logits"
WITHOUT = "of logits without the class axis, got"
NUMBERS = "must be a float, integer or bool array, got complex64; cast it first"
AXES = "add axes of size 1 until the ranks are equal"
SIZE = "each size must be the same or 1"
LAST = "one weight per class has the shape [classes]"
SWAPPED = "logits and labels seem to be swapped, got integer logits"
ORDER = "pass them in the other order, or by keyword, as in logits=..., labels=..."

sparse = functools.partial(row, seqloss.sparse_softmax_cross_entropy_with_logits, IDS)
soft = functools.partial(row, seqloss.softmax_cross_entropy_with_logits, SOFT)
sigmoid = functools.partial(row, seqloss.sigmoid_cross_entropy_with_logits, SOFT)
weighted = functools.partial(row, seqloss.weighted_cross_entropy_with_logits, {**SOFT, "pos_weight": 2.0})

WITH_LOGITS = [
    sparse("sparse_without_labels", ArgumentTypeError, f"labels is None, {KINDS}", labels=None),
    sparse("sparse_without_logits", ArgumentTypeError, f"logits is None, {KINDS}", logits=None),
    sparse(
        "sparse_label_axes",
        ShapeError,
        f"labels must have the shape [2, 3] {WITHOUT} [2, 3, 1]; remove the last axis, as in labels[..., 0]",
        labels=TARGETS[..., None],
    ),
    sparse(
        "sparse_soft_labels",
        ShapeError,
        f"labels must have the shape [2, 3] {WITHOUT} [2, 3, 5]; for probabilities use "
        "seqloss.softmax_cross_entropy_with_logits",
        labels=LOGITS,
    ),
    sparse(
        "sparse_logits_with_classes_second",
        ShapeError,
        f"logits must have the shape [..., classes], got [2, 5, 3] beside labels [2, 3]; {CLASS_SECOND}",
        logits=LOGITS.transpose(0, 2, 1),
    ),
    sparse(
        "sparse_swapped",
        ShapeError,
        f"{SWAPPED} [2, 3] and float labels [2, 3, 5]; {ORDER}",
        labels=LOGITS,
        logits=TARGETS,
    ),
    sparse(
        "sparse_label_sizes",
        ShapeError,
        f"labels must have the shape [2, 3] {WITHOUT} [3, 2]; {EXACT}",
        labels=TARGETS.T,
    ),
    sparse(
        "sparse_scalar_logits",
        ShapeError,
        "logits must have the shape [..., classes], got []; a single number has no classes",
        logits=LOGITS[0, 0, 0],
    ),
    sparse("sparse_no_classes", ShapeError, NO_CLASSES, logits=LOGITS[..., :0]),
    sparse(
        "sparse_float_labels",
        DTypeError,
        f"labels must be integer class labels, got float32; {NO_IDS}",
        labels=WEIGHTS,
    ),
    sparse(
        "sparse_int_logits",
        DTypeError,
        f"logits must have one of the dtypes {FLOATS}, got int32; cast it first",
        logits=LOGITS.astype("int32"),
    ),
    sparse("sparse_name", ArgumentTypeError, "name must be a string or None, got 3", name=3),
    sparse(
        "sparse_label_too_large",
        LabelError,
        f"labels[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        labels=edited(TARGETS, at_1_1=5),
    ),
    sparse(
        "sparse_label_negative",
        LabelError,
        "labels[1, 1] is -100, outside [0, 5); leave such positions out with seqloss.token_loss, "
        "as in active=(labels != -100)",
        TRACED,
        labels=edited(TARGETS, at_1_1=-100),
    ),
    soft("soft_without_labels", ArgumentTypeError, f"labels is None, {KINDS}", labels=None),
    soft(
        "soft_labels_flattened",
        ShapeError,
        f"{UNLIKE_LOGITS}, or 1 in place of any size, got [6, 5]; ranks must be equal, nothing is flattened",
        labels=LOGITS.reshape(6, 5),
    ),
    soft(
        "soft_label_sizes",
        ShapeError,
        f"{UNLIKE_LOGITS}, or 1 in place of any size, got [2, 3, 4]; ranks must be equal, nothing is flattened",
        labels=LOGITS[..., :4],
    ),
    soft(
        "soft_logits_are_not_broadcast",
        ShapeError,
        "labels must have the shape [1, 3, 5] of logits, or 1 in place of any size, got [2, 3, 5]; "
        "ranks must be equal, nothing is flattened",
        logits=LOGITS[:1],
    ),
    soft(
        "soft_swapped",
        ShapeError,
        f"{SWAPPED} [2, 3, 5] and float labels [2, 3, 5]; {ORDER}",
        logits=like(TARGETS, 2, 3, 5),
    ),
    soft("soft_complex_labels", DTypeError, f"labels {NUMBERS}", labels=LOGITS.astype("complex64")),
    soft("soft_no_classes", ShapeError, NO_CLASSES, labels=LOGITS[..., :0], logits=LOGITS[..., :0]),
    soft(
        "soft_no_classes_along_an_axis",
        ShapeError,
        "logits have no classes, got [2, 0, 5]; axis 1 must hold at least one class",
        labels=LOGITS[:, :0],
        logits=LOGITS[:, :0],
        axis=-2,
    ),
    soft(
        "soft_axis_too_large",
        ShapeError,
        "axis must be an axis of logits, in [-3, 3), got 3; logits are [2, 3, 5]",
        axis=3,
    ),
    soft(
        "soft_axis_too_small",
        ShapeError,
        "axis must be an axis of logits, in [-3, 3), got -4; logits are [2, 3, 5]",
        axis=-4,
    ),
    soft(
        "soft_axis_of_another_type",
        ArgumentTypeError,
        "axis must be a Python integer, got 1.0; it is the class axis of logits",
        axis=1.0,
    ),
    soft(
        "soft_axis_array",
        ArgumentTypeError,
        f"axis must be a Python integer, got an array; {static('int')}",
        axis=np.array(1),
    ),
    soft("soft_name", ArgumentTypeError, "name must be a string or None, got 3", name=3),
    sigmoid("sigmoid_without_logits", ArgumentTypeError, f"logits is None, {KINDS}", logits=None),
    sigmoid(
        "sigmoid_labels_are_not_broadcast",
        ShapeError,
        f"{UNLIKE_LOGITS}, got [2, 3, 1]; {EXACT}",
        labels=LOGITS[..., :1],
    ),
    sigmoid("sigmoid_name", ArgumentTypeError, "name must be a string or None, got 3", name=3),
    weighted("weighted_without_weight", ArgumentTypeError, f"pos_weight is None, {KINDS}", pos_weight=None),
    weighted(
        "weighted_size",
        ShapeError,
        f"pos_weight must have the sizes of the last axes of logits [2, 3, 5], or 1, got [3]; {LAST}",
        pos_weight=like(LOGITS, 3),
    ),
    weighted(
        "weighted_axes",
        ShapeError,
        f"pos_weight must have the sizes of the last axes of logits [2, 3, 5], or 1, got [1, 1, 1, 5]; {LAST}",
        pos_weight=like(LOGITS, 1, 1, 1, 5),
    ),
    weighted("weighted_complex", DTypeError, f"pos_weight {NUMBERS}", pos_weight=like(LOGITS, 5).astype("complex64")),
    weighted("weighted_name", ArgumentTypeError, "name must be a string or None, got 3", name=3),
]

plain = functools.partial(row, seqloss.compute_weighted_loss, {"losses": WEIGHTS})
one_hot = functools.partial(row, seqloss.softmax_cross_entropy, {"onehot_labels": LOGITS, "logits": LOGITS})
ids = functools.partial(row, seqloss.sparse_softmax_cross_entropy, IDS)
many = functools.partial(row, seqloss.sigmoid_cross_entropy, {"multi_class_labels": LOGITS, "logits": LOGITS})


def spread(main, shape, got, mend=AXES):
    return f"weights must be a scalar or have the shape {shape} of {main}, or 1 in place of any size, got {got}; {mend}"


WEIGHTED = [
    plain("plain_without_losses", ArgumentTypeError, f"losses is None, {KINDS}", losses=None),
    plain("plain_without_weights", ArgumentTypeError, f"weights is None, {KINDS}", weights=None),
    plain(
        "plain_int_losses",
        DTypeError,
        f"losses must have one of the dtypes {FLOATS}, got int32; cast it first",
        losses=TARGETS,
    ),
    plain("plain_weight_axes", ShapeError, spread("losses", "[2, 3]", "[3]"), weights=like(WEIGHTS, 3)),
    plain("plain_weight_sizes", ShapeError, spread("losses", "[2, 3]", "[3, 2]", SIZE), weights=like(WEIGHTS, 3, 2)),
    plain("plain_complex_weights", DTypeError, f"weights {NUMBERS}", weights=like(WEIGHTS, 2, 3).astype("complex64")),
    plain(
        "plain_reduction",
        OptionError,
        f"reduction must be one of {REDUCTIONS}, got 'mean'; take it from seqloss.Reduction, "
        "as in seqloss.Reduction.MEAN",
        reduction="mean",
    ),
    plain("plain_scope", ArgumentTypeError, "scope must be a string or None, got 3", scope=3),
    one_hot("one_hot_without_labels", ArgumentTypeError, f"onehot_labels is None, {KINDS}", onehot_labels=None),
    one_hot(
        "one_hot_labels_are_not_broadcast",
        ShapeError,
        f"onehot_{UNLIKE_LOGITS}, got [1, 3, 5]; {EXACT}",
        onehot_labels=LOGITS[:1],
    ),
    one_hot(
        "one_hot_weight_axes",
        ShapeError,
        spread("logits without the class axis", "[2, 3]", "[2]"),
        weights=like(WEIGHTS, 2),
    ),
    one_hot(
        "one_hot_smoothing_in_per_cent",
        OptionError,
        "label_smoothing must be at most 1, got 10; it is a fraction, not a percentage (0 or less turns it off)",
        label_smoothing=10,
    ),
    one_hot(
        "one_hot_smoothing_is_nan",
        OptionError,
        "label_smoothing must be at most 1, got nan; it is a fraction, not a percentage (0 or less turns it off)",
        label_smoothing=float("nan"),
    ),
    one_hot(
        "one_hot_smoothing_of_another_type",
        ArgumentTypeError,
        "label_smoothing must be a Python number, got '0.1'; convert it with float(...)",
        label_smoothing="0.1",
    ),
    one_hot("one_hot_scope", ArgumentTypeError, "scope must be a string or None, got 3", scope=3),
    *(
        function(f"{name}_scope", ArgumentTypeError, "scope must be a string or None, got 3", scope=3)
        for name, function in (("many", many), ("ids", ids))
    ),
    ids("ids_without_labels", ArgumentTypeError, f"labels is None, {KINDS}", labels=None),
    ids(
        "ids_label_axes",
        ShapeError,
        f"labels must have the shape [2, 3] {WITHOUT} [2, 3, 2]; {EXACT}",
        labels=like(TARGETS, 2, 3, 2),
    ),
    ids("ids_weight_axes", ShapeError, spread("labels", "[2, 3]", "[2]"), weights=like(WEIGHTS, 2)),
    ids(
        "ids_weight_of_classes",
        ShapeError,
        spread(
            "labels",
            "[2, 3]",
            "[5]",
            "for one weight per class, look up the weight of each label, as in weights[labels] (tf.gather(weights, "
            "labels) in TensorFlow)",
        ),
        weights=like(WEIGHTS, 5),
    ),
    ids(
        "ids_swapped",
        ShapeError,
        f"{SWAPPED} [2, 3] and float labels [2, 3, 5]; {ORDER}",
        labels=LOGITS,
        logits=TARGETS,
        weights=WEIGHTS,
    ),
    ids("ids_weight_last_axis", ShapeError, spread("labels", "[2, 3]", "[2, 3, 2]"), weights=like(WEIGHTS, 2, 3, 2)),
    ids("ids_one_hot", DTypeError, f"labels must be integer class labels, got float32; {NO_IDS}", labels=WEIGHTS),
    ids(
        "ids_label_that_counts",
        LabelError,
        f"labels[1, 0] is 9, outside [0, 5); {TOO_LARGE}",
        TRACED,
        labels=edited(TARGETS, at_0_2=-100, at_1_0=9),
        weights=WEIGHTS,
    ),
    ids(
        "ids_label_negative",
        LabelError,
        "labels[1, 0] is -9, outside [0, 5); give such positions weight 0, as in weights=(labels != -9)",
        TRACED,
        labels=edited(TARGETS, at_1_0=-9),
    ),
    many("many_without_logits", ArgumentTypeError, f"logits is None, {KINDS}", logits=None),
    many(
        "many_labels_are_not_broadcast",
        ShapeError,
        f"multi_class_{UNLIKE_LOGITS}, got [3, 5]; {EXACT}",
        multi_class_labels=LOGITS[0],
    ),
    many("many_weight_axes", ShapeError, spread("logits", "[2, 3, 5]", "[2, 3]"), weights=WEIGHTS),
    many(
        "many_smoothing_of_another_type",
        ArgumentTypeError,
        "label_smoothing must be a Python number, got True; convert it with float(...)",
        label_smoothing=True,
    ),
    many(
        "many_smoothing_array",
        ArgumentTypeError,
        f"label_smoothing must be a Python number, got an array; {static('float')}",
        label_smoothing=np.array(0.1, "float32"),
    ),
    many(
        "many_reduction",
        OptionError,
        f"reduction must be one of {REDUCTIONS}, got None; take it from seqloss.Reduction, "
        "as in seqloss.Reduction.MEAN",
        reduction=None,
    ),
]
