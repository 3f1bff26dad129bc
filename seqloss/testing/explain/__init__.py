"""Why two losses of the same inputs differ.

``inputs`` and ``digits`` read what is given; ``table`` lists the causes, ``steps`` and ``half`` compute them;
``values`` is the loss under every convention; ``match`` finds a number there and ``judge`` what makes the difference;
``result`` says it.
"""

from seqloss.testing.explain.mismatch import explain_mismatch
from seqloss.testing.explain.result import Cause, Explanation

__all__ = ["Cause", "Explanation", "explain_mismatch"]
