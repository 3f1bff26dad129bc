"""No number makes a check unable to fail: such a request is refused in a sentence."""

from pathlib import Path

import numpy as np
import pytest

from seqloss.__main__ import main
from seqloss.commands import backends
from seqloss.testing import golden

EXPLAIN = ["explain", "1", "2", "--inputs=batch.npz"]
CHECK = ["golden", "check", "old", "--backends=numpy"]
SELFTEST = ["selftest", "--backends=numpy"]
NUMBERS = {"nan": "nan", "inf": "inf", "negative": "-1", "zero": "0", "huge": "1e300", "word": "many"}

# With what is not refused of these numbers.
OPTIONS = [
    (["env", "--backends=numpy"], "--timeout", ()),
    (["parity", "--backends=numpy"], "--timeout", ()),
    (SELFTEST, "--timeout", ()),
    (CHECK, "--timeout", ()),
    (["golden", "write", "new", "--inputs=batch.npz"], "--timeout", ()),
    (SELFTEST, "--seed", ("zero", "negative")),  # in the worker, and so with the other refusals of selftest
    (SELFTEST, "--ignore-label", ("zero", "negative")),
    (SELFTEST, "--label-smoothing", ("zero",)),
    (SELFTEST, "--z-loss", ("zero", "huge")),
    (SELFTEST, "--softcap", ("huge",)),
    (CHECK, "--bound", ("zero", "huge")),  # which is huge depends on the dtype
    (EXPLAIN, "--rtol", ()),
    (EXPLAIN, "--label-smoothing", ("zero",)),
    (EXPLAIN, "--world-size", ()),
    (EXPLAIN, "--accumulation-steps", ()),
    (EXPLAIN, "--micro-batches", ()),
    (EXPLAIN, "--pad-id", ("zero", "negative")),
]


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """Run a command with NumPy alone beside a recording in float32; the exit status, stdout and the error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "is_installed", lambda name: name == "numpy")
    arrays = {"logits": np.zeros((2, 3, 4), "float32"), "targets": np.zeros((2, 3), int)}
    np.savez("batch.npz", **arrays)
    golden.write("old", arrays, {"loss": np.log(np.float32(4))})

    def run(*arguments):
        status = main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, [line for line in printed.err.splitlines() if not line.endswith("...")]

    return run


@pytest.mark.parametrize(
    "command, option, value",
    [
        pytest.param(command, option, value, id=f"{' '.join(command[:2])} {option} {kind}")
        for command, option, legal in OPTIONS
        for kind, value in NUMBERS.items()
        if kind not in legal
    ],
)
def test_what_makes_no_sense_is_refused(said, command, option, value):
    status, out, error = said(*command, f"{option}={value}")
    assert (status, out, len(error)) == (2, "", 1), error
    assert error[0].startswith("seqloss: error: ") and value.strip("-") in error[0].replace("e+", "e")


def test_a_bound_that_nothing_exceeds_is_refused(said):
    status, out, error = said(*CHECK, "--bound=8388608")
    assert (status, out) == (2, "") and error[0].endswith("no digit at all would have to agree")


def test_a_bound_that_something_exceeds_is_used(said):
    assert said(*CHECK, "--bound=8388607")[0] == 0


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_two_losses_without_digits_are_not_the_same(said, value):
    status, out, error = said("explain", "--inputs=batch.npz", "--", value, value)
    assert (status, out) == (2, "")
    assert error == [f"seqloss: error: both losses are {value}, which has no digits to compare"]


@pytest.mark.parametrize("pair", [("nan", "inf"), ("inf", "-inf"), ("nan", "1"), ("1", "inf")])
def test_losses_that_differ_do_so_with_or_without_digits(said, pair):
    assert said("explain", "--inputs=batch.npz", "--", *pair)[0] == 1


def test_a_recorded_loss_without_digits_is_not_the_same(said):
    golden.write("bad", {"logits": np.zeros((1, 1, 2)), "targets": np.zeros((1, 1), int)}, {"loss": np.float32("nan")})
    assert said("explain", "nan", "--golden=bad")[0] == 2


@pytest.mark.parametrize("value", ["2147483648", "-2147483649", "1.5"])
def test_a_label_has_32_bits(said, value):
    status, _, error = said(*SELFTEST, f"--ignore-label={value}")
    assert status == 2 and f"{value!r} is not a whole number of 32 bits" in error[0]


def test_a_check_of_nothing_is_refused(said):
    """It would hold whatever the loss is."""
    Path("mine.py").write_text("def loss(z, y): return 1.0, z\n")
    mine = ("--against=mine:loss", "--arguments=logits,targets", "--invariants=padding,double_backward")
    status, out, error = said(*SELFTEST, *mine)
    assert (status, out) == (2, "") and "nothing of what was chosen applies to this loss (padding: " in error[0]
