"""The loss of two padded sequences and its gradient, on JAX arrays, compiled."""

import jax
import jax.numpy as jnp

import seqloss

logits = jnp.array(
    [[[2.0, 0, 0], [0, 3, 0], [0, 0, 1]], [[0, 0, 4], [0, 0, 0], [0, 0, 0]]],
)
targets = jnp.array([[0, 1, 2], [2, -100, -100]])  # -100 is padding
weights = seqloss.sequence_mask(jnp.array([3, 1]), maxlen=3)
both = jax.jit(jax.value_and_grad(seqloss.sequence_loss))
loss, gradient = both(logits, targets, weights)
first = [f"{g:.4f}" for g in gradient[0, 0]]
print(f"loss {loss:.4f}, gradient at the first token", first)

# Output:
# loss 0.2305, gradient at the first token ['-0.0533', '0.0266', '0.0266']
