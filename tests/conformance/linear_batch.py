"""A batch for the linear loss: the arrays of a row of options, what they mean, and how far off results may be.

The truth are logits in float64 or wider, the oracle on these, and the chain rule. What may be off is of the first
order::

    e_z = u (features + 3) (|h| @ |k| + |b|)              of a logit, u half a unit in the last place of 1
    e_l = token bound + e_z sum |d_logits|                of a loss
    e_g = token bound + 4 e_z |d_logits|                  of the gradient of a logit; |d_logits| before summands cancel
    e_x = e_g @ |k.T| + u (classes + 3) |g| @ |k.T|       of the gradient of hidden; those of kernel and bias alike

and one rounding where the result is narrower than what was computed. In exact mode ``u`` is that of float64.
"""

import numpy as np
import suite

import seqloss
from seqloss.testing import oracle_objectives, tolerances
from seqloss.testing.oracle import WIDE

BATCH, TIME, FEATURES, IGNORED = 3, 4, 5, 2
SMOOTHINGS = {
    "none": {},
    "number": {"eps": 0.1},
    "prior": {"eps": 0.3, "prior": True},
    "off target": {"eps": 0.1, "off_target": True},
    "divergence": {"eps": 0.1, "centred": True, "exclude": (1,)},
}
DTYPES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "half": ("half", "half"),
    "float16": ("float16", "float16"),
    "half hidden": ("half", "float32"),
    "half kernel": ("float32", "half"),
    "wide kernel": ("float32", "float64"),
}
"""Of hidden, and of kernel and bias. "half" is bfloat16 where that is."""
FACTORS = {
    "smoothing": list(SMOOTHINGS),
    "class_weights": [False, True],
    "z_loss": [0.0, 0.01],
    "softcap": [None, 4.0],
    "out": ["none", "ignored", "lengths", "both", "packed"],
    "reduction": ["mean", "sum", "none", "per_sequence", "sequence_mean"],
    "normalizer": [None, "number", "array"],
    "weights": ["floats", "none", "bools"],
    "targets": ["ids", "soft"],
    "exact": [False, True],
    "chunk": [None, 1, 5, 100],
    "layout": ["rows", "transposed"],
    "bias": [True, False],
    "dtypes": list(DTYPES),
    "spoiled": ["nan", "inf", "column"],
    "classes": [7, 70],
}


def is_legal(row):
    smoothing = SMOOTHINGS[row["smoothing"]]
    has_formula = not (row["class_weights"] and ("off_target" in smoothing or "centred" in smoothing))
    if row["targets"] == "soft":
        has_formula &= "off_target" not in smoothing and "centred" not in smoothing
        has_formula &= row["out"] in ("none", "lengths", "packed")
    has_formula &= not (row["exact"] and "float64" in DTYPES[row["dtypes"]])
    is_scalar = row["reduction"] not in ("none", "per_sequence")
    return has_formula and (is_scalar or row["normalizer"] is None)


