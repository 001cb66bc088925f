"""Everything a study needs of 64 pairs with M = 8 traces per answer, against plain passes and autograd per setting.

The study: log-probabilities, within-pair products, totals, products with the totals, sketches, then moments with
intervals and the mean squared error at every setting (at the reference, where beta only scales the coefficients).
Autograd per setting: for each pair and each group of K traces, one forward and one backward pass of the mixed loss over
its 2K + 2 sequences, and the gradient read out. Its cost does not depend on alpha and beta, so it is measured for each
K on some of the pairs and multiplied.
"""

import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from models import make_model, parameters_of
from plain import best_budget, plain
from timing import interleaved, ratio_to

from bvpo_analysis import mixing
from bvpo_analysis.estimators import EmptyTrace, Trace, totals_of
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.lrm.sequences import TokenSequence
from bvpo_analysis.moments import population_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.records import Completion, PreferencePair, ScoreSet
from bvpo_analysis.scores import plan_pair, score_pairs
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch

ALPHAS = np.linspace(0.0, 1.0, 11)
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
KS = (1, 2, 4, 8)


@dataclass(frozen=True)
class RandomAssembler:
    """Token sequences of one length, random but fixed by the texts; the prompt is a quarter, the answer a quarter."""

    vocabulary: int
    tokens: int

    def with_trace(self, prompt: tuple, trace: str, answer: str) -> TokenSequence:
        """The sequence of a trace and an answer."""
        seed = [ord(c) for c in f"{prompt[0]['content']}|{trace}|{answer}"]
        ids = np.random.default_rng(seed).integers(1, self.vocabulary, self.tokens)
        start = self.tokens // 4
        ids[:start] = np.random.default_rng([ord(c) for c in prompt[0]["content"]]).integers(1, self.vocabulary, start)
        return TokenSequence(tuple(ids.tolist()), start, self.tokens - start)

    def with_empty_trace(self, prompt: tuple, answer: str, mode: str) -> TokenSequence:
        """The sequence of an answer without a trace."""
        return self.with_trace(prompt, f"({mode})", answer)


def random_pairs(count: int, traces: int) -> list[PreferencePair]:
    """Pairs with different traces."""
    return [
        PreferencePair(
            prompt_id=f"p{i}",
            prompt=({"role": "user", "content": f"prompt {i}"},),
            chosen=Completion("yes", "c0"),
            rejected=Completion("no", "r0"),
            empty_chosen="yes",
            empty_rejected="no",
            chosen_traces=tuple(f"c{k}" for k in range(1, traces)),
            rejected_traces=tuple(f"r{k}" for k in range(1, traces)),
        )
        for i in range(count)
    ]


def autograd_for_one_setting(
    model: torch.nn.Module, plans: list, k: int, alpha: float = 0.5, beta: float = 0.1
) -> tuple[torch.Tensor, float]:
    """Mean gradient of the mixed loss and mean of its squared norm over pairs and groups of K traces."""
    parameters = {n: p.detach().requires_grad_(True) for n, p in model.named_parameters()}
    mean, square, draws = torch.zeros(parameters_of(model)), 0.0, 0
    for plan in plans:
        for first in range(0, len(plan.draws), k):
            chosen, rejected = plan.draws[first : first + k].T
            rows = [*chosen, *rejected, *plan.empty]
            batch = pad_batch([plan.sequences[j] for j in rows], "cpu")
            log = torch.stack(log_prob_parts(model, parameters, *batch)).sum(0)
            margin = log - log.detach()  # at the reference
            trace = -torch.nn.functional.logsigmoid(beta * (margin[:k] - margin[k : 2 * k]).mean())
            empty = -torch.nn.functional.logsigmoid(beta * (margin[-2] - margin[-1]))
            grads = torch.autograd.grad(alpha * trace + (1 - alpha) * empty, list(parameters.values()))
            flat = torch.cat([g.flatten() for g in grads])
            mean += flat
            square += float(flat @ flat)
            draws += 1
    return mean / draws, square / draws


def products_of_pairs(model: torch.nn.Module, pairs: int, traces: int, tokens: int) -> ScoreSet:
    """The score set of random pairs by the hooks engine."""
    lrm = ReasoningModel("random", model, RandomAssembler(model.config.vocab_size, tokens), "random")
    totals = totals_of(Trace(DPO(0.1)), EmptyTrace(DPO(0.1)))
    return score_pairs(lrm, random_pairs(pairs, traces), traces=traces, totals=totals, engine="hooks")


def study_case(
    model_name: str, pairs: int, traces: int, tokens: int, rounds: int, measured_pairs: int = 4
) -> list[dict]:
    """Rows of the study table."""
    model = make_model(model_name)
    lrm = ReasoningModel(model_name, model, RandomAssembler(model.config.vocab_size, tokens), "random")
    data = random_pairs(pairs, traces)
    trace, empty = Trace(DPO(0.1)), EmptyTrace(DPO(0.1))
    plans = [plan_pair(lrm.assembler, pair, traces=traces) for pair in data]
    sequences = [s for plan in plans for s in plan.sequences]
    assert len(sequences) == pairs * (2 * traces + 2)
    budget = best_budget(model, sequences[:64])
    held = SimpleNamespace(scores=None)

    def products() -> None:
        held.scores = products_of_pairs(model, pairs, traces, tokens)

    def one_pass() -> None:
        score_pairs(lrm, data, traces=traces, totals=totals_of(trace, empty), engine="hooks", leave_one_out=False)

    seconds = interleaved(
        {"plain": lambda: plain(model, sequences, budget), "study": products, "without intervals": one_pass}, rounds
    )
    start = time.process_time()
    moments = population_moments(held.scores, trace, empty)
    taken = time.process_time() - start
    start = time.process_time()
    errors = {}
    for k in KS:
        if k > traces:
            continue
        law = moments.population(16, k)
        for alpha in ALPHAS:
            value = mixing.error(law, float(alpha)).value
            errors |= {(float(alpha), beta, k): (beta / 0.1) ** 2 * value for beta in BETAS}
    evaluated = time.process_time() - start
    ks = [k for k in KS if k <= traces]
    each = {f"K={k}": (lambda k=k: autograd_for_one_setting(model, plans[:measured_pairs], k)) for k in ks}
    autograd = interleaved(each, max(rounds // 2, 1))
    per_k = {name: sorted(s)[len(s) // 2] * pairs / measured_pairs for name, s in autograd.items()}
    whole = sum(per_k.values()) * len(ALPHAS) * len(BETAS)
    study = sorted(seconds["study"])[rounds // 2]
    common = {"model": model_name, "parameters": parameters_of(model), "pairs": pairs, "M": traces, "T": tokens}
    return [
        {**common, "quantity": "study", "seconds": study, **ratio_to(seconds, "study", "plain")},
        {
            **common,
            "quantity": "study without intervals",
            "seconds": sorted(seconds["without intervals"])[rounds // 2],
            **ratio_to(seconds, "without intervals", "plain"),
        },
        {**common, "quantity": "moments with intervals", "seconds": taken},
        {**common, "quantity": f"{len(errors)} settings from the moments", "seconds": evaluated},
        *({**common, "quantity": f"autograd, one setting, {name}", "seconds": s} for name, s in per_k.items()),
        {
            **common,
            "quantity": f"autograd, {len(errors)} settings (measured per K, multiplied)",
            "seconds": whole,
            "ratio": whole / (study + taken + evaluated),
        },
    ]
