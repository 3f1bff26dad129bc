"""Jobs in processes of their own: what becomes of those that end badly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import seqloss
from seqloss.commands import processes, steps

JOBS = Path(__file__).with_name("command_jobs")
ROOT = Path(seqloss.__file__).parents[1]


@pytest.fixture
def do(monkeypatch):
    """Do one of the jobs in tests/command_jobs."""
    monkeypatch.syspath_prepend(JOBS)

    def run(name, inputs=None, timeout=60.0, **options):
        with processes.workplace(inputs) as folder:
            return processes.run(folder, processes.Job("fake", f"jobs:{name}", options), {}, timeout)

    return run


@pytest.mark.parametrize("end, failure", [("hangs", "timed out"), ("exits", "crashed"), ("returns", None)])
def test_each_step_has_the_whole_time_and_is_kept(do, end, failure):
    outcome = do("tells", timeout=2.0, steps=3, seconds=1.0, end=end)
    assert outcome.failure == failure
    assert [step["number"] for step in outcome.steps] == [0, 1, 2]


def test_half_a_step_is_none(tmp_path):
    steps.file(tmp_path).write_text('{"number": 0}\n{"num')
    assert steps.told(tmp_path) == [{"number": 0}]


def test_facts_and_arrays_come_back(do):
    outcome = do("echoes", {"x": np.arange(3)}, a=1)
    assert (outcome.failure, outcome.facts) == (None, {"framework": "fake", "options": {"a": 1}})
    np.testing.assert_array_equal(outcome.arrays["x"], [0, 2, 4])


def test_a_worker_has_nothing_to_read(do):
    assert do("reads_stdin").facts == {"stdin": ""}


@pytest.mark.parametrize(
    ("job", "options", "detail"),
    [
        ("exits", {}, "exit status 3 without a result: last words"),
        ("leaves", {"status": 0}, "SystemExit: 0 (in leaves, jobs.py"),
        ("leaves", {"status": "a licence is needed"}, "SystemExit: a licence is needed (in leaves, jobs.py"),
        ("says_nothing", {}, "exit status 0 without a result"),
        ("is_shot", {}, "killed by SIGSEGV"),
        ("no_such_job", {}, "AttributeError: module 'jobs' has no attribute 'no_such_job'"),
        ("writes_garbage", {"file": "result.json", "content": "{"}, "its result is no JSON"),
        ("writes_garbage", {"file": "result.json", "content": "[1]"}, "its result has no facts"),
        ("writes_garbage", {"file": "arrays.npz", "content": "PK"}, "its results cannot be read"),
        ("returns_objects", {}, "its results cannot be read: Object arrays cannot be loaded"),
        ("returns_what_json_cannot_hold", {}, "TypeError: Object of type object is not JSON serializable"),
        (
            "writes_into_its_input",
            {},
            "ValueError: assignment destination is read-only (in writes_into_its_input, jobs.py",
        ),
    ],
)
def test_a_job_that_ends_badly_says_how(do, job, options, detail):
    outcome = do(job, {"x": np.zeros(2)}, **options)
    assert (outcome.failure, outcome.facts, outcome.arrays, outcome.refusal) == ("crashed", {}, {}, None)
    assert outcome.detail.startswith(detail)


def test_a_refusal_is_told_from_a_crash(do):
    outcome = do("refuses")
    assert (outcome.failure, outcome.refusal) == ("crashed", "not like this")


def is_still(heart):
    """Whether a child that writes into this file every 20 ms has been killed."""
    for _ in range(50):
        size = heart.stat().st_size
        time.sleep(0.2)
        if heart.stat().st_size == size:
            return True
    return False


def test_what_hangs_is_ended_with_its_children(do, tmp_path):
    heart = tmp_path / "heart"
    started = time.monotonic()
    outcome = do("hangs", timeout=3.0, heart=str(heart))
    assert (outcome.failure, outcome.detail) == ("timed out", "no result after 3 seconds")
    assert time.monotonic() - started < 30
    assert heart.exists() and is_still(heart)


PROGRAM = """
import sys
from seqloss.commands import processes
sys.path.insert(0, sys.argv[1])
try:
    with processes.workplace() as folder:
        processes.run(folder, processes.Job("fake", "jobs:hangs", {"heart": sys.argv[2]}), {}, 600.0)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("signal_", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_whoever_ends_the_command_ends_its_workers(tmp_path, interruptible, signal_, status):
    heart = tmp_path / "heart"
    command = [sys.executable, "-c", PROGRAM, str(JOBS), str(heart)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **interruptible) as process:
        for _ in range(300):
            if heart.exists():
                break
            time.sleep(0.1)
        process.send_signal(signal_)
        assert process.wait(30) == status
    assert is_still(heart)


def test_numpy_is_imported_only_where_there_are_arrays(monkeypatch, tmp_path):
    """The command env measures how long its import takes."""
    (tmp_path / "bare.py").write_text("import sys\ndef job(f, i, o): return {'numpy': 'numpy' in sys.modules}, {}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with processes.workplace() as folder:
        outcome = processes.run(folder, processes.Job("fake", "bare:job"), {}, 60.0)
        assert not list(folder.glob("inputs*"))
    assert outcome.facts == {"numpy": False}


def test_nothing_is_left_behind(do, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    do("echoes", {"x": np.arange(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_log_of_any_length_is_read_from_its_end(tmp_path):
    (tmp_path / "log").write_bytes(b"x" * 200_000 + b"\nthe \xff end\n\n")
    assert processes._last_words(1, tmp_path / "log") == "exit status 1 without a result: the \ufffd end"
