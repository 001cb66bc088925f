"""Where a run stands, and the two files that keep it: log.jsonl and checkpoint.safetensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bvpo_analysis.run_folder import write_text
from bvpo_analysis.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from bvpo_analysis.training.processes import world
from bvpo_analysis.training.running_moments import RunningMoments

LOG, CHECKPOINT = "log.jsonl", "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """Where a run stands, beside its weights and its optimiser.

    Attributes:
        step: steps done.
        moments: running moments of the gradients.
        best, best_step, since: best held-out accuracy, where it was, -1 before there is one, and evaluations since.
        stopped: why the run has ended early; empty if it has not.
    """

    step: int = 0
    moments: RunningMoments = field(default_factory=RunningMoments)
    best: float = -1.0
    best_step: int = -1
    since: int = 0
    stopped: str = ""

    def seen(self, accuracy: float | None, patience: int | None) -> "Progress":
        """The progress after an evaluation at this step; without an accuracy or patience nothing changes."""
        if accuracy is None or patience is None:
            return self
        if accuracy > self.best:
            return replace(self, best=accuracy, best_step=self.step, since=0)
        since = self.since + 1
        stopped = f"held-out accuracy has not risen for {since} evaluations" if since >= patience else ""
        return replace(self, since=since, stopped=stopped)


def keep(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    noise: torch.Tensor | None,
    best: Mapping[str, torch.Tensor],
    log: Sequence[Mapping[str, Any]],
) -> None:
    """Write log and checkpoint, by the first process; each appears only when it is complete, the checkpoint last."""
    if world()[0] > 0:
        return
    write_text(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in log))
    tensors = optimiser_tensors(optimiser, list(parameters))
    checkpoint = Checkpoint(progress.step, parameters, tensors, noise, best, asdict(progress))
    save_checkpoint(folder / CHECKPOINT, checkpoint)


def restore(
    folder: Path, parameters: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> tuple[Progress, torch.Tensor | None, dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Put weights and optimiser back; returns (progress, noise of the last batch, best weights, log up to there)."""
    held = load_checkpoint(folder / CHECKPOINT)
    put_back(held.parameters, parameters)
    restore_optimiser(optimiser, list(parameters), held.optimiser)
    progress = Progress(**(dict(held.state) | {"moments": RunningMoments(**held.state["moments"])}))
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()[: progress.step]
    noise = None if held.noise is None else held.noise.to(next(iter(parameters.values())).device)
    return progress, noise, dict(held.best), [json.loads(line) for line in lines]


def copies(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def put_back(values: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor]) -> None:
    """Set parameters to kept values, in place."""
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
