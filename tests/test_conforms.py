"""The check of backend adapters: the built-in ones pass, and one broken function is found and named."""

import inspect
from types import ModuleType

import numpy as np
import pytest
from broken import arrays, labels, layers, operations, right, tokens

from seqloss.backends import base
from seqloss.core import dispatch
from seqloss.core.protocol import Backend
from seqloss.testing import conformance
from seqloss.testing.conformance import NonConformingBackend, assert_conforms, kernels, linear, soft_kernels, tables

PROTOCOL = {name for name, member in inspect.getmembers(Backend, inspect.isfunction) if not name.startswith("_")}


def module(name, functions):
    made = ModuleType(name)
    vars(made).update(functions)
    return made


def replaced(**functions):
    """The right backend with other functions in place of its own."""
    return module("broken", {**{name: getattr(right, name) for name in PROTOCOL}, **functions})


def violations(**functions):
    """The lines of the report, or none if the adapter passes."""
    try:
        assert_conforms(replaced(**functions), cases=False)
    except NonConformingBackend as error:
        return str(error).splitlines()[1:]
    return []


@pytest.fixture
def only(monkeypatch):
    """Leave out the checks of all other functions."""

    def choose(name):
        monkeypatch.setattr(conformance, "CHECKS", {name: conformance.CHECKS[name]})

    return choose


def test_built_in_backends_conform(framework, monkeypatch, pytestconfig):
    if framework.QUICK and not pytestconfig.getoption("--full"):
        # Each call is a program there, and other dtypes are casts around the same one.
        for room in (kernels, soft_kernels, linear):
            monkeypatch.setattr(room, "float_dtypes", lambda backend: ("float32", "bfloat16"))
    # The conformance suite runs the cases in every mode.
    assert_conforms(dispatch.load(framework.name), cases=False)


def test_every_function_of_the_protocol_is_checked():
    assert set(conformance.CHECKS) == PROTOCOL
    assert violations() == []


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_missing_function_is_found(name, only):
    only(name)
    assert f"  {name}: missing" in violations(**{name: None})


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_wrong_signature_is_found(name, only):
    only(name)
    assert any(line.startswith(f"  {name}: must take (") for line in violations(**{name: lambda *, wrong: None}))


@pytest.mark.parametrize("name", sorted(PROTOCOL))
def test_exception_is_a_violation_of_its_function(name, only):
    def raises(*_, **__):
        raise ZeroDivisionError("broken")

    only(name)
    assert any(line.startswith(f"  {name}: raised ZeroDivisionError: broken") for line in violations(**{name: raises}))


FAULTS = {**arrays.FAULTS, **operations.FAULTS, **tokens.FAULTS, **labels.FAULTS, **layers.FAULTS}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_function_is_named(fault, only):
    (name,) = FAULTS[fault]
    only(name)
    lines = violations(**FAULTS[fault])
    assert any(line.startswith(f"  {name}: ") for line in lines), lines


def test_every_function_has_a_fault_in_the_table():
    assert {name for fault in FAULTS.values() for name in fault} == PROTOCOL


DIFFERENTIATED = ("differentiable", "run", "quotient", "take", "broadcast_like")


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_lost_derivative_is_found(framework_name, name, only):
    """In a framework that differentiates the value alone is not enough."""
    only(name)
    backend = dispatch.load(framework_name)
    functions = {name: getattr(backend, name) for name in PROTOCOL}

    def detached(x):
        return tuple(map(detached, x)) if type(x) is tuple else None if x is None else backend.stop_gradient(x)

    functions[name] = lambda *arguments: detached(getattr(backend, name)(*arguments))
    if backend.vjp(lambda x: x, backend.asarray(np.zeros(2, "float32"))) is None:
        functions["vjp"] = arrays.detached  # the same seen from NumPy, which has no derivatives to lose
    with pytest.raises(NonConformingBackend, match=rf"  {name}: (.* the (gradient|cotangent)( of .*)? is|raised)"):
        assert_conforms(module("detached", functions), cases=False)


def test_all_functions_that_are_wrong_are_listed():
    lines = violations(expand_dims=lambda x, *, axis: x, isfinite=np.isnan, vjp=None)
    assert {line.split(":")[0].strip() for line in lines} >= {"expand_dims", "isfinite", "vjp"}


