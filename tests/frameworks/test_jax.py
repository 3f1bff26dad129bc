"""What only JAX has: transformations and their compositions, x64 on and off, residuals, sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import seqloss
from seqloss.testing import cases
from seqloss.testing.frameworks import jax as driver


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with driver.precision(request.param):
        yield request.param


def arrays(dtype="float32", shape=(2, 3, 5)):
    logits, targets, weights = cases.draw(*shape)
    return jnp.asarray(logits, dtype), jnp.asarray(targets), jnp.asarray(weights, dtype)


def plain_loss(z, y, w):
    """The same loss from JAX's own pieces, for derivatives of any order."""
    nll = -jnp.take_along_axis(jax.nn.log_softmax(z), y[..., None], -1)[..., 0]
    return jnp.sum(nll * w) / jnp.sum(w)


def close(actual, expected):
    """Equal up to the error of the plain formula, which is the less accurate side."""
    assert jax.tree.map(lambda x: (x.shape, x.dtype), actual) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        tolerance = 1e-12 if a.dtype == jnp.float64 else 2e-6
        np.testing.assert_allclose(a, e, rtol=10 * tolerance, atol=tolerance)


TRANSFORMS = {
    "grad": lambda f: jax.grad(f, (0, 2)),
    "jit_grad": lambda f: jax.jit(jax.grad(f, (0, 2))),
    "grad_jit": lambda f: jax.grad(jax.jit(f), (0, 2)),
    "hessian_by_reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "hessian": jax.hessian,
    "mixed_second": lambda f: jax.jacrev(jax.grad(f), argnums=2),
    "third": lambda f: lambda z, y, w: jax.grad(jax.grad(jax.grad(lambda s: f(s * z, y, w))))(jnp.ones((), z.dtype)),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "vmap": lambda f: lambda z, y, w: jax.vmap(f, (0, None, None))(jnp.stack([z, -z]), y, w),
    "vmap_targets": lambda f: lambda z, y, w: jax.vmap(f, (None, 0, None))(z, jnp.stack([y, (y + 1) % 5]), w),
    "vmap_grad": lambda f: lambda z, y, w: jax.vmap(jax.grad(f, (0, 2)), (0, None, None))(jnp.stack([z, -z]), y, w),
    "grad_vmap": lambda f: (
        lambda z, y, w: jax.grad(
            lambda z, w: jax.vmap(f, (0, None, 0))(jnp.stack([z, -z]), y, jnp.stack([w, w + 1])).sum(), (0, 1)
        )(z, w)
    ),
    "jit_vmap_grad": lambda f: lambda z, y, w: jax.jit(jax.vmap(jax.grad(f), (0, None, None)))(jnp.stack([z]), y, w),
    "scan": lambda f: (
        lambda z, y, w: jax.grad(
            lambda z: jax.lax.scan(
                lambda total, s: (total + f(s * z, y, w), None),
                jnp.zeros((), z.dtype),
                jnp.arange(1, 4).astype(z.dtype),
            )[0]
        )(z)
    ),
    "map": lambda f: lambda z, y, w: jax.lax.map(lambda s: f(s * z, y, w), jnp.arange(1, 4).astype(z.dtype)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transformation(name, dtype):
    transform = TRANSFORMS[name]
    close(transform(seqloss.sequence_loss)(*arrays(dtype)), transform(plain_loss)(*arrays(dtype)))


def test_transformation_reference_sees_wrong_gradients():
    """The test of the test: the plain loss of other weights is not close."""
    z, y, w = arrays()
    with pytest.raises(AssertionError):
        close(jax.grad(seqloss.sequence_loss)(z, y, w), jax.grad(plain_loss)(z, y, w + 0.1))


@pytest.mark.parametrize("transform", ["jvp", "jacfwd", "linearize"])
def test_forward_mode_is_refused(transform):
    z, y, w = arrays()
    run = {
        "jvp": lambda f: jax.jvp(f, (z,), (z,)),
        "jacfwd": lambda f: jax.jacfwd(f)(z),
        "linearize": lambda f: jax.linearize(f, z)[1](z),
    }[transform]
    with pytest.raises(TypeError, match="forward-mode"):
        run(lambda z: seqloss.sequence_loss(z, y, w))


def test_second_derivative_with_a_masked_nan():
    z, y, w = arrays()
    z, w = z.at[0, 0].set(jnp.nan), w.at[0, 0].set(0)
    second = jax.grad(lambda z: jnp.sum(jax.grad(seqloss.sequence_loss)(z, y, w) ** 2))(z)
    assert np.isfinite(second).all()
    assert (second[0, 0] == 0).all() and (second[0, 1] != 0).all()


def test_mixed_derivative_at_weight_zero():
    """d/dw d/dlogits at w = 0 is the gradient of that token's loss, not 0."""
    z, y, w = arrays()
    w = w.at[0, 0].set(0)
    mixed = jax.jacrev(jax.grad(seqloss.sequence_loss), argnums=2)(z, y, w)
    close(mixed, jax.jacrev(jax.grad(plain_loss), argnums=2)(z, y, w))
    assert np.abs(mixed[0, 0, :, 0, 0]).max() > 0.01


def test_residuals():
    """Of size [batch, time, classes] the backward pass keeps the logits alone."""
    z, y, w = arrays(shape=(4, 7, 1000))
    _, pull = jax.vjp(lambda z: seqloss.sequence_loss(z, y, w), z)
    leaves = [leaf for leaf in jax.tree.leaves(pull) if hasattr(leaf, "size")]
    large = [leaf for leaf in leaves if leaf.size >= z.size]
    assert len(large) == 1
    np.testing.assert_array_equal(large[0], z)
    assert max(leaf.size for leaf in leaves if leaf.size < z.size) <= w.size


def test_no_float64_without_x64():
    jaxpr = jax.make_jaxpr(jax.grad(seqloss.sequence_loss))(*arrays())
    assert "f64" not in str(jaxpr)


@pytest.mark.parametrize("label", [2**32 + 1, -(2**32) + 1, 2**63])
def test_host_labels_do_not_wrap_into_range(label):
    """int64 labels become int32 here; one that would turn into class 1 on the way must stay outside."""
    z, _, w = arrays()
    labels = np.zeros((2, 3), np.uint64 if label > 0 else np.int64)
    labels[1, 1] = label
    with pytest.raises(seqloss.LabelError, match=rf"targets\[1, 1\] is {label}, outside \[0, 5\)"):
        seqloss.sequence_loss(z, labels, w)
    loss = jax.jit(lambda z, w: seqloss.sequence_loss(z, labels, w, False, False))(z, w)
    np.testing.assert_array_equal(np.isnan(loss), labels == label)


@pytest.mark.parametrize("label", [-1, 5, -5, 2**31 - 1])
def test_jitted_labels_out_of_range_are_nan(label):
    z, y, w = arrays()
    y = y.at[0, 0].set(label)
    loss, gradient = jax.jit(lambda *a: seqloss.sequence_loss_and_grad(*a, False, False))(z, y, w)
    bad = np.zeros((2, 3), bool)
    bad[0, 0] = True
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(gradient), np.broadcast_to(bad[..., None], gradient.shape))


def test_check_labels_cannot_be_forced_while_tracing():
    with pytest.raises(seqloss.UnreadableError, match="check_labels=True must read"):
        jax.jit(lambda *a: seqloss.sequence_loss(*a, check_labels=True))(*arrays())


def test_labels_that_jit_closes_over_are_checked():
    z, y, w = arrays()
    labels = y.at[0, 0].set(9)
    with pytest.raises(seqloss.LabelError, match=r"targets\[0, 0\] is 9"):
        jax.jit(lambda z: seqloss.sequence_loss(z, labels, w))(z)


def test_sparse_arrays_are_refused():
    z, y, w = arrays()
    with pytest.raises(seqloss.ArgumentTypeError, match=r"a BCOO, not a dense array; pass logits\.todense\(\)"):
        seqloss.sequence_loss(sparse.BCOO.fromdense(z), y, w)


def test_random_keys_are_refused():
    z, _, w = arrays()
    with pytest.raises(seqloss.DTypeError, match="targets must be integer class labels"):
        seqloss.sequence_loss(z, jax.random.split(jax.random.key(0), (2, 3)), w)


def test_sharded_batch():
    mesh = jax.make_mesh((1,), ("data",))
    z, y, w = arrays()
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    loss = jax.jit(seqloss.sequence_loss)(*(jax.device_put(x, sharding) for x in (z, y, w)))
    close(loss, seqloss.sequence_loss(z, y, w))


def test_name_is_a_scope():
    jaxpr = jax.make_jaxpr(lambda *a: seqloss.sequence_loss(*a, name="my_loss"))(*arrays())
    assert any("my_loss" in str(equation.source_info.name_stack) for equation in jaxpr.eqns)
