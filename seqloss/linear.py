"""The loss of a linear layer and a cross entropy, without the logits between them."""

from typing import TYPE_CHECKING, Any, overload

from seqloss.core import objectives, options
from seqloss.core.call import Call
from seqloss.core.smoothing import Smoothing
from seqloss.core.types import ArrayLike, Main, Mean, WrtLinear
from seqloss.losses import linear_arguments, ops, packing
from seqloss.losses.objective import objective_of
from seqloss.losses.settings import settings
from seqloss.losses.sums import LossSum

if TYPE_CHECKING:
    from typing import Unpack

    from seqloss.core.types import LinearGradientOptions


def linear_sequence_loss(
    hidden: Main,
    kernel: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    name: str | None = None,
    *,
    bias: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    cu_seqlens: ArrayLike | None = None,
    label_smoothing: float | Smoothing = 0.0,
    class_weights: ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: Mean | None = None,
    normalizer: ArrayLike | None = None,
    check_labels: bool | None = None,
    exact: bool = False,
    chunk: int | None = None,
) -> Main:
    """Mean cross entropy of ``hidden @ kernel + bias``, which is never stored.

    With ``logits = hidden @ kernel + bias`` this is ``sequence_loss(logits, targets, weights, ...)``, in nats. The
    logits of some hundred tokens at a time are made, and their gradient goes at once into those of hidden, kernel and
    bias. So the memory of the logits is spared, which is most of all where there are many classes.

    A token of weight 0 adds exactly 0 to the loss and to every gradient, whatever its row of hidden and the kernel
    hold: NaN or infinities too.

    Parameters
    ----------
    hidden : array of shape [batch, time, features]
        What the logits are made of, bfloat16, float16, float32 or float64. Beside ``cu_seqlens`` [tokens, features].
    kernel : array of shape [features, classes]
        The weights of the layer, of any of these dtypes. Those of ``torch.nn.Linear`` and of tied embeddings are
        [classes, features]: pass ``weight.T``, which is as fast, and gradients reach ``weight``.
    targets : array of shape [batch, time] or [batch, time, classes]
        As in :func:`sequence_loss`. Soft targets, which are as large as the logits, have no gradient here.
    weights : array of shape [batch, time], optional
        As in :func:`sequence_loss`.
    name : str, optional
        As in :func:`sequence_loss`.
    bias : array of shape [classes], optional
        What is added to each row of the logits.
    ignore_index : int or tuple of int, optional
        As in :func:`sequence_loss`.
    lengths : array of shape [batch], optional
        As in :func:`sequence_loss`.
    cu_seqlens : array of shape [batch + 1], optional
        As in :func:`sequence_loss`.
    label_smoothing : float or Smoothing, default 0
        As in :func:`sequence_loss`.
    class_weights : array of shape [classes], optional
        As in :func:`sequence_loss`.
    z_loss : float, default 0
        As in :func:`sequence_loss`.
    softcap : float, optional
        As in :func:`sequence_loss`.
    reduction : {"mean", "sum", "none", "per_sequence", "sequence_mean"}, optional
        As in :func:`sequence_loss`; None is "mean".
    normalizer : number or array of shape [], optional
        As in :func:`sequence_loss`.
    check_labels : bool, optional
        As in :func:`sequence_loss`.
    exact : bool, default False
        Compute in float64, products too, and round each result once; see the notes.
    chunk : int, optional
        The most tokens whose logits exist at a time. None: as many as have 16 million logits, and
        at least 256.

    Returns
    -------
    array
        The loss, in nats, as :func:`sequence_loss` returns it for these logits: float64 if one of hidden, kernel and
        bias is float64, else float32.

    Raises
    ------
    ShapeError
        If hidden, kernel or bias have the wrong rank or size.
    DTypeError
        If one of them is not of floats.
    BackendError
        If one of them is a DTensor of PyTorch, if a second derivative is asked for, or the gradient of soft targets.
    OptionError
        If chunk is below 1.
    SeqlossError
        And what :func:`sequence_loss` raises.

    See Also
    --------
    sequence_loss : The same loss of logits.
    linear_sequence_loss_and_grad : The loss with its gradients, on NumPy arrays too.
    linear_loss_sum : Totals for evaluation.

    Notes
    -----
    Gradients flow to hidden, kernel, bias and weights, in reverse mode, once. Where the loss is one number, the forward
    pass computes them, in three matrix products of ``2 * tokens * features * classes`` operations each. The backward
    pass multiplies them if the cotangent of the loss is not 1. Gradients that nobody asks for are not computed: of a
    frozen kernel, or under ``no_grad``. Other reductions compute the logits twice. A live loss holds its gradients.

    Logits and their gradient are float32, or float64 if an argument is. Products of half-precision numbers are added up
    in float32: JAX, and PyTorch on a GPU, multiply them as they are if both have one dtype; elsewhere they are cast to
    float32 first. The gradient of the kernel is added up in float32 over all chunks and rounded once. Autocast changes
    nothing.

    With ``exact=True`` products are in float64 too. Their last bits depend on who multiplies, so results in different
    frameworks can differ where the true value lies next to a boundary between two float32 numbers: a few times in 10**8
    entries.

    Where a mask can be read without waiting, eagerly on a CPU, tokens that do not count are left out before the first
    product and cost nothing.

    Under tracing the function follows the rules of :func:`sequence_loss`. The chunks are a loop in JAX, and in a
    ``tf.function`` if there are more than 8.

    References
    ----------
    E. Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", 2024; P. Hsu et al., "Liger Kernel", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> hidden = np.array([[[1.0, 0.0], [0.0, 2.0], [np.nan, np.nan]]])
    >>> kernel = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> targets = np.array([[0, 1, -100]])
    >>> loss = seqloss.linear_sequence_loss(hidden, kernel, targets, ignore_index=-100)
    >>> print(f"{loss:.4f}")
    0.2395

    It is the loss of the logits:

    >>> print(f"{seqloss.sequence_loss(hidden @ kernel, targets, ignore_index=-100):.4f}")
    0.2395
    """
    plan, check_labels, exact, objective, more, needs_ids = settings(
        True,
        True,
        False,
        False,
        None,
        name,
        ignore_index,
        label_smoothing,
        class_weights,
        z_loss,
        softcap,
        reduction,
        check_labels,
        exact,
        normalizer is not None,
    )
    chunk = options.chunk(chunk)
    more = more.counting(more.ignore_index, lengths, normalizer)
    call = Call("hidden", hidden, opens=True)
    is_packed = cu_seqlens is not None or call.main.packed is not None
    with call.backend.scope(name):
        given = linear_arguments.linear(
            call,
            kernel,
            bias,
            targets,
            weights,
            check_labels,
            exact=exact,
            wrt=None,
            more=more,
            needs_ids=needs_ids,
            cu_seqlens=cu_seqlens,
        )
        loss = ops.linear_loss(given, plan, objective, exact, chunk)
        if is_packed and not plan.axis:
            loss = packing.lowered(call.backend, loss)
        loss = call.guard(loss)
        ragged = given.given.ragged
        result: Main = loss if ragged is None or plan.axis else ragged(loss)
        return result


