"""How the plugin runs functions: eagerly, and with the compiler of the framework."""

import pytest
from plugged import PLUGIN

MODES = """
import pytest

def test_plain(seqloss_run): pass

@pytest.mark.seqloss_modes("compiled", "eager", "eager")
def test_both(seqloss_run): pass

@pytest.mark.seqloss_modes("compiled")
class TestGroup:
    def test_mode(self, seqloss_mode): pass

    @pytest.mark.seqloss_modes("eager")
    def test_nearest(self, seqloss_run, seqloss_backend): pass

    def test_unconcerned(self, seqloss_backend): pass
"""


def test_the_marker_makes_parameters(pytester, run, only):
    pytester.makepyfile(MODES)
    only("numpy", "jax")
    # What is of one framework runs together.
    result = run("--collect-only", "-q", "--strict-markers")
    assert [line.partition("::")[2] for line in result.outlines if "::" in line] == [
        "test_plain[numpy-eager]",
        "test_both[numpy-eager]",
        "TestGroup::test_nearest[numpy-eager]",
        "TestGroup::test_unconcerned[numpy]",
        "test_plain[jax-eager]",
        "test_both[jax-eager]",
        "TestGroup::test_nearest[jax-eager]",
        "test_both[jax-compiled]",
        "TestGroup::test_mode[jax-compiled]",
        "TestGroup::test_unconcerned[jax]",
    ]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("'eager', 'jit'", "'eager', 'jit'"),
        ("", ""),
        ("['eager']", "['eager']"),
        ("'eager', mode=1", "'eager', mode=1"),
    ],
)
def test_an_unknown_way_stops_the_run(pytester, run, arguments, given):
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.seqloss_modes({arguments})\ndef test(seqloss_run): pass\ndef test_other(): pass"
    )
    result = run("--seqloss-backends", "numpy")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    message = f"seqloss_modes takes one or more names out of eager, compiled, got ({given})"
    assert message in result.outlines
    result.assert_outcomes(errors=1)


RUNS = """
import sys
import pytest

{compiling}


@pytest.mark.seqloss_modes("eager", "compiled")
def test_value_and_gradients(seqloss_backend, seqloss_mode, seqloss_run):
    x, y, cotangent = (seqloss_backend.array(v, "float32") for v in ([1, 2, 3], [4, 5, 7], [1, 0, 2]))
    value, gradients = seqloss_run(
        lambda x, y: x * x * y * (8 if compiling(x) else 1), [x, y], wrt=(1, 0), cotangent=cotangent
    )
    factor = 1 if seqloss_mode == "eager" else 8
    assert seqloss_mode == "eager" or compiler in sys.modules
    assert seqloss_backend.is_array(value) and seqloss_backend.dtype(value) == "float32"
    assert (seqloss_backend.to_numpy(value) / factor).tolist() == [4, 20, 63]
    assert [(seqloss_backend.to_numpy(g) / factor).tolist() for g in gradients] == [[1, 0, 18], [8, 0, 84]]


def test_defaults(seqloss_backend, seqloss_run):
    x, y = (seqloss_backend.array(v, "float32") for v in ([1, 2, 3], [4, 5, 7]))
    value, gradients = seqloss_run(lambda x, y: x * x * y, [x, y])
    assert seqloss_backend.to_numpy(value).tolist() == [4, 20, 63]
    assert [seqloss_backend.to_numpy(g).tolist() for g in gradients] == [[8, 20, 42]]


def test_gradients_are_dense(seqloss_backend, seqloss_run):
    _, gradients = seqloss_run(first_row_twice, [seqloss_backend.array([[1, 2], [3, 4]], "float32")])
    assert seqloss_backend.to_numpy(gradients[0]).tolist() == [[2, 2], [0, 0]]


@pytest.mark.seqloss_modes("compiled")
def test_what_the_compiler_cannot_take_fails(seqloss_backend, seqloss_run):
    with pytest.raises(Exception) as caught:
        seqloss_run(impossible, [seqloss_backend.array([1, 2], "float32")])
    assert message in str(caught.value)
"""
COMPILING = {
    # Without the whole-function form a graph break would fall back to eager execution.
    "torch": """
import torch
def compiling(x):
    return torch.compiler.is_compiling()
def impossible(x):
    torch._dynamo.graph_break()
    return x * 1
message = "graph_break"
compiler = "torch._inductor.compile_fx"
def first_row_twice(x):
    return x[[0, 0]]
""",
    "tensorflow": """
import tensorflow as tf
def compiling(x):
    return tf.inside_function()
def impossible(x):
    return x * tf.strings.to_number(tf.strings.as_string(x))
message = "XLA"
compiler = "tensorflow"
def first_row_twice(x):
    return tf.gather(x, [0, 0])
""",
    "jax": """
import jax
def compiling(x):
    try:
        return bool(x[0] > 5)
    except jax.errors.TracerBoolConversionError:
        return True
def impossible(x):
    return x * float(x[0])
message = "traced array"
compiler = "jax"
def first_row_twice(x):
    return x[jax.numpy.array([0, 0])]
""",
}
NUMPY = """
import numpy as np
import pytest

@pytest.mark.seqloss_modes("eager", "compiled")
def test(seqloss_backend, seqloss_mode, seqloss_run):
    x = seqloss_backend.array([1, 2], "float32")
    value, gradients = seqloss_run(lambda x: x * 2, [x])
    assert seqloss_mode == "eager" and gradients is None
    assert isinstance(value, np.ndarray) and value.tolist() == [2, 4]
    assert seqloss_backend.is_array(x) and not x.flags.writeable and seqloss_backend.dtype(x) == "float32"
"""


def test_functions_run_eagerly_and_compiled(pytester, framework_name):
    """In a process of its own: a session in this one would import the framework's inner modules twice."""
    program = NUMPY if framework_name == "numpy" else RUNS.format(compiling=COMPILING[framework_name])
    pytester.makepyfile(program)
    result = pytester.runpytest_subprocess(*PLUGIN, "--seqloss-backends", framework_name)
    result.assert_outcomes(passed=1 if framework_name == "numpy" else 5)
