"""The page "What we found": every number read from a committed results file, none typed.

Each section is a function that returns Markdown. Sentences that judge are chosen by the numbers and their intervals.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import training_findings
from markup import names, percent, source, span, table

from bvpo_analysis import mixing
from bvpo_analysis.claims.table import load_measured
from bvpo_analysis.coverage.measured import LIMITS, coverage_summaries, measured_coverage
from bvpo_analysis.exact import load_table
from bvpo_analysis.moments import Moments
from bvpo_analysis.off_reference.measured import off_reference_rows
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.report.formatting import estimate_text, number
from bvpo_analysis.sgd.measured import measured_runs, measured_smoothness

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "paper_figures" / "results"
SIZES = (1, 4, 16, 64, 256)
"""Batch sizes shown."""
CLEAR_SIZES = (64, 256)
"""Sample sizes whose coverage is shown."""

HEAD = """\
# What we found

All numbers on this page come from results in this repository; `make docs` writes the page anew from them. They are
about
the [reasoning model in the box](../bvpo_analysis/lrm/shipped/weights/README.md), a trained model small enough that its
traces can be enumerated, on 256 preference pairs in each of three regimes: `style` (endings of the answer), `valid`
(which of several right answers) and `correct` (right against wrong). Intervals are 95 %, clustered by prompt. Whether a
large model behaves alike is for a study of that model to say. Symbols: [glossary](glossary.md).
"""


def _headlines() -> dict[str, Any]:
    results = json.loads((RESULTS / "mse_alpha.json").read_text(encoding="utf-8"))
    return {regime: results["regimes"][regime]["headline"] for regime in REGIMES}


def which_weight() -> str:
    """The headline of every regime."""
    heads = _headlines()
    rows = []
    for regime, head in heads.items():
        relative = {row["name"]: estimate_text(row["relative"]) for row in head["errors"]}
        rows.append(
            [
                f"`{regime}`",
                estimate_text(head["alpha"]["estimate"]),
                *(relative[name] for name in ("g_e alone", "equal mix", "optimal mix")),
                head["verdict"]["finding"],
            ]
        )
    regrets = [head["half_regret"] for head in heads.values()]
    known = [regret for regret in regrets if regret is not None]
    words = ", ".join(
        f"{percent(regret['value'])} (`{regime}`)" for regime, regret in zip(heads, regrets, strict=True) if regret
    )
    clear = [regime for regime, head in heads.items() if _inside(head["alpha"])]
    text = (
        "For batches of 16 prompts, the interval of the best weight lies inside (0, 1) in "
        f"{len(clear)} of {len(heads)} regimes, so there a mix beats either gradient alone at equal batch size. The "
        f"equal mix that the paper uses has a larger error than the best one by {words}; {_half(known)}"
    )
    columns = ["regime", "α\\*", "MSE at α = 0", "at α = ½", "at α\\*", "verdict"]
    return f"""\
## Which weight

{text}

{table(columns, rows)}

MSE as a multiple of that of g_t alone; target: the gradient of the population's marginal loss, one trace per answer,
κ = 1.

![MSE against α in the three regimes](../paper_figures/mse_alpha.png)

{source("paper_figures/results/mse_alpha.json", "make figure-data")}"""


def _inside(alpha: Mapping[str, Any]) -> bool:
    estimate = alpha["estimate"]
    return alpha["confidence_set"] == "interval" and estimate["ci_low"] > 0 and estimate["ci_high"] < 1


def _half(regrets: Sequence[Mapping[str, Any]]) -> str:
    largest = max(regret["ci_high"] for regret in regrets)
    return f"the ends of their intervals reach {percent(largest)}."


def _exact(regime: str) -> Moments:
    return load_table(regime).moments


def which_batch() -> str:
    """Exact weights by batch size, kappa and target."""
    rows = []
    for regime in REGIMES:
        moments = _exact(regime)
        weights = [mixing.optimal_alpha(moments.population(size)).estimate.value for size in SIZES]
        slow = mixing.optimal_alpha(moments.population(16), 0.1).estimate.value
        four = mixing.optimal_alpha(moments.population(16, 4)).estimate.value
        one = mixing.optimal_alpha(moments.per_prompt()).estimate.value
        rows.append([f"`{regime}`", *(f"{w:.2f}" for w in (*weights, four, slow, one))])
    columns = ["regime", *(f"B = {size}" for size in SIZES), "B = 16, K = 4", "B = 16, κ = 0.1", "per prompt"]
    grows = all(
        mixing.optimal_alpha(_exact(regime).population(SIZES[-1])).estimate.value
        > mixing.optimal_alpha(_exact(regime).population(SIZES[0])).estimate.value
        for regime in REGIMES
    )
    trend = "grows with the batch in every regime" if grows else "moves with the batch"
    return f"""\
