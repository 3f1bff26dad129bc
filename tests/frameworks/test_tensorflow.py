"""What only TensorFlow has: variables, unknown sizes, XLA, vectorized_map, nested tapes, name scopes, saved models."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.testing import cases

NO_FLAG = {"average_across_timesteps": False, "average_across_batch": False}


def arrays(dtype="float64", shape=(2, 3, 5)):
    logits, targets, weights = cases.draw(*shape)
    return tf.constant(logits, dtype), tf.constant(targets), tf.constant(weights, dtype)


def plain_loss(z, y, w):
    """The same loss from TensorFlow's own pieces, for derivatives of any order."""
    nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)
    return tf.reduce_sum(nll * w) / tf.reduce_sum(w)


def gradient(loss, z, y, w, of=0):
    with tf.GradientTape() as tape:
        tape.watch((z, w))
        value = loss(z, y, w)
    return tf.convert_to_tensor(tape.gradient(value, (z, y, w)[of]))


def hessian(loss, z, y, w, of=0):
    """The derivative of d/dlogits with respect to an argument."""
    with tf.GradientTape() as outer:
        outer.watch((z, w))
        inner = gradient(loss, z, y, w)
    return outer.jacobian(inner, (z, y, w)[of])


def close(actual, expected, rtol=1e-10):
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-12)


EXECUTIONS = {"eager": lambda f: f, "function": tf.function, "xla": lambda f: tf.function(f, jit_compile=True)}


@pytest.fixture(params=EXECUTIONS)
def execution(request):
    """A way to run a function; ``indirect`` chooses some."""
    return EXECUTIONS[request.param]


# --- variables ------------------------------------------------------------------------------------------------------


def test_variables(execution):
    z, y, w = arrays()
    variables = [tf.Variable(x) for x in (z, y, w)]

    @execution
    def step():
        with tf.GradientTape() as tape:
            loss = seqloss.sequence_loss(*variables)
        return loss, tape.gradient(loss, variables[::2])

    loss, gradients = step()
    close(loss, plain_loss(z, y, w))
    for actual, argument in zip(gradients, (0, 2), strict=True):
        close(actual, gradient(plain_loss, z, y, w, of=argument))
    variables[0].assign(-z)
    close(step()[0], plain_loss(-z, y, w))


def test_variables_of_loss_and_grad(execution):
    z, y, w = arrays()
    variables = [tf.Variable(x) for x in (z, y, w)]
    loss, gradients = execution(lambda: seqloss.sequence_loss_and_grad(*variables, wrt=("logits", "weights")))()
    close(loss, plain_loss(z, y, w))
    close(gradients[0], gradient(plain_loss, z, y, w))
    close(gradients[1], gradient(plain_loss, z, y, w, of=2))


def test_a_tape_that_watches_nothing_sees_a_trainable_variable_only():
    z, y, w = arrays()
    fixed, free = tf.Variable(z, trainable=False), tf.Variable(w)
    with tf.GradientTape() as tape:
        loss = seqloss.sequence_loss(fixed, y, free)
    d_logits, d_weights = tape.gradient(loss, (fixed, free))
    assert d_logits is None
    close(d_weights, gradient(plain_loss, z, y, w, of=2))


# --- unknown sizes and ranks -----------------------------------------------------------------------------------------

