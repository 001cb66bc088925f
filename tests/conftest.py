"""Shared by all tests: one torch thread, reproducible hypothesis runs, the model in the box, and laws made by hand.

Nothing here imports torch before a test needs the model: the tests of the closed forms run without it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from bvpo_analysis.estimators import Estimator, mean_coefficients
from bvpo_analysis.records import Floats, Ints, PairLogProbs, PairScores, ScoreSet

if TYPE_CHECKING:
    from bvpo_analysis.lrm.loading import ReasoningModel
    from bvpo_analysis.scores import VmapEngine

# Read by torch when it is first imported.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# ci is deterministic; dev looks at new examples every time; nightly looks at many. All print a reproduction blob.
settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None, max_examples=100)
settings.register_profile("dev", print_blob=True, deadline=None, max_examples=50)
settings.register_profile("nightly", print_blob=True, deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def lrm() -> ReasoningModel:
    """The model in the box in float32. Shared: do not change its weights."""
    from bvpo_analysis.lrm.loading import load_model

    return load_model()


@pytest.fixture(scope="session")
def lrm64() -> ReasoningModel:
    """The model in the box in float64. Shared: do not change its weights."""
    import torch

    from bvpo_analysis.lrm.loading import load_model

    return load_model(dtype=torch.float64)


@pytest.fixture(scope="session")
def engine64(lrm64: ReasoningModel) -> VmapEngine:
    """The reference score engine on the float64 model, all parameters."""
    from bvpo_analysis.scores import VmapEngine

    return VmapEngine(lrm64.model)


@pytest.fixture(scope="session")
def proof_package() -> Callable[[str], ModuleType]:
    """Import a package of the extra ``proofs`` by name: ``sympy = proof_package("sympy")``.

    Without the package the test is skipped, except where REQUIRE_PROOFS is set, as it is in CI: there it fails.
    """

    def load(name: str) -> ModuleType:
        if os.environ.get("REQUIRE_PROOFS"):
            return importlib.import_module(name)
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[proofs]'")

    return load


@dataclass(frozen=True)
class ExplicitLaw:
    """Gradients of one prompt as plain vectors: p [R] and g_t [R, d] over its trace draws, g_e [d], mu [d]."""

    p: Floats
    t: Floats
    e: Floats
    mu: Floats


class ByHand:
    """Pairs, score sets and moments from explicit score vectors, without a model and without the package's moments."""

    @staticmethod
    def pair(rng: np.random.Generator, traces: int = 2, *, shift: float = 0.0, single: bool = False) -> PairLogProbs:
        """An enumerated pair with ``traces`` traces per side and random log-probabilities.

        Args:
            rng: randomness.
            traces: traces per side.
            shift: standard deviation of log pi_theta - log pi_ref; 0 is at the reference.
            single: give the rejected answer a single trace, listed ``traces`` times.
        """
        size = 2 * traces + 2
        ref = rng.normal(-4.0, 0.6, size)
        support = np.arange(2 * traces).reshape(2, traces)
        if single:
            support[1] = traces
        sides = [np.exp(ref[s] - np.logaddexp.reduce(ref[s])) for s in support]
        chosen, rejected = np.meshgrid(*support, indexing="ij")
        current = ref + shift * rng.normal(size=size) if shift else ref
        return PairLogProbs(
            prompt_id=f"p{rng.integers(10**9)}",
            log_prob=current,
            log_prob_ref=ref,
            log_prob_answer=current / 2,
            tokens=rng.integers(5, 12, size),
            tokens_answer=np.full(size, 3),
            draws=np.stack([chosen.ravel(), rejected.ravel()], axis=1),
            weights=np.outer(*sides).ravel(),
            enumerated=True,
            support=support,
            empty=np.array([2 * traces, 2 * traces + 1]),
        )

    @staticmethod
    def sampled(pair: PairLogProbs, draws: Ints) -> PairLogProbs:
        """The same sequences with these draws [R, 2] taken as an i.i.d. sample."""
        draws = np.asarray(draws)
        return replace(
            pair,
            draws=draws,
            weights=np.full(len(draws), 1.0 / len(draws)),
            enumerated=False,
            support=np.empty((2, 0), dtype=np.int64),
        )

    @staticmethod
    def scores(
        pairs: Sequence[PairLogProbs], vectors: Sequence[Floats], *estimators: Estimator, split: int | None = None
    ) -> ScoreSet:
        """A score set from explicit scores [m, d] of each pair; ``split`` cuts the d columns into two groups.

        The sketches are the vectors themselves, one zero-padded copy per group.
        """
        d = vectors[0].shape[1]
        cuts = [slice(0, d)] if split is None else [slice(0, split), slice(split, d)]
        own = np.stack([[mean_coefficients(f, p) @ v for f in estimators] for p, v in zip(pairs, vectors, strict=True)])
        totals = own.sum(axis=0)
        masks = np.stack([np.isin(np.arange(d), np.arange(d)[c]) for c in cuts])
        return ScoreSet(
            pairs=tuple(
                PairScores(
                    log_probs=p,
                    gram=np.stack([v[:, c] @ v[:, c].T for c in cuts]),
                    with_totals=np.stack([mean[:, c] @ totals[:, c].T for c in cuts]),
                    sketches=masks[:, None, :] * mean,
                )
                for p, v, mean in zip(pairs, vectors, own, strict=True)
            ),
            groups=tuple("ab"[: len(cuts)]),
            parameters=tuple(c.stop - c.start for c in cuts),
            totals=tuple(repr(f) for f in estimators),
            totals_gram=np.stack([totals[:, c] @ totals[:, c].T for c in cuts]),
            settings={},
        )

    @staticmethod
    def law(pair: PairLogProbs, vectors: Floats, trace: Estimator, empty: Estimator, mu: Estimator) -> ExplicitLaw:
        """The prompt's gradients as vectors."""
        return ExplicitLaw(
            p=pair.weights,
            t=trace.coefficients(pair) @ vectors,
            e=(empty.coefficients(pair) @ vectors)[0],
            mu=(mu.coefficients(pair) @ vectors)[0],
        )

    @staticmethod
    def moments(prompts: Sequence[ExplicitLaw]) -> dict[str, float]:
        """Every field of ``Moments`` for equally likely prompts, from vectors and the definitions alone."""
        weights = np.concatenate([law.p for law in prompts]) / len(prompts)
        t = np.concatenate([law.t for law in prompts])
        e = np.concatenate([np.tile(law.e, (len(law.p), 1)) for law in prompts])
        mu = np.mean([law.mu for law in prompts], axis=0)
        mean_t, mean_e = weights @ t, weights @ e

        def cov(x: Floats, y: Floats) -> float:
            return float(weights @ ((x - weights @ x) * (y - weights @ y)).sum(axis=1))

        def average(f) -> float:
            return float(np.mean([f(law, law.p @ law.t - law.mu, law.e - law.mu) for law in prompts]))

        b_t, b_e = mean_t - mu, mean_e - mu
        return {
            "bias_t_sq": b_t @ b_t,
            "bias_e_sq": b_e @ b_e,
            "bias_inner": b_t @ b_e,
            "bias_diff_sq": (b_t - b_e) @ (b_t - b_e),
            "bias_t_diff": b_t @ (b_t - b_e),
            "var_t": cov(t, t),
            "var_e": cov(e, e),
            "cov_te": cov(t, e),
            "var_diff": cov(t - e, t - e),
            "cov_t_diff": cov(t, t - e),
            "trace_var": average(lambda law, bt, be: law.p @ ((law.t - law.p @ law.t) ** 2).sum(axis=1)),
            "prompt_bias_t_sq": average(lambda law, bt, be: bt @ bt),
            "prompt_bias_e_sq": average(lambda law, bt, be: be @ be),
            "prompt_bias_inner": average(lambda law, bt, be: bt @ be),
            "prompt_bias_diff_sq": average(lambda law, bt, be: (bt - be) @ (bt - be)),
            "prompt_bias_t_diff": average(lambda law, bt, be: bt @ (bt - be)),
            "target_sq": mu @ mu,
            "target_dot_e": mu @ mean_e,
            "mean_e_sq": mean_e @ mean_e,
        }


@pytest.fixture(scope="session")
def by_hand() -> ByHand:
    """Hand-made pairs, scores and moments."""
    return ByHand()
