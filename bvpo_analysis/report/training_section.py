"""Training, in the report: what was predicted before the first step beside what runs gave, from a study's tables.

Nothing here is typed in: every number and every verdict is read off the tables of ``make train-study``, the committed
ones or those of another folder.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import number
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.report.training_verdict import CRITERIA, OUTCOMES, verdict
from bvpo_analysis.training_study.arms import BATCH
from bvpo_analysis.training_study.committed import FOLDER, Row, StudyRows, study_estimate, study_rows


def training_sections(regime: str, folder: Path = FOLDER) -> tuple[Section, ...]:
    """The training sections of a shipped regime; none where the tables lack it.

    Args:
        regime: which pairs.
        folder: where the tables are.

    Example:
        >>> [section.anchor for section in training_sections("no such regime")]
        []
    """
    rows_of = partial(rows_there, folder)
    if not rows_of("sweep", regime=regime, optimiser="sgd"):
        return ()
    return (
        sweep_section(rows_of, regime),
        methods_section(rows_of, regime),
        mechanism_section(rows_of, regime),
        *overhead_sections(rows_of, regime),
    )


def rows_there(folder: Path, table: str, **fixed: Any) -> list[Row]:
    """The rows of a table; none where a study had none to write, as one without probes has no path of alpha*."""
    there = folder == FOLDER or (folder / f"{table}.csv").is_file()
    return study_rows(table, folder, **fixed) if there else []


def sweep_section(rows_of: StudyRows, regime: str) -> Section:
    """Predicted weights, the sweep, and how well the one ranks the other."""
    rows = rows_of("sweep", regime=regime, optimiser="sgd")
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
        for row in rows_of("predictions", regime=regime)
    ]
    ranked = [
        [
            CRITERIA[row["criterion"]],
            row["optimiser"],
            row["source"],
            OUTCOMES[row["outcome"]],
            row["predicted_best"],
            row["realised_best"],
            row.get("best_share"),
            study_estimate(row, "spearman"),
            study_estimate(row, "price"),
        ]
        for row in rows_of("rankings", regime=regime)
    ]
    return Section(
        "training",
        "Does training obey? Predicted and realised weights",
        "Training",
        text=(
            f"Runs of SGD on the model in the box with fixed weights, {_seeds(rows)} per weight; the reward is that of "
            "the regime, and answers are drawn for fresh prompts. Intervals are over runs and over the prompts or "
            "pairs that are measured, those of predicted weights over prompts. Predictions use what is known before "
            "the first step.",
            *verdict(rows_of, regime),
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
                    ("best in draws", "share"),
                    ("rank correlation", "estimate"),
                    ("price of the prediction", "estimate"),
                ],
                ranked,
            ),
        ),
        notes=(
            "The rank correlation is Spearman's over the five weights, a mean over runs. The price is by how much the "
            "outcome at the predicted weight is worse than at the best weight of the sweep. Both have percentile "
            "intervals from runs and from prompts or pairs drawn again, and “best in draws” is the share of these "
            "draws in which the best weight is the best.",
        ),
        folded=True,
    )


def methods_section(rows_of: StudyRows, regime: str) -> Section:
    """Every arm in both modes: win rates, then accuracies."""
    rates = [row for row in rows_of("win_rates", regime=regime) if row["group"] != "pilot"]
    accuracies = [row for row in rows_of("accuracy", regime=regime) if row["group"] != "pilot"]
    won = [
        [
            row["arm"],
            row["mode"],
            row["seeds"],
            study_estimate(row, "win_rate"),
            study_estimate(row, "length_controlled"),
            study_estimate(row, "minus_dpo"),
            study_estimate(row, "against_dpo"),
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
            "an empty trace (the paper's Table 1 in miniature); then the task accuracy before and after (its Table 2). "
            "DPO stands for g_t alone, trained in the same way: with the same loss, optimiser, rate and seeds.",
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
                    ("won against DPO", "estimate"),
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


def mechanism_section(rows_of: StudyRows, regime: str) -> Section:
    """How quiet training was, and alpha* along it."""
    rows = [row for row in rows_of("training", regime=regime) if row["group"] != "pilot"]
    quiet = [
        [
            row["arm"],
            study_estimate(row, "gradient_variance"),
            study_estimate(row, "gradient_variance_over_dpo"),
            study_estimate(row, "roughness"),
            study_estimate(row, "steps_to_level"),
            _reached(row),
            study_estimate(row, "marginal_loss"),
            study_estimate(row, "gap"),
            row["displacement_noise"],
            row["failed"],
        ]
        for row in rows
    ]
    path = [
        [row["arm"], row["step"], study_estimate(row, "alpha"), row["used"]]
        + [study_estimate(row, name) for name in ("var_t", "var_e", "trace_var")]
        for row in rows_of("alpha_path", regime=regime)
    ]
    return Section(
        "training_gradients",
        "Gradients and losses along training",
        "Gradients in training",
        text=(
            "Variance of the batch gradient of each arm at probes along its runs, where every trace of the probed "
            "pairs is enumerated, with intervals over runs and pairs; change of the training loss from step to step, "
            "steps until the held-out marginal loss is where that of DPO is half-way, over the runs that get there, "
            "held-out loss, held-out less trained loss, and the root mean square deviation of the final weights "
            "between runs. The roughness is of the loss that is trained, which differs between weights.",
        ),
        tables=(
            table(
                "noise and speed",
                [
                    ("arm", "words"),
                    ("Tr Cov(g_c)", "estimate"),
                    ("over that of DPO", "estimate"),
                    ("roughness", "estimate"),
                    ("steps to the level", "estimate"),
                    ("runs that reach it", "words"),
                    ("held-out loss", "estimate"),
                    ("gap", "estimate"),
                    ("noise in the weights", "number"),
                    ("failed runs", "number"),
                ],
                quiet,
            ),
            table(
                "α* along training",
                [
                    ("arm", "words"),
                    ("step", "number"),
                    ("α*", "estimate"),
                    ("weight taken", "number"),
                    ("Tr Cov(g_t), one prompt", "estimate"),
                    ("Tr Cov(g_e), one prompt", "estimate"),
                    ("trace part", "estimate"),
                ],
                path,
            ),
        ),
        folded=True,
    )


def overhead_sections(rows_of: StudyRows, regime: str) -> tuple[Section, ...]:
    """What a step of every method costs, and the losses at equal cost; none where it was not measured."""
    rows = rows_of("overhead")
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
        for row in rows_of("equal_tokens", regime=regime)
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


def _weight(row: Row) -> Estimate | None:
    return study_estimate(row | {"seeds": 0}, "alpha")


def _reached(row: Row) -> str:
    return "" if row.get("reached_by") is None else f"{number(row['reached_by'])} of {number(row['seeds'])}"


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({int(row["seeds"]) for row in rows})
    return f"{counts[0]} runs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"


def _missing(rows: Sequence[Row]) -> str:
    few: dict[int, list[Any]] = {}
    for row in rows:
        if row["mode"] == "thinking":
            few.setdefault(int(row["seeds"]), []).append(row["arm"])
    return "Runs per arm: " + "; ".join(f"{count}: {', '.join(arms)}" for count, arms in sorted(few.items())) + "."
