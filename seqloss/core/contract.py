"""The kernel contract: what the kernels of a backend compute, with the formulas that keep full relative accuracy.

Rules for all kernels
---------------------
1. Compute in the dtype of the :class:`Spec`; a gradient comes back in the dtype of its array. Where float64 is asked
   for narrower arrays, the gradient is rounded once: what is below the smallest normal float32 becomes 0 first, because
   executors differ in keeping it, and on the way to half precision float32 is rounded to odd.
2. Beside the logits and one gradient nothing of their size exists at any time: keep for the pullback only numbers per
   token (``saved``), and no [..., classes] array but for inputs so tiny that memory is no matter.
3. A token whose cotangents are all exactly 0 gets an exactly-zero gradient row, whatever it holds. ``active`` (a bool
   array or None) is passed only when the weights need no gradient: its False rows return 0 unread, get zero rows, and
   may be skipped. In a backward pass that may itself be differentiated, replace the non-finite rows of cotangent 0
   *before* the exponential, and replace no finite row: d/dw d/dlogits at w = 0 is not 0.
4. A label outside [0, classes) gives NaN statistics and a NaN gradient row (unless rule 3 says 0). Clamp the index
   before the gather, then select.
5. Never write into an argument, never read a value into Python.
6. Any upstream cotangent; second derivatives are right or refused loudly, never silently wrong.
7. Unknown static sizes and rank are legal (None in TensorFlow, SymInt in torch).
8. Works eagerly and under the framework's transformations: jit, vmap, grad and their compositions, scan, checkpoint,
   hessian (JAX); compile(fullgraph, dynamic), torch.func, jacrev of jacrev, export (torch); tf.function with unknown
   sizes, XLA, map_fn, vectorized_map (TensorFlow; with the tape outside of it the operations of the forward kernel are
   differentiated in 2.21, so they must be right too on finite rows). Forward mode (jvp) is refused loudly.
9. What the spec does not ask for is not computed and is None; a cotangent that is None is 0 and costs nothing.

Capped logits
-------------
With ``softcap`` c each logit is replaced as it is read, and all below is about the replaced ones::

    z_j   = c tanh(x_j / c)           but -infinity stays -infinity, and +infinity is as bad as without a cap
    dz/dx = 4 e / (1 + e)**2,  e = exp(-2 |x_j| / c)

Never ``1 - tanh**2``, which is 0 in float32 from ``|x| = 9 c`` on. In float64 tanh is made of expm1, because the
frameworks' own differ: ``tanh(u) = -v / (2 + v)`` with ``v = expm1(-2 u)`` for u >= 0.

Three statistics of a token
---------------------------
For logits ``z``, the label ``y`` and its logit ``t = z_y``, all in nats::

    lse = log sum_j exp(z_j)
    nll = lse - t
    unl = lse - sum_j q_j z_j          ("u" is for uniform, which q is unless a prior says otherwise)

``q`` is the prior on the possible classes, made to add up to 1: ``q_j = prior_j / mass`` where ``z_j > -infinity``,
and 0 elsewhere; ``mass`` is the sum of the prior over the possible classes. Without an array the prior is 1, so that
``mass`` is the number of possible classes. Where the mass is 0, unl is 0 and so is its
gradient: its cotangent counts as 0.

With ``s`` the largest logit *but that of the label*, ``r`` the sum of ``exp(z_j - s)`` over ``j != y``,
``g = t - s`` and ``p = max(s, t)``::

    where g >= 0    odds = r exp(-g)              nll = log1p(odds)              lse = t + nll
    elsewhere       whole = r + exp(g)            nll = log(whole) - g           lse = s + log(whole)
    unl = sum_j q_j (p - z_j) + (lse - p)         where 0 times infinity is 0

Nothing cancels: every term of r is at most 1, r is at least 1 unless no other class is possible (then it is 0), and the
terms of unl are not negative. Compute ``lse - p`` as ``log1p(odds)`` or ``log(whole)``, never as a difference.
In float32 the largest of all logits may stand for ``s``, with ``log1p(r + expm1(t - m)) - (t - m)``.
Never ``logsumexp - t``, which cancels to 0 when the model is confident.

With the cotangents ``a``, ``b``, ``c`` of nll, lse and unl::

    d/dz_j = (a + b + c) p_j - c q_j                               at the others
             a expm1(-nll) + (b + c) p_y - c q_y                   at the label
    p_j    = exp(z_j - p) / (1 + odds)  or  / whole                -expm1(-nll) = odds / (1 + odds)  or  r / whole

Never ``p - 1``. A row whose largest logit is not finite, or that holds a NaN, has NaN statistics and a NaN gradient row
(zero cotangents aside). Another class at -infinity has the gradient 0. Where the label is at -infinity, nll is
infinite, lse and unl are finite, and so is the gradient row: ``-a`` at the label, which a cap makes 0.

Sums that no order can change
-----------------------------
In float64 (which exact mode uses for float32 logits) the terms of r are added so that any order, and any split of the
classes, gives the same bits: ``hi = (e + M) - M`` with ``M = 1.5 * 2**18`` is a multiple of 2**-34, and up to 2**18 of
those add up without an error; ``lo = e - hi`` is below 2**-35, and what its sum is rounded by is below notice. r is
the sum of both. M grows with the number of classes beyond 2**18. Compilers (XLA of jax 0.10.2 and TensorFlow 2.21) fold
``(e + M) - M`` where M is a constant, so it must depend on data where one is at work. (NumPy's kernel leaves the first
class with the largest of all logits out of the sum instead of the label, adds the multiples up as integers, and takes a
finer grid where all terms are small.) The terms of unl are not bounded: there sums are made with care, but their last
bits may depend on the order.

Soft labels
-----------
Labels ``y_j`` of any sum in place of one label. With ``k`` the first class that has the largest logit ``m``, and
``rest`` the sum of ``exp(z_j - m)`` over ``j != k``::

    nll    = sum_j y_j ((m - z_j) + log1p(rest))            where 0 times infinity is 0
    lse    = m + log1p(rest)
    unl    = sum_j q_j (m - z_j) + log1p(rest)
    p_j    = exp(z_j - m) / (1 + rest)
    d/dz_j = a (mass p_j - y_j) + (b + c) p_j - c q_j
    d/dy_j = a ((m - z_j) + log1p(rest))

Where ``k`` has more than half of the mass, ``2 |y_k| > |mass|``, its first term is
``a ((mass - y_k) - mass rest / (1 + rest))``: there ``p_k`` is near 1, and what both lack to it is small.

``mass`` is the sum of the labels. TensorFlow has 1 in its place whatever they add up to, so it is an argument. (The
mass of the prior is another number.) Nothing cancels if the labels are not negative.

Independent classes
-------------------
With ``softplus(x) = max(x, 0) + log1p(exp(-|x|))``, the logistic function ``s`` and the weight ``q`` of positives::

    nll    = (1 - y) softplus(x) + q y softplus(-x)         where 0 times infinity is 0
    d/dx   = (1 - y) s(x) - q y s(-x)
    d/dy   = (q - 1) log1p(exp(-|x|)) - (x if x >= 0 else q x)
    d/dq   = y softplus(-x)

Never ``max(x, 0) - x y`` and never ``s(x) - y``: both cancel when the model is right and sure.
"""

from typing import Any, NamedTuple

Array = Any

SMALLEST_ACTIVE = 2.0**-126
"""A weight below this is 0. Some executors flush float32 subnormals to zero and some do not: below, none agree."""


class Spec(NamedTuple):
    """What a kernel of logits is to compute: static numbers, hashable, so that it can be a static argument of a jit."""

    dtype: str
    """That of the computation and of the statistics: "float32" or "float64", not narrower than the logits."""
    lse: bool = False
    unl: bool = False
    softcap: float | None = None


class Statistics(NamedTuple):
    """What a forward kernel returns for each token, of shape [...] and in the dtype of the spec."""

    nll: Array
    lse: Array | None
    unl: Array | None
    mass: Array | None
    """The sum of the prior over the possible classes, beside ``unl``. It has no derivative. Of a token that is not
    active or has a bad row, it may be any number, but not NaN."""
    saved: tuple[Array, ...]
    """The backend's own numbers per token for its pullback."""


class Cotangents(NamedTuple):
    """The cotangents of three statistics, [...] in the dtype of the spec; None stands for 0."""

    nll: Array | None
    lse: Array | None
    unl: Array | None
