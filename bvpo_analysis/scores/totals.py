"""Running totals whose last bit does not depend on the order of the additions: integers.

A study adds up one vector per pair and estimator, V_a = sum_i v_a(i). Floating-point sums depend on the order, hence on
how many processes share the work and on where one of them was interrupted. Integer sums do not: each number is rounded
once, to a multiple of a unit u, and the multiples are added in 64-bit integers, exactly.

The unit must be small against the rounding that the vectors carry anyway, and large enough that no sum leaves 64 bits.
It is a power of two per estimator and parameter group, 2^-32 of (a bound on) the root mean square of the first pair's
vector there, 2^-42 of it where the model is in float64:

* Rounding to a multiple of u moves a vector of P numbers by about u sqrt(P / 12), that is by 2^-34 of its length if it
  is as long as the bound; float32 scores carry errors of 2^-25 of theirs and more. The bound, sum_j |c_j| |s_j| /
  sqrt(P), exceeds the vector itself where scores cancel, by the factor by which cancellation magnifies float32 errors.
* A sum stays exact up to 2^62 u, which is 2^30 (about 10^9) times that root mean square, 2^20 (about 10^6) in float64.
  Largest numbers are added up along the way as an upper bound on every sum, so that an overflow is an error before it
  happens.

Measured on one core, an addition takes about 10 ns per number, a float64 addition of the same panels 2 ns; the scores
themselves cost hundreds. The method is fixed-point accumulation, Kulisch's long accumulator cut to one 64-bit word by
knowing the scale; see Demmel and Nguyen, "Parallel reproducible summation", IEEE Trans. Computers 64 (2015).
"""

from collections.abc import Sequence

import numpy as np
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.records import Floats, Ints

BITS = {torch.float64: 42}
"""Bits below the root mean square of the first pair's vector that are kept, by type of the scores."""
BITS_DEFAULT = 32
LARGEST = 2.0**62
"""Sums of multiples of the unit stay below this, and hence within 64 bits."""


def unit_exponents(size: Floats, dtype: torch.dtype) -> Ints:
    """Exponents k of the units 2^k, [A, G].

    Args:
        size: [A, G] bound on the root mean square of the first pair's vectors; zeros take the largest of the others.
        dtype: type of the scores.

    Example:
        >>> unit_exponents(np.array([[1.0, 3.0]]), torch.float32).tolist()
        [[-32, -30]]
    """
    if not np.isfinite(size).all():
        raise StudyError("the scores of the first pair are not finite; check the weights for NaN or infinity")
    largest = size.max(initial=0.0)
    filled = np.where(size > 0, size, largest if largest > 0 else 1.0)
    return np.ceil(np.log2(filled)).astype(np.int64) - BITS.get(dtype, BITS_DEFAULT)


class FixedPointTotals:
    """Sums of vectors [A, P] in multiples of a unit per vector and parameter group.

    Args:
        exponents: [A, G] the units are 2^exponent.
        columns: column slice of each group; together they are all P columns.
        device: where the sums live.

    Example:
        >>> totals = FixedPointTotals(np.array([[-20]]), [slice(0, 2)], "cpu")
        >>> for v in ([1.0, 0.1], [2.0, 0.2], [-3.0, -0.3]):
        ...     totals.add(0, slice(0, 2), torch.tensor([v]))
        ...     totals.close("example")
        >>> totals.counts.tolist()
        [[0, 0]]
    """

    def __init__(self, exponents: Ints, columns: Sequence[slice], device: torch.device | str):
        self.exponents = np.asarray(exponents, dtype=np.int64)
        self._columns = tuple(columns)
        size = max((c.stop for c in self._columns), default=0)
        self.counts = torch.zeros(len(self.exponents), size, dtype=torch.int64, device=device)
        self.bound = np.zeros(self.exponents.shape)
        self._largest = np.zeros(self.exponents.shape)
        self._scale = torch.exp2(-torch.from_numpy(self.exponents).double()).to(device)

    def add(self, group: int, place: slice, values: torch.Tensor) -> None:
        """Add values [A, n] to the columns ``place`` of a group; call :meth:`close` when a vector is complete."""
        multiples = (values.double() * self._scale[:, group, None]).round_()
        largest = np.maximum(self._largest[:, group], multiples.abs().amax(1).cpu().numpy())
        self._largest[:, group] = largest
        if (self.bound[:, group] + largest < LARGEST).all():  # else close() raises
            self.counts[:, place] += multiples.long()

    def close(self, what: str) -> None:
        """Hold that the vector added last has left every sum within range.

        Raises:
            StudyError: it has not; ``what`` names the vector.
        """
        self.bound += self._largest
        self._largest[:] = 0.0
        # Written so that NaN fails too.
        if not (self.bound < LARGEST).all():
            raise StudyError(
                f"{what}: the gradients are not finite, or so much larger than those of the first pair that their sum "
                "would lose accuracy; look at this row (it outweighs all others) and leave it out"
            )

    def merge(self, row: int, counts: torch.Tensor, bound: Floats) -> None:
        """Add another sum of vector ``row``, in the same units: counts [P] and the bounds [G] on them."""
        self.bound[row] += bound
        self.close("the totals of all processes")
        self.counts[row] += counts.to(self.counts.device)

    def to_float(self) -> torch.Tensor:
        """The sums [A, P] in float64, in the memory of the counts, which are gone afterwards."""
        vectors = self.counts.view(torch.float64)
        step = 1 << 20
        for group, columns in enumerate(self._columns):
            unit = 1.0 / self._scale[:, group, None]
            for start in range(columns.start, columns.stop, step):
                part = slice(start, min(start + step, columns.stop))
                vectors[:, part] = self.counts[:, part].double() * unit
        del self.counts
        return vectors
