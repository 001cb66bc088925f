"""The part of "What we found" about training: tables of the training study, where they are committed."""

from collections.abc import Sequence
from pathlib import Path

from markup import estimate_cell, names, source, table

from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.report.formatting import number, share_text
from bvpo_analysis.training_study.committed import FOLDER, Row, study_estimate, study_rows

MISSING = """\
## Training

The tables of the training study are not there yet; `make train-study` makes them."""
MAIN = ("sweep", "method", "loss")
"""Groups of arms that are shown; the others vary the learning rate, the weight decay and the optimiser."""
MODES = ("thinking", "empty")


def section(folder: Path = FOLDER) -> str:
    """All of it, or one sentence where the study has not been run."""
    if not (folder / "win_rates.csv").exists():
        return MISSING
    shown = (_opening, _win_rates, _accuracy, _training, _rankings, _path, _overhead)
    parts = [part(folder) for part in shown]
    parts.append(source("bvpo_analysis/training_study/measured", "make train-study"))
    return "\n\n".join(part for part in parts if part)


def _rows(name: str, folder: Path) -> list[Row]:
    return [row for row in study_rows(name, folder) if row.get("group") in MAIN]


def _arm(row: Row) -> str:
    return f"`{row['regime']}`, {row['arm']}"


def _cell(row: Row, name: str) -> str:
    found = study_estimate(row, name)
    return "" if found is None else estimate_cell(found)


def _opening(folder: Path) -> str:
    """Where mixes beat g_t alone, and where they do not; decided by intervals over seeds."""
    seeds = [int(row["seeds"]) for row in _rows("win_rates", folder)]
    lines = []
    for regime in REGIMES:
        mixes = [
            row
            for row in study_rows("win_rates", folder, regime=regime, mode="thinking", group="sweep")
            if row["arm"] not in ("alpha=1", "alpha=0") and row.get("minus_dpo") is not None
        ]
        if not mixes:
            lines.append(f"* `{regime}`: not run.")
            continue
        better = [row["arm"] for row in mixes if (row.get("minus_dpo_low") or 0) > 0]
        worse = [row["arm"] for row in mixes if (row.get("minus_dpo_high") or 0) < 0]
        said = [f"{names(better)} win more often than g_t alone" if better else ""]
        said.append(f"{names(worse)} win less often" if worse else "")
        said = [text for text in said if text] or ["no mix is told from g_t alone"]
        lines.append(f"* `{regime}`: of {len(mixes)} mixes, by the win rate with thinking, {', '.join(said)}.")
    return (
        "## Training\n\nShort runs from the reference with different methods and weights, the same batches per seed, "
        f"{min(seeds)} to {max(seeds)} seeds per arm. Intervals are over seeds and over the prompts or pairs "
        "that are measured; those of roughness are over seeds. Differences are to g_t alone (alpha=1), trained in the "
        "same way, seed by seed.\n\n" + "\n".join(lines)
    )


def _by_arm(name: str, folder: Path) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in _rows(name, folder):
        found.setdefault(_arm(row), {})[str(row["mode"])] = row
    return found


def _both(name: str, folder: Path, columns: Sequence[str]) -> list[list[str]]:
    """A row per arm: the columns in both modes."""
    rows = []
    for arm, modes in _by_arm(name, folder).items():
        shown = [_cell(modes[mode], column) if mode in modes else "" for mode in MODES for column in columns]
        rows.append([arm, *shown])
    return rows


def _win_rates(folder: Path) -> str:
    columns = ["regime, arm", "win rate, thinking", "minus g_t alone", "win rate, no thinking", "minus g_t alone"]
    text = "Against the reference on fresh prompts, by the reward of the regime; ties count half."
    rows = _both("win_rates", folder, ("win_rate", "minus_dpo"))
    return f"### Win rates\n\n{text}\n\n{table(columns, rows)}"


def _accuracy(folder: Path) -> str:
    rows = []
    for arm, modes in _by_arm("accuracy", folder).items():
        cells = []
        for mode in MODES:
            row = modes.get(mode, {})
            cells += [number(row.get("before")), _cell(row, "after")] if row else ["", ""]
        rows.append([arm, *cells])
    columns = ["regime, arm", "before, thinking", "after", "before, no thinking", "after"]
    return f"### Reasoning accuracy\n\nShare of right digits on fresh prompts.\n\n{table(columns, rows)}"


def _training(folder: Path) -> str:
    shown = {
        "gradient variance": "gradient_variance",
        "roughness of the loss": "roughness",
        "steps to a fixed loss": "steps_to_level",
        "held-out marginal loss": "marginal_loss",
        "train-held-out gap": "gap",
    }
    rows = [[_arm(row), *(_cell(row, name) for name in shown.values())] for row in _rows("training", folder)]
    return f"### How quiet and how fast\n\n{table(['regime, arm', *shown], rows)}"


def _rankings(folder: Path) -> str:
    rows = [
        [
            f"`{row['regime']}`, {row['optimiser']}, {row['criterion']}",
            str(row["outcome"]).replace("_", " "),
            number(row["predicted_best"]),
            number(row["realised_best"]),
            share_text(row.get("best_share")),
            _cell(row, "spearman"),
        ]
        for row in study_rows("rankings", folder)
        if row["source"] == "enumerated"
    ]
    if not rows:
        return ""
    columns = [
        "regime, optimiser, criterion",
        "outcome",
        "best predicted",
        "best realised",
        "in draws",
        "rank correlation",
    ]
    text = (
        "Weights of the sweep, ranked before training with all traces enumerated, and after it by outcomes. “In draws” "
        "is how often the weight is the best where runs and prompts are drawn again."
    )
    return f"### Predicted and realised weights\n\n{text}\n\n{table(columns, rows)}"


def _path(folder: Path) -> str:
    rows = [
        [f"{_arm(row)}, step {row['step']}", _cell(row, "alpha"), number(row.get("used"))]
        for row in _rows("alpha_path", folder)
        if row["arm"] in ("alpha=1", "alpha=0.5", "alpha=auto", "auto") and row.get("alpha") is not None
    ]
    if not rows:
        return ""
    text = (
        "The optimal weight at the policy as it is then, with all traces of the probed pairs enumerated, and the "
        "weight that the runs took."
    )
    shown = table(["regime, arm, step", "α\\*", "weight used"], rows)
    return f"### α\\* along training\n\n{text}\n\n{shown}"


def _overhead(folder: Path) -> str:
    if not (folder / "overhead.csv").exists():
        return ""
    columns = ["sequences", "tokens", "flops", "cpu_seconds", "memory_mb"]
    rows = [[str(row["method"]), *(number(row[name]) for name in columns)] for row in study_rows("overhead", folder)]
    shown = table(["method", "sequences", "tokens", "operations", "CPU seconds", "peak memory, MB"], rows)
    return f"### What a step costs\n\nPer step, on one thread.\n\n{shown}"
