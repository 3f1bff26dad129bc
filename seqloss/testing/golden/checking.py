"""Whether what was recorded is what is computed now."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import seqloss
from seqloss.core import dispatch
from seqloss.core.errors import SeqlossError
from seqloss.testing import frameworks
from seqloss.testing.comparison import measured
from seqloss.testing.comparison.measure import Measured
from seqloss.testing.comparison.result import Comparison
from seqloss.testing.golden import calling
from seqloss.testing.golden.errors import GoldenError
from seqloss.testing.golden.files import Golden
from seqloss.testing.golden.scales import allowed
from seqloss.testing.golden.seqloss_golden_writer import BFLOAT16

Array = Any

FUNCTION = "sequence_loss"
INPUTS = ("logits", "targets", "weights")
AVERAGES = ("average_across_timesteps", "average_across_batch", "sum_over_timesteps", "sum_over_batch")
RESULTS = ("loss", "dlogits", "dweights", "token_losses")
"""What can be computed without being told how."""


def check(
    golden: Golden,
    compute: Callable[..., Any] | None = None,
    *,
    backend: str = "numpy",
    bound: float | None = None,
) -> dict[str, Comparison]:
    """Compute what was recorded again, and compare.

    Parameters
    ----------
    golden : Golden
        What :func:`read` returned.
    compute : callable, optional
        A function of your own. It is called with the inputs by their names, as arrays of the backend, and with those
        of the recorded flags that it has parameters for. It returns a mapping from names of results to arrays of any
        framework, or the loss alone. From the loss alone the framework computes the recorded gradients, named "d" and
        the name of the input, in one more call of the function; NumPy computes none. Results that are left out are not
        compared. By default seqloss computes every recorded result of the function "sequence_loss" with the recorded
        flags: "loss", its gradients "dlogits" and "dweights", and "token_losses", the weighted losses of the tokens
        before any reduction.
    backend : str, default "numpy"
        The framework whose arrays are made of the inputs; it is imported.
    bound : float, optional
        How many units in the last place results may be off, in place of the bounds below. 0 asks for equal numbers.

    Returns
    -------
    dict of str to Comparison
        One for each result that was computed, by name; each is true if the two are the same.

    Raises
    ------
    GoldenError
        If seqloss does not know how to compute what was recorded or refuses its inputs or flags, ``compute`` cannot be
        called with them or returns no results, or there is nothing to compare. What ``compute`` raises is not caught.
    ImportError
        If the framework is not installed.

    See Also
    --------
    read : Reads a golden file.
    seqloss.testing.compare : Compares two arrays, with options of its own.

    Notes
    -----
    For the function "sequence_loss" the four results above are compared within twice the bound of a token, at the
    scale of what a program adds up that computes the loss by the formulas of the frameworks: at least 1 for a token
    loss, and 1 for the gradient at a target. The table in ``seqloss.testing.tolerances`` gives the reason. The scale
    stays the same if a bound is given. Other results are compared within the bounds of ``compare``.

    seqloss has float32 losses for half-precision logits. Where a program returned them in half precision, that is told
    as a problem of the dtype, and a ``compute`` that casts them makes it good.

    In JAX float64 is switched on while a recording of float64 arrays is computed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import seqloss
    >>> from seqloss.testing import golden
    >>> inputs = {"logits": np.zeros((1, 2, 4), "float32"), "targets": np.array([[3, 1]])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = golden.write(f"{folder}/wrong", inputs, {"loss": np.float32(2.0)})
    ...     wrong = golden.read(f"{folder}/wrong")
    >>> found = golden.check(wrong)["loss"]
    >>> found.same, found.first.actual, found.first.expected
    (False, 1.3862943649291992, 2.0)
    >>> def of_bits(logits, targets):
    ...     return seqloss.sequence_loss(logits, targets) / np.float32(np.log(2))
    >>> golden.check(wrong, of_bits)["loss"].same
    True
    """
    return {name: found for name, (found, _) in check_measured(golden, compute, backend, bound).items()}


def check_measured(
    golden: Golden,
    compute: Callable[..., Any] | None,
    backend: str,
    bound: float | None,
    called: str | None = None,
) -> dict[str, tuple[Comparison, Measured | None]]:
    """The same with the numbers of the single entries, which plots are made of; None where the shapes differ.

    ``called`` is the name of ``compute`` on the command line, of whose options errors speak then: "" without one.
    """
    if compute is None:
        _check_known(golden, called is not None)
    with precision(backend, golden.dtypes.values()):
        results = (
            _computed(golden, _given(golden, backend))
            if compute is None
            else calling.results(compute, golden, lambda: _given(golden, backend), backend, called or "compute")
        )
        bounds = _bounds(golden)
        return {
            name: _compared(name, value, golden, backend, bounds.get(name), bound) for name, value in results.items()
        }


def _check_known(golden: Golden, shell: bool) -> None:
    """Refuse what cannot be computed without being told how."""
    unknown = {
        "function": [golden.function] * (golden.function != FUNCTION),
        "inputs": sorted(golden.inputs.keys() - set(INPUTS)),
        "results": sorted(golden.results.keys() - set(RESULTS)),
        "flags": sorted(golden.flags.keys() - {*AVERAGES, "exact"}),
        "missing inputs": sorted({"logits", "targets"} - golden.inputs.keys()),
        "missing inputs beside dweights": ["weights"]
        * ("dweights" in golden.results and "weights" not in golden.inputs),
    }
    for what, names in unknown.items():
        if names:
            option = "--compute MODULE:FUNCTION" if shell else "compute= to seqloss.testing.golden.check"
            raise GoldenError(
                f"seqloss does not know how to compute this recording ({what}: {', '.join(names)}); pass {option}, a "
                f"function that takes {', '.join(golden.inputs)} and returns results by name"
            )


def _computed(golden: Golden, given: dict[str, Array]) -> dict[str, Array]:
    """The recorded results, by seqloss. What it refuses is wrong with the recording."""
    try:
        return _by_seqloss(golden, given)
    except SeqlossError as error:
        raise GoldenError(f"seqloss cannot compute this recording: {error}") from error


def _by_seqloss(golden: Golden, given: dict[str, Array]) -> dict[str, Array]:
    wrt: tuple[Any, ...] = tuple(name for name in INPUTS if f"d{name}" in golden.results)
    results = {}
    if wrt:
        results["loss"], gradients = seqloss.sequence_loss_and_grad(**given, **golden.flags, wrt=wrt)
        results.update({f"d{name}": gradient for name, gradient in zip(wrt, gradients, strict=True)})
    elif "loss" in golden.results:
        results["loss"] = seqloss.sequence_loss(**given, **golden.flags)
    if "token_losses" in golden.results:
        none = dict.fromkeys(AVERAGES, False)
        results["token_losses"] = seqloss.sequence_loss(**given, **{**golden.flags, **none})
    return {name: results[name] for name in golden.results}


def precision(backend: str, dtypes: Iterable[Any]) -> AbstractContextManager[Any]:
    """Within it the backend computes in float64 if one of the dtypes is that, which JAX does not by itself."""
    wide = "float64" in map(str, dtypes) and backend in frameworks.NAMES
    return frameworks.load(backend).precision("float64") if wide else nullcontext()


def _given(golden: Golden, backend: str) -> dict[str, Array]:
    """The inputs as arrays of the backend. Frameworks share memory, and what a function writes is its own affair."""
    return {name: placed(backend, name, x.copy(), golden.dtypes[name]) for name, x in golden.inputs.items()}


def placed(backend: str, name: str, array: Array, dtype: str | None) -> Array:
    """A recorded array as one of the backend, of the dtype that it was recorded in."""
    ops = dispatch.load(backend)
    if dtype != BFLOAT16:
        return ops.asarray(array)
    if backend == "numpy":
        raise GoldenError(f"{name} was recorded in bfloat16, which NumPy lacks; choose another backend")
    return ops.astype(ops.asarray(array), dtype)


def _bounds(golden: Golden) -> dict[str, Any]:
    """What results of the sequence loss may differ by, if that is what was recorded."""
    logits, targets = (golden.inputs.get(name) for name in INPUTS[:2])
    weights = golden.inputs.get("weights", targets)
    if golden.function != FUNCTION or logits is None or targets is None or weights is None or logits.ndim != 3:
        return {}
    numbers = logits.dtype.kind == "f" and targets.dtype.kind in "iu"
    if not (numbers and logits.shape[2] and targets.shape == weights.shape == logits.shape[:2]):
        return {}
    flags = {name: value for name, value in golden.flags.items() if name in AVERAGES}
    return dict(allowed(golden.inputs, flags, golden.dtypes["logits"]))


def _compared(name: str, actual: Any, golden: Golden, backend: str, known: Any, bound: float | None) -> Any:
    expected: Array = golden.results[name]
    if golden.dtypes[name] == BFLOAT16:
        expected = placed(backend, name, expected, BFLOAT16)
    options = {} if known is None else known._asdict()
    if options and options["scale"].shape != tuple(expected.shape):
        options = {}
    if bound is not None:
        options["bound"] = bound
    of_tokens = {
        option: golden.inputs[key]
        for option, key in (("labels", "targets"), ("weights", "weights"))
        if key in golden.inputs and golden.inputs[key].shape == tuple(expected.shape)[: golden.inputs[key].ndim]
    }
    return measured(actual, expected, name=name, **options, **of_tokens)
