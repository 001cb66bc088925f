"""results.json: every number of a report as an Estimate, each with the full name of what it refers to.

Layout (schema version 3; ``results.schema.json`` documents every key). ``alpha`` objects follow
:class:`bvpo_analysis.records.Alpha`, ``estimate`` objects follow :class:`bvpo_analysis.records.Estimate`; infinite
interval ends and undefined numbers are null.

    schema_version, config, model, data
    headline     alpha, verdict, errors [{name, alpha, mse, relative}], half_regret, traces_worth,
                 batch_equivalent, twice_the_prompts (MSE of g_t on twice the prompts / MSE of the optimal mix)
    alerts       [{level, text}]
    moments      {name: estimate} of one unit (B = K = 1)
    estimators   [{name, alpha, traces, sequences, bias_sq, trace_var, data_var, mse, relative}]
    targets      [{name, alpha, enumerated, exact}]; exact: traces enumerated, these pairs as the population;
                 enumerated: the same with the prompts as a sample, what ``alpha`` estimates from sampled traces
    alpha_grid   [{batch_size, kappa, alpha, low, high, recommended, confidence_set}]
    curve        [{alpha, bias_sq, trace_var, data_var, mse, mse_low, mse_high}]
    groups       [{name, parameters, bias_e_sq, var_t, trace_var, alpha}]
    identified   [{quantity, identified, needs}]
    exact        {prompts, largest_deviation} or null
    step_sizes   {smoothness {optimiser: {...}}, rates [{learning_rate, kappa_sgd, alpha, price, kappa_adam}], runs
                 [...]} or null where the smoothness of the model is not known; see bvpo_analysis.sgd.measured
    measures     {name: estimate or null}: what single questions turn on, see bvpo_analysis.report.measures
    leader       {label, relative} of the estimator with the least error at equal budget, or null
    losses       [{name, target_sq, bias_t, bias_e, trace_var, alpha, worth}] per loss on enumerated prompts
    training_runs  [{name, method, alpha, ..., steps, log}] of --train, see bvpo_analysis.report.train_runs
    sections     [{anchor, title, short, text, tables [{name, columns [{label, kind}], rows, best}], notes, figures,
                 folded}]: see bvpo_analysis.report.sections
    questions    [{number, anchor, short, question, answer, source, needs, evidence}]: see
                 bvpo_analysis.report.questions
    claims       [rows of bvpo_analysis.claims.table.to_row]: theorems and what was measured on them, committed; they
                 do not depend on the run
    cost         {sequences, tokens, seconds, peak_memory_bytes}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bvpo_analysis import mixing
from bvpo_analysis.claims.table import load_measured
from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.cost import Architecture
from bvpo_analysis.exact import ExactTable
from bvpo_analysis.lrm.sampling_law import SamplingLaw
from bvpo_analysis.moments import GradientLaw, Moments, score_estimate
from bvpo_analysis.off_reference.shift import enumeration_flag
from bvpo_analysis.preferences.rows import PairFile
from bvpo_analysis.records import Alpha, Estimate, PreferencePair
from bvpo_analysis.report.answers import Facts, question_rows
from bvpo_analysis.report.answers_in_use import ANSWERS
from bvpo_analysis.report.committed import committed_facts
from bvpo_analysis.report.contents import Measured, leader_of, measures_of, sections_of
from bvpo_analysis.report.losses import LossRow
from bvpo_analysis.report.measures import trace_is_unbiased
from bvpo_analysis.report.step_sizes import step_size_results
from bvpo_analysis.report.trained import StudyTables
from bvpo_analysis.study import Study
from bvpo_analysis.tables import estimator_rows, group_rows, jsonable, moment_estimates

SCHEMA_VERSION = 3
TARGET_BATCH_SIZES = (1, 16, 64)
CHECKED_FROM = 64
"""Fewest prompts for which the tests measure the coverage of the intervals."""
UNCLOSED_RATE = 0.001
"""Share of traces left out because they never closed, above which the alert is a warning."""
WIDE = 0.5
"""Width of the interval of alpha* above which an alert says so."""
LARGE_SHARE = 0.1
"""Share of the trace variance in a single prompt from which an alert says so."""


def study_results(
    study: Study,
    pairs: Sequence[PreferencePair],
    *,
    batch_size: int,
    kappa: float,
    policy: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    exact: ExactTable | None = None,
    largest_deviation: float | None = None,
    checked: int = 0,
    regime: str | None = None,
    compared: EstimatorComparison | None = None,
    file: PairFile | None = None,
    notes: Sequence[str] = (),
    losses: Sequence[LossRow] = (),
    architecture: Architecture | None = None,
    tables: StudyTables | None = None,
    training_runs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything in results.json that follows from the study, as plain JSON values.

    Args:
        study: the finished study.
        pairs: its pairs.
        batch_size, kappa: what the headline refers to (target M3, one trace per answer).
        policy: fingerprint of the model, compared with the one that the data name.
        provenance: how shipped pairs were built, what was dropped included.
        exact: exact moments of the same data, where they are known.
        largest_deviation: result of recomputing ``checked`` prompts of that table.
        checked: how many prompts were recomputed.
        regime: the shipped regime, where loss, model and parameters are those of the committed tables.
        compared: other estimators on some of the pairs, if they were scored.
        file: what was left out of the data when they were read.
        notes: further alerts of the level "note".
        losses: other losses on enumerated prompts, if there are any.
        architecture: of the model, where operations are counted.
        tables: of a training study; the committed ones of the regime when not given.
        training_runs: runs of the trainer, see :mod:`bvpo_analysis.report.train_runs`.
    """
    moments, law = study.whole, study.law(batch_size=batch_size)
    alpha = mixing.optimal_alpha(law, kappa)
    costs = study.costs(architecture)
    parts = Measured(study, pairs, batch_size, kappa, alpha, costs, regime, compared, losses, tables)
    traces_rows, all_rows = parts.traces_rows, parts.all_rows
    measures = measures_of(parts, traces_rows)
    sizes = dict(zip(study.scores.groups, study.scores.parameters, strict=True))
    found: dict[str, Any] = jsonable(
        {
            "headline": _headline(study, law, alpha, batch_size, kappa),
            "alerts": _alerts(study, pairs, alpha, kappa, policy, provenance, largest_deviation)
            + _flag_alerts(study, batch_size)
            + _file_alerts(file)
            + [{"level": "note", "text": text} for text in notes],
            "moments": moment_estimates(moments),
            "estimators": estimator_rows(moments, batch_size, kappa),
            "targets": _target_rows(moments, exact, batch_size, kappa),
            "alpha_grid": study.alpha_grid().to_dict("records"),
            "curve": study.mse_curve(batch_size=batch_size, kappa=kappa).to_dict("records"),
            "groups": group_rows(moments, study.by_group, sizes, batch_size, kappa),
            "identified": _identified_rows(moments, pairs),
            "exact": None
            if exact is None
            else {"prompts": exact.moments.n, "checked": checked, "largest_deviation": largest_deviation},
            "step_sizes": step_size_results(law, alpha.recommended, regime),
            "measures": measures,
            "leader": leader_of(all_rows),
            "losses": list(losses),
            "training_runs": list(training_runs),
            "sections": sections_of(parts, measures, traces_rows, all_rows),
            "claims": load_measured(),
        }
    )
    facts = Facts(found, jsonable(committed_facts(regime, tables)), batch_size, regime, parts.at_reference)
    return found | {"questions": question_rows(facts, ANSWERS)}


