"""What PyTorch programs are made of: the loss as a module, a metric, and a function for the trainer of Hugging Face.

``seqloss.torch`` is there after ``import seqloss`` alone, and PyTorch is imported when it is first used.
"""

from seqloss.torch.causal_lm import causal_lm_loss
from seqloss.torch.sequence import SequenceLoss

__all__ = ["SequenceLoss", "causal_lm_loss"]
