"""Runs of the trainer in a report (``--train RUN``): read from their folders, told in words, tables and one figure.

Only what a run logged is shown: its held-out losses with their standard errors, the weight it took, and the studies of
its gradients where ``--probe-every`` asked for them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.formatting import estimate_text, number
from bvpo_analysis.report.sections import Kind, Section, table
from bvpo_analysis.tables import jsonable
from bvpo_analysis.training import TrainConfig

Run = Mapping[str, Any]
KEPT = ("step", "kept_step", "loss", "alpha", "kappa", "grad_norm", "trace/grad_norm", "empty/grad_norm")
"""What is kept of every line of a log, beside evaluations and probes."""
MOST_LINES, MOST_PROBES = 200, 8
"""Lines of a log that are drawn, besides those with an evaluation or a probe; probes that are tabled."""
OPTIONS = ("method", "alpha", "loss", "beta", "optimiser", "lr", "batch_size", "seed")
"""Options that tell runs apart."""
PROBED = ("probe/alpha", "probe/var_t", "probe/var_e", "probe/var_c", "probe/bias_t_sq", "probe/bias_e_sq")
"""Estimates of a probe that are tabled."""


def read_runs(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Runs as JSON values: name, options, progress, and the log with its dullest lines thinned out.

    Raises:
        InputError: a folder that holds no run, or a run without a finished line, or a line that is no JSON.
    """
    paths = [Path(folder) for folder in folders]
    names = [path.resolve().name for path in paths]
    return [
        {"name": name if names.count(name) == 1 else str(path), **_read(path)}
        for name, path in zip(names, paths, strict=True)
    ]


def _read(path: Path) -> dict[str, Any]:
    for name in ("config.yaml", "manifest.json"):
        if not (path / name).is_file():
            what = f"not the folder of a training run (no {name})"
            raise InputError(f"{path}: {what}; give --train what python -m bvpo_analysis.train wrote")
    log = path / "log.jsonl"
    if not log.is_file():
        raise InputError(f"{log}: not there yet; a run writes it at its first checkpoint, so wait or use --save-every")
    config = TrainConfig.from_yaml(path / "config.yaml")
    manifest = _mapping(_text_of(path / "manifest.json"), f"{path / 'manifest.json'}")
    lines = [_mapping(line, f"{log}:{i}") for i, line in enumerate(_text_of(log).splitlines(), start=1)]
    for i, line in enumerate(lines, start=1):
        if not isinstance(line.get("step"), int):
            raise InputError(f"{log}:{i}: no line of a training log (no step); resume the run, or make it again")
    steps = [line for line in lines if "loss" in line]
    taken = [line["alpha"] for line in lines if line.get("alpha") is not None]
    if not steps:
        raise InputError(f"{log}: no finished step; continue the run with --resume")
    return {
        **{name: getattr(config, name) for name in OPTIONS},
        "data": config.data if config.data is not None else config.regime,
        "planned": config.steps,
        "steps": len(steps),
        "finished": bool(manifest.get("finished")),
        "kept_step": manifest.get("kept_step"),
        "held_out_pairs": int(manifest.get("held_out_pairs") or 0),
        "alpha_low": min(taken, default=None),
        "alpha_high": max(taken, default=None),
        "log": thinned(lines),
    }


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text; resume the run, or make it again") from error


def _mapping(text: str, place: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error.msg}); resume the run, or make it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{place}: not a JSON object; resume the run, or make it again")
    return found


def thinned(lines: Sequence[Mapping[str, Any]], most: int = MOST_LINES) -> list[dict[str, Any]]:
    """The lines with an evaluation or a probe, and at most so many of the others, evenly.

    Example:
        >>> lines = [{"step": s, "loss": 0.5, "tokens": 9} | ({"eval/loss": 0.6} if s == 3 else {}) for s in range(8)]
        >>> [row["step"] for row in thinned(lines, most=3)]
        [0, 3, 4, 7]
    """
    chosen = {i for i, line in enumerate(lines) if any(name.startswith(("eval/", "probe/")) for name in line)}
    chosen |= {round(x) for x in np.linspace(0, len(lines) - 1, min(most, len(lines)))}
    return [
        {n: v for n, v in lines[i].items() if n in KEPT or n.startswith(("eval/", "probe/"))} for i in sorted(chosen)
    ]


