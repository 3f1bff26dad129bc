"""Texts for sizes that are unknown while tracing and turn out to differ at run time."""

SIZES_DIFFER = (
    "targets and weights must have the [batch, time] of logits, but their sizes differ at run time; check that all "
    "three come from the same padded batch"
)
SOFT_TARGETS_DIFFER = (
    "soft targets must have the shape of logits, and weights its [batch, time], but their sizes differ at run time; "
    "check that all three come from the same padded batch"
)
TOKEN_SIZES_DIFFER = (
    "targets and active must have the shape of logits without the class axis, but their sizes differ at run time; "
    "check that all come from the same padded batch"
)
LABEL_SIZES_DIFFER = (
    "labels must have the shape of logits without the class axis, but their sizes differ at run time; check that both "
    "come from the same padded batch"
)
SOFT_SIZES_DIFFER = "the labels must have the shape of logits, but their sizes differ at run time"
POS_WEIGHT_SIZES_DIFFER = (
    "pos_weight must have the sizes of the last axes of logits, or 1, but its sizes differ at run time; where the "
    "rank of logits is unknown, it must be a scalar or have that rank"
)
WEIGHT_SIZES_DIFFER = (
    "weights must be a scalar, or have the rank of the losses and each of their sizes or 1, but their sizes differ at "
    "run time"
)
SHIFTED_SIZES_DIFFER = "weights and segment_ids must have the shape of targets, but their sizes differ at run time"
LENGTHS_DIFFER = "lengths must have one entry for each sequence of logits, but their sizes differ at run time"
CLASSES_DIFFER = "there must be one number for each class of logits, but their sizes differ at run time"
COTANGENT_SIZES_DIFFER = "cotangent must have the shape of the loss, but its size differs at run time"
PACKED_SIZES_DIFFER = (
    "packed targets and weights must have the [tokens] of logits, and soft targets its shape, but their sizes differ "
    "at run time; check that all come from the same batch"
)


def custom_sizes_differ(form: str) -> str:
    return f"softmax_loss_function must return one loss per token, {form}, but its size differs"
