"""What may be recorded may be read: where one ends, the other one ends, and in words."""

import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seqloss.testing import GoldenError, golden
from seqloss.testing.golden import seqloss_golden_writer as writer

ONE = {"y": np.float32(1)}


def written(folder, inputs=ONE, results=None, **options):
    """What is read after it was written."""
    results = {"z": 1.0} if results is None else results
    return golden.read(golden.write(folder / "x", inputs, results, overwrite=True, **options))


# --- whatever it is -------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True)
DTYPES = [name for name in writer.DTYPES if name != "bfloat16"]
# Beside an axis of size 0 the others may be of any size.
EMPTY = st.lists(st.sampled_from([1, 2, 2**16, 2**31, 2**62 + 1]), max_size=3).map(lambda sizes: [0, *sizes])
SHAPES = st.lists(st.integers(0, 3), max_size=4) | EMPTY | st.integers(0, 32).map(lambda rank: [1] * rank)
TEXTS = st.text(max_size=20) | st.sampled_from(["\ud800", "\x00", "]" * 3, "é" * 10])
NUMBERS = st.integers() | st.integers(-(10**650), 10**650) | st.floats()
FLAGS = st.dictionaries(TEXTS, st.none() | st.booleans() | NUMBERS | TEXTS, max_size=3)
CHARACTERS = st.characters(blacklist_characters="/")
QUICK = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def arrays(draw):
    shape, dtype = draw(SHAPES), draw(st.sampled_from([*4 * DTYPES, *4 * [">f4"], "c8", "U2", "O"]))
    try:
        array = np.zeros(shape, dtype)
    except ValueError:  # more than NumPy has
        return 1.0
    return array + draw(st.integers(0, 1)) if dtype in DTYPES and dtype != "bool" else array


@pytest.fixture
def quick(monkeypatch):
    """No waiting for the disk."""
    monkeypatch.setattr(writer.os, "fsync", lambda number: None)


@pytest.mark.usefixtures("quick")
@QUICK
@given(
    name=st.text(CHARACTERS, min_size=1, max_size=8),
    given=st.dictionaries(NAMES, arrays(), min_size=2, max_size=4),
    flags=FLAGS,
    texts=st.tuples(TEXTS, st.none() | TEXTS, st.none() | TEXTS),
)
@example(name="x", given={"a": 1, "b": np.zeros((2**61, 0), np.uint16)}, flags={}, texts=("", None, None))
@example(name="x", given={"a": 1, "b": np.zeros((2**31 - 2**21, 0))}, flags={}, texts=("", None, None))
@example(name="x", given={"a": 1, "b": np.zeros((1,) * 32)}, flags={"n": 10**640 - 1}, texts=("", "", ""))
@example(name="a\0b", given={"a": 1, "b": 1}, flags={}, texts=("f", None, None))
def test_what_may_be_written_may_be_read(tmp_path, name, given, flags, texts):
    """Or else it is refused, with an error of seqloss."""
    function, note, device = texts
    options = {"function": function, "note": note, "device": device, "flags": flags, "overwrite": True}
    first, *others = given
    try:
        path = golden.write(tmp_path / name, {key: given[key] for key in others}, {first: given[first]}, **options)
    except GoldenError:
        return
    got = golden.read(path)
    assert (got.function, got.note, got.device, got.flags) == (function, note, device, flags)
    assert (set(got.inputs), set(got.results)) == (set(others), {first})
    for key, read in {**got.inputs, **got.results}.items():
        expected = np.asarray(given[key])
        assert (read.shape, read.dtype) == (expected.shape, expected.dtype.newbyteorder("="))
        assert np.array_equal(read, expected)


# --- sizes and numbers ----------------------------------------------------------------------------------------------


def test_thousands_of_arrays(tmp_path):
    inputs = {f"x{'_' * 60}"[: 59 - i % 40] + f"{i}": np.full((1,) * (i % 3), i, np.int32) for i in range(8_000)}
    assert written(tmp_path, inputs).inputs == inputs
    assert (tmp_path / "x.json").stat().st_size > 2**20
    manifest = json.loads((tmp_path / "x.json").read_text())
    (tmp_path / "x.json").write_bytes(json.dumps(manifest, indent=4).replace("\n", "\r\n").encode())
    assert golden.read(tmp_path / "x").inputs == inputs


def test_more_arrays_than_an_archive_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MEMBERS", 5)
    inputs = dict.fromkeys("abcd", 1.0)
    assert written(tmp_path, inputs).inputs == inputs
    with pytest.raises(GoldenError, match="there are 6 arrays, more than 5; stack those that belong together"):
        written(tmp_path, {**inputs, "e": 1.0})


def test_the_number_of_arrays_is_that_of_the_format(tmp_path):
    with pytest.raises(GoldenError, match="there are 65535 arrays, more than 65534; stack"):
        written(tmp_path, {f"x{i}": 1 for i in range(2**16 - 2)})


