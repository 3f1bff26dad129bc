"""A report as text, JSON, Markdown, JUnit XML or HTML: one module each, with ``render(report) -> str``."""
