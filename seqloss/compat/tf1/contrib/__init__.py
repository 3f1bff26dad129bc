"""``tf.contrib``, as far as it is about the losses of sequences."""

from seqloss.compat.tf1.contrib import legacy_seq2seq, seq2seq

__all__ = ["legacy_seq2seq", "seq2seq"]
