"""How to install what is missing: one text, for all messages."""

from seqloss.core.dispatch import BUILTIN

EXTRAS = (*BUILTIN[1:], "keras", "pytest", "cli")
"""The extras of seqloss, which have the names of the packages that they bring, but for the last."""


def command(*names: str) -> str:
    """The command that installs extras, in a checkout of seqloss; or packages, if one of the names is no extra."""
    if all(name in EXTRAS for name in names):
        return f'python -m pip install ".[{",".join(names)}]" -c constraints.txt'
    return f"python -m pip install {' '.join(names)}"


def add(*names: str) -> str:
    """The same as the end of a message."""
    where = " (in a checkout of seqloss)" if all(name in EXTRAS for name in names) else ""
    return f"add it with: {command(*names)}{where}"
