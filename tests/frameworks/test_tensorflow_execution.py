"""TensorFlow: NumPy's kernel on the memory of eager tensors, exact mode in graphs, and what XLA is given."""

import threading

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.backends import tensorflow as backend
from seqloss.backends.tensorflow.execution import _MEMORY as memory_of
from seqloss.testing import cases, oracle, tolerances

EXECUTIONS = {"eager": lambda f: f, "function": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}
GRAPHS = ["function", "xla"]


@pytest.fixture(params=EXECUTIONS)
def execution(request):
    """A way to run a function; ``indirect`` chooses some."""
    return EXECUTIONS[request.param]


def batch(classes=50, dtype="float32", scale=4.0):
    logits, targets, weights = cases.draw(3, 4, classes, scale=scale)
    return tf.cast(logits, dtype), tf.constant(targets), tf.cast(weights, "float32")


def gradient(z, y, w, **options):
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = seqloss.sequence_loss(z, y, w, **options)
    return tape.gradient(value, z)


def host_gradient(z, y, w):
    return seqloss.sequence_loss_and_grad(np.asarray(z), np.asarray(y), np.asarray(w), exact=True)[1]


# --- the memory of the host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_views_share_memory(dtype):
    x = tf.cast(tf.random.normal([300, 1000]), dtype)
    view = memory_of.to_host(x)
    assert np.shares_memory(view, memory_of.to_host(x))
    back = memory_of.from_host(view.copy(), dtype, x)
    assert (back.dtype, back.device) == (x.dtype, x.device)
    np.testing.assert_array_equal(memory_of.to_host(back), view)


@pytest.mark.parametrize("offset", [0, 4, 32, 64])
def test_memory_of_any_alignment_becomes_a_tensor(offset):
    """TensorFlow would end the process; aligned memory is not copied."""
    memory = np.zeros(4096 + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    array = memory[start : start + 4096].view(np.float32).reshape(32, 32)
    array[...] = np.arange(1024).reshape(32, 32)
    tensor = memory_of.from_host(array, "float32", None)
    np.testing.assert_array_equal(tensor, array)
    assert np.shares_memory(np.asarray(tensor), memory) == (offset % 64 == 0)


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.ones((4, 6), np.float32).T, np.float64(2)])
def test_arrays_that_are_no_plain_memory_become_tensors(array):
    tensor = memory_of.from_host(array, array.dtype.name, None)
    assert (tensor.dtype.name, tuple(tensor.shape)) == (array.dtype.name, array.shape)
    np.testing.assert_array_equal(tensor, array)


def test_a_tensor_outlives_the_array_it_was_made_of():
    tensor = memory_of.from_host(np.full((512, 512), 3, np.float32), "float32", None)
    again = [np.full((512, 512), 4, np.float32) for _ in range(8)]
    assert len(again) == 8 and (tensor.numpy() == 3).all()


def test_tensors_of_a_graph_are_no_memory():
    z, y, w = batch()
    seen = []
    tf.function(lambda z: seen.append((memory_of.is_on_host([z, y]), memory_of.is_on_host([y, w]))))(z)
    assert seen == [(False, False)]
    assert memory_of.is_on_host([z, y, w, None])


