"""Golden files: what was written is what is read, whatever was done to a file is noticed."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import tracemalloc
import zipfile
from hashlib import sha256

import numpy as np
import pytest

import seqloss
from seqloss.testing import GoldenError, golden
from seqloss.testing.golden import seqloss_golden_writer as writer

RNG = np.random.default_rng(0)
LOGITS = (3 * RNG.normal(size=(3, 4, 7))).astype(np.float32)
TARGETS = RNG.integers(0, 7, (3, 4))
INPUTS = {"logits": LOGITS, "targets": TARGETS}


def computed():
    return dict(zip(("loss", "dlogits"), seqloss.sequence_loss_and_grad(**INPUTS), strict=True))


@pytest.fixture
def recorded(tmp_path):
    """The path of a recording."""
    return golden.write(tmp_path / "x", INPUTS, computed(), note="a note", device="cpu")


def manifest_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def forge(path, content=None, manifest=None):
    """Write an archive and a manifest whose hashes are right, as somebody would who knows the format."""
    content = path.read_bytes() if content is None else content
    manifest = manifest_of(path) if manifest is None else manifest
    manifest.update(sha256=sha256(content).hexdigest(), bytes=len(content))
    manifest["manifest_sha256"] = writer.seal(manifest)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(manifest))


def same(one, other):
    assert one.inputs.keys() == other.inputs.keys()
    assert one.results.keys() == other.results.keys()
    for name, array in {**one.inputs, **one.results}.items():
        np.testing.assert_array_equal(array, {**other.inputs, **other.results}[name])
    facts = "function", "flags", "note", "versions", "device", "dtypes", "sha256"
    return all(getattr(one, fact) == getattr(other, fact) for fact in facts)


def of_bfloat16(folder):
    """A recording of bfloat16 arrays, without a framework that has them: its bits are those of uint16."""
    bits = np.array([0x3F80, 0xFF80, 0x0001, 0x7FC0], np.uint16)
    path = golden.write(folder / "bits", {"x": bits}, {"y": bits})
    manifest = manifest_of(path)
    for array in manifest["arrays"].values():
        array["dtype"] = "bfloat16"
    forge(path, manifest=manifest)
    return golden.read(path)


# --- round trips ----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(recorded):
    got = golden.read(recorded)
    for given, read in ((INPUTS, got.inputs), (computed(), got.results)):
        assert given.keys() == read.keys()
        for name, array in given.items():
            assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(read[name], array)
            assert read[name].flags.writeable
            assert read[name].flags.aligned
            assert read[name].dtype.isnative
    assert (got.function, got.flags, got.note, got.device) == ("sequence_loss", {}, "a note", "cpu")
    assert got.versions["seqloss"] == seqloss.__version__
    assert got.dtypes["targets"] == "int64"
    assert got.sha256 == sha256(recorded.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", ["", ".npz", ".json"])
def test_any_of_the_names_is_read(recorded, suffix):
    assert same(golden.read(recorded.with_suffix(suffix)), golden.read(str(recorded)))


@pytest.mark.parametrize("dtype", [name for name in writer.DTYPES if name != "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (3, 2)], ids=str)
def test_every_dtype_and_shape(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    got = golden.read(golden.write(tmp_path / "x", {"x": array}, {"y": array.T}))
    for value, expected in ((got.inputs["x"], array), (got.results["y"], array.T)):
        assert (value.dtype, value.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(value, expected)


def test_special_floats_keep_their_bits(tmp_path):
    array = np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    got = golden.read(golden.write(tmp_path / "x", {"x": array}, {"y": 0.1}))
    assert got.inputs["x"].tobytes() == array.tobytes()
    assert got.results["y"] == 0.1


def test_bits_of_bfloat16_are_its_numbers(tmp_path):
    x = of_bfloat16(tmp_path).inputs["x"]
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.array([1, -np.inf, 2.0**-133, np.nan], np.float32))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_arrays_of_every_framework(tmp_path, framework, dtype):
    if dtype not in framework.DTYPES:
        with pytest.raises(GoldenError, match="x was recorded in bfloat16, which NumPy lacks; choose another backend"):
            golden.check(of_bfloat16(tmp_path), lambda x: {"y": x}, backend=framework.name)
        return
    with framework.precision(dtype):
        x = framework.array(RNG.normal(size=(5, 3)), dtype)
        got = golden.read(golden.write(tmp_path / "x", {"x": x}, {"y": x}))
        assert got.dtypes == {"x": dtype, "y": dtype}
        np.testing.assert_array_equal(got.inputs["x"], framework.to_numpy(x))
    # A recording of float64 switches JAX to it.
    found = golden.check(got, lambda x: {"y": x}, backend=framework.name, bound=0)["y"]
    assert found.same
    assert (found.actual.framework, found.actual.dtype, found.expected.dtype) == (framework.name, dtype, dtype)


def test_every_bfloat16_comes_through_a_framework(tmp_path, framework):
    if "bfloat16" not in framework.DTYPES:
        return
    bits = np.arange(2**16, dtype=np.uint16)
    bits = bits[(bits & 0x7F80 != 0x7F80) | (bits & 0x7F == 0)]  # a NaN has many forms, and frameworks choose one
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    x = framework.array(values, "bfloat16")
    path = golden.write(tmp_path / "x", {"x": x}, {"y": x})
    with np.load(path) as file:
        np.testing.assert_array_equal(file["x.npy"] if "x.npy" in file else file["x"], bits)


# --- damage ---------------------------------------------------------------------------------------------------------


def test_it_is_a_value_error():
    assert issubclass(GoldenError, seqloss.SeqlossError)
    assert issubclass(GoldenError, ValueError)
    assert GoldenError.__init__ is Exception.__init__


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_truncated_file_is_refused(recorded, suffix):
    file = recorded.with_suffix(suffix)
    whole = file.read_bytes()
    expected = golden.read(recorded)
    for size in range(0, len(whole), 10):
        file.write_bytes(whole[:size])
        with pytest.raises(GoldenError, match=r"x\.(npz|json)"):
            golden.read(recorded)
    file.write_bytes(whole)
    assert same(golden.read(recorded), expected)


def test_a_flipped_byte_of_the_archive_is_refused(recorded):
    whole = recorded.read_bytes()
    for place in range(0, len(whole), 3):
        recorded.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.raises(
            GoldenError, match="the SHA-256 differs, so it was changed, is damaged, or belongs to another"
        ):
            golden.read(recorded)


def test_a_flipped_byte_of_the_manifest_is_refused_or_between_the_words(recorded):
    file = recorded.with_suffix(".json")
    whole, expected, refused = file.read_bytes(), golden.read(recorded), 0
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            got = golden.read(recorded)
        except GoldenError:
            refused += 1
        else:
            assert whole[place : place + 1].isspace()
            assert same(got, expected)
    assert refused > 0.5 * len(whole)


def test_line_ends_and_indents_are_no_damage(recorded):
    expected, manifest = golden.read(recorded), manifest_of(recorded)
    recorded.with_suffix(".json").write_bytes(json.dumps(manifest, indent=4).replace("\n", "\r\n").encode())
    assert same(golden.read(recorded), expected)


def test_files_of_two_recordings_are_refused(recorded):
    other = golden.write(recorded.with_name("other"), INPUTS, {"loss": np.float32(1.0)})
    shutil.copy(other.with_suffix(".json"), recorded.with_suffix(".json"))
    with pytest.raises(GoldenError, match="is cut off, or belongs to another recording"):
        golden.read(recorded)
    third = golden.write(recorded.with_name("third"), INPUTS, {"loss": np.float32(2.0)})
    shutil.copy(third, other)
    with pytest.raises(GoldenError, match="or belongs to another recording"):
        golden.read(other)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_half_of_a_pair_is_refused(recorded, suffix):
    recorded.with_suffix(suffix).unlink()
    with pytest.raises(GoldenError, match=rf"but not .*x\{suffix}: a golden file is the pair; copy both"):
        golden.read(recorded)


def test_no_files_are_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no .*x\.npz; a recording is x\.npz and x\.json$"):
        golden.read(tmp_path / "x")


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_what_is_no_regular_file_is_not_opened(recorded, suffix):
    file = recorded.with_suffix(suffix)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(GoldenError, match="is not a regular file; copy its content to one"):
        golden.read(recorded)


def test_a_circle_of_links_is_an_error(recorded):
    recorded.unlink()
    recorded.symlink_to(recorded)
    with pytest.raises((OSError, GoldenError)):
        golden.read(recorded)


@pytest.mark.parametrize("path", [b"x", "folder/"])
def test_paths_that_name_no_file(path):
    with pytest.raises(GoldenError, match="the path"):
        golden.read(path)


# --- forged manifests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[]", "it holds a list, not an object"),
        (b"7", "it holds a int, not an object"),
        (b"null", "it holds a NoneType, not an object"),
        (b"{}", "is not a manifest of a golden file: its format is None"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"format": "seqloss-golden", "format": "seqloss-golden"}', "a name occurs twice in one object"),
        (b'{"format": "seqloss-golden", "version": 1, "flags": {"a": 1, "a": 2}}', "a name occurs twice in one object"),
        (b'{"format": NaN}', "NaN is not a number in JSON"),
        (b'{"format": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"format": "seqloss-golden", "version": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b" " * (2**21 + 2**20), "has more than the"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_manifests_that_are_none(recorded, text, message):
    recorded.with_suffix(".json").write_bytes(text)
    with pytest.raises(GoldenError, match=re.escape(message)):
        golden.read(recorded)


def test_a_huge_manifest_is_not_read(recorded):
    with open(recorded.with_suffix(".json"), "r+b") as file:
        file.truncate(100 * 2**20)
    tracemalloc.start()
    with pytest.raises(GoldenError, match=r"has more than the 21\d{5} bytes that it may have; it is damaged"):
        golden.read(recorded)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


LOSS = ("arrays", "loss")


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("format",), "npz", "its format is 'npz'"),
        (("version",), 2, "has version 2 of the format, and this seqloss reads version 1; update seqloss"),
        (("version",), "1", "has version '1'"),
        (("version",), True, "has version True"),
        (("version",), 1.0, "has version 1.0"),
        (("function",), None, "the field 'function' is None"),
        (("flags",), [], "the field 'flags' is []"),
        (("flags",), {"a": []}, "the field 'flags' is {'a': []}"),
        (("flags",), {"a": float("inf")}, "is not JSON"),
        (("note",), 1, "the field 'note' is 1"),
        (("device",), {}, "the field 'device' is {}"),
        (("versions",), {"python": 3}, "the field 'versions' is"),
        (("arrays",), [], "the field 'arrays' is []"),
        (("arrays",), {}, "it does not declare inputs and results"),
        (("more",), 1, "the field 'more' is unknown"),
        ((*LOSS, "role"), "output", "the array 'loss' is declared as"),
        ((*LOSS, "role"), [], "the array 'loss' is declared as"),
        ((*LOSS, "dtype"), "object", "the array 'loss' is declared as"),
        ((*LOSS, "dtype"), "<f4", "the array 'loss' is declared as"),
        ((*LOSS, "dtype"), ["float32"], "the array 'loss' is declared as"),
        ((*LOSS, "shape"), "", "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [-1], "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [True], "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [1.0], "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [2**70], "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [1] * 65, "the array 'loss' is declared as"),
        ((*LOSS, "shape"), [2**50], "declares arrays of 4503599627"),
        ((*LOSS, "shape"), [2**61] * 64, "declares arrays of"),
        ((*LOSS, "shape"), [2**61] * 63 + [0], "is not an archive of a golden file"),
        ((*LOSS, "more"), 1, "the array 'loss' is declared as"),
        (LOSS, 1, "the array 'loss' is declared as 1"),
        (("arrays", "../loss"), {"role": "result", "dtype": "float32", "shape": []}, "the array '../loss' is declared"),
        (("arrays", "a/b"), {"role": "result", "dtype": "float32", "shape": []}, "the array 'a/b' is declared"),
        (("arrays", ".."), {"role": "result", "dtype": "float32", "shape": []}, "the array '..' is declared"),
        (("arrays", "two"), {"role": "result", "dtype": "float32", "shape": []}, "where the manifest declares"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_forged_manifests_are_refused(recorded, place, value, message):
    manifest = manifest_of(recorded)
    inner = manifest
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    forge(recorded, manifest=manifest)
    with pytest.raises(GoldenError, match=re.escape(message)):
        golden.read(recorded)


@pytest.mark.parametrize("field", ["format", "version", "function", "flags", "note", "versions", "device", "arrays"])
def test_no_field_may_lack(recorded, field):
    manifest = manifest_of(recorded)
    del manifest[field]
    forge(recorded, manifest=manifest)
    with pytest.raises(GoldenError):
        golden.read(recorded)


@pytest.mark.parametrize("field", ["sha256", "manifest_sha256", "bytes"])
@pytest.mark.parametrize("value", [None, 7, "", "0" * 63, "g" * 64, "0" * 64 + "\n", ["0" * 64], -1, True], ids=str)
def test_hashes_that_are_none(recorded, field, value):
    manifest = manifest_of(recorded)
    manifest[field] = value
    recorded.with_suffix(".json").write_text(json.dumps(manifest))
    with pytest.raises(GoldenError):
        golden.read(recorded)


def test_an_edited_manifest_is_refused(recorded):
    file = recorded.with_suffix(".json")
    file.write_text(file.read_text().replace("a note", "no note"))
    with pytest.raises(GoldenError, match="is not what was recorded: it was edited, or is damaged; take both files"):
        golden.read(recorded)


# --- forged archives ------------------------------------------------------------------------------------------------


class Bang:
    """Unpickling it would be noticed."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def npy(descr="<f4", shape=(), data=b"\0\0\0\0", fortran=False, version=b"\x01\x00"):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def zipped(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


