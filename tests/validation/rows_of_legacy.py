"""Calls of the losses of lists with wrong lists, or wrong arrays in them."""

import functools

import numpy as np
from row import FLOATS, LOGITS, NO_IDS, TARGETS, TOO_LARGE, WEIGHTS, PackedSequence, Raw, edited, row

import seqloss
from seqloss import ArgumentTypeError, DTypeError, LabelError, ShapeError, legacy

# Three steps of a batch of two, in arrays [time, batch, ...] that become lists inside, so that tracing sees arrays.
STANDARD = {"logits": LOGITS.transpose(1, 0, 2), "targets": TARGETS.T, "weights": WEIGHTS.T}


def of_lists(function):
    def call(logits, targets, weights, **options):
        lists = ([x[step] for step in range(x.shape[0])] for x in (logits, targets, weights))
        return function(*lists, **options)

    return call


by_example = functools.partial(row, of_lists(seqloss.sequence_loss_by_example), STANDARD)
mean = functools.partial(row, of_lists(legacy.sequence_loss), STANDARD)
as_given = functools.partial(row, seqloss.sequence_loss_by_example, {"logits": [], "targets": [], "weights": []})

LISTS = "must be a list or tuple with one array for each timestep, got"
LENGTHS = "logits, targets and weights must be lists of the same length, with one array for each timestep, got lengths"
SLIPPED = "if a positional argument ended up here by mistake, pass it by keyword"
STEPS = "pass lists with one array [batch] for each timestep"
LABELS = "must have one label for each of the 2 sequences of logits[0], got"
SCALAR = "must be a scalar or have the shape [2] of one weight for each sequence of logits[0], got"
RETURNED = "softmax_loss_function must return one loss per token, the shape [batch] = [2], got"


def unstack(name):
    return (
        f"unstack an array of the shape [batch, time, ...], as in [{name}[:, t] for t in range(time)], "
        "or pass all three as arrays to seqloss.sequence_loss"
    )


LEGACY = [
    as_given(
        "legacy_logits_array", ArgumentTypeError, f"logits {LISTS} a single array; {unstack('logits')}", logits=LOGITS
    ),
    as_given(
        "legacy_logits_packed",
        ArgumentTypeError,
        "logits is a PackedSequence, not a dense array; pass torch.nn.utils.rnn.pad_packed_sequence(logits, "
        "batch_first=True)[0] and give the tokens that it leaves out weight 0",
        logits=Raw(PackedSequence([0.0], [1])),
    ),
    as_given(
        "legacy_targets_array",
        ArgumentTypeError,
        f"targets {LISTS} a single array; {unstack('targets')}",
        targets=TARGETS,
    ),
    as_given(
        "legacy_weights_number", ArgumentTypeError, f"weights {LISTS} a float; {unstack('weights')}", weights=Raw(1.0)
    ),
    as_given(
        "legacy_weights_none",
        ArgumentTypeError,
        "weights is None; pass a list with one array for each timestep",
        weights=None,
    ),
    mean("legacy_short_targets", ShapeError, f"{LENGTHS} 3, 1 and 3", targets=TARGETS.T[:1]),
    by_example("legacy_short_weights", ShapeError, f"{LENGTHS} 3, 3 and 2", weights=WEIGHTS.T[:2]),
    as_given(
        "legacy_empty",
        ShapeError,
        "logits, targets and weights are empty lists; they need at least one timestep",
    ),
    by_example(
        "legacy_logits_rank",
        ShapeError,
        "logits[0] must have the shape [batch, classes], got [5]; check the order of the axes",
        logits=LOGITS[0],
    ),
    by_example(
        "legacy_swapped",
        ShapeError,
        "logits[0] and targets[0] seem to be swapped, got integer logits[0] [2] and float targets[0] [2, 5]; "
        "pass them in the other order, or by keyword, as in logits=..., targets=...",
        logits=TARGETS.T,
        targets=LOGITS.transpose(1, 0, 2),
    ),
    by_example(
        "legacy_no_classes",
        ShapeError,
        "logits have no classes, got [2, 0]; the last axis must hold at least one class",
        logits=np.zeros((3, 2, 0), "float32"),
    ),
    by_example(
        "legacy_targets_transposed",
        ShapeError,
        f"targets[0] {LABELS} [3]; {STEPS}",
        targets=np.zeros((3, 3), "int32"),
    ),
    by_example(
        "legacy_weights_column",
        ShapeError,
        f"weights[0] {SCALAR} [2, 1]; {STEPS}",
        weights=WEIGHTS.T[..., None],
    ),
    by_example(
        "legacy_weights_one", ShapeError, f"weights[0] {SCALAR} [1]; {STEPS}", weights=np.ones((3, 1), "float32")
    ),
    by_example(
        "legacy_logits_int",
        DTypeError,
        f"logits[0] must have one of the dtypes {FLOATS}, got int32; cast it first",
        logits=np.zeros((3, 2, 5), "int32"),
    ),
    by_example(
        "legacy_targets_float",
        DTypeError,
        f"targets[0] must be integer class labels, got float32; {NO_IDS}",
        targets=WEIGHTS.T,
    ),
    by_example(
        "legacy_label",
        LabelError,
        "targets[1][0] is -1, outside [0, 5); give such positions weight 0",
        {"traced": "labels have no values there"},
        targets=edited(TARGETS.T, at_1_0=-1),
    ),
    by_example(
        "legacy_label_too_large",
        LabelError,
        f"targets[1][0] is 5, outside [0, 5); {TOO_LARGE}",
        {"traced": "labels have no values there"},
        targets=edited(TARGETS.T, at_1_0=5),
    ),
    by_example(
        "legacy_flag",
        ArgumentTypeError,
        f"average_across_timesteps must be True or False, got 32000; {SLIPPED}",
        average_across_timesteps=32000,
    ),
    mean(
        "legacy_batch_flag",
        ArgumentTypeError,
        f"average_across_batch must be True or False, got None; {SLIPPED}",
        average_across_batch=None,
    ),
    mean(
        "legacy_loss_function",
        ArgumentTypeError,
        "softmax_loss_function must be callable with the keywords labels= and logits=, or None, got 0",
        softmax_loss_function=0,
    ),
    by_example(
        "legacy_reduced_loss",
        ShapeError,
        f"{RETURNED} []; do not reduce or keep a class axis inside it",
        softmax_loss_function=lambda labels, logits: logits[0, 0],
    ),
    by_example(
        "legacy_column_loss",
        ShapeError,
        f"{RETURNED} [2, 1]; do not reduce or keep a class axis inside it",
        softmax_loss_function=lambda labels, logits: logits[:, :1],
    ),
]
