"""The families of the sampled losses, the samplers, and the mask, which returns no loss."""

from typing import Any

import numpy as np

import seqloss
from seqloss import samplers, sampling
from seqloss.core import dispatch
from seqloss.testing import oracle
from seqloss.testing.families import sampled
from seqloss.testing.families.family import Family
from seqloss.testing.families.reference import Expected

Array = Any
CLASSES, DIM = 12, 4
ARGUMENTS = ("weights", "biases", "labels", "inputs", "sampled", "of_true", "of_sampled")
DIFFERENTIABLE = (0, 1, 3)


def _problem(num_true: int, candidates: list[int], shards: int = 1) -> Any:
    """weights, biases, labels, inputs and the three sampled values, then what is left of the shards."""

    def build(rng: np.random.Generator) -> list[Array]:
        weights, biases = rng.normal(0, 1, (CLASSES, DIM)), rng.normal(0, 1, CLASSES)
        labels = np.stack([rng.permutation(CLASSES)[:num_true] for _ in range(5)])
        labels[0, 0], labels[3, -1] = 3, 7  # accidental hits, if 3 and 7 are among the candidates
        counts = rng.integers(1, 32, (5, num_true)) / 32, rng.integers(1, 32, len(candidates)) / 32
        rest = [labels, rng.normal(0, 1, (5, DIM)), np.array(candidates), *(x.astype("float32") for x in counts)]
        parts = [weights[i::shards] for i in range(shards)]
        return [parts[0], biases, *rest, *parts[1:]]

    return build


def _call(function: Any, num_true: int, drawn: int, removes_hits: bool) -> Any:
    def call(
        w: Array, b: Array, labels: Array, x: Array, *rest: Array, num_sampled: int = drawn, num_classes: int = CLASSES
    ) -> Any:
        weights = [w, *rest[3:]] if rest[3:] else w
        return function(weights, b, labels, x, num_sampled, num_classes, num_true, rest[:3], removes_hits)

    return call


def _expected(removes_hits: bool, is_nce: bool) -> Any:
    def expected(
        w: Array, b: Array, labels: Array, x: Array, *values: Array, cotangent: Array | None = None
    ) -> Expected:
        values, more = values[:3], values[3:]
        if not more:
            return sampled.loss(w, b, labels, x, values, removes_hits, is_nce, cotangent)
        # Dealt out to the shards one by one.
        count = 1 + len(more)
        whole = np.zeros((CLASSES, DIM), w.dtype)
        for i, part in enumerate((w, *more)):
            whole[i::count] = part
        got = sampled.loss(whole, b, labels, x, values, removes_hits, is_nce, cotangent)
        gradients, scales = (
            (*pair[1:], *(pair[0][i::count] for i in range(count))) for pair in (got.gradients, got.scales)
        )
        often, _, once = got.roundings
        order = (2, 0, 1, *range(3, 2 + count))
        roundings = (often, once, *[often] * count)
        return got._replace(
            gradients=tuple(gradients[i] for i in order),
            scales=tuple(scales[i] for i in order),
            roundings=tuple(roundings[i] for i in order),
        )

    return expected


def _counts(values: tuple[Array, Array, Array]) -> Any:
    return values[1]


def _certain(probability: Any, num_sampled: int) -> Any:
    """The expected counts of true classes where candidates may be drawn twice: their probability, so many times."""

    def expected(labels: Array, cotangent: Array | None = None) -> Expected:
        counts = num_sampled * np.asarray(probability(labels.astype(oracle.WIDE)))
        return Expected(counts, np.zeros(counts.shape), (), ())

    return expected


def _log_uniform(k: Array) -> Array:
    return np.log1p(1 / (k + 1)) / np.log1p(oracle.WIDE(CLASSES))


def _hits(part: int) -> Any:
    """One of the three results, for labels that are hit three times by the candidates 3, 7, 1 and 7."""

    def expected(labels: Array, candidates: Array, cotangent: Array | None = None) -> Expected:
        found = []
        for i, row in enumerate(labels):
            for label in row:
                found += [(i, int(np.flatnonzero(candidates == label)[-1]))] if label in candidates else []
        values = [np.array([place[k] for place in found]) for k in (0, 1)]
        value = [*values, np.full(len(found), np.finfo("float32").min)][part]
        return Expected(value, np.zeros(value.shape), (), ())

    return expected


def _labels(rng: np.random.Generator) -> list[Array]:
    return [rng.integers(0, CLASSES, (5, 2))]


_MODES = (
    *("compile", "compile-dynamic", "func", "export", "jit", "grad-of-jit", "checkpoint"),
    *("function", "function-unknown-sizes", "function-unknown-rank", "xla"),
)
TRACED = dict.fromkeys(_MODES, ("UnreadableError", "no values"))
"""What draws on the host, or returns as many entries as there are hits, must see values."""

UNIGRAMS_TRACED = TRACED | dict.fromkeys(("compile", "compile-dynamic"), ("Unsupported", "ndarray|non-Tensor"))
"""torch.compile(fullgraph=True) gives up at the table of frequencies already, in its own words."""


def _masked(lengths: Array, x: Array) -> Any:
    return x * seqloss.sequence_mask(lengths, 4, dtype=dispatch.argument("x", x).dtype)


