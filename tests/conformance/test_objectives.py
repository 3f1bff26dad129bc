"""The options of the loss, every two of them together, in every backend and mode, against the definition."""

import covering
import numpy as np
import pytest
import suite
from hypothesis import given, settings
from hypothesis import strategies as st

import seqloss
from seqloss.testing import frameworks, oracle_objectives, tolerances
from seqloss.testing.oracle import WIDE

BATCH, TIME, CLASSES, IGNORED = 3, 4, 7, 2
SMOOTHINGS = {
    "none": {},
    "number": {"eps": 0.1},
    "prior": {"eps": 0.3, "prior": True},
    "excluding": {"eps": 0.2, "exclude": (1, IGNORED)},
    "off target": {"eps": 0.1, "off_target": True},
    "divergence": {"eps": 0.1, "off_target": True, "centred": True},
    "divergence, prior": {"eps": 0.2, "off_target": True, "centred": True, "prior": True, "exclude": (IGNORED,)},
    "centred prior": {"eps": 0.1, "centred": True, "prior": True},
}
FACTORS = {
    "smoothing": list(SMOOTHINGS),
    "class_weights": [False, True],
    "z_loss": [0.0, 0.01],
    "softcap": [None, 4.0],
    "out": ["none", "ignored", "lengths", "both", "packed"],
    "reduction": ["mean", "sum", "none", "per_sequence", "sequence_mean", "sum_both", "sum_time"],
    "normalizer": [None, "number", "array"],
    "weights": ["floats", "none", "bools"],
    "targets": ["ids", "soft"],
    "exact": [False, True],
    "arrays": ["arguments", "closed over"],
}
FLAGS = {
    "sum_both": {"sum_over_timesteps": True, "sum_over_batch": True},
    "sum_time": {"sum_over_timesteps": True},
}


def is_legal(row):
    has_formula = not (row["class_weights"] and "off_target" in SMOOTHINGS[row["smoothing"]])
    has_formula &= not (row["class_weights"] and "centred" in SMOOTHINGS[row["smoothing"]])
    if row["targets"] == "soft":
        has_formula &= (
            "off_target" not in SMOOTHINGS[row["smoothing"]] and "centred" not in SMOOTHINGS[row["smoothing"]]
        )
        has_formula &= row["out"] in ("none", "lengths", "packed")
    is_scalar = row["reduction"] not in ("none", "per_sequence", "sum_time")
    return has_formula and (is_scalar or row["normalizer"] is None)


ROWS = covering.pairwise(FACTORS, is_legal)
ANY = {name: st.sampled_from(values) for name, values in FACTORS.items()}


def identity(row):
    return "-".join(str(value).replace(" ", "_") for value in row.values())


def test_every_two_options_meet():
    met = {name: {row[name] for row in ROWS} for name in FACTORS}
    assert met == {name: set(values) for name, values in FACTORS.items()}
    never = ("prior", True), ("divergence", True)
    pairs = {(row["smoothing"], row["class_weights"]) for row in ROWS}
    assert never[0] in pairs
    assert never[1] not in pairs


# Modes that run the operations of another mode, in which each value of each option is, and how many rows they have.
ASIDE = {
    "compile-dynamic": 1,  # as compile, with sizes that are symbols: ten seconds for each
    "function-unknown-rank": 3,  # as function-unknown-sizes, once the rank has been asserted
    "grad-of-jit": 3,  # as jit, and what is differentiated is the program
    "checkpoint": 3,  # as jit, some of it twice
}


def chosen(driver, modes, full):
    """The rows of each mode: all where nothing is compiled, else some that have each value of each option."""
    for turn, mode in enumerate(modes):
        is_cheap = mode not in driver.COMPILED and not driver.QUICK
        # With sizes that are symbols the sums of the exact mode take torch.compile half a minute; test_exact has them.
        rows = [row for row in ROWS if not (row["exact"] and mode == "compile-dynamic")]
        few = covering.each_value(rows, turn, lambda row: row["exact"])
        for row in ROWS if full or is_cheap else few[: ASIDE.get(mode)]:
            yield mode, row


def pytest_generate_tests(metafunc):
    if "row" in metafunc.fixturenames:
        parameters = []
        for name in metafunc.config.getoption("--backends").split(","):
            driver = frameworks.load(name)
            modes = driver.EXPLICIT if "explicit" in metafunc.function.__name__ else driver.MODES
            for mode, row in chosen(driver, modes, metafunc.config.getoption("--full")):
                parameters.append(pytest.param(name, mode, row, id=f"{name}-{mode}-{identity(row)}"))
        metafunc.parametrize("name, mode, row", parameters)


