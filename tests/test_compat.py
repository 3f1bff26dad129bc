"""The compat modules: signatures, flags, dtypes and gradients of TensorFlow 1.15 and Addons 0.23."""

import functools
import inspect
import itertools

import numpy as np
import pytest

import seqloss
from seqloss.compat import tf1, tfa
from seqloss.core.errors import ArgumentTypeError, OptionError, ShapeError

pytestmark = pytest.mark.few_where_compiled

RNG = np.random.RandomState(7)
LOGITS = (RNG.randn(2, 3, 5) * 2).astype("float32")
TARGETS = RNG.randint(0, 5, (2, 3)).astype("int32")
WEIGHTS = np.array([[1, 1, 0], [0.5, 2, 0]], "float32")
SOFT = RNG.dirichlet(np.ones(5), (2, 3)).astype("float32")
NONE = {"average_across_timesteps": False, "average_across_batch": False}


def batch(framework, logits=LOGITS, targets=TARGETS, weights=WEIGHTS):
    return framework.array(logits), framework.array(targets), framework.array(weights)


def close(framework, result, expected, rtol=1e-5):
    assert framework.is_array(result)
    np.testing.assert_allclose(framework.to_numpy(result), expected, rtol=rtol, atol=1e-6)


def gradients(framework, function, arrays, wrt):
    return framework.MODES["eager"](function, wrt)(arrays, None)[1]


# --- signatures ------------------------------------------------------------------------------------------------------

SEQUENCE = (
    "logits, targets, weights, average_across_timesteps=True, average_across_batch=True, sum_over_timesteps=False, "
    "sum_over_batch=False, softmax_loss_function=None, name=None"
)
CLASS = (
    "average_across_timesteps=False, average_across_batch=False, sum_over_timesteps=True, sum_over_batch=True, "
    "softmax_loss_function=None, name=None"
)
WEIGHTED = "weights=1.0, {}scope=None, loss_collection='losses', reduction='weighted_sum_by_nonzero_weights'"
SAMPLED = (
    "weights, biases, labels, inputs, num_sampled, num_classes, num_true=1, sampled_values=None, "
    "remove_accidental_hits={}, partition_strategy='mod', name='{}'{}"
)
SAMPLER = "true_classes, num_true, num_sampled, unique, {}seed=None, name=None"
RANGE = SAMPLER.format("range_max, ")
SENTINEL = "_sentinel=None, labels=None, logits=None, {}name=None{}"
SIGNATURES = {
    "tfa.seq2seq.sequence_loss": SEQUENCE,
    "tfa.seq2seq.SequenceLoss": CLASS,
    "tfa.seq2seq.SequenceLoss.__call__": "self, y_true, y_pred, sample_weight=None",
    "tf1.contrib.seq2seq.sequence_loss": SEQUENCE,
    "tf1.contrib.seq2seq.SequenceLoss": CLASS,
    "tf1.contrib.legacy_seq2seq.sequence_loss": "logits, targets, weights, average_across_timesteps=True, "
    "average_across_batch=True, softmax_loss_function=None, name=None",
    "tf1.contrib.legacy_seq2seq.sequence_loss_by_example": "logits, targets, weights, average_across_timesteps=True, "
    "softmax_loss_function=None, name=None",
    "tf1.contrib.legacy_seq2seq.model_with_buckets": "encoder_inputs, decoder_inputs, targets, weights, buckets, "
    "seq2seq, softmax_loss_function=None, per_example_loss=False, name=None",
    "tf1.losses.compute_weighted_loss": f"losses, {WEIGHTED.format('')}",
    "tf1.losses.softmax_cross_entropy": f"onehot_labels, logits, {WEIGHTED.format('label_smoothing=0, ')}",
    "tf1.losses.sparse_softmax_cross_entropy": f"labels, logits, {WEIGHTED.format('')}",
    "tf1.losses.sigmoid_cross_entropy": f"multi_class_labels, logits, {WEIGHTED.format('label_smoothing=0, ')}",
    "tf1.nn.sparse_softmax_cross_entropy_with_logits": SENTINEL.format("", ""),
    "tf1.nn.softmax_cross_entropy_with_logits": SENTINEL.format("dim=-1, ", ", axis=None"),
    "tf1.nn.softmax_cross_entropy_with_logits_v2": "labels, logits, axis=None, name=None, dim=None",
    "tf1.nn.sigmoid_cross_entropy_with_logits": SENTINEL.format("", ""),
    "tf1.nn.weighted_cross_entropy_with_logits": "labels=None, logits=None, pos_weight=None, name=None, targets=None",
    "tf1.nn.sampled_softmax_loss": SAMPLED.format(True, "sampled_softmax_loss", ", seed=None"),
    "tf1.nn.nce_loss": SAMPLED.format(False, "nce_loss", ""),
    "tf1.nn.log_uniform_candidate_sampler": RANGE,
    "tf1.nn.uniform_candidate_sampler": RANGE,
    "tf1.nn.learned_unigram_candidate_sampler": RANGE,
    "tf1.nn.fixed_unigram_candidate_sampler": SAMPLER.format(
        "range_max, vocab_file='', distortion=1.0, num_reserved_ids=0, num_shards=1, shard=0, unigrams=(), "
    ),
    "tf1.nn.all_candidate_sampler": SAMPLER.format(""),
    "tf1.nn.compute_accidental_hits": "true_classes, sampled_candidates, num_true, seed=None, name=None",
    "tf1.sequence_mask": "lengths, maxlen=None, dtype='bool', name=None",
}


