"""The sequence loss and its perplexity as a loss and a metric of Keras 3, on its TensorFlow, JAX and PyTorch backends.

Importing this module imports Keras, which chooses its backend by ``KERAS_BACKEND``. Saved models name the two classes
``seqloss>SequenceLoss`` and ``seqloss>Perplexity``, so a program that loads one imports this module first.
"""

from seqloss.keras.loss import SequenceLoss
from seqloss.keras.metric import Perplexity

__all__ = ["Perplexity", "SequenceLoss"]
