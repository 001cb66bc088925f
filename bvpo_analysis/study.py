"""``Study``: score a model on preference pairs once, then ask it anything that is algebra on the scores.

    >>> from bvpo_analysis import Study, load_model, shipped_pairs
    >>> study = Study.from_pairs(load_model(), shipped_pairs("correct", limit=8), traces=2)
    >>> study.optimal_alpha(batch_size=16).name
    'alpha_star.population.B16.K1.kappa1'

Three ways to get the target. At its reference, a model's own trace-based gradient is unbiased for the marginal
gradient, so sampled traces suffice. Off it, the marginal gradient is estimated from the K traces of an answer, with a
bias of order 1/K^2. Where all traces can be enumerated, everything is exact, at the reference or off it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bvpo_analysis import figures, mixing
from bvpo_analysis.cost import Architecture, Cost, Measure, exact_mean_cost, mean_cost, pair_cost
from bvpo_analysis.display import drawn, study_html
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Generated, Marginal, Trace, totals_of
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel, as_model
from bvpo_analysis.moments import GradientLaw, Moments, enumerated_moments, population_moments
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.planner import Criterion, Plan, PlanResult, plan
from bvpo_analysis.preferences.rows import as_pairs, common_traces, require_traces
from bvpo_analysis.records import Alpha, Estimate, Floats, PairLogProbs, PreferencePair, ScoreSet
from bvpo_analysis.sampled_target import (
    OffReferenceEstimate,
    estimate_off_reference,
    off_reference_estimators,
    off_reference_totals,
)
from bvpo_analysis.scores import BlockFolder, score_pairs
from bvpo_analysis.scores.plan import TraceEnumerator
from bvpo_analysis.tables import (
    alpha_grid_table,
    estimator_rows,
    frame,
    group_rows,
    jsonable,
    moments_table,
    mse_curve_table,
    per_pair_table,
)

BATCH_SIZES: tuple[int, ...] = tuple(2**i for i in range(11))
"""Default grid of batch sizes, 1 ... 1024."""
KAPPAS: tuple[float, ...] = (1.0, 0.5, 0.1, 0.01)
"""Default grid of kappa = eta L."""


def require_identified(
    pairs: Sequence[PreferencePair],
    lrm: ReasoningModel,
    objective: Objective,
    *,
    traces: int | None,
    reference: ReasoningModel | None = None,
) -> None:
    """Hold that these inputs identify the target, before anything is scored.

    Args:
        pairs: the data.
        lrm: the model.
        objective: the loss.
        traces: sampled posterior traces per answer to use; None when all traces are enumerated.
        reference: pi_ref, if not the model itself.

    Raises:
        InputError: no pairs; or sampled traces with a reference-free loss, with fewer than four pairs, with fewer
            posterior traces than asked for, or, where the model differs from its reference, with one trace per answer.
    """
    if not pairs:
        raise InputError("no preference pairs; check --data, --regime and --limit")
    if reference is not None and reference.tokenizer.get_vocab() != lrm.tokenizer.get_vocab():
        raise InputError("the model and its reference have different tokenizers; use a reference with the same one")
    if traces is None:
        return
    if objective.reference_free:
        raise InputError(
            f"with the {objective.name} loss g_t is biased from the first step, so sampled traces do not identify "
            "the target; use --loss dpo or ipo, or --traces exact where traces can be enumerated"
        )
    if len(pairs) < 4:
        raise InputError(f"at least four preference pairs are needed for an interval, got {len(pairs)}")
    require_traces(pairs, traces)
    if is_off_reference(lrm, reference):
        off_reference_estimators(objective, traces)


def is_off_reference(lrm: ReasoningModel, reference: ReasoningModel | None) -> bool:
    """Whether the model has left its reference, where g_t is biased."""
    return reference is not None and reference.fingerprint != lrm.fingerprint


def study_totals(
    objective: Objective, *, traces: int | None, estimated: bool = False
) -> dict[str, Callable[[PairLogProbs], Floats]]:
    """What a study accumulates while it scores.

    Args:
        objective: the loss.
        traces: sampled traces per answer; None where they are enumerated.
        estimated: whether the target is estimated from the traces, off the reference.
    """
    if traces is None:
        return totals_of(Trace(objective), EmptyTrace(objective), Marginal(objective))
    if estimated:
        return off_reference_totals(objective, traces)
    return totals_of(Trace(objective), EmptyTrace(objective))


@dataclass(frozen=True)
class Study:
    """Moments of g_t, g_e and their mixtures for one model, data set and loss.

    Attributes:
        objective: the loss.
        scores: inner products and log-probabilities.
        whole: moments of the whole gradient, as replicates; :meth:`moments` shows them as a table.
        by_group: the same restricted to each parameter group.
        off_reference: how the target was estimated, and what of it is to be trusted, where the model differs from its
            reference and traces are sampled; else None.
    """

    objective: Objective
    scores: ScoreSet
    whole: Moments
    by_group: Mapping[str, Moments]
    off_reference: OffReferenceEstimate | None = None

    @classmethod
    def from_pairs(
        cls,
        model: ReasoningModel | str | Path | None,
        pairs: Sequence[PreferencePair] | str | Path,
        *,
        objective: Objective | None = None,
        traces: int | None = None,
        enumerate_traces: TraceEnumerator | None = None,
        reference: ReasoningModel | None = None,
        empty_mode: EmptyMode = "prefilled",
        parameters: str | None = None,
        engine: str = "auto",
        blocks: Path | BlockFolder | None = None,
        label: str = "scores",
    ) -> "Study":
        """Score the pairs and take moments.

        Args:
            model: a model of :func:`bvpo_analysis.load_model`, or the directory or hub id of one; None is the model
                in the box.
            pairs: preference pairs, or the path of a file of them.
            objective: the loss; DPO with beta = 0.1 when not given.
            traces: posterior traces per answer to use; when not given, four, or as many as every answer has. With
                one, the trace/data split and M1 are not identified.
            enumerate_traces: enumerate all traces instead; then every number is exact for the given pairs.
            reference: pi_ref; the model itself when not given.
            empty_mode: empty block prefilled (not scored) or generated (scored).
            parameters: regular expression of the parameters to differentiate.
            engine: score engine: "hooks", "vmap", "loop", or "auto", the fastest that serves the model.
            blocks: folder for resumable blocks, which processes may share (see :class:`BlockFolder`).
            label: text of the progress bar.

        Raises:
            InputError: model or pairs that cannot be read, or the inputs do not identify the target (see
                :func:`require_identified`).
        """
        lrm, pairs = as_model(model), as_pairs(pairs)
        loss: Objective = objective if objective is not None else DPO()
        exact = enumerate_traces is not None
        traces = common_traces(pairs) if traces is None else traces
        require_identified(pairs, lrm, loss, traces=None if exact else traces, reference=reference)
        estimated = not exact and is_off_reference(lrm, reference)
        scores = score_pairs(
            lrm,
            pairs,
            traces=traces,
            totals=study_totals(loss, traces=None if exact else traces, estimated=estimated),
            leave_one_out=not exact,
            reference=reference,
            empty_mode=empty_mode,
            enumerate_traces=enumerate_traces,
            parameters=parameters,
            engine=engine,
            settings={"objective": repr(loss), "empty_mode": empty_mode, "traces": "exact" if exact else traces},
            blocks=blocks,
            label=label,
        )

        def moments(group: str | None) -> Moments:
            if exact:
                return enumerated_moments(scores, Trace(loss), EmptyTrace(loss), Marginal(loss), group=group)
            if estimated:
                return estimate_off_reference(scores, loss, traces, group=group).moments
            return population_moments(scores, Trace(loss), EmptyTrace(loss), group=group)

        found = estimate_off_reference(scores, loss, traces) if estimated else None
        whole = moments(None) if found is None else found.moments
        return cls(loss, scores, whole, {group: moments(group) for group in scores.groups}, found)

    @property
    def traces(self) -> int:
        """Trace draws per pair behind the estimates (E x E where enumerated)."""
        return len(self.scores.pairs[0].log_probs.draws)

    def law(self, target: str = "population", *, batch_size: float = 16, traces: int = 1) -> GradientLaw:
        """The law of (g_t, g_e) against "population" (M3) or "per_prompt" (M1, where batch size plays no role).

        Raises:
            ValueError: unknown target, or one that the data do not identify.
        """
        if target == "population":
            return self.whole.population(batch_size, traces)
        if target == "per_prompt":
            return self.whole.per_prompt(traces)
        raise ValueError(f"unknown target {target!r}; choose 'population' or 'per_prompt'")

    def optimal_alpha(
        self, *, batch_size: float = 16, traces: int = 1, kappa: float = 1.0, target: str = "population"
    ) -> Alpha:
        """The optimal mixing weight for a named target."""
        return mixing.optimal_alpha(self.law(target, batch_size=batch_size, traces=traces), kappa)

    def mse(
        self,
        alpha: float,
        *,
        batch_size: float = 16,
        traces: int = 1,
        kappa: float = 1.0,
        target: str = "population",
    ) -> Estimate:
        """E|g_c - mu|^2 at a fixed weight (variance weighted by kappa)."""
        return mixing.error(self.law(target, batch_size=batch_size, traces=traces), alpha, kappa)

    def mse_curve(
        self, *, batch_size: float = 16, traces: int = 1, kappa: float = 1.0, points: int = 101
    ) -> pd.DataFrame:
        """MSE(alpha) on [0, 1] with its parts: alpha, bias_sq, trace_var, data_var, mse, mse_low, mse_high."""
        return mse_curve_table(self.law(batch_size=batch_size, traces=traces), kappa, points)

    def alpha_grid(
        self, batch_sizes: Sequence[int] = BATCH_SIZES, kappas: Sequence[float] = KAPPAS, traces: int = 1
    ) -> pd.DataFrame:
        """alpha_kappa at every (batch size, kappa): batch_size, kappa, alpha, low, high, recommended, set."""
        return alpha_grid_table(self.whole, batch_sizes, kappas, traces)

    def costs(self, architecture: Architecture | None = None) -> tuple[Cost, Cost]:
        """Mean cost of one trace pair and of one empty-trace pair; operations need the architecture."""
        mean = exact_mean_cost if self.whole.exact else mean_cost
        kinds = (
            (Trace(self.objective), Generated(posterior=2)),
            (EmptyTrace(self.objective), Generated(empty=2)),
        )
        trace, empty = (
            mean(
                [
                    pair_cost(estimator, pair.log_probs, generated=generated, architecture=architecture)
                    for pair in self.scores.pairs
                ]
            )
            for estimator, generated in kinds
        )
        return trace, empty

    def plan(
        self,
        budget: float | None = None,
        kappa: float = 1.0,
        *,
        present: Plan | None = None,
        criterion: Criterion = "mse",
        measure: Measure = "tokens",
        architecture: Architecture | None = None,
        max_traces: int = 16,
    ) -> PlanResult:
        """The prompts B, traces K and weight alpha that make the most of a budget per optimiser step.

        Args:
            budget: what a step may cost, in the unit of ``measure``; what the present plan costs when not given.
            kappa: eta L.
            present: the plan in use, to compare with.
            criterion: "mse" (bias^2 + kappa variance) or "descent" (the decrease a step is sure of).
            measure: unit of the budget, see :meth:`bvpo_analysis.cost.Cost.of`.
            architecture: of the model, where operations are counted.
            max_traces: largest K to consider.

        Raises:
            InputError: no budget and no plan in use, or a budget that does not pay for one prompt.

        Example:
            >>> from bvpo_analysis import Plan, load_model, shipped_pairs
            >>> study = Study.from_pairs(load_model(), shipped_pairs("correct", limit=8), traces=2)
            >>> study.plan(present=Plan(16, 1, 0.5)).best.batch_size >= 16
            True
        """
        trace, empty = (cost.of(measure) for cost in self.costs(architecture))
        return plan(
            self.whole,
            trace,
            empty,
            budget,
            kappa=kappa,
            present=present,
            criterion=criterion,
            max_traces=max_traces,
        )

    def per_pair(self) -> pd.DataFrame:
        """One row per pair: log-probabilities, lengths and squared norms of its gradients."""
        return per_pair_table(self.objective, self.scores.pairs)

    def moments(self, group: str | None = None) -> pd.DataFrame:
        """Every moment of one unit (one prompt, one trace), of the whole gradient or of one parameter group.

        Returns:
            One row per moment that the data identify, named as in :class:`bvpo_analysis.moments.Moments`: symbol,
            value, se, low, high (95 % interval), meaning.

        Raises:
            KeyError: no such group; ``study.by_group`` lists them.
        """
        return moments_table(self.whole if group is None else self.by_group[group])

    def estimators(self, *, batch_size: float = 16, kappa: float = 1.0) -> pd.DataFrame:
        """Bias, variance and MSE of g_t, means of K traces, g_e, and mixes: columns as in ``tables.estimator_rows``."""
        return frame(estimator_rows(self.whole, batch_size, kappa))

    def groups(self, *, batch_size: float = 16, kappa: float = 1.0) -> pd.DataFrame:
        """Bias, variance and alpha* of every parameter group, the whole gradient last ("all")."""
        return frame(self._group_rows(batch_size, kappa))

    def plot_mse_curve(
        self, *, batch_size: float = 16, traces: int = 1, kappa: float = 1.0, ax: Axes | None = None
    ) -> Figure:
        """MSE(alpha) as bands of bias, trace and data variance, with the interval of alpha* below."""
        curve = self.mse_curve(batch_size=batch_size, traces=traces, kappa=kappa)
        alpha = asdict(self.optimal_alpha(batch_size=batch_size, traces=traces, kappa=kappa))
        return drawn(lambda axes: figures.plot_mse_alpha(curve, axes, alpha=alpha), ax)

    def plot_alpha_grid(
        self,
        batch_sizes: Sequence[int] = BATCH_SIZES,
        kappas: Sequence[float] = KAPPAS,
        traces: int = 1,
        *,
        ax: Axes | None = None,
    ) -> Figure:
        """alpha* against batch size, one line per kappa."""
        grid = self.alpha_grid(batch_sizes, kappas, traces)
        return drawn(lambda axes: figures.plot_alpha_grid(grid, axes), ax)

    def plot_estimators(self, *, batch_size: float = 16, kappa: float = 1.0, ax: Axes | None = None) -> Figure:
        """MSE of every estimator relative to g_t with one trace."""
        rows = jsonable(estimator_rows(self.whole, batch_size, kappa))
        return drawn(lambda axes: figures.plot_estimators(rows, axes), ax)

    def plot_groups(self, *, batch_size: float = 16, kappa: float = 1.0, ax: Axes | None = None) -> Figure:
        """alpha* of every parameter group."""
        rows = jsonable(self._group_rows(batch_size, kappa))
        return drawn(lambda axes: figures.plot_groups(rows, axes), ax)

    def _group_rows(self, batch_size: float, kappa: float) -> list[dict[str, Any]]:
        sizes = dict(zip(self.scores.groups, self.scores.parameters, strict=True))
        return group_rows(self.whole, self.by_group, sizes, batch_size, kappa)

    def __repr__(self) -> str:
        count = "one trace" if self.traces == 1 else f"{self.traces} traces"
        sampled = "all traces" if self.whole.exact else f"{count} per answer"
        return f"Study({self.whole.n} pairs, {sampled}, {self.objective!r}, {sum(self.scores.parameters)} parameters)"

    def _repr_html_(self) -> str:
        return study_html(repr(self), self.whole)
