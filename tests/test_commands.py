"""The commands ``env``, ``explain``, ``golden`` and ``selftest``, in the process of the test and as users run them."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

import seqloss
from seqloss.__main__ import main
from seqloss.commands import backends, golden_figures, golden_jobs, processes
from seqloss.core import extras
from seqloss.testing import golden
from seqloss.testing.comparison import measured
from seqloss.testing.explain import causes

HERE = Path(__file__).parent
ROOT = Path(seqloss.__file__).parents[1]
PATH = os.pathsep.join(map(str, [ROOT, HERE / "parity_backends", HERE / "command_jobs"]))
COMMANDS = ("env", "parity", "selftest", "golden", "explain")


@pytest.fixture
def command(tmp_path):
    """Run a command as a user does, in an empty folder, and return the finished process."""

    def run(*arguments, **variables):
        environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONWARNINGS": "error", **variables}
        line = [sys.executable, "-m", "seqloss", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)

    return run


@pytest.fixture
def batch(tmp_path):
    """A file of arrays with padding, and the arrays."""
    rng = np.random.default_rng(0)
    arrays = {
        "logits": rng.normal(size=(3, 5, 8)),
        "targets": rng.integers(0, 8, (3, 5)),
        "weights": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], "float64"),
    }
    np.savez(tmp_path / "batch.npz", **arrays)
    return arrays


# --- what all commands share -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COMMANDS, "golden write", "golden check", "golden writer"])
def test_help(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert printed.startswith(f"usage: seqloss {name} ") and printed.isascii()
    assert name == "golden" or all(option in printed for option in ("--json", "--markdown", "--junit", "--html"))
    assert " " in name or "exit status" in printed


@pytest.mark.parametrize("name", [*COMMANDS, "golden write", "golden check", "golden writer"])
def test_the_page_on_commands_has_the_help_in_force(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    page = (HERE.parent / "docs" / "commands.md").read_text(encoding="utf-8")
    # The rest is of Python's argparse, which lays it out otherwise in every version.
    _, _, told = capsys.readouterr().out.partition("\n\n")
    assert told.split() and " ".join(told.split()) in " ".join(page.split())


HELP = """
import sys
from seqloss.__main__ import main
sys.stdout.isatty = lambda: sys.argv[1] == "terminal"
try:
    main(sys.argv[2:])
finally:
    print(*[name for name in ("numpy", "rich", "rich_argparse", "jinja2", "matplotlib") if name in sys.modules])
