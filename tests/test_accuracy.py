"""Loss and gradient of a token keep their full relative accuracy at any confidence.

Margins of -80 … 80 between the target and the largest other logit, from two classes to thousands: on either side of
every place where float32 runs out in ``logsumexp - logit`` and in ``p - 1``.
"""

import numpy as np
import pytest

import seqloss
from seqloss.testing import cases, oracle, tolerances

pytestmark = pytest.mark.usefixtures("numpys_own_kernels")

MARGINS = np.arange(-80, 80.5, 0.5)
CLASSES = (2, 3, 17, 256, 257, 1000, 4096)


def tokens(classes, dtype):
    """One token for each margin, as logits [1, margins, classes] and targets [1, margins].

    The other logits are within 6 of each other: exp(-86) is a normal number of float32 still. Below, TensorFlow and JAX
    flush the summands of a loss to zero, and what thousands of them would have added up to is lost.
    """
    rng = np.random.default_rng(classes)
    logits = rng.uniform(-3, 3, (1, len(MARGINS), classes))
    targets = rng.integers(0, classes, logits.shape[:2])
    at_target = np.arange(classes) == targets[..., None]
    highest = np.where(at_target, -np.inf, logits).max(-1)
    return np.where(at_target, (highest + MARGINS)[..., None], logits).astype(dtype), targets


def worst(actual, expected, bound, dtype):
    """The largest distance as a fraction of the bound, and the margin where it is."""
    fraction = tolerances.excess(actual, expected, dtype, bound).reshape(len(MARGINS), -1).max(-1)
    return fraction.max(), MARGINS[fraction.argmax()]


def loss_and_gradient(framework, logits, targets):
    """Per token, from ``token_loss`` as the framework differentiates it; NumPy's gradient is the explicit one."""
    native = framework.array(logits), framework.array(targets)
    value, gradients = framework.MODES["eager"](seqloss.token_loss, (0,))(native, None)
    gradient = seqloss.sequence_loss_and_grad(*native, **cases.PLAIN)[1] if gradients is None else gradients[0]
    assert framework.is_array(value)
    assert framework.is_array(gradient)
    assert tuple(value.shape) == targets.shape
    assert tuple(gradient.shape) == logits.shape
    assert framework.dtype(value) == framework.dtype(gradient) == logits.dtype.name
    return framework.to_numpy(value), framework.to_numpy(gradient)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_token_loss_and_gradient(framework, dtype, classes):
    logits, targets = tokens(classes, dtype)
    expected, bound = oracle.tokens(logits, targets), tolerances.token_bound(logits)
    with framework.precision(dtype):
        value, gradient = loss_and_gradient(framework, logits, targets)
    fraction, margin = worst(value, expected.nll, bound, dtype)
    assert fraction <= 1, f"loss, margin {margin}"
    at_target = targets[..., None]
    got, exact = (np.take_along_axis(x, at_target, -1) for x in (gradient, expected.slope))
    fraction, margin = worst(got, exact, bound[..., None], dtype)
    assert fraction <= 1, f"gradient at the target, margin {margin}"
    assert (got < 0).all()
    fraction, margin = worst(gradient, expected.slope, bound[..., None], dtype)
    assert fraction <= 1, f"gradient elsewhere, margin {margin}"


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_plain_formulas_fail(dtype, classes):
    """``logsumexp - logit`` and ``p - 1`` in the same dtype are out of bounds, so the test above can fail."""
    logits, targets = tokens(classes, dtype)
    expected, bound = oracle.tokens(logits, targets), tolerances.token_bound(logits)
    at_target = targets[..., None]
    highest = logits.max(-1, keepdims=True)
    e = np.exp(logits - highest)
    total = e.sum(-1, keepdims=True)
    nll = (highest + np.log(total) - np.take_along_axis(logits, at_target, -1))[..., 0]
    assert worst(nll, expected.nll, bound, dtype)[0] > 1e4
    slope = np.take_along_axis(e / total, at_target, -1) - 1
    exact = np.take_along_axis(expected.slope, at_target, -1)
    assert worst(slope, exact, bound[..., None], dtype)[0] > 1e4
