"""How far the loss of a token and its gradient are from the truth, against the margin of the target.

The losses of other libraries and of seqloss, in float32, each as its framework differentiates it. The margin is the
logit of the target less the largest other one: large where the model is sure and right.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine, processes, tables
from benchmarks.plots import TITLES

MARGINS = [float(x) for x in range(-40, 81, 2)]
CLASSES = 1000
ROWS, QUICK_ROWS = 32, 2
COMPILED = {"torch": "inductor", "tensorflow": "xla", "jax": "jit"}


class Loss(NamedTuple):
    """A loss of single tokens: ``run(logits, targets)`` gives losses and the gradient of their sum, as NumPy arrays."""

    name: str
    mode: str
    ours: bool
    run: Callable[[Any, Any], tuple[Any, Any]]


def collect(quick: bool, cores: int | None) -> dict[str, Any]:
    rows: list[Any] = []
    for framework in machine.installed():
        rows += processes.call("errors:measure", cores, framework=framework, rows=QUICK_ROWS if quick else ROWS)
    return {"margins": MARGINS, "classes": CLASSES, "tokens_per_margin": QUICK_ROWS if quick else ROWS, "rows": rows}


def measure(framework: str, rows: int) -> list[Any]:
    """For each loss and margin the largest error among some tokens, in ULP, of the loss and at the target's logit."""
    from seqloss.testing import oracle, tolerances

    logits, targets = tokens(rows)
    expected = oracle.tokens(logits, targets)
    at_target = targets[..., None]
    truth = expected.nll, np.take_along_axis(expected.slope, at_target, -1)[..., 0]
    results = []
    for loss in _losses(framework):
        values, gradient = loss.run(logits.reshape(-1, CLASSES), targets.reshape(-1))
        slope = np.take_along_axis(gradient.reshape(logits.shape), at_target, -1)[..., 0]
        got = values.reshape(targets.shape), slope
        worst = [tolerances.ulps(g, t, "float32").max(-1) for g, t in zip(got, truth, strict=True)]
        of_loss, of_gradient = ([float(f"{x:.3g}") for x in each] for each in worst)
        names = {"framework": framework, "name": loss.name, "mode": loss.mode, "ours": loss.ours}
        results.append({**names, "loss": of_loss, "gradient": of_gradient})
    return results


def tokens(rows: int) -> tuple[Any, Any]:
    """Logits [margins, rows, classes] in float32 and targets [margins, rows]."""
    random = np.random.default_rng(0)
    # exp(-87) is the smallest normal number: within 6 of each other none of the others is lost at the largest margin.
    logits = random.uniform(-3, 3, (len(MARGINS), rows, CLASSES))
    targets = random.integers(0, CLASSES, logits.shape[:2])
    at_target = np.arange(CLASSES) == targets[..., None]
    highest = np.where(at_target, -np.inf, logits).max(-1) + np.array(MARGINS)[:, None]
    return np.where(at_target, highest[..., None], logits).astype(np.float32), targets


def report(result: dict[str, Any]) -> str:
    at = [0.0, 10.0, 20.0, 40.0]
    headers = ("loss", *(f"{margin:g}" for margin in at))

    def table(quantity: str) -> str:
        lines = [(_called(row), *(_short(row[quantity][MARGINS.index(x)]) for x in at)) for row in result["rows"]]
        return tables.render(headers, lines)

    many = f"the largest of {result['tokens_per_margin']} tokens of {result['classes']} classes"
    return "\n\n".join(
        [
            f"Error of the loss in ULP of float32, {many}, by the margin of the target:",
            table("loss"),
            "The same of the gradient to the target's logit:",
            table("gradient"),
        ]
    )


def _called(row: dict[str, Any]) -> str:
    """The name of a loss with its framework, where the name does not say it, and how it is compiled."""
    of_framework = row["ours"] or row["framework"] == "numpy"
    name = f"{TITLES[row['framework']]}: {row['name']}" if of_framework else row["name"]
    return name if row["mode"] == "eager" else f"{name}, {row['mode']}"


def _short(error: float) -> str:
    """Three digits of a small error, and the power of ten of a large one."""
    return f"{error:.2g}" if error < 100 else f"{error:.0e}".replace("e+0", "e")


def _losses(framework: str) -> Iterator[Loss]:
    import seqloss
    from seqloss.testing import frameworks

    driver = frameworks.load(framework)
    if framework == "numpy":
        yield Loss("logsumexp - logit", "eager", False, _naive)
        yield Loss("seqloss", "eager", True, _ours_in_numpy())
        yield Loss("seqloss, exact", "eager", True, _ours_in_numpy(exact=True))
        return
    with suppress(ModuleNotFoundError):
        for name, peer in _PEERS[framework]():
            yield Loss(name, "eager", False, _differentiated(driver, driver.MODES["eager"], peer))
    modes = {**driver.MODES, **getattr(driver, "INDUCTOR", {})}
    for mode in ("eager", COMPILED[framework]):
        yield Loss("seqloss", mode, True, _differentiated(driver, modes[mode], seqloss.token_loss))
    exact = _differentiated(driver, modes[mode], lambda z, y: seqloss.token_loss(z, y, exact=True))
    yield Loss("seqloss, exact", mode, True, exact)


def _differentiated(driver: Any, run: Any, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    prepared = run(function, (0,))

    def both(logits: Any, targets: Any) -> tuple[Any, Any]:
        value, (gradient,) = prepared((driver.array(logits), driver.array(targets)), None)
        return driver.to_numpy(value), driver.to_numpy(gradient)

    return both


def _ours_in_numpy(**options: Any) -> Callable[[Any, Any], Any]:
    from seqloss import sequence_loss_and_grad

    flags = {"average_across_timesteps": False, "average_across_batch": False}

    def both(logits: Any, targets: Any) -> tuple[Any, Any]:
        value, gradient = sequence_loss_and_grad(logits[None], targets[None], **flags, **options)
        return value[0], gradient[0]

    return both


def _naive(logits: Any, targets: Any) -> tuple[Any, Any]:
    index = targets[:, None]
    highest = logits.max(-1, keepdims=True)
    e = np.exp(logits - highest)
    total = e.sum(-1, keepdims=True)
    gradient = e / total
    np.put_along_axis(gradient, index, np.take_along_axis(gradient, index, -1) - 1, -1)
    return (highest + np.log(total) - np.take_along_axis(logits, index, -1))[:, 0], gradient


def _torch_peers() -> Iterator[tuple[str, Any]]:
    import torch.nn.functional as F

    yield "F.cross_entropy", lambda z, y: F.cross_entropy(z, y, reduction="none")


def _tensorflow_peers() -> Iterator[tuple[str, Any]]:
    import tensorflow as tf

    yield "tf.nn.sparse_softmax_ce", lambda z, y: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
    from keras.losses import sparse_categorical_crossentropy as of_keras

    yield "Keras", lambda z, y: of_keras(y, z, from_logits=True)
    yield "Keras, ignore_class=", lambda z, y: of_keras(y, z, from_logits=True, ignore_class=-100)


def _jax_peers() -> Iterator[tuple[str, Any]]:
    from optax import softmax_cross_entropy_with_integer_labels as of_optax

    yield "optax", of_optax
    # No token is left out here: does the mask cost digits of the others?
    yield "optax, where=", lambda z, y: of_optax(z, y, where=y >= 0)


_PEERS = {"torch": _torch_peers, "tensorflow": _tensorflow_peers, "jax": _jax_peers}
