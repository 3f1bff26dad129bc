"""What a backend is: the :class:`Backend` protocol and the kernel contract.

A backend is a module (usually a package) with the functions below. It holds only what its framework must do itself;
it raises no message of its own, checks no argument, and knows no option of the public functions.

The kernel contract
-------------------
1. Compute in the dtype that is asked for; the gradient comes back in the dtype of the logits. Where float64 is asked
   for narrower logits, the gradient is rounded once: what is below the smallest normal float32 becomes 0 first, because
   executors differ in keeping it, and on the way to half precision float32 is rounded to odd.
2. Keep for backward only logits, targets, active and per-token scalars: no [..., classes] array of its own.
3. A token whose cotangent is exactly 0 gets an exactly-zero gradient row, whatever it holds. ``active`` (a bool array
   or None) is passed only when the weights need no gradient: its False rows return 0 unread, get zero rows, and may
   be skipped. In a backward pass that may itself be differentiated, replace the non-finite rows of cotangent 0
   *before* the exponential, and replace no finite row: d/dw d/dlogits at w = 0 is not 0.
4. A label outside [0, classes) gives a NaN loss and a NaN gradient row (unless rule 3 says 0). Clamp the index before
   the gather, then select.
5. Never write into an argument, never read a value into Python.
6. Any upstream cotangent; second derivatives are right or refused loudly, never silently wrong.
7. Unknown static sizes and rank are legal (None in TensorFlow, SymInt in torch).
8. Works eagerly and under the framework's transformations: jit, vmap, grad and their compositions, scan, checkpoint,
   hessian (JAX); compile(fullgraph, dynamic), torch.func, jacrev of jacrev, export (torch); tf.function with unknown
   sizes, XLA, map_fn, vectorized_map (TensorFlow; with the tape outside of it the operations of the forward kernel are
   differentiated, so they must be right too on finite rows). Forward mode (jvp) is refused loudly.

The formula that keeps full relative accuracy at any confidence
---------------------------------------------------------------
With ``m`` the largest logit of a token, ``t`` the logit of its label ``y`` and ``r`` the sum of ``exp(z_j - m)`` over
``j != y``::

    nll   = log1p(r + expm1(t - m)) - (t - m)
    d/dz  = expm1(-nll)                                at the target
            exp(z_j - m) / (1 + (r + expm1(t - m)))    elsewhere

Where the target is the largest, ``t - m`` is 0 and nll is ``log1p(r)``, which nothing cancels in. Elsewhere r is at
least 1, the argument of log1p is positive, and what it loses to rounding is small beside ``m - t``.
Never ``logsumexp - t`` and never ``p - 1``: both cancel to 0 when the model is confident. A row whose largest logit
is not finite has a NaN loss and a NaN gradient row.

Soft labels
-----------
With labels ``y_j`` of any sum, ``k`` the first class that has the largest logit ``m``, and ``rest`` the sum of
``exp(z_j - m)`` over ``j != k``, no term of the loss cancels another if the labels are not negative::

    nll     = sum_j y_j ((m - z_j) + log1p(rest))          where 0 times infinity is 0
    d/dz_j  = mass exp(z_j - m) / (1 + rest) - y_j          elsewhere
              (mass - y_k) - mass rest / (1 + rest)         at k
    d/dy_j  = (m - z_j) + log1p(rest)

``mass`` is the sum of the labels. TensorFlow has 1 in its place whatever they add up to, so it is an argument.

Independent classes
-------------------
With ``softplus(x) = max(x, 0) + log1p(exp(-|x|))``, the logistic function ``s`` and the weight ``q`` of positives::

    nll    = (1 - y) softplus(x) + q y softplus(-x)         where 0 times infinity is 0
    d/dx   = (1 - y) s(x) - q y s(-x)
    d/dy   = (q - 1) log1p(exp(-|x|)) - (x if x >= 0 else q x)
    d/dq   = y softplus(-x)

Never ``max(x, 0) - x y`` and never ``s(x) - y``: both cancel when the model is right and sure.
Lines 1 to 8 of the contract hold for both, a cotangent of 0 giving an exact 0 included.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from seqloss.core.shapes import Shape

Array = Any

SMALLEST_ACTIVE = 2.0**-126
"""A weight below this is 0. Some executors flush float32 subnormals to zero and some do not: below, none agree."""


class TokenStatistics(NamedTuple):
    """What the forward kernel returns for each token, of shape [...] and in the compute dtype.

    ``nll`` is the loss in nats. ``shift`` and ``total`` serve the backend's own pullback, in whatever meaning it gives
    them; ``total`` is NaN where the gradient row is to be NaN.
    """

    nll: Array
    shift: Array
    total: Array


class LabelStatistics(NamedTuple):
    """What the forward kernel of soft labels returns for each token, of shape [...] and in the compute dtype.

    ``nll`` is the loss in nats. ``shift`` is the largest logit, and ``rest`` the sum of ``exp(z_j - shift)`` over all
    classes but the first that has it; NaN where the gradient row is to be NaN.
    """

    nll: Array
    shift: Array
    rest: Array


class Rule(Protocol):
    """A function of arrays of one backend with its pullback; see :mod:`seqloss.core.builtin_loss`."""

    @property
    def is_hosted(self) -> bool:
        """Whether the residuals are NumPy's, and not arrays of the framework."""

    def plain(self, *arrays: Any) -> Array:
        """The value, which the framework differentiates."""

    def forward(self, *arrays: Any) -> tuple[Array, tuple[Any, ...]]:
        """The same value, and residuals."""

    def pullback(self, arrays: Any, residuals: Any, cotangent: Array) -> tuple[Any, ...]:
        """The gradients of the arrays; None for those that have none."""


