"""Checkpoints away from the reference: a short preference run, and the straight path theta_ref + t d to its end.

The run is ordinary: minibatches of pairs, one reference-posterior trace per answer (the one that came with it), plain
SGD. It is seeded, so the same options give the same weights on the same machine.
"""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.loading import ReasoningModel, weights_fingerprint
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PreferencePair
from bvpo_analysis.scores import plan_pair, sequence_log_probs
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch


@dataclass(frozen=True)
class ShortRun:
    """Options of a short preference run.

    Attributes:
        steps: optimiser steps.
        learning_rate: of SGD, constant; Adam moves every parameter alike and breaks so small a model sooner.
        batch_size: pairs per step, drawn without replacement.
        seed: of the batches.

    Raises:
        ValueError: a number is not positive.
    """

    steps: int = 60
    learning_rate: float = 0.1
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(f"steps, batch_size and learning_rate must be positive, got {self}")


def train_briefly(
    reference: ReasoningModel, pairs: Sequence[PreferencePair], objective: Objective, options: ShortRun | None = None
) -> ReasoningModel:
    """Train a copy of the reference on the trace-based loss of the pairs.

    Args:
        reference: pi_ref and the start.
        pairs: the data; the generating trace of each answer is used.
        objective: the pairwise loss.
        options: length and step size.

    Raises:
        InputError: fewer pairs than a batch.
        StudyError: the loss is not finite.
    """
    run = options or ShortRun()
    if len(pairs) < run.batch_size:
        raise InputError(f"a batch takes {run.batch_size} pairs, there are {len(pairs)}; use a smaller batch")
    plans = [plan_pair(reference.assembler, pair, traces=1) for pair in pairs]
    sequences = [plan.sequences[row] for plan in plans for row in plan.draws[0]]
    trace_ref, answer_ref = sequence_log_probs(reference.model, sequences)
    at_reference = (trace_ref + answer_ref).reshape(-1, 2)
    tokens = torch.tensor([sequence.tokens for sequence in sequences]).reshape(-1, 2)
    model = copy.deepcopy(reference.model).requires_grad_(True)
    parameters = dict(model.named_parameters())
    optimiser = torch.optim.SGD(parameters.values(), lr=run.learning_rate)
    rng = np.random.default_rng(run.seed)
    for _ in range(run.steps):
        batch = rng.choice(len(pairs), size=run.batch_size, replace=False)
        chosen_first = [sequences[2 * i + side] for i in batch for side in (0, 1)]
        trace, answer = log_prob_parts(model, parameters, *pad_batch(chosen_first, "cpu"))
        current, ref = (trace + answer).double().reshape(-1, 2), at_reference[batch]
        length = tokens[batch]
        loss = objective.loss(current[:, 0], current[:, 1], ref[:, 0], ref[:, 1], length[:, 0], length[:, 1]).mean()
        if not torch.isfinite(loss):
            raise StudyError("the loss of the short run is not finite; use a smaller learning rate")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return _as_reasoning_model(model, reference, f"{reference.name} after {run.steps} steps of {objective.name}")


def between(reference: ReasoningModel, trained: ReasoningModel, share: float) -> ReasoningModel:
    """The model at theta_ref + t (theta_trained - theta_ref); t may exceed 1.

    Raises:
        ValueError: the share is not finite, or the two models have other parameters.
    """
    if not np.isfinite(share):
        raise ValueError(f"share must be finite, got {share}")
    model = copy.deepcopy(reference.model)
    ends = dict(trained.model.named_parameters())
    if [(n, p.shape) for n, p in model.named_parameters()] != [(n, p.shape) for n, p in ends.items()]:
        raise ValueError("the trained model does not have the parameters of the reference")
    with torch.no_grad():
        for name, start in model.named_parameters():
            # In float64, so that share 1 gives the end exactly.
            wide = start.double() + share * (ends[name].double() - start.double())
            start.copy_(wide.to(start.dtype))
    return _as_reasoning_model(model, reference, f"{reference.name} + {share:g} d")


def displacement(reference: ReasoningModel, trained: ReasoningModel, names: Sequence[str]) -> Floats:
    """d = theta_trained - theta_ref, [P] float64, of the named parameters in this order (see ``ScoreEngine.names``)."""
    start, end = dict(reference.model.named_parameters()), dict(trained.model.named_parameters())
    parts = [(end[name].detach().double() - start[name].detach().double()).flatten() for name in names]
    return torch.cat(parts).cpu().numpy()


def save_checkpoint(model: ReasoningModel, folder: Path) -> None:
    """Write weights, configuration and tokenizer where ``load_model`` and every ``--model`` option read them."""
    folder.mkdir(parents=True, exist_ok=True)
    network: Any = model.model
    with redirect_stderr(io.StringIO()):  # the writer's progress bar
        network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)


def _as_reasoning_model(model: torch.nn.Module, reference: ReasoningModel, name: str) -> ReasoningModel:
    model.eval().requires_grad_(False)
    return ReasoningModel(name, model, reference.assembler, weights_fingerprint(model))
