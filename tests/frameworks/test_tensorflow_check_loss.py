"""check_loss on losses of TensorFlow and Keras: what is known of them is found, and each way to ask works."""

import pathlib
import runpy

import keras
import pytest
import tensorflow as tf

import seqloss
from seqloss.testing import Conventions, check_loss

CHEAP = ("padding", "unsafe_masks", "empty", "label_policy", "shift", "one_hot", "confident_tokens", "double_backward")
PEERS = {
    "tensorflow.nn.sparse_softmax_cross_entropy_with_logits": tf.nn.sparse_softmax_cross_entropy_with_logits,
    "keras.losses.SparseCategoricalCrossentropy": keras.losses.SparseCategoricalCrossentropy,
}
TOKENS = Conventions(("logits", "targets"), returns="tokens")
UNREDUCED = {"average_across_timesteps": False, "average_across_batch": False}


def violated(check):
    return {finding.invariant for finding in check.findings if finding.verdict == "violated"}


@pytest.mark.parametrize("name", PEERS)
def test_known_losses(name):
    check = check_loss(PEERS[name], modes=(), invariants=CHEAP)
    assert (check.name, check.backend) == (name, "tensorflow")
    assert violated(check) == {"unsafe_masks", "confident_tokens"}, check.report()


def test_sequence_loss_holds():
    check = check_loss(seqloss.sequence_loss, backend="tensorflow", invariants=[*CHEAP, "compiled_is_eager"])
    assert all(f.verdict == "holds" for f in check.findings), check.report()
    assert {f.mode for f in check.findings} == {"eager", "function", "xla"}


def test_count_that_overflows_in_half_precision():
    """The losses of the tokens are right; that 70000 is no float16 is a matter of the code around them."""
    check = check_loss(PEERS[next(iter(PEERS))], modes=(), invariants=["count_of_70000"])
    assert {f.dtype: f.verdict for f in check.findings} == {
        "float32": "holds",
        "float16": "violated",
        "bfloat16": "holds",
    }


def test_kit_counts_in_the_dtype_of_the_losses():
    """They are float32, whatever the logits are: weights of a half dtype neither overflow nor are rounded."""
    names = ["count_of_70000"]
    tokens = check_loss(seqloss.token_loss, backend="tensorflow", conventions=TOKENS, modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in tokens.findings), tokens.report()

    def summed(logits, targets, weights):
        return tf.reduce_sum(seqloss.sequence_loss(logits, targets, weights, **UNREDUCED))

    total = check_loss(summed, backend="tensorflow", conventions=Conventions(returns="sum"), modes=(), invariants=names)
    assert all(f.verdict == "holds" for f in total.findings), total.report()
    assert {f.dtype for f in (*tokens.findings, *total.findings)} == {"float32", "float16", "bfloat16"}


@tf.custom_gradient
def fused(logits, targets):
    """A loss with its gradient ready: only the first cotangent is looked at."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    slope = tf.nn.softmax(logits) - tf.one_hot(targets, logits.shape[-1])
    return losses, lambda cotangent: (cotangent[:1, :1, None] * slope, None)


def test_fused_kernel_with_a_mistake():
    names = ("permutation", "one_hot", "upstream_gradients")
    check = check_loss(fused, backend="tensorflow", conventions=TOKENS, modes=(), invariants=names)
    assert "upstream_gradients" in violated(check)


def test_gradient_that_is_a_constant_to_tensorflow():
    """Of the loss alone there would be no second gradient, and of a function of it there is a wrong one."""

    @tf.custom_gradient
    def detached(logits, targets, weights):
        loss = seqloss.sequence_loss(logits, targets, weights)
        _, slope = seqloss.sequence_loss_and_grad(logits, targets, weights)
        return loss, lambda cotangent: (cotangent * slope, None, None)

    check = check_loss(detached, backend="tensorflow", modes=(), invariants=["padding", "double_backward"])
    assert violated(check) == {"double_backward"}, check.report()


@pytest.mark.parametrize("name", ["tensorflow_sparse", "keras_sparse", "keras_ignore_class"])
def test_example(name):
    peers = runpy.run_path(pathlib.Path(__file__).parents[2] / "examples" / "peers.py")["PEERS"]
    assert check_loss(**peers[name](), modes=(), invariants=["padding", "one_hot"]).holds


def other_in_graphs(logits, targets):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    return losses if tf.executing_eagerly() else losses * 2


def test_compiled_code_that_differs():
    names = ["compiled_is_eager"]
    check = check_loss(other_in_graphs, backend="tensorflow", conventions=TOKENS, modes=("function",), invariants=names)
    (finding,) = check.findings
    assert (finding.mode, finding.verdict) == ("function", "violated")
    assert finding.example["logits"] == [[[0, 0]]]
