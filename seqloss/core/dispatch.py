"""From arrays to backends: the only file that names the four frameworks.

A framework is considered only if the program has imported it (``sys.modules``), so seqloss imports none, and a broken
install of a framework that is not in use does no harm. Ownership is checked with ``isinstance`` on the object, because
the tracers of a jitted function (jax 0.10.2) pass ``isinstance`` but fail ``issubclass`` on their type.
"""

import importlib
import sys
from typing import Any, cast

from seqloss.core.argument import Argument
from seqloss.core.errors import ArgumentTypeError, BackendError, DeviceError, MixedBackendsError, ShapeError
from seqloss.core.protocol import Array, Backend

BUILTIN = ("numpy", "torch", "tensorflow", "jax")
ALIASES = {"tf": "tensorflow", "pytorch": "torch"}
"""What people call frameworks beside the names of their modules."""

# NumPy is checked last: it is always imported, and calls with arrays of another framework need not wait for it.
_adapters = {framework: f"seqloss.backends.{framework}" for framework in (*BUILTIN[1:], BUILTIN[0])}

# Modules that most arrays of a framework have their class from. torch.compile (torch 2.13) would spend a third of its
# time in the plain search, because it makes a variable of each entry of sys.modules; and NumPy need not wait for the
# others.
_asked_at_once = frozenset(("numpy", "torch"))


def register_backend(framework: str, adapter_module: str) -> None:
    """Add a backend for the arrays of another framework.

    Parameters
    ----------
    framework : str
        The name of the framework's top-level module. The backend is consulted once that module is in ``sys.modules``,
        after the built-in backends and those that were registered before.
    adapter_module : str
        The full name of a module that fulfils :class:`seqloss.core.protocol.Backend`. It is imported when the first
        array that no earlier backend owns is looked up.

    Raises
    ------
    BackendError
        If the framework has a backend already, or is no top-level module.
    ArgumentTypeError
        If an argument is not a string.

    Notes
    -----
    Nothing is imported here, so a registration costs nothing in programs that never use the framework. The effect is
    for the whole process and cannot be undone. The gradient of the loss is whatever the adapter's ``differentiable``
    and ``run`` say; ``sequence_loss_and_grad`` uses the adapter's pullbacks. Under tracing the adapter's facts
    (``shape``, ``location``, ...) decide what is checked.

    Examples
    --------
    >>> import seqloss
    >>> seqloss.register_backend("numpy", "my_package.numpy_adapter")
    Traceback (most recent call last):
        ...
    seqloss.BackendError: the framework 'numpy' has a backend already (seqloss.backends.numpy)
    """
    for name, value in (("framework", framework), ("adapter_module", adapter_module)):
        if not isinstance(value, str):
            raise ArgumentTypeError(f"{name} must be the name of a module as a string, got {value!r}")
    if "." in framework:
        top = framework.partition(".")[0]
        raise BackendError(f"framework must be a top-level module, got {framework!r}; is it {top!r}?")
    if framework in _adapters:
        raise BackendError(f"the framework {framework!r} has a backend already ({_adapters[framework]})")
    _adapters[framework] = adapter_module


def frameworks() -> tuple[str, ...]:
    """The names of all frameworks that have a backend, installed or not."""
    return *BUILTIN, *(framework for framework in _adapters if framework not in BUILTIN)


def framework_called(name: str) -> str:
    """The framework that is meant by a name in an option, which may be an alias."""
    return name if name in _adapters else ALIASES.get(name, name)


def load(framework: str) -> Backend:
    """The backend of a framework, which is imported if need be."""
    if framework not in _adapters:
        raise BackendError(f"unknown backend {framework!r}; choose from {', '.join(frameworks())}")
    return cast(Backend, _import(framework))


def _import(framework: str) -> Any:
    # Import statements, because torch.compile(fullgraph=True) can trace through them on a cold start. It cannot trace
    # through importlib (torch 2.13), could not fill a cache of our own, and guards what is read from sys.modules.
    if framework == "numpy":
        import seqloss.backends.numpy as numpy

        return numpy
    if framework == "torch":
        import seqloss.backends.torch as torch

        return torch
    if framework == "tensorflow":
        import seqloss.backends.tensorflow as tensorflow

        return tensorflow
    if framework == "jax":
        import seqloss.backends.jax as jax

        return jax
    try:
        return importlib.import_module(_adapters[framework])
    except ImportError as error:
        raise BackendError(
            f"the backend {_adapters[framework]!r}, registered for {framework!r}, cannot be imported: {error}"
        ) from error


def backend_of(x: Any) -> tuple[str, Backend] | None:
    """The framework that ``x`` is an array of, with its backend; None if it is no array."""
    module = type(x).__module__
    if module in _asked_at_once:
        backend = _import(module)
        if backend.owns(x):
            return module, backend
    for framework in _adapters:
        if framework in sys.modules:
            backend = _import(framework)
            if backend.owns(x):
                return framework, backend
    return None


