"""Training, in the report: what was predicted before the first step beside what runs gave, from the committed tables.

Nothing here is typed in: every number and every verdict is read off the tables of ``make train-study``.
"""

from collections.abc import Sequence
from typing import Any

from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import estimate_text, number, weight_number
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.tables import jsonable
from bvpo_analysis.training_study.arms import BATCH
from bvpo_analysis.training_study.committed import Row, study_estimate, study_rows

CRITERIA: dict[str, str] = {
    "mse": "least MSE of a batch (κ = 1)",
    "kappa": "least |b_c|² + κ Tr Cov(g_c)",
    "descent": "least bound on the loss after one step",
    "cosine": "largest cosine to μ",
    "data": "least MSE of a batch as large as the data set",
}
"""What a predicted weight is best at."""
OUTCOMES: dict[str, str] = {
    "marginal_loss": "held-out marginal loss",
    "win_rate_thinking": "win rate, thinking",
    "win_rate_empty": "win rate, an empty trace",
}
BASE, HALF, QUIET = "alpha=1", "alpha=0.5", "4 traces"
"""DPO on one trace; the paper's mix; the same expected gradient as DPO at the reference, with less variance."""


def training_sections(regime: str) -> tuple[Section, ...]:
    """The training sections of a shipped regime; none where the committed tables lack it.

    Example:
        >>> [section.anchor for section in training_sections("no such regime")]
        []
    """
    if not study_rows("sweep", regime=regime):
        return ()
    return (
        sweep_section(regime),
        methods_section(regime),
        mechanism_section(regime),
        *overhead_sections(regime),
    )


def sweep_section(regime: str) -> Section:
    """Predicted weights, the sweep, and how well the one ranks the other."""
    rows = study_rows("sweep", regime=regime, optimiser="sgd")
    losses = [study_estimate(row, "marginal_loss") for row in rows]
    columns: list[tuple[str, Kind]] = [("weight α of g_t", "number")]
    columns += [(label, "estimate") for label in OUTCOMES.values()]
    cells = [[row["alpha"], *(study_estimate(row, name) for name in OUTCOMES)] for row in rows]
    best = min(range(len(rows)), key=lambda i: float("inf") if (loss := losses[i]) is None else loss.value)
    predicted = [
        [
            CRITERIA[row["criterion"]],
            row["optimiser"],
            row["source"],
            row["kappa"],
            row["batch_size"],
            _weight(row),
        ]
        for row in study_rows("predictions", regime=regime)
    ]
    ranked = [
        [
            CRITERIA[row["criterion"]],
            row["optimiser"],
            row["source"],
            OUTCOMES[row["outcome"]],
            row["predicted_best"],
            row["realised_best"],
            study_estimate(row, "spearman"),
            study_estimate(row, "price"),
        ]
        for row in study_rows("rankings", regime=regime)
    ]
    return Section(
        "training",
        "Does training obey? Predicted and realised weights",
        "Training",
        text=(
            f"Runs of SGD on the model in the box with fixed weights, {_seeds(rows)} per weight; the reward is that of "
            "the regime, answers are drawn for fresh prompts, and intervals of win rates, accuracies and held-out "
            "losses are over runs and prompts, all others over runs. All predictions were made before the first step.",
            *verdict(regime),
        ),
        tables=(
            table("outcome of every weight", columns, cells, best=best),
            table(
                "weights predicted before training",
                [
                    ("best at", "words"),
                    ("optimiser", "words"),
                    ("moments", "words"),
                    ("κ", "number"),
                    ("batch size", "number"),
                    ("α, unclipped", "estimate"),
                ],
                predicted,
            ),
            table(
                "prediction against outcome over the sweep",
                [
                    ("prediction", "words"),
                    ("optimiser", "words"),
                    ("moments", "words"),
                    ("outcome", "words"),
                    ("predicted best", "number"),
                    ("realised best", "number"),
                    ("rank correlation", "estimate"),
                    ("price of the prediction", "estimate"),
                ],
                ranked,
            ),
        ),
        notes=(
            "The rank correlation is Spearman's over the five weights, a mean over runs. The price is by how much the "
            "outcome at the predicted weight is worse than at the best weight of the sweep.",
        ),
        folded=True,
    )


