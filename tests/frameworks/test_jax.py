"""What only JAX has: transformations and their compositions, x64 on and off, residuals, sharding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import seqloss
from seqloss.backends.jax import numbers
from seqloss.testing import cases, oracle, tolerances
from seqloss.testing.frameworks import jax as driver


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


# What is transformed is the same in both dtypes.
IN_BOTH = ("grad", "vmap_grad", "scan")
TRANSFORMED = [(name, "float64") for name in TRANSFORMS] + [(name, "float32") for name in IN_BOTH]


@pytest.mark.parametrize("name, dtype", TRANSFORMED)
def test_transformation(name, dtype):
    transform = TRANSFORMS[name]
    with driver.precision(dtype):
        close(transform(seqloss.sequence_loss)(*arrays(dtype)), jax.jit(transform(plain_loss))(*arrays(dtype)))


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
    close(mixed, jax.jit(jax.jacrev(jax.grad(plain_loss), argnums=2))(z, y, w))
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


OF_CLASSES = {
    "class weights": {"label_smoothing": 0.1, "class_weights": np.linspace(0.5, 2, 5)},
    "off target": {"label_smoothing": seqloss.Smoothing(0.1, off_target=True, exclude=(2,))},
    "out": {"ignore_index": 3, "lengths": np.array([1, 2]), "reduction": "sequence_mean"},
    "cap": {"softcap": 3.0, "z_loss": 0.01},
}


@pytest.mark.parametrize("options", OF_CLASSES.values(), ids=OF_CLASSES)
def test_options_leave_an_explicitly_sharded_batch_where_it_is(options):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    z, y, w = arrays()
    with jax.set_mesh(mesh):
        sharded = [jax.device_put(x, jax.sharding.PartitionSpec("data")) for x in (z, y, w)]
        loss = functools.partial(seqloss.sequence_loss, **options)
        value, gradient = jax.jit(jax.value_and_grad(loss))(*sharded)
        assert gradient.sharding.spec == jax.sharding.PartitionSpec("data", None, None)
    np.testing.assert_allclose(value, seqloss.sequence_loss(z, y, w, **options), rtol=1e-6)


def test_sharded_batch():
    mesh = jax.make_mesh((1,), ("data",))
    z, y, w = arrays()
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    loss = jax.jit(seqloss.sequence_loss)(*(jax.device_put(x, sharding) for x in (z, y, w)))
    close(loss, seqloss.sequence_loss(z, y, w))


def test_name_is_a_scope():
    jaxpr = jax.make_jaxpr(lambda *a: seqloss.sequence_loss(*a, name="my_loss"))(*arrays())
    assert any("my_loss" in str(equation.source_info.name_stack) for equation in jaxpr.eqns)


# --- the kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 63, 64, 67, 4096, 4099, 8191, 8192])
def test_blocks_of_classes(classes):
    """Few classes, blocks that fit, blocks that do not; the target in the first and in the last block."""
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 3, (6, classes)).astype("float32")
    y = np.array([0, classes - 1, classes // 2, 0, classes - 1, classes - 1])
    z[np.arange(4), y[:4]] += 30
    if classes > 1:
        z[4, -2] = 50
    expected = oracle.tokens(z, y)
    value, pull = jax.vjp(lambda z: seqloss.token_loss(z, jnp.asarray(y)), jnp.asarray(z))
    for got, exact in ((value, expected.nll), (pull(jnp.ones(6))[0], expected.slope)):
        assert tolerances.ulps(got, exact, "float32").max() <= 8


def test_units_in_the_last_place():
    """In float32 the loss is right to 5 units and the gradient to 7, wherever the logits lie."""
    both = jax.jit(jax.vmap(jax.value_and_grad(seqloss.token_loss)))
    bases, margins = [0, 30, 80, 88, 160, 1000, 3e8, -0.5, -60, -1000], np.arange(-85, 60, 5)
    classes, rng = 1000, np.random.default_rng(0)
    shape = (len(bases), len(margins), classes)
    z = np.stack([rng.normal(0, 8, shape), rng.uniform(-86, 0, shape), rng.uniform(-3, 3, shape)])
    targets = rng.integers(0, classes, z.shape[:-1])
    here = np.arange(classes) == targets[..., None]
    z -= np.where(here, -np.inf, z).max(-1, keepdims=True)
    z = (np.where(here, margins[:, None], z) + np.reshape(bases, (-1, 1, 1))).astype("float32").reshape(-1, classes)
    exact = oracle.tokens(z, targets.reshape(-1))
    got = both(z, targets.reshape(-1))
    for actual, expected, most in zip(got, (exact.nll, exact.slope), (5, 7), strict=True):
        normal = np.abs(expected) >= np.finfo("float32").tiny
        unit = np.spacing(np.abs(expected).astype("float32")).astype("float64")
        assert (np.abs(np.asarray(actual, "float64") - expected) <= most * unit)[normal].all()


@pytest.mark.parametrize("margin, classes", [(-3.0, 5), (0.0, 5), (3.0, 101)])
def test_second_derivative_on_both_sides_of_a_tie(margin, classes):
    """The target below the largest other logit, beside it and above: the formulas change at 0."""
    with driver.precision("float64"):
        z, y, w = arrays("float64", (1, 2, classes))
        at = np.arange(classes) == y[..., None]
        z = jnp.where(at, jnp.where(at, -jnp.inf, z).max(-1, keepdims=True) + margin, z)
        close(jax.hessian(seqloss.sequence_loss)(z, y, w), jax.jit(jax.hessian(plain_loss))(z, y, w))
        close(jax.jacrev(jax.jacrev(seqloss.sequence_loss))(z, y, w), jax.jit(jax.hessian(plain_loss))(z, y, w))


@pytest.mark.parametrize("classes", [5, 100, 101])
@pytest.mark.parametrize("exact", [False, True])
def test_sharded_gradient(exact, classes):
    """What is gathered and scattered at the target stays on the device of its row."""
    mesh = jax.make_mesh((1,), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    given = arrays(shape=(2, 3, classes))
    function = jax.grad(lambda *a: seqloss.sequence_loss(*a, exact=exact))
    expected = function(*given)
    gradient = jax.jit(function)(*(jax.device_put(x, rows) for x in given))
    close(gradient, expected)
    assert gradient.sharding.is_equivalent_to(rows, 3)


# --- exact mode ------------------------------------------------------------------------------------------------------


def exact_case():
    z, y, w = cases.draw(3, 4, 100)
    z, y, w = (8 * z).astype("float32"), y.astype("int32"), w.astype("float32")
    z[0, 1, y[0, 1]] = 60
    loss, gradients = seqloss.sequence_loss_and_grad(z, y, w, exact=True, wrt=("logits", "weights"))
    return tuple(map(jnp.asarray, (z, y, w))), (loss, *gradients)


def exact_loss(z, y, w):
    return seqloss.sequence_loss(z, y, w, exact=True)


def exact_explicit(z, y, w):
    loss, gradients = seqloss.sequence_loss_and_grad(z, y, w, exact=True, wrt=("logits", "weights"))
    return loss, *gradients


def derived(f):
    """Loss and gradients from JAX's differentiation."""

    def run(z, y, w):
        loss, gradients = jax.value_and_grad(f, (0, 2))(z, y, w)
        return loss, *gradients

    return run