def beside(main: Argument, name: str, value: Any, opens: bool = False) -> Argument:
    """An argument given together with ``main``: an array of the same framework and device, or a host value."""
    other = _owned(name, value, main.facts, opens) if main.facts.owns(value) else argument(name, value)
    if other.facts is not main.facts:
        if not is_host(value):
            here, there = _framework(main), _framework(other)
            # A traced array cannot become a NumPy array, but NumPy logits can always become an array of its framework.
            mend = f"convert {main.name} to {there}" if here == "numpy" else f"pass {name} as a {here} or NumPy array"
            raise MixedBackendsError(f"{main.name} is a {here} array but {name} is a {there} array; {mend}")
        return Argument(name, other.value, other.facts, other.shape, other.dtype, is_host=True)
    place, other_place = main.facts.device(main.value), main.facts.device(other.value)
    if place != other_place:
        raise DeviceError(f"{main.name} is on {place} but {name} is on {other_place}; move {name} to {place}")
    return other


def place(backend: Backend, argument: Argument, like: Array) -> Array:
    """The value of an argument as an array of the backend, beside ``like``."""
    return backend.asarray(argument.value, like=like)


def is_host(x: Any) -> bool:
    """Whether ``x`` is a host value: a number, a list, or a NumPy array, which any backend accepts."""
    if isinstance(x, (bool, int, float, list, tuple)):
        return True
    return "numpy" in sys.modules and load("numpy").owns(x)


def argument(name: str, value: Any, opens: bool = False) -> Argument:
    """An argument in its own framework; lists and numbers become NumPy arrays.

    With ``opens`` a ragged array becomes its values, and else is an error.
    """
    if isinstance(value, (bool, int, float, list, tuple)):
        refuse_packed(name, value)
        return _owned(name, _from_list(name, value), load("numpy"))
    found = backend_of(value)
    if found is None:
        _refuse_replicas(name, value)
        what = "None" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}"
        raise ArgumentTypeError(
            f"{name} is {what}, not an array; pass an array of {', '.join(frameworks())}, or a list of numbers"
            f"{_not_imported()}"
        )
    return _owned(name, value, found[1], opens)


def _not_imported() -> str:
    """A remark on registered names without an imported module: perhaps they were misspelt."""
    absent = [name for name in _adapters if name not in BUILTIN and name not in sys.modules]
    return f" ({', '.join(absent)}: registered, but no module of that name is imported)" if absent else ""


def refuse_packed(name: str, value: Any) -> None:
    """The packed sequences of PyTorch are tuples, but not lists of numbers. The name of the class tells."""
    kind = type(value)
    if kind.__name__ == "PackedSequence" and kind.__module__.startswith("torch."):
        _not_dense(name, value, "torch.nn.utils.rnn.pad_packed_sequence({0}, batch_first=True)[0]")


def _refuse_replicas(name: str, value: Any) -> None:
    """What a strategy of TensorFlow has for all replicas is not an array of one. The module of the class tells."""
    if type(value).__module__ == "tensorflow.python.distribute.values":
        raise ArgumentTypeError(
            f"{name} is a {type(value).__qualname__}, which holds a value for each replica; call the function inside "
            "strategy.run, where each replica has its own"
        )


def _not_dense(name: str, value: Any, mend: str) -> None:
    raise ArgumentTypeError(
        f"{name} is a {type(value).__qualname__}, not a dense array; pass {mend.format(name)} "
        "and give the tokens that it leaves out weight 0"
    )


def _owned(name: str, value: Any, backend: Backend, opens: bool = False) -> Argument:
    """An array of this backend as an argument, if it is dense or can be opened to a dense one."""
    mend, packed = backend.dense_form(value), None
    if mend is not None:
        form = backend.packed_form(value) if opens else None
        if form is None:
            _not_dense(name, value, mend)
        else:
            value, packed = form[0], form[1:]
    array = backend.asarray(value)
    return Argument(name, array, backend, backend.shape(array), backend.dtype(array), False, packed)


def _framework(argument: Argument) -> str:
    return next(name for name in _adapters if name in sys.modules and load(name) is argument.facts)


def _from_list(name: str, value: Any) -> Array:
    """A list or number as a NumPy array; a list of arrays is refused, because np.asarray would copy them unasked."""
    import numpy as np

    kind = "list" if isinstance(value, list) else type(value).__qualname__
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, (list, tuple)):
            pending.extend(item)
        elif not is_host(item) or (load("numpy").owns(item) and load("numpy").dense_form(item)):
            mend = "stack it to one array first" if hasattr(item, "shape") else f"a {kind} must hold numbers only"
            raise ArgumentTypeError(f"{name} is a {kind} that holds a {type(item).__qualname__}; {mend}")
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(
            f"{name} is a ragged {kind}; pad its rows to one length and give the padding weight 0"
        ) from None
