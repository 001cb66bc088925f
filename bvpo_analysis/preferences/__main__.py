"""Command line of preference files: validate, build, merge, export-trl. Parses options and prints; no more."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with

if TYPE_CHECKING:
    from bvpo_analysis.lrm.loading import ReasoningModel

FORMAT_HELP = "auto, native, trl, ultrafeedback or scored-responses (default: auto, told from the first row)"


def parser() -> argparse.ArgumentParser:
    """The options; kept free of heavy imports, so that --help is instant."""
    p = OneLineParser(
        prog="python -m bvpo_analysis.preferences",
        description="Preference files: check them, build them from a model, join them, export them for training.",
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="{validate,build,merge,export-trl}")

    check = commands.add_parser("validate", help="what is in a file, and what is wrong with it")
    check.add_argument("file", help="JSONL, JSON or parquet file, or datasets:OWNER/NAME[:SPLIT]")
    check.add_argument("--max-tokens", type=int, metavar="N", help="count completions longer than N (default: context)")
    check.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _reading(check)
    _model(check, "model of the study: lengths in tokens, template round trip, recorded log-probabilities")

    build = commands.add_parser("build", help="sample, rank and pair completions of a model")
    build.add_argument("prompts", help="JSONL, JSON or parquet file of prompts, or datasets:OWNER/NAME[:SPLIT]")
    build.add_argument("--reward", metavar="MODULE:FUNCTION", help="reward (prompt, answer) -> number")
    build.add_argument("--verifier", metavar="NAME", help="reward 1 if the answer agrees with the row's: exact, number")
    build.add_argument("--reward-model", metavar="MODEL", help="sequence classifier with one output, directory or id")
    build.add_argument("--samples", type=int, metavar="N", help="completions per prompt, of each kind (default: 5)")
    build.add_argument("--further", type=int, metavar="K", help="further posterior traces per answer (default: 0)")
    build.add_argument("--prior", type=int, metavar="M", help="prior traces per prompt (default: 0)")
    build.add_argument("--max-tokens", type=int, metavar="N", help="length limit of a completion (default: 4096)")
    build.add_argument("--temperature", type=float, help="only 1, the default, samples the policy itself")
    build.add_argument("--rows", type=int, metavar="N", help="completions generated together (default: 64)")
    build.add_argument("--seed", type=int, help="seed of all samples (default: 0)")
    build.add_argument("--limit", type=int, metavar="N", help="first N prompts only")
    build.add_argument("--shard", metavar="I/N", help="part I of N of the prompts; join the parts with merge")
    build.add_argument("--resume", action="store_true", help="continue an interrupted build of --output")
    _output(build)
    _model(build, "policy to sample from (default: the model in the box)")

    join = commands.add_parser("merge", help="join files, and add empty-trace answers by prompt; writes native rows")
    join.add_argument("files", nargs="+", help="files of pairs")
    join.add_argument("--empty-data", metavar="FILE", help="file of pairs generated without thinking (D_e)")
    _reading(join)
    _output(join)
    join.add_argument("--debug", action="store_true", help="show the full traceback of an error")

    export = commands.add_parser("export-trl", help="training file with a share alpha of trace-based rows")
    export.add_argument("file", help="file of pairs")
    export.add_argument("--alpha", type=float, required=True, help="share of trace-based rows, between 0 and 1")
    export.add_argument("--method", help="thin or repeat (default: thin)")
    export.add_argument("--seed", type=int, help="seed of the choice and order of rows (default: 0)")
    _reading(export)
    _output(export)
    _model(export, "model to be trained; its think format is written (default: the model in the box)")
    return p


def _reading(p: argparse.ArgumentParser) -> None:
    p.add_argument("--format", default="auto", help=FORMAT_HELP)
    p.add_argument("--one-per-prompt", action="store_true", help="keep the first pair of each prompt, count the others")


def _output(p: argparse.ArgumentParser) -> None:
    p.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSONL file to write")
    p.add_argument("--overwrite", action="store_true", help="replace --output if it exists")


def _model(p: argparse.ArgumentParser, purpose: str) -> None:
    p.add_argument("--model", help=purpose)
    p.add_argument("--revision", help="branch, tag or commit of a hub id")
    p.add_argument("--dtype", help="float32, float64, bfloat16 or float16 (default: float32)")
    p.add_argument("--device", help="cpu, cuda, cuda:N, mps or auto (default: cpu)")
    p.add_argument("--attention", help="eager, sdpa, flash_attention_2 or flex_attention (default: eager)")
    p.add_argument("--trust-remote-code", action="store_const", const=True, help="run code that comes with the model")
    p.add_argument("--think-open", metavar="TEXT", help="text that opens a trace, where the chat template does not say")
    p.add_argument("--think-close", metavar="TEXT", help="text between trace and answer")
    p.add_argument("--think-empty", metavar="TEXT", help="text of an empty trace")
    p.add_argument("--chat-template", metavar="FILE", help="chat template that replaces the tokenizer's")
    p.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 ok, 1 failure or a file that is not usable, 2 usage or input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {"validate": _validate, "build": _build, "merge": _merge, "export-trl": _export}
    try:
        options = parser().parse_args(arguments)
        return commands[options.command](options)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except (InputError, StudyError) as error:
        if "--debug" in arguments:
            raise
        return exit_with(error)
    except KeyboardInterrupt:
        print("interrupted; a build continues with the same command and --resume", file=sys.stderr)
        return 1


def _validate(options: argparse.Namespace) -> int:
    from bvpo_analysis.preferences.validate import validate
    from bvpo_analysis.preferences.validation_text import validation_text

    lrm = _load(options) if options.model or _given(options) else None
    if options.max_tokens is not None and lrm is None:
        raise InputError("--max-tokens needs --model, whose tokenizer counts them; give --model")
    found = validate(
        options.file, lrm, format=options.format, limit=options.max_tokens, one_per_prompt=options.one_per_prompt
    )
    print(json.dumps(asdict(found), indent=1, ensure_ascii=False) if options.json else validation_text(found))
    return 0 if found.usable else 1


def _build(options: argparse.Namespace) -> int:
    names = ("reward", "verifier", "reward_model")
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) != 1:
        raise InputError("give one of --reward MODULE:FUNCTION, --verifier NAME and --reward-model MODEL")
    if options.resume and options.overwrite:
        raise InputError("--resume and --overwrite exclude each other; give one of them")
    _require_new(options)

    from bvpo_analysis.preferences.build import BuildSettings, build, part_of, read_prompts
    from bvpo_analysis.preferences.rewards import function_reward, model_reward, verifier

    values = {f.name: value for f in fields(BuildSettings) if (value := getattr(options, f.name)) is not None}
    settings = BuildSettings(**values)
    if given == ["reward"]:
        reward = function_reward(options.reward)
    elif given == ["verifier"]:
        reward = verifier(options.verifier)
    else:
        reward = model_reward(options.reward_model, device=options.device or "cpu")
    prompts = read_prompts(options.prompts, limit=options.limit, references=reward.needs_reference)
    part = part_of(prompts, options.shard)
    report = build(
        _load(options),
        part,
        reward,
        options.output,
        settings,
        resume=options.resume,
        overwrite=options.overwrite,
        may_be_empty=options.shard is not None,
    )
    counts = report.counts
    print(f"{options.output}: {report.pairs} pairs of {counts.prompts} prompts")
    dropped = {
        "no two different rewards with thinking": counts.no_pair,
        "none without thinking": counts.no_empty_pair,
        "further posterior traces not found": counts.no_traces,
        "think tags inside trace or answer": report.tags,
    }
    for reason, count in dropped.items():
        if count:
            print(f"left out: {count} ({reason})")
    print(f"completions that never ended: {report.unclosed:.1%} with thinking, {report.empty_unclosed:.1%} without")
    if counts.respelt:
        print(f"completions that the tokenizer spells in other tokens than were generated: {counts.respelt}")
    if counts.unclosed:
        print("warning: leaving them out conditions the policy on short traces; use a larger --max-tokens")
    if settings.temperature != 1:
        print("warning: at a temperature other than 1 the traces are no draws from the policy, so g_t is biased")
    return 0


def _merge(options: argparse.Namespace) -> int:
    from bvpo_analysis.preferences.merge import merge
    from bvpo_analysis.preferences.rows import write_pairs

    _require_new(options)
    merged = merge(options.files, options.empty_data, format=options.format, one_per_prompt=options.one_per_prompt)
    write_pairs(options.output, merged.pairs)
    print(f"{options.output}: {len(merged.pairs)} pairs")
    if options.empty_data:
        print(f"with empty-trace answers of their own: {merged.with_empty}; rows not used: {merged.unused_empty}")
    for reason, count in merged.dropped.items():
        print(f"left out: {count} ({reason})")
    return 0


def _export(options: argparse.Namespace) -> int:
    from bvpo_analysis.preferences.export import mixed_rows, trl_row
    from bvpo_analysis.preferences.rows import read_file, write_lines

    _require_new(options)
    file = read_file(options.file, format=options.format, one_per_prompt=options.one_per_prompt)
    rows = mixed_rows(len(file.pairs), options.alpha, method=options.method or "thin", seed=options.seed or 0)
    lrm = _load(options)
    different = 0

    def lines() -> Iterator[str]:
        nonlocal different
        for i, thinking in zip(rows.pair, rows.thinking, strict=True):
            row = trl_row(lrm, file.pairs[i], thinking=thinking)
            different += not row.same_tokens
            yield json.dumps(row.columns(), ensure_ascii=False)

    write_lines(options.output, lines())
    print(
        f"{options.output}: {len(rows.pair)} rows, {sum(rows.thinking)} trace-based and "
        f"{len(rows.pair) - sum(rows.thinking)} with an empty trace: share {rows.share:.4g} for alpha {rows.alpha:.4g}"
    )
    for reason, count in file.dropped.items():
        print(f"left out: {count} ({reason})")
    if different:
        print(f"rows that a trainer spells in other tokens than a study, at the borders of their parts: {different}")
    copied = sum(pair.empty_answers == "copied" for pair in file.pairs)
    if copied and rows.alpha < 1:
        print(f"{copied} pairs have no answers of their own for the empty trace; y+ and y- serve instead")
    return 0


def _require_new(options: argparse.Namespace) -> None:
    """Refuse early what could not be written at the end."""
    output: Path = options.output
    if output.is_dir():
        raise InputError(f"{output}: is a folder; give --output a file")
    if not output.parent.is_dir():
        raise InputError(f"{output}: there is no folder {output.parent}; make it, or use another --output")
    if output.exists() and not options.overwrite:
        raise InputError(f"{output}: exists; use --overwrite or another --output")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of the model that were given."""
    from bvpo_analysis.lrm.options import ModelOptions

    names = [f.name for f in fields(ModelOptions)]
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _load(options: argparse.Namespace) -> "ReasoningModel":
    from bvpo_analysis.lrm.options import ModelOptions

    given = ModelOptions.from_plain(_given(options))  # checked before anything heavy is imported

    import torch

    from bvpo_analysis.lrm.loading import load_model

    torch.set_num_threads(1)
    return load_model(options.model, **(given.plain() if _given(options) else {}))


if __name__ == "__main__":
    sys.exit(main())
