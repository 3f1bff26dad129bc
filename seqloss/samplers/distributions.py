"""The distributions that candidates are drawn from."""

from typing import Any, Protocol

from seqloss.core.protocol import Array


class Distribution(Protocol):
    """A distribution over the ids 0 … range_max - 1."""

    @property
    def range_max(self) -> int: ...

    @property
    def support(self) -> int:
        """How many ids have a probability above 0."""

    def probability(self, ids: Array) -> Array:
        """The float64 probability of each id of a NumPy array."""

    def draw(self, rng: Any, size: int) -> Array:
        """Independent int64 ids."""


class Uniform:
    """Every id alike."""

    def __init__(self, range_max: int) -> None:
        self.range_max = self.support = range_max

    def probability(self, ids: Array) -> Array:
        import numpy as np

        return np.full(ids.shape, 1 / self.range_max)

    def draw(self, rng: Any, size: int) -> Array:
        return rng.integers(self.range_max, size=size)


class LogUniform:
    """P(k) = log((k + 2) / (k + 1)) / log(range_max + 1), the law of Zipf for ids in the order of their frequency."""

    def __init__(self, range_max: int) -> None:
        import numpy as np

        self.range_max = self.support = range_max
        self._log_range = np.log1p(range_max)

    def probability(self, ids: Array) -> Array:
        import numpy as np

        # The quotient (k + 2) / (k + 1) would keep only the digits that a rare id leaves behind 1.
        return np.log1p(1 / (ids + 1.0)) / self._log_range

    def draw(self, rng: Any, size: int) -> Array:
        import numpy as np

        # e**x lies in [k + 1, k + 2) with the probability of k when x is uniform in [0, log(range_max + 1)).
        ids = np.expm1(rng.random(size) * self._log_range).astype(np.int64)
        return np.minimum(ids, self.range_max - 1)  # whatever exp and log of the platform round to


class Unigram:
    """P(k) = weights[k] / sum(weights), for finite weights of at least 0 that are not all 0."""

    def __init__(self, weights: Array) -> None:
        import numpy as np

        self.range_max = len(weights)
        # Scaled so that the sum of huge weights is finite; by a power of 2, which rounds nothing.
        self._weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        self.support = int(np.count_nonzero(self._weights))
        self._total = self._weights.sum()

    def probability(self, ids: Array) -> Array:
        return self._weights[ids] / self._total

    def draw(self, rng: Any, size: int) -> Array:
        import numpy as np

        ends = np.cumsum(self._weights)
        # A number below 1 times the last end stays below it after rounding, and "right" steps over ids of weight 0,
        # which end where their predecessor does: so neither an id past the last nor one of weight 0 is found.
        return np.searchsorted(ends, rng.random(size) * ends[-1], side="right").astype(np.int64)
