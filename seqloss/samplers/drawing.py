"""Drawing candidates, and the expected count of an id among them."""

from typing import Any

from seqloss.core.protocol import Array
from seqloss.samplers.distributions import Distribution


def candidates(distribution: Distribution, num_sampled: int, unique: bool, rng: Any) -> tuple[Array, float]:
    """The ids that were drawn, and how many tries that took.

    With ``unique`` ids are drawn until ``num_sampled`` different ones were seen; an id that was seen before counts as
    a try and is dropped.
    """
    if not unique:
        return distribution.draw(rng, num_sampled), num_sampled
    return _distinct(distribution, num_sampled, rng)


def expected_counts(probability: Array, num_sampled: int, tries: float) -> Array:
    """How often an id of each probability is expected among the candidates of so many tries.

    This is TensorFlow's estimate: the number of tries is taken for a constant that does not depend on the ids.
    """
    import numpy as np

    if tries == num_sampled:
        return probability * num_sampled
    # A probability that rounds to 1 has the count 1.
    with np.errstate(divide="ignore"):
        return -np.expm1(tries * np.log1p(-probability))


def _distinct(distribution: Distribution, wanted: int, rng: Any) -> tuple[Array, float]:
    """Different ids in the order in which they were first drawn, and the number of tries.

    Blocks of draws suffice unless almost all ids are wanted, or those that are left are very rare. Once as many ids
    were drawn as there are, it costs less to look at each id once than to go on drawing.
    """
    import numpy as np

    found = np.zeros(0, np.int64)
    tries = 0
    while tries < distribution.range_max:
        # Blocks that double keep their number small for few wanted ids.
        block = distribution.draw(rng, max(wanted, tries))
        drawn = np.concatenate([found, block])
        first = np.sort(np.unique(drawn, return_index=True)[1])
        if len(first) >= wanted:
            last = int(first[wanted - 1])
            return drawn[first[:wanted]], tries + last - len(found) + 1
        found = drawn[first]
        tries += len(block)
    rest, more = _remaining(distribution, found, wanted - len(found), rng)
    return np.concatenate([found, rest]), tries + more


def _remaining(distribution: Distribution, found: Array, wanted: int, rng: Any) -> tuple[Array, float]:
    """The next different ids after ``found``, and the further tries until the last of them, without drawing each try.

    This is no approximation. Let every id be drawn at the events of a Poisson process of its own, whose rate is its
    probability: the order of all events is that of independent draws, and the first event of an id has an
    exponential time. Given the order, the tries until each next id are geometric, with the probability of all ids
    that are still unseen. A geometric number is an exponential one, divided by -log(1 - p) and rounded up.
    """
    import numpy as np

    probability = distribution.probability(np.arange(distribution.range_max))
    probability[found] = 0
    left = np.flatnonzero(probability)
    probability = probability[left]
    # As logarithms, because the time of a very rare id may exceed the largest float.
    with np.errstate(divide="ignore"):
        time = np.log(rng.standard_exponential(len(left))) - np.log(probability)
    chosen = np.argpartition(time, wanted - 1)[:wanted]
    chosen = chosen[np.argsort(time[chosen])]
    never = np.ones(len(left), bool)
    never[chosen] = False
    # From the last to the first, so that nothing is subtracted.
    unseen = probability[never].sum() + np.cumsum(probability[chosen][::-1])[::-1]
    # Rounding may lift a sum above 1, where a single try is enough; tries beyond the largest float are cut there.
    with np.errstate(divide="ignore", over="ignore"):
        waits = np.ceil(rng.standard_exponential(wanted) / -np.log1p(-np.minimum(unseen, 1)))
        tries = np.maximum(waits, 1).sum()
    return left[chosen].astype(np.int64), float(min(tries, np.finfo(np.float64).max))
