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

Intervals are over seeds and, where prompts or pairs are measured, over those as well (``summaries.both``,
``summaries.crossed``): without them they would say what another run does on the same prompts. Roughness, the mean
weight and CPU seconds are of training itself and have intervals over seeds. ``*_se_prompts`` is the part of the
standard error that is due to prompts; rank correlations are bootstrapped over seeds and prompts (``rankings``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bvpo_analysis.evaluation import MODES, clustered_mean, comparisons
from bvpo_analysis.records import Estimate, Floats
from bvpo_analysis.training_study import gradients, summaries
from bvpo_analysis.training_study.arms import WEIGHTS
from bvpo_analysis.training_study.curves import curves, equal_tokens, level_of, steps_to
from bvpo_analysis.training_study.predictions import Prediction
from bvpo_analysis.training_study.rankings import OUTCOMES, rankings, sweep_of
from bvpo_analysis.training_study.rows import Row, arm_columns, estimate_columns, with_baseline
from bvpo_analysis.training_study.summaries import (
    ArmRuns,
    Each,
    Result,
    at_end,
    difference,
    differences,
    held_out,
    share_difference,
)

AVERAGED, POOLED = "4 traces", "pool of 4"
"""The arms with the mean of four traces, and with a pool, whose logged loss is that of its first trace."""
Z = float(ndtri(0.975))
"""Half the width of a 95 % interval, in standard errors."""


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
    averaged = {arm.regime: arm for arm in arms if arm.name == AVERAGED and arm.runs}
    for arm, base in with_baseline(arms):
        for mode in MODES:
            won = at_end(mode, "won")
            row = arm_columns(arm) | {"mode": mode} | estimate_columns("win_rate", arm.measured(won))
            row |= {"win_rate_se_prompts": clustered_mean(arm.units(won)).se}
            row |= estimate_columns("length_controlled", length_controlled(arm, mode))
            row |= estimate_columns("minus_dpo", None if base is None else share_difference(arm, base, won))
            per_seed = np.empty(0) if base is None else differences(arm, base, won)
            row["minus_dpo_se_prompts"] = clustered_mean(per_seed.mean(axis=0)).se if len(per_seed) else None
            row |= estimate_columns("against_dpo", None if base is None else head_to_head(arm, base, mode))
            quiet = averaged.get(arm.regime)
            row |= estimate_columns("minus_averaged", None if quiet is None else share_difference(arm, quiet, won))
            for name in ("unreadable", "kl", "trace_entropy", "tokens_trace", "tokens_answer"):
                row |= estimate_columns(name, arm.measured(at_end(mode, name)))
            rows.append(row)
    return rows


def head_to_head(arm: ArmRuns, other: ArmRuns, mode: str) -> Estimate | None:
    """How often an answer of ``arm`` has more reward than one of ``other`` trained on the same seed, ties half.

    Their answers come from the same random streams, so every answer is compared with those from other streams.
    """
    shared = sorted(set(arm.runs) & set(other.runs))
    if not shared or arm is other:
        return None
    rows = [
        np.nanmean(comparisons(*(_rewards(one.runs[s], mode) for one in (arm, other)), same_streams=True), axis=1)
        for s in shared
    ]
    beyond_ties = np.array(rows) - 0.5
    found = summaries.both(clustered_mean(beyond_ties.mean(axis=1)), clustered_mean(beyond_ties.mean(axis=0)))
    moved = summaries.unmoved(found, beyond_ties)
    return (
        None
        if moved is None
        else replace(moved, value=moved.value + 0.5, ci_low=moved.ci_low + 0.5, ci_high=moved.ci_high + 0.5)
    )


def _rewards(run: Result, mode: str) -> Floats:
    """Rewards of the answers to every fresh prompt, [n, K]; -inf for those that cannot be read."""
    return np.array([[-np.inf if r is None else r for r in row] for row in run["final"][mode]["rewards"]])


def length_controlled(arm: ArmRuns, mode: str) -> Estimate | None:
    """Win rate at equal length; every run has an error over prompts, which is the same prompts' in all of them."""
    found = np.array([run["final"][mode]["length_controlled"] for run in arm.runs.values()], dtype=np.float64)
    value, se = found.mean(axis=0)
    half = Z * float(se)
    prompts = Estimate(float(value), float(se), float(value) - half, float(value) + half, len(found), "jackknife")
    return summaries.both(clustered_mean(found[:, 0]), prompts)


def accuracy(arms: Sequence[ArmRuns], references: Mapping[str, Result]) -> list[Row]:
    """One row per arm and mode: task accuracy before and after, preference accuracy on held-out pairs after."""
    rows = []
    for arm, base in with_baseline(arms):
        for mode in MODES:
            before = np.array(references[arm.regime]["final"][mode]["right"]) if arm.regime in references else None
            right = at_end(mode, "right")
            row = arm_columns(arm) | {"mode": mode}
            row["before"] = None if before is None else float(before.mean())
            row["before_se_prompts"] = None if before is None else clustered_mean(before).se
            row |= estimate_columns("after", arm.measured(right))
            row["after_se_prompts"] = clustered_mean(arm.units(right)).se
            if before is not None:
                change = partial(_less, right, before)
                changes = np.array([change(run) for run in arm.runs.values()])
                row |= estimate_columns("change", summaries.unmoved(arm.measured(change), changes))
                row["change_se_prompts"] = clustered_mean(arm.units(change)).se
            row |= estimate_columns("minus_dpo", None if base is None else share_difference(arm, base, right))
            preferred = held_out("trace_accuracy" if mode == "thinking" else "empty_accuracy")
            row |= estimate_columns("preference_accuracy", arm.measured(preferred))
            rows.append(row)
    return rows


def training(arms: Sequence[ArmRuns]) -> list[Row]:
    """One row per arm: how quiet and how fast training was."""
    averaged = {arm.regime: arm for arm in arms if arm.name == AVERAGED and arm.runs}
    rows = []
    for arm, base in with_baseline(arms):
        level = None if base is None else level_of(base)
        row = arm_columns(arm)
        row |= estimate_columns("gradient_variance", gradients.variance_of(arm))
        ratio = None if base is None else gradients.variance_ratio(arm, base)
        row |= estimate_columns("gradient_variance_over_dpo", ratio)
        rough = None if arm.name == POOLED else arm.over_seeds(summaries.roughness)
        row |= estimate_columns("roughness", rough)
        row["level"] = None if level is None else float(level[0])
        steps, row["reached_by"] = (None, None) if level is None else steps_to(arm, level)
        row |= estimate_columns("steps_to_level", steps)
        for name in ("marginal_loss", "trace_loss", "empty_loss"):
            row |= estimate_columns(name, arm.measured(held_out(name)))
            compared = None if base is None else difference(arm, base, held_out(name))
            row |= estimate_columns(f"{name}_minus_dpo", compared)
        quiet = averaged.get(arm.regime)
        compared = None if quiet is None else difference(arm, quiet, held_out("marginal_loss"))
        row |= estimate_columns("marginal_loss_minus_averaged", compared)
        own_loss = "empty_loss" if arm.name.endswith("alpha=0") else "trace_loss"
        row |= estimate_columns("gap", summaries.gap(arm, own_loss))
        moved = summaries.spread(arm)
        row["displacement"], row["displacement_noise"] = moved if moved is not None else (None, None)
        row |= estimate_columns("alpha", arm.over_seeds(summaries.mean_alpha))
        row["steps"] = _value(arm.over_seeds(lambda run: float(run["steps"])))
        row["cpu_seconds"] = _value(arm.over_seeds(lambda run: float(run["seconds"])))
        row["failed"] = len(arm.failed)
        rows.append(row)
    # An arm that has left the range of numbers in every run is told of too.
    return rows + [arm_columns(arm) | {"failed": len(arm.failed)} for arm in arms if not arm.runs]


def sweep(arms: Sequence[ArmRuns], predicted: Sequence[Prediction]) -> list[Row]:
    """One row per regime, optimiser and weight: the predictions, lower is better, and the outcomes."""
    rows = []
    for regime, optimiser in dict.fromkeys((p.regime, p.optimiser) for p in predicted):
        own = [p for p in predicted if (p.regime, p.optimiser) == (regime, optimiser)]
        source = "enumerated" if any(p.source == "enumerated" for p in own) else own[0].source
        for alpha, arm in sweep_of(arms, regime, optimiser).items():
            row: Row = {"regime": regime, "optimiser": optimiser, "alpha": alpha, "seeds": len(arm.runs)}
            row |= {f"predicted_{p.criterion}": p.scores[WEIGHTS.index(alpha)] for p in own if p.source == source}
            for name in OUTCOMES:
                row |= estimate_columns(name, _outcome(arm, name))
            rows.append(row)
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
            row = arm_columns(arm) | {"step": step} | estimate_columns("alpha", gradients.weight_at(probes))
            used = [w for run in arm.runs.values() if (w := gradients.weight_used(run, step)) is not None]
            row["used"] = float(np.mean(used)) if used else None
            for name in ("var_t", "var_e", "trace_var"):
                row |= estimate_columns(name, gradients.path_point(probes, partial(_replicates, name)))
            for alpha in WEIGHTS:
                row |= estimate_columns(f"var_c:{alpha:g}", gradients.path_point(probes, partial(_mix_variance, alpha)))
            row |= {name: float(np.mean([probe[name] for probe in probes])) for name in PATH_COLUMNS}
            row |= {f"mse_c:{a:g}": float(np.mean([probe[f"mse_c:{a:g}"] for probe in probes])) for a in WEIGHTS}
            rows.append(row)
    return rows


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


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value


def _replicates(name: str, probe: Result) -> Floats:
    return gradients.replicates(probe)[name]


def _mix_variance(alpha: float, probe: Result) -> Floats:
    return gradients.batch_variance(alpha, gradients.replicates(probe))


def _less(each: Each, before: Floats, run: Result) -> Floats:
    return each(run) - before


def _outcome(arm: ArmRuns, name: str) -> Estimate | None:
    """An outcome as it is, not as lower is better."""
    if name == "marginal_loss":
        return arm.measured(held_out(name))
    return arm.measured(at_end(name.removeprefix("win_rate_"), "won"))
