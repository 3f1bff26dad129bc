"""The kernels in C: the bits of NumPy's in exact mode, the same bits in every version, 4 ULP in float32.

They run where they were built, unless SEQLOSS_NATIVE=0 asks for NumPy's.
"""

import json
import tracemalloc

import numpy as np
import pytest
import test_stress_grid as grid
from test_splits import batch

import seqloss
from seqloss.backends import numpy as backend
from seqloss.backends.numpy import calls, library, threads
from seqloss.core.contract import Cotangents, Spec
from seqloss.testing import cases

BEST = library.loaded("1")
VERSIONS = library.VERSIONS[: 1 + library.VERSIONS.index(BEST.version)] if BEST.version else ()


@pytest.fixture(autouse=True)
def built():
    """An error where the library is missing: NumPy's kernels would be compared with themselves."""
    assert BEST.version, f"{BEST.reason}; build the kernels with a C compiler: python hatch_build.py"


def run_by(monkeypatch, wanted):
    """This version."""
    monkeypatch.setattr(library, "found", lambda: library.loaded(wanted))


# --- against NumPy

OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "prior": {"label_smoothing": seqloss.Smoothing(0.1, prior="given")},
    "z-loss": {"z_loss": 1e-3},
}


def options_for(name, classes):
    given = dict(OPTIONS[name])
    if name == "prior":
        given["label_smoothing"] = seqloss.Smoothing(0.1, prior=np.linspace(0, 1, classes).astype("float32"))
    return given


def exact_bits(logits, targets, **options):
    value = seqloss.token_loss(logits, targets, exact=True, **options)
    _, gradient = seqloss.sequence_loss_and_grad(logits, targets, exact=True, **cases.PLAIN, **options)
    return value.tobytes(), gradient.tobytes()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("classes", [2, 17, 257, 4099])
def test_exact_results_have_the_bits_of_numpy(monkeypatch, classes, dtype, name):
    rows = grid.grid(classes, dtype)
    logits, targets = rows.logits.astype(dtype)[None], rows.targets[None]
    options = options_for(name, classes)
    run_by(monkeypatch, "0")
    expected = exact_bits(logits, targets, **options)
    run_by(monkeypatch, "1")
    assert exact_bits(logits, targets, **options) == expected


@pytest.mark.parametrize("classes", [17, 257])
def test_exact_soft_targets_have_the_bits_of_numpy(monkeypatch, classes):
    rows = grid.grid(classes, "float32")
    rng = np.random.default_rng(0)
    logits = rows.logits.astype("float32")[None]
    targets = rng.dirichlet(np.ones(classes), logits.shape[:2]).astype("float32")

    def results():
        wrt = ("logits", "targets")
        value, gradients = seqloss.sequence_loss_and_grad(logits, targets, exact=True, wrt=wrt, **cases.PLAIN)
        return [value, *gradients]

    run_by(monkeypatch, "0")
    expected = results()
    run_by(monkeypatch, "1")
    for got, wanted in zip(results(), expected, strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_order_of_the_classes_changes_a_bit(monkeypatch, dtype):
    """Of float64, not of what it is rounded to; of sure tokens too, whose sums are small."""
    z, y = (x[0] for x in batch())
    run_by(monkeypatch, "1")
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        order = rng.permutation(z.shape[1])
        statistics = backend.token_statistics(
            z[:, order].astype(dtype), np.argsort(order)[y], None, None, Spec("float64", True)
        )
        found.append((statistics.nll.tobytes(), statistics.lse.tobytes()))
    assert len(set(found)) == 1


# --- accuracy


@pytest.mark.parametrize("classes", [2, 3, 17, 257, 4099])
def test_float32_is_right_to_4_ulp_at_every_margin(monkeypatch, classes):
    rows, exact = grid.exact(classes, "float32")
    run_by(monkeypatch, "1")
    value = seqloss.token_loss(rows.logits, rows.targets)
    _, gradient = seqloss.sequence_loss_and_grad(rows.logits[None], rows.targets[None], **cases.PLAIN)
    bound = np.full((len(value), 1), 4)
    for name, got, parts, place in (
        ("loss", value, exact.nll, None),
        ("gradient", gradient[0], exact.slope, rows.place),
    ):
        fractions, ulps = grid.worst(got, parts, bound if place is not None else bound[:, 0], "float32", place)
        assert fractions.max() <= 1, f"{name}: {ulps.max():.1f} ULP at {rows.labels[fractions.argmax()]}"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_half_precision_number_is_read_as_it_is(monkeypatch, dtype):
    bits = np.arange(1 << 16).astype("uint16")
    half = np.stack([bits, np.zeros_like(bits)], -1)
    wide = (half.astype("uint32") << 16).view("float32") if dtype == "bfloat16" else half.view("float16").astype("f4")
    half = half if dtype == "bfloat16" else half.view("float16")
    targets = np.zeros(len(bits), int)
    run_by(monkeypatch, "1")
    of_half, of_wide = (backend.token_statistics(z, targets, None, None, Spec("float32", True)) for z in (half, wide))
    for got, wanted in zip(of_half[:2], of_wide[:2], strict=True):
        np.testing.assert_array_equal(got, wanted)


# --- versions


def bits(arrays):
    """Of each array; all NaN are one, because no standard says what else is in them."""
    return [np.where(x != x, np.array(np.nan if x.dtype.kind == "f" else 0, x.dtype), x).tobytes() for x in arrays]


ASKED = {
    "plain": ({}, False),
    "all": ({"lse": True, "unl": True}, True),
    "all and capped": ({"lse": True, "unl": True, "softcap": 20.0}, True),
}


def arrays(count, classes, dtype):
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 20, (count, classes)).astype("float64" if dtype == "float64" else "float32")
    z[0, rng.integers(classes)] = -np.inf
    z[1, rng.integers(classes)] = np.nan
    z[2, rng.integers(classes)] = np.inf
    z[3, :] = z[3, 0]
    y = rng.integers(0, classes, count)
    y[4], y[5] = -1, classes
    z = (z.view("uint32") >> 16).astype("uint16") if dtype == "bfloat16" else z.astype(dtype)
    return z, y, rng.uniform(size=count) < 0.9, rng.uniform(size=(count, classes))


