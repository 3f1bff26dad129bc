"""How any loss is called, and what it returns."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, get_args

from seqloss.core import objectives
from seqloss.core.errors import ArgumentTypeError, OptionError
from seqloss.core.smoothing import Smoothing

THIRD = ("weights", "mask", "float_mask", "lengths")
LAYER = ("hidden", "kernel", "embedding", "bias")
"""What a linear loss takes in place of the logits: hidden states, and the weights of its layer in either layout."""

ROLES = ("logits", "targets", *THIRD, *LAYER)
Layout = Literal["batch", "packed", "time"]
Returns = Literal["tokens", "mean", "sum", "sum_and_count"]
Gradient = Literal["autodiff", "returned"]
Denominator = Literal["weights", "weights_alone", "tokens", "positions", "batch"]
CHOICES: dict[str, tuple[str, ...]] = {
    "layout": get_args(Layout),
    "returns": get_args(Returns),
    "gradient": get_args(Gradient),
    "denominator": get_args(Denominator),
}
FEW = 64
"""The most classes that numbers for each of them may be for: some batches have tens of thousands of tokens."""


@dataclass(frozen=True)
class Conventions:
    """How a loss is called, and what it returns.

    Parameters
    ----------
    arguments : tuple of str, default ("logits", "targets", "weights")
        The arguments that it takes, in order. ``"labels=targets"`` passes the targets by the keyword ``labels``. In the
        place of "weights" may be "mask", which is True where a token counts, "float_mask", the same in zeros and ones,
        or "lengths" [batch], the number of tokens that count in each sequence. Without one of these it takes no
        weights. A loss that computes the logits itself takes "hidden", in the layout of the logits, in their place,
        and "kernel" [features, classes] or "embedding" [classes, features]; and "bias" if it has one.
    layout : {"batch", "packed", "time"}, default "batch"
        The shape of the logits: [batch, time, classes], [batch * time, classes], or [time, batch, classes]. Targets,
        weights and the losses of tokens have the same without the last axis.
    returns : {"tokens", "mean", "sum", "sum_and_count"}, default "mean"
        The loss of each token, which is then multiplied by the weights (unless the function takes them itself), added
        up, and divided by the sum of the weights, as users do; or the weighted mean; or the weighted sum, which is then
        divided; or the weighted sum and what it is divided by. All division by a sum of 0 gives 0.
    ignore_label : int, optional
        A label that leaves a token out, which may be a class. It takes the place of the targets where the weight is 0,
        and no other token gets it. A function that takes
        no weights and returns no tokens is checked with weights of 0 and 1 only, and without such a label with none.
    gradient : {"autodiff", "returned"}, default "autodiff"
        Whether the framework differentiates, or the function returns ``(loss, gradient)``: the gradient of the logits,
        in their layout, of the loss or of the sum of the losses of the tokens. Of a loss that makes the logits itself
        this is a tuple of the gradients of hidden, kernel or embedding, and bias. NumPy differentiates nothing.
    weight_gradient : bool, default True
        Whether a function that takes weights has a gradient with respect to them.
    label_smoothing : float or Smoothing, default 0.0
        How its labels are smoothed, as in :func:`seqloss.sequence_loss`. A prior is a tuple of numbers.
    class_weights : tuple of float, optional
        The weight of each class. All batches have as many classes: take a loss with a few, 2 to 64. No token that
        counts has the label of a class of weight 0.
    z_loss : float, default 0.0
        The factor of the squared log-sum-exp that is added to the loss of each token.
    softcap : float, optional
        The cap of the logits: they become ``softcap * tanh(logits / softcap)``.
    denominator : {"weights", "weights_alone", "tokens", "positions", "batch"}, default "weights"
        What the mean that the function returns, or its count, is divided by: the sum of the weights, each times the
        class weight of its label if there are class weights; that without class weights; the number of weights that are
        not 0; the number of all positions, padding included; or the number of sequences. What returns tokens or a plain
        sum has none.

    Raises
    ------
    OptionError
        If an option has a value that does not exist, if logits or targets are missing, or if options contradict each
        other.
    ArgumentTypeError
        If an option is not of its type.

    See Also
    --------
    check_loss : Uses it.

    Examples
    --------
    >>> from seqloss.testing import Conventions
    >>> packed = Conventions(arguments=("logits", "labels=targets"), layout="packed", returns="tokens")
    >>> packed.takes_weights
    False
    >>> Conventions(returns="average")
    Traceback (most recent call last):
        ...
    seqloss.OptionError: returns must be one of 'tokens', 'mean', 'sum',
    'sum_and_count', got 'average'
    """

    arguments: tuple[str, ...] = ("logits", "targets", "weights")
    layout: Layout = "batch"
    returns: Returns = "mean"
    ignore_label: int | None = None
    gradient: Gradient = "autodiff"
    weight_gradient: bool = True
    label_smoothing: float | Smoothing = 0.0
    class_weights: tuple[float, ...] | None = None
    z_loss: float = 0.0
    softcap: float | None = None
    denominator: Denominator = "weights"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"{name} must be one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}")
        if not isinstance(self.arguments, tuple) or not all(isinstance(x, str) for x in self.arguments):
            raise ArgumentTypeError(f"arguments must be a tuple of strings, got {self.arguments!r}")
        roles = [role for _, role in self.spelled]
        scores = [role for role in roles if role not in ("targets", *THIRD)]
        others = sorted(role for role in roles if role in ("targets", *THIRD))
        layers = [["hidden", matrix, *bias] for matrix in ("kernel", "embedding") for bias in ((), ("bias",))]
        if sorted(scores) not in map(sorted, (["logits"], *layers)) or others not in [
            sorted(["targets", *third]) for third in ((), *((x,) for x in THIRD))
        ]:
            raise OptionError(
                f"arguments must name logits, targets and at most one of {', '.join(THIRD)}, each once and each by "
                f"itself or as 'keyword=name', or in the place of logits hidden, kernel or embedding, and a bias if "
                f"there is one, got {self.arguments!r}"
            )
        if self.third == "lengths" and self.layout == "packed":
            raise OptionError("lengths need a time axis, and the layout 'packed' has none")
        if self.returns == "sum_and_count" and self.gradient == "returned":
            raise OptionError("a function that returns (sum, count) returns no gradient with it")
        keywords = [bool(keyword) for keyword, _ in self.spelled]
        if sorted(keywords) != keywords:
            raise OptionError(f"in arguments a keyword cannot come before a bare name, got {self.arguments!r}")
        if self.ignore_label is not None and (
            isinstance(self.ignore_label, bool) or not isinstance(self.ignore_label, int)
        ):
            raise ArgumentTypeError(f"ignore_label must be an integer or None, got {self.ignore_label!r}")
        if not isinstance(self.weight_gradient, bool):
            raise ArgumentTypeError(f"weight_gradient must be True or False, got {self.weight_gradient!r}")
        self._check_objective()
        self._check_denominator()

    def _check_objective(self) -> None:
        given = objectives.smoothing(self.label_smoothing)
        objectives.z_loss(self.z_loss)
        objectives.softcap(self.softcap)
        objectives.together(given, self.class_weights is not None)
        sizes = {len(_numbers(name, x)) for name, x in self._by_class(given) if x is not None}
        if len(sizes) > 1:
            raise OptionError("class_weights and Smoothing.prior must have the same number of classes")
        objectives.excluded(given.exclude, min(sizes, default=FEW))

    def _by_class(self, given: Smoothing) -> tuple[tuple[str, Any], ...]:
        return ("class_weights", self.class_weights), ("Smoothing.prior", given.prior)

    def _check_denominator(self) -> None:
        if self.denominator == "weights":
            return
        if self.returns in ("tokens", "sum"):
            raise OptionError(
                f"a loss of returns={self.returns!r} has no denominator, and is divided by the sum of its weights; "
                "leave the denominator out"
            )
        if self.denominator == "batch" and self.layout == "packed":
            raise OptionError("a denominator of 'batch' needs a batch axis, and the layout 'packed' has none")

    @property
    def spelled(self) -> tuple[tuple[str, str], ...]:
        """The arguments in order.

        Returns
        -------
        tuple of (str, str)
            For each its keyword, "" for a positional one, and which of the arrays it is.
        """
        pairs = (text.rpartition("=") for text in self.arguments)
        return tuple((keyword.strip(), role.strip()) for keyword, _, role in pairs)

    @property
    def third(self) -> str:
        """What tells the function which tokens count.

        Returns
        -------
        str
            "weights", "mask", "float_mask", "lengths", or "" for nothing.
        """
        return next((role for _, role in self.spelled if role in THIRD), "")

    @property
    def layer(self) -> tuple[str, ...]:
        """What the function takes in the place of logits, if it makes them itself.

        Returns
        -------
        tuple of str
            "hidden", "kernel" or "embedding", and "bias" if there is one; () for a loss of logits.
        """
        roles = [role for _, role in self.spelled]
        return tuple(role for role in LAYER if role in roles)

    @property
    def takes_weights(self) -> bool:
        """Whether the function takes weights, or what is in their place.

        Returns
        -------
        bool
            Whether they are among the arguments.
        """
        return self.third != ""

    @property
    def weights(self) -> str:
        """Which weights the function can be checked with.

        Returns
        -------
        str
            "any"; "binary" where a mask or a label takes their place; "prefix" where lengths do; or "ones".
        """
        if self.third:
            return {"weights": "any", "lengths": "prefix"}.get(self.third, "binary")
        if self.returns == "tokens":
            return "any"
        return "ones" if self.ignore_label is None else "binary"


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """One number for each of a few classes, of which some are not 0."""
    if not isinstance(value, tuple) or not all(isinstance(x, (int, float)) for x in value):
        raise ArgumentTypeError(f"{name} must be a tuple of numbers or None, got {value!r}")
    if not 2 <= len(value) <= FEW:
        raise OptionError(
            f"{name} must be numbers for 2 to {FEW} classes, got {len(value)} of them; check the loss with few classes"
        )
    if not all(isfinite(x) and x >= 0 for x in value) or not any(value):
        raise OptionError(f"{name} must be finite and not negative, and one of them more than 0, got {value!r}")
    return value
