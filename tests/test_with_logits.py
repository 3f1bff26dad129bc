"""The cross entropies of ``tf.nn``: accuracy, extremes, second derivatives, and what must not change a result."""

import importlib

import numpy as np
import pulled
import pytest

import seqloss
from seqloss.testing import oracle, tolerances

pytestmark = pytest.mark.few_where_compiled

MARGINS = np.arange(20, 80.5, 0.5)
RNG = np.random.RandomState(11)
LOGITS = RNG.randn(2, 3, 5) * 2
LABELS = RNG.dirichlet(np.ones(5), (2, 3))
IDS = RNG.randint(0, 5, (2, 3))

sparse = seqloss.sparse_softmax_cross_entropy_with_logits
soft = seqloss.softmax_cross_entropy_with_logits
sigmoid = seqloss.sigmoid_cross_entropy_with_logits
weighted = seqloss.weighted_cross_entropy_with_logits


def run(framework, function, labels, logits, *rest, wrt=(1,), cotangent=None):
    """The value and its gradients to inputs in the order of the function, as NumPy arrays."""
    native = [x if isinstance(x, float) else framework.array(x) for x in (labels, logits, *rest)]
    cotangent = None if cotangent is None else framework.array(cotangent)
    # Infinities and NaN are results here; NumPy alone warns when arithmetic meets them.
    with np.errstate(all="ignore"):
        value, gradients = framework.MODES["eager"](function, wrt)(native, cotangent)
        if gradients is None:
            _, gradients = pulled.value_and_gradients(function, native, wrt, cotangent)
    assert framework.is_array(value)
    return framework.to_numpy(value), *[framework.to_numpy(x) for x in gradients]


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("classes", [2, 17, 1000])
def test_one_hot_labels_keep_full_accuracy(framework, classes, sign):
    rng = np.random.RandomState(classes)
    logits = rng.uniform(-3, 3, (len(MARGINS), classes))
    ids = rng.randint(0, classes, len(MARGINS))
    one_hot = np.eye(classes, dtype="float32")[ids]
    highest = np.where(one_hot == 1, -np.inf, logits).max(-1)
    logits = np.where(one_hot == 1, (highest + sign * MARGINS)[:, None], logits).astype("float32")
    expected, bound = oracle.tokens(logits, ids), tolerances.token_bound(logits)
    value, gradient = run(framework, soft, one_hot, logits)
    assert (value.dtype, gradient.dtype) == ("float32", "float32")
    assert tolerances.excess(value, expected.nll, "float32", bound).max() <= 1
    assert tolerances.excess(gradient, expected.slope, "float32", bound[:, None]).max() <= 1
    assert (gradient[one_hot == 1] < 0).all()
    other = framework.to_numpy(sparse(framework.array(ids), framework.array(logits)))
    assert tolerances.excess(value, other, "float32", bound).max() <= 1


@pytest.mark.parametrize("pos_weight", [None, 0.3, 2.5])
@pytest.mark.parametrize("label", [0, 1])
def test_sure_classes_keep_full_accuracy(framework, label, pos_weight):
    logits = np.concatenate([-MARGINS, MARGINS]).astype("float32")
    labels = np.full_like(logits, label)
    rest = () if pos_weight is None else (pos_weight,)
    value, gradient = run(framework, sigmoid if pos_weight is None else weighted, labels, logits, *rest)
    x = logits.astype(np.longdouble) * (-1 if label else 1)
    factor = np.longdouble(np.float32(pos_weight or 1)) if label else np.longdouble(1)
    tail = np.log1p(np.exp(-np.abs(x)))
    assert tolerances.ulps(value, factor * (np.maximum(x, 0) + tail), "float32").max() <= tolerances.TIGHT_ULPS
    slope = factor * np.where(x >= 0, 1, np.exp(np.minimum(x, 0))) / (1 + np.exp(-np.abs(x)))
    assert tolerances.ulps(gradient, -slope if label else slope, "float32").max() <= tolerances.TIGHT_ULPS
    assert (gradient != 0).all()


def test_the_plain_formula_fails():
    """sigmoid(x) - z in the same dtype, so the test above can fail."""
    x = MARGINS.astype("float32")
    exact = -np.exp(-x.astype(np.longdouble)) / (1 + np.exp(-x.astype(np.longdouble)))
    assert tolerances.ulps(1 / (1 + np.exp(-x)) - np.float32(1), exact, "float32").max() > 1e4


