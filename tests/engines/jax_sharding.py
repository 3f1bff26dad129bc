"""Losses of JAX on four devices of one process: see ``test_jax_sharding.py``."""

import contextlib
import math
import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from programs import save, tried
from split_batch import OPTIONS, arrays, compared, expected, soft_targets

import seqloss

Z, Y, W = arrays()
SPLITS = {
    "batch": (P("a"), P("a")),
    "time": (P(None, "a"), P(None, "a")),
    "classes": (P(None, None, "a"), P()),
    "batch and classes": (P("a", None, "b"), P("a")),
}


def mesh(split, kind):
    sizes = {"a": 2, "b": 2} if "and" in split else {"a": 4}
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))


def largest(program, operations):
    """The elements of the largest array that these operations between devices of a compiled program have."""
    results = re.findall(rf"= (.*?) (?:{operations})(?:-start)?\(", program.as_text())
    arrays = re.findall(r"\w+\[([\d,]*)\]", " ".join(results))
    return max((math.prod(int(size) for size in sizes.split(",") if size) for sizes in arrays), default=0)


def traffic(program):
    """What devices show each other, what they add up, and what each has of the logits."""
    moved = largest(program, "all-gather|all-to-all|ragged-all-to-all|collective-permute|collective-broadcast")
    return {"moved": moved, "added": largest(program, "all-reduce|reduce-scatter"), "shard": Z.size // 4}


def loss_of(exact, options, wrt=(0,)):
    return jax.value_and_grad(lambda *a: seqloss.sequence_loss(*a, exact=exact, **options), wrt)


def split_row(split, exact, kind=AxisType.Auto, mode="jit", logits=Z, targets=Y, **options):
    """The loss of arrays that are split, with its gradients."""
    wrt = (0,) if targets is Y else (0, 1)
    wanted = expected(logits, targets, W, ("logits", "targets")[: len(wrt)], **options)
    function, devices = loss_of(exact, options, wrt), mesh(split, kind)
    of_logits, of_tokens = SPLITS[split]
    places = (of_logits, of_tokens if targets is Y else of_logits, of_tokens)
    with jax.set_mesh(devices) if kind is AxisType.Explicit else contextlib.nullcontext():
        # Copies, because donated arrays are gone afterwards.
        pairs = zip((logits, targets, W), places, strict=True)
        given = [jax.device_put(x.copy(), NamedSharding(devices, place)) for x, place in pairs]
        if mode == "eager":
            loss, found = function(*given)
            return results(loss, found, wanted, given)
        program = jax.jit(function, donate_argnums=(0,) if mode == "donated" else ()).lower(*given).compile()
        loss, found = program(*given)
        row = results(loss, found, wanted, given[: len(found)])
        return row | traffic(program) | {"deleted": given[0].is_deleted()}


def results(loss, found, wanted, like):
    stays = all(g.sharding.is_equivalent_to(x.sharding, g.ndim) for g, x in zip(found, like, strict=False))
    return compared((loss, *found), wanted) | {"stays": stays}


def packed_row():
    """Packed sequences, with tokens split over devices and the offsets everywhere."""
    z, y, w = (x.reshape(-1, *x.shape[2:]) for x in (Z, Y, W))
    options, devices = {"cu_seqlens": np.array([0, 3, 3, 20, 32])}, mesh("batch", AxisType.Auto)
    given = [jax.device_put(x, NamedSharding(devices, P("a"))) for x in (z, y, w)]
    program = jax.jit(loss_of(True, options)).lower(*given).compile()
    loss, found = program(*given)
    return results(loss, found, expected(z, y, w, **options), given) | traffic(program)


def mapped_row(outside):
    """shard_map over the batch, with one count of all devices as the normalizer; one device has no tokens."""
    devices = mesh("batch", AxisType.Auto)

    def local(z, y, w):
        count = jax.lax.psum(w.sum(), "a")
        return seqloss.sequence_loss(z, y, w, reduction="sum", normalizer=count, exact=True)

    def step(z, y, w):
        loss, gradient = jax.value_and_grad(local)(z, y, w)
        return jax.lax.psum(loss, "a"), gradient

    def total(z, y, w):
        return jax.lax.psum(local(z, y, w), "a")

    function, returned = (total, P()) if outside else (step, (P(), P("a")))
    whole = jax.shard_map(function, mesh=devices, in_specs=(P("a"),) * 3, out_specs=returned)
    program = jax.jit(jax.value_and_grad(whole) if outside else whole).lower(Z, Y, W).compile()
    loss, gradient = program(Z, Y, W)
    return compared((loss, gradient), expected(Z, Y, W)) | traffic(program)


def gathered_row():
    """The test of the test: what gathers the logits, and what adds them up."""
    devices = mesh("batch", AxisType.Auto)
    given = jax.device_put(Z, NamedSharding(devices, P("a")))
    everywhere = jax.jit(lambda z: z, out_shardings=NamedSharding(devices, P())).lower(given).compile()
    added = jax.jit(jax.shard_map(lambda z: jax.lax.psum(z, "a"), mesh=devices, in_specs=P("a"), out_specs=P()))
    return {"everywhere": traffic(everywhere), "sums": traffic(added.lower(given).compile())}


def explicit_row():
    """``sequence_loss_and_grad`` of explicitly sharded classes, and token losses of theirs."""
    with jax.set_mesh(mesh("classes", AxisType.Explicit)):
        given = [jax.device_put(x, s) for x, s in ((Z, SPLITS["classes"][0]), (Y, P()), (W, P()))]
        loss, gradient = jax.jit(lambda *a: seqloss.sequence_loss_and_grad(*a, exact=True))(*given)
        tokens = jax.jit(lambda *a: seqloss.token_loss(*a, exact=True))(*given[:2])
    row = results(loss, [gradient], expected(Z, Y, W), given)
    return row | {"tokens differ": int((np.asarray(tokens) != seqloss.token_loss(Z, Y, exact=True)).sum())}


def rows():
    auto, explicit = AxisType.Auto, AxisType.Explicit
    for split in SPLITS:
        yield f"{split}", split_row, (split, True), {}
        yield f"{split}, explicit", split_row, (split, True, explicit), {}
    for split in ("batch", "classes"):
        yield f"{split}, rounded", split_row, (split, False), {}
        yield f"{split}, eager", split_row, (split, True, auto, "eager"), {}
    yield "classes, explicit, eager", split_row, ("classes", True, explicit, "eager"), {}
    yield "batch, donated", split_row, ("batch", True, auto, "donated"), {}
    for name, options in OPTIONS.items():
        yield f"batch, {name}", split_row, ("batch", True), options
    soft = {"targets": soft_targets()}
    yield "batch, soft targets", split_row, ("batch", True), soft
    yield "classes, soft targets, explicit", split_row, ("classes", True, explicit), soft
    # Blocks of these classes lie on two devices each.
    few = {"logits": Z[..., :100], "targets": soft["targets"][..., :100]}
    yield "classes, crossed blocks, explicit", split_row, ("classes", True, explicit), few
    several = OPTIONS["smoothing and z"] | OPTIONS["class weights"]
    yield "classes, smoothing, explicit", split_row, ("classes", True, explicit), several
    yield "classes, smoothing, rounded", split_row, ("classes", False), OPTIONS["smoothing and z"]
    yield "packed", packed_row, (), {}
    yield "mapped", mapped_row, (False,), {}
    yield "mapped, gradient outside", mapped_row, (True,), {}
    yield "gathered", gathered_row, (), {}
    yield "explicit functions", explicit_row, (), {}


if __name__ == "__main__":
    found = {name: tried(function, *arguments, **options) for name, function, arguments, options in rows()}
    save(found, sys.argv[1])
