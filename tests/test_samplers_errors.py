"""What the samplers refuse, each with its class and full text, in every framework."""

import importlib
import re

import numpy as np
import pytest
from test_samplers import SAMPLERS, TRUE

import seqloss
from seqloss import samplers

STANDARD = {"true_classes": TRUE, "num_true": 2, "num_sampled": 3, "unique": True}
RANGED = {**STANDARD, "range_max": 5}
FLOATS = TRUE.astype("float32")
BEHIND = "if a positional argument ended up here by mistake, pass it by keyword"
TO_INT = "convert it with int(...)"


# Name, changed arguments, class, full text: for every sampler.
ROWS = [
    ("no array", {"true_classes": None}, "ArgumentTypeError", "true_classes is None, not an array; pass an array of "
     "numpy, torch, tensorflow, jax, or a list of numbers"),
    ("vector", {"true_classes": TRUE[:, 0]}, "ShapeError", "true_classes must have the shape [batch, num_true], got "
     "[3]; add the axis of the true classes, as in true_classes[:, None]"),
    ("rank 3", {"true_classes": TRUE[None]}, "ShapeError", "true_classes must have the shape [batch, num_true], got "
     "[1, 3, 2]; flatten the batch"),
    ("columns", {"num_true": 3}, "ShapeError", "true_classes must have num_true = 3 columns, got [3, 2]; pass "
     "num_true=2"),
    ("fewer columns", {"num_true": 1}, "ShapeError", "true_classes must have num_true = 1 columns, got [3, 2]; pass "
     "num_true=2"),
    ("floats", {"true_classes": FLOATS}, "DTypeError", "true_classes must be integer class ids, got float32; cast them "
     "to int64"),
    ("bools", {"true_classes": TRUE > 1}, "DTypeError", "true_classes must be integer class ids, got bool; cast them "
     "to int64"),
    ("num_true 0", {"num_true": 0}, "OptionError", "num_true must be at least 1, got 0"),
    ("num_true bool", {"num_true": True}, "ArgumentTypeError", f"num_true must be an integer, got True; {TO_INT}"),
    ("num_sampled 0", {"num_sampled": 0}, "OptionError", "num_sampled must be at least 1, got 0"),
    ("num_sampled bool", {"num_sampled": True}, "ArgumentTypeError", "num_sampled must be an integer, got True; "
     f"{TO_INT}"),
    ("num_sampled float", {"num_sampled": 3.0}, "ArgumentTypeError", "num_sampled must be an integer, got 3.0; "
     f"{TO_INT}"),
    ("unique", {"unique": 1}, "ArgumentTypeError", f"unique must be True or False, got 1; {BEHIND}"),
    ("name", {"name": 7}, "ArgumentTypeError", "name must be a string or None, got 7"),
    ("seed float", {"seed": 0.5}, "ArgumentTypeError", "seed must be None, an integer or a numpy.random.Generator, got "
     "0.5; make a generator with numpy.random.default_rng(...)"),
    ("seed bool", {"seed": True}, "ArgumentTypeError", "seed must be None, an integer or a numpy.random.Generator, got "
     "True; make a generator with numpy.random.default_rng(...)"),
    ("seed negative", {"seed": -1}, "OptionError", "seed must not be negative, got -1; pass one of at least 0, or "
     "None"),
    ("above", {"true_classes": TRUE + 3}, "LabelError", "true_classes[0, 1] is 6, outside [0, 5) (and 3 more); every "
     "true class must be one that can be sampled"),
    ("below", {"true_classes": TRUE - 1}, "LabelError", "true_classes[1, 0] is -1, outside [0, 5); every true class "
     "must be one that can be sampled"),
]  # fmt: skip
RANGED_ROWS = [
    ("range_max 0", {"range_max": 0}, "OptionError", "range_max must be at least 1, got 0"),
    ("range_max bool", {"range_max": True}, "ArgumentTypeError", f"range_max must be an integer, got True; {TO_INT}"),
    ("range_max huge", {"range_max": 2**60}, "OptionError", "range_max must be at most 2**53 = 9007199254740992, got "
     "1152921504606846976; pass the number of classes"),
    ("too many", {"num_sampled": 6}, "OptionError", "num_sampled is 6, but unique=True can draw at most the 5 ids of "
     "non-zero probability (range_max is 5); lower num_sampled or pass unique=False"),
]  # fmt: skip
FIXED = {**RANGED, "num_sampled": 1, "unigrams": [1, 2, 0, 4, 5.0]}
ONE = "one of vocab_file and unigrams must be given, got"
FIXED_ROWS = [
    ("zeros", {"num_sampled": 5}, "OptionError", "num_sampled is 5, but unique=True can draw at most the 4 ids of "
     "non-zero probability (range_max is 5); lower num_sampled or pass unique=False"),
    ("neither", {"unigrams": ()}, "OptionError", f"{ONE} neither; pass the frequencies once"),
    ("both", {"vocab_file": "words.txt"}, "OptionError", f"{ONE} both; pass the frequencies once"),
    ("length", {"unigrams": [1.0, 2.0]}, "ShapeError", "unigrams must hold range_max - num_reserved_ids = 5 - 0 = 5 "
     "frequencies, got 2; reserved ids have no entry"),
    ("reserved", {"num_reserved_ids": 2}, "ShapeError", "unigrams must hold range_max - num_reserved_ids = 5 - 2 = 3 "
     "frequencies, got 5; reserved ids have no entry"),
    ("matrix", {"unigrams": [[1.0]]}, "ShapeError", "unigrams must be a vector with one frequency per id, got [1, 1]"),
    ("negative", {"unigrams": [1, 2, -3, 4, 5]}, "OptionError", "the frequencies of unigrams must be finite and at "
     "least 0, but entry 2 is -3.0; correct it"),
    ("nan", {"unigrams": [1, 2, 3, float("nan"), 5]}, "OptionError", "the frequencies of unigrams must be finite and "
     "at least 0, but entry 3 is nan; correct it"),
    ("all 0", {"unigrams": [0] * 5}, "OptionError", "unigrams must hold a frequency above 0, but all are 0; nothing "
     "could be drawn"),
    ("flags", {"unigrams": [True] * 5}, "DTypeError", "unigrams must be numbers, got bool; cast them to float64"),
    ("object", {"unigrams": {1: 2}}, "ArgumentTypeError", "unigrams must be a list of numbers or a NumPy array, got a "
     "dict; it is read on the host"),
    ("power", {"distortion": -1}, "OptionError", "the frequencies of unigrams to the power distortion = -1.0 must be "
     "finite, but entry 2 is inf; correct it"),
    ("distortion", {"distortion": "1"}, "ArgumentTypeError", "distortion must be a number, got '1'; convert it with "
     "float(...)"),
    ("distortion inf", {"distortion": float("inf")}, "OptionError", "distortion must be finite, got inf; 1.0 leaves "
     "the frequencies as they are"),
    ("num_reserved_ids", {"num_reserved_ids": -1}, "OptionError", "num_reserved_ids must be at least 0, got -1"),
    ("shards", {"num_shards": 2}, "OptionError", "num_shards must be 1 and shard 0, got 2 and 0; for a part of the ids "
     "pass its entries of unigrams and translate the ids yourself"),
    ("vocab_file", {"vocab_file": 3}, "ArgumentTypeError", "vocab_file must be the path of a text file, got 3; pass '' "
     "for none"),
]  # fmt: skip
HITS = {"true_classes": TRUE, "sampled_candidates": np.array([3, 7]), "num_true": 2}
HITS_ROWS = [
    *(row for row in ROWS if row[0] not in ("above", "below", "unique") and "num_sampled" not in row[1]),
    ("matrix of candidates", {"sampled_candidates": TRUE}, "ShapeError", "sampled_candidates must be a vector of at "
     "least one id, got [3, 2]; pass the field sampled of a sampler's result"),
    ("no candidates", {"sampled_candidates": TRUE[:0, 0]}, "ShapeError", "sampled_candidates must be a vector of at "
     "least one id, got [0]; pass the field sampled of a sampler's result"),
    ("float candidates", {"sampled_candidates": FLOATS[0]}, "DTypeError", "sampled_candidates must be integer class "
     "ids, got float32; cast them to int64"),
]  # fmt: skip


