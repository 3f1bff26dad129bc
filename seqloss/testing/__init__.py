"""Tools to test any loss: comparisons that say what differs and why, an oracle, tolerances, cases, drivers.

Importing this package imports neither NumPy nor a framework; each name brings its module when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqloss.testing import golden
    from seqloss.testing.check import check_loss
    from seqloss.testing.check.conventions import Conventions
    from seqloss.testing.check.finding import Finding
    from seqloss.testing.check.result import LossCheck
    from seqloss.testing.comparison import ParityError, assert_parity, compare
    from seqloss.testing.comparison.result import Comparison, Entry, Places, Side, Spread
    from seqloss.testing.explain import Cause, Explanation, explain_mismatch
    from seqloss.testing.golden.errors import GoldenError
    from seqloss.testing.tolerances import token_bound

_HOMES = {
    "Conventions": "check.conventions",
    "Finding": "check.finding",
    "LossCheck": "check.result",
    "check_loss": "check",
    **dict.fromkeys(("ParityError", "assert_parity", "compare"), "comparison"),
    **dict.fromkeys(("Comparison", "Entry", "Places", "Side", "Spread"), "comparison.result"),
    **dict.fromkeys(("Cause", "Explanation", "explain_mismatch"), "explain"),
    "GoldenError": "golden.errors",
    "token_bound": "tolerances",
}

__all__ = [
    "Cause",
    "Comparison",
    "Conventions",
    "Entry",
    "Explanation",
    "Finding",
    "GoldenError",
    "LossCheck",
    "ParityError",
    "Places",
    "Side",
    "Spread",
    "assert_parity",
    "check_loss",
    "compare",
    "explain_mismatch",
    "golden",
    "token_bound",
]


def __getattr__(name: str) -> Any:
    if name == "golden":
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
