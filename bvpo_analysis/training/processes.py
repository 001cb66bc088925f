"""Data-parallel training under ``torchrun``: every process differentiates its share of each part of a batch.

Gradients are summed over the processes before anything is made of them, so every process takes the same step, and it is
the step of a single process up to the order of additions.
"""

import os
from collections.abc import Sequence

import torch
from torch import distributed


def world() -> tuple[int, int]:
    """(rank, number of processes); joins the group that ``torchrun`` describes in the environment, if there is one.

    Example:
        >>> world()
        (0, 1)
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def own_share(items: Sequence[int]) -> Sequence[int]:
    """The items of this process: every n-th one.

    Example:
        >>> own_share([3, 1, 2])
        [3, 1, 2]
    """
    rank, size = world()
    return items[rank::size]


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes."""
    if world()[1] > 1:
        distributed.all_reduce(values)
    return values


def wait_for_all() -> None:
    """Return once every process has come here."""
    summed(torch.zeros(1))


def own_device(device: str) -> str:
    """The device of this process: of several processes on "cuda" each takes one of its own.

    Example:
        >>> own_device("cpu"), own_device("cuda")
        ('cpu', 'cuda')
    """
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def leave() -> None:
    """Leave the group, if there is one; no process may wait for another afterwards."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
