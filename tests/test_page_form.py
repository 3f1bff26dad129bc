"""The form of the pages: code fits, links of the README work elsewhere, and other files name the same version."""

import re
from pathlib import Path

import pytest

import seqloss

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "reference").glob("*.md")]
PAGES = sorted(path for path in PAGES if path.name != "CHANGELOG.md")

# --- the width of code

WIDTH = 88
FENCE = re.compile(r"^( *)(`{3,})\{?(\w*)\}?[^\n]*\n(.*?)^\1\2$", re.MULTILINE | re.DOTALL)
# What one types is before the rest of the block, which is printed.
PROMPTS = {"doctest": (">>>", "..."), "pycon": (">>>", "..."), "console": ("$",), "python": ("",)}


def too_wide(text):
    """The lines of code that do not fit. What a program prints may be wide."""
    for indent, _, language, code in FENCE.findall(text):
        for line in code.splitlines():
            line = line.removeprefix(indent)
            if len(line) > WIDTH and line.startswith(PROMPTS.get(language, ())):
                yield line


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_code_fits(page):
    assert list(too_wide(page.read_text(encoding="utf-8"))) == []


def test_code_that_does_not_fit_is_found():
    long = "x" * 90
    blocks = [
        f"```{{doctest}}\n>>> {long}\n{long}\n```",
        f"  ```pycon\n  ... {long}\n  ```",
        f"```console\n$ {long}\n```",
    ]
    blocks += [f"```python\n{long}\n```", f"```text\n{long}\n```", f"```python\n{long[:88]}\n```", long]
    assert [len(list(too_wide(block))) for block in blocks] == [1, 1, 1, 1, 0, 0, 0]


# --- links of the README, which is shown on package indexes too

HOME = "https://github.com/seqloss/seqloss"
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[\w-]+\]: (\S+)$", re.MULTILINE)


def anchors(path):
    """The names by which headings of a page are linked to."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_of_the_readme_are_absolute_and_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [one or other for one, other in LINK.findall(readme)]
    assert len(links) >= 15
    for link in links:
        path, _, anchor = link.partition("#")
        assert path.startswith(f"{HOME}/blob/main/")
        file = ROOT / path.removeprefix(f"{HOME}/blob/main/")
        assert file.is_file()
        assert not anchor or anchor in anchors(file)


def test_names_of_links_are_defined_and_used():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"\]\[([\w-]+)\]", readme))
    assert used == set(re.findall(r"^\[([\w-]+)\]:", readme, re.MULTILINE))


# --- what stands in several files


def test_the_citation_has_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {seqloss.__version__}\n" in citation


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CITATION.cff", "pyproject.toml"])
def test_the_repository_has_one_address(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"https://github\.com/[\w-]+/[\w-]+", text)
    assert set(found) == {HOME}
