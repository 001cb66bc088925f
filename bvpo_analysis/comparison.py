"""``EstimatorComparison``: every estimator that the pairs allow, scored once and judged against one target.

    >>> from bvpo_analysis import EstimatorComparison, load_model, shipped_pairs
    >>> compared = EstimatorComparison.from_pairs(load_model(), shipped_pairs("style", limit=6), traces=2, prior=1)
    >>> [row.key for row in compared.rows()][:3]
    ['trace', 'pooled_2', 'coupled_2']

At the reference, for losses whose coefficients are constant there (DPO, IPO), the target is the mean of g_t, which is
mu exactly; means of K traces and K-trace marginal estimators coincide there and follow from g_t by dividing its trace
variance by K. So the comparison scores what differs: pools with prior traces, matched traces, prior traces, and what a
trace may be replaced by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bvpo_analysis import mixing
from bvpo_analysis.combining import BestCombination, best_combination
from bvpo_analysis.cost import Architecture, Cost, Measure, mean_cost, pair_cost, rows_read
from bvpo_analysis.equal_budget import (
    CombinationContender,
    Contender,
    EqualBudgetRow,
    compare_at_equal_budget,
    joint_combination,
    joint_contenders,
    pair_contenders,
)
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import ESTIMATORS, EmptyTrace, Estimator, Generated, Sum, Trace, available, mix, totals_of
from bvpo_analysis.estimators.base import Needs
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel, as_model
from bvpo_analysis.moments import JointMoments, jackknife_estimate, joint_moments
from bvpo_analysis.objectives import DPO, Objective
from bvpo_analysis.preferences.rows import as_pairs
from bvpo_analysis.records import VARIANTS, Estimate, Floats, PairLogProbs, PreferencePair, ScoreSet
from bvpo_analysis.scores import score_pairs
from bvpo_analysis.study import require_identified
from bvpo_analysis.tables import frame

TARGET = "trace"
"""The estimator whose mean is the target."""
SAME_AT_THE_REFERENCE = ("mean_of_", "marginal_", "jackknife_", "randomised")
"""Keys of the estimators that are g_t or a mean of it where coefficients are constant."""
COMBINED = ("trace", "pooled_4", "short", "empty", "empty_shared")
"""Estimators offered to the best combination, those that are available."""


def memory_needed(parameters: int) -> int:
    """Bytes that a comparison holds beside the model: the totals of a dozen estimators in 64 bits, their vectors of one
    pair, and the scores of its sequences, some two dozen rows, in 32.

    Example:
        >>> memory_needed(1_000_000) // 2**20
        236
    """
    return parameters * (12 * 8 + 12 * 4 + 26 * 4)


def selected_estimators(objective: Objective, traces: int, prior: int) -> dict[str, Estimator]:
    """The estimators that differ at the reference and that so many traces serve; of the matched ones, the largest.

    Example:
        >>> list(selected_estimators(DPO(), traces=2, prior=0))
        ['trace', 'coupled_2', 'empty', 'empty_shared', 'empty_generated', 'short']
    """
    wanted = [
        key
        for key, entry in ESTIMATORS.items()
        if not key.startswith(SAME_AT_THE_REFERENCE) and entry.needs.posterior <= traces and entry.needs.prior <= prior
    ]
    largest = max((key for key in wanted if key.startswith("coupled_")), key=_number, default="")
    return {key: ESTIMATORS[key].make(objective) for key in wanted if not key.startswith("coupled_") or key == largest}


@dataclass(frozen=True)
class EstimatorRow:
    """One estimator against the target.

    Attributes:
        key, label, bias_order: from the registry.
        bias_sq: |b|^2; exactly zero where that is known.
        variance: Tr Var of one realisation on one prompt.
        trace_share: share of the variance that comes from the traces; None where not identified.
        cosine: cosine of its mean to the target; exactly one where it is unbiased.
        cost: mean cost of one realisation.
    """

    key: str
    label: str
    bias_order: str
    bias_sq: Estimate
    variance: Estimate
    trace_share: Estimate | None
    cosine: Estimate
    cost: Cost


@dataclass(frozen=True)
class EstimatorComparison:
    """Joint moments and costs of several estimators on the same pairs.

    Attributes:
        objective: the loss.
        scores: inner products and log-probabilities.
        joint: moments of all estimators against mu.
        costs: mean cost of one realisation of each.
        mix_cost: mean cost of g_t and g_e together.
        combined_cost: mean cost of all estimators in the best combination, sequences they share counted once.
    """

    objective: Objective
    scores: ScoreSet
    joint: JointMoments
    costs: Mapping[str, Cost]
    mix_cost: Cost
    combined_cost: Cost

    @classmethod
    def from_pairs(
        cls,
        model: ReasoningModel | str | Path | None,
        pairs: Sequence[PreferencePair] | str | Path,
        *,
        objective: Objective | None = None,
        traces: int = 4,
        prior: int | None = None,
        empty_mode: EmptyMode = "prefilled",
        parameters: str | None = None,
        engine: str = "auto",
        blocks: Path | None = None,
        label: str = "estimators",
    ) -> "EstimatorComparison":
        """Score everything the estimators need and take joint moments, at the reference.

        Args:
            model, pairs: as for :meth:`bvpo_analysis.study.Study.from_pairs`.
            objective: the loss; DPO with beta = 0.1 when not given.
            traces: posterior traces per answer to use.
            prior: prior traces per pair to use; three, or as many as every pair has, when not given.
            empty_mode, parameters, engine, blocks, label: as for :meth:`bvpo_analysis.study.Study.from_pairs`.

        Raises:
            InputError: the inputs do not identify the target, or a pair has fewer prior traces than asked for.
        """
        lrm, pairs = as_model(model), as_pairs(pairs)
        loss: Objective = objective if objective is not None else DPO()
        require_identified(pairs, lrm, loss, traces=traces)
        fewest = min(len(pair.prior_traces) for pair in pairs)
        prior = min(3, fewest) if prior is None else prior
        if prior > fewest:
            raise InputError(f"every pair needs {prior} prior traces, one has {fewest}; sample more or ask for fewer")
        estimators = selected_estimators(loss, traces, prior)
        scores = score_pairs(
            lrm,
            pairs,
            traces=traces,
            prior=prior,
            trace_only=prior > 0,
            variants=tuple(VARIANTS),
            totals=totals_of(*estimators.values()),
            empty_mode=empty_mode,
            parameters=parameters,
            engine=engine,
            settings={"objective": repr(loss), "empty_mode": empty_mode, "traces": traces, "prior": prior},
            blocks=blocks,
            label=label,
        )
        missing = set(estimators) - set(available(scores.pairs[0].log_probs, loss))
        estimators = {key: estimator for key, estimator in estimators.items() if key not in missing}
        unbiased = [key for key in estimators if ESTIMATORS[key].unbiased_for(loss, at_reference=True)]
        joint = joint_moments(scores, estimators, target=TARGET, unbiased=unbiased)
        architecture = Architecture.from_config(
            getattr(lrm.model, "config", None), sum(p.numel() for p in lrm.model.parameters())
        )
        costs = {key: _cost(scores, e, ESTIMATORS[key].generated, architecture) for key, e in estimators.items()}
        both = mix(Trace(loss), EmptyTrace(loss), 0.5)
        mix_cost = _cost(scores, both, Generated(posterior=2, empty=2), architecture)
        combined = [estimators[key] for key in COMBINED if key in estimators]
        together = Sum(tuple((1.0, _FirstRealisation(estimator)) for estimator in combined))
        generated = Generated(posterior=2, prior=max(estimator.needs.prior for estimator in combined), empty=2)
        return cls(loss, scores, joint, costs, mix_cost, _cost(scores, together, generated, architecture))

    def rows(self) -> tuple[EstimatorRow, ...]:
        """One row per estimator, in the order of the registry."""
        found = []
        for a, key in enumerate(self.joint.names):
            variance = self.joint.covariance[:, a, a]
            share = self.joint.trace_covariance[:, a, a] / variance
            identified = bool(np.isfinite(share[0])) and variance[0] > 0
            entry = ESTIMATORS[key]
            found.append(
                EstimatorRow(
                    key=key,
                    label=entry.label,
                    bias_order=entry.bias,
                    bias_sq=self.joint.bias_sq(key),
                    variance=jackknife_estimate(variance),
                    trace_share=jackknife_estimate(share) if identified else None,
                    cosine=self._cosine(key),
                    cost=self.costs[key],
                )
            )
        return tuple(found)

    def table(self) -> pd.DataFrame:
        """The rows as a table, for a notebook.

        Returns:
            By key: label, bias_order, then bias_sq, variance, trace_share and cosine with their intervals
            (NAME_low, NAME_high), and the mean tokens of one realisation.
        """
        rows = []
        for row in self.rows():
            fields = {name: getattr(row, name) for name in ("label", "bias_order", "bias_sq", "variance")}
            share = row.trace_share if row.trace_share is not None else Estimate.without_interval(np.nan, self.joint.n)
            tokens = float(np.ravel(row.cost.of("tokens"))[0])
            rows.append({"key": row.key} | fields | {"trace_share": share, "cosine": row.cosine, "tokens": tokens})
        return frame(rows).set_index("key")

    def __repr__(self) -> str:
        return f"EstimatorComparison({self.joint.n} pairs, {len(self.joint.names)} estimators, {self.objective!r})"

    def _repr_html_(self) -> str:
        rows = [[row.label, str(row.bias_sq), str(row.variance), str(row.cosine)] for row in self.rows()]
        shown = pd.DataFrame(rows, columns=["estimator", "squared bias", "variance", "cosine to the target"])
        return f"<p><b>{escape(repr(self))}</b></p>{shown.to_html(index=False)}"

    def _cosine(self, key: str) -> Estimate:
        """The cosine of an unbiased estimator's mean to mu is known too."""
        if key in self.joint.unbiased:
            return Estimate.exact(1.0, self.joint.n)
        return mixing.cosine_to_target(self.joint.pair(TARGET, key))

    def best_combination(self, batch_size: float, kappa: float = 1.0) -> BestCombination:
        """The best weights >= 0 of several estimators at a batch size."""
        names = [key for key in COMBINED if key in self.joint.names]
        return best_combination(self.joint, batch_size, kappa, names=names)

    def at_equal_budget(
        self, batch_size: float, *, measure: Measure = "tokens", kappa: float = 1.0
    ) -> tuple[EqualBudgetRow, ...]:
        """Every estimator, the means of K traces and the mixes at the batch size that g_t's budget pays for.

        Args:
            batch_size: B of g_t, whose cost is the budget.
            measure: unit of the budget, see :meth:`bvpo_analysis.cost.Cost.of`.
            kappa: weight of the variance.
        """
        labels = {key: entry.label for key, entry in ESTIMATORS.items()}
        pair = self.joint.pair("trace", "empty")
        known = pair_contenders(pair, self.costs["trace"], self.costs["empty"])
        alone = [c for c in joint_contenders(self.joint, self.costs, labels=labels)[1:] if c.label != labels["empty"]]
        names = [key for key in COMBINED if key in self.joint.names]
        together: list[Contender | CombinationContender] = [
            joint_combination(self.joint, names, self.combined_cost, label=f"best combination of {len(names)}")
        ]
        return compare_at_equal_budget(
            [*known, *alone, *together],
            batch_size=batch_size,
            measure=measure,
            kappa=kappa,
        )


@dataclass(frozen=True)
class _FirstRealisation(Estimator):
    """One realisation of an estimator, which all estimators of a combination can share the sequences of."""

    estimator: Estimator

    def coefficients(self, pair: PairLogProbs) -> Floats:
        return self.estimator.coefficients(pair)[:1]

    def weights(self, pair: PairLogProbs) -> Floats:
        return np.ones(1)

    @property
    def needs(self) -> Needs:
        return self.estimator.needs


@rows_read.register
def _(estimator: _FirstRealisation, pair: PairLogProbs) -> NDArray[np.bool_]:
    """What the first realisation reads."""
    return rows_read(estimator.estimator, pair)[:1]


def _number(key: str) -> int:
    return int(key.rsplit("_", 1)[1])


def _cost(scores: ScoreSet, estimator: Estimator, generated: Generated, architecture: Architecture) -> Cost:
    return mean_cost(
        [pair_cost(estimator, pair.log_probs, generated=generated, architecture=architecture) for pair in scores.pairs]
    )