def verdict(regime: str) -> list[str]:
    """Sentences that say what came out, computed from the tables."""
    lines = []
    exact = {row["criterion"]: row for row in study_rows("predictions", regime=regime, optimiser="sgd", source="exact")}
    if exact:
        listed = "; ".join(f"{CRITERIA[name]}: {weight_number(row['alpha'])}" for name, row in exact.items())
        lines.append(f"Predicted weights from exact moments: {listed}.")
    for name, label in OUTCOMES.items():
        rows = study_rows("rankings", regime=regime, optimiser="sgd", source="exact", outcome=name)
        if rows:
            one = rows[0]
            highest = max(row["spearman"] if row["spearman"] is not None else -2.0 for row in rows)
            first = [row for row in rows if row["spearman"] == highest]
            if not first:
                continue
            agreement = _text(study_estimate(first[0], "spearman"))
            listed = ", ".join(f"“{CRITERIA[row['criterion']]}”" for row in first)
            lines.append(
                f"By {label.replace(', ', ' with ')} the best weight of the sweep is {number(one['realised_best'])} "
                f"(in {number(one['best_in_seeds'])} of {number(one['seeds'])} runs); it is ranked best by {listed}, "
                f"rank correlation {agreement}."
            )
    half = study_rows("training", regime=regime, arm=HALF)
    if half:
        lines.append(
            _compared(study_estimate(half[0], "marginal_loss_minus_dpo"), "The equal mix", "held-out loss", low=True)
        )
        for mode, words in (("thinking", "thinking"), ("empty", "an empty trace")):
            row = study_rows("win_rates", regime=regime, arm=HALF, mode=mode)
            if row:
                found = study_estimate(row[0], "minus_dpo")
                lines.append(_compared(found, "The equal mix", f"win rate with {words}", low=False))
    lines += mechanism(regime)
    return [line for line in lines if line]


def mechanism(regime: str) -> list[str]:
    """Is it the variance? What mixing and averaging four traces do to the noise, and to the loss."""
    base, half, quiet = (study_rows("training", regime=regime, arm=name) for name in (BASE, HALF, QUIET))
    if not base or not half:
        return []
    lines = []
    pairs = (
        ("gradient_variance", "variance of its batch gradient"),
        ("displacement_noise", "noise left in the weights"),
    )
    parts = [
        f"{words} {number(half[0][name] / base[0][name])} times"
        for name, words in pairs
        if half[0].get(name) and base[0].get(name)
    ]
    if parts:
        lines.append(f"The equal mix has {' and '.join(parts)} that of DPO.")
    if quiet:
        found = study_estimate(quiet[0], "marginal_loss_minus_dpo")
        mixed = study_estimate(half[0], "marginal_loss_minus_dpo")
        if found is not None and mixed is not None:
            lines.append(
                "Averaging four traces, which lowers the variance and adds no bias at the reference, changes the "
                f"held-out loss by {_text(found)}; the equal mix changes it by {_text(mixed)}. "
                f"{_explained(found, mixed)}"
            )
    return lines


def _explained(quiet: Estimate, mixed: Estimate) -> str:
    if not mixed.ci_high < 0:
        return "The mix does not lower the loss, so there is no gain for the variance to explain."
    if quiet.ci_high < 0:
        return "Both lower it: the gain is what less variance alone would give in kind."
    return "Less variance alone does not lower it, so the variance does not explain the gain of the mix."


def methods_section(regime: str) -> Section:
    """Every arm in both modes: win rates, then accuracies."""
    rates = [row for row in study_rows("win_rates", regime=regime) if row["group"] != "pilot"]
    accuracies = [row for row in study_rows("accuracy", regime=regime) if row["group"] != "pilot"]
    won = [
        [
            row["arm"],
            row["mode"],
            row["seeds"],
            study_estimate(row, "win_rate"),
            study_estimate(row, "length_controlled"),
            study_estimate(row, "minus_dpo"),
            study_estimate(row, "kl"),
            study_estimate(row, "trace_entropy"),
        ]
        for row in rates
    ]
    right = [
        [
            row["arm"],
            row["mode"],
            row["before"],
            study_estimate(row, "after"),
            study_estimate(row, "change"),
            study_estimate(row, "preference_accuracy"),
        ]
        for row in accuracies
    ]
    return Section(
        "training_methods",
        "Training methods compared",
        "Methods",
        text=(
            "Win rate against the reference by the reward of the regime, ties half, each policy with thinking and with "
            "an empty trace (the paper's Table 1 in miniature); then the task accuracy before and after (its Table 2).",
        ),
        tables=(
            table(
                "win rates",
                [
                    ("arm", "words"),
                    ("mode", "words"),
                    ("runs", "number"),
                    ("win rate", "estimate"),
                    ("at equal length", "estimate"),
                    ("less that of DPO", "estimate"),
                    ("KL to the reference", "estimate"),
                    ("entropy of traces", "estimate"),
                ],
                won,
            ),
            table(
                "task accuracy",
                [
                    ("arm", "words"),
                    ("mode", "words"),
                    ("before", "number"),
                    ("after", "estimate"),
                    ("change", "estimate"),
                    ("preference accuracy, held out", "estimate"),
                ],
                right,
            ),
        ),
        notes=(_missing(rates),),
        folded=True,
    )


