"""The command ``golden``: somebody's own function beside a recording, one wording, and what becomes of bad requests."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seqloss.__main__ import main
from seqloss.commands import backends, golden_explain, golden_jobs
from seqloss.core.errors import OptionError
from seqloss.testing import golden

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "golden-files.md").read_text(encoding="utf-8")


pytestmark = pytest.mark.usefixtures("numpy_alone")

RNG = np.random.default_rng(0)
BATCH = {
    "logits": RNG.normal(size=(3, 5, 8)),
    "targets": RNG.integers(0, 8, (3, 5)),
    "weights": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], "float64"),
}


def results(logits, targets, weights):
    nll = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return {"token_losses": nll * weights, "loss": (nll * weights).sum() / weights.sum()}


PORT = """
import numpy as np

def tokens(logits, targets, weights):
    nll = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return nll * weights

def right(logits, targets, weights):
    return tokens(logits, targets, weights).sum() / weights.sum()

def named(logits, targets, weights):
    return {"loss": right(logits, targets, weights), "token_losses": tokens(logits, targets, weights)}

def over_padding(logits, targets, weights):
    return tokens(logits, targets, weights).mean()

def with_sign(logits, targets, weights):
    return -1e-7 * right(logits, targets, weights)

def nan(logits, targets, weights):
    return np.float64("nan")

def half(logits, targets, weights):
    return right(logits, targets, weights).astype("float16")

def by_flag(logits, targets, weights, *, times=1, other="default"):
    return right(logits, targets, weights) * times * (other == "default")

def by_any_flag(logits, targets, weights, **flags):
    return right(logits, targets, weights) * (not flags)

def other_names(z, y, w):
    return right(z, y, w)

def nothing(logits, targets, weights):
    pass

def pair(logits, targets, weights):
    return right(logits, targets, weights), logits

def unknown(logits, targets, weights):
    return {"los": 1.0}

def raises(logits, targets, weights):
    if len(logits) == 2:
        raise ValueError("two are too few")
    return right(logits, targets, weights)

def leaves(logits, targets, weights):
    raise SystemExit(0)

def writes(logits, targets, weights):
    logits[...] = 0
