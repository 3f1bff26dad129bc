"""One report, given out in five ways; whatever it holds, nothing in it is taken for markup."""

import argparse
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import seqloss
from seqloss.commands import output
from seqloss.commands.render import html, junit, markdown, text
from seqloss.commands.render import json as as_json
from seqloss.commands.report import Column, HeatMap, Histogram, Report, Row, Scatter
from seqloss.core.errors import OptionError

EVIL = "<script>alert('|')</script> & \"*_`$x$ \x1b[31m\x00 \ud800 gr\xfc\xdfe \u65e5"
ERRORS = np.array([0.0, 0.5, 2.0, np.inf, np.nan, 1e7])
LOSSES = np.array([0.0, 1e-12, 1.0, 2.0, np.nan, 3.0])
GRID = np.array([[0.0, 1.0, np.nan], [np.inf, 5.0, 1e6]])


def report(evil="plain", same=False, figures=(), crashed=False):
    rows = [
        Row(f"good {evil}", (f"a {evil}", "1"), "good"),
        Row("bad", ("b", "22"), "bad", [f"b {evil} is wrong\nin a line of its own", "b again"]),
        Row("neutral", ("c", "-"), "neutral"),
        *[Row("dead", ("d", "-"), "bad", ["d crashed: it says so"], True)] * crashed,
    ]
    columns = (Column(f"name {evil}"), Column("number", True))
    data = {"x": float("nan"), "y": [1.0, float("inf")], "z": (1, None, evil)}
    facts = [("short", f"fact {evil}"), ("longer", "2")]
    return Report("trial", f"Title {evil}", facts, columns, rows, f"1 of 2 {evil}.", same, data, ["a note"], figures)


# --- text ------------------------------------------------------------------------------------------------------------


def test_the_text():
    assert text.render(report()) == (
        "short   fact plain\n"
        "longer  2\n"
        "\n"
        "name plain  number\n"
        "----------  ------\n"
        "a plain          1\n"
        "b               22\n"
        "c                -\n"
        "\n"
        "b plain is wrong\n"
        "  in a line of its own\n"
        "b again\n"
        "\n"
        "1 of 2 plain.\n"
        "a note"
    )


def test_the_text_is_printable_ascii_whatever_it_says():
    shown = text.render(report(EVIL))
    assert set(re.sub("\n", "", shown)) <= set(map(chr, range(32, 127)))
    assert "\\x1b[31m\\x00 \\ud800 gr\\xfc\\xdfe \\u65e5" in shown


def test_a_terminal_gets_colours_and_no_control_characters_of_others(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    text.show(report(EVIL))
    shown = capsys.readouterr().out
    assert "\x1b[32m" in shown and "\x1b[31m\x00" not in shown and "\\x1b[31m\\x00" in shown
    assert "<script>alert('|')</script>" in shown


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_json_is_strict():
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    content = json.loads(as_json.render(report(EVIL)), parse_constant=refuse)
    assert content == {
        "seqloss": seqloss.__version__,
        "command": "trial",
        "same": False,
        "x": "nan",
        "y": [1.0, "inf"],
        "z": [1, None, EVIL],
    }


# --- Markdown --------------------------------------------------------------------------------------------------------


def test_the_markdown():
    lines = markdown.render(report()).split("\n")
    assert lines[0] == "## Title plain"
    assert "- **short**: fact plain" in lines
    assert "|  | name plain | number |" in lines and "| --- | --- | ---: |" in lines
    assert "| \u274c | b | 22 |" in lines
    assert "- b plain is wrong<br>in a line of its own" in lines


def test_every_line_of_the_markdown_table_has_the_same_cells():
    lines = [line for line in markdown.render(report(EVIL)).split("\n") if line.startswith("|")]
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}


def test_nothing_in_the_markdown_is_markup():
    shown = markdown.render(report(EVIL))
    assert not re.search(r"(?<!\\)[<`$](?!br>)", shown)
    assert "\x1b" not in shown and "\x00" not in shown


