"""Runs what a page shows: ``python shown.py PAGE FILE`` leaves the number of examples and of rows that held.

Blocks of ``pycon`` are run as doctests, in order and in one namespace. A row of a table whose last heading is "here" is
two expressions, theirs and ours: both are computed with the names of the blocks above, and must have the same value and
the same gradient with respect to ``z``.
"""

import doctest
import json
import pathlib
import re
import sys

import numpy as np

BLOCK = re.compile(r"^ *```pycon\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
HEAD = re.compile(r"^\|.*\| here \|\n\|[-|]+\|\n", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")


def parts(text):
    """The blocks and the rows of a page, in the order in which they stand: each with the number of its line."""
    found = [(block.start(1), "block", block[1]) for block in BLOCK.finditer(text)]
    for head in HEAD.finditer(text):
        start = head.end()
        for line in text[start:].partition("\n\n")[0].splitlines():
            found.append((start, "row", [cell.strip() for cell in line.strip("|").split(" | ")]))
            start += len(line) + 1
    for start, kind, content in sorted(found):
        yield text.count("\n", 0, start) + 1, kind, content


def expressions(cells):
    """The code of the last two cells, or None where one of them is a sentence."""
    codes = [CODE.fullmatch(cell) for cell in cells[-2:]]
    return [code[1] for code in codes] if all(codes) else None


def value_and_gradient(code, names):
    """In the framework of ``names["z"]``; the gradient is that of the sum."""
    framework = type(names["z"]).__module__.partition(".")[0]
    if framework == "torch":
        import torch

        value = eval(code, names)
        return value.detach(), torch.autograd.grad(value.sum(), names["z"], retain_graph=True)[0]
    if framework == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(names["z"])
            value = eval(code, names)
        return value, tape.gradient(value, names["z"])
    import jax

    def total(z):
        value = eval(code, names | {"z": z})
        return value.sum(), value

    (_, value), gradient = jax.value_and_grad(total, has_aux=True)(names["z"])
    return value, gradient


def compare(theirs, ours, names):
    (value, slope), (expected, expected_slope) = (value_and_gradient(code, names) for code in (ours, theirs))
    assert np.shape(value) == np.shape(expected), f"shapes {np.shape(value)} and {np.shape(expected)}"
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, rtol=1e-3, atol=1e-6)
    assert abs(np.asarray(slope)).max() > 1e-3


def run(text):
    """Run all of it; the names say how many examples and rows held, and what did not."""
    flags = doctest.NORMALIZE_WHITESPACE | doctest.DONT_ACCEPT_TRUE_FOR_1
    runner, names, rows, failures = doctest.DocTestRunner(verbose=False, optionflags=flags), {}, 0, []
    for line, kind, content in parts(text):
        if kind == "block":
            # The end of the line keeps doctest from showing its source to AutoGraph, which cannot place it in a file.
            test = doctest.DocTestParser().get_doctest(content, names, f"line {line}\n", None, line)
            runner.run(test, out=failures.append, clear_globs=False)
            names = test.globs
        elif pair := expressions(content):
            try:
                compare(*pair, names)
            except Exception as error:
                failures.append(f"line {line}: {' is not '.join(pair)}: {type(error).__name__}: {error}")
            rows += 1
    return {"examples": runner.summarize(verbose=False).attempted, "rows": rows, "failures": failures}


if __name__ == "__main__":
    page, file = map(pathlib.Path, sys.argv[1:])
    file.write_text(json.dumps(run(page.read_text(encoding="utf-8"))))
