"""Slow half of the SGD figures: biased SGD against its bounds -> results/sgd.json (about two minutes)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bvpo_analysis.exact import load_table
from bvpo_analysis.sgd.full_study import Settings, best_weights_drawn, run_study

RESULTS = Path(__file__).parent / "results" / "sgd.json"


def main() -> None:
    """Run the study and keep the rows that the figures draw."""
    findings = run_study(Settings())
    tables = findings.tables
    checks = tables["checks"]
    shown = checks[(checks["scheme"] == "constant") & checks["bound"].isin(["classical", "sharp"])]
    shown = shown[np.isfinite(shown["tightness"])].round({"kappa": 9})
    medians = shown.groupby(["scheme", "bound", "problem", "kappa"], sort=False)["tightness"].median().reset_index()
    weights = best_weights_drawn(tables["best_weights"])
    columns = ["hessian", "problem", "kappa", "steps", "yardstick", "best", "mse", "step"]
    facts = {
        "model": load_table("correct").model,
        "violated": findings.violated,
        "sgd_bounds": _rows(tables["trajectories"]),
        "sgd_tightness": _rows(medians),
        "best_weight": _rows(weights[columns]),
        "schedule": _rows(tables["schedule_paths"]),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _rows(table: pd.DataFrame) -> list[dict]:
    """Rows with numbers to nine digits: more is noise of the platform, and makes the file large."""
    rounded = table.map(lambda x: float(f"{x:.9g}") if isinstance(x, float) else x)
    return rounded.to_dict("records")


if __name__ == "__main__":
    main()