def train_runs_section(runs: Sequence[Run]) -> Section:
    """What the runs were, what became of the held-out pairs, and what the probes saw."""
    columns: list[tuple[str, Kind]] = [
        ("Run", "words"),
        ("Method", "words"),
        ("Loss", "words"),
        ("Optimiser", "words"),
        ("Steps", "words"),
        ("Held-out loss, first", "estimate"),
        ("last", "estimate"),
        ("Held-out accuracy, first", "estimate"),
        ("last", "estimate"),
    ]
    rows = [
        [
            run["name"],
            method_text(run),
            f"{run['loss']}, β = {number(run['beta'])}",
            f"{run['optimiser']}, η = {number(run['lr'])}, B = {number(run['batch_size'])}",
            _steps(run),
            *(held_out(run, name, end) for name in ("eval/loss", "eval/accuracy") for end in (0, -1)),
        ]
        for run in runs
    ]
    probed = [[run["name"], *cells] for run in runs for cells in probe_rows(run)]
    tables = [table("training runs", columns, jsonable(rows))]
    if probed:
        heads = ("α* of a batch", "Tr Cov(g_t)", "Tr Cov(g_e)", "Tr Cov(g_c)", "|b_t|²", "|b_e|²")
        seen: list[tuple[str, Kind]] = [("Run", "words"), ("Step", "number"), ("Weight taken", "number")]
        seen += [(head, "estimate") for head in heads]
        tables.append(table("gradients at the probes", [*seen, ("ESS / K", "number")], jsonable(probed)))
    return Section(
        "train-runs",
        "The given training runs",
        "Training runs",
        text=tuple(sentence for run in runs for sentence in sentences(run)),
        tables=tuple(tables),
        notes=(
            "Held-out losses have 95 % intervals over pairs, one run each: another order of the batches is not in "
            "them. First and last are of the same pairs, and so are runs on the same data, so their differences are "
            "known better than the intervals suggest. Variances are those of a batch; away from the reference the "
            "target is estimated from the sampled traces, and says less than its interval where ESS / K is small.",
        ),
        figures=("train_runs",),
    )


def method_text(run: Run) -> str:
    """The method with its weight.

    Example:
        >>> method_text({"method": "bvpo", "alpha": "auto"}), method_text({"method": "dpo", "alpha": 0.5})
        ('bvpo, α = auto', 'dpo')
    """
    if run["method"] != "bvpo":
        return str(run["method"])
    weight = run["alpha"] if isinstance(run["alpha"], str) else number(run["alpha"])
    return f"{run['method']}, α = {weight}"


def held_out(run: Run, name: str, end: int) -> Estimate | None:
    """A held-out number at the first (0) or last (-1) evaluation, with its interval over pairs."""
    lines = [line for line in run["log"] if line.get(name) is not None]
    if not lines:
        return None
    line, pairs = lines[end], run["held_out_pairs"]
    value = float(line[name])
    if f"{name}_low" in line:
        error = line.get(f"{name}_se", float("nan"))
        return Estimate(value, error, line[f"{name}_low"], line[f"{name}_high"], pairs, "wilson")
    se = line.get(f"{name}_se")
    if se is None or pairs < 2:
        return Estimate.without_interval(value, pairs)
    half = float(stats.t.ppf(0.975, pairs - 1)) * se
    return Estimate(value, se, value - half, value + half, pairs, "jackknife")


def step_of(line: Mapping[str, Any]) -> int:
    """The step whose weights a line is about.

    Example:
        >>> step_of({"step": 50, "kept_step": 30}), step_of({"step": 50})
        (30, 50)
    """
    return int(line.get("kept_step", line["step"]))


def probes(run: Run) -> list[Mapping[str, Any]]:
    """The lines with a probe."""
    return [line for line in run["log"] if line.get("probe/alpha") is not None]


def probe_rows(run: Run) -> list[list[Any]]:
    """Step, weight taken, estimates and ESS / K of at most :data:`MOST_PROBES` probes, first and last among them."""
    lines = probes(run)
    at = sorted({round(x) for x in np.linspace(0, len(lines) - 1, min(MOST_PROBES, len(lines)))}) if lines else []
    return [
        [
            step_of(lines[i]),
            lines[i].get("alpha"),
            *(probe_estimate(lines[i], name) for name in PROBED),
            lines[i].get("probe/ess_share"),
        ]
        for i in at
    ]


def probe_estimate(line: Mapping[str, Any], name: str) -> Estimate | None:
    """A number of a probe with the ends that were logged; an end that is missing is unbounded."""
    if line.get(name) is None:
        return None
    low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
    ends = (-np.inf if low is None else low, np.inf if high is None else high)
    # A standard error tells an interval without ends from none.
    return Estimate(float(line[name]), 0.0, *ends, 0, "profile-jackknife")


def sentences(run: Run) -> list[str]:
    """One sentence on the held-out pairs, one on the weight."""
    found = []
    before, after = (held_out(run, "eval/loss", end) for end in (0, -1))
    if before is not None and after is not None:
        found.append(
            f"{run['name']} ({method_text(run)}): the loss of {number(run['held_out_pairs'])} held-out pairs goes from "
            f"{_text(before)} to {_text(after)}; steps: {_steps(run)}."
        )
    if text := weight_sentence(run):
        found.append(text)
    return found


def weight_sentence(run: Run) -> str:
    """alpha* at the first and the last probe; empty where there are not two."""
    lines = probes(run)
    if len(lines) < 2 or run["alpha_low"] is None:
        return ""
    ends = [probe_estimate(line, "probe/alpha") for line in (lines[0], lines[-1])]
    low, high = number(run["alpha_low"]), number(run["alpha_high"])
    weights = low if low == high else f"{low} to {high}"
    return (
        f"In {run['name']} the best weight of a batch is {_text(ends[0])} at step {number(step_of(lines[0]))} and "
        f"{_text(ends[1])} at step {number(step_of(lines[-1]))}; the run took {weights}."
    )


def _steps(run: Run) -> str:
    text = f"{number(run['steps'])} of {number(run['planned'])}"
    kept = run.get("kept_step")
    if kept is not None and kept < run["steps"]:
        text += f", weights of step {number(kept)} kept"
    return text if run["finished"] else f"{text}, unfinished"


def _text(found: Estimate | None) -> str:
    return "n/a" if found is None else estimate_text(jsonable(found))
