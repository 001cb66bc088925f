"""sum_i sum_j c_ij s_ij over the pairs of a batch, by one forward and one backward pass.

The coefficients come from the estimators of the analysis, evaluated at the log-probabilities of the forward pass and
held constant; the gradient of sum_j c_j log pi_j is then sum_j c_j s_j. For the losses here that is exactly the
gradient of the loss, since c_j = dL / d log pi_j.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.estimators import Estimator, MultiTrace, mean_coefficients
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, Ints, PairLogProbs
from bvpo_analysis.scores.log_probs import batches_by_length, log_prob_parts, pad_batch
from bvpo_analysis.scores.plan import PairSequences, pair_log_probs


@dataclass(frozen=True)
class BatchGradient:
    """One gradient of a batch and what training logs of it.

    Attributes:
        vector: [P] the sum over the pairs, all parameters flattened in order.
        losses: [n] loss of each pair: at its trace, mean over the traces that are averaged, at the first one of a pool.
        log_probs: [n, 2] log pi_theta of its two sequences, chosen and rejected.
        rewards: [n, 2] their implicit rewards, see :func:`implicit_rewards`.
        tokens: tokens of the forward pass, prompts included.
        sequences: sequences of the forward pass.
    """

    vector: torch.Tensor
    losses: Floats
    log_probs: Floats
    rewards: Floats
    tokens: int
    sequences: int


@dataclass(frozen=True)
class ReferenceLogProbs:
    """Log-probabilities of the m sequences of a pair under the reference.

    Attributes:
        log_prob: [m] log pi_ref of trace and answer.
        log_prob_answer: [m] its answer part.
    """

    log_prob: Floats
    log_prob_answer: Floats


def implicit_rewards(objective: Objective, log_prob: Floats, log_prob_ref: Floats, tokens: Floats) -> Floats:
    """beta (log pi_theta - log pi_ref), or beta log pi_theta / |y| of a reference-free loss.

    Example:
        >>> from bvpo_analysis.objectives import DPO, SimPO
        >>> now, before, tokens = np.array([-2.0]), np.array([-3.0]), np.array([4.0])
        >>> [implicit_rewards(loss, now, before, tokens).tolist() for loss in (DPO(), SimPO())]
        [[0.1], [-1.0]]
    """
    if objective.reference_free:
        return objective.beta * log_prob / tokens
    return objective.beta * (log_prob - log_prob_ref)


def trace_rows(plan: PairSequences) -> Ints:
    """Rows of the sequences with a trace."""
    return np.unique(np.concatenate([plan.draws.ravel(), plan.prior.ravel(), plan.trace_only]))


def empty_rows(plan: PairSequences) -> Ints:
    """Rows of the empty-trace sequences."""
    return np.unique(plan.empty)


def batch_gradient(
    model: torch.nn.Module,
    parameters: Mapping[str, torch.Tensor],
    plans: Sequence[PairSequences],
    references: Sequence[ReferenceLogProbs],
    estimator: Estimator,
    objective: Objective,
    *,
    empty: bool,
    token_budget: int = 4096,
) -> BatchGradient:
    """The gradient of one estimator on a batch of pairs.

    Args:
        model: the policy.
        parameters: its trainable parameters by name; they require grad.
        plans: the pairs.
        references: what the reference gives the sequences of each pair.
        estimator: the gradient estimator.
        objective: the loss, for its value.
        empty: whether the estimator looks at empty-trace sequences, or at those with a trace.
        token_budget: padded tokens per forward pass.

    Raises:
        StudyError: a log-probability or the gradient is not finite; the message names the prompt.
    """
    rows = [empty_rows(plan) if empty else trace_rows(plan) for plan in plans]
    places = [(i, int(j)) for i, here in enumerate(rows) for j in here]
    sequences = [plans[i].sequences[j] for i, j in places]
    device = next(iter(parameters.values())).device
    graph: dict[tuple[int, int], torch.Tensor] = {}
    answers: dict[tuple[int, int], float] = {}
    for batch in batches_by_length(sequences, token_budget):
        trace, answer = log_prob_parts(model, parameters, *pad_batch([sequences[k] for k in batch], device))
        for k, value, part in zip(batch, trace + answer, answer.detach(), strict=True):
            graph[places[k]] = value
            answers[places[k]] = float(part)

    total = torch.zeros((), device=device)
    losses, sides, rewards = [], [], []
    for i, (plan, reference, here) in enumerate(zip(plans, references, rows, strict=True)):
        logs = _log_probs(plan, reference, {int(j): float(graph[i, int(j)].detach()) for j in here}, answers, i)
        coefficients = mean_coefficients(estimator, logs)
        for j in here:
            total = total + float(coefficients[j]) * graph[i, int(j)]
        first = plan.empty if empty else plan.draws[0]
        tokens = logs.tokens[first].astype(np.float64)
        sides.append(logs.log_prob[first])
        rewards.append(implicit_rewards(objective, logs.log_prob[first], logs.log_prob_ref[first], tokens))
        draws = plan.draws if isinstance(estimator, MultiTrace) and not empty else first[None]
        losses.append(float(np.mean([_loss(objective, logs, draw) for draw in draws])))
    vector = torch.cat([g.flatten() for g in torch.autograd.grad(total, list(parameters.values()))])
    if not bool(torch.isfinite(vector).all()):
        raise StudyError(
            f"the gradient on prompts {', '.join(p.pair.prompt_id for p in plans[:3])}{', ...' * (len(plans) > 3)} is "
            "not finite; use a smaller learning rate or clip the gradient"
        )
    return BatchGradient(
        vector=vector,
        losses=np.array(losses),
        log_probs=np.array(sides),
        rewards=np.array(rewards),
        tokens=sum(len(sequence.ids) for sequence in sequences),
        sequences=len(sequences),
    )


def _log_probs(
    plan: PairSequences,
    reference: ReferenceLogProbs,
    current: Mapping[int, float],
    answers: Mapping[tuple[int, int], float],
    i: int,
) -> PairLogProbs:
    """Log-probabilities of a pair; rows that this gradient does not look at keep those of the reference."""
    log_prob, answer = reference.log_prob.copy(), reference.log_prob_answer.copy()
    for j, value in current.items():
        if not np.isfinite(value):
            raise StudyError(
                f"prompt {plan.pair.prompt_id!r}: log pi = {value}; the weights have left the range of numbers, use a "
                "smaller learning rate or clip the gradient"
            )
        log_prob[j], answer[j] = value, answers[i, j]
    return pair_log_probs(plan, log_prob - answer, answer, reference.log_prob, reference.log_prob_answer)


def _loss(objective: Objective, logs: PairLogProbs, draw: Ints) -> float:
    columns = [torch.tensor([value]) for source in (logs.log_prob, logs.log_prob_ref) for value in source[draw]]
    lengths = [torch.tensor([float(n)]) for n in logs.tokens[draw]]
    return float(objective.loss(*columns, *lengths))
