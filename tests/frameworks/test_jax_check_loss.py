"""check_loss on losses of JAX, where every new shape is compiled: few questions."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

import seqloss
from seqloss.testing import Conventions, check_loss, frameworks

TOKENS = Conventions(("logits", "targets"), returns="tokens")
UNREDUCED = {"average_across_timesteps": False, "average_across_batch": False}


def integer_labels(logits, labels):
    """As it is written everywhere: a label that is no class is another class."""
    legal = jnp.clip(labels, 0, logits.shape[-1] - 1)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), legal[..., None], -1)[..., 0]


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


def test_hand_written_loss():
    names = ("unsafe_masks", "label_policy", "one_hot", "confident_tokens", "compiled_is_eager", "double_backward")
    check = check_loss(integer_labels, backend="jax", conventions=TOKENS, invariants=names)
    assert violated(check) == {"unsafe_masks", "label_policy", "confident_tokens"}, check.report()
    examples = {f.invariant: f.example for f in check.findings if f.dtype == "float32"}
    assert examples["label_policy"]["targets"] == [[-1]]
    assert examples["unsafe_masks"]["weights"] == [[1, 0]]
    assert {f.mode for f in check.findings if f.invariant == "compiled_is_eager"} == {"jit"}


def test_sequence_loss_holds():
    names = ("unsafe_masks", "label_policy", "one_hot", "upstream_gradients", "compiled_is_eager", "double_backward")
    check = check_loss(seqloss.sequence_loss, backend="jax", invariants=names)
    assert all(f.verdict == "holds" for f in check.findings), check.report()


def test_kit_counts_in_the_dtype_of_the_losses():
    """They are float32, whatever the logits are: weights of a half dtype neither overflow nor are rounded."""
    names = ["count_of_70000"]
    tokens = check_loss(seqloss.token_loss, backend="jax", conventions=TOKENS, modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in tokens.findings), tokens.report()

    def summed(logits, targets, weights):
        return jnp.sum(seqloss.sequence_loss(logits, targets, weights, **UNREDUCED))

    total = check_loss(summed, backend="jax", conventions=Conventions(returns="sum"), modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in total.findings), total.report()
    assert {f.dtype for f in (*tokens.findings, *total.findings)} == {"float32", "float16", "bfloat16"}


def test_count_is_added_up_as_jax_adds():
    """In float32, and rounded once: one by one bfloat16 would not get beyond 256."""
    driver = frameworks.load("jax")
    weights = jnp.ones(70000, jnp.bfloat16)
    assert float(driver.over(jnp.asarray(70144, jnp.bfloat16), weights)) == 1


def test_smoothed_labels():
    """As ``optax.smooth_labels`` and ``optax.softmax_cross_entropy`` have them; optax is not installed here."""

    def smoothed(logits, labels):
        classes = logits.shape[-1]
        soft = 0.9 * jax.nn.one_hot(labels, classes) + 0.1 / classes
        return -jnp.sum(soft * jax.nn.log_softmax(logits), -1)

    conventions = replace(TOKENS, label_smoothing=0.1)
    names = ("one_hot", "double_backward", "impossible_classes")
    check = check_loss(smoothed, backend="jax", conventions=conventions, modes=(), invariants=names)
    assert violated(check) == {"impossible_classes"}, check.report()


def test_sequence_loss_with_options_holds():
    options = {"label_smoothing": 0.1, "class_weights": jnp.array([0.5, 2, 1]), "z_loss": 1e-2, "softcap": 5.0}
    names = ("one_hot", "weight_gradients")
    check = check_loss(partial(seqloss.sequence_loss, **options), backend="jax", modes=(), invariants=names)
    assert check.conventions.class_weights == (0.5, 2, 1)
    assert all(f.verdict == "holds" for f in check.findings), check.report()
