"""The linear loss of JAX on four devices of one process: see ``test_jax_linear.py``."""

import contextlib
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_sharding import largest, mesh  # which says how many devices there are
from programs import save, tried

import seqloss

BATCH, TIME, FEATURES, CLASSES, CHUNK = 8, 16, 16, 512, 32
SPLITS = {"batch": P("a"), "time": P(None, "a")}
NAMES = ("hidden", "kernel", "bias", "weights")


def arrays():
    rng = np.random.default_rng(0)
    h, k = rng.normal(size=(BATCH, TIME, FEATURES)), rng.normal(size=(FEATURES, CLASSES))
    w = rng.integers(0, 4, (BATCH, TIME))
    w[0, 1], h[0, 1] = 0, np.nan
    floats = [x.astype("float32") for x in (h, k, rng.normal(size=CLASSES), w)]
    return [*floats[:3], rng.integers(0, CLASSES, (BATCH, TIME)).astype("int32"), floats[3]]


def loss(h, k, b, y, w, **options):
    return seqloss.linear_sequence_loss(h, k, y, w, bias=b, **options)


def off(found, wanted):
    """The worst distance of an array, as a fraction of its largest number."""
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(found, wanted, strict=True)]
    assert all(x.shape == y.shape and np.isfinite(x).all() for x, y in pairs)
    return max(float(abs(x - y).max() / abs(y).max()) for x, y in pairs)


def wanted(**options):
    h, k, b, y, w = arrays()
    value, found = seqloss.linear_sequence_loss_and_grad(h, k, y, w, bias=b, wrt=NAMES, **options)
    return [value, *found]


def traffic(program):
    moved = largest(program, "all-gather|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast")
    return {"moved": moved, "added": largest(program, "all-reduce|reduce-scatter")}


def split_row(split, kind=AxisType.Auto, chunk=CHUNK, **options):
    """Tokens that are split, and a kernel that each device has."""
    devices, spec = mesh("batch", kind), SPLITS[split]
    with jax.set_mesh(devices) if kind is AxisType.Explicit else contextlib.nullcontext():
        places = (spec, P(), P(), spec, spec)
        given = [jax.device_put(x, NamedSharding(devices, p)) for x, p in zip(arrays(), places, strict=True)]
        step = jax.value_and_grad(lambda *a: loss(*a, chunk=chunk, **options), (0, 1, 2, 4))
        program = jax.jit(step).lower(*given).compile()
        value, found = program(*given)
    stays = found[0].sharding.is_equivalent_to(given[0].sharding, 3)
    return {"off": off([value, *found], wanted(**options)), "stays": stays} | traffic(program)


def mapped_row():
    """shard_map over the batch, with one count of all devices as the normalizer."""
    devices = mesh("batch", AxisType.Auto)

    def local(h, k, b, y, w):
        count = jax.lax.psum(w.sum(), "a")
        return jax.lax.psum(loss(h, k, b, y, w, chunk=8, reduction="sum", normalizer=count), "a")

    whole = jax.shard_map(local, mesh=devices, in_specs=(P("a"), P(), P(), P("a"), P("a")), out_specs=P())
    program = jax.jit(jax.value_and_grad(whole, (0, 1, 2))).lower(*arrays()).compile()
    value, found = program(*arrays())
    return {"off": off([value, *found], wanted()[:4]), "stays": True} | traffic(program)


def rows():
    for split in SPLITS:
        yield split, split_row, (split,), {}
        yield f"{split}, explicit", split_row, (split, AxisType.Explicit), {}
    yield "batch, one chunk", split_row, ("batch", AxisType.Auto, None), {}
    yield "batch, per sequence", split_row, ("batch",), {"reduction": "sequence_mean", "label_smoothing": 0.1}
    yield "batch, exact", split_row, ("batch",), {"exact": True}
    yield "mapped", mapped_row, (), {}


if __name__ == "__main__":
    save({name: tried(function, *given, **options) for name, function, given, options in rows()}, sys.argv[1])
