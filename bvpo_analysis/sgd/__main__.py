"""``python -m bvpo_analysis.sgd``: run biased SGD against its bounds, and find what the mixing weight does to a run.

Exit code 0 when every bound held, 1 when one did not, 2 for wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with

if TYPE_CHECKING:
    import pandas as pd


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = OneLineParser(
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
    from bvpo_analysis.sgd.printed import failed, report

    findings = run_study(Settings.quick() if options.quick else Settings(), seed=options.seed)
    if not (options.quick or options.no_language_model):
        findings.tables["language_model"] = _language_model()
    print(report(findings))
    if options.output_dir is not None:
        print()
        for path in write(findings, options.output_dir):
            print(path)
    return 1 if failed(findings) else 0


def _language_model() -> "pd.DataFrame":
    """Steps on the exact marginal loss of the model in the box, in one regime, with a column ``holds``."""
    import torch

    from bvpo_analysis.sgd.language_model import RunSettings, verify_language_model

    torch.set_num_threads(1)
    return verify_language_model(RunSettings())


if __name__ == "__main__":
    sys.exit(main())
