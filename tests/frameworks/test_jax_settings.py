"""The switches by which JAX finds mistakes: it must find none here, and those of others where they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqloss
from seqloss.testing import families

LOGITS = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).astype("float32")
TARGETS, WEIGHTS = np.array([[0, -100]], "int32"), np.array([[1.0, 0.0]], "float32")
PLAIN = {"average_across_timesteps": False, "average_across_batch": False}


def batch():
    return [jnp.asarray(x) for x in (LOGITS, TARGETS, WEIGHTS)]


def steps(x):
    return [x[:, t] for t in range(x.shape[1])]


# From functions of logits, targets and weights to a number.
LOSSES = {
    "sequence": seqloss.sequence_loss,
    "exact": functools.partial(seqloss.sequence_loss, exact=True),
    "tokens_of_a_sequence": lambda z, y, w: seqloss.sequence_loss(z, y, w, **PLAIN).sum(),
    "token": lambda z, y, w: seqloss.token_loss(z, y, active=w > 0).sum(),
    "sparse": lambda z, y, w: seqloss.sparse_softmax_cross_entropy(y, z, w),
    "by_example": lambda z, y, w: seqloss.sequence_loss_by_example(steps(z), steps(y), steps(w))[0],
    "soft": lambda z, y, w: seqloss.softmax_cross_entropy(jax.nn.softmax(z), z, w),
    "sigmoid": lambda z, y, w: seqloss.sigmoid_cross_entropy(jax.nn.sigmoid(z), z, w[..., None]),
}


def used(loss, use):
    """The loss itself, or its value with all gradients that it has."""
    if use == "value":
        return LOSSES[loss]
    return jax.value_and_grad(LOSSES[loss], argnums=(0,) if loss == "token" else (0, 2))


@pytest.mark.few_where_compiled
@pytest.mark.parametrize("use", ["value", "both"])
@pytest.mark.parametrize("loss", LOSSES)
def test_debug_nans_finds_none_in_padding(loss, use):
    """Eagerly, where the results of all that is jitted inside are looked at, those for the backward pass included."""
    with jax.debug_nans(True):
        result = used(loss, use)(*batch())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result))


@pytest.mark.parametrize("wrt", ["logits", ("logits", "weights")])
def test_debug_nans_finds_none_in_explicit_gradients(wrt):
    with jax.debug_nans(True):
        _, gradients = seqloss.sequence_loss_and_grad(*batch(), wrt=wrt)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


@pytest.mark.parametrize("loss", ["exact", "sparse", "soft", "sigmoid"])
def test_operation_by_operation_there_is_no_nan(loss):
    """As JAX runs a program again to find the operation that made a NaN: it must not stop inside of this package.

    One loss of each kernel: every operation is compiled by itself, which takes long.
    """
    z, y, w = batch()
    # A class that cannot happen is legal, and minus infinity no NaN.
    impossible = z.at[0, 0, 2].set(-jnp.inf) if loss not in ("sigmoid", "soft") else z
    with jax.debug_nans(True), jax.disable_jit():
        value, gradients = used(loss, "both")(impossible, y, w)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, gradients)))


def test_the_nan_of_others_is_found_where_it_is():
    def step(z, y, w):
        loss = seqloss.sequence_loss(z, y, w)
        return jnp.log(-loss)

    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="log"):
        jax.jit(step)(*batch())


def test_a_nan_that_is_returned_is_found():
    """The test of the tests above."""
    z, y, w = batch()
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        jax.jit(functools.partial(seqloss.sequence_loss, check_labels=False))(z, y, jnp.ones_like(w))


@pytest.mark.parametrize("loss", ["sequence", "exact", "by_example", "soft"])
def test_no_tracer_is_left_behind(loss):
    with jax.checking_leaks():
        jax.jit(used(loss, "both"))(*batch())


@pytest.mark.parametrize(("classes", "exact"), [(5, False), (64, False), (513, False), (4099, False), (513, True)])
def test_ranks_are_never_promoted(classes, exact):
    """Rows are summed up in other ways where there are many classes."""
    rng = np.random.default_rng(0)
    z, y = (
        jnp.asarray(rng.normal(size=(2, 3, classes)).astype("float32")),
        jnp.asarray(rng.integers(0, classes, (2, 3))),
    )
    w = jnp.ones((2, 3))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        loss = functools.partial(seqloss.sequence_loss, exact=exact, average_across_batch=False)
        value, pull = jax.vjp(loss, z, y, w)
        pull(jnp.ones_like(value))


# What can be differentiated is among the conformance cases, with the same switches.
ROWS = {}
for _row in families.FAMILIES:
    if _row.function == "sequence_mask" or not _row.wrt:
        ROWS.setdefault(_row.function, _row)


@pytest.mark.parametrize("function", ROWS)
def test_ranks_are_never_promoted_in_a_function(function):
    row = ROWS[function]
    arrays = [jnp.asarray(x.astype("float32") if x.dtype == np.float64 else x) for x in row.arrays()]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        assert row.call(*arrays) is not None
