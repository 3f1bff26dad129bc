"""What ``golden`` does in the process of a backend."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import seqloss
from seqloss.commands import backends, functions
from seqloss.commands.golden_paths import check_free
from seqloss.commands.worker import describe
from seqloss.core import dispatch
from seqloss.core.errors import OptionError
from seqloss.testing import golden
from seqloss.testing.golden.checking import AVERAGES, check_measured, placed, precision
from seqloss.testing.golden.errors import CallError

Array = Any
Facts = dict[str, Any]


def record(framework: str, inputs: dict[str, Array], options: dict[str, Any]) -> tuple[Facts, dict[str, Array]]:
    """Compute and write a golden file."""
    version = backends.version(framework)
    with precision(framework, [x.dtype for x in inputs.values()]):
        given = {name: placed(framework, name, x, options["dtypes"].get(name)) for name, x in inputs.items()}
        results = _computed(given, options["flags"])
        facts = {name: options[name] for name in ("flags", "note", "overwrite")}
        device = str(dispatch.load(framework).device(given["logits"]) or "cpu")
        try:
            path = golden.write(options["path"], given, results, device=device, **facts)
        except golden.GoldenError:
            # Another program may have recorded meanwhile, and then this has the words of the command line.
            check_free(options["path"], options["overwrite"])
            raise
    written = golden.read(path)
    roles = {**dict.fromkeys(written.inputs, "input"), **dict.fromkeys(written.results, "result")}
    shapes = {name: list(x.shape) for name, x in {**written.inputs, **written.results}.items()}
    arrays = {name: {"role": roles[name], "dtype": written.dtypes[name], "shape": shapes[name]} for name in roles}
    return {"path": str(path), "version": version, "arrays": arrays}, {}


def _computed(given: dict[str, Array], flags: dict[str, Any]) -> dict[str, Array]:
    wrt = tuple(name for name in ("logits", "weights") if name in given)
    loss, gradients = seqloss.sequence_loss_and_grad(**given, **flags, wrt=wrt)
    unreduced: dict[str, Any] = {**flags, **dict.fromkeys(AVERAGES, False)}
    losses = seqloss.sequence_loss(**given, **unreduced)
    return {"loss": loss, "token_losses": losses, **{f"d{name}": x for name, x in zip(wrt, gradients, strict=True)}}


def check(framework: str, inputs: dict[str, Array], options: dict[str, Any]) -> tuple[Facts, dict[str, Array]]:
    """Compare each golden file; one that cannot be compared does not hide the others."""
    version = backends.version(framework)
    called = options["compute"]
    compute = None if called is None else _caught(functions.imported(called))
    files: dict[str, Any] = {}
    distances: dict[str, Array] = {}
    for number, path in enumerate(options["files"]):
        try:
            found = check_measured(golden.read(path), compute, framework, options["bound"], called or "")
        except CallError:
            raise  # which concerns the function, not the file
        except (golden.GoldenError, OptionError) as error:
            files[path] = {"refused": str(error)}
        except _RaisedError as error:
            files[path] = {"raised": str(error)}
        else:
            files[path] = {"results": {name: {**c.as_dict(), "report": c.report()} for name, (c, _) in found.items()}}
            if options["figures"]:
                distances |= {f"{number}.{name}": _distances(*both) for name, both in found.items()}
    return {"version": version, "files": files}, distances


class _RaisedError(Exception):
    """What somebody's function has raised."""


def _caught(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(**given: Any) -> Any:
        try:
            return function(**given)
        except (Exception, SystemExit) as error:
            raise _RaisedError(describe(error)) from error

    return call


def _distances(found: Any, measured: Any) -> Array:
    """The distance of each entry in ULP, negative where it is too large; empty if the shapes differ.

    Infinite where only one side is NaN or infinite, and where zeros are in other places.
    """
    if measured is None:
        return np.zeros(0)
    ulp = measured.ulp if measured.at_scale is None else measured.at_scale
    special = measured.wrong["nan"] | measured.wrong["infinities"] | measured.wrong["zeros"]
    ulp = np.where(special, np.inf, ulp)
    return np.where(special | measured.wrong["values"], -ulp, ulp).astype(np.float32).reshape(found.actual.shape)
