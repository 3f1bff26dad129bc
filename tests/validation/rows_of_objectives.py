"""Calls with wrong options of what a loss adds up, which tokens count, and how they are averaged."""

import math

import numpy as np
from row import (
    FLAGS,
    IN_A_GRAPH,
    KINDS,
    LENGTHS,
    NO_FLAG,
    STANDARD,
    WEIGHTS,
    gradient,
    loss,
    row,
    static,
    tokens,
)

import seqloss
from seqloss import ArgumentTypeError, DTypeError, OptionError, ShapeError, Smoothing

CLASSES = np.ones(5, "float32")
"""One number for each class."""
TRACED = {"traced": "what has no values yet makes NaN instead"}
IN_GRAPHS = ("torch-compile", "torch-fullgraph")
LISTED = dict.fromkeys(
    IN_GRAPHS, "PyTorch traces lists and numbers as NumPy values, which it refuses, or without values"
)
OVERFLOWS = dict.fromkeys(IN_GRAPHS, "PyTorch converts the number while it traces, and fails itself")
FUNCTIONS = (("loss", loss), ("gradient", gradient), ("token", tokens))


def of_smoothing(logits, targets, weights, eps=0.1, **fields):
    """The loss with ``Smoothing(eps, **fields)``, whose arrays are arrays of the framework."""
    return seqloss.sequence_loss(logits, targets, weights, label_smoothing=Smoothing(eps, **fields))


def smoothing(name, error, text, unlike=None, /, **fields):
    return row(of_smoothing, STANDARD, f"smoothing_{name}", error, text, unlike, **fields)


def at(place, value):
    """A number for each class, one of which is this."""
    numbers = CLASSES.copy()
    numbers[place] = value
    return numbers


# --- numbers: label_smoothing, z_loss, softcap ---

NUMBER_OR_SMOOTHING = "label_smoothing must be a Python number or a seqloss.Smoothing, got"
EPS = "label_smoothing must be in [0, 1), got"
FRACTION = "it is a fraction, not a percentage"
CONVERT = "convert it with float(...)"
Z_LOSS = "z_loss must be at least 0 and finite, got"
SOFTCAP = "softcap must be positive and finite, got"
BEYOND = "is an integer beyond the range of floats; pass a number below 1e308"

NUMBERS = [
    *(
        loss(
            f"label_smoothing_{value!r}",
            ArgumentTypeError,
            f"{NUMBER_OR_SMOOTHING} {value!r}; {CONVERT}",
            label_smoothing=value,
        )
        for value in ("0.1", None, (0.1,), True, False, 0.1j)
    ),
    *(
        function(
            f"label_smoothing_{kind}_array",
            ArgumentTypeError,
            f"{NUMBER_OR_SMOOTHING} an array; {static('float')}",
            label_smoothing=np.array(0.1),
        )
        for kind, function in FUNCTIONS
    ),
    *(
        loss(f"label_smoothing_{value!r}", OptionError, f"{EPS} {value!r}; {FRACTION}", label_smoothing=value)
        for value in (-0.1, -1, 1, 1.0, 10, math.nan, math.inf)
    ),
    *(
        function(f"label_smoothing_{kind}_2", OptionError, f"{EPS} 2; {FRACTION}", label_smoothing=2)
        for kind, function in FUNCTIONS
    ),
    *(
        loss(f"z_loss_{value!r}", OptionError, f"{Z_LOSS} {value!r}; a usual value is 1e-4", z_loss=value)
        for value in (-0.0001, -1, math.inf, math.nan)
    ),
    *(
        loss(
            f"z_loss_{value!r}",
            ArgumentTypeError,
            f"z_loss must be a Python number, got {value!r}; {CONVERT}",
            z_loss=value,
        )
        for value in ("1e-4", True, None)
    ),
    *(
        loss(f"softcap_{value!r}", OptionError, f"{SOFTCAP} {value!r}; pass None for no cap", softcap=value)
        for value in (0, 0.0, -30, -0.5, math.inf, math.nan)
    ),
    *(
        loss(
            f"softcap_{value!r}",
            ArgumentTypeError,
            f"softcap must be a Python number or None, got {value!r}; {CONVERT}",
            softcap=value,
        )
        for value in ("30", True)
    ),
    *(
        function(
            f"z_loss_{kind}_array",
            ArgumentTypeError,
            f"z_loss must be a Python number, got an array; {static('float')}",
            z_loss=np.array(0.1),
        )
        for kind, function in FUNCTIONS
    ),
    *(
        function(
            f"softcap_{kind}_array",
            ArgumentTypeError,
            f"softcap must be a Python number or None, got an array; {static('float')}",
            softcap=np.array(30.0),
        )
        for kind, function in FUNCTIONS
    ),
    *(
        function(f"z_loss_{kind}_-2", OptionError, f"{Z_LOSS} -2; a usual value is 1e-4", z_loss=-2)
        for kind, function in FUNCTIONS
    ),
    *(
        function(f"softcap_{kind}_-2", OptionError, f"{SOFTCAP} -2; pass None for no cap", softcap=-2)
        for kind, function in FUNCTIONS
    ),
    *(
        loss(f"{name}_too_large", OptionError, f"{name} {BEYOND}", OVERFLOWS, **{name: 10**400})
        for name in ("label_smoothing", "z_loss", "softcap", "normalizer")
    ),
]

