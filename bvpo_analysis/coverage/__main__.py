"""``python -m bvpo_analysis.coverage``: measure how often the 95 % intervals of the package hold the truth.

Samples are drawn from the prompts of the shipped regimes with all their traces, where every number is known. Work that
is done is kept in the output folder, and a later call goes on from there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bvpo_analysis.coverage.measured import text_table, write_table
from bvpo_analysis.coverage.population import population_file
from bvpo_analysis.coverage.study import CHUNK, Setting, run_study
from bvpo_analysis.errors import InputError, StudyError, exit_with
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import REGIMES


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bvpo_analysis.coverage", description=__doc__)
    parser.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    parser.add_argument("--prompts", type=int, action="append", help="sample sizes n (default 16, 64 and 256)")
    parser.add_argument("--traces", type=int, action="append", help="traces per answer K (default 1 and 4)")
    parser.add_argument("--replications", type=int, default=4000, help="samples per setting (default 4000)")
    parser.add_argument("--processes", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs/coverage"), help="where work is kept (default runs/coverage)"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the tidy table here (CSV)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        sizes, traces = options.prompts or [16, 64, 256], options.traces or [1, 4]
        if min(sizes) < 4 or min(traces) < 1 or options.processes < 1:
            raise InputError("--prompts must be at least 4, --traces and --processes at least 1")
        if options.replications < 1 or (options.replications > CHUNK and options.replications % CHUNK):
            raise InputError(f"--replications must be at most {CHUNK} or a multiple of it, got {options.replications}")
        lrm = load_model()
        populations, settings = [], []
        for regime in options.regime or REGIMES:
            path = population_file(lrm, regime, DPO(), options.output_dir)
            for prompts in sizes:
                for count in traces:
                    populations.append(path)
                    settings.append(Setting(regime, prompts, count))
        rows = run_study(populations, settings, options.replications, options.output_dir, processes=options.processes)
        if options.table is not None:
            write_table(options.table, rows)
    except (InputError, StudyError) as error:
        return exit_with(error)
    print(text_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