"""


@pytest.fixture
def recorded():
    """A recording, and functions to check against it."""
    Path("port.py").write_text(PORT)
    golden.write("old", BATCH, results(**BATCH))


def compute(name, *files):
    return ["golden", "check", *(files or ["old.npz"]), "--compute", f"port:{name}", "--backends", "numpy"]


# --- the page -------------------------------------------------------------------------------------------------------


def rounded(text):
    """Numbers to four digits: the last ones belong to the machine."""
    return re.sub(r"\d+\.\d+(e[+-]?\d+)?|\d+e[+-]?\d+", lambda number: f"{float(number[0]):.4g}", text)


def test_the_page_on_golden_files_shows_what_is_printed(said):
    (program,) = re.findall(r"```python\n(import numpy as np\n\n\ndef loss.*?)```", PAGE, re.DOTALL)
    page = PAGE.replace("\\\n", "")  # a command of two lines is one
    ((line, output),) = re.findall(r"```console\n\$ python -m seqloss (golden check .*?)\n(.*?)```", page, re.DOTALL)
    Path("port.py").write_text(program)
    shutil.copytree(ROOT / "examples" / "port", "examples/port")
    status, out, error = said(*shlex.split(line))
    assert (status, error) == (1, "")
    assert rounded(out).splitlines() == rounded(output).splitlines()
    (proposed,) = re.findall(r"python -m seqloss (explain .*)", out)
    status, out, error = said(*shlex.split(proposed))
    assert (status, error) == (1, "")
    assert "mean over padding  mine" in out and "in mine: divide by the sum of the weights" in out


# --- what a function is given and returns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, lines",
    [
        ("right", ["loss AGREES", "token_losses not computed"]),
        ("named", ["loss AGREES", "token_losses AGREES"]),
        ("over_padding", ["loss DISAGREES", "token_losses not computed"]),
    ],
)
def test_a_function_in_place_of_seqloss(recorded, said, name, lines):
    status, out, error = said(*compute(name), "--json=a.json")
    table = [(line.split()[2], line.split("  ")[-1]) for line in out.splitlines() if line.startswith("old.npz  numpy")]
    assert [f"{result} {verdict}".replace("agrees", "AGREES") for result, verdict in table] == lines
    assert (status, error) == (int("DISAGREES" in out), "") and "compute  port:" in out
    content = json.loads(Path("a.json").read_text())
    assert content["compute"] == f"port:{name}" and content["same"] == (not status)


@pytest.mark.parametrize("name, same", [("by_flag", True), ("by_any_flag", False), ("over_padding", False)])
def test_flags_are_for_the_parameters_of_their_names(recorded, said, name, same):
    """``**flags`` names none, so nothing is passed on that was not asked for."""
    flags = {"times": 3, "unheard_of": True}
    loss = results(**BATCH)["loss"] * (3 if name == "by_flag" else 1)
    golden.write("flagged", BATCH, {"loss": loss}, flags=flags)
    assert (said(*compute(name, "flagged"))[0] == 0) == (same or name == "by_any_flag")


def test_seqloss_itself_gets_the_flags(said):
    golden.write("sums", BATCH, {"loss": 1.0}, flags={"average_across_batch": False})
    status, out, _ = said("golden", "check", "sums", "--compute=seqloss:sequence_loss")
    assert status == 1 and "the shape is [3], expected []" in out


@pytest.mark.parametrize(
    "name, message",
    [
        ("nope", "'port:nope' does not exist: 'port' has no 'nope'"),
        (
            "other_names",
            "port:other_names cannot be called with what was recorded: missing a required argument: 'z'; "
            "wrap it in a function that takes logits, targets, weights by name",
        ),
        ("nothing", "port:nothing returned a NoneType; expected the loss, or results by name as in a dict"),
        ("pair", "port:pair returned a tuple; expected the loss, or results by name as in a dict"),
        ("unknown", "port:unknown returned the results ['los']; recorded are loss, token_losses"),
    ],
)
def test_functions_that_cannot_be_asked(recorded, said, name, message):
    status, out, error = said(*compute(name))
    assert (status, out, error) == (2, "", f"seqloss: error: {message}")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--compute=port:right"], "the framework of port:right is not known; add --backends with one of numpy, torch"),
        (["--compute=port", "--backends=numpy"], "named as package.module:function, got 'port'"),
        (["--compute=none:f", "--backends=numpy"], "the module of 'none:f' cannot be imported: ModuleNotFoundError"),
        (["--compute=torch.nn.functional:cross_entropy"], "torch is not installed; add it with: python -m pip install"),
    ],
)
def test_names_of_functions_that_are_refused(recorded, said, arguments, message):
    status, out, error = said("golden", "check", "old.npz", *arguments)
    assert (status, out) == (2, "") and message in error and "\n" not in error


@pytest.mark.parametrize(
    "name, message",
    [
        ("raises", "two.npz numpy raised ValueError: two are too few (in raises, port.py line "),
        ("leaves", "two.npz numpy raised SystemExit: 0 (in leaves, port.py line "),
    ],
)
def test_a_function_that_raises_is_an_error_of_that_file(recorded, said, name, message):
    two = {key: array[:2] for key, array in BATCH.items()}
    golden.write("two", two, results(**two))
    status, out, error = said(*compute(name, "two.npz", "old.npz"), "--junit=a.xml")
    assert (status, error) == (1, "") and message in out and "RAISED" in out
    agree = 1 if name == "raises" else 0
    assert f"{agree} of 2 comparisons with the recording agree" in out
    assert f'failures="0" errors="{2 - agree}"' in Path("a.xml").read_text()


def test_the_loss_alone_where_it_was_not_recorded(recorded, said):
    golden.write("tokens", BATCH, {"token_losses": results(**BATCH)["token_losses"]})
    message = "port:right returned the loss alone; recorded are token_losses: return some of them by name, as in a dict"
    assert said(*compute("right", "tokens"))[2] == f"seqloss: error: {message}"


def test_what_is_unknown_is_computed_by_a_function(recorded, said):
    golden.write("foreign", BATCH, results(**BATCH), function="their_loss")
    status, _, error = said("golden", "check", "foreign")
    assert status == 2 and "pass --compute MODULE:FUNCTION, a function that takes logits, targets, weights" in error
    assert said(*compute("named", "foreign"))[0] == 0


# --- the command that explains --------------------------------------------------------------------------------------


def proposed(out):
    return re.findall(r"To find out why the losses differ: python -m seqloss (.*)", out)


@pytest.mark.parametrize("name", ["over_padding", "with_sign"])
@pytest.mark.parametrize("path", ["old.npz", "it's two words.npz", '$(touch x) \\ " é\n.npz'])
def test_what_is_proposed_can_be_typed(recorded, said, name, path):
    golden.write(path, BATCH, results(**BATCH), overwrite=True)
    status, out, _ = said(*compute(name, path), "--json=a.json", "--markdown=a.md")
    (line,), content = proposed(out), json.loads(Path("a.json").read_text())
    assert status == 1 and content["explain"] == [f"python -m seqloss {line}"]
    typed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True).stdout
    status, out, error = said(*typed.split("\0")[:-1])
    assert (status, error) == (1, "") and not Path("x").exists()
    (found,) = content["backends"][0]["files"].values()
    assert f"mine    {found['results']['loss']['worst']['actual']!r}\n" in out
    assert ("mean over padding  mine" in out) == (name == "over_padding")


def test_seqloss_is_explained_just_as_well(said):
    golden.write("wrong", BATCH, {"loss": results(**BATCH)["token_losses"].mean()})
    (line,) = proposed(said("golden", "check", "wrong")[1])
    assert "mean over padding  theirs" in said(*shlex.split(line))[1]


LOSS = {"loss": results(**BATCH)["loss"]}


@pytest.mark.parametrize(
    "name, inputs, wrong",
    [
        ("right", BATCH, LOSS),
        ("nan", BATCH, LOSS),
        ("half", BATCH, LOSS),
        ("over_padding", BATCH, {"loss": np.ones(5)}),
        ("over_padding", {**BATCH, "targets": BATCH["targets"].T.reshape(3, 5, 1)[..., 0] * 1.0}, LOSS),
    ],
    ids=["agrees", "NaN", "dtype", "no number", "no labels"],
)
def test_what_cannot_be_explained_is_not_proposed(recorded, said, name, inputs, wrong):
    golden.write("x", inputs, wrong)
    status, out, _ = said(*compute(name, "x"))
    assert status in (0, 1) and proposed(out) == []


def test_numbers_are_typed_with_all_their_digits():
    assert golden_explain._digits(0.1 + 0.2) == "0.30000000000000004"
    assert golden_explain._digits(1e-300) == "1e-300"
    assert golden_explain._digits(-1e-7) == "-0.0000001"
    assert golden_explain._digits(-3.0) == "-3"
    assert float(golden_explain._digits(-1 / 3)) == -1 / 3


# --- one wording ----------------------------------------------------------------------------------------------------

OFF = {
    "scaled": ("float32", lambda x: x * np.float32(1 + 1e-6)),
    "beyond": ("float32", lambda x: x * np.float32(1.001)),
    "wide": ("float64", lambda x: x * (1 + 1e-9)),
    "half": ("float16", lambda x: (x * 1.01).astype("float16")),
    "exact": ("float32", lambda x: x),
    "special": ("float32", lambda x: np.where(np.arange(5) == 2, np.float32("inf"), x)),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What is printed of recordings that are off in several ways, and the same in JSON."""
    folder, printed = tmp_path_factory.mktemp("off"), io.StringIO()
    for case, (dtype, change) in OFF.items():
        inputs = {"logits": BATCH["logits"].astype("float64" if dtype == "float64" else "float32")}
        inputs["targets"] = BATCH["targets"]
        losses = results(**inputs, weights=np.ones((3, 5), inputs["logits"].dtype))["token_losses"]
        golden.write(folder / case, inputs, {"token_losses": change(losses)})
    files = [str(folder / case) for case in OFF]
    with contextlib.redirect_stdout(printed):
        main(["golden", "check", *files, "--backends=numpy", f"--json={folder / 'a.json'}"])
    (content,) = json.loads((folder / "a.json").read_text())["backends"]
    return printed.getvalue(), {Path(file).name: found for file, found in content["files"].items()}


