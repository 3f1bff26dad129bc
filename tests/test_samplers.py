"""The candidate samplers: what they return, how the ids are distributed, and what is refused."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqloss
from seqloss import samplers
from seqloss.samplers import distributions, drawing

TRUE = np.array([[1, 3], [0, 3], [2, 2]], "int32")
WEIGHTS = [5.0, 0.5, 2.0, 1.5, 1.0]


def taught(counts):
    sampler = samplers.LearnedUnigram(len(counts))
    sampler.counts = np.array(counts)
    return sampler


def learned(true_classes, num_true, num_sampled, unique, range_max, seed=None):
    return taught([10, 1, 4, 3, 2]).sample(true_classes, num_true, num_sampled, unique, seed)


def fixed(*arguments, **options):
    return samplers.fixed_unigram_candidate_sampler(*arguments, unigrams=WEIGHTS, distortion=2, **options)


SAMPLERS = {
    "log_uniform": samplers.log_uniform_candidate_sampler,
    "uniform": samplers.uniform_candidate_sampler,
    "fresh": samplers.learned_unigram_candidate_sampler,
    "learned": learned,
    "fixed": fixed,
}
# Written from the definitions, for 5 classes.
PROBABILITY = {
    "log_uniform": [math.log((k + 2) / (k + 1)) / math.log(6) for k in range(5)],
    "uniform": [1 / 5] * 5,
    "fresh": [1 / 5] * 5,
    "learned": [0.5, 0.05, 0.2, 0.15, 0.1],
    "fixed": [w**2 / sum(x**2 for x in WEIGHTS) for w in WEIGHTS],
}


# --- what is returned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_gives_the_same_values_in_every_framework(framework, name, unique):
    values = SAMPLERS[name](framework.array(TRUE), 2, 4, unique, 5, seed=11)
    expected = SAMPLERS[name](TRUE, 2, 4, unique, 5, seed=11)
    narrow = framework.name == "jax"
    for result, reference, dtype in zip(values, expected, ("int64", "float64", "float64"), strict=True):
        assert framework.is_array(result)
        assert reference.dtype == dtype
        assert framework.dtype(result) == (dtype.replace("64", "32") if narrow else dtype)
        np.testing.assert_array_equal(framework.to_numpy(result), reference.astype(framework.dtype(result)))
    assert [x.shape for x in expected] == [(4,), (3, 2), (4,)]


@pytest.mark.parametrize("dtype", ["float64"])
def test_with_64_bits_nothing_is_narrowed(framework, dtype):
    with framework.precision(dtype):
        values = samplers.log_uniform_candidate_sampler(framework.array(TRUE), 2, 4, True, 5)
        assert [framework.dtype(x) for x in values] == ["int64", "float64", "float64"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds(name):
    def ids(seed):
        return SAMPLERS[name]([[0]], 1, 60, False, 5, seed=seed).sampled.tolist()

    assert ids(3) == ids(np.int64(3)) != ids(4)
    assert ids(None) != ids(None)
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    assert [ids(rng), ids(rng)] == [ids(same), ids(same)]
    assert ids(np.random.default_rng(3)) == ids(3) != ids(rng)


@pytest.mark.parametrize("num_sampled", [1, 2, 4, 5])
@pytest.mark.parametrize("name", SAMPLERS)
def test_unique_candidates_are_different_ids_in_range(name, num_sampled):
    for seed in range(50):
        sampled = SAMPLERS[name]([[0]], 1, num_sampled, True, 5, seed=seed).sampled
        assert len(sampled) == num_sampled == len(set(sampled.tolist()))
        assert set(sampled.tolist()) <= set(range(5))


@pytest.mark.parametrize("name", SAMPLERS)
def test_counts_without_unique(name):
    values = SAMPLERS[name](TRUE, 2, 7, False, 5, seed=1)
    p = np.array(PROBABILITY[name])
    np.testing.assert_allclose(values.true_expected, 7 * p[TRUE], rtol=1e-14)
    np.testing.assert_allclose(values.sampled_expected, 7 * p[values.sampled], rtol=1e-14)


@pytest.mark.parametrize("name", SAMPLERS)
def test_counts_with_unique_share_one_number_of_tries(name):
    p = np.array(PROBABILITY[name])
    seen = set()
    for seed in range(40):
        values = SAMPLERS[name](TRUE, 2, 2, True, 5, seed=seed)
        # The rarest candidate tells the number of tries best.
        rare = np.argmin(p[values.sampled])
        tries = round(np.log1p(-values.sampled_expected[rare]) / np.log1p(-p[values.sampled[rare]]))
        is_product = np.allclose(values.sampled_expected, 2 * p[values.sampled], rtol=1e-12, atol=0)
        seen.add("as many" if is_product else tries)
        for ids, counts in ((TRUE, values.true_expected), (values.sampled, values.sampled_expected)):
            np.testing.assert_allclose(counts, 2 * p[ids] if is_product else 1 - (1 - p[ids]) ** tries, rtol=1e-11)
    assert "as many" in seen
    assert len(seen) >= 3
    assert min(seen - {"as many"}) >= 3


def test_an_empty_batch_and_any_integer_dtype(framework):
    values = samplers.uniform_candidate_sampler(framework.array(np.zeros((0, 3), "int32")), 3, 2, True, 5)
    assert framework.to_numpy(values.true_expected).shape == (0, 3)
    for dtype in ("int8", "uint8"):
        values = samplers.uniform_candidate_sampler(framework.array(TRUE.astype(dtype)), 2, 2, False, 1000)
        np.testing.assert_allclose(framework.to_numpy(values.true_expected), np.full((3, 2), 0.002), rtol=1e-6)


def test_lists_give_numpy_arrays():
    assert all(isinstance(x, np.ndarray) for x in samplers.all_candidate_sampler([[0]], 1, 2, True))


def test_one_class_has_the_count_one():
    values = samplers.log_uniform_candidate_sampler([[0]], 1, 1, True, 1)
    assert [x.tolist() for x in values] == [[0], [[1.0]], [1.0]]


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 77, 10**6, 10**9 - 2, 2**53 - 2])
def test_log_uniform_probabilities_keep_every_digit(k):
    with mpmath.workdps(50):
        exact = mpmath.log(mpmath.mpf(k + 2) / (k + 1)) / mpmath.log(2**53 + 1)
    result = distributions.LogUniform(2**53).probability(np.array([k]))[0]
    assert abs(result - float(exact)) <= 4e-16 * float(exact)


@given(st.floats(1e-300, 1 - 1e-6), st.integers(1, 10**6), st.integers(0, 10**9))
def test_expected_counts_keep_every_digit(p, num_sampled, more):
    tries = num_sampled + more
    with mpmath.workdps(400):
        exact = p * mpmath.mpf(num_sampled) if more == 0 else 1 - (1 - mpmath.mpf(p)) ** tries
    result = drawing.expected_counts(np.array([p]), num_sampled, tries)[0]
    assert abs(result - float(exact)) <= 1e-15 * float(exact)


def test_extreme_probabilities_give_finite_counts():
    sampler = samplers.fixed_unigram_candidate_sampler
    values = sampler([[1], [3]], 1, 3, True, 4, unigrams=[1, 1e-300, 1e5, 0], seed=5)
    assert values.sampled.tolist() == [2, 0, 1]
    assert values.true_expected[1, 0] == 0
    assert values.sampled_expected[:2].tolist() == [1, 1]
    assert 1e-6 < values.sampled_expected[2] <= 1


def test_tries_beyond_the_largest_float():
    values = samplers.fixed_unigram_candidate_sampler([[2]], 1, 2, True, 3, unigrams=[1, 1e-323, 0], seed=5)
    assert [x.tolist() for x in values] == [[0, 1], [[0.0]], [1.0, values.sampled_expected[1]]]
    assert 0 < values.sampled_expected[1] <= 1


@pytest.mark.parametrize("num_sampled", [100_000, 8192])
def test_nearly_all_of_many_classes(num_sampled):
    """Drawing them one by one until the last was seen would take some 10**7 tries."""
    values = samplers.log_uniform_candidate_sampler([[99_999]], 1, num_sampled, True, 100_000, seed=1)
    assert len(np.unique(values.sampled)) == num_sampled
    if num_sampled == 100_000:
        # When the last class turns up, about one is to be expected missing, with an exponential law.
        assert num_sampled > values.sampled_expected.sum() > num_sampled - 20


def test_few_of_many_classes_cost_little_memory():
    values = samplers.log_uniform_candidate_sampler([[0]], 1, 1000, True, 2**53, seed=1)
    assert values.sampled.max() > 10**12
    assert len(np.unique(values.sampled)) == 1000


# --- the state that is learned ----------------------------------------------------------------------------------------


def test_learning_counts_after_sampling(framework):
    sampler = samplers.LearnedUnigram(5)
    assert (sampler.counts.dtype, sampler.counts.tolist()) == ("int64", [1] * 5)
    first = sampler.sample(framework.array(TRUE), 2, 10, False, seed=1)
    np.testing.assert_allclose(framework.to_numpy(first.true_expected), np.full((3, 2), 2), rtol=1e-6)
    assert sampler.counts.tolist() == [2, 2, 3, 3, 1]
    second = sampler.sample(framework.array(TRUE), 2, 11, False, seed=1)
    np.testing.assert_allclose(framework.to_numpy(second.true_expected), [[2, 3], [2, 3], [3, 3]], rtol=1e-6)
    assert sampler.counts.tolist() == [3, 3, 5, 5, 1]


def test_learning_does_not_write_into_saved_counts():
    sampler = samplers.LearnedUnigram(3)
    saved = sampler.counts
    sampler.sample([[0]], 1, 1, False)
    assert (saved.tolist(), sampler.counts.tolist()) == ([1, 1, 1], [2, 1, 1])


def test_nothing_is_counted_when_a_call_fails():
    sampler = samplers.LearnedUnigram(3)
    for arguments in (([[0]], 1, 4, True), ([[0]], 1, 1, True, -1), ([[3]], 1, 1, True)):
        with pytest.raises(seqloss.SeqlossError):
            sampler.sample(*arguments)
    assert sampler.counts.tolist() == [1, 1, 1]


def test_the_function_starts_anew():
    calls = [samplers.learned_unigram_candidate_sampler([[0]] * 9, 1, 5, False, 10, seed=1) for _ in range(2)]
    assert calls[0].true_expected.tolist() == calls[1].true_expected.tolist() == [[0.5]] * 9
