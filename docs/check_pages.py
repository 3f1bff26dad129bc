"""Markup that came out as text: ``python docs/check_pages.py docs/_build/html``.

Sphinx does not warn of a directive, a role or a list in a form that is not switched on in conf.py. It is a paragraph
then, and the reader sees colons and braces. Code may have both, and is not looked at.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

CODE = ("pre", "code", "script", "style")
MARKUP = re.compile(
    r":::|```"  # fences
    r"|\{[a-z][a-z:-]*\}"  # directives and roles
    r"|\n: |\n\|.*\|\n"  # definitions and tables
    r"|\]\([^ )]*\)"  # links
)


class Text(HTMLParser):
    """The text of a page outside of code, with the numbers of its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.found: list[tuple[int, str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.depth += tag in CODE

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag in CODE

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.found.append((self.getpos()[0], data))


def faults(html: str) -> Iterator[tuple[int, str]]:
    """The lines with markup that is text, and the text."""
    page = Text()
    page.feed(html)
    page.close()
    for line, text in page.found:
        if MARKUP.search(text):
            yield line, " ".join(text.split())


def main(folder: Path) -> int:
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    found = [f"{path}:{line}: {text[:100]}" for path, html in pages.items() for line, text in faults(html)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(pages)} pages, {len(found)} places where markup is text")
    # No page at all is a wrong folder.
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
