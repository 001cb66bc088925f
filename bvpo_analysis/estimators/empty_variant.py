"""g_e with other answers, or with the empty block scored."""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.trace import pairwise_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class EmptyVariant(Estimator):
    """c+ s(empty, a+) + c- s(empty, a-) for other answers a+- or another scoring of the empty block than g_e's own.

    "empty_shared" takes the answers y+- of the trace-based pair, so that b_e splits into a trace shift E g_shared - mu
    and a data shift E g_e - E g_shared. "empty_generated" takes the answers of the empty-trace pair and scores the
    empty block too, as a model that generates it does. Biased for the marginal gradient, with no trace randomness.

    Raises:
        ValueError: an unknown variant, or its sequences were not scored.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> EmptyVariant(DPO(beta=2.0), "empty_shared").coefficients(pair)[0, pair.variants["empty_shared"]]
        array([-1.,  1.])
    """

    objective: Objective
    variant: Literal["empty_shared", "empty_generated"]

    def __post_init__(self) -> None:
        if self.variant not in ("empty_shared", "empty_generated"):
            raise ValueError(f"variant must be 'empty_shared' or 'empty_generated', got {self.variant!r}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """A single row, [1, m]."""
        self.needs.check(pair)
        return pairwise_coefficients(self.objective, pair, pair.variants[self.variant][None, :])

    def weights(self, pair: PairLogProbs) -> Floats:
        """[1.0]: no trace randomness."""
        return np.ones(1)

    @property
    def needs(self) -> Needs:
        """Its own two sequences."""
        return Needs(variants=(self.variant,))
