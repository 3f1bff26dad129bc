"""TensorFlow: the linear loss in graphs whose sizes are unknown, with variables, and what a function holds."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.backends import chunks

BATCH, TIME, FEATURES, CLASSES = 3, 10, 4, 7


def draw(seed=0):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    k = rng.normal(size=(FEATURES, CLASSES)).astype("float32")
    return tf.constant(h), tf.constant(k), tf.constant(rng.integers(0, CLASSES, (BATCH, TIME)))


def step(h, k, y, **options):
    with tf.GradientTape() as tape:
        tape.watch([h, k])
        value = seqloss.linear_sequence_loss(h, k, y, **options)
    return [value, *tape.gradient(value, [h, k])]


def close(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=3e-6 * np.abs(y).max())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_many_chunks_are_a_loop_with_the_results_of_few(jit_compile):
    arrays = draw()
    # 30 chunks and 1.
    many, few = (tf.function(lambda *a, n=n: step(*a, chunk=n), jit_compile=jit_compile) for n in (1, None))
    close(many(*arrays), few(*arrays))
    loops = [op.type for op in many.get_concrete_function(*arrays).graph.get_operations() if "While" in op.type]
    assert loops
    assert not [op for op in few.get_concrete_function(*arrays).graph.get_operations() if "While" in op.type]


def test_where_sizes_are_unknown_nothing_is_padded_beyond_the_last_chunk(monkeypatch):
    rows, of_chunk = [], chunks.of_chunk

    def counted(backend, step, hidden, *others):
        tf.py_function(lambda n: rows.append(int(n)), [tf.shape(hidden)[0]], [])
        return of_chunk(backend, step, hidden, *others)

    monkeypatch.setattr(chunks, "of_chunk", counted)
    spec = [tf.TensorSpec([None] * rank, dtype) for rank, dtype in ((3, "float32"), (2, "float32"), (2, "int64"))]
    close(tf.function(step, input_signature=spec)(*draw()), step(*draw()))
    assert max(rows) == BATCH * TIME


SIGNATURE = [tf.TensorSpec([None] * rank, "float32") for rank in (3, 2, 3)]


@pytest.mark.parametrize("which, cut", [("classes", (..., slice(-1))), ("tokens", (slice(1),))])
def test_soft_targets_of_other_sizes_are_noticed_when_the_graph_runs(which, cut):
    h, k, y = draw()
    soft = tf.one_hot(y, CLASSES)
    loss = tf.function(seqloss.linear_sequence_loss, input_signature=SIGNATURE)
    close([loss(h, k, soft)], [seqloss.linear_sequence_loss(h, k, y)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="soft targets must have the shape of logits"):
        loss(h, k, soft[cut])


def test_a_function_whose_gradient_is_taken_outside_needs_soft_targets_to_be_stopped():
    """TensorFlow makes the backward pass of all its arguments."""
    h, k, y = draw()

    def loss(h, k, targets, stop):
        return seqloss.linear_sequence_loss(h, k, tf.stop_gradient(targets) if stop else targets)

    def outside(stop):
        with tf.GradientTape() as tape:
            tape.watch(k)
            value = tf.function(loss)(h, k, tf.one_hot(y, CLASSES), stop)
        return [value, tape.gradient(value, k)]

    close(outside(True), step(h, k, y)[::2])
    with pytest.raises(seqloss.BackendError, match=r"no gradient for soft targets.*inside of a tf\.function"):
        outside(False)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_variable_may_be_the_kernel(wrapped):
    h, k, y = draw()
    kernel = tf.Variable(k)

    def of_kernel():
        with tf.GradientTape() as tape:
            value = seqloss.linear_sequence_loss(h, kernel, y)
        return [value, tape.gradient(value, kernel)]

    close((tf.function(of_kernel) if wrapped else of_kernel)(), step(h, k, y)[::2])


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "function"])
def test_second_derivatives_are_refused(wrap):
    def second(h, k, y):
        with tf.GradientTape() as outer:
            outer.watch(h)
            slope = step(h, k, y)[2]
        return outer.gradient(slope, h)

    with pytest.raises(seqloss.BackendError, match="the linear loss, have only first derivatives, in reverse mode"):
        wrap(second)(*draw())


def test_a_function_holds_one_chunk_at_a_time():
    """The highest memory of a process, beside that of the same process with a sixteenth of the tokens."""
    program = """
        import os, resource, sys
        import tensorflow as tf
        import seqloss

        tf.config.threading.set_inter_op_parallelism_threads(2)
        chunk, features, classes = 256, 64, 8_000

        @tf.function
        def step(h, k, y):
            with tf.GradientTape() as tape:
                tape.watch([h, k])
                value = seqloss.linear_sequence_loss(h, k, y, chunk=chunk)
            return tape.gradient(value, [h, k])

        def highest(tokens):
            y = tf.zeros([1, tokens], tf.int32)
            step(tf.ones([1, tokens, features]), tf.ones([features, classes]), y)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

        few = highest(chunk)
        print((highest(16 * chunk) - few) / (4 * chunk * classes))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(done.stdout) < 4  # of 16, had all logits been there