# --- the fields of Smoothing ---

SLIPPED = "if a positional argument ended up here by mistake, pass it by keyword"
IDS = "Smoothing.exclude must be a tuple of class ids, got"
ONE_ID = "write them as Python integers, a single one as in (0,)"
NO_CLASS = "leave out ids that are not classes"
PRIOR = "Smoothing.prior must have the shape [classes] = [5] of logits, got"
EACH = "pass one number for each class"
LESS = "but the number of a class must not be negative; to leave a class out give it 0"
ALL_ZERO = "Smoothing.prior is 0 for every class; give at least one class a positive number"

SMOOTHING = [
    smoothing("eps_string", ArgumentTypeError, f"{NUMBER_OR_SMOOTHING} 'much'; {CONVERT}", eps="much"),
    smoothing("eps_array", ArgumentTypeError, f"{NUMBER_OR_SMOOTHING} an array; {static('float')}", eps=np.array(0.1)),
    smoothing("eps_1", OptionError, f"{EPS} 1; {FRACTION}", eps=1),
    smoothing(
        "of_smoothing",
        ArgumentTypeError,
        f"{NUMBER_OR_SMOOTHING} Smoothing(eps=0.1, off_target=False, centred=False, prior=None, exclude=()); {CONVERT}",
        eps=Smoothing(0.1),
    ),
    *(
        smoothing(
            f"{field}_{value!r}",
            ArgumentTypeError,
            f"Smoothing.{field} must be True or False, got {value!r}; {SLIPPED}",
            **{field: value},
        )
        for field in ("off_target", "centred")
        for value in (1, "yes", None)
    ),
    *(
        smoothing(
            f"{field}_array",
            ArgumentTypeError,
            f"Smoothing.{field} must be True or False, got an array; {static('bool')}",
            **{field: np.array(True)},
        )
        for field in ("off_target", "centred")
    ),
    *(
        smoothing(f"exclude_{value!r}", ArgumentTypeError, f"{IDS} {value!r}; {ONE_ID}", exclude=value)
        for value in (0, {0}, "pad", None, (True,), (0, False), [1, True], (1.0,))
    ),
    smoothing("exclude_array", ArgumentTypeError, f"{IDS} an array; {static('tuple')}", exclude=np.array([0])),
    *(
        smoothing(
            f"exclude_{value!r}",
            OptionError,
            f"Smoothing.exclude must hold class ids in [0, 5), got {first}; {NO_CLASS}",
            exclude=value,
        )
        for value, first in (((-1,), -1), ((0, -100), -100), ((5,), 5), ([4, 7, 9], 7))
    ),
    *(
        function(
            f"smoothing_exclude_{kind}",
            OptionError,
            f"Smoothing.exclude must hold class ids in [0, 5), got 5; {NO_CLASS}",
            label_smoothing=Smoothing(0.1, exclude=(5,)),
        )
        for kind, function in FUNCTIONS
    ),
    smoothing("prior_rank_2", ShapeError, f"{PRIOR} [1, 5]; {EACH}", prior=CLASSES[None]),
    smoothing("prior_rank_0", ShapeError, f"{PRIOR} []; {EACH}", prior=CLASSES[0]),
    smoothing("prior_short", ShapeError, f"{PRIOR} [4]; {EACH}", prior=CLASSES[:4]),
    smoothing("prior_number", ShapeError, f"{PRIOR} []; {EACH}", IN_A_GRAPH, prior=0.2),
    smoothing("prior_list", ShapeError, f"{PRIOR} [3]; {EACH}", IN_A_GRAPH, prior=[0.2, 0.3, 0.5]),
    smoothing("prior_string", ArgumentTypeError, f"Smoothing.prior is a builtins.str, {KINDS}", prior="unigrams"),
    smoothing(
        "prior_complex64",
        DTypeError,
        "Smoothing.prior must be a float, integer or bool array, got complex64; cast it first",
        prior=CLASSES.astype("complex64"),
    ),
    smoothing("prior_negative", OptionError, f"Smoothing.prior[3] is -0.5, {LESS}", TRACED, prior=at(3, -0.5)),
    smoothing(
        "prior_negative_int32",
        OptionError,
        f"Smoothing.prior[0] is -2.0, {LESS}",
        TRACED,
        prior=at(slice(0, 2), -2).astype("int32"),
    ),
    smoothing("prior_zero", OptionError, ALL_ZERO, TRACED, prior=0 * CLASSES),
    smoothing("prior_false", OptionError, ALL_ZERO, TRACED, prior=CLASSES < 0),
    smoothing(
        "prior_negative_list", OptionError, f"Smoothing.prior[1] is -1.0, {LESS}", LISTED, prior=[1, -1, 1, 1, 1]
    ),
    smoothing("prior_zero_list", OptionError, ALL_ZERO, LISTED, prior=[0.0] * 5),
]