def cases():
    for name in ("log_uniform", "uniform", "learned_unigram"):
        yield f"{name}_candidate_sampler", RANGED, [*ROWS, *RANGED_ROWS]
    yield "all_candidate_sampler", {**STANDARD, "num_sampled": 5}, ROWS
    yield "fixed_unigram_candidate_sampler", FIXED, [*ROWS, *RANGED_ROWS[:3], *FIXED_ROWS]
    yield "compute_accidental_hits", HITS, HITS_ROWS


CASES = [(function, standard, *row) for function, standard, rows in cases() for row in rows]


@pytest.mark.parametrize(
    "function, standard, changed, error, text",
    [(function, standard, *rest) for function, standard, _, *rest in CASES],
    ids=[f"{function}-{name}" for function, _, name, *_ in CASES],
)
def test_refused(framework, function, standard, changed, error, text):
    arguments = {
        name: framework.array(x) if isinstance(x, np.ndarray) else x for name, x in {**standard, **changed}.items()
    }
    with pytest.raises(getattr(seqloss, error)) as caught:
        getattr(samplers, function)(**arguments)
    assert str(caught.value) == text


@pytest.mark.parametrize("function, standard", [case[:2] for case in cases()])
def test_the_standard_arguments_are_legal(framework, function, standard):
    arguments = {name: framework.array(x) if isinstance(x, np.ndarray) else x for name, x in standard.items()}
    getattr(samplers, function)(**arguments)