@pytest.mark.parametrize("case", OFF)
def test_one_number_has_one_wording(checked, case):
    """In the table, in the report and in JSON: what the worst entry is off by, and what it may be."""
    out, files = checked
    found = files[case]["results"]["token_losses"]
    ((*shown, verdict),) = re.findall(rf"/{case} +numpy +token_losses +\w+ +(\S+) +(\S+) +(\w+)\n", out)
    if found["worst"] is None:
        assert shown == ["0", f"{found['bound']:.4g}"]
    else:
        ulp, allowed = found["worst"]["ulp"], found["worst"]["allowed"]
        assert shown == [f"{ulp:.4g}", f"{allowed:.4g}"]
        assert f"{shown[0]} ULP, {shown[1]} allowed" in found["report"]
        assert (ulp <= allowed) == ("values" not in found["problems"])
    report = found["report"].replace("\n", "\n  ")
    assert (verdict == "DISAGREES") == (not found["same"]) == (f"/{case} numpy: {report}\n" in out)


def test_results_without_distances_have_none(said):
    numbers = {"n": np.arange(3), "shape": np.ones(2), "nan": np.full(3, np.nan), "none": np.zeros(0)}
    golden.write("x", {**numbers}, {f"{name}_": array for name, array in numbers.items()}, function="f")
    Path("port.py").write_text(
        "import numpy as np\n"
        "def f(n, shape, nan, none): return {'n_': n + 1, 'shape_': np.ones(3), 'nan_': nan, 'none_': none}\n"
    )
    _, out, error = said(*compute("f", "x"))
    assert error == ""
    assert len(re.findall(r"^x +numpy +\w+_ +\w+ +- +- +(?:agrees|DISAGREES)$", out, re.MULTILINE)) == 4


