"""The frequencies that the unigram samplers read: from a file, from a list, from assigned counts."""

import re

import numpy as np
import pytest
from test_samplers import taught

import seqloss
from seqloss import samplers


def from_file(path, **changed):
    arguments = {"range_max": 4, "vocab_file": path, **changed}
    return samplers.fixed_unigram_candidate_sampler([[0], [1], [2], [3]], 1, 10, False, **arguments)


@pytest.mark.parametrize("as_path", [str, lambda path: path])
@pytest.mark.parametrize(
    "text", ["a,1\nb,x, 2 \n\n3\nd,4", "\ufeff1\r\n2\r\n3e0\r\n4.0\r\n\r\n", '"a, b",1\n,2\n3\n4\n']
)
def test_a_vocabulary_file(tmp_path, text, as_path):
    path = tmp_path / "words.txt"
    path.write_bytes(text.encode())
    assert from_file(as_path(path)).true_expected.ravel().tolist() == [1, 2, 3, 4]


def test_reserved_ids_and_distortion(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a,4\nb,0\nc,16\n")
    counts = from_file(path, num_reserved_ids=1, distortion=0.5).true_expected.ravel()
    np.testing.assert_allclose(counts, [0, 10 / 3, 0, 20 / 3], rtol=1e-15)
    counts = from_file(path, num_reserved_ids=1, distortion=0).true_expected.ravel()
    np.testing.assert_allclose(counts, [0, 10 / 3, 10 / 3, 10 / 3], rtol=1e-15)


@pytest.mark.parametrize(
    "content, text",
    [
        (b"a,1\n\nb,many\n", "line 3 of vocab_file {!r} must end in a number after its last comma, got 'many'"),
        (b"a,1\nb,\n", "line 2 of vocab_file {!r} must end in a number after its last comma, got ''"),
        (b"a,1\n\xff,2\n", "vocab_file {!r} cannot be read as UTF-8 text: 'utf-8' codec can't decode byte 0xff"),
        (None, "vocab_file {!r} cannot be read as UTF-8 text: [Errno 2] No such file or directory"),
        (b"1\n2\n3\n-4\n", "the frequencies of vocab_file must be finite and at least 0, but entry 3 is -4.0; correct"),
        (b"0\n0\n0\n0\n", "vocab_file must hold a frequency above 0, but all are 0; nothing could be drawn"),
    ],
)
def test_vocabulary_files_that_are_refused(tmp_path, content, text):
    path = str(tmp_path / "words.txt")
    if content is not None:
        (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(seqloss.OptionError, match="^" + re.escape(text.format(path))):
        from_file(path)


def test_a_vocabulary_file_of_another_length(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("1\n2\n")
    text = (
        "vocab_file must hold range_max - num_reserved_ids = 4 - 0 = 4 frequencies, got 2; reserved ids have no entry"
    )
    with pytest.raises(seqloss.ShapeError, match=f"^{re.escape(text)}$"):
        from_file(path)


INTEGERS = "counts must be a NumPy array of integers"
NEVER = "a class that was never seen has the count 1"
COUNTS_ROWS = [
    ([1, 2], "DTypeError", f"{INTEGERS}, got a list; assign np.array(saved, 'int64')"),
    (
        np.ones(3),
        "DTypeError",
        "counts must be a NumPy array of integers, got float64; assign np.array(saved, 'int64')",
    ),
    (np.ones(2, int), "ShapeError", "counts must have the shape [range_max] = [3], got [2]"),
    (
        np.array([1, 0, 1]),
        "OptionError",
        f"counts must be at least 1, got 0; {NEVER}",
    ),
]


@pytest.mark.parametrize("counts, error, text", COUNTS_ROWS)
def test_assigned_counts_that_are_refused(counts, error, text):
    sampler = taught([1, 1, 1])
    sampler.counts = counts
    with pytest.raises(getattr(seqloss, error)) as caught:
        sampler.sample([[0]], 1, 1, False)
    assert str(caught.value) == text