@overload
def linear_sequence_loss_and_grad(
    hidden: Main,
    kernel: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    name: str | None = None,
    *,
    wrt: WrtLinear,
    **options: "Unpack[LinearGradientOptions]",
) -> tuple[Main, Main]: ...
@overload
def linear_sequence_loss_and_grad(
    hidden: Main,
    kernel: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    name: str | None = None,
    *,
    wrt: tuple[WrtLinear, ...] = ("hidden", "kernel"),
    **options: "Unpack[LinearGradientOptions]",
) -> tuple[Main, tuple[Main, ...]]: ...
def linear_sequence_loss_and_grad(
    hidden: Main,
    kernel: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    name: str | None = None,
    *,
    bias: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    cu_seqlens: ArrayLike | None = None,
    label_smoothing: float | Smoothing = 0.0,
    class_weights: ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    reduction: Mean | None = None,
    normalizer: ArrayLike | None = None,
    check_labels: bool | None = None,
    exact: bool = False,
    chunk: int | None = None,
    cotangent: ArrayLike | None = None,
    wrt: WrtLinear | tuple[WrtLinear, ...] = ("hidden", "kernel"),
) -> tuple[Main, Main | tuple[Main, ...]]:
    """The loss of ``hidden @ kernel + bias`` with its gradients, on every backend, NumPy too.

    Gradients are those of ``sum(cotangent * loss)``, by explicit formulas. With the gradient ``g`` of the logits, which
    is never stored, they are ::

        d_hidden = g @ kernel.T        d_kernel = hidden.T @ g        d_bias = sum(g)

    Parameters
    ----------
    hidden : array of shape [batch, time, features]
        As in :func:`linear_sequence_loss`.
    kernel : array of shape [features, classes]
        As in :func:`linear_sequence_loss`.
    targets : array of shape [batch, time] or [batch, time, classes]
        As in :func:`linear_sequence_loss`.
    weights : array of shape [batch, time], optional
        As in :func:`linear_sequence_loss`. A gradient with respect to them needs floats.
    name : str, optional
        As in :func:`linear_sequence_loss`.
    bias : array of shape [classes], optional
        As in :func:`linear_sequence_loss`.
    ignore_index : int or tuple of int, optional
        As in :func:`linear_sequence_loss`.
    lengths : array of shape [batch], optional
        As in :func:`linear_sequence_loss`.
    cu_seqlens : array of shape [batch + 1], optional
        As in :func:`linear_sequence_loss`.
    label_smoothing : float or Smoothing, default 0
        As in :func:`linear_sequence_loss`.
    class_weights : array of shape [classes], optional
        As in :func:`linear_sequence_loss`.
    z_loss : float, default 0
        As in :func:`linear_sequence_loss`.
    softcap : float, optional
        As in :func:`linear_sequence_loss`.
    reduction : {"mean", "sum", "none", "per_sequence", "sequence_mean"}, optional
        As in :func:`linear_sequence_loss`; None is "mean".
    normalizer : number or array of shape [], optional
        As in :func:`linear_sequence_loss`.
    check_labels : bool, optional
        As in :func:`linear_sequence_loss`.
    exact : bool, default False
        As in :func:`linear_sequence_loss`.
    chunk : int, optional
        As in :func:`linear_sequence_loss`.
    cotangent : array of exactly the shape of the loss, optional
        As in :func:`sequence_loss_and_grad`.
    wrt : {"hidden", "kernel", "bias", "weights"} or a tuple of them, default ("hidden", "kernel")
        The arguments to differentiate.

    Returns
    -------
    loss : array
        What :func:`linear_sequence_loss` returns, in nats.
    gradient : array or tuple of arrays
        The gradient, of the shape and dtype of the argument; for a tuple ``wrt`` a tuple in the same order.

    Raises
    ------
    OptionError
        If ``wrt`` names anything else, nothing, or one argument twice.
    ArgumentTypeError
        If ``wrt`` names weights or a bias that were not given.
    SeqlossError
        And what :func:`linear_sequence_loss` and :func:`sequence_loss_and_grad` raise.

    See Also
    --------
    linear_sequence_loss : The loss alone, which the framework differentiates.

    Notes
    -----
    The results are detached: nothing flows back through them, and there are no second derivatives. Under tracing the
    function is legal and follows the rules of :func:`sequence_loss`.

    References
    ----------
    As of :func:`linear_sequence_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> hidden = np.array([[[1.0, 2.0]]])
    >>> kernel = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> loss, (d_hidden, d_kernel) = seqloss.linear_sequence_loss_and_grad(hidden, kernel, np.array([[0]]))
    >>> print(f"{loss:.4f}")
    0.6931
    >>> print(d_kernel)
    [[-0.5  0.5]
     [-1.   1. ]]
    """
    plan, check_labels, exact, objective, more, needs_ids = settings(
        True,
        True,
        False,
        False,
        None,
        name,
        ignore_index,
        label_smoothing,
        class_weights,
        z_loss,
        softcap,
        reduction,
        check_labels,
        exact,
        normalizer is not None,
    )
    chunk = options.chunk(chunk)
    more = more.counting(more.ignore_index, lengths, normalizer)
    names = options.gradient_names(wrt, ("hidden", "kernel", "bias", "weights"))
    call = Call("hidden", hidden, opens=True)
    backend, is_packed = call.backend, cu_seqlens is not None or call.main.packed is not None
    with backend.scope(name):
        given = linear_arguments.linear(
            call,
            kernel,
            bias,
            targets,
            weights,
            check_labels,
            exact=exact,
            wrt=names,
            more=more,
            needs_ids=needs_ids,
            cu_seqlens=cu_seqlens,
        )
        op = backend.explicit(ops.linear_loss_op(given, plan, objective, exact, chunk, names), given.arrays)
        of_tokens = is_packed and not plan.axis
        loss, gradients = ops.with_gradients(op, given.given, cotangent, of_tokens, given.arrays)
        to_hidden, to_kernel, to_bias, _, to_weights, *_ = gradients
        found: dict[str, Any] = {"hidden": to_hidden, "kernel": to_kernel, "bias": to_bias, "weights": to_weights}
        found = {name: found[name] for name in names}
        if "weights" in names:
            found["weights"] = backend.astype(to_weights, given.given.weights_dtype)
        if is_packed:
            found = {n: packing.lowered(backend, x) if n in _OF_TOKENS else x for n, x in found.items()}
            loss = loss if plan.axis else packing.lowered(backend, loss)
        found = {name: call.guard(backend.stop_gradient(x)) for name, x in found.items()}
        loss = call.guard(backend.stop_gradient(loss))
        if given.given.ragged is not None:
            found = {n: given.given.ragged(x) if n in _OF_TOKENS else x for n, x in found.items()}
            loss = loss if plan.axis else given.given.ragged(loss)
    return loss, found[wrt] if isinstance(wrt, str) else tuple(found[name] for name in names)


