"""Samples from a finite population and their moments as arrays: what ``population_moments`` gives, in milliseconds.

With gbar_i the mean over the K draws of prompt i and v_i = mean_k |g_ik - gbar_i|^2, every mean that the moments are
made of is one of |gbar_i|^2, |d_i|^2, <gbar_i, d_i> with v_i added or not, and v_i needs inner products of trace
deviations within a prompt only, which are tabulated once.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bvpo_analysis.coverage.population import FinitePopulation
from bvpo_analysis.moments import Moments, leave_one_out_mean, leave_one_out_ustatistic, squared_bias_noise
from bvpo_analysis.records import Floats, Ints


@dataclass(frozen=True)
class Sample:
    """Prompts [n] drawn with replacement, and the positions [n, K, 2] of the traces drawn for each."""

    prompts: Ints
    draws: Ints


def draw_sample(population: FinitePopulation, rng: np.random.Generator, prompts: int, traces: int) -> Sample:
    """Draw prompts equally and with replacement, and K independent posterior traces per answer.

    Raises:
        ValueError: fewer than one prompt or trace.
    """
    if prompts < 1 or traces < 1:
        raise ValueError(f"prompts and traces must be at least 1, got {prompts} and {traces}")
    chosen = rng.integers(len(population), size=prompts)
    u = rng.random((prompts, traces, 2, 1))
    return Sample(chosen, (u >= population.cumulative[chosen][:, None]).sum(axis=3))


def sample_moments(population: FinitePopulation, sample: Sample) -> Moments:
    """The moments that ``population_moments`` estimates from the scores of this sample.

    Raises:
        ValueError: fewer than four prompts.
    """
    (n, k, _), prompts = sample.draws.shape, sample.prompts
    if n < 4:
        raise ValueError(f"at least four prompts are needed, got {n}")
    t = _trace_means(population, sample)
    d = population.empty[prompts] - t
    # g_e = gbar + d, so that products with it are sums.
    totals = np.stack([t.sum(axis=0), d.sum(axis=0)], axis=1)
    (t_vt, t_vd), (d_vt, d_vd) = (t @ totals).T, (d @ totals).T
    t_ve, e_vt, e_ve = t_vt + t_vd, t_vt + d_vt, t_vt + t_vd + d_vt + d_vd
    tt, dd, td = (np.einsum("nj,nj->n", x, y) for x, y in ((t, t), (d, d), (t, d)))
    te, ee = tt + td, tt + 2 * td + dd
    spread = _trace_spread(population, sample)

    u_tt, u_ee = leave_one_out_ustatistic(tt, t_vt, t_vt), leave_one_out_ustatistic(ee, e_ve, e_ve)
    u_te, u_dd = leave_one_out_ustatistic(te, t_ve, e_vt), leave_one_out_ustatistic(dd, d_vd, d_vd)
    u_t_diff = -leave_one_out_ustatistic(td, t_vd, d_vt)
    zero = np.zeros_like(u_dd)
    tau = k / (k - 1) * leave_one_out_mean(spread) if k > 1 else None
    prompt_bias = None if tau is None else leave_one_out_mean(dd) - tau / k
    prompt_zero = None if tau is None else zero
    return Moments(
        n=n,
        bias_t_sq=zero,
        bias_e_sq=u_dd,
        bias_inner=zero,
        bias_diff_sq=u_dd,
        bias_t_diff=zero,
        var_t=leave_one_out_mean(tt + spread) - u_tt,
        var_e=leave_one_out_mean(ee) - u_ee,
        cov_te=leave_one_out_mean(te) - u_te,
        var_diff=leave_one_out_mean(dd + spread) - u_dd,
        cov_t_diff=leave_one_out_mean(spread - td) - u_t_diff,
        trace_var=tau,
        prompt_bias_t_sq=prompt_zero,
        prompt_bias_e_sq=prompt_bias,
        prompt_bias_inner=prompt_zero,
        prompt_bias_diff_sq=prompt_bias,
        prompt_bias_t_diff=prompt_zero,
        target_sq=u_tt,
        target_dot_e=u_te,
        mean_e_sq=u_ee,
        bias_noise=squared_bias_noise(u_dd, dd, d_vd, d),
    )


def _trace_means(population: FinitePopulation, sample: Sample) -> Floats:
    """gbar [n, d]: the mean over draws of the two sides' contributions, as one sparse product."""
    size, _, support, dimension = population.traces.shape
    n, k, _ = sample.draws.shape
    rows = ((sample.prompts[:, None, None] * 2 + np.arange(2)) * support + sample.draws).ravel()
    picked = (np.full(rows.size, 1.0 / k), rows, np.arange(0, rows.size + 1, 2 * k))
    weights = sparse.csr_array(picked, shape=(n, size * 2 * support))
    return np.asarray(weights @ population.traces.reshape(-1, dimension))


def _trace_spread(population: FinitePopulation, sample: Sample) -> Floats:
    """v_i = mean_k |g_ik - gbar_i|^2, [n], from the tabulated products of trace deviations."""
    n, k, _ = sample.draws.shape
    which = (sample.draws + np.arange(2) * population.posterior.shape[2]).reshape(n, 2 * k)
    products = population.deviations_gram[sample.prompts[:, None, None], which[:, :, None], which[:, None, :]]
    between = products.reshape(n, k, 2, k, 2).sum(axis=(2, 4))
    return np.einsum("nkk->n", between) / k - between.sum(axis=(1, 2)) / k**2