# --- JUnit -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", ["plain", EVIL])
def test_the_junit_xml(evil):
    written = junit.render(report(evil))
    assert written.isascii()
    root = ElementTree.fromstring(written)
    (suite,) = root
    for element in (root, suite):
        counts = {name: element.get(name) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert len(cases) == 3 and all(case.get("classname") == "seqloss.trial" for case in cases.values())
    (failure,) = cases["bad"]
    assert failure.get("message") == f"b {junit.clean(evil)} is wrong"
    assert failure.text.endswith("is wrong\nin a line of its own\nb again")
    assert [child.tag for child in cases["neutral"]] == ["skipped"]
    assert {p.get("name") for p in suite.iter("property")} == {"seqloss", "short", "longer"}


def test_what_has_no_result_is_an_error_and_no_failure():
    (suite,) = ElementTree.fromstring(junit.render(report(crashed=True)))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    (error,) = next(case for case in suite.iter("testcase") if case.get("name") == "dead")
    assert (error.tag, error.get("message")) == ("error", "d crashed: it says so")


# --- HTML ------------------------------------------------------------------------------------------------------------

FIGURES = [
    Scatter(f"One {EVIL}", f"caption {EVIL}", "x $", "y", {f"a {EVIL}": (LOSSES, ERRORS), "b": (LOSSES, ERRORS)}, 80.0),
    Histogram("Two", "caption", "x", {"a": ERRORS, "none": np.zeros(0)}, 80.0),
    HeatMap("Three", "caption", "scale", GRID, (1, 0)),
]
EMPTY = [
    Scatter("One", "", "x", "y", {}),
    Scatter("Two", "", "x", "y", {"zeros": (np.zeros(3), np.zeros(3))}),
    Histogram("Three", "", "x", {"zeros": np.zeros(3)}),
    Histogram("Four", "", "x", {"infinite": np.full(3, np.inf)}),
    HeatMap("Five", "", "s", np.full((2, 3), np.nan)),
    HeatMap("Six", "", "s", np.zeros((1, 1)), (0, 0)),
]
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether what is opened is closed."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def drawn():
    return html.render(report(EVIL, figures=FIGURES))


def test_the_page_is_complete_in_itself(drawn):
    page = Page(drawn)
    assert (page.count("svg"), page.count("figure"), page.count("script"), page.count("link")) == (3, 3, 0, 0)
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "xlink:href", "src", "action", "data"):
                assert value.startswith(("#", "data:image/png;base64,"))
            if name.startswith("xmlns") is False:
                assert "//" not in (value or "") or value.startswith("data:")
    assert not re.search(r"@import|url\((?!#)|<!--", drawn)


def test_what_a_page_says_is_text(drawn):
    said = "".join(Page(drawn).words)
    assert drawn.isascii()
    assert said.count("<script>alert('|')</script>") >= 8
    assert "\x1b" not in drawn and "\x00" not in drawn


def test_identifiers_are_unique_and_those_used_exist(drawn):
    found = [attributes["id"] for _, attributes in Page(drawn).elements if "id" in attributes]
    assert len(found) == len(set(found))
    used = re.findall(r"url\(#([^)]*)\)", drawn) + re.findall(r'href="#([^"]*)"', drawn)
    assert used and set(used) <= set(found)


def test_drawings_have_the_colour_of_the_page(drawn):
    assert "currentColor" in drawn and "#010203" not in drawn and "prefers-color-scheme: dark" in drawn


def test_the_same_report_gives_the_same_page(drawn):
    assert html.render(report(EVIL, figures=FIGURES)) == drawn


def test_there_may_be_nothing_to_draw():
    assert Page(html.render(report(figures=EMPTY))).count("svg") == len(EMPTY)


def test_a_crowd_of_points_makes_no_crowd_of_elements():
    rng = np.random.default_rng(0)
    many = {"a": (rng.lognormal(size=100_000), rng.lognormal(size=100_000))}
    assert len(html.render(report(figures=[Scatter("One", "", "x", "y", many)]))) < 2_000_000


# --- where it goes ---------------------------------------------------------------------------------------------------


def options(*arguments):
    parser = argparse.ArgumentParser()
    output.add_arguments(parser)
    return parser.parse_args(arguments)


def give(*arguments, same=False):
    chosen = options(*arguments)
    output.check(chosen)
    return output.give(report("gr\xfc\xdfe", same), chosen)


@pytest.mark.parametrize("same", [True, False])
def test_the_exit_status_is_the_verdict(capsys, same):
    assert give(same=same) == int(not same)


@pytest.mark.parametrize(
    ("name", "start"), [("json", "{"), ("markdown", "## Title"), ("junit", "<?xml"), ("html", "<!DOCTYPE html>")]
)
def test_to_stdout_in_place_of_the_table(capsys, name, start):
    give(f"--{name}")
    printed = capsys.readouterr().out
    assert printed.startswith(start) and "------  ------" not in printed


def test_to_files_beside_the_table(tmp_path, capsys):
    names = {"json": "a.json", "markdown": "b.md", "junit": "c.xml", "html": "d.html"}
    give(*[f"--{name}={tmp_path / file}" for name, file in names.items()])
    assert "1 of 2 gr\\xfc\\xdfe." in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert "gr\xfc\xdfe" in (tmp_path / "b.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text())["command"] == "trial"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--junit"], "--json and --junit cannot both go to stdout"),
        (["--json", "golden.npz"], "'golden.npz' is not a file name that ends in .json; for stdout write --json=-"),
        (["--junit", "no/folder/a.xml"], "there is no folder 'no/folder'"),
        (["--markdown", ""], "'' is not a file name"),
    ],
)
def test_what_cannot_be_given_out_is_refused_before_anything_is_computed(arguments, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        output.check(options(*arguments))


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OptionError, match="is a folder"):
        output.check(options("--json", str(tmp_path / "a.json")))
