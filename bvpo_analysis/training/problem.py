"""What a run is about: pairs as token sequences, their log-probabilities under the reference, the order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import Floats, PreferencePair
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.plan import PairSequences, plan_pair
from bvpo_analysis.training.batches import BatchOrder
from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.methods import Method


@dataclass(frozen=True)
class Row:
    """A row of the training data: a pair, and which of its gradients the row stands for."""

    pair: int
    trace: bool
    empty: bool


@dataclass(frozen=True)
class TrainingProblem:
    """Data of a run.

    Attributes:
        method: what is differentiated.
        plans: the token sequences of each pair.
        references: log pi_ref [m] of the sequences of each pair.
        rows: the data set that batches are drawn from; mixed data has two rows a pair.
        order: the rows of every step.
    """

    method: Method
    plans: tuple[PairSequences, ...]
    references: tuple[Floats, ...]
    rows: tuple[Row, ...]
    order: BatchOrder


def training_problem(config: TrainConfig, lrm: ReasoningModel, pairs: Sequence[PreferencePair]) -> TrainingProblem:
    """Plan the sequences and score them under the reference, which is ``lrm`` as it is now.

    Raises:
        InputError: a pair lacks traces that the method needs, or there are fewer rows than a batch holds.
    """
    method = config.training_method
    plans = tuple(plan_pair(lrm.assembler, pair, traces=method.traces) for pair in pairs)
    both = method.trace is not None, method.empty is not None
    kinds = ((True, False), (False, True)) if method.separate_rows else (both,)
    rows = tuple(Row(i, *kind) for i in range(len(plans)) for kind in kinds)
    if len(rows) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(rows)} rows of the data; use a smaller one"
        )
    order = BatchOrder(len(rows), config.batch_size, config.seed)
    return TrainingProblem(method, plans, reference_log_probs(lrm, plans), rows, order)


def reference_log_probs(lrm: ReasoningModel, plans: Sequence[PairSequences]) -> tuple[Floats, ...]:
    """log pi [m] of the sequences of each pair under the model as it is."""
    trace, answer = sequence_log_probs(lrm.model, [sequence for plan in plans for sequence in plan.sequences])
    cuts = np.cumsum([len(plan.sequences) for plan in plans])[:-1]
    return tuple(part.copy() for part in np.split((trace + answer).numpy(), cuts))
