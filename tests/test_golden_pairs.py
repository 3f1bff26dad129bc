"""Two files that are replaced as one: writers that are ended anywhere, several at once, readers in between."""

import builtins
import contextlib
import errno
import importlib.util
import json
import os
import sys
import threading
import types
from collections import Counter

import numpy as np
import pytest

from seqloss.testing import GoldenError, golden
from seqloss.testing.golden import WRITER
from seqloss.testing.golden import seqloss_golden_writer as writer

OLD, NEW, NEXT = 1, 2, 3
PAIR = ["x.json", "x.npz"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting for the disk."""
    monkeypatch.setattr(writer.os, "fsync", lambda number: None)


def record(folder, kind, **options):
    """A recording whose every part has the same number."""
    arrays = {"x": np.full(100 * kind, kind)}
    return writer.write(folder / "x", arrays, {"y": kind}, note=str(kind), **{"overwrite": True, **options})


def kind(folder):
    """The number of the recording that is read, if all its parts have the same one; None if there is none."""
    try:
        got = golden.read(folder / "x")
    except FileNotFoundError:
        return None
    assert got.note == str(got.results["y"]) and set(got.inputs["x"]) == {int(got.note)}
    assert got.inputs["x"].shape == (100 * int(got.note),)
    return int(got.note)


# --- ended at each of its steps -------------------------------------------------------------------------------------


class Killed(BaseException):
    """No program notices it."""


class File:
    """A file that may be written in part."""

    def __init__(self, file, step):
        self.file, self.step = file, step
        self.fileno, self.flush, self.close = file.fileno, file.flush, file.close

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.step()
        self.file.write(content[len(content) // 2 :])


class Disk:
    """Everything that a writer does to files, counted; after ``last`` it is dead, or has an error once."""

    def __init__(self, patch, last=1000, error=None):
        self.done, self.last, self.error = 0, last, error
        for name in ("replace", "unlink", "fsync"):
            patch.setattr(writer.os, name, self.counted(getattr(os, name)))
        opened = self.counted(builtins.open)
        patch.setattr(writer, "open", lambda *a: File(opened(*a), self.step), raising=False)

    def step(self):
        self.done += 1
        if self.error is None and self.done > self.last:
            raise Killed
        if self.done == self.last + 1:
            raise self.error

    def counted(self, function):
        def call(*arguments):
            self.step()
            return function(*arguments)

        return call


def nothing(folder):
    return None


def recorded(folder):
    record(folder, OLD)
    return OLD


def half_replaced(folder):
    """What is left by a writer that was ended after the manifest had been replaced."""
    record(folder, NEXT)
    archive = (folder / "x.npz").read_bytes()
    record(folder, OLD)
    manifest = (folder / "x.json").read_bytes()
    writer.staged(folder / "x.npz", json.loads(manifest)["sha256"]).write_bytes((folder / "x.npz").read_bytes())
    (folder / "x.npz").write_bytes(archive)
    return OLD


def half_recorded(folder):
    """The same where nothing had been recorded before."""
    half_replaced(folder)
    (folder / "x.npz").unlink()
    return OLD


BEFORE = [nothing, recorded, half_replaced, half_recorded]
STEPS = 12


@pytest.mark.parametrize("before", BEFORE)
def test_all_steps_are_tried(tmp_path, monkeypatch, before):
    before(tmp_path)
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        record(tmp_path, NEW)
    assert STEPS - 2 < disk.done <= STEPS


@pytest.mark.parametrize(
    "before, what", [*((before, NEW) for before in BEFORE), (recorded, OLD), (half_replaced, OLD), (half_recorded, OLD)]
)
@pytest.mark.parametrize("last", range(STEPS))
def test_a_writer_that_is_killed_leaves_the_old_recording_or_the_new_one(tmp_path, monkeypatch, before, last, what):
    old = before(tmp_path)
    assert kind(tmp_path) == old
    with monkeypatch.context() as patch:
        disk = Disk(patch, last)
        try:
            record(tmp_path, what)
        except Killed:
            assert kind(tmp_path) in (old, what)
        else:
            assert disk.done <= last
    # Whoever comes next is not in the way of the dead, and clears up after them.
    assert record(tmp_path, NEXT) == tmp_path / "x.npz"
    assert kind(tmp_path) == NEXT and sorted(os.listdir(tmp_path)) == PAIR


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("last", range(STEPS))
def test_a_step_that_fails_leaves_one_of_them_and_nothing_more(tmp_path, monkeypatch, before, last):
    old, failed = before(tmp_path), OSError(errno.ENOSPC, "the disk is full")
    there = os.listdir(tmp_path)
    with monkeypatch.context() as patch:
        disk = Disk(patch, last, failed)
        with contextlib.suppress(OSError):
            record(tmp_path, NEW)
    assert kind(tmp_path) in ((old, NEW) if disk.done > last else (NEW,))
    # The lock may be what could not be removed.
    assert set(os.listdir(tmp_path)) <= {*PAIR, *there, "x.npz.lock"}


def test_both_outcomes_occur(tmp_path, monkeypatch):
    kinds = Counter()
    for last in range(STEPS):
        record(tmp_path, OLD)
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            Disk(patch, last)
            record(tmp_path, NEW)
        kinds[kind(tmp_path)] += 1
    assert min(kinds[OLD], kinds[NEW]) > 1


def test_what_looks_like_a_leftover_and_is_none_stays(tmp_path):
    mine = ["x.npz.0123456789abcde", "x.npz.part", "xy.npz.0123456789abcdef", "x.json.bak", "x.json.0123456789abcdef"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    record(tmp_path, NEW)
    assert sorted(os.listdir(tmp_path)) == sorted([*PAIR, *mine])


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"sha256": 7}', "<<<<<<< ours"], ids=lambda text: text[:9])
def test_a_manifest_that_is_none_can_be_replaced(tmp_path, text):
    record(tmp_path, OLD)
    (tmp_path / "x.json").write_text(text)
    record(tmp_path, NEW)
    assert kind(tmp_path) == NEW


@pytest.mark.parametrize("name", PAIR)
def test_a_folder_is_not_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(writer.GoldenWriteError, match=rf"{name} is a folder; choose another name"):
        record(tmp_path, NEW)
    assert os.listdir(tmp_path) == [name]


# --- ended by the system, and several at once -----------------------------------------------------------------------

START = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process of one thread can be forked
import itertools, random, signal, sys, time
import numpy as np
from seqloss.testing import golden
from seqloss.testing.golden import seqloss_golden_writer as writer

path, random = sys.argv[1] + "/x", random.Random(0)

def record(kind):
    writer.write(path, {"x": np.full(100 * kind, kind)}, {"y": kind}, note=str(kind), overwrite=True)

def check():
    got = golden.read(path)
    assert got.note == str(got.results["y"]) and set(got.inputs["x"]) == {int(got.note)}, got
    assert got.inputs["x"].shape == (100 * int(got.note),)

def forked(kinds):
    process = os.fork()
    if not process:
        replace = os.replace
        # Most of the time is between the two files.
        os.replace = lambda *paths: (replace(*paths), time.sleep(0.001))
        for kind in kinds:
            record(kind)
        os._exit(0)
    return process

record(1)
"""
KILLED = """
left = set()
for _ in range(50):
    process = forked(itertools.cycle((2, 3, 1)))
    time.sleep(random.uniform(0, 0.05))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    check()
    left |= set(os.listdir(sys.argv[1]))
record(1)
check()
print(len(left), *sorted(os.listdir(sys.argv[1])))
"""
TOGETHER = """
processes = [forked([kind] * 20) for kind in (1, 2, 3)]
while processes:
    check()
    processes = [process for process in processes if os.waitpid(process, os.WNOHANG)[0] == 0]
check()
print(*sorted(os.listdir(sys.argv[1])))
"""


def test_writers_that_are_killed_at_any_moment(tmp_path, python):
    left, *files = python(START + KILLED, str(tmp_path)).split()
    assert files == PAIR and int(left) > len(PAIR)


def test_three_writers_at_once_and_a_reader(tmp_path, python):
    assert python(START + TOGETHER, str(tmp_path)).split() == PAIR


def test_only_one_of_several_records_what_is_not_there(tmp_path):
    refused = []

    def write(kind):
        try:
            record(tmp_path, kind, overwrite=False)
        except writer.GoldenWriteError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=write, args=(kind,)) for kind in (OLD, NEW, NEXT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2 and all("exists; pass overwrite=True to record it again" in text for text in refused)
    assert kind(tmp_path) in (OLD, NEW, NEXT)


def test_a_reader_looks_again_where_somebody_records_anew(tmp_path, monkeypatch):
    """Between the manifest and the archive, as many times as that happens."""
    record(tmp_path, OLD)
    content, kinds = golden.pair._archive, [OLD, NEW, NEXT, NEW, NEXT]

    def archive(path, *others):
        if kinds:
            record(tmp_path, kinds.pop())
        return content(path, *others)

    monkeypatch.setattr(golden.pair, "_archive", archive)
    assert kind(tmp_path) == OLD and not kinds


def test_a_reader_finds_an_archive_that_moves_while_it_looks(tmp_path, monkeypatch):
    half_replaced(tmp_path)
    content = golden.pair._archive

    def archive(path, *others):
        if path.name != "x.npz":
            writer._settle(writer.paths(tmp_path / "x"))
        return content(path, *others)

    monkeypatch.setattr(golden.pair, "_archive", archive)
    assert kind(tmp_path) == OLD and sorted(os.listdir(tmp_path)) == PAIR


def test_a_pair_whose_other_half_is_nowhere_is_refused(tmp_path):
    half_replaced(tmp_path)
    for path in writer.leftovers(writer.paths(tmp_path / "x")):
        path.unlink()
    with pytest.raises(GoldenError, match="belongs to another recording; take both files"):
        golden.read(tmp_path / "x")


# --- locks and systems ----------------------------------------------------------------------------------------------


def test_a_writer_does_not_wait_for_ever(tmp_path, monkeypatch):
    record(tmp_path, OLD)
    monkeypatch.setattr(writer, "PATIENCE", 0.02)
    message = r"another program has been writing .*x\.npz for 0\.02 seconds; end it, or wait for it"
    with writer._alone(tmp_path / "x.npz"), pytest.raises(writer.GoldenWriteError, match=message):
        record(tmp_path, NEW)
    assert kind(tmp_path) == OLD
    record(tmp_path, NEW)
    assert kind(tmp_path) == NEW and sorted(os.listdir(tmp_path)) == PAIR


def test_a_lock_that_was_removed_is_none(tmp_path, monkeypatch):
    """Whoever has waited for it holds a file without a name, and a third writer would make another one."""
    opened = []

    def open_late(*arguments):
        opened.append(builtins.open(*arguments))  # noqa: SIM115  # the lock is as long as it is open
        if len(opened) == 1:
            os.unlink(tmp_path / "x.npz.lock")
        return opened[-1]

    monkeypatch.setattr(writer, "open", open_late, raising=False)
    with writer._alone(tmp_path / "x.npz"):
        assert len(opened) == 2 and os.listdir(tmp_path) == ["x.npz.lock"]
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def flock(file, kind):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(writer.fcntl, "flock", flock)
    record(tmp_path, OLD)
    record(tmp_path, NEW)
    assert kind(tmp_path) == NEW and sorted(os.listdir(tmp_path)) == PAIR


def open_for(times, monkeypatch):
    """Let files be open in another program, as Windows sees it, for so many attempts to replace one."""
    replace, refused = os.replace, []

    def of_windows(source, target):
        if len(refused) < times:
            refused.append(target)
            raise PermissionError(errno.EACCES, "the file is open")
        replace(source, target)

    monkeypatch.setattr(writer.os, "replace", of_windows)


def test_a_reader_on_windows_is_waited_for(tmp_path, monkeypatch):
    record(tmp_path, OLD)
    monkeypatch.setattr(writer, "WITH_READERS", 10.0)
    open_for(3, monkeypatch)
    record(tmp_path, NEW)
    assert kind(tmp_path) == NEW


def test_nothing_is_waited_for_elsewhere(tmp_path, monkeypatch):
    record(tmp_path, OLD)
    open_for(1000, monkeypatch)
    with pytest.raises(PermissionError):
        record(tmp_path, NEW)
    assert kind(tmp_path) == OLD


def test_as_on_windows(tmp_path, monkeypatch):
    """The same with the locks of Windows, which are those of here in disguise, and with files that stay while open."""
    import fcntl

    def locking(number, kind, size):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "it is locked") from None

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    specification = importlib.util.spec_from_file_location("writer_of_windows", WRITER)
    of_windows = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(of_windows)
    assert of_windows.WITH_READERS > 0
    of_windows.PATIENCE = 0.02
    for number in (OLD, NEW):
        of_windows.write(
            tmp_path / "x", {"x": np.full(100 * number, number)}, {"y": number}, note=f"{number}", overwrite=True
        )
    assert kind(tmp_path) == NEW and sorted(os.listdir(tmp_path)) == PAIR
    with of_windows._alone(tmp_path / "x.npz"), pytest.raises(of_windows.GoldenWriteError, match="end it, or wait"):
        of_windows.write(tmp_path / "x", {"x": 1.0}, {"y": 1.0}, overwrite=True)
