"""What a policy answers and how good that is: win rates, accuracies, divergence, each with an interval over prompts.

answers            sample answers with thinking and with an empty trace, every row from a seed of its own
win_rates          win rate by a reward, ties half; the same at equal length
held_out           losses and preference accuracy on pairs that were not trained on
divergence         KL to the reference, and the entropy of the traces
intervals          means over prompts, paired differences
fresh_prompts, shipped_rewards   prompts and rewards of the task in the box
"""

from bvpo_analysis.evaluation.answers import MODES, AnswerSet, EvaluationPrompt, SampledAnswer, sample_answers
from bvpo_analysis.evaluation.divergence import Divergence, divergence_of
from bvpo_analysis.evaluation.held_out import HeldOut, HeldOutValues
from bvpo_analysis.evaluation.intervals import clustered_mean, paired_difference
from bvpo_analysis.evaluation.shipped_rewards import REWARDS
from bvpo_analysis.evaluation.task_prompts import fresh_prompts
from bvpo_analysis.evaluation.win_rates import comparisons, length_controlled_win_rate, win_rate

__all__ = [
    "MODES",
    "REWARDS",
    "AnswerSet",
    "Divergence",
    "EvaluationPrompt",
    "HeldOut",
    "HeldOutValues",
    "SampledAnswer",
    "clustered_mean",
    "comparisons",
    "divergence_of",
    "fresh_prompts",
    "length_controlled_win_rate",
    "paired_difference",
    "sample_answers",
    "win_rate",
]
