"""Whether any loss is right: the invariants of the suite, checked for any callable."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from seqloss.core import extras
from seqloss.core.errors import ArgumentTypeError, BackendError, OptionError
from seqloss.testing import frameworks
from seqloss.testing.check.adapted import Adapted
from seqloss.testing.check.conventions import Conventions
from seqloss.testing.check.finding import Finding
from seqloss.testing.check.judging import findings, not_asked
from seqloss.testing.check.known import known, whole
from seqloss.testing.check.resolving import resolve
from seqloss.testing.check.result import LossCheck
from seqloss.testing.check.subjects import subject
from seqloss.testing.check.text import option
from seqloss.testing.check.trying import try_out
from seqloss.testing.invariants import EVERY, INVARIANTS, LINEAR_INVARIANTS, Invariant

__all__ = ["Conventions", "Finding", "LossCheck", "check_loss", "resolve"]


def check_loss(
    fn: Callable[..., Any],
    *,
    backend: str | None = None,
    conventions: Conventions | Mapping[str, Any] | None = None,
    modes: Iterable[str] | None = None,
    invariants: Iterable[str] | None = None,
    seed: int = 0,
) -> LossCheck:
    """Check any loss against everything that correct sequence losses have in common.

    Whatever it returns is turned into the weighted mean of the token losses, in nats, with its gradient ::

        mean = sum(weights * loss) / sum(weights)

    where each loss is the cross entropy, changed by the smoothing, class weights, z-loss and softcap of the
    conventions. It is checked against each of the invariants in :mod:`seqloss.testing.invariants`: tokens that do not
    count, labels that are not classes, batches that are split, reordered or shifted, sizes, dtypes and memory layouts,
    extreme logits, counts in half precision, upstream gradients, gradients with respect to the weights, second
    derivatives, compiled code, ``vmap``, and what a call or a setting leaves behind. Each judges one thing and is
    lenient about the rest; a batch that violates one is made as small and plain as possible while it still fails in the
    same way.

    Parameters
    ----------
    fn : callable
        The loss: a function of arrays of one framework that is called and returns as the conventions say.
    backend : {"numpy", "torch", "tensorflow", "jax"}, optional
        Its framework, which must be installed. None: that of a known loss, or of the package that has the function
        (optax and flax are for JAX, keras is for TensorFlow).
    conventions : Conventions or mapping of str to object, optional
        How it is called and what it returns; in a mapping, only what differs from the default. The default, also of
        None, is the conventions of a known loss, else ``Conventions()``, with ``gradient="returned"`` for NumPy. Known
        are ``torch.nn.functional.cross_entropy`` and ``linear_cross_entropy`` (with the identity as its weight),
        ``optax.softmax_cross_entropy_with_integer_labels``, ``tf.nn.sparse_softmax_cross_entropy_with_logits``, the
        class ``keras.losses.SparseCategoricalCrossentropy`` (from logits, with its weighted mean), and
        :func:`seqloss.sequence_loss`; each also as a ``functools.partial`` of keywords, of which ``ignore_index``,
        ``ignore_class``, ``reduction``, ``label_smoothing``, ``weight``, ``class_weights``, ``z_loss`` and ``softcap``
        change its conventions.
    modes : iterable of str, optional
        The compiled forms to compare with eager code: "inductor" for torch, "function" and "xla" for TensorFlow,
        "jit" for JAX, or another mode of ``seqloss.testing.frameworks``. None: all of the former.
    invariants : iterable of str, optional
        The names of the invariants to check. None: all.
    seed : int, default 0
        The seed of all random arrays, at least 0. The same seed gives the same findings.

    Returns
    -------
    LossCheck
        A verdict for each; true if none is violated. Its ``report()`` is for people, ``as_dict()`` for JSON.

    Raises
    ------
    OptionError
        If no framework is known, if a name does not exist, if NumPy should differentiate, or if the loss cannot be
        called, or does not return, as the conventions say.
    ArgumentTypeError
        If an argument is not of its type.
    BackendError
        If the framework is not installed.

    See Also
    --------
    explain_mismatch : Says which convention is behind two different numbers.

    Notes
    -----
    A violation is a fact about the loss, not always a mistake in it: whether a mask must hide NaN is for its users to
    decide. Its ``kind`` says whether a result is wrong, a refusal is missing, or digits are lost. An exception is a
    right answer to a bad label and to a second derivative. A loss that returns half-precision numbers may round them.
    An invariant is not applicable if it cannot be checked, because the loss has no weights or no label to ignore, or
    because this machine has no compiler. Nor is it applicable if it does not hold for the objective: behind a softcap a
    constant that is added to all logits does not cancel.

    Warnings of the loss are not shown.

    Examples
    --------
    >>> import numpy as np
    >>> from seqloss.testing import check_loss
    >>> def loss_and_grad(logits, targets, weights):
    ...     p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    ...     onehot = np.arange(logits.shape[-1]) == targets[..., None]
    ...     loss = (-np.log(p[onehot]) * weights.ravel()).mean()  # over the padding too
    ...     return loss, (p - onehot) * weights[..., None] / weights.size
    >>> found = check_loss(loss_and_grad, backend="numpy", invariants=["padding", "permutation"])
    >>> found.holds
    False
    >>> print(found.findings[0].detail)
    the value after padding with rows: 0.346573591
    >>> found.findings[0].example["weights"]  # one token that counts, and one that does not
    [[1.0], [0.0]]
    """
    return run(fn, backend, conventions, modes, invariants, seed)


def run(
    fn: Callable[..., Any],
    backend: str | None,
    conventions: Conventions | Mapping[str, Any] | None,
    modes: Iterable[str] | None,
    invariants: Iterable[str] | None,
    seed: int,
    shell: bool = False,
    told: Callable[[LossCheck, Sequence[str]], None] = lambda check, names: None,
) -> LossCheck:
    """:func:`check_loss`. ``shell``: errors speak of options of the command line.

    ``told`` is called before the first invariant with a check that has no findings and the names of all, and after each
    with a check of its findings and its name.
    """
    name, fn, backend, conventions = _completed(fn, backend, conventions, shell)
    beyond = _BEYOND if conventions.layer else {}
    driver = _driver(backend)
    chosen = _chosen(invariants, conventions)
    adapted = Adapted(fn, conventions, driver)
    asked = subject(adapted, _modes(modes, driver, conventions))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ArgumentTypeError(f"seed must be an integer of at least 0, got {seed!r}")
    with _quiet(), driver.many_shapes():
        try_out(adapted, name, shell)
        whole = LossCheck(name, backend, conventions, seed, ())
        told(whole, [invariant.name for invariant in chosen])
        for invariant in chosen:
            reason = beyond.get(invariant.name)
            found = (not_asked(invariant, reason),) if reason else tuple(findings(asked, invariant, seed))
            told(replace(whole, findings=found), [invariant.name])
            whole = replace(whole, findings=(*whole.findings, *found))
    return whole


_BEYOND = {
    "impossible_classes": "its logits are products, which are never -inf without a NaN next to it",
    "many_classes": "the identity of so many classes does not fit memory; kernel_gradients has many",
}
"""What a loss that makes the logits itself is not asked for, and why."""


def _completed(
    fn: Any, backend: str | None, conventions: Conventions | Mapping[str, Any] | None, shell: bool
) -> tuple[str, Callable[..., Any], str, Conventions]:
    """Name, function, framework and conventions, where they are known."""
    if not callable(fn):
        raise ArgumentTypeError(f"fn must be a callable, got {fn!r}; seqloss.testing.check.resolve imports a named one")
    if conventions is not None and not isinstance(conventions, (Conventions, Mapping)):
        raise ArgumentTypeError(
            f"conventions must be a seqloss.testing.Conventions, a mapping or None, got {conventions!r}"
        )
    entry = known(fn)
    function = whole(fn)
    module = getattr(function, "__module__", None) or ""
    name = entry[0] if entry else _name(function)
    if backend is None:
        backend = entry[1].backend if entry else frameworks.of_package(module.partition(".")[0])
    if backend is None:
        raise OptionError(
            f"the framework of {name} is not known; pass backend=, one of {', '.join(map(repr, frameworks.NAMES))}, "
            "and conventions="
        )
    if not isinstance(conventions, Conventions):
        usual = Conventions(gradient="returned" if backend == "numpy" else "autodiff")
        if entry is not None:
            fn, usual = entry[1].adapted(fn, backend), entry[1].of(backend)
        conventions = _changed(usual, conventions or {})
    if backend == "numpy" and conventions.gradient == "autodiff":
        raise OptionError(
            "NumPy differentiates nothing; pass a function that returns (loss, gradient), and "
            + option("gradient", "returned", shell)
        )
    return name, fn, backend, conventions


def _name(function: Any) -> str:
    """``module:function``; of a method with the class that it was taken from, which may have inherited it."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__module__}:{owner.__qualname__}.{function.__name__}"
    qualified = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or ''}:{qualified}"


