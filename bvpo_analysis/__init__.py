"""Bias, variance, MSE and the optimal mixing weight of preference-gradient estimators for reasoning models.

    preference pairs -> traces -> scores -> estimators -> moments -> theory -> mixing -> study -> report

The table of contents below is in pipeline order. Names load on first use, so that ``import bvpo_analysis``
and ``import bvpo_analysis.theory`` never import torch.

Example:
    >>> import bvpo_analysis as ba
    >>> alpha = ba.theory.optimal_weight(error_t=1.0, error_e=1.0, cross=0.0)
    >>> float(alpha)
    0.5
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Alpha": "records",
    "Completion": "records",
    "Estimate": "records",
    "PreferencePair": "records",
    "ScoreSet": "records",
    "DPO": "objectives",
    "IPO": "objectives",
    "SimPO": "objectives",
    "ReasoningModel": "lrm.loading",
    "load_model": "lrm.loading",
    "read_pairs": "preferences",
    "shipped_pairs": "preferences",
    "write_pairs": "preferences",
    "score_pairs": "scores",
    "ESTIMATORS": "estimators",
    "EmptyTrace": "estimators",
    "KMarginal": "estimators",
    "Marginal": "estimators",
    "MultiTrace": "estimators",
    "Pooled": "estimators",
    "Trace": "estimators",
    "mix": "estimators",
    "enumerated_moments": "moments",
    "joint_moments": "moments",
    "population_moments": "moments",
    "Plan": "planner",
    "Study": "study",
    "EstimatorComparison": "comparison",
    "TrainConfig": "training.config",
    "bvpo_loss": "training.losses",
}
_SUBMODULES = ("estimators", "figures", "lrm", "mixing", "moments", "preferences", "report", "scores", "theory")

# In pipeline order: records, losses, models, pairs, scores, estimators, moments, theory and decisions, study, training.
__all__ = [  # noqa: RUF022 - the order is the table of contents
    "Alpha",
    "Completion",
    "Estimate",
    "PreferencePair",
    "ScoreSet",
    "DPO",
    "IPO",
    "SimPO",
    "ReasoningModel",
    "load_model",
    "read_pairs",
    "shipped_pairs",
    "write_pairs",
    "score_pairs",
    "ESTIMATORS",
    "EmptyTrace",
    "KMarginal",
    "Marginal",
    "MultiTrace",
    "Pooled",
    "Trace",
    "mix",
    "enumerated_moments",
    "joint_moments",
    "population_moments",
    "theory",
    "mixing",
    "Plan",
    "Study",
    "EstimatorComparison",
    "TrainConfig",
    "bvpo_loss",
    "figures",
    "report",
]

if TYPE_CHECKING:
    from bvpo_analysis import figures, mixing, report, theory
    from bvpo_analysis.comparison import EstimatorComparison
    from bvpo_analysis.estimators import ESTIMATORS, EmptyTrace, KMarginal, Marginal, MultiTrace, Pooled, Trace, mix
    from bvpo_analysis.lrm.loading import ReasoningModel, load_model
    from bvpo_analysis.moments import enumerated_moments, joint_moments, population_moments
    from bvpo_analysis.objectives import DPO, IPO, SimPO
    from bvpo_analysis.planner import Plan
    from bvpo_analysis.preferences import read_pairs, shipped_pairs, write_pairs
    from bvpo_analysis.records import Alpha, Completion, Estimate, PreferencePair, ScoreSet
    from bvpo_analysis.scores import score_pairs
    from bvpo_analysis.study import Study
    from bvpo_analysis.training.config import TrainConfig
    from bvpo_analysis.training.losses import bvpo_loss


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"bvpo_analysis.{_HOME[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"bvpo_analysis.{name}")
    raise AttributeError(f"module 'bvpo_analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
