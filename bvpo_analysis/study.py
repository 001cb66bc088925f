"""``Study``: score a model on preference pairs once, then ask it anything that is algebra on the scores.

    >>> from bvpo_analysis import Study, load_model, shipped_pairs
    >>> study = Study.from_pairs(load_model(), shipped_pairs("correct", limit=8), traces=2)
    >>> study.optimal_alpha(batch_size=16).name
    'alpha_star.population.B16.K1.kappa1'

Two ways to get the target: at its reference, a model's own trace-based gradient is unbiased for the marginal gradient,
so sampled traces suffice; where all traces can be enumerated, everything is exact, at the reference or off it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bvpo_analysis import mixing
from bvpo_analysis.cost import Architecture, Cost, Measure, exact_mean_cost, mean_cost, pair_cost
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Generated, Marginal, Trace, mean_coefficients, totals_of
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel, as_model
from bvpo_analysis.moments import GradientLaw, Moments, enumerated_moments, population_moments
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.planner import Criterion, Plan, PlanResult, plan
from bvpo_analysis.preferences.rows import as_pairs, require_traces
from bvpo_analysis.records import Alpha, Estimate, PreferencePair, ScoreSet
from bvpo_analysis.scores import BlockFolder, score_pairs
from bvpo_analysis.scores.plan import TraceEnumerator

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
        InputError: no pairs; or sampled traces with a loss or a reference for which g_t is biased, with fewer than four
            pairs, or with fewer posterior traces than asked for.
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
    if reference is not None and reference.fingerprint != lrm.fingerprint:
        raise InputError(
            "the model differs from its reference, where g_t is biased and sampled traces do not identify the "
            "target; leave out --ref-model, or use --traces exact where traces can be enumerated"
        )
    if len(pairs) < 4:
        raise InputError(f"at least four preference pairs are needed for an interval, got {len(pairs)}")
    require_traces(pairs, traces)


@dataclass(frozen=True)
class Study:
    """Moments of g_t, g_e and their mixtures for one model, data set and loss.

    Attributes:
        objective: the loss.
        scores: inner products and log-probabilities.
        whole: moments of the whole gradient, as replicates; :meth:`moments` shows them as a table.
        by_group: the same restricted to each parameter group.
    """

    objective: Objective
    scores: ScoreSet
    whole: Moments
    by_group: Mapping[str, Moments]

    @classmethod
    def from_pairs(
        cls,
        model: ReasoningModel | str | Path | None,
        pairs: Sequence[PreferencePair] | str | Path,
        *,
        objective: Objective | None = None,
        traces: int = 4,
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
            traces: posterior traces per answer to use (1 leaves the trace/data split and M1 unidentified).
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
        trace, empty, marginal = Trace(loss), EmptyTrace(loss), Marginal(loss)
        exact = enumerate_traces is not None
        require_identified(pairs, lrm, loss, traces=None if exact else traces, reference=reference)
        scores = score_pairs(
            lrm,
            pairs,
            traces=traces,
            totals=totals_of(trace, empty, marginal) if exact else totals_of(trace, empty),
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
                return enumerated_moments(scores, trace, empty, marginal, group=group)
            return population_moments(scores, trace, empty, group=group)

        return cls(loss, scores, moments(None), {group: moments(group) for group in scores.groups})

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
        law = self.law(batch_size=batch_size, traces=traces)
        rows = []
        for a in np.linspace(0.0, 1.0, points):
            parts = mixing.error_parts(law, float(a), kappa)
            total = mixing.error(law, float(a), kappa)
            rows.append(
                {
                    "alpha": float(a),
                    "bias_sq": float(parts.bias_sq[0]),
                    "trace_var": float(parts.trace_var[0]),
                    "data_var": float(parts.data_var[0]),
                    "mse": total.value,
                    "mse_low": total.ci_low,
                    "mse_high": total.ci_high,
                }
            )
        return pd.DataFrame(rows)

    def alpha_grid(
        self, batch_sizes: Sequence[int] = BATCH_SIZES, kappas: Sequence[float] = KAPPAS, traces: int = 1
    ) -> pd.DataFrame:
        """alpha_kappa at every (batch size, kappa): batch_size, kappa, alpha, low, high, recommended, set."""
        rows = []
        for size in batch_sizes:
            for kappa in kappas:
                alpha = self.optimal_alpha(batch_size=size, traces=traces, kappa=kappa)
                rows.append(
                    {
                        "batch_size": size,
                        "kappa": kappa,
                        "alpha": alpha.estimate.value,
                        "low": alpha.estimate.ci_low,
                        "high": alpha.estimate.ci_high,
                        "recommended": alpha.recommended,
                        "confidence_set": alpha.confidence_set,
                    }
                )
        return pd.DataFrame(rows)

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
        trace, empty = Trace(self.objective), EmptyTrace(self.objective)
        rows = []
        for pair in self.scores.pairs:
            logs, gram = pair.log_probs, pair.gram.sum(axis=0)
            t, e = mean_coefficients(trace, logs), mean_coefficients(empty, logs)
            each = trace.coefficients(logs) - t
            spread = float(trace.weights(logs) @ np.einsum("rj,jk,rk->r", each, gram, each))
            draws = len(logs.draws)
            if not logs.enumerated:
                spread = spread * draws / (draws - 1) if draws > 1 else np.nan
            first = logs.draws[0]
            rows.append(
                {
                    "prompt_id": logs.prompt_id,
                    "log_prob_chosen": logs.log_prob[first[0]],
                    "log_prob_rejected": logs.log_prob[first[1]],
                    "log_prob_empty_chosen": logs.log_prob[logs.empty[0]],
                    "log_prob_empty_rejected": logs.log_prob[logs.empty[1]],
                    "tokens_chosen": logs.tokens[first[0]],
                    "tokens_rejected": logs.tokens[first[1]],
                    "mean_trace_gradient_sq": float(t @ gram @ t),
                    "empty_gradient_sq": float(e @ gram @ e),
                    "difference_sq": float((t - e) @ gram @ (t - e)),
                    "trace_variance": spread,
                }
            )
        return pd.DataFrame(rows)