# --- extremes ---------------------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("logits", "labels", "loss", "slopes"),
    [
        ((0, 0, -INF), (1, 0, 0), np.log(2), (-0.5, 0.5, 0)),
        ((0, 0, -INF), (0.5, 0.5, 0), np.log(2), (0, 0, 0)),
        ((0, 0, -INF), (0, 0, 1), INF, (0.5, 0.5, -1)),
        ((0, 0, -INF), (0, 0, 0), 0, (0, 0, 0)),
        ((INF, 0, 0), (1, 0, 0), NAN, (NAN,) * 3),
        ((0, NAN, 0), (1, 0, 0), NAN, (NAN,) * 3),
        ((-INF,) * 3, (1, 0, 0), NAN, (NAN,) * 3),
        ((3e38, -3e38, 0), (1, 0, 0), 0, (0, 0, 0)),
        ((1e4, 0, 0), (0, 1, 0), 1e4, (1, -1, 0)),
        ((0, 0, 0), (2, 1, 0), 3 * np.log(3), (-1, 0, 1)),
    ],
)
def test_extreme_logits_of_soft_labels(framework, logits, labels, loss, slopes):
    value, gradient = run(framework, soft, np.array([labels], "float32"), np.array([logits], "float32"))
    np.testing.assert_allclose(value[0], loss, rtol=1e-6)
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-6, atol=1e-7)


def test_a_cotangent_of_zero_removes_a_row(framework):
    logits = np.array([[NAN, 0, 0], [0, 1, 2]], "float32")
    labels = np.array([[1, 0, 0], [0, 1, 0]], "float32")
    _, gradient = run(framework, soft, labels, logits, cotangent=np.array([0, 1], "float32"))
    np.testing.assert_array_equal(gradient[0], 0)
    assert np.isfinite(gradient[1]).all()


@pytest.mark.parametrize(
    ("logit", "label", "loss", "slope"),
    [
        (INF, 1, 0, 0),
        (INF, 0, INF, 1),
        (INF, 0.5, INF, 0.5),
        (-INF, 0, 0, 0),
        (-INF, 1, INF, -1),
        (NAN, 1, NAN, NAN),
        (3e38, 1, 0, 0),
        (-3e38, 1, 3e38, -1),
        (0, 0, np.log(2), 0.5),
        (0, 1, np.log(2), -0.5),
    ],
)
@pytest.mark.parametrize("pos_weight", [None, 1.0])
def test_extreme_logits_of_classes(framework, pos_weight, logit, label, loss, slope):
    function = sigmoid if pos_weight is None else weighted
    rest = () if pos_weight is None else (pos_weight,)
    value, gradient = run(framework, function, np.array([label], "float32"), np.array([logit], "float32"), *rest)
    np.testing.assert_allclose(value[0], loss, rtol=1e-6)
    np.testing.assert_allclose(gradient[0], slope, rtol=1e-6)


# --- second derivatives -----------------------------------------------------------------------------------------------


def torch_products(function, labels, logits, direction):
    torch = importlib.import_module("torch")
    leaves = [torch.tensor(x, requires_grad=True) for x in (labels, logits)]
    assert torch.autograd.gradgradcheck(function, leaves)
    gradients = torch.autograd.grad(function(*leaves).sum(), leaves, create_graph=True)
    dot = sum((g * torch.tensor(v)).sum() for g, v in zip(gradients, direction, strict=True))
    return [x.numpy() for x in torch.autograd.grad(dot, leaves)]


def tensorflow_products(function, labels, logits, direction):
    tf = importlib.import_module("tensorflow")
    leaves = [tf.constant(x) for x in (labels, logits)]
    with tf.GradientTape() as outer:
        outer.watch(leaves)
        with tf.GradientTape() as inner:
            inner.watch(leaves)
            value = tf.reduce_sum(function(*leaves))
        gradients = inner.gradient(value, leaves)
        dot = sum(tf.reduce_sum(g * v) for g, v in zip(gradients, direction, strict=True))
    return [x.numpy() for x in outer.gradient(dot, leaves)]


def jax_products(function, labels, logits, direction):
    jax = importlib.import_module("jax")

    def total(labels, logits):
        return function(labels, logits).sum()

    rows = jax.hessian(total, (0, 1))(jax.numpy.asarray(labels), jax.numpy.asarray(logits))
    return [
        sum(np.tensordot(np.asarray(block), v, v.ndim) for block, v in zip(row, direction, strict=True)) for row in rows
    ]


