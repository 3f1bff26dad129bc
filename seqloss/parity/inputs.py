"""The arrays of each function, made from the batch of the text. NumPy is imported when they are made."""

from typing import Any

Array = Any

POSITIONS = 4096
"""Tokens or padded positions at most: the gradients by labels and classes are several arrays of 256 times as many."""

STEPS = 16
"""Timesteps of the functions that take lists: so many bytes of each sentence."""

CHUNK = 300
"""Tokens whose logits a linear loss has at a time, so that there are many chunks and the last one is shorter."""

EXAMPLES, CANDIDATES, DIM = 512, 32, 16
"""Tokens of a sampled loss, its candidates, and the size of its hidden states, which are those of a linear loss too."""


def tokens(batch: Any, most: int = POSITIONS) -> dict[str, Array]:
    """The valid tokens alone, packed: the confident ones, then those of the text."""
    import numpy as np

    valid = np.arange(batch.targets.shape[1]) < batch.lengths[:, None]
    order = [-1, *range(len(batch.lengths) - 1)]
    logits, targets, valid = (x[order] for x in (batch.logits, batch.targets, valid))
    return {"logits": logits[valid][:most], "labels": targets[valid][:most]}


def _one_hot(labels: Array) -> Array:
    """Rows of 256 int32; zeros for a label that is no class."""
    import numpy as np

    return (labels[..., None] == np.arange(256)).astype(np.int32)


def soft(batch: Any) -> dict[str, Array]:
    """Every other token against its byte alone, the rest against a mixture with the byte after it in the table."""
    import numpy as np

    given = tokens(batch)
    one_hot = _one_hot(given["labels"]).astype(np.float32)
    mixed = np.float32(0.75) * one_hot + np.float32(0.25) * np.roll(one_hot, 1, -1)
    odd = np.arange(len(one_hot))[:, None] % 2 == 1
    return {"labels": np.where(odd, mixed, one_hot), "logits": given["logits"]}


def binary(batch: Any) -> dict[str, Array]:
    """Is it this byte? 256 times for each token."""
    given = tokens(batch)
    return {"labels": _one_hot(given["labels"]).astype("float32"), "logits": given["logits"]}


def favoured(batch: Any) -> dict[str, Array]:
    """The same with a weight of positives for each class."""
    import numpy as np

    return {**binary(batch), "pos_weight": np.linspace(0.5, 8, 256).astype(np.float32)}


def masked(batch: Any) -> dict[str, Array]:
    """As many padded rows as fit, the confident one first; NaN logits and label -100 where the weight is 0."""
    import numpy as np

    length = batch.targets.shape[1]
    rows = [-1, *range(len(batch.lengths) - 1)][: max(POSITIONS // length, 2)]
    weights = (np.arange(length) < batch.lengths[rows, None]).astype(np.float32)
    return {"logits": batch.logits[rows], "labels": batch.targets[rows], "weights": weights}


def losses(batch: Any) -> dict[str, Array]:
    """Token losses, which are NaN in the padding."""
    import numpy as np

    from seqloss.testing import oracle

    given = masked(batch)
    nll = oracle.tokens(given["logits"], given["labels"]).nll
    return {"losses": nll.astype(np.float32), "weights": given["weights"]}


def masked_one_hot(batch: Any) -> dict[str, Array]:
    given = masked(batch)
    return {"onehot_labels": _one_hot(given["labels"]), "logits": given["logits"], "weights": given["weights"]}


def masked_classes(batch: Any) -> dict[str, Array]:
    """A weight for each token, broadcast to its 256 losses."""
    given = masked(batch)
    labels, weights = _one_hot(given["labels"]), given["weights"][..., None]
    return {"multi_class_labels": labels, "logits": given["logits"], "weights": weights}


def steps(batch: Any) -> dict[str, Array]:
    """The first bytes of each sentence, time first, to be passed as lists."""
    import numpy as np

    given = masked(batch)
    logits, targets, weights = (np.moveaxis(given[name][:, :STEPS], 1, 0) for name in ("logits", "labels", "weights"))
    return {"logits": logits.copy(), "targets": targets.copy(), "weights": weights.copy()}


def unstacked(backend: Any, x: Array) -> list[Array]:
    """The list of the entries of the first axis."""
    import numpy as np

    sizes = backend.sizes(x)
    places = [backend.asarray(np.array([place]), like=x) for place in range(sizes[0])]
    return [backend.reshape(backend.take(x, place), sizes[1:]) for place in places]


def linear(batch: Any) -> dict[str, Array]:
    """Padded rows of hidden states, NaN where the weight is 0, and embeddings of the bytes."""
    import numpy as np

    given = masked(batch)
    counting = given["weights"] != 0
    logits = given["logits"][counting]
    projection = np.random.default_rng(0).normal(0, 1 / np.sqrt(DIM), (256, DIM)).astype(np.float32)
    hidden = np.full((*counting.shape, DIM), np.nan, np.float32)
    hidden[counting] = logits @ projection / np.float32(DIM)
    return {
        "hidden": hidden,
        "kernel": projection,
        "targets": given["labels"],
        "weights": given["weights"],
        "bias": logits.mean(0),
    }


def sampled(batch: Any) -> dict[str, Array]:
    """Hidden states and weights whose products are near the logits: a random projection and its transpose."""
    import numpy as np

    from seqloss import samplers

    given = tokens(batch, EXAMPLES)
    rng = np.random.default_rng(0)
    projection = rng.normal(0, 1 / np.sqrt(DIM), (256, DIM)).astype(np.float32)
    labels = given["labels"][:, None]
    drawn = samplers.log_uniform_candidate_sampler(labels, 1, CANDIDATES, True, 256, seed=0)
    return {
        "weights": projection,
        "biases": given["logits"].mean(0),
        "labels": labels,
        "inputs": given["logits"] @ projection / np.float32(DIM),
        "sampled": np.asarray(drawn.sampled),
        "of_true": np.asarray(drawn.true_expected, np.float32),
        "of_sampled": np.asarray(drawn.sampled_expected, np.float32),
    }
