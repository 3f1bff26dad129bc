"""Cases and rows under what users switch on in their framework: to find mistakes, or to live in an older version."""

import functools

import family_suite
import numpy as np
import suite

from seqloss.testing import cases, families, frameworks, oracle


@functools.cache
def finite_cases():
    """The cases with nothing but finite numbers in them, and in what comes out."""
    found = set()
    for case in cases.CASES:
        z, y, w = case.build()
        weights = np.ones(y.shape) if w is None else w
        with np.errstate(all="ignore"):
            expected = oracle.sequence_loss(z, y, weights, **case.flags)
        arrays = (z, weights, expected.loss, expected.dlogits)
        if all(np.isfinite(x).all() for x in arrays):
            found.add(case.name)
    return found


@functools.cache
def finite_rows():
    found = set()
    for row in families.FAMILIES:
        arrays = row.arrays()
        with np.errstate(all="ignore"):
            expected = row.expected(*arrays)
        if all(np.isfinite(x).all() for x in (*arrays, expected.value, *expected.gradients)):
            found.add(row.name)
    return found


def some(rows, kind):
    """One row of each kind."""
    return list({kind(row): row for row in reversed(rows)}.values())


def pytest_generate_tests(metafunc):
    is_case = metafunc.function is test_a_case
    every = cases.CASES if is_case else families.FAMILIES
    found = []
    for name in metafunc.config.getoption("--backends").split(","):
        driver = frameworks.load(name)
        for setting in driver.SETTINGS:
            finite = finite_cases() if is_case else finite_rows()
            rows = [row for row in every if row.name in finite or setting not in driver.FINITE]
            if not is_case:  # what has no gradient is computed by NumPy
                rows = [row for row in rows if row.wrt]
            if not metafunc.config.getoption("--full"):
                # All cases of the programs that many share, which are compiled anyway; and one of each kind.
                shared = [case for group in suite.groups() if len(group) >= suite.MANY for case in group]
                chosen = some(rows, lambda row: row.kind if is_case else row.function)
                rows = [row for row in rows if row in chosen or row.name in shared]
            found += [(name, setting, row) for row in rows]
    metafunc.parametrize(
        ("driver_name", "setting", "row"), found, ids=[f"{name}-{setting}-{row.name}" for name, setting, row in found]
    )


def test_a_case(driver_name, setting, row):
    suite.run(driver_name, setting, "float32", row)


def test_a_row(driver_name, setting, row):
    family_suite.run(driver_name, setting, "float32", row)
