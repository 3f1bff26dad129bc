"""Losses over a large vocabulary that use a sample of its classes."""

from typing import Any

from seqloss import samplers
from seqloss.core import options
from seqloss.core.types import ArrayLike, Main, Partition
from seqloss.losses import ops
from seqloss.losses.sampled import arguments, logits


def sampled_softmax_loss(
    weights: ArrayLike,
    biases: ArrayLike,
    labels: ArrayLike,
    inputs: Main,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    remove_accidental_hits: bool = True,
    partition_strategy: Partition = "mod",
    name: str | None = None,
    seed: Any = None,
    *,
    subtract_log_q: bool = True,
) -> Main:
    """Softmax cross entropy over the true classes and a sample of the others, for training with many classes.

    With the rows W and the biases b of the classes, the expected counts q of the sampler, and for an example x the
    logits ``z_c = <x, W[c]> + b[c] - log(q[c])`` of its true classes and of the candidates, the loss, in nats, is ::

        loss = log(sum_c exp(z_c)) - mean(z_c of the true classes)

    It estimates the full softmax loss in training; evaluate with the full one, as :func:`token_loss` computes it.

    Parameters
    ----------
    weights : array of shape [num_classes, dim], or a list or tuple of shards of it
        The row of each class, bfloat16, float16, float32 or float64; only the rows of the true classes and of the
        candidates are read. Of n shards, shard s has ``num_classes // n`` rows, and one more if
        ``s < num_classes % n``.
    biases : array of shape [num_classes], or a list of shards of it
        The bias of each class, of any of these dtypes.
    labels : array of shape [batch, num_true]
        The true classes of each example, of any integer dtype, in [0, num_classes).
    inputs : array of shape [batch, dim]
        The examples, such as the outputs of a hidden layer, of any of these dtypes. Their framework is that of the
        call and of the result.
    num_sampled : int
        The number of candidates, the same for all examples; at least 1.
    num_classes : int
        The number of classes, at least 1.
    num_true : int, default 1
        The number of true classes of each example, at least 1.
    sampled_values : tuple of three arrays, optional
        The candidates, integers [num_sampled] in [0, num_classes), and the expected counts of the true classes,
        [batch, num_true], and of the candidates, [num_sampled], above 0: what a function of ``seqloss.samplers``
        returns. None: they are drawn by :func:`seqloss.samplers.log_uniform_candidate_sampler`, all different; sort the
        classes by falling frequency for it.
    remove_accidental_hits : bool, default True
        Whether a candidate that is a true class of an example is left out of the loss of that example: it adds exactly
        0 to the loss and to all gradients. Of a candidate that was drawn more than once, the last one is removed.
    partition_strategy : {"mod", "div"}, default "mod"
        How the classes are split into n shards: with "mod" class i is in row ``i // n`` of shard ``i % n``, with "div"
        each shard has a block of successive classes. It has no effect on weights that are one array.
    name : str, optional
        The name of these operations in the framework's profiler or graph viewer. NumPy ignores it.
    seed : None, int or numpy.random.Generator, optional
        The seed for drawing candidates: an integer gives the same ones on each call, a generator continues its stream.
    subtract_log_q : bool, default True
        Whether to subtract ``log(q)``, which corrects for the fact that frequent classes are drawn more often.

    Returns
    -------
    array of shape [batch]
        The loss of each example, in nats: float64 for float64 inputs, else float32.

    Raises
    ------
    ShapeError
        If an array has the wrong rank or size: num_classes, num_true and num_sampled must be those of the arrays.
    DTypeError
        If inputs, weights or biases are not floats, labels or candidates not integers, or counts not numbers.
    ArgumentTypeError
        If an option is of the wrong type, or an argument is not a dense array.
    OptionError
        If a number is too small, ``partition_strategy`` is another, or there are fewer classes than candidates to draw.
    LabelError
        If labels or candidates can be read without waiting for an accelerator and one is outside [0, num_classes).
    UnreadableError
        If candidates are to be drawn and labels have no values to read.
    MixedBackendsError
        If the arrays are of several frameworks. NumPy arrays, lists and numbers go with any framework.
    DeviceError
        If PyTorch tensors are on several devices.

    See Also
    --------
    nce_loss : Tells true classes from candidates one by one.
    sequence_loss : Takes this loss as its ``softmax_loss_function``, with hidden states for logits.
    seqloss.samplers.log_uniform_candidate_sampler : Draws the candidates.

    Notes
    -----
    Gradients flow to inputs, weights and biases, in their dtypes, and never to expected counts. Second derivatives
    exist. Only the rows that were looked at have a gradient. TensorFlow has it as ``tf.IndexedSlices``. PyTorch has a
    sparse tensor where weights or biases are leaves of eager autograd, such as parameters, which
    ``torch.optim.SparseAdam`` and ``SGD`` take; for a dense one pass ``weights.view_as(weights)``. Compiled, and in
    JAX always, it is a dense array that is zero elsewhere. Of shards each has the gradient of its own rows; where ids
    cannot be read, as under tracing, a zero for the first row of a shard may be among them.

    Under tracing (``jax.jit``, ``tf.function``, ``torch.compile``, ``vmap``) labels have no values, so candidates
    must be drawn outside and passed as ``sampled_values``. All checks of structure run and raise the same errors. An
    example with a label outside [0, num_classes) has a loss of NaN and NaN in the gradient of its inputs, and adds
    nothing to that of weights and biases; a candidate outside does that to every example. Sizes that are unknown in a
    TensorFlow graph are compared when it runs.

    An expected count that is 0, negative or NaN makes every loss NaN that it has a part in. The matrix product of
    inputs and candidates has the precision that the framework is set to.

    References
    ----------
    ``tf.nn.sampled_softmax_loss`` of TensorFlow 1.15. "On Using Very Large Target Vocabulary for Neural Machine
    Translation", Jean et al., 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> rng = np.random.default_rng(0)
    >>> w, b = rng.normal(size=(1000, 8)), np.zeros(1000)
    >>> hidden, labels = rng.normal(size=(2, 8)), np.array([[3], [700]])
    >>> loss = seqloss.sampled_softmax_loss(w, b, labels, hidden, num_sampled=64, num_classes=1000, seed=1)
    >>> print(loss.shape, loss.dtype)
    (2,) float64

    The classic recipe for sequences: hidden states [batch, time, dim] take the place of logits, and weights mask as
    they always do.

    >>> states = rng.normal(size=(2, 3, 8))
    >>> targets = np.array([[5, 0, 17], [999, -100, -100]])
    >>> def sampled_loss(labels, logits):
    ...     return seqloss.sampled_softmax_loss(w, b, labels[:, None], logits, 64, 1000, seed=1)
    >>> mask = seqloss.sequence_mask([3, 1])
    >>> mean = seqloss.sequence_loss(states, targets, mask, softmax_loss_function=sampled_loss)
    >>> print(mean.shape)
    ()
    """
    options = _options(
        num_sampled, num_classes, num_true, remove_accidental_hits, partition_strategy, name, subtract_log_q
    )
    received = arguments.receive(options, weights, biases, labels, inputs)
    backend = received.call.backend
    with backend.scope(name):
        problem = arguments.place(received, options, _drawn(received, options, seed, sampled_values))
        z, y = logits.logits_and_labels(problem)
        # The labels add up to 1, whatever rounding makes of 1 / num_true.
        mass = backend.ones_like(z[:, 0], dtype=problem.dtype)
        return logits.finished(problem, ops.label_losses(backend, z, y, mass, None, False))


