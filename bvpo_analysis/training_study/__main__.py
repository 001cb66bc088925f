"""``python -m bvpo_analysis.training_study``: train every method over seeds, beside what was predicted before.

Runs of 60 steps of 16 pairs on the reasoning model in the box: a sweep over alpha in three preference regimes, several
traces, mixed data, data-dependent weights, other losses, optimisers and rates. What is done is kept in the output
folder, and a later call goes on from there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with
from bvpo_analysis.preferences.shipped import REGIMES


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = OneLineParser(prog="python -m bvpo_analysis.training_study", description=__doc__)
    p.add_argument("--regime", choices=REGIMES, action="append", help="only this regime; may be repeated")
    p.add_argument("--group", action="append", help="only arms of this group (sweep, method, ...); may be repeated")
    p.add_argument("--seeds", type=int, default=5, help="at most so many runs per arm (default 5)")
    p.add_argument("--full", action="store_true", help="secondary arms in every regime and with five seeds as well")
    p.add_argument("--processes", type=int, default=2, help="runs at a time (default 2)")
    p.add_argument("--tables-only", action="store_true", help="run nothing, make tables of what is finished")
    p.add_argument("--tables", type=Path, metavar="DIR", help="write the tables here (CSV)")
    p.add_argument("--tiny", action="store_true", help="four steps and a few prompts: does everything run?")
    p.add_argument(
        "--output-dir", type=Path, default=Path("runs/train-study"), help="where runs are kept (runs/train-study)"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    try:
        options = parser().parse_args(argv)
        if options.seeds < 1 or options.processes < 1:
            raise InputError("--seeds and --processes must be at least 1")
        return _run(options)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except (InputError, StudyError) as error:
        return exit_with(error)


def _run(options: argparse.Namespace) -> int:
    import torch

    from bvpo_analysis.training_study.arms import core_arms, full_arms, pilot_arms, runs_of
    from bvpo_analysis.training_study.assemble import make_tables, study_facts, text_summary, write_facts, write_tables
    from bvpo_analysis.training_study.run import TINY, Size
    from bvpo_analysis.training_study.work import Work, do_work

    torch.set_num_threads(1)
    arms = (*(full_arms() if options.full else core_arms()), *pilot_arms())
    groups = {arm.group for arm in arms}
    unknown = sorted(set(options.group or ()) - groups)
    if unknown:
        raise InputError(f"--group must be one of {', '.join(sorted(groups))}, got {unknown[0]!r}")
    wanted = [
        arm
        for arm in arms
        if (not options.regime or arm.regime in options.regime) and (not options.group or arm.group in options.group)
    ]
    runs = tuple(run for run in runs_of(wanted) if run.seed < options.seeds)
    work = Work(runs, TINY if options.tiny else Size(), options.output_dir)
    if not options.tables_only:
        do_work(work, processes=options.processes)
    tables = make_tables(work, processes=options.processes)
    if options.tables is not None:
        write_tables(tables, options.tables)
        write_facts(study_facts(work), options.tables)
    print(text_summary(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