"""


@pytest.mark.parametrize("name", ["parity", "selftest"])
def test_help_imports_nothing_but_what_colours_it(python, name):
    assert python(HELP, "file", name, "--help").splitlines()[-1] == ""
    on_terminal = python(HELP, "terminal", name, "--help")
    assert on_terminal.splitlines()[-1] == "rich rich_argparse"
    assert ("[B * T, V]" in on_terminal) == (name == "selftest")


BARE = """
import sys
sys.modules.update(dict.fromkeys(("rich", "rich_argparse", "jinja2", "matplotlib")))
sys.stdout.isatty = lambda: True
from seqloss.__main__ import main
print(main(["explain", "1.5", "1.5", "--inputs", "batch.npz"]))
print(main(["explain", "1.5", "1.5", "--inputs", "batch.npz", "--json=a.json", "--junit=a.xml", "--markdown=a.md"]))
print(main(["explain", "1.5", "1.5", "--inputs", "batch.npz", "--html=a.html"]))
main(["explain", "--help"])
"""


def test_without_the_extra_there_is_plain_text_and_everything_but_html(python, batch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, "-W", "error", "-c", BARE], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert "mine    1.5" in lines and lines.count("0") == 2 and "2" in lines and "exit status" in done.stdout
    assert done.stderr == f"seqloss: error: --html needs jinja2 and matplotlib; {extras.add('cli')}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.md", "a.xml", "batch.npz"]


def test_an_unknown_command_names_the_known_ones(said):
    status, out, error = said("teleport")
    assert (status, out) == (2, "") and all(name in error for name in COMMANDS)


def test_ctrl_c_is_130_and_ends_what_hangs(tmp_path, interruptible):
    settings = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": PATH}, **interruptible}
    line = [sys.executable, "-m", "seqloss", "parity", "--backends=boxed", "--register=boxed=boxed_hangs"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, **settings) as process:
        assert process.stderr.readline() == "boxed: loading and computing ...\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, "")


# --- env -------------------------------------------------------------------------------------------------------------


def test_env(command):
    done = command("env", "--backends=numpy", "--json")
    content = json.loads(done.stdout)
    (one,) = content["frameworks"]
    assert (done.returncode, content["same"], one["status"]) == (0, True, "works"), done.stdout
    assert content["environment"]["seqloss"] == seqloss.__version__
    assert one["version"] == np.__version__ and one["import_seconds"] > 0.01


def test_env_shows_what_does_not_work_and_all_others(command, tmp_path):
    (tmp_path / "shaky.py").write_text("import os\nprint('no driver')\nos._exit(4)\n")
    (tmp_path / "broken.py").write_text("raise OSError('libfast.so: cannot open')\n")
    fakes = [f"--register={name}=boxed_right" for name in ("shaky", "broken", "boxed")]
    done = command("env", "--backends=shaky,broken,boxed,numpy", *fakes, "--junit=a.xml")
    assert done.returncode == 1
    assert "shaky crashed: exit status 4 without a result: no driver" in done.stdout
    assert "broken crashed: OSError: libfast.so: cannot open (in <module>, broken.py line 1)" in done.stdout
    assert "2 of 4 installed frameworks work." in done.stdout
    assert 'failures="0" errors="2"' in (tmp_path / "a.xml").read_text()


def test_env_waits_for_no_framework_that_hangs(command, tmp_path):
    (tmp_path / "asleep.py").write_text("import time\ntime.sleep(3600)\n")
    done = command("env", "--backends=asleep", "--register=asleep=boxed_right", "--timeout=1")
    assert done.returncode == 1 and "asleep timed out: no result after 1 seconds" in done.stdout


def test_env_notices_a_backend_that_computes_something_else(command, tmp_path):
    (tmp_path / "twice.py").write_text(
        "from boxed_right import *\nfrom boxed_right import boxed\nfrom seqloss.backends import numpy as inner\n"
        "@boxed\ndef token_statistics(logits, targets, active, prior, spec):\n"
        "    right = inner.token_statistics(logits, targets, active, prior, spec)\n"
        "    return right._replace(nll=2 * right.nll)\n"
    )
    done = command("env", "--backends=boxed", "--register=boxed=twice")
    assert done.returncode == 1
    assert "boxed wrong: the loss of two tokens is 1.386" in done.stdout


def test_env_works_without_numpy(monkeypatch, said):
    monkeypatch.setattr(backends, "is_installed", lambda name: False)
    status, out, _ = said("env")
    assert status == 0 and "not installed: python -m pip install numpy" in out


# --- explain ---------------------------------------------------------------------------------------------------------


def losses(batch):
    return golden_losses(batch)["token_losses"]


def golden_losses(batch):
    z, w = batch["logits"], batch["weights"]
    nll = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, batch["targets"][..., None], -1)[..., 0]
    return {"token_losses": nll * w, "loss": (nll * w).sum() / w.sum()}


def test_explain_names_the_cause(numpy_alone, said, batch):
    nll, w = losses(batch), batch["weights"]
    arguments = ("explain", repr(float(nll.sum() / w.sum())), repr(float(nll.mean())), "--inputs", "batch.npz")
    status, out, _ = said(*arguments, "--json=a.json")
    content = json.loads(Path("a.json").read_text())
    assert status == 1
    assert "mean over padding  theirs  divides by the number of positions" in out
    assert "in theirs: divide by the sum of the weights" in out and "\nCertain." in out
    assert (content["verdict"], content["same"], content["causes"][0]["name"]) == (
        "explained",
        False,
        "mean over padding",
    )


def test_explain_what_is_the_same(numpy_alone, said, batch):
    status, out, _ = said("explain", "2.5", "2.5", "--inputs", "batch.npz")
    assert status == 0 and "The same: the numbers agree within their tolerance." in out


def test_explain_what_nothing_explains(numpy_alone, said, batch):
    status, out, _ = said("explain", "2.512345678901", "-2.1", "--inputs", "batch.npz")
    assert status == 1 and "None of these: no known cause and no pair of causes explains the difference (" in out


def explain_page():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    return page.partition("\n## explain\n")[2]


def test_explain_prints_what_the_page_says(said, monkeypatch):
    monkeypatch.chdir(ROOT)
    line, printed = re.search(
        r"\$ python -m seqloss (explain .*)\n```\n\n```text\n(.*?)```", explain_page(), re.DOTALL
    ).groups()
    assert said(*line.split())[1] == printed


def test_the_page_lists_every_cause():
    rows = re.findall(r"^\| (.*?) \|", explain_page().partition("### The causes it knows")[2], re.MULTILINE)
    names = {choice.name.partition(" (")[0] for axis in causes.AXES for choice in axis.choices if choice.name}
    assert {name for row in rows for name in row.split("; ")} == names | {"cause"}


@pytest.mark.parametrize(
    ("theirs", "listed", "concluded"),
    [
        ("inf", "overflow of exp(logits) (float64)", "Likely: a zero, a NaN or an infinity has no digits to compare"),
        ("1.4", "undecided", "Undecided: unrelated numbers with so few digits would fit as well "),
    ],
)
def test_explain_has_one_verdict(numpy_alone, said, batch, theirs, listed, concluded):
    mine = losses(batch).sum() / batch["weights"].sum()
    np.savez("large.npz", **batch | {"logits": batch["logits"] + 1000 * (theirs == "inf")})
    status, out, _ = said("explain", f"{mine:.2g}", theirs, "--inputs", "large.npz")
    assert status == 1 and f"\n{listed} " in out and f"\n{concluded}" in out
    assert "reconcile" not in out and "none of these" not in out.lower()


def test_explain_passes_on_what_is_known(numpy_alone, said, batch):
    value = float(losses(batch).sum() / batch["weights"].sum())
    arguments = ("explain", repr(value), repr(value * 7), "--inputs", "batch.npz")
    assert "times world_size" not in said(*arguments)[1]
    assert "times world_size" in said(*arguments, "--world-size", "7")[1]


@pytest.mark.parametrize(
    ("option", "by", "changed"),
    [
        ("--softcap", "20", lambda z: 20 * np.tanh(z / 20)),
        ("--temperature", "3", lambda z: z / 3),
        ("--z-loss", "0.001", None),
    ],
)
def test_explain_passes_on_numbers(numpy_alone, said, batch, option, by, changed):
    """And says what gives the same here, because theirs may be a recording."""
    z, w = batch["logits"], batch["weights"]
    lse = np.log(np.exp(z).sum(-1))
    other = losses(batch) + 0.001 * lse**2 * w if changed is None else losses({**batch, "logits": changed(z)})
    mine, theirs = (repr(float(x.sum() / w.sum())) for x in (losses(batch), other))
    arguments = ("explain", mine, theirs, "--inputs", "batch.npz")
    name = option.strip("-")
    assert f"{name} " not in said(*arguments)[1]
    out = said(*arguments, option, by)[1]
    assert f"\n{name} " in out and "or in mine: pass " in out and by in out


def test_explain_from_a_golden_file(numpy_alone, said, batch):
    nll = losses(batch)
    golden.write("old", batch, golden_losses(batch))
    status, out, _ = said("explain", repr(float(nll.mean())), "--golden", "old.npz")
    assert status == 1 and "mean over padding  mine" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1", "2"], "one of the arguments --inputs --golden is required"),
        (["1", "--inputs", "batch.npz"], "there is only one loss"),
        (["one", "2", "--inputs", "batch.npz"], "invalid float value: 'one'"),
        (["1", "2", "--inputs", "none.npz"], "there is no file none.npz; write one with numpy.savez"),
        (["1", "2", "--inputs", "."], ". cannot be read (Is a directory); write one with numpy.savez"),
        (["1", "2", "--inputs", "evil\x1b[31m.npz"], "there is no file evil\\x1b[31m.npz"),
        (["1", "2", "--inputs", "evil.npz"], "evil.npz is not a readable file of arrays"),
        (["1", "2", "--inputs", "text.npz"], "text.npz is not a readable file of arrays (File is not a zip file)"),
        (["1", "2", "--inputs", "objects.npz"], "objects.npz is not a readable file of arrays (Object arrays"),
        (["1", "2", "--inputs", "cut.npz"], "cut.npz is not a readable file of arrays"),
        (["1", "2", "--inputs", "flat.npz"], "flat.npz has no array 'targets'"),
        (["1", "2", "--inputs", "wide.npz"], "logits have the shape [2]; expected [batch, time, classes]"),
        (["1", "2", "--inputs", "batch.npz", "--micro-batches", "2,x"], "'2,x' is neither a number nor numbers"),
        (
            ["1", "2", "--inputs", "batch.npz", "--micro-batches", "1,1"],
            "expected row counts that add up to the batch, 3",
        ),
        (["1", "--golden", "batch.npz"], "batch.npz is there, but not batch.json"),
    ],
)
def test_explain_refuses(numpy_alone, said, batch, arguments, message):
    Path("text.npz").write_text("these are words")
    np.savez("flat.npz", logits=np.zeros(2))
    np.savez("wide.npz", logits=np.zeros(2), targets=np.zeros(2, int))
    np.savez("objects.npz", logits=np.array([print]), targets=np.zeros(2, int))
    Path("cut.npz").write_bytes(Path("batch.npz").read_bytes()[:-200])
    with zipfile.ZipFile("evil.npz", "w") as archive:
        archive.writestr("logits.npy", b"\x93NUMPY\x01\x00\x0a\x00\x1b[31m\x07\x00\x9b {}")
    status, out, error = said("explain", *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("seqloss: error: ") and message in error and error.count("\n") == 0
    # The terminal is not told what to do by what a file holds.
    assert error.isascii() and error.isprintable() and "Errno" not in error


def test_a_pickle_is_never_loaded(numpy_alone, said, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    with zipfile.ZipFile("trap.npz", "w") as archive:
        for name in ("logits", "targets"):
            archive.writestr(f"{name}.npy", pickle.dumps(Trap()))
    assert said("explain", "1", "2", "--inputs", "trap.npz")[0] == 2
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_says_it_holds_terabytes_is_not_read(numpy_alone, said, monkeypatch):
    monkeypatch.setattr("seqloss.commands.archives.LARGEST", 100)
    np.savez("large.npz", logits=np.zeros(1000), targets=np.zeros(2, int))
    assert "bytes of arrays, at most 100 are read" in said("explain", "1", "2", "--inputs", "large.npz")[2]


# --- golden ----------------------------------------------------------------------------------------------------------


def test_golden_as_a_user_does_it(command, batch, tmp_path):
    written = command("golden", "write", "old", "--inputs", "batch.npz", "--note", "a|b")
    assert written.returncode == 0, written.stderr
    checked = command("golden", "check", "old.npz", "--backends=numpy", "--junit=a.xml")
    assert checked.returncode == 0, checked.stdout
    assert "4 of 4 comparisons with the recording agree." in checked.stdout
    assert 'tests="4" failures="0"' in (tmp_path / "a.xml").read_text()


def test_a_backend_that_dies_while_it_checks_is_an_error(command, batch, tmp_path):
    golden.write(tmp_path / "old", batch, golden_losses(batch))
    fake = ("--backends=numpy,boxed", "--register=boxed=boxed_dies")
    done = command("golden", "check", "old.npz", *fake, "--junit=a.xml")
    assert done.returncode == 1 and "2 of 3 comparisons with the recording agree." in done.stdout
    assert 'tests="3" failures="0" errors="1"' in (tmp_path / "a.xml").read_text()


def test_golden_finds_what_differs(numpy_alone, said, batch):
    results = golden_losses(batch)
    results["token_losses"][1, 0] *= 1.001
    golden.write("wrong", batch, results)
    golden.write("right", batch, golden_losses(batch))
    status, out, _ = said("golden", "check", "right.npz", "wrong.npz", "--json=a.json")
    assert status == 1 and "3 of 4 comparisons with the recording agree." in out
    assert "wrong.npz numpy: token_losses: DIFFERENT: 1 of 15 entries differs" in out
    (one,) = json.loads(Path("a.json").read_text())["backends"]
    assert one["files"]["wrong.npz"]["results"]["token_losses"]["worst"]["index"] == [1, 0]


def test_the_page_on_golden_files_shows_where_what_differs(numpy_alone, said, batch):
    results = golden_losses(batch)
    golden.write("right", batch, results)
    results["token_losses"][1, 1] *= 1.001
    golden.write("wrong", batch, results)
    status, _, error = said("golden", "check", "right.npz", "wrong.npz", "--html=a.html")
    page = Path("a.html").read_text()
    assert (status, error) == (1, "")
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert page.count("<svg ") == len([x for x in titles if ".npz: " in x]) == 6
    assert "right.npz: the largest errors" in titles and "None of them diverges. The largest error of" in page
    assert "largest error (ULP at scale)" in page
    assert "wrong.npz: where token_losses of numpy diverges" in titles
    assert "1 of the entries differ; the first is in row 1 at time 1." in page


def test_distances_are_drawn_with_what_is_wrong(batch):
    expected = np.ones((2, 3, 4), np.float32)
    actual = expected.copy()
    actual[0, 2, 1], actual[1, 0, 3] = 1 + 2.0**-21, np.nan
    losses = np.where(np.arange(24).reshape(2, 3, 4) == 5, np.float32(np.inf), expected)
    one = types.SimpleNamespace(results={"loss": np.float32(1), "token_losses": losses, "other": expected})
    found = {"0.other": golden_jobs._distances(*measured(actual, expected, bound=2)), "0.loss": np.zeros(0)}
    found["0.token_losses"] = golden_jobs._distances(*measured(expected, expected))
    scatter, histogram, heat = golden_figures.draw({"x": one}, [processes.Outcome("b", None, "", {}, found)])
    assert np.flatnonzero(np.isnan(scatter.series["b"][0])).tolist() == [5]
    np.testing.assert_array_equal(np.nan_to_num(scatter.series["b"], nan=1), [np.ones(24), np.zeros(24)])
    assert sorted(histogram.series) == ["b other", "b token_losses"]
    assert sorted(histogram.series["b other"])[-3:] == [0, 4, np.inf]
    assert heat.mark == (0, 2) and heat.caption == "2 of the entries differ; the first is in row 0 at time 2."
    np.testing.assert_array_equal(heat.values, [[0, 0, 4], [np.inf, 0, 0]])
    found["0.other"] = golden_jobs._distances(*measured(actual[0], expected[0], bound=8))
    *_, heat = golden_figures.draw({"x": one}, [processes.Outcome("b", None, "", {}, found)])
    assert (heat.title, heat.scale_label) == ("x: the largest errors", "largest error (ULP)")
    shapes_differ = golden_jobs._distances(*measured(actual, expected[0]))
    assert shapes_differ.size == 0


def test_a_backend_that_dies_records_nothing(numpy_alone, said, batch, monkeypatch):
    monkeypatch.setattr("seqloss.commands.golden.ENTRY", "jobs_that_are_not_there")
    status, out, _ = said("golden", "write", "new", "--inputs", "batch.npz", "--junit=a.xml")
    assert 'failures="0" errors="1"' in Path("a.xml").read_text()
    assert status == 1 and "Nothing was written." in out and not Path("new.npz").exists()
    assert "numpy crashed: ModuleNotFoundError: No module named 'jobs_that_are_not_there'" in out


def test_golden_from_a_golden_with_other_flags(numpy_alone, said, batch):
    golden.write("old", batch, golden_losses(batch))
    status, _, error = said("golden", "write", "new", "--from", "old", "--sum-over-batch")
    assert (status, error) == (0, "")
    recorded = golden.read("new")
    averages = {"average_across_timesteps": False, "average_across_batch": False}
    assert recorded.flags == {"sum_over_batch": True, **averages}
    assert recorded.results["loss"].shape == (5,)


def test_the_writer_is_copied_and_nothing_overwritten(numpy_alone, said):
    copy = Path(golden.WRITER.name)
    assert said("golden", "writer")[0] == 0 and copy.read_bytes() == golden.WRITER.read_bytes()
    assert said("golden", "writer")[0] == 0
    copy.write_text("mine")
    assert "exists and is another file" in said("golden", "writer")[2] and copy.read_text() == "mine"
    assert said("golden", "writer", "other.py", "--json")[0] == 0 and Path("other.py").exists()
    Path("folder.py").mkdir()
    assert said("golden", "writer", "folder.py")[0] == 0 and Path("folder.py", copy).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none"], "there is no none.npz; a recording is none.npz and none.json"),
        (["check", "no/none.json"], "there is no no/none.npz; a recording is none.npz and none.json"),
        (["writer", "no"], "there is no folder 'no'; make it first, or pass a name that ends in .py"),
        (["writer", "no/writer.py"], "no/writer.py cannot be written: there is no folder 'no'; make it first"),
        (["writer", "batch.npz"], "there is no folder 'batch.npz'; make it first, or pass a name that ends in .py"),
        (["check", "edited"], "edited.npz"),
        (["check", "old", "--bound", "-1"], "--bound must be at least 0 and finite, got -1"),
        (["check", "foreign"], "foreign: seqloss does not know how to compute this recording (function: their_loss)"),
        (["check"], "the following arguments are required: FILE"),
        (["write", "old", "--inputs", "batch.npz"], "old.npz exists; pass --overwrite to record it again"),
        (["write", "no/old", "--inputs", "batch.npz"], "there is no folder 'no'"),
        (["write", "new", "--inputs", "batch.npz", "--backend", "torch"], "torch is not installed"),
        (["write", "new", "--inputs", "bad.npz"], "targets[0, 0] is 9, outside [0, 8)"),
        (["write", "new"], "one of the arguments --inputs --from is required"),
    ],
)
def test_golden_refuses(numpy_alone, said, batch, arguments, message):
    for name in ("old", "edited"):
        golden.write(name, batch, golden_losses(batch))
    golden.write("foreign", batch, golden_losses(batch), function="their_loss")
    content = bytearray(Path("edited.npz").read_bytes())
    content[len(content) // 2] ^= 1
    Path("edited.npz").write_bytes(content)
    np.savez("bad.npz", **{**batch, "targets": np.full((3, 5), 9)})
    status, out, error = said("golden", *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("seqloss: error: ") and message in error and error.count("\n") == 0
    assert not Path("new.npz").exists() and "Errno" not in error


# --- selftest --------------------------------------------------------------------------------------------------------

FEW = "--invariants=padding,permutation"


def test_selftest_of_seqloss(numpy_alone, said):
    status, out, _ = said("selftest", FEW)
    assert status == 0 and re.search(r"\b(\d+) of \1 checks that apply hold\.", out)
    assert f"not installed  {extras.command('torch')}" in out


LOSSES = """
import numpy as np

