"""PyTorch: distributed tensors (DTensor), which go with none but those on the same mesh of devices.

``torch.distributed`` takes time to import, and some builds of PyTorch lack it. So it is never imported here: where a
distributed tensor comes in, it has been.
"""

import sys
from collections.abc import Sequence

import torch

from seqloss.core.errors import NO_DISTRIBUTED_KERNEL, OTHER_MESH, ROWS_IN_PARTS, BackendError
from seqloss.core.protocol import Array

PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Subclasses mean something other than their storage: fake tensors while tracing, distributed tensors."""


def is_distributed(x: Array) -> bool:
    if type(x) in PLAIN:  # quick, because each call asks
        return False
    tensor = sys.modules.get("torch.distributed.tensor")
    return tensor is not None and isinstance(x, tensor.DTensor)


def beside(like: Array, x: Array) -> Array:
    """``x`` on the mesh of ``like``, if that has one.

    A plain tensor is taken to be the same on each rank, so that nothing is sent; gradients flow back to it.
    """
    if type(x) in PLAIN and type(like) in PLAIN:
        return x
    if is_distributed(x):
        if not is_distributed(like) or x.device_mesh != like.device_mesh:
            raise BackendError(OTHER_MESH)
        return x
    if not is_distributed(like):
        return x
    tensor, mesh = sys.modules["torch.distributed.tensor"], like.device_mesh
    return tensor.DTensor.from_local(x, mesh, [tensor.Replicate()] * mesh.ndim, run_check=False)


def whole_integers(x: Array) -> Array:
    """``x``, a sum; of integers the same on each rank, before they meet any that are.

    DTensor (torch 2.13) makes a replicated array partial by a division, and of integers that are odd it loses a half.
    """
    if type(x) in PLAIN or x.dtype.is_floating_point or not is_distributed(x):
        return x
    tensor = sys.modules["torch.distributed.tensor"]
    return x.redistribute(placements=[tensor.Replicate() if at.is_partial() else at for at in x.placements])


def see_whole_rows(logits: Array) -> None:
    """Kernels read the classes of a token in one place."""
    if not is_distributed(logits):
        return
    tensor, last = sys.modules["torch.distributed.tensor"], logits.ndim - 1
    # Besides Shard there are other kinds of sharding, which have a dim too.
    is_whole = [not x.is_partial() and getattr(x, "dim", None) != last for x in logits.placements]
    if not all(is_whole):
        other = tensor.Shard(0) if last > 0 else tensor.Replicate()
        fit = [x if good else other for x, good in zip(logits.placements, is_whole, strict=True)]
        raise BackendError(ROWS_IN_PARTS.format(list(logits.placements), fit))


def see_plain(arrays: Sequence[Array | None]) -> None:
    """The linear loss goes through the whole kernel in one place."""
    if any(x is not None and is_distributed(x) for x in arrays):
        raise BackendError(NO_DISTRIBUTED_KERNEL)
