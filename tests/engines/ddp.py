"""A program: a small model trained by several processes, with uneven numbers of tokens, and by one.

Each way of training takes the same steps; in the second no token of one rank counts, in the third that rank has no row.
"""

import contextlib
import sys
import warnings

import numpy as np
import torch
import torch.distributed as dist
import torch_group
from programs import save, tried
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import seqloss

BATCH, TIME, SIZE, CLASSES = 4, 6, 16, 48
TOKENS = (6, 5, 1, 1), (4, 2, 0, 0), (3, 6, 1, 2)
FIRST = (2, 2, 4)
"""How many rows of each step are those of rank 0; rank 1 has the others."""


def steps():
    generator = torch.Generator().manual_seed(0)
    for tokens in TOKENS:
        x = torch.randn(BATCH, TIME, SIZE, generator=generator)
        y = torch.randint(CLASSES, (BATCH, TIME), generator=generator)
        yield x, y, (torch.arange(TIME) < torch.tensor(tokens)[:, None]).float()


def new_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(SIZE, 32), torch.nn.Tanh(), torch.nn.Linear(32, CLASSES, bias=False))


def sharded():
    model = new_model()
    for part in (model[0], model[2], model):
        fully_shard(part)
    return model


def parameters(model):
    whole = (p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters())
    return torch.cat([p.detach().flatten() for p in whole]).numpy()


def alone():
    """The losses and the parameters of one process with all rows."""
    model, losses = new_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for x, y, w in steps():
        optimizer.zero_grad()
        loss = seqloss.sequence_loss(model(x), y, w)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"losses": np.array(losses), "parameters": parameters(model)}


def all_rows(logits):
    parts = [None] * dist.get_world_size()
    dist.all_gather_object(parts, logits.detach())
    return torch.cat(parts)


def recipe(x, y, w, model, count, exact=True):
    """The loss of some rows of a rank: the engine takes the mean of the gradients of all ranks."""
    logits = model(x)
    logits.retain_grad()
    return logits, seqloss.sequence_loss(logits, y, w, normalizer=count / dist.get_world_size(), exact=exact)


def mean_of_means(x, y, w, model, count):
    logits = model(x)
    logits.retain_grad()
    return logits, seqloss.sequence_loss(logits, y, w)


def trained(model, rank, micro_batches=1, loss_of=recipe):
    """The same, with the gradients of all logits, and what they are for one process with these logits."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses, got, expected = [], [], []
    for (x, y, w), first in zip(steps(), FIRST, strict=True):
        optimizer.zero_grad()
        mine = slice(0, first) if rank == 0 else slice(first, BATCH)
        count = w[mine].sum(dtype=torch.float64)
        dist.all_reduce(count)
        total, rows = torch.zeros(()), []
        for i, part in enumerate(zip(*(a[mine].chunk(micro_batches) for a in (x, y, w)), strict=True)):
            is_last = i == micro_batches - 1
            with contextlib.nullcontext() if is_last else model.no_sync():
                logits, loss = loss_of(*part, model, count)
                loss.backward()
            total += loss.detach()
            rows.append(logits)
        optimizer.step()
        dist.all_reduce(total)
        losses.append(total.item() / dist.get_world_size())
        got.append(all_rows(torch.cat([logits.grad for logits in rows]) / dist.get_world_size()))
        whole = all_rows(torch.cat(rows)).requires_grad_()
        seqloss.sequence_loss(whole, y, w, exact=True).backward()
        expected.append(whole.grad)
    found = {"losses": np.array(losses), "parameters": parameters(model)}
    return found | {"got": torch.stack(got).numpy(), "expected": torch.stack(expected).numpy()}


def compiled_step():
    """The loss of a rank as one compiled function with the model inside."""

    def step(x, y, w, model, count):
        logits = model(x)
        return logits, seqloss.sequence_loss(logits, y, w, normalizer=count / 2)

    function = torch.compile(step, backend="aot_eager", dynamic=True)

    def loss_of(x, y, w, model, count):
        logits, loss = function(x, y, w, model, count)
        logits.retain_grad()
        return logits, loss

    return loss_of


def eager(rank, world):
    found = {"one process": tried(alone)}
    for name, options in {
        "DDP": {},
        "no_sync": {"micro_batches": 2},
        "mean of means": {"loss_of": mean_of_means},
    }.items():
        model = DistributedDataParallel(new_model())
        found |= {name: tried(trained, model, rank, **options)}
    with warnings.catch_warnings():
        # About what a linear layer returns, which nobody writes into.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        return found | {"FSDP2": tried(trained, sharded(), rank)}


def compiled(rank, world):
    # What torch.compile (torch 2.13) says of itself: it asks each tensor that it meets for its gradient.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
    ddp = torch.compile(DistributedDataParallel(new_model()), backend="aot_eager")
    found = {"compiled DDP": tried(trained, ddp, rank)}
    model = DistributedDataParallel(new_model())
    return found | {"compiled step": tried(trained, model, rank, loss_of=compiled_step())}


def run(rank, world):
    return eager(rank, world) | compiled(rank, world)


if __name__ == "__main__":
    save(torch_group.ranks(run, 2, sys.argv[1]), sys.argv[1])
