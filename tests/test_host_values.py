"""Lists, numbers and NumPy arrays beside the logits of each framework: placed there, never written into."""

import importlib
import re

import numpy as np
import pytest

import seqloss
from seqloss.testing import cases, families

pytestmark = pytest.mark.few_where_compiled

NO_FLAG = {"average_across_timesteps": False, "average_across_batch": False}
LOGITS, TARGETS, _ = cases.draw(2, 3, 5)
LOGITS = LOGITS.astype("float32")
WEIGHTS = np.array([[1, 1, 0], [0.5, 2, 0]])
BOTH = ("logits", "weights")


def frozen(x, dtype=None):
    """A read-only copy: a function that writes into it fails."""
    x = np.array(x, dtype)
    x.flags.writeable = False
    return x


def numbers(driver, results):
    """A loss with its gradients as dtypes, shapes and NumPy arrays."""
    loss, gradients = results
    assert all(driver.is_array(x) for x in (loss, *gradients))
    return [(driver.dtype(x), tuple(x.shape), driver.to_numpy(x)) for x in (loss, *gradients)]


def same(actual, expected):
    for (dtype, shape, values), (expected_dtype, expected_shape, expected_values) in zip(actual, expected, strict=True):
        assert (dtype, shape) == (expected_dtype, expected_shape)
        np.testing.assert_array_equal(values, expected_values)


