"""Command line of the trainer: parses options, trains, prints a short table and the path."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with

if TYPE_CHECKING:
    from bvpo_analysis.training.config import TrainConfig
    from bvpo_analysis.training.loop import TrainingRun
    from bvpo_analysis.training.run import Forecast

QUICK = {"steps": 10, "limit": 64}
"""Options of ``--quick``, where they are not given."""
ONLY_WITH = {"alpha": "bvpo", "traces": "multi_trace", "combination": "multi_trace"}
"""Options that one method reads, which must not be given with another."""
NONE = "none"
"""What switches off an option that has a value by default."""


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = OneLineParser(
        prog="python -m bvpo_analysis.train",
        usage="python -m bvpo_analysis.train [options]",
        description="Train a reasoning model on preference pairs with the mixed gradient alpha g_t + (1 - alpha) g_e, "
        "or with one of its rivals. Writes a run folder with log.jsonl, checkpoints and the trained model.",
    )
    what = p.add_argument_group("what is trained")
    what.add_argument("--method", help="dpo, empty, bvpo, multi_trace or mixed_data (default: bvpo)")
    what.add_argument(
        "--alpha",
        type=_number_or_name,
        help="weight of g_t: a number (default: 0.5), auto, kappa, schedule, cosine or james_stein",
    )
    what.add_argument("--allow-extrapolation", action="store_true", default=None, help="accept alpha outside [0, 1]")
    what.add_argument("--combination", help="of multi_trace: average, marginal or pooled (default: average)")
    what.add_argument("--traces", type=int, metavar="K", help="of multi_trace: traces per answer, or size of the pool")
    what.add_argument("--loss", help="dpo, ipo or simpo (default: dpo)")
    what.add_argument("--beta", type=float, help="the loss's beta (default: 0.1)")
    what.add_argument("--gamma", type=float, help="the margin of simpo (default: 1)")
    what.add_argument("--model", help="reasoning model: directory or hub id (default: the one in the box)")
    what.add_argument(
        "--ref-model", help="reference pi_ref (default: the model at the start; 'box': the one in the box)"
    )
    what.add_argument("--params", metavar="REGEX", help="train matching parameters only (default: all)")
    what.add_argument("--lora-rank", type=int, metavar="R", help="train low-rank adapters instead (default: 0, none)")
    what.add_argument("--lora-alpha", type=float, help="scale of the adapters, alpha / R (default: 16)")

    data = p.add_argument_group("data")
    data.add_argument("--data", help="file of preference pairs (default: the shipped pairs of --regime)")
    data.add_argument("--regime", help="shipped pairs: style, valid or correct (default: correct)")
    data.add_argument("--limit", type=int, metavar="N", help="use the first N pairs only")
    data.add_argument("--held-out", type=float, metavar="SHARE", help="share of pairs not trained on (default: 0.125)")
    data.add_argument(
        "--empty-mode", help="empty block prefilled (not scored) or generated (scored); default prefilled"
    )
    data.add_argument(
        "--copied-empty", action="store_true", default=None, help="take the answers with a trace where there are no own"
    )

    how = p.add_argument_group("how")
    how.add_argument("--steps", type=int, help="steps of the optimiser (default: 60)")
    how.add_argument("--batch-size", type=int, help="pairs per step (default: 16)")
    how.add_argument("--micro-batches", type=int, metavar="N", help="parts that a batch is taken in (default: 2)")
    how.add_argument("--seed", type=int, help="order of the pairs, which are held out, adapters (default: 0)")
    how.add_argument("--optimiser", "--optimizer", help="adamw or sgd (default: adamw)")
    how.add_argument("--lr", type=float, help="peak of the learning rate (default: 0.0003)")
    how.add_argument("--warmup", type=float, metavar="SHARE", help="share of steps with a growing rate (default: 0.1)")
    how.add_argument(
        "--final-rate", type=float, metavar="SHARE", help="of the peak, where the cosine ends (default: 0)"
    )
    how.add_argument("--weight-decay", type=float, help="default: 0")
    how.add_argument("--momentum", type=float, help="of sgd (default: 0)")
    how.add_argument("--clip", type=_number_or_name, help="largest norm of the gradient, or none (default: 1)")
    how.add_argument("--kappa", type=float, help="step size times smoothness, for kappa and schedule (default: 1)")
    how.add_argument("--smoothness", type=_number_or_name, metavar="L", help="kappa is lr L; a number, or measured")
    how.add_argument("--decay", type=float, help="of the running moments behind alpha (default: 0.9)")

    watch = p.add_argument_group("on the way")
    watch.add_argument("--evaluate-every", type=int, metavar="N", help="steps between evaluations (default: 20)")
    watch.add_argument(
        "--patience", type=int, metavar="N", help="stop after N evaluations without a gain and keep the best weights"
    )
    watch.add_argument("--save-every", type=int, metavar="N", help="steps between checkpoints (default: 20)")
    watch.add_argument("--probe-every", type=int, metavar="N", help="study variances and alpha* every N steps")
    watch.add_argument("--probe-pairs", type=int, metavar="N", help="pairs of these studies (default: 32)")
    watch.add_argument("--probe-traces", type=int, metavar="K", help="traces per answer of these studies (default: 4)")

    load = p.add_argument_group("loading")
    load.add_argument("--dtype", help="type of the weights: float32 (default), float64, bfloat16 or float16")
    load.add_argument("--device", help="cpu (default), cuda, cuda:N or mps")
    load.add_argument("--attention", help="attention implementation: eager (default) or sdpa, which long traces need")
    load.add_argument("--revision", help="branch, tag or commit of a model named by its hub id")
    load.add_argument(
        "--trust-remote-code", action="store_true", default=None, help="run code that comes with the model"
    )
    load.add_argument("--think-open", metavar="TEXT", help="text that opens a trace, where the chat template has none")
    load.add_argument("--think-close", metavar="TEXT", help="text between trace and answer")
    load.add_argument("--think-empty", metavar="TEXT", help="text of an empty trace (default: open and close together)")
    load.add_argument("--chat-template", metavar="FILE", help="Jinja chat template that replaces the tokenizer's")

    run = p.add_argument_group("run")
    run.add_argument("--config", metavar="FILE", help="options from a YAML file; those given here go before")
    run.add_argument("--output-dir", type=Path, help="run folder (default: runs/<UTC time>-train-<method>-<regime>)")
    run.add_argument("--quick", action="store_true", help="10 steps on 64 pairs")
    run.add_argument("--dry-run", action="store_true", help="print what it would take, write nothing")
    run.add_argument("--resume", action="store_true", help="continue the interrupted run in --output-dir")
    run.add_argument("--overwrite", action="store_true", help="replace an earlier run in --output-dir")
    run.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    return p


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


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


def _config(options: argparse.Namespace) -> "TrainConfig":
    """The options of a run: those given, over those of --config or of the run that is resumed, over the defaults."""
    from bvpo_analysis.training.config import TrainConfig

    given: dict[str, Any] = {n: v for f in fields(TrainConfig) if (v := getattr(options, n := f.name)) is not None}
    given |= {"clip": None} if given.get("clip") == NONE else {}
    if options.quick:
        given = QUICK | given
    there = options.output_dir / "config.yaml" if options.resume else None
    if options.config is not None:
        config = TrainConfig.from_yaml(options.config, given)
    elif there is not None and there.is_file():
        config = TrainConfig.from_yaml(there, given)
    else:
        config = TrainConfig(**given)
    for name, method in ONLY_WITH.items():
        if name in given and config.method != method:
            raise InputError(f"--{name} belongs to --method {method}; drop it with --method {config.method}")
    return config


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if options.resume and options.overwrite:
        raise InputError("--resume and --overwrite exclude each other; give one of them")
    if options.resume and options.output_dir is None:
        raise InputError("--resume needs --output-dir, the folder of the interrupted run")
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together and options.output_dir is None:
        raise InputError("under torchrun all processes need the same --output-dir; give one")
    # Imported here, so that --help and usage errors do not wait for torch.
    import torch

    from bvpo_analysis.run_folder import default_folder, point_latest
    from bvpo_analysis.training.run import forecast, run_training

    config = _config(options)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.dry_run:
        print(_forecast_text(forecast(config), config))
        return 0
    label = f"{config.method}-{config.regime if config.data is None else 'data'}"
    folder = options.output_dir or default_folder("train", label)
    run, manifest = run_training(config, folder, resume=options.resume, overwrite=options.overwrite)
    if int(os.environ.get("RANK", "0")) > 0:
        return 0
    if options.output_dir is None:
        point_latest(folder)
    print(summary(config, run, manifest["wall_seconds"]))
    if run.stopped:
        print(f"stopped after {run.steps} of {config.steps} steps: {run.stopped}")
    if run.kept_step < run.steps:
        print(f"the weights are those of step {run.kept_step}, where held-out accuracy was highest")
    print(f"model: {folder / 'model'}")
    return 0


def summary(config: "TrainConfig", run: "TrainingRun", seconds: float) -> str:
    """A short table: the held-out pairs before and after, the batches at the start and at the end."""
    steps, last = run.log[:-1], run.log[-1]
    first = steps[0] if steps else last
    weight = f", alpha {config.alpha}" if config.method == "bvpo" else ""
    head = f"{config.training_method.name}{weight}, {config.loss} with beta {config.beta:g}"
    lines = [f"{head}: {run.steps} steps of {config.batch_size} rows, {seconds:.0f} s"]
    rows = [
        ("held-out accuracy", "eval/accuracy"),
        ("held-out loss", "eval/loss"),
        ("  with empty traces: accuracy", "eval/empty_accuracy"),
        ("  with empty traces: loss", "eval/empty_loss"),
    ]
    table: list[tuple[str, ...]] = [
        (label, _with_error(first, name), _with_error(last, name)) for label, name in rows if name in last
    ]
    if steps:
        share = max(1, min(10, len(steps) // 2))
        for label, name in (("batch loss, mean of steps", "loss"), ("gradient norm", "grad_norm"), ("alpha", "alpha")):
            ends = (steps[:share], steps[-share:])
            table.append((label, *(f"{sum(row[name] for row in part) / len(part):.4g}" for part in ends)))
    table = [("", "start", "end"), *table] if table else []
    return "\n".join([*lines, *(f"  {label:<31}{before:>21}{after:>21}" for label, before, after in table)])


def _with_error(row: Any, name: str) -> str:
    if f"{name}_low" in row:
        return f"{row[name]:.3g} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"
    error = row.get(f"{name}_se")
    return f"{row[name]:.4g}" if error is None else f"{row[name]:.4g} ± {error:.2g}"


def _forecast_text(found: "Forecast", config: "TrainConfig") -> str:
    return "\n".join(
        [
            f"{found.method}: {config.steps} steps of {config.batch_size} rows on {found.pairs} pairs, "
            f"{found.held_out} held out",
            f"  trained parameters     {found.parameters}",
            f"  sequences per step     {found.sequences}",
            f"  tokens per step        {found.tokens}",
            f"  all steps              about {found.seconds:.0f} s, evaluations and probes not counted",
            f"  checkpoint             {found.checkpoint_bytes / 2**20:.1f} MiB",
            "nothing was written",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
