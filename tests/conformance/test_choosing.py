"""What the default run leaves out is met elsewhere in it."""

import choosing
import family_suite
import pytest
import suite

from seqloss.testing import cases, families

KINDS = {
    "cases": {case.name: case.kind for case in cases.CASES},
    "families": {row.name: row.function for row in families.FAMILIES},
}
SUITES = {"cases": suite, "families": family_suite}


@pytest.fixture(params=KINDS)
def table(request, framework):
    """The kinds of the rows of a table, the default choice of a framework, and the full product."""
    choice = SUITES[request.param].choice
    return KINDS[request.param], choice(framework.name), choice(framework.name, full=True)


def test_every_row_runs_eagerly_and_in_a_compiled_mode(framework, table):
    kinds, default, _ = table
    met = {row for (mode, _), rows in default.items() if mode in framework.COMPILED for row in rows}
    # A framework with a QUICK compiler compiles eager code as well.
    assert framework.QUICK or set(default["eager", "float32"]) == set(kinds)
    assert met == (set(kinds) if framework.COMPILED else set())


def test_every_mode_meets_every_kind(table):
    kinds, default, _ = table
    met = {}
    for (mode, _), rows in default.items():
        met.setdefault(mode, set()).update(kinds[row] for row in rows)
    assert all(some == set(kinds.values()) for some in met.values())


def test_every_dtype_meets_every_row_that_is_cheap(framework, table):
    kinds, default, _ = table
    cheap = {pair for pair in default if pair[0] not in framework.COMPILED and not framework.QUICK}
    assert all(set(default[pair]) == set(kinds) for pair in cheap)
    assert {dtype for _, dtype in default} == set(framework.DTYPES)


def test_the_full_product_has_more(framework, table):
    _, default, full = table
    assert list(default) == list(full)
    assert all(set(rows) <= set(full[pair]) for pair, rows in default.items())
    counts = [sum(map(len, choice.values())) for choice in (default, full)]
    assert counts[0] < counts[1] if framework.COMPILED else counts[0] == counts[1]


class Driver:
    """One mode that costs nothing and two that do."""

    COMPILED = ("fast", "slow")
    QUICK = None


def test_a_choice_by_hand():
    """The first compiled pair runs all; the others share half of the rest, and a mode gets what kinds it lacks."""
    rows = ["a1", "a2", "a3", "b1", "b2", "c1"]
    pairs = [("eager", "float32"), ("slow", "float32"), ("fast", "float32"), ("fast", "float64")]
    choice = choosing.chosen(Driver, pairs, rows, lambda row: row[0], shared=["a1"])
    assert choice == {
        ("eager", "float32"): rows,
        ("fast", "float32"): rows,
        ("fast", "float64"): ["a1", "a2", "c1"],
        # No b and no c was left for it.
        ("slow", "float32"): ["a1", "a3", "b2", "c1"],
    }
