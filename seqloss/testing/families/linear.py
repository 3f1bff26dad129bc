"""The families of the loss of a linear layer: NaN rows of hidden behind a mask, several chunks, tied embeddings."""

from typing import Any

import numpy as np

import seqloss
from seqloss.core import dispatch
from seqloss.testing import oracle, tolerances
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected, Losses, soft, sparse, weighted

Array = Any
CHUNK = 4
"""Tokens of a chunk where the call says nothing else: every row has several, and a last one that is shorter."""

SMOOTHING = 0.1

ARGUMENTS = ("hidden", "kernel", "targets", "weights")


def _problem(*, masked: bool, bias: bool, tied: bool) -> Any:
    """hidden, kernel, targets and weights of 15 tokens and 7 classes, then the bias.

    Where the weight is 0 the row of hidden is NaN, and one infinite, and the label is no class.
    """

    def build(rng: np.random.Generator) -> list[Array]:
        hidden, kernel = rng.normal(0, 1, (3, 5, 6)), rng.normal(0, 1, (6, 7))
        targets, weights = rng.integers(0, 7, (3, 5)), rng.integers(1, 9, (3, 5)) / 4
        if masked:
            weights.reshape(-1)[2::3] = 0
            hidden[weights == 0], targets[weights == 0] = np.nan, -100
            hidden[0, 2] = np.inf
        given = [hidden, kernel.T.copy() if tied else kernel, targets, weights]
        return [*given, rng.normal(0, 1, 7)] if bias else given

    return build


def _turned(kernel: Array) -> Array:
    """The other way round, of any framework."""
    found = dispatch.backend_of(kernel)
    return kernel.T if found is None else found[1].permute_dims(kernel, (1, 0))


def _call(tied: bool, **options: Any) -> Any:
    def call(h: Array, k: Array, y: Array, w: Array, *bias: Array, chunk: int = CHUNK) -> Any:
        k = _turned(k) if tied else k
        return seqloss.linear_sequence_loss(h, k, y, w, bias=bias[0] if bias else None, chunk=chunk, **options)

    return call


def tied_gradients(
    hidden: Array, kernel: Array, targets: Array, weights: Array, bias: Array, chunk: int = CHUNK
) -> dict[str, Array]:
    """What ``linear_sequence_loss_and_grad`` has for the arguments of the row "tied_smoothed"."""
    names = ("hidden", "kernel", "bias")
    options: dict[str, Any] = {"label_smoothing": SMOOTHING, "chunk": chunk, "wrt": names}
    _, found = seqloss.linear_sequence_loss_and_grad(hidden, _turned(kernel), targets, weights, bias=bias, **options)
    return {name: _turned(x) if name == "kernel" else x for name, x in zip(names, found, strict=True)}


def _expected(tied: bool, smoothing: float, key: str, wrt: tuple[int, ...]) -> Any:
    """The loss of the logits, and the chain rule."""

    def expected(h: Array, k: Array, y: Array, w: Array, *bias: Array, cotangent: Array | None = None) -> Expected:
        x, m = (np.asarray(a).astype(oracle.WIDE) for a in (h, k.T if tied else k))
        added: Array = np.asarray(bias[0]).astype(oracle.WIDE) if bias else oracle.WIDE(0)
        with np.errstate(all="ignore"):
            logits: Array = x @ m + added
            size: Array = abs(x) @ abs(m) + abs(added)
            got = weighted(_rounded(_losses(logits, y, smoothing), logits, size), w, key, cotangent)
        slope, scale = got.gradients[0], abs(got.gradients[0]) + got.scales[0]
        # A row that no gradient comes from goes into none.
        x = np.where((scale == 0).all(-1, keepdims=True), 0, x)
        found = []
        for rows, columns, g in ((x, m, slope), (abs(x), abs(m), scale)):
            to_kernel = np.einsum("btf,btc->fc", rows, g)
            found.append([g @ columns.T, to_kernel.T if tied else to_kernel, None, None, g.sum((0, 1))])
        found[0][3], found[1][3] = got.gradients[1], got.scales[1]
        gradients, scales = (tuple(each[place] for place in wrt) for each in found)
        return got._replace(gradients=gradients, scales=scales)

    return expected


def _losses(logits: Array, targets: Array, smoothing: float) -> Losses:
    if not smoothing:
        return sparse(logits, targets)
    return soft(logits, targets[..., None] == np.arange(logits.shape[-1]), smoothing=smoothing)


def _rounded(losses: Losses, logits: Array, size: Array) -> Losses:
    """With what the rounding of the logits does: to the loss with its slope, to each probability by a share of it."""
    (slope,) = losses.slopes[:1]
    highest = np.where(np.isfinite(logits), logits, -np.inf).max(-1, keepdims=True)
    likely = np.exp(logits - highest)
    likely = likely / likely.sum(-1, keepdims=True)
    to_slope = slope.scale + 2 * likely * size.max(-1, keepdims=True)
    scale = losses.scale + (abs(slope.value) * size).sum(-1)
    bound = tolerances.token_bound(logits.astype(np.float64)).max(initial=tolerances.TIGHT_ULPS)
    return Losses(losses.nll, scale, (slope._replace(scale=to_slope),), float(bound))


def _row(
    name: str, wrt: tuple[int, ...], key: str, *, masked: bool, tied: bool, smoothing: float = 0.0, **options: Any
) -> Family:
    has_bias = 4 in wrt
    if smoothing:
        options["label_smoothing"] = smoothing
    return Family(
        f"linear_sequence_loss-{name}",
        "linear_sequence_loss",
        (*ARGUMENTS, *["bias"] * has_bias),
        _problem(masked=masked, bias=has_bias, tied=tied),
        _call(tied, **options),
        _expected(tied, smoothing, key, wrt),
        wrt,
    )


ROWS = (
    _row("masked", (0, 1, 4), "weighted_mean", masked=True, tied=False),
    _row("tied_smoothed", (0, 1, 4), "weighted_mean", masked=True, tied=True, smoothing=SMOOTHING),
    _row("tokens", (0, 1, 3), "none", masked=False, tied=False, reduction="none"),
)
"""A mean whose gradients the forward pass makes, one with a kernel that is turned, and losses of single tokens."""
