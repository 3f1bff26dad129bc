"""What old functions take over from the ones they call: signature, docstring and examples, as their own."""

import doctest
import importlib
import inspect
import pickle
import pydoc
import re
import subprocess
import sys

import numpy as np
import pytest

import seqloss
from seqloss import legacy, samplers
from seqloss.compat import tf1, tfa

# What each stands for, and the argument whose dtype the result has, if it is a loss.
STAND_INS = {
    "tf1.contrib.legacy_seq2seq.sequence_loss": (legacy.sequence_loss, "logits"),
    "tf1.contrib.legacy_seq2seq.sequence_loss_by_example": (seqloss.sequence_loss_by_example, "logits"),
    "tf1.losses.compute_weighted_loss": (seqloss.compute_weighted_loss, "losses"),
    "tf1.losses.sigmoid_cross_entropy": (seqloss.sigmoid_cross_entropy, "logits"),
    "tf1.losses.sparse_softmax_cross_entropy": (seqloss.sparse_softmax_cross_entropy, "logits"),
    "tf1.nn.all_candidate_sampler": (samplers.all_candidate_sampler, None),
    "tf1.nn.fixed_unigram_candidate_sampler": (samplers.fixed_unigram_candidate_sampler, None),
    "tf1.nn.learned_unigram_candidate_sampler": (samplers.learned_unigram_candidate_sampler, None),
    "tf1.nn.log_uniform_candidate_sampler": (samplers.log_uniform_candidate_sampler, None),
    "tf1.nn.uniform_candidate_sampler": (samplers.uniform_candidate_sampler, None),
}
LOSSES = {path: argument for path, (_, argument) in STAND_INS.items() if argument}
# More than a cast: written out, but for the part of the docstring that is the same.
WRITTEN = {
    "tf1.contrib.seq2seq.sequence_loss": seqloss.sequence_loss,
    "tf1.losses.softmax_cross_entropy": seqloss.softmax_cross_entropy,
    "tf1.nn.nce_loss": seqloss.nce_loss,
    "tf1.nn.sampled_softmax_loss": seqloss.sampled_softmax_loss,
    "tf1.nn.sigmoid_cross_entropy_with_logits": seqloss.sigmoid_cross_entropy_with_logits,
    "tf1.nn.softmax_cross_entropy_with_logits": seqloss.softmax_cross_entropy_with_logits,
    "tf1.nn.softmax_cross_entropy_with_logits_v2": seqloss.softmax_cross_entropy_with_logits,
    "tf1.nn.sparse_softmax_cross_entropy_with_logits": seqloss.sparse_softmax_cross_entropy_with_logits,
    "tf1.nn.weighted_cross_entropy_with_logits": seqloss.weighted_cross_entropy_with_logits,
    "tf1.sequence_mask": seqloss.sequence_mask,
    "tfa.seq2seq.sequence_loss": seqloss.sequence_loss,
}
ORIGINALS = {path: original for path, (original, _) in STAND_INS.items()} | WRITTEN
TITLES = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]


def find(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"seqloss.compat.{module}"), name)


def sections(function):
    head, *others = re.split(r"^(\w[\w ]*)\n-+\n", inspect.getdoc(function), flags=re.MULTILINE)
    return {"": head, **dict(zip(others[::2], others[1::2], strict=True))}


def entries(section):
    """Parameters and their texts; several names may share a text."""
    found = re.findall(r"^(\w.*?) : (.*(?:\n(?: .*)?)*)", section, re.MULTILINE)
    return {name: text.strip() for names, text in found for name in names.split(", ")}


def test_every_function_is_looked_at():
    modules = {"tf1": tf1, "tf1.losses": tf1.losses, "tf1.nn": tf1.nn, "tfa.seq2seq": tfa.seq2seq}
    modules |= {f"tf1.contrib.{name}": getattr(tf1.contrib, name) for name in tf1.contrib.__all__}
    names = [f"{path}.{name}" for path, module in modules.items() for name in module.__all__]
    # The very function of samplers, and one that stands for none.
    others = {"tf1.nn.compute_accidental_hits", "tf1.contrib.legacy_seq2seq.model_with_buckets"}
    assert {path for path in names if inspect.isfunction(find(path))} - others == set(ORIGINALS)


# --- place and signature ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ORIGINALS)
def test_a_function_is_where_it_says_it_is(path):
    function, name = find(path), path.rpartition(".")[2]
    assert (function.__module__, function.__name__, function.__qualname__) == (
        f"seqloss.compat.{path}".removesuffix(f".{name}"),
        name,
        name,
    )
    assert pickle.loads(pickle.dumps(function)) is function
    assert function is not ORIGINALS[path]


@pytest.mark.parametrize("path", STAND_INS)
def test_a_stand_in_has_the_whole_signature_of_the_other_one(path):
    """With the annotations; test_compat.py has the rest of it in words."""
    assert inspect.signature(find(path)) == inspect.signature(STAND_INS[path][0])


# --- docstrings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ORIGINALS)
def test_a_docstring_has_all_sections(path):
    found = sections(find(path))
    assert [title for title in found if title] == TITLES
    assert list(entries(found["Parameters"])) == list(inspect.signature(find(path)).parameters)
    assert all(entries(found["Parameters"]).values())
    summary = ORIGINALS[path].__doc__.partition("\n")[0]
    assert found[""].startswith(f"{summary}\n\nAs :func:`")