SMALL = {
    "x": {"role": "input", "dtype": "float32", "shape": []},
    "y": {"role": "result", "dtype": "float32", "shape": []},
}
X, Y = ("x.npy", npy()), ("y.npy", npy())
ZERO = np.zeros(1000, np.float32)
PICKLED = npy("|O", (1,), pickle.dumps([Bang()]))


def moved(content, by=0):
    """An archive whose directory starts so many bytes later, and which says so."""
    size, start = struct.unpack("<2L", content[-10:-2])
    return content[:-10] + struct.pack("<2L", size, start + by) + content[-2:]


def shifted(content, front):
    """An archive behind other bytes, with right offsets in its directory too."""
    at, new = content.index(b"PK\x01\x02"), bytearray(moved(content, len(front)))
    while new[at : at + 4] == b"PK\x01\x02":
        (start,) = struct.unpack("<L", new[at + 42 : at + 46])
        new[at + 42 : at + 46] = struct.pack("<L", start + len(front))
        at += 46 + len("x.npy")
    return front + bytes(new)


def with_extra(content):
    """An archive with a field beside the name of its last array, before the data."""
    at, start = content.rindex(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    field = b"\xfe\xca\x04\x00MZxx"
    head = content[at : at + 28] + struct.pack("<H", len(field)) + content[at + 30 : at + 35] + field
    return moved(content[:at] + head + content[at + 35 : start] + content[start:], len(field))


def in_the_directory(content):
    """An archive with a field behind the first line of its directory."""
    start = content.index(b"PK\x01\x02")
    line = bytearray(content[start : start + 51])
    line[32:34] = b"\x02\x00"  # a comment of two bytes
    size, place = struct.unpack("<2L", content[-10:-2])
    new = content[:start] + bytes(line) + b"MZ" + content[start + 51 :]
    return new[:-10] + struct.pack("<2L", size + 2, place) + new[-2:]


def with_directory_bytes(content, edit):
    """An archive with something done to its directory, which starts at the first of these signatures."""
    start = content.index(b"PK\x01\x02")
    directory = bytearray(content[start:])
    edit(directory)
    return content[:start] + bytes(directory)


def put(place, value):
    def edit(directory):
        directory[place : place + len(value)] = value

    return edit


@pytest.mark.parametrize(
    "content",
    {
        "nothing": b"",
        "no zip": b"x" * 300,
        "no members": zipped([]),
        "one lacks": zipped([X]),
        "one more": zipped([X, Y, ("z.npy", npy())]),
        "twice": zipped([X, ("z.npy", npy())]).replace(b"z.npy", b"x.npy"),
        "twice beside the other": zipped([X, Y, ("z.npy", npy())]).replace(b"z.npy", b"y.npy"),
        "another name": zipped([X, ("z.npy", npy())]),
        "a folder": zipped([X, ("a/y.npy", npy())]),
        "a way out": zipped([X, ("../y.npy", npy())]),
        "an absolute name": zipped([X, ("/y.npy", npy())]),
        "no suffix": zipped([X, ("y", npy())]),
        "a bomb": zipped([X, ("y.npy", npy("<f4", (2**28,), bytes(2**24)))], zipfile.ZIP_DEFLATED),
        "compressed": zipped([X, Y], zipfile.ZIP_DEFLATED),
        "lzma": zipped([X, Y], zipfile.ZIP_LZMA),
        "a petabyte": zipped([X, ("y.npy", npy("<f4", (2**48,)))]),
        "objects": zipped([X, ("y.npy", PICKLED)]),
        "a pickle": zipped([X, ("y.npy", pickle.dumps(Bang()))]),
        "structured": zipped([X, ("y.npy", npy([("a", "<f4")]))]),
        "big end first": zipped([X, ("y.npy", npy(">f4"))]),
        "another dtype": zipped([X, ("y.npy", npy("<i4"))]),
        "another shape": zipped([X, ("y.npy", npy(shape=(1,)))]),
        "another order": zipped([X, ("y.npy", npy(fortran=True))]),
        "another version": zipped([X, ("y.npy", npy(version=b"\x02\x00"))]),
        "code": zipped([X, ("y.npy", npy().replace(b"False", b"f()  "))]),
        "too much data": zipped([X, ("y.npy", npy(data=b"\0" * 5))]),
        "too little data": zipped([X, ("y.npy", npy(data=b"\0" * 3))]),
        "no header": zipped([X, ("y.npy", b"")]),
        "a long header": zipped([X, ("y.npy", npy()[:8] + b"\xff\xff" + npy()[10:])]),
        "encrypted": with_directory_bytes(zipped([X, Y]), put(8, b"\x01")),
        "an unknown method": with_directory_bytes(zipped([X, Y]), put(10, b"\x63")),
        "a wrong CRC": with_directory_bytes(zipped([X, Y]), put(16, b"\x00\x01\x02\x03")),
        "a member of 4 GB": with_directory_bytes(zipped([X, Y]), put(20, b"\xfe\xff\xff\xff" * 2)),
        "a member that is elsewhere": with_directory_bytes(zipped([X, Y]), put(42, b"\xff\xff\xff\x7f")),
        "a comment": zipped([X, Y])[:-2] + b"\x01\x00x",
        "a comment that lacks": zipped([X, Y])[:-2] + b"\x05\x00",
        "something behind": zipped([X, Y]) + b"x",
        "something before": b"MZ" + zipped([X, Y]),
        "something before, counted": shifted(zipped([X, Y]), b"#!/bin/sh\n"),
        "something between": moved(zipped([X, Y]).replace(b"PK\x01\x02", b"MZPK\x01\x02", 1), 2),
        "something beside a name": with_extra(zipped([X, Y])),
        "something in the directory": in_the_directory(zipped([X, Y])),
    }.items(),
    ids=lambda item: item[0],
)
def test_forged_archives_are_refused(tmp_path, content):
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    forge(path, content[1])
    tracemalloc.start()
    with pytest.raises(GoldenError, match=r"x\.(npz|json)"):
        golden.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"MZ" + zipped([X, Y]),
        shifted(zipped([X, Y]), b"#!/bin/sh\n"),
        moved(zipped([X, Y]).replace(b"PK\x01\x02", b"MZPK\x01\x02", 1), 2),
        with_extra(zipped([X, Y])),
        in_the_directory(zipped([X, Y])),
    ],
    ids=["before", "before, counted", "between", "beside a name", "in the directory"],
)
def test_an_archive_that_could_be_another_file_too_is_told(tmp_path, content):
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    # It is an archive that can be read.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None and archive.read("y.npy") == Y[1]
    forge(path, content)
    with pytest.raises(GoldenError, match=r"there are bytes around .* that belong to no array"):
        golden.read(path)


