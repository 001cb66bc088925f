"""Pairs that are kept out of training, and what a policy makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PreferencePair
from bvpo_analysis.scores.plan import PairSequences, plan_pair
from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.gradients import ReferenceLogProbs, implicit_rewards
from bvpo_analysis.training.problem import reference_log_probs

KINDS = ("trace", "empty")


def split_pairs(
    pairs: Sequence[PreferencePair], share: float, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training pairs, held-out pairs): a random share of the pairs, at least one if any, in file order.

    Raises:
        InputError: nothing would be left to train on.

    Example:
        >>> from bvpo_analysis.preferences.shipped import shipped_pairs
        >>> [len(part) for part in split_pairs(shipped_pairs("style", limit=16), 0.125, seed=0)]
        [14, 2]
    """
    count = max(round(share * len(pairs)), 1) if share > 0 else 0
    if count >= len(pairs):
        raise InputError(
            f"--held-out {share:g} of {len(pairs)} pairs leaves none to train on; change it, or use --held-out 0 to "
            "evaluate on none"
        )
    chosen = set(np.random.default_rng([seed, 1]).permutation(len(pairs))[:count].tolist())
    return [p for i, p in enumerate(pairs) if i not in chosen], [p for i, p in enumerate(pairs) if i in chosen]


@dataclass(frozen=True)
class HeldOut:
    """Loss and preference accuracy on held-out pairs; a callback of the training loop.

    A pair is right if the implicit reward of its chosen completion is the larger one, ties counting half. Standard
    errors are over pairs, each of another prompt.

    Attributes:
        objective: the loss.
        plans: the sequences of the pairs, one trace per answer.
        references: what the reference gives them.
    """

    objective: Objective
    plans: tuple[PairSequences, ...]
    references: tuple[ReferenceLogProbs, ...]

    @classmethod
    def of(cls, config: TrainConfig, reference: ReasoningModel, pairs: Sequence[PreferencePair]) -> "HeldOut":
        """Plan the pairs and score them under the reference, which is ``reference`` as it is now.

        Raises:
            InputError: no pairs, or a pair without a trace.
        """
        if not pairs:
            raise InputError("no held-out pairs; give --held-out a share above 0")
        plans = tuple(plan_pair(reference.assembler, pair, empty_mode=config.empty_mode) for pair in pairs)
        return cls(config.objective, plans, reference_log_probs(reference, plans))

    def __call__(self, step: int, lrm: ReasoningModel) -> Mapping[str, float]:
        """eval/loss and eval/accuracy with traces, eval/empty_loss and eval/empty_accuracy without; _se: errors."""
        current = reference_log_probs(lrm, self.plans)
        found: dict[str, float] = {}
        for kind in KINDS:
            losses, right = self._rows(kind, current)
            prefix = "eval/" if kind == "trace" else "eval/empty_"
            for name, values in (("loss", losses), ("accuracy", right)):
                found[prefix + name] = float(values.mean())
                if len(values) > 1:
                    found[f"{prefix}{name}_se"] = float(values.std(ddof=1) / len(values) ** 0.5)
        return found

    def _rows(self, kind: str, current: Sequence[ReferenceLogProbs]) -> tuple[Floats, Floats]:
        """([n] losses, [n] whether the chosen completion has the larger implicit reward)."""
        columns = []
        for plan, now, before in zip(self.plans, current, self.references, strict=True):
            rows = plan.draws[0] if kind == "trace" else plan.empty
            tokens = [float(plan.sequences[j].tokens) for j in rows]
            columns.append((*now.log_prob[rows], *before.log_prob[rows], *tokens))
        table = np.array(columns)
        losses = self.objective.loss(*(torch.from_numpy(column.copy()) for column in table.T)).numpy()
        rewards = [implicit_rewards(self.objective, table[:, s], table[:, 2 + s], table[:, 4 + s]) for s in (0, 1)]
        margin = rewards[0] - rewards[1]
        return losses, (margin > 0) + 0.5 * (margin == 0)
