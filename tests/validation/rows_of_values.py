"""Calls with wrong labels, and those of token_loss, sequence_mask and register_backend."""

import numpy as np
from row import (
    CLASS_SECOND,
    EXACT,
    FLOATS,
    KINDS,
    LENGTHS,
    LOGITS,
    NO_CLASSES,
    NO_IDS,
    TARGETS,
    TOO_LARGE,
    WEIGHTS,
    Raw,
    backend,
    edited,
    gradient,
    in_a_graph,
    like,
    loss,
    mask,
    row,
    tokens,
)

from seqloss import ArgumentTypeError, BackendError, DTypeError, LabelError, ShapeError, UnreadableError
from seqloss.core import dispatch

# --- labels ---

TRACED = {"traced": "labels of a tracer have no values; the loss is NaN instead"}
IGNORE = "to leave such positions out pass ignore_index={} to seqloss.sequence_loss, or give them weight 0"


LABELS = [
    loss(
        "label_too_large",
        LabelError,
        f"targets[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=5),
    ),
    loss(
        "label_negative",
        LabelError,
        f"targets[0, 0] is -1, outside [0, 5); {IGNORE.format(-1)}",
        TRACED,
        targets=edited(TARGETS, at_0_0=-1),
    ),
    loss(
        "label_vocabulary",
        LabelError,
        f"targets[0, 1] is 32000, outside [0, 32000); {TOO_LARGE}",
        TRACED,
        logits=like(LOGITS, 2, 3, 32000),
        targets=edited(TARGETS, at_0_1=32000),
    ),
    loss(
        "label_first_of_three",
        LabelError,
        f"targets[0, 1] is 9, outside [0, 5) (and 2 more); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_0_1=9, at_1_0=-3, at_1_1=7),
    ),
    loss(
        "label_first_that_counts",
        LabelError,
        f"targets[1, 0] is 9, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_0_2=-100, at_1_0=9),
    ),
    loss(
        "label_int8",
        LabelError,
        f"targets[1, 1] is -100, outside [0, 300); {IGNORE.format(-100)}",
        TRACED,
        logits=like(LOGITS, 2, 3, 300),
        targets=edited(TARGETS, at_1_1=-100).astype("int8"),
    ),
    loss(
        "label_big_endian",
        LabelError,
        f"targets[1, 1] is {4 << 24}, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=Raw(edited(TARGETS, at_1_1=4 << 24).astype(">i4")),
    ),
    loss(
        "label_uint8",
        LabelError,
        f"targets[1, 1] is 255, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=255).astype("uint8"),
    ),
    loss(
        "label_of_bool_weight",
        LabelError,
        f"targets[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=5),
        weights=WEIGHTS > 0,
    ),
    loss(
        "label_of_nan_weight",
        LabelError,
        f"targets[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=5),
        weights=edited(WEIGHTS, at_1_1=np.nan),
    ),
    loss(
        "label_without_weights",
        LabelError,
        f"targets[0, 2] is -100, outside [0, 5) (and 1 more); {IGNORE.format(-100)}",
        TRACED,
        weights=None,
        targets=edited(TARGETS, at_0_2=-100, at_1_2=-100),
    ),
    loss(
        "label_checked_by_force",
        LabelError,
        f"targets[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=5),
        check_labels=True,
    ),
    gradient(
        "label_of_gradient",
        LabelError,
        f"targets[1, 1] is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        targets=edited(TARGETS, at_1_1=5),
    ),
    loss(
        "labels_that_cannot_be_read",
        UnreadableError,
        "check_labels=True must read targets and weights, but here they have no values yet (traced, batched, or "
        "without storage); check them outside the compiled function, or pass check_labels=None",
        {"eager": "arrays have values there", "numpy": "NumPy traces nothing"},
        check_labels=True,
    ),
]

# --- token_loss ---

TOKEN_TARGETS = "targets must have the shape [2, 3] of logits without the class axis, got"

