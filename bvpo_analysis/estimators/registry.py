"""The registry: every estimator that can be measured on a pair, under a short stable key, with what is known of it.

A study walks over :data:`ESTIMATORS`, takes those that :func:`available` finds on its pairs, and reports one row for
each. Adding an estimator is one file with its class and one entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from bvpo_analysis.estimators.base import Estimator, Needs
from bvpo_analysis.estimators.controlled_prior_trace import ControlledPriorTrace
from bvpo_analysis.estimators.coupled_trace import CoupledTrace
from bvpo_analysis.estimators.empty_trace import EmptyTrace
from bvpo_analysis.estimators.empty_variant import EmptyVariant
from bvpo_analysis.estimators.independent_prior_traces import IndependentPriorTraces
from bvpo_analysis.estimators.jackknife_marginal import JackknifeMarginal
from bvpo_analysis.estimators.k_marginal import KMarginal
from bvpo_analysis.estimators.multi_trace import MultiTrace
from bvpo_analysis.estimators.pooled import Pooled
from bvpo_analysis.estimators.prior_trace import PriorTrace
from bvpo_analysis.estimators.randomised_marginal import RandomisedMarginal, level_probabilities
from bvpo_analysis.estimators.short_trace import ShortTrace
from bvpo_analysis.estimators.trace import Trace
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.records import PairLogProbs

Unbiased = Literal["at the reference", "in the limit", "nowhere"]
"""Where an estimator's mean is mu, for losses with constant coefficients at the reference (DPO, IPO).

