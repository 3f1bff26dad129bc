"""check_loss on losses of JAX that are wrong where nobody looks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqloss.testing import Conventions, check_loss

TOKENS = Conventions(("logits", "targets"), returns="tokens")


def nll(logits, targets):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]


@jax.custom_vjp
def only_with_gradients(logits, targets):
    """A fused kernel whose loss comes with its gradient alone."""
    return jnp.zeros_like(logits[..., 0])


def _forward(logits, targets):
    onehot = jnp.arange(logits.shape[-1]) == targets[..., None]
    return nll(logits, targets), jax.nn.softmax(logits) - onehot


only_with_gradients.defvjp(_forward, lambda slope, cotangent: (slope * cotangent[..., None], None))


def in_the_default_dtype(logits, targets):
    return nll(logits, targets) + 2**23 * jnp.finfo(jnp.result_type(float)).eps - 1


def in_float32(logits, targets):
    return nll(logits.astype(jnp.float32), targets).astype(logits.dtype)


WRONG = {
    only_with_gradients: {"without_gradients"},
    in_the_default_dtype: {"other_settings"},
    in_float32: {"double_precision"},
}


@pytest.mark.parametrize("loss", WRONG, ids=lambda loss: loss.__name__)
def test_noticed_by_exactly(loss):
    asked = ["one_hot", "permutation", *WRONG[loss]]
    check = check_loss(loss, backend="jax", conventions=TOKENS, modes=(), invariants=asked)
    assert {f.invariant for f in check.findings if f.verdict == "violated"} == WRONG[loss], check.report()


def test_constants_that_are_baked_in():
    kept = {}

    def loss(logits, targets):
        if not isinstance(targets, jax.core.Tracer):
            kept[targets.shape] = np.asarray(targets)
        return nll(logits, kept[targets.shape])

    names = ("one_hot", "compiled_is_eager")
    check = check_loss(loss, backend="jax", conventions=TOKENS, invariants=names)
    (finding,) = [f for f in check.findings if f.verdict == "violated"]
    assert (finding.invariant, finding.mode) == ("compiled_is_eager", "jit")
    assert "for other arrays of the same shapes" in finding.detail
