"""``python -m seqloss parity`` with NumPy alone: as a user runs it, in a process of its own, then in that of the tests.

The backends have processes of their own everywhere.
"""

import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seqloss
from seqloss.__main__ import main
from seqloss.backends import numpy as numpy_backend
from seqloss.commands import backends, processes
from seqloss.core import dispatch, extras
from seqloss.core.errors import OptionError
from seqloss.parity import batch, bigram, cli, figures, functions, inputs, judge, text
from seqloss.testing import families, tolerances

BACKENDS = Path(__file__).with_name("parity_backends")
ROOT = Path(seqloss.__file__).parents[1]

SHORT = "Down, down, down. Thump!"
"""Two rows with padding, beside the confident one: enough for a backend that is wrong."""


@pytest.fixture
def parity(said, monkeypatch, tmp_path):
    """Run the command in an empty folder: the exit status, stdout, and stderr without the lines of progress."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(BACKENDS)
    monkeypatch.setenv("PYTHONWARNINGS", "error")  # of the workers
    monkeypatch.setattr(dispatch, "_adapters", {**dispatch._adapters})  # what is registered is forgotten
    return functools.partial(said, "parity")


@pytest.fixture
def boxed(parity, tmp_path):
    """Run the command on a short text with NumPy and one of the backends for boxed arrays."""
    (tmp_path / "short.txt").write_text(SHORT)
    return functools.partial(parity, "--backends=boxed,numpy", "--text=short.txt")


@pytest.fixture
def lines(boxed):
    """The same with the name of the backend: the exit status, and what the JSON says of each."""

    def run(adapter, *arguments):
        status, printed, _ = boxed(f"--register=boxed={adapter}", "--json", *arguments)
        return status, {line["backend"]: line for line in json.loads(printed)["backends"]}

    return run


@pytest.fixture(scope="module")
def good_run(tmp_path_factory):
    """A run on the shipped text in a process of its own, and the JSON that it wrote."""
    folder = tmp_path_factory.mktemp("parity")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "seqloss", "parity", "--backends", "numpy", "--json", "a.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    return done, json.loads((folder / "a.json").read_text(), parse_constant=not_a_number)


@pytest.fixture(scope="module")
def shipped():
    """The batch of the shipped text."""
    return batch.build(text.read(None).sentences)


def not_a_number(name):
    raise AssertionError(f"{name} is not JSON")


# --- the main job ----------------------------------------------------------------------------------------------------


def test_the_table_of_a_good_run(good_run):
    done, _ = good_run
    # A warning would show.
    assert (done.returncode, done.stderr) == (0, "numpy: loading and computing ...\n")
    assert f"numpy    {np.__version__}" in done.stdout
    assert "bits per byte" in done.stdout and "perplexity" in done.stdout
    assert "1 of 1 backend agrees with the reference" in done.stdout


def test_json_is_one_strict_object(good_run):
    _, content = good_run
    assert content["agree"] is True
    assert content["seqloss"] == seqloss.__version__
    scores = content["reference"]
    assert scores["bits_per_byte"] == pytest.approx(scores["loss"] / math.log(2))
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert content["batch"]["shape"][2] == 256
    assert content["batch"]["padding"] > 0
    (line,) = content["backends"]
    assert (line["backend"], line["status"], line["problems"]) == ("numpy", "agrees", [])
    assert line["version"] == np.__version__
    assert line["loss"] == pytest.approx(scores["loss"], rel=1e-6)
    assert 0 < line["tokens_ulp"] <= line["tokens_bound"]
    assert 0 < line["gradient_ulp"] <= line["gradient_bound"]
    assert line["seconds"] > 0


def test_the_bits_per_byte_are_those_of_the_model(good_run):
    """Worked out from the counts, without logits, batch or loss."""
    found = text.read(None).sentences
    after: dict[int, list[int]] = {}
    singles: list[int] = []
    for sentence in found:
        for before, byte in zip(b"\n" + sentence, sentence, strict=False):
            after.setdefault(before, []).append(byte)
            singles.append(byte)
    bits = 0.0
    for sentence in found:
        for before, byte in zip(b"\n" + sentence, sentence, strict=False):
            single = (singles.count(byte) + 1) / (len(singles) + 256)
            bits -= math.log2((after[before].count(byte) + single) / (len(after[before]) + 1))
    _, content = good_run
    assert content["reference"]["bits_per_byte"] == pytest.approx(bits / len(singles), rel=1e-6)


@pytest.mark.parametrize(
    ("content", "sentences", "truncated"),
    [
        pytest.param(b"a", 1, False, id="one byte"),
        pytest.param(b"no full stop", 1, False, id="no full stop"),
        pytest.param("Grüße! 日本語。\n\n\N{PARTY POPPER}\r\n".encode(), 3, False, id="more than ASCII"),
        pytest.param(b"\xef\xbb\xbfA byte order mark.\n", 1, False, id="byte order mark"),
        pytest.param(b"\x00" * 300, 2, False, id="a sentence longer than a row"),
        pytest.param(b"Go on. " * 40_000, None, True, id="larger than what is read"),
        pytest.param("日".encode() * 100_000, None, True, id="a character across the limit"),
        pytest.param(b"." * 100_000, None, True, id="nothing but full stops"),
    ],
)
def test_any_text(parity, tmp_path, content, sentences, truncated):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    status, printed, errors = parity("--backends", "numpy", "--json", "--text", file)
    assert (status, errors) == (0, "")
    report = json.loads(printed)
    assert report["text"]["truncated"] is truncated
    assert report["text"]["sentences"] == sentences or truncated
    assert report["batch"]["shape"][0] * report["batch"]["shape"][1] <= batch.MOST_POSITIONS


def test_a_file_name_that_ascii_cannot_show(parity, tmp_path):
    file = tmp_path / "Grüße.txt"
    file.write_text("Hallo.")
    _, printed, _ = parity("--backends", "numpy", "--text", file)
    assert "Gr\\xfc\\xdfe.txt" in printed


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"\xef\xbb\xbf", "holds only white space", id="a byte order mark alone"),
        pytest.param(b" \n\t\r\n", "holds only white space", id="white space"),
        pytest.param("naïve".encode("latin-1"), "is not UTF-8: byte 0xef at offset 2", id="Latin-1"),
        pytest.param(b"good until the end \xe2\x80", "is not UTF-8", id="cut within a character"),
    ],
)
def test_a_bad_text_is_one_line_and_status_2(parity, tmp_path, content, message):
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_bytes(content)
    check_refused(parity("--backends", "numpy", "--text", file), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--text", "."], "Is a directory", id="directory"),
        pytest.param(["--text", "no/such\nfile"], "No such file", id="a file name of two lines"),
        pytest.param(
            ["--backends", "nmupy"], "unknown backend 'nmupy'; choose from numpy, torch", id="unknown backend"
        ),
        pytest.param(["--backends", ""], "unknown backend ''", id="no backend"),
        pytest.param(["--register", "boxed"], "takes FRAMEWORK=MODULE", id="no module"),
        pytest.param(["--register", "a.b=c"], "takes FRAMEWORK=MODULE", id="not the top-level module"),
        pytest.param(["--register", "numpy=boxed_right"], "has a backend already", id="registered twice"),
        pytest.param(["--register", "unboxed=boxed_right"], "no module 'unboxed'", id="framework not installed"),
        pytest.param(["--register", "boxed=no_such.adapter"], "no module 'no_such'", id="adapter not installed"),
        pytest.param(["--timeout", "0"], "'0' is not a number of seconds", id="no time"),
        pytest.param(["--timeout", "nan"], "'nan' is not a number of seconds", id="NaN seconds"),
        pytest.param(["--timeout", "soon"], "'soon' is not a number of seconds", id="words for seconds"),
        pytest.param(["--loud"], "unrecognized arguments: --loud", id="unknown option"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(parity, arguments, message):
    check_refused(parity(*arguments), message)


def check_refused(said, message):
    status, printed, errors = said
    assert (status, printed) == (2, "")
    assert errors.startswith("seqloss: error: ") and message in errors
    assert errors.count("\n") == 0


@pytest.mark.parametrize("arguments", [[], ["no-such-command"]])
def test_a_missing_or_unknown_command_is_one_line_and_status_2(capsys, arguments):
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- frameworks that are not there, backends that are wrong ---------------------------------------------------------


def test_what_is_not_installed_is_listed_with_the_way_to_add_it(numpy_alone, said):
    status, printed, _ = said("parity")
    assert status == 0
    assert 'not installed: python -m pip install ".[torch]" -c constraints.txt' in printed
    assert 'not installed: python -m pip install ".[jax]" -c constraints.txt' in printed
    assert "1 of 1 backend agrees" in printed


def test_asking_for_what_is_not_installed_is_status_2(numpy_alone, said):
    status, _, errors = said("parity", "--backends", "numpy,torch")
    assert (status, errors) == (2, f"seqloss: error: torch is not installed; {extras.add('torch')}")


def test_without_numpy_there_is_no_reference(monkeypatch, said):
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    status, _, errors = said("parity")
    assert status == 2 and "pip install numpy" in errors


def test_a_folder_of_that_name_is_no_framework(tmp_path, monkeypatch):
    (tmp_path / "folder_only").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not backends.is_installed("folder_only")


def test_a_third_party_backend_that_is_right(lines):
    status, found = lines("boxed_right")
    assert (status, found["boxed"]["status"], found["numpy"]["status"]) == (0, "agrees", "agrees")
    assert (found["boxed"]["version"], found["boxed"]["device"]) == ("1.2.3", "shelf")


@pytest.mark.parametrize(
    ("adapter", "status", "problem"),
    [
        ("boxed_naive", "disagrees", "token loss["),
        ("boxed_leaky", "disagrees", "token loss of row 0 is not exactly 0 in the padding"),
        ("boxed_wide", "disagrees", "token loss has dtype float64, expected float32"),
        ("boxed_raises", "crashed", "ZeroDivisionError: the first line"),
        ("boxed_dies", "crashed", "exit status 7 without a result: the shelf broke"),
        ("boxed_hangs", "timed out", "no result after 10 seconds"),
    ],
)
def test_a_wrong_backend_is_named_and_hides_no_other(lines, adapter, status, problem):
    code, found = lines(adapter, "--timeout", "10")
    assert (code, found["boxed"]["status"], found["numpy"]["status"]) == (1, status, "agrees")
    assert any(line.startswith(problem) for line in found["boxed"]["problems"])


def test_the_table_says_what_is_wrong_in_one_line_each(boxed, tmp_path):
    status, printed, _ = boxed("--backends=boxed", "--register=boxed=boxed_raises", "--junit=a.xml")
    assert status == 1
    assert 'failures="0" errors="1"' in (tmp_path / "a.xml").read_text()
    assert "boxed crashed: ZeroDivisionError: the first line and the second (in token_statistics," in printed
    assert "0 of 1 backend agree with the reference" in printed


def test_the_page_shows_where_a_backend_diverges(boxed, tmp_path):
    status, printed, _ = boxed("--register=boxed=boxed_naive", "--html=a.html", "--junit=a.xml")
    page = (tmp_path / "a.html").read_text()
    assert status == 1 and "1 of 2 backends agrees" in printed
    assert page.count("<svg ") == 3
    assert "<h2>Where boxed diverges</h2>" in page and "the first is in row 2 at time 0." in page
    assert "Where numpy diverges" not in page
    assert 'tests="2" failures="1" errors="0"' in (tmp_path / "a.xml").read_text()


# --- other functions -------------------------------------------------------------------------------------------------


def test_every_loss_of_the_families_can_be_compared():
    differentiable = {row.function for row in families.FAMILIES if row.wrt}
    assert set(functions.FUNCTIONS) == differentiable - {"sequence_mask", "next_token"}


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_a_function_is_called_with_its_usual_options(name):
    """The row that it is compared with is one of its own, and calls it as a user does who gives nothing but arrays."""
    row, given = functions.FUNCTIONS[name], functions.FUNCTIONS[name].inputs(batch.build([SHORT.encode()]))
    assert row.family.function == name
    public = functools.reduce(getattr, name.split("."), seqloss)
    if "hidden" in given:
        kernel, options = given["kernel"].T, {"bias": given["bias"], "label_smoothing": 0.1}
        plain = public(given["hidden"], kernel, given["targets"], given["weights"], **options, **row.sizes)
        np.testing.assert_array_equal(row.call(numpy_backend, **given), plain)
        return
    if "targets" in given:
        plain = public(*(list(given[key]) for key in ("logits", "targets", "weights")))
    else:
        values = {key: given.pop(key) for key in ("sampled", "of_true", "of_sampled") if key in given}
        plain = public(**given, **row.sizes, **({"sampled_values": tuple(values.values())} if values else {}))
        given |= values
    np.testing.assert_array_equal(row.call(numpy_backend, **given), plain)


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_every_function_agrees(parity, tmp_path, name):
    status, printed, errors = parity("--backends", "numpy", "--json=a.json", "--function", name)
    content = json.loads((tmp_path / "a.json").read_text(), parse_constant=not_a_number)
    assert (status, errors) == (0, "")
    assert content["function"] == name
    inputs = ", ".join(f"{array} {shape}" for array, shape in content["inputs"].items())
    assert f"function  {name} of {inputs}\n" in printed and " [" in inputs
    assert "1 of 1 backend agrees with the reference" in printed
    (line,) = content["backends"]
    assert (line["status"], line["problems"]) == ("agrees", [])
    # NumPy differentiates nothing, but has formulas for some.
    assert (line["gradient_ulp"] is None) == (functions.FUNCTIONS[name].explicit is None)
    assert 0 < line["tokens_ulp"] <= line["tokens_bound"]
    assert line["loss"] == pytest.approx(content["reference"]["loss"], rel=1e-5)


def test_linear_for_short(parity):
    status, printed, _ = parity("--backends", "numpy", "--function", "linear")
    assert status == 0 and "function  linear_sequence_loss of hidden [" in printed


def test_the_help_lists_every_function(capsys):
    with pytest.raises(SystemExit):
        main(["parity", "--help"])
    words = set(re.findall(r"[\w.]+", capsys.readouterr().out.replace("\n", " ")))
    assert set(functions.NAMES) <= words


def test_an_unknown_function_is_one_line_and_status_2(parity):
    check_refused(
        parity("--function", "softmax"), "unknown function 'softmax'; choose from sequence_loss, sparse_softmax"
    )


@pytest.mark.parametrize(
    ("adapter", "name", "status", "problem"),
    [
        ("boxed_right", "sequence_loss_by_example", "agrees", None),
        ("boxed_right", "sampled_softmax_loss", "agrees", None),
        ("boxed_naive", "sparse_softmax_cross_entropy_with_logits", "disagrees", "value["),
        ("boxed_naive", "softmax_cross_entropy_with_logits", "disagrees", "value["),
        ("boxed_wide", "sparse_softmax_cross_entropy", "disagrees", "value has dtype float64, expected float32"),
        ("boxed_raises", "softmax_cross_entropy", "crashed", "ZeroDivisionError: the first line"),
    ],
)
def test_a_wrong_backend_is_named_in_other_functions(lines, adapter, name, status, problem):
    code, found = lines(adapter, "--function", name)
    assert (code, found["boxed"]["status"], found["numpy"]["status"]) == (int(problem is not None), status, "agrees")
    assert problem is None or any(line.startswith(problem) for line in found["boxed"]["problems"])


@pytest.mark.parametrize(
    ("name", "index", "value", "problem"),
    [
        ("value", (), 1.001, "value is"),
        ("gradient of logits", (1, 3, 200), 1.001, "gradient of logits[1, 3, 200] is"),
        ("gradient of logits", (1, -1, 7), None, "gradient of logits[1, 255, 7] is 1e-30, expected 0"),
        ("gradient of weights", (2, 3), np.nan, "gradient of weights[2, 3] is nan"),
    ],
)
def test_one_wrong_number_of_another_function_is_found(masked, name, index, value, problem):
    wrong = masked.values[name].astype(np.float32)
    wrong[index] = 1e-30 if value is None else wrong[index] * np.float32(value)
    verdict = judge.judge(outcome(masked, **{name: wrong}), masked)
    assert verdict.status == "disagrees"
    assert len(verdict.problems) == 1 and verdict.problems[0].startswith(problem)


@pytest.fixture(scope="module")
def masked(shipped):
    row = functions.FUNCTIONS["sparse_softmax_cross_entropy"]
    return judge.reference_of(row, row.inputs(shipped))


def test_what_a_function_is_given_holds_the_confident_tokens_and_traps(shipped):
    packed, padded = inputs.tokens(shipped), inputs.masked(shipped)
    for given in (packed["logits"], padded["logits"][0]):
        top = np.sort(given[: len(batch.MARGINS)], -1)
        np.testing.assert_array_equal(top[:, -1] - top[:, -2], batch.MARGINS)
    assert np.isfinite(packed["logits"]).all() and (packed["labels"] >= 0).all()
    hidden = padded["weights"] == 0
    assert np.isnan(padded["logits"][hidden]).all() and (padded["labels"][hidden] == -100).all()


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("One.  Two!\nThree? Four", ["One.", "Two!", "Three?", "Four"]),
        ("“Well!” thought\nAlice.", ["“Well!”", "thought Alice."]),
        ("A heading\n \nA line", ["A heading", "A line"]),
        ("A heading\r\n\r\nA line", ["A heading", "A line"]),
        ("3.14 is no end... but that is", ["3.14 is no end...", "but that is"]),
        ("", []),
        (" \n\n . ", ["."]),
    ],
)
def test_sentences(given, expected):
    assert text.sentences(given) == [sentence.encode() for sentence in expected]


def test_a_long_sentence_goes_on_in_the_next_row():
    found = text.sentences("é" * 300)
    assert [len(piece) for piece in found] == [256, 256, 88]
    assert b"".join(found).decode() == "é" * 300


def test_the_shipped_text_is_used_whole(shipped):
    assert shipped.sentences == len(text.read(None).sentences)
    assert max(map(max, text.read(None).sentences)) > 127


def test_the_model_is_a_distribution_over_the_next_byte():
    logits = bigram.fit([b"abab", b"ac"]).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-12)
    # After a: b twice and c once of three; single bytes: a 3, b 2, c 1 of 6, each plus one.
    np.testing.assert_allclose(probabilities[ord("a"), ord("b")], (2 + 3 / 262) / 4, rtol=1e-6)
    # After a byte that never occurred: the distribution of single bytes.
    np.testing.assert_allclose(probabilities[ord("z"), ord("a")], 4 / 262, rtol=1e-6)


def test_the_logits_are_not_normalised(shipped):
    """On log-probabilities a loss that forgets to normalise would pass."""
    assert abs(np.log(np.exp(shipped.logits[0, 0]).sum())) > 0.1


def test_the_batch_is_padded_with_what_must_not_be_read(shipped):
    padding = np.arange(shipped.targets.shape[1]) >= shipped.lengths[:, None]
    assert padding.sum() == shipped.padding > 0
    assert np.isnan(shipped.logits[padding]).all() and not np.isnan(shipped.logits[~padding]).any()
    assert (shipped.targets[padding] == -100).all() and (shipped.targets[~padding] >= 0).all()


def naive(shipped):
    """Token losses as logsumexp minus the logit of the target, in float32."""
    index = np.maximum(shipped.targets, 0)[..., None]
    shift = shipped.logits.max(-1)
    lse = shift + np.log(np.exp(shipped.logits - shift[..., None]).sum(-1))
    nll = lse - np.take_along_axis(shipped.logits, index, -1)[..., 0]
    return np.where(shipped.targets < 0, np.float32(0), nll)


def test_the_naive_form_is_0_on_the_whole_confident_row(shipped):
    row = slice(0, len(batch.MARGINS))
    expected = judge.reference(shipped, False).values["token loss"][-1, row]
    assert (naive(shipped)[-1, row] == 0).all() and (expected > 0).all()
    distance = tolerances.ulps(np.zeros_like(expected), expected, "float32")
    assert (distance > 1e6).all()


def test_the_margins_are_what_they_say(shipped):
    logits, targets = shipped.logits[-1, :41], shipped.targets[-1, :41]
    others = np.where(np.arange(256) == targets[:, None], -np.inf, logits).max(-1)
    margins = np.take_along_axis(logits, targets[:, None], -1)[:, 0] - others
    np.testing.assert_array_equal(margins, np.arange(20, 61))


def outcome(expected, **changes):
    """What a perfect worker would leave, with some results replaced."""
    arrays = {name: value.astype(np.float32) for name, value in expected.values.items()} | changes
    facts = {"version": "1", "device": "cpu", "seconds": 0.1, "foreign": []}
    dtypes = {name: value.dtype.name for name, value in arrays.items()}
    return processes.Outcome("x", None, "", {**facts, "dtypes": dtypes}, arrays)


@pytest.fixture(scope="module")
def small():
    made = batch.build([b"Down, down, down.", b"Thump!"])
    return made, judge.reference(made, False)


def test_the_rounded_reference_agrees_with_itself(small):
    verdict = judge.judge(outcome(small[1]), small[1])
    assert (verdict.status, verdict.problems) == ("agrees", [])
    assert verdict.tokens.ulp <= 0.5 and verdict.gradient.ulp <= 0.5


@pytest.mark.parametrize(
    ("name", "index", "factor", "problem"),
    [
        ("text loss", (), 1.001, "text loss is"),
        ("batch loss", (), 1.001, "batch loss is"),
        ("token loss", (1, 3), 1.001, "token loss[1, 3] is"),
        ("token loss", (2, 40), 0.0, "token loss[2, 40] is 0, expected"),
        ("token loss", (0, 0), np.nan, "token loss[0, 0] is nan, expected"),
        ("gradient", (1, 3, 200), 1.001, "gradient[1, 3, 200] is"),
        ("gradient by autodiff", (2, 40, 255), 0.0, "gradient by autodiff[2, 40, 255] is"),
    ],
)
def test_one_wrong_number_is_found(small, name, index, factor, problem):
    expected = small[1]
    wrong = expected.values[name].astype(np.float32)
    wrong[index] *= np.float32(factor)
    verdict = judge.judge(outcome(expected, **{name: wrong}), expected)
    assert verdict.status == "disagrees"
    assert len(verdict.problems) == 1 and verdict.problems[0].startswith(problem)


@pytest.mark.parametrize("value", [1e-45, np.nan])
def test_padding_must_be_exactly_0(small, value):
    expected = small[1]
    wrong = expected.values["gradient"].astype(np.float32)
    wrong[1, -1, 7] = value
    verdict = judge.judge(outcome(expected, gradient=wrong), expected)
    assert verdict.problems == ["gradient of row 1 is not exactly 0 in the padding"]


def test_a_wrong_shape_is_a_verdict_too(small):
    expected = small[1]
    verdict = judge.judge(outcome(expected, **{"token loss": np.zeros((2, 2), np.float32)}), expected)
    assert verdict.problems == ["token loss has shape [2, 2], expected [3, 41]"]


def right_arrays(expected):
    return {name: value.astype(np.float32) for name, value in expected.values.items()}


def test_the_figures_of_a_right_backend(small):
    expected = small[1]
    found = figures.distances(right_arrays(expected), expected)
    tokens = np.arange(41) < expected.lengths[:, None]
    np.testing.assert_array_equal(np.isnan(found.worst), ~tokens)
    np.testing.assert_array_equal(np.isnan(found.losses), ~tokens)
    assert 0 < np.nanmax(found.losses) <= np.nanmax(found.worst) <= 0.5 and np.nanmax(found.shares) < 1
    scatter, histogram, heat_map = figures.draw({"x": found, "y": found}, expected)
    assert list(scatter.series) == list(histogram.series) == ["x", "y"] and scatter.limit == 80
    assert heat_map.title == "The worst error of each token"
    assert heat_map.values[heat_map.mark] == np.nanmax(found.worst)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [("token loss", (1, 3), np.nan), ("gradient", (1, 3, 7), 1.0), ("gradient by autodiff", (1, -1, 7), 1e-45)],
)
def test_the_first_divergence_is_marked(small, name, index, value):
    expected = small[1]
    wrong = right_arrays(expected)
    wrong[name][index] = wrong[name][(2, *index[1:])] = value
    of_both = {"right": right_arrays(expected), "wrong": wrong}
    drawn = figures.draw({name: figures.distances(of, expected) for name, of in of_both.items()}, expected)
    (heat_map,) = drawn[2:]
    assert heat_map.title == "Where wrong diverges"
    assert heat_map.mark == (index[0], index[1] % 41)


def test_figures_leave_out_what_has_the_wrong_shape(small):
    expected = small[1]
    found = figures.distances({"token loss": np.zeros((2, 2))}, expected)
    scatter, histogram, heat_map = figures.draw({"x": found}, expected)
    assert not scatter.series and not histogram.series and np.nanmax(heat_map.values) == 0
    assert figures.draw({}, expected) == []


def test_the_figures_of_another_function(masked):
    found = figures.distances(right_arrays(masked), masked)
    scatter, _ = figures.draw({"x": found}, masked)
    assert scatter.x_label == "value (reference)" and found.worst is None


def test_an_unreadable_folder_is_an_option_error(tmp_path):
    with pytest.raises(OptionError, match="cannot read the text"):
        text.read(tmp_path / "none" / "text.txt")


HELP = """
import sys
from seqloss.__main__ import main

