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


def keep(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    noise: torch.Tensor | None,
    log: Sequence[Mapping[str, Any]],
) -> None:
    """Write log and checkpoint, by the first process; each appears only when it is complete, the checkpoint last."""
    if world()[0] > 0:
        return
    write_text(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in log))
    tensors = optimiser_tensors(optimiser, list(parameters))
    save_checkpoint(folder / CHECKPOINT, Checkpoint(progress.step, parameters, tensors, noise, asdict(progress)))


def restore(
    folder: Path, parameters: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> tuple[Progress, torch.Tensor | None, list[dict[str, Any]]]:
    """Put weights and optimiser back; returns (progress, noise of the last batch, log up to there)."""
    held = load_checkpoint(folder / CHECKPOINT)
    with torch.no_grad():
        for name, value in held.parameters.items():
            parameters[name].copy_(value)
    restore_optimiser(optimiser, list(parameters), held.optimiser)
    progress = Progress(**(dict(held.state) | {"moments": RunningMoments(**held.state["moments"])}))
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()[: progress.step]
    noise = None if held.noise is None else held.noise.to(next(iter(parameters.values())).device)
    return progress, noise, [json.loads(line) for line in lines]
