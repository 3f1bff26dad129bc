"""How a loss of somebody else is called, and what it returns."""

from dataclasses import dataclass

from seqloss.core.errors import ArgumentTypeError, OptionError

ROLES = ("logits", "targets", "weights")
CHOICES = {
    "layout": ("batch", "packed", "time"),
    "returns": ("tokens", "mean", "sum"),
    "gradient": ("autodiff", "returned"),
}


@dataclass(frozen=True)
class Conventions:
    """How a loss is called, and what it returns.

    Parameters
    ----------
    arguments : tuple of str, default ("logits", "targets", "weights")
        What it takes, in its order. ``"labels=targets"`` passes the targets by the keyword ``labels``. Without
        "weights" it takes none.
    layout : {"batch", "packed", "time"}, default "batch"
        The shape of the logits: [batch, time, classes], [batch * time, classes], or [time, batch, classes]. Targets,
        weights and the losses of tokens have the same without the last axis.
    returns : {"tokens", "mean", "sum"}, default "mean"
        The loss of each token, which is then multiplied by the weights (unless the function takes them itself), added
        up, and divided by the sum of the weights, as users do; or the weighted mean; or the weighted sum, which is then
        divided. All division by a sum of 0 gives 0.
    ignore_label : int, optional
        A label that leaves a token out. It takes the place of the targets where the weight is 0. A function that takes
        no weights and returns no tokens is asked with weights of 0 and 1 alone, and without such a label with none.
    gradient : {"autodiff", "returned"}, default "autodiff"
        Whether the framework differentiates, or the function returns ``(loss, gradient)``: the gradient of the logits,
        in their layout, of the loss or of the sum of the losses of the tokens. NumPy differentiates nothing.

    Raises
    ------
    OptionError
        If an option has a value that does not exist, or logits or targets are missing.
    ArgumentTypeError
        If an option is not of its type.

    See Also
    --------
    check_loss : Takes it.

    Examples
    --------
    >>> from seqloss.testing import Conventions
    >>> packed = Conventions(arguments=("logits", "labels=targets"), layout="packed", returns="tokens")
    >>> packed.takes_weights
    False
    >>> Conventions(returns="average")
    Traceback (most recent call last):
        ...
    seqloss.core.errors.OptionError: returns must be one of 'tokens', 'mean', 'sum', got 'average'
    """

    arguments: tuple[str, ...] = ROLES
    layout: str = "batch"
    returns: str = "mean"
    ignore_label: int | None = None
    gradient: str = "autodiff"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise OptionError(f"{name} must be one of {', '.join(map(repr, choices))}, got {getattr(self, name)!r}")
        if not isinstance(self.arguments, tuple) or not all(isinstance(x, str) for x in self.arguments):
            raise ArgumentTypeError(f"arguments must be a tuple of strings, got {self.arguments!r}")
        roles = [role for _, role in self.spelled]
        if not {"logits", "targets"} <= set(roles) <= set(ROLES) or len(set(roles)) < len(roles):
            raise OptionError(
                "arguments must name logits, targets and at most weights, each once and each by itself or as "
                f"'keyword=name', got {self.arguments!r}"
            )
        keywords = [bool(keyword) for keyword, _ in self.spelled]
        if sorted(keywords) != keywords:
            raise OptionError(f"in arguments a keyword cannot come before a bare name, got {self.arguments!r}")
        if self.ignore_label is not None and (
            isinstance(self.ignore_label, bool) or not isinstance(self.ignore_label, int)
        ):
            raise ArgumentTypeError(f"ignore_label must be an integer or None, got {self.ignore_label!r}")

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
    def takes_weights(self) -> bool:
        """Whether the function takes weights.

        Returns
        -------
        bool
            Whether they are among the arguments.
        """
        return any(role == "weights" for _, role in self.spelled)

    @property
    def weights(self) -> str:
        """Which weights the function can be asked with.

        Returns
        -------
        str
            "any"; "binary" where a label takes their place; or "ones".
        """
        if self.takes_weights or self.returns == "tokens":
            return "any"
        return "ones" if self.ignore_label is None else "binary"
