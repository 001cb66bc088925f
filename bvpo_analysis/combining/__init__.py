"""Weights for several estimators, for parameter groups, and from the batch itself, estimated with their errors.

Where joint moments meet the closed forms of ``theory``: the best combination of J estimators, one weight per parameter
group shrunk towards the common one, the risk of the James-Stein weight, and what flipped labels do to them.
"""

from bvpo_analysis.combining.best import BestCombination, best_combination
from bvpo_analysis.combining.by_group import GroupWeight, GroupWeights, realised_gain, shrunken_group_weights
from bvpo_analysis.combining.james_stein import JamesSteinRisk, james_stein_risk, prompts_needed
from bvpo_analysis.combining.label_noise import LabelNoise, label_noise_effects

__all__ = [
    "BestCombination",
    "GroupWeight",
    "GroupWeights",
    "JamesSteinRisk",
    "LabelNoise",
    "best_combination",
    "james_stein_risk",
    "label_noise_effects",
    "prompts_needed",
    "realised_gain",
    "shrunken_group_weights",
]