# --- class_weights ---

OF_CLASSES = "class_weights must have the shape [classes] = [5] of logits, got"

CLASS_WEIGHTS = [
    *(
        function(f"class_weights_{kind}_{name}", ShapeError, f"{OF_CLASSES} {shape}; {EACH}", class_weights=value)
        for kind, function in FUNCTIONS
        for name, shape, value in (
            ("rank_2", "[1, 5]", CLASSES[None]),
            ("rank_0", "[]", CLASSES[0]),
            ("of_tokens", "[2, 3]", WEIGHTS),
            ("short", "[4]", CLASSES[:4]),
        )
    ),
    loss("class_weights_list", ShapeError, f"{OF_CLASSES} [2]; {EACH}", IN_A_GRAPH, class_weights=[1.0, 2.0]),
    loss("class_weights_number", ShapeError, f"{OF_CLASSES} []; {EACH}", IN_A_GRAPH, class_weights=2.0),
    loss("class_weights_string", ArgumentTypeError, f"class_weights is a builtins.str, {KINDS}", class_weights="even"),
    loss("class_weights_dict", ArgumentTypeError, f"class_weights is a builtins.dict, {KINDS}", class_weights={0: 2.0}),
    *(
        function(
            f"class_weights_{kind}_complex64",
            DTypeError,
            "class_weights must be a float, integer or bool array, got complex64; cast it first",
            class_weights=CLASSES.astype("complex64"),
        )
        for kind, function in FUNCTIONS
    ),
    *(
        function(
            f"class_weights_{kind}_negative",
            OptionError,
            f"class_weights[2] is -0.5, {LESS}",
            TRACED,
            class_weights=at(slice(2, 4), -0.5),
        )
        for kind, function in FUNCTIONS
    ),
    loss(
        "class_weights_negative_list",
        OptionError,
        f"class_weights[4] is -1.0, {LESS}",
        LISTED,
        class_weights=[1, 1, 1, 1, -1],
    ),
    *(
        function(
            f"class_weights_{kind}_and_{field}",
            OptionError,
            f"class_weights cannot be combined with Smoothing({field}=True), for which there is no agreed formula; "
            "leave one of them out",
            class_weights=CLASSES,
            label_smoothing=Smoothing(0.1, **{field: True}),
        )
        for kind, function in FUNCTIONS
        for field in ("off_target", "centred")
    ),
]

# --- which tokens count: ignore_index, lengths ---

INTEGERS = "ignore_index must be a Python integer, a tuple of them or None, got"
SHAPE_OF_LENGTHS = "lengths must have the shape [batch] = [2] of logits, got"
IN_TIME = "but sequences have 3 timesteps; a length must be from 0 to that number"