@pytest.mark.parametrize("wrong, named", [(None, {"  to_numpy"}), (lambda x: x.tolist(), {"  to_numpy", "  asarray"})])
def test_nothing_else_is_tried_before_the_basic_functions_are_right(wrong, named):
    """They would all raise, for the one reason."""
    *first, last = violations(to_numpy=wrong, isfinite=np.isnan)
    assert {line.split(":")[0] for line in first} == named
    assert last.startswith("  nothing else is tried before owns, ")


def test_one_mistake_is_not_listed_many_times():
    lines = violations(**FAULTS["token_pullback p - 1"])
    assert len(lines) == conformance._MOST + 1
    assert lines[-1].startswith("  token_pullback: and ") and lines[-1].endswith(" more")


def test_violations_of_kernels_name_the_token():
    assert any("of the token 'sure and right" in line for line in violations(**FAULTS["token_statistics naive"]))


def test_exceptions_say_where_they_are_from():
    def raises(x):
        raise ZeroDivisionError("broken")

    (line,) = (line for line in violations(isfinite=raises) if line.startswith("  isfinite: "))
    assert line.endswith(f"(test_conforms.py:{raises.__code__.co_firstlineno + 1}, in raises)")


def test_the_name_of_a_module_is_no_backend():
    with pytest.raises(TypeError, match="not its name; import my_adapter and pass that"):
        assert_conforms("my_adapter")


def test_report_names_the_backend():
    with pytest.raises(NonConformingBackend, match=r"^broken does not conform to the backend protocol:\n"):
        assert_conforms(replaced(isfinite=np.isnan), cases=False)


# --- the public functions on arrays of a backend ---------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Few cases and rows, and no checks of single functions."""
    monkeypatch.setattr(conformance, "CHECKS", {})
    names = ("confident", "masked_nan_row", "weights_cancelling", "weights_int32", "one_class")
    monkeypatch.setattr(tables, "CASES", [case for case in tables.CASES if case.name in names])
    names = (
        "softmax_with_logits-sure",
        "sigmoid_with_logits",
        "compute_weighted_loss-mean",
        "sampled_softmax_loss-hits",
    )
    monkeypatch.setattr(tables, "FAMILIES", [row for row in tables.FAMILIES if row.name in names])


def found_by_cases(**functions):
    try:
        assert_conforms(replaced(**functions))
    except NonConformingBackend as error:
        return str(error)
    return ""


IN_CASES = {
    "token_statistics naive": "  confident in float32: the loss is ",
    "token_statistics without active": "  masked_nan_row in float64: ",
    "token_pullback p - 1": "  confident in float32: the returned gradient of logits is ",
    "quotient NaN at 0": "  weights_cancelling in float16: the loss is nan at [], expected 0.0",
    "label_statistics naive": "  softmax_with_logits-sure in float32: the value is 0.0",
    "sigmoid_nll as TensorFlow": "  sigmoid_with_logits in float32: the value is ",
    "sum keeps the axes": "  sampled_softmax_loss-hits in float32: raised ValueError",
    "take sorts": "  sampled_softmax_loss-hits in float32: the value is ",
}


def test_the_right_backend_passes_the_cases(few):
    before = dict(dispatch._adapters)
    assert found_by_cases() == ""
    assert dispatch._adapters == before


@pytest.mark.parametrize("fault", IN_CASES)
def test_a_fault_is_found_by_the_cases(fault, few):
    assert IN_CASES[fault] in found_by_cases(**FAULTS[fault])


def test_cases_are_left_out_where_a_function_is_wrong(few, monkeypatch):
    monkeypatch.setattr(conformance, "CHECKS", {"isfinite": lambda backend: iter(["is wrong"])})
    assert found_by_cases(**FAULTS["token_statistics naive"]).splitlines()[1:] == ["  isfinite: is wrong"]


# --- the natural answers ---------------------------------------------------------------------------------------------


def test_a_backend_keeps_its_own_functions():
    assert right.scope.__module__ == right.__name__
    assert right.vjp.func is base.vjp


def test_every_natural_answer_is_a_function_of_the_protocol_and_is_used():
    assert set(base.ANSWERS) <= PROTOCOL
    used = {name for name, answer in base.ANSWERS.items() if getattr(getattr(right, name), "func", None) is answer}
    assert used == set(base.ANSWERS) - {"scope"}
