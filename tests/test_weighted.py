"""The losses of ``tf.losses``: reductions, weights of every shape, masks, label smoothing."""

import functools
import inspect

import numpy as np
import pulled
import pytest

import seqloss
from seqloss import Reduction

pytestmark = pytest.mark.few_where_compiled

RNG = np.random.RandomState(13)
LOGITS = (RNG.randn(2, 3, 5) * 2).astype("float32")
LABELS = RNG.dirichlet(np.ones(5), (2, 3)).astype("float32")
IDS = RNG.randint(0, 5, (2, 3))
LOSSES = RNG.rand(2, 3).astype("float32")
WEIGHTS = np.array([[1, 0, 2], [0.5, -1, 0]], "float32")

KEYS = (
    *(Reduction.NONE, Reduction.SUM, Reduction.MEAN),
    Reduction.SUM_OVER_BATCH_SIZE,
    Reduction.SUM_BY_NONZERO_WEIGHTS,
)


def run(framework, function, *arrays, wrt=(0,), cotangent=None):
    """The value and its gradients, as NumPy arrays; those of NumPy by its pullbacks."""
    native = [framework.array(x) for x in arrays]
    cotangent = None if cotangent is None else framework.array(cotangent)
    with np.errstate(all="ignore"):
        value, gradients = framework.MODES["eager"](function, wrt)(native, cotangent)
        if gradients is None:
            _, gradients = pulled.value_and_gradients(function, native, wrt, cotangent)
    assert framework.is_array(value)
    return framework.to_numpy(value), *[framework.to_numpy(x) for x in gradients]


def reduced(losses, weights, key):
    """The definition, in wide floats."""
    losses, w = np.asarray(losses, np.longdouble), np.asarray(weights, np.longdouble)
    w = np.broadcast_to(w, losses.shape)
    weighted = np.where(w == 0, 0, losses * w)
    denominators = {
        Reduction.SUM: 1,
        Reduction.MEAN: w.sum(),
        Reduction.SUM_OVER_BATCH_SIZE: w.size,
        Reduction.SUM_BY_NONZERO_WEIGHTS: np.count_nonzero(w),
    }
    if key == Reduction.NONE:
        return weighted
    return weighted.sum() / denominators[key] if denominators[key] else np.longdouble(0)


def weighing(key):
    return functools.partial(seqloss.compute_weighted_loss, reduction=key)


# --- the keys ---------------------------------------------------------------------------------------------------------


def test_the_keys_are_those_of_tensorflow():
    assert Reduction.all() == (*KEYS[:4], Reduction.SUM_OVER_NONZERO_WEIGHTS, Reduction.SUM_BY_NONZERO_WEIGHTS)
    assert KEYS == (
        "none",
        "weighted_sum",
        "weighted_mean",
        "weighted_sum_over_batch_size",
        "weighted_sum_by_nonzero_weights",
    )
    for key in Reduction.all():
        Reduction.validate(key)


@pytest.mark.parametrize("key", ["mean", "NONE", None, 1, ["none"]])
def test_other_keys_are_refused(key):
    with pytest.raises(seqloss.OptionError, match="reduction must be one of 'none', 'weighted_sum', 'weighted_mean',"):
        Reduction.validate(key)
    with pytest.raises(seqloss.OptionError, match="take it from"):
        seqloss.compute_weighted_loss(LOSSES, reduction=key)


@pytest.mark.parametrize(
    ("function", "first", "smoothing"),
    [
        (seqloss.compute_weighted_loss, "losses", ""),
        (seqloss.softmax_cross_entropy, "onehot_labels, logits", "label_smoothing=0, "),
        (seqloss.sparse_softmax_cross_entropy, "labels, logits", ""),
        (seqloss.sigmoid_cross_entropy, "multi_class_labels, logits", "label_smoothing=0, "),
    ],
)
def test_signatures_are_those_of_tensorflow(function, first, smoothing):
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    expected = f"({first}, weights=1.0, {smoothing}scope=None, loss_collection='losses', "
    expected += "reduction='weighted_sum_by_nonzero_weights')"
    assert str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == expected


