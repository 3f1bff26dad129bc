"""The port from TensorFlow 1.15 that docs/parity.md walks through, and what torch has beside plain tensors."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import seqloss
from seqloss.__main__ import main
from seqloss.testing import GoldenError, explain_mismatch, golden

PORT = pathlib.Path(__file__).parents[2] / "examples" / "port"
RECORDED = golden.read(PORT / "tf1_model")


def rounded(text):
    """Numbers to four digits: the last ones belong to the machine."""
    return re.sub(r"\d+\.\d+(e[+-]?\d+)?|\d+e[+-]?\d+", lambda number: f"{float(number[0]):.4g}", text)


def steady(text):
    """The words of a table without the distances that a machine may have for itself."""
    return re.sub(r"\S+ \S+ agrees", "? ? agrees", re.sub(r"[\s-]+", " ", rounded(text)))


def test_the_port_prints_what_it_says():
    path = PORT / "in_torch.py"
    _, _, output = path.read_text(encoding="utf-8").partition("\n# Output:\n")
    expected = [line.removeprefix("#").removeprefix(" ") for line in output.splitlines()]
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert rounded(done.stdout).splitlines() == rounded("\n".join(expected)).splitlines()


PAGE = (PORT.parents[1] / "docs" / "parity.md").read_text(encoding="utf-8")
COMMANDS = [
    block for block in re.findall(r"```console\n\$ python -m seqloss (.*?)```", PAGE, re.DOTALL) if "\n" in block[:-1]
]


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.split()[0])
def test_the_commands_print_what_the_page_says(block, monkeypatch, capsys):
    monkeypatch.chdir(PORT.parents[1])
    command, _, output = block.partition("\n")
    status = main(command.split())
    assert steady(capsys.readouterr().out) == steady(output)
    assert status == (command.split()[0] == "explain")


def test_the_page_shows_both_commands():
    assert [block.split()[0] for block in COMMANDS] == ["explain", "golden"]


def test_the_wrong_denominator_is_named():
    nll = torch.tensor(RECORDED.results["token_losses"])
    found = explain_mismatch(nll.mean(), RECORDED.results["loss"], RECORDED.inputs)
    assert [str(cause) for cause in found.causes] == ["mean over padding (mine)"]


def test_the_recording_is_of_tensorflow_1_15():
    assert RECORDED.versions["tensorflow"].startswith("1.15.")
    assert RECORDED.versions["python"].startswith("3.7.")
    assert RECORDED.device == "cpu"
    assert RECORDED.note in (PORT / "record_tf1.py").read_text(encoding="utf-8")
    assert RECORDED.inputs["logits"].shape == (6, 9, 23)
    assert len({*RECORDED.inputs["weights"].sum(1)}) == 6


def test_seqloss_agrees_with_it_on_torch():
    found = golden.check(RECORDED, backend="torch")
    assert [comparison.report() for comparison in found.values() if not comparison.same] == []
    assert {comparison.actual.framework for comparison in found.values()} == {"torch"}
    assert found.keys() == {"loss", "dlogits", "token_losses"}


@pytest.mark.parametrize("cut", [torch.Tensor.detach, torch.Tensor.item])
def test_a_port_that_cuts_off_its_gradient_is_told(cut):
    def port(logits, targets, weights):
        return cut(seqloss.sequence_loss(logits, targets, weights))

    with pytest.raises(GoldenError, match=r"the gradient of compute cannot be taken: \w+Error: .*return it by name"):
        golden.check(RECORDED, port, backend="torch")
    found = golden.check(RECORDED, lambda **inputs: {"loss": port(**inputs)}, backend="torch")
    assert found["loss"].same


def test_bfloat16_has_the_limits_of_all_others(tmp_path, monkeypatch):
    monkeypatch.setattr(golden.files.seqloss_golden_writer, "RANK", 2)
    with pytest.raises(GoldenError, match="x has 3 axes, more than 2; reshape it"):
        golden.write(tmp_path / "x", {"x": torch.zeros((1, 1, 1), dtype=torch.bfloat16)}, {"y": 0.0})


def test_tensors_that_require_gradients_are_recorded(tmp_path):
    x = torch.arange(3, dtype=torch.bfloat16, requires_grad=True)
    got = golden.read(golden.write(tmp_path / "x", {"x": x * 0.1}, {"y": (x * 2).sum(), "z": x.reshape(1, 3).T}))
    np.testing.assert_array_equal(got.inputs["x"], (x * 0.1).detach().float().numpy())
    assert got.results["y"] == 6
    assert got.results["z"].shape == (3, 1)
    assert got.versions["torch"] == torch.__version__


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2, device="meta"), torch.zeros(2).to_sparse(), torch.zeros(2).to(torch.float8_e4m3fn)],
    ids=["meta", "sparse", "float8"],
)
def test_tensors_without_values_are_refused(tmp_path, value):
    with pytest.raises(GoldenError, match="x is a Tensor that has no values for NumPy to take"):
        golden.write(tmp_path / "x", {"x": value}, {"y": 0.0})
    assert list(tmp_path.iterdir()) == []
