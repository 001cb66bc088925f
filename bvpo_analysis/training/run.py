"""One training run from its options: load, check, train, and leave a run folder whose model any command can read.

config.yaml             the options; replay with --config
manifest.json           what ran, on what, for how long
log.jsonl               one line a step
checkpoint.safetensors  from which an interrupted run goes on to the same bits
model/                  the trained model; adapters are added to the weights they adapt
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.exact import rows_fingerprint
from bvpo_analysis.lrm.loading import ReasoningModel, load_model, weights_fingerprint
from bvpo_analysis.off_reference.checkpoints import save_checkpoint
from bvpo_analysis.preferences.rows import read_pairs
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.run_folder import (
    open_folder,
    peak_memory_bytes,
    remove_partial_files,
    source_revision,
    versions,
    write_json,
)
from bvpo_analysis.training.config import BOX, TrainConfig
from bvpo_analysis.training.held_out import HeldOut, split_pairs
from bvpo_analysis.training.loop import Callback, TrainingRun, train
from bvpo_analysis.training.parameters import trained_parameters, with_adapters, without_adapters
from bvpo_analysis.training.probe import Probe
from bvpo_analysis.training.problem import plan_training, training_problem
from bvpo_analysis.training.processes import leave, own_device, wait_for_all, world
from bvpo_analysis.training.steps import step_gradients

MODEL, MANIFEST = "model", "manifest.json"
OWN = (MANIFEST, "log.jsonl", "checkpoint.safetensors", MODEL)
"""What a run leaves in its folder beside config.yaml."""
IDENTITIES = {
    "start": "model (its weights are not the same)",
    "reference": "reference model",
    "data": "set of training pairs",
    "held_out_data": "set of held-out pairs",
}
"""What must not change between the parts of a run that is resumed."""


@dataclass(frozen=True)
class TrainInputs:
    """Models and pairs of a run, loaded and checked before anything is written.

    Attributes:
        lrm: the policy, with adapters where they are trained.
        reference: pi_ref, if not the policy at the start.
        pairs: the training pairs.
        held_out: pairs that are kept out.
    """

    lrm: ReasoningModel
    reference: ReasoningModel | None
    pairs: tuple[PreferencePair, ...]
    held_out: tuple[PreferencePair, ...]

    @classmethod
    def load(cls, config: TrainConfig) -> "TrainInputs":
        """Load what the options name.

        Raises:
            InputError: with the place and the remedy.
        """
        if config.data is not None:
            everything: Sequence[PreferencePair] = read_pairs(config.data)[: config.limit]
        else:
            everything = shipped_pairs(config.regime, limit=config.limit)
        training, held_out = split_pairs(everything, config.held_out, config.seed)
        loading = replace(config.model_options, device=own_device(config.device))
        lrm = load_model(config.model, **loading.plain())
        reference = None
        if config.ref_model is not None:
            # A revision names a commit of the model, not of another one.
            options = replace(loading, revision=None).plain()
            reference = load_model(None if config.ref_model == BOX else config.ref_model, **options)
        for pair in everything:
            require_round_trip(lrm, pair, config.training_method.traces)
        if config.lora_rank:
            lrm = with_adapters(lrm, config.lora_rank, config.lora_alpha, config.seed)
        return cls(lrm, reference, tuple(training), tuple(held_out))

    def callbacks(self, config: TrainConfig) -> list[Callback]:
        """Evaluation on the held-out pairs, and the probe; both see the reference as it is now."""
        found: list[Callback] = []
        if self.held_out:
            found.append(HeldOut.of(config, self.reference or self.lrm, self.held_out))
        if config.probe_every is not None:
            found.append(Probe.of(config, self.reference or self.lrm, self.pairs))
        return found


def require_round_trip(lrm: ReasoningModel, pair: PreferencePair, traces: int) -> None:
    """Hold that what is trained on is what the model's chat template would write.

    Raises:
        InputError: a trace or an answer that the template changes, naming the prompt.
    """
    try:
        for side in (0, 1):
            for trace in pair.traces(side)[:traces]:
                lrm.assembler.check_round_trip(pair.prompt, trace, pair.answer(side))
    except InputError as error:
        raise InputError(f"prompt {pair.prompt_id!r}: {error}") from error


@dataclass(frozen=True)
class Bar:
    """A progress bar; a callback that logs nothing."""

    bar: Any
    every: int = 1

    def __call__(self, step: int, lrm: ReasoningModel) -> Mapping[str, float]:
        """Show the steps that are done."""
        self.bar.update(step - self.bar.n)
        return {}


def run_training(
    config: TrainConfig, folder: Path, *, resume: bool = False, overwrite: bool = False
) -> tuple[TrainingRun, dict[str, Any]]:
    """Train in ``folder``; returns the run and its manifest.

    Under ``torchrun`` all processes train together and the first one writes.

    Raises:
        InputError: wrong input; nothing is left behind, and nothing of an earlier run is lost.
        StudyError: a number is not finite; log and checkpoint of the last sound step stay.
    """
    started, cpu = time.perf_counter(), time.process_time()
    rank, processes = world()
    inputs = TrainInputs.load(config)
    plan_training(config, inputs.lrm, inputs.pairs)
    callbacks = inputs.callbacks(config)
    facts = what_is_trained(config, inputs)
    if rank == 0:
        new = open_folder(folder, config.to_yaml(), OWN, resume=resume, overwrite=overwrite)
        if not new and resume:
            require_same(folder / MANIFEST, facts)
        write_json(folder / MANIFEST, {"command": "train", **facts, "finished": False})
    wait_for_all()
    with tqdm(total=config.steps, desc=config.training_method.name, unit="step", leave=False, disable=rank > 0) as bar:
        run = train(
            config,
            inputs.lrm,
            inputs.pairs,
            folder,
            reference=inputs.reference,
            callbacks=[*callbacks, Bar(bar)],
            resume=resume,
        )
    trained = without_adapters(inputs.lrm)
    manifest = {
        "command": "train",
        **facts,
        "finished": True,
        "steps": run.steps,
        "kept_step": run.kept_step,
        "stopped": run.stopped,
        "kappa": run.kappa,
        "model": weights_fingerprint(trained.model),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_memory_bytes": peak_memory_bytes(),
        "versions": versions(),
        "source": source_revision(),
    }
    if rank == 0:
        part = folder / f"{MODEL}.part"
        shutil.rmtree(part, ignore_errors=True)
        save_checkpoint(trained, part)
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        part.rename(folder / MODEL)
        write_json(folder / MANIFEST, manifest)
        remove_partial_files(folder)
    wait_for_all()
    leave()
    return run, manifest


def what_is_trained(config: TrainConfig, inputs: TrainInputs) -> dict[str, Any]:
    """What a run depends on beside its options, for its manifest."""
    parameters = trained_parameters(inputs.lrm.model, config.params)
    first = next(iter(parameters.values()))
    return {
        "method": config.training_method.name,
        "seed": config.seed,
        "start": weights_fingerprint(inputs.lrm.model),
        "reference": None if inputs.reference is None else inputs.reference.fingerprint,
        "data": rows_fingerprint(inputs.pairs),
        "held_out_data": rows_fingerprint(inputs.held_out),
        "training_pairs": len(inputs.pairs),
        "held_out_pairs": len(inputs.held_out),
        "trained_parameters": sum(p.numel() for p in parameters.values()),
        "kappa_from": kappa_source(config),
        "device": str(first.device),
        "dtype": str(first.dtype),
        "attention": inputs.lrm.options.attention,
        "think_format": asdict(inputs.lrm.assembler.format),
    }


def require_same(path: Path, facts: Mapping[str, Any]) -> None:
    """Hold that a run which is resumed started from the same weights and pairs.

    Raises:
        InputError: it did not, naming what differs.
    """
    if not path.is_file():
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    for name in ("start", "reference", "data", "held_out_data"):
        if there.get(name) != facts[name]:
            raise InputError(
                f"{path.parent}: the interrupted run had another {IDENTITIES[name]}; put it back, or use --overwrite "
                "or another --output-dir"
            )


def kappa_source(config: TrainConfig) -> str:
    """Where the logged kappa comes from.

    Example:
        >>> kappa_source(TrainConfig())
        '--kappa'
    """
    if config.smoothness is None:
        return "--kappa"
    length = "lr L of a plain gradient step"
    given = "the largest curvature at the start" if config.smoothness == "measured" else "given"
    return f"{length}, L {given}"


@dataclass(frozen=True)
class Forecast:
    """What a run would take.

    Attributes:
        method: what is differentiated.
        pairs, held_out: training and held-out pairs.
        parameters: trained parameters.
        sequences, tokens: of the first batch.
        seconds: for all steps, from the first one; without evaluations and probes.
        checkpoint_bytes: size of a checkpoint.
    """

    method: str
    pairs: int
    held_out: int
    parameters: int
    sequences: int
    tokens: int
    seconds: float
    checkpoint_bytes: int


def forecast(config: TrainConfig) -> Forecast:
    """Differentiate one batch, write nothing, and say what all steps would take.

    Raises:
        InputError: as :func:`run_training`.
    """
    inputs = TrainInputs.load(config)
    plan_training(config, inputs.lrm, inputs.pairs)
    inputs.callbacks(replace(config, held_out=0.0))
    parameters = trained_parameters(inputs.lrm.model, config.params)
    rows = inputs.pairs[: 2 * config.batch_size]
    problem = training_problem(config, inputs.lrm, rows, inputs.reference)
    started = time.perf_counter()
    parts = step_gradients(problem, inputs.lrm.model, parameters, config.objective, 0, config.micro_batches)
    seconds = time.perf_counter() - started
    seen = [batch for part in parts if part is not None for batch in part.seen]
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    states = 2 if config.optimiser == "adamw" else int(config.momentum > 0)
    kept = int(config.patience is not None)
    return Forecast(
        method=config.training_method.name,
        pairs=len(inputs.pairs),
        held_out=len(inputs.held_out),
        parameters=sum(p.numel() for p in parameters.values()),
        sequences=sum(batch.sequences for batch in seen),
        tokens=sum(batch.tokens for batch in seen),
        seconds=seconds * config.steps,
        checkpoint_bytes=size * (1 + states + int(config.rule.adaptive and config.training_method.mixes) + kept),
    )