# --- reductions and weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(), (2, 3), (2, 1), (1, 3), (1, 1)])
def test_weights_are_broadcast(framework, shape, key):
    weights = np.array(WEIGHTS.ravel()[2 : 2 + int(np.prod(shape))].reshape(shape) if shape != (2, 3) else WEIGHTS)
    value, to_losses, to_weights = run(framework, weighing(key), LOSSES, weights, wrt=(0, 1))
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, reduced(LOSSES, weights, key).astype("float32"), rtol=1e-6)
    step = 1e-4

    def slope(losses, weights):
        """Of the sum of the result."""
        return np.asarray(reduced(losses, weights, key)).sum()

    for x, gradient, of in ((LOSSES, to_losses, slope), (weights, to_weights, lambda w, x: slope(x, w))):
        other = weights if x is LOSSES else LOSSES
        for place in np.ndindex(x.shape):
            if x is weights and x[place] == 0 and key == Reduction.SUM_BY_NONZERO_WEIGHTS:
                continue  # where the count jumps there is no slope to compare with
            up, down = (np.array(x, np.longdouble) for _ in range(2))
            up[place] += step
            down[place] -= step
            expected = (of(up, other) - of(down, other)) / (2 * step)
            np.testing.assert_allclose(gradient[place], float(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("weight", [1.0, 0.7, -2, 0.0, 0, True, 1e-39])
def test_a_number_is_a_weight(framework, weight, key):
    loss = framework.to_numpy(seqloss.compute_weighted_loss(framework.array(LOSSES), weight, reduction=key))
    active = weight if abs(weight) > 1e-38 else 0
    np.testing.assert_allclose(loss, reduced(LOSSES, active, key).astype("float32"), rtol=1e-6)
    array = np.array(weight, "float32")
    same = framework.to_numpy(seqloss.compute_weighted_loss(framework.array(LOSSES), array, reduction=key))
    np.testing.assert_allclose(same, loss, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint8", "float16", "float64"])
def test_weights_of_any_dtype(framework, dtype):
    weights = (np.abs(WEIGHTS) * 2).astype(dtype)
    for given in (framework.array(weights), weights, weights.tolist()):
        loss = seqloss.compute_weighted_loss(framework.array(LOSSES), given)
        assert framework.dtype(loss) == "float32"
        np.testing.assert_allclose(
            framework.to_numpy(loss), float(reduced(LOSSES, weights.astype(float), KEYS[4])), rtol=1e-6
        )


@pytest.mark.parametrize("key", KEYS[1:])
@pytest.mark.parametrize("weights", [np.zeros((2, 3)), np.zeros(()), np.array([[1, -1, 0], [2, -2, 0]])])
def test_a_denominator_of_zero_gives_zero(framework, weights, key):
    weights = weights.astype("float32")
    outcome = run(
        framework,
        weighing(key),
        *(np.full_like(LOSSES, 3), weights),
        wrt=(0, 1),
    )
    expected = reduced(np.full_like(LOSSES, 3), weights, key)
    assert outcome[0] == expected == 0
    if not weights.any() or key == Reduction.MEAN:
        np.testing.assert_array_equal(outcome[1], 0)
    if key == Reduction.MEAN or (key == Reduction.SUM_BY_NONZERO_WEIGHTS and not weights.any()):
        np.testing.assert_array_equal(outcome[2], 0)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(0,), (2, 0), ()])
def test_no_losses_and_a_single_one(framework, shape, key):
    losses = np.full(shape, 2, "float32")
    for weights in (1.0, framework.array(np.array(1, "float32")), framework.array(np.ones(shape, "float32"))):
        loss = framework.to_numpy(seqloss.compute_weighted_loss(framework.array(losses), weights, reduction=key))
        np.testing.assert_array_equal(loss, losses if key == Reduction.NONE else losses.sum())


def test_float64_keeps_its_precision(framework):
    losses = np.random.RandomState(1).rand(1000)
    with framework.precision("float64"):
        for key in KEYS:
            loss = seqloss.compute_weighted_loss(framework.array(losses), 1 / 3, reduction=key)
            assert framework.dtype(loss) == "float64"
            np.testing.assert_allclose(framework.to_numpy(loss), reduced(losses, 1 / 3, key).astype(float), rtol=1e-14)


def test_half_precision_losses_are_reduced_in_float32(framework):
    losses = framework.array(np.full(70_000, 2, "float32"), "float16")
    loss = seqloss.compute_weighted_loss(losses, framework.array(np.ones(70_000, "float32"), "float16"))
    assert framework.dtype(loss) == "float32"
    np.testing.assert_allclose(framework.to_numpy(loss), 2, rtol=1e-6)


# --- the cross entropies ----------------------------------------------------------------------------------------------

ENTROPIES = {
    "softmax": (seqloss.softmax_cross_entropy, seqloss.softmax_cross_entropy_with_logits, LABELS),
    "sparse": (seqloss.sparse_softmax_cross_entropy, seqloss.sparse_softmax_cross_entropy_with_logits, IDS),
    "sigmoid": (seqloss.sigmoid_cross_entropy, seqloss.sigmoid_cross_entropy_with_logits, LABELS),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ENTROPIES)
def test_they_weigh_the_losses_of_tf_nn(framework, name, key):
    function, single, labels = ENTROPIES[name]
    y, z = framework.array(labels), framework.array(LOGITS)
    w = framework.array(WEIGHTS[..., None] if name == "sigmoid" else WEIGHTS)
    loss = function(y, z, w, scope="loss", loss_collection=None, reduction=key)
    expected = seqloss.compute_weighted_loss(single(y, z), w, reduction=key)
    np.testing.assert_array_equal(framework.to_numpy(loss), framework.to_numpy(expected))


@pytest.mark.parametrize("weights", ["array", "column", "bools", "numbers"])
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ENTROPIES)
def test_a_weight_of_zero_removes_what_is_not_finite(framework, name, junk, weights):
    function, _, labels = ENTROPIES[name]
    w = WEIGHTS if weights in ("array", "bools") else np.array([[0], [2]], "float32")
    w = w != 0 if weights == "bools" else np.zeros((), "float32") if weights == "numbers" else w
    masked = np.broadcast_to(w, (2, 3)) == 0
    w = w[..., None] if name == "sigmoid" and w.ndim else w
    dirty = np.where(masked[..., None], np.float32(junk), LOGITS)
    bad = np.where(masked, -100, labels) if name == "sparse" else np.where(masked[..., None], np.float32(junk), labels)
    given = 0.0 if weights == "numbers" else framework.array(w)
    for key in KEYS:
        loss = functools.partial(function, weights=given, reduction=key)
        clean = run(framework, loss, labels, LOGITS, wrt=(1,))
        value, gradient = run(framework, loss, bad, dirty, wrt=(1,))
        np.testing.assert_array_equal(value, clean[0])
        np.testing.assert_array_equal(gradient, np.where(masked[..., None], 0, clean[1]))


