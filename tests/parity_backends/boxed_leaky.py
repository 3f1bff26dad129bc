"""Right values, but a mask that does not mask: inactive tokens get what their logits give."""

from boxed_right import *  # noqa: F403  # every function of the right one that is not replaced below
from boxed_right import boxed

from seqloss.backends import numpy as inner


@boxed
def token_statistics(logits, targets, active, prior, spec):
    return inner.token_statistics(logits, targets, None, prior, spec)
