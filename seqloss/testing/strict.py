"""Results as strict JSON, which knows neither NaN nor infinities."""

import math
from typing import Any


def jsonable(x: Any) -> Any:
    """Tuples as lists, and floats that are not finite as the strings "nan", "inf" and "-inf"."""
    if isinstance(x, dict):
        return {key: jsonable(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [jsonable(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x
