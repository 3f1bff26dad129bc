"""Sums of losses as pytrees of JAX: collectives, scans, additions leaf by leaf, and derivatives."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqloss

STEPS, SHAPE, CLASSES = 6, (2, 3), 5


def batches():
    rng = np.random.default_rng(0)
    shape = STEPS, *SHAPE
    z, y = rng.normal(0, 3, (*shape, CLASSES)).astype("float32"), rng.integers(0, CLASSES, shape)
    return z, y, (rng.uniform(0, 1, shape) * 10.0 ** rng.integers(-6, 4, shape)).astype("float32")


def test_a_scan_carries_it():
    def step(total, batch):
        return total + seqloss.loss_sum(*batch, accuracy=True), None

    arrays = tuple(map(jnp.asarray, batches()))
    total, _ = jax.jit(lambda x: jax.lax.scan(step, seqloss.LossSum.empty(accuracy=True), x))(arrays)
    parts = [seqloss.loss_sum(*(x[i] for x in arrays), accuracy=True) for i in range(STEPS)]
    assert total.to_dict() == sum(parts).to_dict()
    leaf_by_leaf = jax.tree.map(lambda *x: sum(x), *parts)
    assert type(leaf_by_leaf) is seqloss.LossSum
    assert leaf_by_leaf.to_dict() == total.to_dict()
    mapped = jax.tree.map(lambda x: x.sum(0), jax.vmap(lambda *x: seqloss.loss_sum(*x, accuracy=True))(*arrays))
    assert mapped._replace(limbs=mapped.limbs.astype("int32")).to_dict() == total.to_dict()


PSUM = """
import sys, numpy as np, jax, jax.numpy as jnp, seqloss
sys.path.insert(0, sys.argv[1])
from test_jax_loss_sum import batches
from jax.sharding import PartitionSpec as P
arrays = [x[:4].reshape(-1, *x.shape[2:]) for x in batches()]
mesh = jax.make_mesh((4,), ("workers",), axis_types=(jax.sharding.AxisType.Auto,))

def evaluate(z, y, w):
    total = jax.lax.psum(seqloss.loss_sum(z, y, w, accuracy=True), "workers")
    return total, total.mean()

program = jax.jit(jax.shard_map(evaluate, mesh=mesh, in_specs=P("workers"), out_specs=P()))
whole = seqloss.loss_sum(*map(jnp.asarray, arrays), accuracy=True)
rng, differing, plain = np.random.default_rng(1), 0, set()
for _ in range(100):
    order = rng.permutation(8)
    total, mean = program(*(jnp.asarray(x[order]) for x in arrays))
    differing += total.to_dict() != whole.to_dict() or float(mean) != float(whole.mean())
    nll = seqloss.sequence_loss(*(jnp.asarray(x[order]) for x in arrays), reduction="none")
    plain.add(float(nll.reshape(4, -1).sum(1).sum()))
print(differing, len(plain) > 1)
"""


def test_psum_of_any_order_is_the_whole():
    """On four devices, in a process of their own; sums in float32 would differ."""
    code = "import os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'\n" + PSUM
    command = [sys.executable, "-W", "error", "-c", code, __file__.rpartition("/")[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "True"]


def test_derivatives_are_refused_and_logs_are_not():
    z, y, w = (jnp.asarray(x[0]) for x in batches())

    def through(z):
        return seqloss.loss_sum(z, y, w).mean()

    def beside(z):
        return seqloss.sequence_loss(z, y, w), seqloss.loss_sum(z, y, w)

    for function in (jax.grad(through), jax.jit(jax.grad(through))):
        with pytest.raises(seqloss.BackendError, match="a LossSum cannot be differentiated"):
            function(z)
    with pytest.raises(TypeError, match="forward-mode"):  # that of JAX
        jax.jvp(through, (z,), (z,))
    gradient, total = jax.jit(jax.grad(beside, has_aux=True))(z)
    np.testing.assert_array_equal(gradient, jax.jit(jax.grad(lambda z: beside(z)[0]))(z))
    assert total.to_dict() == seqloss.loss_sum(z, y, w).to_dict()


def test_an_average_over_workers_is_noticed():
    z, y, w = (jnp.asarray(x[:2]) for x in batches())
    with pytest.raises(seqloss.DTypeError, match=r"do not average them, as with pmean"):
        jax.vmap(lambda *x: jax.lax.pmean(seqloss.loss_sum(*x), "i").mean(), axis_name="i")(z, y, w)


def test_while_it_is_traced_it_has_no_values():
    z, y, w = (jnp.asarray(x[0]) for x in batches())
    seen = []

    def look(z):
        total = seqloss.loss_sum(z, y, w)
        seen.append(repr(total))
        return total.to_dict()

    with pytest.raises(seqloss.UnreadableError, match=r"^a LossSum that is traced or batched has no values"):
        jax.jit(look)(z)
    assert seen[0].startswith("LossSum(limbs=")
