"""Pairs that are kept out of training, and what a policy makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bvpo_analysis import evaluation
from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.training.config import TrainConfig


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

    A pair is right if the implicit reward of its chosen completion is the larger one, ties counting half.

    Attributes:
        pairs: the pairs, scored under the reference.
    """

    pairs: evaluation.HeldOut

    @classmethod
    def of(cls, config: TrainConfig, reference: ReasoningModel, pairs: Sequence[PreferencePair]) -> "HeldOut":
        """Score the pairs, one trace per answer, under the reference, which is ``reference`` as it is now.

        Raises:
            InputError: no pairs, or a pair without a trace.
        """
        if not pairs:
            raise InputError("no held-out pairs; give --held-out a share above 0")
        return cls(evaluation.HeldOut(reference, pairs, config.objective, empty_mode=config.empty_mode))

    def __call__(self, step: int, lrm: ReasoningModel) -> Mapping[str, float]:
        """eval/loss and eval/accuracy with traces, eval/empty_loss and eval/empty_accuracy without.

        Losses come with their standard error over pairs (_se), each pair having a prompt of its own, accuracies
        with the ends of their 95 % interval too (_low, _high).
        """
        values = self.pairs.values(lrm.model)
        found: dict[str, float] = {}
        for prefix, losses, right in (
            ("eval/", values.trace_loss, values.trace_accuracy),
            ("eval/empty_", values.empty_loss, values.empty_accuracy),
        ):
            n, share = len(losses), float(right.mean())
            low, high = wilson_interval(share, n)
            found |= {f"{prefix}loss": float(losses.mean()), f"{prefix}accuracy": share}
            found |= {f"{prefix}accuracy_low": low, f"{prefix}accuracy_high": high}
            if n > 1:
                found[f"{prefix}loss_se"] = float(losses.std(ddof=1) / n**0.5)
                found[f"{prefix}accuracy_se"] = float(right.std(ddof=1) / n**0.5)
        return found


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; it has a width also where all are right. With ties it is too wide.

    Example:
        >>> [round(end, 3) for end in wilson_interval(1.0, 8)]
        [0.676, 1.0]
    """
    z = float(special.ndtri(0.975))
    centre = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    low, high = ((centre + sign * half) / (1 + z * z / count) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