TOKENS = [
    tokens(
        "token_logits_rank_0",
        ShapeError,
        "logits must have the shape [..., classes], got []; a single number has no classes",
        logits=LOGITS[0, 0, 0],
        targets=TARGETS[0, 0],
    ),
    tokens(
        "token_targets_size",
        ShapeError,
        f"{TOKEN_TARGETS} [3, 2]; {EXACT}",
        targets=TARGETS.T,
    ),
    tokens(
        "token_targets_one_hot",
        ShapeError,
        f"{TOKEN_TARGETS} [2, 3, 5]; turn one-hot targets into labels with argmax over the last axis",
        targets=np.eye(5, dtype="int32")[TARGETS],
    ),
    tokens(
        "token_targets_soft",
        ShapeError,
        f"{TOKEN_TARGETS} [2, 3, 5]; for probabilities use seqloss.softmax_cross_entropy_with_logits",
        targets=LOGITS,
    ),
    tokens(
        "token_targets_with_an_axis_of_1",
        ShapeError,
        f"{TOKEN_TARGETS} [2, 3, 1]; remove the last axis, as in targets[..., 0]",
        targets=TARGETS[..., None],
    ),
    tokens("token_targets_rank_3", ShapeError, f"{TOKEN_TARGETS} [2, 3, 4]; {EXACT}", targets=like(TARGETS, 2, 3, 4)),
    tokens(
        "token_logits_with_classes_second",
        ShapeError,
        f"logits must have the shape [..., classes], got [2, 5, 3] beside targets [2, 3]; {CLASS_SECOND}",
        logits=LOGITS.transpose(0, 2, 1),
    ),
    tokens(
        "token_logits_and_targets_swapped",
        ShapeError,
        "logits and targets seem to be swapped, got integer logits [2, 3] and float targets [2, 3, 5]; "
        "pass them in the other order, or by keyword, as in logits=..., targets=...",
        logits=TARGETS,
        targets=LOGITS,
    ),
    tokens(
        "token_active_with_an_axis_of_1",
        ShapeError,
        "active must have the shape [2, 3] of logits without the class axis, got [2, 3, 1]; remove the last axis, as "
        "in active[..., 0]",
        active=np.ones((2, 3, 1), bool),
    ),
    tokens(
        "token_active_of_classes",
        ShapeError,
        f"active must have the shape [2, 3] of logits without the class axis, got [2, 3, 5]; {EXACT}",
        active=np.ones((2, 3, 5), bool),
    ),
    tokens(
        "token_active_size",
        ShapeError,
        f"active must have the shape [2, 3] of logits without the class axis, got [2]; {EXACT}",
        active=np.ones(2, bool),
    ),
    tokens("token_no_classes", ShapeError, NO_CLASSES, logits=LOGITS[..., :0]),
    tokens(
        "token_active_float",
        DTypeError,
        "active must be a bool array, got float32; compare it first, as in active != 0",
        active=WEIGHTS,
    ),
    tokens(
        "token_active_integer",
        DTypeError,
        "active must be a bool array, got int32; compare it first, as in active != 0",
        active=TARGETS,
    ),
    tokens(
        "token_logits_int32",
        DTypeError,
        f"logits must have one of the dtypes {FLOATS}, got int32; cast it first",
        logits=LOGITS.astype("int32"),
    ),
    tokens(
        "token_targets_float32",
        DTypeError,
        f"targets must be integer class labels, got float32; {NO_IDS}",
        targets=TARGETS.astype("float32"),
    ),
    tokens("token_logits_none", ArgumentTypeError, f"logits is None, {KINDS}", logits=None),
    tokens("token_targets_none", ArgumentTypeError, f"targets is None, {KINDS}", targets=None),
    tokens(
        "token_label",
        LabelError,
        "targets[1, 1] is -1, outside [0, 5); set active to False at such positions",
        TRACED,
        targets=edited(TARGETS, at_1_1=-1),
        active=WEIGHTS > 0,
    ),
    tokens(
        "token_label_without_active",
        LabelError,
        "targets[1, 1] is -1, outside [0, 5); set active to False at such positions, as in active=(targets != -1)",
        TRACED,
        targets=edited(TARGETS, at_1_1=-1),
    ),
    tokens(
        "token_label_rank_0",
        LabelError,
        f"targets is 5, outside [0, 5); {TOO_LARGE}",
        TRACED,
        logits=LOGITS[0, 0],
        targets=edited(TARGETS, at_1_1=5)[1, 1],
    ),
]

