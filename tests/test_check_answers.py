"""What a loss returns that is none by its conventions is refused in words, with what to pass or to write instead.

With NumPy's arrays alone: the driver says what an array is, and NumPy's will do where nothing is differentiated.
"""

from functools import partial

import numpy as np
import pytest

import seqloss
from seqloss.testing import Conventions, check_loss, frameworks
from seqloss.testing.check.answers import PlainCall

LOGITS, TARGETS, WEIGHTS = np.zeros((2, 3, 4), "float32"), np.zeros((2, 3), int), np.ones((2, 3), "float32")
ONE = np.float32(1)


class Foreign:
    """An array of somebody else."""

    shape, dtype = (), "float32"


class Criterion:
    """A loss that is an object, which is made first."""

    def __init__(self, reduction="mean"):
        self.reduction = reduction

    def __call__(self, logits, targets, weights):
        return ONE, np.zeros_like(logits)


class Eager:
    """A class whose objects are made of anything."""

    def __init__(self, logits, targets, weights):
        pass


async def coroutine():
    return ONE


def asked(loss=lambda *arrays: None, shell=True, **conventions):
    arrays = [LOGITS, TARGETS, WEIGHTS]
    return PlainCall("mine:loss", loss, Conventions(**conventions), frameworks.load("numpy"), arrays, shell)


@pytest.mark.parametrize(
    "said, text",
    [
        (None, "returned None as the loss, expected an array of numpy; does it end without a return?"),
        (
            1.5,
            "returned float as the loss, .*; leave out what turns it into a Python number, such as .item() or float()",
        ),
        (3, "returned int as the loss, .* or int()"),
        (True, "returned bool as the loss, .* or bool()"),
        ((ONE,), "returned tuple of 1 as the loss, .*; write a function that returns the loss alone$"),
        ((ONE, LOGITS), "returned tuple of 2 .* alone, or pass --gradient returned if the two are (loss, gradient)"),
        ([1.0, 2.0, 3.0], "returned list of 3 as the loss, .* returns the loss alone"),
        ({"loss": ONE}, "returned dict of 1 as the loss, .* returns the loss alone"),
        ("1.5", "returned str as the loss, .*; write a function that returns one"),
        ((x for x in (ONE,)), "returned generator as the loss, .*; write a function that returns one"),
        (Foreign(), "returned test_check_answers.Foreign as the loss, .*; compute it in numpy, from the arrays that"),
        (np.int64(1), "returned a loss of dtype int64, expected floats, as the logits are"),
        (np.bool_(1), "returned a loss of dtype bool, expected floats"),
        (np.complex64(1), "returned a loss of dtype complex64, expected floats"),
        (np.array(ONE, object), "returned a loss of dtype object, expected floats"),
        (np.ones(1, "float32"), "returned a loss of shape (1,), expected () for --returns mean .* one number"),
        (np.ones((2, 3), "float32"), "returned a loss of shape (2, 3), .*; pass what it is, --returns tokens"),
    ],
    ids=lambda x: x[:24] if isinstance(x, str) else type(x).__name__,
)
def test_what_is_no_loss(said, text, matching):
    with pytest.raises(seqloss.OptionError, match=matching(text)):
        asked().check(said)


@pytest.fixture
def matching():
    """A pattern in which all but ``.*`` and a final ``$`` is meant as it stands."""
    import re

    return lambda text: re.escape(text).replace(r"\.\*", ".*").removesuffix(r"\$") + ("$" if text[-1] == "$" else "")


BOTH = "write a function that returns both, each as an array of numpy"