## One weight does not fit all batches

Exact weights, with the pairs as the population and all traces enumerated: no sampling error. The weight {trend},
because
bias does not average out and variance does. More traces per answer (K) and smaller steps (κ = ηL) have the same effect.

{table(columns, rows)}

{source("bvpo_analysis/preferences/shipped/correct.exact.json", "make exact")}"""


def where_the_variance_is() -> str:
    """Exact parts of variance and bias."""
    rows, shares = [], []
    for regime in REGIMES:
        m = _exact(regime)
        var_t, trace = float(m.var_t[0]), float(np.ravel(m.trace_var)[0])
        shares.append(trace / var_t)
        cosine = mixing.cosine_to_target(m).value
        rows.append(
            [
                f"`{regime}`",
                number(var_t),
                percent(trace / var_t),
                percent(float(m.var_e[0]) / var_t),
                percent(float(m.bias_e_sq[0]) / var_t),
                number(cosine),
            ]
        )
    columns = [
        "regime",
        "Tr Cov(g_t)",
        "of it from traces",
        "Tr Cov(g_e) / Tr Cov(g_t)",
        "|b_e|² / Tr Cov(g_t)",
        "cos(μ, E g_e)",
    ]
    return f"""\
## Where the variance is

Sampling traces makes up {percent(min(shares))} to {percent(max(shares))} of the variance of g_t on one prompt; the rest
is the difference between prompts, which further traces do not reduce.

{table(columns, rows)}

Exact, one prompt, one trace. b_e is the bias of g_e, μ the marginal gradient.

{source("bvpo_analysis/preferences/shipped/correct.exact.json", "make exact")}"""


def what_else_the_money_buys() -> str:
    """The worth of an empty trace, and twice the prompts."""
    heads = _headlines()
    rows = [
        [f"`{regime}`", estimate_text(head["traces_worth"]), estimate_text(head["twice_the_prompts"])]
        for regime, head in heads.items()
    ]
    better = [r for r, head in heads.items() if head["twice_the_prompts"] and head["twice_the_prompts"]["ci_low"] > 1]
    worse = [r for r, head in heads.items() if head["twice_the_prompts"] and head["twice_the_prompts"]["ci_high"] < 1]
    words = [
        f"mixing is better in {names(better)}" if better else "",
        f"more prompts are better in {names(worse)}" if worse else "",
    ]
    open_ = [regime for regime in heads if regime not in better + worse]
    words.append(f"it is open in {names(open_)}" if open_ else "")
    said = ", ".join(word for word in words if word)
    columns = ["regime", "an empty trace is worth … further traces", "g_t on twice the prompts / best mix, MSE"]
    return f"""\
## What else the same sequences would buy

A mixed step scores four sequences per prompt, g_t alone two. Against g_t on twice the prompts: {said}. Empty-trace
sequences are shorter, so in tokens the comparison favours g_t.

{table(columns, rows)}

Left: given the data, against each prompt's own gradient. Right: batches of 16, above 1 mixing is the better use.

