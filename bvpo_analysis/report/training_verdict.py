"""What training says in words: predicted against realised weights, the equal mix against DPO, and whether it is noise.

Every number and every verdict is read off the tables of a training study.
"""

from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import estimate_text, number, share_text, weight_number
from bvpo_analysis.tables import jsonable
from bvpo_analysis.training_study.committed import Row, StudyRows, study_estimate

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
OPTIMISERS = {"sgd": "With SGD", "adamw": "With AdamW, in its own metric,"}
BASE, HALF, QUIET = "alpha=1", "alpha=0.5", "4 traces"
"""DPO on one trace; the paper's mix; the same expected gradient as DPO at the reference, with less variance."""


def verdict(rows_of: StudyRows, regime: str) -> list[str]:
    """Sentences that say what came out, computed from the tables."""
    lines = ranking(rows_of, regime, "sgd", "enumerated") + ranking(rows_of, regime, "adamw", "sampled")
    half = rows_of("training", regime=regime, arm=HALF)
    if half:
        lines.append(
            _compared(study_estimate(half[0], "marginal_loss_minus_dpo"), "The equal mix", "held-out loss", low=True)
        )
        for mode, words in (("thinking", "thinking"), ("empty", "an empty trace")):
            row = rows_of("win_rates", regime=regime, arm=HALF, mode=mode)
            if row:
                found = study_estimate(row[0], "minus_dpo")
                lines.append(_compared(found, "The equal mix", f"win rate with {words}", low=False))
    lines += mechanism(rows_of, regime)
    return [line for line in lines if line]


def ranking(rows_of: StudyRows, regime: str, optimiser: str, source: str) -> list[str]:
    """Predicted and realised best weights of one optimiser; nothing where the sweep was not run with it."""
    predicted = rows_of("predictions", regime=regime, optimiser=optimiser, source=source)
    ranked = rows_of("rankings", regime=regime, optimiser=optimiser, source=source)
    if not predicted or not ranked:
        return []
    listed = "; ".join(f"{CRITERIA[row['criterion']]}: {weight_number(row['alpha'])}" for row in predicted)
    lines = [f"{OPTIMISERS[optimiser]} the weights predicted from {source} traces are, {listed}."]
    for name, label in OUTCOMES.items():
        rows = [row for row in ranked if row["outcome"] == name and row["spearman"] is not None]
        if not rows:
            continue
        highest = max(row["spearman"] for row in rows)
        first = [row for row in rows if row["spearman"] == highest]
        criteria = ", ".join(f"“{CRITERIA[row['criterion']]}”" for row in first)
        one = first[0]
        lines.append(
            f"By {label.replace(', ', ' with ')} the best weight of the sweep is {number(one['realised_best'])} "
            f"(in {number(one['best_in_seeds'])} of {number(one['seeds'])} runs{_share(one)}). Of "
            f"{number(len(CRITERIA))} criteria the one that turned out to rank the sweep best is {criteria}, rank "
            f"correlation {text_of(study_estimate(one, 'spearman'))}."
        )
    return lines


def _share(row: Row) -> str:
    """How often the weight is best where runs and prompts are drawn again."""
    share = row.get("best_share")
    return "" if share is None else f", and in {share_text(share)} of draws of runs and prompts"


def mechanism(rows_of: StudyRows, regime: str) -> list[str]:
    """Is it the variance? What mixing and averaging four traces do to the noise, and to the loss."""
    half, quiet = (rows_of("training", regime=regime, arm=name) for name in (HALF, QUIET))
    if not half:
        return []
    parts = []
    ratios = [study_estimate(rows[0], "gradient_variance_over_dpo") for rows in (half, quiet) if rows]
    if ratios and ratios[0] is not None:
        averaged = f"; averaging four traces has {text_of(ratios[1])} times" if len(ratios) > 1 and ratios[1] else ""
        parts.append(f"The equal mix has {text_of(ratios[0])} times the variance of DPO's batch gradient{averaged}.")
    wins = [rows_of("win_rates", regime=regime, arm=name, mode="thinking") for name in (HALF, QUIET)]
    for found, column, direct, measure, low in (
        ([half, quiet], "marginal_loss_minus_dpo", "marginal_loss_minus_averaged", "held-out loss", True),
        (wins, "minus_dpo", "minus_averaged", "win rate with thinking", False),
    ):
        if not all(found):
            continue
        mixed, averaged_only = (study_estimate(rows[0], column) for rows in found)
        between = study_estimate(found[0][0], direct)
        if mixed is not None and averaged_only is not None and between is not None:
            parts.append(
                "Averaging four traces, which adds no bias at the reference, changes the "
                f"{measure} by {text_of(averaged_only)}; the equal mix changes it by {text_of(mixed)}, "
                f"{text_of(between)} more than averaging. {_explained(averaged_only, mixed, between, low=low)}"
            )
    return parts


def _explained(quiet: Estimate, mixed: Estimate, between: Estimate, *, low: bool) -> str:
    """Whether less variance alone does what the mix does; better is low or high.

    Args:
        quiet, mixed: changes against DPO by averaging traces and by the mix.
        between: the second less the first, run by run.
        low: whether low is better.
    """
    verb = "lower" if low else "raise"

    def gains(found: Estimate) -> bool:
        return found.ci_high < 0 if low else found.ci_low > 0

    if not gains(mixed):
        return f"That the mix {verb}s it is not established, and so no gain for the variance to explain."
    if gains(between):
        return f"The mix {verb}s it by more than averaging does, by its bias or by what variance it saves beyond that."
    if gains(quiet):
        return f"Both {verb} it, and the two are not told apart: less variance alone could give the gain."
    return "The gain of the mix is not told apart from what averaging does."


def _compared(found: Estimate | None, what: str, measure: str, *, low: bool) -> str:
    """One sentence on a difference to DPO."""
    if found is None:
        return ""
    better, worse = ("lower", "higher") if low else ("higher", "lower")
    if found.ci_low != found.ci_low:
        return (
            f"{what} has a {measure} that differs from that of DPO by {text_of(found)}, from too few runs to say more."
        )
    if found.ci_high < 0 or found.ci_low > 0:
        side = better if (found.value < 0) == low else worse
        return f"{what} has a {side} {measure} than DPO: difference {text_of(found)}."
    return f"{what} has a {measure} that is not told from that of DPO: difference {text_of(found)}."


def text_of(found: Estimate | None) -> str:
    """An estimate with its interval."""
    return "n/a" if found is None else estimate_text(jsonable(found))
