"""compare and assert_parity: what is wrong is found and told first, and what is not wrong passes."""

import dataclasses
import inspect
import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seqloss
from seqloss.testing import ParityError, assert_parity, compare, token_bound, tolerances
from seqloss.testing.comparison import measure
from seqloss.testing.comparison.findings import notes_on_sides
from seqloss.testing.comparison.sides import read

NAN, INF = np.nan, np.inf
BASE = np.array([[0.5, 0.0, 2.0, -3.0], [1.0, NAN, INF, -INF]], np.float32)


def changed(index, value, x=BASE):
    result = x.copy()
    result[index] = value
    return result


def beside(framework, x, dtype):
    """An array to compare with: NumPy's, unless NumPy lacks the dtype."""
    return framework.array(x, dtype) if dtype == "bfloat16" else np.array(x, dtype)


# --- arrays that are the same ---------------------------------------------------------------------------------------


def variable(x):
    import tensorflow as tf

    return tf.Variable(x)


def parameter(x):
    import torch

    return torch.nn.Parameter(torch.tensor(x))


def gradient_required(x):
    import torch

    return torch.tensor(x, requires_grad=True) * 1


OWN_FORMS = {
    "numpy": [np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: x.astype(">f4")],
    "torch": [parameter, gradient_required, lambda x: gradient_required(x.T.copy()).T],
    "tensorflow": [variable] * 3,
    "jax": [lambda x: __import__("jax").device_put(x)] * 3,
}


@pytest.mark.parametrize("form", range(3))
def test_special_forms_of_arrays(framework, form):
    x = OWN_FORMS[framework.name][form](BASE)
    result = compare(x, BASE)
    assert result.same, result
    assert (result.actual.framework, result.expected.framework) == (framework.name, "numpy")
    assert result.actual.type.endswith(type(x).__qualname__)
    assert compare(BASE, x).same
    assert compare(x, x, check_framework=True).same


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int32", "bool"])
def test_dtypes(framework, dtype):
    x = np.array([[1, 0], [0, 1]], dtype)
    result = compare(framework.array(x), x, bound=0)
    assert result.same, result
    assert result.actual.dtype == dtype
    assert (result.zeros.actual, result.zeros.expected, result.size) == (2, 2, 4)
    assert not compare(framework.array(x), np.array([[1, 0], [1, 1]], dtype)).same


def test_float64(framework):
    with framework.precision("float64"):
        x = framework.array(np.array([1.0, 1 + 2.0**-52]))
        assert compare(x, np.array([1.0, 1 + 2.0**-52]), bound=0).same
        result = compare(x, np.array([1.0, 1.0]), bound=0)
    assert (result.same, result.dtype, result.compute, result.ulp.max) == (False, "float64", "float64", 1)


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
def test_nothing_to_compare(framework, shape):
    x = np.zeros(shape, np.float32)
    result = compare(framework.array(x), x, labels=np.zeros(shape[:1], int), weights=np.zeros(shape[:1]), scale=x)
    assert result.same
    assert (result.size, result.ulp, result.worst, result.relative_to_largest) == (0, None, None, None)
    assert result.report().startswith("same: there are no entries to compare\n")


def test_an_array_without_axes(framework):
    assert compare(framework.array(np.float32(1.5)), 1.5).same
    result = compare(framework.array(np.float32(1.5)), np.float32(1.25), weights=2)
    assert result.first == result.worst
    assert (result.first.index, result.first.actual, result.first.expected) == ((), 1.5, 1.25)
    assert "it is 1.5, expected 1.25: 2.097e+06 ULP, 40 allowed (weight 2)" in result.report()


def test_zeros_of_the_other_sign_are_noted(framework):
    x = framework.array(np.array([0.0, -0.0, 0.0, 1.0], np.float32))
    result = compare(x, np.array([-0.0, 0.0, 0.0, 1.0], np.float32), bound=0)
    assert result.same
    assert result.notes == ("2 zeros have the other sign, which counts as equal",)


def test_nan_everywhere_is_noted(framework):
    x = np.full(2, NAN, np.float32)
    result = compare(framework.array(x), x)
    assert result.same
    assert result.notes == ("every entry is NaN on both sides",)
    assert compare(framework.array(BASE), BASE).notes == ()


