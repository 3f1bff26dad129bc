"""Calls of the linear loss that are wrong. What it shares with ``sequence_loss`` is there; here is what it adds."""

import functools

import numpy as np
from row import EXACT, FLOATS, IN_A_GRAPH, TARGETS, TOO_LARGE, WEIGHTS, Raw, edited, in_a_graph, like, row, static

import seqloss
from seqloss import ArgumentTypeError, DTypeError, LabelError, MixedBackendsError, OptionError, ShapeError, Smoothing

HIDDEN = np.random.RandomState(8).randn(2, 3, 4).astype("float32")
KERNEL = np.random.RandomState(9).randn(4, 5).astype("float32")
BIAS = np.array([0, 1, 0, -1, 0], "float32")
SOFT = np.full((2, 3, 5), 0.2, "float32")
STANDARD = {"hidden": HIDDEN, "kernel": KERNEL, "targets": TARGETS, "weights": WEIGHTS}
PACKED = {
    "hidden": HIDDEN.reshape(6, 4),
    "kernel": KERNEL,
    "targets": TARGETS.ravel(),
    "weights": WEIGHTS.ravel(),
    "cu_seqlens": np.array([0, 1, 6], "int32"),
}
linear = functools.partial(row, seqloss.linear_sequence_loss, STANDARD)
gradient = functools.partial(row, seqloss.linear_sequence_loss_and_grad, STANDARD)
total = functools.partial(row, seqloss.linear_loss_sum, STANDARD)
packed = functools.partial(row, seqloss.linear_sequence_loss, PACKED)
FUNCTIONS = (("loss", linear), ("gradient", gradient), ("sum", total))
SAME_MODEL = "see that it belongs to the same model"
KERNEL_SIZE = "kernel must have the shape [features, classes] = [4, ?] beside hidden, got"
ONE_EACH = "pass one number for each class"
NAMES = "wrt must be 'hidden', 'kernel', 'bias', 'weights' or a tuple of them, got"

