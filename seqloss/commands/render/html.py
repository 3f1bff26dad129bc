"""For browsers: one page, complete in itself, without scripts and without anything to load. Dark and light."""

from pathlib import Path
from typing import Any

import seqloss
from seqloss.commands.report import Report

_TEMPLATE = Path(__file__).with_name("page.html")


def render(report: Report) -> str:
    """The page in ASCII, so that no declaration of an encoding can be wrong."""
    import jinja2
    from markupsafe import Markup

    from seqloss.commands.render import figures

    environment: Any = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    # The drawings are markup of our own making: all text in them has been escaped by the one who drew it.
    drawn = [(figure, Markup(figures.svg(figure, n))) for n, figure in enumerate(report.figures)]
    page: str = template.render(report=report, figures=drawn, version=seqloss.__version__, clean=clean)
    return page.encode("ascii", "xmlcharrefreplace").decode()


def clean(text: str) -> str:
    """The text without control characters, which HTML cannot hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
