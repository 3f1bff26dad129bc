"""Where the time of a small PyTorch call goes.

A profiler would cost more than the stages do. So the call is cut off at the function that begins the next stage, and
the difference of two cuts is the cost of a stage: with caches as warm as in the whole call, and adding up to it. The
functions at the cuts are insides of the library; where one is no longer called, ``LookupError`` says so.
"""

from typing import Any

import seqloss
from benchmarks import contenders, timing
from benchmarks.contenders import torch as peers
from seqloss.core import dispatch, dtypes, labels
from seqloss.losses import reduction

WHICH = ("best", "median")


def stages(shape: list[int], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each stage, then the sums, ours and the peer's: once from the best times, once from the medians."""
    calls = _calls(*peers.place(contenders.make_batch(shape)))
    times = timing.interleaved(calls, rounds)
    return {which: _differences({name: getattr(each, which) for name, each in times.items()}) for which in WHICH}


def _differences(until: dict[str, float]) -> dict[str, float]:
    label_check = until["placing"] - until["label check"]
    return {
        "dispatch and structure checks": until["cast of weights"] - until["nothing"],
        "label check": label_check,
        "placing": until["node"] - until["cast of weights"] - label_check,
        "autograd node, weights of tokens": until["kernel"] - until["node"],
        "kernel, forward": until["reduction"] - until["kernel"],
        "reduction, forward": until["forward"] - until["reduction"],
        "engine and reduction, backward": until["kernel backward"] - until["forward"],
        "kernel, backward": until["backward"] - until["kernel backward"],
        "sum: forward": until["forward"],
        "sum: backward": until["backward"] - until["forward"],
        "peer: forward": until["peer forward"],
        "peer: backward": until["peer backward"] - until["peer forward"],
    }


def _calls(z: Any, y: Any, w: Any) -> dict[str, timing.Call]:
    """The call until the named stage begins, the whole call, and the peer."""
    # Tensors on the CPU go through NumPy's kernel.
    backend, host = dispatch.load("torch"), dispatch.load("numpy")

    def loss() -> Any:
        return seqloss.sequence_loss(z, y, w)

    def both() -> None:
        z.grad = None
        loss().backward()

    def peer() -> None:
        z.grad = None
        peers.weighted_mean(z, y, w).backward()

    def until(module: Any, name: str, call: timing.Call = loss) -> timing.Call:
        return lambda: _cut_off(call, module, name)

    return {
        "nothing": until(seqloss, "sequence_loss"),
        "cast of weights": until(dtypes, "compute_dtype"),
        "label check": until(labels, "check"),
        "placing": until(dispatch, "place"),
        "node": until(backend, "run"),
        "kernel": until(host, "token_statistics"),
        "reduction": until(reduction, "forward"),
        "forward": loss,
        "kernel backward": until(host, "token_pullback", both),
        "backward": both,
        "peer forward": lambda: peers.weighted_mean(z, y, w),
        "peer backward": peer,
    }


class _Reached(Exception):
    pass


def _cut_off(call: timing.Call, module: Any, name: str) -> None:
    """``call`` until it calls this function of this module."""
    try:
        _replaced(call, module, name, _stop)
    except _Reached:
        return
    raise LookupError(f"{module.__name__}.{name} is not called any more: choose another place to cut")


def _replaced(call: timing.Call, module: Any, name: str, function: Any) -> Any:
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        return call()
    finally:
        setattr(module, name, original)


def _stop(*_: Any, **__: Any) -> None:
    raise _Reached