def numpy_products(function, labels, logits, direction):
    return differences(lambda *x: pulled.value_and_gradients(function, x, (0, 1), None)[1], labels, logits, direction)


def differences(gradients, labels, logits, direction, step=1e-6):
    up, down = (
        gradients(*[x + s * step * v for x, v in zip((labels, logits), direction, strict=True)]) for s in (1, -1)
    )
    return [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]


PRODUCTS = {
    "numpy": numpy_products,
    "torch": torch_products,
    "tensorflow": tensorflow_products,
    "jax": jax_products,
}


def soft_gradients(labels, logits):
    """Of the sum of all losses, to labels and to logits."""
    e = np.exp(logits)
    p = e / e.sum(-1, keepdims=True)
    return -np.log(p), labels.sum(-1, keepdims=True) * p - labels


def class_gradients(labels, logits, q):
    s = 1 / (1 + np.exp(-logits))
    return (q - 1) * np.log1p(np.exp(-logits)) - logits, (1 - labels) * s - q * labels * (1 - s)


@pytest.mark.parametrize(
    ("function", "gradients"),
    [
        (soft, soft_gradients),
        (sigmoid, lambda y, z: class_gradients(y, z, 1)),
        (lambda y, z: weighted(y, z, 2.5), lambda y, z: class_gradients(y, z, 2.5)),
    ],
    ids=["soft", "sigmoid", "weighted"],
)
def test_second_derivatives(framework, function, gradients):
    direction = [np.random.RandomState(i).randn(*LOGITS.shape) for i in (1, 2)]
    with framework.precision("float64"):
        products = PRODUCTS[framework.name](function, LABELS * 2, LOGITS, direction)
    for product, expected in zip(products, differences(gradients, LABELS * 2, LOGITS, direction), strict=True):
        np.testing.assert_allclose(product, expected, rtol=1e-6, atol=1e-7)


# --- what must not change a result, and how it must change ------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_the_class_axis_is_moved(framework, axis):
    z, y = LOGITS.astype("float32"), LABELS.astype("float32")
    cotangent = np.linspace(1, 2, 6, dtype="float32").reshape(2, 3)
    value, d_labels, d_logits = run(framework, soft, y, z, wrt=(0, 1), cotangent=cotangent)
    place = axis % 3
    native = [framework.array(np.moveaxis(x, -1, place)) for x in (y, z)]
    moved, gradients = framework.MODES["eager"](lambda y, z: soft(y, z, axis), (0, 1))(
        native, framework.array(cotangent)
    )
    np.testing.assert_allclose(framework.to_numpy(moved), value, rtol=1e-6)
    for gradient, expected in zip(gradients or (), (d_labels, d_logits), strict=gradients is not None):
        np.testing.assert_allclose(framework.to_numpy(gradient), np.moveaxis(expected, -1, place), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 1, 5), (1, 1, 5), (2, 3, 1), (1, 1, 1)])
def test_labels_are_broadcast(framework, shape):
    z = LOGITS.astype("float32")
    small = np.random.RandomState(3).rand(*shape).astype("float32")
    value, d_labels, d_logits = run(framework, soft, small, z, wrt=(0, 1))
    full, d_full, d_same = run(framework, soft, np.broadcast_to(small, z.shape), z, wrt=(0, 1))
    np.testing.assert_array_equal(value, full)
    np.testing.assert_array_equal(d_logits, d_same)
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    np.testing.assert_allclose(d_labels, d_full.sum(axes, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (1, 1, 5), (2, 3, 5)])
def test_pos_weight_is_broadcast_from_the_last_axis(framework, shape):
    z, y = LOGITS.astype("float32"), LABELS.astype("float32")
    small = np.array(1 + np.random.RandomState(3).rand(*shape), "float32")
    value, gradient = run(framework, weighted, y, z, small)
    full, expected = run(framework, weighted, y, z, np.array(np.broadcast_to(small, z.shape)))
    np.testing.assert_array_equal(value, full)
    np.testing.assert_array_equal(gradient, expected)


