"""Which frameworks and which ways to run a test gets: those of the plugin, or frameworks that the test itself names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from seqloss.testing.frameworks import NAMES
from seqloss.testing.plugin import choice

BACKEND, MODE, RUN = "seqloss_backend", "seqloss_mode", "seqloss_run"


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Give a test its parameters, unless it has its own; stop the run, in words, where these cannot work."""
    sources = {name: _source(metafunc, name) for name in (BACKEND, MODE) if name in metafunc.fixturenames}
    problem = _problem(metafunc, sources)
    if problem is not None:
        pytest.fail(problem, pytrace=False)
    marker = metafunc.definition.get_closest_marker("seqloss_modes")
    free = [name for name, source in sources.items() if source == "plugin"]
    if free == [BACKEND, MODE]:
        pairs = choice.pairs(metafunc.config, marker)
        metafunc.parametrize(free, pairs, ids=["-".join(pair) for pair in pairs], indirect=True)
    elif free == [BACKEND]:
        metafunc.parametrize(BACKEND, choice.backends(metafunc.config), indirect=True)
    elif free == [MODE]:
        metafunc.parametrize(MODE, choice.modes(marker), indirect=True)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out frameworks that tests name themselves and the command line does not, and a compiled NumPy."""
    out = {item for item in items if _is_out(config, getattr(getattr(item, "callspec", None), "params", {}))}
    if out:
        config.hook.pytest_deselected(items=[item for item in items if item in out])
        items[:] = [item for item in items if item not in out]


def of(request: pytest.FixtureRequest) -> Any:
    """The parameter of a fixture; a failure, in words, where there is none."""
    if not hasattr(request, "param"):
        pytest.fail(
            f"a test runs once for each value of {request.fixturename}, so it has to be a function that asks for it by "
            f"an argument, its own or that of a fixture, as in def test({BACKEND}, {RUN}): request.getfixturevalue "
            "alone, unittest.TestCase and doctest cannot",
            pytrace=False,
        )
    return request.param


def watch(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Let a fixture that serves several tests ask by its arguments alone.

    What it gets by ``request.getfixturevalue``, pytest keeps when the parameter changes: tests of one framework would
    have arrays of another.
    """
    if request.scope == "function" or BACKEND not in request.fixturenames:
        return
    ask = request.getfixturevalue

    def getfixturevalue(argname: str) -> Any:
        if argname in (BACKEND, MODE, RUN) and argname not in fixturedef.argnames:
            pytest.fail(
                f"the fixture {fixturedef.argname} has the scope {request.scope!r}, so it has to ask for {argname} by "
                f"an argument, as in def {fixturedef.argname}({argname}): what it gets by request.getfixturevalue "
                "would stay the same for all frameworks",
                pytrace=False,
            )
        return ask(argname)

    request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]


def _is_out(config: pytest.Config, parameters: Mapping[str, Any]) -> bool:
    name = parameters.get(BACKEND)
    if not isinstance(name, str) or name not in NAMES:
        return False
    return not choice.exists(name, parameters.get(MODE)) or (
        choice.on_command_line(config) and name not in choice.backends(config)
    )


def _problem(metafunc: pytest.Metafunc, sources: Mapping[str, str]) -> str | None:
    """Why the parameters of a test cannot work, and how to mend that."""
    if sources.get(MODE) in ("test", "values"):
        return f'{MODE} cannot be parametrised: write @pytest.mark.seqloss_modes("eager", "compiled"), or one of them'
    if sources.get(BACKEND) == "values":
        return (
            f"{BACKEND} is parametrised without indirect, so the test would get a value of that list, and not the "
            f"framework: add indirect=True, or indirect=[{BACKEND!r}] where other arguments stand beside it"
        )
    for name, user in ((BACKEND, MODE), (BACKEND, RUN), (MODE, RUN)):
        if user in metafunc.fixturenames and (sources.get(name) == "project" or not _serves_all(metafunc, name)):
            return (
                f"{user} needs the {name} of the plugin, but a fixture of this project has the same name: rename that "
                f'fixture, or let it ask for {name} itself, with scope="session"'
            )
    if sources == {BACKEND: "test", MODE: "plugin"} and choice.PYTEST < (8, 4) and _is_narrow(metafunc):
        return (
            f"{BACKEND} is parametrised for less than the session, which works beside {MODE} and {RUN} from pytest 8.4 "
            'on: add scope="session" to that parametrize'
        )
    return None


# pytest has no public way to ask what follows. The session "plugin" of noxfile.py tries these parts of its inside on
# the oldest pytest; the newest runs the suite.


def _source(metafunc: pytest.Metafunc, name: str) -> str:
    """Where the values of a fixture come from.

    It is ``"plugin"``, ``"test"`` for parameters of the fixture that the test or its project gives, ``"values"`` for
    what is given in place of the fixture, and ``"project"`` for another fixture of that name.
    """
    # In pytest 7, values in place of a fixture stand by themselves; since then pytest makes a fixture of them.
    if any(name in getattr(call, "funcargs", ()) for call in metafunc._calls):
        return "values"
    # A fixture that asks for its own name gets the one that it hides.
    fixtures = reversed(metafunc._arg2fixturedefs.get(name, ()))
    homes = [fixture.func.__module__ for fixture in fixtures if name not in fixture.argnames]
    if homes[:1] != [f"{__package__}.fixtures"]:
        return "values" if homes and homes[0].startswith("_pytest.") else "project"
    return "test" if any(name in call.params for call in metafunc._calls) else "plugin"


def _serves_all(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether the fixture that a test gets, perhaps one around that of the plugin, has the scope of the session."""
    return all(fixture.scope == "session" for fixture in metafunc._arg2fixturedefs.get(name, ())[-1:])


def _is_narrow(metafunc: pytest.Metafunc) -> bool:
    return any(call._arg2scope[BACKEND].value != "session" for call in metafunc._calls)