def scanned(f):
    def run(z, y, w):
        def step(total, s):
            loss = f(s * z, y, w)
            return total + loss, loss

        return jax.lax.scan(step, jnp.zeros((), z.dtype), jnp.ones(1, z.dtype))[0]

    return run


def batched(f):
    def run(z, y, w):
        return jax.vmap(f)(z[None], y[None], w[None]).sum()

    return run


def first_of_batch(f):
    return lambda *a: jax.tree.map(lambda x: x[0], jax.vmap(f)(*(jnp.stack([x, x]) for x in a)))


EAGER_EXACT = {
    "eager": lambda *a: (exact_loss(*a),),
    "grad": derived(exact_loss),
    "vmap_of_grad": first_of_batch(derived(exact_loss)),
    "grad_of_vmap": derived(batched(exact_loss)),
    "explicit": exact_explicit,
    "explicit_vmap": first_of_batch(exact_explicit),
}
COMPILED_EXACT = {
    "jit": jax.jit(derived(exact_loss)),
    "grad_of_jit": derived(jax.jit(exact_loss)),
    "jit_of_vmap_of_grad": jax.jit(first_of_batch(derived(exact_loss))),
    "jit_of_grad_of_vmap": jax.jit(derived(batched(exact_loss))),
    "scan": derived(scanned(exact_loss)),
    "jit_of_scan": jax.jit(derived(scanned(exact_loss))),
    "checkpoint": derived(jax.checkpoint(exact_loss)),
    "jit_of_checkpoint": jax.jit(derived(jax.checkpoint(exact_loss))),
    "explicit_jit": jax.jit(exact_explicit),
    "explicit_jit_of_vmap": jax.jit(first_of_batch(exact_explicit)),
    "explicit_map": lambda *a: jax.tree.map(
        lambda x: x[0], jax.lax.map(lambda s: exact_explicit(s * a[0], *a[1:]), jnp.ones(2, a[0].dtype))
    ),
}


