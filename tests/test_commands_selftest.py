"""What ``selftest`` keeps where a loss hangs or ends the process: everything but that invariant."""

import json
from pathlib import Path

import pytest

from seqloss.__main__ import main

LOSS = """
import os, time
import numpy as np
import seqloss

def loss(logits, targets, weights):
    if {where}:
        {what}
    return seqloss.sequence_loss_and_grad(logits, targets, weights)
"""
HANGS, ENDS = "time.sleep(600)", "os._exit(7)"
ASKED = ["padding", "many_classes", "one_hot"]


@pytest.fixture
def findings(monkeypatch, tmp_path, capsys):
    """The verdicts by invariant, the status and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(what, where, *options):
        Path("mine.py").write_text(LOSS.format(what=what, where=where))
        command = ["selftest", "--against=mine:loss", "--backends=numpy", f"--invariants={','.join(ASKED)}"]
        status = main([*command, "--json=found.json", *options])
        printed = capsys.readouterr().out
        (found,) = json.loads(Path("found.json").read_text())["backends"]
        verdicts = [(f["invariant"], f["verdict"]) for f in found["check"]["findings"] if f["dtype"] != "float16"]
        return status, verdicts, found, printed

    return run


@pytest.mark.parametrize(
    "what, verdict, detail",
    [(HANGS, "timed out", "no result after 3 seconds"), (ENDS, "crashed", "exit status 7 without a result")],
)
def test_one_invariant_alone_is_lost(findings, what, verdict, detail):
    status, verdicts, found, printed = findings(what, "logits.shape[-1] == 1031", "--timeout=3")
    # In the order of the invariants, not in that of the option.
    assert verdicts == [("padding", "holds"), ("one_hot", "holds"), ("many_classes", verdict)]
    assert (status, found["check"]["holds"]) == (1, False)
    assert f"{verdict.upper()}" in printed and detail in printed


def test_what_comes_after_it_is_asked(findings):
    _, verdicts, _, _ = findings(ENDS, "not weights.all()")
    assert verdicts == [("padding", "crashed"), ("one_hot", "crashed"), ("many_classes", "holds")]
