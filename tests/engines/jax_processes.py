"""Losses of JAX in two processes of two devices each: see ``test_jax_processes.py``.

``python PROGRAM FILE`` starts itself as ``python PROGRAM FILE RANK PORT``.
"""

import os
import pathlib
import socket
import subprocess
import sys

from programs import loaded, save, tried


def started(file):
    """What each process found, by the name of the row and the rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    files = [file.with_suffix(f".{rank}") for rank in range(2)]
    command = [sys.executable, "-W", "error", __file__]
    processes = [subprocess.Popen([*command, str(path), str(rank), port]) for rank, path in enumerate(files)]
    try:
        statuses = [process.wait(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert statuses == [0, 0], statuses
    found = [loaded(path) for path in files]
    return {f"{name}, rank {rank}": row for rank, rows in enumerate(found) for name, row in rows.items()}


def computed(rank, port):
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import jax
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P
    from split_batch import arrays, compared, expected

    import seqloss

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
    mesh = jax.make_mesh((4,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    z, y, w = arrays()

    def put(x, spec):
        return jax.make_array_from_callback(x.shape, NamedSharding(mesh, spec), lambda index: x[index])

    def whole(x):
        return multihost_utils.process_allgather(x, tiled=True)

    loss_of = jax.value_and_grad(lambda *a: seqloss.sequence_loss(*a, exact=True))

    def split_row(mode, of_logits, of_tokens):
        given = put(z, of_logits), put(y, of_tokens), put(w, of_tokens)
        loss, gradient = (jax.jit(loss_of) if mode == "jit" else loss_of)(*given)
        row = compared((loss, whole(gradient)), expected(z, y, w))
        return row | {"stays": gradient.sharding.is_equivalent_to(given[0].sharding, 3)}

    def mapped_row():
        def local(z, y, w):
            count = jax.lax.psum(w.sum(), "a")
            return seqloss.sequence_loss(z, y, w, reduction="sum", normalizer=count, exact=True)

        def step(*a):
            loss, gradient = jax.value_and_grad(local)(*a)
            return jax.lax.psum(loss, "a"), gradient

        mapped = jax.shard_map(step, mesh=mesh, in_specs=(P("a"),) * 3, out_specs=(P(), P("a")))
        loss, gradient = jax.jit(mapped)(*(put(x, P("a")) for x in (z, y, w)))
        return compared((loss, whole(gradient)), expected(z, y, w))

    def host_row():
        loss, gradient = jax.jit(lambda z: loss_of(z, y, w))(put(z, P("a")))
        return compared((loss, whole(gradient)), expected(z, y, w))

    def bad_label_row():
        bad = y.copy()
        bad[0, 0] = z.shape[-1]
        return {"loss": str(np.asarray(seqloss.sequence_loss(put(z, P("a")), put(bad, P("a")), put(w, P("a")))))}

    def sum_row():
        given = put(z, P("a")), put(y, P("a")), put(w, P("a"))
        total = jax.jit(lambda *a: seqloss.loss_sum(*a, accuracy=True))(*given)
        total += seqloss.loss_sum(*given, accuracy=True)
        alone = seqloss.loss_sum(z, y, w, accuracy=True)
        found, wanted = total.to_dict(), (alone + alone).to_dict()
        is_whole = total.limbs.is_fully_addressable
        counts = {name: found[name] == wanted[name] for name in ("weights", "right")}
        return counts | {
            "mean": [float(total.mean()), float(alone.mean())],
            "addressable": is_whole,
            "shown": repr(total),
        }

    def bad_replicated_label_row():
        bad = y.copy()
        bad[0, 0] = z.shape[-1]
        try:
            seqloss.sequence_loss(put(z, P("a")), put(bad, P()), put(w, P()))
        except seqloss.LabelError as error:
            return {"text": str(error)}

    return {
        "sum": tried(sum_row),
        "bad replicated label": tried(bad_replicated_label_row),
        "batch": tried(split_row, "jit", P("a"), P("a")),
        "classes": tried(split_row, "jit", P(None, None, "a"), P()),
        "batch, eager": tried(split_row, "eager", P("a"), P("a")),
        "mapped": tried(mapped_row),
        "targets of NumPy": tried(host_row),
        "bad label": tried(bad_label_row),
    }


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
    save(computed(int(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 2 else started(path), path)
