"""``seqloss.torch.causal_lm_loss`` in the Trainer of Hugging Face, beside the loss that the Trainer has by itself.

``train.py`` is the program; it runs in processes of its own.
"""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
RUNS = ("llama-0", "llama-0.1", "gpt2-0")


def train(out, runs, processes):
    """Start the program in so many processes, and read what the first one wrote."""
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(HERE / "train.py"), str(out), *runs]
    places = [{}] if processes == 1 else of_processes(processes)
    started = [
        subprocess.Popen(command, env=settings | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for place in places
    ]
    try:
        said = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(said)
    return np.load(out)


def of_processes(count):
    """The variables by which each of several processes finds the others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trainer") / "alone.npz", RUNS, 1)


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory):
    return train(tmp_path_factory.mktemp("trainer") / "two.npz", RUNS[:1], 2)


def agree(one, other):
    for key in ("losses", "parameters"):
        assert one[key].dtype == other[key].dtype
        assert one[key].shape == other[key].shape
        np.testing.assert_allclose(one[key], other[key], rtol=0, atol=1e-6)
    assert abs(one["moved"]).max() > 1e-2  # a wrong factor would be seen
    assert np.isfinite(one["losses"]).all()


def of(found, run, name):
    return {key: found[f"{run} {name} {key}"] for key in ("losses", "parameters", "moved")}


@pytest.mark.parametrize("run", RUNS)
def test_losses_and_parameters_are_those_of_the_trainer(alone, run):
    """Of two micro-batches a step, with uneven numbers of labels: each step, the evaluation, and the end."""
    agree(of(alone, run, "ours"), of(alone, run, "theirs"))


def test_smoothing_is_not_lost(alone):
    difference = of(alone, "llama-0", "ours")["losses"] - of(alone, "llama-0.1", "ours")["losses"]
    assert abs(difference).min() > 1e-5


def test_two_processes(in_two_processes, alone):
    """The same loss as the Trainer's own there, and the same steps as in one process of all micro-batches."""
    there = of(in_two_processes, "llama-0", "ours")
    agree(there, of(in_two_processes, "llama-0", "theirs"))
    here = of(alone, "llama-0", "ours")
    # The evaluation is a mean over the losses of processes there.
    agree(there | {"losses": there["losses"][:-1]}, here | {"losses": here["losses"][:-1]})
