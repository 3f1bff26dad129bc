"""The linear loss: what holds beside its definition, which ``conformance/test_linear.py`` has for all its options."""

import tracemalloc

import numpy as np
import pytest

import seqloss
from seqloss.testing import tolerances

pytestmark = pytest.mark.few_where_compiled
BATCH, TIME, FEATURES, CLASSES = 4, 6, 8, 11
NAMES = ("hidden", "kernel", "bias", "weights")
PLACES = dict(zip(("hidden", "kernel", "bias", "targets", "weights"), range(5), strict=True))


def draw(seed=0, batch=BATCH):
    """Hidden, kernel, bias, targets and weights; one row of hidden is NaN and masked."""
    rng = np.random.default_rng(seed)
    h, k = rng.normal(size=(batch, TIME, FEATURES)), rng.normal(size=(FEATURES, CLASSES))
    w = rng.uniform(0.5, 2, (batch, TIME))
    w[1, 2] = 0
    h[1, 2] = np.nan
    y = rng.integers(0, CLASSES, (batch, TIME))
    return [x.astype("float32") for x in (h, k, rng.normal(size=CLASSES))] + [y, w.astype("float32")]


def loss(h, k, b, y, w, **options):
    return seqloss.linear_sequence_loss(h, k, y, w, bias=b, **options)


def explicit(framework, arrays, wrt=NAMES, **options):
    """The loss and the gradients that a call returns, as NumPy arrays."""
    h, k, b, y, w = map(framework.array, arrays)
    value, found = seqloss.linear_sequence_loss_and_grad(h, k, y, w, bias=b, wrt=wrt, **options)
    return [framework.to_numpy(x) for x in (value, *found)]


def differentiated(framework, arrays, function=loss, wrt=NAMES, cotangent=None):
    """The same by the framework, eagerly."""
    g = None if cotangent is None else framework.array(np.float32(cotangent))
    run = framework.MODES["eager"](function, tuple(PLACES[name] for name in wrt))
    value, found = run([framework.array(x) for x in arrays], g)
    return [framework.to_numpy(x) for x in (value, *found)]


def logits_of(arrays, chunk):
    """The logits of a chunk at a time, as they are multiplied for the loss."""
    h, k, b, *_ = arrays
    rows = h.reshape(-1, FEATURES)
    parts = [rows[i : i + chunk] @ k + b for i in range(0, len(rows), chunk)]
    return np.concatenate(parts).reshape(*h.shape[:-1], CLASSES)


def agree(found, expected, ulps=40):
    """Within some units in the last place of the largest numbers of each array."""
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        assert abs(x - y).max() <= ulps * tolerances.unit(abs(y).max(), "float32")


# --- chunks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 5, 24, 10**9])
def test_the_size_of_a_chunk_moves_results_by_rounding_alone(framework, chunk):
    agree(explicit(framework, draw(), chunk=chunk), explicit(framework, draw()))


@pytest.mark.parametrize("chunk", [3, 7, 24])
def test_the_loss_is_that_of_the_logits(framework, chunk):
    _, _, _, y, w = arrays = draw()
    z = framework.array(np.where(w[..., None] == 0, 0, logits_of(arrays, chunk)))
    wanted = seqloss.sequence_loss(z, framework.array(y), framework.array(w), reduction="none")
    found = explicit(framework, arrays, ("kernel",), chunk=chunk, reduction="none")[0]
    assert tolerances.excess(found, framework.to_numpy(wanted), "float32", tolerances.PAIR_ULPS, scale=1).max() <= 1


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_tokens_have_the_loss_0_and_gradients_of_0(framework, shape):
    _, k, b, y, w = draw()
    empty = [np.zeros((*shape, FEATURES), "float32"), k, b, y[:0, :0].reshape(shape), w[:0, :0].reshape(shape)]
    for found, like in zip(explicit(framework, empty), (np.float32(0), empty[0], k, b, empty[4]), strict=True):
        np.testing.assert_array_equal(found, np.zeros_like(like))


