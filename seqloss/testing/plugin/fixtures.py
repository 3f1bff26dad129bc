"""The fixtures of the plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seqloss import testing
from seqloss.testing.plugin import choice, parameters
from seqloss.testing.plugin.framework import Framework
from seqloss.testing.plugin.recording import Recording


@pytest.fixture(scope="session")
def seqloss_backend(request: pytest.FixtureRequest) -> Framework:
    """Each framework under test, chosen with --seqloss-backends: name, array, to_numpy, dtype, is_array."""
    choice.check_pytest()
    name = parameters.of(request)
    choice.check_own(request.config, name)
    if name == "tensorflow" and "torch" in choice.backends(request.config):
        Framework("torch")  # torch has to be imported before TensorFlow
    return Framework(name)


@pytest.fixture(scope="session")
def seqloss_mode(request: pytest.FixtureRequest, seqloss_backend: Framework) -> str:
    """How seqloss_run runs a function: one of the names in the marker seqloss_modes, or "eager" without one."""
    mode: str = parameters.of(request)
    return mode


@pytest.fixture(scope="session")
def seqloss_run(seqloss_backend: Framework, seqloss_mode: str) -> Callable[..., Any]:
    """seqloss_run(function, arrays, wrt=(0,), cotangent=None): its value and its gradients, in each mode of the marker.

    Compiled means torch.compile of the whole function, tf.function with XLA, or jax.jit. The gradients are a tuple, one
    for each position in wrt, of the sum of the values, or of their product with the cotangent. NumPy has no compiler,
    and its gradients are None.
    """

    def run(function: Any, arrays: Any, wrt: Any = (0,), cotangent: Any = None) -> Any:
        __tracebackhide__ = True
        return seqloss_backend.run(seqloss_mode, function, arrays, wrt, cotangent)

    return run


@pytest.fixture(scope="session")
def assert_parity() -> Callable[..., None]:
    """seqloss.testing.assert_parity: raises an error that says what differs, unless two arrays are the same."""
    return testing.assert_parity


@pytest.fixture
def seqloss_golden(request: pytest.FixtureRequest) -> Recording:
    """seqloss_golden(name, results, inputs, bound=None, scale=None): fails unless the results are as recorded.

    They are in golden/<name>.npz and .json beside the test's file; --seqloss-golden-update writes those that differ.
    Results and inputs are dicts of arrays of any framework; bound and scale are those of assert_parity, for all results
    or in a dict by the result's name.
    """
    choice.check_pytest()
    return Recording(request)
