"""Calls with arrays of the wrong shape or dtype, or with no arrays at all."""

import numpy as np
from row import (
    CLASS_SECOND,
    EXACT,
    FLOATS,
    IDS_OR_SOFT,
    IN_A_GRAPH,
    KINDS,
    LENGTHS,
    LOGITS,
    NO_CLASSES,
    TARGETS,
    TARGETS_SIZE,
    WEIGHTS,
    Listed,
    PackedSequence,
    Raw,
    like,
    loss,
    mask,
    tokens,
)

from seqloss import ArgumentTypeError, DTypeError, MixedBackendsError, ShapeError

# --- shapes ---

LOGITS_RANK = "logits must have the shape [batch, time, classes], got"
AXES = "pass the axes in the order batch, time, classes"
TARGETS_RANK = "targets must have the shape [batch, time] = [2, 3], got"
WEIGHTS_RANK = "weights must have the shape [batch, time] = [2, 3], got"
ONE_LABEL = "pass one label per token"
PER_SEQUENCE = "for one weight per sequence, repeat weights[:, None] along the time axis"
PER_CLASS = (
    "for one weight per class, look up the weight of each label, as in weights[targets] (tf.gather(weights, targets) "
    "in TensorFlow)"
)
WEIGHTS_SIZE = "weights must have the shape [batch, time] = [2, 3] of logits, got"

