"""Arrays that a compiled function closes over, and does not take: they have values while it is traced.

Every function, with each of its arrays closed over: labels of padding and masks in dtypes that have to be cast are
looked at as they are outside of the function, and come to the same numbers.
"""

import functools

import numpy as np
import pytest

import seqloss
from seqloss.compat import tf1, tfa
from seqloss.testing import families, frameworks

LOGITS = np.log(
    [[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0], [3.0, 2.0, 5.0]], [[2.0, 4.0, 4.0], [1.0, 1.0, 1.0], [1.0, 9.0, 1.0]]]
)
TARGETS = np.array([[0, 2, -100], [1, -100, -100]])


def _attached(logits, loss):
    """A loss that is detached, as something that a mode can differentiate."""
    return loss + 0 * logits[0, 0, 0]


PLAIN = {"average_across_timesteps": False, "average_across_batch": False}
LOSSES = {
    "sequence_loss": seqloss.sequence_loss,
    "sequence_loss-none": functools.partial(seqloss.sequence_loss, **PLAIN),
    "sequence_loss-exact": functools.partial(seqloss.sequence_loss, exact=True),
    "sequence_loss_and_grad": lambda z, y, w: _attached(z, seqloss.sequence_loss_and_grad(z, y, w)[0]),
    "sequence_loss_and_grad-exact": lambda z, y, w: _attached(
        z, seqloss.sequence_loss_and_grad(z, y, w, exact=True)[0]
    ),
    "tf1.contrib": tf1.contrib.seq2seq.sequence_loss,
    "tfa": tfa.seq2seq.sequence_loss,
    "sparse_softmax_cross_entropy": lambda z, y, w: seqloss.sparse_softmax_cross_entropy(y, z, w),
    "by_example": lambda z, y, w: seqloss.sequence_loss_by_example(
        [z[:, t] for t in range(3)], [y[:, t] for t in range(3)], [w[:, t] for t in range(3)]
    ),
}
DTYPES = ("bool", "int32", "float16", "bfloat16", "float32")
# Of each function the first row that has gradients.
ROWS = {}
for _row in families.FAMILIES:
    if _row.wrt and not _row.refusals:
        ROWS.setdefault(_row.function, _row)


def modes(driver, full):
    """The compiled modes; by default the one that is asked everything."""
    compiled = [mode for mode in driver.COMPILED if mode in driver.MODES]
    return (compiled if full else compiled[:1]) or ["eager"]


def pytest_generate_tests(metafunc):
    names, full = metafunc.config.getoption("--backends").split(","), metafunc.config.getoption("--full")
    rows = [(name, mode) for name in names for mode in modes(frameworks.load(name), full)]
    metafunc.parametrize(("driver_name", "mode"), rows, ids=["-".join(row) for row in rows])
    if "dtype" in metafunc.fixturenames:
        # A cast is the same in every function: each dtype with the first one, and with its share of the others.
        pairs = [(loss, dtype) for loss in LOSSES for dtype in DTYPES]
        if not full:
            pairs = [
                (loss, dtype) for i, loss in enumerate(LOSSES) for dtype in (DTYPES if i == 0 else DTYPES[i % 5 :][:1])
            ]
        metafunc.parametrize(("loss", "dtype"), pairs, ids=["-".join(pair) for pair in pairs])


def value(driver, mode, function, arrays, passed):
    """The value of a function that takes some of the arrays and closes over the others."""

    def some(*taken):
        merged = list(arrays)
        for place, x in zip(passed, taken, strict=True):
            merged[place] = x
        return function(*merged)

    return driver.to_numpy(driver.MODES[mode](some, (0,))([arrays[i] for i in passed], None)[0])


def test_labels_of_padding_and_a_mask(driver_name, mode, loss, dtype):
    if driver_name == "numpy" and dtype == "bfloat16":
        dtype = "float64"
    driver = frameworks.load(driver_name)
    weights = driver.array((TARGETS >= 0).astype("float32"), dtype)
    arrays = [driver.array(LOGITS, "float32"), driver.array(TARGETS, "int32"), weights]
    actual = value(driver, mode, LOSSES[loss], arrays, (0,))
    expected = LOSSES[loss](LOGITS.astype("float32"), TARGETS, (TARGETS >= 0).astype("float32"))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("function", ROWS)
def test_every_argument_of_a_function(driver_name, mode, function, pytestconfig):
    """All but the first at once, which decides the framework; and one by one."""
    driver, row = frameworks.load(driver_name), ROWS[function]
    arrays = [driver.array(x, "float32" if x.dtype == np.float64 else None) for x in row.arrays()]
    expected = driver.to_numpy(row.call(*arrays))
    main = row.wrt[0]
    every = [(main,)]
    if pytestconfig.getoption("--full"):
        every += [
            tuple(i for i in range(len(arrays)) if i != closed) for closed in range(len(arrays)) if closed != main
        ]
    for passed in every:
        np.testing.assert_allclose(value(driver, mode, row.call, arrays, passed), expected, rtol=1e-5, atol=1e-7)
