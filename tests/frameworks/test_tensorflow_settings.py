"""What can be switched on in TensorFlow: none of it may change a number."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.testing import cases, families

LOGITS = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).astype("float32")
TARGETS, WEIGHTS = np.array([[0, -100]]), np.array([[1.0, 0.0]], "float32")
SOFT = np.array([[[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]], "float32")

# --- no == on tensors -------------------------------------------------------------------------------------------------

KIT = str(Path(seqloss.testing.__file__).parent)
PACKAGE = str(Path(seqloss.__file__).parent)


@pytest.fixture
def compares_nothing(monkeypatch):
    """== and != on tensors fail in the package: where TensorFlow behaves as version 1, they ask for identity."""

    def refused(own):
        def compare(one, other):
            path = sys._getframe(1).f_code.co_filename
            assert not path.startswith(PACKAGE) or path.startswith(KIT), f"a tensor is compared in {path}"
            return own(one, other)

        return compare

    for name in ("__eq__", "__ne__"):
        monkeypatch.setattr(tf.Tensor, name, refused(getattr(tf.Tensor, name)))


ROWS = {}
for _row in families.FAMILIES:
    if "function" not in _row.refusals:
        ROWS.setdefault(_row.function, _row)


def in_graph(function, arrays):
    """Traced, with and without sizes, and with its gradient."""
    for shapes in ([x.shape for x in arrays], [[None] * x.shape.rank for x in arrays]):

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec(s, x.dtype) for s, x in zip(shapes, arrays, strict=True)]
        )
        def step(*arrays):
            floats = [x for x in arrays if x.dtype.is_floating]
            with tf.GradientTape() as tape:
                tape.watch(floats)
                value = function(*arrays)
            return value, tape.gradient(value, floats) if value.dtype.is_floating else None

        step.get_concrete_function()


@pytest.mark.parametrize("function", ROWS)
def test_no_tensors_are_compared_by_operators(compares_nothing, function):
    arrays = [tf.constant(x.astype("float32") if x.dtype == np.float64 else x) for x in ROWS[function].arrays()]
    ROWS[function].call(*arrays)
    in_graph(ROWS[function].call, arrays)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("flags", cases.FLAGS)
def test_no_tensors_of_a_sequence_are_compared_by_operators(compares_nothing, flags, exact):
    arrays = [tf.constant(x) for x in (LOGITS, TARGETS, WEIGHTS)]

    def loss(*arrays):
        return seqloss.sequence_loss(*arrays, **cases.FLAGS[flags], exact=exact)

    def explicit(*arrays):
        return seqloss.sequence_loss_and_grad(*arrays, **cases.FLAGS[flags], exact=exact, wrt=("logits", "weights"))[0]

    for function in (loss, explicit):
        function(*arrays)
        in_graph(function, arrays)


def test_the_check_sees_a_comparison(compares_nothing, monkeypatch):
    from seqloss.backends import tensorflow as backend

    program = compile("def equal(x1, x2):\n    return x1 == x2\n", f"{PACKAGE}/broken.py", "exec")
    names = {}
    exec(program, names)
    monkeypatch.setattr(backend, "equal", names["equal"])
    with pytest.raises(AssertionError, match="a tensor is compared in"):
        in_graph(seqloss.sequence_loss, [tf.constant(x) for x in (LOGITS, TARGETS, WEIGHTS)])


# --- no NaN on the way ----------------------------------------------------------------------------------------------


@pytest.fixture
def checks_numerics():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("ways", [lambda step: step, tf.function], ids=["eager", "function"])
def test_tokens_of_padding_make_no_nan(checks_numerics, ways, exact):
    @ways
    def step(z, y):
        with tf.GradientTape() as tape:
            tape.watch(z)
            losses = seqloss.token_loss(z, y, active=y >= 0, exact=exact)
        return losses, tape.gradient(losses, z)

    losses, gradient = step(tf.constant(LOGITS), tf.constant(TARGETS))
    np.testing.assert_array_equal([losses[0, 1], *gradient[0, 1]], 0)


def test_a_nan_that_is_returned_is_found(checks_numerics):
    """The test of the test above."""
    arrays = tf.constant(LOGITS), tf.constant(TARGETS), tf.ones_like(WEIGHTS)
    step = tf.function(lambda *arrays: seqloss.sequence_loss(*arrays, check_labels=False), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Detected Infinity or NaN"):
        step(*arrays)


# --- switches that cannot be switched off again -----------------------------------------------------------------------

PROGRAM = """
import numpy as np
import tensorflow as tf

{switch}
import seqloss
from seqloss.compat import tf1

