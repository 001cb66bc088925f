"""The exact marginal preference loss of a language model on a few prompts, as a function of all its parameters.

    f(theta) = mean_i l(x_i; theta),    pi_theta(y | x) = sum_r pi_theta(r, y | x) over the enumerated traces.

One pass over the scores of all sequences gives everything that a step needs, exactly: f, its gradient mu, and the
whole law of g_t, g_e and their mixtures (prompt uniform, traces from the reference posterior, B independent units).
Parameters are one vector theta [P] in the column order of the score engine.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.func import grad, jvp

from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.objectives import Objective
from bvpo_analysis.records import Floats, PairLogProbs, PreferencePair
from bvpo_analysis.scores import PairSequences, VmapEngine, pair_log_probs, plan_pair, sequence_log_probs
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch
from bvpo_analysis.scores.plan import TraceEnumerator

PROMPTS_AT_ONCE = 4
"""Prompts in one forward pass; second-order products keep every activation several times."""


@dataclass(frozen=True)
class UnitLaw:
    """The law of (g_t, g_e) of one unit (a prompt and one trace per answer) at one point, and the exact gradient.

    Attributes:
        gradient: [P] mu = grad f.
        mean_t, mean_e: [P] E g_t, E g_e.
        var_t, var_e, cov_te: traces of the covariances over prompts and traces.
        trace_var: the part of var_t that comes from sampling traces.
    """

    gradient: Floats
    mean_t: Floats
    mean_e: Floats
    var_t: float
    var_e: float
    cov_te: float
    trace_var: float

    def mean(self, alpha: float) -> Floats:
        """E g_c = alpha E g_t + (1 - alpha) E g_e, [P]."""
        return alpha * self.mean_t + (1 - alpha) * self.mean_e

    def variance(self, alpha: float, batch_size: int) -> float:
        """Tr Cov of the mean of B independent units of g_c."""
        unit = alpha**2 * self.var_t + (1 - alpha) ** 2 * self.var_e + 2 * alpha * (1 - alpha) * self.cov_te
        return unit / batch_size

    def moments(self, batch_size: int) -> dict[str, float]:
        """The six moments of a batch against mu, by argument name of the closed forms."""
        b_t, b_e = self.mean_t - self.gradient, self.mean_e - self.gradient
        return {
            "bias_t_sq": float(b_t @ b_t),
            "bias_e_sq": float(b_e @ b_e),
            "bias_inner": float(b_t @ b_e),
            "var_t": self.var_t / batch_size,
            "var_e": self.var_e / batch_size,
            "cov_te": self.cov_te / batch_size,
        }


@dataclass(frozen=True)
class Point:
    """Everything at one theta.

    Attributes:
        value: f(theta).
        pairs: log-probabilities of each prompt's sequences.
        scores: per prompt, [m, P].
    """

    value: float
    pairs: tuple[PairLogProbs, ...]
    scores: tuple[torch.Tensor, ...]
    objective: Objective

    def law(self) -> UnitLaw:
        """The law of a unit, by summing over prompts and all pairs of traces."""
        n = len(self.pairs)
        trace, empty = Trace(self.objective), EmptyTrace(self.objective)
        means_t, means_e, targets, trace_var = [], [], [], 0.0
        for pair, rows in zip(self.pairs, self.scores, strict=True):
            each = trace.coefficients(pair)
            mean = pair.weights @ each
            wide = rows.double()
            centred = each - mean
            trace_var += float(pair.weights @ ((centred @ (wide @ wide.T).numpy()) * centred).sum(axis=1)) / n
            three = np.stack([mean, empty.coefficients(pair)[0], Marginal(self.objective).coefficients(pair)[0]])
            t_i, e_i, target = (torch.from_numpy(three) @ wide).numpy()
            means_t.append(t_i)
            means_e.append(e_i)
            targets.append(target)
        t, e = np.stack(means_t), np.stack(means_e)
        centred_t, centred_e = t - t.mean(axis=0), e - e.mean(axis=0)
        return UnitLaw(
            gradient=np.mean(targets, axis=0),
            mean_t=t.mean(axis=0),
            mean_e=e.mean(axis=0),
            var_t=float((centred_t**2).sum()) / n + trace_var,
            var_e=float((centred_e**2).sum()) / n,
            cov_te=float((centred_t * centred_e).sum()) / n,
            trace_var=trace_var,
        )

    def draw(self, rng: np.random.Generator, alpha: float, batch_size: int) -> Floats:
        """One g_c, [P]: B prompts with replacement, one pair of traces each."""
        total = np.zeros(self.scores[0].shape[1])
        chosen = rng.integers(len(self.pairs), size=batch_size)
        trace, empty = Trace(self.objective), EmptyTrace(self.objective)
        for i in np.unique(chosen):
            pair, count = self.pairs[i], int((chosen == i).sum())
            rows = rng.choice(len(pair.draws), size=count, p=pair.weights)
            coefficients = alpha * trace.coefficients(pair)[rows].sum(axis=0)
            coefficients += (1 - alpha) * count * empty.coefficients(pair)[0]
            total += _combine(coefficients, self.scores[i])
        return total / batch_size


def _combine(coefficients: Floats, rows: torch.Tensor) -> Floats:
    # Rows without weight are left out: a single draw uses a handful of the fifty sequences.
    used = np.flatnonzero(coefficients)
    return (torch.from_numpy(coefficients[used]) @ rows[used].double()).numpy()


class MarginalLoss:
    """f on a few prompts, with its scores, Hessian-vector products and start.

    Args:
        reference: the model that is both reference and start.
        pairs: the prompts; the population is their uniform law.
        objective: the pairwise loss.
        enumerate_traces: all traces of a prompt.

    Attributes:
        start: [P] the parameters of the reference.
    """

    def __init__(
        self,
        reference: ReasoningModel,
        pairs: Sequence[PreferencePair],
        objective: Objective,
        enumerate_traces: TraceEnumerator,
    ):
        if not pairs:
            raise ValueError("pairs must not be empty")
        self.objective = objective
        self._model = copy.deepcopy(reference.model)
        self._plans: list[PairSequences] = [
            plan_pair(reference.assembler, pair, enumerate_traces=enumerate_traces) for pair in pairs
        ]
        ref = [sequence_log_probs(reference.model, plan.sequences) for plan in self._plans]
        self._log_prob_ref = [(trace + answer).numpy() for trace, answer in ref]
        parameters = dict(self._model.named_parameters())
        self._names = VmapEngine(self._model).names
        self._shapes = [parameters[name].shape for name in self._names]
        self._dtype = parameters[self._names[0]].dtype
        self.start: Floats = torch.cat([parameters[n].detach().flatten() for n in self._names]).double().numpy()
        numbers = range(len(self._plans))
        self._groups = [numbers[i : i + PROMPTS_AT_ONCE] for i in numbers[::PROMPTS_AT_ONCE]]
        self._batches = [
            pad_batch([sequence for i in group for sequence in self._plans[i].sequences], "cpu")
            for group in self._groups
        ]

    def at(self, theta: Floats) -> Point:
        """Scores and log-probabilities at theta [P].

        Raises:
            StudyError: a log-probability is not finite.
        """
        with torch.no_grad():
            for name, value in self._unflatten(torch.from_numpy(theta)).items():
                self._model.get_parameter(name).copy_(value)
        engine = VmapEngine(self._model)
        pairs, scores = [], []
        for plan, ref in zip(self._plans, self._log_prob_ref, strict=True):
            rows = engine.buffer(len(plan.sequences))
            trace, answer = engine.fill(plan.sequences, rows)
            pairs.append(pair_log_probs(plan, trace.numpy(), answer.numpy(), ref))
            scores.append(rows)
        log_probs = [torch.from_numpy(pair.log_prob) for pair in pairs]
        loss = sum(float(self._loss(i, log_prob)) for i, log_prob in enumerate(log_probs)) / len(self._plans)
        return Point(loss, tuple(pairs), tuple(scores), self.objective)

    def value(self, theta: Floats) -> float:
        """f(theta), by a forward pass."""
        point = torch.from_numpy(theta)
        with torch.no_grad():
            return sum(float(self._part(k, point)) for k in range(len(self._groups)))

    def hessian_product(self, theta: Floats, v: Floats) -> Floats:
        """H(theta) v, [P], by a forward-mode derivative of the gradient; a few prompts at a time bound its memory."""
        point, direction = (torch.from_numpy(np.ascontiguousarray(x)).to(self._dtype) for x in (theta, v))
        total = np.zeros(len(theta))
        for k in range(len(self._groups)):
            product = jvp(grad(partial(self._part, k)), (point,), (direction,))[1]
            total += product.detach().double().numpy()
        return total

    def _part(self, k: int, theta: torch.Tensor) -> torch.Tensor:
        """What the k-th group of prompts adds to f."""
        trace, answer = log_prob_parts(self._model, self._unflatten(theta), *self._batches[k])
        group = self._groups[k]
        sizes = [len(self._plans[i].sequences) for i in group]
        by_prompt = torch.split((trace + answer).double(), sizes)
        losses = [self._loss(i, log_prob) for i, log_prob in zip(group, by_prompt, strict=True)]
        return torch.stack(losses).sum() / len(self._plans)

    def _loss(self, i: int, log_prob: torch.Tensor) -> torch.Tensor:
        """l of the i-th prompt from the log-probabilities of its sequences."""
        plan, ref = self._plans[i], torch.from_numpy(self._log_prob_ref[i])
        sides = [torch.from_numpy(rows) for rows in plan.support]
        marginals = [x[s].logsumexp(0) for x in (log_prob, ref) for s in sides]
        tokens = [torch.tensor(plan.sequences[int(rows[0])].tokens_answer) for rows in plan.support]
        return self.objective.loss(*marginals, *tokens)

    def _unflatten(self, theta: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = torch.split(theta.to(self._dtype), [shape.numel() for shape in self._shapes])
        return {n: part.view(shape) for n, part, shape in zip(self._names, parts, self._shapes, strict=True)}