COUNTING = [
    *(
        loss(
            f"ignore_index_{value!r}",
            ArgumentTypeError,
            f"{INTEGERS} {value!r}; to leave out tokens by a mask give them weight 0",
            ignore_index=value,
        )
        for value in (-100.0, "pad", True, {0}, [0, True], (0, 1.0), ((0,),))
    ),
    *(
        function(
            f"ignore_index_{kind}_array",
            ArgumentTypeError,
            f"{INTEGERS} an array; {static('int')}",
            ignore_index=np.array(0),
        )
        for kind, function in FUNCTIONS[:2]
    ),
    *(
        function(f"lengths_{kind}_{name}", ShapeError, f"{SHAPE_OF_LENGTHS} {shape}; {mend}", lengths=value)
        for kind, function in FUNCTIONS[:2]
        for name, shape, mend, value in (
            ("rank_0", "[]", "pass one length for each sequence", LENGTHS[0]),
            ("rank_2", "[2, 3]", "pass a mask of tokens as weights", np.ones((2, 3), "int32")),
            ("column", "[2, 1]", "take the last axis off", np.ones((2, 1), "int32")),
            ("long", "[3]", "pass one length for each sequence", np.ones(3, "int32")),
        )
    ),
    loss(
        "lengths_number", ShapeError, f"{SHAPE_OF_LENGTHS} []; pass one length for each sequence", IN_A_GRAPH, lengths=3
    ),
    loss(
        "lengths_short_list",
        ShapeError,
        f"{SHAPE_OF_LENGTHS} [1]; pass one length for each sequence",
        IN_A_GRAPH,
        lengths=[3],
    ),
    loss("lengths_string", ArgumentTypeError, f"lengths is a builtins.str, {KINDS}", lengths="3, 1"),
    *(
        function(
            f"lengths_{kind}_{dtype}",
            DTypeError,
            f"lengths must be integers, got {dtype}; cast them to an integer dtype",
            lengths=LENGTHS.astype(dtype),
        )
        for kind, function in FUNCTIONS[:2]
        for dtype in ("float16", "bool")
    ),
    *(
        function(f"lengths_{kind}_{name}", OptionError, f"lengths[{text}, {IN_TIME}", TRACED, lengths=np.array(value))
        for kind, function in FUNCTIONS[:2]
        for name, text, value in (("negative", "1] is -1", [3, -1]), ("beyond", "0] is 4", [4, 7]))
    ),
    loss(
        "lengths_beyond_uint8",
        OptionError,
        f"lengths[0] is 255, {IN_TIME}",
        TRACED,
        lengths=np.array([255, 3], "uint8"),
    ),
    loss("lengths_negative_list", OptionError, f"lengths[0] is -1, {IN_TIME}", LISTED, lengths=[-1, 3]),
    loss("lengths_beyond_list", OptionError, f"lengths[1] is 4, {IN_TIME}", LISTED, lengths=[3, 4]),
]

# --- how they are averaged: reduction, normalizer ---

REDUCTION = "reduction must be one of 'mean', 'sum', 'none', 'per_sequence', 'sequence_mean' or None, got"
COUNT = "the weighted sum is divided by it, as by a count of tokens, and where it is 0 the loss is 0"
KEPT = (
    "normalizer replaces the denominator of a loss that is a single number, but here the flags or the reduction keep "
    "an axis; divide the result instead, or pass reduction='sum'"
)

