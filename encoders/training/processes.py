"""Several processes that train one model, one a GPU, as torchrun starts them.

Every process draws its own part of a step's batch. What the losses compare is gathered, so that each process has the
loss of the whole batch; gradients are averaged by DDP, and are those of one process that sees the whole batch. Only the
first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from encoders.errors import CompsketchError
from encoders.runtimes import find_device

PATIENCE = timedelta(days=1)  # the others wait while the first process computes features of all photos


def rank() -> int:
    """This process' number; 0 where there is one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def team(device: str) -> Iterator[torch.device]:
    """Join the other processes, if torchrun started this one and it has not joined yet, and leave them at the end.

    Args:
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one. Of several processes on a machine each
            takes a GPU of its own, in their order; then "cuda:N" is refused, which would be one GPU for all.

    Yields:
        The device that this process computes on.

    Raises:
        CompsketchError: There is no such device, or it is one for several processes.
    """
    place = _place(device)
    joined = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if joined:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield place
    finally:
        if joined:
            dist.destroy_process_group()


def _place(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place, here = find_device(device), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if place.type == "cpu":
        return place
    if place.index is None:
        return find_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    if here > 1:
        raise CompsketchError(f"device {device!r} would be one GPU for {here} processes: choose cuda, one for each")
    return place


@contextmanager
def first_alone() -> Iterator[bool]:
    """The first process goes ahead while the others wait; yields whether this is the first.

    What it leaves on disk is there when the others go on. Where it fails, the others fail with the process group.
    """
    if rank():
        dist.barrier()
    yield rank() == 0
    if world() > 1 and rank() == 0:
        dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)  # every process has a loss of its own that this part entered
        return total.chunk(world())[rank()]


def gather(x: Tensor) -> Tensor:
    """(B, ...) of every process, in their order: (W B, ...); gradients flow back. B is the same for all."""
    return x if world() == 1 else _Gather.apply(x.contiguous())


def gather_all(parts: Any) -> Any:
    """A named tuple of tensors with the rows of all processes; see `gather`."""
    return type(parts)(*(gather(part) for part in parts))


def per_process(batch: int) -> int:
    """A process' part of a batch.

    Raises:
        CompsketchError: It cannot be divided evenly.
    """
    if batch % world():
        raise CompsketchError(f"a batch of {batch} cannot be divided among {world()} processes: start another number")
    return batch // world()


def distribute(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as all processes train it: DDP, batch statistics over all of them where the GPU can (not gloo)."""
    if world() == 1:
        return model
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's own would lose the activation in timm's norms

        model = convert_sync_batchnorm(model)
    # Static: which weights have no part in the loss (a term of weight 0) is the same in every step.
    ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=ids, static_graph=True)