def all_results(z, y, active, labels, spec, prior):
    """Every number that the kernels give, of targets and of soft labels."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=len(z)).astype(spec.dtype)
    upstream = Cotangents(g, g if spec.lse else None, g if spec.unl else None)
    found = backend.token_statistics(z, y, active, prior, spec)
    results = [*found[:4], backend.token_pullback(upstream, z, y, active, prior, found, spec)]
    found = backend.label_statistics(z, labels, active, prior, spec)
    given = upstream, z, labels, np.ascontiguousarray(labels).sum(-1), active, prior, found, spec, True
    return [x for x in (*results, *found[:4], *backend.label_pullback(*given)) if x is not None]


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("classes", [1, 2, 31, 32, 33, 256, 300, 1031])
def test_every_version_gives_the_same_bits(monkeypatch, classes, dtype, name):
    z, y, active, labels = arrays(9, classes, dtype)
    asked, has_prior = ASKED[name]
    for wide in ("float64",) if dtype == "float64" else ("float32", "float64"):
        prior = np.linspace(0, 1, classes).astype(wide) if has_prior and classes > 1 else None
        results = []
        for version in VERSIONS:
            run_by(monkeypatch, version)
            got = all_results(z, y, active, labels.astype(wide), Spec(wide, **asked), prior)
            results.append(bits(got))
        assert all(got == results[0] for got in results)


# --- rows

LAYOUTS = {
    "every other row": lambda x: np.repeat(x, 2, 0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "classes far apart": np.asfortranarray,
    "classes backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "a part of the classes": lambda x: np.pad(x, ((0, 0), (3, 4)))[:, 3:-4],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "not aligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_in_any_layout(monkeypatch, layout, dtype):
    z, y, active, labels = arrays(9, 37, dtype)
    run_by(monkeypatch, "1")
    labels, spec = labels.astype("float32"), Spec("float32", True, True)
    expected = all_results(z, y, active, labels, spec, None)
    placed = [LAYOUTS[layout](x) for x in (z, labels)]
    others = [x.astype(x.dtype).repeat(2)[::2] for x in (y, active)]
    got = all_results(placed[0], *others, placed[1], spec, None)
    assert bits(got) == bits(expected)


@pytest.mark.parametrize("layout", ["as it is", "classes far apart"])
@pytest.mark.parametrize("count, classes", [(0, 5), (9, 7), (40, 300)])
def test_the_same_bits_in_pieces_and_threads(monkeypatch, count, classes, layout):
    z, y, active, labels = (x[:count] for x in arrays(max(count, 9), classes, "float32"))
    labels, spec = labels.astype("float32"), Spec("float32", True, True)
    run_by(monkeypatch, "1")
    expected = all_results(z, y, active, labels, spec, None)
    monkeypatch.setattr(calls, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(calls, "_COPIED", 20)
    monkeypatch.setattr(calls, "_MANY", 1)
    z = LAYOUTS.get(layout, np.asarray)(z)
    with threads.at_most(3):
        got = all_results(z, y, active, labels, spec, None)
    assert bits(got) == bits(expected)


@pytest.mark.parametrize("which", ["targets", "active", "labels"])
def test_lengths_that_differ_never_reach_the_library(monkeypatch, which):
    z, y, active, labels = arrays(9, 7, "float32")
    given = {"targets": y, "active": active, "labels": labels}
    given[which] = given[which][:-1]
    run_by(monkeypatch, "1")
    with pytest.raises(ValueError, match=r"8|labels of shape"):
        all_results(z, *given.values(), Spec("float32"), None)


# --- forward and pullback in one


def cotangents_for(count, spec, square):
    """Some of them 0, some so large or small that the exponentials are taken in another way."""
    rng = np.random.default_rng(count)
    g = (rng.normal(size=count) * np.resize([1, 0, 1e25, 1e-25, 1], count)).astype(spec.dtype)
    k = np.resize(g[::-1], count) / 8 if square else None
    return Cotangents(g, g * 2 if spec.lse and not square else None, g * 3 if spec.unl else None), k


def in_two_calls(cotangents, z, y, active, prior, spec, k):
    found = backend.token_statistics(z, y, active, prior, spec)
    if k is not None:
        slope = 2 * k * np.where(np.isfinite(found.lse), found.lse, 0).astype(spec.dtype)
        cotangents = cotangents._replace(lse=slope if cotangents.lse is None else cotangents.lse + slope)
    return found, backend.token_pullback(cotangents, z, y, active, prior, found, spec)


IN_ONE = {
    "plain": ({}, False),
    "lse": ({"lse": True}, False),
    "square": ({"lse": True, "unl": True}, True),
    "capped": ({"lse": True, "unl": True, "softcap": 20.0}, True),
}


FORMS = [(classes, dtype) for classes in (1, 5, 64, 65, 300) for dtype in ("float32", "float64", "float16", "bfloat16")]


@pytest.mark.parametrize("name", IN_ONE)
@pytest.mark.parametrize(
    "kernels, classes, dtype", [("NumPy", 5, "float32"), ("NumPy", 300, "float16"), *(("C", *form) for form in FORMS)]
)
def test_in_one_call_the_same_bits(monkeypatch, kernels, classes, dtype, name):
    """Of bad rows, bad labels, rows that are not active, and those to which nothing flows."""
    run_by(monkeypatch, "0" if kernels == "NumPy" else "1")
    asked, square = IN_ONE[name]
    z, y, active, _ = arrays(70, classes, dtype)
    for wide in ("float64",) if dtype == "float64" else ("float32", "float64"):
        spec = Spec(wide, **asked)
        prior = np.linspace(0, 1, classes).astype(wide) if spec.unl and classes > 1 else None
        upstream, k = cotangents_for(len(z), spec, square)
        with backend.scope(None):
            found, gradient = backend.token_statistics_and_pullback(upstream, z, y, active, prior, spec, k)
            expected, wanted = in_two_calls(upstream, z, y, active, prior, spec, k)
        got, wanted = (*found[:4], gradient), (*expected[:4], wanted)
        assert [None if x is None else (x.dtype, x.shape) for x in got] == [
            None if x is None else (x.dtype, x.shape) for x in wanted
        ]
        assert bits(x for x in got if x is not None) == bits(x for x in wanted if x is not None)


@pytest.mark.parametrize("count, classes", [(0, 5), (9, 7), (40, 300)])
def test_in_one_call_the_same_bits_in_pieces_and_threads(monkeypatch, count, classes):
    z, y, active, _ = (x[:count] for x in arrays(max(count, 9), classes, "float32"))
    spec = Spec("float32", True, True)
    run_by(monkeypatch, "1")
    upstream, k = cotangents_for(count, spec, True)
    with backend.scope(None), threads.at_most(3):
        expected = in_two_calls(upstream, z, y, active, None, spec, k)
        monkeypatch.setattr(calls, "_WORTH_A_THREAD", 1)
        monkeypatch.setattr(calls, "_COPIED", 20)
        monkeypatch.setattr(calls, "_MANY", 1)
        for layout in (np.asarray, np.asfortranarray, lambda x: np.repeat(x, 2, 0)[::2]):
            got = backend.token_statistics_and_pullback(upstream, layout(z), y, active, None, spec, k)
            assert bits((*got[0][:4], got[1])) == bits((*expected[0][:4], expected[1]))


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("unl", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [7, 65, 300, 4099])
def test_a_gradient_over_its_logits_has_the_same_bits(monkeypatch, classes, dtype, unl, softcap):
    z, y, active, _ = arrays(40, classes, dtype)
    spec = Spec(dtype, True, unl, softcap=softcap)
    prior = np.linspace(0, 1, classes).astype(dtype) if unl else None
    upstream, k = cotangents_for(len(z), spec, True)
    for version in VERSIONS:
        run_by(monkeypatch, version)
        expected, wanted = backend.token_statistics_and_pullback(upstream, z, y, active, prior, spec, k)
        over = z.copy()
        found, gradient = backend.token_statistics_and_pullback(upstream, over, y, active, prior, spec, k, over)
        assert gradient is over
        assert bits(x for x in (*found[:4], over) if x is not None) == bits(
            x for x in (*expected[:4], wanted) if x is not None
        )


@pytest.mark.parametrize("kernels", ["NumPy", "C"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_in_one_call_nothing_has_the_size_of_the_logits_but_their_gradient(monkeypatch, dtype, kernels):
    run_by(monkeypatch, "0" if kernels == "NumPy" else "1")
    z = np.zeros((4096, 2000), dtype)
    y, upstream = np.zeros(len(z), int), Cotangents(np.ones(len(z), "float32"), None, None)
    tracemalloc.start()
    try:
        with threads.at_most(1):
            backend.token_statistics_and_pullback(upstream, z, y, None, None, Spec("float32"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert z.nbytes <= peak < z.nbytes + (1 << 22)


@pytest.mark.parametrize("softcap", [5.0, 30.0, 1000.0])
@pytest.mark.parametrize("classes", [2, 17, 257])
def test_capped_float32_is_right_to_4_ulp(monkeypatch, classes, softcap):
    run_by(monkeypatch, "1")
    rng = np.random.default_rng(classes)
    z = np.concatenate([rng.normal(0, scale, (200, classes)) for scale in (1, 10, 60, 200)]).astype("float32")
    y = np.where(np.arange(len(z)) % 2, rng.integers(0, classes, len(z)), z.argmax(1))
    results = []
    for dtype in ("float32", "float64"):
        upstream = Cotangents(np.full(len(z), 2.0**-9, dtype), None, None)
        spec = Spec(dtype, softcap=softcap)
        found, gradient = backend.token_statistics_and_pullback(upstream, z.astype(dtype), y, None, None, spec)
        results.append((found.nll, gradient))
    for got, wanted in zip(*results, strict=True):
        ulp = np.spacing(abs(wanted).astype("float32")).astype("float64")
        assert (abs(got - wanted) <= 4 * ulp)[abs(wanted) >= 2.0**-126].all()


# --- which one runs


def test_the_library_is_loaded_with_the_first_kernel_that_runs(python):
    program = """
