"""Targets and weights that are shifted by one, against what people write by hand."""

import numpy as np
import pytest

import seqloss
from seqloss.testing import frameworks

pytestmark = pytest.mark.few_where_compiled
TARGETS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
WEIGHTS = np.array([[1, 0.5, 2, 0, 4], [0.25, 1, 8, 2, 1]], "float32")


def pytest_generate_tests(metafunc):
    if "compiler" in metafunc.fixturenames:
        drivers = {name: frameworks.load(name) for name in metafunc.config.getoption("--backends").split(",")}
        pairs = [(name, compiler) for name, driver in drivers.items() for compiler in ("none", *driver.COMPILERS)]
        metafunc.parametrize("backend, compiler", pairs)


def shifted(framework, *arrays, **given):
    native = [None if x is None else framework.array(x) for x in arrays]
    given = {key: framework.array(x) if isinstance(x, np.ndarray) else x for key, x in given.items()}
    return [framework.to_numpy(x) for x in seqloss.next_token(*native, **given)]


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "uint16", "uint32", "uint64"])
def test_the_token_behind(framework, dtype):
    with framework.precision("float64"):  # JAX has integers of 64 bits together with floats
        targets, weights = shifted(framework, TARGETS.astype(dtype))
    np.testing.assert_array_equal(targets, np.pad(TARGETS[:, 1:], ((0, 0), (0, 1)), "edge"))
    np.testing.assert_array_equal(weights, [[True] * 4 + [False]] * 2)
    assert (targets.dtype.name, weights.dtype.name) == (dtype, "bool")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "uint16", "bool"])
def test_weights_move_along(framework, dtype):
    given = WEIGHTS.astype(dtype)
    _, weights = shifted(framework, TARGETS, given)
    np.testing.assert_array_equal(weights, np.pad(given[:, 1:], ((0, 0), (0, 1))), strict=True)


def test_nan_at_the_first_token_is_gone(framework):
    weights = WEIGHTS.copy()
    weights[:, 0] = np.nan
    _, got = shifted(framework, TARGETS, weights)
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    "ignored, kept", [(1, [0, 1, 0, 1, 0]), ((5, 1, 999), [0, 1, 0, 0, 0]), (None, [1, 1, 1, 1, 0])]
)
def test_labels_that_are_ignored_stay_but_count_nothing(framework, ignored, kept):
    targets, weights = shifted(framework, TARGETS[:1].astype("uint8"), ignore_index=ignored)
    np.testing.assert_array_equal(weights[0], np.array(kept, bool))
    np.testing.assert_array_equal(targets[0], [1, 4, 1, 5, 5])


def test_n_tokens_are_n_less_1_targets(framework):
    _, weights = shifted(framework, TARGETS, lengths=np.array([3, 0]))
    np.testing.assert_array_equal(weights, [[True, True, False, False, False], [False] * 5])


def test_segments_mark_boundaries_alone(framework):
    """0 is no padding, and an id may come again."""
    segments = np.array([[0, 0, 7, 7, 0], [1, 1, 1, 1, 2]])
    _, weights = shifted(framework, TARGETS, WEIGHTS, segment_ids=segments)
    np.testing.assert_array_equal(weights, [[0.5, 0, 0, 0, 0], [1, 8, 2, 0, 0]])


def test_packed_sequences(framework):
    offsets = np.array([0, 2, 2, 7, 10])
    targets, weights = shifted(framework, TARGETS.ravel(), WEIGHTS.ravel(), cu_seqlens=offsets)
    np.testing.assert_array_equal(targets, [1, 4, 1, 5, 9, 2, 6, 5, 3, 3])
    expected = np.append(WEIGHTS.ravel()[1:], 0)
    expected[offsets[1:] - 1] = 0
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (3, 1)])
def test_nothing_to_predict(framework, shape):
    targets, weights = shifted(framework, np.ones(shape, "int64"))
    assert targets.shape == weights.shape == shape
    assert not weights.any()


def test_the_loss_of_a_causal_language_model(framework):
    """As Hugging Face has it: logits without the last position, labels without the first."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 5, 11)).astype("float32"), TARGETS.copy()
    labels[0, 3:], labels[1, 1] = -100, -100
    native = framework.array(logits), framework.array(labels)
    loss = seqloss.sequence_loss(native[0], *seqloss.next_token(native[1], ignore_index=-100))
    by_hand = seqloss.sequence_loss(logits[:, :-1], labels[:, 1:], ignore_index=-100)
    np.testing.assert_allclose(framework.to_numpy(loss), by_hand, rtol=1e-6)


def test_the_gradient_of_the_weights_moves_back(framework):
    rng = np.random.default_rng(0)
    logits = framework.array(rng.normal(size=(2, 5, 11)).astype("float32"))

    def loss(weights):
        return seqloss.sequence_loss(logits, *seqloss.next_token(framework.array(TARGETS), weights), reduction="sum")

    value, gradients = framework.MODES["eager"](loss, (0,))([framework.array(WEIGHTS)], None)
    assert np.isfinite(framework.to_numpy(value))
    assert (gradients is not None) == framework.CAN.differentiates
    if gradients is not None:
        nll = seqloss.token_loss(framework.to_numpy(logits)[:, :-1], TARGETS[:, 1:])
        np.testing.assert_allclose(framework.to_numpy(gradients[0]), np.pad(nll, ((0, 0), (1, 0))), rtol=1e-5)


def test_compiled(backend, compiler):
    driver = frameworks.load(backend)
    arrays = TARGETS, WEIGHTS, np.array([[0, 0, 7, 7, 0], [1, 1, 1, 1, 2]]), np.array([3, 5])

    def shift(targets, weights, segments, lengths):
        return seqloss.next_token(targets, weights, segment_ids=segments, lengths=lengths, ignore_index=6)

    run = shift if compiler == "none" else driver.COMPILERS[compiler](shift)
    targets, weights = map(driver.to_numpy, run(*map(driver.array, arrays)))
    np.testing.assert_array_equal(targets, [[1, 4, 1, 5, 5], [2, 6, 5, 3, 3]])
    np.testing.assert_array_equal(weights, [[0.5, 0, 0, 0, 0], [1, 0, 2, 0, 0]])
