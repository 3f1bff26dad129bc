"""The writer of golden files: by itself, on old Pythons, the same bytes for the same content, whole files or none."""

import ast
import hashlib
import json
import os
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from seqloss.testing.golden import WRITER, seqloss_golden_writer
from seqloss.testing.golden.seqloss_golden_writer import GoldenWriteError, write

ROOT = Path(__file__).parents[1]
INPUTS = {"logits": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "targets": np.array([[2, 0]], np.int64)}
RESULTS = {"loss": np.float32(1.5)}


def both(path):
    return [path.with_suffix(suffix).read_bytes() for suffix in (".npz", ".json")]


# --- Python 3.7 -----------------------------------------------------------------------------------------------------

OLD = [WRITER, ROOT / "examples" / "port" / "record_tf1.py"]
MODULES = {
    *("__future__", "contextlib", "hashlib", "io", "json", "math", "os", "pathlib", "platform", "re", "sys", "time"),
    *("typing", "uuid", "zipfile", "fcntl", "msvcrt", "numpy", "seqloss_golden_writer", "tensorflow"),
}
# Every attribute that these programs use; each was there in Python 3.7 and NumPy 1.16, or in TensorFlow 1.15.
ATTRIBUTES = {
    *("modules", "python_version", "compile", "hex", "uuid4", "isfinite", "fspath", "path", "basename"),
    *(
        "dirname",
        "abspath",
        "join",
        "fsync",
        "replace",
        "unlink",
        "sha256",
        "hexdigest",
        "BytesIO",
        "getvalue",
        "dumps",
    ),
    *("ZipFile", "ZipInfo", "ZIP_STORED", "create_system", "external_attr", "writestr", "write", "flush", "fileno"),
    *("exists", "name", "encode", "endswith", "rindex", "items", "values", "update", "get", "match", "join"),
    *(
        "is_dir",
        "parent",
        "read_bytes",
        "decode",
        "loads",
        "fsencode",
        "listdir",
        "stat",
        "fstat",
        "samestat",
        "escape",
    ),
    *("contextmanager", "suppress", "monotonic", "sleep", "platform", "close", "ndim", "size"),
    *("flock", "LOCK_EX", "LOCK_NB", "locking", "LK_NBLCK"),
    *("generic", "item", "ma", "MaskedArray", "asarray", "astype", "view", "tobytes", "nbytes", "shape"),
    *("dtype", "str", "uint16", "uint32", "int32", "zeros", "arange", "array", "random", "RandomState", "randint"),
    *("__version__", "__name__", "detach", "cpu", "float", "numpy"),
    *("set_random_seed", "constant", "get_variable", "nn", "embedding_lookup", "dynamic_rnn", "rnn_cell", "GRUCell"),
    *("float32", "layers", "dense", "sequence_mask", "contrib", "seq2seq", "sequence_loss", "gradients", "train"),
    *("AdamOptimizer", "minimize", "Session", "ConfigProto", "run", "global_variables_initializer"),
}


def newer_than_37(source):
    """What Python 3.7 lacks, as far as it can be seen in the text."""
    try:
        tree = ast.parse(source, feature_version=(3, 7))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if annotation is not None
        for inner in ast.walk(annotation)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name not in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] * (node.module not in MODULES)
        elif isinstance(node, ast.Attribute):
            found += [node.attr] * (node.attr not in ATTRIBUTES)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.BitOr):
            found += ["|"] * (id(node) not in annotations)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and id(node) not in annotations:
            found += [node.value.id] * (node.value.id in ("list", "dict", "tuple", "set", "type"))
        elif isinstance(node, ast.With) and len(node.items) > 1:
            found.append("with of several items, which might stand in parentheses")
    found += re.findall(r"\{[\w.()\[\]]+ *= *(?:![rsa])?(?::[^{}]*)?\}", source)  # f"{x=}", which leaves no trace
    return found


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_programs_need_nothing_that_python_37_lacks(path):
    source = path.read_text(encoding="utf-8")
    assert newer_than_37(source) == []
    compile(source, str(path), "exec", dont_inherit=True)


@pytest.mark.parametrize(
    "source",
    [
        "if (n := 1): pass",
        "def f(x, /): pass",
        "import tomllib",
        "import math; math.prod([1])",
        "x = {} | {}",
        "x = {}\nx |= {}",
        "print(f'{x=}')",
        "print(f'{x=!r}')",
        "x = list[int]",
        "'abc'.removeprefix('a')",
        "match x:\n    case 1: pass",
        "try: pass\nexcept* ValueError: pass",
        "with (open(a) as x, open(b) as y): pass",
    ],
)
def test_the_test_of_python_37_can_fail(source):
    assert newer_than_37(source)


def test_annotations_are_never_evaluated():
    assert "from __future__ import annotations" in WRITER.read_text(encoding="utf-8")
    assert newer_than_37("def f(x: list[int] | None) -> dict[str, int]: pass") == []


