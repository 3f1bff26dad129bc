"""One verdict of a check."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """The verdict on one invariant.

    Parameters
    ----------
    invariant : str
        Its name.
    mode : str
        How the loss was run: "eager", or the name of a compiler.
    dtype : str
        The dtype of logits and weights.
    verdict : {"holds", "violated", "not applicable"}
        Whether the loss has what every right loss has.
    detail : str
        What came instead, why it is not applicable, or "".
    summary : str
        What must hold.
    example : dict or None
        If it is violated, the smallest batch that was found: "logits" [batch][time][classes], "targets" and "weights"
        [batch][time] as lists (as a text where they are long), "what" was looked at, and what was "expected" and
        "got".
    kind : {"", "numbers", "refusal", "digits"}
        If it is violated, how: a result is wrong; what should have been refused got an answer, as a label that is no
        class, or a second derivative that does not exist; or only digits are lost, which the dtype would have had.
    """

    invariant: str
    mode: str
    dtype: str
    verdict: str
    detail: str
    summary: str
    example: dict[str, Any] | None = None
    kind: str = ""