{source("paper_figures/results/mse_alpha.json", "make figure-data")}"""


SAME_TOKENS = {
    "equal mix": ("equal mix, more prompts", 1),
    "optimal mix": ("optimal mix, more prompts", 1),
    "g_t, mean of 2 traces": ("g_t, more traces", 2),
    "g_t, mean of 4 traces": ("g_t, more traces", 4),
    "g_t, mean of 8 traces": ("g_t, more traces", 8),
    "optimal mix, mean of 4 traces": ("optimal mix, more traces", 4),
}
"""Label, and (series, traces) in the committed rows."""


def what_the_same_tokens_buy() -> str:
    """Mixes and more traces against g_t on as many prompts as the same tokens pay for."""
    results = json.loads((RESULTS / "studies.json").read_text(encoding="utf-8"))
    size = results["batch_size"]
    found: dict[str, dict[str, Any]] = {label: {} for label in SAME_TOKENS}
    for label, (series, traces) in SAME_TOKENS.items():
        for regime in REGIMES:
            budgets = results["regimes"][regime]["budgets"]
            found[label][regime] = next(
                row for row in budgets if (row["series"], row["prompts"], row["traces"]) == (series, size, traces)
            )
    rows = [
        [
            label,
            *("not determined" if r["relative"] is None else estimate_text(_ends(r, "relative")) for r in by.values()),
        ]
        for label, by in found.items()
    ]
    mixes, means = found["optimal mix"], found["g_t, mean of 4 traces"]
    cheaper = [regime for regime, row in mixes.items() if row["high"] is not None and row["high"] < 1]
    dearer = [regime for regime, row in means.items() if row["low"] is not None and row["low"] > 1]
    text = f"The best mix beats more prompts for g_t alone in {len(cheaper)} of {len(REGIMES)} regimes"
    text += f" ({names(cheaper)})" if cheaper else ""
    text += f"; the mean of 4 traces per answer is worse than more prompts in {len(dearer)}."
    return f"""\
## What the same tokens would buy

MSE over that of g_t with one trace on as many prompts as the same tokens pay for; {size} prompts in each row. {text}

{table(["gradient", *(f"`{regime}`" for regime in REGIMES)], rows)}

{source("paper_figures/results/studies.json", "make figure-data")}"""


def how_noisy_traces_are() -> str:
    """Variance of log-probabilities with thinking and without."""
    results = json.loads((RESULTS / "studies.json").read_text(encoding="utf-8"))["regimes"]
    rows, larger = [], []
    for regime in REGIMES:
        by = {(row["quantity"], row["mode"], row["part"]): row for row in results[regime]["log_probs"]}
        thinking, empty = (by["log_prob", mode, "total"] for mode in ("thinking", "no thinking"))
        traces = by["log_prob", "thinking", "traces"]
        larger.append(thinking["low"] > empty["high"])
        rows.append([f"`{regime}`", *(estimate_text(_ends(row)) for row in (thinking, traces, empty))])
    judged = "larger with thinking than without" if all(larger) else "larger with thinking, where the intervals tell,"
    return f"""\
## How noisy traces are

The variance of log π over prompts, answers and traces is {judged} in {sum(larger)} of {len(REGIMES)} regimes.

{table(["regime", "Var log π(r, y), thinking", "of it within an answer", "Var log π(y), no thinking"], rows)}

{source("paper_figures/results/studies.json", "make figure-data")}"""


def other_estimators() -> str:
    """Variance of every estimator relative to g_t."""
    results = json.loads((RESULTS / "estimators.json").read_text(encoding="utf-8"))["regimes"]
    first = results[REGIMES[0]]
    rows = []
    for row in first:
        cells = []
        for regime in REGIMES:
            found = next((r for r in results[regime] if r["key"] == row["key"]), None)
            cells.append("" if found is None else estimate_text(_ends(found)))
        rows.append([row["label"], *cells])
    return f"""\
## Other estimators

Variance of one realisation on one prompt, as a multiple of that of g_t with one trace. A small variance says nothing of
bias: the [third notebook](../notebooks/03_estimators_and_their_geometry.ipynb) shows both, and what equal budgets buy.

{table(["estimator", *(f"`{regime}`" for regime in REGIMES)], rows)}

{source("paper_figures/results/estimators.json", "make figure-data")}"""


def _ends(row: Mapping[str, Any], name: str = "value") -> dict[str, Any]:
    return {"value": row[name], "se": 0.0, "ci_low": row["low"], "ci_high": row["high"]}


def do_intervals_cover() -> str:
    """Coverage at two sample sizes, and the known limits."""
    found = coverage_summaries(measured_coverage())
    by_name: dict[str, dict[int, Any]] = {}
    for summary in found:
        by_name.setdefault(summary.label, {})[summary.prompts] = summary
    rows = [
        [label, *(f"{100 * sizes[n].lowest:.1f}–{100 * sizes[n].highest:.1f} %" for n in CLEAR_SIZES)]
        for label, sizes in by_name.items()
    ]
    replications = min(summary.replications for summary in found)
    settings = max(summary.settings for summary in found)
    limits = "\n".join(f"* {limit.text}" for limit in LIMITS)
    return f"""\
## Do the intervals keep their word

