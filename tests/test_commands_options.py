"""What messages and pages tell a user to type exists: every command line is parsed, every option looked up."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from seqloss.__main__ import _COMMANDS, _parser
from seqloss.core.errors import OptionError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for path in sorted((ROOT / "seqloss").rglob("*.py")) if "plugin" not in path.parts]
OURS = ("golden-files.md", "commands.md", "parity.md")


def options(parser, found=()):
    """The options of a command by its name, of the commands within it too."""
    found = dict(found)
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                found |= {f"{name} {more}".strip(): names for more, names in options(inner).items()}
    return {**found, "": {name for action in parser._actions for name in action.option_strings}}


OPTIONS = options(_parser())
OF_ALL = set().union(*OPTIONS.values())
OF_GOLDEN = set().union(
    *(names for command, names in OPTIONS.items() if command.split(" ")[0] in ("golden", "explain"))
)


def named(text):
    """The options that a text names, without what they are given."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-]*\{)", text))


def lines(text):
    """The command lines in a text, each in one line and without a comment."""
    text = re.sub(r" *\\\n\s*", " ", text)
    commands = "|".join(_COMMANDS)
    for found in re.findall(rf"(?:python -m |\$ |^  )seqloss ((?:{commands})\b[^\n`&#;]*)", text, re.MULTILINE):
        yield found.removesuffix(".").strip()


def strings(path):
    """What a module may say: its strings, with {} for what is put into them, without those that document it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            told |= {id(part) for part in node.values}
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


TEXTS = {path: path.read_text(encoding="utf-8") for path in [*PAGES, *SOURCES]}
SPEAKING = [path for path in SOURCES if named(TEXTS[path]) or [*lines(TEXTS[path])]]


def check(line):
    """Parse it, and refuse options that are not written out."""
    _parser().parse_args(shlex.split(line))
    command = max((name for name in OPTIONS if line.startswith(name)), key=len)
    assert named(line) - OPTIONS[command] == set()


def identity(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_options_of_all_commands_are_found():
    assert {"", "env", "parity", "golden", "golden check", "golden write", "golden writer", "explain"} < OPTIONS.keys()
    assert "--compute" in OPTIONS["golden check"] and "--compute" not in OPTIONS["golden write"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_line_on_a_page_can_be_typed(path):
    for line in lines(TEXTS[path]):
        check(line)


@pytest.mark.parametrize("path", SPEAKING, ids=identity)
def test_every_command_line_that_is_said_can_be_typed(path):
    for line in lines("\n".join([*strings(path), TEXTS[path]])):
        if "{" not in line:
            check(line)


def test_strings_are_found_with_what_is_put_into_them(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""--a-page"""\nx = f"--no-{y} --yes {f(\'--deep\')}", "--plain"\n')
    assert sorted(strings(path)) == ["--deep", "--no-{} --yes {}", "--plain"]
    assert named(" ".join(strings(path))) == {"--deep", "--yes", "--plain"}


def test_pages_and_modules_have_command_lines():
    found = {path.name: len([*lines(text)]) for path, text in TEXTS.items()}
    assert min(found[name] for name in ("README.md", "commands.md", "golden-files.md", "parity.md", "golden.py")) > 0
    assert sum(found.values()) > 25
    assert {"golden.py", "golden_paths.py", "checking.py", "output.py"} < {path.name for path in SPEAKING}


@pytest.mark.parametrize("path", [ROOT / "docs" / name for name in OURS], ids=lambda path: path.name)
def test_every_option_on_a_page_exists(path):
    assert named(TEXTS[path]) - OF_ALL == set()


@pytest.mark.parametrize("path", SPEAKING, ids=identity)
def test_every_option_in_a_message_exists(path):
    """Those of golden files must be options of the commands for golden files."""
    there = OF_GOLDEN if "golden" in path.relative_to(ROOT).as_posix() else OF_ALL
    assert named("\n".join(strings(path))) - there == set()


@pytest.mark.parametrize(
    "text, error",
    [
        ("$ python -m seqloss golden check x --compare y:z", "unrecognized arguments: --compare y:z"),
        ("`python -m seqloss golden write x`", "one of the arguments --inputs --from is required"),
        ("$ python -m seqloss golden write x --inputs \\\n    y --bound 3 # why", "unrecognized arguments: --bound 3"),
        ("$ python -m seqloss golden check x --backend numpy", "assert {'--backend'}"),
        ("  seqloss explain", "the following arguments are required: MINE"),
    ],
)
def test_the_test_of_lines_can_fail(text, error):
    (line,) = lines(text)
    with pytest.raises((OptionError, AssertionError), match=error):
        check(line)


def test_the_test_of_options_can_fail():
    assert named("pass --larger, ``--no-average-across-batch`` or --json=- (--x-y)") - OF_ALL == {"--larger", "--x-y"}
    assert named("a--b ---c --") == set()
