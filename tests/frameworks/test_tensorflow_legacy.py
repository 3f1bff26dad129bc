"""The losses of lists in graphs with sizes that are unknown while tracing."""

import numpy as np
import pytest
import tensorflow as tf

import seqloss

LOGITS, TARGETS, WEIGHTS = np.zeros((2, 3, 4), "float32"), np.zeros((2, 3), "int32"), np.ones((2, 3), "float32")


def unknown(*shapes, **options):
    specs = [tf.TensorSpec(s, d) for s, d in zip(shapes, ("float32", "int32", "float32"), strict=True) for _ in "12"]

    def function(*arrays):
        return seqloss.sequence_loss_by_example(arrays[:2], arrays[2:4], arrays[4:])

    return tf.function(function, input_signature=specs, **options)


SHAPES = {"sizes": ([None, None], [None], [None]), "batch": ([None, 4], [None, None], []), "rank": (None, None, None)}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["function", "xla"])
def test_unknown_sizes(name, options):
    weights = WEIGHTS[:, 0] if name == "batch" else WEIGHTS
    targets = TARGETS[..., None] if name == "batch" else TARGETS
    result = unknown(*SHAPES[name], **options)(*LOGITS, *targets, *weights)
    np.testing.assert_allclose(result, np.full(3, np.log(4)), rtol=1e-6)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_sizes_that_differ_when_the_graph_runs(place):
    arrays = [*LOGITS, *TARGETS, *WEIGHTS]
    arrays[place] = arrays[place][:2]
    with pytest.raises(tf.errors.InvalidArgumentError, match="their sizes differ at run time"):
        unknown(*SHAPES["sizes"])(*arrays)
    with pytest.raises(tf.errors.InvalidArgumentError):
        unknown(*SHAPES["sizes"], jit_compile=True)(*arrays)
