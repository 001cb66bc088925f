"""``python -m bvpo_analysis.sgd.grid``: longer runs on the language model, in every regime, resumable.

One unit of work is a run: a regime, a weight, a repetition. It is written when it is done, whole or not at all; a later
call goes on with the units that are missing. The smoothness at the start, in the metric of SGD and of Adam, is measured
on more prompts.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.sgd.language_model import (
    Iterate,
    Run,
    RunSettings,
    against_bounds,
    box_loss,
    curvature,
    run,
    start_weights,
    step_size_table,
)

SMOOTHNESS_PROMPTS = 16
"""Prompts, and units of a batch, of the smoothness at the start: the batch size of the reports' headline."""


def run_regime(settings: RunSettings, repetitions: int, folder: Path) -> Path:
    """All runs of one regime that are not there yet, then the table of the regime.

    Returns:
        The path of the table, ``<regime>.csv``.

    Raises:
        InputError: the folder holds runs with other settings.
    """
    torch.set_num_threads(1)
    units = folder / settings.regime
    units.mkdir(parents=True, exist_ok=True)
    loss = box_loss(settings)
    start = units / "start.json"
    if not start.exists():
        weights = start_weights(loss.at(loss.start).law(), settings.batch_size)
        _write(start, {"settings": asdict(settings), "curvature": curvature(loss, loss.start), "weights": weights})
    facts = json.loads(start.read_text())
    if facts["settings"] != asdict(settings):
        raise InputError(f"{units} holds runs with other settings; name another --output-dir or remove it")
    step_size = settings.kappa / facts["curvature"]
    tables = []
    for rule, alpha in facts["weights"].items():
        for repetition in range(repetitions):
            path = units / f"{rule.replace(' ', '-').replace('*', '-star')}-{repetition}.json"
            if not path.exists():
                found = run(
                    loss,
                    settings,
                    rule=rule,
                    alpha=alpha,
                    step_size=step_size,
                    start_curvature=facts["curvature"],
                    repetition=repetition,
                )
                _write(path, asdict(found))
            unit = json.loads(path.read_text())
            one = Run(tuple(Iterate(**x) for x in unit["iterates"]), tuple(unit["curvatures"]))
            tables.append(against_bounds(one, step_size=step_size))
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(regime=settings.regime, prompts=settings.prompts, batch_size=settings.batch_size)
    target = folder / f"{settings.regime}.csv"
    _write_table(target, table)
    smoothness = folder / f"{settings.regime}.smoothness.csv"
    if not smoothness.exists():
        wide = box_loss(replace(settings, prompts=SMOOTHNESS_PROMPTS))
        rates = step_size_table(wide, batch_size=SMOOTHNESS_PROMPTS)
        _write_table(smoothness, rates.assign(regime=settings.regime, prompts=SMOOTHNESS_PROMPTS))
    return target


def _write_table(path: Path, table: pd.DataFrame) -> None:
    part = path.with_name(path.name + ".part")
    table.to_csv(part, index=False, lineterminator="\n", float_format="%.8g")
    part.replace(path)


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def run_regimes(
    regimes: Sequence[str], settings: RunSettings, repetitions: int, folder: Path, processes: int = 2
) -> pd.DataFrame:
    """Several regimes, a process each, one torch thread per process; the tables in one."""
    everything = [replace(settings, regime=regime) for regime in regimes]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_regime, one, repetitions, folder) for one in everything]
        return pd.concat([pd.read_csv(future.result()) for future in futures], ignore_index=True)


def measured(table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """What reports show of these runs: how every weight did against its bound, and the smoothness of every regime."""
    runs = [
        {
            "regime": regime,
            "rule": rule,
            "alpha": float(rows["alpha"].iloc[0]),
            "iterates": len(rows),
            "bounded": int(rows["applies"].sum()),
            "held": int((rows["applies"] & rows["holds"]).sum()),
            "kappa_low": float(rows["kappa"].min()),
            "kappa_high": float(rows["kappa"].max()),
            "first_loss": float(rows.loc[rows["step"] == 0, "value"].mean()),
            "last_loss": float(rows.loc[rows["step"] == rows["step"].max(), "value"].mean()),
            "bias_sq": float(rows["bias_sq"].mean()),
            "variance": float(rows["variance"].mean()),
        }
        for (regime, rule), rows in table.groupby(["regime", "rule"], sort=False)
    ]
    smoothness = pd.concat([pd.read_csv(folder / f"{regime}.smoothness.csv") for regime in table["regime"].unique()])
    rates = smoothness.drop_duplicates(["regime", "optimiser"])[["regime", "optimiser", "smoothness", "prompts"]]
    return {"runs": runs, "smoothness": rates.to_dict("records")}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code, 1 if a bound did not hold."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.sgd.grid", description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True, help="where runs are kept and tables written")
    parser.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    parser.add_argument("--steps", type=int, default=8, help="steps of a run (default 8)")
    parser.add_argument("--repetitions", type=int, default=2, help="runs per weight (default 2)")
    parser.add_argument("--processes", type=int, default=2, help="regimes run at a time (default 2)")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write what reports show of the runs (JSON)")
    options = parser.parse_args(argv)
    try:
        if min(options.steps, options.repetitions, options.processes) < 1:
            raise InputError("--steps, --repetitions and --processes must be at least 1")
        table = run_regimes(
            options.regime or list(REGIMES),
            RunSettings(steps=options.steps),
            options.repetitions,
            options.output_dir,
            options.processes,
        )
    except (InputError, StudyError) as error:
        return exit_with(error)
    if options.summary is not None:
        _write(options.summary, measured(table, options.output_dir))
    for (regime, rule), rows in table.groupby(["regime", "rule"], sort=False):
        bounded = rows[rows["applies"]]
        print(
            f"{regime:8} {rule:10} alpha {rows['alpha'].iloc[0]:.3f}  one-step bound held at "
            f"{bounded['holds'].sum()} of {len(bounded)} iterates; kappa > 1 at {len(rows) - len(bounded)}"
        )
    return 0 if table["holds"].all() else 1


if __name__ == "__main__":
    sys.exit(main())