def mean_over_padding(z, *, mask, labels):
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    onehot = np.arange(z.shape[-1]) == labels[..., None]
    return (-np.log(p[onehot]) * mask.ravel()).mean(), (p - onehot) * mask[..., None] / mask.size

def dies(logits, targets, weights):
    import os
    os._exit(9)

def of_tokens(logits, targets, weights):
    return np.ones(targets.shape), np.ones(logits.shape)

def of_sequences(logits, targets, weights):
    return np.ones(len(targets)), np.ones(logits.shape)

def of_nothing(logits, targets, weights):
    return np.float64(1)

def of_numbers(logits, targets, weights):
    return 1.5, None

class Criterion:
    def __call__(self, logits, targets, weights):
        return 1.5, np.ones(logits.shape)
"""


def test_selftest_of_somebody_elses_loss(numpy_alone, said):
    Path("mine.py").write_text(LOSSES)
    against = ("selftest", "--against=mine:mean_over_padding", "--backends=numpy", FEW)
    status, out, _ = said(*against, "--arguments=logits,labels=targets,mask=weights", "--json=a.json", "--html=a.html")
    assert status == 1 and re.search(r"\b1 of \d checks that apply hold\.", out)
    assert "numpy padding (eager, float32): " in out and "\n  expected  " in out and "\n  weights   [[" in out
    (one,) = json.loads(Path("a.json").read_text())["backends"]
    assert {f["invariant"]: f["verdict"] for f in one["check"]["findings"]}["padding"] == "violated"


OBJECTIVE = """
from functools import partial
import seqloss