def test_devices_are_noted():
    here = read("actual", BASE)
    there = here._replace(side=dataclasses.replace(here.side, device="cuda:0"))
    assert notes_on_sides(there, here) == ("actual is on cuda:0, expected on cpu",)
    assert notes_on_sides(here, here) == ()
    assert notes_on_sides(there, read("expected", [1.0])) == ()


# --- what is wrong, and that it is told first ------------------------------------------------------------------------

DEFECTS = {
    "NaN lost": (changed((1, 1), 7.0), "nan", (1, 1), "NaN in other places: 1 of 8 entries differs (0 in actual, 1 in"),
    "NaN too many": (
        changed((0, 1), NAN),
        "nan",
        (0, 1),
        "NaN in other places: 1 of 8 entries differs (2 in actual, 1",
    ),
    "NaN for infinity": (changed((1, 2), NAN), "nan", (1, 2), "NaN in other places"),
    "1e-30 for zero": (changed((0, 1), 1e-30), "zeros", (0, 1), "exact zeros in other places: 1 of 8 entries differs"),
    "zero for a number": (changed((0, 2), 0.0), "zeros", (0, 2), "exact zeros in other places"),
    "zero for infinity": (changed((1, 3), 0.0), "zeros", (1, 3), "exact zeros in other places"),
    "infinity for zero": (changed((0, 1), INF), "zeros", (0, 1), "exact zeros in other places"),
    "other infinity": (
        changed((1, 2), -INF),
        "infinities",
        (1, 2),
        "infinities in other places: 1 of 8 entries differs",
    ),
    "no infinity": (changed((1, 2), 3e38), "infinities", (1, 2), "infinities in other places"),
    "infinity": (changed((0, 0), INF), "infinities", (0, 0), "infinities in other places"),
    "other value": (changed((0, 3), -3.1), "values", (0, 3), "1 of 8 entries differs by more than 40 ULP of float32\n"),
    "other sign": (changed((0, 3), 3.0), "values", (0, 3), "1 of 8 entries differs by more than 40 ULP of float32\n"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect(framework, defect):
    wrong, problem, index, told = DEFECTS[defect]
    result = compare(framework.array(wrong), BASE)
    assert result.problems == (problem,)
    assert not result.same
    assert not result
    assert result.differing == 1
    assert result.first.index == index
    assert result.report().startswith(f"DIFFERENT: {told}")
    assert f"{list(index)} is " in result.report()
    places = {"nan": result.nan, "zeros": result.zeros, "infinities": result.infinities}
    assert [name for name, found in places.items() if found.differing] == [problem] * (problem != "values")


def test_the_order_of_the_report(framework):
    wrong = BASE.copy()
    wrong[0] = [7.0, 1.0, NAN, INF]
    result = compare(framework.array(wrong, "float16"), BASE, name="loss")
    assert result.problems == ("dtype", "nan", "zeros", "infinities", "values")
    assert result.differing == 4
    lines = result.report().splitlines()
    assert lines[0] == "loss: DIFFERENT: the dtype is float16, expected float32"
    assert [line.split()[1] for line in lines[1:5]] == ["NaN", "exact", "infinities", "1"]
    assert str(result) == result.report()


@pytest.mark.parametrize(
    "shape, hint",
    [((4, 2), ": the first two axes are swapped"), ((1, 2, 4), ": an axis of size 1"), ((8,), "\n"), ((2, 3), "\n")],
)
def test_shapes(framework, shape, hint):
    x = np.resize(BASE, shape)
    result = compare(framework.array(x), BASE, bound=np.ones((2, 1)), labels=[1, 2])
    assert result.problems == ("shape",)
    assert result.report().startswith(f"DIFFERENT: the shape is {list(shape)}, expected [2, 4]{hint}")
    assert (result.size, result.nan, result.ulp, result.worst) == (0, None, None, None)


def test_dtype_by_option(framework):
    x = np.array([1.0, 1 + 2.0**-10, 0.0], np.float16)
    result = compare(framework.array(x), x.astype(np.float32))
    assert result.problems == ("dtype",)
    assert result.report().startswith("DIFFERENT: the dtype is float16, expected float32\n")
    assert compare(framework.array(x), x.astype(np.float32), check_dtype=False).same
    result = compare(framework.array(x), np.array([1, 1 + 2.0**-9, 1e-9], np.float32), check_dtype=False, bound=0)
    assert (result.problems, result.dtype, result.ulp.max) == (("values",), "float16", 1)


def test_framework_by_option(framework):
    mine, theirs = framework.array(BASE), BASE.tolist()
    assert compare(mine, theirs).same
    result = compare(mine, theirs, check_framework=True)
    assert result.problems == ("framework",)
    assert result.report().startswith(f"DIFFERENT: the framework is {framework.name}, expected python\n")


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", [1.0, -1.0, 0.125, 1024.0])
@pytest.mark.parametrize("bound", [0, 1, 40, 100])
def test_one_unit_beyond_the_bound(framework, bound, one):
    dtype = framework.DTYPES[-1]
    eps = tolerances.PRECISION[dtype].epsilon
    x = framework.array([one, one * (1 + bound * eps)], dtype)
    result = compare(x, beside(framework, [one, one], dtype), bound=bound, compute=dtype)
    assert result.same
    assert result.ulp.max == bound
    result = compare(framework.array([one, one * (1 + (bound + 1) * eps)], dtype), x[:1], bound=bound, compute=dtype)
    assert result.problems == ("shape",)
    result = compare(framework.array([one * (1 + (bound + 1) * eps)], dtype), x[:1], bound=bound, compute=dtype)
    assert result.problems == ("values",)
    assert (result.ulp.max, result.worst.ulp, result.worst.allowed) == (bound + 1, bound + 1, bound)
    assert result.report().startswith(f"DIFFERENT: 1 of 1 entry differs by more than {bound} ULP of {dtype}\n")


def test_half_precision_may_be_rounded_once(framework):
    dtype = framework.DTYPES[-1]
    assert dtype in ("bfloat16", "float16")
    eps = tolerances.PRECISION[dtype].epsilon
    one, next_one, after = (framework.array([x], dtype) for x in (1.0, 1 + eps, 1 + 2 * eps))
    assert compare(one, one, bound=0).same
    assert compare(next_one, one).same
    assert f"within 40 ULP of float32 and one rounding to {dtype}" in compare(next_one, one).report()
    assert not compare(after, one).same
    assert not compare(next_one, one, bound=0).same


UNIT = 2.0**-23


@pytest.mark.parametrize(
    "expected, bound",
    [
        (np.float32([1.0]), tolerances.PAIR_ULPS),
        (np.float64([1.0]), tolerances.TIGHT_ULPS),
        (np.longdouble([1.0]), tolerances.TIGHT_ULPS),
        (np.int64([1]), tolerances.TIGHT_ULPS),
        ([1.0], tolerances.TIGHT_ULPS),
        ([1], tolerances.TIGHT_ULPS),
    ],
)
def test_the_default_bound_is_that_of_the_table(framework, expected, bound):
    """A reference that is finer than float32 has no error of its own."""
    for ulps, same in ((bound, True), (bound + 1, False)):
        x = framework.array(np.float32([1 + ulps * UNIT]))
        assert compare(x, expected, check_dtype=False).same is same
        assert compare(expected, x, check_dtype=False).same is same


def test_a_reference_no_finer_than_what_was_computed_in_has_an_error(framework):
    x = framework.array([1.0], framework.DTYPES[-1])
    assert compare(x, np.float32([1.0]), check_dtype=False).bound == tolerances.PAIR_ULPS
    assert compare(x, np.float64([1.0]), check_dtype=False).bound == tolerances.TIGHT_ULPS


def test_two_float64_results_are_a_pair():
    assert compare(np.longdouble([1.0]), [1.0], check_dtype=False).bound == tolerances.TIGHT_ULPS
    assert compare(np.longdouble([1.0]), np.longdouble([1.0])).bound == tolerances.PAIR_ULPS
    for ulps, same in ((40, True), (41, False)):
        assert compare([1 + ulps * 2.0**-52], [1.0]).same is same


def test_computed_in_another_dtype(framework):
    x = framework.array(np.float32([1 + UNIT]))
    assert compare(x, np.float32([1.0]), compute="float64").same  # rounded once
    assert not compare(framework.array(np.float32([1 + 2 * UNIT])), np.float32([1.0]), compute="float64").same
    assert compare([1 + 30 * UNIT], [1.0], compute="float32").same
    assert not compare([1 + 30 * UNIT], [1.0]).same


def test_bounds_of_tokens(framework):
    logits = np.array([[0.0, 1.0], [0.0, 300.0]], np.float32)
    x = np.array([1.0, 1 + 300 * UNIT], np.float32)
    assert not compare(framework.array(x), [1.0, 1.0]).same
    result = compare(framework.array(x), [1.0, 1.0], bound=token_bound(logits))
    assert (result.same, result.bound) == (True, 300)
    result = compare(framework.array(x[::-1].copy()), [1.0, 1.0], bound=token_bound(logits))
    assert (result.first.index, result.first.allowed) == ((0,), 20)


def test_scale_of_what_was_added_up(framework):
    """Summands of 1024 that cancel: to 1, to nothing on one side, and a zero of which there were no summands."""
    x = framework.array(np.float32([1 + 2.0**-10, 2.0**-12, 2.0**-100]))
    expected, scale = np.float32([1.0, 0.0, 0.0]), np.float32([1024.0, 1024.0, 0.0])
    assert compare(x, expected).problems == ("zeros", "values")
    assert "pass the size of its summands as scale=" in compare(x, expected).report()
    result = compare(x, expected, scale=scale)
    assert result.problems == ("zeros",)
    assert "as scale=" not in result.report()
    assert result.zeros.first.index == (2,)
    result = compare(x, expected, scale=1024.0)
    assert result.same
    assert (result.ulp.max, result.ulp_at_scale.max) == (2**23, 8)
    assert "at scale: max 8, p99 8, median 2" in result.report()
    result = compare(x[:1], expected[:1], scale=1024.0)
    assert (result.worst.ulp, result.worst.allowed) == (2**13, 40 * 2**10)


@pytest.mark.parametrize("scale", [NAN, INF])
def test_a_scale_that_is_not_finite_says_nothing(scale):
    assert compare([1.0], [1.0], scale=[scale]).same
    assert compare([0.0], [1e-3], scale=scale).problems == ("zeros",)


@pytest.mark.parametrize("value", [0.0, 2.0**-127, 2.0**-126])
def test_below_the_smallest_normal_number_zero_will_do(value):
    a, e = np.float32([0.0, value]), np.float32([2.0**-127, 2.0**-127])
    assert compare(a, e).same
    assert compare(e, a).same
    assert not compare(np.float32([0.0]), np.float32([2.0**-125])).same
    assert not compare(np.float16([0.0]), np.float16([2.0**-24])).same


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100, 101, 102, 201])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_a_spread_counts_the_zeros_that_it_does_not_sort(size, share):
    rng = np.random.default_rng(size)
    steps = np.where(rng.random(size) < share, 0, rng.integers(1, 1000, size))
    result = compare(1 + steps * UNIT, np.ones(size), compute="float32", check_dtype=False).ulp
    quantiles = np.quantile(steps * (UNIT / 2.0**-52), [1.0, 0.99, 0.5], method="higher")
    assert (result.max, result.p99, result.median) == tuple(quantiles)