def find(path):
    return functools.reduce(getattr, path.split(".")[1:], {"tf1": tf1, "tfa": tfa}[path.partition(".")[0]])


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures(path):
    found = find(path)
    signature = inspect.signature(found)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    assert text == f"({SIGNATURES[path]})"


def test_every_name_has_its_signature():
    modules = {
        "tf1": tf1,
        "tf1.contrib.seq2seq": tf1.contrib.seq2seq,
        "tf1.contrib.legacy_seq2seq": tf1.contrib.legacy_seq2seq,
        "tf1.losses": tf1.losses,
        "tf1.nn": tf1.nn,
        "tfa.seq2seq": tfa.seq2seq,
    }
    names = {f"{path}.{name}" for path, module in modules.items() for name in module.__all__}
    others = {"tf1.contrib", "tf1.losses", "tf1.nn", "tf1.losses.Reduction", "tfa.seq2seq.SequenceLoss.__call__"}
    assert names - others == set(SIGNATURES) - others
    assert tf1.losses.Reduction is seqloss.Reduction


# --- flags -----------------------------------------------------------------------------------------------------------

LEGAL = {"tfa": ["nT_nB", "nT_sB", "sT_nB", "sT_sB", "nT_aB", "aT_nB", "aT_aB"]}
LEGAL["tf1"] = [*LEGAL["tfa"], "sT_aB", "aT_sB"]
FLAGS = list(itertools.product((False, True), repeat=4))


@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: "".join("FT"[flag] for flag in flags))
@pytest.mark.parametrize("which", LEGAL)
def test_all_combinations_of_flags(framework, which, flags):
    """As measured: what raises, and that an average silently overrules the sum over the other axis in 1.15."""
    average_time, average_batch, sum_time, sum_batch = flags
    function = {"tfa": tfa, "tf1": tf1.contrib}[which].seq2seq.sequence_loss
    contradicts = (average_time and sum_time) or (average_batch and sum_batch)
    is_mixed = (average_batch and sum_time) or (average_time and sum_batch)
    if contradicts or (is_mixed and which == "tfa"):
        with pytest.raises(ValueError, match="cannot both be True"):
            function(*batch(framework), *flags)
        return
    if average_time or average_batch:
        sum_time = sum_batch = False
    expected = seqloss.sequence_loss(*batch(framework), average_time, average_batch, sum_time, sum_batch)
    close(framework, function(*batch(framework), *flags), framework.to_numpy(expected))


@pytest.mark.parametrize("module", [tfa, tf1.contrib], ids=["tfa", "tf1"])
@pytest.mark.parametrize("flag", [32000, 1, 0, "yes", None])
def test_a_flag_is_a_bool(framework, module, flag):
    """1.15 takes any number: a vocabulary size that is passed by position is the classic accident."""
    with pytest.raises(TypeError, match="average_across_timesteps must be True or False"):
        module.seq2seq.sequence_loss(*batch(framework), flag)
    with pytest.raises(TypeError, match="average_across_timesteps must be True or False"):
        module.seq2seq.SequenceLoss(flag)


