"""The loss of a batch of sequences: the main entrance."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from seqloss.core import options, packed
from seqloss.core.call import Call
from seqloss.core.smoothing import Smoothing
from seqloss.core.types import ArrayLike, Main, Mean, Wrt
from seqloss.losses import arguments, counting, custom, ops, packing
from seqloss.losses import reduction as reductions
from seqloss.losses.settings import settings

if TYPE_CHECKING:
    from typing import Unpack

    from seqloss.core.types import GradientOptions


def sequence_loss(
    logits: Main,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
    *,
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
) -> Main:
    """Mean cross entropy over the tokens that count, or another reduction of ``seq2seq.sequence_loss`` of TensorFlow.

    With the token losses ``nll[b, t] = log(sum_j exp(logits[b, t, j])) - logits[b, t, targets[b, t]]``, in nats, and
    the default flags, the result is ::

        loss = sum(weights * nll) / sum(weights)

    A token of weight 0 adds exactly 0 to the loss and to the gradient of the logits, whatever it holds: NaN, infinities
    or label -100.

    Parameters
    ----------
    logits : array of shape [batch, time, classes]
        Unnormalised log probabilities, bfloat16, float16, float32 or float64; at least one class. Their framework is
        that of the call and of the result. With ``cu_seqlens`` the shape is [tokens, classes], and [tokens] takes the
        place of [batch, time] in all that follows.
    targets : array of shape [batch, time] or [batch, time, classes]
        Class ids of any signed or unsigned integer dtype, in [0, classes) where the weight is not 0. Or *soft targets*,
        a float for each class, not negative, of any sum: the loss of a token is then
        ``sum_j targets[b, t, j] * (log(sum_k exp(logits[b, t, k])) - logits[b, t, j])``.
    weights : array of shape [batch, time], optional
        The weight of each token, of any float, integer or bool dtype; any sign. A weight that is smaller in magnitude
        than ``2**-126`` after the cast to the dtype of the loss is 0. None means all ones.
    average_across_timesteps : bool, default True
        Divide the weighted sum over time by the sum of the weights over time.
    average_across_batch : bool, default True
        Divide the weighted sum over the batch by the sum of the weights over the batch, not by the batch size.
    sum_over_timesteps : bool, default False
        Divide the weighted sum over time by the number of weights over time that are not 0.
    sum_over_batch : bool, default False
        Divide the weighted sum over the batch by the number of weights over the batch that are not 0.
    softmax_loss_function : callable, optional
        Replaces the cross entropy. It is called once, as ``f(labels=..., logits=...)`` with the shapes
        [batch * time] and [batch * time, classes], and must return one loss per token, of the shape [batch * time] and
        a float dtype, which is cast to the dtype of the loss. At tokens of weight 0 it receives label 0, and zeros in
        place of a row of logits that is not finite. Its labels may have any value, because the last axis of the logits
        need not be classes.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer. NumPy ignores it.
    ignore_index : int or tuple of int, optional
        Labels to ignore. A token with such a label has weight exactly 0, even if its weight is NaN; nothing of it is
        read, and no gradient reaches its logits or its weight. A legal class may be among them.
    lengths : array of shape [batch], optional
        The number of tokens in each sequence, of any integer dtype. Positions after them are ignored in the same way.
        None means all positions.
    cu_seqlens : array of shape [batch + 1], optional
        For packed sequences, which come one after the other without padding: the offset at which each sequence begins,
        and then the number of tokens, of any integer dtype. Two equal offsets mean an empty sequence. Nested tensors of
        PyTorch (layout ``torch.jagged``) and ``tf.RaggedTensor`` with one ragged axis have offsets of their own. Then
        all arrays of a call are ragged, and so are token losses and gradients.
    label_smoothing : float or Smoothing, default 0
        The part of each label that is spread over the classes, in [0, 1). :class:`Smoothing` has the other forms: over
        the other classes only, with a prior, without some classes, minus the entropy.
    class_weights : array of shape [classes], optional
        The weight of each class, of any float, integer or bool dtype, not negative. It multiplies the loss class by
        class. In the denominator of averages each token counts with the class weight of its label (with soft targets,
        the sum of the products). A label whose class has weight 0 is ignored unless there is smoothing. Class weights
        have no gradient.
    z_loss : float, default 0
        ``z_loss * logsumexp(logits)**2`` is added to the loss of each token, times the class weight of its label.
    softcap : float, optional
        Logits are replaced by ``softcap * tanh(logits / softcap)`` first; -infinity stays.
    reduction : {"mean", "sum", "none", "per_sequence", "sequence_mean"}, optional
        The reduction by name, in place of the four flags; see the notes.
    normalizer : number or array of shape [], optional
        Replaces the denominator of a mean, and divides a sum: for example, the number of tokens of all workers, or of
        several batches. If it is 0 the loss is 0. It has no gradient.
    check_labels : bool, optional
        Whether to read the labels and check them. None: if targets and weights can be read without waiting for an
        accelerator. True: always, even if that means waiting. False: never. It has no effect with a
        ``softmax_loss_function``. Soft targets are read only if it is True, because there are many numbers to read.
    exact : bool, default False
        Compute in float64 and round each result once. The loss and its gradients are then the same bits in every
        framework, eager or compiled; see the notes.

    Returns
    -------
    array
        The loss, in nats: float64 for float64 logits, else float32. Its shape is that of logits without the class
        axis and without the axes that are averaged or summed over, as the notes list.

    Raises
    ------
    ShapeError
        If an argument has the wrong rank or size (nothing is broadcast), if there are no classes, or if the
        ``softmax_loss_function`` returns another shape than [batch * time].
    DTypeError
        If logits are not floats, targets [batch, time] and lengths not integers, or weights not numbers; if logits are
        float64 in exact mode.
    ArgumentTypeError
        If a flag is not a bool, an option that must be a Python number is not one, or an argument is not a dense array.
    OptionError
        If a flag that averages and one that sums are both True, if exact or an option of the loss of a token comes with
        a ``softmax_loss_function``, if a number is out of its range, if class weights come with a smoothing that has
        no formula for them, or soft targets with an option that needs class ids; if packed sequences come with lengths,
        or with flags that keep only the time axis. If values can be read without waiting: if a length, a class weight,
        a prior or a normalizer is negative, a length beyond time, a prior 0 everywhere, or cu_seqlens no offsets.
    LabelError
        If labels are read and a token of non-zero weight has one outside [0, classes), or a soft one that is negative.
    UnreadableError
        If ``check_labels=True`` and there are no values to read.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    sequence_loss_and_grad : The loss with its gradient, on NumPy arrays too.
    token_loss : The loss of each token, without weights and for any number of axes.
    sequence_mask : Weights from sequence lengths.
    next_token : Targets and weights of a language model.

    Notes
    -----
    Reductions. These combinations of the flags are legal; "T" stands for timesteps, "B" for batch, and
    ``count`` for the number of weights that are not 0.

    ==================  ===============  ====================================================
    flags that are set  shape            loss
    ==================  ===============  ====================================================
    average T and B     []               ``sum(weights * nll) / sum(weights)``
    average T           [batch]          the same along time
    average B           [time]           the same along the batch
    sum T and B         []               ``sum(weights * nll) / count(weights)``
    sum T               [batch]          the same along time
    sum B               [time]           the same along the batch
    none                [batch, time]    ``weights * nll``
    ==================  ===============  ====================================================

    ``reduction`` names these reductions, and three more. ``loss`` and ``v`` stand for the loss of a token with all its
    options and for the class weight of its label, which are ``nll`` and 1 by default.

    ==================  ===============  ====================================================
    reduction           shape            loss
    ==================  ===============  ====================================================
    "mean"              []               ``sum(weights * loss) / sum(weights * v)``
    "sum"               []               ``sum(weights * loss)``
    "none"              [batch, time]    ``weights * loss``
    "per_sequence"      [batch]          the mean along time
    "sequence_mean"     []               the mean of these over sequences that have a token
    ==================  ===============  ====================================================

    The flags that sum need both average flags set to False, which are True by default; ``reduction`` needs all four as
    they are by default. Where a denominator is 0 the loss is 0. Losses along time of packed sequences need
    [batch, tokens] numbers of memory; the other reductions need nothing more.

    Gradients flow to logits, weights and soft targets, through numerators and denominators. They have the dtype of the
    argument. Where a denominator is 0 they are 0. At a token of weight 0 the row of the logits is exactly
    0, and the gradient with respect to the weight is that of the formula, with a loss that is not finite counted as 0.
    Forward-mode differentiation with respect to the logits is refused by PyTorch and JAX.

    With ``exact=True`` logits, weights and reductions are widened to float64, and the loss and each entry of a gradient
    are rounded once, to float32 or to the dtype of half-precision logits; what would be a subnormal float32 is 0.
    Weights are those of the other mode: cast to float32 first. Results can differ only where the true value lies within
    the error of float64 of a boundary between two float32 numbers, a few times in 10**9 entries, or where a sum
    cancels. float64 logits and a ``softmax_loss_function`` are refused, and so are second derivatives.

    Under tracing all checks of structure run and raise the same errors. Labels without values are not checked: a token
    of non-zero weight with a label outside [0, classes), or a negative soft one, has a loss of NaN and a NaN row in the
    gradient. Sizes that are
    unknown in a TensorFlow graph are compared when it runs: an assertion fails, or, where the compiler drops
    assertions, the result is NaN.

    References
    ----------
    ``tf.contrib.seq2seq.sequence_loss`` of TensorFlow 1.15 and ``tfa.seq2seq.sequence_loss`` of TensorFlow Addons 0.23.

    Examples
    --------
    Two sequences with the lengths 3 and 1, padded to 3:

    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[[8, 1, 1], [1, 8, 1], [1, 1, 2]], [[2, 1, 1], [1, 1, 1], [1, 1, 1]]])
    >>> targets = np.array([[0, 1, 2], [0, -100, -100]])
    >>> weights = seqloss.sequence_mask([3, 1])
    >>> loss = seqloss.sequence_loss(logits, targets, weights)
    >>> print(f"{loss:.4f}")  # -log(0.8 * 0.8 * 0.5 * 0.5) / 4
    0.4581

    One loss for each sequence:

    >>> per_sequence = seqloss.sequence_loss(logits, targets, weights, average_across_batch=False)
    >>> print(per_sequence.round(4))
    [0.3798 0.6931]

    Padding by its label, smoothed labels, and the sum of a batch divided by the tokens of all workers:

    >>> loss = seqloss.sequence_loss(
    ...     logits, targets, ignore_index=-100, label_smoothing=0.1, reduction="sum", normalizer=8
    ... )
    >>> print(f"{loss:.4f}")
    0.2753

    Probabilities of another model in place of class ids:

    >>> teacher = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [[0.5, 0.3, 0.2]] * 3])
    >>> print(f"{seqloss.sequence_loss(logits, teacher, weights):.4f}")
    0.8740
    """
    plan, check_labels, exact, objective, more, needs_ids = settings(
        average_across_timesteps,
        average_across_batch,
        sum_over_timesteps,
        sum_over_batch,
        softmax_loss_function,
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
    if lengths is not None or normalizer is not None:
        more = more.counting(more.ignore_index, lengths, normalizer)
    call, is_builtin = Call("logits", logits, opens=True), softmax_loss_function is None
    is_packed = _is_packed(call, cu_seqlens, plan)
    with call.backend.scope(name):
        given = arguments.sequence(
            call,
            targets,
            weights,
            check_labels,
            labels_are_classes=is_builtin,
            exact=exact,
            more=more,
            needs_ids=needs_ids,
            cu_seqlens=cu_seqlens,
        )
        if softmax_loss_function is None:
            loss = ops.sequence_loss(given, plan, objective, exact)
        else:
            token_weights = given.token_weights()
            losses = custom.token_losses(given, given.logits, token_weights.active, softmax_loss_function)
            normalizer = given.wide_normalizer()
            loss = reductions.forward(call.backend, plan, losses, token_weights, normalizer, given.members(plan)).loss
        if is_packed and not plan.axis:
            loss = packing.lowered(call.backend, loss)
        loss = call.guard(loss)
        return loss if given.ragged is None or plan.axis else given.ragged(loss)


@overload
def sequence_loss_and_grad(
    logits: Main,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
    *,
    wrt: Wrt = "logits",
    **options: "Unpack[GradientOptions]",
) -> tuple[Main, Main]: ...
@overload
def sequence_loss_and_grad(
    logits: Main,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
    *,
    wrt: tuple[Wrt, ...],
    **options: "Unpack[GradientOptions]",
) -> tuple[Main, tuple[Main, ...]]: ...
def sequence_loss_and_grad(
    logits: Main,
    targets: ArrayLike,
    weights: ArrayLike | None = None,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
    *,
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
    cotangent: ArrayLike | None = None,
    wrt: Wrt | tuple[Wrt, ...] = "logits",
) -> tuple[Main, Main | tuple[Main, ...]]:
    """The sequence loss and its gradient in one call, on every backend, NumPy included.

    The gradient is that of ``sum(cotangent * loss)``. It is computed by explicit formulas, without the automatic
    differentiation of the framework, which only a ``softmax_loss_function`` needs. For the default flags and the
    cotangent 1 it is ::

        d_logits[b, t, j] = weights[b, t] / sum(weights) * (softmax(logits[b, t])[j] - (j == targets[b, t]))
        d_weights[b, t]   = (nll[b, t] - loss) / sum(weights)

    and with a ``normalizer`` n as well ``d_weights[b, t] = nll[b, t] / n``, because n does not depend on the weights.

    Parameters
    ----------
    logits : array of shape [batch, time, classes]
        As in :func:`sequence_loss`.
    targets : array of shape [batch, time] or [batch, time, classes]
        As in :func:`sequence_loss`. A gradient with respect to them needs soft ones.
    weights : array of shape [batch, time], optional
        As in :func:`sequence_loss`. A gradient with respect to them needs floats.
    average_across_timesteps : bool, default True
        As in :func:`sequence_loss`.
    average_across_batch : bool, default True
        As in :func:`sequence_loss`.
    sum_over_timesteps : bool, default False
        As in :func:`sequence_loss`.
    sum_over_batch : bool, default False
        As in :func:`sequence_loss`.
    softmax_loss_function : callable, optional
        As in :func:`sequence_loss`; the framework differentiates it. NumPy cannot, which is an error.
    name : str, optional
        As in :func:`sequence_loss`.
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
        As in :func:`sequence_loss`.
    normalizer : number or array of shape [], optional
        As in :func:`sequence_loss`.
    check_labels : bool, optional
        As in :func:`sequence_loss`.
    exact : bool, default False
        As in :func:`sequence_loss`.
    cotangent : array of exactly the shape of the loss, optional
        The upstream gradient: each entry of the loss is multiplied by it before the entries are added up and
        differentiated. Any float or integer dtype; cast to that of the loss. None means ones.
    wrt : {"logits", "weights", "targets"} or a tuple of them, default "logits"
        The arguments to differentiate.

    Returns
    -------
    loss : array
        What :func:`sequence_loss` returns, in nats.
    gradient : array or tuple of arrays
        The gradient, of the shape and dtype of the argument; for a tuple ``wrt`` a tuple in the same order. If the
        weights or soft targets are a host value (a NumPy array or a list) beside logits of another framework, their
        gradient has the dtype of the loss.

    Raises
    ------
    OptionError
        If ``wrt`` has any other name, no name, or one name twice.
    ArgumentTypeError
        If ``wrt`` has "weights" but there are none.
    DTypeError
        If ``wrt`` has "weights" that are integers or bools, or "targets" that are class ids, or if ``cotangent`` is
        neither float nor integer.
    ShapeError
        If ``cotangent`` has another shape than the loss.
    BackendError
        If NumPy arrays come with a ``softmax_loss_function``.
    SeqlossError
        Also what :func:`sequence_loss` raises.

    See Also
    --------
    sequence_loss : The loss only; the framework differentiates it.

    Notes
    -----
    The results are detached: no gradient flows back through them, and there are no second derivatives.

    Under tracing (``jax.jit``, ``tf.function``, ``torch.compile``) the function is legal and follows the rules of
    :func:`sequence_loss`.

    References
    ----------
    ``tf.gradients`` of ``tf.contrib.seq2seq.sequence_loss`` in TensorFlow 1.15.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> logits = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]])
    >>> targets = np.array([[0, -100]])
    >>> weights = np.array([[1.0, 0.0]])
    >>> loss, (d_logits, d_weights) = seqloss.sequence_loss_and_grad(
    ...     logits, targets, weights, wrt=("logits", "weights")
    ... )
    >>> print(f"{loss:.4f}")
    0.2231
    >>> print(d_logits.round(4))
    [[[-0.2  0.1  0.1]
      [ 0.   0.   0. ]]]

    At weight 0 the bad label counts as a loss of 0, so its weight has the gradient ``(0 - loss) / 1``:

    >>> print((d_weights + 0.0).round(4))
    [[ 0.     -0.2231]]
    """
    plan, check_labels, exact, objective, more, needs_ids = settings(
        average_across_timesteps,
        average_across_batch,
        sum_over_timesteps,
        sum_over_batch,
        softmax_loss_function,
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
    if lengths is not None or normalizer is not None:
        more = more.counting(more.ignore_index, lengths, normalizer)
    names = options.gradient_names(wrt)
    call, is_builtin = Call("logits", logits, opens=True), softmax_loss_function is None
    backend, is_packed = call.backend, _is_packed(call, cu_seqlens, plan)
    with backend.scope(name):
        given = arguments.sequence(
            call,
            targets,
            weights,
            check_labels,
            labels_are_classes=is_builtin,
            exact=exact,
            wrt=names,
            more=more,
            needs_ids=needs_ids,
            cu_seqlens=cu_seqlens,
        )
        if softmax_loss_function is None:
            arrays = given.arrays
            wanted = ops.Wanted("weights" in names, "targets" in names)
            op = backend.explicit(ops.sequence_loss_op(given, plan, objective, exact, wanted), arrays)
            loss, gradients = ops.with_gradients(op, given, cotangent, is_packed and not plan.axis, arrays)
            to_logits, to_targets, to_weights, *_ = gradients
        else:
            token_weights = given.token_weights()
            losses, pull = custom.differentiated(given, token_weights.active, softmax_loss_function)
            members = given.members(plan)
            reduced = reductions.forward(backend, plan, losses, token_weights, given.wide_normalizer(), members)
            loss = reduced.loss
            upstream = arguments.cotangent(given, cotangent, loss, is_packed and not plan.axis)
            to_losses, to_weights, _ = reductions.pullback(
                backend,
                plan,
                losses,
                token_weights,
                reduced,
                upstream,
                "weights" in names,
                normalizer is not None,
                members=members,
            )
            to_logits, to_targets = pull(to_losses), None
            if to_weights is not None:
                to_weights = counting.without_removed(backend, to_weights, given.kept)
        found: dict[str, Any] = {"logits": to_logits}
        if "weights" in names:
            found["weights"] = backend.astype(to_weights, given.weights_dtype)
        if "targets" in names:
            found["targets"] = backend.astype(to_targets, given.targets_dtype)
        if is_packed:
            found = {name: packing.lowered(backend, x) for name, x in found.items()}
            loss = loss if plan.axis else packing.lowered(backend, loss)
        # Detached: the arguments are already, but a custom loss may have parameters of its own.
        found = {name: call.guard(backend.stop_gradient(x)) for name, x in found.items()}
        loss = call.guard(backend.stop_gradient(loss))
        if given.ragged is not None:
            found = {name: given.ragged(x) for name, x in found.items()}
            loss = loss if plan.axis else given.ragged(loss)
    return loss, found[wrt] if isinstance(wrt, str) else tuple(found[name] for name in names)


def _is_packed(call: Call, cu_seqlens: Any, plan: reductions.Plan) -> bool:
    is_packed = cu_seqlens is not None or call.main.packed is not None
    if is_packed and plan.axis == (0,):
        packed.no_loss_of_timesteps()
    return is_packed