Share of 95 % intervals that hold the truth, over {number(replications)} samples in each of {settings} settings per
sample
size: lowest and highest setting.

{table(["number", *(f"{n} prompts" for n in CLEAR_SIZES)], rows)}

Where they do not, and what to do:

{limits}

{source("bvpo_analysis/coverage/measured.csv", "make coverage")}"""


def what_is_proved() -> str:
    """Counts of claims, and the statements that need a condition."""
    claims = load_measured()
    needed = [claim for claim in claims if claim["only_if"]]
    failed = [claim for claim in claims if not claim["confirmed"]]
    rows = [[claim["statement"], claim["only_if"]] for claim in needed]
    judged = "all measurements agree" if not failed else f"{len(failed)} measurements disagree"
    return f"""\
## What is proved, and what needs a condition

{len(claims)} statements, each measured by another route than its proof: {judged}. {len(claims) - len(needed)} hold as
worded. {len(needed)} are too strong as worded, shown by a counterexample; with the condition they hold:

{table(["statement", "holds only if"], rows).replace("|--:|", "|---|")}

{source("bvpo_analysis/claims/measured.json", "make claims")}"""


def what_the_bounds_say() -> str:
    """Tightness of the SGD bounds, and runs on the language model."""
    results = json.loads((RESULTS / "sgd.json").read_text(encoding="utf-8"))
    tight = pd.DataFrame(results["sgd_tightness"])
    tight = tight[tight.scheme == "constant"]
    kappas = sorted(tight.kappa.unique())
    shown = [kappas[0], kappas[len(kappas) // 2], kappas[-1]]
    rows = [
        [str(bound), *(span(part[part.kappa == kappa].tightness.tolist()) for kappa in shown)]
        for bound, part in tight.groupby("bound", sort=False)
    ]
    runs = [run for regime in REGIMES for run in measured_runs(regime)]
    held, bounded = sum(run.held for run in runs), sum(run.bounded for run in runs)
    curvature = [
        [f"`{regime}`", *(number(measured_smoothness(regime)[name].smoothness) for name in ("SGD", "Adam"))]
        for regime in REGIMES
    ]
    broken = f"{results['violated']} checks of a bound failed" if results["violated"] else "No bound was broken"
    return f"""\
## What the bounds say about runs

{broken}. How loose they are, as bound over measured average of |∇f|², lowest to highest over problems:

{table(["bound", *(f"κ = {number(kappa)}" for kappa in shown)], rows)}

On the language model itself, SGD on the exact marginal loss of a few prompts: the bound held at {held} of {bounded}
iterates.
The curvature at the reference, which turns a learning rate into κ:

{table(["regime", "L for SGD", "L in Adam's metric"], curvature)}

![best weight against step size](../paper_figures/best_weight.png)

{source("paper_figures/results/sgd.json", "make figure-data")}"""


def away_from_the_reference() -> str:
    """The trace bias along a path of training."""
    rows = []
    for regime in REGIMES:
        path = off_reference_rows(regime)
        for point in path[-3:]:
            rows.append(
                [
                    f"`{regime}`, {percent(point.share)} of the way",
                    number(point.bias),
                    number(point.predicted),
                    percent(point.ess_share),
                    f"{point.alpha:.2f}",
                    f"{point.price:.3f}",
                ]
            )
    columns = [
        "checkpoint",
        "|b_t| / |μ|",
        "leading term",
        "traces that still count",
        "α\\*",
        "price of taking b_t = 0",
    ]
    return f"""\
## Away from the reference

Once the policy leaves its reference, traces sampled from the reference are no longer its own and g_t is biased. Exact
numbers on the way from the reference to the end of a short DPO run; the leading term predicts the bias from scores at
the
reference. The price is the MSE at the weight that ignores b_t over the least MSE, B = 16.

{table(columns, rows)}

{source("bvpo_analysis/off_reference/measured.json", "make off-reference")}"""


SECTIONS: tuple[Callable[[], str], ...] = (
    which_weight,
    which_batch,
    where_the_variance_is,
    how_noisy_traces_are,
    what_else_the_money_buys,
    what_the_same_tokens_buy,
    other_estimators,
    training_findings.section,
    do_intervals_cover,
    what_is_proved,
    what_the_bounds_say,
    away_from_the_reference,
)
"""In the order of the page."""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(section() + "\n" for section in SECTIONS)])