@pytest.mark.parametrize(
    "content, message",
    [
        (npy(data=b"\0" * 5), "y has 5 bytes, and its shape takes 4"),
        (npy("|O"), "the header of y does not say what the manifest says of it"),
        (bytes(2500), "y.npy takes 2500 bytes, more than its shape"),
    ],
    ids=["data", "header", "size"],
)
def test_what_is_wrong_with_an_array_is_said(tmp_path, content, message):
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    forge(path, zipped([X, ("y.npy", content)]))
    with pytest.raises(
        GoldenError, match=re.escape(f"is not an archive of a golden file: {message}; take both files from")
    ):
        golden.read(path)


def test_an_infinity_in_disguise_is_refused(recorded):
    manifest = manifest_of(recorded)
    manifest["flags"] = {"a": float("inf")}
    manifest["manifest_sha256"] = writer.seal(manifest)
    recorded.with_suffix(".json").write_text(json.dumps(manifest).replace("Infinity", "1e999"))
    with pytest.raises(GoldenError, match=r"the field 'flags' is \{'a': inf\}"):
        golden.read(recorded)


def test_what_is_forged_well_is_read(tmp_path):
    """The archives above are refused for what is wrong with them."""
    path = golden.write(tmp_path / "x", {"x": np.float32(1)}, {"y": np.float32(1)})
    forge(path, zipped([X, Y]))
    assert golden.read(path).inputs["x"] == 0


