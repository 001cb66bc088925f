"""Which rows a step sees: a pure function of seed and step, so that a run resumes without any saved state.

Every epoch is a permutation of the rows of its own seed; batches run on across epochs, so none is short.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchOrder:
    """Rows of every step.

    Attributes:
        rows: N, the number of rows.
        batch_size: B.
        seed: of the permutations.

    Raises:
        ValueError: no rows, or a batch larger than an epoch.

    Example:
        >>> order = BatchOrder(rows=4, batch_size=2, seed=0)
        >>> sorted([*order.batch(0), *order.batch(1)]), order.batch(0) == order.batch(0)
        ([0, 1, 2, 3], True)
    """

    rows: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.rows:
            raise ValueError(f"batch_size must be in 1..{self.rows} (the number of rows), got {self.batch_size}")

    def epoch(self, step: int) -> float:
        """Epochs completed before a step."""
        return step * self.batch_size / self.rows

    def batch(self, step: int) -> tuple[int, ...]:
        """The B rows of a step, 0, 1, 2, ..."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = {p // self.rows for p in positions}
        order = {e: np.random.default_rng([self.seed, e]).permutation(self.rows) for e in epochs}
        return tuple(int(order[p // self.rows][p % self.rows]) for p in positions)
