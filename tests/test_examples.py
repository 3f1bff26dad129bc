"""The examples print what they say, and the README shows these very programs."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def parts(name):
    """The program of an example without its docstring, and the output that it promises."""
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    program, _, output = source.partition("\n# Output:\n")
    _, _, code = program.partition('"""\n\n')
    assert code
    assert output
    return code.strip(), [line.removeprefix("# ") for line in output.splitlines()]


def run(name):
    """What an example prints. It finds its neighbours, and the package, as if it were started in the checkout."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_example_prints_what_it_says(framework_name):
    assert run(f"on_{framework_name}") == parts(f"on_{framework_name}")[1]


TRAINING = {
    "numpy": ("in_numpy", "accumulation", "packed", "epoch"),
    "torch": ("in_torch", "workers_torch"),
    "tensorflow": ("in_keras",),
    "jax": ("in_jax", "workers_jax"),
}
"""The programs of docs/training.md, by what they need. The one for the Trainer is run by tests/engines."""


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames:
        names = metafunc.config.getoption("--backends").split(",")
        metafunc.parametrize("program", [f"{name}-{program}" for name in names for program in TRAINING[name]])


def test_training_prints_what_it_says(program):
    name = f"training/{program.partition('-')[2]}"
    assert run(name) == parts(name)[1]


@pytest.mark.parametrize("name", ["accumulation", "workers_torch", "packed"])
def test_the_page_shows_the_output(name):
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert "```text\n" + "\n".join(parts(f"training/{name}")[1]) + "\n```" in page


def test_every_program_is_run():
    programs = {path.stem for path in (ROOT / "examples" / "training").glob("*.py")}
    assert programs - {"common", "hugging_face"} == {name for names in TRAINING.values() for name in names}


@pytest.mark.parametrize("name", ["numpy", "torch", "tensorflow", "jax"])
def test_readme_shows_the_example(name):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code, output = parts(f"on_{name}")
    assert f"```python\n{code}\n```" in readme
    assert "\n".join(output) in readme
