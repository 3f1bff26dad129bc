"""The samplers whose distribution is a table of frequencies, given or learned."""

from typing import Any

from seqloss.core import options
from seqloss.core.errors import OptionError
from seqloss.core.protocol import Array
from seqloss.samplers import checks, frequencies
from seqloss.samplers.candidates import SampledValues, sample
from seqloss.samplers.distributions import Unigram


def fixed_unigram_candidate_sampler(
    true_classes: Array,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: Any = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: Any = (),
    seed: Any = None,
    name: str | None = None,
) -> SampledValues:
    """Draw candidates from a table of frequencies.

    In one formula: ``P(k) = w[k] ** distortion / sum(w ** distortion)``, and 0 for reserved ids; the expected count of
    class k is ``P(k) * num_sampled`` if the candidates took num_sampled tries, and ``1 - (1 - P(k)) ** tries`` if more.

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
    vocab_file : str or os.PathLike, optional
        A plain text file in UTF-8 with the frequency of one id per line, in the order of the ids, after the last comma
        of the line if it has one. Empty lines are skipped. Give this or unigrams.
    distortion : float, default 1.0
        The power that frequencies are raised to: 0 makes them equal (those of 0 too), 0.75 is that of word2vec.
    num_reserved_ids : int, default 0
        How many ids, from 0, are never drawn. They have no entry in the table.
    num_shards, shard : int, optional
        Must be 1 and 0: see Notes.
    unigrams : list of numbers or NumPy array, optional
        The frequencies or probabilities of the ids num_reserved_ids … range_max - 1: finite, at least 0, not all 0.
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
    ShapeError
        If the table has not range_max - num_reserved_ids entries, or as in :func:`log_uniform_candidate_sampler`.
    OptionError
        If both or neither of vocab_file and unigrams are given, the file cannot be read or a line of it holds no
        number, a frequency is negative or not finite, all are 0, unique asks for more ids than have a frequency above
        0, shards are asked for, or as in :func:`log_uniform_candidate_sampler`.
    DTypeError, ArgumentTypeError, LabelError, UnreadableError
        As in :func:`log_uniform_candidate_sampler`, and if unigrams hold no numbers or distortion is none.

    Notes
    -----
    The results have no gradient. Under tracing it behaves as :func:`log_uniform_candidate_sampler` does. Each call
    reads the whole table.

    A true class of probability 0, such as a reserved id, has the expected count 0, whose logarithm is infinite in a
    sampled loss.

    With num_shards above 1 TensorFlow keeps every num_shards-th frequency and numbers those that are left from 0, so
    that candidates and true classes are no class ids any more. This is refused; pass ``unigrams[shard::num_shards]``
    and translate the ids.

    References
    ----------
    ``tf.random.fixed_unigram_candidate_sampler`` of TensorFlow.

    Examples
    --------
    >>> from seqloss import samplers
    >>> values = samplers.fixed_unigram_candidate_sampler([[2]], 1, 4, False, 3, unigrams=[5.0, 0.0, 3.0], seed=7)
    >>> print(values.sampled, values.true_expected, values.sampled_expected)
    [2 2 2 0] [[1.5]] [1.5 1.5 1.5 2.5]
    """
    size, ids = checks.count(num_sampled, unique, name), checks.classes(range_max)
    if options.integer("num_shards", num_shards, 1) != 1 or options.integer("shard", shard, 0) != 0:
        raise OptionError(
            f"num_shards must be 1 and shard 0, got {num_shards} and {shard}; for a part of the ids pass its entries "
            "of unigrams and translate the ids yourself"
        )
    weights = frequencies.table(ids, vocab_file, distortion, num_reserved_ids, unigrams)
    true = checks.true_classes(true_classes, num_true, ids)
    return sample(Unigram(weights), true, size, unique, seed)


def learned_unigram_candidate_sampler(
    true_classes: Array,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Any = None,
    name: str | None = None,
) -> SampledValues:
    """Draw candidates as the first call of a sampler that learns the frequencies of the true classes.

    In one formula: ``P(k) = 1 / range_max``, which is what a fresh :class:`LearnedUnigram` draws from. In TensorFlow
    the state is hidden in the operation; here it is an object, so this function starts afresh on each call. Use the
    class to learn the frequencies.

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
    ``tf.random.learned_unigram_candidate_sampler`` of TensorFlow, on the first run of the operation.

    Examples
    --------
    >>> from seqloss import samplers
    >>> values = samplers.learned_unigram_candidate_sampler([[1]], 1, 2, unique=False, range_max=4, seed=7)
    >>> print(values.sampled, values.true_expected)
    [2 3] [[0.5]]
    """
    checks.count(num_sampled, unique, name)
    return LearnedUnigram(range_max).sample(true_classes, num_true, num_sampled, unique, seed)


class LearnedUnigram:
    """A sampler that learns how frequent classes are from the true classes that it sees.

    In one formula: ``P(k) = counts[k] / sum(counts)``; the expected count of class k is as in
    :func:`log_uniform_candidate_sampler`.

    Parameters
    ----------
    range_max : int
        The number of classes, at least 1.

    Attributes
    ----------
    counts : NumPy int64 array of shape [range_max]
        1 for each class at first, and 1 more for each time it was a true class. Save it with the model and assign it
        to go on from there.

    Raises
    ------
    ArgumentTypeError, OptionError
        If range_max is not an integer or below 1.

    Notes
    -----
    The results have no gradient. Under tracing ``sample`` refuses traced true classes, and with host values it would
    count them once, while tracing: keep it outside compiled functions. It is not thread-safe.

    Each call costs time proportional to range_max.

    References
    ----------
    ``tf.random.learned_unigram_candidate_sampler`` of TensorFlow, whose state is lost with the operation.

    Examples
    --------
    >>> from seqloss import samplers
    >>> sampler = samplers.LearnedUnigram(4)
    >>> print(sampler.sample([[1], [1]], 1, 2, unique=False, seed=7).true_expected.tolist(), sampler.counts)
    [[0.5], [0.5]] [1 3 1 1]
    >>> print(sampler.sample([[1], [0]], 1, 2, unique=False, seed=7).true_expected.tolist(), sampler.counts)
    [[1.0], [0.3333333333333333]] [2 4 1 1]
    """

    def __init__(self, range_max: int) -> None:
        import numpy as np

        self._range_max = checks.classes(range_max)
        self.counts: Array = np.ones(self._range_max, np.int64)

    def sample(
        self, true_classes: Array, num_true: int, num_sampled: int, unique: bool, seed: Any = None
    ) -> SampledValues:
        """Draw candidates by the counts so far, then count each true class, as often as it occurs.

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
        seed : None, int or numpy.random.Generator, optional
            An integer on each call repeats the same random numbers; pass a generator to have new ones.

        Returns
        -------
        SampledValues
            As in :func:`log_uniform_candidate_sampler`.

        Raises
        ------
        ShapeError, DTypeError, ArgumentTypeError, OptionError, LabelError, UnreadableError
            As in :func:`log_uniform_candidate_sampler`, and if ``counts`` was assigned anything but positive integers
            of shape [range_max]. Nothing is counted then.
        """
        import numpy as np

        size = checks.count(num_sampled, unique, None)
        weights = frequencies.learned(self.counts, self._range_max)
        true = checks.true_classes(true_classes, num_true, self._range_max)
        values = sample(Unigram(weights), true, size, unique, seed)
        # A new array: one that the caller assigned or saved is not written into.
        self.counts = self.counts + np.bincount(true.ids.ravel(), minlength=self._range_max)
        return values
