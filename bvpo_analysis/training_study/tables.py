"""Small tables from finished runs: one tidy CSV each, missing cells empty.

    win_rates    win rate against the reference, plain and at equal length, and its difference to DPO; both modes
    accuracy     task accuracy before and after; both modes
    training     variance of the gradients, roughness, steps to a fixed held-out loss, gap, noise left in the weights
    sweep        every weight of the sweep: what was predicted of it and what came out
    rankings     predicted weight, best realised weight, rank correlation of prediction and outcome
    alpha_path   alpha* and the variances along training, and the weight that alpha = auto took
    curves       held-out losses against steps and against tokens
    equal_tokens held-out loss after as many tokens as DPO has read at its end, beside that after as many steps
    predictions  the weights predicted before training

Intervals of win rates, accuracies and held-out losses are over seeds and evaluation prompts (``summaries.both``), those
of variances and alpha* over seeds and probed pairs (``gradients``), all others over seeds; ``*_se_prompts`` is the part
of the standard error that is due to prompts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bvpo_analysis.evaluation import MODES, clustered_mean
from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.training_study import gradients, summaries
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.predictions import Prediction
from bvpo_analysis.training_study.summaries import BASELINE, ArmRuns, Result

Row = dict[str, Any]


def build_tables(
    references: Mapping[str, Result], results: Sequence[Result], predicted: Sequence[Prediction]
) -> dict[str, pd.DataFrame]:
    """All tables by name.

    Args:
        references: numbers of the reference by regime.
        results: finished runs.
        predicted: made before training.
    """
    arms = summaries.arm_runs(results)
    rows = {
        "win_rates": win_rates(arms),
        "accuracy": accuracy(arms, references),
        "training": training(arms),
        "sweep": sweep(arms, predicted),
        "rankings": rankings(arms, predicted),
        "alpha_path": alpha_path(arms, references),
        "curves": curves(arms),
        "equal_tokens": equal_tokens(arms),
        "predictions": prediction_rows(predicted),
    }
    return {name: pd.DataFrame(table) for name, table in rows.items()}


def win_rates(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm and mode."""
    rows = []
    for arm, base in _with_baseline(arms):
        for mode in MODES:
            controlled = arm.over_seeds(partial(_length_controlled, mode))
            row = _names(arm) | {"mode": mode} | _estimate("win_rate", arm.final(mode, "won"))
            row |= {"win_rate_se_prompts": clustered_mean(arm.prompts(mode, "won")).se}
            row |= _estimate("length_controlled", controlled)
            compared = None if base is None else summaries.final_difference(arm, base, mode, "won")
            row |= _estimate("minus_dpo", compared)
            row["minus_dpo_se_prompts"] = None if base is None else _prompt_se(arm, base, mode, "won")
            for name in ("unreadable", "kl", "trace_entropy", "tokens_trace", "tokens_answer"):
                row |= _estimate(name, arm.final(mode, name))
            rows.append(row)
    return rows


def accuracy(arms: Sequence[ArmRuns], references: Mapping[str, Result]) -> list[Row]:
    """One row per arm and mode: task accuracy before and after, preference accuracy on held-out pairs after."""
    rows = []
    for arm, base in _with_baseline(arms):
        for mode in MODES:
            before = np.array(references[arm.regime]["final"][mode]["right"]) if arm.regime in references else None
            found = arm.final(mode, "right")
            row = _names(arm) | {"mode": mode}
            row["before"] = None if before is None else float(before.mean())
            row["before_se_prompts"] = None if before is None else clustered_mean(before).se
            row |= _estimate("after", found)
            row["after_se_prompts"] = clustered_mean(arm.prompts(mode, "right")).se
            if before is not None:
                runs = _shifted(arm.over_seeds(summaries.final_mean(mode, "right")), -float(before.mean()))
                prompts = clustered_mean(arm.prompts(mode, "right") - before)
                row |= _estimate("change", summaries.both(runs, prompts))
                row["change_se_prompts"] = prompts.se
            compared = None if base is None else summaries.final_difference(arm, base, mode, "right")
            row |= _estimate("minus_dpo", compared)
            preferred = "trace_accuracy" if mode == "thinking" else "empty_accuracy"
            row |= _estimate("preference_accuracy", arm.held_out(preferred))
            rows.append(row)
    return rows