loss = partial(seqloss.sequence_loss_and_grad, label_smoothing=0.1, class_weights=[1, 2, 3], z_loss=0.01, softcap=5)

def by_positions(z, y, w):
    return loss(z, y, w, reduction="sum", normalizer=float(w.size))
"""
OPTIONS = ("--label-smoothing=0.1", "--class-weights=1,2,3", "--z-loss=0.01", "--softcap=5")


@pytest.mark.parametrize(
    "name, options, status",
    [
        ("loss", OPTIONS, 0),
        ("loss", OPTIONS[1:], 1),
        ("by_positions", (*OPTIONS, "--denominator=positions"), 0),
        ("by_positions", (*OPTIONS, "--denominator=tokens"), 1),
    ],
)
def test_selftest_of_a_loss_with_options(numpy_alone, said, name, options, status):
    Path("mine.py").write_text(OBJECTIVE)
    asked = ("selftest", f"--against=mine:{name}", "--backends=numpy", "--invariants=one_hot,padding")
    found, _, error = said(*asked, *options)
    assert (found, error) == (status, "")


def test_what_others_say_tells_the_terminal_nothing(numpy_alone, said):
    Path("evil.py").write_text('raise ValueError("\\x1b]0;mine\\x07\\x00 \\x9b31m")')
    status, out, error = said("selftest", "--against=evil:loss", "--backends=numpy")
    assert (status, out) == (2, "") and "ValueError: \\x1b]0;mine\\x07\\x00 \\x9b31m" in error
    assert error.isascii() and error.isprintable()


def test_a_loss_that_takes_its_process_with_it(numpy_alone, said):
    Path("mine.py").write_text(LOSSES)
    status, out, _ = said("selftest", "--against=mine:dies", "--backends=numpy", "--junit=a.xml")
    assert 'failures="0" errors="1"' in Path("a.xml").read_text()
    assert status == 1 and "numpy crashed: exit status 9 without a result" in out


MINE = ("--backends=numpy", FEW)
ARGUMENTS = "--arguments=logits,labels=targets,mask=weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against=mine:loss"], "the framework of mine:loss is not known; add --backends with one of numpy, torch"),
        (["--against=mine:loss", "--backends=numpy"], "'mine:loss' does not exist"),
        (["--against=mine", "--backends=numpy"], "a loss is named as package.module:function, got 'mine'"),
        (["--against=nobody.has:this", "--backends=numpy"], "cannot be imported: ModuleNotFoundError"),
        (["--against=optax:loss"], "jax is not installed"),
        (["--arguments=logits"], "arguments must name logits, targets"),
        (["--returns=average"], "returns must be one of 'tokens', 'mean', 'sum', 'sum_and_count', got 'average'"),
        (["--invariants=beauty"], "invariants must be names out of"),
        (["--seed=-1"], "seed must be an integer of at least 0"),
        # What is proposed can be typed here.
        ([*MINE, "--against=mine:of_tokens"], "for --returns mean and --layout batch; pass what it is, --returns t"),
        (
            [*MINE, ARGUMENTS, "--against=mine:mean_over_padding", "--returns=tokens"],
            "a loss of shape (), expected (2, 3) for --returns tokens and --layout batch; "
            "pass what it is, --returns mean or --returns sum",
        ),
        ([*MINE, "--against=mine:of_sequences"], "(2,), expected () for --returns mean and --layout batch; no conv"),
        (
            [*MINE, "--against=mine:of_nothing"],
            "according to its conventions, --gradient returned, got numpy.float64; write",
        ),
        ([*MINE, "--against=mine:of_numbers"], "mine:of_numbers returned None as the gradient, expected an array of"),
        ([*MINE, "--against=mine:Criterion"], "write loss = Criterion(), and pass --against MODULE:loss, with --arg"),
        ([*MINE, "--against=mine:of_nothing", "--gradient=autodiff"], "(loss, gradient), and --gradient returned"),
        (
            [*MINE, "--against=mine:mean_over_padding", "--ignore-label=-1"],
            "are these its conventions? --arguments logits,targets,weights --layout batch --returns mean "
            "--gradient returned --ignore-label -1",
        ),
        (
            [*MINE, "--against=mine:mean_over_padding", "--class-weights=1,2", "--softcap=5", "--denominator=tokens"],
            "are these its conventions? --arguments logits,targets,weights --layout batch --returns mean "
            "--gradient returned --class-weights 1,2 --softcap 5.0 --denominator tokens",
        ),
        (["--class-weights=1,b"], "argument --class-weights: '1,b' is not a list of numbers, as in 0.5,1,2"),
        (["--denominator=labels"], "denominator must be one of 'weights', 'weights_alone', 'tokens', 'positions', 'ba"),
    ],
)
def test_selftest_refuses(numpy_alone, said, arguments, message):
    Path("mine.py").write_text(LOSSES)
    status, out, error = said("selftest", *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("seqloss: error: ") and message in error and error.count("\n") == 0
