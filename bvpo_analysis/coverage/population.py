"""A finite population of prompts with the full law of their traces, as plain vectors in a few thousand dimensions.

The shipped prompts of a regime, each equally likely, with all 24 traces per answer under the reference posterior, are
the population that samples are drawn from. A fixed count sketch of the scores *defines* its vectors: inner products of
the sketches are then exact by definition, every moment is known without error, and a sample of hundreds of prompts
costs milliseconds. A count sketch keeps inner products without bias and to a few per cent, so the population resembles
the one of the full gradients.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, mean_coefficients
from bvpo_analysis.estimators.trace import side_log_probs
from bvpo_analysis.exact import pairs_fingerprint, shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.moments import Moments
from bvpo_analysis.objectives import Objective
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.records import Floats, PairLogProbs
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.scores.plan import pair_log_probs, plan_pair

DIMENSION = 2048
"""Length of the count sketches that define the vectors."""
PROMPTS = 128
"""Prompts of a regime's population: the first of the shipped pairs."""


@dataclass(frozen=True)
class FinitePopulation:
    """P equally likely prompts; g_t = traces[x, 0, r+] + traces[x, 1, r-] with r+, r- independent given the prompt x.

    Attributes:
        traces: [P, 2, E, d] contribution of each trace of the chosen (0) and the rejected (1) answer to g_t.
        posterior: [P, 2, E] probabilities of the traces given prompt and answer.
        empty: [P, d] g_e of each prompt.
    """

    traces: Floats
    posterior: Floats
    empty: Floats

    def __len__(self) -> int:
        return len(self.empty)

    @classmethod
    def from_scores(
        cls, pairs: Sequence[PairLogProbs], vectors: Sequence[Floats], objective: Objective
    ) -> "FinitePopulation":
        """The population of enumerated pairs with explicit scores [m, d], at the reference.

        Raises:
            ValueError: traces are not enumerated, a pair is not at its reference, or the loss has coefficients that
                depend on the trace there, so that g_t is not a sum over the two sides.
        """
        traces, posterior, empty = [], [], []
        for pair, scores in zip(pairs, vectors, strict=True):
            if not pair.enumerated or not np.array_equal(pair.log_prob, pair.log_prob_ref):
                raise ValueError(f"prompt {pair.prompt_id!r} must be at its reference with all traces enumerated")
            sides = [side_log_probs(pair, side) for side in pair.support]
            coefficients = objective.coefficients(*sides)
            if any(np.ptp(c) > 0 for c in coefficients):
                raise ValueError(f"the {objective.name} loss does not have constant coefficients at the reference")
            rows = zip(coefficients, pair.support, strict=True)
            traces.append([np.asarray(c)[:, None] * scores[side] for c, side in rows])
            logs = pair.log_prob_ref[pair.support]
            posterior.append(np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)))
            empty.append(mean_coefficients(EmptyTrace(objective), pair) @ scores)
        return cls(np.array(traces), np.array(posterior), np.array(empty))

    @cached_property
    def means(self) -> Floats:
        """[P, 2, d] posterior means of the two sides; their sum is the prompt's marginal gradient mu_x."""
        return np.einsum("pse,psed->psd", self.posterior, self.traces)

    @cached_property
    def cumulative(self) -> Floats:
        """[P, 2, E] distribution functions of the traces, the last value infinite."""
        found = np.cumsum(self.posterior, axis=2)
        found[..., -1] = np.inf
        return found

    @cached_property
    def deviations_gram(self) -> Floats:
        """[P, 2E, 2E] inner products of the deviations of all traces from their side's mean."""
        flat = (self.traces - self.means[:, :, None]).reshape(len(self), -1, self.empty.shape[1])
        return flat @ flat.transpose(0, 2, 1)

    @cached_property
    def deviations_with_means(self) -> Floats:
        """[P, 2E, 2] inner products of the same deviations with mu_x and with g_e."""
        flat = (self.traces - self.means[:, :, None]).reshape(len(self), -1, self.empty.shape[1])
        return flat @ np.stack([self.means.sum(axis=1), self.empty], axis=2)

    @cached_property
    def truth(self) -> Moments:
        """Exact moments, arrays of length one: E|g_t - E g_t|^2 = Tr Cov_x(mu_x) + tau and so on, b_t = 0."""
        t, e = self.means.sum(axis=1), self.empty
        deviations = np.einsum("pjj->pj", self.deviations_gram).reshape(self.posterior.shape)
        tau = float((self.posterior * deviations).sum(axis=(1, 2)).mean())
        d = e - t
        mean_t, mean_e, mean_d = t.mean(axis=0), e.mean(axis=0), d.mean(axis=0)

        def covariance(a: Floats, b: Floats) -> float:
            return float(((a - a.mean(axis=0)) * (b - b.mean(axis=0))).sum(axis=1).mean())

        def one(value: float) -> Floats:
            return np.array([float(value)])

        bias, prompt_bias = one(mean_d @ mean_d), one((d**2).sum(axis=1).mean())
        return Moments(
            n=len(self),
            bias_t_sq=one(0),
            bias_e_sq=bias,
            bias_inner=one(0),
            bias_diff_sq=bias,
            bias_t_diff=one(0),
            var_t=one(covariance(t, t) + tau),
            var_e=one(covariance(e, e)),
            cov_te=one(covariance(t, e)),
            var_diff=one(covariance(d, d) + tau),
            cov_t_diff=one(tau - covariance(t, d)),
            trace_var=one(tau),
            prompt_bias_t_sq=one(0),
            prompt_bias_e_sq=prompt_bias,
            prompt_bias_inner=one(0),
            prompt_bias_diff_sq=prompt_bias,
            prompt_bias_t_diff=one(0),
            target_sq=one(mean_t @ mean_t),
            target_dot_e=one(mean_t @ mean_e),
            mean_e_sq=one(mean_e @ mean_e),
        )