def _of_mask(lengths: Array, x: Array, cotangent: Array | None = None) -> Expected:
    mask = (np.arange(4) < lengths[:, None]).astype(oracle.WIDE)
    up = np.ones(x.shape) if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE)
    return Expected(mask * x, np.zeros(x.shape), (mask * up,), (np.zeros(x.shape),))


def _next_weights(targets: Array, lengths: Array, weights: Array) -> Any:
    return seqloss.next_token(targets, weights, lengths=lengths, ignore_index=2)[1]


def _of_next_weights(targets: Array, lengths: Array, weights: Array, cotangent: Array | None = None) -> Expected:
    kept = (np.arange(1, 4) < lengths[:, None]) & (targets[:, 1:] != 2)
    value, gradient = np.zeros(weights.shape, oracle.WIDE), np.zeros(weights.shape, oracle.WIDE)
    up = np.ones(weights.shape) if cotangent is None else np.asarray(cotangent).astype(oracle.WIDE)
    value[:, :-1], gradient[:, 1:] = np.where(kept, weights[:, 1:], 0), np.where(kept, up[:, :-1], 0)
    return Expected(value, np.zeros(value.shape), (gradient,), (np.zeros(value.shape),))


def _sampler(
    name: str, draw: Any, probability: Any, num_sampled: int = 6, refusals: dict[str, tuple[str, str]] = TRACED
) -> Family:
    return Family(
        name,
        f"samplers.{name}",
        ("true_classes",),
        _labels,
        lambda labels: _counts(draw(labels)),
        _certain(probability, num_sampled),
        (),
        "float64",
        refusals,
    )


UNIGRAMS = (np.arange(CLASSES) + 1.0).tolist()

ROWS = (
    *(
        Family(
            f"{'nce_loss' if is_nce else 'sampled_softmax_loss'}-{name}",
            "nce_loss" if is_nce else "sampled_softmax_loss",
            (*ARGUMENTS, *["weights"] * (shards - 1)),
            _problem(num_true, candidates, shards),
            _call(sampling.nce_loss if is_nce else sampling.sampled_softmax_loss, num_true, len(candidates), removes),
            _expected(removes, is_nce),
            (*DIFFERENTIABLE, *range(7, 6 + shards)),
        )
        for name, is_nce, num_true, candidates, removes, shards in (
            ("hits", False, 1, [3, 7, 1, 9], True, 1),
            ("hits_repeated", False, 3, [3, 7, 1, 7], True, 1),
            ("kept", False, 1, [3, 7, 1, 9], False, 1),
            ("shards", False, 2, [3, 7, 1, 9], True, 3),
            ("plain", True, 1, [3, 7, 1, 9], False, 1),
            ("hits_repeated", True, 3, [3, 7, 1, 7], True, 1),
        )
    ),
    Family(
        "sequence_mask",
        "sequence_mask",
        ("lengths", "x"),
        lambda rng: [np.array([3, 0, 4]), rng.normal(0, 1, (3, 4))],
        _masked,
        _of_mask,
        (1,),
        "own",
    ),
    Family(
        "next_token",
        "next_token",
        ("targets", "lengths", "weights"),
        lambda rng: [
            np.array([[1, 2, 3, 4], [5, 6, 2, 1], [2, 1, 4, 3]]),
            np.array([3, 0, 4]),
            rng.normal(0, 1, (3, 4)),
        ],
        _next_weights,
        _of_next_weights,
        (2,),
        "own",
    ),
    *(
        Family(
            f"compute_accidental_hits-{name}",
            "samplers.compute_accidental_hits",
            ("true_classes", "sampled_candidates"),
            lambda rng: [np.array([[3, 5], [7, 3], [0, 2]]), np.array([3, 7, 1, 7])],
            lambda labels, candidates, part=part: samplers.compute_accidental_hits(labels, candidates, 2)[part],
            _hits(part),
            (),
            dtype,
            TRACED,
        )
        for part, (name, dtype) in enumerate((("indices", "int32"), ("ids", "int64"), ("weights", "float32")))
    ),
    _sampler(
        "uniform_candidate_sampler",
        lambda y: samplers.uniform_candidate_sampler(y, 2, 6, False, CLASSES, seed=0),
        lambda k: k * 0 + oracle.WIDE(1) / CLASSES,
    ),
    _sampler(
        "log_uniform_candidate_sampler",
        lambda y: samplers.log_uniform_candidate_sampler(y, 2, 6, False, CLASSES, seed=0),
        _log_uniform,
    ),
    _sampler("all_candidate_sampler", lambda y: samplers.all_candidate_sampler(y, 2, CLASSES, True), np.ones_like, 1),
    _sampler(
        "fixed_unigram_candidate_sampler",
        lambda y: samplers.fixed_unigram_candidate_sampler(y, 2, 6, False, CLASSES, unigrams=UNIGRAMS, seed=0),
        lambda k: (k + 1) / oracle.WIDE(sum(UNIGRAMS)),
        refusals=UNIGRAMS_TRACED,
    ),
    _sampler(
        "learned_unigram_candidate_sampler",
        lambda y: samplers.learned_unigram_candidate_sampler(y, 2, 6, False, CLASSES, seed=0),
        lambda k: k * 0 + oracle.WIDE(1) / CLASSES,
        refusals=UNIGRAMS_TRACED,
    ),
)
"""The sampled losses in every mode; what must read values in eager code alone."""
