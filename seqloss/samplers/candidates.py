"""The samplers whose distribution is a formula."""

from typing import Any, NamedTuple

from seqloss.core.errors import OptionError
from seqloss.core.protocol import Array
from seqloss.samplers import checks, drawing
from seqloss.samplers.distributions import Distribution, LogUniform, Uniform


class SampledValues(NamedTuple):
    """The candidates of a sampled loss with their expected counts, which such a loss takes as ``sampled_values``.

    Parameters
    ----------
    sampled : array of shape [num_sampled]
        The ids of the candidates, int64.
    true_expected : array of shape [batch, num_true]
        How often each true class is expected among the candidates, float64.
    sampled_expected : array of shape [num_sampled]
        How often each candidate is expected among the candidates, float64.
    """

    sampled: Array
    true_expected: Array
    sampled_expected: Array


def log_uniform_candidate_sampler(
    true_classes: Array,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Any = None,
    name: str | None = None,
) -> SampledValues:
    """Draw candidates from a log-uniform distribution, for classes sorted by falling frequency.

    In one formula: ``P(k) = log((k + 2) / (k + 1)) / log(range_max + 1)``; the expected count of class k is
    ``P(k) * num_sampled`` if the candidates took num_sampled tries, and ``1 - (1 - P(k)) ** tries`` if more.

    Parameters
    ----------
    true_classes : array of shape [batch, num_true]
        The true classes of each example, of any integer dtype, in [0, range_max). They do not affect what is drawn.
    num_true : int
        The number of columns of true_classes, at least 1.
    num_sampled : int
        The number of candidates, at least 1.
    unique : bool
        Whether all candidates are different. If so, ids are drawn until num_sampled different ones were seen, and each
        draw counts as a try.
    range_max : int
        The number of classes, in [1, 2**53].
    seed : None, int or numpy.random.Generator, optional
        An integer gives the same ids in every framework and on each call; a generator continues its stream.
    name : str, optional
        Has no effect, because candidates are drawn on the host.

    Returns
    -------
    SampledValues
        ``sampled`` int64 [num_sampled], ``true_expected`` float64 [batch, num_true] and ``sampled_expected`` float64
        [num_sampled] in the framework of true_classes. JAX without x64 narrows them to 32 bits.

    Raises
    ------
    ShapeError
        If true_classes are not a matrix of num_true columns.
    DTypeError
        If true_classes are not integers.
    ArgumentTypeError
        If true_classes are not a dense array, or an option is of the wrong type.
    OptionError
        If a number is too small, or unique asks for more ids than there are.
    LabelError
        If a true class is outside [0, range_max).
    UnreadableError
        If true_classes have no values to read.

    Notes
    -----
    The results have no gradient.

    Under tracing (``jax.jit``, ``tf.function``, ``torch.compile``, ``vmap``) true_classes have no values, so draw
    outside the compiled function and pass the result in. Host values inside it are sampled once, while tracing.

    Unique candidates cost the time of the draws and a sort of them, and at most what range_max ids cost: where more
    tries are needed, their exact number is drawn from its own distribution. TensorFlow's random stream is not
    reproduced. Its counts are float32.

    References
    ----------
    ``tf.random.log_uniform_candidate_sampler`` of TensorFlow.

    Examples
    --------
    >>> from seqloss import samplers
    >>> values = samplers.log_uniform_candidate_sampler([[0], [9]], 1, 4, unique=False, range_max=10, seed=7)
    >>> print(values.sampled, values.true_expected.ravel().round(3))
    [3 7 5 0] [1.156 0.159]
    """
    size, ids = checks.count(num_sampled, unique, name), checks.classes(range_max)
    true = checks.true_classes(true_classes, num_true, ids)
    return sample(LogUniform(ids), true, size, unique, seed)


