"""Signals that ask a command to end: it ends with the status of a shell, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seqloss
from seqloss.commands import files, processes, signals

JOBS = Path(__file__).with_name("command_jobs")
ROOT = Path(seqloss.__file__).parents[1]

PROGRAM = """
import sys
from seqloss.__main__ import _COMMANDS, main
from seqloss.commands import backends, processes
sys.path.insert(0, sys.argv[1])
def run(options):
    how = {"heart": "heart", "part": "result.part", "ready": "ready"}
    with processes.workplace() as folder, backends.progress("computing ..."):
        processes.run(folder, processes.Job("fake", "jobs:holds_much", how), {}, 600.0)
_COMMANDS["env"].run = run
sys.exit(main(["env"]))
"""


def wait_for(path):
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"there is no {path}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_behind(tmp_path, interruptible, number):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    line = [sys.executable, "-c", PROGRAM, str(JOBS)]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, **pipes, **interruptible) as process:
        try:
            kept, _, child = wait_for(tmp_path / "ready").partition(" ")
            assert Path(kept).is_dir() and Path(kept).is_relative_to(temporary)
            process.send_signal(number)
            process.send_signal(signal.SIGTERM)  # a second one stops nothing half-way
            assert process.communicate(timeout=30) == ("", "computing ...\n")
        finally:
            process.kill()
        assert process.returncode == 128 + number
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heart", "ready", "temporary"]
    assert is_gone(int(child))


def is_gone(process):
    """Whether nothing runs under this number. What has been killed may have nobody yet who takes note of it."""
    for _ in range(100):
        status = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
        if status.stdout.strip()[:1] in ("", "Z"):
            return True
        time.sleep(0.05)
    return False


def test_whoever_does_not_heed_the_request_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.1)
    monkeypatch.syspath_prepend(JOBS)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with processes.workplace() as folder:
        outcome = processes.run(folder, processes.Job("fake", "jobs:hears_nothing"), {}, 1.5)
    assert outcome.failure == "timed out" and list(tmp_path.iterdir()) == []


def test_what_a_compiler_may_keep_is_not_thrown_away(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    found = processes._environment(tmp_path / "folder")
    assert found["TMPDIR"] == str(tmp_path / "folder")
    assert found["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor_somebody")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    assert processes._environment(tmp_path)["TORCHINDUCTOR_CACHE_DIR"] == "mine"


# --- how signals are heeded ------------------------------------------------------------------------------------------


def ask(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture
def ended():
    """Do something while signals are obeyed, which must end it; the exit status."""

    def run(action):
        with pytest.raises(signals.Ended) as raised, signals.obeyed():
            action()
        return raised.value.status

    return run


def test_a_signal_raises_once(ended):
    def action():
        try:
            ask(signal.SIGHUP)
        finally:
            ask()

    # What a shell runs in the background ignores Ctrl-C.
    before = [signal.getsignal(number) for number in signals.ASKING]
    assert ended(action) == 128 + signal.SIGHUP
    assert [signal.getsignal(number) for number in signals.ASKING] == before


def test_what_is_held_is_done_as_a_whole(ended):
    done = []

    def action():
        with signals.held():
            ask()
            with signals.held():
                done.append("inner")
            done.append("outer")
        done.append("after")

    assert ended(action) == 143 and done == ["inner", "outer"]


@pytest.mark.parametrize("early", [True, False])
def test_inside_of_what_is_held_signals_may_be_allowed(ended, early):
    """And one that has waited is raised there."""
    done = []

    def action():
        with signals.held():
            if early:
                ask()
            try:
                with signals.allowed():
                    ask()
                    done.append("after")
            finally:
                done.append("cleaned up")

    assert ended(action) == 143 and done == ["cleaned up"]


def test_what_was_ignored_stays_ignored():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.obeyed():
            ask(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_of_the_program_around_it_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with signals.obeyed():
            ask()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("moment", ["mkdtemp", "rmtree"])
def test_no_folder_is_left_however_soon_or_late_the_signal_comes(tmp_path, monkeypatch, moment):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module = {"mkdtemp": processes.tempfile, "rmtree": processes.shutil}[moment]
    function = getattr(module, moment)

    def interrupted(*arguments, **options):
        if moment == "rmtree":
            ask()
        result = function(*arguments, **options)
        if moment == "mkdtemp":
            ask()
        return result

    monkeypatch.setattr(module, moment, interrupted)
    with pytest.raises(signals.Ended), signals.obeyed(), processes.workplace():
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_worker_is_left_when_the_signal_comes_while_it_starts(tmp_path, monkeypatch):
    started = []

    class Interrupting(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)
            ask()

    monkeypatch.setattr(processes.subprocess, "Popen", Interrupting)
    with pytest.raises(signals.Ended), signals.obeyed(), processes.workplace() as folder:
        processes.run(folder, processes.Job("fake", "jobs:hangs"), {}, 60.0)
    assert [process.returncode is not None for process in started] == [True]


def test_no_file_is_left_half_written(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("old")
    replace = os.replace

    def interrupted(*paths):
        ask()
        replace(*paths)

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(signals.Ended), signals.obeyed():
        files.write(tmp_path / "a.json", b"new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "new")]
