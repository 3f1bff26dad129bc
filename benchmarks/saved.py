"""What a call keeps for its backward pass: nothing of size [batch, time, classes] but the logits themselves."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks import contenders, machine, processes, tables

SHAPE = [8, 64, 1000]
# The others do not show what they keep; NumPy keeps nothing after the call.
FRAMEWORKS = ("torch", "jax")
DTYPES = ("float32", "bfloat16")


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    rows: list[Any] = []
    for framework in machine.installed():
        if framework in FRAMEWORKS:
            rows += processes.call(f"saved:{framework}_rows")
    return {"shape": SHAPE, "rows": rows}


def report(result: dict[str, Any]) -> str:
    if not result["rows"]:
        return "Neither torch nor JAX is installed; the others do not show what they keep."
    lines = [
        (row["framework"], row["mode"], row["case"], row["logits"], row["copies"], f"{row['rest']:.4f}")
        for row in result["rows"]
    ]
    headers = ("framework", "mode", "case", "the logits", "others of that size", "rest")
    return "\n\n".join(
        [
            f"Logits {result['shape']}; arrays kept for backward, the rest in units of the logits",
            tables.render(headers, lines),
            "seqloss may keep no others of that size. TensorFlow does not show what a tape keeps.",
        ]
    )


def torch_rows() -> list[Any]:
    import torch

    from benchmarks.contenders import torch as peers

    def kept(function: Callable[..., Any], z: Any, y: Any, w: Any) -> list[Any]:
        tensors: list[Any] = []

        def pack(tensor: Any) -> Any:
            tensors.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            function(z, y, w)
        return tensors

    def same(tensor: Any, z: Any) -> bool:
        return bool(tensor.untyped_storage().data_ptr() == z.untyped_storage().data_ptr())

    def case(name: str, function: Callable[..., Any], dtype: str, weights_need_grad: bool = False) -> Any:
        z, y, w = peers.place(contenders.make_batch(SHAPE))
        z = z.detach().to(getattr(torch, dtype)).requires_grad_()
        w.requires_grad_(weights_need_grad)
        arrays = [(list(t.shape), t.nbytes, same(t, z)) for t in kept(function, z, y, w)]
        return _row("torch", "eager", name, arrays, z.nbytes)

    return _cases(case, {"F.cross_entropy * w": peers.weighted_mean})


def jax_rows() -> list[Any]:
    import jax

    from benchmarks.contenders import jax as peers

    def of_mode(mode: str, wrap: Callable[..., Any]) -> list[Any]:
        def case(name: str, function: Callable[..., Any], dtype: str, weights_need_grad: bool = False) -> Any:
            z, y, w = peers.place(contenders.make_batch(SHAPE))
            z = z.astype(dtype)
            if weights_need_grad:
                _, pull = jax.vjp(wrap(lambda z, w: function(z, y, w)), z, w)
            else:
                _, pull = jax.vjp(wrap(lambda z: function(z, y, w)), z)
            # A vjp function is a tree whose leaves are what it keeps.
            kept = jax.tree_util.tree_leaves(pull)
            same = [x.unsafe_buffer_pointer() == z.unsafe_buffer_pointer() for x in kept]
            arrays = [(list(x.shape), x.nbytes, one) for x, one in zip(kept, same, strict=True)]
            return _row("jax", mode, name, arrays, z.nbytes)

        return _cases(case, {"optax * w": peers.weighted_mean, "optax where=": peers.masked_mean})

    return of_mode("eager", lambda f: f) + of_mode("jit", jax.jit)


def _cases(case: Callable[..., Any], peers: dict[str, Callable[..., Any]]) -> list[Any]:
    import seqloss

    rows = [case(f"seqloss, {dtype}", seqloss.sequence_loss, dtype) for dtype in DTYPES]
    rows.append(case("seqloss, float32, weights too", seqloss.sequence_loss, "float32", weights_need_grad=True))
    with suppress(ModuleNotFoundError):  # the timed measures say that it is missing
        rows += [case(f"{name}, float32", peer, "float32") for name, peer in peers.items()]
    return rows


def _row(framework: str, mode: str, name: str, arrays: list[tuple[list[int], int, bool]], unit: int) -> dict[str, Any]:
    """``arrays`` are (shape, bytes, whether it is the caller's logits)."""
    full = math.prod(SHAPE)
    sizes = [(math.prod(shape), size, same) for shape, size, same in arrays]
    return {
        "framework": framework,
        "mode": mode,
        "case": name,
        "logits": sum(same for _, _, same in sizes),
        "copies": sum(count >= full and not same for count, _, same in sizes),
        "rest": sum(size for count, size, same in sizes if count < full) / unit,
        "arrays": [{"shape": shape, "bytes": size, "is_logits": same} for shape, size, same in arrays],
    }
