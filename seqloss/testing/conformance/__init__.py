"""Whether a module is a backend: :func:`assert_conforms` for adapters of other frameworks, and for the built-in ones.

What a backend must have is read off :class:`seqloss.core.protocol.Backend`. What the functions mean is tried on small
arrays that go in through ``asarray`` and come out through ``to_numpy``, and compared with NumPy; the kernels are
compared with the oracle. Then the public functions are run on arrays of the backend. All of it is eager: what the
framework's compilers and transformations make of an adapter is for the adapter's own tests.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from seqloss.core.protocol import Backend
from seqloss.testing.conformance import (
    binary_kernels,
    execution,
    facts,
    kernels,
    linear,
    primitives,
    signatures,
    soft_kernels,
    sums,
)
from seqloss.testing.conformance.comparing import raised

CHECKS: dict[str, Callable[[Backend], Iterator[str]]] = {
    **facts.CHECKS,
    **primitives.CHECKS,
    **sums.CHECKS,
    **execution.CHECKS,
    **linear.CHECKS,
    **kernels.CHECKS,
    **soft_kernels.CHECKS,
    **binary_kernels.CHECKS,
}
"""For each function of the protocol, what is wrong with it in a backend."""

BASIC = ("owns", "shape", "dtype", "asarray", "to_numpy", "scope")
"""Functions without which no other one can be tried."""

_MOST = 4
"""Violations of one function that are listed: one mistake shows in many numbers."""


class NonConformingBackend(AssertionError):
    """A module is not a backend. The text lists every violation, each with the name of the function."""


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
        With the violations, one per line: the first few of each function. Before the :data:`BASIC` ones are right,
        nothing else is tried.
    TypeError
        If ``backend`` is the name of a module, and not the module.

    Examples
    --------
    >>> from seqloss.backends import numpy as adapter
    >>> from seqloss.testing.conformance import assert_conforms
    >>> assert_conforms(adapter, cases=False)
    """
    if isinstance(backend, str):
        raise TypeError(f"backend must be the module, not its name; import {backend} and pass that")
    broken = dict(signatures.violations(backend))
    found = [f"{name}: {violation}" for name, violation in broken.items()]
    are_there = broken.keys().isdisjoint(BASIC)
    basic = [line for name in BASIC for line in _tried(name, backend)] if are_there else []
    if basic or not are_there:
        found += [*basic, f"nothing else is tried before {', '.join(BASIC)} are right"]
    else:
        # A function that cannot be called as the protocol says would only raise.
        found += [line for name in CHECKS if name not in (*broken, *BASIC) for line in _tried(name, backend)]
    if cases and not found:
        # Imported here, because the tables have all public functions in them.
        from seqloss.testing.conformance import tables

        found.extend(tables.violations(backend))
    if found:
        name = getattr(backend, "__name__", repr(backend))
        raise NonConformingBackend(f"{name} does not conform to the backend protocol:\n  " + "\n  ".join(found))


def _tried(name: str, backend: Backend) -> Iterator[str]:
    """The first violations of a function, and how many more there are."""
    if name in CHECKS:
        violations = _outcome(CHECKS[name], backend)
        yield from (f"{name}: {violation}" for violation in islice(violations, _MOST))
        more = sum(1 for _ in violations)
        if more:
            yield f"{name}: and {more} more"


def _outcome(check: Callable[[Backend], Iterator[str]], backend: Backend) -> Iterator[str]:
    """The violations that a check finds; an exception is one, and ends it."""
    try:
        yield from check(backend)
    except Exception as error:  # the adapter is not ours, and the other checks are to run
        yield raised(error)


__all__ = ["BASIC", "CHECKS", "NonConformingBackend", "assert_conforms"]
