"""JAX: the linear loss under its transformations, and the memory of its programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqloss

BATCH, TIME, FEATURES, CLASSES = 3, 10, 4, 7


def draw(seed=0, *stack):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(*stack, BATCH, TIME, FEATURES)).astype("float32")
    k = rng.normal(size=(FEATURES, CLASSES)).astype("float32")
    return jnp.array(h), jnp.array(k), jnp.array(rng.integers(0, CLASSES, (*stack, BATCH, TIME)))


def loss(h, k, y, **options):
    return seqloss.linear_sequence_loss(h, k, y, **options)


STEP = jax.value_and_grad(loss, (0, 1))


def close(found, expected):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=3e-6 * float(abs(y).max()))


def test_a_stack_of_batches_shares_a_kernel():
    h, k, y = draw(0, 2)
    values, (to_hidden, to_kernel) = jax.jit(jax.vmap(lambda h, y: STEP(h, k, y, chunk=7)))(h, y)
    for i in range(2):
        close((values[i], (to_hidden[i], to_kernel[i])), STEP(h[i], k, y[i]))


def test_micro_batches_are_a_scan():
    """Gradient accumulation with the kernel as what is carried."""
    h, k, y = draw(0, 4)

    def total(k):
        def step(carried, part):
            return carried + loss(part[0], k, part[1], reduction="sum", normalizer=4.0 * BATCH * TIME, chunk=7), None

        return jax.lax.scan(step, 0.0, (h, y))[0]

    rows = (4 * BATCH, TIME)
    close(jax.jit(jax.value_and_grad(total))(k), jax.value_and_grad(loss, 1)(h.reshape(*rows, -1), k, y.reshape(rows)))


def test_a_kernel_that_is_stopped_has_a_gradient_of_0():
    h, k, y = draw()
    to_hidden, to_kernel = jax.grad(lambda h, k: loss(h, jax.lax.stop_gradient(k), y), (0, 1))(h, k)
    assert not to_kernel.any()
    close(to_hidden, STEP(h, k, y)[1][0])


def test_forward_mode_is_refused():
    h, k, y = draw()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda h: loss(h, k, y), (h,), (h,))


def test_a_derivative_of_a_gradient_is_refused_under_jit():
    h, k, y = draw()
    with pytest.raises(seqloss.BackendError, match=r"^exact=True, and the linear loss, have only first derivatives"):
        jax.jit(jax.grad(lambda h: jax.grad(loss, 1)(h, k, y).sum()))(h)


SIZES = {"batch": 4, "time": 512, "features": 128, "classes": 4_096}
CHUNK = 128


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("differentiated", [True, False])
def test_a_program_holds_one_chunk_of_logits_and_one_gradient_of_the_kernel(reduction, differentiated):
    """And hidden, or its gradient, in the order of the chunks. XLA has the second array of a chunk where that is."""
    batch, time, features, classes = SIZES.values()
    h, k = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((batch, time, features), (features, classes)))
    y = jax.ShapeDtypeStruct((batch, time), "int32")

    def total(h, k, y):
        return loss(h, k, y, chunk=CHUNK, reduction=reduction).sum()

    function = jax.value_and_grad(total, (0, 1)) if differentiated else total
    held = jax.jit(function).lower(h, k, y).compile().memory_analysis().temp_size_in_bytes
    logits, to_kernel, to_hidden = (4 * n for n in (CHUNK * classes, features * classes, batch * time * features))
    assert logits <= held <= 1.1 * logits + to_hidden + differentiated * to_kernel
