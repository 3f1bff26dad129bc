"""SequenceLoss as a loss of Keras: its flags, the sample weights, and saving."""

import keras
import numpy as np
import pytest

import seqloss
from seqloss.compat import tf1, tfa

INPUTS = np.random.RandomState(1).randn(6, 3, 2).astype("float32")
TARGETS = np.random.RandomState(2).randint(0, 4, (6, 3))
WEIGHTS = np.random.RandomState(3).rand(6, 3).astype("float32") * (np.arange(3) < 2)
CUSTOM = {"SequenceLoss": tfa.seq2seq.SequenceLoss}
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
@pytest.mark.parametrize("module", [tfa, tf1.contrib], ids=["tfa", "tf1"])
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


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_saved_model_keeps_the_flags(tmp_path):
    trained = model(tfa.seq2seq.SequenceLoss(**FLAGS["averages"], name="loss"))
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=CUSTOM)
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