def _changed(usual: Conventions, said: Mapping[str, Any]) -> Conventions:
    names = [field.name for field in fields(Conventions)]
    unknown = [name for name in said if name not in names]
    if unknown:
        raise OptionError(f"conventions are {', '.join(names)}, got {', '.join(map(str, unknown))}")
    return replace(usual, **said)


def _driver(backend: str) -> Any:
    if backend not in frameworks.NAMES:
        raise OptionError(f"backend must be one of {', '.join(map(repr, frameworks.NAMES))}, got {backend!r}")
    try:
        return frameworks.load(backend)
    except ImportError as error:
        raise BackendError(f"{backend} cannot be imported: {error}; {extras.add(backend)}") from error


def _chosen(names: Iterable[str] | None, conventions: Conventions) -> list[Invariant]:
    if names is None:
        return [*INVARIANTS.values(), *(LINEAR_INVARIANTS.values() if conventions.layer else ())]
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in EVERY]
    if unknown or not names:
        raise OptionError(f"invariants must be names out of {', '.join(EVERY)}, got {unknown or names}")
    return [invariant for name, invariant in EVERY.items() if name in names]


def _modes(names: Iterable[str] | None, driver: Any, conventions: Conventions) -> tuple[str, ...]:
    if names is None:
        return tuple(driver.COMPILERS)
    names = (names,) if isinstance(names, str) else tuple(names)
    others = () if conventions.gradient == "returned" else [mode for mode in driver.MODES if mode != "eager"]
    legal = (*driver.COMPILERS, *others)
    unknown = [name for name in names if name not in legal]
    if unknown:
        raise OptionError(
            f"modes of {driver.name} are {', '.join(legal) or 'none'}, got {', '.join(map(str, unknown))}"
        )
    return names


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
