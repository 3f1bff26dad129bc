"""The tests of the census: it fails the session when a declared case did not pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CASE = "tests/conformance/test_sequence_loss.py::test_case[numpy-eager-float32-flags_none]"
FAMILY = "tests/conformance/test_families.py::test_family[numpy-eager-float16-nce_loss-plain]"
FILES = ("tests/conformance/test_sequence_loss.py", "tests/conformance/test_families.py::test_family")


def session(*arguments, path=()):
    """A conformance session of few cases with the census, as (exit status, output)."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "few_cases", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((*path, str(Path(__file__).parent / "small")))},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_full_session_passes(workers):
    status, output = session(*FILES, "--backends", "numpy", "--census", "-n", workers)
    assert status == 0, output
    # Eagerly and explicitly in three dtypes, and the family in three.
    assert "census: 21 of 21 declared conformance cases passed" in output


@pytest.mark.parametrize(("workers", "case"), [("0", CASE), ("2", CASE), ("2", FAMILY)])
def test_a_deselected_case_fails_the_session(workers, case):
    status, output = session(*FILES, "--backends", "numpy", "--census", "-n", workers, "--deselect", case)
    assert status == pytest.ExitCode.TESTS_FAILED, output
    assert f"census: missing: {case.partition('[')[2].removesuffix(']')}" in output


def test_a_missing_backend_is_an_error():
    status, output = session(*FILES, "--backends", "numpy,cupy")
    assert status == pytest.ExitCode.USAGE_ERROR, output
    assert "--backends takes names out of numpy, torch, tensorflow, jax" in output


def test_a_backend_that_cannot_be_imported_is_an_error(tmp_path):
    """Never a skip: a framework that is asked for and broken stops the session."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch in this environment')")
    status, output = session(*FILES, "--backends", "torch", path=[str(tmp_path)])
    assert status == pytest.ExitCode.USAGE_ERROR, output
    assert "--backends torch: no torch in this environment" in output
