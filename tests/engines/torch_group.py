"""Processes of PyTorch on one machine, for programs."""

import datetime
import traceback

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def start(name, run, world, folder):
    """Run ``run(rank, world)`` in so many processes, and save the dictionary that each returns."""
    # Forked, so that PyTorch is imported once.
    mp.start_processes(_enter, (name, run, world, folder), world, start_method="fork")


def _enter(rank, name, run, world, folder):
    torch.set_num_threads(1)
    # A file, because a port may be taken.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/{name}",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=100),
    )
    try:
        np.savez(f"{folder}/{name}-{rank}.npz", **run(rank, world))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def tried(case, function, *arguments, **options):
    """The results of a function as those of one case, or its traceback."""
    try:
        found = function(*arguments, **options)
    except Exception:
        found = {"traceback": traceback.format_exc()}
    return {f"{case}/{name}": x for name, x in found.items()}