class Backend(Protocol):
    """The functions of a backend module. Primitives have the names and the meaning of the Array API standard."""

    # --- facts ---------------------------------------------------------------------------------------------------

    def owns(self, x: Any, /) -> bool:
        """Whether ``x`` is an array of this framework: tracers, variables and non-dense forms included."""

    def dense_form(self, x: Array, /) -> str | None:
        """None for a dense array; for a masked, sparse, ragged or nested one the call that makes it dense."""

    def shape(self, x: Array, /) -> Shape:
        """The static shape; None for an unknown size, and None alone for an unknown rank."""

    def dtype(self, x: Array, /) -> str:
        """The name of the dtype, as in "float32"."""

    def device(self, x: Array, /) -> Any:
        """Where ``x`` lies, if the framework refuses to compute across devices; else None."""

    def readable(self, x: Array, /, *, sync: bool = False) -> bool:
        """Whether the values can be read in Python without waiting for a device (``sync``: even if it must wait)."""

    def needs_grad(self, x: Array, /) -> bool:
        """Whether a derivative with respect to ``x`` may be asked for later. True where that cannot be known."""

    # --- into and out of the framework ---------------------------------------------------------------------------

    def asarray(self, x: Any, /, *, like: Array | None = None) -> Array:
        """``x`` as an array of this framework: a NumPy array is placed beside ``like``, a variable is read."""

    def to_numpy(self, x: Array, /) -> Any:
        """The values of a readable array as a NumPy array, which the caller does not write into.

        Those of a dtype that NumPy has not may be in a wider one.
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
        """Where both are equal. In TensorFlow 1, and where it is told to be so, ``==`` asks whether they are one."""

    def isfinite(self, x: Array, /) -> Array: ...
    def sum(self, x: Array, /, *, axis: tuple[int, ...]) -> Array: ...
    def residual(self, x: Array, weights: Array, center: Array, counts: Array, /, *, axis: tuple[int, ...]) -> Array:
        """``sum(x * weights - center * counts)``, which cancels almost entirely, as if it were rounded once.

        So float32 goes through float64, or through compensated products and sums where there is none. ``center`` can be
        broadcast. It is never differentiated.
        """

    def count_nonzero(self, x: Array, /, *, axis: tuple[int, ...]) -> Array: ...
    def all(self, x: Array, /, *, axis: int) -> Array: ...
    def stop_gradient(self, x: Array, /) -> Array: ...
    def permute_dims(self, x: Array, axes: Sequence[int], /) -> Array: ...
    def concat(self, arrays: Sequence[Array], /, *, axis: int) -> Array: ...
    def log(self, x: Array, /) -> Array: ...
    def take(self, x: Array, indices: Array, /) -> Array:
        """The entries of the first axis at integer indices [n] that are all in range.

        The gradient of ``x`` touches these entries alone and is sparse where the framework has such gradients.
        """

    # --- what only the framework can do --------------------------------------------------------------------------

    def scope(self, name: str | None, /) -> AbstractContextManager[Any]:
        """A region that the framework's profiler or graph viewer shows under ``name``, if there is one.

        NaN and infinities inside raise no warnings: they are answers here, not accidents.
        """

    def with_rank(self, x: Array, rank: int, /) -> Array:
        """``x``, whose rank is unknown, as an array of this rank; the graph fails if it has another."""

    def sizes_agree(self, arrays: Sequence[Array], message: str, /) -> tuple[Array, list[Array]]:
        """A bool scalar, whether all arrays have the leading sizes of the first when the graph runs; and the arrays.

        Where assertions run, one with ``message`` fails before anything is computed from the arrays that are
        returned. Called only if a static size is None.
        """

    def broadcast_like(self, x: Array, like: Array, message: str, /) -> tuple[Array | None, Array]:
        """``x``, a scalar or an array whose sizes are 1 or those of ``like``, in the shape of ``like``.

        Where sizes are unknown, first a bool scalar, whether that is true when the graph runs, with an assertion as in
        ``sizes_agree``; else None.
        """

    def vjp(self, function: Callable[[Array], Array], x: Array, /) -> tuple[Array, Callable[[Array], Array]] | None:
        """``function(x)`` and the map from its cotangent to that of ``x``; None without automatic differentiation."""

    def fuse(self, rule: "Rule", arrays: Sequence[Any], /) -> Array:
        """``rule.plain(*arrays)``, as one operation where the framework runs that faster than a graph of many.

        Higher derivatives go through ``plain``.
        """

    # --- float64 for a while -----------------------------------------------------------------------------------------

    def float64(self) -> AbstractContextManager[Any]:
        """A region in which float64 arrays can be made, whatever the framework is set to."""

    def in_float64(self, rule: "Rule", arrays: Sequence[Any], /) -> Array:
        """``rule.forward(*arrays)[0]`` as one operation whose derivative is ``rule.pullback``.

        The rule enters :meth:`float64` by itself; nothing that is float64 inside can be seen outside. Second
        derivatives are refused loudly.
        """

    # --- arrays in the memory of the host: see seqloss.core.hosted --------------------------------------------------

    def on_host(self, arrays: Sequence[Any], /) -> bool:
        """Whether NumPy may compute on all of them (None aside), because they are eager and on the CPU."""

    def to_host(self, x: Array, /) -> Any:
        """A NumPy array that shares the memory of such an array: bfloat16 as its bits, in uint16."""

    def from_host(self, x: Any, dtype: str, like: Array, /) -> Array:
        """A NumPy array or scalar as an array of the framework, without a copy if that is possible.

        For the dtype "bfloat16" it holds the bits, in uint16.
        """

    def threads(self) -> int | None:
        """How many threads the framework was told to use; None if it does not say."""

    # --- kernels: forward and pullback as plain functions, and the two wrapped as one differentiable operation ------

    def token_nll(self, logits: Array, targets: Array, active: Array | None, dtype: str, /) -> TokenStatistics:
        """The statistics of each token: logits [..., classes], targets and active [...].

        ``dtype`` is that of the computation and of the statistics: float32 or float64, not narrower than the logits.
        """

    def token_nll_pullback(
        self, cotangent: Array, logits: Array, targets: Array, active: Array | None, statistics: TokenStatistics, /
    ) -> Array:
        """d/dlogits of the sum of ``cotangent * nll``, computed in the dtype of the statistics."""

    def indices(self, logits: Array, targets: Array, /) -> tuple[Array, Array]:
        """The labels in a signed dtype that indexes the classes, 0 for those that are no class; and where they are."""

    def differentiable_token_nll(self, logits: Array, targets: Array, active: Array | None, /) -> Array:
        """``token_nll(...).nll`` in max(float32, logits) with the pullback as its derivative."""

    # --- soft labels: logits and labels [..., classes], labels in the compute dtype ---------------------------------

    def softmax_nll(self, logits: Array, labels: Array, /) -> LabelStatistics:
        """The statistics of each token."""

    def softmax_nll_pullback(
        self,
        cotangent: Array,
        logits: Array,
        labels: Array,
        mass: Array,
        statistics: LabelStatistics,
        wrt_labels: bool,
        /,
    ) -> tuple[Array, Array | None]:
        """d/dlogits of the sum of ``cotangent * nll``, and d/dlabels if it is wanted.

        ``mass`` [...] is what the probabilities are multiplied with: the sum of the labels of each token.
        """

    def differentiable_softmax_nll(self, logits: Array, labels: Array, mass: Array, /) -> Array:
        """``softmax_nll(...).nll`` with the pullback as its derivative."""

    # --- independent classes: three arrays of one shape, labels and pos_weight in the compute dtype ----------------

    def sigmoid_nll(self, logits: Array, labels: Array, pos_weight: Array | None, /) -> Array:
        """The loss of each entry; without pos_weight it is 1."""

    def sigmoid_nll_pullback(
        self, cotangent: Array, logits: Array, labels: Array, pos_weight: Array | None, wrt_labels: bool, /
    ) -> tuple[Array, Array | None, Array | None]:
        """d/dlogits of the sum of ``cotangent * nll``; and d/dlabels and d/dpos_weight if they are wanted."""

    def differentiable_sigmoid_nll(self, logits: Array, labels: Array, pos_weight: Array | None, /) -> Array:
        """``sigmoid_nll`` with the pullback as its derivative."""


class Argument(NamedTuple):
    """One array of a call, in the framework it came in, with its facts."""

    name: str
    value: Array
    facts: Backend
    shape: Shape
    dtype: str
    is_host: bool = False
    """Whether it is a host value that still has to be placed beside the logits."""

    def shaped(self, shape: Shape) -> "Argument":
        """The same argument, to be reshaped to this shape when it is placed: until then it is the caller's array."""
        return Argument(self.name, self.value, self.facts, shape, self.dtype, self.is_host)

    def holding(self, value: Array) -> "Argument":
        """The same argument with another array. Spelt out, because old versions of torch.compile know no _replace."""
        return Argument(self.name, value, self.facts, self.shape, self.dtype, self.is_host)
