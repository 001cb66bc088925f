"""From finished runs to files: predictions and overhead are computed once and kept beside the runs."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bvpo_analysis.exact import rows_fingerprint
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import REGIMES, Regime, shipped_pairs
from bvpo_analysis.records import Estimate
from bvpo_analysis.training_study.overhead import measure_overhead
from bvpo_analysis.training_study.predictions import Prediction, regime_predictions
from bvpo_analysis.training_study.run import Size, training_pairs
from bvpo_analysis.training_study.tables import build_tables
from bvpo_analysis.training_study.work import Work, code_fingerprint, results_of, write_json

PREDICTED_BY = (
    "training_study/predictions.py",
    "moments/enumerated.py",
    "moments/population.py",
    "mixing.py",
    "theory/descent.py",
)
"""The modules that predictions go through."""
DIGITS = 6
"""Significant digits of the tables: what is behind them is noise of the platform."""


def make_tables(work: Work, *, processes: int = 1) -> dict[str, pd.DataFrame]:
    """Tables of the runs that are there, by name; predictions that are missing are made by so many processes.

    Raises:
        InputError: there are none.
    """
    references, results = results_of(work)
    folder = work.folder / code_fingerprint()
    tiny = work.size.steps is not None
    swept = frozenset(run.arm.regime for run in work.runs if run.arm.group == "adamw")
    predict = partial(predictions_of, folder=folder, size=work.size, swept=swept)
    regimes = [regime for regime in REGIMES if regime in references]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        by_regime = list(pool.map(predict, regimes) if processes > 1 else map(predict, regimes))
    tables = build_tables(references, results, [found for rows in by_regime for found in rows])
    if not tiny:
        name = f"overhead-{code_fingerprint(('training_study/overhead.py', 'cost.py'))}.json"
        rows = _kept(folder / name, lambda: [asdict(row) for row in measure_overhead()])
        tables["overhead"] = pd.DataFrame(rows)
    return tables


def predictions_of(
    regime: Regime, folder: Path, size: Size, swept: frozenset[Regime] = frozenset()
) -> list[Prediction]:
    """The predictions of a regime, made once; for AdamW too where ``swept`` with it."""
    adamw = regime in swept

    def compute() -> list[dict[str, Any]]:
        torch.set_num_threads(1)
        found = regime_predictions(load_model(), training_pairs(regime, size), regime, adamw=adamw)
        return [asdict(prediction) for prediction in found]

    name = f"predictions-{code_fingerprint(PREDICTED_BY)}-{size.train_pairs}{'-adamw' * adamw}.json"
    rows = _kept(folder / regime / name, compute)
    return [Prediction(**(row | {"alpha": _estimate(row["alpha"]), "scores": tuple(row["scores"])})) for row in rows]


def study_facts(work: Work) -> dict[str, Any]:
    """What the tables belong to: weights, data, size, code, and the runs that are missing."""
    done = {(r["regime"], r["arm"], r["seed"]) for r in results_of(work)[1]}
    missing = [
        f"{run.arm.regime}: {run.arm.name}, seed {run.seed}"
        for run in work.runs
        if (run.arm.regime, run.arm.name, run.seed) not in done
    ]
    return {
        "model": load_model().fingerprint,
        "data": {regime: rows_fingerprint(shipped_pairs(regime)) for regime in REGIMES},
        "size": asdict(work.size),
        "code": code_fingerprint(),
        "runs": len(done),
        "missing": missing,
    }


def write_facts(facts: Mapping[str, Any], folder: Path) -> Path:
    """study.json beside the tables."""
    path = folder / "study.json"
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """One CSV per table, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        if table.empty and not len(table.columns):
            path.unlink(missing_ok=True)  # a table without rows has no columns either; readers say that it is missing
            continue
        part = path.with_name(path.name + ".part")
        table.to_csv(part, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
        part.replace(path)
        paths.append(path)
    return paths


def text_summary(tables: Mapping[str, pd.DataFrame]) -> str:
    """What a terminal shows: the sweep and the rankings, and what is missing."""
    parts = []
    rates = tables["win_rates"]
    for regime in dict.fromkeys(rates["regime"]):
        own = rates[(rates["regime"] == regime) & (rates["group"] != "pilot")]
        parts.append(f"{regime}: win rate against the reference (mean, 95 % interval over seeds and prompts)")
        by_mode = {mode: rows.set_index("arm") for mode, rows in own.groupby("mode")}
        for arm in dict.fromkeys(own["arm"]):
            cells = [_cell(by_mode[mode].loc[arm], "win_rate") for mode in by_mode]
            pairs = "   ".join(f"{mode} {cell:24}" for mode, cell in zip(by_mode, cells, strict=True))
            parts.append(f"  {arm:22} {int(next(iter(by_mode.values())).loc[arm, 'seeds'])} seeds   {pairs}".rstrip())
    ranked = tables.get("rankings", pd.DataFrame())
    if len(ranked):
        parts.append("predicted against realised weights (rank correlation over the sweep, mean over seeds)")
        for row in ranked[ranked["source"] == "enumerated"].to_dict("records"):
            parts.append(
                f"  {row['regime']:8} {row['criterion']:8} alpha {row['predicted_alpha']:6.2f}   {row['outcome']:18}"
                f" best {row['realised_best']:4g}   rho {_cell(row, 'spearman')}"
            )
    return "\n".join(parts)


def _cell(row: Any, name: str) -> str:
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    if value is None or value != value:
        return "n/a"
    return f"{value:.3f}" if low is None or low != low else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _kept(path: Path, compute: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    if not path.exists():
        write_json(path, {"rows": compute()})
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"])


def _estimate(row: Mapping[str, Any]) -> Estimate:
    numbers = {name: float("nan") if row[name] is None else row[name] for name in ("value", "se", "ci_low", "ci_high")}
    return Estimate(**numbers, n=row["n"], method=row["method"])
