"""The gradients of one step, from parts of a batch that are differentiated one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.objectives import Objective
from bvpo_analysis.training.gradients import BatchGradient, batch_gradient
from bvpo_analysis.training.problem import TrainingProblem
from bvpo_analysis.training.processes import own_share, summed

TRL_NAMES = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)
"""Logged means over the rows of a batch; an accuracy counts ties half."""
TIE = 1e-6
"""Margin of the rewards up to which a row counts as a tie."""


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
            vector = torch.cat([torch.zeros_like(p).flatten() for p in parameters.values()])
            if own:
                plans, references = [problem.plans[i] for i in own], [problem.references[i] for i in own]
                seen.append(batch_gradient(model, parameters, plans, references, estimator, objective, empty=empty))
                vector = seen[-1].vector
            vectors.append(summed(vector) / len(part))
        found.append(GradientParts(tuple(vectors), tuple(len(part) for part in pairs), tuple(seen)))
    return found[0], found[1]


def step_metrics(trace: GradientParts | None, empty: GradientParts | None, alpha: float) -> dict[str, float]:
    """What a step logs of its batch, under TRL's names; means over the rows of all processes.

    Rewards and log-probabilities are those of the sequences with traces, where there are.

    Args:
        trace, empty: the gradients of the step.
        alpha: weight of the first; the loss is alpha L_t + (1 - alpha) L_e.
    """
    given = {name: g for name, g in (("trace", trace), ("empty", empty)) if g is not None}
    means = {name: _means(gradient) for name, gradient in given.items()}
    losses = {name: float(mean[0]) for name, mean in means.items()}
    share = {"trace": alpha, "empty": 1.0 - alpha}
    shown = next(iter(means.values()))
    counts = [[batch.sequences, batch.tokens] for g in given.values() for batch in g.seen]
    sequences, tokens = summed(torch.tensor([[0, 0], *counts], dtype=torch.float64).sum(0)).tolist()
    return {
        "loss": sum(share[name] * value for name, value in losses.items()),
        **dict(zip(TRL_NAMES, shown[1:].tolist(), strict=True)),
        **{f"{name}/loss": value for name, value in losses.items()},
        "sequences": int(sequences),
        "tokens": int(tokens),
    }


def _means(gradient: GradientParts) -> torch.Tensor:
    """[7] means over the rows of all processes: loss, then ``TRL_NAMES``."""
    rows = [np.empty((0, 7))]
    for batch in gradient.seen:
        margin = batch.rewards[:, 0] - batch.rewards[:, 1]
        # At the reference the margin is zero but for the rounding of single precision.
        right = (margin > TIE) + 0.5 * (np.abs(margin) <= TIE)
        rows.append(np.column_stack([batch.losses, batch.rewards, margin, right, batch.log_probs]))
    total = summed(torch.from_numpy(np.concatenate(rows).sum(axis=0)))
    return total / sum(gradient.counts)