SIZES = [
    tf.TensorSpec([None] * 3, tf.float64),
    tf.TensorSpec([None] * 2, tf.int64),
    tf.TensorSpec([None] * 2, tf.float64),
]
RANKS = [tf.TensorSpec(None, spec.dtype) for spec in SIZES]
TIME = [
    tf.TensorSpec([2, None, 5], tf.float64),
    tf.TensorSpec([2, None], tf.int64),
    tf.TensorSpec([None, 3], tf.float64),
]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("signature", [SIZES, RANKS, TIME], ids=["sizes", "ranks", "some"])
def test_one_graph_for_all_sizes(signature, jit_compile):
    step = tf.function(
        lambda *a: (seqloss.sequence_loss(*a), gradient(seqloss.sequence_loss, *a)),
        input_signature=signature,
        jit_compile=jit_compile,
    )
    for shape in ((2, 3, 5),) if signature is TIME else ((2, 3, 5), (4, 1, 2), (1, 6, 30)):
        loss, d_logits = step(*arrays(shape=shape))
        close(loss, plain_loss(*arrays(shape=shape)))
        close(d_logits, gradient(plain_loss, *arrays(shape=shape)))
    assert step.experimental_get_tracing_count() == 1


def edited(argument, change):
    changed = list(arrays())
    changed[argument] = change(changed[argument])
    return changed


DIFFERENT = {
    "weights_1_1": edited(2, lambda w: w[:1, :1]),
    "weights_row": edited(2, lambda w: w[:1]),
    "weights_transposed": edited(2, tf.transpose),
    "targets_transposed": edited(1, tf.transpose),
    "targets_short": edited(1, lambda y: y[:, :2]),
    "logits_short": edited(0, lambda z: z[:1]),
}


@pytest.mark.parametrize("function", [seqloss.sequence_loss, seqloss.sequence_loss_and_grad])
@pytest.mark.parametrize("which", DIFFERENT)
def test_sizes_that_differ_when_the_graph_runs(which, function):
    graph = tf.function(function, input_signature=SIZES)
    with pytest.raises(tf.errors.InvalidArgumentError, match="check that all three come from the same padded batch"):
        graph(*DIFFERENT[which])


@pytest.mark.parametrize("which", ["weights_1_1", "weights_row"])
def test_sizes_that_broadcast_are_nan_where_assertions_are_dropped(which):
    loss = tf.function(seqloss.sequence_loss, input_signature=SIZES, jit_compile=True)(*DIFFERENT[which])
    assert loss.shape == () and np.isnan(loss)


def test_gradients_are_nan_where_assertions_are_dropped():
    step = tf.function(seqloss.sequence_loss_and_grad, input_signature=SIZES, jit_compile=True)
    loss, d_logits = step(*DIFFERENT["weights_1_1"])
    assert (loss.shape, d_logits.shape) == ((), (2, 3, 5))
    assert np.isnan(loss) and np.isnan(d_logits).all()


@pytest.mark.parametrize("which", ["weights_transposed", "targets_transposed", "logits_short"])
def test_sizes_that_do_not_broadcast_are_refused_by_xla(which):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Incompatible shapes"):
        tf.function(seqloss.sequence_loss, input_signature=SIZES, jit_compile=True)(*DIFFERENT[which])


@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_rank_that_is_wrong_when_the_graph_runs(argument, jit_compile):
    graph = tf.function(seqloss.sequence_loss, input_signature=RANKS, jit_compile=jit_compile)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not compatible with expected shape"):
        graph(*edited(argument, lambda x: x[0]))


def test_known_sizes_are_compared_at_once():
    signature = [SIZES[0], SIZES[1], tf.TensorSpec([None], tf.float64)]
    with pytest.raises(
        seqloss.ShapeError, match=r"weights must have the shape \[batch, time\] = \[\?, \?\], got \[\?\]"
    ):
        tf.function(seqloss.sequence_loss, input_signature=signature).get_concrete_function()


@pytest.mark.parametrize("returned", ["short", "column"])
def test_a_custom_loss_of_another_size(returned):
    functions = {"short": lambda labels, logits: logits[1:, 0], "column": lambda labels, logits: logits[:, :1]}
    graph = tf.function(
        lambda *a: seqloss.sequence_loss(*a, softmax_loss_function=functions[returned]), input_signature=SIZES
    )
    error = {"short": tf.errors.InvalidArgumentError, "column": seqloss.ShapeError}[returned]
    with pytest.raises(error, match="softmax_loss_function must return one loss per token"):
        graph(*arrays())