import sys, numpy as np, seqloss
from seqloss.backends.numpy import library
before = library.found.cache_info().currsize
seqloss.token_loss(np.zeros((1, 2), "float32"), [0])
print(before, library.found.cache_info().currsize)
"""
    assert python(program).split() == ["0", "1"]


@pytest.mark.parametrize("wanted", ["0", "1", None])
def test_env_says_which_kernels_run_and_why(monkeypatch, capsys, wanted):
    from seqloss.__main__ import main

    monkeypatch.delenv("SEQLOSS_NATIVE", raising=False)
    if wanted is not None:
        monkeypatch.setenv("SEQLOSS_NATIVE", wanted)
    assert main(["env", "--backends", "numpy", "--json", "-"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)["frameworks"]
    assert facts["settings"]["kernels"] == str(library.loaded(wanted or "1"))


def test_a_library_that_cannot_be_used_is_none(tmp_path):
    path = tmp_path / "libseqloss.so"
    assert library.loaded("1", str(path)).reason == "installed without a C compiler"
    path.write_bytes(b"no library")
    assert library.loaded("1", str(path))[:2] == (None, library.loaded("1", str(path)).reason)
    assert library.loaded("1", str(path)).reason.startswith("the library does not load: ")
    assert library.loaded("0") == library.Library(None, "SEQLOSS_NATIVE=0")
    assert str(library.loaded("0")) == "NumPy (SEQLOSS_NATIVE=0)"


def test_a_library_from_other_sources_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "LAYOUT", library.LAYOUT + 1)
    assert library.loaded("1") == library.Library(None, "the library was built from other sources")


def test_a_version_can_be_asked_for():
    assert [library.loaded(name).version for name in VERSIONS] == list(VERSIONS)


def test_a_value_that_does_not_exist_is_an_error(monkeypatch):
    monkeypatch.setenv("SEQLOSS_NATIVE", "sse9")
    monkeypatch.setattr(library, "found", library.found.__wrapped__)
    message = "the environment variable SEQLOSS_NATIVE must be one of 0, 1, baseline, avx2, avx512, got 'sse9'"
    with pytest.raises(seqloss.OptionError, match=message):
        seqloss.token_loss(np.zeros((1, 2), "float32"), [0])


def test_a_version_that_the_processor_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setattr(library, "VERSIONS", (*library.VERSIONS, "avx1024"))
    with pytest.raises(seqloss.OptionError, match="on this processor, got 'avx1024'"):
        library.loaded("avx1024")
