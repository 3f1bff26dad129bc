"""How labels are smoothed, as an option of the losses."""

from typing import Any, NamedTuple


class Smoothing(NamedTuple):
    """Label smoothing in all its forms: a number alone is ``Smoothing(number)``.

    The label keeps ``1 - eps`` and ``eps`` is spread over the classes A that may have some of it::

        Q_j = (1 - eps) [j == y] + eps prior_j / sum_{i in A} prior_i       (the second part for j in A)

    A is the set of possible classes (those whose logit is not -infinity), without those in ``exclude`` and, with
    ``off_target``, without the label. Where A is empty or has no prior, nothing is smoothed.

    Parameters
    ----------
    eps : float
        The part that is spread, in [0, 1).
    off_target : bool, default False
        Spread over the other classes only, so that the label keeps exactly ``1 - eps``.
    centred : bool, default False
        Subtract ``-((1 - eps) log(1 - eps) + sum_j eps u_j log(eps u_j))``, where u is the prior made to add up to 1
        over A. Where the label is not in A, as with ``off_target``, this is the entropy of Q, and the loss, in nats,
        becomes the divergence of Q from the softmax, which is at least 0. The gradients do not change.
    prior : array of shape [classes], optional
        How much of ``eps`` each class gets, relative to the others: any numbers that are not negative, in the framework
        of the logits or NumPy. None spreads evenly. It has no gradient. With ``off_target`` the sum of the others is
        taken as a difference: a label that has nearly all of the prior loses digits.
    exclude : tuple of int, default ()
        Classes that get nothing, such as that of padding. A label among them keeps its ``1 - eps``.

    Raises
    ------
    ArgumentTypeError, OptionError, ShapeError, DTypeError
        Not here, but in the loss that it is passed to.

    Notes
    -----
    The smoothing of TensorFlow, PyTorch, Keras and optax is ``Smoothing(eps)``. That of Tensor2Tensor and t5x, except
    for the 1e-20 inside their logarithm, is ``Smoothing(eps, off_target=True, centred=True)``; that of OpenNMT-py is
    the same with ``exclude=(pad,)``.

    All but the prior are Python values, and static under tracing. Make it inside a compiled function, or close over it:
    with a prior it cannot be a static argument of ``jax.jit``, because arrays have no hash.

    References
    ----------
    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[[8.0, 1.0, 1.0]]])
    >>> loss = seqloss.sequence_loss(logits, [[0]], label_smoothing=seqloss.Smoothing(0.1, off_target=True))
    >>> print(f"{loss:.4f}")  # -(0.9 log 0.8 + 0.05 log 0.1 + 0.05 log 0.1)
    0.4311
    """

    eps: float
    off_target: bool = False
    centred: bool = False
    prior: Any = None
    exclude: tuple[int, ...] = ()


Smoothing.__module__ = "seqloss"
