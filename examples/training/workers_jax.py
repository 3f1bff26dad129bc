"""The same step with shard_map over two devices, where the workers add up what each of them has.

With arrays that are sharded and ``jax.jit`` nothing is to be done: there is one program for the whole batch.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import common
import jax
import numpy as np
from in_jax import part_of_loss
from jax.sharding import AxisType, PartitionSpec

MESH = jax.make_mesh((2,), ("workers",), axis_types=(AxisType.Auto,))
ROWS, ALL = PartitionSpec("workers"), PartitionSpec()


def summed(w, tokens, x, before, targets):
    """Each worker's part of the loss of the batch, and of its gradient, added up."""
    part = jax.value_and_grad(part_of_loss)(w, tokens, x, before, targets)
    return jax.lax.psum(part, "workers")


def averaged(w, tokens, x, before, targets):
    """As it is usually done: each worker's own mean, and the mean of these."""
    own = (targets != common.PAD).sum()
    return jax.lax.pmean(jax.value_and_grad(part_of_loss)(w, own, x, before, targets), "workers")


def flat(grads):
    return np.concatenate([np.ravel(grads[name]) for name in sorted(grads)])


if __name__ == "__main__":
    w = common.weights()
    parts, tokens = next(common.batches(1))
    arrays = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    loss, grads = jax.jit(jax.value_and_grad(part_of_loss))(w, np.int32(tokens), *arrays)
    print(f"one device: loss {loss:.4f}")
    for function in (summed, averaged):
        # Weights enter as they are on each worker, and not as one array whose gradient JAX would add up by itself.
        step = jax.shard_map(function, mesh=MESH, in_specs=(ALL, ALL, ROWS, ROWS, ROWS), out_specs=ALL, check_vma=False)
        loss, others = jax.jit(step)(w, np.int32(tokens), *arrays)
        off = np.linalg.norm(flat(others) - flat(grads)) / np.linalg.norm(flat(grads))
        print(f"{function.__name__}: loss {loss:.4f}, the gradient of the parameters is {100 * off:.2f} % off")

# Output:
# one device: loss 5.9445
# summed: loss 5.9445, the gradient of the parameters is 0.00 % off
# averaged: loss 5.9435, the gradient of the parameters is 24.23 % off