SHAPES = [
    loss(
        "logits_packed",
        ShapeError,
        f"{LOGITS_RANK} [6, 5]; for packed sequences [tokens, classes] pass cu_seqlens, where each one begins; for a "
        "single sequence add a batch axis to all arguments, as in logits[None]",
        logits=LOGITS.reshape(6, 5),
    ),
    loss(
        "logits_rank_4",
        ShapeError,
        f"{LOGITS_RANK} [1, 2, 3, 5]; for more axes, such as several codebooks, use seqloss.token_loss",
        logits=LOGITS[None],
    ),
    loss(
        "logits_rank_1",
        ShapeError,
        f"{LOGITS_RANK} [5]; for a single token use seqloss.token_loss",
        logits=LOGITS[0, 0],
    ),
    loss("logits_rank_0", ShapeError, f"{LOGITS_RANK} []; {AXES}", logits=LOGITS[0, 0, 0]),
    loss(
        "targets_one_hot",
        ShapeError,
        f"{TARGETS_RANK} [2, 3, 5]; turn one-hot targets into labels with argmax over the last axis; soft targets must "
        "be floats",
        targets=np.eye(5, dtype="int32")[TARGETS],
    ),
    loss(
        "targets_one_hot_bool",
        ShapeError,
        f"{TARGETS_RANK} [2, 3, 5]; turn one-hot targets into labels with argmax over the last axis; soft targets must "
        "be floats",
        targets=np.eye(5, dtype="bool")[TARGETS],
    ),
    loss(
        "targets_with_an_axis_of_1",
        ShapeError,
        f"{TARGETS_RANK} [2, 3, 1]; remove the last axis, as in targets[..., 0]",
        targets=TARGETS[..., None],
    ),
    loss("targets_rank_3", ShapeError, f"{TARGETS_RANK} [2, 3, 4]; {ONE_LABEL}", targets=like(TARGETS, 2, 3, 4)),
    loss(
        "targets_flat",
        ShapeError,
        f"{TARGETS_RANK} [6]; reshape them to [batch, time]",
        targets=TARGETS.ravel(),
    ),
    loss(
        "targets_without_batch",
        ShapeError,
        "targets must have the shape [batch, time] = [1, 3], got [3]; add a batch axis, as in targets[None]",
        logits=LOGITS[:1],
        targets=TARGETS[0],
    ),
    loss("targets_of_sequences", ShapeError, f"{TARGETS_RANK} [2]; {ONE_LABEL}", targets=TARGETS[:, 0]),
    loss("targets_rank_0", ShapeError, f"{TARGETS_RANK} []; {ONE_LABEL}", targets=TARGETS[0, 0]),
    loss(
        "weights_of_sequences",
        ShapeError,
        f"{WEIGHTS_RANK} [2]; {PER_SEQUENCE}",
        weights=WEIGHTS[:, 0],
    ),
    loss("weights_of_classes", ShapeError, f"{WEIGHTS_RANK} [5]; {PER_CLASS}", weights=like(WEIGHTS, 5)),
    loss(
        "weights_of_sequences_or_classes",
        ShapeError,
        f"weights must have the shape [batch, time] = [5, 3], got [5]; {PER_SEQUENCE}; {PER_CLASS}",
        logits=like(LOGITS, 5, 3, 5),
        targets=like(TARGETS, 5, 3),
        weights=like(WEIGHTS, 5),
    ),
    loss(
        "weights_of_positions",
        ShapeError,
        f"{WEIGHTS_RANK} [3]; for one weight per position, repeat weights[None, :] along the batch axis",
        weights=WEIGHTS[0],
    ),
    loss("weights_flat", ShapeError, f"{WEIGHTS_RANK} [6]; reshape them to [batch, time]", weights=WEIGHTS.ravel()),
    loss(
        "weights_rank_1",
        ShapeError,
        f"{WEIGHTS_RANK} [4]; pass one weight per token",
        weights=like(WEIGHTS, 4),
    ),
    loss(
        "weights_are_lengths",
        ShapeError,
        f"{WEIGHTS_RANK} [2]; if these are lengths, pass them as lengths=... to seqloss.sequence_loss; {PER_SEQUENCE}",
        weights=LENGTHS,
    ),
    loss(
        "weights_number",
        ShapeError,
        f"{WEIGHTS_RANK} []; for one weight for all tokens, multiply the loss by it",
        IN_A_GRAPH,
        weights=Raw(2.0),
    ),
    loss(
        "weights_with_an_axis_of_1",
        ShapeError,
        f"{WEIGHTS_RANK} [2, 3, 1]; remove the last axis, as in weights[..., 0]",
        weights=WEIGHTS[..., None],
    ),
    loss(
        "weights_rank_3",
        ShapeError,
        f"{WEIGHTS_RANK} [2, 3, 5]; pass one weight per token",
        weights=LOGITS,
    ),
    loss(
        "logits_with_classes_second",
        ShapeError,
        f"{LOGITS_RANK} [2, 5, 3] beside targets [2, 3]; {CLASS_SECOND}",
        logits=LOGITS.transpose(0, 2, 1),
    ),
    loss(
        "logits_and_targets_swapped",
        ShapeError,
        "logits and targets seem to be swapped, got integer logits [2, 3] and float targets [2, 3, 5]; "
        "pass them in the other order, or by keyword, as in logits=..., targets=...",
        logits=TARGETS,
        targets=LOGITS,
    ),
    loss("targets_longer", ShapeError, f"{TARGETS_SIZE} [2, 4]; {EXACT}", targets=like(TARGETS, 2, 4)),
    loss("targets_batch", ShapeError, f"{TARGETS_SIZE} [3, 3]; {EXACT}", targets=like(TARGETS, 3, 3)),
    loss(
        "targets_transposed",
        ShapeError,
        f"{TARGETS_SIZE} [3, 2]; it is transposed: swap the two axes of targets",
        targets=TARGETS.T,
    ),
    loss("weights_longer", ShapeError, f"{WEIGHTS_SIZE} [2, 4]; {EXACT}", weights=like(WEIGHTS, 2, 4)),
    loss(
        "weights_transposed",
        ShapeError,
        f"{WEIGHTS_SIZE} [3, 2]; it is transposed: swap the two axes of weights",
        weights=WEIGHTS.T,
    ),
    loss("weights_1_1", ShapeError, f"{WEIGHTS_SIZE} [1, 1]; {EXACT}", weights=like(WEIGHTS, 1, 1)),
    loss("weights_column", ShapeError, f"{WEIGHTS_SIZE} [2, 1]; {EXACT}", weights=like(WEIGHTS, 2, 1)),
    loss("weights_row", ShapeError, f"{WEIGHTS_SIZE} [1, 3]; {EXACT}", weights=like(WEIGHTS, 1, 3)),
    loss("no_classes", ShapeError, NO_CLASSES, logits=LOGITS[..., :0]),
    loss(
        "ragged_list",
        ShapeError,
        "targets is a ragged list; pad its rows to one length and give the padding weight 0",
        IN_A_GRAPH,
        targets=Raw([[0, 1, 2], [3]]),
    ),
]

# --- dtypes ---