def test_flags_are_told_alike(said):
    np.savez("batch.npz", **BATCH)
    sums = "average_across_batch=False, average_across_timesteps=False, sum_over_batch=True"
    for flags, told in ((["--sum-over-batch"], sums), ([], "default flags")):
        _, out, error = said("golden", "write", "x", "--inputs=batch.npz", "--overwrite", *flags)
        assert error == "" and f"flags    {told}" in out
        assert f"x  sequence_loss with {told}" in said("golden", "check", "x")[1]


def test_the_size_of_the_writer_has_one_name(said):
    out = said("golden", "writer", "--json=a.json")[1]
    size = json.loads(Path("a.json").read_text())["bytes"]
    assert re.search(rf"file +bytes\n[- ]+\nseqloss_golden_writer.py +{size}\n", out)


# --- bad requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["write", "."], "the path '.' names no file"),
        (["write", ".npz"], "the path '.npz' names no file"),
        (["write", "folder"], "folder.npz is a folder; choose another name"),
        (["write", "folder", "--overwrite"], "folder.npz is a folder; choose another name"),
        (["write", "new", "--backend", "numpy,numpy,torch"], "torch is not installed"),
        (["check", "a\0b"], "the path 'a\\x00b' has characters that no name of a file can have"),
    ],
)
def test_paths_and_backends_that_are_refused(said, arguments, message):
    np.savez("batch.npz", **BATCH)
    Path("folder.npz").mkdir()
    more = ["--inputs", "batch.npz"] if arguments[0] == "write" else []
    status, out, error = said("golden", *arguments, *more)
    assert (status, out) == (2, "") and message in error and "\n" not in error


def test_one_backend_records(said, monkeypatch):
    np.savez("batch.npz", **BATCH)
    monkeypatch.setattr(backends, "is_installed", lambda name: True)
    error = said("golden", "write", "x", "--inputs=batch.npz", "--backend=numpy,torch")[2]
    assert error == "seqloss: error: --backend takes one backend, got 'numpy,torch'"


@pytest.mark.parametrize("inputs", [{"logits": BATCH["logits"], "file": 1.0}, {**BATCH, "file": 1.0}], ids=len)
def test_a_recording_of_other_inputs_gives_none_to_write(said, inputs):
    golden.write("x", inputs, {"y": 1.0})
    status, _, error = said("golden", "write", "new", "--from=x")
    assert (
        status == 2
        and f"x has the inputs {', '.join(sorted(inputs))}; the loss is computed of logits, targets" in error
    )


def test_who_records_first_is_told_in_the_words_of_the_command(tmp_path):
    """Also where the other one was there after the command had looked."""
    golden.write("x", BATCH, LOSS)
    how = {"path": str(tmp_path / "x"), "flags": {}, "note": None, "dtypes": {}, "overwrite": False}
    with pytest.raises(OptionError, match=r"x\.npz exists; pass --overwrite to record it again"):
        golden_jobs.record("numpy", BATCH, how)


def test_what_cannot_be_written_is_said_in_words(said):
    np.savez("batch.npz", **BATCH)
    error = said("golden", "write", "x", "--inputs=batch.npz", "--note", "a" * 100_000 * 11)[2]
    assert "the manifest takes" in error and "shorten the note and the flags" in error