def test_a_large_directory_is_not_read(tmp_path):
    path = golden.write(tmp_path / "x", {"x": np.zeros(2**20, np.uint8)}, {"y": np.float32(0)})
    forge(path, zipped([(f"{i}.npy", b"") for i in range(9000)]))
    with pytest.raises(GoldenError, match="its directory is not that of a golden file"):
        golden.read(path)


def test_a_directory_of_the_wide_form_is_not_read(tmp_path):
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    content = zipped([X, Y])
    forge(path, content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:])
    with pytest.raises(GoldenError, match="its directory is not that of a golden file"):
        golden.read(path)


def test_random_damage_of_a_forged_archive_is_refused_or_harmless(tmp_path):
    """Whoever can write both files can make the hashes right, and then the parser is all there is."""
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(600):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        forge(path, bytes(damaged))
        with contextlib.suppress(GoldenError):
            golden.read(path)


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_the_largest_size_is_kept(tmp_path):
    path = golden.write(tmp_path / "x", {"x": np.zeros(10_000, np.uint8)}, {"y": np.float32(0)})
    with pytest.raises(GoldenError, match="declares arrays of 14100 bytes, more than largest=14099; raise it"):
        golden.read(path, largest=14099)
    assert golden.read(path, largest=14100).inputs["x"].size == 10_000


def test_a_file_that_is_larger_than_declared_is_not_read(tmp_path):
    path = golden.write(tmp_path / "x", {"x": np.float32(0)}, {"y": np.float32(0)})
    with open(path, "r+b") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(GoldenError, match="has more than the 4104 bytes that it may have"):
        golden.read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