try:
    main(["parity", "--help"])
finally:
    assert "numpy" not in sys.modules
"""


def test_help_needs_no_numpy():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "exit status" in done.stdout


def test_the_help_states_the_numbers_in_force():
    numbers = [len(batch.MARGINS), batch.MARGINS[0], batch.MARGINS[-1], text.LONGEST_SENTENCE, batch.MOST_POSITIONS]
    numbers += [inputs.POSITIONS, inputs.STEPS, inputs.DIM, inputs.EXAMPLES, inputs.CANDIDATES]
    assert {f"{number:,}" for number in numbers} <= set(re.findall(r"[\d,]*\d", cli.DESCRIPTION))


# --- exact -----------------------------------------------------------------------------------------------------------


def test_exact_allows_one_rounding(parity, tmp_path):
    status, printed, _ = parity("--backends", "numpy", "--exact", "--json=a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    (line,) = content["backends"]
    assert status == 0 and content["exact"] is True
    assert content["bounds_ulp"]["tight"] == content["bounds_ulp"]["wide"] == 0.5
    # Of millions of entries some are almost half a unit away, and none is further.
    assert 0.49 < line["gradient_ulp"] <= tolerances.EXACT_ULPS == line["gradient_bound"]
    assert 0.3 < line["tokens_ulp"] <= tolerances.EXACT_ULPS
    assert "0.5 of 0.5" in printed and "one rounding" in printed


def test_exact_finds_a_bit(shipped):
    expected = judge.reference(shipped, True)
    right = {name: np.asarray(value).astype("float32") for name, value in expected.values.items()}
    assert judge.judge(outcome_of(right), expected).status == "agrees"
    at = np.unravel_index(np.argmax(right["gradient"]), right["gradient"].shape)
    right["gradient"][at] = np.nextafter(right["gradient"][at], np.float32(1))
    verdict = judge.judge(outcome_of(right), expected)
    assert verdict.status == "disagrees"
    assert verdict.problems[0].startswith(f"gradient[{', '.join(map(str, at))}] is ")


def outcome_of(arrays):
    facts = {"version": "1", "device": "cpu", "seconds": 1.0, "dtypes": dict.fromkeys(arrays, "float32"), "foreign": []}
    return processes.Outcome("numpy", None, "", facts, arrays)


def test_exact_is_for_the_sequence_loss_alone(parity):
    refused = parity("--backends", "numpy", "--exact", "--function", "nce_loss")
    check_refused(refused, "--exact is a mode of sequence_loss; nce_loss has none")
