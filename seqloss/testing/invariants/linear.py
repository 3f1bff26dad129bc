"""What a loss that makes the logits itself has beside the rest: the gradients of its kernel and its bias.

Its hidden states are the logits of the batch, and its kernel is a matrix of quarters that has no symmetry.
"""

from typing import Any

import numpy as np

from seqloss.testing import tolerances
from seqloss.testing.invariants.batches import draw
from seqloss.testing.invariants.invariant import invariant
from seqloss.testing.invariants.probe import HALF, SLACK, Probe
from seqloss.testing.invariants.reference import cap_slack
from seqloss.testing.invariants.subject import Array, Batch, Layer, LayerAnswer, Linear, NotApplicable

COUNTS = (1, 2, 5, 64, 257, 1025)
"""Numbers of tokens: few, as many as a power of two, and one more, so that the last chunk has one token."""

CLASSES, STRIDE = 5003, 1667
"""Many classes, which are prime so that blocks of any size leave a rest, and how far labels are apart there."""

MANY = 2**15
"""Tokens of which all but the first are together an eighth of the gradient, and each chunk is below its last place."""


def _linear(probe: Probe) -> Linear:
    if probe.subject.linear is None:
        raise NotApplicable("the loss takes logits")
    return probe.subject.linear


def _layer(probe: Probe, batch: Batch) -> Layer:
    size = batch.logits.shape[-1]
    rng = np.random.default_rng(size)
    kernel, bias = (rng.integers(-4, 5, shape).astype(np.float32) / 4 for shape in ((size, size), size))
    return Layer(batch.logits, kernel, bias if _linear(probe).has_bias else None, batch.targets, batch.weights)


def _widened(layer: Layer) -> Layer:
    """The same of many classes, of which some tokens have the last ones."""
    rng, size = np.random.default_rng(0), len(layer.kernel)
    kernel, bias = (rng.integers(-4, 5, shape).astype(np.float32) / 4 for shape in ((size, CLASSES), CLASSES))
    legal = (layer.targets >= 0) & (layer.targets < size)
    targets = np.where(legal, layer.targets * STRIDE % CLASSES, layer.targets)
    return layer._replace(kernel=kernel, bias=None if layer.bias is None else bias, targets=targets)


def _expected(probe: Probe, layer: Layer, cotangent: Array | None = None) -> LayerAnswer:
    """What the chain rule makes of the gradient of the logits."""
    hidden, kernel = (x.astype(np.float64) for x in (layer.hidden, layer.kernel))
    logits = hidden @ kernel + (0 if layer.bias is None else layer.bias)
    found = probe.reference(Batch(logits, layer.targets, layer.weights))
    slope = found.dlogits.astype(np.float64)
    if cotangent is not None:
        # A loss for each token is not divided.
        slope *= cotangent[..., None] * float(layer.weights.sum() or 1) if cotangent.ndim else cotangent
    to_kernel = np.einsum("btf,btc->fc", hidden, slope)
    return LayerAnswer(np.asarray(found.loss, np.float64), slope @ kernel.T, to_kernel, slope.sum((0, 1)))


def _right(probe: Probe, got: LayerAnswer, expected: LayerAnswer, layer: Layer, under: str, value: bool = True) -> None:
    """Value and gradients are those of the chain rule; a gradient is judged at the scale of what was added up in it."""
    logits = layer.hidden @ layer.kernel
    slack = SLACK * max(1.0, float(np.abs(logits).max(initial=0))) + cap_slack(logits, probe.objective)
    if value:
        least = max(1.0, float(abs(expected.value)))
        probe.close(f"the value {under}", got.value, expected.value, layer, least, dtype=got.value_dtype, slack=slack)
    largest = max(float(np.abs(x).max(initial=0)) for x in (expected.hidden, expected.kernel))
    for name in ("hidden", "kernel", *["bias"] * (layer.bias is not None)):
        told, wanted = np.asarray(getattr(got, name)), getattr(expected, name)
        if told.shape != wanted.shape:
            probe.fail(f"the shape of the gradient of {name}", wanted.shape, told.shape, layer)
        how: dict[str, Any] = {"dtype": got.gradient_dtype, "units": HALF, "slack": slack}
        probe.close(f"the gradient of {name} {under}", told.astype(np.float64), wanted, layer, largest, **how)


def _without(layer: Layer) -> tuple[Layer, Layer]:
    """The layer with rows of hidden that are NaN, and one that is infinite, where the weight is 0; and with zeros."""
    masked = layer.weights == 0
    clean = np.where(masked[..., None], np.float32(0), layer.hidden)
    hidden = np.where(masked[..., None], np.float32(np.nan), layer.hidden)
    first = np.unravel_index(masked.argmax(), masked.shape)
    hidden[first] = np.where(masked[first], np.float32(np.inf), hidden[first])
    return layer._replace(hidden=hidden), layer._replace(hidden=clean)


