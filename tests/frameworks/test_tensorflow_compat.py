"""SequenceLoss as a loss of Keras: its flags, the sample weights, and saving."""

import copy
import pathlib
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import seqloss
from seqloss.compat import tf1, tfa
from seqloss.core.errors import UnreadableError

INPUTS = np.random.RandomState(1).randn(6, 3, 2).astype("float32")
TARGETS = np.random.RandomState(2).randint(0, 4, (6, 3))
WEIGHTS = np.random.RandomState(3).rand(6, 3).astype("float32") * (np.arange(3) < 2)
MODULES = pytest.mark.parametrize("module", [tfa, tf1.contrib], ids=["tfa", "tf1"])
FLAGS = {
    "sums": {},
    "averages": {
        "average_across_timesteps": True,
        "average_across_batch": True,
        "sum_over_timesteps": False,
        "sum_over_batch": False,
    },
}


def model(loss, **options):
    keras.utils.set_random_seed(0)
    result = keras.Sequential([keras.layers.Input((3, 2)), keras.layers.Dense(4)])
    result.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, **options)
    return result


@pytest.mark.parametrize("flags", FLAGS)
@MODULES
@pytest.mark.parametrize("weights", [WEIGHTS, None], ids=["weights", "none"])
def test_keras_gets_the_very_loss(module, flags, weights):
    loss = module.seq2seq.SequenceLoss(**FLAGS[flags])
    assert isinstance(loss, keras.losses.Loss)
    assert isinstance(loss, module.seq2seq.SequenceLoss)
    trained = model(loss)
    logits = trained(INPUTS)
    options = (False, False, True, True) if flags == "sums" else (True, True)
    expected = float(seqloss.sequence_loss(logits, TARGETS, weights, *options))
    result = trained.evaluate(INPUTS, TARGETS, sample_weight=weights, batch_size=6, verbose=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_fit_steps_along_the_gradient():
    trained = model(tfa.seq2seq.SequenceLoss(**FLAGS["averages"]))
    kernel, bias = (np.array(w) for w in trained.get_weights())
    logits = (INPUTS @ kernel + bias).astype("float32")
    _, slope = seqloss.sequence_loss_and_grad(logits, TARGETS, WEIGHTS)
    trained.fit(INPUTS, TARGETS, sample_weight=WEIGHTS, batch_size=6, epochs=1, verbose=0)
    expected = kernel - 0.1 * np.einsum("bti,btc->ic", INPUTS, slope)
    np.testing.assert_allclose(trained.get_weights()[0], expected, rtol=1e-4, atol=1e-6)


def test_one_hot_targets():
    trained = model(tfa.seq2seq.SequenceLoss())
    one_hot = np.eye(4, dtype="float32")[TARGETS]
    results = [trained.evaluate(INPUTS, y, sample_weight=WEIGHTS, batch_size=6, verbose=0) for y in (TARGETS, one_hot)]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


IDS = np.array([[1, 2, 3], [4, 5, 0], [2, 0, 0], [1, 3, 0], [5, 5, 5], [2, 1, 0]])


def masked_model(loss):
    keras.utils.set_random_seed(0)
    result = keras.Sequential([keras.layers.Input((3,)), keras.layers.Embedding(6, 4, mask_zero=True)])
    result.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss)
    return result