def _headline(study: Study, law: GradientLaw, alpha: Alpha, batch_size: int, kappa: float) -> dict[str, Any]:
    best = mixing.recommended_weights(law, kappa)
    weights: list[tuple[str, Any]] = [("g_e alone", 0.0), ("equal mix", 0.5), ("g_t alone", 1.0), ("optimal mix", best)]
    errors = [
        {
            "name": name,
            "alpha": float(np.atleast_1d(weight)[0]),
            "mse": mixing.error(law, weight, kappa),
            "relative": mixing.error_ratio(law, weight, law, 1.0, kappa),
        }
        for name, weight in weights
    ]
    # What an empty trace or a larger batch is worth presumes an unbiased g_t.
    unbiased = trace_is_unbiased(study.whole)
    worth = mixing.traces_worth(study.whole) if unbiased and study.whole.identifies_trace_variance else None
    instead = mixing.twice_the_prompts_instead(study.whole, batch_size, kappa)
    return {
        "alpha": alpha,
        "verdict": _verdict(alpha, instead),
        "errors": errors,
        "half_regret": mixing.relative_regret(law, 0.5, kappa),
        "traces_worth": worth,
        "twice_the_prompts": instead,
        "batch_equivalent": mixing.batch_size_equivalent(law, kappa) if unbiased else None,
    }


