"""Prompts of the task in the box that no shipped pair contains."""

import numpy as np

from bvpo_analysis.evaluation.answers import EvaluationPrompt
from bvpo_analysis.lrm.shipped.task import sample_problem
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs

SEED = 71
"""First word of the seed of fresh prompts."""


def fresh_prompts(count: int, seed: int = 0) -> tuple[EvaluationPrompt, ...]:
    """The first ``count`` random prompts of a seed that are in no shipped pair, each once.

    Example:
        >>> prompts = fresh_prompts(3)
        >>> [p.prompt_id for p in prompts], prompts == fresh_prompts(4)[:3]
        (['fresh-0-00000', 'fresh-0-00001', 'fresh-0-00002'], True)
    """
    known = {str(pair.prompt[-1]["content"]) for regime in REGIMES for pair in shipped_pairs(regime)}
    rng = np.random.default_rng([SEED, seed])
    found: list[EvaluationPrompt] = []
    while len(found) < count:
        text = sample_problem(rng).text
        if text not in known:
            known.add(text)
            found.append(EvaluationPrompt(f"fresh-{seed}-{len(found):05d}", ({"role": "user", "content": text},)))
    return tuple(found)
