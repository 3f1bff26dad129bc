"""Ways to run many losses with their gradients at once: one program for all, because tracing is slow.

``WAYS[framework][mode](driver, cases)`` is a function of arrays by name, to the value and the gradients of each case.
It can be called again with other arrays; where a mode compiles, those of the same shapes and dtypes cost no program.

By default every vector runs eagerly (in JAX, which compiles that too, a few). The compiled modes run with
``pytest --full``: the conformance suite has compared the same programs with the oracle, on numbers of its own.
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


def each(run, cases):
    """Case by case, with a function like those of ``MODES`` of a driver."""

    def step(arrays):
        return {
            name: run(case.function, [arrays[i] for i in case.inputs], case.wrt, arrays.get(case.cotangent))
            for name, case in cases.items()
        }

    return step


def explicit(driver, cases):
    """Through the pullbacks of NumPy's kernels, since it has no automatic differentiation."""
    return each(pulled.value_and_gradients, cases)


def eager(driver, cases):
    return each(lambda function, arrays, wrt, cotangent: driver.MODES["eager"](function, wrt)(arrays, cotangent), cases)


def torch_compile(driver, cases):
    torch = importlib.import_module("torch")
    # The programs of another test count towards the limit on recompilations.
    torch.compiler.reset()
    names = sorted({i for case in cases.values() for i in case.inputs})
    # The same leaves for every case: another choice of them would be another program.
    differentiable = {case.inputs[i] for case in cases.values() for i in case.wrt}

    @functools.partial(torch.compile, fullgraph=True, dynamic=False, backend="aot_eager")
    def values(*inputs):
        given = dict(zip(names, inputs, strict=True))
        return {name: case.function(*[given[i] for i in case.inputs]) for name, case in cases.items()}

    def step(arrays):
        leaves = {i: arrays[i].detach().requires_grad_(i in differentiable) for i in names}
        results, found = {}, values(*leaves.values())
        for name, case in cases.items():
            cotangent = torch.ones_like(found[name]) if case.cotangent is None else arrays[case.cotangent]
            wrt = [leaves[case.inputs[i]] for i in case.wrt]
            gradients = torch.autograd.grad(found[name], wrt, cotangent, retain_graph=True, materialize_grads=True)
            results[name] = found[name].detach(), gradients
        return results

    return step


def tf_function(driver, cases, **options):
    run = eager(driver, cases)

    def step(arrays):
        # A program with XLA returns no sparse gradients.
        return {name: (x, [driver.dense(dx) for dx in gradients]) for name, (x, gradients) in run(arrays).items()}

    return importlib.import_module("tensorflow").function(step, **options)


def jax_jit(driver, cases):
    return importlib.import_module("jax").jit(eager(driver, cases))


EAGER = ("explicit", "eager")
WAYS = {
    "numpy": {"explicit": explicit},
    "torch": {"eager": eager, "compile": torch_compile},
    "tensorflow": {"eager": eager, "function": tf_function, "xla": functools.partial(tf_function, jit_compile=True)},
    "jax": {"eager": eager, "jit": jax_jit},
}


def parametrize(metafunc, names, every, some, ways=WAYS, compiled=()):
    """Rows of a framework, a mode and a vector: every vector in eager modes, but where those compile only some.

    ``compiled`` are the vectors of the other modes by default.
    """
    if "mode" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        rows = [
            (name, mode, *vector)
            for name in metafunc.config.getoption("--backends").split(",")
            for mode in ways[name]
            for vector in (every if full else compiled if mode not in EAGER else some if name == "jax" else every)
        ]
        metafunc.parametrize(("driver_name", "mode", *names), rows, ids=["-".join(row) for row in rows])
