"""Every row of the table raises its class with its full text, eagerly and while tracing, in every framework."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from row import Listed, Raw
from rows import ROWS

import seqloss
from seqloss.testing import frameworks

# --- ways to call a function with the dict of those arguments that are traced ---


def torch_compile(function, **options):
    torch = importlib.import_module("torch")
    torch.compiler.reset()
    return torch.compile(function, backend="aot_eager", **options)


def torch_fullgraph(function):
    return torch_compile(function, fullgraph=True)


def torch_dynamic(function):
    """With symbolic sizes, which every function gets when it is called with a third size."""
    return torch_compile(function, fullgraph=True, dynamic=True)


def tf_function(function):
    return importlib.import_module("tensorflow").function(function)


def jax_jit(function):
    return importlib.import_module("jax").jit(function)


WAYS = {
    "numpy": {"eager": lambda function: function},
    "torch": {
        "eager": lambda function: function,
        "compile": torch_compile,
        "fullgraph": torch_fullgraph,
        "dynamic": torch_dynamic,
    },
    "tensorflow": {"eager": lambda function: function, "function": tf_function},
    "jax": {"eager": lambda function: function, "jit": jax_jit},
}


class Deviation(NamedTuple):
    """Where an error is not the row's own: its class (None: as in the row), whose text contains that of the row."""

    error: Callable[[], Any] | None
    reason: str


WHOLE = Deviation(
    lambda: importlib.import_module("torch._dynamo.exc").Unsupported,
    "PyTorch refuses every exception that leaves a graph which must be whole",
)
DEVIATIONS = {
    ("tensorflow", "function"): Deviation(None, "AutoGraph puts the text at the end of a trace of the user's code"),
    ("torch", "fullgraph"): WHOLE,
    ("torch", "dynamic"): WHOLE,
}


def pytest_generate_tests(metafunc):
    if "way" in metafunc.fixturenames:
        config = metafunc.config
        cases = list(product(config.getoption("--backends").split(","), config.getoption("--full")))
        ids = [f"{name}-{way}-{row.name}" for name, way, row in cases]
        metafunc.parametrize("driver_name, way, row", cases, ids=ids)


def product(names, full):
    """Every row in every framework and way, but for what the row itself leaves out, and ``enough``."""
    for name in names:
        for way in WAYS[name]:
            rows = [row for row in ROWS if holds(row, name, way)]
            if name == "torch" and not full:
                rows = {"compile": enough, "dynamic": one_of_each}.get(way, list)(rows)
            yield from ((name, way, row) for row in rows)


def holds(row, name, way):
    way = "fullgraph" if way == "dynamic" else way
    return not {name, f"{name}-{way}", "eager" if way == "eager" else "traced"} & set(row.unlike)


def enough(rows):
    """One row for each class, and those that fullgraph leaves out.

    Compiling in pieces takes a second for each error, because every frame that it leaves is traced anew. The checks
    are the same as under fullgraph, which runs all rows of all functions; what differs is how an error comes out.
    """
    first = {}
    for row in rows:
        first.setdefault(row.error, row.name)
    return [row for row in rows if row.name in first.values() or not holds(row, "torch", "fullgraph")]


def one_of_each(rows):
    """One row for each function and class. What symbolic sizes spoil is the text of sizes, which all rows share."""
    return list({(row.function, row.error): row for row in rows}.values())


def placed(driver, value):
    """What a value of the table stands for."""
    if isinstance(value, Raw):
        return value.value
    if isinstance(value, Listed):
        return [driver.array(x) for x in value.array]
    return driver.array(value) if isinstance(value, (np.ndarray, np.generic)) else value


def test_row(driver_name, way, row):
    driver = frameworks.load(driver_name)
    values = {name: placed(driver, value) for name, value in row.arguments.items()}
    arrays = {
        name: value for name, value in values.items() if isinstance(row.arguments[name], (np.ndarray, np.generic))
    }
    others = {name: value for name, value in values.items() if name not in arrays}

    def function(arrays):
        return row.function(**arrays, **others)

    deviation = DEVIATIONS.get((driver_name, way))
    error = row.error if deviation is None or deviation.error is None else deviation.error()
    text = row.text.replace("FRAMEWORK", driver_name).replace("ARRAY", type(driver.array(0)).__qualname__)
    with pytest.raises(error) as caught:
        WAYS[driver_name][way](function)(arrays)
    assert type(caught.value) is error
    if deviation is None:
        assert str(caught.value) == text
    else:
        assert text in str(caught.value)


BASES = {
    "ArgumentTypeError": TypeError,
    "BackendError": ValueError,
    "DTypeError": TypeError,
    "DeviceError": ValueError,
    "LabelError": ValueError,
    "MixedBackendsError": TypeError,
    "OptionError": ValueError,
    "ShapeError": ValueError,
    "UnreadableError": ValueError,
}


@pytest.mark.parametrize("name", BASES)
def test_each_error_is_one_of_pythons_own_too(name):
    assert getattr(seqloss, name).__bases__ == (seqloss.SeqlossError, BASES[name])


def test_every_error_stands_in_the_table():
    assert sorted(name for name in seqloss.__all__ if name.endswith("Error")) == sorted((*BASES, "SeqlossError"))


# --- tests of the test ----------------------------------------------------------------------------------------------


def test_names_are_unique():
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("row", [row for row in ROWS if "eager" in row.unlike], ids=lambda row: row.name)
def test_rows_for_tracers_do_not_raise_eagerly(framework, row):
    """What a row says about the place where it does not hold is true."""
    row.function(**{name: placed(framework, value) for name, value in row.arguments.items()})
