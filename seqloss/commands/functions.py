"""Functions of users, which are named as ``package.module:function``."""

import os
import sys
from collections.abc import Callable
from typing import Any

from seqloss.core.errors import OptionError
from seqloss.testing import frameworks


def framework(name: str) -> str | None:
    """The backend that a function is for, by the name of its package; None for all."""
    package = name.partition(":")[0].partition(".")[0]
    if package == "seqloss":
        return None
    found = frameworks.of_package(package)
    if found is None:
        known = ", ".join(frameworks.NAMES)
        raise OptionError(f"the framework of {name} is not known; add --backends with one of {known}")
    return found


def imported(name: str) -> Callable[..., Any]:
    """The function, in the process of its framework."""
    from seqloss.testing.check import resolve

    # The script "seqloss", unlike "python -m seqloss", does not look for modules here. At the end, where it hides none.
    sys.path.append(os.getcwd())
    return resolve(name)
