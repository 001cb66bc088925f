"""Moments of a sampled study off the reference, as arrays: what ``joint_moments`` gives, in milliseconds.

All coefficients of a study follow from its log-ratios rho [n, K, 2]. Per prompt, with a = sigmoid(-beta (rho+ - rho-)),

    g_t(k)     coefficients -+ beta a_k on the k-th chosen and rejected trace
    plug-in    -+ beta sigmoid(-mhat) w_k; w = softmax(rho), hhat = log mean e^rho per side, mhat = beta (hhat+ - hhat-)
    jackknife  K plug-in - (K - 1) mean over i of the plug-in without draw i

and the vectors v_t (mean over draws), g_e and m (the target) of each prompt give every cross-prompt product. DPO only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from bvpo_analysis.estimators import EmptyTrace, mean_coefficients
from bvpo_analysis.moments import (
    Moments,
    SquaredBiasNoise,
    leave_one_out_mean,
    leave_one_out_ustatistic,
    score_estimate,
    squared_bias_noise,
)
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.population import ProjectedPopulation, TraceSample
from bvpo_analysis.off_reference.results import Target
from bvpo_analysis.records import Estimate, Floats


@dataclass(frozen=True)
class StudyMoments:
    """What a study finds against one target.

    Attributes:
        moments: of (g_t, g_e), at the population level.
        bias_t_sq, bias_e_sq: |b_t|^2 and |b_e|^2 with their score-type intervals.
    """

    moments: Moments
    bias_t_sq: Estimate
    bias_e_sq: Estimate


@dataclass(frozen=True)
class StudyTables:
    """What the studies of one population and one loss need, laid out for fast access.

    Attributes:
        population: prompts with all their traces.
        objective: the DPO loss.
    """

    population: ProjectedPopulation
    objective: DPO

    @cached_property
    def _log_ratio(self) -> Floats:
        """[N, 2, E] rho of every trace."""
        return np.stack([(p.log_prob - p.log_prob_ref)[p.support] for p in self.population.pairs])

    @cached_property
    def _scores(self) -> list[Floats]:
        """[2 E, k] per prompt: the scores of all chosen, then of all rejected traces."""
        both = zip(self.population.pairs, self.population.vectors, strict=True)
        return [vectors[pair.support.ravel()] for pair, vectors in both]

    @cached_property
    def _grams(self) -> Floats:
        """[N, 2 E, 2 E] inner products of these."""
        return np.stack([s @ s.T for s in self._scores])

    @cached_property
    def _empty(self) -> Floats:
        """[N, k] g_e."""
        both = zip(self.population.pairs, self.population.vectors, strict=True)
        return np.stack([mean_coefficients(EmptyTrace(self.objective), pair) @ vectors for pair, vectors in both])

    def moments(self, sample: TraceSample, *targets: Target) -> dict[Target, StudyMoments]:
        """The moments of (g_t, g_e) that the sample gives against each target, at the population level.

        What concerns single prompts (M1) is not identified by one target estimate per prompt and is left out.

        Raises:
            ValueError: fewer than four prompts, or fewer than two traces.
        """
        (n, k, _), prompts = sample.traces.shape, sample.prompts
        if n < 4 or k < 2:
            raise ValueError(f"at least four prompts and two traces are needed, got {n} and {k}")
        traces = self._log_ratio.shape[2]
        rho = np.take_along_axis(self._log_ratio[prompts], sample.traces.transpose(0, 2, 1), axis=2).transpose(0, 2, 1)
        slope = self.objective.beta * expit(-self.objective.beta * (rho[:, :, 0] - rho[:, :, 1]))
        single = np.stack([-slope, slope], axis=2)
        parts = [single / k, *(self._target(target, rho) for target in targets)]
        columns = sample.traces + np.array([0, traces])
        rows = np.arange(n)[:, None, None] * 2 * traces
        where = (rows + columns).ravel()
        wide = [np.bincount(where, part.ravel(), n * 2 * traces).reshape(n, 2 * traces) for part in parts]
        vectors = np.stack(
            [np.stack(c) @ self._scores[i] for i, c in zip(prompts, zip(*wide, strict=True), strict=True)]
        )
        t, e = vectors[:, 0], self._empty[prompts]
        grams = self._grams[prompts]
        a, b, at = columns[:, :, 0], columns[:, :, 1], np.arange(n)[:, None]
        each = (slope**2 * (grams[at, a, a] + grams[at, b, b] - 2 * grams[at, a, b])).mean(axis=1)
        spread = each - _dots(t, t)
        return {target: _moments(t, e, vectors[:, 1 + j], spread) for j, target in enumerate(targets)}

    def _target(self, target: Target, rho: Floats) -> Floats:
        """Coefficients [n, K, 2] of the target estimate on the draws."""
        whole = self._plug_in(rho, np.ones(rho.shape[1]))
        if target == "plug-in":
            return whole
        k = rho.shape[1]
        left_out = self._plug_in(rho[:, None], 1.0 - np.eye(k))
        return whole + (k - 1) * (whole - left_out.mean(axis=1))

    def _plug_in(self, rho: Floats, kept: Floats) -> Floats:
        """Coefficients [.., K, 2] of the log-mean-exp gradient on the draws with ``kept`` [.., K] equal to one."""
        among = np.where(kept[..., None] > 0, rho, -np.inf)
        top = among.max(axis=-2, keepdims=True)
        weights = np.exp(among - top)
        total = weights.sum(axis=-2, keepdims=True)
        h = (np.log(total / kept.sum(axis=-1)[..., None, None]) + top)[..., 0, :]
        slope = self.objective.beta * expit(-self.objective.beta * (h[..., 0] - h[..., 1]))
        return slope[..., None, None] * weights / total * [-1.0, 1.0]


def _moments(t: Floats, e: Floats, m: Floats, spread: Floats) -> StudyMoments:
    """Moments from per-prompt vectors [n, k]: mean of g_t, g_e, target; and the spread of g_t around its mean, [n]."""
    b_t, b_e, d = t - m, e - m, t - e
    totals = {name: x.sum(axis=0) for name, x in (("t", t), ("e", e), ("b_t", b_t), ("b_e", b_e), ("d", d), ("m", m))}

    def u(a: Floats, b: Floats, a_name: str, b_name: str) -> Floats:
        return leave_one_out_ustatistic(_dots(a, b), a @ totals[b_name], b @ totals[a_name])

    def squared(x: Floats, name: str) -> tuple[Floats, SquaredBiasNoise]:
        own, with_total = _dots(x, x), x @ totals[name]
        value = leave_one_out_ustatistic(own, with_total, with_total)
        return value, squared_bias_noise(value, own, with_total, x)

    (diff_sq, noise), (t_sq, t_noise), (e_sq, e_noise) = squared(d, "d"), squared(b_t, "b_t"), squared(b_e, "b_e")
    u_tt, u_ee, u_te, u_td = u(t, t, "t", "t"), u(e, e, "e", "e"), u(t, e, "t", "e"), u(t, d, "t", "d")
    moments = Moments(
        n=len(t),
        bias_t_sq=t_sq,
        bias_e_sq=e_sq,
        bias_inner=u(b_t, b_e, "b_t", "b_e"),
        bias_diff_sq=diff_sq,
        bias_t_diff=u(b_t, d, "b_t", "d"),
        var_t=leave_one_out_mean(_dots(t, t) + spread) - u_tt,
        var_e=leave_one_out_mean(_dots(e, e)) - u_ee,
        cov_te=leave_one_out_mean(_dots(t, e)) - u_te,
        var_diff=leave_one_out_mean(_dots(d, d) + spread) - diff_sq,
        cov_t_diff=leave_one_out_mean(_dots(t, d) + spread) - u_td,
        trace_var=None,
        prompt_bias_t_sq=None,
        prompt_bias_e_sq=None,
        prompt_bias_inner=None,
        prompt_bias_diff_sq=None,
        prompt_bias_t_diff=None,
        target_sq=u(m, m, "m", "m"),
        target_dot_e=u(m, e, "m", "e"),
        mean_e_sq=u_ee,
        bias_noise=noise,
    )
    return StudyMoments(moments, score_estimate(t_sq, t_noise), score_estimate(e_sq, e_noise))


def _dots(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", a, b))