# --- maps -------------------------------------------------------------------------------------------------------------


def test_map_fn(execution):
    z, y, w = arrays()
    batch = tf.stack([z, 2 * z, -z])
    actual = execution(lambda s: tf.map_fn(lambda z: seqloss.sequence_loss(z, y, w), s))(batch)
    close(actual, tf.stack([plain_loss(one, y, w) for one in batch]))


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_vectorized_map(argument):
    call = list(arrays())
    batch = tf.stack([call[argument], 4 - call[argument]])

    def one(loss, x):
        return loss(*call[:argument], x, *call[argument + 1 :])

    actual = tf.vectorized_map(lambda x: one(seqloss.sequence_loss, x), batch)
    close(actual, tf.stack([one(plain_loss, x) for x in batch]))


def test_vectorized_map_with_the_gradient_inside():
    z, y, w = arrays()
    actual = tf.vectorized_map(lambda z: gradient(seqloss.sequence_loss, z, y, w), tf.stack([z, -z]))
    close(actual, tf.stack([gradient(plain_loss, one, y, w) for one in (z, -z)]))


def test_vectorized_map_with_the_gradient_outside():
    """TensorFlow differentiates the forward operations then, and drops the pullback: finite rows are right."""
    z, y, w = arrays()
    dirty = tf.tensor_scatter_nd_update(z, [[0, 0]], [tf.fill([5], np.nan)])
    w = tf.tensor_scatter_nd_update(w, [[0, 0]], [0.0])
    total = gradient(
        lambda s, y, w: tf.reduce_sum(tf.vectorized_map(lambda z: seqloss.sequence_loss(z, y, w), s)),
        tf.stack([dirty, -z]),
        y,
        w,
    )
    close(total, tf.stack([gradient(plain_loss, one, y, w) for one in (z, -z)]))


# --- derivatives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", [0, 2])
@pytest.mark.parametrize("execution", ["eager", "function"], indirect=True)
def test_second_derivatives(execution, argument):
    z, y, w = arrays()
    actual = execution(lambda *a: hessian(seqloss.sequence_loss, *a, of=argument))(z, y, w)
    close(actual, hessian(plain_loss, z, y, w, of=argument))


def test_the_mixed_derivative_at_weight_zero():
    """d/dw d/dlogits at w = 0 is the gradient of that token's loss, not 0."""
    z, y, w = arrays()
    w = tf.tensor_scatter_nd_update(w, [[0, 0]], [0.0])
    mixed = hessian(seqloss.sequence_loss, z, y, w, of=2)
    close(mixed, hessian(plain_loss, z, y, w, of=2))
    assert np.abs(mixed[0, 0, :, 0, 0]).max() > 0.01


@pytest.mark.parametrize("execution", ["eager", "function"], indirect=True)
def test_second_derivative_with_a_masked_nan(execution):
    z, y, w = arrays()
    z = tf.tensor_scatter_nd_update(z, [[0, 0]], [tf.fill([5], np.nan)])
    w = tf.tensor_scatter_nd_update(w, [[0, 0]], [0.0])

    def squared(z, y, w):
        return tf.reduce_sum(gradient(seqloss.sequence_loss, z, y, w) ** 2)

    second = execution(lambda *a: gradient(squared, *a))(z, y, w).numpy()
    assert np.isfinite(second).all()
    assert (second[0, 0] == 0).all() and (second[0, 1] != 0).all()


def test_a_persistent_tape_gives_the_gradient_again():
    z, y, w = arrays()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((z, w))
        loss = seqloss.sequence_loss(z, y, w)
        losses = seqloss.sequence_loss(z, y, w, **NO_FLAG)
    for _ in range(2):
        close(tape.gradient(loss, z), gradient(plain_loss, z, y, w))
        close(tape.gradient(loss, w), gradient(plain_loss, z, y, w, of=2))
    close(tape.gradient(losses, z), gradient(plain_loss, z, y, w) * tf.reduce_sum(w))


