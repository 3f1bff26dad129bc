"""Sums of losses that no order changes: their values, corners, checkpoints, and what they refuse."""

import json
from fractions import Fraction

import numpy as np
import pytest

import seqloss
from seqloss.testing import frameworks, oracle, tolerances

pytestmark = pytest.mark.few_where_compiled
SHAPE, CLASSES = (4, 5), 7
ORDERS = 200


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        metafunc.parametrize(
            "backend, mode", [(name, mode) for name in names for mode in frameworks.load(name).EXPLICIT]
        )


def draw(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    z, y = rng.normal(0, 3, (*SHAPE, CLASSES)).astype(dtype), rng.integers(0, CLASSES, SHAPE)
    w = rng.uniform(0.25, 2, SHAPE).astype("float32")
    w[0, 3:] = w[2] = 0
    return z, y, w


def summed(framework, arrays, **given):
    return seqloss.loss_sum(*(None if x is None else framework.array(x) for x in arrays), **given)


def values(framework, total):
    """The results as NumPy has them, after a look at their form."""
    found = {}
    for name in ("mean", "perplexity", "bits_per_token"):
        x = getattr(total, name)()
        assert framework.is_array(x) or (framework.name == "numpy" and isinstance(x, np.generic))
        assert framework.dtype(x) == framework.dtype(total.barrier) and framework.to_numpy(x).shape == ()
        found[name] = framework.to_numpy(x)
    return found


def exact_total(column):
    return sum(x * Fraction(2) ** (16 * i - 112) for i, x in enumerate(column[:16]))


def bits(x):
    return np.asarray(x).tobytes()


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_mean_is_that_of_the_oracle(framework, dtype, weighted):
    if dtype not in framework.DTYPES:
        return
    z, y, w = draw()
    w = w if weighted else None
    with framework.precision(dtype):
        logits = framework.array(z, dtype)
        total = seqloss.loss_sum(logits, framework.array(y), None if w is None else framework.array(w))
        found = values(framework, total)
        z = framework.to_numpy(logits)
    result = "float64" if dtype == "float64" else "float32"
    wide = oracle.sequence_loss(z, y, np.ones(SHAPE) if w is None else w).loss
    assert found["mean"].dtype == result
    expected = {"mean": wide, "perplexity": np.exp(wide), "bits_per_token": wide / np.log(np.longdouble(2))}
    for name, x in found.items():
        assert tolerances.ulps(x, expected[name], result).max() <= 20, name


def test_the_mean_is_that_of_the_sequence_loss(framework):
    """In exact mode in bits."""
    z, y, w = draw()
    total = summed(framework, (z, y, w), exact=True)
    assert bits(values(framework, total)["mean"]) == bits(seqloss.sequence_loss(z, y, w, exact=True))


def test_totals_are_exact(framework):
    """The very sum of the losses of the tokens as they are returned, and of the weights."""
    z, y, w = draw()
    tokens = framework.to_numpy(seqloss.sequence_loss(*map(framework.array, (z, y, w)), reduction="none"))
    columns = summed(framework, (z, y, w), accuracy=True).to_dict()
    assert exact_total(columns["losses"]) == sum(map(Fraction, tokens.ravel().tolist()))
    assert exact_total(columns["weights"]) == sum(map(Fraction, w.ravel().tolist()))
    right = np.where(z.argmax(-1) == y, w, 0)
    assert exact_total(columns["right"]) == sum(map(Fraction, right.ravel().tolist()))


def test_peers_add_up_the_same(framework):
    """What people write by hand: the sum of the losses and the count of the tokens, of each batch."""
    batches, total, nll, count = [draw(seed) for seed in range(3)], 0, 0.0, 0.0
    for z, y, w in batches:
        z64 = z.astype("float64")
        tokens = np.log(np.exp(z64).sum(-1)) - np.take_along_axis(z64, y[..., None], -1)[..., 0]
        nll, count = nll + (w * tokens).sum(), count + w.sum(dtype="float64")
        total += summed(framework, (z, y, w))
    found = values(framework, total)
    np.testing.assert_allclose(found["mean"], nll / count, rtol=3e-7)
    np.testing.assert_allclose(found["perplexity"], np.exp(nll / count), rtol=1e-6)


@pytest.mark.parametrize(
    "given", [{"ignore_index": -100}, {"lengths": [5, 0, 3, 1]}, {"softcap": 2.0}, {"ignore_index": (1, -100)}]
)
def test_options_are_those_of_the_sequence_loss(framework, given):
    z, y, w = draw()
    y[0, :2] = -100
    if "ignore_index" not in given:
        w[0, :2] = 0
    given = {**given, "exact": True}
    total = summed(framework, (z, y, w), **given)
    assert bits(values(framework, total)["mean"]) == bits(seqloss.sequence_loss(z, y, w, **given))


def test_packed_is_padded(framework):
    z, y, w = draw()
    lengths = np.array([3, 0, 5, 2])
    kept = np.arange(SHAPE[1]) < lengths[:, None]
    offsets = framework.array(np.append(0, np.cumsum(lengths)))
    padded = summed(framework, (z, y, w), lengths=framework.array(lengths), accuracy=True)
    packed = summed(framework, (z[kept], y[kept], w[kept]), cu_seqlens=offsets, accuracy=True)
    assert packed.to_dict() == padded.to_dict()


# --- order ----------------------------------------------------------------------------------------------------------


def grouped(rng, sums):
    """The sum in a random order and grouping."""
    sums = [sums[i] for i in rng.permutation(len(sums))]
    while len(sums) > 1:
        i = rng.integers(len(sums) - 1)
        sums[i : i + 2] = [sums[i] + sums[i + 1]]
    return sums[0]


def test_no_order_and_no_grouping_changes_a_bit(framework):
    rng = np.random.default_rng(1)
    scales = 10.0 ** rng.integers(-6, 4, 8)
    sums = []
    for seed, scale in enumerate(scales):
        z, y, w = draw(seed)
        sums.append(summed(framework, (z, y, (w * scale).astype("float32")), accuracy=True))
    few = ORDERS if framework.QUICK is None else ORDERS // 4  # each + is several dispatches there
    first = sum(sums)
    expected = [bits(x) for x in values(framework, first).values()], first.to_dict()
    for _ in range(few):
        total = grouped(rng, sums)
        assert [bits(framework.to_numpy(total.mean()))] == expected[0][:1]
        assert total.to_dict() == expected[1]


def test_float32_would_differ():
    """The test of the test."""
    rng = np.random.default_rng(1)
    losses = [np.float32(rng.exponential(3) * 10.0 ** rng.integers(-6, 4)) for _ in range(8)]
    found = {bits(sum((losses[i] for i in rng.permutation(8)), np.float32(0))) for _ in range(ORDERS)}
    assert len(found) > 1


def test_columns_may_be_added_many_times_without_a_carry(framework):
    """As a collective of 2**14 workers does."""
    one = summed(framework, draw(), accuracy=True)
    many = seqloss.LossSum(one.limbs * 2**14, one.barrier)
    for name, column in many.to_dict().items():
        if name != "dtype":
            assert exact_total(column) == 2**14 * exact_total(one.to_dict()[name])
    assert bits(values(framework, many)["mean"]) == bits(values(framework, one)["mean"])


def test_carrying_keeps_digits_small(framework):
    """However many are added, and negative ones too."""
    z, y, w = draw()
    w[1] *= -1e6
    one = total = summed(framework, (z, y, w))
    for _ in range(20):
        total = total + total
    limbs = framework.to_numpy(total.limbs)
    assert limbs.dtype == np.int32 and abs(limbs[:15].astype(int)).max() <= 2**16 + 4
    assert exact_total(total.to_dict()["losses"]) == 2**20 * exact_total(one.to_dict()["losses"]) < 0
    columns = one.to_dict()
    expected = exact_total(columns["losses"]) / exact_total(columns["weights"])
    for x in (one, total):
        assert values(framework, x)["mean"] == np.float32(float(expected))


def test_a_negative_mean(framework):
    """A number of small digits, of which its complement has large ones."""
    z, y, w = draw()
    w[1] = [-1e-3, -3, 2.5, 8, 16]
    z[1, :2] = 0
    z[1, 2:] = 0
    z[1, [2, 3, 4], y[1, 2:]] = 40
    w[[0, 3]] = 0
    columns = summed(framework, (z, y, w)).to_dict()
    expected = exact_total(columns["losses"]) / exact_total(columns["weights"])
    found = values(framework, summed(framework, (z, y, w)))["mean"]
    assert found == np.float32(float(expected)) < 0


def column(**digits):
    """A total by its digits, D7 for that of 1."""
    return [digits.get(f"D{place}", 0) for place in range(19)]


MOST = 2**31 - 1
BEYOND = {
    "the losses": (column(D15=3, D14=5), column(D9=2)),
    "negative losses": (column(D15=-3, D14=5), column(D9=2)),
    "both": (column(D15=3, D0=1), column(D15=2)),
    "both, the most": (column(D15=MOST), column(D15=MOST, D14=1)),
    "the weights": (column(D14=7), column(D15=MOST)),
    "small losses of large weights": (column(D8=7), column(D15=3)),
    "the mean": (column(D15=3, D14=5), column(D7=2)),
    "at the edge": (column(D12=65535, D0=1), column(D13=1, D0=65535)),
}


@pytest.mark.parametrize("case", BEYOND)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_totals_beyond_float32(framework, dtype, case):
    """Only the mean has to be a number of its dtype."""
    losses, weights = BEYOND[case]
    with framework.precision(dtype):
        given = {"dtype": dtype, "losses": losses, "weights": weights}
        mean = framework.to_numpy(seqloss.LossSum.from_dict(given, like=framework.array(np.zeros(1, dtype))).mean())
        exact = exact_total(losses) / exact_total(weights)
        assert mean.dtype == dtype
        assert mean == (np.inf if dtype == "float32" and exact >= 2**128 else np.dtype(dtype).type(float(exact)))


def test_counts_go_beyond_float32(framework):
    one = summed(framework, (np.zeros((1, 1, 2), "float32"), np.zeros((1, 1), int), None))
    total = one
    for _ in range(25):
        total = total + total
    assert exact_total((total + one).to_dict()["weights"]) == 2**25 + 1


# --- corners --------------------------------------------------------------------------------------------------------


def test_of_nothing_the_mean_is_0(framework):
    z, y, w = draw()
    nothing = [
        seqloss.loss_sum(framework.array(z[:0]), framework.array(y[:0]), accuracy=True),
        summed(framework, (np.full_like(z, np.nan), y - 100, w * 0), accuracy=True),
        seqloss.LossSum.empty(framework.array(z), accuracy=True),
    ]
    for total in nothing:
        found = values(framework, total)
        assert [found[name] for name in ("mean", "perplexity", "bits_per_token")] == [0, 1, 0]
        assert framework.to_numpy(total.accuracy()) == 0
        assert total.to_dict() == nothing[0].to_dict()
        one = summed(framework, (z, y, w), accuracy=True)
        assert (one + total).to_dict() == (0 + one).to_dict() == one.to_dict()


@pytest.mark.parametrize("row, expected", [(np.nan, np.nan), (-np.inf, np.nan), ("label", np.inf), ("huge", np.inf)])
def test_what_is_not_finite_shows(framework, row, expected):
    z, y, w = draw()
    good = summed(framework, (z, y, w))
    if row == "label":
        z[1, 0, y[1, 0]] = -np.inf
    elif row == "huge":
        z[1, 0], z[1, 0, y[1, 0]] = 3e38, -3e38
    else:
        z[1, 0] = row
    bad = summed(framework, (z, y, w))
    for total in (bad, good + bad, bad + good + good, seqloss.LossSum.from_dict(bad.to_dict(), like=good.limbs)):
        np.testing.assert_array_equal(values(framework, total)["mean"], np.float32(expected))
        np.testing.assert_array_equal(values(framework, total)["perplexity"], np.float32(expected))


def test_infinities_of_both_signs_are_no_number(framework):
    z, y, w = draw()
    z[1, 0, y[1, 0]] = -np.inf
    up, down = summed(framework, (z, y, w)), summed(framework, (z, y, w * -2))
    assert values(framework, up)["mean"] == np.inf
    assert np.isnan(values(framework, up + down)["mean"])


@pytest.mark.parametrize("weight, expected", [(np.nan, np.nan), (np.inf, np.nan)])
def test_weights_that_are_not_finite(framework, weight, expected):
    z, y, w = draw()
    w[1, 0] = weight
    np.testing.assert_array_equal(values(framework, summed(framework, (z, y, w)))["mean"], np.float32(expected))


def test_large_losses_and_small_weights(framework):
    z, y, w = draw()
    z[1, 0], z[1, 0, y[1, 0]] = 1e38, -1e38
    total = summed(framework, (z, y, w * np.float32(1e-20)), exact=True)
    expected = seqloss.sequence_loss(z, y, w * np.float32(1e-20), exact=True)
    assert tolerances.ulps(values(framework, total)["mean"], expected.astype("longdouble"), "float32").max() <= 1


# --- accuracy -------------------------------------------------------------------------------------------------------

ROWS = {
    "right": ([1, 5, 2], 1, 1),
    "wrong": ([1, 5, 2], 2, 0),
    "tie, the first": ([5, 5, 2], 0, 1),
    "tie, not the first": ([5, 5, 2], 1, 0),
    "all equal": ([0, 0, 0], 0, 1),
    "zeros of both signs": ([-0.0, 0.0, -1], 0, 1),
    "NaN before": ([np.nan, 3, 1], 1, 0),
    "NaN behind": ([3, 1, np.nan], 0, 0),
    "NaN itself": ([1, np.nan, 3], 1, 0),
    "infinite": ([np.inf, 1, 2], 0, 1),
    "impossible others": ([-np.inf, -np.inf, 2], 2, 1),
    "nothing possible": ([-np.inf] * 3, 0, 1),
    "no class": ([1, 2, 3], 3, 0),
    "negative": ([3, 2, 1], -1, 0),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_which_tokens_are_right(framework, dtype):
    """All in one batch, each alone in its column of the weights."""
    if dtype not in framework.DTYPES:
        return
    z, y = np.array([[row for row, *_ in ROWS.values()]], "float32"), np.array([[y for _, y, _ in ROWS.values()]])
    w = 2.0 ** np.arange(len(ROWS), dtype="float32")[None]
    logits = framework.array(z, dtype)
    total = seqloss.loss_sum(logits, framework.array(y), framework.array(w), accuracy=True, check_labels=False)
    found = int(exact_total(total.to_dict()["right"]))
    assert {name: found >> i & 1 for i, name in enumerate(ROWS)} == {name: right for name, (*_, right) in ROWS.items()}


def test_accuracy_is_weighted(framework):
    z, y, w = draw()
    total = summed(framework, (z, y, w), accuracy=True)
    right = z.argmax(-1) == y
    found = framework.to_numpy(total.accuracy())
    np.testing.assert_allclose(found, (right * w).sum() / w.sum(), rtol=2e-7)
    without = summed(framework, (z, y, None), accuracy=True)
    assert framework.to_numpy(without.accuracy()) == np.float32(right.mean())
    y[:, ::2] = z.argmax(-1)[:, ::2]
    lengths = np.array([2, 0, 5, 1])
    kept = np.arange(SHAPE[1]) < lengths[:, None]
    some = summed(framework, (z, y, None), accuracy=True, lengths=lengths)
    assert exact_total(some.to_dict()["right"]) == (kept & (z.argmax(-1) == y)).sum() < kept.sum()


def test_accuracy_of_many_rows(framework):
    """More than are compared at a time."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(3, 100, 4096)).astype("float32"), rng.integers(0, 4096, (3, 100))
    y[:, ::3] = z.argmax(-1)[:, ::3]
    total = summed(framework, (z, y, None), accuracy=True)
    assert exact_total(total.to_dict()["right"]) == (z.argmax(-1) == y).sum()


def test_accuracy_that_was_not_counted(framework):
    total, other = summed(framework, draw()), summed(framework, draw(), accuracy=True)
    with pytest.raises(seqloss.OptionError, match=r"^this LossSum has not counted .*; pass accuracy=True to loss_sum$"):
        total.accuracy()
    with pytest.raises(seqloss.OptionError, match=r"^a LossSum with accuracy=True cannot be added"):
        total + other


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accuracy", [False, True])
def test_a_checkpoint_loses_nothing(framework, accuracy):
    one, other = (summed(framework, draw(seed), accuracy=accuracy) for seed in range(2))
    text = json.dumps(one.to_dict())
    here = seqloss.LossSum.from_dict(json.loads(text), like=framework.array(draw()[0]))
    host = seqloss.LossSum.from_dict(json.loads(text))
    assert framework.is_array(here.limbs) and isinstance(host.limbs, np.ndarray)
    for again in (here, host):
        assert again.to_dict() == one.to_dict()
        for total in (again + other, other + again):
            assert framework.is_array(total.limbs)
            assert total.to_dict() == (one + other).to_dict()
            assert bits(values(framework, total)["mean"]) == bits(values(framework, one + other)["mean"])


def test_dtypes_join(framework):
    with framework.precision("float64"):
        one, other = summed(framework, draw()), summed(framework, draw(1, "float64"))
        assert framework.dtype((one + other).mean()) == framework.dtype((other + one).mean()) == "float64"
        assert other.to_dict()["dtype"] == "float64"
        assert framework.dtype(seqloss.LossSum.empty(framework.array(draw(1, "float64")[0])).barrier) == "float64"


GOOD = {"dtype": "float32", "losses": [0] * 19, "weights": [0] * 19}


@pytest.mark.parametrize(
    "change", [{"dtype": "int32"}, {"losses": [0] * 16}, {"weights": [0.5] * 19}, {"losses": [2**31] * 19}]
)
def test_a_checkpoint_of_something_else(change):
    assert seqloss.LossSum.from_dict(GOOD).mean() == 0
    with pytest.raises(seqloss.OptionError, match=r"^values must be what LossSum\.to_dict returned, got \{"):
        seqloss.LossSum.from_dict({**GOOD, **change})


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"targets": [[0, 9]]}, seqloss.LabelError, r"targets\[0, 1\] is 9"),
        ({"targets": [[0, 1, 2]]}, seqloss.ShapeError, "targets"),
        (
            {"targets": [[[0.5, 0.5, 0]] * 2]},
            seqloss.OptionError,
            "seqloss.loss_sum cannot be comb",
        ),
        ({"weights": [[1]]}, seqloss.ShapeError, "weights"),
        ({"lengths": [3]}, seqloss.OptionError, "lengths"),
        ({"softcap": 0.0}, seqloss.OptionError, "softcap"),
        ({"accuracy": 1}, seqloss.ArgumentTypeError, "accuracy must be True or False"),
        ({"exact": None}, seqloss.ArgumentTypeError, "exact must be True or False"),
        ({"check_labels": 1}, seqloss.ArgumentTypeError, "check_labels"),
        ({"ignore_index": 0.5}, seqloss.ArgumentTypeError, "ignore_index"),
    ],
)
def test_arguments_that_cannot_be(framework, change, error, message):
    given = {"targets": [[0, 1]], **change}
    with pytest.raises(error, match=message):
        seqloss.loss_sum(framework.array(np.zeros((1, 2, 3), "float32")), **given)


def test_averaged_limbs_are_noticed(framework):
    total = summed(framework, draw())
    with pytest.raises(
        seqloss.DTypeError, match=r"limbs of a LossSum must be integers, got float32; .*do not average them"
    ):
        seqloss.LossSum(framework.array(framework.to_numpy(total.limbs) / 2, "float32"), total.barrier).mean()


@pytest.mark.parametrize("other", [1, 0.5, None, "x", (1, 2)])
def test_only_sums_are_added(other):
    total = seqloss.LossSum.empty()
    for combined in (lambda: total + other, lambda: other + total, lambda: total * 2, lambda: 2 * total):
        with pytest.raises(
            seqloss.ArgumentTypeError,
            match=r"^a LossSum can(not be multiplied; it can)? only be added to another LossSum or to 0",
        ):
            combined()


@pytest.mark.parametrize("result", ["mean", "perplexity", "bits_per_token", "accuracy"])
@pytest.mark.parametrize("exact", [False, True])
def test_no_result_can_be_differentiated(framework, result, exact):
    if not framework.CAN.differentiates:
        return

    def of_sum(z, y, w):
        return getattr(seqloss.loss_sum(z, y, w, accuracy=True, exact=exact), result)()

    arrays = [framework.array(x) for x in draw()]
    with pytest.raises(seqloss.BackendError, match=r"^a LossSum cannot be differentiated"):
        framework.MODES["eager"](of_sum, (0,))(arrays, None)


def test_a_sum_of_sums_cannot_be_differentiated_with_respect_to_weights(framework):
    if not framework.CAN.differentiates:
        return

    def of_sum(z, y, w):
        return sum([seqloss.loss_sum(z, y, w), seqloss.LossSum.empty(), seqloss.loss_sum(z, y, w)]).mean()

    with pytest.raises(seqloss.BackendError, match=r"^a LossSum cannot be differentiated"):
        framework.MODES["eager"](of_sum, (2,))([framework.array(x) for x in draw()], None)


def test_beside_a_loss_it_costs_no_gradient(framework):
    """In eager code logits need not even be detached, as long as nobody differentiates the sum."""
    if not framework.CAN.differentiates:
        return
    seen = []

    def step(z, y, w):
        seen.append(seqloss.loss_sum(z, y, w))
        return seqloss.sequence_loss(z, y, w)

    arrays = [framework.array(x) for x in draw()]
    _, (found,) = framework.MODES["eager"](step, (0,))(arrays, None)
    _, expected = seqloss.sequence_loss_and_grad(*draw())
    np.testing.assert_allclose(framework.to_numpy(found), expected, rtol=1e-5, atol=1e-9)
    assert len(seen) == 1


# --- compiled -------------------------------------------------------------------------------------------------------


def test_in_and_out_of_compiled_functions(backend, mode):
    """The same bits as in eager code, though float64 losses may differ far below them. A bad label makes it NaN."""
    driver = frameworks.load(backend)

    def step(limbs, barrier, z, y, w):
        total = seqloss.LossSum(limbs, barrier) + seqloss.loss_sum(z, y, w, accuracy=True, exact=True)
        return total, total.mean(), total.accuracy()

    compiled = driver.EXPLICIT[mode](step)
    arrays = [driver.array(x) for x in draw()]
    eager = compiled_sum = seqloss.LossSum.empty(arrays[0], accuracy=True)
    for _ in range(2):
        eager = eager + seqloss.loss_sum(*arrays, accuracy=True, exact=True)
        compiled_sum, mean, accuracy = compiled(*compiled_sum, *arrays)
        assert type(compiled_sum) is seqloss.LossSum
        found, wanted = compiled_sum.to_dict(), eager.to_dict()
        assert {**found, "losses": None} == {**wanted, "losses": None}
        assert bits(driver.to_numpy(compiled_sum.mean())) == bits(driver.to_numpy(eager.mean()))
        assert bits(driver.to_numpy(mean)) == bits(driver.to_numpy(eager.mean()))
        assert bits(driver.to_numpy(accuracy)) == bits(driver.to_numpy(eager.accuracy()))
    if mode == "explicit":  # where it would raise
        return
    arrays[1] = driver.array(np.full(SHAPE, CLASSES))
    total, mean, accuracy = compiled(*compiled_sum, *arrays)
    assert np.isnan(driver.to_numpy(mean)) and total.to_dict()["losses"][16] == (draw()[2] != 0).sum()
    assert 0 < driver.to_numpy(accuracy) < driver.to_numpy(eager.accuracy())


# --- seen -----------------------------------------------------------------------------------------------------------


def test_it_shows_what_it_holds(framework):
    z, y = np.zeros((1, 2, 4), "float32"), np.array([[0, 1]])
    assert repr(summed(framework, (z, y, None))) == "LossSum(mean=1.38629, weight=2)"
    assert repr(summed(framework, (z, y, None), accuracy=True)) == "LossSum(mean=1.38629, weight=2, accuracy=0.5)"
    assert repr(seqloss.LossSum("limbs", None)) == "LossSum(limbs='limbs', barrier=None)"
