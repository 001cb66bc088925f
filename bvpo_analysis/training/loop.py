"""The training loop: the gradients of a batch, a weight between them, one step of the optimiser, one line of the log.

A step depends on the configuration, its number and the checkpointed state only, so a run that was stopped goes on to
the same bits on a CPU. A checkpoint is written once the next batch has shown its weights to be sound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.parameters import trained_parameters
from bvpo_analysis.training.problem import TrainingProblem, training_problem
from bvpo_analysis.training.progress import CHECKPOINT, Progress, copies, keep, put_back, restore
from bvpo_analysis.training.running_moments import RunningMoments
from bvpo_analysis.training.smoothness import peak_kappa
from bvpo_analysis.training.steps import GradientParts, step_gradients, step_metrics

Callback = Callable[[int, ReasoningModel], Mapping[str, float | None]]
"""Called with the number of steps done and the policy as it is then; what it returns goes into the log.

It is called before the first step, every ``evaluate_every`` steps, or every ``callback.every`` where it has that
attribute, and at the end.
"""
STOPPING = "eval/accuracy"
"""The logged number that decides on early stopping."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        log: one mapping for every step, and a last one for the end, of the weights that are kept; where those are of an
            earlier step, "kept_step" names it.
        steps: steps that were taken.
        kept_step: the step whose weights the policy has in the end; with early stopping that of the best evaluation.
        stopped: why the run ended early; empty if it did not.
        kappa: at the peak of the learning rate.
    """

    log: tuple[Mapping[str, Any], ...]
    steps: int
    kept_step: int
    stopped: str = ""
    kappa: float = 1.0


def train(
    config: TrainConfig,
    lrm: ReasoningModel,
    pairs: Sequence[PreferencePair],
    folder: Path | None = None,
    *,
    reference: ReasoningModel | None = None,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> TrainingRun:
    """Train ``lrm`` in place.

    Args:
        config: the options.
        lrm: the policy, whose parameters are changed; with its weights at the start, also of a run that is resumed.
        pairs: the training pairs.
        folder: where log.jsonl and checkpoint.safetensors go; nothing is kept without it.
        reference: pi_ref; ``lrm`` at the start where not given.
        callbacks: called on the way, see :data:`Callback`.
        resume: go on from the checkpoint in ``folder``, if there is one.

    Raises:
        InputError: fewer rows than a batch, missing traces, or a damaged checkpoint.
        StudyError: a loss or a gradient is not finite; the last checkpoint is kept.
    """
    problem = training_problem(config, lrm, pairs, reference)
    parameters = trained_parameters(lrm.model, config.params)
    kappa = peak_kappa(config, problem, lrm.model, parameters)
    rule = replace(config.rule, kappa=kappa)
    optimiser = make_optimiser(config, parameters)
    progress, noise = Progress(moments=RunningMoments(config.decay)), None
    best: dict[str, torch.Tensor] = {}
    log: list[dict[str, Any]] = []
    if resume and folder is not None and (folder / CHECKPOINT).exists():
        progress, noise, best, log = restore(folder, parameters, optimiser)

    while progress.step < config.steps and not progress.stopped:
        before, step, rate = progress, progress.step, config.rate(progress.step)
        entry: dict[str, Any] = {"step": step, "epoch": problem.order.epoch(step)}
        for callback in callbacks:
            if step % getattr(callback, "every", config.evaluate_every) == 0:
                entry |= callback(step, lrm)
        progress = progress.seen(entry.get(STOPPING), config.patience)
        if progress.stopped:
            break
        if progress.best_step == step:
            best = copies(parameters)

        try:
            trace, empty = step_gradients(problem, lrm.model, parameters, config.objective, step, config.micro_batches)
        except StudyError as error:
            last_saved = (step - 1) // config.save_every * config.save_every
            kept = f"; the checkpoint of step {last_saved} is kept" if folder is not None and step > 0 else ""
            raise StudyError(f"{where(problem, step)}: {error}{kept}") from error
        if folder is not None and step % config.save_every == 0:
            keep(folder, before, parameters, optimiser, noise, best, log)
        g_t, g_e = (None if gradient is None else gradient.mean for gradient in (trace, empty))
        if trace is not None and empty is not None and problem.method.mixes:
            alpha = rule.weight(progress.moments, rate, g_t, g_e)
            if rule.adaptive:
                moments, noise = progress.moments.updated(trace.halves, empty.halves, noise)
                progress = replace(progress, moments=moments)
        else:
            alpha = share_with_trace(trace, empty)
        mixed = torch.stack([w * g for w, g in ((alpha, g_t), (1.0 - alpha, g_e)) if g is not None]).sum(0)

        norm = float(mixed.norm())
        clipped = mixed if config.clip is None or norm <= config.clip else mixed * (config.clip / norm)
        pieces = clipped.split([p.numel() for p in parameters.values()])
        for parameter, piece in zip(parameters.values(), pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        for group in optimiser.param_groups:
            group["lr"] = config.lr * rate
        optimiser.step()

        entry |= step_metrics(trace, empty, alpha)
        entry |= {"grad_norm": norm, "learning_rate": config.lr * rate, "alpha": alpha, "kappa": kappa * rate}
        entry |= {f"{n}/grad_norm": float(g.norm()) for n, g in (("trace", g_t), ("empty", g_e)) if g is not None}
        log.append(entry)
        progress = replace(progress, step=step + 1)

    for parameter in parameters.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    require_sound(problem, lrm, progress.step)
    last: dict[str, Any] = {"step": progress.step}
    if not progress.stopped:
        for callback in callbacks:
            last |= callback(progress.step, lrm)
        progress = replace(progress.seen(last.get(STOPPING), config.patience), stopped="")
    if 0 <= progress.best_step < progress.step:
        put_back(best, parameters)
        last["kept_step"] = progress.best_step
        for callback in callbacks:
            last |= callback(progress.step, lrm)
    if folder is not None:
        keep(folder, progress, parameters, optimiser, noise, best, [*log, last])
    kept_step = progress.step if progress.best_step < 0 else progress.best_step
    return TrainingRun((*log, last), progress.step, kept_step, progress.stopped, kappa)


def make_optimiser(config: TrainConfig, parameters: Mapping[str, torch.Tensor]) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    values = list(parameters.values())
    if config.optimiser == "sgd":
        return torch.optim.SGD(values, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(values, lr=config.lr, weight_decay=config.weight_decay)


def share_with_trace(trace: GradientParts | None, empty: GradientParts | None) -> float:
    """The weight of g_t where every row has its own: the share of rows with a trace."""
    counts = [0 if gradient is None else sum(gradient.counts) for gradient in (trace, empty)]
    return 1.0 if empty is None else counts[0] / sum(counts)


def require_sound(problem: TrainingProblem, lrm: ReasoningModel, step: int) -> None:
    """Hold that the policy gives the last batch finite log-probabilities.

    Raises:
        StudyError: it does not; the last step has gone too far.
    """
    batch = {problem.rows[j].pair for j in problem.order.batch(max(step - 1, 0))}
    try:
        sequence_log_probs(lrm.model, [s for i in sorted(batch) for s in problem.plans[i].sequences])
    except StudyError as error:
        raise StudyError(f"{where(problem, max(step - 1, 0))}: {error}; use a smaller learning rate") from error


def where(problem: TrainingProblem, step: int) -> str:
    """A step and the prompts of its batch, for a message."""
    rows = [problem.rows[j].pair for j in problem.order.batch(step)]
    prompts = list(dict.fromkeys(problem.plans[i].pair.prompt_id for i in rows))
    rest = f" and {len(prompts) - 16} more" if len(prompts) > 16 else ""
    return f"step {step}, batch of prompts {', '.join(prompts[:16])}{rest}"
