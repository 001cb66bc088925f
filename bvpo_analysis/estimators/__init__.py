"""Gradient estimators as coefficients: each returns the c of g = sum_j c_j s_j, from log-probabilities only.

One file per estimator. Estimators are closed under ``+``, ``-``, scalar ``*`` and :func:`mix`, so the paper's
g_c = alpha g_t + (1 - alpha) g_e is ``mix(Trace(dpo), EmptyTrace(dpo), alpha)``.
"""

from bvpo_analysis.estimators.base import Estimator, Sum, mean_coefficients, totals_of
from bvpo_analysis.estimators.empty_trace import EmptyTrace
from bvpo_analysis.estimators.marginal import Marginal
from bvpo_analysis.estimators.mixture import mix
from bvpo_analysis.estimators.multi_trace import MultiTrace
from bvpo_analysis.estimators.trace import Trace

__all__ = [
    "EmptyTrace",
    "Estimator",
    "Marginal",
    "MultiTrace",
    "Sum",
    "Trace",
    "mean_coefficients",
    "mix",
    "totals_of",
]
