"""Facts about seqloss.keras on the backend that KERAS_BACKEND names, as JSON on the last line.

It is no test: ``test_keras.py`` runs it once for each backend, and says which facts must hold. A fact that raises is
told as its error, so that the others are still there.
"""

import json
import re
import sys
import textwrap
import warnings

warnings.filterwarnings("error", message=".*float64.*")  # JAX's, where no float64 can be had

if sys.argv[1] == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

import keras  # noqa: E402
import numpy as np  # noqa: E402

FRAMEWORKS = ("torch", "tensorflow", "jax")
BY_KERAS = [name for name in FRAMEWORKS if name in sys.modules]

import keras_models as models  # noqa: E402

import seqloss  # noqa: E402

FACTS = {}


def fact(function):
    FACTS[function.__name__] = function
    return function


def neutral(function):
    """A fact that is worked out by Keras alone, on the backend where that is quickest."""
    return fact(function) if sys.argv[1] == "torch" else function


def number(x):
    return float(keras.ops.convert_to_numpy(x))


def dtype(x):
    return keras.backend.standardize_dtype(x.dtype)


def by_hand(logits, targets, weights=None, **options):
    """What the function gives for NumPy arrays."""
    return float(seqloss.sequence_loss(logits, targets, weights, **options))


# --- as a plain callable


@fact
def frameworks():
    """What is loaded by Keras alone, and when the face was used."""
    return {"keras": BY_KERAS, "ours": [name for name in FRAMEWORKS if name in sys.modules]}


@fact
def options():
    """Every option gives the number of the function: [ours, function's] each."""
    logits, targets, weights = models.batch()
    smoothing = seqloss.Smoothing(0.1, off_target=True, prior=[1, 2, 3, 4, 5, 6], exclude=(0,))
    given = {
        "nothing": {},
        "of tokens": {"ignore_class": (1, 3), "class_weights": np.arange(1.0, 7.0), "z_loss": 0.1, "softcap": 2.0},
        "of means": {"ignore_class": 3, "label_smoothing": smoothing, "reduction": "sequence_mean", "exact": True},
        "function": {"softmax_loss_function": models.cooler, "reduction": "sum", "check_labels": False},
    }
    found = {}
    for name, arguments in given.items():
        loss = seqloss.keras.SequenceLoss(**arguments)
        here = {{"ignore_class": "ignore_index"}.get(name, name): value for name, value in arguments.items()}
        found[name] = [number(loss(targets, logits, weights)), by_hand(logits, targets, weights, **here)]
    return found


@fact
def arrays():
    """The shapes of the reductions that keep an axis, and of ``call``."""
    logits, targets, weights = models.batch()
    made = {name: seqloss.keras.SequenceLoss(reduction=name)(targets, logits, weights) for name in models.KEEP}
    made["call"] = seqloss.keras.SequenceLoss(label_smoothing=0.1).call(targets, logits)
    expected = {name: seqloss.sequence_loss(logits, targets, weights, reduction=name) for name in models.KEEP}
    expected["call"] = seqloss.sequence_loss(logits, targets, label_smoothing=0.1, reduction="none")
    return {
        name: [
            keras.ops.convert_to_numpy(made[name]).tolist(),
            expected[name].tolist(),
            keras.ops.is_tensor(made[name]),
        ]
        for name in made
    }


@fact
def other_targets():
    logits, targets, weights = models.batch()
    soft = np.eye(6, dtype="float32")[targets] * 0.9
    loss = seqloss.keras.SequenceLoss()
    return {
        "soft": [number(loss(soft, logits, weights)), by_hand(logits, soft, weights)],
        "floats": [number(loss(targets.astype("float32"), logits, weights)), by_hand(logits, targets, weights)],
        "lists": [number(loss(targets.tolist(), logits.tolist(), weights.tolist())), by_hand(logits, targets, weights)],
    }


@fact
def mask():
    """A mask by hand: beside no weights, weights of sequences, of tokens, and NaN behind the mask."""
    logits, targets, weights = models.batch()
    kept = np.arange(5) < np.array([[5], [3], [1]])
    of_sequences = np.array([1.0, 2.0, 0.5], "float32")
    rows = {
        "none": (None, kept),
        "tokens": (weights, kept * weights),
        "integers": (np.arange(15).reshape(3, 5), kept * np.arange(15).reshape(3, 5)),
        "sequences": (of_sequences, kept * of_sequences[:, None]),
        "NaN": (np.where(kept, weights, np.nan).astype("float32"), kept * weights),
        "no mask, sequences": (of_sequences, np.broadcast_to(of_sequences[:, None], (3, 5))),
        "no mask, bools": (of_sequences > 0.7, np.broadcast_to(of_sequences[:, None] > 0.7, (3, 5))),
    }
    found = {}
    for name, (given, expected) in rows.items():
        y_pred = keras.ops.convert_to_tensor(logits)
        if not name.startswith("no mask"):
            models.set_mask(y_pred, keras.ops.convert_to_tensor(kept))
        found[name] = [number(seqloss.keras.SequenceLoss()(targets, y_pred, given)), by_hand(logits, targets, expected)]
    return found