def uniform_candidate_sampler(
    true_classes: Array,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Any = None,
    name: str | None = None,
) -> SampledValues:
    """Draw candidates from a uniform distribution.

    In one formula: ``P(k) = 1 / range_max``; the expected count of class k is ``P(k) * num_sampled`` if the candidates
    took num_sampled tries, and ``1 - (1 - P(k)) ** tries`` if more.

    Parameters
    ----------
    true_classes : array of shape [batch, num_true]
        As in :func:`log_uniform_candidate_sampler`.
    num_true : int
        As in :func:`log_uniform_candidate_sampler`.
    num_sampled : int
        As in :func:`log_uniform_candidate_sampler`.
    unique : bool
        As in :func:`log_uniform_candidate_sampler`.
    range_max : int
        As in :func:`log_uniform_candidate_sampler`.
    seed : None, int or numpy.random.Generator, optional
        As in :func:`log_uniform_candidate_sampler`.
    name : str, optional
        As in :func:`log_uniform_candidate_sampler`.

    Returns
    -------
    SampledValues
        As in :func:`log_uniform_candidate_sampler`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentTypeError, OptionError, LabelError, UnreadableError
        As in :func:`log_uniform_candidate_sampler`.

    Notes
    -----
    The results have no gradient. Under tracing it behaves as :func:`log_uniform_candidate_sampler` does.

    References
    ----------
    ``tf.random.uniform_candidate_sampler`` of TensorFlow.

    Examples
    --------
    >>> from seqloss import samplers
    >>> values = samplers.uniform_candidate_sampler([[0], [9]], 1, 5, unique=False, range_max=10, seed=7)
    >>> print(values.sampled, values.sampled_expected)
    [9 6 6 8 5] [0.5 0.5 0.5 0.5 0.5]
    """
    size, ids = checks.count(num_sampled, unique, name), checks.classes(range_max)
    true = checks.true_classes(true_classes, num_true, ids)
    return sample(Uniform(ids), true, size, unique, seed)


def all_candidate_sampler(
    true_classes: Array, num_true: int, num_sampled: int, unique: bool, seed: Any = None, name: str | None = None
) -> SampledValues:
    """Every class as a candidate, which makes a sampled loss the full one; for tests.

    In one formula: ``sampled[s] = s``, and each expected count is 1.

    Parameters
    ----------
    true_classes : array of shape [batch, num_true]
        The true classes of each example, of any integer dtype, in [0, num_sampled).
    num_true : int
        The number of columns of true_classes, at least 1.
    num_sampled : int
        The number of classes, at least 1.
    unique : bool
        Has no effect, because all candidates are different.
    seed : None, int or numpy.random.Generator, optional
        Has no effect, because nothing is drawn.
    name : str, optional
        Has no effect, because this runs on the host.

    Returns
    -------
    SampledValues
        As in :func:`log_uniform_candidate_sampler`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentTypeError, OptionError, LabelError, UnreadableError
        As in :func:`log_uniform_candidate_sampler`, with num_sampled for range_max.

    Notes
    -----
    The results have no gradient. Under tracing it behaves as :func:`log_uniform_candidate_sampler` does.

    References
    ----------
    ``tf.random.all_candidate_sampler`` of TensorFlow.

    Examples
    --------
    >>> from seqloss import samplers
    >>> print(*samplers.all_candidate_sampler([[2]], 1, 3, unique=True))
    [0 1 2] [[1.]] [1. 1. 1.]
    """
    import numpy as np

    size = checks.count(num_sampled, unique, name)
    true = checks.true_classes(true_classes, num_true, size)
    checks.generator(seed)
    return _placed(true, size, np.arange(size), np.ones(true.ids.shape), np.ones(size))


def sample(
    distribution: Distribution, true: checks.TrueClasses, num_sampled: int, unique: bool, seed: Any
) -> SampledValues:
    """Draw candidates and count what was to be expected."""
    rng = checks.generator(seed)
    if unique and num_sampled > distribution.support:
        raise OptionError(
            f"num_sampled is {num_sampled}, but unique=True can draw at most the {distribution.support} ids of "
            f"non-zero probability (range_max is {distribution.range_max}); lower num_sampled or pass unique=False"
        )
    sampled, tries = drawing.candidates(distribution, num_sampled, unique, rng)

    def expected(ids: Array) -> Array:
        return drawing.expected_counts(distribution.probability(ids), num_sampled, tries)

    return _placed(true, distribution.range_max, sampled, expected(true.ids), expected(sampled))


def _placed(true: checks.TrueClasses, range_max: int, sampled: Array, *counts: Array) -> SampledValues:
    """The NumPy results in the framework of the true classes."""
    backend, like = true.given.facts, true.given.value
    ids = backend.asarray(sampled.astype("int64"), like=like)
    if range_max > 2**31 and backend.dtype(ids) != "int64":
        raise OptionError(
            f"range_max is {range_max}, but the framework of true_classes holds ids as {backend.dtype(ids)} here; "
            "enable its 64-bit integers (jax_enable_x64), or pass true_classes as a NumPy array"
        )
    true_expected, sampled_expected = (backend.asarray(x, like=like) for x in counts)
    return SampledValues(ids, true_expected, sampled_expected)