def mechanism_section(regime: str) -> Section:
    """How quiet training was, and alpha* along it."""
    rows = [row for row in study_rows("training", regime=regime) if row["group"] != "pilot"]
    quiet = [
        [
            row["arm"],
            row["gradient_variance"],
            study_estimate(row, "roughness"),
            study_estimate(row, "steps_to_level"),
            study_estimate(row, "marginal_loss"),
            study_estimate(row, "gap"),
            row["displacement_noise"],
        ]
        for row in rows
    ]
    path = [
        [row["arm"], row["step"], row["alpha"], row["used"], row["var_t"], row["var_e"], row["trace_var"]]
        for row in study_rows("alpha_path", regime=regime)
    ]
    level = next((row["level"] for row in rows if row["level"] is not None), None)
    return Section(
        "training_gradients",
        "Gradients and losses along training",
        "Gradients in training",
        text=(
            "Variance of the batch gradient of each arm at probes along one run, change of the training loss from step "
            f"to step, steps until the held-out marginal loss is at {number(level)} (that of DPO half-way), held-out "
            "loss, held-out less trained loss, and the root mean square deviation of the final weights between runs.",
        ),
        tables=(
            table(
                "noise and speed",
                [
                    ("arm", "words"),
                    ("Tr Cov(g_c)", "number"),
                    ("roughness", "estimate"),
                    ("steps to the level", "estimate"),
                    ("held-out loss", "estimate"),
                    ("gap", "estimate"),
                    ("noise in the weights", "number"),
                ],
                quiet,
            ),
            table(
                "α* along training",
                [
                    ("arm", "words"),
                    ("step", "number"),
                    ("α*", "number"),
                    ("weight taken", "number"),
                    ("Tr Cov(g_t), one prompt", "number"),
                    ("Tr Cov(g_e), one prompt", "number"),
                    ("trace part", "number"),
                ],
                path,
            ),
        ),
        folded=True,
    )


def overhead_sections(regime: str) -> tuple[Section, ...]:
    """What a step of every method costs, and the losses at equal cost; none where it was not measured."""
    rows = study_rows("overhead")
    if not rows:
        return ()
    base = next(row for row in rows if row["method"] == "dpo")
    cells = [
        [
            row["method"],
            row["sequences"],
            row["tokens"],
            row["flops"] / 1e9,
            row["cpu_seconds"],
            row["cpu_seconds"] / base["cpu_seconds"],
            row["memory_mb"],
        ]
        for row in rows
    ]
    columns: list[tuple[str, Kind]] = [
        ("method", "words"),
        ("sequences", "number"),
        ("tokens", "number"),
        ("10⁹ operations", "number"),
        ("CPU seconds", "number"),
        ("over DPO", "number"),
        ("memory, MB", "number"),
    ]
    at_equal = [
        [
            row["arm"],
            row["tokens"],
            study_estimate(row, "equal_data"),
            study_estimate(row, "equal_tokens"),
            study_estimate(row, "minus_dpo"),
        ]
        for row in study_rows("equal_tokens", regime=regime)
        if row["group"] in ("sweep", "method")
    ]
    text = (
        f"Per step of {BATCH} prompts, one thread; the time depends on the machine and on what else it does. Below, "
        "the held-out marginal loss after as many steps as DPO, and after as many tokens as DPO has read at its end, "
        "read off the same runs: an arm with dearer steps is then seen before its learning rate has come down."
    )
    section = Section(
        "training_overhead",
        "What a training step costs",
        "Cost of a step",
        text=(text,),
        tables=(
            table("cost of a step", columns, cells),
            table(
                "equal data and equal tokens",
                [
                    ("arm", "words"),
                    ("tokens read", "number"),
                    ("loss at equal data", "estimate"),
                    ("loss at equal tokens", "estimate"),
                    ("the latter less that of DPO", "estimate"),
                ],
                at_equal,
            ),
        ),
        folded=True,
    )
    return (section,)


def _compared(found: Estimate | None, what: str, measure: str, *, low: bool) -> str:
    """One sentence on a difference to DPO."""
    if found is None:
        return ""
    better, worse = ("lower", "higher") if low else ("higher", "lower")
    if found.ci_low != found.ci_low:
        return f"{what} has a {measure} that differs from that of DPO by {_text(found)}, from too few runs to say more."
    if found.ci_high < 0 or found.ci_low > 0:
        side = better if (found.value < 0) == low else worse
        return f"{what} has a {side} {measure} than DPO: difference {_text(found)}."
    return f"{what} has a {measure} that is not told from that of DPO: difference {_text(found)}."


def _text(found: Estimate | None) -> str:
    return "n/a" if found is None else estimate_text(jsonable(found))


def _weight(row: Row) -> Estimate | None:
    return study_estimate(row | {"seeds": 0}, "alpha")


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({int(row["seeds"]) for row in rows})
    return f"{counts[0]} runs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"


def _missing(rows: Sequence[Row]) -> str:
    few: dict[int, list[Any]] = {}
    for row in rows:
        if row["mode"] == "thinking":
            few.setdefault(int(row["seeds"]), []).append(row["arm"])
    return "Runs per arm: " + "; ".join(f"{count}: {', '.join(arms)}" for count, arms in sorted(few.items())) + "."