@pytest.mark.parametrize(
    "said, text",
    [
        (None, f"must return (loss, gradient) according to its conventions, --gradient returned, got None; {BOTH}"),
        (1.5, f"got float; {BOTH}"),
        ("ab", f"got str; {BOTH}"),
        (ONE, f"got numpy.float32; {BOTH}"),
        ((ONE,), f"got tuple of 1; {BOTH}"),
        (("a", "b"), f"returned str as the loss, expected an array of numpy; {BOTH}"),
        ((3, LOGITS), f"returned int as the loss, .*; {BOTH}"),
        (([1.5], LOGITS), f"returned list of 1 as the loss, .*; {BOTH}"),
        ((ONE, None), f"returned None as the gradient, .*; {BOTH}"),
        ((ONE, LOGITS.tolist()), f"returned list of 2 as the gradient, .*; {BOTH}"),
        ((ONE, LOGITS[0]), "returned a gradient of shape (3, 4), expected that of the logits, (2, 3, 4) for --layout"),
        ((ONE, LOGITS.astype(int)), "returned a gradient of dtype int64, expected floats"),
        ((np.int64(3), LOGITS), "returned a loss of dtype int64, expected floats"),
        ((np.ones((2, 3)), LOGITS), "returned a loss of shape (2, 3), expected () for --returns mean"),
    ],
    ids=lambda x: x[:24] if isinstance(x, str) else type(x).__name__,
)
def test_what_is_no_loss_with_its_gradient(said, text, matching):
    with pytest.raises(seqloss.OptionError, match=matching(text)):
        asked(gradient="returned").check(said)


@pytest.mark.parametrize(
    "said, conventions",
    [
        (ONE, {}),
        (np.longdouble(1), {}),
        (np.float16(1), {"returns": "sum"}),
        (np.ones((2, 3)), {"returns": "tokens"}),
        ((1.5, LOGITS), {"gradient": "returned"}),
        ([np.float64(1.5), LOGITS], {"gradient": "returned"}),
        ((np.ones((2, 3)), LOGITS), {"gradient": "returned", "returns": "tokens"}),
    ],
)
def test_what_the_conventions_say_is_not_refused(said, conventions):
    asked(**conventions).check(said)


def test_a_framework_is_offered_to_differentiate(matching):
    call = asked(gradient="returned")
    call.driver = type("torch", (), {"name": "torch"})
    with pytest.raises(seqloss.OptionError, match=matching("an array of torch, or pass --gradient autodiff$")):
        call.check(None)


@pytest.mark.parametrize("loss", [Criterion, Eager, partial(Criterion, reduction="sum")])
def test_a_class_is_told_from_its_objects(loss):
    """Whether making an object fails, or makes one."""
    with pytest.raises(
        seqloss.OptionError, match=r"is a class, .*; pass an instance of it, as in check_loss\(\w+\(\), .*"
    ):
        check_loss(loss, backend="numpy")


def test_the_object_is_a_loss():
    """What the error proposes works."""
    assert check_loss(Criterion(), backend="numpy", invariants=["permutation"]).findings[0].verdict == "holds"


def test_a_shell_is_told_what_to_write():
    told = str(asked(Criterion).failed(TypeError("too many")))
    assert "write loss = Criterion(), and pass --against MODULE:loss" in told and "too many" not in told


def needs(logits, labels, *, mask, temperature: float):
    return ONE


@pytest.mark.parametrize(
    "loss, conventions, text",
    [
        (needs, {}, "; it takes (logits, labels, *, mask, temperature), of which functools.partial can set what is "),
        (lambda z: ONE, {}, "; it takes (z), of which functools.partial"),
        (partial(needs, temperature=1.0), {"arguments": ("logits", "labels=targets", "mask=weights")}, "boom; are "),
        (max, {}, "boom; are these its conventions? --arguments"),
    ],
)
def test_what_the_function_takes_is_said_if_it_is_something_else(loss, conventions, text):
    assert text in str(asked(loss, **conventions).failed(ValueError("boom")))


def test_a_coroutine_is_no_loss():
    call = coroutine()
    with pytest.raises(seqloss.OptionError, match="returned coroutine as the loss"):
        asked().check(call)
    call.close()