def nce_loss(
    weights: ArrayLike,
    biases: ArrayLike,
    labels: ArrayLike,
    inputs: Main,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    remove_accidental_hits: bool = False,
    partition_strategy: Partition = "mod",
    name: str | None = None,
    *,
    subtract_log_q: bool = True,
    seed: Any = None,
) -> Main:
    """Noise-contrastive estimation: logistic losses that tell the true classes from a sample of the others.

    With the logits z of :func:`sampled_softmax_loss`, the logistic function s, and the label ``y = 1 / num_true`` of
    each true class, the loss of an example, in nats, is ::

        loss = sum over true classes of (-y log(s(z_c)) - (1 - y) log(s(-z_c)))
               + sum over candidates of -log(s(-z_c))

    So with several true classes the label of each is below 1, as it is in TensorFlow: with num_true = 2 a true class
    has its least loss at probability 1/2.

    Parameters
    ----------
    weights : array of shape [num_classes, dim], or a list or tuple of shards of it
        As in :func:`sampled_softmax_loss`.
    biases : array of shape [num_classes], or a list of shards of it
        As in :func:`sampled_softmax_loss`.
    labels : array of shape [batch, num_true]
        As in :func:`sampled_softmax_loss`.
    inputs : array of shape [batch, dim]
        As in :func:`sampled_softmax_loss`.
    num_sampled : int
        As in :func:`sampled_softmax_loss`.
    num_classes : int
        As in :func:`sampled_softmax_loss`.
    num_true : int, default 1
        As in :func:`sampled_softmax_loss`.
    sampled_values : tuple of three arrays, optional
        As in :func:`sampled_softmax_loss`.
    remove_accidental_hits : bool, default False
        As in :func:`sampled_softmax_loss`. With True this is negative sampling rather than noise-contrastive
        estimation, which needs the noise as it was drawn.
    partition_strategy : {"mod", "div"}, default "mod"
        As in :func:`sampled_softmax_loss`.
    name : str, optional
        As in :func:`sampled_softmax_loss`.
    subtract_log_q : bool, default True
        As in :func:`sampled_softmax_loss`.
    seed : None, int or numpy.random.Generator, optional
        As in :func:`sampled_softmax_loss`.

    Returns
    -------
    array of shape [batch]
        The loss of each example, in nats: float64 for float64 inputs, else float32.

    Raises
    ------
    SeqlossError
        As :func:`sampled_softmax_loss`.

    See Also
    --------
    sampled_softmax_loss : Lets true classes and candidates compete.

    Notes
    -----
    Gradients, tracing, illegal labels and expected counts that are not positive are as in
    :func:`sampled_softmax_loss`.

    References
    ----------
    ``tf.nn.nce_loss`` of TensorFlow 1.15. "Noise-contrastive estimation: A new estimation principle for unnormalized
    statistical models", Gutmann and Hyvärinen, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import seqloss
    >>> w, b, hidden = np.zeros((10, 4)), np.zeros(10), np.ones((1, 4))
    >>> values = [7, 2], [[1.0]], [1.0, 1.0]
    >>> loss = seqloss.nce_loss(w, b, [[3]], hidden, num_sampled=2, num_classes=10, sampled_values=values)
    >>> print(loss.round(4))  # three times log(2)
    [2.0794]
    """
    options = _options(
        num_sampled, num_classes, num_true, remove_accidental_hits, partition_strategy, name, subtract_log_q
    )
    received = arguments.receive(options, weights, biases, labels, inputs)
    backend = received.call.backend
    with backend.scope(name):
        problem = arguments.place(received, options, _drawn(received, options, seed, sampled_values))
        z, y = logits.logits_and_labels(problem)
        return logits.finished(problem, backend.sum(ops.sigmoid_losses(backend, z, y, None, False), axis=(1,)))


def _options(
    num_sampled: Any, num_classes: Any, num_true: Any, removes_hits: Any, strategy: Any, name: Any, subtracts: Any
) -> arguments.Options:
    numbers = {"num_sampled": num_sampled, "num_classes": num_classes, "num_true": num_true}
    sampled, classes, true = [options.integer(key, value, 1) for key, value in numbers.items()]
    options.scope_name("name", name)
    checked = arguments.Options(sampled, classes, true, removes_hits, strategy, subtracts)
    arguments.check_options(checked)
    return checked


def _drawn(received: arguments.Received, options: arguments.Options, seed: Any, sampled_values: Any) -> Any:
    """The candidates of the caller, or those that are drawn for the labels."""
    if sampled_values is not None:
        return sampled_values
    y = arguments.to_draw(received, options)
    return samplers.log_uniform_candidate_sampler(
        y.value, options.num_true, options.num_sampled, True, options.num_classes, seed
    )
