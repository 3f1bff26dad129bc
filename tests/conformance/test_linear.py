"""The linear loss with every two of its options together, in every backend and mode, against the definition."""

import covering
import linear_batch
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_batch import FACTORS, Batch, is_legal

import seqloss
from seqloss.testing import frameworks

ROWS = covering.pairwise(FACTORS, is_legal)
ANY = {name: st.sampled_from(values) for name, values in FACTORS.items()}


def identity(row):
    return "-".join(str(value).replace(" ", "_") for value in row.values())


def test_every_two_options_meet():
    pairs = {(row["chunk"], row["dtypes"]) for row in ROWS}
    assert len(pairs) == len(FACTORS["chunk"]) * len(FACTORS["dtypes"])


OUTSIDE = ("function",)
"""Modes whose backward pass is of all arguments, and so of soft targets, which is refused."""


def chosen(driver, modes, full):
    """The rows of each mode: all where nothing is compiled, else some.

    In the first compiled mode they have each value of each option, but for chunks of one token: these are many, and
    written out. In every other mode some have their turn.
    """
    for turn, mode in enumerate(modes):
        rows = [row for row in ROWS if not (mode in OUTSIDE and row["targets"] == "soft")]
        if not full and (mode in driver.COMPILED or driver.QUICK):
            is_first = mode == driver.COMPILED[0]
            # With sizes that are symbols the sums of the exact mode take torch.compile half a minute.
            few = [
                row
                for row in rows
                if not ((is_first and row["chunk"] == 1) or (mode == "compile-dynamic" and row["exact"]))
            ]
            few = covering.each_value(few, turn, lambda row: row["exact"] + (row["chunk"] == 1))
            rows = few if is_first else few[:2]
        yield from ((mode, row) for row in rows)


def pytest_generate_tests(metafunc):
    if "row" in metafunc.fixturenames:
        parameters = []
        for name in metafunc.config.getoption("--backends").split(","):
            driver = frameworks.load(name)
            modes = driver.EXPLICIT if "explicit" in metafunc.function.__name__ else driver.MODES
            for mode, row in chosen(driver, modes, metafunc.config.getoption("--full")):
                parameters.append(pytest.param(name, mode, row, id=f"{name}-{mode}-{identity(row)}"))
        metafunc.parametrize("name, mode, row", parameters)


def upstream(batch):
    shape = np.shape(batch.expected()["loss"][0])
    return None if shape == () else np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape).astype(batch.returned)


def test_against_the_definition(name, mode, row):
    against_the_definition(frameworks.load(name), mode, row)


def test_any_options_together(framework):
    """Of all combinations that are legal, eagerly, with other numbers in each."""
    examples = 2 if framework.QUICK else 60  # compiled operation by operation each takes a second

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.fixed_dictionaries(ANY).filter(is_legal), st.integers(0, 999))
    def agrees(row, seed):
        against_the_definition(framework, "eager", row, seed)
        explicit_gradients(framework, "explicit", row, seed)

    agrees()


def against_the_definition(driver, mode, row, seed=5):
    with driver.precision("float64" if "float64" in linear_batch.DTYPES[row["dtypes"]] else "float32"):
        batch = Batch(driver, row, seed)
        arrays, wrt, cotangent = batch.arrays(), batch.differentiable, upstream(batch)
        names = list(arrays)
        g = None if cotangent is None else driver.array(cotangent)

        def loss(*given):
            return batch.call(seqloss.linear_sequence_loss, dict(zip(names, given, strict=True)))

        run = driver.MODES[mode](loss, tuple(names.index(name) for name in wrt))
        value, gradients = run(list(arrays.values()), g)
        batch.check(value, dict(zip(wrt, gradients, strict=True)) if gradients else {}, cotangent)


def test_explicit_gradients(name, mode, row):
    explicit_gradients(frameworks.load(name), mode, row)


def explicit_gradients(driver, mode, row, seed=5):
    with driver.precision("float64" if "float64" in linear_batch.DTYPES[row["dtypes"]] else "float32"):
        batch = Batch(driver, row, seed)
        arrays, wrt, cotangent = batch.arrays(), tuple(batch.differentiable), upstream(batch)

        def both(*given):
            g = None if cotangent is None else driver.array(cotangent)
            named = dict(zip(arrays, given, strict=True))
            return batch.call(seqloss.linear_sequence_loss_and_grad, named, wrt=wrt, cotangent=g)

        value, gradients = driver.EXPLICIT[mode](both)(*arrays.values())
        batch.check(value, dict(zip(wrt, gradients, strict=True)), cotangent)
