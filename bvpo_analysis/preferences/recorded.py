"""Log-probabilities that a sampler recorded, held against those of the model under study.

Traces may have been drawn elsewhere, by a serving engine in lower precision, with other kernels, or with other weights
than one thinks. The analysis recomputes every log-probability; how far the recorded ones are off tells whether the
traces are draws from this model, which everything built on posterior traces assumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.records import SIDES, PreferencePair

NOTABLE = 0.1
"""Nats per sequence beyond which a difference is counted: weights 10 % off in importance sampling."""


@dataclass(frozen=True)
class SamplerMismatch:
    """Absolute differences |log pi(model) - log pi(recorded)| per sequence, in nats.

    Attributes:
        sequences: sequences with a recorded log-probability.
        mean, largest: mean and largest difference.
        share_notable: share of sequences off by more than 0.1 nats.
        prompt: prompt of the largest difference.
    """

    sequences: int
    mean: float
    largest: float
    share_notable: float
    prompt: str


def log_prob(lrm: ReasoningModel, sequence: TokenSequence) -> float:
    """Natural log-probability of the scored tokens of one sequence under a model, computed without a batch."""
    ids = torch.tensor([sequence.ids], device=next(lrm.model.parameters()).device)
    with torch.no_grad():
        logits = lrm.model(ids, use_cache=False).logits[0, sequence.score_start - 1 : -1].float()
    token = torch.log_softmax(logits.double(), dim=-1).gather(-1, ids[0, sequence.score_start :, None])
    return float(token.sum())


def sampler_mismatch(lrm: ReasoningModel, pairs: Sequence[PreferencePair]) -> SamplerMismatch | None:
    """Compare ``meta.sampler_log_prob`` of the generating sequences with the model; None if no pair records any.

    Example:
        >>> from bvpo_analysis import load_model, shipped_pairs
        >>> sampler_mismatch(load_model(), shipped_pairs(limit=1)) is None
        True
    """
    differences, prompts = [], []
    for pair in pairs:
        recorded = pair.meta.get("sampler_log_prob") or {}
        for name, completion in zip(SIDES, (pair.chosen, pair.rejected), strict=True):
            if recorded.get(name) is not None:
                sequence = lrm.assembler.with_trace(pair.prompt, completion.trace or "", completion.answer)
                differences.append(abs(log_prob(lrm, sequence) - float(recorded[name])))
                prompts.append(pair.prompt_id)
    if not differences:
        return None
    off = np.array(differences)
    return SamplerMismatch(
        sequences=len(off),
        mean=float(off.mean()),
        largest=float(off.max()),
        share_notable=float((off > NOTABLE).mean()),
        prompt=prompts[int(off.argmax())],
    )
