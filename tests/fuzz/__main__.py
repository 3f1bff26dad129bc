"""Calls of a C library that was built with sanitizers: ``python tests/fuzz LIBRARY CALLS``; nox has it as ``fuzz``.

Whatever shapes, strides, labels and numbers Hypothesis thinks of, the library must neither leave its arrays nor do what
C leaves undefined: the process would end with a report. What comes out is judged elsewhere.
"""

import os
import sys

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqloss.backends import numpy as backend
from seqloss.backends.numpy import library
from seqloss.core.contract import Cotangents, Spec

DTYPES = {"float32": "float32", "float64": "float64", "float16": "float16", "bfloat16": "uint16"}
NUMBERS = (0.0, -0.0, 1.0, -1e-40, 3e38, -3e38, 1e308, np.inf, -np.inf, np.nan)


def laid_out(draw, x):
    """The same numbers in another place: with gaps, backwards, turned, not aligned."""
    steps = draw(st.tuples(st.integers(1, 3), st.sampled_from([1, 1, 1, 2])))
    gaps = np.repeat(np.repeat(x, steps[0], 0), steps[1], 1)[:: steps[0], :: steps[1]]
    how = draw(st.integers(0, 4))
    if how == 0:
        return np.asfortranarray(x)
    if how == 1:
        return gaps[::-1]
    if how == 2:
        return np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    return gaps if how == 3 else x.copy()


@st.composite
def calls(draw):
    """Arrays and a spec for all kernels."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    wide = "float64" if dtype == "float64" else draw(st.sampled_from(["float32", "float64"]))
    count = draw(st.integers(0, 6))
    classes = draw(st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 288, 511, 512, 600])))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    with np.errstate(all="ignore"):
        z = rng.normal(0, draw(st.sampled_from([0.1, 5, 200])), (count, classes)).astype(DTYPES[dtype])
        labels = rng.uniform(-0.2, 1, (count, classes)).astype(draw(st.sampled_from(["float32", wide])))
        for x in (z, labels):
            for number in draw(st.lists(st.sampled_from(NUMBERS), max_size=4)):
                x[rng.uniform(size=x.shape) < 0.1] = np.array(number).astype("float32").astype(x.dtype)
    targets = draw(
        st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, classes), min_size=count, max_size=count)
    )
    targets = np.array(targets, "int64")
    active = rng.uniform(size=count) < 0.7 if draw(st.booleans()) else None
    unl = draw(st.booleans())
    prior = rng.uniform(size=classes).astype(wide) if unl and draw(st.booleans()) else None
    spec = Spec(wide, draw(st.booleans()), unl, draw(st.sampled_from([None, None, 1e-3, 30.0])))
    upstream = [rng.choice([0, 1, -1e-30, 1e30, np.inf, np.nan], count).astype(wide) for _ in range(3)]
    cotangents = Cotangents(upstream[0], upstream[1] if spec.lse else None, upstream[2] if unl else None)
    return laid_out(draw, z), targets, laid_out(draw, labels), active, prior, spec, cotangents


def fuzz(number):
    @settings(max_examples=number // 5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(calls())
    def all_five(call):
        z, targets, labels, active, prior, spec, cotangents = call
        square = cotangents.lse if spec.lse else None
        found = backend.token_statistics(z, targets, active, prior, spec)
        backend.token_pullback(cotangents, z, targets, active, prior, found, spec)
        backend.token_statistics_and_pullback(cotangents, z, targets, active, prior, spec, square)
        found = backend.label_statistics(z, labels, active, prior, spec)
        mass = np.ones(len(z), spec.dtype)
        backend.label_pullback(cotangents, z, labels, mass, active, prior, found, spec, True)

    all_five()


if __name__ == "__main__":
    path, number = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    for version in library.VERSIONS:
        there = library.loaded(version, path)
        if there.version == version:
            library.found = lambda chosen=there: chosen
            fuzz(number // len(library.VERSIONS))
            print(f"{version}: nothing in {number // len(library.VERSIONS):,} calls")
        else:
            print(f"{version}: {there.reason}")
