"""What a report would cost, from doing a small part of it: a block of pairs spread over the data, the largest included.

Time is the time of that block, per token; memory is its peak, with what grows with the data added. Moments, figures and
pages take a time and a memory of their own that hardly depend on model or data: so many times what one figure takes on
this machine.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bvpo_analysis import figures
from bvpo_analysis.comparison import selected_estimators
from bvpo_analysis.estimators import totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.records import VARIANTS
from bvpo_analysis.report.build import Inputs, checked_prompts, not_comparable, too_large_to_compare
from bvpo_analysis.report.config import FEWEST_COMPARED, ReportConfig
from bvpo_analysis.report.run_folder import peak_memory_bytes
from bvpo_analysis.scores.pair_work import BLOCK, SKETCH, MeanCoefficients, PairWork
from bvpo_analysis.scores.passes import kept_blocks
from bvpo_analysis.scores.plan import PairSequences, plan_pair
from bvpo_analysis.scores.totals import FixedPointTotals
from bvpo_analysis.study import is_off_reference, study_totals

MOST_SECONDS = 30.0
"""A dry run scores no further pair after this time."""
PAGE_FIGURES = 40.0
"""Moments, figures and pages of a report of some hundred pairs take as long as drawing so many plain figures."""
PAGE_BYTES = 150 * 2**20
"""Memory of the libraries that draw and render, and of what they hold."""


@dataclass(frozen=True)
class Cost:
    """What a report would take.

    Attributes:
        pairs, sequences, tokens: of the study; tokens of whole distinct sequences.
        tokens_again: of them, those of the pairs whose own vectors do not fit into memory and are computed twice.
        tokens_compared: tokens of the comparison of estimators, those computed twice counted twice.
        tokens_checked: further tokens, to check the table of exact values.
        parameters: differentiated parameters.
        scoring_seconds: time for scoring, the comparison included.
        seconds: time of the whole report.
        memory_bytes: peak memory of the process, or of the accelerator where the model is on one; None if unknown.
    """

    pairs: int
    sequences: int
    tokens: int
    tokens_again: int
    tokens_compared: int
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
            f"{f', {self.tokens_compared} tokens to compare estimators' if self.tokens_compared else ''}"
            f"{f', and {self.tokens_checked} tokens to check the exact table' if self.tokens_checked else ''}\n"
            f"time about {self.scoring_seconds:.0f} s for scoring, {self.seconds:.0f} s in all\n"
            f"peak memory {memory} ({self.parameters} parameters)\n"
            f"nothing was written"
        )


@dataclass(frozen=True)
class _Pass:
    """One scoring run: its plans, and what a sample of it took.

    Attributes:
        plans: every pair's plan.
        again: tokens that are scored twice.
        fill, other: seconds per token for scores and for everything done with them.
        waiting: bytes of own vectors and results that a whole run holds beyond the sample.
    """

    plans: list[PairSequences]
    again: int
    fill: float
    other: float
    waiting: int

    @property
    def seconds(self) -> float:
        """Time of the whole run."""
        return _tokens(self.plans) * (self.fill + self.other) + self.again * self.fill


def _tokens(plans: list[PairSequences]) -> int:
    return sum(len(sequence.ids) for plan in plans for sequence in plan.sequences)


def _sample(plans: list[PairSequences]) -> list[PairSequences]:
    """The largest pair and others spread over the data, one block in all, in data order."""
    largest = max(range(len(plans)), key=lambda i: _tokens(plans[i : i + 1]))
    spread = np.linspace(0, len(plans) - 1, min(BLOCK, len(plans))).round().astype(int).tolist()
    spread[min(range(len(spread)), key=lambda k: abs(spread[k] - largest))] = largest
    return [plans[i] for i in sorted(set(spread))]


def _measured(
    inputs: Inputs, plans: list[PairSequences], totals: Mapping[str, MeanCoefficients], *, twice: bool
) -> _Pass:
    """Score a sample of the plans as a run would."""
    engine = inputs.scorer
    sample = _sample(plans)
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
        pair, own = work.gram(scored, sums, keep=twice)
        if own is not None:
            work.products(pair, own, sums.counts.view(torch.float64))
        fills, others = fills + filled - begun, others + time.perf_counter() - filled
        done += 1
    tokens = _tokens(sample[:done])
    kept = min(BLOCK * kept_blocks(len(plans), len(totals), engine), len(plans)) if twice else len(plans)
    own_bytes = kept * len(totals) * engine.size * engine.buffer(0).element_size() if twice else 0
    results = sum(
        8 * len(engine.groups) * (len(p.sequences) ** 2 + len(totals) * (SKETCH + len(totals))) for p in plans
    )
    return _Pass(plans, _tokens(plans[kept:]), fills / tokens, others / tokens, own_bytes + results)


def _comparison(config: ReportConfig, inputs: Inputs) -> _Pass | None:
    """The scoring of the comparison of estimators, where there is one."""
    pairs = inputs.pairs[: config.compare]
    if not_comparable(config, inputs) or len(pairs) < FEWEST_COMPARED or too_large_to_compare(inputs):
        return None
    prior, traces = min(3, *(len(pair.prior_traces) for pair in pairs)), int(config.traces)
    wanted = selected_estimators(config.objective, traces, prior).values()
    plans = [
        plan_pair(
            inputs.lrm.assembler,
            pair,
            traces=traces,
            empty_mode=config.empty_mode,
            prior=prior,
            trace_only=prior > 0,
            variants=tuple(VARIANTS),
        )
        for pair in pairs
    ]
    return _measured(inputs, plans, totals_of(*wanted), twice=True)


def _figure_seconds() -> float:
    """Time to draw and write one plain figure; the first one, which also finds the fonts, does not count."""
    taken = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            begun = time.perf_counter()
            figure, ax = figures.new_figure()
            ax.plot([0.0, 1.0], [0.0, 1.0])
            figures.save_figure(figure, Path(folder) / "figure", pd.DataFrame({"x": [0.0, 1.0]}))
            taken = time.perf_counter() - begun
    return taken


def report_cost(config: ReportConfig, spent: float = 0.0) -> Cost:
    """What the report would take.

    Args:
        config: its options.
        spent: seconds that the process has taken to start.

    Raises:
        InputError: wrong input, as for the report itself.
        StudyError: a pair of the sample cannot be scored, for want of memory say.
    """
    begun = time.perf_counter()
    inputs = Inputs(config)
    loading = time.perf_counter() - begun
    exact = config.traces == "exact"
    estimated = not exact and is_off_reference(inputs.lrm, inputs.reference)
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
    totals = study_totals(loss, traces=None if exact else int(config.traces), estimated=estimated)
    study = _measured(inputs, plans, totals, twice=not exact)
    compared = _comparison(config, inputs)
    runs = [study] if compared is None else [study, compared]
    check = 0
    if inputs.exact is not None:
        sample = inputs.pairs[: checked_prompts(len(inputs.pairs))]
        check = _tokens([plan_pair(inputs.lrm.assembler, pair, enumerate_traces=shipped_traces) for pair in sample])
    scoring = sum(run.seconds for run in runs)
    device = inputs.scorer.device
    if device.type == "cuda":
        peak: int | None = torch.cuda.max_memory_allocated(device)
    else:
        peak = peak_memory_bytes()
    return Cost(
        pairs=len(plans),
        sequences=sum(len(plan.sequences) for plan in plans),
        tokens=_tokens(plans),
        tokens_again=study.again,
        tokens_compared=0 if compared is None else _tokens(compared.plans) + compared.again,
        tokens_checked=check,
        parameters=inputs.scorer.size,
        scoring_seconds=scoring,
        seconds=spent + loading + scoring + check * study.fill + PAGE_FIGURES * _figure_seconds(),
        memory_bytes=None if peak is None else peak + max(run.waiting for run in runs) + PAGE_BYTES,
    )


def dry_run(config: ReportConfig) -> str:
    """The cost in a few lines, for a process that does nothing else.

    Raises:
        InputError: wrong input, as for the report itself.
        StudyError: a pair of the sample cannot be scored.
    """
    return str(report_cost(config, spent=time.process_time()))
