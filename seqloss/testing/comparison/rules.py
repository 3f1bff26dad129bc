"""The options of a comparison: what counts as the same."""

from typing import Any

import numpy as np

from seqloss.core import shapes
from seqloss.core.dtypes import FLOATS
from seqloss.core.errors import DTypeError, OptionError, ShapeError
from seqloss.testing import tolerances
from seqloss.testing.comparison.measure import Rules
from seqloss.testing.comparison.sides import PYTHON, Read, read

Array = Any


def rules(actual: Read, expected: Read, bound: Any, scale: Any, compute: Any) -> Rules:
    """Check the options, and fill in what was not said."""
    if compute is not None and compute not in FLOATS:
        raise OptionError(f"compute must be one of {', '.join(FLOATS)}, or None, got {compute!r}")
    dtype, finest = _dtypes(actual, expected)
    # If the shapes differ, nothing is measured and there is no shape to broadcast to.
    shape = expected.values.shape if actual.values.shape == expected.values.shape else None
    if dtype == "int":
        return Rules(dtype, dtype, np.broadcast_to(0.0, shape or ()), None)
    compute = compute or ("float64" if dtype == "float64" else "float32")
    if bound is None:
        # A reference that is finer than the other array, and than what that was computed in, has no error to speak of.
        is_exact = finest < min(tolerances.PRECISION[dtype].epsilon, tolerances.PRECISION[compute].epsilon)
        bound = tolerances.TIGHT_ULPS if is_exact else tolerances.PAIR_ULPS
    bound = _numbers("bound", bound, shape)
    digits = 1 / tolerances.PRECISION[compute].epsilon
    if bound.max(initial=0) >= digits:
        raise OptionError(
            f"bound must be below {digits:g} ULP of {compute}, got {bound.max():g}: no digit at all would have to agree"
        )
    return Rules(dtype, compute, bound, None if scale is None else _numbers("scale", scale, shape))


def _dtypes(actual: Read, expected: Read) -> tuple[str, float]:
    """The float dtype whose units count, the coarser of the two, and the epsilon of the finer; "int" without floats."""
    floats = [side for side in (actual.side, expected.side) if side.kind == "float"]
    if not floats:
        return "int", 0.0
    # Python's floats are float64, and so are the units of those that are wider.
    names = [side.dtype if side.dtype in FLOATS else "float64" for side in floats]
    epsilons = [tolerances.PRECISION[name].epsilon for name in names]
    wide = [float(np.finfo(np.longdouble).eps) for side in floats if side.dtype not in (*FLOATS, "float")]
    exact = [0.0] * (len(floats) == 1)  # integers beside floats
    # Two wide ones are told apart from float64 no more than two of Python's.
    finest = min([*epsilons, *exact, *(wide if len(wide) == 1 else [])])
    return names[epsilons.index(max(epsilons))], finest


def _numbers(name: str, value: Any, shape: tuple[int, ...] | None) -> Array:
    """An option as an array of the shape of the results."""
    numbers = read(name, value).values
    if numbers.dtype == bool:
        raise DTypeError(f"{name} must be a number or an array of numbers, got bool")
    numbers = np.asarray(numbers, np.float64)
    if (numbers < 0).any() or (name == "bound" and not np.isfinite(numbers).all()):
        finite = "" if name == "scale" else " and finite"
        raise OptionError(f"{name} must be at least 0{finite}, got {numbers.min():g} to {numbers.max():g}")
    # The size of what was added up is unknown where it is not finite, and the result is not finite either.
    numbers = np.where(np.isfinite(numbers), numbers, 0.0)
    if shape is None:
        return numbers
    try:
        return np.broadcast_to(numbers, shape)
    except ValueError:
        raise ShapeError(
            f"{name} must broadcast to the shape of the results, {shapes.text(shape)}, got "
            f"{shapes.text(numbers.shape)}; for a gradient, numbers per token need an axis of size 1 at the end"
        ) from None


def token_numbers(name: str, value: Any, shape: tuple[int, ...]) -> Array | None:
    """Labels or weights: one number for each token, in the leading axes of the results."""
    if value is None:
        return None
    numbers = read(name, value).values
    if numbers.shape != shape[: numbers.ndim]:
        raise ShapeError(
            f"{name} must have the leading sizes of the results, {shapes.text(shape)}, got "
            f"{shapes.text(numbers.shape)}; pass one number for each token"
        )
    return numbers


def dtypes_agree(actual: Read, expected: Read) -> bool:
    """Whether the dtypes are the same; for Python numbers, whether an array of the other dtype can be made of them."""
    sides = (actual, expected)
    weak = [x.side.framework == PYTHON for x in sides]
    if not any(weak):
        return actual.side.dtype == expected.side.dtype
    if any(is_weak and x.values.size == 0 for x, is_weak in zip(sides, weak, strict=True)):
        return True
    one, other = (x.side.kind for x in sides)
    return (
        one == other or (weak[0] and (one, other) == ("int", "float")) or (weak[1] and (other, one) == ("int", "float"))
    )
