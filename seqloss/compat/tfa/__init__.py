"""TensorFlow Addons 0.23: ``from seqloss.compat import tfa``."""

from seqloss.compat.tfa import seq2seq

__all__ = ["seq2seq"]