@invariant(needs="linear")
def kernel_gradients(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The gradients of hidden, kernel and bias are those of the logits, by the chain rule."""
    layer = _layer(probe, batch)
    _right(probe, probe.called(_linear(probe).ask, layer), _expected(probe, layer), layer, "of a linear layer")
    if probe.has_room(CLASSES):
        wide = _widened(layer)
        _right(probe, probe.called(_linear(probe).ask, wide), _expected(probe, wide), wide, f"of {CLASSES} classes")


@invariant(needs="linear")
def masked_hidden(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Rows of hidden that are NaN or infinite and do not count reach no gradient, that of the kernel neither."""
    linear = _linear(probe)
    probe.needs_mask()
    layer, clean = _without(_layer(probe, batch))
    got = probe.called(linear.ask, layer)
    _right(probe, got, _expected(probe, clean), layer, "beside rows of hidden that are NaN and do not count")
    masked = layer.weights == 0
    probe.same("the gradient of hidden rows that do not count", np.asarray(got.hidden)[masked], 0, layer)


@invariant(needs="linear")
def chunk_boundaries(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Value and gradients are right for any number of tokens: none is left out or counted twice where a chunk ends."""
    linear = _linear(probe)
    for count in COUNTS:
        flat = [x.reshape(-1, *x.shape[2:]) for x in batch]
        hidden, targets, weights = (x[np.arange(count) % len(x)][None] for x in flat)
        weights = weights.copy()
        weights[0, [0, -1]] = 1
        layer = _layer(probe, probe.fit(Batch(hidden, targets, weights)))
        _right(probe, probe.called(linear.ask, layer), _expected(probe, layer), layer, f"of {count} tokens")


@invariant(needs="linear")
def tied_embeddings(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """An array that is both hidden and the kernel gets the sum of their gradients."""
    linear, size = _linear(probe), batch.logits.shape[-1]
    tied = linear.tied
    if tied is None:
        raise NotApplicable("one array cannot be passed twice")
    flat = batch.logits.reshape(-1, size)
    x, targets = flat[np.arange(size) % len(flat)], batch.targets.reshape(-1)[np.arange(size) % len(flat)]
    targets, weights = targets[None], np.ones((1, size), np.float32)
    fitted = probe.fit(Batch(x[None], targets, weights))
    layer = Layer(x[None], x.T if linear.turned else x, None, fitted.targets, fitted.weights)
    expected = _expected(probe, layer)
    to_kernel = expected.kernel.T if linear.turned else expected.kernel
    got = probe.called(lambda one: tied(x.copy(), one.targets, one.weights), layer)
    what = "the gradient of an array that is both hidden and the kernel"
    slack = SLACK * max(1.0, float(np.abs(x @ x.T).max())) + cap_slack(layer.hidden @ layer.kernel, probe.objective)
    probe.close(what, got, expected.hidden[0] + to_kernel, layer, slack=slack)


@invariant(needs="linear")
def kernel_upstream(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """A gradient that arrives from above is multiplied into that of the kernel, and 0 makes it exactly 0."""
    linear = _linear(probe)
    if linear.upstream is None:
        raise NotApplicable("there is no way to say what gradient arrives from above")
    layer = _layer(probe, batch)
    cotangent = np.asarray(-1.5, np.float32)
    if not probe.subject.scalar:
        cotangent = (rng.integers(-8, 9, batch.weights.shape) / 4).astype(np.float32)
        cotangent[:1, :1] = -1.5
    got = probe.called(linear.upstream, layer, cotangent)
    under = f"for the upstream gradient {np.array2string(cotangent, separator=', ', threshold=20)}".replace("\n", "")
    _right(probe, got, _expected(probe, layer, cotangent), layer, under, value=False)
    nothing = probe.called(linear.upstream, layer, np.zeros_like(cotangent))
    probe.same("the gradient of the kernel under an upstream gradient of 0", np.asarray(nothing.kernel), 0, layer)


@invariant(needs="linear_modes")
def kernel_compiled(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """Compiled code gives the kernel the gradient of eager code, masked rows that are NaN included."""
    linear = _linear(probe)
    if not probe.subject.linear_modes:
        raise NotApplicable("there is no compiler")
    layer = clean = _layer(probe, batch)
    if probe.subject.weights != "ones":
        layer, clean = _without(layer)
        answer = probe.called(linear.ask, layer)
        if not np.isfinite(answer.kernel).all():
            layer = clean  # eager code has the mistake too, which is another matter
    for name, ask in probe.subject.linear_modes.items():
        _right(probe, probe.called(ask, layer), _expected(probe, clean), layer, f"in {name}")


@invariant(draw, needs="linear", half=True)
def kernel_sum(probe: Probe, batch: Batch, rng: np.random.Generator) -> None:
    """The gradient of the kernel is added up without loss, over tens of thousands of tokens of a half-precision dtype.

    The first token has a hidden state of 1, the others of 2**-18. A sum in half precision forgets them.
    """
    linear, size = _linear(probe), batch.logits.shape[-1]
    hidden = np.full((1, MANY, size), 2.0**-18, np.float32)
    hidden[0, 0] = 1
    targets = np.full((1, MANY), batch.targets.reshape(-1)[0])
    given = probe.fit(Batch(hidden, targets, np.ones((1, MANY), np.float32)))
    bias = np.zeros(size, np.float32) if linear.has_bias else None
    layer = Layer(hidden, np.zeros((size, size), np.float32), bias, given.targets, given.weights)
    got, expected = probe.called(linear.ask, layer), _expected(probe, layer)
    dtype = got.gradient_dtype
    allowed = 2**-10 * np.abs(expected.kernel).max()
    if dtype in ("float16", "bfloat16"):
        # The gradient of the logits, and the result, are rounded.
        allowed = 2 * tolerances.unit(np.abs(expected.kernel).max(), dtype)
    if not np.all(np.abs(got.kernel - expected.kernel) <= allowed):
        probe.fail(f"the gradient of the kernel of {MANY} tokens", expected.kernel, np.asarray(got.kernel), layer)


LINEAR_INVARIANTS = {
    each.name: each
    for each in (
        kernel_gradients,
        masked_hidden,
        chunk_boundaries,
        tied_embeddings,
        kernel_upstream,
        kernel_compiled,
        kernel_sum,
    )
}
"""What is asked of a loss that makes the logits itself, by name."""