FORMS = {
    "array": frozen,
    "list": lambda x: np.asarray(x).tolist(),
    "tuple": lambda x: tuple(map(tuple, np.asarray(x).tolist())),
    "list_of_arrays": lambda x: [frozen(line) for line in x],
    "list_of_scalars": lambda x: [list(line) for line in np.asarray(x)],
    "fortran_order": lambda x: np.asfortranarray(x),
    "every_second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "negative_strides": lambda x: np.ascontiguousarray(np.asarray(x)[::-1, ::-1])[::-1, ::-1],
    "big_endian": lambda x: np.asarray(x).astype(np.asarray(x).dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("form", FORMS)
def test_targets_and_weights_of_any_form(framework, form):
    """The same bits as with arrays of the framework."""
    logits = framework.array(LOGITS)
    expected = seqloss.sequence_loss_and_grad(
        logits, framework.array(TARGETS), framework.array(WEIGHTS, "float32"), wrt=BOTH
    )
    actual = seqloss.sequence_loss_and_grad(logits, FORMS[form](TARGETS), FORMS[form](WEIGHTS), wrt=BOTH)
    if framework.name == "numpy":
        # A NumPy array is no guest there: its gradient keeps its own dtype.
        loss, (d_logits, d_weights) = actual
        assert d_weights.dtype == np.float64
        actual = loss, (d_logits, d_weights.astype(np.float32))
    same(numbers(framework, actual), numbers(framework, expected))


def backwards(x):
    return np.ascontiguousarray(np.flip(x)).reshape(x.shape)[(slice(None, None, -1),) * x.ndim]


LAYOUTS = {
    "negative_strides": backwards,
    "fortran_order": np.asfortranarray,
    "every_second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "stride_0": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim else x,
    "read_only": frozen,
    "big_endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "unaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
}
# One row of each function that takes several arrays.
ROWS = {}
for _row in families.FAMILIES:
    if _row.wrt and "eager" not in _row.refusals and _row.function != "sequence_mask":
        ROWS.setdefault(_row.function, _row)
# The arrays that decide the framework of a call; the first one, where nothing else is said.
MAIN = {
    **dict.fromkeys(("sampled_softmax_loss", "nce_loss"), (3,)),
    **dict.fromkeys(("sequence_loss_by_example", "legacy.sequence_loss"), (0, 1, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", ROWS)
def test_arguments_of_any_layout(framework, function, layout):
    """Of every function, in the dtype that needs no cast."""
    row = ROWS[function]
    arrays = [x.astype("float32") if x.dtype == np.float64 else x for x in row.arrays()]
    main = MAIN.get(function, (0,))
    laid = [x if i in main else LAYOUTS[layout](x) for i, x in enumerate(arrays)]
    plain = [np.array(x, x.dtype.newbyteorder("=")) for x in laid]
    actual, expected = (
        row.call(*[framework.array(x) if i in main else x for i, x in enumerate(given)]) for given in (laid, plain)
    )
    assert framework.is_array(actual)
    np.testing.assert_array_equal(framework.to_numpy(actual), framework.to_numpy(expected))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_targets_of_any_integer_dtype(framework, dtype):
    loss = seqloss.sequence_loss(framework.array(LOGITS), frozen(TARGETS, dtype), WEIGHTS)
    assert framework.is_array(loss)
    expected = seqloss.sequence_loss(*(framework.array(x) for x in (LOGITS, TARGETS, WEIGHTS.astype("float32"))))
    np.testing.assert_array_equal(framework.to_numpy(loss), framework.to_numpy(expected))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_weights_of_any_dtype(framework, dtype):
    weights = frozen([[1, 1, 0], [0, 1, 1]], dtype)
    loss = seqloss.sequence_loss(framework.array(LOGITS), TARGETS, weights)
    assert (framework.is_array(loss), framework.dtype(loss)) == (True, "float32")
    expected = seqloss.sequence_loss(framework.array(LOGITS), TARGETS, weights.astype("float32"))
    np.testing.assert_array_equal(framework.to_numpy(loss), framework.to_numpy(expected))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_gradient_to_host_weights_has_the_dtype_of_the_loss(framework, dtype):
    with framework.precision(dtype):
        logits = framework.array(LOGITS, dtype)
        loss, (d_logits, d_weights) = seqloss.sequence_loss_and_grad(logits, TARGETS, WEIGHTS.tolist(), wrt=BOTH)
    compute = "float64" if dtype == "float64" else "float32"
    expected = [compute, dtype, "float64" if framework.name == "numpy" else compute]
    assert [framework.dtype(x) for x in (loss, d_logits, d_weights)] == expected


@pytest.mark.parametrize("weights", [np.ones((2, 3), "int64"), [[1, 1, 0], [1, 1, 1]], np.ones((2, 3), bool)])
def test_host_weights_that_are_no_floats_have_no_gradient(framework, weights):
    with pytest.raises(
        seqloss.DTypeError,
        match=r"wrt asks for the gradient with respect to weights, but they are (int64|bool), which has no gradient",
    ):
        seqloss.sequence_loss_and_grad(framework.array(LOGITS), TARGETS, weights, wrt="weights")


@pytest.mark.parametrize("cotangent", [WEIGHTS, WEIGHTS.tolist(), WEIGHTS.astype("float16"), (WEIGHTS * 2).astype(int)])
def test_cotangents(framework, cotangent):
    call = (framework.array(LOGITS), TARGETS)
    _, gradient = seqloss.sequence_loss_and_grad(*call, **NO_FLAG, cotangent=cotangent)
    placed = framework.array(np.asarray(cotangent, "float32"))
    _, expected = seqloss.sequence_loss_and_grad(*call, **NO_FLAG, cotangent=placed)
    same(numbers(framework, (gradient, ())), numbers(framework, (expected, ())))


@pytest.mark.parametrize("cotangent", [2, 2.0, np.float64(2), np.array(2.0)], ids=repr)
def test_a_number_as_the_cotangent_of_a_scalar_loss(framework, cotangent):
    call = (framework.array(LOGITS), TARGETS, WEIGHTS)
    _, gradient = seqloss.sequence_loss_and_grad(*call, cotangent=cotangent)
    _, once = seqloss.sequence_loss_and_grad(*call)
    np.testing.assert_array_equal(framework.to_numpy(gradient), 2 * framework.to_numpy(once))


@pytest.mark.parametrize("label", [3, np.int64(3), np.uint64(3), np.int8(3), np.array(3)], ids=repr)
@pytest.mark.parametrize("active", [None, True, np.True_, np.array(True)], ids=repr)
def test_one_token(framework, label, active):
    loss = seqloss.token_loss(framework.array(LOGITS[0, 0]), label, active=active)
    assert (framework.is_array(loss), framework.dtype(loss), tuple(loss.shape)) == (True, "float32", ())
    expected = seqloss.token_loss(framework.array(LOGITS), np.full((2, 3), 3))
    np.testing.assert_array_max_ulp(framework.to_numpy(loss), framework.to_numpy(expected)[0, 0], 2)


def test_active_of_a_token_loss(framework):
    losses = seqloss.token_loss(framework.array(LOGITS), TARGETS, active=(WEIGHTS > 0).tolist())
    everywhere = framework.to_numpy(seqloss.token_loss(framework.array(LOGITS), TARGETS))
    np.testing.assert_array_equal(framework.to_numpy(losses), np.where(WEIGHTS > 0, everywhere, 0))


# --- labels: checked before they are narrowed, never wrapped --------------------------------------------------------

WIDE = [2**32 + 1, -(2**32) + 1, 2**31, 2**63 - 1, -(2**63), 2**63 + 1, 2**64 - 1]


def with_label(label):
    labels = np.zeros((2, 3), np.uint64 if label >= 2**63 else np.int64)
    labels[1, 1] = label
    return frozen(labels)


@pytest.mark.parametrize("label", WIDE)
def test_a_wide_label_that_counts_is_named(framework, label):
    with pytest.raises(seqloss.LabelError, match=re.escape(f"targets[1, 1] is {label}, outside [0, 5); ")):
        seqloss.sequence_loss(framework.array(LOGITS), with_label(label), WEIGHTS)


@pytest.mark.parametrize("label", WIDE)
def test_a_wide_label_is_nan_where_it_is_not_checked(framework, label):
    labels = with_label(label)
    losses, gradient = seqloss.sequence_loss_and_grad(
        framework.array(LOGITS), labels, np.ones((2, 3)), **NO_FLAG, check_labels=False
    )
    np.testing.assert_array_equal(np.isnan(framework.to_numpy(losses)), labels == label)
    rows = np.isnan(framework.to_numpy(gradient))
    np.testing.assert_array_equal(rows, np.broadcast_to((labels == label)[..., None], (2, 3, 5)))


@pytest.mark.parametrize("label", WIDE)
def test_a_wide_label_at_weight_zero_is_free(framework, label):
    weights = np.ones((2, 3))
    weights[1, 1] = 0
    loss, gradient = seqloss.sequence_loss_and_grad(framework.array(LOGITS), with_label(label), weights)
    clean, clean_gradient = seqloss.sequence_loss_and_grad(framework.array(LOGITS), with_label(0), weights)
    same(numbers(framework, (loss, (gradient,))), numbers(framework, (clean, (clean_gradient,))))


# --- nothing is written into, nothing is kept -----------------------------------------------------------------------


def test_host_arrays_are_not_changed(framework):
    """They are writable here, so that a write would not be refused."""
    host = [TARGETS.copy(), WEIGHTS.copy(), np.ones((2, 3))]
    before = [x.copy() for x in host]
    results = seqloss.sequence_loss_and_grad(
        framework.array(LOGITS), *host[:2], **NO_FLAG, cotangent=host[2], wrt=BOTH, check_labels=False
    )
    values = [x.copy() for *_, x in numbers(framework, results)]
    for x, copy in zip(host, before, strict=True):
        np.testing.assert_array_equal(x, copy)
        x[...] = 1
    for (*_, x), value in zip(numbers(framework, results), values, strict=True):
        np.testing.assert_array_equal(x, value, "a result that shares memory with an argument")


def test_a_call_of_host_values_runs_on_numpy(framework):
    """Whatever else the program has imported."""
    loss = seqloss.sequence_loss(LOGITS.tolist(), TARGETS.tolist(), WEIGHTS.tolist())
    assert (type(loss), loss.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(loss, seqloss.sequence_loss(LOGITS.astype("float64"), TARGETS, WEIGHTS))


@pytest.mark.parametrize("form", [list, tuple, np.array])
def test_lengths_run_on_numpy(form):
    mask = seqloss.sequence_mask(form([1, 3]))
    assert type(mask) is np.ndarray
    np.testing.assert_array_equal(mask, [[True, False, False], [True, True, True]])


# --- while tracing ----------------------------------------------------------------------------------------------------


def torch_compile(function):
    torch = importlib.import_module("torch")
    torch.compiler.reset()
    return torch.compile(function, backend="aot_eager")


TRACERS = {
    "numpy": lambda function: function,
    "torch": torch_compile,
    "tensorflow": lambda function: importlib.import_module("tensorflow").function(function),
    "jax": lambda function: importlib.import_module("jax").jit(function),
}


@pytest.mark.parametrize("form", ["array", "list"])
def test_host_values_in_a_traced_function(framework, form):
    targets, weights = FORMS[form](TARGETS), FORMS[form](WEIGHTS)

    def function(logits):
        return seqloss.sequence_loss(logits, targets, weights)

    loss = TRACERS[framework.name](function)(framework.array(LOGITS))
    assert (framework.is_array(loss), framework.dtype(loss), tuple(loss.shape)) == (True, "float32", ())
    expected = seqloss.sequence_loss(LOGITS, TARGETS, WEIGHTS)
    np.testing.assert_array_max_ulp(framework.to_numpy(loss), expected, 4)


def test_a_bad_host_label_in_a_traced_function_is_named(framework):
    """It can be read, although the logits cannot."""
    labels = with_label(9)

    def function(logits):
        return seqloss.sequence_loss(logits, labels, WEIGHTS)

    with pytest.raises(seqloss.LabelError, match=r"targets\[1, 1\] is 9, outside \[0, 5\); labels"):
        TRACERS[framework.name](function)(framework.array(LOGITS))
