"""Rows in blocks, shared out to threads: the same bits as in one piece, whatever the sizes."""

import gc
import os
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import seqloss
from seqloss.backends import numpy as backend
from seqloss.backends.numpy import blocks, library, numbers, threads
from seqloss.core.contract import Cotangents, Spec
from seqloss.testing import oracle, tolerances
from seqloss.testing.conformance import assert_conforms
from seqloss.testing.invariants import INVARIANTS

IN_ONE_PIECE = 1 << 40

# [batch, time, classes]: tokens and classes that are no multiples of a block, single ones, none.
SHAPES = [
    (3, 5, 7),
    (1, 1, 7),
    (4, 6, 1),
    (1, 13, 33),
    (0, 5, 7),
    (2, 0, 3),
    (5, 8, 16),
    (3, 7, 65),
    (1, 1, 64),
    (2, 0, 70),
]
BLOCKS = [1, 20, 150]
MASKS = {
    "none": lambda w: None,
    "some": lambda w: w,
    "all but one": lambda w: (np.arange(w.size) == 0).reshape(w.shape) * 1.0,
    "all": lambda w: 0 * w,
}
DTYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture(autouse=True)
def kernels_in(request, monkeypatch):
    """The kernels in NumPy, whether those in C are there or not; their blocks are what this file is about."""
    with threads.at_most(4):
        if getattr(request, "param", "NumPy") == "NumPy":
            monkeypatch.setenv("SEQLOSS_NATIVE", "0")  # in processes of their own too
            monkeypatch.setattr(library, "found", lambda: library.loaded("0"))
        yield


in_both = pytest.mark.parametrize("kernels_in", ["NumPy", "C"], indirect=True)


def cut(monkeypatch, block, worth):
    """Blocks of so many logits, a thread for so many, and runs of rows left in their place for so many."""
    monkeypatch.setattr(blocks, "_TINY", 0)
    monkeypatch.setattr(blocks, "_WORTH_A_RUN", worth)
    monkeypatch.setattr(blocks, "_BLOCK", block)
    monkeypatch.setattr(blocks, "_SHARED_BLOCK", block)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", worth)


def batch(shape, dtype):
    rng = np.random.default_rng(shape)
    logits = rng.normal(0, 4, shape).astype("float32")
    logits = to_bfloat16(logits) if dtype == "bfloat16" else logits.astype(dtype)
    targets = rng.integers(0, shape[2], shape[:2])
    return logits, targets, rng.integers(0, 3, shape[:2]) / 2


