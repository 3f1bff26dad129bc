"""One plain call of a loss, judged by its conventions: its arguments, and its answer."""

import inspect
from collections.abc import Callable
from typing import Any

from seqloss.core.errors import OptionError
from seqloss.testing.check.conventions import ROLES, Conventions
from seqloss.testing.check.known import whole
from seqloss.testing.check.text import option, spelled


class PlainCall:
    """The call, for the errors that tell of it.

    ``arrays`` are the logits, targets and weights in the framework of ``driver``; ``shell``: errors speak of options of
    the command line.
    """

    def __init__(
        self,
        name: str,
        loss: Callable[..., Any],
        conventions: Conventions,
        driver: Any,
        arrays: list[Any],
        shell: bool,
    ) -> None:
        self.name, self.loss, self.conventions, self.driver, self.shell = name, loss, conventions, driver, shell
        self.shapes = [tuple(x.shape) for x in arrays]

    def failed(self, error: BaseException) -> str:
        """What is wrong with a loss that raised an error."""
        if isinstance(whole(self.loss), type):
            return self._of_a_class()
        return (
            f"{self.name} raised {type(error).__name__} for plain arrays of the shapes "
            f"{', '.join(map(str, self.shapes))}: {error}; {self._signature()}are these its conventions? "
            f"{spelled(self.conventions, self.shell)}"
        )

    def check(self, said: Any) -> None:
        """Refuse what is not what the conventions say."""
        if isinstance(whole(self.loss), type) and isinstance(said, whole(self.loss)):
            raise OptionError(self._of_a_class())
        if self.conventions.returns == "sum_and_count":
            if not (isinstance(said, (tuple, list)) and len(said) == 2):
                raise OptionError(
                    f"{self.name} must return (sum, count) according to its conventions, "
                    f"{self._option('returns', 'sum_and_count')}, got {_kind(said)}"
                )
            said = said[0]
        if self.conventions.gradient != "returned":
            self._check_array(said)
            self._check_shape(tuple(said.shape))
            return
        if not (isinstance(said, (tuple, list)) and len(said) == 2):
            raise OptionError(
                f"{self.name} must return (loss, gradient) according to its conventions, "
                f"{self._option('gradient', 'returned')}, got {_kind(said)}; {self._mend(said)}"
            )
        value, gradient = said
        if self.conventions.layer:
            gradient = self._first(gradient)
        if not isinstance(value, float):  # a Python number is enough where nothing has to be differentiated
            self._check_array(value)
        self._check_shape(tuple(getattr(value, "shape", ())))
        gradient = self._check_array(gradient, "gradient")
        if tuple(gradient.shape) != self.shapes[0]:
            raise OptionError(
                f"{self.name} returned a gradient of shape {tuple(gradient.shape)}, expected that of the logits, "
                f"{self.shapes[0]} for {self._option('layout', self.conventions.layout)}"
            )

    def _first(self, gradients: Any) -> Any:
        """The gradient of hidden, of those of a linear layer."""
        names = self.conventions.layer
        if not (isinstance(gradients, (tuple, list)) and len(gradients) == len(names)):
            raise OptionError(
                f"{self.name} must return (loss, ({', '.join(names)})) by its conventions, gradients as a tuple, got "
                f"{_kind(gradients)} in their place"
            )
        return gradients[0]

    def _check_array(self, x: Any, what: str = "loss") -> Any:
        """The loss or the gradient as an array, which it must be, with floats of the framework."""
        driver, found = self.driver, x
        if not driver.is_array(x):
            try:
                found = driver.dense(x)  # a gradient of few rows
            except AttributeError:
                found = None
        if found is None or not driver.is_array(found):
            raise OptionError(
                f"{self.name} returned {_kind(x)} as the {what}, expected an array of {driver.name}; {self._mend(x)}"
            )
        if "float" not in driver.dtype(found):
            raise OptionError(
                f"{self.name} returned a {what} of dtype {driver.dtype(found)}, expected floats, as the logits are"
            )
        return found

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        tokens = self.shapes[1]
        layout, returns = self.conventions.layout, self.conventions.returns
        expected = tokens if returns == "tokens" else ()
        if shape == expected:
            return
        others = {(): ("mean", "sum"), tokens: ("tokens",)}.get(shape)
        mend = "no convention has this shape, wrap the loss in a function that returns one number"
        if others is not None:
            mend = f"pass what it is, {' or '.join(self._option('returns', other) for other in others)}"
        raise OptionError(
            f"{self.name} returned a loss of shape {shape}, expected {expected} for {self._option('returns', returns)} "
            f"and {self._option('layout', layout)}; {mend}"
        )

    # --- what to do about it

    def _mend(self, x: Any) -> str:
        """What to write instead of the function that returned this."""
        framework = self.driver.name
        if self.conventions.gradient == "returned":
            other = "" if framework == "numpy" else f", or pass {self._option('gradient', 'autodiff')}"
            return f"write a function that returns both, each as an array of {framework}{other}"
        if x is None:
            return "does it end without a return?"
        if isinstance(x, (bool, int, float)):
            return f"leave out what turns it into a Python number, such as .item() or {type(x).__name__}()"
        if isinstance(x, (tuple, list, dict)):
            other = (
                f", or pass {self._option('gradient', 'returned')} if the two are (loss, gradient), or "
                f"{self._option('returns', 'sum_and_count')} if they are (sum, count)"
            )
            pair = isinstance(x, (tuple, list)) and len(x) == 2
            return f"write a function that returns the loss alone{other if pair else ''}"
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            return f"compute it in {framework}, from the arrays that are passed"
        return "write a function that returns one"

    def _of_a_class(self) -> str:
        made = whole(self.loss).__name__
        mend = f"pass an instance of it, as in check_loss({made}(), ...), with the conventions by which it is called"
        if self.shell:
            mend = (
                f"in a module of your own write loss = {made}(), and pass --against MODULE:loss, with --arguments, "
                "--layout and --returns as the object is called"
            )
        return f"{self.name} is a class, and a call of it makes an object, not a loss; {mend}"

    def _signature(self) -> str:
        """The arguments of the function, if they are not those that it was given."""
        given = self.conventions.spelled
        try:
            signature = inspect.signature(self.loss)
        except (TypeError, ValueError):  # a builtin says nothing of itself
            return ""
        try:
            signature.bind(*(role for keyword, role in given if not keyword), **{k: role for k, role in given if k})
        except TypeError:
            bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
            takes = signature.replace(parameters=bare, return_annotation=signature.empty)
            return f"it takes {takes}, of which functools.partial can set what is none of {', '.join(ROLES)}; "
        return ""

    def _option(self, name: str, value: Any) -> str:
        return option(name, value, self.shell)


def _kind(x: Any) -> str:
    """What somebody returned, in a word or two."""
    if x is None:
        return "None"
    if isinstance(x, (tuple, list, dict)):
        return f"{type(x).__name__} of {len(x)}"
    package = type(x).__module__.partition(".")[0]
    return type(x).__qualname__ if package == "builtins" else f"{package}.{type(x).__qualname__}"
