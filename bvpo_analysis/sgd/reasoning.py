"""A reasoning model whose marginal preference loss is convex, with the gradients g_t and g_e that training would see.

Prompt i has features phi(r, y) = chi_i(r) + psi_i(y), so that trace and answer are independent and the marginal margin
of an answer pair is linear in the parameters. With x the parameters and x_ref the reference,

    L_m(x) = E log(1 + exp(-m)),    m = beta <x - x_ref, psi(y+) - psi(y-)>            (logistic regression: convex)
    g_t = -beta sigmoid(-m_t) delta_t,   m_t = beta <x - x_ref, delta_t>,
    delta_t = psi(y+) + chi(r+) - psi(y-) - chi(r-)

with r+ and r- drawn from the reference posterior. g_e is the DPO gradient of the empty trace, whose features cancel:
on the same answers it would be exact, so its bias is that of its data, answer pairs y' of its own.
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
        traces: int = 2,
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

    def sample(self, x: Floats, rng: np.random.Generator) -> GradientPair:
        u = rng.random((3, len(x), self.batch_size))
        prompts = np.minimum((u[0] * len(self.problem.data.pairs)).astype(np.int64), len(self.problem.data.pairs) - 1)
        share = np.full(self.batch_size, 1 / self.batch_size)
        gradients = []
        for units, level in zip((self._with_traces, self._empty), u[1:], strict=True):
            # The last sum may miss 1 by rounding.
            rows = np.minimum((units.cumulative[prompts] <= level[..., None]).sum(axis=-1), units.p.shape[1] - 1)
            gradients.append(_dpo_gradients(x, self.problem.data, units.delta[prompts, rows], share))
        return GradientPair(*gradients)

    def law(self, x: Floats) -> GradientLawAt:
        points = self.problem.point(x)
        means, variances = [], []
        for units in (self._with_traces, self._empty):
            scale = self._scales(points, units)
            weighted = scale * units.p.ravel()
            mean = (weighted @ units.blocks).reshape(*weighted.shape[:-1], *units.p.shape[:1], -1)
            second = (weighted * scale) @ (units.delta**2).sum(axis=-1).ravel() / len(units.p)
            means.append(mean)
            variances.append((second - (mean.mean(axis=-2) ** 2).sum(axis=-1)) / self.batch_size)
        # Given the prompt, the draws for g_t and g_e are independent.
        overall = [mean.mean(axis=-2) for mean in means]
        shared = (means[0] * means[1]).sum(axis=-1).mean(axis=-1) - (overall[0] * overall[1]).sum(axis=-1)
        target = self.problem.gradient(points)
        var_t, var_e = variances
        return GradientLawAt(
            target, overall[0] - target, overall[1] - target, var_t, var_e, np.asarray(shared / self.batch_size)
        )

    def covariance_t(self, x: Floats) -> Floats:
        units = self._with_traces
        gradients = self._scales(self.problem.point(x), units)[:, None] * units.rows
        p = units.p.ravel() / len(units.p)
        centred = gradients - p @ gradients
        return (p[:, None] * centred).T @ centred / self.batch_size

    @cached_property
    def _with_traces(self) -> "_Units":
        data = self.problem.data
        p, delta = [], []
        for i, pair in enumerate(data.pairs):
            model = data.model(i)
            for first, second, label in _orders(pair, data.flip):
                law = np.outer(model.posterior(data.reference, first), model.posterior(data.reference, second))
                features = model.features[:, first][:, None] - model.features[:, second][None]
                p.append(label * law.ravel())
                delta.append(features.reshape(law.size, -1))
        return _Units.per_prompt(p, delta, len(data.pairs))

    @cached_property
    def _empty(self) -> "_Units":
        data = self.problem.data
        p, delta = [], []
        for i, pair in enumerate(data.empty_pairs):
            features = data.model(i).features[0]
            for first, second, label in _orders(pair, data.flip):
                p.append(np.array([label]))
                delta.append((features[first] - features[second])[None])
        return _Units.per_prompt(p, delta, len(data.pairs))

    def _scales(self, x: Floats, units: "_Units") -> Floats:
        """-beta sigmoid(-m) of every unit, [.., P N]."""
        data = self.problem.data
        margin = data.beta * ((x - data.reference) @ units.rows.T)
        return np.asarray(-data.beta * expit(-margin))


@dataclass(frozen=True)
class _Units:
    """What can be drawn given the prompt: probabilities p [P, N], feature differences delta [P, N, d]."""

    p: Floats
    delta: Floats

    @classmethod
    def per_prompt(cls, p: list[Floats], delta: list[Floats], prompts: int) -> "_Units":
        """From blocks that come prompt by prompt."""
        weights, differences = np.concatenate(p), np.concatenate(delta)
        return cls(weights.reshape(prompts, -1), differences.reshape(prompts, -1, differences.shape[-1]))

    @property
    def rows(self) -> Floats:
        """delta as [P N, d]."""
        return self.delta.reshape(-1, self.delta.shape[-1])

    @cached_property
    def blocks(self) -> Floats:
        """delta as a block-diagonal matrix [P N, P d], which sums within every prompt at once."""
        prompts, units, d = self.delta.shape
        matrix = np.zeros((prompts, units, prompts, d))
        matrix[np.arange(prompts), :, np.arange(prompts)] = self.delta
        return matrix.reshape(prompts * units, prompts * d)

    @cached_property
    def cumulative(self) -> Floats:
        return np.cumsum(self.p, axis=1)


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
