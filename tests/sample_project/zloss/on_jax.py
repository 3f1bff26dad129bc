"""The loss in JAX, which differentiates it."""

import jax
import jax.numpy as jnp


def z_loss(logits, targets, weights, penalty=1e-2):
    """The weighted mean of -log p(target) + penalty * log(sum(exp(logits)))**2 over the tokens."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    losses = log_z - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0] + penalty * log_z**2
    return (losses * weights).sum() / weights.sum()