def test_labels_that_count_are_checked(framework):
    bad = IDS.copy()
    bad[1, 0] = -5
    with pytest.raises(
        seqloss.LabelError, match=r"labels\[1, 0\] is -5, outside \[0, 5\); give such positions weight 0"
    ):
        seqloss.sparse_softmax_cross_entropy(framework.array(bad), framework.array(LOGITS), [[1], [1]])


@pytest.mark.parametrize("weight, counts", [(2.0**-126, True), (2.0**-127, False)])
def test_the_smallest_weight_that_counts(framework, weight, counts):
    bad = np.full_like(IDS, -5)
    given = framework.array(bad), framework.array(LOGITS), weight
    if counts:
        with pytest.raises(seqloss.LabelError):
            seqloss.sparse_softmax_cross_entropy(*given)
    else:
        assert framework.to_numpy(seqloss.sparse_softmax_cross_entropy(*given)) == 0


@pytest.mark.parametrize("weights", [(2, 3), (2, 3, 1), (2, 1), (2, 1, 1), (1, 3, 1), ()])
@pytest.mark.parametrize("labels", [(2, 3), (2, 3, 1)])
def test_sparse_takes_a_last_axis_of_size_one_off(framework, labels, weights):
    w = np.array(1 + np.random.RandomState(2).rand(*weights), "float32")
    plain = w[..., 0] if w.ndim == 3 else w
    given, z = framework.array(IDS.reshape(labels)), framework.array(LOGITS)
    for key in KEYS:
        loss = seqloss.sparse_softmax_cross_entropy(given, z, framework.array(w), reduction=key)
        expected = seqloss.sparse_softmax_cross_entropy(framework.array(IDS), z, framework.array(plain), reduction=key)
        np.testing.assert_array_equal(framework.to_numpy(loss), framework.to_numpy(expected))


