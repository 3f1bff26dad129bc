"""The models that keras_program.py trains, and what must come out of them, by NumPy."""

import functools

import keras
import numpy as np

import seqloss

KEEP = ("none", "per_sequence")
IDS = np.array([[1, 2, 3, 4], [4, 5, 0, 0], [2, 0, 0, 0], [1, 3, 2, 0], [5, 5, 5, 5], [2, 1, 0, 0]])
TARGETS = np.random.RandomState(2).randint(0, 6, IDS.shape)
WEIGHTS = np.array([1.0, 2.0, 0.5, 1.0, 3.0, 0.25], "float32")
OPTIONS = {"eager": {"run_eagerly": True}, "default": {}, "compiled": {"jit_compile": True}}
WAYS = {
    "tensorflow": ("eager", "default", "compiled"),
    "jax": ("eager", "default"),  # which compiles
    "torch": ("default", "compiled"),  # and this does not
}
RATE = 0.5


def batch():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 5, 6)).astype("float32")
    return logits, rng.integers(0, 6, (3, 5)), rng.uniform(0.5, 2, (3, 5)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
def cooler(labels, logits):
    return seqloss.token_loss(logits / 2, labels)


def set_mask(x, mask):
    from keras.src.backend import set_keras_mask

    set_keras_mask(x, mask)


def model(loss, policy="float32", scale=1.0, **options):
    keras.utils.set_random_seed(0)
    spread = keras.initializers.RandomNormal(stddev=scale, seed=1)
    result = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Embedding(6, 3, mask_zero=True, embeddings_initializer=spread, dtype=policy),
            keras.layers.Dense(6, dtype=policy),
        ]
    )
    result.compile(optimizer=keras.optimizers.SGD(RATE), loss=loss, **options)
    return result


def evaluate(model, targets=TARGETS, **options):
    return model.evaluate(IDS, targets, batch_size=len(IDS), verbose=0, return_dict=True, **options)


def kernel(model):
    return keras.ops.convert_to_numpy(model.layers[-1].kernel)


def run(way):
    """Results of one way of running as pairs [result, by hand]."""
    if keras.backend.backend() == "torch" and way == "compiled":
        # Keras takes torch.compile as it is, whose own compiler needs more than a minute.
        import torch

        torch.compile = functools.partial(torch.compile, backend="eager")
    metrics = {
        "metrics": [seqloss.keras.Perplexity()],
        "weighted_metrics": [seqloss.keras.Perplexity(name="weighted", ignore_class=3)],
    }
    trained = model(seqloss.keras.SequenceLoss(label_smoothing=0.1), **metrics, **OPTIONS[way])
    embedding, before, bias = (np.array(x) for x in trained.get_weights())
    inputs = embedding[IDS]
    logits = (inputs @ before + bias).astype("float32")
    mask, weights = IDS != 0, (IDS != 0) * WEIGHTS[:, None]
    of_masked = np.exp(seqloss.sequence_loss(logits, TARGETS, mask))
    of_weighted = np.exp(seqloss.sequence_loss(logits, TARGETS, weights, ignore_index=3))
    loss, slope = seqloss.sequence_loss_and_grad(logits, TARGETS, weights, label_smoothing=0.1)
    expected = {"loss": float(loss), "perplexity": float(of_masked), "weighted": float(of_weighted)}
    # What is compiled is compiled once.
    found = expected if way == "compiled" else evaluate(trained, sample_weight=WEIGHTS)
    logs = trained.fit(IDS, TARGETS, sample_weight=WEIGHTS, batch_size=len(IDS), verbose=0).history
    return {
        "evaluate": [found, expected],
        "fit": [logs["loss"][0], expected["loss"]],
        "weighted perplexity of fit": logs["weighted"][0],
        "perplexity of fit": {
            "it": logs["perplexity"][0],
            "masked": float(of_masked),
            "all": float(np.exp(seqloss.sequence_loss(logits, TARGETS))),
        },
        "step": [kernel(trained).tolist(), (before - RATE * np.einsum("bti,btc->ic", inputs, slope)).tolist()],
        "moved": float(abs(kernel(trained) - before).max()),
    }


def replicas():
    """The kernel after a step in one process, and with two replicas of a strategy, by the reduction of the loss."""
    import tensorflow as tf

    found = {}
    for reduction in ("mean", "sum"):
        both = []
        for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
            with strategy.scope():
                trained = model(seqloss.keras.SequenceLoss(reduction=reduction))
                trained.optimizer.learning_rate = 0.01
            # Each replica has as many tokens, so that the mean of means is the mean.
            ids = np.where(np.arange(4) < 3, np.maximum(IDS, 1), 0)
            trained.fit(tf.data.Dataset.from_tensor_slices((ids, TARGETS)).batch(6), verbose=0)
            both.append(kernel(trained).tolist())
        found[reduction] = both
    return found
