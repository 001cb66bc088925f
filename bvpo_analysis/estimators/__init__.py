"""Gradient estimators as coefficients: each returns the c of g = sum_j c_j s_j, from log-probabilities only.

One file per estimator. Estimators are closed under ``+``, ``-``, scalar ``*`` and :func:`mix`, so the paper's
g_c = alpha g_t + (1 - alpha) g_e is ``mix(Trace(dpo), EmptyTrace(dpo), alpha)``. All that a study can measure stand in
one registry, :data:`ESTIMATORS`.
"""

from bvpo_analysis.estimators.base import Estimator, Needs, Sum, mean_coefficients, totals_of
from bvpo_analysis.estimators.controlled_prior_trace import ControlledPriorTrace
from bvpo_analysis.estimators.coupled_trace import CoupledTrace
from bvpo_analysis.estimators.empty_trace import EmptyTrace
from bvpo_analysis.estimators.empty_variant import EmptyVariant
from bvpo_analysis.estimators.independent_prior_traces import IndependentPriorTraces
from bvpo_analysis.estimators.jackknife_marginal import JackknifeMarginal
from bvpo_analysis.estimators.k_marginal import KMarginal
from bvpo_analysis.estimators.marginal import Marginal
from bvpo_analysis.estimators.mixture import mix
from bvpo_analysis.estimators.multi_trace import MultiTrace
from bvpo_analysis.estimators.pooled import Pooled
from bvpo_analysis.estimators.prior_trace import PriorTrace
from bvpo_analysis.estimators.randomised_marginal import RandomisedMarginal
from bvpo_analysis.estimators.registry import ESTIMATORS, Generated, RegisteredEstimator, available
from bvpo_analysis.estimators.short_trace import ShortTrace
from bvpo_analysis.estimators.trace import Trace

__all__ = [
    "ESTIMATORS",
    "ControlledPriorTrace",
    "CoupledTrace",
    "EmptyTrace",
    "EmptyVariant",
    "Estimator",
    "Generated",
    "IndependentPriorTraces",
    "JackknifeMarginal",
    "KMarginal",
    "Marginal",
    "MultiTrace",
    "Needs",
    "Pooled",
    "PriorTrace",
    "RandomisedMarginal",
    "RegisteredEstimator",
    "ShortTrace",
    "Sum",
    "Trace",
    "available",
    "mean_coefficients",
    "mix",
    "totals_of",
]