@neutral
def beside_keras():
    """What Keras's own loss gives by its reductions, beside ours: [ours, Keras's]."""
    logits, targets, weights = models.batch()
    kept = np.arange(5) < np.array([[5], [3], [1]])

    def both(loss, reduction, given, kept=None, targets=targets, logits=logits):
        found = []
        for each in (loss, keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)):
            y_pred = keras.ops.convert_to_tensor(logits)
            if kept is not None:
                models.set_mask(y_pred, keras.ops.convert_to_tensor(kept))
            found.append(number(each(targets, y_pred, given)))
        return found

    mean, total = seqloss.keras.SequenceLoss(), seqloss.keras.SequenceLoss(reduction="sum")
    square = targets[:, :3], logits[:, :3]
    of_sequences = np.array([1.0, 2.0, 0.5], "float32")
    ours, theirs = both(mean, "mean_with_sample_weight", of_sequences, None, *square)
    return {
        "plain": both(mean, "sum_over_batch_size", None),
        "mask": both(mean, "sum_over_batch_size", None, kept),
        "weights": both(mean, "mean_with_sample_weight", weights),
        "mask and weights": both(mean, "mean_with_sample_weight", weights, kept),
        "sum": both(total, "sum", weights),
        "a weight for a sequence": [
            ours,
            by_hand(logits[:, :3], targets[:, :3], np.repeat(of_sequences[:, None], 3, 1)),
        ],
        "spread along time by Keras": [
            theirs,
            number(total(targets[:, :3], logits[:, :3], np.tile(of_sequences, (3, 1)))) / float(of_sequences.sum()),
        ],
        "its default counts tokens": [
            both(mean, "sum_over_batch_size", weights)[1],
            by_hand(logits, targets, weights, reduction="sum") / 15,
        ],
    }


@fact
def dtypes():
    """[dtype of the loss, loss, loss of the same numbers in wider floats] by what the logits are."""
    found = {}
    for given, options in {
        "float16": {},
        "bfloat16": {},
        "float32": {},
        "float64": {},
        "float32 to bfloat16": {"dtype": "bfloat16"},
        "float32 to float64": {"dtype": keras.DTypePolicy("float64")},
    }.items():
        logits, targets, weights = models.batch()
        if given.endswith("float64") and dtype(keras.ops.convert_to_tensor(np.zeros(1))) != "float64":
            continue
        y_pred = keras.ops.cast(logits, given.split()[0])
        as_they_are = keras.ops.cast(y_pred, "bfloat16") if given.endswith("to bfloat16") else y_pred
        wide = keras.ops.convert_to_numpy(keras.ops.cast(as_they_are, "float32")).astype("float64")
        loss = seqloss.keras.SequenceLoss(**options)(targets, y_pred, weights)
        found[given] = [dtype(loss), number(loss), by_hand(wide, targets, weights)]
    return found


