"""The error of golden files."""

from seqloss.core.errors import SeqlossError


class GoldenError(SeqlossError, ValueError):
    """A golden file cannot be written, read or checked: the message says why, and what to do."""


class CallError(GoldenError):
    """A function cannot be called with what was recorded, or does not return results."""
