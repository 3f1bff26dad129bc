"""What a framework has: tests ask for it here, and never for the name of the framework."""

from typing import NamedTuple


class Capabilities(NamedTuple):
    """The row ``CAN`` of a driver."""

    dtypes: tuple[str, ...]
    """The float dtypes. float32 and float64 are in all; of half precision there may be none."""
    differentiates: bool = True
    """Whether it has automatic differentiation: without it a mode returns None in place of gradients."""
    traces: bool = True
    """Whether it makes programs of functions: while it does, arrays have no values."""
    forgetful: tuple[str, ...] = ()
    """Modes whose programs keep the operations of a kernel and forget its pullback, so that gradients may cancel."""
    int64: bool = True
    """Whether 64-bit integers are there without a setting: else they come back in 32 bits."""