@neutral
def errors():
    """Class and text."""
    logits, targets, weights = models.batch()
    make, call = seqloss.keras.SequenceLoss, seqloss.keras.SequenceLoss()
    tries = {
        "reduction": lambda: make(reduction="sum_over_batch_size"),
        "mean_with_sample_weight": lambda: make(reduction="mean_with_sample_weight"),
        "None": lambda: make(reduction=None),
        "flags": lambda: make(average_across_batch=True),
        "two names": lambda: make(ignore_class=0, ignore_index=0),
        "z_loss": lambda: make(z_loss=-1),
        "softcap": lambda: seqloss.keras.Perplexity(softcap=0),
        "smoothing": lambda: seqloss.keras.Perplexity(label_smoothing=0.1),
        "weights": lambda: call(targets, logits, weights[:2]),
        "weights of sequences": lambda: call(targets, logits, weights[:2, 0]),
        "rank": lambda: call(targets, logits, weights[..., None]),
        "fraction": lambda: call(targets + 0.5, logits),
        "flat": lambda: call(targets[0], logits[0], weights[0]),
        "label": lambda: call(targets + 1, logits),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "nothing was raised"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


# --- saving


@fact
def configs():
    """The configuration of each as JSON, and whether it makes the same through Keras."""
    smoothing = seqloss.Smoothing(np.float32(0.125), prior=np.ones(6), exclude=(0, np.int64(1)))
    made = {
        "loss": seqloss.keras.SequenceLoss(
            ignore_class=(0, 1), z_loss=np.float32(0.5), reduction="sum", exact=np.True_
        ),
        "smoothing": seqloss.keras.SequenceLoss(
            label_smoothing=smoothing, class_weights=keras.ops.ones(6), name="mine"
        ),
        "function": seqloss.keras.SequenceLoss(softmax_loss_function=models.cooler, dtype="bfloat16"),
        "metric": seqloss.keras.Perplexity(ignore_class=0, softcap=30.0, dtype="float16", name="ppl"),
    }
    found = {}
    for name, each in made.items():
        keeper = keras.metrics if name == "metric" else keras.losses
        config = json.loads(json.dumps(each.get_config()))
        text = json.dumps(keeper.serialize(each))
        other = keeper.deserialize(json.loads(text))
        again = type(each).from_config(config)
        same = (
            type(other) is type(again) is type(each) and other.get_config() == again.get_config() == each.get_config()
        )
        found[name] = {"config": config, "same": same, "registered": json.loads(text)["registered_name"]}
    return found


@neutral
def copies():
    import copy

    loss = seqloss.keras.SequenceLoss(label_smoothing=0.1, class_weights=np.arange(6))
    other = copy.deepcopy(loss)
    return other is not loss and type(other) is type(loss) and other.get_config() == loss.get_config()


@fact
def saved():
    """A compiled model after it was saved and loaded: [results before, after], and what its loss is."""
    import tempfile
    from pathlib import Path

    loss = seqloss.keras.SequenceLoss(
        ignore_class=2, label_smoothing=seqloss.Smoothing(0.1, prior=[1] * 6, exclude=(0,))
    )
    model = models.model(loss, metrics=[seqloss.keras.Perplexity(ignore_class=2)])
    before = models.evaluate(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.models.load_model(Path(folder) / "model.keras")
    return {
        "results": [before, models.evaluate(loaded)],
        "loss": type(loaded.loss) is seqloss.keras.SequenceLoss and loaded.loss.get_config() == loss.get_config(),
    }


# --- the metric


@fact
def perplexity():
    logits, targets, weights = models.batch()
    metric, found = seqloss.keras.Perplexity(ignore_class=3, softcap=3.0), {}
    expected = np.exp(by_hand(logits, targets, weights, ignore_index=3, softcap=3.0))
    for part in (slice(0, 1), slice(1, 1), slice(1, 3)):
        metric.update_state(targets[part], logits[part], weights[part])
    found["batches"] = [number(metric.result()), expected]
    found["dtype"] = dtype(metric.result())
    metric.reset_state()
    found["nothing"] = [number(metric.result()), 1.0]
    # A large batch comes and goes: float32 would lose what is between.
    metric = seqloss.keras.Perplexity()
    for row, weight in ((0, 2.0**24), (1, 1.0), (0, -(2.0**24))):
        metric.update_state(targets[row : row + 1], logits[row : row + 1], np.full((1, 5), weight))
    found["long"] = [number(metric.result()), np.exp(by_hand(logits[1:2], targets[1:2]))]
    return found


# --- in fit and evaluate


@fact
def trained():
    """In each way of running: what ``evaluate`` says, one step of ``fit``, and what the metrics of ``fit`` see."""
    return {name: models.run(name) for name in models.WAYS[sys.argv[1]]}


@fact
def mixed():
    """What a step of ``fit`` logs, the function on these logits, and Addons's class on them."""
    from seqloss.compat import tfa

    found, addons = {}, tfa.seq2seq.SequenceLoss(True, True, False, False)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        model = models.model(seqloss.keras.SequenceLoss(), policy=policy, scale=4.0)
        y_pred = model(models.IDS)
        logits = keras.ops.convert_to_numpy(keras.ops.cast(y_pred, "float32"))
        logs = model.fit(models.IDS, models.TARGETS, batch_size=6, verbose=0).history
        found[policy] = {
            "logits": dtype(y_pred),
            "loss": [logs["loss"][0], by_hand(logits, models.TARGETS, models.IDS != 0)],
            "addons": number(keras.ops.cast(addons(models.TARGETS, y_pred, models.IDS != 0), "float32")),
            "finite": bool(np.isfinite(models.kernel(model)).all()),
        }
    return found


@fact
def bad_labels():
    """Where labels can be read there is an error, and elsewhere NaN."""
    found = {}
    for name in ("eager", "default"):
        model = models.model(seqloss.keras.SequenceLoss(), run_eagerly=name == "eager")
        try:
            found[name] = repr(models.evaluate(model, targets=models.TARGETS + 9)["loss"])
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


@neutral
def examples():
    """The programs in the docstrings, of which the second prints what its comment says."""
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for each in (seqloss.keras.SequenceLoss, seqloss.keras.Perplexity):
            text = textwrap.dedent(re.search(r"\.\. code-block:: python\n(.*)", each.__doc__, re.DOTALL)[1])
            exec(textwrap.dedent(text), {})
    return printed.getvalue().strip()


if sys.argv[1] == "tensorflow":
    fact(models.replicas)


def main():
    found = {}
    for name, function in FACTS.items():
        try:
            found[name] = function()
        except Exception as error:
            import traceback

            found[name] = {"error": f"{type(error).__name__}: {error}"}
            print(name, traceback.format_exc(), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