def _verdict(alpha: Alpha, instead: Estimate | None) -> dict[str, str]:
    """A finding and its reason; decided by intervals, not by point values.

    Args:
        alpha: the optimal weight.
        instead: error of g_t on twice the prompts over that of the optimal mix; above 1, mixing is the better use.
    """
    low, high = alpha.estimate.ci_low, alpha.estimate.ci_high
    if alpha.degenerate:
        return {"finding": "every weight is equally good", "reason": "g_t and g_e coincide on these data"}
    if alpha.confidence_set != "interval":
        reason = "the confidence set of the optimal weight is unbounded; more prompts are needed"
        return {"finding": "the data do not determine a weight", "reason": reason}
    if low >= 1:
        return {
            "finding": "use g_t alone",
            "reason": "the optimal weight is 1 or more, so no mix with weights in [0, 1] does better",
        }
    if high <= 0:
        return {
            "finding": "use g_e alone",
            "reason": "the optimal weight is 0 or less, so no mix with weights in [0, 1] does better",
        }
    if low <= 0 and high >= 1:
        reason = "the interval of the optimal weight contains both 0 (g_e alone) and 1 (g_t alone)"
        return {"finding": "the data do not tell mixing from not mixing", "reason": reason}
    if low <= 0 or high >= 1:
        which = "0 (g_e alone)" if low <= 0 else "1 (g_t alone)"
        reason = f"the interval of the optimal weight reaches {which}"
        return {"finding": "no evidence that mixing beats one gradient alone", "reason": reason}
    beats = "the interval of the optimal weight excludes 0 and 1, so at equal batch size the mix beats either alone"
    if instead is not None and instead.ci_low > 1:
        return {"finding": "mixing pays", "reason": f"{beats}; it also beats g_t on twice the prompts"}
    if instead is not None and instead.ci_high < 1:
        reason = f"{beats}; but g_t on twice the prompts, as many sequences, is better"
        return {"finding": "mixing helps, more prompts help more", "reason": reason}
    reason = f"{beats}; whether it beats g_t on twice the prompts, as many sequences, is open"
    return {"finding": "mixing helps at equal batch size", "reason": reason}


def _alerts(
    study: Study,
    pairs: Sequence[PreferencePair],
    alpha: Alpha,
    kappa: float,
    policy: str | None,
    provenance: Mapping[str, Any] | None,
    largest_deviation: float | None,
) -> list[dict[str, str]]:
    alerts: list[dict[str, str]] = []

    def add(level: str, text: str) -> None:
        alerts.append({"level": level, "text": text})

    width = alpha.estimate.ci_high - alpha.estimate.ci_low
    if not alpha.degenerate and not study.whole.exact:
        if alpha.confidence_set != "interval":
            add("warning", f"The Fieller set of alpha* is a {alpha.confidence_set}: these data do not bound it.")
        elif width > WIDE:
            add(
                "warning",
                f"The interval of alpha* is {width:.2f} wide, more than {WIDE:g}; add prompts before using it.",
            )
    if len(pairs) < CHECKED_FROM and not study.whole.exact:
        add("warning", f"Only {len(pairs)} prompts; the coverage of the intervals was checked from {CHECKED_FROM} on.")
    squared_bias = float(study.whole.bias_e_sq[0])
    if squared_bias <= 0:
        add("warning", f"The unbiased estimate of |b_e|^2 is {squared_bias:.2g}, not positive: bias is within noise.")
    elif not study.whole.exact and score_estimate(study.whole.bias_e_sq, study.whole.bias_noise).ci_low <= 0:
        add("note", "The interval of |b_e|^2 contains 0; alpha* at large batch sizes is uncertain.")
    if not study.whole.identifies_trace_variance:
        add("note", "One trace per answer: trace noise and data noise cannot be told apart, and M1 is not identified.")
    spread = study.per_pair()[["prompt_id", "trace_variance"]].dropna()
    if len(spread) and (total := float(spread["trace_variance"].sum())) > 0:
        at = int(np.argmax(spread["trace_variance"]))
        share = float(spread["trace_variance"].iloc[at]) / total
        if share > max(LARGE_SHARE, 3 / len(spread)):
            add(
                "note",
                f"One prompt ({spread['prompt_id'].iloc[at]}) carries {share:.0%} of the trace variance: a rare trace.",
            )
    copied = sum(pair.empty_answers == "copied" for pair in pairs)
    if copied:
        add("note", f"{copied} of {len(pairs)} pairs have no empty-trace answers of their own; y' = y was used.")
    if study.whole.exact and (flag := enumeration_flag([pair.log_probs for pair in study.scores.pairs])) is not None:
        add(flag.level, flag.text)
    for text in sorted({text for pair in pairs if (text := SamplingLaw.from_meta(pair.meta).alert) is not None}):
        add("warning", text)
    if kappa != 1:
        add("note", f"kappa = {kappa:g}: every MSE on this page is bias^2 + kappa x variance.")
    named = {str(pair.meta["policy"]) for pair in pairs if "policy" in pair.meta}
    if policy is not None and named - {policy} and not study.whole.exact:
        add(
            "warning",
            f"The rows name another policy ({sorted(named - {policy})[0]}) than the model under study ({policy}): "
            "g_t is unbiased only for traces of the model itself.",
        )
    counts = (provenance or {}).get("counts", {})
    if counts.get("unclosed"):
        rate = counts["unclosed"] / counts["completions"]
        level = "warning" if rate > UNCLOSED_RATE else "note"
        left_out = f"{counts['unclosed']} of {counts['completions']} sampled traces"
        add(level, f"{left_out} never closed and were left out, which conditions the policy on closing.")
    if counts.get("no_pair", 0) + counts.get("no_empty_pair", 0):
        add(
            "note",
            f"The population is the prompts that gave a pair both with and without thinking: of {counts['prompts']} "
            f"prompts, {counts['no_pair']} gave none with, {counts['no_empty_pair']} more none without thinking.",
        )
    if largest_deviation is not None and largest_deviation > 1e-4:
        add("warning", f"Enumeration differs from the committed exact table by {largest_deviation:.1e} (relative).")
    return alerts


