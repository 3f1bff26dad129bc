"""Calls with packed input, or with targets to be shifted, that are wrong."""

import functools

import numpy as np
from row import EXACT, LENGTHS, LOGITS, TARGETS, WEIGHTS, Raw, like, loss, row

import seqloss
from seqloss import DTypeError, OptionError, ShapeError

OFFSETS = np.array([0, 1, 6], "int32")
TRACED = {"traced": "what has no values yet makes NaN instead"}
PACKED = {"logits": LOGITS.reshape(6, 5), "targets": TARGETS.ravel(), "weights": WEIGHTS.ravel(), "cu_seqlens": OFFSETS}
packed = functools.partial(row, seqloss.sequence_loss, PACKED)
packed_gradient = functools.partial(row, seqloss.sequence_loss_and_grad, PACKED)
shift = functools.partial(row, seqloss.next_token, {"targets": TARGETS})
FUNCTIONS = (("loss", packed), ("gradient", packed_gradient))
NO_STEPS = (
    "packed sequences have no common timesteps, but the flags keep only the time axis; average across timesteps as "
    "well, or pass a padded batch"
)
BUFFER = "for a padded buffer add one more sequence, whose tokens have weight 0"
NO_TIME = {"average_across_timesteps": False}
OFFSETS_SHAPE = "pass the offset at which each sequence begins, and then the number of tokens"

PACKED_INPUT = [
    loss(
        "padded_logits_beside_offsets",
        ShapeError,
        "packed logits must have the shape [tokens, classes], got [2, 3, 5]; for a padded batch leave cu_seqlens out",
        cu_seqlens=OFFSETS,
    ),
    packed(
        "logits_of_a_single_token_beside_offsets",
        ShapeError,
        "packed logits must have the shape [tokens, classes], got [5]; flatten all axes but the last",
        logits=LOGITS[0, 0],
    ),
    *(
        packed(
            f"packed_{name}_{kind}",
            ShapeError,
            f"packed {name} must have the shape [tokens] = [6] of logits, got {shape}; {EXACT}",
            **{name: value},
        )
        for name, array in (("targets", TARGETS), ("weights", WEIGHTS))
        for kind, shape, value in (("padded", "[2, 3]", array), ("short", "[5]", array.ravel()[:5]))
    ),
    packed(
        "packed_soft_targets",
        ShapeError,
        f"packed soft targets must have the shape [tokens, classes] = [6, 5] of logits, got [6, 4]; {EXACT}",
        targets=like(LOGITS, 6, 4),
    ),
    *(
        packed(
            f"offsets_{name}",
            ShapeError,
            f"cu_seqlens must have the shape [batch + 1], got {shape}; {OFFSETS_SHAPE}",
            cu_seqlens=value,
        )
        for name, shape, value in (
            ("rank_0", "[]", np.array(6)),
            ("rank_2", "[1, 3]", OFFSETS[None]),
            ("empty", "[0]", OFFSETS[:0]),
        )
    ),
    *(
        packed(
            f"offsets_{dtype}",
            DTypeError,
            f"cu_seqlens must be integers, got {dtype}; cast them to an integer dtype",
            cu_seqlens=OFFSETS.astype(dtype),
        )
        for dtype in ("float32", "bool")
    ),
    *(
        function(
            f"offsets_{kind}_{name}", OptionError, f"{text}; {BUFFER}", TRACED, cu_seqlens=np.array(value, "int32")
        )
        for kind, function in FUNCTIONS
        for name, text, value in (
            ("from_1", "cu_seqlens must begin with 0, got 1", [1, 6]),
            ("that_fall", "cu_seqlens must not decrease, but [1] is 4 and [2] is 3", [0, 4, 3, 6]),
            ("too_short", "cu_seqlens must end with the number of tokens, 6, got 5", [0, 5]),
            ("too_long", "cu_seqlens must end with the number of tokens, 6, got 7", [0, 1, 7]),
            ("of_no_sequence", "cu_seqlens must end with the number of tokens, 6, got 0", [0]),
        )
    ),
    *(
        function(
            f"lengths_beside_offsets_{kind}",
            OptionError,
            "lengths cannot be combined with packed sequences, which have lengths of their own; leave them out",
            lengths=LENGTHS,
        )
        for kind, function in FUNCTIONS
    ),
    *(
        function(f"timesteps_of_packed_{kind}_{name}", OptionError, NO_STEPS, **options)
        for kind, function in FUNCTIONS
        for name, options in (
            ("average", NO_TIME),
            ("sum", {**NO_TIME, "average_across_batch": False, "sum_over_batch": True}),
        )
    ),
]

SHIFTED = [
    shift(
        "shift_packed_without_offsets",
        ShapeError,
        "targets must have the shape [batch, time], got [6]; for packed targets pass cu_seqlens",
        targets=TARGETS.ravel(),
    ),
    shift(
        "shift_one_hot",
        ShapeError,
        "targets must have the shape [batch, time], got [2, 3, 5]; class ids have no class axis",
        targets=np.eye(5, dtype="int32")[TARGETS],
    ),
    shift(
        "shift_padded_with_offsets",
        ShapeError,
        "packed targets must have the shape [tokens], got [2, 3]; for a padded batch leave cu_seqlens out",
        cu_seqlens=OFFSETS,
    ),
    shift(
        "shift_weights_size",
        ShapeError,
        f"weights must have the shape [2, 3] of targets, got [2, 2]; {EXACT}",
        weights=WEIGHTS[:, :2],
    ),
    shift(
        "shift_segments_size",
        ShapeError,
        f"segment_ids must have the shape [2, 3] of targets, got [3]; {EXACT}",
        segment_ids=TARGETS[0],
    ),
    shift(
        "shift_floats",
        DTypeError,
        "targets must be integer class labels, got float32; cast class ids to an integer dtype; for class "
        "probabilities use a soft-label cross entropy",
        targets=WEIGHTS,
    ),
    shift(
        "shift_float_segments",
        DTypeError,
        "segment_ids must be integers, got float32; cast them to an integer dtype",
        segment_ids=WEIGHTS,
    ),
    shift(
        "shift_complex_weights",
        DTypeError,
        "weights must be a float, integer or bool array, got complex64; cast it first",
        weights=WEIGHTS.astype("complex64"),
    ),
    shift(
        "shift_lengths_beyond_time",
        OptionError,
        "lengths[1] is 4, but sequences have 3 timesteps; a length must be from 0 to that number",
        TRACED,
        lengths=np.array([1, 4]),
    ),
    shift(
        "shift_lengths_size",
        ShapeError,
        "lengths must have the shape [batch] = [2] of targets, got [3]; pass one length for each sequence",
        lengths=np.array([1, 2, 3]),
    ),
    shift(
        "shift_offsets_and_lengths",
        OptionError,
        "lengths cannot be combined with packed sequences, which have lengths of their own; leave them out",
        targets=TARGETS.ravel(),
        cu_seqlens=OFFSETS,
        lengths=LENGTHS,
    ),
    shift(
        "shift_offsets_too_short",
        OptionError,
        f"cu_seqlens must end with the number of tokens, 6, got 5; {BUFFER}",
        TRACED,
        targets=TARGETS.ravel(),
        cu_seqlens=np.array([0, 5]),
    ),
    shift(
        "shift_ignored",
        seqloss.ArgumentTypeError,
        "ignore_index must be a Python integer, a tuple of them or None, got 'pad'; "
        "to leave out tokens by a mask give them weight 0",
        ignore_index=Raw("pad"),
    ),
]
