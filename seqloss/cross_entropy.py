"""Cross entropy of single tokens."""

from seqloss.core import arguments
from seqloss.core.protocol import Array


def token_loss(logits: Array, targets: Array, *, active: Array | None = None) -> Array:
    r"""Cross entropy of each token.
    """
    backend, z, y, mask, agree = arguments.tokens(logits, targets, active)
    nll = backend.differentiable_token_nll(z, y, mask)
    return nll if agree is None else backend.where(agree, nll, float("nan"))