def _flag_alerts(study: Study, batch_size: int) -> list[dict[str, str]]:
    """What an estimate off the reference says of itself."""
    found = study.off_reference
    if found is None:
        return []
    text = (
        f"The model differs from its reference, where g_t is biased. The marginal gradient is estimated from the "
        f"{found.traces} traces of each answer, with bias {found.joint.target_bias}; other estimators are compared at "
        "the reference only."
    )
    return [{"level": "note", "text": text}, *({"level": f.level, "text": f.text} for f in found.flags(batch_size))]


def _file_alerts(file: PairFile | None) -> list[dict[str, str]]:
    """What reading the data left out: unclosed traces condition the policy, other rows change the population."""
    if file is None:
        return []
    alerts = []
    unclosed = file.dropped.get("unclosed trace", 0) + file.counts.get("unclosed responses", 0)
    if unclosed:
        text = (
            f"{unclosed} completions never close their trace and were left out, which conditions the policy on closing."
        )
        alerts.append({"level": "warning", "text": text})
    others = {reason: count for reason, count in file.dropped.items() if reason != "unclosed trace" and count}
    if others:
        told = ", ".join(f"{count} for {reason}" for reason, count in sorted(others.items()))
        alerts.append({"level": "note", "text": f"Of {file.rows} rows, {sum(others.values())} were left out: {told}."})
    return alerts


def _target_rows(moments: Moments, exact: ExactTable | None, batch_size: int, kappa: float) -> list[dict[str, Any]]:
    def laws(source: Moments) -> list[GradientLaw]:
        sizes = sorted({*TARGET_BATCH_SIZES, batch_size})
        found = [source.population(size) for size in sizes]
        per_prompt = source.identifies_trace_variance and source.prompt_bias_e_sq is not None
        return [*found, source.per_prompt()] if per_prompt else found

    def values(source: Moments) -> dict[str, float]:
        return {law.target: mixing.optimal_alpha(law, kappa).estimate.value for law in laws(source)}

    # The table is about all its prompts; it says nothing exact about a part of them.
    known = exact is not None and exact.moments.n == moments.n
    population, sample = (values(exact.moments), values(exact.sample_moments)) if exact and known else ({}, {})
    rows = []
    for law in laws(moments):
        row = {"name": f"alpha_star.{law.target}.kappa{kappa:g}", "alpha": mixing.optimal_alpha(law, kappa)}
        rows.append(row | {"enumerated": sample.get(law.target), "exact": population.get(law.target)})
    return rows


def _identified_rows(moments: Moments, pairs: Sequence[PreferencePair]) -> list[dict[str, Any]]:
    split = moments.identifies_trace_variance
    own = all(pair.empty_answers == "own" for pair in pairs)
    return [
        {
            "quantity": "Variance of g_t in total, MSE curve and alpha* against the population target (M3), K = 1",
            "identified": True,
            "needs": "one posterior trace per answer, at the reference",
        },
        {
            "quantity": "Bias and variance of g_e, on answers generated without thinking",
            "identified": own,
            "needs": "empty_chosen and empty_rejected in every row (y' = y is used otherwise)",
        },
        {
            "quantity": "Split of the variance into trace and data parts; K > 1; worth of an empty trace",
            "identified": split,
            "needs": "two or more posterior traces per answer",
        },
        {
            "quantity": "alpha* against each prompt's own marginal gradient (M1)",
            "identified": split and moments.prompt_bias_e_sq is not None,
            "needs": "two or more posterior traces per answer",
        },
        {
            "quantity": "Everything without sampling error, and away from the reference",
            "identified": moments.exact,
            "needs": "traces that can be enumerated (--traces exact, the model in the box)",
        },
    ]