DTYPES = ("float16", "float32", "float64", "int32")


@pytest.mark.parametrize("pair", [pair for pair in itertools.product(DTYPES, repeat=2) if pair != ("int32", "int32")])
@pytest.mark.parametrize("scale", [None, 1.5])
def test_distances_are_those_of_the_tolerances_whichever_way_round(pair, scale):
    rng = np.random.default_rng(0)
    e = np.concatenate([rng.normal(size=60) * 10.0 ** rng.integers(-3, 3, 60), [0, 6e-8, 1e-40, 5e-5]])
    a = e * (1 + rng.normal(size=e.size) * 10.0 ** rng.integers(-16, -1, e.size))
    a, e = a.astype(pair[0]), e.astype(pair[1])
    dtype = min((name for name in pair if name != "int32"), key=DTYPES.index)
    compute = "float64" if dtype == "float64" else "float32"
    for x, y in zip(a, e, strict=True):
        found = compare(x, y, bound=3, scale=scale, check_dtype=False)
        ways = ((x, y), (y, x))
        assert found.ulp.max == min(tolerances.ulps(*way, dtype) for way in ways)
        far = min(tolerances.excess(*way, dtype, 3, scale or 0.0, compute) for way in ways)
        assert ("values" in found.problems) == (far > 1 and "zeros" not in found.problems)
        if scale is not None:
            assert found.ulp_at_scale.max == min(tolerances.ulps(*way, dtype, scale) for way in ways)