def test_where_nothing_counts_all_is_0(framework):
    h, k, b, y, w = draw()
    for found in explicit(framework, [h * np.nan, k * np.inf, b, y, 0 * w], NAMES[:3]):
        np.testing.assert_array_equal(found, np.zeros_like(found))


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrt", [("hidden",), ("kernel",), ("bias",), ("weights",), ("bias", "hidden")])
def test_a_gradient_does_not_depend_on_what_else_is_asked_for(framework, wrt):
    every = dict(zip(NAMES, explicit(framework, draw())[1:], strict=True))
    agree(explicit(framework, draw(), wrt)[1:], [every[name] for name in wrt])


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("wrt", [("kernel",), ("bias", "weights")])
def test_a_framework_may_ask_for_some_gradients(framework, wrt, reduction):
    if not framework.CAN.differentiates:
        return

    def of_loss(*arrays):
        return framework.total(loss(*arrays, reduction=reduction))

    agree(
        differentiated(framework, draw(), of_loss, wrt)[1:], explicit(framework, draw(), wrt, reduction=reduction)[1:]
    )


@pytest.mark.parametrize("by", [3.0, -0.5, 1e-30])
def test_a_cotangent_multiplies(framework, by):
    if not framework.CAN.differentiates:
        return
    found, one = differentiated(framework, draw(), cotangent=by)[1:], explicit(framework, draw())[1:]
    agree([x / np.float32(by) for x in found], one)
    agree([x / np.float32(by) for x in explicit(framework, draw(), cotangent=np.float32(by))[1:]], one)


def test_a_cotangent_of_0_leaves_nothing_of_nan(framework):
    if not framework.CAN.differentiates:
        return
    h, k, b, y, w = draw()
    for found in differentiated(framework, [h * np.nan, k, b, y, w], wrt=NAMES[:3], cotangent=0.0)[1:]:
        np.testing.assert_array_equal(found, np.zeros_like(found))


def test_a_backward_pass_may_be_asked_for_twice(framework):
    if framework.pullback is None:
        return
    pull = framework.pullback(loss, [framework.array(x) for x in draw()])
    first = framework.to_numpy(pull()).copy()
    np.testing.assert_array_equal(framework.to_numpy(pull()), first)
    agree([first], explicit(framework, draw(), ("hidden",))[1:])


def test_a_stack_of_batches_is_mapped(framework):
    if framework.mapped is None:
        return
    batches = [[framework.array(x) for x in draw(seed)] for seed in range(3)]
    values, slopes = framework.mapped(loss, batches)
    for seed in range(3):
        wanted = explicit(framework, draw(seed), ("hidden",))
        agree([framework.to_numpy(x)[seed] for x in (values, slopes)], wanted)


def test_tied_embeddings_have_both_gradients(framework):
    if not framework.CAN.differentiates:
        return
    _, k, b, y, w = draw()
    chosen = np.eye(CLASSES, dtype="float32")[(y + 3) % CLASSES]

    def tied(table, one_hot, *others):
        return loss(one_hot @ table, framework.transposed(table), *others)

    found = differentiated(framework, [k.T.copy(), chosen, b, y, w], tied, ("hidden",))[1]
    to_hidden, to_kernel = explicit(framework, [chosen @ k.T, k, b, y, w], ("hidden", "kernel"))[1:]
    agree([found], [np.einsum("btv,btd->vd", chosen, to_hidden) + to_kernel.T])


def test_parts_of_a_batch_add_up(framework):
    arrays = draw(batch=8)
    n = float(arrays[4].sum())
    whole = explicit(framework, arrays)
    h, k, b, y, w = arrays
    parts = [
        explicit(framework, [h[i : i + 2], k, b, y[i : i + 2], w[i : i + 2]], reduction="sum", normalizer=n)
        for i in range(0, 8, 2)
    ]
    value, to_hidden, to_kernel, to_bias, _ = zip(*parts, strict=True)
    agree([sum(value), np.concatenate(to_hidden), sum(to_kernel), sum(to_bias)], whole[:4])


# --- what is refused ------------------------------------------------------------------------------------------------


def test_second_derivatives_are_refused(framework):
    if framework.hessian_product is None:
        return
    arrays = [framework.array(x) for x in draw()]
    with pytest.raises(seqloss.BackendError, match=r"^exact=True, and the linear loss, have only first derivatives"):
        framework.hessian_product(loss, arrays, arrays[0])


