"""Slow half of the figures of studies: the three shipped regimes, every pair -> results/studies.json.

One pass over the pairs of each regime gives what the figures of optimal weights, of parameter groups, of equal budgets
and of log-probabilities draw, and results/mse_alpha.json, the headlines that the README quotes (about two minutes).
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bvpo_analysis import Study, figures, load_model, mixing, shipped_pairs
from bvpo_analysis.equal_budget import batch_law
from bvpo_analysis.exact import load_table
from bvpo_analysis.moments import jackknife_estimate, leave_one_out_mean
from bvpo_analysis.preferences.shipped import DIRECTORY, REGIMES
from bvpo_analysis.records import Estimate, Floats, PairLogProbs
from bvpo_analysis.report.results import jsonable, study_results

FOLDER = Path(__file__).parent / "results"
BATCH_SIZE, KAPPA, TRACES = 16, 1.0, 4
TIMES = (1, 2, 4, 8, 16)
"""Multiples of prompts or of traces whose error is compared."""
BATCH_SIZES = tuple(2**i for i in range(11))
KAPPAS = tuple(2.0**-i for i in range(11))


def main() -> None:
    """Score every shipped pair once and keep the small numbers that figures and the README quote."""
    torch.set_num_threads(1)
    lrm = load_model()
    headlines, found = {}, {}
    for regime in REGIMES:
        pairs = shipped_pairs(regime)
        study = Study.from_pairs(lrm, pairs, traces=TRACES, label=regime)
        core = study_results(
            study,
            pairs,
            batch_size=BATCH_SIZE,
            kappa=KAPPA,
            policy=lrm.fingerprint,
            provenance=json.loads((DIRECTORY / f"{regime}.provenance.json").read_text()),
            exact=load_table(regime),
        )
        headlines[regime] = {key: core[key] for key in ("headline", "alerts", "curve", "targets")}
        found[regime] = {
            "groups": core["groups"],
            "alpha_map": study.alpha_grid(BATCH_SIZES, KAPPAS).to_dict("records"),
            "budgets": budget_rows(study),
            "log_probs": variance_rows([pair.log_probs for pair in study.scores.pairs]),
        }
    facts = {"model": lrm.fingerprint, "batch_size": BATCH_SIZE, "kappa": KAPPA, "traces": TRACES}
    figures.write_results(FOLDER / "mse_alpha.json", facts | {"regimes": headlines}, indent=1)
    figures.write_results(FOLDER / "studies.json", figures.rounded(jsonable(facts | {"regimes": found})))


def budget_rows(study: Study) -> list[dict[str, Any]]:
    """MSE of batch gradients over that of g_t on as many prompts as the same tokens pay for.

    "more prompts" keeps K = 1, "more traces" keeps B = 16; the weight of the optimal mix is the best for each.
    """
    trace, empty = (cost.of("tokens") for cost in study.costs())
    unit = study.whole.population(1)
    best = partial(mixing.recommended_weights, kappa=KAPPA)
    cases: list[tuple[str, bool, Any, Floats]] = [
        ("g_t, more prompts", False, 1.0, 0 * empty),
        ("g_t, more traces", True, 1.0, 0 * empty),
        ("equal mix, more prompts", False, 0.5, empty),
        ("optimal mix, more prompts", False, best, empty),
        ("optimal mix, more traces", True, best, empty),
    ]
    rows = []
    for series, deeper, weight, extra in cases:
        for times in TIMES:
            prompts, traces = (BATCH_SIZE, times) if deeper else (BATCH_SIZE * times, 1)
            tokens = prompts / BATCH_SIZE * (traces * trace + extra) / trace
            law, base = study.whole.population(prompts, traces), batch_law(unit, BATCH_SIZE * tokens)
            ratio = mixing.error_ratio(law, weight, base, 1.0, KAPPA)
            rows.append(
                {
                    "series": series,
                    "prompts": prompts,
                    "traces": traces,
                    "tokens": jackknife_estimate(tokens).value,
                    "relative": None if ratio is None else ratio.value,
                    "low": None if ratio is None else ratio.ci_low,
                    "high": None if ratio is None else ratio.ci_high,
                }
            )
    return rows


def variance_rows(pairs: Sequence[PairLogProbs]) -> list[dict[str, Any]]:
    """Nested parts of the variance of log pi and of the length, with thinking and without, over the answers of pairs.

    With thinking, [N prompts, 2 answers, K traces]; without, K = 1 and no part of the traces.
    """
    rows = []
    for quantity in ("log_prob", "tokens"):
        values = [np.asarray(getattr(pair, quantity), dtype=np.float64) for pair in pairs]
        thinking = np.array([v[pair.draws.T] for v, pair in zip(values, pairs, strict=True)])
        empty = np.array([v[pair.empty][:, None] for v, pair in zip(values, pairs, strict=True)])
        for mode, table in (("thinking", thinking), ("no thinking", empty)):
            for part, estimate in nested_variance(table).items():
                rows.append(
                    {
                        "quantity": quantity,
                        "mode": mode,
                        "part": part,
                        "value": estimate.value,
                        "low": estimate.ci_low,
                        "high": estimate.ci_high,
                    }
                )
    return rows


def nested_variance(table: Floats) -> dict[str, Estimate]:
    """Unbiased variance parts "traces", "answers", "prompts" and their sum "total" of values [N, 2, K].

    They refer to a prompt drawn at random, one of its two answers, and a trace of that answer. Traces: the sample
    variance within an answer; answers: a quarter of the squared difference of the two answer means; prompts: the sample
    variance of the prompt means; each less what the traces put into it. Intervals: delete-one-prompt jackknife.
    """
    n, _, k = table.shape
    means = table.mean(axis=2)
    traces = leave_one_out_mean(table.var(axis=2, ddof=1).mean(axis=1) if k > 1 else np.zeros(n))
    answers = leave_one_out_mean((means[:, 0] - means[:, 1]) ** 2 / 4) - traces / (2 * k)
    centres = means.mean(axis=1) - means.mean()
    sizes = np.array([n, *[n - 1] * n])
    spread = leave_one_out_mean(centres**2) - leave_one_out_mean(centres) ** 2
    prompts = sizes / (sizes - 1) * spread - traces / (2 * k)
    parts = {"traces": traces} if k > 1 else {}
    parts |= {"answers": answers, "prompts": prompts, "total": traces + answers + prompts}
    return {name: jackknife_estimate(replicates) for name, replicates in parts.items()}


if __name__ == "__main__":
    main()