def test_a_pos_weight_of_one_changes_nothing(framework):
    z, y = LOGITS.astype("float32"), LABELS.astype("float32")
    for one, other in zip(run(framework, sigmoid, y, z), run(framework, weighted, y, z, 1.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_loss_is_linear_in_the_labels(framework):
    with framework.precision("float64"):
        one, two = np.eye(5)[IDS], LABELS
        losses = [run(framework, soft, y, LOGITS)[0] for y in (one, two, 0.25 * one - 2 * two)]
    np.testing.assert_allclose(losses[2], 0.25 * losses[0] - 2 * losses[1], rtol=1e-12)


def test_a_shift_of_the_logits_changes_nothing(framework):
    with framework.precision("float64"):
        expected, shifted = (run(framework, soft, LABELS, LOGITS + shift) for shift in (0, 1e4))
    for one, other in zip(expected, shifted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


def test_two_classes_are_one_independent_class(framework):
    with framework.precision("float64"):
        x, y = LOGITS[..., 0], LABELS[..., 0]
        pair = run(framework, soft, np.stack([y, 1 - y], -1), np.stack([x, 0 * x], -1))
        value, gradient = run(framework, sigmoid, y, x)
    np.testing.assert_allclose(value, pair[0], rtol=1e-12)
    np.testing.assert_allclose(gradient, pair[1][..., 0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float64"])
def test_labels_of_any_dtype(framework, dtype):
    z, one_hot = LOGITS.astype("float32"), np.eye(5)[IDS]
    for function in (soft, sigmoid, lambda y, z: weighted(y, z, 2)):
        loss = function(framework.array(one_hot.astype(dtype)), framework.array(z))
        assert framework.dtype(loss) == "float32"
        expected = function(framework.array(one_hot.astype("float32")), framework.array(z))
        np.testing.assert_array_equal(framework.to_numpy(loss), framework.to_numpy(expected))


@pytest.mark.parametrize("function", [sparse, soft, sigmoid, weighted], ids=lambda f: f.__name__)
def test_half_precision_is_computed_in_float32(framework, function):
    labels = IDS if function is sparse else LABELS.astype("float32")
    rest = (2.5,) if function is weighted else ()
    for dtype in {"float16", "bfloat16"} & set(framework.DTYPES):
        half = framework.array(LOGITS.astype("float32"), dtype)
        widened = framework.to_numpy(half).astype("float32")
        native = [framework.array(labels), half]
        value, gradients = framework.MODES["eager"](lambda y, z: function(y, z, *rest), (1,))(native, None)
        assert framework.dtype(value) == "float32"
        expected = run(framework, function, labels, widened, *rest)[0]
        np.testing.assert_allclose(framework.to_numpy(value), expected, rtol=1e-6)
        assert [framework.dtype(g) for g in gradients or ()] == [dtype] * (framework.name != "numpy")


@pytest.mark.parametrize("function", [sparse, soft, sigmoid, weighted], ids=lambda f: f.__name__)
def test_host_values_are_placed_beside_the_logits(framework, function):
    labels = IDS if function is sparse else LABELS.astype("float32")
    rest = (np.full(5, 2.5),) if function is weighted else ()
    expected = run(framework, function, labels, LOGITS.astype("float32"), *rest)[0]
    logits = framework.array(LOGITS.astype("float32"))
    for host in (labels, labels.tolist()):
        loss = function(host, logits, *[x.tolist() for x in rest], name="loss")
        assert framework.is_array(loss)
        np.testing.assert_allclose(framework.to_numpy(loss), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5)])
def test_no_tokens(framework, shape):
    z = framework.array(np.zeros(shape, "float32"))
    for function in (soft, sigmoid):
        assert tuple(function(z, z).shape) == (shape if function is sigmoid else shape[:-1])
    assert tuple(sparse(framework.array(np.zeros(shape[:-1], "int64")), z).shape) == shape[:-1]


def test_a_single_token(framework):
    z = framework.array(np.zeros(4, "float32"))
    one_hot, label = framework.array(np.eye(4, dtype="float32")[1]), framework.array(np.array(1))
    for loss in (sparse(label, z), soft(one_hot, z), soft(one_hot, z, 0)):
        np.testing.assert_allclose(framework.to_numpy(loss), np.log(4), rtol=1e-6)
    odds = framework.array(np.array(0, "float32"))
    np.testing.assert_allclose(
        framework.to_numpy(sigmoid(framework.array(np.array(1.0, "float32")), odds)), np.log(2), 1e-6
    )
