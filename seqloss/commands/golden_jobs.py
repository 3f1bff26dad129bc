"""What ``golden`` does in the process of a backend."""

import importlib
from contextlib import nullcontext
from typing import Any

import numpy as np

import seqloss
from seqloss.core import dispatch
from seqloss.core.errors import DTypeError, OptionError
from seqloss.testing import frameworks, golden
from seqloss.testing.golden.checking import check_measured

Array = Any
Facts = dict[str, Any]


def record(framework: str, inputs: dict[str, Array], options: dict[str, Any]) -> tuple[Facts, dict[str, Array]]:
    """Compute and write a golden file."""
    module = importlib.import_module(framework)
    wide = any(array.dtype == "float64" for array in inputs.values()) and framework in frameworks.NAMES
    with frameworks.load(framework).precision("float64") if wide else nullcontext():
        given = {name: _placed(framework, name, x, options["dtypes"].get(name)) for name, x in inputs.items()}
        results = _computed(given, options["flags"])
        path = golden.write(
            options["path"],
            given,
            results,
            flags=options["flags"],
            note=options["note"],
            device=str(dispatch.load(framework).device(given["logits"]) or "cpu"),
            overwrite=options["overwrite"],
        )
    written = golden.read(path)
    roles = {**dict.fromkeys(written.inputs, "input"), **dict.fromkeys(written.results, "result")}
    shapes = {name: list(x.shape) for name, x in {**written.inputs, **written.results}.items()}
    arrays = {name: {"role": roles[name], "dtype": written.dtypes[name], "shape": shapes[name]} for name in roles}
    return {"path": str(path), "version": str(getattr(module, "__version__", "unknown")), "arrays": arrays}, {}


def _placed(framework: str, name: str, x: Array, dtype: str | None) -> Array:
    backend = dispatch.load(framework)
    if dtype != "bfloat16":
        return backend.asarray(x)
    if framework == "numpy":
        raise DTypeError(f"{name} was recorded in bfloat16, which NumPy lacks; choose another --backend")
    return backend.astype(backend.asarray(x), dtype)


def _computed(given: dict[str, Array], flags: dict[str, Any]) -> dict[str, Array]:
    wrt = tuple(name for name in ("logits", "weights") if name in given)
    loss, gradients = seqloss.sequence_loss_and_grad(**given, **flags, wrt=wrt)
    names = ("average_across_timesteps", "average_across_batch", "sum_over_timesteps", "sum_over_batch")
    unreduced: dict[str, Any] = {**flags, **dict.fromkeys(names, False)}
    losses = seqloss.sequence_loss(**given, **unreduced)
    return {"loss": loss, "token_losses": losses, **{f"d{name}": x for name, x in zip(wrt, gradients, strict=True)}}


def check(framework: str, inputs: dict[str, Array], options: dict[str, Any]) -> tuple[Facts, dict[str, Array]]:
    """Compare each golden file; one that says no more than that it cannot be compared hides no other."""
    module = importlib.import_module(framework)
    files: dict[str, Any] = {}
    distances: dict[str, Array] = {}
    for number, path in enumerate(options["files"]):
        try:
            found = check_measured(golden.read(path), None, framework, options["bound"])
        except (golden.GoldenError, OptionError) as error:
            files[path] = {"refused": str(error)}
        else:
            files[path] = {"results": {name: {**c.as_dict(), "report": c.report()} for name, (c, _) in found.items()}}
            if options["figures"]:
                distances |= {f"{number}.{name}": _distances(*both) for name, both in found.items()}
    return {"version": str(getattr(module, "__version__", "unknown")), "files": files}, distances


def _distances(found: Any, measured: Any) -> Array:
    """The distance of each entry in ULP, negative where it is too large; empty if the shapes differ.

    Infinite where one side alone is NaN or infinite, and where zeros are in other places.
    """
    if measured is None:
        return np.zeros(0)
    ulp = measured.ulp if measured.at_scale is None else measured.at_scale
    special = measured.wrong["nan"] | measured.wrong["infinities"] | measured.wrong["zeros"]
    ulp = np.where(special, np.inf, ulp)
    return np.where(special | measured.wrong["values"], -ulp, ulp).astype(np.float32).reshape(found.actual.shape)
