"""Losses and preference accuracy on pairs that were not trained on: with a trace, with an empty trace, and marginal.

The marginal loss is the one that preference optimisation is about; where the traces of a prompt can be enumerated it is
computed exactly, as is the mean of the trace-based loss over the traces of the data. Where not, the traces that come
with the pairs are used, and there is no marginal loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.evaluation.intervals import clustered_mean
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Estimate, Floats, Ints, PairLogProbs, PreferencePair
from bvpo_analysis.scores import PairSequences, pair_log_probs, plan_pair, sequence_log_probs
from bvpo_analysis.scores.plan import TraceEnumerator


@dataclass(frozen=True)
class HeldOutValues:
    """Per pair, [n] each; nan where traces are not enumerated.

    Attributes:
        trace_loss, empty_loss, marginal_loss: mean loss over the draws of (r+, r-), loss of the empty-trace pair, loss
            of the marginal probabilities of the answers.
        trace_accuracy, empty_accuracy, marginal_accuracy: share of comparisons whose implicit reward is larger for the
            chosen answer, ties half: log pi/pi_ref, or log pi per token for a loss without reference.
    """

    trace_loss: Floats
    empty_loss: Floats
    marginal_loss: Floats
    trace_accuracy: Floats
    empty_accuracy: Floats
    marginal_accuracy: Floats

    def estimates(self) -> dict[str, Estimate]:
        """Means over pairs with intervals, by name; what is not known is left out."""
        found = {}
        for name in self.__dataclass_fields__:
            values = getattr(self, name)
            if np.isfinite(values).any():
                found[name] = clustered_mean(values, low=0.0, high=1.0 if name.endswith("accuracy") else np.inf)
        return found


class HeldOut:
    """Pairs that are kept out of training, with their log-probabilities under the reference.

    Args:
        reference: pi_ref.
        pairs: the pairs.
        objective: the loss.
        enumerate_traces: all traces of a prompt, where they can be enumerated.
        traces: traces per answer to use where not.
        empty_mode: empty block prefilled (not scored) or generated (scored).

    Raises:
        InputError: no pairs, or too few traces.
    """

    def __init__(
        self,
        reference: ReasoningModel,
        pairs: Sequence[PreferencePair],
        objective: Objective,
        *,
        enumerate_traces: TraceEnumerator | None = None,
        traces: int = 1,
        empty_mode: EmptyMode = "prefilled",
    ):
        self.objective = objective
        self.plans: tuple[PairSequences, ...] = tuple(
            plan_pair(
                reference.assembler, pair, traces=traces, empty_mode=empty_mode, enumerate_traces=enumerate_traces
            )
            for pair in pairs
        )
        self._sequences = [sequence for plan in self.plans for sequence in plan.sequences]
        self._cuts = np.cumsum([len(plan.sequences) for plan in self.plans])[:-1]
        trace, answer = sequence_log_probs(reference.model, self._sequences)
        self._references = np.split((trace + answer).numpy(), self._cuts)

    def values(self, model: torch.nn.Module) -> HeldOutValues:
        """Losses and accuracies of a policy on every pair."""
        parts = [np.split(part.numpy(), self._cuts) for part in sequence_log_probs(model, self._sequences)]
        rows = [
            self._pair(pair_log_probs(plan, trace, answer, reference))
            for plan, trace, answer, reference in zip(self.plans, *parts, self._references, strict=True)
        ]
        return HeldOutValues(*np.array(rows).T)

    def _pair(self, pair: PairLogProbs) -> tuple[float, ...]:
        losses, right = self._compare(pair, pair.draws)
        empty_loss, empty_right = self._compare(pair, pair.empty[None])
        marginal = self._marginal(pair) if pair.enumerated else (np.nan, np.nan)
        weighted = float(pair.weights @ losses), float(pair.weights @ right)
        return weighted[0], empty_loss[0], marginal[0], weighted[1], empty_right[0], marginal[1]

    def _compare(self, pair: PairLogProbs, draws: Ints) -> tuple[Floats, Floats]:
        chosen, rejected = draws.T
        return self._loss(
            *(values[side] for values in (pair.log_prob, pair.log_prob_ref) for side in (chosen, rejected)),
            *(pair.tokens[side].astype(np.float64) for side in (chosen, rejected)),
        )

    def _marginal(self, pair: PairLogProbs) -> tuple[float, float]:
        sums = [
            np.logaddexp.reduce(values[rows], keepdims=True)
            for values in (pair.log_prob, pair.log_prob_ref)
            for rows in pair.support
        ]
        lengths = [pair.tokens_answer[rows[:1]].astype(np.float64) for rows in pair.support]
        loss, right = self._loss(*sums, *lengths)
        return float(loss[0]), float(right[0])

    def _loss(self, *columns: Floats) -> tuple[Floats, Floats]:
        """Losses and accuracies from chosen, rejected, the same under the reference, and both lengths, [R] each."""
        chosen, rejected, chosen_ref, rejected_ref, chosen_tokens, rejected_tokens = columns
        if self.objective.reference_free:
            margin = chosen / chosen_tokens - rejected / rejected_tokens
        else:
            margin = (chosen - chosen_ref) - (rejected - rejected_ref)
        # At the reference the margin is zero but for rounding.
        right = (margin > 1e-9) + 0.5 * (np.abs(margin) <= 1e-9)
        loss = self.objective.loss(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))
        return loss.numpy(), right.astype(np.float64)
