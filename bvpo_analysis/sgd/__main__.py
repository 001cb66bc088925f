"""``python -m bvpo_analysis.sgd``: run biased SGD against its bounds, and find what the mixing weight does to a run.

Exit code 0 when every bound held, 1 when one did not, 2 for wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bvpo_analysis.errors import InputError, StudyError, exit_with

if TYPE_CHECKING:
    import pandas as pd

    from bvpo_analysis.sgd.full_study import Study


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage like any other wrong input: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = _Parser(
        prog="python -m bvpo_analysis.sgd",
        description="Mixed, biased SGD on quadratics, non-convex losses and reasoning models, next to what the bounds "
        "predict: which held, how tight they were, and which weight a run prefers at which step size.",
    )
    p.add_argument("--quick", action="store_true", help="fewer and shorter runs, without the language model")
    p.add_argument("--no-language-model", action="store_true", help="leave out the model in the box (the slow part)")
    p.add_argument("--output-dir", type=Path, metavar="DIR", help="write tables (CSV) and figures into this folder")
    p.add_argument("--seed", type=int, default=0, help="of every simulation (default 0)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        return _run(parser().parse_args(argv))
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except (InputError, StudyError) as error:
        return exit_with(error)


def _run(options: argparse.Namespace) -> int:
    if options.seed < 0:
        raise InputError(f"--seed must not be negative, got {options.seed}")
    if options.output_dir is not None and options.output_dir.exists() and not options.output_dir.is_dir():
        raise InputError(f"--output-dir {options.output_dir} is a file; name a folder")

    from bvpo_analysis.sgd.full_study import Settings, run_study, write

    study = run_study(Settings.quick() if options.quick else Settings(), seed=options.seed)
    if not (options.quick or options.no_language_model):
        study.tables["language_model"] = _language_model()
    print(report(study))
    if options.output_dir is not None:
        for path in write(study, options.output_dir):
            print(path)
    return 1 if _violated(study) else 0


def _language_model() -> "pd.DataFrame":
    """Steps on the exact marginal loss of the model in the box, in one regime, with a column ``holds``."""
    import torch

    from bvpo_analysis.sgd.language_model import RunSettings, verify_language_model

    torch.set_num_threads(1)
    return verify_language_model(RunSettings())


def _violated(study: "Study") -> int:
    table = study.tables.get("language_model")
    return study.violated + (0 if table is None else int((~table["holds"]).sum()))


def report(study: "Study") -> str:
    """What the command prints."""
    tables = study.tables
    parts = ["Bounds against runs (ratios are predicted / measured)", _text(tables["summary"])]
    parts += [
        "Search for violations on one-dimensional losses (the largest measured / predicted)",
        _text(tables["search"][["bound", "checked", "violated", "ratio", "steps"]], digits=9),
    ]
    weights = tables["best_weights"]
    kappas = sorted(weights["kappa"].unique())
    weights = weights[weights["kappa"].isin(kappas[:: max(1, len(kappas) // 4)])]
    longest = weights["steps"].max()
    chosen = weights[
        ((weights["yardstick"] == "steady gradient") | (weights["steps"] == longest))
        & weights["yardstick"].isin(["steady gradient", "average gradient", "final loss"])
    ]
    wide = chosen.pivot_table(
        index=["hessian", "problem", "kappa"], columns="yardstick", values="best", sort=False
    ).reset_index()
    predicted = chosen.drop_duplicates(["hessian", "problem", "kappa"])[["hessian", "problem", "kappa", "mse", "step"]]
    wide = predicted.merge(wide, on=["hessian", "problem", "kappa"])
    wide = wide.rename(columns={"problem": "regime", "mse": "alpha*", "step": "alpha_kappa"})
    parts += [
        f"Best weight against kappa, by regime: predicted, and realised over {longest} steps",
        _text(wide, digits=3),
    ]
    if "language_model" in tables:
        steps = tables["language_model"]
        bounded = steps[steps["applies"]]
        parts.append(
            f"Language model: the one-step bound held at {int(bounded['holds'].sum())} of {len(bounded)} iterates, "
            f"kappa up to {bounded['kappa'].max():.2g}; at {len(steps) - len(bounded)} more, eta L > 1 and none applies"
        )
    violated = _violated(study)
    parts.append(f"{violated} bounds FAILED" if violated else "every bound held")
    return "\n\n".join(parts)


def _text(table: "pd.DataFrame", digits: int = 4) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.{digits}g}")


if __name__ == "__main__":
    sys.exit(main())
