"""Why two losses of the same inputs differ.

``inputs`` and ``digits`` read what is given. ``causes`` are the known ways to compute a loss, ``half`` those of half
precision; ``values`` is the loss of the inputs under each of them. ``match`` finds a number there, ``candidates`` are
the causes that make two of them differ, ``overflow`` is for numbers without digits, ``judge`` decides, and ``result``
says it.
"""

from seqloss.testing.explain.mismatch import explain_mismatch
from seqloss.testing.explain.result import Cause, Explanation

__all__ = ["Cause", "Explanation", "explain_mismatch"]
