"""check_loss on losses of JAX, where every new shape is compiled: few questions."""

import jax
import jax.numpy as jnp

import seqloss
from seqloss.testing import Conventions, check_loss

TOKENS = Conventions(("logits", "labels=targets"), returns="tokens")


def integer_labels(logits, *, labels):
    """As it is written everywhere: a label that is no class is another class."""
    legal = jnp.clip(labels, 0, logits.shape[-1] - 1)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), legal[..., None], -1)[..., 0]


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


def test_hand_written_loss():
    names = ("unsafe_masks", "label_policy", "one_hot", "confident_tokens", "compiled_is_eager", "double_backward")
    check = check_loss(integer_labels, backend="jax", conventions=TOKENS, invariants=names)
    assert violated(check) == {"unsafe_masks", "label_policy", "confident_tokens"}, check.report()
    examples = {f.invariant: f.example for f in check.findings}
    assert examples["label_policy"]["targets"] == [[-1]]
    assert examples["unsafe_masks"]["weights"] == [[1, 0]]
    assert {f.mode for f in check.findings if f.invariant == "compiled_is_eager"} == {"jit"}


def test_sequence_loss_holds():
    names = ("unsafe_masks", "label_policy", "one_hot", "upstream_gradients", "compiled_is_eager", "double_backward")
    check = check_loss(seqloss.sequence_loss, backend="jax", invariants=names)
    assert all(f.verdict == "holds" for f in check.findings), check.report()
