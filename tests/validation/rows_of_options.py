"""Calls with wrong flags, names, custom losses, or options of a gradient."""

import itertools

import numpy as np
from row import (
    AVERAGE_BATCH,
    AVERAGE_TIME,
    FLAGS,
    FLOATS,
    IN_A_GRAPH,
    KINDS,
    LOGITS,
    NO_FLAG,
    ONE,
    SUM_BATCH,
    SUM_TIME,
    TARGETS,
    TARGETS_SIZE,
    UNLESS,
    WEIGHTS,
    Raw,
    gradient,
    in_a_graph,
    like,
    loss,
    static,
    tokens,
)

from seqloss import ArgumentTypeError, BackendError, DTypeError, OptionError, ShapeError

# --- flags and options ---

# Which is tested among what only JAX has.
NO_FLOAT64 = {"jax": "JAX makes float32 of float64 where that is not switched on"}
SLIPPED = "if a positional argument ended up here by mistake, pass it by keyword"
ORDER = "because their order would be ambiguous"


def contradictions():
    """All nine illegal combinations, each with the first pair that the message names."""
    pairs = (
        (AVERAGE_TIME, SUM_TIME, ONE),
        (AVERAGE_BATCH, SUM_BATCH, ONE),
        (AVERAGE_BATCH, SUM_TIME, ORDER),
        (AVERAGE_TIME, SUM_BATCH, ORDER),
    )
    for values in itertools.product((True, False), repeat=4):
        flags = dict(zip(FLAGS, values, strict=True))
        for one, other, why in pairs:
            if flags[one] and flags[other]:
                name = "_".join("FT"[value] for value in values)
                yield loss(
                    f"flags_{name}", OptionError, f"{one} and {other} cannot both be True, {why}; {UNLESS}", **flags
                )
                break


OPTIONS = [
    *contradictions(),
    *(
        loss(
            f"{flag}_{value!r}",
            ArgumentTypeError,
            f"{flag} must be True or False, got {value!r}; {SLIPPED}",
            in_a_graph(value),
            **{flag: Raw(value)},
        )
        for flag, value in zip((*FLAGS, *FLAGS), (32000, np.int64(1), 1, 0, None, "yes", 1.0, [True]), strict=True)
    ),
    *(
        loss(
            f"{flag}_array",
            ArgumentTypeError,
            f"{flag} must be True or False, got an array; {static('bool')}",
            **{flag: np.array(True)},
        )
        for flag in FLAGS
    ),
    loss(
        "loss_function_0",
        ArgumentTypeError,
        "softmax_loss_function must be callable with the keywords labels= and logits=, or None, got 0",
        softmax_loss_function=0,
    ),
    loss(
        "loss_function_name",
        ArgumentTypeError,
        "softmax_loss_function must be callable with the keywords labels= and logits=, or None, got 'mean'",
        softmax_loss_function="mean",
    ),
    loss("name_number", ArgumentTypeError, "name must be a string or None, got 5", name=5),
    *(
        loss(
            f"check_labels_{value!r}",
            ArgumentTypeError,
            f"check_labels must be None, True or False, got {value!r}",
            in_a_graph(value),
            check_labels=Raw(value),
        )
        for value in (1, "yes", np.int64(1))
    ),
    loss(
        "check_labels_array",
        ArgumentTypeError,
        f"check_labels must be None, True or False, got an array; {static('bool')}",
        check_labels=np.array(True),
    ),
    *(
        function(
            f"exact_{kind}_{value!r}",
            ArgumentTypeError,
            f"exact must be True or False, got {value!r}; {SLIPPED}",
            exact=value,
        )
        for kind, function in (("loss", loss), ("gradient", gradient), ("token", tokens))
        for value in (1, "yes")
    ),
    *(
        function(
            f"exact_{kind}_array",
            ArgumentTypeError,
            f"exact must be True or False, got an array; {static('bool')}",
            exact=np.array(True),
        )
        for kind, function in (("loss", loss), ("gradient", gradient), ("token", tokens))
    ),
    *(
        function(
            f"exact_{kind}_of_float64",
            DTypeError,
            "exact=True does not take float64 logits: it computes in float64 and rounds the results once, to float32, "
            "and float64 results would need a wider dtype. Cast them to float32, or leave exact=True out",
            NO_FLOAT64,
            exact=True,
            logits=LOGITS.astype("float64"),
        )
        for kind, function in (("loss", loss), ("gradient", gradient), ("token", tokens))
    ),
    loss(
        "exact_of_custom_loss",
        OptionError,
        "exact=True cannot be combined with a softmax_loss_function, whose results seqloss does not compute; leave "
        "one of them out",
        exact=True,
        softmax_loss_function=lambda labels, logits: logits[:, 0],
    ),
    loss(
        "check_labels_of_custom_loss",
        OptionError,
        "check_labels=True cannot be combined with a softmax_loss_function, whose last axis need not be classes; "
        "check the labels inside that function",
        check_labels=True,
        softmax_loss_function=lambda labels, logits: logits[:, 0],
    ),
]