# --- masks ---

MASKS = [
    mask(
        "lengths_float32",
        DTypeError,
        "lengths must be integers, got float32; cast them to an integer dtype",
        lengths=LENGTHS.astype("float32"),
    ),
    mask(
        "lengths_bool",
        DTypeError,
        "lengths must be integers, got bool; cast them to an integer dtype",
        lengths=LENGTHS > 1,
    ),
    mask("lengths_none", ArgumentTypeError, f"lengths is None, {KINDS}", lengths=None),
    *(
        mask(
            f"maxlen_{value!r}",
            ArgumentTypeError,
            f"maxlen must be a Python integer or None, got {value!r}; convert it with int(...)",
            in_a_graph(value),
            maxlen=Raw(value),
        )
        for value in (3.0, True, "3", np.float32(3))
    ),
    mask(
        "maxlen_array",
        ArgumentTypeError,
        "maxlen must be a Python integer or None, got an array; it is the width of the mask, so it cannot be traced: "
        "take it from a shape, as in targets.shape[1], or make it static, as with functools.partial or jax.jit(..., "
        "static_argnames=...), or convert it with int(...)",
        maxlen=np.array(3),
    ),
    mask(
        "maxlen_negative",
        ShapeError,
        "maxlen must not be negative, got -1; it is the number of columns of the mask",
        maxlen=-1,
    ),
    mask(
        "maxlen_large",
        ShapeError,
        "maxlen must be below 2**31, got 2147483648; it is the number of columns of the mask",
        maxlen=2**31,
    ),
    *(
        mask(
            f"mask_dtype_{value!r}",
            DTypeError,
            f"dtype must name a bool, integer or float dtype such as 'float32', got {value!r}",
            dtype=value,
        )
        for value in ("complex64", "number", None)
    ),
    mask(
        "lengths_that_cannot_be_read",
        UnreadableError,
        "lengths have no values yet (traced or batched), so the longest is unknown; pass maxlen, "
        "the time size of the batch",
        {"eager": "arrays have values there", "numpy": "NumPy traces nothing"},
        maxlen=None,
    ),
]

# --- backends ---
ONCE = {"traced": "it takes no arrays"}
BACKENDS = [
    backend(
        "register_number",
        ArgumentTypeError,
        "framework must be the name of a module as a string, got 5",
        ONCE,
        framework=5,
        adapter_module="m",
    ),
    backend(
        "register_module",
        ArgumentTypeError,
        "adapter_module must be the name of a module as a string, got None",
        ONCE,
        framework="new",
        adapter_module=None,
    ),
    backend(
        "register_a_submodule",
        BackendError,
        "framework must be a top-level module, got 'cupy.core'; is it 'cupy'?",
        ONCE,
        framework="cupy.core",
        adapter_module="m",
    ),
    backend(
        "register_twice",
        BackendError,
        "the framework 'jax' has a backend already (seqloss.backends.jax)",
        ONCE,
        framework="jax",
        adapter_module="m",
    ),
    row(
        dispatch.load,
        {},
        "unknown_backend",
        BackendError,
        "unknown backend 'mxnet'; choose from numpy, torch, tensorflow, jax",
        ONCE,
        framework="mxnet",
    ),
]
