"""Checks of dtypes, which are known by their names; they run under every kind of tracing."""

from typing import Any

from seqloss.core.errors import ArgumentTypeError, DTypeError

FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def compute_dtype(logits_dtype: str) -> str:
    """The dtype that losses are computed and returned in: max(float32, logits)."""
    return "float64" if logits_dtype == "float64" else "float32"


def widest(one: str, other: str) -> str:
    """The dtype of logits that are a product of these floats: float32 of two that hold different numbers."""
    return one if one == other else "float64" if "float64" in (one, other) else "float32"


def float_dtype(name: str, dtype: str) -> None:
    if dtype not in FLOATS:
        raise DTypeError(f"{name} must have one of the dtypes {', '.join(FLOATS)}, got {dtype}; cast it first")


def exact_logits(dtype: str) -> None:
    """The exact mode has no wider dtype to compute float64 logits in."""
    if dtype == "float64":
        raise DTypeError(
            "exact=True does not take float64 logits: it computes in float64 and rounds the results once, to float32, "
            "and float64 results would need a wider dtype. Cast them to float32, or leave exact=True out"
        )


def lengths_dtype(dtype: str) -> None:
    integers("lengths", dtype)


def integers(name: str, dtype: str) -> None:
    if dtype not in INTEGERS:
        raise DTypeError(f"{name} must be integers, got {dtype}; cast them to an integer dtype")


def normalizer_dtype(dtype: str) -> None:
    if dtype not in FLOATS and dtype not in INTEGERS:
        raise DTypeError(
            f"normalizer must be a float or integer, got {dtype}; pass the number that the loss is divided by"
        )


SOFT = "cast class ids to an integer dtype, or pass class probabilities in the shape of logits"
"""How to fix float targets of a sequence loss that are not soft targets."""


def targets_dtype(dtype: str, name: str = "targets", mend: str | None = None) -> None:
    if dtype in INTEGERS:
        return
    if dtype == "bool":
        mend = "a bool array is a mask, not labels"
    elif mend is None:
        mend = "cast class ids to an integer dtype; for class probabilities use a soft-label cross entropy"
    raise DTypeError(f"{name} must be integer class labels, got {dtype}; {mend}")


def weights_dtype(dtype: str, name: str = "weights") -> None:
    if dtype not in FLOATS and dtype not in INTEGERS and dtype != "bool":
        raise DTypeError(f"{name} must be a float, integer or bool array, got {dtype}; cast it first")


def bool_dtype(name: str, dtype: str) -> None:
    if dtype != "bool":
        raise DTypeError(f"{name} must be a bool array, got {dtype}; compare it first, as in {name} != 0")


def cotangent_dtype(dtype: str) -> None:
    if dtype not in FLOATS and dtype not in INTEGERS:
        raise DTypeError(f"cotangent must be a float or integer array, got {dtype}; cast it to a float dtype")


def differentiable_weights(dtype: str | None) -> None:
    """The gradient with respect to weights exists only if weights were given, as floats."""
    if dtype is None:
        raise ArgumentTypeError(
            "wrt asks for the gradient with respect to weights, but weights is None; pass an array of floats"
        )
    if dtype not in FLOATS:
        raise DTypeError(
            f"wrt asks for the gradient with respect to weights, but they are {dtype}, which has no gradient; cast "
            "them to a float dtype"
        )


def no_bias() -> None:
    raise ArgumentTypeError("wrt asks for the gradient with respect to bias, but bias is None; pass an array of floats")


def no_gradient_of_ids(dtype: str) -> None:
    raise DTypeError(
        f"wrt asks for the gradient with respect to targets, but they are class ids of {dtype}, which have no "
        "gradient; pass soft targets, a float for each class"
    )


def dtype_name(dtype: Any) -> str:
    """The name of a dtype that is given by name or as a dtype of any framework."""
    if isinstance(dtype, str):
        name = dtype
    else:
        name = str(getattr(dtype, "name", None) or getattr(dtype, "__name__", dtype))
        # Without the module that some libraries put in front. NumPy 1 calls its bool bool_.
        name = name.rpartition(".")[2].rstrip("_")
    if name != "bool" and name not in FLOATS and name not in INTEGERS:
        raise DTypeError(f"dtype must name a bool, integer or float dtype such as 'float32', got {dtype!r}")
    return name
