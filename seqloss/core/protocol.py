"""What a backend is: the :class:`Backend` protocol.

A backend is a module (usually a package) with the functions below. It holds only what its framework must do itself;
it raises no message of its own, checks no argument, and knows no option of the public functions. What its kernels
compute is in :mod:`seqloss.core.contract`. ``seqloss.backends.base`` has natural answers for many of the functions.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from seqloss.core.contract import SMALLEST_ACTIVE as SMALLEST_ACTIVE
from seqloss.core.contract import Cotangents, Spec, Statistics
from seqloss.core.linear import LinearFound, LinearSpec, Step, Tokens
from seqloss.core.shapes import Shape

Array = Any
Arrays = Sequence[Any]
"""Arrays of one operation in the order of its parameters; None for one that is not there."""

Location = Literal["host", "device", "traced"]
"""Where the values of an array are: in memory that Python reads at once; on a device, which one has to wait for; or
nowhere, because the array is traced, batched or without storage."""


class LossOp(Protocol):
    """A function of arrays of one backend, with its pullback. It is hashable and holds no array.

    Its arrays come in a fixed number, None for those that are not there; so do its outputs, which are all arrays.

    An operation that can make its gradients in the forward pass has ``is_foreseen`` and ``at_once``, and those of its
    first arrays that they are of are ``leading`` in number (1). One that does so in every backend has ``alone()``, the
    same for a call whose derivative nobody asks for; its gradients are wide until ``in_dtypes`` is called with them.
    """

    def __hash__(self) -> int: ...

    @property
    def backend(self) -> "Backend": ...

    @property
    def opaque(self) -> bool:
        """Whether it is a black box, which computes in float64 under any setting and refuses second derivatives."""

    def on(self, backend: Any, /) -> "LossOp":
        """The same on arrays of another backend."""

    def composed(self, *arrays: Any) -> tuple[Array, ...]:
        """The outputs, made of operations that the framework can differentiate. (Not of an opaque one.)"""

    def forward(self, *arrays: Any) -> tuple[tuple[Array, ...], Any]:
        """The same outputs, and residuals: a tuple of arrays, None and further tuples."""

    def pullback(self, arrays: Arrays, residuals: Any, cotangents: Arrays, /) -> tuple[Any, ...]:
        """The gradient of each array, in its dtype, for a cotangent of each output; None for those that have none.

        Unless the operation is opaque, it consists of operations that the framework can differentiate again.
        """


class Backend(Protocol):
    """The functions of a backend module. Primitives have the names and the meaning of the Array API standard."""

    # --- facts ---------------------------------------------------------------------------------------------------

    def owns(self, x: Any, /) -> bool:
        """Whether ``x`` is an array of this framework: tracers, variables and non-dense forms included."""

    def dense_form(self, x: Array, /) -> str | None:
        """None for a dense array; for a masked, sparse, ragged or nested one the call that makes it dense."""

    def packed_form(self, x: Array, /) -> tuple[Array, Array, Callable[[Array], Array]] | None:
        """Of a ragged or nested array whose sequences lie one after the other in memory: its values [tokens, ...], the
        offsets at which each sequence begins, and a function that makes an array of that form of other values.

        None for other arrays. Called only for arrays that have a ``dense_form``.
        """

    def shape(self, x: Array, /) -> Shape:
        """The static shape; None for an unknown size, and None alone for an unknown rank."""

    def dtype(self, x: Array, /) -> str:
        """The name of the dtype, as in "float32"."""

    def device(self, x: Array, /) -> Any:
        """The device of ``x``, if the framework refuses to compute across devices; else None."""

    def location(self, x: Array, /) -> Location:
        """Where the values of ``x`` are."""

    def needs_grad(self, x: Array, /) -> bool:
        """Whether a derivative with respect to ``x`` may be asked for later. True where that cannot be known."""

    def is_stopped(self, x: Array, /) -> bool:
        """Whether it is known that no derivative goes on from ``x`` to what it was computed from."""

    # --- into and out of the framework ---------------------------------------------------------------------------

    def asarray(self, x: Any, /, *, like: Array | None = None) -> Array:
        """``x`` as an array of this framework: a variable is read, and other arrays go to the device of ``like``."""

    def to_numpy(self, x: Array, /) -> Any:
        """The values of a readable array as a NumPy array, which the caller does not write into.

        Values of a dtype that NumPy lacks may be in a wider one.
        """

    # --- primitives ----------------------------------------------------------------------------------------------

    def sizes(self, x: Array, /) -> tuple[Any, ...]:
        """The sizes of ``x`` for ``reshape``: numbers, or scalars of the framework that are known when it runs."""

    def astype(self, x: Array, dtype: str, /) -> Array: ...
    def arange(self, stop: int, /, *, like: Array) -> Array:
        """0 … stop - 1 in a signed integer dtype, beside ``like``."""

    def ones_like(self, x: Array, /, *, dtype: str) -> Array: ...
    def reshape(self, x: Array, /, shape: Sequence[Any]) -> Array: ...
    def expand_dims(self, x: Array, /, *, axis: int) -> Array: ...
    def where(self, condition: Array, x1: Array | float, x2: Array | float, /) -> Array:
        """One of ``x1`` and ``x2`` may be a Python number, which takes the dtype of the other."""

    def nan_unless(self, condition: Array, x: Array, /) -> Array:
        """``x`` where the condition is True, and NaN elsewhere.

        No NaN is made on the way where all is True: people look for the first one in their program.
        """

    def equal(self, x1: Array, x2: Array | float, /) -> Array:
        """Where both are equal. In TensorFlow 1, and in TensorFlow 2 with that setting, ``==`` compares identity."""

    def isfinite(self, x: Array, /) -> Array: ...
    def sum(self, x: Array, /, *, axis: tuple[int, ...], dtype: str | None = None) -> Array: ...
    def min(self, x: Array, /, *, axis: tuple[int, ...]) -> Array: ...
    def wide_sum(self, x: Array, weights: Array | None, /, *, axis: tuple[int, ...]) -> Any:
        """``sum(x * weights)`` with at least twice the digits of ``x``, as a number of the backend's own kind.

        ``weights`` None are ones. float32 goes through float64, or through compensated products and sums where there
        is none. It is for :meth:`quotient` only.
        """

    def quotient(self, numerator: Any, denominator: Any, /) -> Array:
        """A wide sum divided by another, by an array or by a number: in the dtype of what was added up, rounded once.

        0, with a derivative of 0, where the denominator is 0. Else the derivative is that of the plain quotient of
        plain sums. With the denominator 1 this is the sum itself.
        """

    def count_nonzero(self, x: Array, /, *, axis: tuple[int, ...]) -> Array: ...
    def all(self, x: Array, /, *, axis: int) -> Array: ...
    def surely_all(self, x: Array, /) -> bool:
        """Whether all of ``x`` is True, as far as that is known at once: False where one would have to wait."""

    def stop_gradient(self, x: Array, /) -> Array: ...
    def permute_dims(self, x: Array, axes: Sequence[int], /) -> Array: ...
    def concat(self, arrays: Sequence[Array], /, *, axis: int) -> Array: ...
    def log(self, x: Array, /) -> Array: ...
    def exp(self, x: Array, /) -> Array: ...
    def take(self, x: Array, indices: Array, /) -> Array:
        """The entries of the first axis at integer indices [...] that are all in range.

        The gradient of ``x`` touches only these entries, and is sparse if the framework has such gradients.
        """

    def matmul(self, a: Array, b: Array, /, *, dtype: str) -> Array:
        """The product [n, m] of [n, k] and [k, m] in a dtype that is not narrower, in which it is added up too."""

    # --- what only the framework can do --------------------------------------------------------------------------

    def scope(self, name: str | None, /) -> AbstractContextManager[Any]:
        """A region that the framework's profiler or graph viewer shows under ``name``, if there is one.

        NaN and infinities inside raise no warnings: they are answers here, not accidents.
        """

    def with_rank(self, x: Array, rank: int, /) -> Array:
        """``x``, whose rank is unknown, as an array of this rank; the graph fails if it has another."""

    def sizes_agree(self, arrays: Sequence[Array], message: str, /) -> tuple[Array, list[Array]]:
        """A bool scalar, whether all arrays have the leading sizes of the first at run time; and the arrays.

        Where assertions run, one with ``message`` fails before anything is computed from the arrays that are
        returned. Called only if a static size is None.
        """

    def broadcast_like(self, x: Array, like: Array, message: str, /) -> tuple[Array | None, Array]:
        """``x``, a scalar or an array whose sizes are 1 or those of ``like``, in the shape of ``like``.

        Where sizes are unknown, first a bool scalar, whether that is true at run time, with an assertion as in
        ``sizes_agree``; else None.
        """

    def vjp(self, function: Callable[[Array], Array], x: Array, /) -> tuple[Array, Callable[[Array], Array]] | None:
        """``function(x)`` and the map from its cotangent to that of ``x``; None without automatic differentiation."""

    # --- execution -----------------------------------------------------------------------------------------------

    def differentiable(self, op: LossOp, arrays: Arrays, /) -> tuple[Array, ...]:
        """The outputs of ``op.forward`` as one operation whose derivative is ``op.pullback``.

        Second derivatives go through the pullback, with residuals computed anew from the arrays; those of an opaque
        operation are refused loudly. This is what ``composed`` of a kernel is.
        """

    def run(self, op: LossOp, arrays: Arrays, /) -> tuple[Array, ...]:
        """The outputs of the operation, differentiable, in the way that is fastest.

        ``op.composed(*arrays)``, perhaps as one dispatch; one operation that NumPy runs
        (``seqloss.backends.on_numpy``) for arrays in the memory of the host; and for an opaque operation always
        ``differentiable``.
        """

    def explicit(self, op: LossOp, arrays: Arrays, /) -> LossOp:
        """The operation whose ``forward`` and ``pullback`` a caller is to call by hand on these arrays.

        Either itself, or one that does the same in another place.
        """

    # --- kernels: plain functions, see seqloss.core.contract ---------------------------------------------------------

    def indices(self, logits: Array, targets: Array, /) -> tuple[Array, Array]:
        """The labels in a signed dtype that indexes the classes, 0 for those that are no class; and where these are."""

    def is_highest(self, logits: Array, targets: Array, /) -> Array:
        """Whether the label of each token has the highest of its logits, and no class before it has the same.

        False for a label that is not a class, and where one of the logits is NaN. No derivative is asked for.
        """

    def token_statistics(
        self, logits: Array, targets: Array, active: Array | None, prior: Array | None, spec: Spec, /
    ) -> Statistics:
        """The statistics of each token: logits [..., classes], targets and active [...], prior [classes].

        The prior is in the dtype of the spec. Only ``unl`` depends on it.
        """

    def token_pullback(
        self,
        cotangents: Cotangents,
        logits: Array,
        targets: Array,
        active: Array | None,
        prior: Array | None,
        statistics: Statistics,
        spec: Spec,
        /,
    ) -> Array:
        """d/dlogits of the sum of the statistics, each times its cotangent."""

    def label_statistics(
        self, logits: Array, labels: Array, active: Array | None, prior: Array | None, spec: Spec, /
    ) -> Statistics:
        """The statistics of each token for soft labels [..., classes], in a dtype not wider than that of the spec."""

    def label_pullback(
        self,
        cotangents: Cotangents,
        logits: Array,
        labels: Array,
        mass: Array,
        active: Array | None,
        prior: Array | None,
        statistics: Statistics,
        spec: Spec,
        wrt_labels: bool,
        /,
    ) -> tuple[Array, Array | None]:
        """d/dlogits as in :meth:`token_pullback`, and d/dlabels if it is wanted.

        ``mass`` [...], in the dtype of the spec, is what the probabilities are multiplied with: the sum of the labels
        of each token. d/dlabels is in the dtype of the labels.
        """

    def linear(
        self,
        step: Step,
        hidden: Array,
        kernel: Array,
        bias: Array | None,
        of_tokens: Tokens,
        spec: LinearSpec,
        /,
    ) -> LinearFound:
        """What steps make of the logits of hidden [..., features], chunk by chunk: see :mod:`seqloss.core.linear`."""

    def sigmoid_nll(self, logits: Array, labels: Array, pos_weight: Array | None, /) -> Array:
        """The loss of each of independent classes: three arrays of one shape, the last two in the compute dtype.

        Without pos_weight it is 1.
        """

    def sigmoid_pullback(
        self, cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool, /
    ) -> tuple[Array, Array | None, Array | None]:
        """d/dlogits of the sum of ``cotangent * nll``; and d/dlabels and d/dpos_weight, or None.

        They are asked for by ``wrt_labels``, the second only if there is a ``pos_weight``.
        """