@pytest.mark.parametrize("module", [tfa, tf1.contrib], ids=["tfa", "tf1"])
def test_weights_are_required(framework, module):
    with pytest.raises(TypeError, match=r"weights is None, but tfa?\.[a-z.]*seq2seq.sequence_loss requires them"):
        module.seq2seq.sequence_loss(*batch(framework)[:2], None)


# --- dtypes ----------------------------------------------------------------------------------------------------------

HALF = LOGITS.astype("float16")
RESULTS = {
    "tfa": lambda a: tfa.seq2seq.sequence_loss(a(HALF), a(TARGETS), a(WEIGHTS)),
    "tfa_soft": lambda a: tfa.seq2seq.sequence_loss(a(HALF), a(SOFT), a(WEIGHTS)),
    "contrib": lambda a: tf1.contrib.seq2seq.sequence_loss(a(HALF), a(TARGETS), a(WEIGHTS)),
    "by_example": lambda a: tf1.contrib.legacy_seq2seq.sequence_loss_by_example([a(HALF[0])], [a(TARGETS[0])], [1.0]),
    "lists": lambda a: tf1.contrib.legacy_seq2seq.sequence_loss([a(HALF[0])], [a(TARGETS[0])], [1.0]),
    "weighted": lambda a: tf1.losses.compute_weighted_loss(a(HALF)),
    "losses_softmax": lambda a: tf1.losses.softmax_cross_entropy(a(SOFT), a(HALF), a(WEIGHTS)),
    "losses_sparse": lambda a: tf1.losses.sparse_softmax_cross_entropy(a(TARGETS), a(HALF), a(WEIGHTS)),
    "losses_sigmoid": lambda a: tf1.losses.sigmoid_cross_entropy(a(SOFT), a(HALF)),
    "sparse": lambda a: tf1.nn.sparse_softmax_cross_entropy_with_logits(labels=a(TARGETS), logits=a(HALF)),
    "softmax": lambda a: tf1.nn.softmax_cross_entropy_with_logits(labels=a(SOFT), logits=a(HALF)),
    "softmax_v2": lambda a: tf1.nn.softmax_cross_entropy_with_logits_v2(a(SOFT), a(HALF)),
    "sigmoid": lambda a: tf1.nn.sigmoid_cross_entropy_with_logits(labels=a(SOFT), logits=a(HALF)),
    "weighted_sigmoid": lambda a: tf1.nn.weighted_cross_entropy_with_logits(a(SOFT), a(HALF), 2.0),
    "sampled": lambda a: tf1.nn.sampled_softmax_loss(a(HALF[0]), a(HALF[0, :, 0]), a([[1]]), a(HALF[0, :1]), 2, 3),
    "nce": lambda a: tf1.nn.nce_loss(a(HALF[0]), a(HALF[0, :, 0]), a([[1]]), a(HALF[0, :1]), 2, 3),
}


@pytest.mark.parametrize("name", RESULTS)
def test_half_precision_gives_half_precision(framework, name):
    """The other public functions return float32 for it."""
    result = RESULTS[name](framework.array)
    assert framework.dtype(result) == "float16"
    assert np.isfinite(framework.to_numpy(result)).all()


# --- gradients -------------------------------------------------------------------------------------------------------

UNNORMALISED = 3 * SOFT
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_gradient_against_labels_of_any_sum(framework, version):
    def function(logits, labels):
        if version == "v1":
            return tf1.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf1.nn.softmax_cross_entropy_with_logits_v2(labels, logits)

    arrays = [framework.array(LOGITS), framework.array(UNNORMALISED)]
    close(framework, function(*arrays), -(UNNORMALISED * np.log(PROBABILITIES)).sum(-1))
    found = gradients(framework, function, arrays, (0, 1))
    if found is not None:
        close(framework, found[0], PROBABILITIES - UNNORMALISED)
        close(framework, found[1], np.zeros_like(SOFT) if version == "v1" else -np.log(PROBABILITIES))


