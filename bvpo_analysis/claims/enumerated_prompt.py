"""One prompt of the reasoning model in the box with its whole trace law, as explicit gradients.

The marginal gradient comes from automatic differentiation of the loss written on log sum_r pi(r, y | x): it uses
neither scores, nor coefficients, nor Fisher's identity, so that it can judge them.
"""

import io
from contextlib import redirect_stderr
from dataclasses import dataclass

import numpy as np
import torch

from bvpo_analysis.estimators import Trace, mean_coefficients
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.objectives import Objective
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import Floats, PairScores
from bvpo_analysis.scores import PairSequences, VmapEngine, plan_pair, score_pairs
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch


@dataclass(frozen=True)
class EnumeratedPrompt:
    """A prompt with its answers, at the reference, in float64.

    Attributes:
        scores: log-probabilities and inner products of its m sequences.
        vectors: [m, P] the scores themselves.
        marginal: [P] mu by objective, from automatic differentiation.
    """

    scores: PairScores
    vectors: Floats
    marginal: dict[Objective, Floats]

    def relative_bias(self, objective: Objective) -> float:
        """|E_r g_t - mu| / |mu|, over all pairs of traces with their posterior probabilities."""
        mu = self.marginal[objective]
        return float(np.linalg.norm(self._mean(objective) - mu) / np.linalg.norm(mu))

    def direction_error(self, objective: Objective) -> float:
        """min_c |c E_r g_t - mu| / |mu|, the sine of the angle between the two."""
        mu, mean = self.marginal[objective], self._mean(objective)
        residual = mu - (mu @ mean) / (mean @ mean) * mean
        return float(np.linalg.norm(residual) / np.linalg.norm(mu))

    def _mean(self, objective: Objective) -> Floats:
        return mean_coefficients(Trace(objective), self.scores.log_probs) @ self.vectors


def enumerate_prompt(regime: str, *objectives: Objective) -> EnumeratedPrompt:
    """The first shipped pair of a regime, with all 24 traces of both answers."""
    lrm = load_model(dtype=torch.float64)
    pairs = shipped_pairs(regime, limit=1)
    with redirect_stderr(io.StringIO()):  # a progress bar for a single pair would only break up the table of claims
        scored = score_pairs(lrm, pairs, enumerate_traces=shipped_traces, leave_one_out=False)
    plan = plan_pair(lrm.assembler, pairs[0], enumerate_traces=shipped_traces)
    engine = VmapEngine(lrm.model)
    rows = engine.buffer(len(plan.sequences))
    engine.fill(plan.sequences, rows)
    marginal = {objective: _marginal_gradient(lrm, plan, engine.names, objective) for objective in objectives}
    return EnumeratedPrompt(scored.pairs[0], rows.numpy(), marginal)


def _marginal_gradient(lrm: ReasoningModel, plan: PairSequences, names: list[str], objective: Objective) -> Floats:
    parameters = {name: p.detach().clone().requires_grad_(True) for name, p in lrm.model.named_parameters()}
    trace, answer = log_prob_parts(lrm.model, parameters, *pad_batch(plan.sequences, "cpu"))
    sides = [(trace + answer)[torch.from_numpy(rows)].logsumexp(0, keepdim=True) for rows in plan.support]
    reference = [side.detach() for side in sides]
    tokens = [torch.tensor([plan.sequences[int(rows[0])].tokens_answer]) for rows in plan.support]
    loss = objective.loss(*sides, *reference, *tokens).sum()
    gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
    return torch.cat([part.flatten() for part in gradients]).numpy()
