"""The gradients of one step, from parts of a batch that are differentiated one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.objectives import Objective
from bvpo_analysis.training.gradients import BatchGradient, batch_gradient
from bvpo_analysis.training.problem import TrainingProblem
from bvpo_analysis.training.processes import own_share, summed


@dataclass(frozen=True)
class GradientParts:
    """One gradient of a batch, as means over its parts.

    Attributes:
        parts: [P] mean gradient of each part, over all processes.
        counts: pairs in each part.
        seen: what this process has differentiated.
    """

    parts: tuple[torch.Tensor, ...]
    counts: tuple[int, ...]
    seen: tuple[BatchGradient, ...]

    @property
    def mean(self) -> torch.Tensor:
        """[P] the mean over the batch."""
        return self._mean(range(len(self.parts)))

    @property
    def halves(self) -> tuple[torch.Tensor, torch.Tensor]:
        """[P] the means over the even and over the odd parts, which share no pair."""
        return self._mean(range(0, len(self.parts), 2)), self._mean(range(1, len(self.parts), 2))

    def _mean(self, which: Sequence[int]) -> torch.Tensor:
        total = sum(self.counts[h] for h in which)
        return torch.stack([self.parts[h] * (self.counts[h] / total) for h in which]).sum(0)


def step_gradients(
    problem: TrainingProblem,
    model: torch.nn.Module,
    parameters: Mapping[str, torch.Tensor],
    objective: Objective,
    step: int,
    micro_batches: int,
) -> tuple[GradientParts | None, GradientParts | None]:
    """(g_t, g_e) of a step; None for a gradient that the method does not have or that no row of the batch asks for.

    Raises:
        StudyError: a log-probability or a gradient is not finite.
    """
    batch = [problem.rows[j] for j in problem.order.batch(step)]
    parts = [batch[h::micro_batches] for h in range(micro_batches)]
    wanted = (
        (problem.method.trace, False, [[row.pair for row in part if row.trace] for part in parts]),
        (problem.method.empty, True, [[row.pair for row in part if row.empty] for part in parts]),
    )
    found: list[GradientParts | None] = []
    for estimator, empty, pairs in wanted:
        pairs = [part for part in pairs if part]
        if estimator is None or not pairs:
            found.append(None)
            continue
        vectors, seen = [], []
        for part in pairs:
            own = own_share(part)
            vector = torch.zeros(sum(p.numel() for p in parameters.values()))
            if own:
                plans, references = [problem.plans[i] for i in own], [problem.references[i] for i in own]
                seen.append(batch_gradient(model, parameters, plans, references, estimator, objective, empty=empty))
                vector = seen[-1].vector
            vectors.append(summed(vector) / len(part))
        found.append(GradientParts(tuple(vectors), tuple(len(part) for part in pairs), tuple(seen)))
    return found[0], found[1]


def step_metrics(gradients: Sequence[GradientParts | None], beta: float) -> dict[str, float]:
    """What a step logs, under TRL's names, from the rows this process has seen; with traces where there are."""
    given = [gradient for gradient in gradients if gradient is not None]
    seen = [batch for gradient in given[:1] for batch in gradient.seen]
    everything = [batch for gradient in given for batch in gradient.seen]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(batch, name) for batch in seen])

    chosen, rejected = (beta * (column(side) - column(f"{side}_ref")) for side in ("chosen", "rejected"))
    return {
        "loss": float(column("losses").mean()),
        "rewards/chosen": float(chosen.mean()),
        "rewards/rejected": float(rejected.mean()),
        "rewards/margins": float((chosen - rejected).mean()),
        "rewards/accuracies": float(((chosen > rejected) + 0.5 * (chosen == rejected)).mean()),
        "logps/chosen": float(column("chosen").mean()),
        "logps/rejected": float(column("rejected").mean()),
        "sequences": sum(batch.sequences for batch in everything),
        "tokens": sum(batch.tokens for batch in everything),
    }
