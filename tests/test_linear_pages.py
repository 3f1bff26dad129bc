"""The page of the linear loss and its programs: they print what they say, and the memory is spared."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "linear.md").read_text(encoding="utf-8")
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX"}
PROGRAMS = {"numpy": "in_numpy", "torch": "in_torch", "tensorflow": "in_keras", "jax": "in_jax"}


def printed(code):
    """What a program of the page prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        exec(compile(code, "docs/linear.md", "exec"), {})
    return text.getvalue()


def test_the_page_prints_what_it_says(framework_name):
    code = PAGE.partition(f"**{TITLES[framework_name]}**\n\n```python\n")[2].partition("```")[0]
    assert code
    assert f"all print\n\n```text\n{printed(code)}```" in PAGE


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        metafunc.parametrize("program", [PROGRAMS[name] for name in names])


def parts(line):
    """The text of a line, and its MiB."""
    text, _, memory = line.rpartition(", ")
    return text, int(memory.removesuffix(" MiB"))


def test_the_memory_is_spared(program):
    path = ROOT / "examples" / "large_vocabulary" / f"{program}.py"
    promised = path.read_text(encoding="utf-8").partition("\n# Output:\n")[2].replace("# ", "").splitlines()
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, settings = [sys.executable, str(path)], os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    assert done.returncode == 0, done.stderr
    got = [parts(line) for line in done.stdout.splitlines()]
    assert [text for text, _ in got] == [parts(line)[0] for line in promised]
    (_, fused), (_, stored) = got
    # The logits alone are 128 MiB, and with them go their gradient.
    assert stored - fused > 128


def test_the_page_shows_the_output():
    source = (ROOT / "examples" / "large_vocabulary" / "in_torch.py").read_text(encoding="utf-8")
    output = source.partition("\n# Output:\n")[2].replace("# ", "")
    assert f"```text\n{output}```" in PAGE


def test_every_program_is_run():
    found = {path.stem for path in (ROOT / "examples" / "large_vocabulary").glob("*.py")}
    assert found - {"common"} == set(PROGRAMS.values())


def test_the_table_and_the_picture_have_all_frameworks():
    """The page shows what the build of the site makes of these figures."""
    measured = json.loads((ROOT / "docs" / "measured" / "linear.json").read_text(encoding="utf-8"))["linear"]
    ways = {(row["framework"], row["mode"]) for row in measured["rows"] if row["name"] == "linear_sequence_loss"}
    both = {("torch", "eager"), ("torch", "compile"), ("tensorflow", "eager"), ("tensorflow", "function")}
    assert ways == both | {("numpy", "eager"), ("jax", "jit")}
    for part in ("rows", "by_chunk"):
        ours = [row for row in measured[part] if row["name"] == "linear_sequence_loss"]
        assert {row["framework"] for row in ours} == set(TITLES)
        assert all(row["best"] <= row["median"] and "extra" in row for row in ours)
    assert all(f"_drawn/{name}" in PAGE for name in ("linear.md", "linear.svg", "machine-linear.md"))