@pytest.mark.parametrize("path", STAND_INS)
def test_a_stand_in_has_the_texts_of_the_other_one(path):
    found, theirs = sections(find(path)), sections(STAND_INS[path][0])
    linked = re.compile(r":(func|class):`[\w.]*?(\w+)`")
    for title in TITLES[:1] + TITLES[2:5]:
        assert linked.sub(r"\2", found[title]).strip() == linked.sub(r"\2", theirs[title]).strip()


@pytest.mark.parametrize("path", LOSSES)
def test_a_loss_says_what_dtype_it_has(path):
    found = sections(find(path))
    assert f", with the result in the dtype of {LOSSES[path]}.\n" in found[""]
    assert "float32" in sections(STAND_INS[path][0])["Returns"]
    assert "float32" not in found["Returns"]
    assert f", in the dtype of {LOSSES[path]}." in " ".join(found["Returns"].split())


@pytest.mark.parametrize("path", [path for path in STAND_INS if path not in LOSSES])
def test_a_sampler_says_what_dtype_its_counts_have(path):
    found = sections(find(path))
    assert "with expected counts in float32." in found[""]
    assert "float64" not in found["Returns"]


def test_what_differs_takes_the_place_of_what_does_not():
    found = entries(sections(tf1.nn.softmax_cross_entropy_with_logits_v2)["Parameters"])
    theirs = entries(sections(seqloss.softmax_cross_entropy_with_logits)["Parameters"])
    assert found["labels"] == theirs["labels"]
    assert found["axis"].startswith("int, optional\n") and theirs["axis"].startswith("int, default -1\n")
    assert found["dim"].endswith("Another name of axis.")
    notes = sections(tf1.nn.softmax_cross_entropy_with_logits_v2)["Notes"]
    assert "softmax(logits) - labels" in notes and "sum(y) softmax(z)" not in notes
    assert "subtract_log_q" not in tf1.nn.nce_loss.__doc__


@pytest.mark.parametrize("path", ORIGINALS)
def test_references_lead_somewhere(path):
    function = find(path)
    targets = re.findall(r":(?:func|class):`([\w.]+)`", function.__doc__)
    assert [t for t in targets if pydoc.locate(t if "." in t else f"{function.__module__}.{t}") is None] == []


@pytest.mark.parametrize("path", ORIGINALS)
def test_examples_call_the_function_itself_and_are_right(path):
    original = ORIGINALS[path]
    (test,) = doctest.DocTestFinder(recurse=False).find(find(path), path, module=False, globs={})
    assert any(f"{path}(" in example.source for example in test.examples)
    assert f"{original.__name__}(" not in re.sub(re.escape(path), "", test.docstring)
    report = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)


def test_the_library_can_be_imported_without_docstrings():
    program = "from seqloss.compat import tf1, tfa; print(tf1.losses.compute_weighted_loss([1.0, 2.0]))"
    done = subprocess.run([sys.executable, "-OO", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1.5\n", "")


# --- results ----------------------------------------------------------------------------------------------------------

HALF = np.log([[[8.0, 1.0, 1.0], [1.0, 1.0, 2.0]]]).astype("float16")
IDS = np.array([[0, 2]])
LISTS = {"logits": [HALF[0]], "targets": [IDS[0]], "weights": [np.array([1, 1])]}
CALLS = {
    "tf1.contrib.legacy_seq2seq.sequence_loss": LISTS,
    "tf1.contrib.legacy_seq2seq.sequence_loss_by_example": LISTS,
    "tf1.losses.compute_weighted_loss": {"losses": HALF},
    "tf1.losses.sigmoid_cross_entropy": {"multi_class_labels": HALF, "logits": HALF},
    "tf1.losses.sparse_softmax_cross_entropy": {"labels": IDS, "logits": HALF},
}


@pytest.mark.parametrize("how", ["keywords", "positions"])
@pytest.mark.parametrize("path", LOSSES)
def test_the_argument_is_found_however_it_is_passed(framework, path, how):
    arguments = {
        name: [framework.array(step) for step in x] if isinstance(x, list) else framework.array(x)
        for name, x in CALLS[path].items()
    }
    args, kwargs = ((), arguments) if how == "keywords" else (tuple(arguments.values()), {})
    result, wide = find(path)(*args, **kwargs), STAND_INS[path][0](*args, **kwargs)
    assert (framework.dtype(result), framework.dtype(wide)) == ("float16", "float32")
    np.testing.assert_array_equal(framework.to_numpy(result), framework.to_numpy(wide).astype("float16"))


def test_an_error_is_that_of_the_function_itself():
    with pytest.raises(TypeError, match=r"^sparse_softmax_cross_entropy\(\) missing 1 required positional argument"):
        tf1.losses.sparse_softmax_cross_entropy([0])
    with pytest.raises(TypeError, match=r"^compute_weighted_loss\(\) got an unexpected keyword argument 'weight'"):
        tf1.losses.compute_weighted_loss([0.0], weight=1.0)


def test_a_stand_in_can_be_compiled(framework):
    mode = next((mode for mode in framework.COMPILED if mode in framework.MODES), "eager")
    arrays = [framework.array(HALF), framework.array(IDS)]
    run = framework.MODES[mode](lambda z, y: tf1.losses.sparse_softmax_cross_entropy(y, logits=z), (0,))
    loss, gradients = run(arrays, None)
    assert framework.dtype(loss) == "float16"
    np.testing.assert_allclose(framework.to_numpy(loss), -np.log(0.8 * 0.5) / 2, rtol=1e-3)
    if gradients is not None:
        slopes = np.array([[[-0.2, 0.1, 0.1], [0.25, 0.25, -0.5]]]) / 2
        np.testing.assert_allclose(framework.to_numpy(gradients[0]), slopes, rtol=4e-3)
