"""Results that are compared with golden files, or recorded there."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

Array = Any

FOLDER = "golden"
_NAME = re.compile(r"\w[\w-]*(\.[\w-]+)*", re.ASCII)
_PROPERTY = "seqloss_golden_written"
# By the run, and not in config.stash: a pytest without it loads the plugin too.
_WRITTEN: WeakKeyDictionary[pytest.Config, dict[Path, str]] = WeakKeyDictionary()
_PATIENCE = 60.0


class Recording:
    """What the fixture ``seqloss_golden`` gives to a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node
        self._folder = request.path.parent / FOLDER
        self._update = request.config.getoption("seqloss_golden_update")

    def __call__(
        self,
        name: str,
        results: Mapping[str, Array],
        inputs: Mapping[str, Array],
        bound: Any = None,
        scale: Any = None,
    ) -> None:
        """Fail unless the results are as recorded, or record them if they differ and that is asked for."""
        __tracebackhide__ = True
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            pytest.fail(f"seqloss_golden takes a name of letters, digits, '_', '-' and single '.', got {name!r}")
        for what, given in (("results", results), ("inputs", inputs)):
            if not isinstance(given, Mapping) or not given:
                pytest.fail(f"seqloss_golden takes {what} by name, at least one, got {given!r:.80}")
        for option, value in (("bound", bound), ("scale", scale)):
            unknown = sorted(set(value) - set(results)) if isinstance(value, Mapping) else []
            if unknown:
                pytest.fail(f"seqloss_golden: {option} names {unknown}, and the results are {sorted(results)}")
        path = self._folder / f"{name}.npz"
        arguments = (path, dict(results), dict(inputs), bound, scale)
        if not self._update:
            self._check(*arguments)
            return
        self._folder.mkdir(exist_ok=True)
        with _locked(self._folder / f".{name}.lock"):
            self._settle(*arguments)

    def _check(self, path: Path, results: Any, inputs: Any, bound: Any, scale: Any) -> None:
        __tracebackhide__ = True
        again = f'python -m pytest --seqloss-golden-update "{self._node.nodeid}"'
        if not path.exists():
            pytest.fail(
                f"{path} does not exist: look at the results, record them with\n  {again}\nand commit both files"
            )
        differences = _differences(path, results, inputs, bound, scale)
        if differences:
            _raise(
                f"{path.name} holds other results; if the new ones are right, record them with\n  {again}", differences
            )

    def _settle(self, path: Path, results: Any, inputs: Any, bound: Any, scale: Any) -> None:
        """Write what differs. Several tests may share a file, so what agrees within the bound stays as it is."""
        __tracebackhide__ = True
        from seqloss.testing import golden

        recorded = _WRITTEN.setdefault(self._node.config, {})
        try:
            differences = _differences(path, results, inputs, bound, scale) if path.exists() else ["it is not there"]
        except golden.GoldenError as error:
            differences = [str(error)]
        if differences and path in recorded:
            _raise(f"{path.name} was recorded in this run, by {recorded[path]}, and holds other results", differences)
        if differences:
            golden.write(path, inputs, results, function=self._node.nodeid.partition("[")[0], overwrite=True)
            recorded[path] = self._node.nodeid
            self._node.user_properties.append((_PROPERTY, str(path)))


def written(stats: Mapping[str, list[Any]]) -> list[str]:
    """The golden files that the tests of a session have written, from their reports: workers send those too."""
    properties = [pair for reports in stats.values() for x in reports for pair in getattr(x, "user_properties", ())]
    return sorted({value for name, value in properties if name == _PROPERTY})


def _differences(path: Path, results: Any, inputs: Any, bound: Any, scale: Any) -> list[Any]:
    """What is not as recorded: comparisons, and sentences about names."""
    from seqloss.testing import compare, golden

    recorded = golden.read(path)
    found: list[Any] = []
    for role, given, expected in (("input", inputs, recorded.inputs), ("result", results, recorded.results)):
        found += [f"{role} {name} is not recorded" for name in given if name not in expected]
        found += [f"{role} {name} is recorded and not given" for name in expected if name not in given]
        for name in given:
            if name in expected:
                options = {"bound": 0} if role == "input" else {"bound": _of(name, bound), "scale": _of(name, scale)}
                # NumPy has no bfloat16: the same numbers are read as float32.
                narrow = recorded.dtypes[name] == "bfloat16"
                comparison = compare(
                    given[name], expected[name], name=f"{role} {name}", check_dtype=not narrow, **options
                )
                if narrow and comparison.actual.dtype != "bfloat16":
                    found.append(f"{role} {name} is {comparison.actual.dtype}, and recorded in bfloat16")
                found += [] if comparison.same else [comparison]
    return found


def _of(name: str, option: Any) -> Any:
    """An option for one of the results: the same for all, or a dict that names some."""
    return option.get(name) if isinstance(option, Mapping) else option


def _raise(headline: str, differences: list[Any]) -> None:
    __tracebackhide__ = True
    from seqloss.testing import ParityError

    reports = [x if isinstance(x, str) else x.report() for x in differences]
    error = ParityError("\n".join([headline, *reports]))
    error.comparison = next((x for x in differences if not isinstance(x, str)), None)
    raise error


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Keep the other workers of pytest-xdist out while one reads and writes."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            lock.touch(exist_ok=False)
            break
        except FileExistsError:
            if time.monotonic() > until:
                pytest.fail(f"{lock} was left behind by a run that was ended: remove it")
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink()
