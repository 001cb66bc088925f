"""Prior traces with the score of the trace itself as a control variate."""

from dataclasses import dataclass
from typing import final

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.draw_groups import scatter
from bvpo_analysis.estimators.independent_prior_traces import IndependentPriorTraces, crossed_prior
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs


@final
@dataclass(frozen=True)
class ControlledPriorTrace(Estimator):
    """c+ [s(r, y+) - a z(r)] + c- [s(r', y-) - a z(r')] with z(r) = grad log pi(r | x) and independent prior r, r'.

    E z(r) = 0 for traces drawn from the policy itself, so at the reference, where c+- are constant, every a leaves the
    bias of ``IndependentPriorTraces`` as it is and changes the variance only. a = 1 takes the trace out of the score
    altogether: s(r, y) - z(r) = grad log pi(y | x, r). Off the reference the traces are no draws of the policy and the
    coefficients vary with them, so the control variate has a mean of its own and changes the bias too.

    A pair with N prior traces gives floor(N / 2) independent realisations.

    Attributes:
        objective: the loss.
        coefficient: a; any number that does not depend on these traces.

    Raises:
        ValueError: fewer than two prior traces were scored, they were not scored without an answer, or a is not finite.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = toy_pair(further=True)
        >>> ControlledPriorTrace(DPO(beta=2.0)).coefficients(pair)[0, pair.trace_only]
        array([ 1., -1.,  0.])
    """

    objective: Objective
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.coefficient):
            raise ValueError(f"coefficient must be finite, got {self.coefficient}")

    def coefficients(self, pair: PairLogProbs) -> Floats:
        """One row per two prior traces, [N // 2, m]."""
        self.needs.check(pair)
        plain = IndependentPriorTraces(self.objective).coefficients(pair)
        rows = crossed_prior(pair)
        scalars = np.take_along_axis(plain, rows, axis=1)
        alone = pair.trace_only[: 2 * len(rows)].reshape(-1, 2)
        return plain - self.coefficient * scatter(alone, scalars, pair.size)

    def weights(self, pair: PairLogProbs) -> Floats:
        """Equal weights, [N // 2]."""
        self.needs.check(pair)
        count = len(pair.prior) // 2
        return np.full(count, 1.0 / count)

    @property
    def needs(self) -> Needs:
        """Two prior traces, scored without an answer too."""
        return Needs(prior=2, trace_only=True)
