"""Which frameworks and which ways to run are under test."""

from __future__ import annotations

import importlib.util
from weakref import WeakKeyDictionary

import pytest

from seqloss.core import extras
from seqloss.core.dispatch import framework_called
from seqloss.testing.frameworks import NAMES

MODES = ("eager", "compiled")
# Two numbers, as are compared here: a release has them, and so has what comes before it.
PYTEST = tuple(int(number) for number in pytest.__version__.split(".")[:2])
OLDEST_PYTEST = (7, 0)

HELP = (
    f"comma-separated frameworks that seqloss_backend stands for, out of {', '.join(NAMES)}, also as tf and pytorch; "
    "all that are installed unless given"
)
# Not in config.stash: a pytest without it loads the plugin too.
_CHOSEN: WeakKeyDictionary[pytest.Config, tuple[str, ...]] = WeakKeyDictionary()


def check_pytest() -> None:
    """Fail a test that asks for something where pytest is too old to give it."""
    if PYTEST < OLDEST_PYTEST:
        oldest = ".".join(map(str, OLDEST_PYTEST))
        pytest.fail(
            f"the fixtures of seqloss need pytest {oldest} or newer, and this is {pytest.__version__}: "
            f'python -m pip install "pytest>={oldest}"',
            pytrace=False,
        )


def installed(name: str) -> bool:
    """Whether a framework can be imported, which is found without doing so."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # what a project put into sys.modules in its place
        return False
    # A folder of that name beside the tests has no origin.
    return spec is not None and spec.origin is not None


def on_command_line(config: pytest.Config) -> bool:
    """Whether --seqloss-backends is given."""
    return config.getoption("seqloss_backends") is not None


def backends(config: pytest.Config) -> tuple[str, ...]:
    """The frameworks under test; a UsageError if one that is named does not exist or is not installed."""
    if config not in _CHOSEN:
        named = _named(config)
        _CHOSEN[config] = tuple(name for name in NAMES if (installed(name) if named is None else name in named))
    return _CHOSEN[config]


def check(config: pytest.Config) -> None:
    """A UsageError at once for what is named wrongly. The default is looked for when a test needs it."""
    if on_command_line(config) or config.getini("seqloss_backends"):
        backends(config)


def check_own(config: pytest.Config, name: object) -> None:
    """Fail a test that names a framework itself, if that one is not under test."""
    where = "the parametrisation of seqloss_backend"
    if name not in NAMES:
        pytest.fail(_unknown(where, name), pytrace=False)
    if name not in backends(config):
        if not installed(str(name)):
            pytest.fail(_missing(where, [str(name)]), pytrace=False)
        pytest.fail(
            f"{where} names {name}, which seqloss_backends, in the configuration of pytest, does not: add it there, or "
            "name others",
            pytrace=False,
        )


def _named(config: pytest.Config) -> list[str] | None:
    """The frameworks that the command line or the configuration file names, or None if neither does."""
    option: str | None = config.getoption("seqloss_backends")
    where = "--seqloss-backends" if option is not None else "seqloss_backends, in the configuration of pytest,"
    text = ",".join(config.getini("seqloss_backends")) if option is None else option
    if option is None and not text:
        return None
    names = list(dict.fromkeys(framework_called(name.strip()) for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise pytest.UsageError(_unknown(where, text, ", separated by commas"))
    missing = [name for name in names if not installed(name)]
    if missing:
        raise pytest.UsageError(_missing(where, missing))
    return names


def _unknown(where: str, given: object, form: str = "") -> str:
    return f"{where} takes names out of {', '.join(NAMES)}{form}, got {given!r}"


def _missing(where: str, names: list[str]) -> str:
    return f"{where} names {', '.join(names)}, which cannot be imported here; {extras.add(*names)}, or name others"


def modes(marker: pytest.Mark | None) -> tuple[str, ...]:
    """The ways to run that the marker of a test names: eagerly if it has none."""
    if marker is None:
        return MODES[:1]
    if not marker.args or marker.kwargs or any(name not in MODES for name in marker.args):
        given = ", ".join([*map(repr, marker.args), *(f"{key}={value!r}" for key, value in marker.kwargs.items())])
        pytest.fail(f"seqloss_modes takes one or more names out of {', '.join(MODES)}, got ({given})", pytrace=False)
    return tuple(name for name in MODES if name in marker.args)


def exists(name: str, mode: str | None) -> bool:
    """Whether a framework has a way to run: NumPy has no compiler."""
    return (name, mode) != ("numpy", "compiled")


def pairs(config: pytest.Config, marker: pytest.Mark | None) -> list[tuple[str, str]]:
    """Each framework with each way to run that it has."""
    chosen = modes(marker)
    return [(name, mode) for name in backends(config) for mode in chosen if exists(name, mode)]
