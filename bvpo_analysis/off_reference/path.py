"""Exact bias, variance and weights along theta_ref + t d, every trace enumerated, beside what theory predicts there.

Per prompt the vectors E_r g_t, g_e and mu are formed from explicit scores at each theta. The prediction is made of
scores *at the reference* and of d alone, so the two sides of the comparison share no gradient. All numbers belong to
the enumerated traces: mu is the gradient of the marginal over them, and the prior probability they carry at theta is
reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Estimator, Marginal, Trace, mean_coefficients
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.moments import Moments, enumerated_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.leading_bias import (
    fresh_trace_bias,
    small_beta_trace_bias,
    stale_trace_bias,
    with_fresh_traces,
)
from bvpo_analysis.off_reference.population import ProjectedPopulation
from bvpo_analysis.off_reference.results import PathPoint, Prediction, SmallBetaPoint
from bvpo_analysis.off_reference.shift import trace_shift, weight_if_unbiased
from bvpo_analysis.records import Floats, PairLogProbs, PairScores, PreferencePair, ScoreSet
from bvpo_analysis.scores import pair_log_probs, plan_pair, sequence_log_probs
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.scores.gram import chunked_products
from bvpo_analysis.scores.plan import TraceEnumerator
from bvpo_analysis.theory.trace_laws import LossAtReference


@dataclass(frozen=True)
class Checkpoint:
    """What was found at one theta.

    Attributes:
        point: exact numbers at the path's beta.
        betas: the same bias at other betas.
        population: projected scores to sample from, if asked for.
    """

    point: PathPoint
    betas: tuple[SmallBetaPoint, ...]
    population: ProjectedPopulation | None


class DataAlongPath:
    """Prompts of one data set at the reference, with the leading bias along d of each.

    Args:
        reference: pi_ref.
        pairs: prompts with their answers; the traces are reference-posterior ones by their law.
        direction: d, [P] in the column order of the score engine.
        enumerate_traces: all traces of a prompt.
        beta: of the DPO loss.

    Raises:
        ValueError: d does not have one entry per parameter.
    """

    def __init__(
        self,
        reference: ReasoningModel,
        pairs: Sequence[PreferencePair],
        direction: Floats,
        enumerate_traces: TraceEnumerator,
        beta: float = 0.1,
    ):
        engine = score_engine("auto", reference.model, None)
        if direction.shape != (engine.size,):
            raise ValueError(f"the direction must have {engine.size} entries, got shape {direction.shape}")
        self.objective, self.direction = DPO(beta), direction
        self.plans = [plan_pair(reference.assembler, pair, enumerate_traces=enumerate_traces) for pair in pairs]
        self._log_prob_ref: list[Floats] = []
        stale, fresh = [], []
        loss, step = LossAtReference.dpo(beta), torch.from_numpy(direction)
        for plan in self.plans:
            trace, answer = (part.numpy() for part in sequence_log_probs(reference.model, plan.sequences))
            self._log_prob_ref.append(trace + answer)
            rows = engine.buffer(len(plan.sequences))
            engine.fill(plan.sequences, rows)
            pair, along = pair_log_probs(plan, trace, answer, trace + answer), (rows.double() @ step).numpy()
            leads = np.stack([stale_trace_bias(pair, along, loss), fresh_trace_bias(pair, along, loss)])
            first, second = _combine(leads, rows).astype(np.float32)
            stale.append(first)
            fresh.append(second)
        self._stale, self._fresh = np.stack(stale), np.stack(fresh)

    def at(
        self,
        model: ReasoningModel,
        share: float,
        *,
        batch_size: int = 16,
        betas: Sequence[float] = (),
        projection: int = 0,
    ) -> Checkpoint:
        """Everything at theta_ref + t d.

        Args:
            model: the model there.
            share: t.
            batch_size: B of the batch weights.
            betas: at which to compare the bias with its expansion in beta.
            projection: length k of the projected scores to keep; 0 keeps none.
        """
        engine = score_engine("auto", model.model, None)
        sketch = CountSketch(engine.size, projection) if projection else None
        sums = {key: _PredictionSum(engine.size) for key in ("stale", "fresh", *betas)}
        stale_betas = {beta: np.zeros(engine.size) for beta in betas}
        target_betas = {beta: np.zeros(engine.size) for beta in betas}
        estimators = Trace(self.objective), EmptyTrace(self.objective), Marginal(self.objective)
        totals, fresh_mean = np.zeros((3, engine.size)), np.zeros(engine.size)
        pairs, grams, vectors = [], [], []
        for i, plan in enumerate(self.plans):
            rows = engine.buffer(len(plan.sequences))
            trace, answer = engine.fill(plan.sequences, rows)
            pair = pair_log_probs(plan, trace.numpy(), answer.numpy(), self._log_prob_ref[i])
            fresh = with_fresh_traces(pair)
            coefficients = [mean_coefficients(e, pair) for e in estimators]
            coefficients += [mean_coefficients(estimators[0], fresh) - coefficients[2]]
            # b_t as one combination, so that nothing cancels between vectors.
            coefficients += [coefficients[0] - coefficients[2]]
            for beta in betas:
                objective = DPO(beta)
                target = mean_coefficients(Marginal(objective), pair)
                coefficients += [
                    mean_coefficients(Trace(objective), fresh) - target,
                    small_beta_trace_bias(pair, LossAtReference.dpo(beta)),
                    mean_coefficients(Trace(objective), pair) - target,
                    target,
                ]
            formed = _combine(np.stack(coefficients), rows)
            totals += formed[:3]
            fresh_mean += formed[3] / len(self.plans)
            sums["stale"].add(formed[4], share * self._stale[i].astype(np.float64))
            sums["fresh"].add(formed[3], share * self._fresh[i].astype(np.float64))
            for k, beta in enumerate(betas):
                bias, lead, stale, target = formed[5 + 4 * k : 9 + 4 * k]
                sums[beta].add(bias, lead)
                stale_betas[beta] += stale / len(self.plans)
                target_betas[beta] += target / len(self.plans)
            pairs.append(pair)
            grams.append(chunked_products(rows).cpu().numpy())
            if sketch is not None:
                vectors.append(sketch.of(rows))
        moments = enumerated_moments(_score_set(pairs, grams, estimators, totals), *estimators)
        point = self._point(
            moments, pairs, share, batch_size, totals / len(self.plans), fresh_mean, sums["stale"], sums["fresh"]
        )
        small = tuple(
            SmallBetaPoint(
                beta,
                float(target_betas[beta] @ target_betas[beta]),
                sums[beta].result(),
                float(stale_betas[beta] @ stale_betas[beta]),
            )
            for beta in betas
        )
        population = ProjectedPopulation.of(pairs, vectors) if sketch is not None else None
        return Checkpoint(point, small, population)

    def _point(
        self,
        moments: Moments,
        pairs: Sequence[PairLogProbs],
        share: float,
        batch_size: int,
        means: Floats,
        fresh_bias: Floats,
        stale: "_PredictionSum",
        fresh: "_PredictionSum",
    ) -> PathPoint:
        law, prompt_law = moments.population(batch_size), moments.per_prompt()
        alpha = mixing.optimal_alpha(law)
        unbiased = weight_if_unbiased(moments, batch_size)
        best = mixing.error(law, alpha.recommended).value
        weights = (1.0, 0.0, 0.5, float(np.clip(unbiased, 0.0, 1.0)))
        ratios = [mixing.error(law, weight).value / best for weight in weights]
        shifts = [trace_shift(pair) for pair in pairs]
        mass = [s.prior_mass for s in shifts]
        divergence = np.stack([s.divergence for s in shifts])
        ess_share = np.stack([s.ess_share for s in shifts])
        margins = [-self.objective.beta * float(np.diff(s.log_marginal_ratio)[0]) for s in shifts]
        distance = float(np.linalg.norm(share * self.direction))
        return PathPoint(
            share=share,
            distance=distance,
            beta=self.objective.beta,
            prompts=len(pairs),
            batch_size=batch_size,
            mass=float(np.mean(mass)),
            mass_lowest=float(np.min(mass)),
            margin=float(np.mean(margins)),
            divergence=float(divergence.mean()),
            divergence_highest=float(divergence.max()),
            ess_share=float(ess_share.mean()),
            ess_share_lowest=float(ess_share.min()),
            target_sq=float(moments.target_sq[0]),
            bias_t_sq=float(moments.bias_t_sq[0]),
            bias_e_sq=float(moments.bias_e_sq[0]),
            prompt_bias_t_sq=_number(moments.prompt_bias_t_sq),
            prompt_bias_e_sq=_number(moments.prompt_bias_e_sq),
            trace_var=_number(moments.trace_var),
            cosine_t=_cosine(means[0], means[2]),
            cosine_e=_cosine(means[1], means[2]),
            alpha=alpha.estimate.value,
            alpha_prompt=mixing.optimal_alpha(prompt_law).estimate.value,
            alpha_unbiased=unbiased,
            error_ratio_trace=ratios[0],
            error_ratio_empty=ratios[1],
            error_ratio_equal=ratios[2],
            error_ratio_unbiased=ratios[3],
            stale=stale.result(),
            fresh=fresh.result(),
            pull=_cosine(fresh_bias, share * self.direction),
        )


class CountSketch:
    """Adds each of P coordinates, with a random sign, to one of k buckets; the hashes never change.

    Example:
        >>> import torch
        >>> rows = torch.eye(3)
        >>> CountSketch(3, 8).of(rows).shape
        (3, 8)
    """

    def __init__(self, size: int, length: int):
        hashes = torch.Generator().manual_seed(0)
        self._length = length
        self._bucket = torch.randint(length, (size,), generator=hashes)
        self._sign = (torch.randint(2, (size,), generator=hashes) * 2 - 1).float()

    def of(self, rows: torch.Tensor) -> Floats:
        """Sketches [m, k] of rows [m, P]."""
        signed = (rows.cpu() * self._sign).double()
        return torch.zeros(len(rows), self._length, dtype=torch.float64).index_add_(1, self._bucket, signed).numpy()


class _PredictionSum:
    """Adds up biases and leading terms of prompts."""

    def __init__(self, size: int):
        self._bias, self._lead, self._prompts, self._squares = np.zeros(size), np.zeros(size), 0, np.zeros(3)

    def add(self, bias: Floats, lead: Floats) -> None:
        """One prompt's vectors [P]."""
        rest = bias - lead
        self._squares += (bias @ bias, lead @ lead, rest @ rest)
        self._bias += bias
        self._lead += lead
        self._prompts += 1

    def result(self) -> Prediction:
        """Norms of the mean vectors, and root mean squares."""
        bias, lead, rest = np.sqrt(self._squares / self._prompts)
        means = (np.linalg.norm(v) / self._prompts for v in (self._bias, self._lead, self._bias - self._lead))
        of_bias, of_lead, of_rest = (float(mean) for mean in means)
        return Prediction(of_bias, float(bias), of_lead, float(lead), of_rest, float(rest))


def _combine(coefficients: Floats, rows: torch.Tensor) -> Floats:
    """[A, m] times [m, P] in float64."""
    return (torch.from_numpy(coefficients) @ rows.double().cpu()).numpy()


def _score_set(
    pairs: Sequence[PairLogProbs], grams: Sequence[Floats], estimators: Sequence[Estimator], totals: Floats
) -> ScoreSet:
    empty = np.zeros((1, 0, 0))
    return ScoreSet(
        pairs=tuple(PairScores(pair, gram[None], empty, empty) for pair, gram in zip(pairs, grams, strict=True)),
        groups=("all",),
        parameters=(totals.shape[1],),
        totals=tuple(repr(estimator) for estimator in estimators),
        totals_gram=(totals @ totals.T)[None],
        settings={},
    )


def _number(values: Floats | None) -> float:
    return float("nan") if values is None else float(values[0])


def _cosine(a: Floats, b: Floats) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else float("nan")