logits = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).astype("float32")
targets, weights = np.array([[0, -100]]), np.array([[1.0, 0.0]], "float32")
soft = np.array([[[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]]], "float32")
LOSSES = {{
    "sequence": lambda z, y, w: seqloss.sequence_loss(z, y, w),
    "nothing": lambda z, y, w: seqloss.sequence_loss(z, y, 0 * w),
    "exact": lambda z, y, w: seqloss.sequence_loss(z, y, w, exact=True),
    "float64": lambda z, y, w: seqloss.sequence_loss(tf.cast(z, tf.float64), y, w),
    "sparse": lambda z, y, w: seqloss.sparse_softmax_cross_entropy(y, z, w),
    "soft": lambda z, y, w: seqloss.softmax_cross_entropy(soft, z, w),
    "tf1": lambda z, y, w: tf1.nn.softmax_cross_entropy_with_logits(labels=soft, logits=z)[0, 0],
    "mask": lambda z, y, w: tf.reduce_sum(w * seqloss.sequence_mask(tf.constant([1]), 2, dtype="float32")),
    "constants": lambda z, y, w: seqloss.sequence_loss(z, tf.constant([[0, -100]]), tf.constant([[1.0, 0.0]])),
}}


def value_and_slope(loss):
    with tf.GradientTape() as tape:
        z = tf.constant(logits)
        tape.watch(z)
        value = loss(z, tf.constant(targets), tf.constant(weights))
    return value, tape.gradient(value, z, unconnected_gradients="zero")


def in_session(loss):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        places = [v1.placeholder(x.dtype, [None] * x.ndim) for x in (logits, targets, weights)]
        value = loss(*places)
        slope, = v1.gradients(value, places[0], unconnected_gradients="zero")
        return session.run([value, slope], dict(zip(places, (logits, targets, weights))))


for name, loss in LOSSES.items():
    for way, run in {ways}.items():
        value, slope = (np.asarray(x) for x in run(loss))
        print(name, way, f"{{float(value):.5f}}", *np.abs(slope).ravel().round(4))
"""
TRACED = '{"eager": value_and_slope, "function": tf.function(value_and_slope, autograph=False)}'
SWITCHES = {
    # Two in one process, which have nothing to do with each other: operators of tensors, and kernels.
    "numpy_behaviour_and_determinism": (
        "import tensorflow.experimental.numpy as tnp\ntnp.experimental_enable_numpy_behavior()\n"
        "tf.keras.utils.set_random_seed(0)\ntf.config.experimental.enable_op_determinism()",
        TRACED,
    ),
    "numpy_behaviour_safe": (
        "import tensorflow.experimental.numpy as tnp\n"
        "tnp.experimental_enable_numpy_behavior(dtype_conversion_mode='safe')",
        TRACED,
    ),
    "version_1": ("tf.compat.v1.disable_v2_behavior()", '{"session": in_session}'),
    "version_1_eager": (
        "tf.compat.v1.disable_v2_behavior()\ntf.compat.v1.enable_eager_execution()",
        '{"eager": value_and_slope, "session": in_session}',
    ),
}
ROW = "0.2 0.1 0.1 0.0 0.0 0.0"
EXPECTED = {
    "sequence": f"0.22314 {ROW}",
    "nothing": "0.00000 0.0 0.0 0.0 0.0 0.0 0.0",
    "exact": f"0.22314 {ROW}",
    "float64": f"0.22314 {ROW}",
    "sparse": f"0.22314 {ROW}",
    "soft": "1.88670 0.6 0.2 0.4 0.0 0.0 0.0",
    "tf1": "1.88670 0.6 0.2 0.4 0.0 0.0 0.0",
    "mask": "1.00000 0.0 0.0 0.0 0.0 0.0 0.0",
    "constants": f"0.22314 {ROW}",
}


# Each is a process.
COVERED = {"version_1": pytest.mark.only_in_full("version_1_eager runs the same sessions after the same switch")}


@pytest.mark.parametrize("switch", [pytest.param(switch, marks=COVERED.get(switch, ())) for switch in SWITCHES])
def test_a_switch_for_the_whole_process(python, switch):
    """Here are SOFT and the README's batch, whose numbers a pocket calculator gives."""
    lines = python(PROGRAM.format(switch=SWITCHES[switch][0], ways=SWITCHES[switch][1])).splitlines()
    found = [line.split(maxsplit=2) for line in lines]
    assert {(name, rest) for name, _, rest in found} == set(EXPECTED.items())
    assert len(found) == len(EXPECTED) * SWITCHES[switch][1].count(":")