@pytest.mark.parametrize("sizes", [(5000, 0), (0, 5000)], ids=["equal", "different"])
def test_units_are_computed_once_for_what_differs(monkeypatch, sizes):
    measured = []

    def unit(size, dtype, known=tolerances.unit):
        measured.append(np.size(size))
        return known(size, dtype)

    monkeypatch.setattr(tolerances, "unit", unit)
    compare(np.float32(1) + UNIT * np.repeat([0, 1], sizes), np.ones(5000, np.float32))
    assert sum(measured) == sizes[1]


def test_spread():
    expected = np.ones(200, np.float32)
    actual = expected + np.arange(200, dtype=np.float32) * np.float32(UNIT)
    result = compare(actual, expected)
    assert (result.ulp.max, result.ulp.p99, result.ulp.median) == (199, 198, 100)
    assert (result.differing, result.first.index, result.worst.index) == (159, (41,), (199,))
    assert result.largest_difference == result.relative_to_largest == 199 * UNIT
    result = compare([1 + 2.0**-51, NAN, NAN, INF], [1, NAN, NAN, INF])
    assert result.ulp.median == 2
    # Of two in the middle the larger one.
    assert compare([1 + 2.0**-52, 1 + 2.0**-50], [1, 1]).ulp.median == 4
    assert compare(actual, expected * 1).relative_to_largest == compare(actual * 4, expected * 4).relative_to_largest


