"""Golden files: what a function was given and what it returned, recorded in one program and checked in another."""

from seqloss.testing.golden.checking import check
from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.files import WRITER, Golden, read, write

__all__ = ["WRITER", "Golden", "GoldenError", "check", "read", "write"]
