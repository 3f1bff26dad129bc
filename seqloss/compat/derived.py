"""What an old function takes over from the function of seqloss that it calls: its docstring, and its signature too.

The docstring of an old function in the source says what differs and nothing else. The rest is that of
the other function, so that no sentence is written twice and ``help`` shows all of it.
"""

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


def documented_by(original: Callable[..., Any]) -> Callable[[F], F]:
    """Fill up the docstring of a function with that of another one.

    Its text goes below the first line of the other one, its entries of Parameters replace those of the same name, and
    each other section replaces the whole section. What is taken over is made true for the function: parameters that
    it has not are left out, results have the dtype of their argument, examples call it by its own name (those of
    such parameters are left out), and references lead to where the other function has its own.
    """

    def document(function: F) -> F:
        if original.__doc__ and function.__doc__:  # python -OO has none
            function.__doc__ = _filled_up(function, original, _package(original))
        return function

    return document


def stand_in(original: Callable[P, R], module: str, differs: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a wrapper of a function the one of that name in ``module``, documented by it.

    ``differs`` ends the sentence "As the other one, ..."; sections may follow it.
    """

    def place(wrapper: Callable[P, R]) -> Callable[P, R]:
        functools.update_wrapper(wrapper, original)
        wrapper.__module__ = module  # or a pickle would look for it where the other one is
        wrapper.__doc__ = f"As :func:`{_package(original)}.{original.__name__}`, {differs}"
        return documented_by(original)(wrapper)

    return place


def _package(function: Callable[..., Any]) -> str:
    """The outermost package that has a function, which is where users find it."""
    parts = function.__module__.split(".")
    packages = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return next(name for name in packages if getattr(sys.modules[name], function.__name__, None) is function)


def _filled_up(function: Callable[..., Any], original: Callable[..., Any], package: str) -> str:
    text = re.sub(r":(func|class):`(?=\w+`)", rf":\1:`{package}.", original.__doc__ or "")
    theirs, own = sections(text), sections(function.__doc__ or "")
    # What is related to the other one is not so to this one, which names the other one already.
    theirs.pop("See Also", None)
    summary, _, rest = theirs.pop("").partition("\n\n")
    parts = [summary, own.pop(""), rest]

    about = entries(theirs["Parameters"]) | entries(own.get("Parameters", ""))
    order = list(inspect.signature(function).parameters)
    own["Parameters"] = "\n".join(about[name] for name in sorted(about.keys() & order, key=order.index))
    theirs["Returns"] = _as_given(theirs["Returns"])
    absent = [name for name in inspect.signature(original).parameters if name not in order]
    theirs["Examples"] = _without(theirs["Examples"], absent)
    there, here = f"{package}.{original.__name__}", f"{function.__module__}.{function.__name__}"
    theirs["Examples"] = _calling(theirs["Examples"], there, here)

    parts += [f"{title}\n{'-' * len(title)}\n{body}" for title, body in (theirs | own).items()]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def sections(text: str) -> dict[str, str]:
    """The sections of a docstring by their titles; what stands before them has none."""
    head, *others = re.split(r"^(\w[\w ]*)\n-+\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return {"": head, **dict(zip(others[::2], others[1::2], strict=True))}


def entries(section: str) -> dict[str, str]:
    """The entries of a section by their names; by the first one, where several share an entry."""
    found = re.split(r"^(?=\S)", section, flags=re.MULTILINE)
    return {entry.split()[0].rstrip(","): entry.rstrip() for entry in found if entry}


def show_options(cls: type, signature: inspect.Signature, function: Callable[..., Any]) -> None:
    """Let inspect, help and editors show the arguments of a class that hands them on to a function.

    What the docstring of the class does not say of them is what that of the function says.
    """
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    cls.__init__.__signature__ = inspect.Signature([own, *signature.parameters.values()])  # type: ignore[misc]
    if cls.__doc__ and function.__doc__:  # python -OO has none
        package = _package(function)
        theirs = re.sub(r":(func|class):`(?=\w+`)", rf":\1:`{package}.", function.__doc__)
        theirs = theirs.replace("see the notes", f"see :func:`{package}.{function.__name__}`")
        parts = sections(cls.__doc__)
        about = entries(sections(theirs)["Parameters"]) | entries(parts.get("Parameters", ""))
        shown = "\n".join(about[name] for name in signature.parameters)
        parts = {"": parts[""], "Parameters": "", **parts} | {"Parameters": shown}
        texts = [f"{title}\n{'-' * len(title)}\n{text}" if title else text for title, text in parts.items()]
        cls.__doc__ = "\n\n".join(text.strip() for text in texts) + "\n"


def _as_given(returns: str) -> str:
    """What is returned, in the dtype of an argument where the other function widens half precision."""
    kind, _, text = returns.partition("\n")
    text = re.sub(r"[:;] float64 for float64 (\w+), else float32", r", in the dtype of \1", " ".join(text.split()))
    return f"{kind}\n{textwrap.fill(text, 116, initial_indent='    ', subsequent_indent='    ')}"


def _without(examples: str, parameters: list[str]) -> str:
    """Examples but those that pass one of these parameters, each with the words before it."""
    kept: list[str] = []
    for paragraph in examples.split("\n\n"):
        if not any(re.search(rf"\b{name}=", paragraph) for name in parameters):
            kept.append(paragraph)
        elif kept and not kept[-1].lstrip().startswith(">>>"):
            kept.pop()
    return "\n\n".join(kept)


def _calling(examples: str, there: str, here: str) -> str:
    """Examples of a function, given by its path, as examples of another one."""
    own = here.removeprefix("seqloss.compat.")
    theirs = there.removeprefix("seqloss.") if there.count(".") > 1 else there
    root = theirs.partition(".")[0]
    line = f">>> import {root}\n" if root == "seqloss" else f">>> from seqloss import {root}\n"
    before, _, after = re.sub(rf"\b{re.escape(theirs)}\b", own, examples).partition(line)
    kept = line if f"{root}." in before + after else ""  # what else they call
    return f"{before}{kept}>>> from seqloss.compat import {own.partition('.')[0]}\n{after}"
