"""The causes: every convention that a loss is known to be computed under by mistake or by habit.

A loss is a path. ``tokens`` says what is scored against what, ``labels`` which of it counts, ``costs`` gives each token
a loss, to which ``penalties`` add something, ``sums`` makes a fraction of sums and ``means`` several, ``precision``
divides, and ``ends`` are what is done to the number. Each room has the functions first, in the wide floats of the
oracle, and then the table of what they are.
"""

from seqloss.testing.explain.causes.choice import Axis, Choice
from seqloss.testing.explain.causes.costs import SMOOTHING, SOFTMAX
from seqloss.testing.explain.causes.ends import LOGARITHM, POWER, SIGN, STEPS, WORLD
from seqloss.testing.explain.causes.labels import LABELS, MASK
from seqloss.testing.explain.causes.penalties import Z_LOSS
from seqloss.testing.explain.causes.precision import PRECISION
from seqloss.testing.explain.causes.sums import REDUCTION
from seqloss.testing.explain.causes.tokens import LAYOUT, SHIFT

__all__ = ["AXES", "POWER", "SIGN", "SMOOTHING", "STEPS", "WORLD", "Axis", "Choice"]

AXES = (
    *(LAYOUT, SHIFT, MASK, LABELS),
    *(SOFTMAX, SMOOTHING, Z_LOSS),
    *(REDUCTION, PRECISION),
    *(LOGARITHM, WORLD, STEPS, SIGN, POWER),
)