"in the limit": exactly at the reference, and elsewhere as the number of traces grows.
"""


@dataclass(frozen=True)
class Generated:
    """Sequences that must be generated per pair for one realisation, beyond the answers of the pair themselves.

    Attributes:
        posterior: traces of the given answers, both sides together. The first of each side comes with its answer; a
            further one takes as many completions as it takes until the same answer comes out again.
        prior: traces generated without regard to their answer.
        empty: answers generated without thinking.
    """

    posterior: float = 0.0
    prior: float = 0.0
    empty: float = 0.0


@dataclass(frozen=True)
class RegisteredEstimator:
    """One estimator of the registry.

    Attributes:
        key: short stable name.
        label: what it is, in plain words.
        make: the estimator for a loss.
        unbiased: where its mean is the marginal gradient, for DPO and IPO.
        bias: order of its bias, in words.
        reference: where it is described.
        generated: what must be generated for one realisation.
        reference_free: whether it is defined for reference-free losses (SimPO), for which none is unbiased.
    """

    key: str
    label: str
    make: Callable[[Objective], Estimator]
    unbiased: Unbiased
    bias: str
    reference: str
    generated: Generated
    reference_free: bool = True

    @property
    def needs(self) -> Needs:
        """What it takes of a pair, which does not depend on the loss."""
        return self.make(DPO()).needs

    def unbiased_for(self, objective: Objective, *, at_reference: bool) -> bool:
        """Whether its mean is exactly mu for this loss, at the reference or off it.

        Example:
            >>> from bvpo_analysis.objectives import DPO, SimPO
            >>> [ESTIMATORS["trace"].unbiased_for(loss, at_reference=True) for loss in (DPO(), SimPO())]
            [True, False]
        """
        return at_reference and not objective.reference_free and self.unbiased != "nowhere"


_CONSTANT = "0 at the reference"
_BVPO = "arXiv 2510.05095"


def _mean(k: int) -> RegisteredEstimator:
    return RegisteredEstimator(
        key=f"mean_of_{k}",
        label=f"mean of {k} trace-based gradients",
        make=lambda objective: MultiTrace(objective, k),
        unbiased="at the reference",
        bias=f"{_CONSTANT}; off it that of one trace, whatever K",
        reference=f"{_BVPO} (K joint gradients averaged)",
        generated=Generated(posterior=2 * k),
    )


def _marginal(k: int) -> RegisteredEstimator:
    return RegisteredEstimator(
        key=f"marginal_{k}",
        label=f"marginal gradient from {k} traces (log-mean-exp)",
        make=lambda objective: KMarginal(objective, k),
        unbiased="in the limit",
        bias=f"{_CONSTANT}; O(1/K) off it",
        reference="arXiv 1509.00519 (the bound whose gradient it is)",
        generated=Generated(posterior=2 * k),
        reference_free=False,
    )


def _jackknife(k: int) -> RegisteredEstimator:
    return RegisteredEstimator(
        key=f"jackknife_{k}",
        label=f"marginal gradient from {k} traces, delete-one jackknife",
        make=lambda objective: JackknifeMarginal(objective, k),
        unbiased="in the limit",
        bias=f"{_CONSTANT}; O(1/K^2) off it",
        reference="Nowozin 2018 (jackknife variational inference)",
        generated=Generated(posterior=2 * k),
        reference_free=False,
    )


def _randomised(k: int) -> RegisteredEstimator:
    p = level_probabilities(k.bit_length() - 1)
    used = float(p @ 2.0 ** np.arange(1, len(p) + 1))
    return RegisteredEstimator(
        key="randomised",
        label=f"marginal gradient, antithetic randomised levels up to {k} traces",
        make=lambda objective: RandomisedMarginal(objective, k),
        unbiased="in the limit",
        bias=f"{_CONSTANT}; off it that of {k} traces by log-mean-exp",
        reference="Blanchet & Glynn 2015; arXiv 2004.00353",
        generated=Generated(posterior=2 * used),
        reference_free=False,
    )


def _pooled(m: int) -> RegisteredEstimator:
    return RegisteredEstimator(
        key=f"pooled_{m}",
        label=f"posterior trace in a pool with {m - 1} shared prior trace{'s' if m > 2 else ''}",
        make=lambda objective: Pooled(objective, m),
        unbiased="at the reference",
        bias=f"{_CONSTANT}; not defined off it",
        reference="Andrieu, Doucet & Holenstein 2010; arXiv 2207.06364",
        generated=Generated(posterior=2, prior=m - 1),
    )


def _coupled(k: int) -> RegisteredEstimator:
    return RegisteredEstimator(
        key=f"coupled_{k}",
        label=f"one trace pair, matched by probability among {k}",
        make=lambda objective: CoupledTrace(objective, k),
        unbiased="at the reference",
        bias=f"{_CONSTANT}; off it O(1), with a joint law of its own",
        reference="common random numbers; unbiased as for one trace",
        generated=Generated(posterior=2 * k),
    )


_ENTRIES = (
    RegisteredEstimator(
        key="trace",
        label="one trace per answer",
        make=Trace,
        unbiased="at the reference",
        bias=f"{_CONSTANT}; O(1) off it",
        reference=f"{_BVPO}, g_t",
        generated=Generated(posterior=2),
    ),
    *(_mean(k) for k in (2, 4, 8)),
    *(_marginal(k) for k in (2, 4, 8)),
    *(_jackknife(k) for k in (2, 4, 8)),
    _randomised(4),
    *(_pooled(m) for m in (2, 4)),
    *(_coupled(k) for k in (2, 4, 8)),
    RegisteredEstimator(
        key="prior_shared",
        label="one prior trace for both answers",
        make=PriorTrace,
        unbiased="nowhere",
        bias="O(1): covariance of the trace's score with the likelihood of the answer",
        reference="Jensen surrogate of the marginal loss",
        generated=Generated(prior=1),
    ),
    RegisteredEstimator(
        key="prior_independent",
        label="a prior trace for each answer",
        make=IndependentPriorTraces,
        unbiased="nowhere",
        bias="O(1), as with one shared prior trace at the reference",
        reference="Jensen surrogate of the marginal loss",
        generated=Generated(prior=2),
    ),
    RegisteredEstimator(
        key="prior_controlled",
        label="a prior trace for each answer, its own score taken out",
        make=ControlledPriorTrace,
        unbiased="nowhere",
        bias="O(1), as with one shared prior trace at the reference",
        reference="score-function control variate",
        generated=Generated(prior=2),
    ),
    RegisteredEstimator(
        key="empty",
        label="empty trace",
        make=EmptyTrace,
        unbiased="nowhere",
        bias="O(1): shift of the trace and of the data",
        reference=f"{_BVPO}, g_e",
        generated=Generated(empty=2),
    ),
    RegisteredEstimator(
        key="empty_shared",
        label="empty trace, answers of the trace-based pair",
        make=lambda objective: EmptyVariant(objective, "empty_shared"),
        unbiased="nowhere",
        bias="O(1): shift of the trace alone",
        reference=f"{_BVPO}, g_e on the pairs of g_t",
        generated=Generated(),
    ),
    RegisteredEstimator(
        key="empty_generated",
        label="empty trace, empty block scored",
        make=lambda objective: EmptyVariant(objective, "empty_generated"),
        unbiased="nowhere",
        bias="O(1): shift of the trace and of the data",
        reference=f"{_BVPO}, g_e with a generated empty block",
        generated=Generated(empty=2),
    ),
    RegisteredEstimator(
        key="short",
        label="first half of the generating trace",
        make=ShortTrace,
        unbiased="nowhere",
        bias="O(1): shift of the trace",
        reference="between g_t and g_e",
        generated=Generated(posterior=2),
    ),
)

ESTIMATORS: Mapping[str, RegisteredEstimator] = MappingProxyType({entry.key: entry for entry in _ENTRIES})
"""The estimators by key, in the order in which they are reported."""


def available(pair: PairLogProbs, objective: Objective | None = None) -> tuple[str, ...]:
    """Keys of the estimators whose rows this pair has, in the order of the registry.

    Args:
        pair: the scored sequences.
        objective: leave out what is not defined for this loss.

    Example:
        >>> from bvpo_analysis.objectives import SimPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> available(toy_pair())
        ('trace', 'mean_of_2', 'marginal_2', 'jackknife_2', 'coupled_2', 'empty')
        >>> available(toy_pair(), SimPO())
        ('trace', 'mean_of_2', 'coupled_2', 'empty')
    """
    free = objective is not None and objective.reference_free
    return tuple(
        key for key, entry in ESTIMATORS.items() if entry.needs.met_by(pair) and (entry.reference_free or not free)
    )
