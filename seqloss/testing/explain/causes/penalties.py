"""What is added to the cross entropy of a token."""

import numpy as np

from seqloss.testing.explain.causes.choice import Axis, Choice, call, documented
from seqloss.testing.explain.causes.costs import OCCASIONAL, hard, never, twice
from seqloss.testing.explain.inputs import Scored, Situation
from seqloss.testing.oracle import WIDE


def with_z_loss(scored: Scored, known: Situation) -> Scored:
    """The square of the logarithm of the sum of exponentials is added to the loss of each token."""
    with np.errstate(all="ignore"):
        return scored._replace(nll=scored.nll + WIDE(known.z_factor) * scored.lse**2)


Z_LOSS = Axis(
    "z-loss",
    (
        documented(hard),
        Choice(
            "z-loss",
            "adds {z_factor} * logsumexp(logits)**2 to the loss of each token, as t5x does",
            "leave the z-loss out, log it separately, or add it on the other side too",
            with_z_loss,
            weight=OCCASIONAL,
            not_with=(twice, never),
            same=call("z_loss={z_factor}"),
            named=lambda known: known.z_loss is not None,
        ),
    ),
)
