"""One module per framework, all with the same names: how to make arrays, compile and differentiate there.

``array``, ``to_numpy``, ``dtype``, ``is_array``, ``dense`` (of a gradient of few rows), ``transposed`` (of a matrix)
and ``precision`` move data;
``MODES`` maps the name of a way to run a function (eagerly, compiled, ...) to ``prepare(function, wrt) -> run``, and
``run(arrays, cotangent) -> (value, gradients)`` may be called often: what was compiled is kept for arrays of the same
shapes and dtypes, so that a value which was baked into a program is seen by the next call. ``EXPLICIT`` maps names to
ways to call a function that returns its own gradients, and ``COMPILERS`` the names of the real compilers, each to
``compile(function) -> function``; ``QUICK`` names one that is quicker than eager code where each shape is met once.
``SETTINGS`` are ways of the same kind under what users switch on; in those of ``FINITE`` a NaN is an error.
``weighted``, ``total`` and ``over`` are what users write around a loss, in the dtype of its losses; ``hessian_product``
is a second derivative, ``pullback`` a backward pass that may be asked for again, and ``mapped`` the gradients of a
stack of batches over which the framework maps a function; each is None where there is none. ``LAYOUTS`` lay an array
out otherwise in memory, ``UNRECORDED`` are contexts in which no gradient is recorded, and ``SURROUNDINGS`` those in
which a program has set something that is no business of a loss. ``many_shapes`` is a context in which a
compiled function may meet any number of shapes. ``writable`` makes an array that a function can write
into of one that ``array`` made, and is None where no function can. ``CAN`` says what the framework has, in words that
tests can ask for instead of its name. ``DTYPES`` are the float dtypes to test,
``FEWER_DTYPES`` those of the modes for which a choice is enough, and ``COMPILED`` the modes that compile a program for
each function.
"""

import importlib
from typing import Any

NAMES = ("numpy", "torch", "tensorflow", "jax")

MORE = ("array_api_strict",)
"""Frameworks that a program has to register a backend for, with a driver to test it by."""

_ON = {"optax": "jax", "flax": "jax", "keras": "tensorflow"}
"""Packages whose functions are of another framework than their name says."""


def load(name: str) -> Any:
    """The module of a framework; an ImportError if the framework is not installed."""
    return importlib.import_module(f"{__name__}.{name}")


def of_package(package: str) -> str | None:
    """The framework that the functions of a package are for, where that is known."""
    found = _ON.get(package, package)
    return found if found in NAMES else None