LINEAR = [
    *(
        linear(
            f"linear_hidden_{name}",
            ShapeError,
            f"hidden must have the shape [batch, time, features], got {shape}; {mend}",
            hidden=like(HIDDEN, *sizes),
        )
        for name, shape, mend, sizes in (
            ("of_rank_1", "[4]", "see that the axes are these", (4,)),
            ("of_rank_2", "[6, 4]", "packed ones need cu_seqlens", (6, 4)),
            ("of_rank_4", "[2, 3, 1, 4]", "see that the axes are these", (2, 3, 1, 4)),
        )
    ),
    *(
        packed(
            f"linear_packed_hidden_{name}",
            ShapeError,
            f"packed hidden must have the shape [tokens, features], got {shape}; {mend}",
            hidden=like(HIDDEN, *sizes),
        )
        for name, shape, mend, sizes in (
            ("that_is_padded", "[2, 3, 4]", "a padded batch goes without cu_seqlens", (2, 3, 4)),
            ("of_rank_1", "[4]", "flatten all axes but the last", (4,)),
        )
    ),
    *(
        function(
            f"linear_kernel_as_a_layer_has_it_{kind}",
            ShapeError,
            f"{KERNEL_SIZE} [5, 4]; a weight [classes, features], as Linear and Embedding have it, is passed "
            "transposed, as kernel.T",
            kernel=KERNEL.T.copy(),
        )
        for kind, function in FUNCTIONS
    ),
    *(
        linear(f"linear_kernel_{name}", ShapeError, f"{KERNEL_SIZE} {shape}; {SAME_MODEL}", kernel=like(KERNEL, *sizes))
        for name, shape, sizes in (
            ("of_rank_1", "[4]", (4,)),
            ("of_rank_3", "[1, 4, 5]", (1, 4, 5)),
            ("of_other_features", "[3, 5]", (3, 5)),
        )
    ),
    *(
        linear(
            f"linear_bias_{name}",
            ShapeError,
            f"bias must have the shape [classes] = [5] of the kernel, got {shape}; {ONE_EACH}",
            bias=like(BIAS, *sizes),
        )
        for name, shape, sizes in (("short", "[4]", (4,)), ("of_rank_2", "[1, 5]", (1, 5)), ("scalar", "[]", ()))
    ),
    *(
        linear(
            f"linear_{name}_of_{dtype}",
            DTypeError,
            f"{name} must have one of the dtypes {FLOATS}, got {dtype}; cast it first",
            **{name: like(array, *array.shape).astype(dtype)},
        )
        for name, array in (("hidden", HIDDEN), ("kernel", KERNEL), ("bias", BIAS))
        for dtype in ("int32", "bool")
    ),
    linear(
        "linear_targets_of_another_batch",
        ShapeError,
        f"targets must have the shape [batch, time] = [2, 3] of logits, got [2, 4]; {EXACT}",
        targets=like(TARGETS, 2, 4),
    ),
    *(
        function(f"linear_chunk_{name}_{kind}", error, f"chunk must be {text}", chunk=value)
        for kind, function in FUNCTIONS
        for name, error, text, value in (
            ("of_0", OptionError, "at least 1, got 0", 0),
            ("below_0", OptionError, "at least 1, got -1", -1),
            ("bool", ArgumentTypeError, "an integer, got True; convert it with int(...)", True),
            ("float", ArgumentTypeError, "an integer, got 2.0; convert it with int(...)", 2.0),
        )
    ),
    linear(
        "linear_chunk_array",
        ArgumentTypeError,
        f"chunk must be an integer, got an array; {static('int')}",
        in_a_graph(np.array(2)),
        chunk=np.array(2),
    ),
    *(
        linear(
            f"linear_numpy_hidden_{name}",
            MixedBackendsError,
            f"hidden is a numpy array but {name} is a FRAMEWORK array; convert hidden to FRAMEWORK",
            {"numpy": "they are of one framework", **IN_A_GRAPH},
            **{**{key: Raw(x) for key, x in STANDARD.items()}, name: array},
        )
        for name, array in (("kernel", KERNEL), ("bias", BIAS), ("targets", TARGETS))
    ),
    *(
        gradient(f"linear_wrt_{name}", OptionError, f"{NAMES} {shown}", wrt=wrt)
        for name, shown, wrt in (("logits", "'logits'", "logits"), ("nothing", "()", ()))
    ),
    gradient(
        "linear_wrt_a_bias_that_is_not_there",
        ArgumentTypeError,
        "wrt asks for the gradient with respect to bias, but bias is None; pass an array of floats",
        wrt=("hidden", "bias"),
    ),
    gradient(
        "linear_wrt_weights_that_are_not_there",
        ArgumentTypeError,
        "wrt asks for the gradient with respect to weights, but weights is None; pass an array of floats",
        weights=None,
        wrt=("hidden", "weights"),
    ),
    linear(
        "linear_normalizer_of_tokens",
        OptionError,
        "normalizer replaces the denominator of a loss that is a single number, but here the flags or the "
        "reduction keep an axis; divide the result instead, or pass reduction='sum'",
        reduction="none",
        normalizer=3.0,
    ),
    linear(
        "linear_label_outside",
        LabelError,
        f"targets[1, 1] is 7, outside [0, 5); {TOO_LARGE}",
        {"traced": "what has no values yet makes NaN instead"},
        targets=edited(TARGETS, at_1_1=7),
        check_labels=True,
    ),
    *(
        linear(
            f"linear_soft_targets_{name}",
            OptionError,
            f"{option} cannot be combined with soft targets, which have no single label; {mend}",
            targets=SOFT,
            **options,
        )
        for name, option, mend, options in (
            ("ignored", "ignore_index", "give such tokens weight 0", {"ignore_index": 0}),
            (
                "off_target",
                "Smoothing(off_target=True)",
                "leave it out, or pass class ids",
                {"label_smoothing": Smoothing(0.1, off_target=True)},
            ),
        )
    ),
    total(
        "linear_sum_of_soft_targets",
        OptionError,
        "seqloss.linear_loss_sum cannot be combined with soft targets, which have no single label; leave it out, or "
        "pass class ids",
        targets=SOFT,
    ),
    linear(
        "linear_exact_of_float64",
        DTypeError,
        "exact=True does not take float64 logits: it computes in float64 and rounds the results once, to float32, and "
        "float64 results would need a wider dtype. Cast them to float32, or leave exact=True out",
        {"jax": "float64 is float32 there, unless it is switched on"},
        kernel=KERNEL.astype("float64"),
        exact=True,
    ),
]
