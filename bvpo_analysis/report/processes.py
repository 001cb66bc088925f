"""Processes that torchrun has started together: which part each does, and how they wait for each other.

They share the run folder. What else they need of each other is to know which folder that is and to wait, for which they
use torch's gloo backend, on any machine and without an accelerator.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.scores.shards import Shard

T = TypeVar("T")

_TIMEOUT = timedelta(days=30)
"""How long to wait for the slowest process; torchrun ends all of them when one fails."""


def torchrun_shard(environment: Mapping[str, str] = os.environ) -> Shard | None:
    """The part of this process among those that torchrun started; None without torchrun or for a single process.

    Raises:
        InputError: the variables of torchrun are incomplete or not numbers.

    Example:
        >>> torchrun_shard({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"})
        Shard(index=2, count=4)
        >>> torchrun_shard({}) is None
        True
    """
    names = ("RANK", "WORLD_SIZE")
    given = [name for name in names if environment.get(name)]
    if not given or environment.get("WORLD_SIZE") == "1":
        return None
    try:
        rank, count = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise InputError(
            "RANK and WORLD_SIZE must both be whole numbers, as torchrun sets them, or be unset"
        ) from error
    if not 0 <= rank < count:
        raise InputError(f"RANK {rank} is not below WORLD_SIZE {count}; start the processes with torchrun")
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise InputError(
            f"WORLD_SIZE is {count} but {missing[0]} is not set; start the processes with torchrun, or unset RANK and "
            "WORLD_SIZE and use --shard i/n"
        )
    return Shard(rank + 1, count)


def agreed_shard(asked: Shard | None, started: Shard | None) -> Shard | None:
    """The part of this process, from ``--shard`` and from torchrun.

    Raises:
        InputError: they differ.

    Example:
        >>> agreed_shard(Shard(1, 2), None)
        Shard(index=1, count=2)
    """
    if asked is not None and started is not None and asked != started:
        raise InputError(
            f"--shard {asked} was asked for, but torchrun started this process as {started.index} of {started.count}; "
            "leave out --shard, or start as many processes as it says"
        )
    return started if started is not None else asked


@dataclass(frozen=True)
class Meeting:
    """The processes of one torchrun call.

    Attributes:
        shard: the part of this process.
    """

    shard: Shard

    @classmethod
    def join(cls, shard: Shard) -> "Meeting":
        """Meet the other processes; returns when all are there.

        Raises:
            StudyError: they cannot be reached.
        """
        import torch.distributed as dist

        def begin() -> None:
            dist.init_process_group("gloo", rank=shard.index - 1, world_size=shard.count, timeout=_TIMEOUT)

        _meet(begin)
        return cls(shard)

    def synchronise(self) -> None:
        """Return once all processes have called this.

        Raises:
            StudyError: one of them has ended.
        """
        import torch.distributed as dist

        _meet(dist.barrier)

    def agree_on_folder(self, open_it: Callable[[], Path]) -> Path:
        """The run folder, opened by the first process and told to the others.

        Raises:
            InputError: the first process could not open it; it says why.
            StudyError: a process has ended.
        """
        if self.shard.index > 1:
            told = self._tell("")
            if not told:
                raise InputError(f"process {self.shard} stopped, because the first one could not open the run folder")
            return Path(told)
        try:
            folder = open_it()
        except BaseException:
            self._tell("")
            raise
        self._tell(str(folder.resolve()))
        return folder

    @staticmethod
    def _tell(text: str) -> str:
        """The text of the first process."""
        import torch
        import torch.distributed as dist

        held = list(text.encode())
        size = torch.tensor([len(held)])
        _meet(lambda: dist.broadcast(size, src=0))
        data = torch.zeros(int(size.item()), dtype=torch.uint8)
        if len(held) == len(data):
            data = torch.tensor(held, dtype=torch.uint8)
        _meet(lambda: dist.broadcast(data, src=0))
        return bytes(data.tolist()).decode()

    def leave(self) -> None:
        """End the meeting."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(act: Callable[[], T]) -> T:
    try:
        return act()
    except (RuntimeError, ValueError) as error:
        raise StudyError(
            f"the processes of this run lost each other ({str(error).splitlines()[0][:120]}); start them again with "
            "--resume: finished blocks are kept"
        ) from error