def test_it_works_by_itself(tmp_path, python):
    """A copy, in a process that cannot see seqloss."""
    shutil.copy(WRITER, tmp_path)
    program = """
import sys
sys.path[:] = [sys.argv[1], *[entry for entry in sys.path if "site-packages" in entry or "python" in entry]]
sys.modules["seqloss"] = None
import seqloss_golden_writer, numpy
path = seqloss_golden_writer.write(
    sys.argv[1] + "/alone", {"x": numpy.zeros(2)}, {"y": 1.0}, function="f", flags={"n": numpy.int64(3)}
)
print(path, *sorted(m for m in sys.modules if m.split(".")[0] in ("seqloss", "torch", "tensorflow", "jax")))
"""
    assert python(program, str(tmp_path)).split() == [str(tmp_path / "alone.npz"), "seqloss"]
    assert json.loads((tmp_path / "alone.json").read_text())["flags"] == {"n": 3}


# --- bytes ----------------------------------------------------------------------------------------------------------


def test_equal_content_gives_equal_bytes(tmp_path):
    one = write(tmp_path / "one", INPUTS, RESULTS, flags={"a": True, "b": 2})
    shuffled = dict(reversed(INPUTS.items()))
    shuffled["logits"] = np.asfortranarray(INPUTS["logits"]).astype(">f4")
    two = write(tmp_path / "two.npz", shuffled, {"loss": np.array(1.5, np.float32)}, flags={"b": 2, "a": True})
    assert both(one) == both(two)


def test_the_bytes_are_those_of_every_python_and_numpy(tmp_path):
    content = write(tmp_path / "x", INPUTS, RESULTS).read_bytes()
    assert hashlib.sha256(content).hexdigest() == "9adad6c8066f4ecbf5e89bc948a622025dda52fd9a347919539fc0dfdb8b0231"


def test_the_bytes_of_a_recording_on_python_37_are_made_again(tmp_path):
    """The recording of TensorFlow 1.15: the same arrays give the same archive here."""
    recorded = ROOT / "examples" / "port" / "tf1_model.npz"
    with np.load(recorded, allow_pickle=False) as file:
        arrays = dict(file)
    inputs = {name: arrays.pop(name) for name in ("logits", "targets", "weights")}
    assert write(tmp_path / "again", inputs, arrays).read_bytes() == recorded.read_bytes()


def test_numpy_reads_it(tmp_path):
    with np.load(write(tmp_path / "x", INPUTS, RESULTS), allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays.keys() == {"logits", "targets", "loss"}
    for name, expected in {**INPUTS, **RESULTS}.items():
        assert arrays[name].dtype == expected.dtype
        assert arrays[name].shape == expected.shape
        np.testing.assert_array_equal(arrays[name], expected)


def test_what_the_manifest_says(tmp_path, monkeypatch):
    for name in seqloss_golden_writer.RECORDED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(__version__="1.15.5"))
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())  # half imported, it has no version yet
    path = write(
        tmp_path / "x",
        INPUTS,
        {"bits": np.uint16(7), **RESULTS},
        flags={"eps": np.float32(0.5)},
        note="é",
        device="GPU:0",
    )
    content, text = both(path)
    manifest = json.loads(text)
    assert text.isascii()
    assert manifest.pop("versions") == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": np.__version__,
        "tensorflow": "1.15.5",
    }
    assert len(manifest.pop("manifest_sha256")) == 64
    assert manifest == {
        "format": "seqloss-golden",
        "version": 1,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "function": "sequence_loss",
        "flags": {"eps": 0.5},
        "note": "é",
        "device": "GPU:0",
        "arrays": {
            "logits": {"role": "input", "dtype": "float32", "shape": [1, 2, 3]},
            "targets": {"role": "input", "dtype": "int64", "shape": [1, 2]},
            "bits": {"role": "result", "dtype": "uint16", "shape": []},
            "loss": {"role": "result", "dtype": "float32", "shape": []},
        },
    }


@pytest.mark.parametrize("name", ["model", "model.npz", "model.json"])
@pytest.mark.parametrize("kind", [str, Path])
def test_the_suffix_may_be_left_out(tmp_path, name, kind):
    assert write(kind(tmp_path / name), INPUTS, RESULTS) == tmp_path / "model.npz"
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.npz"]


def test_a_dot_in_the_name_is_no_suffix(tmp_path):
    assert write(tmp_path / "model.v1", INPUTS, RESULTS).name == "model.v1.npz"


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["x.npz", "x.json"])
def test_files_that_are_there_stay_unless_told_otherwise(tmp_path, kept):
    (tmp_path / kept).write_bytes(b"mine")
    with pytest.raises(GoldenWriteError, match=rf"{kept} exists; pass overwrite=True"):
        write(tmp_path / "x", INPUTS, RESULTS)
    assert os.listdir(tmp_path) == [kept]
    assert (tmp_path / kept).read_bytes() == b"mine"
    write(tmp_path / "x", INPUTS, RESULTS, overwrite=True)
    assert (tmp_path / kept).read_bytes() != b"mine"


