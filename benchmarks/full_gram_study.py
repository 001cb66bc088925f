"""The complete study once all scores are at hand: every estimator, 1 000 bootstrap replicates, every setting.

64 prompts with 16 posterior traces per answer and 7 prior traces, from log-linear models with 24 traces and 1 024
parameters, so that no language model is timed. What is timed is everything from the inner products on: joint moments
of the estimators of the registry with leave-one-prompt-out values, the bootstrap of the weight at every (B, kappa), the
best combination at every (B, kappa), the James-Stein risk, and the error of every mix at every (alpha, B, K, kappa),
with intervals at the settings of the report.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.combining import best_combination, james_stein_risk
from bvpo_analysis.estimators import ESTIMATORS, available
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.moments import cross_products, joint_moments, prompt_bootstrap
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO
from bvpo_analysis.records import Floats, Ints, ScoreSet

BATCH_SIZES = tuple(2**i for i in range(11))
KAPPAS = (1.0, 0.5, 0.1, 0.01)
ALPHAS = np.linspace(0.0, 1.0, 11)
TRACES = (1, 2, 4, 8, 16)
TWELVE = (
    "trace",
    "mean_of_4",
    "marginal_4",
    "jackknife_4",
    "pooled_2",
    "pooled_4",
    "coupled_4",
    "prior_shared",
    "prior_controlled",
    "empty",
    "empty_shared",
    "short",
)
"""One of each kind; ``--all`` takes the whole registry."""


def sampled_study(
    prompts: int, traces: int, keys: tuple[str, ...], parameters: int = 1024
) -> tuple[ScoreSet, dict, list[Ints], Floats]:
    """Scores of sampled pairs, the estimators, the rows of each pair in the full Gram, and this Gram [N, N]."""
    rng = np.random.default_rng(0)
    pairs, vectors = [], []
    for i in range(prompts):
        model = LogLinearModel(rng.normal(size=(24, 3, parameters)) / np.sqrt(parameters))
        pair, scores = model.pair(np.zeros(parameters), np.zeros(parameters), 0, 1, prior=range(24))
        pairs.append(replace(pair, prompt_id=f"p{i}"))
        vectors.append(scores)
    ends = np.cumsum([len(v) for v in vectors])
    rows = tuple(np.arange(end - len(v), end) for v, end in zip(vectors, ends, strict=True))
    stacked = np.concatenate(vectors)
    population = EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)
    probe = population.sample(np.random.default_rng(1), 1, traces, ESTIMATORS["trace"].make(DPO(0.1)), prior=7)
    estimators = {key: ESTIMATORS[key].make(DPO(0.1)) for key in available(probe.pairs[0].log_probs) if key in keys}
    scores = population.sample(np.random.default_rng(1), prompts, traces, *estimators.values(), prior=7)
    at = {pair.prompt_id: here for pair, here in zip(pairs, rows, strict=True)}
    return scores, estimators, [at[pair.log_probs.prompt_id] for pair in scores.pairs], population.gram


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of one call, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def full_gram_rows(prompts: int = 64, traces: int = 16, keys: tuple[str, ...] = TWELVE) -> list[dict]:
    """Seconds of every part."""
    scores, estimators, rows_of, gram = sampled_study(prompts, traces, keys)
    unbiased = [key for key in estimators if ESTIMATORS[key].unbiased != "nowhere"]
    rows = []

    def timed(label: str, work: Callable[[], object]) -> object:
        taken, result = seconds(work)
        rows.append({"part": label, "seconds": round(taken, 4)})
        return result

    joint = timed(
        f"joint moments of {len(estimators)} estimators, {prompts} leave-one-out values each",
        lambda: joint_moments(scores, estimators, target="trace", unbiased=unbiased),
    )
    pair = joint.pair("trace", "empty")
    across = timed("products across prompts from the full Gram", lambda: cross_products(joint, rows_of, gram))
    boot = prompt_bootstrap(joint, across=across)
    timed(
        f"1000 bootstrap replicates of the weight at {len(BATCH_SIZES) * len(KAPPAS)} settings",
        lambda: boot.weight_grid("trace", "empty", BATCH_SIZES, KAPPAS),
    )
    timed(
        f"best combination with intervals at {len(BATCH_SIZES) * len(KAPPAS)} settings",
        lambda: [best_combination(joint, b, k) for b in BATCH_SIZES for k in KAPPAS],
    )
    timed("James-Stein risk at B = 16", lambda: james_stein_risk(joint, "trace", "empty", 16))
    timed(
        "error of every mix with replicates at every (alpha, B, K, kappa)",
        lambda: [
            mixing.error_parts(law, alpha, kappa).total
            for b in BATCH_SIZES
            for k in TRACES
            for law in [pair.population(b, k)]
            for alpha in ALPHAS
            for kappa in KAPPAS
        ],
    )
    timed(
        "optimal weight with its set at every (B, kappa)",
        lambda: [mixing.optimal_alpha(pair.population(b), k) for b in BATCH_SIZES for k in KAPPAS],
    )
    rows.append({"part": "total", "seconds": round(sum(row["seconds"] for row in rows), 3)})
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--traces", type=int, default=16)
    parser.add_argument("--all", action="store_true", help="every estimator of the registry")
    arguments = parser.parse_args()
    keys = tuple(ESTIMATORS) if arguments.all else TWELVE
    for row in full_gram_rows(arguments.prompts, arguments.traces, keys):
        print(f"{row['seconds']:8.3f} s  {row['part']}")


if __name__ == "__main__":
    main()
