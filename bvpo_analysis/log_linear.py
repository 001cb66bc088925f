"""A log-linear reasoning model, small enough to enumerate: every expectation over traces and answers is a finite sum.

For one prompt with R traces r and Y answers y, features phi(r, y) in R^d and parameters theta [d],

    pi_theta(r, y) = exp<theta, phi(r, y)> / Z(theta),      s(r, y) = grad log pi_theta(r, y) = phi(r, y) - E phi.

Everything the theory says about language models (posterior and prior traces, marginals, biases on and off the
reference) can be measured on it to rounding, through the same records and estimators that serve a real model. Trace 0
is the empty trace; it belongs to the trace space, so that its score is that of a generated empty trace.
"""

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

    def pair(
        self, theta: Floats, theta_ref: Floats, chosen: int, rejected: int, *, joint: Floats | None = None
    ) -> tuple[PairLogProbs, Floats]:
        """An enumerated preference pair and its scores, as estimators take them.

        Sequences, in order: the chosen answer with every trace, the rejected answer with every trace, then both
        answers with the empty trace (trace 0).

        Args:
            theta, theta_ref: [d] parameters of the policy and of the reference.
            chosen, rejected: answers y+ and y-.
            joint: [R, R] probabilities of (r+, r-); by default independent reference-posterior traces.

        Returns:
            Log-probabilities [m] and scores [m, d] at theta, m = 2 R + 2.

        Raises:
            ValueError: theta or theta_ref is not a finite vector [d], an answer is not among the Y, or the joint law
                is not a table [R, R] of probabilities that sum to one.

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
        if joint is None:
            joint = np.outer(self.posterior(theta_ref, chosen), self.posterior(theta_ref, rejected))
        # `not (... <= ...)` so that a NaN is refused too.
        if joint.shape != (traces, traces) or not joint.min() >= 0 or not abs(joint.sum() - 1) <= 1e-9:
            raise ValueError(f"joint must be a table [{traces}, {traces}] of probabilities that sum to one")
        current, reference = self.log_probs(theta), self.log_probs(theta_ref)
        prior = np.logaddexp.reduce(current, axis=1)
        vectors = self.scores(theta)
        rows_r = np.concatenate([np.arange(traces), np.arange(traces), [0, 0]])
        rows_y = np.concatenate([np.full(traces, chosen), np.full(traces, rejected), [chosen, rejected]])
        first, second = np.divmod(np.arange(traces * traces), traces)
        # A trace r counts r + 1 tokens and an answer one, so that length-normalised losses have lengths to divide by.
        tokens: Ints = rows_r + 2
        log_probs = PairLogProbs(
            prompt_id="log-linear",
            log_prob=current[rows_r, rows_y],
            log_prob_ref=reference[rows_r, rows_y],
            log_prob_answer=current[rows_r, rows_y] - prior[rows_r],
            tokens=tokens,
            tokens_answer=np.ones_like(tokens),
            draws=np.stack([first, traces + second], axis=1),
            weights=joint.ravel(),
            enumerated=True,
            support=np.arange(2 * traces).reshape(2, traces),
            empty=np.array([2 * traces, 2 * traces + 1]),
        )
        return log_probs, vectors[rows_r, rows_y]

    def _energy(self, theta: Floats) -> Floats:
        if np.shape(theta) != self.features.shape[2:] or not np.isfinite(theta).all():
            raise ValueError(f"theta must be {self.features.shape[2]} finite numbers, got shape {np.shape(theta)}")
        return np.asarray(self.features @ theta)

    def _known(self, answer: int) -> int:
        if not 0 <= answer < self.features.shape[1]:
            raise ValueError(f"answer must be in 0..{self.features.shape[1] - 1}, got {answer}")
        return answer