class Batch:
    """The arrays of a row in a framework, and what a loss of them is."""

    def __init__(self, driver, row, seed=5):
        rng = np.random.default_rng(seed)
        self.driver, self.row = driver, row
        self.classes = classes = row["classes"]
        self.last = classes - 1  # the class of an infinite column, which is the label of nobody
        half = "bfloat16" if "bfloat16" in driver.DTYPES else "float16"
        self.dtypes = [half if name == "half" else name for name in DTYPES[row["dtypes"]]]
        self.returned = "float64" if "float64" in self.dtypes else "float32"
        self.computed = "float64" if row["exact"] else self.returned
        hidden = abs(rng.normal(0, 1, (BATCH, TIME, FEATURES)))
        kernel, bias = rng.normal(0, 1.5, (FEATURES, classes)), rng.normal(0, 1, classes)
        weights = rng.uniform(0.5, 2, (BATCH, TIME)).astype("float32")
        self.targets = rng.integers(3, self.last, (BATCH, TIME))
        self.kept, self.lengths = np.ones((BATCH, TIME), bool), None
        self._take_out(row["out"])
        if row["weights"] == "floats":
            weights[0, 2] = 0
            weights[~self.kept] = np.nan
        self.weights = {"none": None, "bools": weights > 0.9, "floats": weights}[row["weights"]]
        self.active = self.kept if self.weights is None else self.kept & (self.weights != 0)
        self.spoilt = ~self.kept if row["spoiled"] == "column" else ~self.active
        if row["spoiled"] == "column":
            kernel[:, self.last] = -np.inf
        hidden[self.spoilt] = np.inf if row["spoiled"] == "inf" else np.nan
        if row["targets"] == "soft":
            self._soften(rng)
        self.class_weights = (
            np.resize([1, 2, 0.5, 0, 1.5, 1, 3], classes).astype("float32") if row["class_weights"] else None
        )
        smoothing = SMOOTHINGS[row["smoothing"]]
        self.prior = rng.uniform(0.5, 2, classes).astype("float32") if smoothing.get("prior") else None
        self.normalizer = None if row["normalizer"] is None else 3.0
        self.hidden, self.kernel = (
            driver.array(self.packed(hidden), self.dtypes[0]),
            driver.array(kernel, self.dtypes[1]),
        )
        if row["layout"] == "transposed":
            self.kernel = driver.array(kernel.T.copy(), self.dtypes[1])
        self.bias = driver.array(bias, self.dtypes[1]) if row["bias"] else None
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

    def _take_out(self, out):
        if out in ("ignored", "both"):
            self.targets[0, 0], self.targets[1, 2] = IGNORED, -100
            self.kept &= (self.targets != IGNORED) & (self.targets != -100)
        if out in ("lengths", "both", "packed"):
            self.lengths = np.array([TIME, 2, 0])
            self.kept &= np.arange(TIME) < self.lengths[:, None]
            self.targets[2] = 1_000

    def _soften(self, rng):
        soft = rng.uniform(0, 1, (BATCH, TIME, self.classes)) * rng.integers(0, 2, (BATCH, TIME, self.classes))
        soft[:, 1] = np.eye(self.classes)[self.targets[:, 1] % self.last]
        soft[..., self.last] = 0
        soft[~self.active], soft[~self.kept] = -1, np.nan
        self.targets = soft.astype("float32")

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
        tokens = np.zeros((*self.kept.shape, *x.shape[1:]), x.dtype)
        tokens[self.kept] = x
        return tokens

    # --- the call

    def arrays(self):
        """Those of the framework, by name; without a bias or weights, None is not among them."""
        driver, row = self.driver, self.row
        found = {"hidden": self.hidden, "kernel": self.kernel, "bias": self.bias}
        host = {"targets": self.packed(self.targets), "class_weights": self.class_weights, "prior": self.prior}
        host["weights"] = None if self.weights is None else self.packed(self.weights)
        host["cu_seqlens" if self.is_packed else "lengths"] = (
            None if self.lengths is None else (self.cu_seqlens if self.is_packed else self.lengths)
        )
        host["normalizer"] = np.float32(self.normalizer) if row["normalizer"] == "array" else None
        found |= {name: driver.array(x) for name, x in host.items() if x is not None}
        return {name: x for name, x in found.items() if x is not None}

    @property
    def differentiable(self):
        names = ["hidden", "kernel", *(["bias"] if self.bias is not None else [])]
        return [*names, *(["weights"] if self.row["weights"] == "floats" else [])]

    def call(self, function, arrays, **more):
        """A loss of arrays as a user writes it."""
        row, given = self.row, dict(arrays)
        smoothing, prior = dict(SMOOTHINGS[row["smoothing"]]), given.pop("prior", None)
        if prior is not None:
            smoothing["prior"] = prior
        label_smoothing = seqloss.Smoothing(**smoothing) if len(smoothing) > 1 else smoothing.get("eps", 0.0)
        if row["normalizer"] == "number":
            given["normalizer"] = self.normalizer
        if row["layout"] == "transposed":
            given["kernel"] = self.driver.transposed(given["kernel"])
        if row["out"] in ("ignored", "both"):
            given["ignore_index"] = (IGNORED, -100)
        same = {name: row[name] for name in ("z_loss", "softcap", "exact", "reduction", "chunk")}
        return function(**given, **same, label_smoothing=label_smoothing, **more)

    # --- what it is

    def expected(self, cotangent=1.0):
        """Pairs of the loss and of each gradient, by name, with how far from it a result may be."""
        h, k, b = self._wide()
        weights = np.ones((BATCH, TIME), "float32") if self.weights is None else self.weights.astype("float32")
        if self.is_packed and np.ndim(cotangent) == 1 and self.row["reduction"] == "none":
            cotangent = self.unpacked(cotangent)
        with np.errstate(all="ignore"):
            logits = h @ k + b
            of = oracle_objectives.tokens(logits, self.targets, self.objective)
            true = oracle_objectives.averaged(
                of, weights, self.kept, self.objective, self.row["reduction"], self.normalizer, cotangent
            )
            found = self._distances(true, h, k, b, logits, of)
        if self.is_packed:
            found = {name: tuple(self.packed(x) for x in pair) for name, pair in found.items()}
        return found

    def _wide(self):
        h, k = (self.driver.to_numpy(x).astype(WIDE) for x in (self.hidden, self.kernel))
        k = k.T if self.row["layout"] == "transposed" else k
        h = self.unpacked(h) if self.is_packed else h
        return h, k, WIDE(0) if self.bias is None else self.driver.to_numpy(self.bias).astype(WIDE)

    def _distances(self, true, h, k, b, logits, of):
        u, g, sizes = WIDE(0.5) * tolerances.PRECISION[self.computed].epsilon, true.dlogits, true.dlogits_scale
        finite, rows = np.where(np.isfinite(k), abs(k), 0), np.where(np.isfinite(h), abs(h), 0)
        e_z = u * (FEATURES + 3) * (rows @ finite + abs(b)).max(-1)
        bound, slope_bound = tolerances.capped_bound(np.where(np.isfinite(logits), logits, 0), self.row["softcap"])
        worst = 2 * u * max(bound.max(), tolerances.TIGHT_ULPS)
        e_g = 2 * u * np.maximum(slope_bound, 20) * sizes + 4 * e_z[..., None] * sizes
        idle = (sizes == 0).all(-1)[..., None]
        counted, moved = np.where(idle, 0, h), np.where(self.active, e_z * of.dlogits_scale.sum(-1), 0)
        # Cotangents are at least 0.5.
        axis = {"none": (), "per_sequence": 1}.get(self.row["reduction"], (0, 1))
        e_l = worst * true.loss_scale + 2 * (e_z * sizes.sum(-1)).sum(axis)
        e_w = np.nan_to_num(true.dweights_scale / of.loss_scale) * (moved + moved.max()) + worst * true.dweights_scale
        return {
            "loss": (true.loss, e_l),
            "hidden": (np.where(idle, 0, g @ k.T), e_g @ finite.T + u * (self.classes + 3) * (abs(g) @ finite.T)),
            "kernel": (_over(counted, g), _over(abs(counted), e_g + u * (BATCH * TIME + 3) * abs(g))),
            "bias": (g.sum((0, 1)), (e_g + u * (BATCH * TIME + 3) * abs(g)).sum((0, 1))),
            "weights": (true.dweights, e_w),
        }

    def check(self, loss, gradients, cotangent):
        """Type, device, shape, dtype, NaN places and exact zeros before values."""
        expected, dtypes = self.expected(1.0 if cotangent is None else cotangent), {"loss": self.returned}
        dtypes |= {"hidden": self.dtypes[0], "kernel": self.dtypes[1], "bias": self.dtypes[1], "weights": "float32"}
        for name, got in {"loss": loss, **gradients}.items():
            true, most = expected[name]
            if name == "kernel" and tuple(got.shape) == (self.classes, FEATURES):
                true, most = true.T, most.T
            true, dtype = np.asarray(true), dtypes[name]
            suite.matches(self.driver, got, true, np.asarray(most), dtype, self.driver.device(self.hidden))
            result = self.driver.to_numpy(got)
            one_rounding = tolerances.HALF_ULPS if dtype in ("float16", "bfloat16") else tolerances.EXACT_ULPS
            if dtype != self.computed:
                most = most + one_rounding * tolerances.unit(true, dtype)
            far = abs(np.where(np.isnan(true), 0, result) - np.nan_to_num(true))
            precision = tolerances.PRECISION[dtype]
            allowed = most + (precision.smallest_normal if precision.flushed else 0)
            assert (far <= np.where(np.isnan(true), np.inf, allowed)).all(), (
                f"{name}: {(far / allowed).max():.3g} of the allowed distance, {result!r}, expected {true!r}"
            )


def _over(rows, slopes):
    """The sum over all tokens of products [features, classes]."""
    return np.einsum("btd,btv->dv", rows, slopes)
