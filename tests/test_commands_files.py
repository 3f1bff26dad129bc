"""Outputs that cannot be written: found before the work where that is possible; they take nothing else with them."""

import argparse
import json
import os
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from seqloss.__main__ import main
from seqloss.commands import files, output
from seqloss.commands.report import Column, Report, Row
from seqloss.core.errors import OptionError

TOO_LONG = "x" * 300


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(*arguments):
    parser = argparse.ArgumentParser()
    output.add_arguments(parser)
    return parser.parse_args(arguments)


def report():
    return Report("trial", "Title", [], (Column("name"),), [Row("a", ("a",), "good")], "1 of 1.", True, {})


# --- before the work -------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_refused_before_the_work():
    with pytest.raises(OptionError, match=r"^--json '.*' cannot be written: File name too long$"):
        output.check(options("--json", f"{TOO_LONG}.json"))
    with pytest.raises(OSError, match="File name too long"):
        files.check(Path(f"{TOO_LONG}.json"))


def test_a_look_changes_nothing(folder):
    Path("there.json").write_text("old")
    os.utime("there.json", (1, 1))
    output.check(options("--json", "there.json", "--junit", "new.xml"))
    assert [path.name for path in folder.iterdir()] == ["there.json"]
    assert (Path("there.json").read_text(), os.stat("there.json").st_mtime) == ("old", 1)


@pytest.mark.parametrize("mode", ["ab", "xb"], ids=["the file", "the folder"])
def test_what_is_protected_is_refused(monkeypatch, folder, mode):
    """Nothing is protected from the superuser: here the answer of the system is given in its place."""
    Path("a.json").write_text("old")
    usual = open

    def guarded(path, wanted="r", **others):
        if wanted == mode:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, wanted, **others)

    monkeypatch.setattr("builtins.open", guarded)
    with pytest.raises(OptionError, match=r"^--json 'a\.json' cannot be written: Permission denied$"):
        output.check(options("--json", "a.json"))
    assert [path.name for path in folder.iterdir()] == ["a.json"]


# --- at the end ------------------------------------------------------------------------------------------------------


def test_the_table_is_not_lost(capsys, monkeypatch):
    np.savez("batch.npz", logits=np.zeros((2, 3, 4)), targets=np.zeros((2, 3), int))

    def full(*paths):
        raise OSError(28, "No space left on device", *paths)

    monkeypatch.setattr(files.os, "replace", full)
    status = main(["explain", "2.5", "2.5", "--inputs=batch.npz", "--json=a.json"])
    printed = capsys.readouterr()
    assert status == 2 and "mine    2.5\n" in printed.out and printed.out.endswith("within their tolerance.\n")
    assert printed.err == "seqloss: error: --json 'a.json' cannot be written: No space left on device\n"


def test_a_folder_that_is_gone_at_the_end_hides_no_other_file(capsys):
    Path("sub").mkdir()
    chosen = options("--json", "sub/a.json", "--junit", "a.xml", "--markdown", "sub/a.md")
    output.check(chosen)
    shutil.rmtree("sub")
    with pytest.raises(OptionError) as refused:
        output.give(report(), chosen)
    assert str(refused.value) == (
        "--json 'sub/a.json' cannot be written: No such file or directory; "
        "--markdown 'sub/a.md' cannot be written: No such file or directory"
    )
    assert "1 of 1." in capsys.readouterr().out and Path("a.xml").exists()


@pytest.mark.parametrize("target", ["a.html", "-"])
def test_a_form_that_cannot_be_made_is_one_that_cannot_be_written(monkeypatch, capsys, target):
    """As where matplotlib is broken, which shows when it is imported."""

    def render(report):
        raise AttributeError("_ARRAY_API not found")

    monkeypatch.setattr("seqloss.commands.render.html.render", render)
    with pytest.raises(OptionError, match=r"cannot be written: AttributeError: _ARRAY_API not found .in render"):
        output.give(report(), options("--html", target))
    assert "1 of 1." in capsys.readouterr().out


# --- as a whole or not at all ----------------------------------------------------------------------------------------


def test_a_file_is_replaced_with_its_mode_and_a_link_stays_a_link():
    Path("real.json").write_text("old")
    os.chmod("real.json", 0o640)
    Path("link.json").symlink_to("real.json")
    files.write(Path("link.json"), b"new")
    assert Path("link.json").is_symlink() and Path("real.json").read_text() == "new"
    assert stat.S_IMODE(os.stat("real.json").st_mode) == 0o640


def test_a_new_file_has_the_mode_of_all_new_files():
    Path("other").write_text("")
    files.write(Path("new.json"), b"new")
    assert os.stat("new.json").st_mode == os.stat("other").st_mode


@pytest.mark.parametrize("step", ["copymode", "replace"])
def test_what_goes_wrong_leaves_what_was_there(monkeypatch, folder, step):
    Path("a.json").write_text("old")

    def fails(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.shutil if step == "copymode" else files.os, step, fails)
    with pytest.raises(OSError, match="No space left"):
        files.write(folder / "a.json", b"new")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("a.json", "old")]


def test_a_pipe_is_written_to_and_stays_one():
    os.mkfifo("a.json")
    chosen = options("--json", "a.json")
    output.check(chosen)
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("a.json").read_text()), daemon=True)
    reader.start()
    assert output.give(report(), chosen) == 0
    reader.join(30)
    assert json.loads(read[0])["command"] == "trial" and stat.S_ISFIFO(os.stat("a.json").st_mode)


def test_a_file_in_a_folder_that_takes_no_other_is_written_in_its_place(monkeypatch, folder):
    """As one that is mounted by itself into a container."""
    Path("a.json").write_text("older and longer")
    monkeypatch.setattr(files.os.path, "ismount", lambda path: True)
    number = os.stat("a.json").st_ino
    files.check(folder / "a.json")
    files.write(folder / "a.json", b"new")
    assert (os.stat("a.json").st_ino, Path("a.json").read_text()) == (number, "new")