@MODULES
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("given", ["none", "floats", "integers", "NaN behind the mask"])
def test_the_mask_of_keras_is_a_weight(module, flags, given):
    weights = {
        "none": None,
        "floats": np.linspace(0.5, 2, 18, dtype="float32").reshape(6, 3),
        "integers": np.arange(18).reshape(6, 3),
        "NaN behind the mask": np.where(IDS != 0, 0.5, np.nan).astype("float32"),
    }[given]
    trained = masked_model(module.seq2seq.SequenceLoss(**FLAGS[flags]))
    logits = trained(IDS).numpy()
    by_hand = (IDS != 0) if weights is None else np.where(IDS != 0, weights, 0)
    options = (False, False, True, True) if flags == "sums" else (True, True)
    expected = float(seqloss.sequence_loss(logits, TARGETS, by_hand, *options))
    unmasked = float(seqloss.sequence_loss(logits, TARGETS, np.ones((6, 3)), *options))
    assert abs(expected - unmasked) > 1e-4 * expected
    result = trained.evaluate(IDS, TARGETS, sample_weight=weights, batch_size=6, verbose=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_mask_beside_weights_of_another_shape():
    trained = masked_model(tfa.seq2seq.SequenceLoss())
    with pytest.raises(ValueError, match=r"weights must have the shape \[batch, time\]"):
        trained.evaluate(IDS, TARGETS, sample_weight=np.ones(6, "float32"), batch_size=6, verbose=0)


@MODULES
def test_keras_finds_the_class_by_itself(module):
    loss = module.seq2seq.SequenceLoss(**FLAGS["averages"], name="loss")
    found = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(found) is type(loss)
    assert found.get_config() == loss.get_config()


@pytest.mark.parametrize("first", ["keras", "seqloss"])
def test_a_new_process_finds_the_class(python, first):
    """Without an object of it if Keras was there first, else with one."""
    saved = keras.losses.serialize(tfa.seq2seq.SequenceLoss(name="loss"))
    imports = ["import keras", "from seqloss.compat import tf1, tfa"]
    if first == "seqloss":
        imports = [*imports[::-1], "tfa.seq2seq.SequenceLoss()"]
    program = "\n".join([*imports, f"print(keras.losses.deserialize({saved!r}).get_config()['name'])"])
    assert python(program).split()[-1] == "loss"


@MODULES
@pytest.mark.parametrize("through", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_copies_and_pickles(module, through):
    loss = module.seq2seq.SequenceLoss(**FLAGS["averages"], softmax_loss_function=custom, name="loss")
    found = through(loss)
    assert found is not loss
    assert type(found) is type(loss)
    assert found.get_config() == loss.get_config()


def custom(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def test_a_pickle_goes_to_and_from_processes_without_keras(python):
    program = f"""
import pickle, sys
from seqloss.compat import tfa
loss = pickle.loads({pickle.dumps(tfa.seq2seq.SequenceLoss(name="loss"))!r})
assert "keras" not in sys.modules
print(loss.get_config()["name"], pickle.dumps(loss).hex())
"""
    name, text = python(program).split()[-2:]
    assert name == "loss"
    assert isinstance(pickle.loads(bytes.fromhex(text)), keras.losses.Loss)


def test_maxlen_of_a_graph():
    function = tf.function(lambda lengths, maxlen: tf1.sequence_mask(lengths, maxlen))
    with pytest.raises(UnreadableError, match=r"maxlen has no value yet .* pass a Python integer"):
        function(tf.constant([1, 2]), tf.constant(3))
    assert tf1.sequence_mask(tf.constant([1, 2]), tf.constant(3)).shape == (2, 3)


def test_the_script_of_the_migration_guide():
    """In a process of its own, since it has a graph of TensorFlow 1, without and with the behavior of TensorFlow 2."""
    guide = (pathlib.Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
    script, promised = re.search(r"```python\n(import numpy.*?)  # (\S+)\n```", guide, re.DOTALL).groups()
    for first in ("", "tf.disable_v2_behavior()\n"):
        program = script.replace("\nwith tf.Graph()", f"\n{first}with tf.Graph()", 1)
        assert first in program
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [promised]


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_saved_model_keeps_the_flags(tmp_path):
    trained = model(tfa.seq2seq.SequenceLoss(**FLAGS["averages"], name="loss"))
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.loss, tfa.seq2seq.SequenceLoss)
    assert loaded.loss.get_config() == {**FLAGS["averages"], "name": "loss"}


def test_a_loss_that_was_made_before_keras_is_a_plain_callable(python):
    program = """
from seqloss.compat import tfa
early = tfa.seq2seq.SequenceLoss()
import keras
late = tfa.seq2seq.SequenceLoss()
print(isinstance(early, keras.losses.Loss), isinstance(late, keras.losses.Loss))
"""
    assert python(program).split()[-2:] == ["False", "True"]


# --- soft targets in a graph ------------------------------------------------------------------------------------------

SOFT = np.random.RandomState(4).dirichlet(np.ones(4), (6, 3)).astype("float32")
LOGITS = np.random.RandomState(5).randn(6, 3, 4).astype("float32")
OPEN = tf.TensorSpec([None, None, None])


def soft_custom(labels, logits):
    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)


def soft_graph(function):
    loss = tfa.seq2seq.SequenceLoss(softmax_loss_function=function)
    return tf.function(loss.__call__, input_signature=[OPEN, OPEN])


@pytest.mark.parametrize("function", [None, soft_custom])
def test_soft_targets_of_unknown_sizes(function):
    expected = tfa.seq2seq.SequenceLoss()(SOFT, LOGITS)
    np.testing.assert_allclose(soft_graph(function)(SOFT, LOGITS), expected, rtol=1e-5)


@pytest.mark.parametrize("function", [None, soft_custom])
def test_soft_targets_whose_sizes_differ_when_the_graph_runs(function):
    """As many entries are not enough: these are transposed."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="the labels must have the shape of logits, but"):
        soft_graph(function)(SOFT.transpose(1, 0, 2), LOGITS)


@pytest.mark.parametrize("columns", [1, 4])
def test_a_custom_loss_of_soft_targets_of_another_size(columns):
    """Its rank is unknown while tracing; with as many columns as there are classes it looks like the labels."""

    def function(labels, logits):
        return tf.numpy_function(lambda z: z[:, :columns], [logits], tf.float32)

    with pytest.raises(tf.errors.InvalidArgumentError, match="softmax_loss_function must return one loss per token"):
        soft_graph(function)(SOFT, LOGITS)
