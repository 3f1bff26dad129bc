"""Where two losses come in and their explanation comes out."""

from collections.abc import Mapping, Sequence
from typing import Any

from seqloss.core.errors import OptionError
from seqloss.testing.explain.digits import number
from seqloss.testing.explain.inputs import read, situation
from seqloss.testing.explain.judge import judge
from seqloss.testing.explain.result import Explanation
from seqloss.testing.explain.values import values


def explain_mismatch(
    mine: Any,
    theirs: Any,
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    pad_id: int | None = None,
    world_size: int | None = None,
    accumulation_steps: int | None = None,
    micro_batches: int | Sequence[int] | None = None,
    label_smoothing: float | None = None,
    softcap: float | None = None,
    temperature: float | None = None,
    z_loss: float | None = None,
    rtol: float | None = None,
) -> Explanation:
    """Name the conventions by which two losses of the same inputs differ.

    Each number is looked up among the losses of the inputs under several hundred conventions: the documented mean
    ``sum(w * nll) / sum(w)``, every known departure from it, and every sensible pair of those. What the two sides do
    differently is the explanation.

    Parameters
    ----------
    mine, theirs : float or array of one element
        The two losses, or numbers made of them such as bits or perplexity, of any float dtype and any framework. Pass
        them as they were computed: the dtype and the digits say how closely they are compared.
    inputs : mapping or sequence
        ``logits`` [batch, time, classes], ``targets`` [batch, time] of any integer dtype, and ``weights`` [batch,
        time] of any real dtype, by name or in this order; without weights every token counts 1. Any framework's
        arrays. ``logits[:, t]`` are read as the prediction of ``targets[:, t]``. For a loss that computes the
        logits itself, a mapping may have ``hidden`` [batch, time, features], ``kernel`` [features, classes] and, if
        there is one, ``bias`` [classes] in their place.
    pad_id : int, optional
        The label of padding, which a side may ignore.
    world_size : int, optional
        The number of data-parallel ranks.
    accumulation_steps : int, optional
        The number of micro-batches whose gradients are added up.
    micro_batches : int or sequence of int, optional
        The rows of each micro-batch, or the number of micro-batches; by default one for each accumulation step, cut
        evenly.
    label_smoothing : float, optional
        The eps of label smoothing, in [0, 1).
    softcap : float, optional
        The cap of ``cap * tanh(logits / cap)``, where a side may have one. Without it 30 and 50 are tried, but
        have to fit so closely that float32 losses seldom do.
    temperature : float, optional
        What a side may divide the logits by. Without it 0.5, 0.7, 0.8, 2 and 4 are tried in the same way.
    z_loss : float, optional
        The factor of a squared log-sum-exp that a side may add to the loss of each token. Without it 1e-4 is tried in
        the same way.
    rtol : float, optional
        The relative difference at which numbers agree. By default it comes from the dtype of the number (a Python
        float that is a float32 or half-precision number, or has few decimals, counts as such), from the logits, and
        from the number of tokens.

    Returns
    -------
    Explanation
        The causes, how sure they are, and ``report()``, which says what to change. If causes fit that unrelated numbers
        with so few digits would fit as well, it is "undecided"; if none fits, it is "none of these".

    Raises
    ------
    ShapeError
        If a loss is not one number, or the inputs do not have the shapes above.
    DTypeError
        If an argument is of the wrong kind of dtype.
    ArgumentTypeError
        If inputs are neither a mapping nor a sequence, or lack logits or targets.
    OptionError
        If an option has a value that does not exist.

    See Also
    --------
    Explanation : What is returned.

    Notes
    -----
    A convention of two causes is tried for each side, so that up to four causes can be found, two on each. A cause is
    tried only if it applies to these inputs (for example, there must be padding, or a label that is the pad id) and if
    it changes their loss.

    A number that fits is no proof: with enough conventions one fits by chance. ``chance`` is an upper estimate of how
    often unrelated numbers of its sign would fit one as closely, and causes are named only if it is at most 1 in 4,000.
    Half-precision losses have too few digits for that, and float32 losses have too few for many pairs of causes and for
    causes that change the loss by less than a percent. Then ``alternatives`` are what fits.

    A difference that is a bare factor is never certain. Bare factors are several factors, such as ``world_size`` by
    ``accumulation_steps``, one of them alone, a whole number up to 16, or a power of two.

    A number that is infinite, NaN or zero has no digits. If these inputs make something on the way to a loss too large
    for float16, float32 or float64, such as exp of a large logit, the verdict is "overflow" and the causes name it.

    All values are read, so nothing here can be traced.

    Examples
    --------
    Their loss divides by all positions, where only 7 of 10 are tokens:

    >>> import numpy as np
    >>> from seqloss.testing import explain_mismatch
    >>> rng = np.random.default_rng(0)
    >>> logits, targets = rng.normal(size=(2, 5, 8)), rng.integers(0, 8, (2, 5))
    >>> weights = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    >>> scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    >>> nll = -np.take_along_axis(scores, targets[..., None], -1)[..., 0]
    >>> found = explain_mismatch(
    ...     (nll * weights).sum() / weights.sum(), (nll * weights).mean(), (logits, targets, weights)
    ... )
    >>> [str(cause) for cause in found.causes], found.certainty
    (['mean over padding (theirs)'], 'certain')
    >>> print(found.causes[0].does)
    divides by the number of positions, batch * time, padding included
    >>> print(found.causes[0].mend)
    divide by the sum of the weights
    """
    if rtol is not None and not 0 < rtol < 1:
        raise OptionError(f"rtol is {rtol!r}; expected a number between 0 and 1")
    numbers = number("mine", mine), number("theirs", theirs)
    named = (label_smoothing, softcap, temperature, z_loss)
    # Checked before anything is computed with it; how many rows there are is not known yet.
    situation(0, None, None, None, None, *named)
    grid, dtype = read(inputs, softcap, temperature)
    known = situation(len(grid.targets), pad_id, world_size, accumulation_steps, micro_batches, *named)
    return judge(*numbers, values(grid, known), dtype, rtol)
