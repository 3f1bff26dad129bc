"""The computation of one backend, in a process of its own."""

import time
from typing import Any

import numpy as np

import seqloss
from seqloss.commands import backends
from seqloss.core import dispatch, dtypes
from seqloss.core.protocol import Array, Backend
from seqloss.parity.functions import BY_FORMULA, DEFAULT, FUNCTIONS
from seqloss.testing.conformance.comparing import densified


def compute(
    framework: str, inputs: dict[str, Array], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the backend makes of the inputs: facts about it, and its results as NumPy arrays."""
    function, exact = options["function"], options["exact"]
    version = backends.version(framework)
    backend = dispatch.load(framework)
    given = {name: backend.asarray(value) for name, value in inputs.items()}

    def timed(backend: Backend, given: dict[str, Array]) -> None:
        if function == DEFAULT:
            _loss_and_gradient(backend, given, exact)
        else:
            _read(function, backend, given)

    timed(backend, given)
    started = time.perf_counter()
    timed(backend, given)
    seconds = time.perf_counter() - started
    is_default = function == DEFAULT
    results = _results(backend, given, exact) if is_default else _value_and_gradients(function, backend, given)
    facts = {
        "version": version,
        "device": _device(backend, next(iter(results.values()))),
        "seconds": seconds,
        "dtypes": {name: backend.dtype(value) for name, value in results.items()},
        "foreign": [name for name, value in results.items() if not backend.owns(value)],
    }
    return facts, {name: np.asarray(backend.to_numpy(value)) for name, value in results.items()}


def _loss_and_gradient(backend: Backend, given: dict[str, Array], exact: bool) -> None:
    """What is timed. Reading the results waits for frameworks that compute in the background."""
    weights = _mask(backend, given, "lengths", "float32")
    for result in seqloss.sequence_loss_and_grad(given["logits"], given["targets"], weights, exact=exact):
        backend.to_numpy(result)


def _read(function: str, backend: Backend, given: dict[str, Array]) -> None:
    for result in _value_and_gradients(function, backend, given).values():
        backend.to_numpy(result)


def _value_and_gradients(function: str, backend: Backend, given: dict[str, Array]) -> dict[str, Array]:
    """The value of a function, and its gradient by each argument where the framework differentiates."""
    row = FUNCTIONS[function]
    results = {"value": row.call(backend, **given)}
    for name in row.wrt:
        if backend.dtype(given[name]) not in dtypes.FLOATS:
            continue

        def of_one(x: Array, name: str = name) -> Array:
            return row.call(backend, **{**given, name: x})

        differentiated = backend.vjp(of_one, given[name])
        if differentiated is not None:
            value, pull = differentiated
            gradient = pull(backend.ones_like(value, dtype=backend.dtype(value)))
            results[f"gradient of {name}"] = densified(gradient, backend)
    if row.explicit is not None:
        gradients = row.explicit(**given, **row.sizes)
        results |= {f"gradient of {name}{BY_FORMULA}": gradient for name, gradient in gradients.items()}
    return results


def _results(backend: Backend, given: dict[str, Array], exact: bool) -> dict[str, Array]:
    """The results by name, as arrays of the framework."""
    logits, targets = given["logits"], given["targets"]
    weights = _mask(backend, given, "lengths", "float32")
    text_weights = _mask(backend, given, "text_lengths", "float32")
    loss, gradient = seqloss.sequence_loss_and_grad(logits, targets, weights, exact=exact)
    results = {
        "text loss": seqloss.sequence_loss(logits, targets, text_weights, exact=exact),
        "batch loss": loss,
        "token loss": seqloss.token_loss(logits, targets, active=_mask(backend, given, "lengths", "bool"), exact=exact),
        "gradient": gradient,
    }
    differentiated = backend.vjp(lambda z: seqloss.sequence_loss(z, targets, weights, exact=exact), logits)
    if differentiated is not None:
        value, pull = differentiated
        results["gradient by autodiff"] = pull(backend.ones_like(value, dtype=backend.dtype(value)))
    return results


def _mask(backend: Backend, given: dict[str, Array], lengths: str, dtype: str) -> Array:
    _, time_size = backend.shape(given["targets"]) or (None, None)
    return seqloss.sequence_mask(given[lengths], maxlen=time_size, dtype=dtype)


def _device(backend: Backend, x: Array) -> str:
    """Where an array lies, in one word. Frameworks agree on the attribute, if they have one, but not on its text."""
    device = getattr(x, "device", None) or backend.device(x)
    platform = getattr(device, "platform", None)
    if platform is not None:
        return f"{platform}:{device.id}" if device.id else str(platform)
    return "cpu" if device is None else str(device).rpartition("device:")[2].lower().removesuffix(":0")
