"""Cross entropy of single tokens."""

from seqloss.core import options
from seqloss.core.call import Call
from seqloss.core.smoothing import Smoothing
from seqloss.core.types import ArrayLike, Main
from seqloss.losses import ops, token_arguments
from seqloss.losses.objective import objective_of


def token_loss(
    logits: Main,
    targets: ArrayLike,
    *,
    active: ArrayLike | None = None,
    label_smoothing: float | Smoothing = 0.0,
    class_weights: ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    exact: bool = False,
) -> Main:
    """Cross entropy of each token.

    For the logits z of a token and its label y the loss, in nats, is ::

        nll = log(sum_j exp(z_j)) - z_y

    evaluated in a form that keeps full relative accuracy however confident the model is.

    Parameters
    ----------
    logits : array of shape [..., classes]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64, with any number of leading axes (none
        for a single token) and at least one class. Their framework is that of the call and of the result.
    targets : array of shape [...]
        Class ids of any signed or unsigned integer dtype, in [0, classes) where ``active`` is True.
    active : bool array of shape [...], optional
        Where it is False the loss and the gradient are exactly 0, whatever logits and targets hold. None means True
        everywhere.
    label_smoothing : float or Smoothing, default 0
        As in :func:`sequence_loss`.
    class_weights : array of shape [classes], optional
        As in :func:`sequence_loss`. They multiply the loss; there is no denominator.
    z_loss : float, default 0
        As in :func:`sequence_loss`.
    softcap : float, optional
        As in :func:`sequence_loss`.
    exact : bool, default False
        Compute in float64 and round the loss and each entry of the gradient once, so that they are the same bits in
        every framework; see :func:`sequence_loss`.

    Returns
    -------
    array of shape [...]
        The losses, in nats: float64 for float64 logits, else float32.

    Raises
    ------
    ShapeError
        If targets or active have another shape than logits without the class axis (nothing is broadcast), or if
        there are no classes.
    DTypeError
        If logits are not floats, targets not integers, or active not bools; if logits are float64 in exact mode.
    ArgumentTypeError
        If an argument is not a dense array.
    OptionError
        If a number is out of its range, if class weights come with a smoothing that has no formula for them, or if a
        class weight or a prior that can be read without waiting is negative, or the prior 0 everywhere.
    LabelError
        If targets and active can be read without waiting for an accelerator and an active label is outside
        [0, classes).
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sequence_loss : Weighted and reduced.

    Notes
    -----
    The gradient flows to the logits only, in their dtype: ``softmax(z)_j - (j == y)``, with full relative accuracy
    too. Forward-mode differentiation is refused by PyTorch and JAX.

    Under tracing all checks of structure run and raise the same errors. Labels without values are not checked: an
    active token with a label outside [0, classes) has a loss of NaN and a NaN row in the gradient. Sizes that are
    unknown in a TensorFlow graph are compared when it runs.

    References
    ----------
    ``tf.nn.sparse_softmax_cross_entropy_with_logits`` of TensorFlow.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    >>> print(seqloss.token_loss(logits, [0, 2]).round(4))
    [0.2231 0.6931]
    >>> print(seqloss.token_loss(logits, [0, -100], active=[True, False]).round(4))
    [0.2231 0.    ]

    A confident token has the loss it must have, where ``logsumexp(z) - z_y`` gives 0 in float32:

    >>> confident = np.array([20.0, 0.0, 0.0], dtype="float32")
    >>> print(f"{float(seqloss.token_loss(confident, 0)):.4e}")
    4.1223e-09
    """
    exact = options.exact(exact)
    objective, more = objective_of(label_smoothing, class_weights, z_loss, softcap)
    call = Call("logits", logits)
    given = token_arguments.tokens(call, targets, active, exact, more)
    with call.backend.scope(None):
        return call.guard(ops.token_objective(given, objective, exact))