def training(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm: how quiet and how fast training was."""
    rows = []
    for arm, base in _with_baseline(arms):
        level = None if base is None else summaries.level_of(base)
        row = _names(arm)
        row |= _estimate("gradient_variance", gradients.variance_of(arm))
        ratio = None if base is None else gradients.variance_ratio(arm, base)
        row |= _estimate("gradient_variance_over_dpo", ratio)
        row |= _estimate("roughness", arm.over_seeds(summaries.roughness))
        row["level"] = level
        if level is not None:
            steps = {seed: summaries.reached(run["curve"], level) for seed, run in arm.runs.items()}
            known = [value for value in steps.values() if value is not None]
            row |= _estimate("steps_to_level", clustered_mean(known) if known else None)
            row["reached_by"] = len(known)
        for name in ("marginal_loss", "trace_loss", "empty_loss"):
            row |= _estimate(name, arm.held_out(name))
            if base is not None:
                row |= _estimate(f"{name}_minus_dpo", summaries.held_out_difference(arm, base, name))
        row |= _estimate("gap", arm.over_seeds(summaries.gap("empty_loss" if arm.name == "alpha=0" else "trace_loss")))
        moved = summaries.spread(arm)
        row["displacement"], row["displacement_noise"] = moved if moved is not None else (None, None)
        row |= _estimate("alpha", arm.over_seeds(summaries.mean_alpha))
        row["steps"] = _value(arm.over_seeds(lambda run: float(run["steps"])))
        row["cpu_seconds"] = _value(arm.over_seeds(lambda run: float(run["seconds"])))
        row["failed"] = len(arm.failed)
        rows.append(row)
    return rows


OUTCOMES: dict[str, str] = {
    "marginal_loss": "held-out marginal loss",
    "win_rate_thinking": "win rate, thinking",
    "win_rate_empty": "win rate, empty trace",
}
"""What weights of the sweep are ranked by after training; losses are better low, win rates high."""


def outcome(run: Result, name: str) -> float:
    """An outcome of a run, lower is better.

    Example:
        >>> outcome({"held_out": {"marginal_loss": [0.5, 0.7]}}, "marginal_loss")
        0.6
    """
    if name == "marginal_loss":
        return float(np.mean(run["held_out"][name]))
    return -float(np.mean(run["final"][name.removeprefix("win_rate_")]["won"]))


def sweep_of(arms: Sequence[ArmRuns], regime: str, optimiser: str) -> dict[float, ArmRuns]:
    """The arms of a sweep by weight; only those that are there."""
    prefix = "alpha=" if optimiser == "sgd" else f"{optimiser}, alpha="
    named = {arm.name: arm for arm in arms if arm.regime == regime and arm.runs}
    return {alpha: named[f"{prefix}{alpha:g}"] for alpha in WEIGHTS if f"{prefix}{alpha:g}" in named}


def sweep(arms: Sequence[ArmRuns], predicted: Sequence[Prediction]) -> list[Row]:
    """One row per regime, optimiser and weight: the exact predictions, lower is better, and the outcomes."""
    rows = []
    for regime, optimiser in dict.fromkeys((p.regime, p.optimiser) for p in predicted):
        own = [p for p in predicted if (p.regime, p.optimiser) == (regime, optimiser)]
        source = "exact" if any(p.source == "exact" for p in own) else own[0].source
        for alpha, arm in sweep_of(arms, regime, optimiser).items():
            row: Row = {"regime": regime, "optimiser": optimiser, "alpha": alpha, "seeds": len(arm.runs)}
            row |= {f"predicted_{p.criterion}": p.scores[WEIGHTS.index(alpha)] for p in own if p.source == source}
            for name in OUTCOMES:
                mode = name.removeprefix("win_rate_")
                row |= _estimate(name, arm.held_out(name) if name == "marginal_loss" else arm.final(mode, "won"))
            rows.append(row)
    return rows


def rankings(arms: Sequence[ArmRuns], predicted: Sequence[Prediction]) -> list[Row]:
    """One row per prediction and outcome: both best weights, and Spearman's correlation, a mean over seeds."""
    rows = []
    for p in predicted:
        found = sweep_of(arms, p.regime, p.optimiser)
        if len(found) < len(WEIGHTS):
            continue
        shared = sorted(set.intersection(*(set(arm.runs) for arm in found.values())))
        for name in OUTCOMES:
            per_seed = [[outcome(found[alpha].runs[seed], name) for alpha in WEIGHTS] for seed in shared]
            if not per_seed:
                continue
            mean = np.mean(per_seed, axis=0)
            best = int(np.argmin(mean))
            agreement = [summaries.rank_correlation(p.scores, row) for row in per_seed]
            known = [value for value in agreement if np.isfinite(value)]
            chosen = WEIGHTS[int(np.argmin(p.scores))]
            rows.append(
                {
                    "regime": p.regime,
                    "optimiser": p.optimiser,
                    "source": p.source,
                    "criterion": p.criterion,
                    "outcome": name,
                    "seeds": len(shared),
                    "predicted_alpha": p.alpha.value,
                    "predicted_low": p.alpha.ci_low,
                    "predicted_high": p.alpha.ci_high,
                    "predicted_best": chosen,
                    "realised_best": WEIGHTS[best],
                    "best_in_seeds": sum(int(np.argmin(row)) == best for row in per_seed),
                    **_estimate("spearman", clustered_mean(known, low=-1.0, high=1.0) if known else None),
                    # What the predicted weight costs against the best one, in the unit of the outcome.
                    **_estimate(
                        "price",
                        clustered_mean([row[WEIGHTS.index(chosen)] - row[best] for row in per_seed]),
                    ),
                }
            )
    return rows


PATH_COLUMNS = ("cov_te", "bias_t_sq", "bias_e_sq", "target_sq")
"""Of the path, given without intervals."""


def alpha_path(arms: Sequence[ArmRuns], references: Mapping[str, Result]) -> list[Row]:
    """One row per arm and probed step, the reference at step 0; ``used`` is the weight that the runs took around it."""
    rows = []
    for arm in arms:
        found = {seed: [p for p in run["probes"] if "without" in p] for seed, run in arm.runs.items()}
        if not any(found.values()):
            continue
        start = references.get(arm.regime, {}).get("probe")
        at = {0: [start]} if start else {}
        for probe in (probe for probes in found.values() for probe in probes):
            at.setdefault(probe["step"], []).append(probe)
        for step, probes in sorted(at.items()):
            row = _names(arm) | {"step": step} | _estimate("alpha", gradients.weight_at(probes))
            used = [w for run in arm.runs.values() if (w := gradients.weight_used(run, step)) is not None]
            row["used"] = float(np.mean(used)) if used else None
            for name in ("var_t", "var_e", "trace_var"):
                row |= _estimate(name, gradients.path_point(probes, partial(_replicates, name)))
            for alpha in WEIGHTS:
                row |= _estimate(f"var_c:{alpha:g}", gradients.path_point(probes, partial(_mix_variance, alpha)))
            row |= {name: float(np.mean([probe[name] for probe in probes])) for name in PATH_COLUMNS}
            row |= {f"mse_c:{a:g}": float(np.mean([probe[f"mse_c:{a:g}"] for probe in probes])) for a in WEIGHTS}
            rows.append(row)
    return rows


def curves(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm and measured step; ``tokens`` is what training has read by then."""
    rows = []
    for arm in arms:
        if arm.group == "pilot" or not arm.runs:
            continue
        steps = sorted(set.intersection(*({point["step"] for point in run["curve"]} for run in arm.runs.values())))
        for step in steps:
            row = _names(arm) | {"step": step}
            spent = [sum(e["tokens"] for e in run["log"] if e["step"] < step) for run in arm.runs.values()]
            row["tokens"] = float(np.mean(spent))
            for name in ("marginal_loss", "trace_loss", "empty_loss"):
                row |= _estimate(name, arm.over_seeds(partial(_at, step, name)))
            rows.append(row)
    return rows


def equal_tokens(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm: held-out marginal loss at equal data, and at the tokens that DPO has read at its end.

    Read off the same runs, linear between two measurements, so that an arm with dearer steps is seen before its
    learning rate has come down; an arm that never reads so much is taken at its end.
    """
    rows = []
    for arm, base in _with_baseline(arms):
        if base is None or arm.group == "pilot":
            continue
        budget = float(np.mean([tokens_by(run, len(run["log"])) for run in base.runs.values()]))
        row = _names(arm) | {"budget": budget}
        row["tokens"] = float(np.mean([tokens_by(run, len(run["log"])) for run in arm.runs.values()]))
        row |= _estimate("equal_data", arm.over_seeds(_last_loss))
        row |= _estimate("equal_tokens", arm.over_seeds(partial(loss_at, budget)))
        row |= _estimate("minus_dpo", summaries.difference(arm, base, partial(loss_at, budget)))
        rows.append(row)
    return rows


def tokens_by(run: Result, step: int) -> float:
    """Tokens that training has read before a step."""
    return float(sum(entry["tokens"] for entry in run["log"] if entry["step"] < step))


def loss_at(tokens: float, run: Result) -> float:
    """Held-out marginal loss when training has read so many tokens.

    Example:
        >>> curve = [{"step": 0, "marginal_loss": 0.7}, {"step": 2, "marginal_loss": 0.5}]
        >>> run = {"log": [{"step": s, "tokens": 10} for s in range(2)], "curve": curve}
        >>> loss_at(5, run), loss_at(100, run)
        (0.65, 0.5)
    """
    spent = [tokens_by(run, point["step"]) for point in run["curve"]]
    return round(float(np.interp(tokens, spent, [point["marginal_loss"] for point in run["curve"]])), 12)


def _last_loss(run: Result) -> float:
    return float(run["curve"][-1]["marginal_loss"])


def prediction_rows(predicted: Sequence[Prediction]) -> list[Row]:
    """The predicted weights, one row each."""
    return [
        {
            "regime": p.regime,
            "optimiser": p.optimiser,
            "source": p.source,
            "criterion": p.criterion,
            "kappa": p.kappa,
            "batch_size": p.batch_size,
            "alpha": p.alpha.value,
            "alpha_low": p.alpha.ci_low,
            "alpha_high": p.alpha.ci_high,
            **{f"score:{alpha:g}": score for alpha, score in zip(WEIGHTS, p.scores, strict=True)},
        }
        for p in predicted
    ]


def _with_baseline(arms: Sequence[ArmRuns]) -> list[tuple[ArmRuns, ArmRuns | None]]:
    base = {arm.regime: arm for arm in arms if arm.name == BASELINE and arm.runs}
    return [(arm, base.get(arm.regime)) for arm in arms if arm.runs]


def _names(arm: ArmRuns) -> Row:
    return {"regime": arm.regime, "arm": arm.name, "group": arm.group, "seeds": len(arm.runs)}


def _estimate(name: str, found: Estimate | None) -> Row:
    """Columns NAME, NAME_low and NAME_high; empty where there is no number, or no interval."""
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.ci_low, f"{name}_high": found.ci_high}


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value


def _prompt_se(arm: ArmRuns, base: ArmRuns, mode: str, name: str) -> float:
    shared = sorted(set(arm.runs) & set(base.runs))
    rows = [np.subtract(arm.runs[s]["final"][mode][name], base.runs[s]["final"][mode][name]) for s in shared]
    return clustered_mean(np.mean(rows, axis=0)).se


def _replicates(name: str, probe: Result) -> Floats:
    return gradients.replicates(probe)[name]


def _mix_variance(alpha: float, probe: Result) -> Floats:
    return gradients.batch_variance(alpha, gradients.replicates(probe))


def _at(step: int, name: str, run: Result) -> float:
    return float(next(point[name] for point in run["curve"] if point["step"] == step))


def _length_controlled(mode: str, run: Result) -> float:
    return float(run["final"][mode]["length_controlled"][0])


def _shifted(found: Estimate | None, by: float) -> Estimate | None:
    if found is None:
        return None
    return Estimate(found.value + by, found.se, found.ci_low + by, found.ci_high + by, found.n, found.method)