AVERAGING = [
    *(
        loss(f"reduction_{value!r}", OptionError, f"{REDUCTION} {value!r}", reduction=value)
        for value in ("avg", "Mean", "", 0, True, ("mean",), b"mean")
    ),
    gradient("reduction_of_gradient", OptionError, f"{REDUCTION} 'avg'", reduction="avg"),
    *(
        loss(f"reduction_{key}", OptionError, f"{REDUCTION} '{key}'; here it is {ours}", reduction=key)
        for key, ours in (
            ("weighted_sum", "reduction='sum'"),
            ("weighted_mean", "reduction='mean'"),
            ("weighted_sum_over_batch_size", "reduction='sum' with normalizer=(the number of losses)"),
            (
                "weighted_sum_by_nonzero_weights",
                "no reduction, but the flags sum_over_timesteps and sum_over_batch, with both average flags False",
            ),
        )
    ),
    *(
        function(
            f"reduction_{value}_{kind}_and_flags_{name}",
            OptionError,
            f"reduction='{value}' cannot be combined with the average and sum flags, which choose the reduction too; "
            "leave the flags out",
            reduction=value,
            **flags,
        )
        for kind, function in FUNCTIONS[:2]
        for value, name, flags in (
            ("mean", "FTFF", {FLAGS[0]: False}),
            ("per_sequence", "TFFF", {FLAGS[1]: False}),
            ("none", "FFFF", NO_FLAG),
            ("sum", "FFTF", {**NO_FLAG, FLAGS[2]: True}),
            ("sequence_mean", "FFFT", {**NO_FLAG, FLAGS[3]: True}),
            ("sum", "FFTT", {**NO_FLAG, FLAGS[2]: True, FLAGS[3]: True}),
            ("sum", "TTTF", {FLAGS[2]: True}),
        )
    ),
    *(
        loss(
            f"normalizer_{value!r}",
            OptionError,
            f"normalizer must not be negative or NaN, got {float(value)}; {COUNT}",
            normalizer=value,
        )
        for value in (-1, -0.5, -math.inf, math.nan)
    ),
    *(
        function(
            f"normalizer_{kind}_negative_{dtype}",
            OptionError,
            f"normalizer must not be negative or NaN, got -6.0; {COUNT}",
            TRACED,
            normalizer=np.array(-6, dtype),
        )
        for kind, function in FUNCTIONS[:2]
        for dtype in ("float32", "int32")
    ),
    loss(
        "normalizer_nan_array",
        OptionError,
        f"normalizer must not be negative or NaN, got nan; {COUNT}",
        TRACED,
        normalizer=np.array(np.nan),
    ),
    *(
        loss(
            f"normalizer_{name}",
            DTypeError,
            f"normalizer must be a float or integer, got {dtype}; pass the number that the loss is divided by",
            normalizer=value,
        )
        for name, dtype, value in (
            ("True", "bool", True),
            ("bool_array", "bool", np.array(True)),
            ("complex64", "complex64", np.array(6, "complex64")),
        )
    ),
    *(
        function(
            f"normalizer_{kind}_{name}",
            ShapeError,
            f"normalizer must be a single number, the shape [], got {shape}; add it up first",
            normalizer=value,
        )
        for kind, function in FUNCTIONS[:2]
        for name, shape, value in (
            ("rank_1", "[1]", np.ones(1, "float32")),
            ("of_sequences", "[2]", np.ones(2, "int32")),
        )
    ),
    loss("normalizer_string", ArgumentTypeError, f"normalizer is a builtins.str, {KINDS}", normalizer="tokens"),
    *(
        function(f"normalizer_{kind}_{name}", OptionError, KEPT, normalizer=6.0, **options)
        for kind, function in FUNCTIONS[:2]
        for name, options in (
            ("of_none", {"reduction": "none"}),
            ("of_per_sequence", {"reduction": "per_sequence"}),
            ("of_batch", {FLAGS[1]: False}),
            ("of_time", {FLAGS[0]: False}),
            ("of_tokens", NO_FLAG),
            ("of_sums", {**NO_FLAG, FLAGS[2]: True}),
        )
    ),
]

# --- beside a loss of one's own ---

OF_CUSTOM_LOSS = [
    function(
        f"{name}_{kind}_of_custom_loss",
        OptionError,
        f"{name.removeprefix('a_')} cannot be combined with a softmax_loss_function, which computes the token losses "
        "itself; leave one of them out",
        softmax_loss_function=lambda labels, logits: logits[:, 0],
        **{name.removeprefix("a_"): value},
    )
    for kind, function in FUNCTIONS[:2]
    for name, value in (
        ("label_smoothing", 0.1),
        ("a_label_smoothing", Smoothing(0.1, centred=True)),
        ("class_weights", CLASSES),
        ("z_loss", 1e-4),
        ("softcap", 30.0),
    )
]

OBJECTIVES = [*NUMBERS, *SMOOTHING, *CLASS_WEIGHTS, *COUNTING, *AVERAGING, *OF_CUSTOM_LOSS]
