"""What a report would cost, from doing a small part of it: a block of pairs spread over the data, the largest included.

Time is the time of that block, per token; memory is its peak, with what grows with the data added. Figures and pages
take a time and a memory of their own that do not depend on model or data.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.report.build import Inputs, checked_prompts
from bvpo_analysis.report.config import ReportConfig
from bvpo_analysis.report.run_folder import peak_memory_bytes
from bvpo_analysis.scores.pair_work import BLOCK, PairWork
from bvpo_analysis.scores.passes import kept_blocks
from bvpo_analysis.scores.plan import PairSequences, plan_pair
from bvpo_analysis.scores.totals import FixedPointTotals

MOST_SECONDS = 30.0
"""A dry run scores no further pair after this time."""
PAGE_SECONDS = 6.0
"""Moments, figures and pages of a report of some hundred pairs, on one core."""
PAGE_BYTES = 150 * 2**20
"""Memory of the libraries that draw and render, and of what they hold."""


@dataclass(frozen=True)
class Cost:
    """What a report would take.

    Attributes:
        pairs, sequences, tokens: of the scoring; tokens of whole distinct sequences.
        tokens_again: of them, those of the pairs whose own vectors do not fit into memory and are computed twice.
        tokens_checked: further tokens, to check the table of exact values.
        parameters: differentiated parameters.
        scoring_seconds: time for scoring.
        seconds: time of the whole report.
        memory_bytes: peak memory of the process, or of the accelerator where the model is on one; None if unknown.
    """

    pairs: int
    sequences: int
    tokens: int
    tokens_again: int
    tokens_checked: int
    parameters: int
    scoring_seconds: float
    seconds: float
    memory_bytes: int | None

    def __str__(self) -> str:
        memory = "unknown" if self.memory_bytes is None else f"about {self.memory_bytes / 2**20:.0f} MiB"
        return (
            f"pairs {self.pairs}, distinct sequences {self.sequences}, tokens {self.tokens}"
            f"{f', {self.tokens_again} of them twice' if self.tokens_again else ''}"
            f"{f', and {self.tokens_checked} tokens to check the exact table' if self.tokens_checked else ''}\n"
            f"time about {self.scoring_seconds:.0f} s for scoring, {self.seconds:.0f} s in all\n"
            f"peak memory {memory} ({self.parameters} parameters)\n"
            f"nothing was written"
        )


def _tokens(plans: list[PairSequences]) -> int:
    return sum(len(sequence.ids) for plan in plans for sequence in plan.sequences)


def _sample(plans: list[PairSequences]) -> list[PairSequences]:
    """The largest pair and others spread over the data, one block in all, in data order."""
    largest = max(range(len(plans)), key=lambda i: _tokens(plans[i : i + 1]))
    spread = np.linspace(0, len(plans) - 1, min(BLOCK, len(plans))).round().astype(int).tolist()
    spread[min(range(len(spread)), key=lambda k: abs(spread[k] - largest))] = largest
    return [plans[i] for i in sorted(set(spread))]


def report_cost(config: ReportConfig) -> Cost:
    """What the report would take.

    Raises:
        InputError: wrong input, as for the report itself.
        StudyError: a pair of the sample cannot be scored, for want of memory say.
    """
    begun = time.perf_counter()
    inputs = Inputs(config)
    loading = time.perf_counter() - begun
    exact = config.traces == "exact"
    plans = [
        plan_pair(
            inputs.lrm.assembler,
            pair,
            traces=1 if exact else int(config.traces),
            empty_mode=config.empty_mode,
            enumerate_traces=shipped_traces if exact else None,
        )
        for pair in inputs.pairs
    ]
    loss = config.objective
    totals = totals_of(Trace(loss), EmptyTrace(loss), *([Marginal(loss)] if exact else []))
    sample = _sample(plans)
    engine = inputs.scorer
    work = PairWork(inputs.lrm, inputs.reference, engine, sample, totals)
    engine.fill(sample[0].sequences[:1], engine.buffer(1))  # the first call also pays for setting up
    fills, others, done = 0.0, 0.0, 0
    sums: FixedPointTotals | None = None
    rows = work.rows(0)
    while done < len(sample) and fills + others < MOST_SECONDS:
        begun = time.perf_counter()
        scored = next(rows)
        filled = time.perf_counter()
        sums = sums or FixedPointTotals(work.units(scored), engine.columns, engine.device)
        pair, own = work.gram(scored, sums, keep=True)
        if own is not None and not exact:
            work.products(pair, own, sums.counts.view(torch.float64))
        fills, others = fills + filled - begun, others + time.perf_counter() - filled
        done += 1
    seen = sample[:done]
    per_token = (fills + others) / _tokens(seen)
    tokens = _tokens(plans)
    kept = len(plans) if exact else BLOCK * kept_blocks(len(plans), len(totals), engine)
    again = _tokens(plans[kept:])
    check = 0
    if inputs.exact is not None:
        checked = inputs.pairs[: checked_prompts(len(inputs.pairs))]
        check = _tokens([plan_pair(inputs.lrm.assembler, pair, enumerate_traces=shipped_traces) for pair in checked])
    scoring = tokens * per_token + again * fills / _tokens(seen)
    return Cost(
        pairs=len(plans),
        sequences=sum(len(plan.sequences) for plan in plans),
        tokens=tokens,
        tokens_again=again,
        tokens_checked=check,
        parameters=engine.size,
        scoring_seconds=scoring,
        seconds=loading + scoring + check * fills / _tokens(seen) + PAGE_SECONDS,
        memory_bytes=_memory(work, plans, 0 if exact else min(kept, len(plans)), len(totals)),
    )


def _memory(work: PairWork, plans: list[PairSequences], kept: int, totals: int) -> int | None:
    """Peak of the sample, with the own vectors that wait in memory and the results of every pair."""
    engine = work.scorer
    own = kept * totals * engine.size * torch.promote_types(engine.buffer(0).dtype, torch.float32).itemsize
    if engine.device.type == "cuda":
        return torch.cuda.max_memory_allocated(engine.device) + own
    peak = peak_memory_bytes()
    if peak is None:
        return None
    groups = len(engine.groups)
    results = sum(8 * groups * (len(plan.sequences) ** 2 + totals * (1024 + totals)) for plan in plans)
    return math.ceil(peak + own + results + PAGE_BYTES)


def dry_run(config: ReportConfig) -> str:
    """The cost in a few lines.

    Raises:
        InputError: wrong input, as for the report itself.
        StudyError: a pair of the sample cannot be scored.
    """
    return str(report_cost(config))