# What x64 changes is the context of a trace: one of each kind meets it.
WITH_X64 = ("grad", "explicit", "jit", "jit_of_scan", "explicit_jit_of_vmap")


@pytest.mark.parametrize(
    "name, x64", [(name, False) for name in (*EAGER_EXACT, *COMPILED_EXACT)] + [(name, True) for name in WITH_X64]
)
def test_exact_bits(name, x64):
    """NumPy's, under every transformation, whatever JAX is set to."""
    given, expected = exact_case()
    with driver.precision("float64" if x64 else "float32"):
        for got, bits in zip({**EAGER_EXACT, **COMPILED_EXACT}[name](*given), expected, strict=False):
            assert (got.dtype, got.shape) == (jnp.float32, bits.shape)
            np.testing.assert_array_equal(got, bits)


@pytest.mark.parametrize("classes", [2, 1009, 8192])
def test_exact_bits_of_many_entries(classes):
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 6, (4, 1 << 16 >> classes.bit_length(), classes)).astype("float32")
    y = rng.integers(0, classes, z.shape[:2]).astype("int32")
    z[1], y[2] = z[1] + 1e4, z[2].argmax(-1)
    w = rng.uniform(0, 2, y.shape).astype("float32")
    expected = seqloss.sequence_loss_and_grad(z, y, w, exact=True)
    for got, bits in zip(
        seqloss.sequence_loss_and_grad(*map(jnp.asarray, (z, y, w)), exact=True), expected, strict=True
    ):
        np.testing.assert_array_equal(got, bits)


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_exact_gradients_of_half_precision_are_rounded_once(dtype, digits):
    """Beside a tie of the narrow dtype, nearer than float32 can tell; and where float32 has no normal numbers."""
    unit, near = 2.0 ** (1 - digits), 2.0**-40
    x = [1 + unit / 2 - near, 1 + unit / 2, 1 + unit / 2 + near, -1 - unit / 2 - near, 0.999 * 2.0**-126]
    with driver.precision("float64"):
        got = numbers.narrowed(jnp.asarray(x, "float64"), jnp.dtype(dtype))
        assert got.dtype == dtype
        np.testing.assert_array_equal(np.asarray(got, "float64"), [1, 1, 1 + unit, -1 - unit, 0])


def seen_dtypes(jaxpr):
    """Of everything that the program itself computes, without the insides of its operations."""
    return {str(v.aval.dtype) for equation in jaxpr.jaxpr.eqns for v in equation.outvars}


def test_exact_hides_float64():
    (z, y, w), _ = exact_case()
    value, pull = jax.vjp(lambda z, w: exact_loss(z, y, w), z, w)
    leaves = [x for x in jax.tree.leaves((value, pull)) if hasattr(x, "dtype")]
    assert leaves and not any(x.dtype == "float64" for x in leaves)
    # Of size [batch, time, classes] the backward pass keeps the logits alone.
    assert [x.size for x in leaves if x.size >= z.size] == [z.size]
    # Not so for the gradient of a scan: JAX moves constants, of any depth, out of its loop.
    for function in (exact_loss, derived(exact_loss), derived(batched(exact_loss))):
        jaxpr = jax.make_jaxpr(function)(z, y, w)
        assert "float64" not in seen_dtypes(jaxpr)
        assert "f64" in str(jaxpr)  # deeper: it is there that it is computed


@pytest.mark.parametrize(
    "second", [lambda f: jax.jacrev(jax.grad(f)), jax.hessian, lambda f: jax.grad(lambda z: jax.grad(f)(z).sum())]
)
def test_exact_second_derivatives_are_refused(second):
    (z, y, w), _ = exact_case()
    with pytest.raises(seqloss.BackendError, match=r"^exact=True, and the linear loss, have only first derivatives"):
        second(lambda z: exact_loss(z, y, w))(z)


def test_exact_forward_mode_is_refused():
    (z, y, w), _ = exact_case()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda z: exact_loss(z, y, w), (z,), (z,))
