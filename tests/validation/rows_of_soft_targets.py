"""Calls with soft targets that are wrong, or beside options that need class ids."""

import numpy as np
from row import EXACT, LOGITS, TARGETS, WEIGHTS, edited, gradient, like, loss

from seqloss import DTypeError, LabelError, OptionError, ShapeError, Smoothing, UnreadableError

SOFT = np.full((2, 3, 5), 0.2, "float32")
SIZES = "soft targets must have the shape [batch, time, classes] = [2, 3, 5] of logits, got"
NO_VALUES = {"traced": "what has no values yet makes NaN instead, or cannot be read at all"}
FUNCTIONS = (("loss", loss), ("gradient", gradient))

SOFT_TARGETS = [
    *(
        loss(f"soft_targets_{name}", ShapeError, f"{SIZES} {shape}; {EXACT}", targets=value)
        for name, shape, value in (
            ("of_another_batch", "[3, 3, 5]", like(SOFT, 3, 3, 5)),
            ("of_another_time", "[2, 4, 5]", like(SOFT, 2, 4, 5)),
            ("of_other_classes", "[2, 3, 4]", like(SOFT, 2, 3, 4)),
            ("without_classes", "[2, 3, 0]", like(SOFT, 2, 3, 0)),
            ("transposed", "[3, 2, 5]", like(SOFT, 3, 2, 5)),
        )
    ),
    loss(
        "soft_targets_with_an_axis_of_1",
        ShapeError,
        f"{SIZES} [2, 3, 1]; class ids are integers without a class axis, as in targets[..., 0]",
        targets=like(SOFT, 2, 3, 1),
    ),
    *(
        function(
            f"soft_targets_{kind}_{name}",
            OptionError,
            f"{option} cannot be combined with soft targets, which have no single label; {mend}",
            targets=SOFT,
            **options,
        )
        for kind, function in FUNCTIONS
        for name, option, mend, options in (
            ("ignored", "ignore_index", "give such tokens weight 0", {"ignore_index": 0}),
            (
                "off_target",
                "Smoothing(off_target=True)",
                "leave it out, or pass class ids",
                {"label_smoothing": Smoothing(0.1, off_target=True)},
            ),
            (
                "centred",
                "Smoothing(centred=True)",
                "leave it out, or pass class ids",
                {"label_smoothing": Smoothing(0.1, centred=True)},
            ),
            (
                "of_a_custom_loss",
                "softmax_loss_function",
                "leave it out, or pass class ids",
                {"softmax_loss_function": lambda labels, logits: logits[:, 0]},
            ),
        )
    ),
    loss(
        "soft_targets_that_are_negative",
        LabelError,
        "targets[1, 0, 3] is -0.5, but soft targets must not be negative; are they log probabilities?",
        NO_VALUES,
        targets=edited(SOFT, at_1_0_3=-0.5),
        check_labels=True,
    ),
    loss(
        "soft_targets_that_are_log_probabilities",
        LabelError,
        "targets[0, 0, 0] is -0.5, but soft targets must not be negative (and 19 more); are they log probabilities?",
        NO_VALUES,
        targets=np.where(WEIGHTS[..., None] == 0, np.float32(-2), np.float32(-0.5)) * np.ones(5, "float32"),
        check_labels=True,
    ),
    loss(
        "soft_targets_that_are_negative_in_time",
        LabelError,
        "targets[0, 1, 0] is -0.5, but soft targets must not be negative (and 1 more); are they log probabilities?",
        NO_VALUES,
        targets=edited(SOFT, at_0_1_0=-0.5, at_0_2_0=-0.5, at_1_0_0=-0.5),
        weights=None,
        lengths=np.array([3, 0]),
        check_labels=True,
    ),
    loss(
        "soft_targets_that_cannot_be_read",
        UnreadableError,
        "check_labels=True must read targets and weights, but here they have no values yet (traced, batched, or "
        "without storage); check them outside the compiled function, or pass check_labels=None",
        {"eager": "arrays have values there", "numpy": "NumPy traces nothing"},
        targets=SOFT,
        check_labels=True,
    ),
    gradient(
        "gradient_of_class_ids",
        DTypeError,
        "wrt asks for the gradient with respect to targets, but they are class ids of int32, which have no gradient; "
        "pass soft targets, a float for each class",
        wrt=("logits", "targets"),
    ),
    gradient(
        "gradient_of_class_ids_in_half",
        DTypeError,
        "wrt asks for the gradient with respect to targets, but they are class ids of uint8, which have no gradient; "
        "pass soft targets, a float for each class",
        logits=LOGITS.astype("float16"),
        targets=TARGETS.astype("uint8"),
        wrt="targets",
    ),
]