_OF_TOKENS = ("hidden", "weights")
"""Arguments whose gradients have an entry for each token."""


def linear_loss_sum(
    hidden: Main,
    kernel: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bias: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = None,
    lengths: ArrayLike | None = None,
    cu_seqlens: ArrayLike | None = None,
    softcap: float | None = None,
    accuracy: bool = False,
    check_labels: bool | None = None,
    exact: bool = False,
    chunk: int | None = None,
) -> LossSum:
    """Add up a batch for evaluation, as :func:`loss_sum` does for the logits ``hidden @ kernel + bias``.

    The logits are never stored, and made once even if accuracy is counted.

    Parameters
    ----------
    hidden : array of shape [batch, time, features]
        As in :func:`linear_sequence_loss`; so are kernel, bias and chunk.
    kernel : array of shape [features, classes]
        The weights of the layer.
    targets : array of shape [batch, time]
        Class ids, as in :func:`loss_sum`; so are the arguments below, but for bias and chunk.
    weights : array of shape [batch, time], optional
        The weight of each token.
    bias : array of shape [classes], optional
        What is added to each row of the logits.
    ignore_index : int or tuple of int, optional
        Labels that take a token out.
    lengths : array of shape [batch], optional
        How many tokens each sequence has.
    cu_seqlens : array of shape [batch + 1], optional
        Where each of packed sequences begins.
    softcap : float, optional
        A cap of the logits.
    accuracy : bool, default False
        Count the tokens that are right as well.
    check_labels : bool, optional
        Whether labels are read to be checked.
    exact : bool, default False
        Compute products and token losses in float64.
    chunk : int, optional
        The most tokens whose logits exist at a time.

    Returns
    -------
    LossSum
        The totals, of the framework of hidden.

    Raises
    ------
    OptionError
        If targets are soft.
    SeqlossError
        And what :func:`linear_sequence_loss` raises for these arguments.
    BackendError
        If a gradient reaches what is computed from the sum.

    See Also
    --------
    loss_sum : The same of logits.
    LossSum : What the sum can do.

    Notes
    -----
    As of :func:`loss_sum`; under tracing too.

    References
    ----------
    As of :func:`linear_sequence_loss` and :func:`loss_sum`.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> hidden, kernel = np.zeros((1, 2, 4)), np.zeros((4, 8))
    >>> total = seqloss.linear_loss_sum(hidden, kernel, np.array([[0, 1]]), accuracy=True)
    >>> print(f"{total.mean():.4f} nats, accuracy {total.accuracy():.2f}")
    2.0794 nats, accuracy 0.50
    """
    counts_right = options.flag("accuracy", accuracy)
    check_labels, exact, chunk = (
        options.loss_options(None, None, check_labels),
        options.exact(exact),
        options.chunk(chunk),
    )
    objective, more = objective_of(0.0, None, 0.0, softcap)
    more = more.counting(objectives.ignore_index(ignore_index), lengths, None)
    call = Call("hidden", hidden, opens=True)
    with call.backend.scope(None):
        given = linear_arguments.linear(
            call,
            kernel,
            bias,
            targets,
            weights,
            check_labels,
            exact=exact,
            wrt=None,
            more=more,
            needs_ids="seqloss.linear_loss_sum",
            cu_seqlens=cu_seqlens,
        )
        limbs, zero = ops.linear_totals(given, objective, exact, chunk, counts_right)
        return LossSum(limbs, call.guard(zero))
