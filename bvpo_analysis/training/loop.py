"""The training loop: the gradients of a batch, a weight between them, one step of the optimiser, one line of the log.

A step depends on the configuration, its number and the checkpointed state only, so a run that was stopped goes on to
the same bits on a CPU.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.problem import training_problem
from bvpo_analysis.training.running_moments import RunningMoments
from bvpo_analysis.training.steps import step_gradients, step_metrics

Callback = Callable[[int, ReasoningModel], Mapping[str, float]]
"""Called with the number of steps done and the policy as it is then; what it returns goes into the log."""
STOPPING = "eval/accuracy"
"""The logged number that decides on early stopping."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside its weights and its optimiser.

    Attributes:
        step: steps done.
        moments: running moments of the gradients.
        best, since: best held-out accuracy, and evaluations since.
        stopped: why the run has ended early; empty if it has not.
    """

    step: int = 0
    moments: RunningMoments = field(default_factory=RunningMoments)
    best: float = -1.0
    since: int = 0
    stopped: str = ""

    def seen(self, accuracy: float | None, patience: int | None) -> "Progress":
        """The progress after an evaluation; without an accuracy or patience nothing changes."""
        if accuracy is None or patience is None:
            return self
        if accuracy > self.best:
            return replace(self, best=accuracy, since=0)
        since = self.since + 1
        stopped = f"held-out accuracy has not risen for {since} evaluations" if since >= patience else ""
        return replace(self, since=since, stopped=stopped)


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        log: one mapping for every step, and a last one for the end.
        steps: steps that were taken.
        stopped: why the run ended early; empty if it did not.
    """

    log: tuple[Mapping[str, Any], ...]
    steps: int
    stopped: str = ""


def train(
    config: TrainConfig,
    lrm: ReasoningModel,
    pairs: Sequence[PreferencePair],
    folder: Path | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> TrainingRun:
    """Train ``lrm`` in place. Its weights at the start are the reference, also of a run that is resumed.

    Args:
        config: the options.
        lrm: the policy, whose parameters are changed.
        pairs: the training pairs.
        folder: where log.jsonl and checkpoint.safetensors go; nothing is kept without it.
        callbacks: called before the first step, every ``evaluate_every`` steps, and at the end.
        resume: go on from the checkpoint in ``folder``, if there is one.

    Raises:
        InputError: fewer rows than a batch, missing traces, or a damaged checkpoint.
        StudyError: a loss or a gradient is not finite; the last checkpoint is kept.
    """
    problem, rule = training_problem(config, lrm, pairs), config.rule
    parameters = {name: p.requires_grad_(True) for name, p in lrm.model.named_parameters()}
    optimiser = make_optimiser(config, parameters)
    progress, noise = Progress(moments=RunningMoments(config.decay)), None
    log: list[dict[str, Any]] = []
    if resume and folder is not None and (folder / "checkpoint.safetensors").exists():
        progress, noise, log = restore(folder, parameters, optimiser)

    while progress.step < config.steps and not progress.stopped:
        step, rate = progress.step, config.rate(progress.step)
        entry: dict[str, Any] = {"step": step, "epoch": problem.order.epoch(step)}
        if step % config.evaluate_every == 0:
            entry |= _called(callbacks, step, lrm)
            progress = progress.seen(entry.get(STOPPING), config.patience)
            if progress.stopped:
                break

        trace, empty = step_gradients(problem, lrm.model, parameters, config.objective, step, config.micro_batches)
        g_t, g_e = (None if gradient is None else gradient.mean for gradient in (trace, empty))
        if trace is not None and empty is not None and problem.method.mixes:
            alpha = rule.weight(progress.moments, rate, g_t, g_e)
            if rule.adaptive:
                moments, noise = progress.moments.updated(trace.halves, empty.halves, noise)
                progress = replace(progress, moments=moments)
        else:
            alpha = 1.0 if trace is None or empty is None else sum(trace.counts) / config.batch_size
            alpha = 0.0 if trace is None else alpha
        mixed = torch.stack([w * g for w, g in ((alpha, g_t), (1.0 - alpha, g_e)) if g is not None]).sum(0)

        norm = float(mixed.norm())
        clipped = mixed if config.clip is None or norm <= config.clip else mixed * (config.clip / norm)
        pieces = clipped.split([p.numel() for p in parameters.values()])
        for parameter, piece in zip(parameters.values(), pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        for group in optimiser.param_groups:
            group["lr"] = config.lr * rate
        optimiser.step()

        entry |= step_metrics((trace, empty), config.beta)
        entry |= {"grad_norm": norm, "learning_rate": config.lr * rate, "alpha": alpha, "kappa": config.kappa * rate}
        entry |= {f"{n}/grad_norm": float(g.norm()) for n, g in (("trace", g_t), ("empty", g_e)) if g is not None}
        log.append(entry)
        progress = replace(progress, step=step + 1)
        if folder is not None and progress.step % config.save_every == 0:
            keep(folder, progress, parameters, optimiser, noise, log)

    for parameter in parameters.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    if folder is not None:
        keep(folder, progress, parameters, optimiser, noise, log)
    last = {"step": progress.step, **_called(callbacks, progress.step, lrm)}
    return TrainingRun((*log, last), progress.step, progress.stopped)


def make_optimiser(config: TrainConfig, parameters: Mapping[str, torch.Tensor]) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    values = list(parameters.values())
    if config.optimiser == "sgd":
        return torch.optim.SGD(values, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(values, lr=config.lr, weight_decay=config.weight_decay)


def keep(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    noise: torch.Tensor | None,
    log: Sequence[Mapping[str, Any]],
) -> None:
    """Write log and checkpoint; each appears only when it is complete, the checkpoint last."""
    part = folder / "log.jsonl.part"
    part.write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
    part.replace(folder / "log.jsonl")
    tensors = optimiser_tensors(optimiser, list(parameters))
    save_checkpoint(
        folder / "checkpoint.safetensors", Checkpoint(progress.step, parameters, tensors, noise, asdict(progress))
    )


def restore(
    folder: Path, parameters: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> tuple[Progress, torch.Tensor | None, list[dict[str, Any]]]:
    """Put weights and optimiser back; returns (progress, noise of the last batch, log up to there)."""
    held = load_checkpoint(folder / "checkpoint.safetensors")
    with torch.no_grad():
        for name, value in held.parameters.items():
            parameters[name].copy_(value)
    restore_optimiser(optimiser, list(parameters), held.optimiser)
    progress = Progress(**(dict(held.state) | {"moments": RunningMoments(**held.state["moments"])}))
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[: progress.step]
    return progress, held.noise, [json.loads(line) for line in lines]


def _called(callbacks: Sequence[Callback], step: int, lrm: ReasoningModel) -> dict[str, float]:
    found: dict[str, float] = {}
    for callback in callbacks:
        found |= callback(step, lrm)
    return found