def forward(loss, argument):
    """The derivative along the square of an argument."""
    call = arrays()
    with tf.autodiff.ForwardAccumulator(call[argument], call[argument] ** 2) as accumulator:
        value = loss(*call)
    return accumulator.jvp(value)


@pytest.mark.parametrize("argument", [0, 2])
def test_forward_mode(argument):
    close(forward(seqloss.sequence_loss, argument), forward(plain_loss, argument))


def test_forward_mode_in_a_function():
    """TensorFlow itself cannot push the logits through a custom gradient there."""
    close(tf.function(forward)(seqloss.sequence_loss, 2), forward(plain_loss, 2))
    with pytest.raises(TypeError):
        tf.function(forward)(seqloss.sequence_loss, 0)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_bad_label_is_an_error_eagerly_and_nan_in_a_function():
    z, y, w = arrays()
    y = tf.tensor_scatter_nd_update(y, [[1, 0]], [9])
    with pytest.raises(seqloss.LabelError, match=r"targets\[1, 0\] is 9, outside \[0, 5\); labels count from 0"):
        seqloss.sequence_loss(z, y, w)
    losses, d_logits = tf.function(lambda *a: seqloss.sequence_loss_and_grad(*a, **NO_FLAG))(z, y, w)
    bad = np.zeros((2, 3), bool)
    bad[1, 0] = True
    np.testing.assert_array_equal(np.isnan(losses), bad)
    np.testing.assert_array_equal(np.isnan(d_logits), np.broadcast_to(bad[..., None], d_logits.shape))


def test_labels_that_a_function_closes_over_are_checked():
    z, y, w = arrays()
    labels = tf.tensor_scatter_nd_update(y, [[0, 0]], [9])
    with pytest.raises(seqloss.LabelError, match=r"targets\[0, 0\] is 9"):
        tf.function(lambda z: seqloss.sequence_loss(z, labels, w))(z)


def test_check_labels_cannot_be_forced_in_a_function():
    with pytest.raises(seqloss.UnreadableError, match="check_labels=True must read targets and weights"):
        tf.function(lambda *a: seqloss.sequence_loss(*a, check_labels=True))(*arrays())


