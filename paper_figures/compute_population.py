"""Slow half of the figures of geometry and sampling: draws from exact populations -> results/population.json.

The populations are those that coverage is measured on: 128 prompts of a regime with all traces enumerated, vectors
defined by a fixed count sketch of the scores (about three minutes; scored populations are kept in runs/coverage).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import trange

from bvpo_analysis import DPO, figures, load_model, mixing
from bvpo_analysis.coverage.population import FinitePopulation, population_file, read_population
from bvpo_analysis.coverage.replication import draw_sample, sample_moments
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Floats
from bvpo_analysis.report.results import jsonable

RESULTS = Path(__file__).parent / "results" / "population.json"
KEPT = Path(__file__).parents[1] / "runs" / "coverage"
SEED = 1701
BATCH_SIZE = 16
DRAWS = 100
"""Batch gradients, and single gradients of one prompt, that are drawn."""
SIZES, REPLICATIONS = (64, 256), 500
BINS = tuple(float(x) for x in np.round(np.arange(-0.25, 1.2501, 0.02), 2))
"""Edges of the histograms of estimated weights."""


def main() -> None:
    """Score the populations, or read them back, and draw from them."""
    torch.set_num_threads(1)
    lrm = load_model()
    geometry, sampling = {}, []
    for number, regime in enumerate(REGIMES):
        population = read_population(population_file(lrm, regime, DPO(), KEPT))
        rng = np.random.default_rng([SEED, number])
        geometry[regime] = {"batch": batch_plane(population, rng), "prompt": prompt_plane(population, rng)}
        for prompts in SIZES:
            sampling.append({"regime": regime} | sampled_weights(population, rng, prompts))
    facts = {
        "model": lrm.fingerprint,
        "batch_size": BATCH_SIZE,
        "prompts": len(population),
        "geometry": geometry,
        "bins": BINS,
        "sampling": sampling,
    }
    figures.write_results(RESULTS, figures.rounded(jsonable(facts)))


def batch_plane(population: FinitePopulation, rng: np.random.Generator) -> dict[str, Any]:
    """Gradients of batches of B prompts around the gradient mu of the population's marginal loss (target M3)."""
    law = population.truth.population(BATCH_SIZE)
    alpha = float(mixing.recommended_weights(law)[0])
    t, e = zip(*(_batch(population, rng, BATCH_SIZE) for _ in range(DRAWS)), strict=True)
    target = population.means.sum(axis=1)
    deviations = (population.traces - population.means[:, :, None]) * np.sqrt(population.posterior)[..., None]
    noise = np.concatenate([target - target.mean(axis=0), deviations.reshape(-1, target.shape[1])])
    mu, mean_e = target.mean(axis=0), population.empty.mean(axis=0)
    errors = [float(mixing.error_parts(law, a).total[0]) for a in (1.0, 0.0, alpha)]
    return {"alpha": alpha} | plane(np.array(t), np.array(e), mu, mean_e, noise, alpha, errors)


def prompt_plane(population: FinitePopulation, rng: np.random.Generator) -> dict[str, Any]:
    """g_t of one prompt, whose traces are all that is random, around its mu_x (target M1).

    The prompt is the one with the median optimal weight.
    """
    target = population.means.sum(axis=1)
    spread = np.einsum("pjj->pj", population.deviations_gram).reshape(population.posterior.shape)
    tau = (population.posterior * spread).sum(axis=(1, 2))
    bias = ((population.empty - target) ** 2).sum(axis=1)
    alphas = bias / (bias + tau)
    which = int(np.argsort(alphas)[len(alphas) // 2])
    alpha, mu, e = float(alphas[which]), target[which], population.empty[which]
    u = rng.random((DRAWS, 2, 1))
    draws = (u >= population.cumulative[which]).sum(axis=2)
    t = sum(population.traces[which, side, draws[:, side]] for side in range(2))
    deviations = (population.traces - population.means[:, :, None])[which]
    noise = (deviations * np.sqrt(population.posterior[which])[..., None]).reshape(-1, len(mu))
    errors = [tau[which], bias[which], alpha**2 * tau[which] + (1 - alpha) ** 2 * bias[which]]
    return {"alpha": alpha} | plane(t, np.tile(e, (DRAWS, 1)), mu, e, noise, alpha, errors)


def _batch(population: FinitePopulation, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Mean g_t and g_e of prompts drawn with replacement, one posterior trace per answer."""
    sample = draw_sample(population, rng, size, 1)
    sides = np.arange(2)
    t = population.traces[sample.prompts[:, None], sides, sample.draws[:, 0]].sum(axis=1).mean(axis=0)
    return t, population.empty[sample.prompts].mean(axis=0)


def plane(
    t: Floats, e: Floats, mu: Floats, mean_e: Floats, noise: Floats, alpha: float, errors: list[float]
) -> dict[str, Any]:
    """Coordinates in units of |mu|, mu at the origin.

    The first axis runs from mu to E g_e, so that the bias has its true length; the second is the leading principal
    component of the noise of g_t orthogonal to it.

    Args:
        t, e: draws of g_t and g_e, [R, d].
        mu, mean_e: target and E g_e, [d].
        noise: [m, d] whose rows' outer products sum to a multiple of Cov(g_t).
        alpha: weight of the mix.
        errors: MSE of g_t, g_e and the mix, whose roots are returned in the same units.
    """
    scale = np.linalg.norm(mu)
    first = (mean_e - mu) / np.linalg.norm(mean_e - mu)
    rest = noise - np.outer(noise @ first, first)
    # The leading right singular vector by way of the smaller Gram.
    second = np.linalg.eigh(rest.T @ rest)[1][:, -1] if len(rest) > rest.shape[1] else _leading(rest)
    axes = np.stack([first, second])
    total = (noise**2).sum()
    points = {"g_t": t, "g_e": e, "g_c": alpha * t + (1 - alpha) * e}
    return {
        "share": float(((noise @ axes.T) ** 2).sum() / total),
        "bias": float(np.linalg.norm(mean_e - mu) / scale),
        "rms": dict(zip(points, [float(np.sqrt(x) / scale) for x in errors], strict=True)),
        "points": {name: ((x - mu) @ axes.T / scale).tolist() for name, x in points.items()},
    }


def _leading(rows: Floats) -> Floats:
    """The leading right singular vector of [m, d] with m <= d."""
    vector = rows.T @ np.linalg.eigh(rows @ rows.T)[1][:, -1]
    return vector / np.linalg.norm(vector)


def sampled_weights(population: FinitePopulation, rng: np.random.Generator, prompts: int) -> dict[str, Any]:
    """Histogram of the unclipped estimate of alpha* (M3, B = 16, one trace) over samples of n prompts."""
    truth = mixing.optimal_alpha(population.truth.population(BATCH_SIZE)).estimate.value
    values = []
    for _ in trange(REPLICATIONS, desc=f"samples of {prompts}", leave=False):
        moments = sample_moments(population, draw_sample(population, rng, prompts, 1))
        values.append(mixing.weight_replicates(moments.population(BATCH_SIZE))[0])
    found = np.array(values)
    counts, _ = np.histogram(found, BINS)
    return {
        "prompts": prompts,
        "replications": REPLICATIONS,
        "truth": truth,
        "mean": found.mean(),
        "sd": found.std(ddof=1),
        "below": (found < BINS[0]).sum(),
        "above": (found > BINS[-1]).sum(),
        "counts": counts.tolist(),
    }


if __name__ == "__main__":
    main()
