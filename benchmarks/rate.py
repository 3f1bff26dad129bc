"""How often results of the exact mode differ between frameworks, over many gradient entries.

The exact mode computes in float64 and rounds once. Where the true value of an entry lies so near to the middle of two
float32 numbers that the error of float64 decides, frameworks may round to different sides. NumPy is compared with the
compiled programs of the others, and with PyTorch on a CUDA device if there is one: eager arrays on the CPU share
NumPy's kernel.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import machine, processes, tables

ENTRIES, QUICK_ENTRIES = 10**9, 8 * 10**6
# [batch, time, classes] of the chunks, in turn; each is a compilation.
SHAPES = ([2, 1024, 1024], [2, 64, 16_384], [2, 8, 131_072])
SCALES = (0.5, 1.0, 4.0, 16.0)
JUDGED = 30

Way = Callable[[Any, Any, Any], tuple[Any, Any]]


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    result: dict[str, Any] = processes.call("rate:compare", cores, entries=QUICK_ENTRIES if quick else ENTRIES)
    return result


def compare(entries: int) -> dict[str, Any]:
    ways = dict(_ways())
    pairs = list(itertools.combinations(ways, 2))
    result: dict[str, Any] = {
        "entries": 0,
        "losses": 0,
        "pairs": [{"pair": pair, "gradients": 0, "losses": 0} for pair in pairs],
        "differing": 0,
        "judged": [],
    }
    number = 0
    while pairs and result["entries"] < entries:
        batch, number = _chunk(number), number + 1
        found = {name: way(*batch) for name, way in ways.items()}
        result["entries"] += batch[0].size
        result["losses"] += 1
        for row, (one, other) in zip(result["pairs"], pairs, strict=True):
            row["gradients"] += int(np.count_nonzero(_bits(found[one][1]) != _bits(found[other][1])))
            row["losses"] += int(np.count_nonzero(_bits(found[one][0]) != _bits(found[other][0])))
        gradients = {name: gradient for name, (_, gradient) in found.items()}
        places = _places(gradients)
        result["differing"] += len(places)
        for place in places[: JUDGED - len(result["judged"])]:
            result["judged"].append(_judge(batch, place, {name: float(g[place]) for name, g in gradients.items()}))
    return result


def report(result: dict[str, Any]) -> str:
    if not result["pairs"]:
        return "Nothing to compare: NumPy alone is installed."
    pairs = [(" and ".join(row["pair"]), row["gradients"], row["losses"]) for row in result["pairs"]]
    entries, differing = result["entries"], result["differing"]
    parts = [
        f"exact=True: {entries:.3g} gradient entries in {result['losses']} calls; entries and losses that differ:",
        tables.render(("pair", "entries", "losses"), pairs),
        f"{differing} entries differ anywhere, {differing / entries * 1e9:.2f} in 10^9.",
    ]
    if result["judged"]:
        lines = [
            (
                f"{one['true']:.9g}",
                f"{one['distance']:.2g}",
                f"{one['float64_ulps']:.2g}",
                ", ".join(one["wrong"]) or "-",
            )
            for one in result["judged"]
        ]
        parts += [
            "How far the true value lies from the middle of two float32 numbers, and who rounded to the wrong side:",
            tables.render(("true value", "in float32 ULP", "in float64 ULP", "wrong"), lines),
        ]
    return "\n\n".join(parts)


def _ways() -> Iterator[tuple[str, Way]]:
    """In the order in which the frameworks may be imported into one process."""
    import seqloss

    yield "NumPy", lambda z, y, w: seqloss.sequence_loss_and_grad(z, y, w, exact=True)
    installed = machine.installed()
    if "torch" in installed:
        yield from _torch_ways()
    if "tensorflow" in installed:
        yield "TensorFlow XLA", _tensorflow_way()
    if "jax" in installed:
        yield "JAX jit", _jax_way()


def _torch_ways() -> Iterator[tuple[str, Way]]:
    import torch

    import seqloss

    def on(device: str, function: Any) -> Way:
        def way(z: Any, y: Any, w: Any) -> tuple[Any, Any]:
            logits, *others = (torch.from_numpy(x).to(device) for x in (z, y, w))
            logits.requires_grad_()
            loss = function(logits, *others)
            loss.backward()
            return loss.detach().cpu().numpy(), logits.grad.cpu().numpy()

        return way

    def exact(z: Any, y: Any, w: Any) -> Any:
        return seqloss.sequence_loss(z, y, w, exact=True)

    compiled = torch.compile(exact, fullgraph=True, dynamic=False)
    yield "PyTorch compiled", on("cpu", compiled)
    if torch.cuda.is_available():
        yield "PyTorch CUDA", on("cuda", exact)
        yield "PyTorch CUDA compiled", on("cuda", compiled)


def _tensorflow_way() -> Way:
    import tensorflow as tf

    import seqloss

    @tf.function(jit_compile=True)
    def step(z: Any, y: Any, w: Any) -> tuple[Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            loss = seqloss.sequence_loss(z, y, w, exact=True)
        return loss, tape.gradient(loss, z)

    return lambda *arrays: tuple(x.numpy() for x in step(*map(tf.constant, arrays)))  # type: ignore[return-value]


def _jax_way() -> Way:
    import jax

    import seqloss

    step = jax.jit(jax.value_and_grad(lambda z, y, w: seqloss.sequence_loss(z, y, w, exact=True)))
    return lambda *arrays: tuple(map(np.asarray, step(*arrays)))  # type: ignore[return-value]


def _chunk(number: int) -> tuple[Any, Any, Any]:
    """Logits of one of several scales, every other target ahead of its row by up to 30; uniform weights."""
    shape = SHAPES[number % len(SHAPES)]
    random = np.random.default_rng(number)
    scale = np.float32(SCALES[(number // len(SHAPES)) % len(SCALES)])
    logits = random.standard_normal(shape, dtype=np.float32) * scale
    targets = random.integers(0, shape[-1], shape[:2]).astype(np.int32)
    ahead = random.uniform(-10, 30, shape[:2]).astype(np.float32)
    ahead[:, ::2] = 0
    index = targets[..., None]
    np.put_along_axis(logits, index, np.take_along_axis(logits, index, -1) + ahead[..., None], -1)
    return logits, targets, random.uniform(0.1, 1.0, shape[:2]).astype(np.float32)


def _bits(x: Any) -> Any:
    return np.asarray(x).view(np.uint32)


def _places(gradients: dict[str, Any]) -> list[tuple[int, ...]]:
    """Where not all have the same bits."""
    first, *others = map(_bits, gradients.values())
    apart = np.zeros(first.shape, bool)
    for other in others:
        apart |= first != other
    return [tuple(map(int, place)) for place in np.argwhere(apart)]


def _judge(batch: tuple[Any, Any, Any], place: tuple[int, ...], found: dict[str, float]) -> dict[str, Any]:
    """The true value by 50 digits, its distance from the nearest middle of two float32 numbers, and who is wrong."""
    import mpmath

    with mpmath.workdps(50):
        true = _true_entry(batch, place)
        nearest = np.float32(float(true))
        towards = np.float32(np.inf if true > float(nearest) else -np.inf)
        middle = (mpmath.mpf(float(nearest)) + float(np.nextafter(nearest, towards))) / 2
        distance = abs(true - middle)
        # Rounding by way of float64 goes to the wrong side next to the middle: compare with the middle itself.
        right = min((nearest, np.nextafter(nearest, towards)), key=lambda x: abs(true - float(x)))
        return {
            "place": list(place),
            "true": float(true),
            "found": found,
            "wrong": [name for name, value in found.items() if value != float(right)],
            "distance": float(distance / float(np.spacing(abs(nearest)))),
            "float64_ulps": float(distance / float(np.spacing(abs(float(true))))),
        }


def _true_entry(batch: tuple[Any, Any, Any], place: tuple[int, ...]) -> Any:
    import mpmath

    logits, targets, weights = batch
    *token, column = place
    row, label = logits[tuple(token)], int(targets[tuple(token)])
    highest = float(row.max())
    total = mpmath.fsum(mpmath.exp(mpmath.mpf(float(x)) - highest) for x in row)
    slope = mpmath.exp(mpmath.mpf(float(row[column])) - highest) / total - (column == label)
    return slope * float(weights[tuple(token)]) / mpmath.fsum(map(float, weights.reshape(-1)))