def test_the_worst_is_relative_to_what_is_allowed():
    result = compare(np.float32([1000.0 + 2.0**-8, 1 + 2.0**-10]), np.float32([1000.0, 1.0]))
    assert (result.first.index, result.worst.index) == ((0,), (1,))
    assert "  worst     [1] is " in result.report()
    result = compare(np.float32([1 + 4 * UNIT, 2 + 8 * UNIT, 1.0]), np.float32([1.0, 2.0, 1.0]))
    assert result.worst.index == (1,)  # as far off as the one before it, and larger
    result = compare(np.float32([1.0, 2.0, 1.5]), np.float32([1.0, 1.0, 1.0]), bound=0)
    assert result.worst.index == (1,)
    assert "worst" not in compare([1.0, 1.0], [1.0, 2.0]).report()


def test_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(5, 7)).astype(np.float32)
    actual = expected * (1 + rng.integers(0, 60, (5, 7)).astype(np.float32) * np.float32(UNIT))
    options = {"bound": np.arange(7.0) * 10, "scale": np.linspace(0, 2, 5)[:, None]}
    whole = compare(actual, expected, **options)
    monkeypatch.setattr(measure, "_BLOCK", 3)
    assert compare(actual, expected, **options) == whole
    assert 0 < whole.differing < 35


# --- integers and Python numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other", [(2**63, 2**63 + 1), (2**62, 2**62 + 1), (-1, 2**64 - 1), (0, 1), (-(2**63), 2**63)]
)
def test_integers_are_equal_or_not(one, other):
    def integers(x):
        return np.array([x], np.int64 if x < 2**63 else np.uint64)

    result = compare(integers(one), integers(other), check_dtype=False, bound=10)
    assert result.problems == ("values",)
    assert result.ulp is None
    assert compare(integers(one), integers(one)).same
    assert "1 of 1 entry differs, by at most" in result.report()


PYTHON = [
    ([1.0, 2.0], "float32", True),
    ([1, 2], "float32", True),
    ([1, 2], "int32", True),
    ([1.0, 2.0], "int32", False),
    ([True, True], "bool", True),
    ([True, True], "int32", False),
    ([1, 1], "bool", False),
]


@pytest.mark.parametrize("numbers, dtype, agrees", PYTHON)
def test_python_numbers_go_with_what_can_hold_them(framework, numbers, dtype, agrees):
    x = framework.array(np.array(numbers, dtype))
    for result in (compare(x, numbers), compare(numbers, tuple(numbers)) and compare(numbers, x)):
        assert result.problems == (() if agrees else ("dtype",))
    assert compare(x, numbers, check_dtype=False).same