def test_eager_calls_from_many_threads():
    calls = [batch(3000, scale=1 + i) for i in range(4)]
    results = [None] * len(calls)

    def work(i):
        results[i] = gradient(*calls[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for call, result in zip(calls, results, strict=True):
        np.testing.assert_array_equal(result, gradient(*call))


def test_tensors_that_are_still_being_computed():
    z, y, w = batch(3000)
    expected = gradient(z * 2, y, w)
    before = tf.config.experimental.get_synchronous_execution()
    tf.config.experimental.set_synchronous_execution(False)
    try:
        actual = gradient(z * 2, y, w).numpy()
    finally:
        tf.config.experimental.set_synchronous_execution(before)
    np.testing.assert_array_equal(actual, expected)


def test_what_is_stopped_may_be_watched():
    """Weight 0 has a gradient, also where nothing flows on to what the weights were computed from."""
    z, y = tf.random.stateless_normal([2, 3, 5], [1, 2]), tf.constant([[0, 1, 2], [3, 4, 0]])

    def slope(w):
        w = tf.stop_gradient(w)
        with tf.GradientTape() as tape:
            tape.watch(w)
            loss = seqloss.sequence_loss(z, y, w)
        return tape.gradient(loss, w)

    weights = tf.constant([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]])
    expected = slope(weights)
    assert np.count_nonzero(expected) == 6
    np.testing.assert_allclose(tf.function(slope)(weights), expected, rtol=1e-5)


def test_gradients_through_a_py_function():
    z, y, w = batch()
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.py_function(lambda z: seqloss.sequence_loss(z, y, w), [z], tf.float32)
    np.testing.assert_array_equal(tape.gradient(loss, z), gradient(z, y, w))


def test_forward_mode_over_a_gradient():
    """The accumulator sees the backward pass, which NumPy computes, too."""
    z, y, w = batch(dtype="float64")
    direction = tf.cos(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = seqloss.sequence_loss(z, y, w)
    with tf.GradientTape() as outer:
        outer.watch(z)
        along = tf.reduce_sum(gradient(z, y, w) * direction)
    with tf.autodiff.ForwardAccumulator(z, direction) as accumulator:
        inner = tape.gradient(value, z)
        both = gradient(z, y, w)
    expected = outer.gradient(along, z)
    np.testing.assert_allclose(accumulator.jvp(both), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(accumulator.jvp(inner), expected, rtol=1e-9, atol=1e-14)


# --- exact mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", GRAPHS, indirect=True)
@pytest.mark.parametrize("classes", [1, 2, 511, 512, 513, 1000, 2085])
def test_exact_bits_at_the_borders_of_strips(execution, classes):
    z, y, w = batch(classes)
    actual = execution(lambda *a: gradient(*a, exact=True))(z, y, w)
    np.testing.assert_array_equal(actual, host_gradient(z, y, w))


@pytest.mark.parametrize("execution", GRAPHS, indirect=True)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_exact_bits_of_half_precision(execution, dtype):
    z, y, w = batch(700, dtype, scale=6)
    actual = execution(lambda *a: gradient(*a, exact=True))(z, y, w)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(memory_of.to_host(actual), memory_of.to_host(gradient(z, y, w, exact=True)))


def test_exact_in_maps(execution):
    z, y, w = batch()
    stack = tf.stack([z, -z])
    expected = np.stack([host_gradient(z, y, w), host_gradient(-z, y, w)])
    one = execution(lambda s: tf.map_fn(lambda z: gradient(z, y, w, exact=True), s))(stack)
    np.testing.assert_array_equal(one, expected)
    two = execution(lambda s: tf.vectorized_map(lambda z: gradient(z, y, w, exact=True), s))(stack)
    np.testing.assert_array_equal(two, expected)


@pytest.mark.parametrize("execution", ["eager", "function"], indirect=True)
def test_second_derivatives_are_refused_in_exact_mode(execution):
    z, y, w = batch()

    def second(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            first = gradient(z, y, w, exact=True)
        return tape.gradient(first, z)

    with pytest.raises(seqloss.BackendError, match=r"exact=True, and the linear loss, have only first derivatives"):
        execution(second)(z)


def test_forward_mode_is_refused_in_exact_mode():
    z, y, w = batch()
    with (
        pytest.raises(seqloss.BackendError, match=r"exact=True, and the linear loss, have only first derivatives"),
        tf.autodiff.ForwardAccumulator(z, z),
    ):
        seqloss.sequence_loss(z, y, w, exact=True)


# --- XLA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [511, 512, 2085])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_xla_heeds_the_error_of_the_difference(classes, offset):
    """Logits of a range of 60: a rounded difference alone costs up to 32 units."""
    rng = np.random.default_rng(classes)
    z = (rng.uniform(-60, 0, (8, 16, classes)) + offset).astype("float32")
    y = rng.integers(0, classes, z.shape[:2])
    step = tf.function(lambda z, y: differentiated(z, y), jit_compile=True)
    loss, slope = step(tf.constant(z), tf.constant(y))
    expected = oracle.tokens(z, y)
    assert tolerances.ulps(loss, expected.nll, "float32").max() <= 4
    # The quotient, the total and two products round once each as well.
    assert tolerances.ulps(slope, expected.slope, "float32").max() <= 6


def differentiated(z, y):
    with tf.GradientTape() as tape:
        tape.watch(z)
        losses = seqloss.token_loss(z, y)
    return losses, tape.gradient(losses, z)


def operations(jit_compile, nested):
    """The types of the operations that a loss of 1000 classes is made of."""
    found = []

    def loss(z, y):
        value = seqloss.token_loss(z, y)
        found.extend(operation.type for operation in value.graph.get_operations())
        return value

    inner = tf.function(loss) if nested else loss
    tf.function(lambda z, y: inner(z, y), jit_compile=jit_compile)(*batch(1000)[:2])
    return found


@pytest.mark.parametrize("nested", [False, True])
def test_strips_are_for_xla_alone(nested):
    assert operations(True, nested).count("Exp") > 30
    assert operations(False, nested).count("Exp") == 2  # of all logits, and of the label of each token


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [(0,), (1,), (0, 1)])
def test_sums_of_many_numbers(execution, dtype, axis):
    """A plain sum along the first axis is 200 units off."""
    x = np.random.default_rng(0).exponential(size=(100_000, 3) if axis != (1,) else (3, 100_000)).astype(dtype)
    actual = execution(lambda x: backend.quotient(backend.wide_sum(x, None, axis=axis), 1.0))(tf.constant(x))
    expected = x.astype(np.longdouble).sum(axis)
    assert actual.dtype == dtype
    assert tolerances.ulps(actual, expected, dtype).max() <= 0.51
