"""A program: losses of distributed logits, beside those of the same plain tensors in each process."""

import re
import sys
import warnings

import numpy as np
import torch
import torch_group
from dtensor_cases import CASES, REFUSED, ROUNDED, SUMS
from programs import save, tried
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import loss_parallel

import seqloss


def in_loss_parallel(*arrays, **options):
    with loss_parallel():
        return seqloss.sequence_loss(*arrays, **options)


FUNCTIONS = {
    "sequence_loss": seqloss.sequence_loss,
    "sequence_loss_and_grad": seqloss.sequence_loss_and_grad,
    "in_loss_parallel": in_loss_parallel,
}


def arrays_of(case):
    random, (batch, time, classes) = np.random.default_rng(0), case.shape
    logits = (random.normal(size=case.shape) * 4).astype("float32")
    targets = random.integers(0, classes, (batch, time))
    weights = ((random.random((batch, time)) > 0.3) * random.integers(1, 4, (batch, time))).astype("float32")
    weights[0, 0], logits[0, 0, targets[0, 0]] = 1, 30
    if case.beside == "soft":
        targets = random.random(case.shape).astype("float32")
    return tuple(map(torch.from_numpy, (logits, targets, weights)))


def distributed(x, placements):
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),) if len(placements) == 1 else (2, 2))
    kinds = [{"r": Replicate(), "p": Partial()}.get(p) or Shard(int(p)) for p in placements]
    if "p" in placements:
        return DTensor.from_local(x / torch.distributed.get_world_size(), mesh, kinds)
    return distribute_tensor(x, mesh, kinds)


def placed(case, logits, targets, weights):
    z = distributed(logits, case.logits)
    plain = {
        "plain": lambda x: x.clone(),
        "soft": lambda x: x.clone(),
        "numpy": lambda x: x.numpy(),
        "list": lambda x: x.tolist(),
    }
    to = plain.get(case.beside) or (lambda x: distributed(x, case.beside or case.logits))
    return z, to(targets), to(weights)


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def gradients(case, function, arrays, **options):
    """The loss of a case, and the gradients of logits and, where they are tensors, of weights."""
    z, y, w = arrays
    if case.function == "sequence_loss_and_grad":
        loss, grads = function(z, y, w, wrt=("logits", "weights"), **options)
        return loss, *grads
    wanted = [x.detach().requires_grad_() for x in (z, w) if isinstance(x, torch.Tensor)]
    loss = function(wanted[0], y, *(wanted[1:] or [w]), **options)
    loss.sum().backward()
    return loss.detach(), *(x.grad for x in wanted)


def compared(case, exact, function=None):
    arrays, function = arrays_of(case), function or FUNCTIONS[case.function]
    options = case.options | {"exact": exact}
    expected = gradients(case, FUNCTIONS[case.function], arrays, **options)
    got = gradients(case, function, placed(case, *arrays), **options)
    names = ("loss", "logits", "weights")[: len(got)]
    found = {f"{name} got": whole(x).numpy() for name, x in zip(names, got, strict=True)}
    found |= {f"{name} expected": x.numpy() for name, x in zip(names, expected, strict=False)}
    kept = got[1].placements == placed(case, *arrays)[0].placements
    return found | {"type": type(got[0]).__name__, "kept": kept, "same type": type(got[-1]) is type(arrays[-1])}


def refused(call, *arrays):
    try:
        call(*arrays)
    except seqloss.BackendError as error:
        return {"text": str(error)}
    return {"text": "nothing was raised"}


def refused_and_mended(case):
    arrays = arrays_of(case)
    z, y, w = placed(case, *arrays)
    found = refused(FUNCTIONS[case.function], z, y, w)
    mend = re.search(r"logits\.redistribute\(.*\)", found["text"])
    logits = eval(mend.group(), {"logits": z, "Shard": Shard, "Replicate": Replicate})
    loss = seqloss.sequence_loss(logits, y, w, exact=True)
    return found | {"mended": whole(loss).numpy(), "expected": seqloss.sequence_loss(*arrays, exact=True).numpy()}


def label_outside():
    logits, targets, weights = arrays_of(CASES["batch"])
    targets[1, 2], weights[1, 2] = 33, 1
    z = distributed(logits, "0")
    lost = seqloss.sequence_loss(z, distributed(targets, "0"), distributed(weights, "0"))
    try:
        seqloss.sequence_loss(z, targets, weights)
    except seqloss.LabelError as error:
        return {"distributed": whole(lost).numpy(), "plain": str(error)}
    return {}


def summed(placements, options):
    """Totals of distributed logits, beside those of plain ones: twice the batch, so that sums are added too."""
    arrays = arrays_of(CASES["batch"])
    case = CASES["beside plain"]._replace(logits=placements)
    found = []
    for given in (placed(case, *arrays), arrays):
        total = seqloss.loss_sum(*given, accuracy=True, exact=True, **options)
        total += seqloss.loss_sum(*given, accuracy=True, exact=True, **options)
        found.append(seqloss.LossSum(*map(whole, total)))
        found.append(whole(total.mean()))
    ours, mean, wanted, expected = found
    counts = [[x.to_dict()[name] for name in ("weights", "right")] for x in (ours, wanted)]
    return {"got": counts[0], "expected": counts[1], "mean": mean.numpy(), "of one": expected.numpy()}


def metric():
    z, y, w = arrays_of(CASES["batch"])
    return refused(seqloss.torch.Perplexity().update, distributed(z, "0"), y, w)


def eager(rank, world):
    found = {}
    for name, case in SUMS.items():
        found |= {f"sum {name}": tried(summed, *case)}
    found |= {"metric": tried(metric)}
    for name, case in CASES.items():
        for exact in (False, True) if name in ROUNDED else (True,):
            found |= {f"{name} {exact}": tried(compared, case, exact)}
    for name, case in REFUSED.items():
        found |= {name: tried(refused_and_mended, case)}
    z, y, w = arrays_of(CASES["batch"])
    found |= {"plain": tried(refused, seqloss.sequence_loss, z, distributed(y, "0"), w)}
    found |= {"mesh": tried(refused, seqloss.sequence_loss, distributed(z, "0"), distributed(y, "0r"), w)}
    found |= {"row": tried(refused, seqloss.token_loss, distributed(z[0, 0], "0"), 3)}
    return found | {"label": tried(label_outside)}


def compiled(rank, world):
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile (torch 2.13) has some of its own
    loss = torch.compile(seqloss.sequence_loss, fullgraph=True, backend="aot_eager")
    found = {"bits": tried(compared, CASES["beside plain"], True, loss)}
    loss = torch.compile(seqloss.token_loss, backend="aot_eager")
    logits, targets, _ = placed(REFUSED["classes"], *arrays_of(CASES["batch"]))
    return found | {"classes": tried(refused, loss, logits, targets)}


if __name__ == "__main__":
    found = {
        "eager": torch_group.ranks(eager, 4, f"{sys.argv[1]}.eager"),
        "compiled": torch_group.ranks(compiled, 2, f"{sys.argv[1]}.compiled"),
    }
    save(found, sys.argv[1])