def test_the_gradient_of_the_weighted_loss_against_labels_of_any_sum(framework):
    def function(logits, labels, weights):
        return tf1.losses.softmax_cross_entropy(labels, logits, weights, reduction=tf1.losses.Reduction.SUM)

    arrays = [framework.array(x) for x in (LOGITS, UNNORMALISED, WEIGHTS)]
    close(framework, function(*arrays), -(WEIGHTS[..., None] * UNNORMALISED * np.log(PROBABILITIES)).sum())
    found = gradients(framework, function, arrays, (0, 1))
    if found is not None:
        close(framework, found[0], WEIGHTS[..., None] * (PROBABILITIES - UNNORMALISED))
        close(framework, found[1], np.zeros_like(SOFT))


def test_soft_targets_mask_and_may_be_integers(framework):
    logits, targets = LOGITS.copy(), SOFT.copy()
    logits[WEIGHTS == 0], targets[WEIGHTS == 0] = np.nan, np.nan
    unmasked = tfa.seq2seq.sequence_loss(*batch(framework, targets=SOFT))
    close(framework, tfa.seq2seq.sequence_loss(*batch(framework, logits, targets)), framework.to_numpy(unmasked))
    one_hot = np.eye(5, dtype="int64")[TARGETS]
    expected = framework.to_numpy(seqloss.sequence_loss(*batch(framework)))
    close(framework, tfa.seq2seq.sequence_loss(*batch(framework, targets=one_hot)), expected)


def test_a_custom_loss_of_soft_targets_gets_all_axes(framework):
    """Addons flattened the targets to [batch * time * classes], of which nothing can be made."""
    shapes = []

    def function(labels, logits):
        shapes.append((tuple(labels.shape), tuple(logits.shape)))
        return 2 * seqloss.softmax_cross_entropy_with_logits(labels, logits)

    loss = tfa.seq2seq.sequence_loss(*batch(framework, targets=SOFT), softmax_loss_function=function)
    close(framework, loss, 2 * framework.to_numpy(tfa.seq2seq.sequence_loss(*batch(framework, targets=SOFT))))
    assert shapes == [((6, 5), (6, 5))]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 5), (3, 3, 5)])
def test_soft_targets_of_another_shape(framework, shape):
    with pytest.raises(ValueError, match=r"targets must have the shape \[2, 3, 5\] of logits"):
        tfa.seq2seq.sequence_loss(*batch(framework, targets=np.ones(shape, "float32")))


# --- tf.nn -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "sparse_softmax_cross_entropy_with_logits",
        "softmax_cross_entropy_with_logits",
        "sigmoid_cross_entropy_with_logits",
    ],
)
def test_labels_and_logits_go_by_keyword(framework, name):
    arrays = batch(framework)
    with pytest.raises(ValueError, match=f"^{name} takes labels and logits by keyword only"):
        getattr(tf1.nn, name)(arrays[1], arrays[0])


def test_two_names_of_the_axis(framework):
    arrays = {"labels": framework.array(SOFT), "logits": framework.array(LOGITS)}
    expected = framework.to_numpy(tf1.nn.softmax_cross_entropy_with_logits(**arrays, axis=1))
    close(framework, tf1.nn.softmax_cross_entropy_with_logits(**arrays, dim=1), expected)
    close(framework, tf1.nn.softmax_cross_entropy_with_logits_v2(**arrays, dim=1), expected)
    with pytest.raises(ValueError, match="axis and dim are two names of one argument"):
        tf1.nn.softmax_cross_entropy_with_logits_v2(**arrays, axis=1, dim=1)


@pytest.mark.parametrize("version", ["", "_v2"])
@pytest.mark.parametrize("keyword", ["axis", "dim"])
@pytest.mark.parametrize("axis", [1.5, True, "a", -1.0, np.array([-1, 1])], ids=str)
def test_an_axis_that_is_no_integer(framework, version, keyword, axis):
    function = getattr(tf1.nn, f"softmax_cross_entropy_with_logits{version}")
    with pytest.raises(ArgumentTypeError, match=r"^axis must be a Python integer, got"):
        function(labels=framework.array(SOFT), logits=framework.array(LOGITS), **{keyword: axis})


@pytest.mark.parametrize("version", ["", "_v2"])
def test_a_name_of_the_softmax_loss_that_is_no_string(framework, version):
    function = getattr(tf1.nn, f"softmax_cross_entropy_with_logits{version}")
    with pytest.raises(ArgumentTypeError, match=r"^name must be a string or None, got 3"):
        function(labels=framework.array(SOFT), logits=framework.array(LOGITS), name=3)