def to_bfloat16(x):
    """The upper half of the bits, which is what frameworks hand to the kernel."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def kernels(logits, targets, weights, dtype):
    """What the kernel pair returns, with a mask and cotangents of which some are 0."""
    active = None if weights is None else weights != 0
    with backend.scope(None):
        statistics = backend.token_statistics(logits, targets, active, None, Spec(dtype))
        cotangent = np.linspace(0, 2, targets.size).reshape(targets.shape).astype(dtype)
        gradient = backend.token_pullback(
            Cotangents(cotangent, None, None), logits, targets, active, None, statistics, Spec(dtype)
        )
    return statistics.nll, gradient


def widths(dtype):
    return ["float64"] if dtype == "float64" else ["float32", "float64"]


@pytest.mark.parametrize("worth", [1, IN_ONE_PIECE], ids=["threads", "alone"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype, width", [(dtype, width) for dtype in DTYPES for width in widths(dtype)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_as_in_one_piece(monkeypatch, shape, dtype, width, mask, block, worth):
    logits, targets, weights = batch(shape, dtype)
    weights = MASKS[mask](weights)
    cut(monkeypatch, IN_ONE_PIECE, IN_ONE_PIECE)
    whole = kernels(logits, targets, weights, width)
    cut(monkeypatch, block, worth)
    for one, other in zip(kernels(logits, targets, weights, width), whole, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sequence_loss_is_the_same_bits_as_in_one_piece(monkeypatch, shape, exact):
    arrays = batch(shape, "float32")
    cut(monkeypatch, IN_ONE_PIECE, IN_ONE_PIECE)
    whole = seqloss.sequence_loss_and_grad(*arrays, exact=exact, wrt=("logits", "weights"))
    cut(monkeypatch, 20, 1)
    parts = seqloss.sequence_loss_and_grad(*arrays, exact=exact, wrt=("logits", "weights"))
    assert parts[0].tobytes() == whole[0].tobytes()
    assert [x.tobytes() for x in parts[1]] == [x.tobytes() for x in whole[1]]


@pytest.mark.parametrize("block", [1, 13])
def test_the_backend_conforms_in_small_blocks(monkeypatch, block):
    cut(monkeypatch, block, 1)
    assert_conforms(backend)


@pytest.mark.parametrize("name", [name for name, invariant in INVARIANTS.items() if not invariant.needs])
def test_invariants_in_small_blocks(monkeypatch, name):
    cut(monkeypatch, 6, 1)

    def loss(logits, targets, weights):
        return seqloss.sequence_loss_and_grad(logits, targets, weights, check_labels=False)

    INVARIANTS[name](loss, 0)


@in_both
def test_big_batch_in_real_blocks():
    """More than one block and more than one thread, with the sizes as they are."""
    logits, targets, weights = batch((3, 401, 1031), "float32")
    assert logits.size > 4 * blocks._WORTH_A_THREAD > 4 * blocks._BLOCK
    loss, gradient = seqloss.sequence_loss_and_grad(logits, targets, weights)
    expected = oracle.sequence_loss(logits, targets, weights.astype("float32"))
    assert tolerances.ulps(loss, expected.loss, "float32") <= 20
    bound = tolerances.token_bound(logits)[..., None]
    assert (tolerances.ulps(gradient, expected.dlogits, "float32") <= bound).all()
    np.testing.assert_array_equal(gradient[weights == 0], 0)


def allocated(function):
    """The most bytes that a call needs at a time, its result among them."""
    function()
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def two_threads():
    with threads.at_most(2):
        yield


ROOMS = 8 << 20  # of two threads: rows picked out, or what else there is, and what is made of them


@in_both
@pytest.mark.parametrize("exact", [False, True])
def test_nothing_of_the_size_of_the_logits_is_allocated_but_the_gradient(exact, two_threads):
    logits, targets, weights = batch((8, 512, 2048), "float32")
    peak = allocated(lambda: seqloss.sequence_loss_and_grad(logits, targets, weights, exact=exact))
    assert logits.nbytes < peak < 1.05 * logits.nbytes + ROOMS


OF_A_TOKEN = {
    "smoothing": {"label_smoothing": 0.1},
    "off target": {"label_smoothing": seqloss.Smoothing(0.1, off_target=True, centred=True)},
    "class weights": {"label_smoothing": 0.1, "class_weights": np.linspace(0.5, 2, 2048)},
    "z-loss and cap": {"z_loss": 1e-4, "softcap": 30.0},
}


@in_both
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("options", OF_A_TOKEN.values(), ids=OF_A_TOKEN)
def test_no_option_of_the_loss_of_a_token_needs_more(options, exact, two_threads):
    logits, targets, weights = batch((8, 512, 2048), "float32")
    peak = allocated(lambda: seqloss.sequence_loss_and_grad(logits, targets, weights, exact=exact, **options))
    # Twice the rooms: the distribution and the slope of the cap have some of their own.
    assert logits.nbytes < peak < 1.05 * logits.nbytes + 2 * ROOMS


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_accuracy_needs_a_few_numbers_of_each_token(dtype):
    """In half precision room to widen a block as well, as the loss has it."""
    logits, targets, _ = batch((8, 512, 2048), dtype)
    with threads.at_most(1):  # where blocks are smallest
        without, with_it = (
            allocated(lambda counts=counts: seqloss.loss_sum(logits, targets, accuracy=counts))
            for counts in (False, True)
        )
    assert with_it < without + 64 * targets.size


@in_both
def test_soft_labels_need_their_gradients_and_little_more(two_threads):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4096, 2048)).astype("float32"), rng.uniform(size=(4096, 2048)).astype("float32")
    ones, spec = np.ones(4096, "float32"), Spec("float32", lse=True, unl=True)

    def both():
        statistics = backend.label_statistics(logits, labels, None, None, spec)
        given = logits, labels, labels.sum(-1), None, None, statistics
        return backend.label_pullback(Cotangents(ones, ones, ones), *given, spec, True)

    numbers_of_tokens = 100 * len(logits)
    assert 2 * logits.nbytes < allocated(both) < 2 * logits.nbytes + numbers_of_tokens + ROOMS


@in_both
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("options", [{}, OF_A_TOKEN["smoothing"]], ids=["plain", "smoothing"])
def test_soft_targets_need_two_gradients_and_little_more(options, exact, two_threads):
    """Only class weights, which multiply the targets, make another array of that size."""
    logits, _, weights = batch((8, 512, 2048), "float32")
    targets = np.random.default_rng(0).uniform(size=logits.shape).astype("float32")
    wrt = ("logits", "targets")
    peak = allocated(lambda: seqloss.sequence_loss_and_grad(logits, targets, weights, exact=exact, wrt=wrt, **options))
    assert 2 * logits.nbytes < peak < 2.05 * logits.nbytes + 2 * ROOMS


@pytest.mark.parametrize("align", [0, 1, 7])
def test_big_gradients_are_aligned(align):
    """Frameworks that take them over without a copy ask for it."""
    z = np.zeros((300, 1000 + align), "float32")
    gradient = numbers.zeros(z.shape, z.dtype)
    assert gradient.nbytes > 1 << 20
    assert gradient.ctypes.data % 64 == 0
    assert (gradient.shape, gradient.dtype) == (z.shape, z.dtype)
    assert gradient.flags.c_contiguous and gradient.flags.writeable and not gradient.any()


@in_both
def test_arrays_that_are_not_contiguous():
    logits, targets, weights = batch((4, 6, 10), "float32")
    expected = seqloss.sequence_loss_and_grad(logits, targets, weights)
    other = np.asfortranarray(logits), targets[::-1][::-1], np.repeat(weights, 2, 1)[:, ::2]
    got = seqloss.sequence_loss_and_grad(*other)
    assert got[0].tobytes() == expected[0].tobytes()
    assert got[1].tobytes() == expected[1].tobytes()


@in_both
def test_odd_nans_stay_nan_in_bfloat16():
    """A NaN whose last bits are set would be rounded up to the sign bit."""
    logits, targets, _ = batch((2, 3, 70), "bfloat16")
    with backend.scope(None):
        statistics = backend.token_statistics(logits, targets, None, None, Spec("float32"))
        odd = np.full(targets.shape, 0x7FFFFFFF, np.uint32).view(np.float32)
        gradient = backend.token_pullback(
            Cotangents(odd, None, None), logits, targets, None, None, statistics, Spec("float32")
        )
    assert np.isnan((gradient.astype(np.uint32) << 16).view(np.float32)).all()


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 10), ("uint16", 7)])
def test_nothing_is_rounded_twice(dtype, bits):
    """Just above and below the middle between two half-precision numbers, by less than float32 can tell."""
    unit, tiny = 2.0**-bits, 2.0**-40
    middle = np.array([1 + unit / 2, 1 + 3 * unit / 2])
    rounded = [
        numbers.narrowed(x, np.dtype(dtype)).astype(dtype) for x in (middle - tiny, middle.copy(), middle + tiny)
    ]
    if dtype == "uint16":  # the bits of bfloat16
        rounded = [(x.astype("uint32") << 16).view("float32") for x in rounded]
    np.testing.assert_array_equal(rounded, [[1, 1 + unit], [1, 1 + 2 * unit], [1 + unit, 1 + 2 * unit]])


@pytest.mark.parametrize("classes", [63, 1023, 1024, 1039, 4099])
def test_sums_of_any_number_of_classes(classes):
    x = np.random.default_rng(0).random((3, classes), "float32")
    got = numbers.total(np.asfortranarray(x) if classes < 64 else x)
    assert tolerances.ulps(got, x.sum(1, dtype=float), "float32").max() <= 4


# --- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, cores", [("3", 3), ("2,4", 2), (" 5 ", 5), ("12", 7), ("", 7), ("0", 7), ("many", 7), ("-1", 7), (None, 7)]
)
def test_the_number_of_threads_is_that_of_the_environment(monkeypatch, text, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(7)), raising=False)
    if text is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    with threads.at_most(None):
        assert threads.allowed() == 4  # the region around this test
    seen = []
    worker = threading.Thread(target=lambda: seen.append(threads.allowed()))  # which is in no region
    worker.start()
    worker.join()
    assert seen == [cores]


def test_a_region_limits_threads_and_ends():
    with threads.at_most(2):
        assert threads.allowed() == 2
        with threads.at_most(None):
            assert threads.allowed() == 2
    assert threads.allowed() == 4


@pytest.mark.parametrize("count, workers", [(0, 4), (1, 4), (10, 1), (100, 2), (100, 4), (1000, 4), (3, 4)])
def test_every_piece_is_shared_out_once(count, workers):
    seen, names = [], set()

    def work(pieces):
        for piece in pieces:
            seen.append(piece)
            names.add(threading.current_thread().name)

    threads.share(work, list(range(count)), workers)
    assert sorted(seen) == list(range(count))
    assert len(names) <= min(workers, max(count, 1))
    if min(count, workers) == 1:
        assert names == {threading.current_thread().name}


def test_the_pieces_are_worked_on_at_the_same_time():
    """Each waits for all the others, in as many threads as there are pieces."""
    everybody = threading.Barrier(2, timeout=30)

    def work(pieces):
        for _ in pieces:
            everybody.wait()

    threads.share(work, [1, 2], 2)
    assert everybody.n_waiting == 0 and not everybody.broken


def test_a_call_whose_helpers_are_busy_does_its_work_alone():
    """Calls of several threads share them, and none waits for another."""
    hold, seen = threading.Event(), []
    busy = [threads._started(lambda _: hold.wait(30), iter(())) for _ in range(64)]
    try:
        threads.share(seen.extend, [1, 2, 3], 3)
        assert seen == [1, 2, 3] and not hold.is_set()
    finally:
        hold.set()
        assert all(helper.result() for helper in busy)


def test_works_when_the_main_thread_has_ended(python):
    """Python then refuses to start threads, but a training thread may go on."""
    program = """