# --- tracing ----------------------------------------------------------------------------------------------------------

WAYS = {
    "numpy": lambda function, x: function(x),
    "torch": lambda function, x: importlib.import_module("torch").func.vmap(function)(x),
    "tensorflow": lambda function, x: importlib.import_module("tensorflow").function(function, autograph=False)(x),
    "jax": lambda function, x: importlib.import_module("jax").jit(function)(x),
}
UNREADABLE = (
    "{} have no values yet (traced, batched, or without storage), but candidates are drawn on the host; draw them "
    "outside the compiled function, as with samplers.log_uniform_candidate_sampler, and pass them as sampled_values"
)


@pytest.mark.parametrize("name", [*SAMPLERS, "all", "hits"])
def test_traced_true_classes_are_refused_and_host_values_are_not(framework, name):
    calls = {
        "all": lambda x: samplers.all_candidate_sampler(x, 2, 5, True),
        "hits": lambda x: samplers.compute_accidental_hits(x, [3, 1], 2),
    }
    call = calls.get(name) or (lambda x: SAMPLERS[name](x, 2, 2, False, 5))
    caught = []

    def traced(x):
        call(TRUE)
        # Under vmap x is one matrix of a batch.
        try:
            call(x)
        except seqloss.UnreadableError as error:
            caught.append(str(error))
        return x

    WAYS[framework.name](traced, framework.array(TRUE[None] if framework.name == "torch" else TRUE))
    assert caught == ([] if framework.name == "numpy" else [UNREADABLE.format("true_classes")])


def test_traced_candidates_are_refused(framework):
    caught, true_classes = [], framework.array(TRUE)

    def traced(x):
        try:
            samplers.compute_accidental_hits(true_classes, x, 2)
        except seqloss.UnreadableError as error:
            caught.append(str(error))
        return x

    WAYS[framework.name](traced, framework.array(TRUE if framework.name == "torch" else TRUE[0]))
    # Inside of vmap even plain tensors of torch have no values.
    name = "true_classes" if framework.name == "torch" else "sampled_candidates"
    assert caught == ([] if framework.name == "numpy" else [UNREADABLE.format(name)])


def test_ids_that_the_framework_cannot_hold(framework):
    """JAX has no int64 unless it is switched on."""
    if framework.name != "jax":
        values = samplers.uniform_candidate_sampler(framework.array(TRUE), 2, 3, True, 2**40, seed=1)
        assert framework.to_numpy(values.sampled).max() > 2**31
        return
    text = (
        "range_max is 1099511627776, but the framework of true_classes holds ids as int32 here; enable its 64-bit "
        "integers (jax_enable_x64), or pass true_classes as a NumPy array"
    )
    with pytest.raises(seqloss.OptionError, match=re.escape(text)):
        samplers.uniform_candidate_sampler(framework.array(TRUE), 2, 3, True, 2**40)