@pytest.mark.parametrize("crash", ["fsync", "replace"])
def test_a_crash_leaves_no_half_file(tmp_path, monkeypatch, crash):
    path = write(tmp_path / "x", INPUTS, RESULTS)
    before = both(path)

    def crashed(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(seqloss_golden_writer.os, crash, crashed)
    with pytest.raises(OSError, match="the disk is full"):
        write(path, INPUTS, {"loss": 2.0}, overwrite=True)
    assert both(path) == before
    assert sorted(os.listdir(tmp_path)) == ["x.json", "x.npz"]


def test_nothing_is_written_before_all_is_checked(tmp_path):
    with pytest.raises(GoldenWriteError):
        write(tmp_path / "x", INPUTS, {"loss": object()})
    assert os.listdir(tmp_path) == []


def test_files_are_as_readable_as_the_umask_lets(tmp_path):
    mask = os.umask(0o027)
    try:
        path = write(tmp_path / "x", INPUTS, RESULTS)
    finally:
        os.umask(mask)
    assert [oct(path.with_suffix(s).stat().st_mode & 0o777) for s in (".npz", ".json")] == ["0o640"] * 2


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, message",
    [
        (
            np.array([{}], object),
            "x is an array of object, which other programs could not read; cast it to one of bool",
        ),
        ([[1], [1, 2]], "x is "),
        (np.array(["a"]), "x is an array of str"),
        (np.array([b"a"]), "x is an array of bytes"),
        (1j, "x is an array of complex128"),
        (np.zeros(2, np.longdouble), f"x is an array of {np.dtype(np.longdouble).name}"),
        (np.zeros(2, "M8[s]"), "x is an array of datetime64"),
        (np.zeros(2, [("a", "f4")]), "x is an array of void"),
        (np.ma.masked_array([1.0], [True]), "x is a masked array; fill it and record the mask as weights"),
        (None, "x is an array of object"),
        (object, "x is an array of object"),
        (
            np.zeros((2**40, 0), np.int8),
            f"x has the shape [{2**40}, 0]: no entries, and sizes beside the 0 that multiply to more than 2146435072",
        ),
    ],
    ids=str,
)
def test_values_that_are_refused(tmp_path, value, message):
    with pytest.raises(GoldenWriteError, match=re.escape(message)):
        write(tmp_path / "x", {"x": value}, RESULTS)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", "a.npy", "1a", "a b", "é", "a\n", "a" * 65, 3, None])
def test_names_that_are_refused(tmp_path, name):
    with pytest.raises(GoldenWriteError, match="is not a name for an array: take a letter"):
        write(tmp_path / "x", {name: 1.0}, RESULTS)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": {"loss": 1.0}}, "loss is both an input and a result; give the result another name"),
        ({"inputs": {}}, "there is no input to record; give at least one"),
        ({"results": {}}, "there is no result to record"),
        ({"inputs": [1.0]}, "inputs must map names to arrays, got a list"),
        ({"function": None}, "function must be a string, got None"),
        ({"note": b"x"}, "note must be a string, got b'x'"),
        ({"device": 0}, "device must be a string, got 0"),
        ({"flags": {"a": float("nan")}}, "the flag 'a' is nan; expected a bool, a finite number, a string or None"),
        ({"flags": {"a": [1]}}, "the flag 'a' is [1]"),
        ({"flags": {1: True}}, "the flag 1 is True"),
        ({"flags": ["a"]}, "flags must map names to values, got a list"),
        ({"flags": {"a": -(10**640)}}, "the flag 'a' is an integer of more than 640 digits; pass it as a string"),
        ({"path": b"x"}, "the path must be a string or a Path, got b'x'"),
        ({"path": "folder/"}, "the path 'folder/' names no file"),
        ({"path": ".npz"}, "the path '.npz' names no file"),
        ({"path": "."}, "the path '.' names no file"),
        ({"path": "../..npz"}, "the path '../..npz' names no file"),
        ({"path": "a\0b"}, "the path 'a\\x00b' has characters that no name of a file can have"),
        ({"path": "a\ud800b"}, "the path 'a\\ud800b' has characters that no name of a file can have"),
    ],
    ids=str,
)
def test_arguments_that_are_refused(tmp_path, change, message):
    arguments = {"path": tmp_path / "x", "inputs": INPUTS, "results": RESULTS, **change}
    with pytest.raises(GoldenWriteError, match=re.escape(message)):
        write(**arguments)
    assert os.listdir(tmp_path) == []


def test_what_is_too_large_is_refused_before_it_is_copied(tmp_path):
    huge = np.broadcast_to(np.float32(1), (2**40,))
    with pytest.raises(GoldenWriteError, match=r"the arrays take .* bytes, more than .*; record a smaller batch"):
        write(tmp_path / "x", {"x": huge}, RESULTS)
