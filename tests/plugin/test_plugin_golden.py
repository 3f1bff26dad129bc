"""Results that the plugin compares with golden files, or records there."""

import json
from pathlib import Path

import pytest
from plugged import PLUGIN

RECORDS = """
import numpy as np

X = np.array([[1.0, 2.0], [3.0, {x}]], "float32")

def test_it(seqloss_golden, seqloss_backend):
    x = seqloss_backend.array(X)
    seqloss_golden("it", {{"double": 2 * x, "sum": x.sum() {more}}}, {{"x": X}} {options})
"""


@pytest.fixture
def golden(pytester, run):
    """A session about one recorded test, with its numbers changed."""

    def session(*arguments, x="4.0", more="", options=""):
        pytester.makepyfile(test_it=RECORDS.format(x=x, more=more, options=options))
        return run("--seqloss-backends", "numpy", *arguments)

    return session


def files(pytester):
    """What is in the folder: names, content and when it was written."""
    folder = pytester.path / "golden"
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*")}


def test_a_recording_that_is_missing_is_a_failure_that_says_how_to_record(pytester, golden):
    result = golden()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E*golden/it.npz does not exist: look at the results, record them with",
            'E*  python -m pytest --seqloss-golden-update "test_it.py::test_it[[]numpy[]]"',
            "E*  and commit both files",
        ]
    )
    assert files(pytester) == {}


def test_what_was_recorded_is_listed_and_then_passes(pytester, golden):
    result = golden("--seqloss-golden-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["=* golden files written *=", str(pytester.path / "golden" / "it.npz")])
    before = files(pytester)
    assert set(before) == {"it.npz", "it.json"}
    manifest = json.loads(before["it.json"][0])
    assert manifest["function"] == "test_it.py::test_it"
    roles = {name: array["role"] for name, array in manifest["arrays"].items()}
    assert roles == {"x": "input", "double": "result", "sum": "result"}
    for arguments in ((), ("--seqloss-golden-update",)):
        result = golden(*arguments)
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*golden files written*")
    assert files(pytester) == before


CHANGES = {
    "value": ({"more": "* 1.001"}, "result sum: DIFFERENT: *"),
    # By one unit in the last place, where the results may be off by many.
    "input": ({"x": "4.0000005"}, "input x: DIFFERENT: *"),
    "dtype": ({"more": ".astype('float64')"}, "result sum: DIFFERENT: *dtype*"),
    "more": ({"more": ", 'mean': x.mean()"}, "result mean is not recorded"),
}


@pytest.mark.parametrize(("change", "report"), CHANGES.values(), ids=CHANGES)
def test_other_results_fail_and_can_be_recorded(pytester, golden, change, report):
    golden("--seqloss-golden-update")
    before = files(pytester)
    result = golden(**change)
    result.assert_outcomes(failed=1)
    headline = ["E*ParityError: it.npz holds other results; if the new ones are right, record them with"]
    result.stdout.fnmatch_lines([*headline, "E*--seqloss-golden-update*", f"E*{report}"])
    assert files(pytester) == before
    golden("--seqloss-golden-update", **change).stdout.fnmatch_lines(["*golden/it.npz"])
    assert files(pytester) != before
    golden(**change).assert_outcomes(passed=1)


def test_a_result_that_is_no_longer_given_is_a_failure(golden):
    golden("--seqloss-golden-update", more=", 'mean': x.mean()")
    result = golden()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*result mean is recorded and not given"])


CLOSE = "* np.float32(1 + 2.0**-22)"  # two units in the last place


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ("", True),
        (", bound=1", False),
        (", bound={'sum': 1}", False),
        (", bound={'double': 1}", True),
        (", bound=1, scale=100", True),
        (", bound=1, scale={'sum': 100}", True),
        (", bound=1, scale={'double': 100}", False),
    ],
)
def test_bound_and_scale_are_those_of_the_results(pytester, golden, options, passes):
    golden("--seqloss-golden-update", options=options)
    before = files(pytester)
    golden(more=CLOSE, options=options).assert_outcomes(passed=passes, failed=not passes)
    # What agrees within the bound is not written anew: another framework may have recorded it.
    golden("--seqloss-golden-update", more=CLOSE, options=options).assert_outcomes(passed=1)
    assert (files(pytester) == before) == passes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"it"', '"../it"', "seqloss_golden takes a name of letters, digits, *, got '../it'"),
        ('"it"', '".it"', "seqloss_golden takes a name of letters, digits, *, got '.it'"),
        ('"it"', "7", "seqloss_golden takes a name of letters, digits, *, got 7"),
        ("X} )", 'X}, bound={"total": 1})', "*bound names [[]'total'[]], and the results are *'double', 'sum'*"),
    ],
)
def test_wrong_arguments_are_failures(pytester, run, old, new, message):
    program = RECORDS.format(x=1, more="", options="")
    assert old in program
    pytester.makepyfile(test_it=program.replace(old, new))
    result = run("--seqloss-backends", "numpy", "--seqloss-golden-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*Failed: {message}"])
    assert not (pytester.path / "golden").exists()


