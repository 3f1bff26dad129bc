"""Whether a module is a backend: :func:`assert_conforms` for adapters of other frameworks, and for the built-in ones.

What a backend must have is read off :class:`seqloss.core.protocol.Backend`. What the functions mean is tried on small
arrays that go in through ``asarray`` and come out through ``to_numpy``, and compared with NumPy; the kernels are
compared with the oracle. Then the public functions are run on arrays of the backend. All of it is eager: what the
framework's compilers and transformations make of an adapter is for the adapter's own tests.
"""

from collections.abc import Callable, Iterator
from typing import Any

from seqloss.core.protocol import Backend
from seqloss.testing.conformance import (
    binary_kernels,
    execution,
    facts,
    kernels,
    primitives,
    signatures,
    soft_kernels,
    sums,
)

CHECKS: dict[str, Callable[[Backend], Iterator[str]]] = {
    **facts.CHECKS,
    **primitives.CHECKS,
    **sums.CHECKS,
    **execution.CHECKS,
    **kernels.CHECKS,
    **soft_kernels.CHECKS,
    **binary_kernels.CHECKS,
}
"""For each function of the protocol, what is wrong with it in a backend."""


class NonConformingBackend(AssertionError):
    """A module is no backend. The text lists every violation, each with the name of the function."""


def assert_conforms(backend: Any, cases: bool = True) -> None:
    """Check a backend module against the protocol and the kernel contract.

    Parameters
    ----------
    backend : module, or anything with the functions as attributes
        The adapter, as it would be registered with :func:`seqloss.register_backend`.
    cases : bool
        Whether the public functions are run on its arrays too, with every case that seqloss tests itself by. It takes
        some seconds, or minutes where the framework compiles each call. It is left out where a function of the
        protocol is wrong, which would show in all of them.

    Raises
    ------
    NonConformingBackend
        With all violations, one per line.

    Examples
    --------
    >>> from seqloss.backends import numpy as adapter
    >>> from seqloss.testing.conformance import assert_conforms
    >>> assert_conforms(adapter, cases=False)
    """
    broken = dict(signatures.violations(backend))
    found = [f"{name}: {violation}" for name, violation in broken.items()]
    for name, check in CHECKS.items():
        # A function that cannot be called as the protocol says would only raise.
        if name not in broken:
            found.extend(f"{name}: {violation}" for violation in _outcome(check, backend))
    if cases and not found:
        # Imported here, because the tables have all public functions in them.
        from seqloss.testing.conformance import tables

        found.extend(tables.violations(backend))
    if found:
        name = getattr(backend, "__name__", repr(backend))
        raise NonConformingBackend(f"{name} does not conform to the backend protocol:\n  " + "\n  ".join(found))


def _outcome(check: Callable[[Backend], Iterator[str]], backend: Backend) -> Iterator[str]:
    """The violations that a check finds; an exception is one, and ends it."""
    try:
        yield from check(backend)
    except Exception as error:  # the adapter is not ours, and the other checks are to run
        yield f"raised {type(error).__name__}: {error}"


__all__ = ["CHECKS", "NonConformingBackend", "assert_conforms"]
