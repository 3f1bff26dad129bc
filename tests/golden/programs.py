"""Ways to run many losses with their gradients at once: one program for all, because tracing is slow.

``WAYS[framework][mode](driver)`` is a function of cases and arrays by name, to the value and the gradients of each.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pulled


class Case(NamedTuple):
    """A loss of some of the arrays; ``wrt`` are places among its inputs, ``cotangent`` names an array or is None."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    wrt: tuple[int, ...]
    cotangent: str | None


def explicit(driver):
    """Through the pullbacks of NumPy's kernels, since it has no automatic differentiation."""

    def run(cases, arrays):
        return {
            name: pulled.value_and_gradients(
                case.function, [arrays[i] for i in case.inputs], case.wrt, arrays.get(case.cotangent)
            )
            for name, case in cases.items()
        }

    return run


def eager(driver):
    def run(cases, arrays):
        return {
            name: driver.MODES["eager"](
                case.function, [arrays[i] for i in case.inputs], case.wrt, arrays.get(case.cotangent)
            )
            for name, case in cases.items()
        }

    return run


def torch_compile(driver):
    torch = importlib.import_module("torch")

    def run(cases, arrays):
        torch.compiler.reset()
        names = sorted({i for case in cases.values() for i in case.inputs})

        @functools.partial(torch.compile, fullgraph=True, backend="aot_eager")
        def values(*inputs):
            given = dict(zip(names, inputs, strict=True))
            return {name: case.function(*[given[i] for i in case.inputs]) for name, case in cases.items()}

        # The same leaves for every case: another choice of them would be another program.
        leaves = {i: arrays[i].detach().requires_grad_(arrays[i].is_floating_point()) for i in names}
        results = {}
        for name, case in cases.items():
            value = values(*leaves.values())[name]
            cotangent = torch.ones_like(value) if case.cotangent is None else arrays[case.cotangent]
            wrt = [leaves[case.inputs[i]] for i in case.wrt]
            results[name] = value.detach(), torch.autograd.grad(value, wrt, cotangent)
        return results

    return run


def tf_function(driver, **options):
    tensorflow = importlib.import_module("tensorflow")
    return lambda cases, arrays: tensorflow.function(lambda x: eager(driver)(cases, x), **options)(arrays)


def jax_jit(driver):
    jax = importlib.import_module("jax")
    return lambda cases, arrays: jax.jit(lambda x: eager(driver)(cases, x))(arrays)


WAYS = {
    "numpy": {"explicit": explicit},
    "torch": {"eager": eager, "compile": torch_compile},
    "tensorflow": {"eager": eager, "function": tf_function, "xla": functools.partial(tf_function, jit_compile=True)},
    "jax": {"eager": eager, "jit": jax_jit},
}


def chosen(config):
    """The rows of WAYS for the backends of a session."""
    return [(name, mode) for name in config.getoption("--backends").split(",") for mode in WAYS[name]]
