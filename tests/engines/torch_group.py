"""Processes of PyTorch on one machine, for programs."""

import datetime

import programs
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def ranks(run, world, file):
    """What ``run(rank, world)`` returns in each of so many processes; files beside ``file`` hold it for a while."""
    # Forked, so that PyTorch is imported once.
    mp.start_processes(_enter, (run, world, file), world, start_method="fork")
    return [programs.loaded(f"{file}.{rank}") for rank in range(world)]


def _enter(rank, run, world, file):
    torch.set_num_threads(1)
    # A file, because a port may be taken.
    dist.init_process_group(
        "gloo",
        init_method=f"file://{file}.store",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=100),
    )
    try:
        programs.save(run(rank, world), f"{file}.{rank}")
        dist.barrier()
    finally:
        dist.destroy_process_group()