def test_two_names_of_the_labels_and_no_weight(framework):
    labels, logits = framework.array(SOFT), framework.array(LOGITS)
    expected = framework.to_numpy(tf1.nn.weighted_cross_entropy_with_logits(labels, logits, 2.0))
    close(framework, tf1.nn.weighted_cross_entropy_with_logits(targets=labels, logits=logits, pos_weight=2.0), expected)
    with pytest.raises(ValueError, match="two names of one argument"):
        tf1.nn.weighted_cross_entropy_with_logits(labels, logits, 2.0, targets=labels)
    with pytest.raises(TypeError, match="pos_weight is None"):
        tf1.nn.weighted_cross_entropy_with_logits(labels, logits)


@pytest.mark.parametrize("name", [name for name in tf1.nn.__all__ if name.endswith("_candidate_sampler")])
def test_expected_counts_are_float32(framework, name):
    options = {"unigrams": [1.0] * 5} if name.startswith("fixed") else {}
    numbers = (3, True) if name.startswith("all") else (3, True, 5)
    arguments = (framework.array(np.array([[1]])), 1, *numbers)
    sampled, *counts = getattr(tf1.nn, name)(*arguments, **options)
    assert framework.dtype(sampled) in ("int64", "int32" if framework.name == "jax" else "int64")
    assert [framework.dtype(count) for count in counts] == ["float32", "float32"]
    assert [framework.is_array(count) for count in counts] == [True, True]


def test_sequence_mask(framework):
    mask = tf1.sequence_mask(framework.array(np.array([1, 3])), 3, "float32", "mask")
    close(framework, mask, [[1, 0, 0], [1, 1, 1]])