# --- custom losses ---

RETURN = "softmax_loss_function must return one loss per token, the shape [batch * time] = [6], got"
KEEP = "do not reduce or keep a class axis inside it"
OWN = "softmax_loss_function must return an array of the same framework as its logits, got a"

CUSTOM = [
    *(
        loss(f"custom_{name}", ShapeError, f"{RETURN} {shape}; {KEEP}", softmax_loss_function=function)
        for name, shape, function in (
            ("scalar", "[]", lambda labels, logits: logits[0, 0]),
            ("batch_time", "[2, 3]", lambda labels, logits: logits[:2, :3]),
            ("column", "[6, 1]", lambda labels, logits: logits[:, :1]),
            ("short", "[5]", lambda labels, logits: logits[:5, 0]),
        )
    ),
    loss(
        "custom_integer",
        DTypeError,
        f"the result of softmax_loss_function must have one of the dtypes {FLOATS}, got int32; cast it first",
        softmax_loss_function=lambda labels, logits: labels,
    ),
    loss("custom_list", ArgumentTypeError, f"{OWN} list", softmax_loss_function=lambda labels, logits: [0.0] * 6),
    loss("custom_none", ArgumentTypeError, f"{OWN} NoneType", softmax_loss_function=lambda labels, logits: None),
    gradient(
        "custom_gradient_column",
        ShapeError,
        f"{RETURN} [6, 1]; {KEEP}",
        {"numpy": "NumPy has no gradient of a custom loss"},
        softmax_loss_function=lambda labels, logits: logits[:, :1],
    ),
    gradient(
        "custom_gradient_on_numpy",
        BackendError,
        "a softmax_loss_function on NumPy arrays has no gradient, because NumPy cannot differentiate it; pass arrays "
        "of another framework, or call sequence_loss for the value alone",
        dict.fromkeys(("torch", "tensorflow", "jax"), "it differentiates the function"),
        softmax_loss_function=lambda labels, logits: logits[:, 0],
    ),
]

# --- sequence_loss_and_grad ---

GRADIENTS = [
    *(
        gradient(
            f"wrt_{wrt!r}",
            OptionError,
            f"wrt must be 'logits', 'weights', 'targets' or a tuple of them, got {wrt!r}",
            wrt=Raw(wrt),
        )
        for wrt in ("labels", "", (), ("logits", "logits"), ("logits", "labels"), None, 0, {"logits"}, ("logits", 0))
    ),
    gradient(
        "wrt_absent_weights",
        ArgumentTypeError,
        "wrt asks for the gradient with respect to weights, but weights is None; pass an array of floats",
        wrt="weights",
        weights=None,
    ),
    *(
        gradient(
            f"wrt_weights_{dtype}",
            DTypeError,
            f"wrt asks for the gradient with respect to weights, but they are {dtype}, which has no gradient; cast "
            "them to a float dtype",
            wrt=("logits", "weights"),
            weights=WEIGHTS.astype(dtype),
        )
        for dtype in ("int32", "bool")
    ),
    gradient(
        "cotangent_size",
        ShapeError,
        "cotangent must have the shape [2, 3] of the loss, got [3, 2]; nothing is broadcast",
        cotangent=WEIGHTS.T,
        **NO_FLAG,
    ),
    gradient(
        "cotangent_number",
        ShapeError,
        "cotangent must have the shape [2, 3] of the loss, got []; nothing is broadcast",
        IN_A_GRAPH,
        cotangent=Raw(1.0),
        **NO_FLAG,
    ),
    gradient(
        "cotangent_of_scalar",
        ShapeError,
        "cotangent must have the shape [] of the loss, got [1]; nothing is broadcast",
        cotangent=like(WEIGHTS, 1),
    ),
    *(
        gradient(
            f"cotangent_{dtype}",
            DTypeError,
            f"cotangent must be a float or integer array, got {dtype}; cast it to a float dtype",
            cotangent=WEIGHTS.astype(dtype),
            **NO_FLAG,
        )
        for dtype in ("complex64", "bool")
    ),
    gradient("cotangent_string", ArgumentTypeError, f"cotangent is a builtins.str, {KINDS}", cotangent="ones"),
    gradient(
        "gradient_flags",
        OptionError,
        f"{AVERAGE_TIME} and {SUM_TIME} cannot both be True, {ONE}; {UNLESS}",
        sum_over_timesteps=True,
    ),
    gradient(
        "gradient_transposed",
        ShapeError,
        f"{TARGETS_SIZE} [3, 2]; it is transposed: swap the two axes of targets",
        targets=TARGETS.T,
    ),
]
