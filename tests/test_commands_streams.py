"""Commands whose stdout or stderr is closed, full, or read by nobody: neither a traceback nor silence and 0."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seqloss
from seqloss.__main__ import main

ROOT = Path(seqloss.__file__).parents[1]
VERSION, HELP, TABLE = ["--version"], ["--help"], ["explain", "2.5", "2.5", "--inputs=batch.npz"]
REFUSED = "seqloss: error: "


@pytest.fixture
def command(tmp_path):
    """Run a command as a user does, beside a file of arrays, and return the finished process."""
    np.savez(tmp_path / "batch.npz", logits=np.zeros((2, 3, 4)), targets=np.zeros((2, 3), int))

    def run(*arguments, program=("-m", "seqloss"), buffered=True, **streams):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": ""}
        environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
        line = [sys.executable, *program, *arguments]
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.run(line, text=True, check=False, cwd=tmp_path, env=environment, **given)

    return run


@pytest.fixture
def unread():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def full():
    """A device on which there is no space left."""
    with open("/dev/full", "wb") as file:
        yield file


def closing(*numbers):
    """What closes streams before the command starts, as ``>&-`` does."""
    return {"preexec_fn": lambda: [os.close(number) for number in numbers]}


@pytest.mark.parametrize("arguments", [VERSION, HELP, TABLE], ids=lambda arguments: arguments[0])
def test_a_closed_stdout_is_refused(command, arguments):
    done = command(*arguments, **closing(1))
    assert done.returncode == 2 and done.stderr.startswith(f"{REFUSED}stdout is closed")
    assert done.stderr.count("\n") == 1


def test_where_nothing_can_be_said_the_exit_status_says_it(command):
    assert command(*TABLE, **closing(1, 2)).returncode == 2


@pytest.mark.parametrize("arguments, buffered", [(VERSION, True), (HELP, False), (TABLE, True)])
def test_a_full_disk_is_an_error(command, full, arguments, buffered):
    done = command(*arguments, buffered=buffered, stdout=full)
    assert (done.returncode, done.stderr) == (2, f"{REFUSED}stdout cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments, buffered", [(VERSION, True), (HELP, False), (TABLE, True)])
def test_a_reader_that_has_gone_ends_it_silently(command, unread, arguments, buffered):
    done = command(*arguments, buffered=buffered, stdout=unread)
    assert (done.returncode, done.stderr) == (141, "")


MUCH = """
import sys
from seqloss.__main__ import _COMMANDS, main
from seqloss.commands import output
from seqloss.commands.report import Report
_COMMANDS["env"].run = lambda options: output.give(Report("env", "", [], [], [], "much " * 10**6, True, {}), options)
sys.exit(main(["env"]))
"""


def test_a_reader_that_goes_half_way_ends_it_silently(tmp_path):
    line = [sys.executable, "-W", "error", "-c", MUCH]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert len(process.stdout.read(100)) == 100
        process.stdout.close()
        assert (process.stderr.read(), process.wait(30)) == (b"", 141)


def test_a_reader_that_has_gone_hides_no_file_that_cannot_be_written(command, unread, tmp_path):
    no_files = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))}
    done = command(*TABLE, "--json=a.json", stdout=unread, **no_files)
    assert (done.returncode, done.stderr) == (2, f"{REFUSED}--json 'a.json' cannot be written: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["batch.npz"]


NOTED = """
import sys
from seqloss.__main__ import _COMMANDS, main
from seqloss.commands import backends
def run(options):
    with backends.progress("computing ..."):
        print("computed")
    return 1
_COMMANDS["env"].run = run
sys.exit(main(["env"]))
"""


@pytest.mark.parametrize("kind", ["closed", "full", "unread"])
def test_stderr_may_be_anything(command, full, unread, kind):
    """What is said there is of no importance to the result, which stays what it is, in its place."""
    streams = {"closed": closing(2), "full": {"stderr": full}, "unread": {"stderr": unread}}[kind]
    done = command(program=("-c", NOTED), **streams)
    assert (done.returncode, done.stdout) == (1, "computed\n")
    done = command("teleport", **streams)
    assert (done.returncode, done.stdout) == (2, "")


OPENED = """
import os, sys
from seqloss.commands import streams
try:
    streams.check()
except Exception:
    pass
sys.exit(os.open("file", os.O_CREAT))
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_no_file_becomes_a_standard_stream(command, closed):
    assert command(program=("-c", OPENED), **closing(*closed)).returncode > 2


def test_streams_that_are_open_stay_as_they_are(capfd):
    """And no file is left open."""
    before = sorted(os.listdir("/dev/fd"))
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and sorted(os.listdir("/dev/fd")) == before
    assert capfd.readouterr().out.startswith(f"seqloss {seqloss.__version__} from ")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_one_line(command, option):
    done = command(option)
    place = Path(seqloss.__file__).parent
    python = ".".join(map(str, sys.version_info[:3]))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"seqloss {seqloss.__version__} from {place} (python {python})\n"


def test_the_version_imports_nothing(python):
    program = "import sys; from seqloss.__main__ import main\ntry: main(['-V'])\nfinally: print('numpy' in sys.modules)"
    assert python(program).endswith("\nFalse\n")
