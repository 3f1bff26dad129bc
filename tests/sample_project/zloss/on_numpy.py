"""The loss in NumPy, with its gradient written out."""

import numpy as np


def z_loss(logits, targets, weights, penalty=1e-2):
    """The weighted mean of -log p(target) + penalty * log(sum(exp(logits)))**2 over the tokens."""
    return z_loss_and_gradient(logits, targets, weights, penalty)[0]


def z_loss_and_gradient(logits, targets, weights, penalty=1e-2):
    """The loss, and its gradient with respect to the logits."""
    shift = logits.max(-1, keepdims=True)
    exponentials = np.exp(logits - shift)
    total = exponentials.sum(-1, keepdims=True)
    log_z = (shift + np.log(total))[..., 0]
    losses = log_z - np.take_along_axis(logits, targets[..., None], -1)[..., 0] + penalty * log_z**2
    shares = weights / weights.sum()
    slopes = (1 + 2 * penalty * log_z)[..., None] * exponentials / total
    np.put_along_axis(slopes, targets[..., None], np.take_along_axis(slopes, targets[..., None], -1) - 1, -1)
    return (losses * shares).sum(), slopes * shares[..., None]
