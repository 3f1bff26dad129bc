"""Check the losses of other libraries: ``python examples/peers.py [NAME ...]``.

Each function below imports its library and returns the arguments of ``seqloss.testing.check_loss``. Libraries that are
not installed are left out.
"""

import sys

from seqloss.testing import Conventions, check_loss


def torch_cross_entropy():
    """The usual call: one row of tokens, and the label -100 for those that do not count."""
    from torch.nn.functional import cross_entropy

    return {"fn": cross_entropy}


def torch_cross_entropy_by_token():
    """With weights: reduction="none", and the weighted mean by hand."""
    from torch.nn.functional import cross_entropy

    def tokens(logits, targets):
        return cross_entropy(logits, targets, reduction="none")

    conventions = Conventions(("logits", "targets"), layout="packed", returns="tokens")
    return {"fn": tokens, "backend": "torch", "conventions": conventions}


def torch_linear_cross_entropy():
    """Its hidden states are the logits, and its weight is the identity."""
    from torch.nn.functional import linear_cross_entropy

    return {"fn": linear_cross_entropy}


def optax_times_weights():
    """`softmax_cross_entropy_with_integer_labels(logits, targets) * weights`, and the weighted mean by hand."""
    from optax import softmax_cross_entropy_with_integer_labels

    return {"fn": softmax_cross_entropy_with_integer_labels}


def optax_where():
    """The same with `where=weights != 0`, which leaves out the tokens of weight 0."""
    from optax import softmax_cross_entropy_with_integer_labels

    def weighted(logits, targets, weights):
        return softmax_cross_entropy_with_integer_labels(logits, targets, where=weights != 0) * weights

    return {"fn": weighted, "backend": "jax", "conventions": Conventions(returns="tokens")}


def tensorflow_sparse():
    """The loss of each token, and the weighted mean by hand."""
    import tensorflow as tf

    return {"fn": tf.nn.sparse_softmax_cross_entropy_with_logits}


def keras_sparse():
    """From logits, with the reduction that divides by the sum of the weights."""
    from keras.losses import SparseCategoricalCrossentropy

    return {"fn": SparseCategoricalCrossentropy}


def keras_ignore_class():
    """The same with `ignore_class=-100`, and this label where the weight is 0."""
    from keras.losses import SparseCategoricalCrossentropy

    loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100, reduction="mean_with_sample_weight")
    conventions = Conventions(("targets", "logits", "weights"), ignore_label=-100)
    return {"fn": loss, "backend": "tensorflow", "conventions": conventions}


def seqloss_on_torch():
    """This library."""
    import seqloss

    return {"fn": seqloss.sequence_loss, "backend": "torch"}


PEERS = {
    peer.__name__: peer
    for peer in (
        torch_cross_entropy,
        torch_cross_entropy_by_token,
        torch_linear_cross_entropy,
        optax_times_weights,
        optax_where,
        tensorflow_sparse,
        keras_sparse,
        keras_ignore_class,
        seqloss_on_torch,
    )
}


def main(names):
    for name in names or PEERS:
        try:
            given = PEERS[name]()
        except ImportError as error:
            print(f"{name}: {error}\n")
        else:
            print(f"{name}: {check_loss(**given).report()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