def soft():
    h, k, b, y, w = draw()
    return [h, k, b, np.eye(CLASSES, dtype="float32")[y], w]


def test_soft_targets_have_no_gradient(framework):
    if not framework.CAN.differentiates:
        return
    with pytest.raises(seqloss.BackendError, match=r"^the linear loss has no gradient for soft targets"):
        differentiated(framework, soft(), wrt=("targets",))


def test_soft_targets_that_nobody_differentiates_may_be_floats(framework):
    if not framework.CAN.differentiates:
        return
    agree(differentiated(framework, soft())[1:], explicit(framework, draw())[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_sum_cannot_be_differentiated(framework, name):
    if not framework.CAN.differentiates:
        return

    def of_sum(h, k, b, y, w):
        return seqloss.linear_loss_sum(h, k, y, w, bias=b).mean()

    with pytest.raises(seqloss.BackendError, match=r"^linear_loss_sum is for evaluation and logs"):
        differentiated(framework, draw(), of_sum, (name,))


# --- sums for evaluation --------------------------------------------------------------------------------------------


def sums(framework, chunk, **options):
    """The sum of the linear loss, and that of its logits."""
    arrays = draw()
    h, k, b, y, w = map(framework.array, arrays)
    z = framework.array(logits_of(arrays, chunk))
    return (
        seqloss.linear_loss_sum(h, k, y, w, bias=b, chunk=chunk, **options),
        seqloss.loss_sum(z, y, w, **options),
    )


@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"ignore_index": 2}, {"lengths": [6, 4, 0, 1]}])
@pytest.mark.parametrize("chunk", [5, 24])
def test_a_sum_is_that_of_the_logits(framework, chunk, options):
    found, wanted = sums(framework, chunk, accuracy=True, **options)
    agree([framework.to_numpy(found.mean())], [framework.to_numpy(wanted.mean())])
    # No two logits are next to each other here, so that the same tokens are right, and their weights are exact.
    assert framework.to_numpy(found.accuracy()) == framework.to_numpy(wanted.accuracy())


def test_an_exact_sum_is_that_of_wide_logits(framework):
    h, k, b, y, w = draw()
    found = seqloss.linear_loss_sum(*map(framework.array, (h, k, y, w)), bias=framework.array(b), exact=True, chunk=5)
    z = np.where(w[..., None] == 0, 0, h.astype("float64") @ k + b)
    assert framework.to_numpy(found.mean()) == np.float32(seqloss.loss_sum(z, y, w).mean())


@pytest.mark.parametrize("chunk", [1, 5, 24])
def test_columns_of_numpy_are_those_of_the_logits_of_the_same_chunks(chunk):
    h, k, b, y, w = draw()
    weights = np.where(w == 0, 0, 1)
    found = seqloss.linear_loss_sum(h[:, :5], k, y[:, :5], weights[:, :5], bias=b, chunk=chunk, accuracy=True)
    kept = weights[:, :5] != 0
    rows = h[:, :5][kept]
    size = -(-len(rows) // -(-len(rows) // chunk))
    z = np.concatenate([rows[i : i + size] @ k + b for i in range(0, len(rows), size)])
    wanted = seqloss.loss_sum(z[None], y[:, :5][kept][None], accuracy=True)
    np.testing.assert_array_equal(found.limbs, wanted.limbs)


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrt", [("hidden", "kernel"), ("hidden",), ("bias",)])
def test_memory_of_numpy_is_a_chunk_of_logits_beside_what_is_returned(wrt):
    rng = np.random.default_rng(0)
    tokens, features, classes, chunk = 2_048, 64, 16_000, 256
    h, k = (rng.normal(size=shape).astype("float32") for shape in ((2, tokens // 2, features), (features, classes)))
    b, y = np.zeros(classes, "float32"), rng.integers(0, classes, (2, tokens // 2))
    call = {"bias": b, "chunk": chunk, "wrt": wrt}
    seqloss.linear_sequence_loss_and_grad(h[:, :8], k, y[:, :8], **call)
    tracemalloc.start()
    try:
        _, found = seqloss.linear_sequence_loss_and_grad(h, k, y, **call)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    logits = chunk * classes * 4
    assert peak <= sum(x.nbytes for x in found) + 1.1 * logits
    assert peak >= logits  # the test of the test
