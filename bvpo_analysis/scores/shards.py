"""Which part of the work a process does, and where processes that share the work meet: a folder of blocks.

Blocks of pairs are independent of each other, and block k belongs to process k mod n + 1 of n. Nothing but the folder
is needed to meet; processes that start together and can wait for each other say so with ``synchronise``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bvpo_analysis.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Process ``index`` of ``count``, counted from 1.

    Raises:
        InputError: not 1 <= index <= count.

    Example:
        >>> [block for block in range(7) if Shard(2, 3).takes(block)]
        [1, 4]
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(
                f"--shard {self.index}/{self.count}: shards of {self.count} are numbered 1/{self.count} to "
                f"{self.count}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``i/n``.

        Raises:
            InputError: it is something else.

        Example:
            >>> Shard.parse("2/3")
            Shard(index=2, count=3)
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None:
            raise InputError(f"--shard expects i/n, such as 2/3 for the second of three processes, got {text!r}")
        return cls(int(found[1]), int(found[2]))

    def takes(self, block: int) -> bool:
        """Whether block number ``block`` (0, 1, ...) belongs to this process."""
        return block % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class BlockFolder:
    """Where finished blocks are kept, and how this process shares the work with others.

    Attributes:
        path: the folder; made if missing. A later call with the same arguments continues there.
        shard: the part this process does.
        synchronise: returns once every process of the shard's count has called it; None for processes that start and
            end on their own.
    """

    path: Path
    shard: Shard = Shard()
    synchronise: Callable[[], None] | None = None


class ShardFinished(Exception):
    """This process has done its part and others have not done theirs, or will go on without it. Not a failure.

    Attributes:
        shard: the part that is done.
        blocks: its number of blocks.
        missing: number of blocks that other processes still owe in the first pass.
        products: whether the second pass over these blocks is done too.
    """

    def __init__(self, shard: Shard, blocks: int, missing: int, *, products: bool):
        self.shard, self.blocks, self.missing, self.products = shard, blocks, missing, products
        state = "other shards have not finished theirs" if missing else "all shards have finished their first pass"
        super().__init__(f"shard {shard} has finished its {blocks} block(s); {state}")