def test_numpy_scalars_are_no_python_numbers():
    assert compare(np.float64(1.0), np.float32(1.0)).problems == ("dtype",)
    assert compare(np.float64(1.0), np.float32(1.0)).actual.type == "numpy.float64"


def test_empty_lists_go_with_everything(framework):
    assert compare(framework.array(np.zeros(0, np.int32)), []).same


def test_lists_need_not_be_of_one_kind():
    assert compare([1, 2], [1.0, 2.0]).same
    assert compare([[1, 2.5]], ([1, 2.5],)).same
    assert not compare([True], [1]).same


# --- labels and weights ----------------------------------------------------------------------------------------------


def test_labels_and_weights_are_told(framework):
    x, labels, weights = (
        np.ones((2, 3, 2), np.float32),
        np.arange(6).reshape(2, 3),
        np.float32([[1, 0, 0.5], [1, 0, 1]]),
    )
    expected = x.copy()
    expected[0, 1], expected[1, 0, 1] = 3.0, 2.0
    result = compare(
        framework.array(x), expected, labels=framework.array(labels), weights=framework.array(weights, "float16")
    )
    assert (result.first.index, result.first.label, result.first.weight) == ((0, 1, 0), 1, 0)
    assert (result.differing, result.differing_at_weight_0) == (3, 2)
    report = result.report()
    assert "[0, 1, 0] is 1, expected 3: 8.389e+06 ULP, 40 allowed (label 1, weight 0)\n" in report
    assert "2 of the 3 that differ are at tokens of weight 0" in report
    result = compare(x[0], expected[0], labels=labels[0], weights=weights[0])
    assert "all that differ are at tokens of weight 0" in result.report()
    assert "weight 0" not in compare(x, x, weights=weights).report()
    assert compare(x, expected).differing_at_weight_0 is None


# --- for machines ----------------------------------------------------------------------------------------------------


def test_as_dict_is_strict_json(framework):
    wrong = BASE.copy()
    wrong[0, 0], wrong[1, 2] = NAN, 1.0
    result = compare(framework.array(wrong), BASE, labels=[7, 8], weights=[0.5, 1], scale=1.0, name="x")
    content = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert content == result.as_dict()
    assert list(content)[:2] == ["same", "name"]
    assert content["same"] is False
    assert content["problems"] == ["nan", "infinities"]
    first = {"index": [0, 0], "actual": "nan", "expected": 0.5, "ulp": None, "allowed": None, "label": 7, "weight": 0.5}
    assert content["first"] == content["nan"]["first"] == first
    assert content["infinities"]["first"]["expected"] == "inf"
    assert content["actual"]["shape"] == [2, 4]


@pytest.mark.parametrize(
    "x", [np.arange(3), np.zeros(0), np.array(True), [1, 2.5]], ids=["int", "empty", "bool", "list"]
)
def test_as_dict_of_others(x):
    json.dumps(compare(x, x, labels=np.zeros(np.shape(x), bool)).as_dict(), allow_nan=False)


def test_relative_to_nothing():
    result = compare(np.float32([1.0]), np.float32([0.0]))
    assert result.relative_to_largest == INF
    assert result.as_dict()["relative_to_largest"] == "inf"


def test_reports_are_ascii():
    report = compare(BASE, BASE, name="Verlust µ\nx").report()
    assert report.isascii()
    assert report.startswith("Verlust \\xb5 x: same: 8 entries agree within 40 ULP of float32\n")


# --- errors ----------------------------------------------------------------------------------------------------------


def test_assert_parity(framework):
    x = framework.array(BASE)
    assert assert_parity(x, BASE) is None
    wrong = changed((0, 0), 0.75)
    with pytest.raises(ParityError) as caught:
        assert_parity(x, wrong, name="loss")
    assert isinstance(caught.value, AssertionError)
    assert caught.value.comparison == compare(x, wrong, name="loss")
    assert str(caught.value) == caught.value.comparison.report()
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.comparison) == (str(caught.value), caught.value.comparison)


