"""One report from its options: load, check, score, take moments, compare with enumeration, write the run folder."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bvpo_analysis.comparison import EstimatorComparison, memory_needed
from bvpo_analysis.cost import Architecture
from bvpo_analysis.errors import InputError
from bvpo_analysis.exact import (
    ExactTable,
    enumerate_prompts,
    largest_deviation,
    load_table,
    pairs_fingerprint,
    rows_fingerprint,
    shipped_traces,
)
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.preferences.rows import read_file, require_traces
from bvpo_analysis.preferences.shipped import DIRECTORY, pairs_path
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.report.config import BOX, FEWEST_COMPARED, ReportConfig
from bvpo_analysis.report.drawings import write_figures
from bvpo_analysis.report.losses import LossRow, compared_losses, loss_rows
from bvpo_analysis.report.processes import Meeting
from bvpo_analysis.report.render import render_html, render_markdown
from bvpo_analysis.report.results import SCHEMA_VERSION, study_results
from bvpo_analysis.report.run_folder import (
    open_folder,
    peak_memory_bytes,
    remove_partial_files,
    source_revision,
    versions,
    write_json,
    write_text,
)
from bvpo_analysis.report.schema import check_results
from bvpo_analysis.report.train_runs import read_runs
from bvpo_analysis.report.trained import StudyTables
from bvpo_analysis.scores import ENGINE_NAMES, BlockFolder, Shard, score_engine
from bvpo_analysis.scores.blocks import require_all_counted
from bvpo_analysis.scores.memory import available_bytes
from bvpo_analysis.scores.pair_work import BLOCK
from bvpo_analysis.study import Study, is_off_reference, require_identified
from bvpo_analysis.tables import jsonable

CHECKED_PROMPTS = 32
"""Prompts whose exact moments are recomputed against the committed table in a full report."""


def choose_pairs(pairs: Sequence[PreferencePair], limit: int | None, seed: int) -> tuple[PreferencePair, ...]:
    """``limit`` pairs drawn without replacement, kept in data order (a file's first rows may not be typical).

    Example:
        >>> choose_pairs([1, 2, 3], None, 0), len(choose_pairs([1, 2, 3], 2, 0))
        ((1, 2, 3), 2)
    """
    if limit is None or limit >= len(pairs):
        return tuple(pairs)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:limit])
    return tuple(pairs[i] for i in chosen)


def checked_prompts(pairs: int) -> int:
    """How many prompts of a report of so many pairs are enumerated again: 32, or one block of a short report."""
    return CHECKED_PROMPTS if pairs >= 4 * CHECKED_PROMPTS else BLOCK


class Inputs:
    """Models and data of a report, loaded and checked before anything is written.

    Raises:
        InputError: with the place and the remedy.
    """

    def __init__(self, config: ReportConfig):
        self.path = Path(config.data) if config.data else pairs_path(config.regime)
        self.file = read_file(self.path)
        everything = self.file.pairs
        self.pairs = choose_pairs(everything, config.limit, config.seed)
        sampled = None if config.traces == "exact" else int(config.traces)
        if sampled is not None:
            require_traces(self.pairs, sampled)
        self.lrm = load_model(config.model, **config.model_options.plain())
        self.reference: ReasoningModel | None = None
        if config.ref_model is not None:
            # A revision names a commit of the model, not of another one.
            options = replace(config.model_options, revision=None).plain()
            self.reference = load_model(None if config.ref_model == BOX else config.ref_model, **options)
        require_identified(self.pairs, self.lrm, config.objective, traces=sampled, reference=self.reference)
        if config.engine not in ENGINE_NAMES:
            raise InputError(f"unknown --engine {config.engine!r}; choose among {', '.join(ENGINE_NAMES)}")
        self.scorer = score_engine(config.engine, self.lrm.model, config.params)
        for pair in self.pairs:
            if sampled is None:
                shipped_traces(pair)
            try:
                for side in (0, 1):
                    for trace in pair.traces(side)[: sampled or 1]:
                        self.lrm.assembler.check_round_trip(pair.prompt, trace, pair.answer(side))
            except InputError as error:
                raise InputError(f"prompt {pair.prompt_id!r}: {error}") from error
        self.training_runs = read_runs(config.train)
        self.tables: StudyTables | None = None
        if config.from_study is not None:
            self.tables = StudyTables(config.regime, Path(config.from_study)).require()
        self.provenance: dict[str, Any] | None = None
        if config.data is None and config.ref_model in (None, BOX):
            self.provenance = json.loads((DIRECTORY / f"{config.regime}.provenance.json").read_text())
        shipped = config.data is None and config.model is None and config.ref_model is None
        self.exact: ExactTable | None = None
        if shipped and config.empty_mode == "prefilled" and config.params is None and config.dtype == "float32":
            table = load_table(config.regime)
            same = table.model == self.lrm.fingerprint and table.data == pairs_fingerprint(everything)
            if not same:
                raise InputError("the exact table belongs to other weights or pairs; recompute it with: make exact")
            if table.objective == repr(config.objective):
                self.exact = table


@dataclass(frozen=True)
class Begin:
    """How a run deals with what its folder holds.

    Attributes:
        resume: continue an interrupted run.
        overwrite: replace an earlier run.
        merge: finish what shards have begun; an error if one of them has not done its part.
    """

    resume: bool = False
    overwrite: bool = False
    merge: bool = False


def run_report(
    config: ReportConfig,
    folder: Path,
    begin: Begin = Begin(),
    *,
    shard: Shard | None = None,
    together: bool = False,
) -> dict[str, Any]:
    """Make a report in ``folder`` and return its results.

    Args:
        config: the options.
        folder: the run folder.
        begin: what to do with what it holds.
        shard: the part of this process, where several share the work.
        together: whether the processes were started together and wait for each other; the first one reports.

    Raises:
        InputError: wrong input; nothing is left behind.
        StudyError: a computation failed; finished blocks stay for ``resume``.
        ShardFinished: this process has done its part of the scoring and writes no report.
    """
    started, cpu = time.perf_counter(), time.process_time()
    inputs = Inputs(config)
    meeting = Meeting.join(shard) if shard is not None and together else None
    try:
        study = _scored(config, inputs, folder, begin, shard, meeting)
    finally:
        if meeting is not None:
            meeting.leave()
    checked, deviation = 0, None
    losses: tuple[LossRow, ...] = ()
    if inputs.exact is not None:
        sample = inputs.pairs[: checked_prompts(len(inputs.pairs))]
        checked = len(sample)
        enumerated = enumerate_prompts(inputs.lrm, sample)
        deviation = largest_deviation(inputs.lrm, sample, inputs.exact, config.objective, scores=enumerated)
        losses = loss_rows(enumerated, compared_losses(config.objective))
    compared = _compared(config, inputs, folder)
    too_large = too_large_to_compare(inputs) if config.compare and not not_comparable(config, inputs) else ""
    core = study_results(
        study,
        inputs.pairs,
        batch_size=config.batch_size,
        kappa=config.kappa,
        policy=(inputs.reference or inputs.lrm).fingerprint,
        provenance=inputs.provenance,
        exact=inputs.exact,
        largest_deviation=deviation,
        checked=checked,
        regime=config.regime if inputs.exact is not None else None,
        compared=compared,
        file=inputs.file,
        notes=[too_large] if too_large else [],
        losses=losses,
        architecture=Architecture.from_config(
            getattr(inputs.lrm.model, "config", None), sum(p.numel() for p in inputs.lrm.model.parameters())
        ),
        tables=inputs.tables,
        training_runs=inputs.training_runs,
    )
    results = jsonable(
        {
            "schema_version": SCHEMA_VERSION,
            "config": asdict(config),
            "model": _model_facts(study, inputs),
            "data": _data_facts(config, inputs, study),
            **core,
            "versions": versions(),
            "cost": _cost(study, compared, time.perf_counter() - started),
        }
    )
    check_results(results)
    write_figures(results, folder / "figures")
    write_text(folder / "per_pair.csv", study.per_pair().to_csv(index=False, lineterminator="\n"))
    write_json(folder / "results.json", results)
    write_text(folder / "report.md", render_markdown(results))
    write_text(folder / "report.html", render_html(results))
    manifest = {
        "command": "report",
        "versions": versions(),
        "source": source_revision(),
        "device": str(next(inputs.lrm.model.parameters()).device),
        "dtype": str(next(inputs.lrm.model.parameters()).dtype),
        "attention": getattr(inputs.lrm.model.config, "_attn_implementation", None),
        "threads": torch.get_num_threads(),
        "seed": config.seed,
        "model": results["model"]["fingerprint"],
        "reference": results["model"]["reference_fingerprint"],
        "tokenizer": hashlib.blake2b(
            json.dumps(inputs.lrm.tokenizer.get_vocab(), sort_keys=True).encode(), digest_size=16
        ).hexdigest(),
        "chat_template": hashlib.blake2b(inputs.lrm.tokenizer.chat_template.encode(), digest_size=16).hexdigest(),
        "data": results["data"]["fingerprint"],
        "think_format": asdict(inputs.lrm.assembler.format),
        "empty_mode": config.empty_mode,
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    write_json(folder / "manifest.json", manifest)
    remove_partial_files(folder)
    return results


def _scored(
    config: ReportConfig, inputs: Inputs, folder: Path, begin: Begin, shard: Shard | None, meeting: Meeting | None
) -> Study:
    """Open the run folder and score, alone or with other processes."""
    new = False

    def open_it() -> Path:
        nonlocal new
        joins = shard is not None and meeting is None
        new = open_folder(
            folder, config.to_yaml(), resume=begin.resume or begin.merge or joins, overwrite=begin.overwrite
        )
        return folder

    folder = open_it() if meeting is None else meeting.agree_on_folder(open_it)
    blocks = folder / "blocks"
    if begin.merge:
        require_all_counted(blocks)
    place = BlockFolder(blocks, shard or Shard(), meeting.synchronise if meeting is not None else None)
    exact = config.traces == "exact"
    try:
        return Study.from_pairs(
            inputs.lrm,
            inputs.pairs,
            objective=config.objective,
            traces=1 if exact else int(config.traces),
            enumerate_traces=shipped_traces if exact else None,
            reference=inputs.reference,
            empty_mode=config.empty_mode,
            parameters=config.params,
            engine=config.engine,
            blocks=place,
            label=f"scores {config.regime}" if config.data is None else "scores",
        )
    except BaseException:
        if new and shard is None and not list(blocks.glob("*.safetensors")):
            shutil.rmtree(folder)
        raise


def not_comparable(config: ReportConfig, inputs: Inputs) -> bool:
    """Whether other estimators have no common target: off the reference, or where traces are enumerated."""
    return config.traces == "exact" or is_off_reference(inputs.lrm, inputs.reference)


def too_large_to_compare(inputs: Inputs) -> str:
    """Why other estimators are not compared for want of memory; empty if they can be."""
    available, needed = available_bytes(inputs.scorer.device), memory_needed(inputs.scorer.size)
    if available is None or needed <= available // 2:
        return ""
    return (
        f"Other estimators were not compared: with {inputs.scorer.size} parameters that takes about "
        f"{needed / 2**30:.0f} GiB; --params makes it smaller."
    )


def _compared(config: ReportConfig, inputs: Inputs, folder: Path) -> EstimatorComparison | None:
    """Other estimators on the first pairs; None where they cannot be compared, or if not asked for."""
    pairs = inputs.pairs[: config.compare]
    off = is_off_reference(inputs.lrm, inputs.reference)
    if config.traces == "exact" or off or len(pairs) < FEWEST_COMPARED or too_large_to_compare(inputs):
        return None
    return EstimatorComparison.from_pairs(
        inputs.lrm,
        pairs,
        objective=config.objective,
        traces=int(config.traces),
        empty_mode=config.empty_mode,
        parameters=config.params,
        engine=config.engine,
        blocks=folder / "blocks" / "estimators",
    )


def _model_facts(study: Study, inputs: Inputs) -> dict[str, Any]:
    reference = inputs.reference or inputs.lrm
    return {
        "name": inputs.lrm.name,
        "fingerprint": inputs.lrm.fingerprint,
        "reference": reference.name,
        "reference_fingerprint": reference.fingerprint,
        "parameters": sum(study.scores.parameters),
        "groups": list(study.scores.groups),
    }


def _data_facts(config: ReportConfig, inputs: Inputs, study: Study) -> dict[str, Any]:
    logs = [pair.log_probs for pair in study.scores.pairs]
    answer = np.concatenate([log.tokens_answer[log.draws.ravel()] for log in logs])
    whole = np.concatenate([log.tokens[log.draws.ravel()] for log in logs])
    facts = {
        "source": inputs.path.name if config.data is None else str(inputs.path),
        "regime": config.regime if config.data is None else None,
        "pairs": len(inputs.pairs),
        "fingerprint": rows_fingerprint(inputs.pairs),
        "traces_per_answer": config.traces,
        "empty_answers_own": sum(pair.empty_answers == "own" for pair in inputs.pairs),
        "tokens_trace_mean": float((whole - answer).mean()),
        "tokens_answer_mean": float(answer.mean()),
        "format": inputs.file.format,
        "left_out": dict(inputs.file.dropped),
        "columns_not_used": list(inputs.file.ignored),
        "think_format": inputs.lrm.assembler.format.name,
        "notes": list(inputs.lrm.notes),
    }
    return facts if inputs.provenance is None else facts | {"provenance": inputs.provenance}


def _cost(study: Study, compared: EstimatorComparison | None, seconds: float) -> dict[str, Any]:
    pairs = [pair.log_probs for part in (study, compared) if part is not None for pair in part.scores.pairs]
    return {
        "sequences": sum(log.size for log in pairs),
        "tokens": int(sum(log.tokens.sum() for log in pairs)),
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }
