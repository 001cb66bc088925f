"""Command line of the report: parses options, runs, prints a short table and the path."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = OneLineParser(
        prog="python -m bvpo_analysis.report",
        usage="python -m bvpo_analysis.report [options]",
        description="Which mixing weight alpha should I use on this model and these preference pairs, how sure are "
        "you, and is mixing worth it? Writes a run folder with report.html, report.md and results.json.",
    )
    p.add_argument("--model", help="reasoning model: directory or hub id (default: the one in the box)")
    p.add_argument(
        "--ref-model", help="reference model pi_ref (default: the model itself; 'box': the model in the box)"
    )
    p.add_argument("--data", help="JSONL file of preference pairs (default: the shipped pairs of --regime)")
    p.add_argument("--regime", help="shipped pairs: style, valid or correct (default: correct)")
    p.add_argument("--output-dir", type=Path, help="run folder (default: runs/<UTC time>-report-<regime>)")
    p.add_argument("--seed", type=int, help="which pairs --limit and --quick draw (default: 0)")
    p.add_argument("--loss", help="dpo, ipo or simpo (default: dpo)")
    p.add_argument("--beta", type=float, help="the loss's beta (default: 0.1)")
    p.add_argument("--batch-size", type=int, help="batch size B of the headline (default: 16)")
    p.add_argument("--traces", type=_traces, help="posterior traces per answer, or 'exact' (default: 4)")
    p.add_argument("--kappa", type=float, help="step size times smoothness; weights the variance (default: 1)")
    p.add_argument("--empty-mode", help="empty block prefilled (not scored) or generated (scored); default prefilled")
    p.add_argument("--params", metavar="REGEX", help="differentiate matching parameters only (default: all)")
    p.add_argument("--limit", type=int, metavar="N", help="use N pairs only")
    p.add_argument(
        "--compare", type=int, metavar="N", help="compare other estimators on N pairs (default: 96; 0: none)"
    )
    p.add_argument(
        "--train",
        action="append",
        metavar="RUN",
        help="show this run of python -m bvpo_analysis.train as well; may be repeated",
    )
    p.add_argument(
        "--from-study", metavar="DIR", help="tables of a training study to show (default: the committed ones)"
    )
    p.add_argument("--engine", help="score engine: auto, vmap, hooks or loop (default: auto, the fastest that fits)")
    p.add_argument("--dtype", help="type of the weights: float32 (default), float64, bfloat16 or float16")
    p.add_argument("--device", help="cpu (default), cuda, cuda:N, mps, or auto: spread over devices, engine loop")
    p.add_argument("--attention", help="attention implementation: eager (default) or sdpa, which long traces need")
    p.add_argument("--revision", help="branch, tag or commit of a model named by its hub id")
    p.add_argument("--trust-remote-code", action="store_true", default=None, help="run code that comes with the model")
    p.add_argument("--think-open", metavar="TEXT", help="text that opens a trace, where the chat template has none")
    p.add_argument("--think-close", metavar="TEXT", help="text between trace and answer")
    p.add_argument("--think-empty", metavar="TEXT", help="text of an empty trace (default: open and close together)")
    p.add_argument("--chat-template", metavar="FILE", help="Jinja chat template that replaces the tokenizer's")
    p.add_argument("--quick", action="store_true", help="use 64 pairs (same as --limit 64)")
    p.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="RUN",
        help="draw the pages of a finished run again, from its folder or results.json; or replay a config.yaml",
    )
    p.add_argument("--dry-run", action="store_true", help="print what it would cost, write nothing")
    p.add_argument("--resume", action="store_true", help="continue an interrupted run in --output-dir")
    p.add_argument(
        "--shard",
        metavar="I/N",
        help="do part I of N in this process, into an --output-dir shared by all; then --merge",
    )
    p.add_argument("--merge", action="store_true", help="finish from the shards in --output-dir; all must be done")
    p.add_argument("--overwrite", action="store_true", help="replace an earlier run in --output-dir")
    p.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    return p


def _traces(text: str) -> int | str:
    if text == "exact" or text.isdecimal():
        return text if text == "exact" else int(text)
    raise argparse.ArgumentTypeError(f"expected a positive number or 'exact', got {text!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 ok, 1 failure, 2 usage or input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(parser().parse_args(arguments))
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except (InputError, StudyError) as error:
        if "--debug" in arguments:
            raise
        return exit_with(error)
    except KeyboardInterrupt:
        print("interrupted; continue with --output-dir FOLDER --resume, FOLDER being that of this run", file=sys.stderr)
        return 1


def _check_combination(options: argparse.Namespace, asked: Any) -> None:
    """Hold that options which exclude or need each other do."""
    excluding = [f"--{name}" for name in ("resume", "overwrite", "merge") if getattr(options, name)]
    if len(excluding) > 1:
        raise InputError(f"{excluding[0]} and {excluding[1]} exclude each other; give one of them")
    if asked is not None and (options.overwrite or options.merge):
        raise InputError(f"--shard and {excluding[0]} exclude each other; a shard joins the run in its --output-dir")
    for name, what in (("resume", "the interrupted run"), ("merge", "the shards"), ("shard", "all shards")):
        if getattr(options, name) and options.output_dir is None:
            raise InputError(f"--{name} needs --output-dir, the folder of {what}")


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Imported here, so that --help and usage errors do not wait for torch.
    import torch

    from bvpo_analysis.report.build import Begin, run_report
    from bvpo_analysis.report.config import QUICK_PAIRS, ReportConfig
    from bvpo_analysis.report.dry_run import dry_run
    from bvpo_analysis.report.processes import agreed_shard, torchrun_shard
    from bvpo_analysis.report.rebuild import is_run
    from bvpo_analysis.report.run_folder import default_folder, point_latest
    from bvpo_analysis.scores import Shard, ShardFinished

    asked = Shard.parse(options.shard) if options.shard is not None else None
    started = torchrun_shard()
    shard = agreed_shard(asked, started)
    _check_combination(options, asked)
    names = [f.name for f in fields(ReportConfig)]
    given: dict[str, Any] = {n: v for n in names if (v := getattr(options, n)) is not None}
    if options.source:
        extra = [*given, *(["quick"] if options.quick else [])]
        if extra:
            raise InputError(f"--from takes a whole run or configuration; drop --{extra[0].replace('_', '-')}")
        if is_run(options.source):
            return _rebuild(options, started is not None)
        config = ReportConfig.from_yaml(options.source)
    else:
        if options.quick:
            given.setdefault("limit", QUICK_PAIRS)
        config = ReportConfig(**given)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.dry_run:
        print(dry_run(config))
        return 0
    folder = options.output_dir or default_folder("report", config.regime if config.data is None else "data")
    begin = Begin(resume=options.resume, overwrite=options.overwrite, merge=options.merge)
    try:
        results = run_report(config, folder, begin, shard=shard, together=started is not None)
    except ShardFinished as finished:
        if started is None:
            print(f"{finished}\nwhen all have finished: --output-dir {folder} --merge")
        return 0
    if options.output_dir is None:
        point_latest(folder)
    _show(results, folder)
    return 0


def _rebuild(options: argparse.Namespace, together: bool) -> int:
    """Pages of a finished run, from its results."""
    from bvpo_analysis.report.rebuild import rebuild

    doing = [name for name in ("resume", "overwrite", "merge", "shard", "dry_run") if getattr(options, name)]
    if doing or together:
        what = f"drop --{doing[0].replace('_', '-')}" if doing else "start one process only"
        raise InputError(f"--from {options.source} draws the pages of a finished run, which computes nothing; {what}")
    _show(*rebuild(options.source, options.output_dir))
    return 0


def _show(results: dict[str, Any], folder: Path) -> None:
    """The short table, the warnings and the path."""
    from bvpo_analysis.report.render import summary_table

    print(summary_table(results))
    for alert in results["alerts"]:
        if alert["level"] == "warning":
            print(f"warning: {alert['text']}")
    print(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