def test_check_labels_can_be_forced_in_a_py_function():
    """AutoGraph does not trace into it: tensors have values there."""
    z, y, w = arrays()
    check = tf.function(
        lambda *a: tf.py_function(lambda *a: seqloss.sequence_loss(*a, check_labels=True), a, tf.float64)
    )
    close(check(z, y, w), plain_loss(z, y, w))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"targets\[0, 0\] is 9, outside \[0, 5\)"):
        check(z, tf.fill([2, 3], tf.constant(9, tf.int64)), w)


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(execution, dtype):
    z, y, w = arrays(dtype)
    loss, (d_logits, d_weights) = execution(lambda *a: seqloss.sequence_loss_and_grad(*a, wrt=("logits", "weights")))(
        z, y, w
    )
    assert (loss.dtype, d_logits.dtype.name, d_weights.dtype.name) == (tf.float32, dtype, dtype)
    wide = [tf.cast(z, tf.float32), y, tf.cast(w, tf.float32)]
    close(loss, plain_loss(*wide), rtol=1e-5)
    rounding = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    np.testing.assert_allclose(tf.cast(d_logits, tf.float32), gradient(plain_loss, *wide), rtol=rounding, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_labels_of_any_dtype_with_more_classes_than_int8_holds(execution, dtype):
    z, y, w = arrays(shape=(2, 3, 300))
    y = y % 128 if dtype == "int8" else y % 256 if dtype == "uint8" else y
    loss = execution(seqloss.sequence_loss)(z, tf.cast(y, dtype), w)
    close(loss, plain_loss(z, y, w))


# --- graphs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [seqloss.sequence_loss, seqloss.sequence_loss_and_grad])
def test_name_is_a_scope(function):
    def operations(**options):
        graph = tf.function(lambda *a: function(*a, **options)).get_concrete_function(*SIZES).graph
        return [operation.name for operation in graph.get_operations() if operation.type != "Placeholder"]

    outside = [name for name in operations(name="my_loss") if not name.startswith("my_loss/")]
    assert len(outside) < 10 < len(operations(name="my_loss")), outside
    assert not any("my_loss" in name for name in operations())


class Exported(tf.Module):
    @tf.function(input_signature=SIZES)
    def loss(self, z, y, w):
        return seqloss.sequence_loss(z, y, w)

    @tf.function(input_signature=SIZES)
    def step(self, z, y, w):
        return seqloss.sequence_loss_and_grad(z, y, w)


def test_saved_model(tmp_path):
    """A reloaded model has the loss, its custom gradient and its assertions."""
    tf.saved_model.save(Exported(), tmp_path, options=tf.saved_model.SaveOptions(experimental_custom_gradients=True))
    loaded = tf.saved_model.load(tmp_path)
    z, y, w = arrays(shape=(4, 7, 11))
    loss, d_logits = loaded.step(z, y, w)
    close(loss, plain_loss(z, y, w))
    close(d_logits, gradient(plain_loss, z, y, w))
    close(loaded.loss(z, y, w), plain_loss(z, y, w))
    close(gradient(loaded.loss, z, y, w), gradient(plain_loss, z, y, w))
    with pytest.raises(tf.errors.InvalidArgumentError, match="check that all three come from the same padded batch"):
        loaded.loss(z, y, w[:1])


# --- inputs that are not dense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["eager", "function"], indirect=True)
@pytest.mark.parametrize(("argument", "name"), list(enumerate(("logits", "targets", "weights"))))
def test_sparse_tensors_are_refused(execution, argument, name):
    form = f"a SparseTensor, not a dense array; pass tf.sparse.to_dense({name})"
    with pytest.raises(seqloss.ArgumentTypeError) as caught:
        execution(seqloss.sequence_loss)(*edited(argument, tf.sparse.from_dense))
    assert f"{name} is {form} and give the tokens that it leaves out weight 0" in str(caught.value)


@pytest.mark.parametrize("execution", ["eager", "function"], indirect=True)
@pytest.mark.parametrize("argument", [0, 1, 2])
def test_one_ragged_tensor_among_dense_ones_is_refused(execution, argument):
    name = ("logits", "targets", "weights")[argument]
    text = f"{name} are ragged but {'logits' if argument else 'targets'} are not; pass all of them in one form"
    with pytest.raises(seqloss.ArgumentTypeError) as caught:
        execution(seqloss.sequence_loss)(*edited(argument, tf.RaggedTensor.from_tensor))
    assert text in str(caught.value)


def test_strings_are_refused():
    z, _, w = arrays()
    with pytest.raises(seqloss.DTypeError, match="targets must be integer class labels, got string"):
        seqloss.sequence_loss(z, tf.fill([2, 3], "a"), w)


@pytest.mark.parametrize("wrong", [[3.0], [3.0, 3.0, 3.0]])
def test_a_cotangent_of_the_wrong_size_is_noticed_when_the_graph_runs(wrong):
    logits, targets, weights = cases.draw(2, 3, 5)

    def gradient(z, y, w, g):
        return seqloss.sequence_loss_and_grad(z, y, w, average_across_batch=False, cotangent=g)[1]

    arrays = [tf.constant(logits), tf.constant(targets), tf.constant(weights), tf.constant(wrong, tf.float64)]
    traced = tf.function(gradient, input_signature=[tf.TensorSpec([None] * x.shape.rank, x.dtype) for x in arrays])
    with pytest.raises(tf.errors.InvalidArgumentError, match="cotangent must have the shape of the loss"):
        traced(*arrays)