def test_a_scalar_array_says_how_long_a_mask_is(framework):
    mask = tf1.sequence_mask(framework.array(np.array([1, 2])), framework.array(np.array(3, "int32")))
    assert framework.dtype(mask) == "bool"
    np.testing.assert_array_equal(framework.to_numpy(mask), [[1, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("maxlen", [np.array([3]), np.array(3.0), np.array(True)], ids=repr)
def test_other_arrays_say_nothing_about_the_length(framework, maxlen):
    with pytest.raises(ArgumentTypeError, match=r"^maxlen must be a Python integer or None, got"):
        tf1.sequence_mask(framework.array(np.array([1, 2])), framework.array(maxlen))


# --- buckets ---------------------------------------------------------------------------------------------------------


def test_model_with_buckets(framework):
    legacy = tf1.contrib.legacy_seq2seq
    steps = [framework.array(x) for x in LOGITS.transpose(1, 0, 2)]
    targets, weights = list(TARGETS.T), list(WEIGHTS.T)

    def model(encoder_inputs, decoder_inputs):
        assert len(encoder_inputs) == 1
        return [2 * x for x in decoder_inputs], "state"

    for per_example, loss in ((False, legacy.sequence_loss), (True, legacy.sequence_loss_by_example)):
        arguments = [0, 0], steps, targets, weights, [(1, 2), (1, 3)], model
        outputs, losses = legacy.model_with_buckets(*arguments, per_example_loss=per_example)
        assert [len(bucket) for bucket in outputs] == [2, 3]
        for length, result in zip((2, 3), losses, strict=True):
            expected = loss([2 * x for x in steps[:length]], targets[:length], weights[:length])
            close(framework, result, framework.to_numpy(expected))


@pytest.mark.parametrize("short", [0, 1, 2, 3])
def test_lists_that_are_shorter_than_a_bucket(short):
    name = ("encoder_inputs", "decoder_inputs", "targets", "weights")[short]
    arguments = [[0, 0], [0, 0], [0, 0], [0, 0]]
    arguments[short] = [0]
    with pytest.raises(ValueError, match=f"{name} has 1 timesteps, but a bucket needs 2"):
        # The longest bucket is not the last.
        tf1.contrib.legacy_seq2seq.model_with_buckets(*arguments, [(2, 2), (1, 1)], None)


BAD_BUCKETS = {
    "None": (None, ArgumentTypeError, "got None"),
    "number": (3, ArgumentTypeError, "got 3"),
    "one pair": ((2, 2), ArgumentTypeError, r"pass \[\(source, target\)\]"),
    "triple": ([(1, 2), (1, 2, 3)], ShapeError, r"got one with 3 entries, \(1, 2, 3\)"),
    "single": ([(1,)], ShapeError, "got one with 1 entries"),
    "float": ([(1, 2.0)], ArgumentTypeError, "got the size 2.0"),
    "bool": ([(True, 2)], ArgumentTypeError, "got the size True"),
    "string": (["12"], ArgumentTypeError, "got the size '1'"),
    "negative": ([(1, -1)], OptionError, "got the negative size -1"),
}


@pytest.mark.parametrize("which", BAD_BUCKETS)
def test_malformed_buckets(which):
    buckets, error, text = BAD_BUCKETS[which]
    with pytest.raises(error, match=f"^buckets must be a list of pairs .*{text}"):
        tf1.contrib.legacy_seq2seq.model_with_buckets(*[[0, 0]] * 4, buckets, lambda *_: None)


@pytest.mark.parametrize("given", [None, 3, "ab", {0: 0, 1: 1}], ids=repr)
@pytest.mark.parametrize("position", range(4))
def test_lists_of_a_bucket_that_are_none(position, given):
    name = ("encoder_inputs", "decoder_inputs", "targets", "weights")[position]
    arguments = [[0, 0], [0, 0], [0, 0], [0, 0]]
    arguments[position] = given
    with pytest.raises(ArgumentTypeError, match=f"^{name} must be a list with one entry for each timestep"):
        tf1.contrib.legacy_seq2seq.model_with_buckets(*arguments, [(1, 1)], lambda *_: None)


BAD_MODELS = {
    "None": (None, ArgumentTypeError, r"must be callable with \(encoder_inputs, decoder_inputs\), got None"),
    "returns None": (lambda *_: None, ArgumentTypeError, r"must return the pair \(logits, state\), got a NoneType"),
    "returns logits": (lambda *_: [0, 0, 0], ShapeError, r"must return the pair \(logits, state\), got 3 results"),
}


@pytest.mark.parametrize("which", BAD_MODELS)
def test_models_of_a_bucket_that_are_none(which):
    model, error, text = BAD_MODELS[which]
    with pytest.raises(error, match=f"^seq2seq {text}"):
        tf1.contrib.legacy_seq2seq.model_with_buckets(*[[0, 0]] * 4, [(1, 1)], model)


# --- the class -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [tfa, tf1.contrib], ids=["tfa", "tf1"])
def test_the_class_takes_targets_first_and_sums_by_default(framework, module):
    logits, targets, weights = batch(framework)
    expected = seqloss.sequence_loss(logits, targets, weights, False, False, True, True)
    close(framework, module.seq2seq.SequenceLoss()(targets, logits, weights), framework.to_numpy(expected))
    averages = {"sum_over_timesteps": False, "sum_over_batch": False, "average_across_timesteps": True}
    loss = module.seq2seq.SequenceLoss(**averages)
    expected = seqloss.sequence_loss(logits, targets, weights, average_across_batch=False)
    close(framework, loss(targets, logits, sample_weight=weights), framework.to_numpy(expected))
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()
    close(framework, again(targets, logits, weights), framework.to_numpy(expected))


@pytest.mark.parametrize("targets", [TARGETS, SOFT], ids=["ids", "soft"])
def test_the_class_without_weights_counts_every_token(framework, targets):
    logits, targets, ones = batch(framework, targets=targets, weights=np.ones((2, 3), "float32"))
    loss = tfa.seq2seq.SequenceLoss()
    close(framework, loss(targets, logits), framework.to_numpy(loss(targets, logits, ones)))


def test_contradicting_flags_of_the_class_are_refused_by_the_call(framework):
    logits, targets, weights = batch(framework)
    loss = tfa.seq2seq.SequenceLoss(average_across_timesteps=True)
    with pytest.raises(ValueError, match="average_across_timesteps and sum_over_timesteps cannot both be True"):
        loss(targets, logits, weights)


def test_importing_brings_no_framework(python):
    program = "import sys; from seqloss.compat import tf1, tfa; tfa.seq2seq.SequenceLoss(); print(*sys.modules)"
    assert not {"numpy", "torch", "tensorflow", "jax", "keras"} & set(python(program).split())