DTYPES = [
    *(
        loss(
            f"logits_{dtype}",
            DTypeError,
            f"logits must have one of the dtypes {FLOATS}, got {dtype}; cast it first",
            logits=LOGITS.astype(dtype),
        )
        for dtype in ("int32", "bool", "complex64")
    ),
    loss(
        "targets_float32",
        DTypeError,
        f"targets must be integer class labels, got float32; {IDS_OR_SOFT}",
        targets=TARGETS.astype("float32"),
    ),
    loss(
        "targets_complex64",
        DTypeError,
        f"targets must be integer class labels, got complex64; {IDS_OR_SOFT}",
        targets=TARGETS.astype("complex64"),
    ),
    loss(
        "targets_bool",
        DTypeError,
        "targets must be integer class labels, got bool; a bool array is a mask, not labels",
        targets=TARGETS > 0,
    ),
    loss(
        "weights_complex64",
        DTypeError,
        "weights must be a float, integer or bool array, got complex64; cast it first",
        weights=WEIGHTS.astype("complex64"),
    ),
]

# --- what is no array ---

DENSE = "and give the tokens that it leaves out weight 0"
PACKED = PackedSequence([0.0, 1.0], [2])
MASKED = np.ma.masked_array(TARGETS, TARGETS > 3)

OBJECTS = [
    loss("logits_none", ArgumentTypeError, f"logits is None, {KINDS}", logits=None),
    loss("targets_none", ArgumentTypeError, f"targets is None, {KINDS}", targets=None),
    loss("logits_string", ArgumentTypeError, f"logits is a builtins.str, {KINDS}", logits="logits"),
    loss("targets_string", ArgumentTypeError, f"targets is a builtins.str, {KINDS}", targets="targets"),
    loss("weights_string", ArgumentTypeError, f"weights is a builtins.str, {KINDS}", weights="ones"),
    loss("targets_dict", ArgumentTypeError, f"targets is a builtins.dict, {KINDS}", targets={}),
    loss("targets_generator", ArgumentTypeError, f"targets is a builtins.range, {KINDS}", targets=range(3)),
    loss(
        "targets_of_strings",
        ArgumentTypeError,
        "targets is a list that holds a str; a list must hold numbers only",
        targets=Raw([["a", "b"]]),
    ),
    loss(
        "targets_list_of_arrays",
        ArgumentTypeError,
        "targets is a list that holds a ARRAY; stack it to one array first",
        {"numpy": "NumPy arrays are host values, in a list too"},
        targets=Listed(TARGETS),
    ),
    loss(
        "logits_list_of_arrays",
        ArgumentTypeError,
        "logits is a list that holds a ARRAY; stack it to one array first",
        {"numpy": "NumPy arrays are host values, in a list too"},
        logits=Listed(LOGITS),
    ),
    *(
        loss(
            f"numpy_logits_{name}",
            MixedBackendsError,
            f"logits is a numpy array but {name} is a FRAMEWORK array; convert logits to FRAMEWORK",
            {"numpy": "they are of one framework", **IN_A_GRAPH},
            **{"logits": Raw(LOGITS), "targets": Raw(TARGETS), name: array},
        )
        for name, array in (("targets", TARGETS), ("weights", WEIGHTS))
    ),
    loss(
        "targets_ragged_tuple",
        ShapeError,
        "targets is a ragged tuple; pad its rows to one length and give the padding weight 0",
        IN_A_GRAPH,
        targets=Raw(((0, 1, 2), (3,))),
    ),
    loss(
        "targets_tuple_of_none",
        ArgumentTypeError,
        "targets is a tuple that holds a NoneType; a tuple must hold numbers only",
        targets=Raw((0, None)),
    ),
    *(
        function(
            f"packed_{name}",
            ArgumentTypeError,
            f"{name} is a PackedSequence, not a dense array; pass "
            f"torch.nn.utils.rnn.pad_packed_sequence({name}, batch_first=True)[0] {DENSE}",
            **{name: Raw(PACKED)},
        )
        for function, name in (
            (loss, "logits"),
            (loss, "targets"),
            (loss, "weights"),
            (tokens, "active"),
            (mask, "lengths"),
        )
    ),
    loss(
        "targets_masked",
        ArgumentTypeError,
        f"targets is a MaskedArray, not a dense array; pass targets.filled(0) {DENSE}",
        targets=Raw(MASKED),
    ),
    loss(
        "weights_matrix",
        ArgumentTypeError,
        f"weights is a matrix, not a dense array; pass np.asarray(weights) {DENSE}",
        weights=Raw(WEIGHTS.view(np.matrix)),
    ),
]