class Batch:
    """The arrays of a row as NumPy's, and what they mean."""

    def __init__(self, row, seed=5):
        rng = np.random.default_rng(seed)
        self.row = row
        self.logits = rng.normal(0, 3, (BATCH, TIME, CLASSES)).astype("float32")
        self.logits[0, 1, 4] = -np.inf
        self.targets = rng.integers(3, CLASSES, (BATCH, TIME))
        self.targets[0, 1] = 5
        self.kept = np.ones((BATCH, TIME), bool)
        self.lengths = None
        weights = rng.uniform(0.5, 2, (BATCH, TIME)).astype("float32")
        if row["out"] in ("ignored", "both"):
            self.targets[0, 0], self.targets[1, 2] = IGNORED, -100
            self.kept &= (self.targets != IGNORED) & (self.targets != -100)
        if row["out"] in ("lengths", "both", "packed"):
            self.lengths = np.array([TIME, 2, 0])
            self.kept &= np.arange(TIME) < self.lengths[:, None]
            self.targets[2] = 1_000
        # Behind what is out stands what would spoil everything.
        self.logits[~self.kept] = np.nan
        if row["weights"] == "floats":
            weights[0, 2] = 0
            weights[~self.kept] = np.nan
        self.weights = {"none": None, "bools": weights > 0.9, "floats": weights}[row["weights"]]
        if row["targets"] == "soft":
            self.targets = _soft(rng, self.targets, self.kept)
            self.targets[weights == 0] = -1
        self.class_weights = np.array([1, 2, 0.5, 0, 1.5, 1, 3], "float32") if row["class_weights"] else None
        smoothing = SMOOTHINGS[row["smoothing"]]
        self.prior = rng.uniform(0.5, 2, CLASSES).astype("float32") if smoothing.get("prior") else None
        self.normalizer = None if row["normalizer"] is None else 3.0
        self.objective = oracle_objectives.Objective(
            smoothing.get("eps", 0.0),
            smoothing.get("off_target", False),
            smoothing.get("centred", False),
            smoothing.get("exclude", ()),
            self.prior,
            self.class_weights,
            row["z_loss"],
            row["softcap"],
        )

    def differentiable(self):
        """The arrays of the call that have gradients: their places and names."""
        soft, floats = self.row["targets"] == "soft", self.row["weights"] == "floats"
        return {0: "logits", **({1: "targets"} if soft else {}), **({2: "weights"} if floats else {})}

    @property
    def is_packed(self):
        return self.row["out"] == "packed"

    @property
    def cu_seqlens(self):
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype("int32")

    def packed(self, x):
        """What is of tokens without those that are in no sequence."""
        return x[self.kept] if self.is_packed and np.shape(x)[:2] == self.kept.shape else x

    def unpacked(self, x):
        tokens = np.zeros(self.kept.shape, x.dtype)
        tokens[self.kept] = x
        return tokens

    def options(self):
        """The static options of the call."""
        row = self.row
        options = {"z_loss": row["z_loss"], "softcap": row["softcap"], "exact": row["exact"]}
        if row["out"] in ("ignored", "both"):
            options["ignore_index"] = (IGNORED, -100)
        if row["reduction"] in FLAGS:
            averages = {"average_across_timesteps": False, "average_across_batch": False}
            return {**options, **averages, **FLAGS[row["reduction"]]}
        return {**options, "reduction": row["reduction"]}

    def arrays(self, driver):
        """Those of the framework: logits, targets and weights, and the others by name."""
        main = [None if x is None else driver.array(self.packed(x)) for x in (self.logits, self.targets, self.weights)]
        names = ("class_weights", "prior", "cu_seqlens" if self.is_packed else "lengths")
        others = {name: driver.array(x) for name in names if (x := getattr(self, name)) is not None}
        if self.row["normalizer"] == "array":
            others["normalizer"] = driver.array(np.float32(self.normalizer))
        return main, others

    def call(self, function, arrays, others, **more):
        """A loss of arrays as a user writes it."""
        smoothing, others = SMOOTHINGS[self.row["smoothing"]], dict(others)
        prior = others.pop("prior", None)
        given = {**smoothing, "prior": prior} if smoothing else {"eps": 0.0}
        if self.row["normalizer"] == "number":
            others["normalizer"] = self.normalizer
        label_smoothing = given["eps"] if given.keys() == {"eps", "prior"} and prior is None else None
        if label_smoothing is None:
            label_smoothing = seqloss.Smoothing(**given)
        return function(*arrays, label_smoothing=label_smoothing, **others, **self.options(), **more)

    def expected(self, cotangent=1.0):
        of = oracle_objectives.tokens(self.logits, self.targets, self.objective)
        weights = np.ones((BATCH, TIME), "float32") if self.weights is None else self.weights.astype("float32")
        if self.is_packed and np.ndim(cotangent) == 1 and self.row["reduction"] == "none":
            cotangent = self.unpacked(cotangent)
        found = oracle_objectives.averaged(
            of, weights, self.kept, self.objective, self.row["reduction"], self.normalizer, cotangent
        )
        if not self.is_packed:
            return found
        return found._replace(**{name: self.packed(x) for name, x in found._asdict().items()})

    def check(self, driver, loss, gradients, cotangent, forgets=False):
        """Dtype, shape, NaN places and exact zeros before values; then the distance in ULP."""
        expected = self.expected(1.0 if cotangent is None else cotangent)
        bound, slope_bound = tolerances.capped_bound(
            self.packed(np.where(self.kept[..., None], self.logits, 0)), self.row["softcap"]
        )
        worst = max(bound.max(), tolerances.TIGHT_ULPS)
        found = {"loss": loss, **gradients}
        assert gradients.keys() <= {"dlogits", "dweights", "dtargets"}
        for name, got in found.items():
            true, scale = getattr(expected, name), getattr(expected, f"{name}_scale")
            most = np.maximum(slope_bound, worst) if name == "dlogits" else worst
            if name == "dtargets" and forgets:
                # What a program that forgets pullbacks makes of a class that cannot happen is documented.
                true = np.where(np.isinf(true), driver.to_numpy(got), true)
            true, scale = np.asarray(true), np.asarray(scale)
            suite.matches(driver, got, true.astype(WIDE), scale, "float32", driver.device(got))
            result = driver.to_numpy(got)
            if self.row["exact"]:
                most, scale = tolerances.EXACT_ULPS, scale * 2.0**-26
            assert tolerances.excess(result, true, "float32", most, scale).max(initial=0) <= 1


