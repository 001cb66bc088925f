"""A reasoning model whose marginal preference loss is convex, with the gradients g_t and g_e that training would see.

Prompt i has features phi(r, y) = chi_i(r) + psi_i(y), so that trace and answer are independent and the marginal margin
of an answer pair is linear in the parameters. With x the parameters and x_ref the reference,

    L_m(x) = E log(1 + exp(-m)),    m = beta <x - x_ref, psi(y+) - psi(y-)>            (logistic regression: convex)
    g_t = -beta sigmoid(-m_t) delta_t,   m_t = beta <x - x_ref, delta_t>,
    delta_t = psi(y+) + chi(r+) - psi(y-) - chi(r-)

with r+ and r- drawn from the reference posterior. g_e is the DPO gradient of the empty trace, whose features cancel: on the
same answers it would be exact, so its bias is that of its data, answer pairs y' of its own.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.records import Floats, Ints
from bvpo_analysis.sgd.oracles import GradientLawAt, GradientPair, Oracle
from bvpo_analysis.sgd.problems import Kind, Problem


@dataclass(frozen=True)
class PreferenceData:
    """Prompts with their answer pairs and the parts of their features.

    Attributes:
        trace_features: chi_i(r), [P, R, d]; trace 0 is the empty one.
        answer_features: psi_i(y), [P, Y, d].
        pairs: the two answers compared with traces, [P, 2]; the first is preferred with probability 1 - flip.
        empty_pairs: the two answers of the empty-trace data, [P, 2], likewise.
        flip: probability that a label is turned round, in (0, 1/2]; it keeps the minimiser finite.
        beta: inverse temperature of DPO.
        reference: x_ref, [d].

    Raises:
        ValueError: shapes disagree, numbers are not finite, or flip or beta is out of range.
    """

    trace_features: Floats
    answer_features: Floats
    pairs: Ints
    empty_pairs: Ints
    flip: float
    beta: float
    reference: Floats

    def __post_init__(self) -> None:
        chi, psi = self.trace_features, self.answer_features
        if chi.ndim != 3 or psi.ndim != 3 or chi.shape[::2] != psi.shape[::2]:
            raise ValueError(f"features must be [P, R, d] and [P, Y, d], got shapes {chi.shape} and {psi.shape}")
        if self.reference.shape != chi.shape[2:] or not all(np.isfinite(a).all() for a in (chi, psi, self.reference)):
            raise ValueError("features and reference must be finite, with the same number of parameters")
        for name, pairs in (("pairs", self.pairs), ("empty_pairs", self.empty_pairs)):
            if pairs.shape != (len(chi), 2) or pairs.min() < 0 or pairs.max() >= psi.shape[1]:
                raise ValueError(f"{name} must be [P, 2] indices of answers, got shape {pairs.shape}")
        if not 0 < self.flip <= 0.5:
            raise ValueError(f"flip must be in (0, 1/2], or the loss may have no minimiser; got {self.flip}")
        if not 0 < self.beta < np.inf:
            raise ValueError(f"beta must be a positive number, got {self.beta}")

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        *,
        prompts: int = 6,
        traces: int = 3,
        answers: int = 4,
        parameters: int = 3,
        trace_spread: float = 1.0,
        flip: float = 0.2,
        beta: float = 1.0,
    ) -> "PreferenceData":
        """Normal features; the empty-trace data compare other answers of the same prompts."""
        order = np.argsort(rng.random((prompts, answers)), axis=1)
        return cls(
            trace_features=trace_spread * rng.normal(size=(prompts, traces, parameters)),
            answer_features=rng.normal(size=(prompts, answers, parameters)),
            pairs=order[:, :2],
            empty_pairs=order[:, 1:3],
            flip=flip,
            beta=beta,
            reference=0.3 * rng.normal(size=parameters),
        )

    def model(self, prompt: int) -> LogLinearModel:
        """The reasoning model of one prompt."""
        return LogLinearModel(self.trace_features[prompt][:, None] + self.answer_features[prompt][None])


@dataclass(frozen=True)
class ReasoningLoss(Problem):
    """L_m as a function of the parameters: L = (beta^2/4) lambda_max(E delta delta'), since sigmoid' <= 1/4.

    The minimum is found by Newton's method, to rounding.

    Example:
        >>> loss = ReasoningLoss("reasoning", PreferenceData.random(np.random.default_rng(0)))
        >>> bool(np.linalg.norm(loss.gradient(loss.minimiser)) < 1e-12)
        True
    """

    name: str
    data: PreferenceData

    @cached_property
    def _comparisons(self) -> tuple[Floats, Floats]:
        """Probabilities [2P] and differences psi(y+) - psi(y-) [2P, d] of all labelled pairs."""
        return _labelled(self.data.answer_features, self.data.pairs, self.data.flip)

    @property
    def dimension(self) -> int:
        return self.data.reference.size

    @cached_property
    def smoothness(self) -> float:
        p, delta = self._comparisons
        return float(self.data.beta**2 / 4 * np.linalg.eigvalsh((p[:, None] * delta).T @ delta)[-1])

    @property
    def kind(self) -> Kind:
        return "convex"

    @property
    def minimum(self) -> float:
        return float(self.value(self.minimiser))

    @cached_property
    def minimiser(self) -> Floats:
        p, delta = self._comparisons
        x, beta = self.data.reference.copy(), self.data.beta
        for _ in range(100):
            s = expit(-beta * (delta @ (x - self.data.reference)))
            curvature = beta**2 * ((p * s * (1 - s))[:, None] * delta).T @ delta
            step = np.linalg.lstsq(curvature, self.gradient(x), rcond=None)[0]
            size = 1.0
            while size > 1e-6 and self.value(x - size * step) > self.value(x):
                size /= 2
            if size <= 1e-6:
                break
            x = x - size * step
        return x

    def value(self, x: Floats) -> Floats:
        p, delta = self._comparisons
        margin = self.data.beta * ((self.point(x) - self.data.reference) @ delta.T)
        return np.asarray(np.logaddexp(0.0, -margin) @ p)

    def gradient(self, x: Floats) -> Floats:
        p, delta = self._comparisons
        return _dpo_gradients(self.point(x), self.data, delta, p)


@dataclass(frozen=True)
class ReasoningOracle(Oracle):
    """g_t and g_e averaged over a batch of B independent units; a unit is a prompt with both its labelled pairs and a
    trace per answer.

    Attributes:
        problem: the marginal loss.
        batch_size: B >= 1.

    Raises:
        ValueError: batch_size is below 1.
    """

    problem: ReasoningLoss
    batch_size: int = 4

    constant = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @cached_property
    def _units(self) -> tuple[Floats, Floats, Floats]:
        """Every unit: probability [N], delta_t [N, d], delta_e [N, d]."""
        data = self.problem.data
        weights, with_traces, without = [], [], []
        for i in range(len(data.pairs)):
            model = data.model(i)
            for first, second, p in _orders(data.pairs[i], data.flip):
                features = model.features[:, first][:, None] - model.features[:, second][None]
                law = np.outer(model.posterior(data.reference, first), model.posterior(data.reference, second))
                for best, worst, q in _orders(data.empty_pairs[i], data.flip):
                    weights.append(p * q * law.ravel() / len(data.pairs))
                    with_traces.append(features.reshape(law.size, -1))
                    empty = model.features[0, best] - model.features[0, worst]
                    without.append(np.broadcast_to(empty, (law.size, empty.size)))
        return np.concatenate(weights), np.concatenate(with_traces), np.concatenate(without)

    def sample(self, x: Floats, rng: np.random.Generator) -> GradientPair:
        p, delta_t, delta_e = self._units
        drawn = np.searchsorted(self._cumulative, rng.random((len(x), self.batch_size)), side="right")
        rows = np.minimum(drawn, len(p) - 1)
        share = np.full(self.batch_size, 1 / self.batch_size)
        return GradientPair(*(_dpo_gradients(x, self.problem.data, delta[rows], share) for delta in (delta_t, delta_e)))

    def law(self, x: Floats) -> GradientLawAt:
        p, delta_t, delta_e = self._units
        points = self.problem.point(x)
        t, e = (self._unit_gradients(points, delta) for delta in (delta_t, delta_e))
        mean_t, mean_e = (np.einsum("n,...nd->...d", p, g) for g in (t, e))
        t, e = t - mean_t[..., None, :], e - mean_e[..., None, :]
        var_t, var_e, cov = (
            np.einsum("n,...nd,...nd->...", p, a, b) / self.batch_size for a, b in ((t, t), (e, e), (t, e))
        )
        target = self.problem.gradient(points)
        return GradientLawAt(target, mean_t - target, mean_e - target, var_t, var_e, cov)

    def covariance_t(self, x: Floats) -> Floats:
        p, delta_t, _ = self._units
        t = self._unit_gradients(self.problem.point(x), delta_t)
        centred = t - p @ t
        return (p[:, None] * centred).T @ centred / self.batch_size

    @cached_property
    def _cumulative(self) -> Floats:
        return np.cumsum(self._units[0])

    def _unit_gradients(self, x: Floats, delta: Floats) -> Floats:
        """[.., N, d]."""
        data = self.problem.data
        margin = data.beta * ((x - data.reference) @ delta.T)
        return -data.beta * expit(-margin)[..., None] * delta


def _dpo_gradients(x: Floats, data: PreferenceData, delta: Floats, p: Floats) -> Floats:
    """Mean over units of -beta sigmoid(-m) delta, [.., d]; delta [N, d], or [.., N, d] with units of their own."""
    shift = x - data.reference
    margin = data.beta * (shift @ delta.T if delta.ndim == 2 else np.einsum("...nd,...d->...n", delta, shift))
    weight = -data.beta * expit(-margin) * p
    return np.asarray(weight @ delta if delta.ndim == 2 else np.einsum("...n,...nd->...d", weight, delta))


def _orders(pair: Ints, flip: float) -> list[tuple[int, int, float]]:
    """(preferred, other, probability) of both labels."""
    first, second = (int(y) for y in pair)
    return [(first, second, 1 - flip), (second, first, flip)]


def _labelled(features: Floats, pairs: Ints, flip: float) -> tuple[Floats, Floats]:
    rows = [
        (p / len(pairs), features[i, best] - features[i, worst])
        for i, pair in enumerate(pairs)
        for best, worst, p in _orders(pair, flip)
    ]
    return np.array([p for p, _ in rows]), np.array([delta for _, delta in rows])