import threading, numpy as np, seqloss
from seqloss.backends.numpy import blocks, threads
blocks._TINY = 0
blocks._BLOCK = blocks._SHARED_BLOCK = 8
blocks._WORTH_A_THREAD = 1
arrays = np.zeros((1, 9, 4), "float32"), np.zeros((1, 9), int)

def train():
    threading.main_thread().join()
    with threads.at_most(2):
        print(f"{seqloss.sequence_loss(*arrays):.4f}", flush=True)

threading.Thread(target=train).start()
"""
    assert python(program).strip() == "1.3863"


@pytest.mark.parametrize("in_main", [True, False])
def test_an_error_in_a_thread_is_raised(in_main):
    main, helped = threading.current_thread(), threading.Event()

    def work(pieces):
        for piece in pieces:
            is_main = threading.current_thread() is main
            if is_main == in_main:
                helped.set()
                raise ZeroDivisionError(piece)
            helped.wait(30)  # so that there is a piece left for the other

    with pytest.raises(ZeroDivisionError):
        threads.share(work, list(range(100)), 2)


def test_an_error_is_raised_when_no_thread_is_at_work_any_more(monkeypatch):
    everybody, main, ended = threading.Barrier(3, timeout=30), threading.current_thread(), []

    def work(pieces):
        for piece in pieces:
            everybody.wait()
            if threading.current_thread() is not main:
                time.sleep(0.1 * piece)  # one is slower than the other
                ended.append(piece)
                raise ZeroDivisionError(piece)

    with ThreadPoolExecutor(2) as helpers:
        monkeypatch.setattr(threads, "_helpers", [helpers])
        with pytest.raises(ZeroDivisionError):
            threads.share(work, [0, 1, 2], 3)
        assert len(ended) == 2


def test_threads_are_kept_and_are_no_more_than_the_cores(monkeypatch):
    cut(monkeypatch, 8, 1)
    arrays = batch((3, 5, 7), "float32")
    counts = []
    for _ in range(20):
        seqloss.sequence_loss_and_grad(*arrays)
        counts.append(sum(thread.name.startswith("seqloss") for thread in threading.enumerate()))
    assert 1 <= counts[-1] <= max(1, os.cpu_count() - 1)


def test_works_after_a_fork(python):
    """Threads do not survive a fork, so none may be relied on. In a process of its own, where nothing minds a fork."""
    program = """
import os, warnings, numpy as np, seqloss
from seqloss.backends.numpy import blocks, threads
blocks._TINY = 0
blocks._BLOCK = blocks._SHARED_BLOCK = 8
blocks._WORTH_A_THREAD = 1
arrays = np.zeros((1, 9, 4), "float32"), np.zeros((1, 9), int)
with threads.at_most(2):
    before = seqloss.sequence_loss_and_grad(*arrays)[1].tobytes()
    warnings.simplefilter("ignore")
    child = os.fork()
    after = seqloss.sequence_loss_and_grad(*arrays)[1].tobytes()
if child == 0:
    os._exit(0 if after == before else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), after == before)
"""
    assert python(program).split() == ["0", "True"]