def test_one_hot_labels_are_class_ids(framework):
    one_hot = np.eye(5, dtype="int64")[IDS]
    with framework.precision("float64"):
        z = framework.array(LOGITS.astype("float64"))
        loss = seqloss.softmax_cross_entropy(framework.array(one_hot), z, WEIGHTS)
        expected = seqloss.sparse_softmax_cross_entropy(framework.array(IDS), z, WEIGHTS)
        np.testing.assert_allclose(framework.to_numpy(loss), framework.to_numpy(expected), rtol=1e-13)


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 1, np.float32(0.25)])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_label_smoothing_mixes_labels_with_a_constant(framework, name, smoothing):
    function, single, labels = ENTROPIES[name]
    constant = 0.5 if name == "sigmoid" else 0.2
    mixed = labels.astype("float64") * (1 - smoothing) + smoothing * constant
    with framework.precision("float64"):
        z = LOGITS.astype("float64")
        value, gradient = run(
            framework, lambda y, z: function(y, z, label_smoothing=smoothing, reduction="none"), labels, z, wrt=(1,)
        )
        expected, slope = run(framework, single, mixed, z, wrt=(1,))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0, 0.0, -0.5, -np.inf])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_label_smoothing_of_zero_or_less_is_none(framework, name, smoothing):
    function, _, labels = ENTROPIES[name]
    y, z = framework.array(labels), framework.array(LOGITS)
    np.testing.assert_array_equal(
        framework.to_numpy(function(y, z, label_smoothing=smoothing)), framework.to_numpy(function(y, z))
    )


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_gradients_to_labels(framework, name):
    """Those of softmax are constants, as in TensorFlow; those of sigmoid are not."""
    function, _, labels = ENTROPIES[name]
    native = [framework.array(labels), framework.array(LOGITS)]
    loss = functools.partial(function, reduction=Reduction.SUM)
    _, gradients = framework.MODES["eager"](loss, (0, 1))(native, None)
    for gradient in (gradients or ())[:1]:
        expected = -LOGITS if name == "sigmoid" else 0 * LOGITS
        np.testing.assert_allclose(framework.to_numpy(gradient), expected, rtol=1e-6)


def test_the_gradient_is_the_derivative_for_labels_of_any_sum(framework):
    labels = (LABELS * 3).astype("float32")
    _, gradient = run(
        framework, lambda y, z: seqloss.softmax_cross_entropy(y, z, reduction=Reduction.SUM), labels, LOGITS, wrt=(1,)
    )
    e = np.exp(LOGITS.astype("float64"))
    expected = labels.sum(-1, keepdims=True) * e / e.sum(-1, keepdims=True) - labels
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