@pytest.mark.parametrize(
    "options",
    [
        {"bound": 2e6},
        {"scale": 1e6},
        {"compute": "float16"},
        {"check_dtype": False},
    ],
)
def test_assert_parity_hands_on_its_options(options):
    expected = np.float64([0.75]) if "check_dtype" in options else np.float32([0.75 + 1e-3])
    with pytest.raises(ParityError):
        assert_parity(np.float32([0.75]), expected)
    assert_parity(np.float32([0.75]), expected, **options)


def test_assert_parity_has_the_options_of_compare():
    assert inspect.signature(assert_parity).parameters == inspect.signature(compare).parameters
    one, other = np.float32([1.0]), np.float32([2.0])
    with pytest.raises(ParityError, match=r"(?s)^loss: .*\(label 7, weight 0.5\)"):
        assert_parity(one, other, labels=[7], weights=[0.5], name="loss")
    with pytest.raises(ParityError, match="the framework is numpy, expected python"):
        assert_parity(one, [1.0], check_framework=True)


ONE = np.float32([1.0, 2.0])


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((None, ONE), {}, seqloss.ArgumentTypeError, "actual is None, not an array"),
        ((ONE, "1"), {}, seqloss.ArgumentTypeError, "expected is a builtins.str, not an array"),
        ((ONE, 1j * ONE), {}, seqloss.DTypeError, "expected must be a float, integer or bool array, got complex"),
        ((ONE, np.array(["a", "b"])), {}, seqloss.DTypeError, "expected must be a float, integer or bool array"),
        ((ONE, [[1.0], [1.0, 2.0]]), {}, seqloss.ShapeError, "expected is a ragged list"),
        ((ONE, ONE), {"check_dtype": 1}, seqloss.ArgumentTypeError, "check_dtype must be True or False, got 1"),
        ((ONE, ONE), {"check_framework": None}, seqloss.ArgumentTypeError, "check_framework must be True or False"),
        ((ONE, ONE), {"name": 3}, seqloss.ArgumentTypeError, "name must be a string or None, got 3"),
        ((ONE, ONE), {"bound": -1}, seqloss.OptionError, "bound must be at least 0 and finite, got -1 to -1"),
        ((ONE, ONE), {"bound": NAN}, seqloss.OptionError, "bound must be at least 0 and finite, got nan to nan"),
        (
            (ONE, ONE),
            {"bound": 2**23},
            seqloss.OptionError,
            "bound must be below 8.38861e.06 ULP of float32, got 8.*: no digit",
        ),
        ((ONE, ONE), {"bound": 1024, "compute": "float16"}, seqloss.OptionError, "bound must be below 1024 ULP"),
        ((ONE, ONE), {"bound": True}, seqloss.DTypeError, "bound must be a number or an array of numbers, got bool"),
        ((ONE, ONE), {"bound": [1, 2, 3]}, seqloss.ShapeError, r"bound must broadcast to .* results, \[2\], got \[3\]"),
        ((ONE, ONE), {"bound": "1"}, seqloss.ArgumentTypeError, "bound is a builtins.str, not an array"),
        ((ONE, ONE), {"scale": [-1, 2]}, seqloss.OptionError, "scale must be at least 0, got -1 to 2"),
        ((ONE, ONE), {"scale": [[1], [2], [3]]}, seqloss.ShapeError, r"scale must broadcast"),
        ((ONE, ONE), {"compute": "int32"}, seqloss.OptionError, "compute must be one of bfloat16, float16, .*'int32'"),
        ((ONE, ONE), {"labels": [1]}, seqloss.ShapeError, r"labels must have the leading sizes .* \[2\], got \[1\]"),
        ((ONE, ONE), {"weights": [[1], [2]]}, seqloss.ShapeError, r"weights must have the leading sizes .* \[2, 1\]"),
    ],
)
def test_errors(arguments, options, error, message):
    with pytest.raises(error, match=message):
        compare(*arguments, **options)


# --- properties ------------------------------------------------------------------------------------------------------

PROFILE = settings(max_examples=200, deadline=None, derandomize=True, database=None)
DTYPES = ("float16", "float32", "float64")


