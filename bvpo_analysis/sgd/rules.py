"""The mixing rules compared: fixed weights, weights from the moments at the start, a schedule, and James-Stein.

Weights from moments are those of the law at the starting point, clipped to [0, 1]. They stay the same along the run,
as a number that is measured once would; under a decaying step ``schedule`` lets the weight follow kappa_t = eta_t L.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.oracles import GradientLawAt, GradientPair
from bvpo_analysis.theory.descent import cosine_optimal_weight, descent_optimal_weight
from bvpo_analysis.theory.shrinkage import shrinkage_spectrum, shrinkage_weight
from bvpo_analysis.theory.step_size import weight_path, weighted_optimal_weight

CRITERIA = ("mse", "step", "descent", "cosine")
"""What a weight can be chosen for (see :class:`FromStart`)."""


class Rule(ABC):
    """How g_t and g_e are mixed."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short and unique."""


class PlannedRule(Rule):
    """A rule whose weights are known before the run."""

    @abstractmethod
    def weights(self, law: GradientLawAt, kappas: Floats) -> Floats:
        """alpha_j in [0, 1] for every step, [T].

        Args:
            law: moments at the start, of one point.
            kappas: eta_j L, [T].
        """


@dataclass(frozen=True)
class Fixed(PlannedRule):
    """The same weight for every problem.

    Raises:
        ValueError: the weight is not finite.

    Example:
        >>> Fixed(0.5).name
        'alpha = 0.5'
    """

    weight: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.weight):
            raise ValueError(f"weight must be finite, got {self.weight}")

    @property
    def name(self) -> str:
        return f"alpha = {self.weight:g}"

    def weights(self, law: GradientLawAt, kappas: Floats) -> Floats:
        return np.full(len(kappas), self.weight)


@dataclass(frozen=True)
class FromStart(PlannedRule):
    """One weight from the moments at the start and the first step's kappa.

    Attributes:
        criterion: "mse" (alpha*, the least mean squared error), "step" (alpha_kappa: variance counts kappa times),
            "descent" (alpha_desc: the descent lemma with nothing dropped) or "cosine" (alpha_cos: the step size is
            free; the best weight in [0, 1]).

    Raises:
        ValueError: another criterion.
    """

    criterion: str

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {self.criterion!r}")

    @property
    def name(self) -> str:
        return self.criterion

    def weights(self, law: GradientLawAt, kappas: Floats) -> Floats:
        return np.full(len(kappas), np.clip(self._weight(law, float(kappas[0])), 0.0, 1.0))

    def _weight(self, law: GradientLawAt, kappa: float) -> float:
        if self.criterion == "cosine":
            return float(cosine_optimal_weight(**law.descent_moments).convex_alpha)
        if self.criterion == "descent":
            return float(descent_optimal_weight(**law.descent_moments, kappa=kappa))
        return float(weighted_optimal_weight(**law.moments, kappa=1.0 if self.criterion == "mse" else kappa))


@dataclass(frozen=True)
class Scheduled(PlannedRule):
    """alpha_t = alpha_kappa at kappa_t = eta_t L, from the moments at the start: it follows the step size."""

    @property
    def name(self) -> str:
        return "schedule"

    def weights(self, law: GradientLawAt, kappas: Floats) -> Floats:
        return np.clip(
            np.where(
                kappas > 0,
                weighted_optimal_weight(**law.moments, kappa=kappas),
                weight_path(**law.moments).bias_end,
            ),
            0.0,
            1.0,
        )


@dataclass(frozen=True)
class JamesStein(Rule):
    """alpha = (1 - c/|g_t - g_e|^2)_+ from each batch, c = Tr S - 2 lmax(S) with S = Cov(g_t) at the start.

    Needs neither mu nor the bias of g_e. Its dominance over g_t supposes g_t unbiased and near normal and g_e
    independent of it; the runs do not grant it that. Where S has effective rank 2 or less, alpha = 1.
    """

    @property
    def name(self) -> str:
        return "james-stein"

    def constant(self, covariance_t: Floats) -> float:
        """c for this covariance of g_t."""
        return shrinkage_spectrum(covariance_t).constant

    def batch_weights(self, pair: GradientPair, constant: float) -> Floats:
        """One weight per repetition, [R]."""
        return shrinkage_weight(constant, ((pair.t - pair.e) ** 2).sum(axis=-1))


def standard_rules() -> tuple[Rule, ...]:
    """The rules of the study under a constant step (there a schedule is the rule "step")."""
    return (Fixed(0.0), Fixed(0.5), Fixed(1.0), *(FromStart(criterion) for criterion in CRITERIA), JamesStein())
