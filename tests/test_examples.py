"""The examples print what they say, and the README shows these very programs."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def parts(framework_name):
    """The program of an example without its docstring, and the output that it promises."""
    source = (ROOT / "examples" / f"on_{framework_name}.py").read_text(encoding="utf-8")
    program, _, output = source.partition("\n# Output:\n")
    _, _, code = program.partition('"""\n\n')
    assert code
    assert output
    return code.strip(), [line.removeprefix("# ") for line in output.splitlines()]


def test_example_prints_what_it_says(framework_name):
    path = ROOT / "examples" / f"on_{framework_name}.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == parts(framework_name)[1]


@pytest.mark.parametrize("name", ["numpy", "torch", "tensorflow", "jax"])
def test_readme_shows_the_example(name):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code, output = parts(name)
    assert f"```python\n{code}\n```" in readme
    assert "\n".join(output) in readme