def _soft(rng, targets, kept):
    """Soft targets of any mass, of which some are one-hot, and NaN where a token is out."""
    soft = rng.uniform(0, 1, (BATCH, TIME, CLASSES)) * rng.integers(0, 2, (BATCH, TIME, CLASSES))
    soft[:, 1] = np.eye(CLASSES)[targets[:, 1] % CLASSES]
    soft[~kept] = np.nan
    return soft.astype("float32")


def upstream(batch):
    shape = np.shape(batch.expected().loss)
    return None if shape == () else np.linspace(0.5, 2, int(np.prod(shape))).reshape(shape).astype("float32")


def test_against_the_definition(name, mode, row):
    against_the_definition(frameworks.load(name), mode, row)


def test_any_options_together(framework):
    """Of all combinations that are legal, eagerly, with other numbers in each."""
    examples = 3 if framework.QUICK else 60  # compiled operation by operation each takes a second

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.fixed_dictionaries(ANY).filter(is_legal), st.integers(0, 999))
    def agrees(row, seed):
        against_the_definition(framework, "eager", row, seed)
        explicit_gradients(framework, "explicit", row, seed)

    agrees()


def against_the_definition(driver, mode, row, seed=5):
    batch = Batch(row, seed)
    with driver.precision("float32"), np.errstate(all="ignore"):
        main, others = batch.arrays(driver)
        wrt = batch.differentiable()
        names = list(others) if row["arrays"] == "arguments" else []
        constants = {key: x for key, x in others.items() if key not in names}
        present = [x for x in main if x is not None]

        def loss(*arrays):
            main, more = arrays[: len(present)], arrays[len(present) :]
            given = dict(zip(names, more, strict=True))
            return batch.call(seqloss.sequence_loss, main, {**constants, **given})

        run = driver.MODES[mode](loss, tuple(wrt))
        cotangent = upstream(batch)
        g = None if cotangent is None else driver.array(cotangent)
        value, gradients = run([*present, *(others[key] for key in names)], g)
        found = dict(zip([f"d{name}" for name in wrt.values()], gradients, strict=True)) if gradients else {}
        forgets = mode in driver.CAN.forgetful
        if row["exact"] and forgets:
            # Autograd's own gradients of the operations, which are rounded as it likes.
            found = {}
        batch.check(driver, value, found, cotangent, forgets)


def test_explicit_gradients(name, mode, row):
    explicit_gradients(frameworks.load(name), mode, row)


def explicit_gradients(driver, mode, row, seed=5):
    batch = Batch(row, seed)
    with driver.precision("float32"), np.errstate(all="ignore"):
        main, others = batch.arrays(driver)
        present = [x for x in main if x is not None]
        wrt = tuple(batch.differentiable().values())

        def both(*arrays):
            main, more = arrays[: len(present)], dict(zip(others, arrays[len(present) :], strict=True))
            g = None if cotangent is None else driver.array(cotangent)
            return batch.call(seqloss.sequence_loss_and_grad, main, more, wrt=wrt, cotangent=g)

        cotangent = upstream(batch)
        value, gradients = driver.EXPLICIT[mode](both)(*present, *others.values())
        batch.check(driver, value, dict(zip([f"d{name}" for name in wrt], gradients, strict=True)), cotangent)
