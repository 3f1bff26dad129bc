"""sampled_softmax_loss and nce_loss in every framework and mode, against sums written out in NumPy."""

import inspect
import warnings

import numpy as np
import pytest
from sampled_cases import CLASSES, DIM, SAMPLED, draw, oracle, split

import seqloss
from seqloss import samplers, sampling
from seqloss.testing import frameworks

pytestmark = pytest.mark.few_where_compiled

LOSSES = {"softmax": sampling.sampled_softmax_loss, "nce": sampling.nce_loss}
SIZES = {"num_sampled": SAMPLED, "num_classes": CLASSES, "num_true": 2}
CLOSE = {"float32": {"rtol": 1e-5, "atol": 1e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}
# The kernels have tests of their own in every mode: here is one that is compiled, and one with unknown sizes.
TRACED = {
    "numpy": (),
    "torch": ("compile", "compile-dynamic", "func"),
    "tensorflow": ("function", "function-unknown-sizes", "function-unknown-rank", "xla"),
    "jax": ("jit", "checkpoint"),
}
FEWER = {"numpy": (), "torch": ("compile",), "tensorflow": ("function", "xla"), "jax": ("jit",)}
"""For what does not depend on how sizes are known."""
INDEX = {"dweights": 0, "dbiases": 1, "dinputs": 3}
WRT = tuple(INDEX.values())


ALL_MODES = ("test_every_mode", "test_the_recipe_for_large_vocabularies")


def pytest_generate_tests(metafunc):
    names = metafunc.config.getoption("--backends").split(",")
    if "mode" in metafunc.fixturenames:
        traced = TRACED if metafunc.function.__name__ in ALL_MODES else FEWER
        pairs = [(name, mode) for name in names for mode in ("eager", *traced[name])]
        metafunc.parametrize("name, mode", pairs, ids=["-".join(pair) for pair in pairs])


def place(driver, arrays, dtype=None):
    return [driver.array(x, dtype if x.dtype.kind == "f" else None) for x in arrays]


def dense(driver, x):
    """As a NumPy array: sparse gradients are added up."""
    if driver.name == "torch" and x.is_sparse:
        x = x.to_dense()
    if driver.name == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
    return driver.to_numpy(x)


def call(loss, **options):
    """The loss as a function of the arrays of ``draw``."""

    def function(weights, biases, labels, inputs, *values):
        return LOSSES[loss](weights, biases, labels, inputs, **{**SIZES, **options, "sampled_values": values})

    return function


def run(driver, mode, function, arrays, wrt=WRT, cotangent=None):
    """Value and gradients as NumPy arrays; no gradients on NumPy."""
    value, gradients = driver.MODES[mode](function, wrt)(arrays, cotangent)
    assert driver.is_array(value)
    return driver.to_numpy(value), None if gradients is None else [dense(driver, x) for x in gradients]


def agree(result, expected, dtype):
    assert (result.dtype.name, result.shape) == (dtype, expected.shape)
    np.testing.assert_allclose(result, expected, **CLOSE[dtype])


# --- values and gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_every_mode(name, mode, loss):
    """With several true classes, an accidental hit, and a candidate that was drawn twice."""
    driver, arrays = frameworks.load(name), draw()
    cotangent = np.array([0.5, -1.0, 2.0], "float32")
    expected = oracle(loss, arrays, cotangent)
    function = call(loss, remove_accidental_hits=True)
    value, gradients = run(driver, mode, function, place(driver, arrays), cotangent=driver.array(cotangent))
    agree(value, expected.loss, "float32")
    if gradients is not None:
        for gradient, wanted in zip(gradients, expected[1:], strict=True):
            agree(gradient, wanted, "float32")
            np.testing.assert_array_equal(gradient[wanted == 0], 0)


# Each two of the options in all four ways.
PAIRWISE = [(1, False, False), (1, True, True), (2, False, True), (2, True, False)]


@pytest.mark.parametrize("num_true, subtract, hits", PAIRWISE)
@pytest.mark.parametrize("loss", LOSSES)
def test_options(framework, loss, num_true, subtract, hits):
    with framework.precision("float64"):
        arrays = draw(4, num_true, seed=1, dtype="float64")
        options = {"remove_accidental_hits": hits, "subtract_log_q": subtract, "num_true": num_true}
        value, gradients = run(framework, "eager", call(loss, **options), place(framework, arrays, "float64"))
        expected = oracle(loss, arrays, None, hits, subtract)
        agree(value, expected.loss, "float64")
        for gradient, wanted in zip(gradients or (), expected[1:], strict=False):
            agree(gradient, wanted, "float64")


def test_the_defaults_are_those_of_tensorflow():
    positional = ("weights", "biases", "labels", "inputs", "num_sampled", "num_classes", "num_true", "sampled_values")
    positional += ("remove_accidental_hits", "partition_strategy", "name")
    for loss, hits, more in (("softmax", True, ("seed", "subtract_log_q")), ("nce", False, ("subtract_log_q", "seed"))):
        parameters = inspect.signature(LOSSES[loss]).parameters
        assert tuple(parameters) == (*positional, *more)
        assert parameters["remove_accidental_hits"].default is hits
        kinds = [p.kind.name for p in parameters.values()]
        assert kinds.count("KEYWORD_ONLY") == (1 if loss == "softmax" else 2)
        defaults = {key: p.default for key, p in parameters.items() if p.default is not p.empty}
        del defaults["remove_accidental_hits"]
        nothing = dict.fromkeys(("sampled_values", "name", "seed"))
        assert defaults == {**nothing, "num_true": 1, "partition_strategy": "mod", "subtract_log_q": True}


def test_candidates_are_drawn_by_the_log_uniform_sampler(framework):
    weights, biases, labels, inputs, *_ = place(framework, draw())
    drawn = samplers.log_uniform_candidate_sampler(labels, 2, SAMPLED, True, CLASSES, seed=3)
    for loss in LOSSES.values():
        given = loss(weights, biases, labels, inputs, **SIZES, sampled_values=drawn)
        own = loss(weights, biases, labels, inputs, **SIZES, seed=3)
        np.testing.assert_array_equal(framework.to_numpy(own), framework.to_numpy(given))
        assert (
            framework.to_numpy(loss(weights, biases, labels, inputs, **SIZES, seed=4)) != framework.to_numpy(own)
        ).any()


def test_all_classes_as_candidates_give_the_full_loss(framework):
    weights, biases, labels, inputs, *_ = draw(num_true=1)
    values = samplers.all_candidate_sampler(framework.array(labels), 1, CLASSES, True)
    loss = sampling.sampled_softmax_loss(
        *place(framework, (weights, biases, labels, inputs)), CLASSES, CLASSES, sampled_values=values
    )
    full = seqloss.token_loss(inputs @ weights.T + biases, labels[:, 0])
    np.testing.assert_allclose(framework.to_numpy(loss), full, rtol=1e-5)


# --- dtypes and hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_dtypes(framework, loss, dtype):
    """The loss is of the dtype of inputs, at least float32; each gradient of that of its argument; no NaN at a hit."""
    if dtype not in framework.DTYPES:
        dtype = "float16"
    with framework.precision(dtype):
        arrays = place(framework, draw(), dtype)
        exact = [framework.to_numpy(x) for x in arrays]
        exact[5:] = [x.astype("float32") for x in exact[5:]]
        expected = oracle(loss, exact)
        value, gradients = framework.MODES["eager"](call(loss, remove_accidental_hits=True), (0, 1, 3))(arrays, None)
        agree(framework.to_numpy(value), expected.loss, "float64" if dtype == "float64" else "float32")
        for gradient, wanted in zip(gradients or (), expected[1:], strict=False):
            assert framework.dtype(gradient) == dtype
            step = {"float16": 2**-10, "bfloat16": 2**-7, "float64": 1e-12}[dtype]
            np.testing.assert_allclose(dense(framework, gradient), wanted, rtol=4 * step, atol=4 * step)


@pytest.mark.parametrize("inputs_dtype, weights_dtype", [("float16", "float32"), ("float32", "float16")])
def test_dtypes_that_differ(framework, inputs_dtype, weights_dtype):
    arrays = place(framework, draw(), weights_dtype)
    arrays[3] = framework.array(draw()[3], inputs_dtype)
    value, gradients = framework.MODES["eager"](call("softmax"), (0, 1, 3))(arrays, None)
    expected = oracle("softmax", [framework.to_numpy(x) for x in arrays])
    np.testing.assert_allclose(framework.to_numpy(value), expected.loss, rtol=1e-3)
    assert framework.dtype(value) == "float32"
    if gradients is not None:
        assert [framework.dtype(x) for x in gradients] == [weights_dtype, weights_dtype, inputs_dtype]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_default_sampler_serves_every_dtype(framework, dtype):
    with framework.precision(dtype):
        arrays = place(framework, draw(), dtype)[:4]
        value = sampling.nce_loss(*arrays, **SIZES, seed=1)
        assert framework.dtype(value) == ("float64" if dtype == "float64" else "float32")
        assert np.isfinite(framework.to_numpy(value)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ids_of_every_integer_dtype(framework, dtype):
    """300 classes: more than a byte can name, so that none may be compared in a narrow dtype."""
    with framework.precision("float64"):  # in JAX it brings 64-bit integers
        rng = np.random.default_rng(0)
        arrays = draw(num_true=1)
        arrays[:2] = rng.normal(size=(300, DIM)).astype("float32"), np.zeros(300, "float32")
        expected = oracle("softmax", arrays)
        arrays[2], arrays[4] = arrays[2].astype(dtype), arrays[4].astype(dtype)
        value, _ = run(framework, "eager", call("softmax", num_true=1, num_classes=300), place(framework, arrays))
        agree(value, expected.loss, "float32")


def test_host_values(framework):
    """Everything but the inputs may be lists or NumPy arrays."""
    arrays = draw()
    expected = oracle("softmax", arrays)
    for host in (lambda x: x, np.ndarray.tolist):
        weights, biases, labels, _, *values = (host(x) for x in arrays)
        inputs = framework.array(arrays[3])
        value = sampling.sampled_softmax_loss(weights, biases, labels, inputs, **SIZES, sampled_values=values)
        assert framework.is_array(value)
        agree(framework.to_numpy(value), expected.loss, "float32")


def test_an_empty_batch(framework):
    value, gradients = run(framework, "eager", call("nce"), place(framework, draw(0)))
    agree(value, np.zeros(0), "float32")
    for gradient, shape in zip(gradients or (), ((CLASSES, DIM), (CLASSES,), (0, DIM)), strict=False):
        agree(gradient, np.zeros(shape), "float32")


# --- what must have no part -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_removed_candidate_has_no_part_whatever_it_holds(framework, loss):
    """Candidate 5 is class 2, the only true class; its expected count is NaN, and the loss is that without it."""
    arrays = draw(num_true=1)
    arrays[2][:], arrays[4][:] = 2, [0, 1, 3, 4, 5, 2]
    arrays[5][:] = 1
    arrays[6][5] = np.nan
    less = [*arrays[:4], arrays[4][:5], arrays[5], arrays[6][:5]]
    value, gradients = run(
        framework, "eager", call(loss, num_true=1, remove_accidental_hits=True), place(framework, arrays)
    )
    expected = oracle(loss, less)
    agree(value, expected.loss, "float32")
    for gradient, wanted in zip(gradients or (), expected[1:], strict=False):
        agree(gradient, wanted, "float32")


@pytest.mark.parametrize("count", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("loss", LOSSES)
def test_an_expected_count_that_is_not_positive(framework, loss, count):
    arrays = draw()
    arrays[5][1, 0] = count
    value, _ = run(framework, "eager", call(loss), place(framework, arrays))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    arrays[6][2] = count
    value, _ = run(framework, "eager", call(loss), place(framework, arrays))
    assert np.isnan(value).all()
    value, _ = run(framework, "eager", call(loss, subtract_log_q=False), place(framework, arrays))
    assert np.isfinite(value).all()


@pytest.mark.parametrize("bad", [-100, CLASSES])
def test_a_label_that_is_no_class_while_tracing(name, mode, bad):
    """NaN in the loss and in the gradient of the inputs of that example; the others, weights and biases do not know."""
    driver, arrays = frameworks.load(name), draw()
    expected = oracle("softmax", [x[[0, 2]] if i in (2, 3, 5) else x for i, x in enumerate(arrays)])
    arrays[2][1, 1] = bad
    if mode == "eager":
        with pytest.raises(seqloss.LabelError, match=rf"labels\[1, 1\] is {bad}, outside \[0, {CLASSES}\)"):
            call("softmax")(*place(driver, arrays))
        return
    value, gradients = run(driver, mode, call("softmax"), place(driver, arrays))
    agree(value, np.insert(expected.loss, 1, np.nan), "float32")
    dweights, dbiases, dinputs = gradients
    agree(dweights, expected.dweights, "float32")
    agree(dbiases, expected.dbiases, "float32")
    agree(dinputs, np.insert(expected.dinputs, 1, np.nan, axis=0), "float32")


def test_a_candidate_that_is_no_class_while_tracing(name, mode):
    driver, arrays = frameworks.load(name), draw()
    arrays[4][2] = CLASSES
    if mode == "eager":
        with pytest.raises(seqloss.LabelError, match=rf"sampled\[2\] is {CLASSES}, outside \[0, {CLASSES}\)"):
            call("nce")(*place(driver, arrays))
        return
    value, gradients = run(driver, mode, call("nce"), place(driver, arrays))
    assert np.isnan(value).all()
    assert [np.isnan(x).all() for x in gradients] == [False, False, True]
    np.testing.assert_array_equal(gradients[0], 0)
    np.testing.assert_array_equal(gradients[1], 0)


# --- shards ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shards, strategy", [(1, "mod"), (2, "mod"), (2, "div"), (4, "div"), (5, "div"), (11, "mod"), (11, "div")]
)
def test_shards(framework, shards, strategy):
    """The same values, and each shard has the gradient of its rows. Of 11 shards of 9 classes two are empty."""
    arrays = draw()
    expected = oracle("softmax", arrays)
    check_shards(framework, "eager", arrays, expected, shards, strategy)


@pytest.mark.parametrize("shards, strategy", [(2, "mod"), (4, "div")])
def test_shards_in_every_mode(name, mode, shards, strategy):
    arrays = draw()
    check_shards(frameworks.load(name), mode, arrays, oracle("softmax", arrays), shards, strategy)


def check_shards(driver, mode, arrays, expected, shards, strategy):
    """The biases are in one shard more, because each argument is parted by itself."""
    parts = [*split(arrays[0], shards, strategy), *split(arrays[1], shards + 1, strategy)]
    many = len(parts)

    def function(*arrays):
        weights, biases, rest = list(arrays[:shards]), tuple(arrays[shards:many]), arrays[many:]
        return call("softmax", partition_strategy=strategy)(weights, biases, *rest)

    given = place(driver, [*parts, *arrays[2:]])
    used = [i for i, part in enumerate(parts) if len(part)]
    value, gradients = run(driver, mode, function, given, tuple(used))
    agree(value, expected.loss, "float32")
    if gradients is not None:
        wanted = [*split(expected.dweights, shards, strategy), *split(expected.dbiases, shards + 1, strategy)]
        for gradient, i in zip(gradients, used, strict=True):
            agree(gradient, wanted[i], "float32")


# --- with sequence_loss ---------------------------------------------------------------------------------------------


def test_the_recipe_for_large_vocabularies(name, mode):
    """Hidden states for logits, masked tokens that hold NaN and label -100, gradients to weights, biases and states."""
    driver = frameworks.load(name)
    weights, biases, labels, states, sampled, _, of_sampled = draw(6, 1)
    counts = np.linspace(0.1, 0.9, CLASSES).astype("float32")
    mask = np.array([[1, 1, 0], [0.5, 0, 2]], "float32")
    targets, active = labels.reshape(2, 3).copy(), mask.reshape(-1) != 0
    of_true = counts[labels]
    factor = mask.reshape(-1) / mask.sum()
    expected = oracle(
        "softmax",
        (weights, biases, labels[active], states[active], sampled, of_true[active], of_sampled),
        factor[active],
    )
    hidden = states.reshape(2, 3, DIM).copy()
    hidden[0, 2], targets[0, 2], targets[1, 1] = np.nan, -100, -100
    of_true[~active] = 0.5
    options = {"num_sampled": SAMPLED, "num_classes": CLASSES}

    def function(weights, biases, targets, hidden, sampled, of_true, of_sampled, mask):
        def sampled_loss(labels, logits):
            values = sampled, of_true, of_sampled
            return sampling.sampled_softmax_loss(
                weights, biases, labels[:, None], logits, **options, sampled_values=values
            )

        return seqloss.sequence_loss(hidden, targets, mask, softmax_loss_function=sampled_loss)

    arrays = place(driver, (weights, biases, targets, hidden, sampled, of_true, of_sampled, mask))
    value, gradients = run(driver, mode, function, arrays)
    np.testing.assert_allclose(value, (expected.loss * factor[active]).sum(), rtol=1e-5)
    if gradients is not None:
        dstates = np.zeros((6, DIM))
        dstates[active] = expected.dinputs
        agree(gradients[0], expected.dweights, "float32")
        agree(gradients[1], expected.dbiases, "float32")
        agree(gradients[2], dstates.reshape(2, 3, DIM), "float32")
        np.testing.assert_array_equal(gradients[2].reshape(6, DIM)[~active], 0)


def test_the_recipe_draws_its_own_candidates_eagerly(framework):
    weights, biases, labels, states, *_ = draw(6, 1)
    mask = np.array([[True, True, False], [True, False, True]])
    targets = np.where(mask, labels.reshape(2, 3), -100)
    arrays = place(framework, (states.reshape(2, 3, DIM), targets, mask, weights, biases))

    def sampled_loss(labels, logits):
        return sampling.sampled_softmax_loss(*arrays[3:], labels[:, None], logits, SAMPLED, CLASSES, seed=1)

    loss = seqloss.sequence_loss(*arrays[:3], softmax_loss_function=sampled_loss)
    flat = mask.reshape(-1)
    each = sampling.sampled_softmax_loss(
        weights, biases, np.where(flat[:, None], labels, 0), states, SAMPLED, CLASSES, seed=1
    )
    np.testing.assert_allclose(framework.to_numpy(loss), each[flat].mean(), rtol=1e-5)


# --- tests of the test ----------------------------------------------------------------------------------------------


def test_numpy_raises_no_warnings():
    arrays = draw()
    arrays[3][:] = 1e30
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in LOSSES:
            call(loss)(*arrays)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_of_the_oracle_are_those_of_its_values(loss):
    arrays = draw(dtype="float64")
    expected = oracle(loss, arrays)
    for index, gradient in zip(INDEX.values(), expected[1:], strict=True):
        direction = np.random.default_rng(index).normal(size=arrays[index].shape)
        steps = [
            oracle(loss, [x + h * direction if i == index else x for i, x in enumerate(arrays)]) for h in (1e-5, -1e-5)
        ]
        slope = (steps[0].loss.sum() - steps[1].loss.sum()) / 2e-5
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-7)
