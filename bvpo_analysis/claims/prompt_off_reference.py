"""One prompt of the reasoning model in the box on its way from the reference, and at it with the empty trace.

In float64, all 24 traces of both answers; the direction is that of a short DPO run on the regime.
"""

import io
from contextlib import redirect_stderr

import torch

from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.checkpoints import ShortRun, between, displacement, train_briefly
from bvpo_analysis.off_reference.path import Checkpoint, DataAlongPath
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import Floats, PairScores
from bvpo_analysis.scores import VmapEngine, plan_pair, score_pairs
from bvpo_analysis.scores.choice import score_engine

RUN = ShortRun(steps=8, batch_size=8)
PAIRS = 16
"""Pairs that the short run sees."""


def checkpoints_of_prompt(regime: str, *shares: float, betas: tuple[float, ...] = ()) -> tuple[Checkpoint, ...]:
    """The exact numbers of a regime's first prompt at theta_ref + t d for each share t."""
    reference, pairs = load_model(dtype=torch.float64), shipped_pairs(regime, limit=PAIRS)
    trained = train_briefly(reference, pairs, DPO(), RUN)
    direction = displacement(reference, trained, score_engine("auto", reference.model, None).names)
    data = DataAlongPath(reference, pairs[:1], direction, shipped_traces)
    return tuple(data.at(between(reference, trained, t), t, betas=betas) for t in shares)


def prompt_with_empty_trace(regime: str) -> tuple[PairScores, Floats]:
    """A regime's first prompt at the reference with the empty trace on its own answers: products, and scores [m, P]."""
    lrm, pairs, variants = load_model(dtype=torch.float64), shipped_pairs(regime, limit=1), ("empty_shared",)
    with redirect_stderr(io.StringIO()):  # a progress bar for a single pair
        scored = score_pairs(lrm, pairs, enumerate_traces=shipped_traces, leave_one_out=False, variants=variants)
    plan = plan_pair(lrm.assembler, pairs[0], enumerate_traces=shipped_traces, variants=variants)
    engine = VmapEngine(lrm.model)
    rows = engine.buffer(len(plan.sequences))
    engine.fill(plan.sequences, rows)
    return scored.pairs[0], rows.numpy()
