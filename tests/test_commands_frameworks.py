"""What the commands do in the process of each framework, in the process of the test."""

import json
import sys
import types

import numpy as np
import pytest

from seqloss.__main__ import main
from seqloss.commands import golden_jobs, probe, selftest_job
from seqloss.core.errors import OptionError
from seqloss.testing import Conventions, GoldenError, check_loss, golden


@pytest.fixture
def batch():
    """Arrays with padding, and the loss in float64."""
    rng = np.random.default_rng(0)
    z, y, w = rng.normal(size=(3, 5, 8)), rng.integers(0, 8, (3, 5)), np.arange(5) < np.array([5, 2, 3])[:, None]
    nll = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, y[..., None], -1)[..., 0]
    return {"logits": z, "targets": y, "weights": w.astype("float64")}, nll[w].mean()


@pytest.fixture
def compared(capsys, monkeypatch):
    def compared(backend, function):
        monkeypatch.setenv("PYTHONWARNINGS", "error")
        status = main(["parity", "--backends", backend, "--json", "--function", function])
        (line,) = json.loads(capsys.readouterr().out)["backends"]
        assert (status, line["status"], line["problems"]) == (0, "agrees", [])
        return line

    return compared


def test_parity_of_gradients_by_autodiff(framework_name, compared):
    """Of a function with labels, lists and numbers beside the arrays; all others are in the table of families too."""
    line = compared(framework_name, "nce_loss")
    assert framework_name == "numpy" or 0 < line["gradient_ulp"] <= line["gradient_bound"]


@pytest.mark.parametrize("function", ["sigmoid_cross_entropy", "legacy.sequence_loss"])
def test_parity_of_other_inputs(function, compared):
    line = compared("numpy", function)
    assert 0 < line["tokens_ulp"] <= line["tokens_bound"]


def test_a_look_at_a_framework(framework_name):
    facts, _ = probe.probe(framework_name, {}, {})
    assert facts["works"] and facts["loss"] == pytest.approx(np.log(2))
    assert facts["version"] == __import__(framework_name).__version__
    assert any("cpu" in device for device in facts["devices"]) and facts["threads"]
    assert framework_name != "jax" or facts["settings"]["x64"] is False


def test_golden_there_and_back(framework_name, batch, tmp_path):
    arrays, loss = batch
    options = {"path": str(tmp_path / "old"), "flags": {}, "note": "a|b", "dtypes": {}, "overwrite": False}
    facts, _ = golden_jobs.record(framework_name, arrays, options)
    recorded = golden.read(facts["path"])
    assert set(recorded.results) == {"loss", "dlogits", "dweights", "token_losses"}
    assert recorded.results["loss"].dtype == "float64"
    assert recorded.results["loss"] == pytest.approx(loss, rel=1e-12)
    assert (recorded.note, recorded.flags, framework_name in recorded.versions) == ("a|b", {}, True)
    how = {"files": [facts["path"]], "bound": None, "figures": False, "compute": None}
    found, _ = golden_jobs.check(framework_name, {}, how)
    assert all(result["same"] for result in found["files"][facts["path"]]["results"].values())


def test_golden_in_bfloat16(framework_name, batch, tmp_path):
    dtypes = {"logits": "bfloat16"}
    options = {"path": str(tmp_path / "half"), "flags": {}, "note": None, "dtypes": dtypes, "overwrite": False}
    single = {name: x.astype("float32") if x.dtype == "float64" else x for name, x in batch[0].items()}
    if framework_name == "numpy":
        with pytest.raises(
            GoldenError, match="logits was recorded in bfloat16, which NumPy lacks; choose another backend"
        ):
            golden_jobs.record(framework_name, single, options)
        return
    facts, _ = golden_jobs.record(framework_name, single, options)
    assert golden.read(facts["path"]).dtypes["dlogits"] == "bfloat16"


FOREIGN = types.SimpleNamespace(shape=(), dtype="float32")


@pytest.mark.parametrize("pair, what", [((FOREIGN, None), "loss"), ((1.5, FOREIGN), "gradient")])
def test_what_is_no_array_of_the_framework_is_refused(framework_name, pair, what):
    with pytest.raises(OptionError, match=f"SimpleNamespace as the {what}, expected an array of {framework_name};"):
        check_loss(lambda *arrays: pair, backend=framework_name, conventions=Conventions(gradient="returned"))


def test_what_selftest_does_in_a_framework(framework_name, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    how = {"loss": "seqloss:sequence_loss", "conventions": None, "invariants": ["shift"], "modes": None, "seed": 0}
    facts, _ = selftest_job.check(framework_name, {}, how)
    (finding,) = facts["check"]["findings"]
    assert (facts["check"]["backend"], finding["verdict"]) == (framework_name, "holds")
