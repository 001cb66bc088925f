"""A log-linear reasoning model, small enough to enumerate: every expectation over traces and answers is a finite sum.

For one prompt with R traces r and Y answers y, features phi(r, y) in R^d and parameters theta [d],

    pi_theta(r, y) = exp<theta, phi(r, y)> / Z(theta),      s(r, y) = grad log pi_theta(r, y) = phi(r, y) - E phi.

Everything the theory says about language models (posterior and prior traces, marginals, biases on and off the
reference) can be measured on it to rounding, through the same records and estimators that serve a real model. Trace 0
is the empty trace; it belongs to the trace space, so that its score is that of a generated empty trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.records import Floats, Ints, PairLogProbs


@dataclass(frozen=True)
class LogLinearModel:
    """pi_theta(r, y) proportional to exp<theta, phi(r, y)>.

    Attributes:
        features: [R, Y, d] phi(r, y), finite.

    Raises:
        ValueError: the features are not a finite array with three axes of at least one entry each.

    Example:
        >>> model = LogLinearModel.random(np.random.default_rng(0), traces=3, answers=3, parameters=4)
        >>> theta = np.zeros(4)
        >>> model.log_probs(theta).shape, bool(np.isclose(np.exp(model.log_probs(theta)).sum(), 1.0))
        ((3, 3), True)
        >>> bool(np.allclose(model.marginal_score(theta, 1), model.posterior(theta, 1) @ model.scores(theta)[:, 1]))
        True
    """

    features: Floats

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or self.features.size == 0 or not np.isfinite(self.features).all():
            raise ValueError(f"features must be a finite array [traces, answers, d], got shape {self.features.shape}")

    @classmethod
    def random(
        cls, rng: np.random.Generator, *, traces: int, answers: int, parameters: int, spread: float = 1.0
    ) -> "LogLinearModel":
        """Features drawn from a normal law with this standard deviation."""
        return cls(spread * rng.normal(size=(traces, answers, parameters)))

    def log_probs(self, theta: Floats) -> Floats:
        """log pi_theta(r, y), [R, Y].

        Raises:
            ValueError: theta is not a finite vector of d parameters.
        """
        energy = self._energy(theta)
        return energy - np.logaddexp.reduce(energy, axis=None)

    def scores(self, theta: Floats) -> Floats:
        """s(r, y), [R, Y, d]."""
        mean = np.einsum("ry,ryd->d", np.exp(self.log_probs(theta)), self.features)
        return self.features - mean

    def log_marginal(self, theta: Floats) -> Floats:
        """log pi_theta(y) = log sum_r pi_theta(r, y), [Y]."""
        return np.logaddexp.reduce(self.log_probs(theta), axis=0)

    def prior(self, theta: Floats) -> Floats:
        """pi_theta(r), [R]."""
        return np.exp(np.logaddexp.reduce(self.log_probs(theta), axis=1))

    def posterior(self, theta: Floats, answer: int) -> Floats:
        """pi_theta(r | y), [R]."""
        joint = self.log_probs(theta)[:, self._known(answer)]
        return np.exp(joint - np.logaddexp.reduce(joint))

    def likelihood(self, theta: Floats, answer: int) -> Floats:
        """pi_theta(y | r), [R]."""
        log_probs = self.log_probs(theta)
        return np.exp(log_probs[:, self._known(answer)] - np.logaddexp.reduce(log_probs, axis=1))

    def marginal_score(self, theta: Floats, answer: int) -> Floats:
        """sbar(y) = grad log pi_theta(y), [d], by differentiating the marginal (not by Fisher's identity).

        pi_theta(y) = Z_y / Z with Z_y = sum_r exp<theta, phi(r, y)>, so the gradient is that of log Z_y minus that of
        log Z: a difference of two means of features.
        """
        energy, answer = self._energy(theta), self._known(answer)
        within = np.exp(energy[:, answer] - np.logaddexp.reduce(energy[:, answer]))
        overall = np.exp(energy - np.logaddexp.reduce(energy, axis=None))
        return within @ self.features[:, answer] - np.einsum("ry,ryd->d", overall, self.features)

    def answer_score(self, theta: Floats, trace: int, answer: int) -> Floats:
        """grad log pi_theta(y | r), [d]: the score of an answer after a trace that is given, not scored."""
        following = self.log_probs(theta)[trace]
        mean = np.exp(following - np.logaddexp.reduce(following)) @ self.features[trace]
        return self.features[trace, self._known(answer)] - mean

    def posterior_covariance(self, theta: Floats, answer: int) -> Floats:
        """C(y) = Cov_{pi_theta(r | y)} s(r, y), [d, d]."""
        p, s = self.posterior(theta, answer), self.scores(theta)[:, answer]
        centred = s - p @ s
        return (p[:, None] * centred).T @ centred

    def trace_scores(self, theta: Floats) -> Floats:
        """grad log pi_theta(r), [R, d]: the scores of traces without an answer."""
        log_probs = self.log_probs(theta)
        following = np.exp(log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True))
        return np.asarray(np.einsum("ry,ryd->rd", following, self.scores(theta)))

    def pair(
        self,
        theta: Floats,
        theta_ref: Floats,
        chosen: int,
        rejected: int,
        *,
        joint: Floats | None = None,
        draws: Sequence[tuple[int, int]] | None = None,
        prior: Sequence[int] = (),
    ) -> tuple[PairLogProbs, Floats]:
        """A preference pair and its scores, as estimators take them; enumerated unless ``draws`` are given.

        Sequences, in order: the chosen answer with every trace, the rejected answer with every trace, both answers with
        the empty trace (trace 0), every trace without an answer, and both answers after an empty trace that is given
        and not scored (the variant "empty_shared"). The variant "empty_generated" is the scored empty trace, and
        "short" takes trace r // 2 for the first draw's trace r.

        Args:
            theta, theta_ref: [d] parameters of the policy and of the reference.
            chosen, rejected: answers y+ and y-.
            joint: [R, R] probabilities of (r+, r-); by default independent reference-posterior traces.
            draws: (r+, r-) of sampled draws, in place of the whole law.
            prior: prior traces.

        Returns:
            Log-probabilities [m] and scores [m, d] at theta, m = 3 R + 4.

        Raises:
            ValueError: theta or theta_ref is not a finite vector [d], an answer is not among the Y, a trace is not
                among the R, the joint law is not a table [R, R] of probabilities that sum to one, or both a joint law
                and draws are given.

        Example:
            >>> from bvpo_analysis.estimators import Marginal, Trace
            >>> from bvpo_analysis.objectives import DPO
            >>> model = LogLinearModel.random(np.random.default_rng(0), traces=3, answers=2, parameters=4)
            >>> pair, scores = model.pair(np.zeros(4), np.zeros(4), chosen=0, rejected=1)
            >>> g_t = pair.weights @ Trace(DPO(1.0)).coefficients(pair) @ scores
            >>> bool(np.allclose(g_t, Marginal(DPO(1.0)).coefficients(pair) @ scores))
            True
        """
        traces = self.features.shape[0]
        chosen, rejected = self._known(chosen), self._known(rejected)
        given = joint is not None
        if joint is None:
            joint = np.outer(self.posterior(theta_ref, chosen), self.posterior(theta_ref, rejected))
        # `not (... <= ...)` so that a NaN is refused too.
        if joint.shape != (traces, traces) or not joint.min() >= 0 or not abs(joint.sum() - 1) <= 1e-9:
            raise ValueError(f"joint must be a table [{traces}, {traces}] of probabilities that sum to one")
        if draws is not None and given:
            raise ValueError("give the joint law of the traces or draws from it, not both")
        named = np.array([*prior, *np.ravel(draws if draws is not None else [])], dtype=np.int64)
        if ((named < 0) | (named >= traces)).any():
            raise ValueError(f"traces must be in 0..{traces - 1}, got {named.tolist()}")
        first, second = (
            np.divmod(np.arange(traces * traces), traces)
            if draws is None
            else np.array(draws, dtype=np.int64).reshape(-1, 2).T
        )
        answers, every = (chosen, rejected), np.arange(traces)
        tables = [self._sequences(x, answers) for x in (theta, theta_ref)]
        scores = self.scores(theta)
        vectors = [scores[:, chosen], scores[:, rejected], scores[0, list(answers)], self.trace_scores(theta)]
        vectors.append(np.array([self.answer_score(theta, 0, y) for y in answers]))
        # A trace r counts r + 1 tokens and an answer one, so that length-normalised losses have lengths to divide by.
        tokens: Ints = np.concatenate([every + 2, every + 2, [2, 2], every + 1, [1, 1]])
        empty = np.array([2 * traces, 2 * traces + 1])
        pool = np.array(prior, dtype=np.int64)
        log_probs = PairLogProbs(
            prompt_id="log-linear",
            log_prob=tables[0][0],
            log_prob_ref=tables[1][0],
            log_prob_answer=tables[0][1],
            tokens=tokens,
            tokens_answer=np.concatenate([np.ones(2 * traces + 2), np.zeros(traces), [1, 1]]).astype(np.int64),
            draws=np.stack([first, traces + second], axis=1),
            weights=joint.ravel() if draws is None else np.full(len(first), 1.0 / len(first)),
            enumerated=draws is None,
            support=np.arange(2 * traces if draws is None else 0).reshape(2, -1),
            empty=empty,
            prior=np.stack([pool, traces + pool], axis=1),
            trace_only=2 * traces + 2 + pool,
            variants={
                "empty_shared": 3 * traces + 2 + np.arange(2),
                "empty_generated": empty,
                "short": np.array([first[0] // 2, traces + second[0] // 2]),
            },
        )
        return log_probs, np.concatenate(vectors)

    def _sequences(self, theta: Floats, answers: tuple[int, int]) -> tuple[Floats, Floats]:
        """log pi of all sequences of a pair, [3 R + 4], and the part of their answers."""
        joint = self.log_probs(theta)
        prior = np.logaddexp.reduce(joint, axis=1)
        following = joint - prior[:, None]
        both = list(answers)
        whole = [joint[:, answers[0]], joint[:, answers[1]], joint[0, both], prior, following[0, both]]
        answer = [
            following[:, answers[0]],
            following[:, answers[1]],
            following[0, both],
            0.0 * prior,
            following[0, both],
        ]
        return np.concatenate(whole), np.concatenate(answer)

    def _energy(self, theta: Floats) -> Floats:
        if np.shape(theta) != self.features.shape[2:] or not np.isfinite(theta).all():
            raise ValueError(f"theta must be {self.features.shape[2]} finite numbers, got shape {np.shape(theta)}")
        return np.asarray(self.features @ theta)

    def _known(self, answer: int) -> int:
        if not 0 <= answer < self.features.shape[1]:
            raise ValueError(f"answer must be in 0..{self.features.shape[1] - 1}, got {answer}")
        return answer
