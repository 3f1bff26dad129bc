"""The commands that say why the recorded loss and the one that was computed differ."""

import math
import shlex
from collections.abc import Iterable, Mapping

from seqloss.commands.processes import Outcome
from seqloss.testing.golden import Golden


def propose(files: Mapping[str, Golden], outcomes: Iterable[Outcome]) -> list[str]:
    """A command for each loss that differs, of those recordings that ``explain`` can look into."""
    lines = []
    for outcome in outcomes:
        for path, one in files.items():
            found = outcome.facts.get("files", {}).get(path, {}).get("results", {}).get("loss")
            if found is not None and "values" in found["problems"] and _is_explained(one):
                value = float(found["worst"]["actual"])
                if math.isfinite(value):
                    lines.append(f"python -m seqloss explain {_digits(value)} --golden {_quoted(path)}")
    return list(dict.fromkeys(lines))


def _is_explained(one: Golden) -> bool:
    logits, targets = one.inputs.get("logits"), one.inputs.get("targets")
    if logits is None or targets is None or one.results["loss"].size != 1:
        return False
    return logits.ndim == 3 and targets.shape == logits.shape[:2] and targets.dtype.kind in "iu"


def _digits(value: float) -> str:
    """All digits of a number. A negative one without an exponent, which argparse would take for an option."""
    if value >= 0:
        return repr(value)
    from numpy import format_float_positional

    return format_float_positional(value, trim="-")


def _quoted(path: str) -> str:
    """The path as a shell reads it, in ASCII."""
    if path.isascii() and path.isprintable():
        return shlex.quote(path)
    letters = [chr(byte) for byte in path.encode("utf-8", "surrogateescape")]
    plain = [x if (x.isalnum() and x.isascii()) or x in "/._-" else f"\\x{ord(x):02x}" for x in letters]
    return f"$'{''.join(plain)}'"
