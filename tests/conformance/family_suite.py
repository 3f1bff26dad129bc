"""Running one row of the families in one backend, mode and dtype, and judging the outcome."""

import functools

import choosing
import numpy as np
import pytest
import suite

from seqloss.testing import families, frameworks, tolerances

HALF = ("float16", "bfloat16")


@functools.cache
def choice(name, full=False):
    """The names of the rows of each (mode, dtype): those of the default run, or all."""
    driver, functions = frameworks.load(name), {row.name: row.function for row in families.FAMILIES}
    every = [pair for pair in suite.pairs(driver) if pair[0] in driver.MODES]
    if full:
        return {pair: list(functions) for pair in every}
    return choosing.chosen(driver, every, list(functions), functions.get)


def declared(names, full=False):
    """Every (backend, mode, dtype, family) that has to pass: a choice of the product, or the full product."""
    by_name = {row.name: row for row in families.FAMILIES}
    for name in names:
        for (mode, dtype), few in choice(name, full).items():
            for row in map(by_name.get, few):
                # What has no gradient, or is refused, is so in any dtype.
                if dtype == "float32" or (row.wrt and mode not in row.refusals):
                    yield name, mode, dtype, row


def run(name, mode, dtype, family):
    """Value and gradients of a row, against the reference; or the error that the table promises."""
    driver = frameworks.load(name)
    with driver.precision(dtype), np.errstate(all="ignore"):
        arrays = family.arrays()
        native = [driver.array(x, dtype if x.dtype == np.float64 else None) for x in arrays]
        if mode in family.refusals:
            error, text = family.refusals[mode]
            with pytest.raises(Exception, match=text) as raised:
                call(driver, mode, family, native, None)
            check_error(raised.value, error)
            return
        host = [driver.to_numpy(x) for x in native]
        compute = "float64" if dtype == "float64" else "float32"
        own = {None: compute, "own": dtype}.get(family.result, family.result)
        g = upstream(driver, family, host, own)
        expected = family.expected(*host, cotangent=None if g is None else driver.to_numpy(g))
        value, gradients = call(driver, mode, family, native, g)
        matches(driver, "the value", value, expected.value, expected.scale, own, expected.bound, compute)
        roundings = expected.roundings or (1,) * len(family.wrt)
        parts = zip(gradients or (), family.wrt, expected.gradients, expected.scales, roundings, strict=False)
        for gradient, place, wanted, scale, often in parts:
            what = f"the gradient of {family.arguments[place]}"
            assert tuple(wanted.shape) == tuple(host[place].shape), f"the reference of {what} is of another shape"
            own = driver.dtype(native[place])
            matches(driver, what, driver.dense(gradient), wanted, scale, own, expected.bound, compute, often)
        assert gradients is None or len(gradients) == len(family.wrt) == len(expected.gradients)


def call(driver, mode, family, native, cotangent):
    """The value and gradients of a family. One that has no gradients is called as it is."""
    ways = {**driver.MODES, **driver.SETTINGS}
    if family.wrt:
        return ways[mode](family.call, family.wrt)(native, cotangent)
    if mode == "eager":
        return family.call(*native), ()
    # The mode wants something to differentiate.
    native = [*native, driver.array(np.ones(1), "float32")]
    return ways[mode](lambda *arrays: family.call(*arrays[:-1]), (len(native) - 1,))(native, None)


def upstream(driver, family, host, dtype):
    """A cotangent that is not uniform, in the dtype of the value; None for a scalar or without a gradient."""
    shape = np.shape(family.expected(*host).value)
    if shape == () or not family.wrt:
        return None
    return driver.array(suite.upstream(shape, "float64"), dtype)


def matches(driver, what, actual, expected, scale, dtype, bound, compute, roundings=1):
    """Type, dtype and shape; NaN places and exact zeros; values."""
    expected = np.asarray(expected)
    assert driver.is_array(actual), f"{what} is a {type(actual)}"
    # JAX has no 64 bits unless it is told to.
    if driver.name == "jax" and compute == "float32":
        dtype = dtype.replace("64", "32")
    assert (driver.dtype(actual), tuple(actual.shape)) == (dtype, expected.shape), what
    result = driver.to_numpy(actual)
    if dtype.startswith("int"):
        np.testing.assert_array_equal(result, expected, what)
        return
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected), f"NaN places of {what}")
    # Zero because nothing was added up, not because summands cancelled.
    zero = (expected == 0) & (scale == 0)
    np.testing.assert_array_equal(result[zero], np.zeros(zero.sum()), f"exact zeros of {what}")
    compute = compute if dtype in HALF else dtype
    fraction = tolerances.excess(result, expected, dtype, bound, scale, compute)
    if roundings > 1 and dtype != compute:
        fraction = tolerances.ulps(result, expected, dtype, scale) / roundings
    worst = np.unravel_index(fraction.argmax(), fraction.shape) if fraction.size else ()
    assert fraction.max(initial=0) <= 1, (
        f"{what} is {fraction[worst]:.3g} of the allowed distance away at {worst}: {result[worst]!r}, expected "
        f"{expected[worst]!r}"
    )


def check_error(error, name):
    """The class of the error, or that of torch.compile(fullgraph=True) around the same text."""
    assert type(error).__name__ in (name, "Unsupported", "UserError"), repr(error)