def test_a_damaged_file_is_an_error_until_it_is_recorded_again(pytester, golden):
    golden("--seqloss-golden-update")
    (pytester.path / "golden" / "it.json").write_text("<<<<<<< ours")
    result = golden()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*GoldenError: *it.json is not JSON*"])
    golden("--seqloss-golden-update").assert_outcomes(passed=1)
    golden().assert_outcomes(passed=1)


TWO = """
import numpy as np
import pytest

@pytest.mark.parametrize("value", [1.0, 1.0, 2.0])
def test_it(seqloss_golden, value):
    seqloss_golden("shared", {"y": np.float32(value)}, {"x": np.float32(0)})
"""


def test_two_tests_cannot_record_different_results_under_one_name(pytester, run):
    pytester.makepyfile(TWO)
    result = run("--seqloss-golden-update")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E*ParityError: shared.npz was recorded in this run, by *::test_it[[]1.0*"])
    run().assert_outcomes(passed=2, failed=1)


def test_a_lock_that_was_left_behind_is_named(pytester, monkeypatch, golden):
    monkeypatch.setattr("seqloss.testing.plugin.recording._PATIENCE", 0)
    lock = pytester.mkdir("golden") / ".it.lock"
    lock.touch()
    result = golden("--seqloss-golden-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*{lock} was left behind by a run that was ended: remove it"])


SHARED = """
import numpy as np
import pytest

@pytest.mark.parametrize("test", range(12))
def test_it(seqloss_golden, test):
    x = np.arange(1, 1000, dtype="float32")
    # Each is right, and no two are the same bits.
    seqloss_golden("shared", {"y": x * np.float32(1 + test * 2.0**-23)}, {"x": x})
    seqloss_golden(f"own{test}", {"y": x + test}, {"x": x})
"""


def test_workers_record_together(pytester, run):
    pytester.makepyfile(SHARED)
    workers = ("-p", "xdist.plugin", "-n", "2", *PLUGIN)
    result = pytester.runpytest_subprocess(*workers, "--seqloss-golden-update")
    result.assert_outcomes(passed=12)
    names = {f"{name}{suffix}" for name in ("shared", *(f"own{i}" for i in range(12))) for suffix in (".npz", ".json")}
    before = files(pytester)
    assert set(before) == names
    listed = [Path(line).name for line in result.outlines if line.startswith(str(pytester.path / "golden"))]
    assert listed == sorted(name for name in names if name.endswith(".npz"))
    run("--seqloss-golden-update").assert_outcomes(passed=12)
    assert files(pytester) == before


HALF = """
def test_it(seqloss_backend, seqloss_golden):
    x = seqloss_backend.array([1.0, 2.0], "{dtype}")
    seqloss_golden("it", {{"y": x * 3}}, {{"x": seqloss_backend.to_numpy(x)}})
"""


def test_results_are_recorded_in_their_dtype(pytester, run, framework):
    """bfloat16 where the framework has it: NumPy, which reads the files, has not."""
    narrow = "bfloat16" if "bfloat16" in framework.DTYPES else "float16"
    pytester.makepyfile(test_it=HALF.format(dtype=narrow))
    backend = ("--seqloss-backends", framework.name)
    run(*backend, "--seqloss-golden-update").assert_outcomes(passed=1)
    run(*backend).assert_outcomes(passed=1)
    manifest = json.loads((pytester.path / "golden" / "it.json").read_text())
    assert manifest["arrays"]["y"] == {"dtype": narrow, "role": "result", "shape": [2]}
    pytester.makepyfile(test_it=HALF.format(dtype="float32"))
    result = run(*backend)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*result y*float32*"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('"it", {}, {"x": 1.0}', "seqloss_golden takes results by name, at least one, got {}"),
        ('"it", {"y": 1.0}, {}', "seqloss_golden takes inputs by name, at least one, got {}"),
        ('"it", None, {"x": 1.0}', "seqloss_golden takes results by name, at least one, got None"),
        ('"a..b", {"y": 1.0}, {"x": 1.0}', "seqloss_golden takes a name of letters, *got 'a..b'"),
        ('"../b", {"y": 1.0}, {"x": 1.0}', "seqloss_golden takes a name of letters, *got '../b'"),
        ('"a.", {"y": 1.0}, {"x": 1.0}', "seqloss_golden takes a name of letters, *got 'a.'"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(pytester, run, call, message):
    pytester.makepyfile(f"def test_it(seqloss_golden): seqloss_golden({call})")
    result = run("--seqloss-golden-update")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*{message}"])
    result.stdout.no_fnmatch_line("*GoldenError*")
    result.stdout.no_fnmatch_line("*recording.py*")
    assert not (pytester.path / "golden").exists()