@st.composite
def pairs(draw):
    """Two arrays of one shape, equal or near each other in most places."""
    dtype = draw(st.sampled_from(DTYPES))
    bits = np.dtype(dtype).itemsize * 8
    size = draw(st.integers(0, 4))
    special = st.sampled_from([np.dtype(dtype).type(x) for x in (0.0, -0.0, 1.0, NAN, INF, -INF, 2.0**-14, 2.0**-126)])
    numbers = st.floats(width=bits) | special | st.floats(0.5, 2, width=bits)
    a = draw(hnp.arrays(dtype, size, elements=numbers))
    with np.errstate(all="ignore"):
        near = [a, np.nextafter(a, np.inf), np.nextafter(a, -np.inf), a * np.asarray(1 + 2.0**-9, dtype), -a]
    chosen = draw(st.lists(st.integers(0, 2 * len(near)), min_size=size, max_size=size))
    e = np.array([near[c][i] if c < len(near) else a[i] for i, c in enumerate(chosen)], dtype)
    if draw(st.booleans()):
        with np.errstate(over="ignore"):
            e = e.astype(draw(st.sampled_from(DTYPES[1:])))
    return a, e


BOUNDS = st.floats(0, 1000) | st.sampled_from([0.0, 0.5, 1.0, 2.0, 40.0])
SCALES = st.none() | st.sampled_from([0.0, 1.0, 1e4])
COMPUTE = st.sampled_from([None, "float32", "float64"])


@PROFILE
@given(pairs(), BOUNDS, SCALES, COMPUTE)
def test_sameness_is_symmetric(pair, bound, scale, compute):
    a, e = pair
    options = {"bound": bound, "scale": scale, "compute": compute, "check_dtype": False}
    one, other = compare(a, e, **options), compare(e, a, **options)
    assert (one.same, one.problems, one.differing) == (other.same, other.problems, other.differing)
    assert (one.ulp, one.ulp_at_scale) == (other.ulp, other.ulp_at_scale)
    assert compare(a, e, check_dtype=False).same == compare(e, a, check_dtype=False).same


@PROFILE
@given(pairs(), BOUNDS, BOUNDS, SCALES, COMPUTE)
def test_a_larger_bound_or_scale_allows_no_less(pair, one, other, scale, compute):
    a, e = pair
    low, high = sorted((one, other))
    options = {"compute": compute, "check_dtype": False}
    tight = compare(a, e, bound=low, scale=scale, **options)
    assert tight.differing >= compare(a, e, bound=high, scale=scale, **options).differing
    assert tight.differing >= compare(a, e, bound=low, scale=1e5, **options).differing


@PROFILE
@given(pairs(), SCALES)
def test_everything_is_the_same_as_itself(pair, scale):
    for x in pair:
        result = compare(x, x.copy(), bound=0, scale=scale)
        assert result.same
        assert result.differing == 0


@PROFILE
@given(st.data(), st.sampled_from(DTYPES), st.integers(0, 100))
def test_the_verdict_is_the_definition(data, dtype, bound):
    bits = np.dtype(dtype).itemsize * 8
    a = np.dtype(dtype).type(data.draw(st.floats(0.5, 4, width=bits)))
    e = np.dtype(dtype).type(a + data.draw(st.integers(-120, 120)) * np.spacing(a))
    allowed = bound * np.spacing(max(abs(a), abs(e))).astype(np.longdouble)
    expected = abs(np.longdouble(a) - np.longdouble(e)) <= allowed
    assert compare(a, e, bound=bound, compute=dtype).same == expected


# --- importing -------------------------------------------------------------------------------------------------------

HEAVY = ("numpy", "torch", "tensorflow", "jax")


@pytest.mark.parametrize(
    "program, brought",
    [
        ("import seqloss.testing; dir(seqloss.testing)", []),
        ("import seqloss.testing as t; t.compare([1.0], [1.0])", ["numpy"]),
        ("from seqloss.testing import *; assert_parity(1.0, 1.0); token_bound; Comparison", ["numpy"]),
    ],
)
def test_importing_is_light(python, program, brought):
    assert python(f"import sys; {program}; print(*[m for m in {HEAVY} if m in sys.modules])").split() == brought


def test_names_of_the_package():
    import seqloss.testing as package

    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name).__doc__ for name in package.__all__)
    with pytest.raises(AttributeError, match=r"module 'seqloss.testing' has no attribute 'compares'"):
        _ = package.compares
