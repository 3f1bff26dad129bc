"""The invariants of the testing kit, on the library in every framework and on losses that are wrong on purpose."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import suite
import wrong_losses

import seqloss
from seqloss.testing import frameworks
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.conventions import Conventions
from seqloss.testing.check.subjects import subject
from seqloss.testing.invariants import INVARIANTS, InvariantViolation, NotApplicable, Subject

# Every question to a mode of this table is a compilation of its own, of 0.2 to 2 seconds. Such a mode is asked what a
# compiler can get wrong: exact zeros, NaN behind a mask, sizes of 0, labels without values, the accurate form. The
# others are arithmetic on the values of eager mode, and the case table is compared with the oracle in every mode.
ASKED_OF_COMPILERS = ("unsafe_masks", "empty", "label_policy", "confident_tokens", "count_of_70000")
COMPILERS = {
    "torch": ("compile", "export", "explicit-compile"),
    "tensorflow": ("function", "function-unknown-sizes", "xla", "explicit-function"),
    "jax": ("jit", "explicit-jit", "explicit"),
}

# Each size is a compilation in JAX, eagerly too, and the case table has the numbers.
OF_MANY_SIZES = ("every_class", "sizes_of_one")

# The same graphs as a mode above, compiled in another setting.
LEFT_OUT = {
    "torch": ("compile-dynamic",),  # as compile, and three times as slow; tests/frameworks sees that it compiles once
    "tensorflow": ("function-unknown-rank",),  # as function-unknown-sizes, once the rank has been asserted
    "jax": ("grad-of-jit", "checkpoint"),  # as jit; the order of the transformations cannot change a value
}


def asked(name, mode):
    """The invariants that a mode of a framework is asked for."""
    if mode in LEFT_OUT.get(name, ()):
        return ()
    if mode in COMPILERS.get(name, ()):
        return ASKED_OF_COMPILERS
    driver = frameworks.load(name)
    # Asked once, beside eager mode, of what the framework has.
    once = {
        "modes": driver.COMPILERS,
        "layouts": driver.LAYOUTS,
        "surroundings": driver.SURROUNDINGS,
        "unrecorded": driver.UNRECORDED,
        "second": driver.hessian_product,
        "dweights": driver.pullback,
        "pullback": driver.pullback,
        "vmapped": driver.mapped,
        "cast": driver,
    }
    left_out = OF_MANY_SIZES if name == "jax" else ()
    return [
        invariant
        for invariant in INVARIANTS
        if invariant not in left_out
        if (needs := INVARIANTS[invariant].needs) not in once or (mode == "eager" and once[needs])
    ]


def rows(names, full):
    """Every (framework, mode, dtype, invariant): float32, and the half dtypes for what is about them.

    What is no count is so eagerly alone: each question to a compiler is expensive, and of the two half dtypes a
    compiled mode has one, the other in every second mode.
    """
    halves = ("float16", "bfloat16")
    for name in names:
        driver = frameworks.load(name)
        turns = itertools.cycle((half,) for half in halves)
        for mode in (*driver.MODES, *driver.EXPLICIT):
            own = next(turns) if mode in COMPILERS.get(name, ()) and not full else halves
            for invariant in asked(name, mode):
                yield name, mode, "float32", invariant
                for dtype in own:
                    half = INVARIANTS[invariant].half and (mode == "eager" or invariant.startswith("count_of"))
                    if half and dtype in driver.DTYPES:
                        yield name, mode, dtype, invariant


def pytest_generate_tests(metafunc):
    if "invariant" in metafunc.fixturenames:
        config = metafunc.config
        declared = rows(config.getoption("--backends").split(","), config.getoption("--full"))
        metafunc.parametrize("name, mode, dtype, invariant", [marked(row) for row in declared])


def marked(row):
    identity = "-".join(row)
    return pytest.param(*row, id=identity, marks=suite.marks(identity))


def adapted(name, mode, dtype):
    """``sequence_loss`` of a framework, in a mode and dtype, as the subject of invariants."""
    driver = frameworks.load(name)

    def asked(arrays, cotangent, **flags):
        """Value and gradient; a framework that differentiates nothing has the explicit one."""
        given = suite.Options(tuple(sorted(flags.items())), check_labels=None, differentiable=False)
        value, gradients = suite.program(name, mode, given)(arrays, cotangent)
        if gradients is None:
            value, gradients = suite.program(name, "explicit", given)(arrays, cotangent)
        return value, gradients[0]

    def native(logits, targets, weights):
        return [driver.array(logits, dtype), driver.array(targets), driver.array(weights, dtype)]

    def loss(*arrays):
        return tuple(map(driver.to_numpy, asked(native(*arrays), None)))

    def upstream(logits, targets, weights, cotangent):
        arrays, given = native(logits, targets, weights), driver.array(cotangent, "float32")
        flags = {"average_across_timesteps": False, "average_across_batch": False}
        return tuple(map(driver.to_numpy, asked(arrays, given, **flags)))

    function, gradient = (seqloss.sequence_loss, "autodiff")
    if name == "numpy":
        function, gradient = (seqloss.sequence_loss_and_grad, "returned")
    whole = subject(Adapted(function, Conventions(gradient=gradient), driver), tuple(driver.COMPILERS))
    return replace(whole, loss=loss, upstream=upstream, scalar=False)


def test_every_framework(name, mode, dtype, invariant):
    INVARIANTS[invariant](adapted(name, mode, dtype), 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("checked", INVARIANTS)
def test_right_loss_passes(checked, seed):
    INVARIANTS[checked](wrong_losses.right, seed)


@pytest.mark.parametrize("mistake", wrong_losses.WRONG)
def test_mistake_is_noticed_by(mistake):
    """By exactly these: each invariant looks at one thing, so that the names of those that fail say what is wrong."""
    loss, expected = wrong_losses.WRONG[mistake]
    assert {name for name, invariant in INVARIANTS.items() if violates(invariant, loss)} == expected


def violates(invariant, loss):
    try:
        invariant(loss, 0)
    except InvariantViolation:
        return True
    except NotApplicable:
        pass
    return False


def test_every_invariant_notices_something():
    assert set().union(*(expected for _, expected in wrong_losses.WRONG.values())) == set(INVARIANTS)


def test_no_invariant_is_noticed_by_the_general_mistake_alone():
    """A mistake that nothing survives says little about an invariant."""
    found = (expected for name, (_, expected) in wrong_losses.WRONG.items() if name != "value_of_one_entry")
    assert set().union(*found) == set(INVARIANTS)


def test_violation_says_what_was_expected_and_shows_the_arrays():
    with pytest.raises(InvariantViolation) as caught:
        INVARIANTS["padding"](wrong_losses.WRONG["mean_over_padding"][0], 0)
    text = str(caught.value)
    assert text.startswith("padding: the value after padding with rows must be ")
    assert all(word in text for word in (", got ", "logits = float32[4, 3, 4]", "targets = int64[4, 3]", "weights = "))


def test_violation_of_a_large_batch_is_small():
    with pytest.raises(InvariantViolation) as caught:
        INVARIANTS["count_of_70000"](wrong_losses.WRONG["sum_in_float16"][0], 0)
    assert len(str(caught.value)) < 2000


def test_exception_of_the_loss_is_a_violation():
    def loss(logits, targets, weights):
        raise ZeroDivisionError("no tokens")

    with pytest.raises(InvariantViolation, match=r"one_hot: an exception must be .*ZeroDivisionError") as caught:
        INVARIANTS["one_hot"](loss, 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("checked", [name for name, invariant in INVARIANTS.items() if invariant.needs])
def test_what_a_bare_callable_has_not_is_not_applicable(checked):
    with pytest.raises(NotApplicable):
        INVARIANTS[checked](wrong_losses.right.loss, 0)


@pytest.mark.parametrize("refusal", [ValueError, None], ids=["exception", "no-gradient"])
def test_refused_second_derivative_is_right(refusal):
    def second(*arrays):
        if refusal is not None:
            raise refusal("no second derivatives")

    INVARIANTS["double_backward"](Subject(wrong_losses.right.loss, second=second), 0)


def test_second_derivative_of_nan_is_wrong():
    nan = Subject(wrong_losses.right.loss, second=lambda z, y, w, v: np.full_like(z, np.nan))
    with pytest.raises(InvariantViolation, match="double_backward: the Hessian times a direction"):
        INVARIANTS["double_backward"](nan, 0)


def test_summaries_are_sentences():
    assert all(invariant.summary.endswith(".") for invariant in INVARIANTS.values())


def test_seed_or_generator():
    """The same arrays for the same seed, others for another."""
    seen = []

    def loss(logits, targets, weights):
        seen.append(logits)
        return wrong_losses.right(logits, targets, weights)

    for seed in (1, np.random.default_rng(1), 2):
        INVARIANTS["one_hot"](loss, seed)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