def count_sketch(rows: torch.Tensor, dimension: int = DIMENSION) -> NDArray[np.float64]:
    """Count sketches [m, dimension] of the rows [m, P]: each coordinate, with a random sign, added to one bucket.

    The hashes never change. E <sketch a, sketch b> = <a, b> over hashes (Charikar, Chen, Farach-Colton 2002).

    Example:
        >>> rows = torch.eye(3, 5000)
        >>> sketches = count_sketch(rows)
        >>> sketches.shape, (sketches**2).sum(axis=1)
        ((3, 2048), array([1., 1., 1.]))
    """
    hashes = torch.Generator().manual_seed(0)
    bucket = torch.randint(dimension, (rows.shape[1],), generator=hashes)
    sign = torch.randint(2, (rows.shape[1],), generator=hashes, dtype=torch.int8) * 2 - 1
    out = torch.zeros(len(rows), dimension, dtype=torch.float64)
    for row, target in zip(rows, out, strict=True):
        target.index_add_(0, bucket, (row * sign).double())
    return out.numpy()


def write_population(path: Path, population: FinitePopulation) -> None:
    """Keep a population in a file, whole or not at all; :func:`read_population` reads it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, traces=population.traces, posterior=population.posterior, empty=population.empty)
    part.replace(path)


def read_population(path: Path) -> FinitePopulation:
    """Read :func:`write_population` back."""
    with np.load(path, allow_pickle=False) as stored:
        return FinitePopulation(stored["traces"], stored["posterior"], stored["empty"])


def population_file(
    lrm: ReasoningModel, regime: str, objective: Objective, folder: Path, *, prompts: int = PROMPTS
) -> Path:
    """The file of a shipped regime's population in ``folder``, scored and written if it is not there.

    Args:
        lrm: the model that the shipped pairs belong to; its own reference.
        regime: the shipped regime.
        objective: a loss with constant coefficients at the reference.
        folder: where populations are kept; the file name holds a hash of model, data, loss and dimension.
        prompts: how many of the shipped pairs, from the first.

    Raises:
        InputError: fewer shipped pairs than asked for.
        ValueError: the loss has no constant coefficients at the reference.
    """
    pairs = shipped_pairs(regime, limit=prompts)
    if len(pairs) < prompts:
        raise InputError(f"regime {regime} ships {len(pairs)} pairs, {prompts} were asked for; use fewer prompts")
    identity = [lrm.fingerprint, pairs_fingerprint(pairs), repr(objective), str(DIMENSION)]
    key = hashlib.blake2b("\n".join(identity).encode(), digest_size=8).hexdigest()
    path = folder / f"population-{regime}-{key}.npz"
    if path.exists():
        return path
    plans = [plan_pair(lrm.assembler, pair, enumerate_traces=shipped_traces) for pair in pairs]
    engine = score_engine("auto", lrm.model)
    logs, vectors = [], []
    for plan in tqdm(plans, desc=f"scores of {regime}", unit="prompt", leave=False):
        rows = engine.buffer(len(plan.sequences))
        trace, answer = (part.numpy() for part in engine.fill(plan.sequences, rows))
        logs.append(pair_log_probs(plan, trace, answer, trace + answer))
        vectors.append(count_sketch(rows))
    write_population(path, FinitePopulation.from_scores(logs, vectors, objective))
    return path