def test_the_largest_archive_is_read(tmp_path, monkeypatch):
    size = 2 * writer.OVERHEAD + 1004
    monkeypatch.setattr(writer, "LARGEST", size)
    inputs = {"x": np.zeros(1000, np.uint8)}
    written(tmp_path, inputs, ONE)
    assert golden.read(tmp_path / "x", largest=size).inputs["x"].size == 1000
    with pytest.raises(GoldenError, match=rf"declares arrays of {size} bytes, more than largest={size - 1}; raise it"):
        golden.read(tmp_path / "x", largest=size - 1)
    with pytest.raises(
        GoldenError, match=f"the arrays take {size + 1} bytes, more than {size}; record a smaller batch"
    ):
        written(tmp_path, {"x": np.zeros(1001, np.uint8)}, ONE)


def test_by_default_all_is_read_that_may_be_written():
    assert golden.read.__kwdefaults__ == {"largest": writer.LARGEST}


def test_more_axes_than_old_numpys_have(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "RANK", 2)
    assert written(tmp_path, {"x": np.zeros((1, 1))}).inputs["x"].ndim == 2
    with pytest.raises(GoldenError, match="x has 3 axes, more than 2; reshape it"):
        written(tmp_path, {"x": np.zeros((1, 1, 1))})


@pytest.mark.parametrize("letter", ["a", "é", "\ud800", "\U0001f600"])
def test_a_long_note_is_read_or_refused(tmp_path, letter):
    length = len(json.dumps(letter)) - 2
    longest = (2**20 - 200) // length
    assert written(tmp_path, note=letter * longest).note == letter * longest
    message = r"the manifest takes \d{7} bytes, more than the \d{7} allowed with an archive of \d+; shorten the note"
    with pytest.raises(GoldenError, match=message):
        written(tmp_path, note=letter * (longest + 7000))
    assert written(tmp_path).note is None


def test_a_long_integer_is_refused_whatever_python_can_print(tmp_path):
    with pytest.raises(GoldenError, match="the flag 'n' is an integer of more than 640 digits; pass it as a string"):
        written(tmp_path, flags={"n": 10**5000})


@pytest.mark.parametrize("rank", [0, 1, 31, 32])
def test_the_room_for_an_array_is_enough(tmp_path, rank):
    """Of the longest lines of a manifest beside the shortest array, and of the longest array in an archive."""
    shape = (0,) * min(rank, 1) + (1,) * (rank - 1)
    name, short = "x" * 64, "y"
    written(tmp_path, {name: np.zeros(shape, np.uint16)}, {short: np.bool_(0)})
    content = (tmp_path / "x.npz").read_bytes()
    lines = json.dumps({name: {"role": "result", "dtype": "bfloat16", "shape": [2**61] * rank}}, indent=6)
    assert len(lines) + 8 < writer.OVERHEAD
    assert len(content) < 2 * writer.OVERHEAD


def test_the_smallest_array_is_that():
    empty, one = (len(writer.archived(arrays)) for arrays in ({}, {"x": np.zeros(0, "|b1")}))
    assert one - empty >= writer.SMALLEST > 0.9 * (one - empty)


# --- files of somebody who means harm -------------------------------------------------------------------------------


def large(folder, text, arrays=2000):
    """A manifest that is no larger than this many arrays can need, beside an archive that may hold them."""
    golden.write(folder / "x", {f"x{i}": 1 for i in range(arrays)}, ONE)
    (folder / "x.json").write_bytes(text * (writer.room((folder / "x.npz").stat().st_size) // len(text)))
    return folder / "x"


@pytest.mark.parametrize("text", [b"[],", b"{},", b"1,"], ids=repr)
def test_a_manifest_that_would_grow_is_not_parsed(tmp_path, text):
    path = large(tmp_path, text)
    size = path.with_suffix(".json").stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(GoldenError, match=r"x\.json holds more than its arrays can need; it is damaged"):
            golden.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * size
    finally:
        tracemalloc.stop()


def test_a_large_manifest_needs_an_archive_that_has_its_arrays(tmp_path):
    path = large(tmp_path, b" ")
    with open(path.with_suffix(".npz"), "r+b") as file:
        file.truncate(1000)
    with pytest.raises(GoldenError, match=r"x\.json has more than the 21\d{5} bytes that it may have"):
        golden.read(path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(GoldenError, match=r"but not .*x\.npz: a golden file is the pair; copy both"):
        golden.read(path)


def test_the_page_has_the_limits_in_force():
    page = (Path(__file__).parents[1] / "docs" / "golden-files.md").read_text(encoding="utf-8")
    numbers = [int(n) for line in page.splitlines() if line.startswith("| ") for n in re.findall(r"\b\d{2,}\b", line)]
    in_force = [writer.OVERHEAD, writer.LARGEST, writer.MEMBERS, writer.RANK, writer.LARGEST, writer.TEXTS]
    assert numbers == [*in_force, writer.OVERHEAD, writer.DIGITS]


def test_a_manifest_has_no_room_beside_an_archive_of_any_size():
    assert writer.room(0) == 2**20
    assert writer.room(2**31) == writer.room(2**26) == 2**20 + writer.OVERHEAD * writer.MEMBERS
    assert math.log2(writer.room(2**31)) < 28
