"""Candidates that are true classes of an example."""

from typing import Any

from seqloss.core import dispatch, labels, options
from seqloss.core.errors import ShapeError
from seqloss.core.protocol import Array
from seqloss.core.shapes import text
from seqloss.samplers import checks


def compute_accidental_hits(
    true_classes: Array, sampled_candidates: Array, num_true: int, seed: Any = None, name: str | None = None
) -> tuple[Array, Array, Array]:
    """Where a candidate is one of the true classes of an example.

    In one formula: one entry (i, s, -FLT_MAX) for each i and j with ``true_classes[i, j] == sampled_candidates[s]``.
    Added to the logits [batch, num_sampled] of the candidates, the weights remove the hits from a softmax.

    Parameters
    ----------
    true_classes : array of shape [batch, num_true]
        The true classes of each example, of any integer dtype and with any values.
    sampled_candidates : array of shape [num_sampled]
        The candidates, of any integer dtype, at least one; in the framework of true_classes or a host value.
    num_true : int
        The number of columns of true_classes.
    seed : None, int or numpy.random.Generator, optional
        Has no effect, because nothing is drawn; here for the order of TensorFlow's arguments.
    name : str, optional
        Has no effect, because this runs on the host.

    Returns
    -------
    indices : int32 array of shape [hits]
        The row of true_classes of each hit, in the order of true_classes read row by row.
    ids : int64 array of shape [hits]
        The position of each hit in sampled_candidates, which is no class id. A class that was sampled more than once
        is hit at its last position only, and a class that is twice in a row of true_classes is hit twice, as in
        TensorFlow.
    weights : float32 array of shape [hits]
        The most negative finite float32, about -3.4e38, for each hit.

        All three are in the framework of true_classes; JAX without x64 narrows int64 to int32.

    Raises
    ------
    ShapeError
        If true_classes are not a matrix of num_true columns, or sampled_candidates not a vector, or an empty one.
    DTypeError
        If an array does not hold integers.
    ArgumentTypeError, OptionError
        If num_true is not an integer or below 1, or seed or name is none.
    UnreadableError
        If an array has no values to read.
    MixedBackendsError
        If the arrays belong to two frameworks.

    Notes
    -----
    The results have no gradient.

    Under tracing the number of hits is unknown, so that traced arrays are refused; compute the hits outside.

    References
    ----------
    ``tf.nn.compute_accidental_hits`` of TensorFlow.

    Examples
    --------
    >>> from seqloss import samplers
    >>> indices, ids, weights = samplers.compute_accidental_hits([[1, 3], [0, 3]], [3, 7], num_true=2)
    >>> print(indices, ids, weights)
    [0 1] [0 0] [-3.4028235e+38 -3.4028235e+38]
    """
    import numpy as np

    options.scope_name("name", name)
    given, true = checks.true_classes(true_classes, num_true, None)
    checks.generator(seed)  # last, because torch.compile cannot trace it
    candidates = dispatch.beside(given, "sampled_candidates", sampled_candidates)
    if candidates.shape is not None and (len(candidates.shape) != 1 or candidates.shape[0] == 0):
        raise ShapeError(
            f"sampled_candidates must be a vector of at least one id, got {text(candidates.shape)}; "
            "pass the field sampled of a sampler's result"
        )
    sampled = labels.ids_to_draw(candidates).astype(np.int64)
    order = np.argsort(sampled, kind="stable")
    ascending = sampled[order]
    # The last of equal candidates; -1 where all are larger, which wraps to the largest of them and is no hit either.
    place: Array = np.searchsorted(ascending, true, side="right") - 1
    rows, columns = np.nonzero(ascending[place] == true)
    positions = order[place[rows, columns]]
    weights = np.full(len(rows), np.finfo(np.float32).min)

    def placed(x: Array) -> Array:
        return given.facts.asarray(x, like=given.value)

    return placed(rows.astype(np.int32)), placed(positions.astype(np.int64)), placed(weights)
