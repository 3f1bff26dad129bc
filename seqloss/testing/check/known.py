"""Losses of other libraries, and how each is called."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from seqloss.core.smoothing import Smoothing
from seqloss.testing.check.conventions import Conventions


class Known(NamedTuple):
    """The framework of a loss, how it is called, and what makes a function of arrays of it."""

    backend: str
    conventions: Conventions
    adapted: Callable[[Any, str], Callable[..., Any]] = lambda loss, backend: loss

    def of(self, backend: str) -> Conventions:
        """The conventions: NumPy differentiates nothing."""
        return self.conventions if backend != "numpy" else replace(self.conventions, gradient="returned")


def _weighted_mean(loss: Any, backend: str) -> Callable[..., Any]:
    """A Keras loss class, with the reduction that divides by the sum of the weights."""
    made: Callable[..., Any] = loss(from_logits=True, reduction="mean_with_sample_weight")
    return made


def _of_seqloss(loss: Any, backend: str) -> Callable[..., Any]:
    """For NumPy the function that returns its gradient."""
    import seqloss

    function: Callable[..., Any] = loss
    if backend != "numpy":
        return function
    return (
        partial(seqloss.sequence_loss_and_grad, **loss.keywords)
        if isinstance(loss, partial)
        else (seqloss.sequence_loss_and_grad)
    )


def _of_linear(loss: Any, backend: str) -> Callable[..., Any]:
    """The same of the linear loss, with the gradients of all three."""
    import seqloss

    function: Callable[..., Any] = loss
    if backend != "numpy":
        return function
    given = loss.keywords if isinstance(loss, partial) else {}
    return partial(seqloss.linear_sequence_loss_and_grad, wrt=("hidden", "kernel", "bias"), **given)


_IGNORING = Conventions(("logits", "targets"), layout="packed", ignore_label=-100)
_TOKENS = Conventions(("logits", "targets"), returns="tokens")
KNOWN = {
    "torch.nn.functional.cross_entropy": Known("torch", _IGNORING),
    "torch.nn.functional.linear_cross_entropy": Known(
        "torch",
        Conventions(("hidden", "embedding", "targets"), layout="packed", ignore_label=-100),
    ),
    "optax.softmax_cross_entropy_with_integer_labels": Known("jax", _TOKENS),
    "tensorflow.nn.sparse_softmax_cross_entropy_with_logits": Known(
        "tensorflow", Conventions(("labels=targets", "logits=logits"), returns="tokens")
    ),
    "keras.losses.SparseCategoricalCrossentropy": Known(
        "tensorflow", Conventions(("targets", "logits", "weights")), _weighted_mean
    ),
    "seqloss.sequence_loss": Known("numpy", Conventions(), _of_seqloss),
    "seqloss.linear_sequence_loss": Known(
        "numpy", Conventions(("hidden", "kernel", "targets", "weights", "bias=bias")), _of_linear
    ),
}
"""By the name under which each is public."""


def _numbers(value: Any) -> tuple[float, ...] | None:
    """One for each class, of an array of any framework."""
    if value is None:
        return None
    listed = value.detach().tolist() if hasattr(value, "detach") else getattr(value, "tolist", lambda: value)()
    return tuple(map(float, listed if isinstance(listed, (list, tuple)) else value))


def _smoothing(value: Any) -> Any:
    return value._replace(prior=_numbers(value.prior)) if isinstance(value, Smoothing) else value


_UNKNOWN = {"axis", "from_logits"}
"""With these keywords a known loss has conventions that are not known."""

_SAID: dict[str, Callable[[Any], dict[str, Any]]] = {
    "ignore_index": lambda value: {"ignore_label": value},
    "ignore_class": lambda value: {"ignore_label": value},
    "reduction": lambda value: {"returns": {"none": "tokens"}.get(value, value)},
    "label_smoothing": lambda value: {"label_smoothing": _smoothing(value)},
    **dict.fromkeys(("weight", "class_weights"), lambda value: {"class_weights": _numbers(value)}),
    "z_loss": lambda value: {"z_loss": value},
    "softcap": lambda value: {"softcap": value},
}
"""What other keywords say of its conventions."""


def whole(loss: Any) -> Any:
    """The function of which ``functools.partial`` made the loss."""
    while isinstance(loss, partial):
        loss = loss.func
    return loss


def known(loss: Any) -> tuple[str, Known] | None:
    """What is known of a loss, with its public name. The libraries are looked for only where they are imported."""
    keywords: dict[str, Any] = {}
    # A partial of a partial is one, with all of its arguments.
    if isinstance(loss, partial):
        if loss.args or _UNKNOWN & set(loss.keywords):
            return None
        keywords, loss = loss.keywords, whole(loss)
    for name, entry in KNOWN.items():
        package, *path = name.split(".")
        found: Any = sys.modules.get(package)
        for part in path:
            found = getattr(found, part, None)
        if found is not None and found is loss:
            said = [_SAID[keyword](value) for keyword, value in keywords.items() if keyword in _SAID]
            changed = {key: value for each in said for key, value in each.items()}
            return name, entry._replace(conventions=replace(entry.conventions, **changed))
    return None
