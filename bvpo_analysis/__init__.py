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

_CONTENTS: dict[str, tuple[str, ...]] = {
    "bvpo_analysis.records": ("Alpha", "Completion", "Estimate", "PreferencePair", "ScoreSet"),
    "bvpo_analysis.objectives": ("DPO", "IPO", "SimPO"),
    "bvpo_analysis.lrm": ("ReasoningModel", "load_model"),
    "bvpo_analysis.preferences": ("read_pairs", "shipped_pairs", "write_pairs"),
    "bvpo_analysis.scores": ("score_pairs",),
    "bvpo_analysis.estimators": ("EmptyTrace", "Marginal", "MultiTrace", "Trace", "mix"),
    "bvpo_analysis.moments": ("population_moments", "enumerated_moments"),
    "bvpo_analysis.study": ("Study",),
}
_SUBMODULES = ("theory", "mixing", "figures", "report")
_HOME = {name: module for module, names in _CONTENTS.items() for name in names}

__all__ = [*_HOME, *_SUBMODULES]

if TYPE_CHECKING:
    from bvpo_analysis.estimators import EmptyTrace, Marginal, MultiTrace, Trace, mix
    from bvpo_analysis.lrm import ReasoningModel, load_model
    from bvpo_analysis.moments import enumerated_moments, population_moments
    from bvpo_analysis.objectives import DPO, IPO, SimPO
    from bvpo_analysis.preferences import read_pairs, shipped_pairs, write_pairs
    from bvpo_analysis.records import Alpha, Completion, Estimate, PreferencePair, ScoreSet
    from bvpo_analysis.scores import score_pairs
    from bvpo_analysis.study import Study


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"bvpo_analysis.{name}")
    raise AttributeError(f"module 'bvpo_analysis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
