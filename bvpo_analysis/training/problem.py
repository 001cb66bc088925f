"""What a run is about: pairs as token sequences, their log-probabilities under the reference, the order of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.plan import PairSequences, plan_pair
from bvpo_analysis.training.batches import BatchOrder
from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.gradients import ReferenceLogProbs
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
        references: what the reference gives the sequences of each pair.
        rows: the data set that batches are drawn from; mixed data has two rows a pair.
        order: the rows of every step.
    """

    method: Method
    plans: tuple[PairSequences, ...]
    references: tuple[ReferenceLogProbs, ...]
    rows: tuple[Row, ...]
    order: BatchOrder


def training_problem(
    config: TrainConfig, lrm: ReasoningModel, pairs: Sequence[PreferencePair], reference: ReasoningModel | None = None
) -> TrainingProblem:
    """Plan the sequences and score them, once, under the reference: ``reference``, or ``lrm`` as it is now.

    Raises:
        InputError: a pair lacks traces or empty-trace answers that the method needs, there are fewer rows than a batch
            holds, or the tokenizer of the reference is another one.
    """
    plans, rows, order = plan_training(config, lrm, pairs)
    if reference is not None and reference.tokenizer.get_vocab() != lrm.tokenizer.get_vocab():
        raise InputError("the model and its reference have different tokenizers; use a reference with the same one")
    return TrainingProblem(config.training_method, plans, reference_log_probs(reference or lrm, plans), rows, order)


def plan_training(
    config: TrainConfig, lrm: ReasoningModel, pairs: Sequence[PreferencePair]
) -> tuple[tuple[PairSequences, ...], tuple[Row, ...], BatchOrder]:
    """Token sequences, rows and the order of rows; nothing is scored.

    Raises:
        InputError: a pair lacks traces or empty-trace answers that the method needs, or there are fewer rows than a
            batch holds.
    """
    method = config.training_method
    copied = sum(pair.empty_answers == "copied" for pair in pairs)
    if method.empty is not None and copied and not config.copied_empty:
        raise InputError(
            f"{copied} of {len(pairs)} pairs have no empty-trace answers of their own, which --method {config.method} "
            "needs; add empty_chosen and empty_rejected, use --method dpo, or take the answers with a trace in their "
            "place by --copied-empty"
        )
    plans = tuple(
        plan_pair(lrm.assembler, pair, traces=method.traces, prior=method.prior, empty_mode=config.empty_mode)
        for pair in pairs
    )
    both = method.trace is not None, method.empty is not None
    kinds = ((True, False), (False, True)) if method.separate_rows else (both,)
    rows = tuple(Row(i, *kind) for i in range(len(plans)) for kind in kinds)
    if len(rows) < config.batch_size:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(rows)} rows of the data; use a smaller one"
        )
    order = BatchOrder(len(rows), config.batch_size, config.seed)
    return plans, rows, order


def reference_log_probs(lrm: ReasoningModel, plans: Sequence[PairSequences]) -> tuple[ReferenceLogProbs, ...]:
    """log pi of the sequences of each pair under the model as it is."""
    trace, answer = sequence_log_probs(lrm.model, [sequence for plan in plans for sequence in plan.sequences])
    cuts = np.cumsum([len(plan.sequences) for plan in plans])[:-1]
    parts = zip(np.split((trace + answer).numpy(), cuts), np.split(answer.numpy(), cuts), strict=True)
    return tuple(ReferenceLogProbs(whole.copy(), answers.copy()) for whole, answers in parts)
