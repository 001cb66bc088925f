"""Joint moments of J estimators against one target: bias Gram, covariance and trace covariance, with replicates.

With v_a,i the mean of estimator a over its realisations on prompt i and m the target estimator,

    <b_a, b_b>        = U(v_a - m, v_b - m)                 zero by structure where a or b is declared unbiased
    Tr Cov(g_a, g_b)  = mean_i each_i(a, b) - U(v_a, v_b)   of one unit: one prompt, one realisation
    |mu|^2            = U(m, m),    <mu, E g_a> = U(m, v_a)

U being the cross-prompt U-statistic, in which noise shared within a prompt does not enter, and ``each`` the mean of
<g_a, g_b> over realisations on common traces (:mod:`bvpo_analysis.moments.products`). All are unbiased if the target
is; a target with bias delta keeps terms <b_a, delta>, and the result carries its bias order in words. Nothing here
assumes the reference: that is what the declaration of unbiased estimators is for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bvpo_analysis.estimators.base import Estimator
from bvpo_analysis.moments.intervals import SquaredBiasNoise, score_estimate
from bvpo_analysis.moments.law import GradientLaw, Moments
from bvpo_analysis.moments.population import squared_bias_noise
from bvpo_analysis.moments.products import PromptProducts, prompt_products
from bvpo_analysis.records import Estimate, Floats, ScoreSet

FEWEST_PROMPTS = 4
"""Below this there is no interval worth its name."""


@dataclass(frozen=True)
class PairMoments(Moments):
    """``Moments`` of two estimators, of which the second may have trace noise too.

    Attributes:
        trace_var_e, trace_cov_te: E_x Tr Var_r(g_b | x) and E_x Tr Cov_r(g_a, g_b | x); nan where not identified.
        trace_var_diff, trace_cov_t_diff: the same of g_a - g_b, and of g_a with g_a - g_b.
    """

    trace_var_e: Floats = field(default_factory=lambda: np.zeros(1))
    trace_cov_te: Floats = field(default_factory=lambda: np.zeros(1))
    trace_var_diff: Floats = field(default_factory=lambda: np.zeros(1))
    trace_cov_t_diff: Floats = field(default_factory=lambda: np.zeros(1))

    def population(self, batch_size: float, traces: int = 1) -> GradientLaw:
        """Target M3, as for :class:`Moments`, with K averaged realisations of both estimators.

        Raises:
            ValueError: B < 1 or K < 1, or K > 1 where the data do not identify the trace variance.
        """
        law = super().population(batch_size, traces)
        if traces == 1:
            return law
        share = 1 - 1 / traces
        return replace(
            law,
            var_e=(self.var_e - share * self.trace_var_e) / batch_size,
            cov_te=(self.cov_te - share * self.trace_cov_te) / batch_size,
            var_diff=(self.var_diff - share * self.trace_var_diff) / batch_size,
            cov_t_diff=(self.cov_t_diff - share * self.trace_cov_t_diff) / batch_size,
        )

    def per_prompt(self, traces: int = 1) -> GradientLaw:
        """Target M1, as for :class:`Moments`, with the trace noise of both estimators.

        Raises:
            ValueError: K < 1, or the data do not identify M1.
        """
        return replace(
            super().per_prompt(traces),
            var_e=self.trace_var_e / traces,
            cov_te=self.trace_cov_te / traces,
            var_diff=self.trace_var_diff / traces,
            cov_t_diff=self.trace_cov_t_diff / traces,
        )


@dataclass(frozen=True)
class JointMoments:
    """Second-order moments of J estimators; arrays of replicates [n + 1, J, J] unless said otherwise.

    Attributes:
        names: of the J estimators.
        target: name of the target estimator.
        target_bias: the bias order of the target, in words.
        unbiased: names with zero bias by declaration, the target among them.
        n: number of prompts.
        bias_gram: <b_a, b_b>.
        bias_diff_sq, bias_with_diff: |b_a - b_b|^2 and <b_a, b_a - b_b>.
        covariance: Tr Cov(g_a, g_b) of one unit.
        variance_diff, cov_with_diff: Tr Var(g_a - g_b) and Tr Cov(g_a, g_a - g_b).
        trace_covariance: E_x Tr Cov_r(g_a, g_b | x); nan where not identified, see ``unidentified``.
        trace_diff, trace_with_diff: the same of g_a - g_b, and of g_a with g_a - g_b.
        prompt_bias, prompt_bias_diff: E_x <b_a(x), b_b(x)> and E_x |b_a(x) - b_b(x)|^2 against the prompt's own
            target; nan where not identified.
        means: <E g_a, E g_b>.
        target_dot: [n + 1, J] <mu, E g_a>.
        target_sq: [n + 1] |mu|^2.
        unidentified: for each estimator whose trace noise the data do not identify, what to sample.
        products: per-prompt products behind the noise of the squared biases.
    """

    names: tuple[str, ...]
    target: str
    target_bias: str
    unbiased: tuple[str, ...]
    n: int
    bias_gram: Floats
    bias_diff_sq: Floats
    bias_with_diff: Floats
    covariance: Floats
    variance_diff: Floats
    cov_with_diff: Floats
    trace_covariance: Floats
    trace_diff: Floats
    trace_with_diff: Floats
    prompt_bias: Floats
    prompt_bias_diff: Floats
    means: Floats
    target_dot: Floats
    target_sq: Floats
    unidentified: Mapping[str, str]
    products: PromptProducts = field(repr=False)

    def pair(self, first: str, second: str) -> PairMoments:
        """The moments of two of the estimators, for everything that is asked of (g_t, g_e).

        Raises:
            ValueError: an unknown name.
        """
        a, b = self.index(first), self.index(second)
        identified = not np.isnan(self.trace_covariance[0, a, a])
        per_prompt = identified and not np.isnan(self.prompt_bias[0, [a, b, a], [a, b, b]]).any()
        bias = self.prompt_bias
        return PairMoments(
            n=self.n,
            bias_t_sq=self.bias_gram[:, a, a],
            bias_e_sq=self.bias_gram[:, b, b],
            bias_inner=self.bias_gram[:, a, b],
            bias_diff_sq=self.bias_diff_sq[:, a, b],
            bias_t_diff=self.bias_with_diff[:, a, b],
            var_t=self.covariance[:, a, a],
            var_e=self.covariance[:, b, b],
            cov_te=self.covariance[:, a, b],
            var_diff=self.variance_diff[:, a, b],
            cov_t_diff=self.cov_with_diff[:, a, b],
            trace_var=self.trace_covariance[:, a, a] if identified else None,
            prompt_bias_t_sq=bias[:, a, a] if per_prompt else None,
            prompt_bias_e_sq=bias[:, b, b] if per_prompt else None,
            prompt_bias_inner=bias[:, a, b] if per_prompt else None,
            prompt_bias_diff_sq=self.prompt_bias_diff[:, a, b] if per_prompt else None,
            prompt_bias_t_diff=bias[:, a, a] - bias[:, a, b] if per_prompt else None,
            target_sq=self.target_sq,
            target_dot_e=self.target_dot[:, b],
            mean_e_sq=self.means[:, b, b],
            bias_noise=self._noise(a, b),
            trace_var_e=self.trace_covariance[:, b, b],
            trace_cov_te=self.trace_covariance[:, a, b],
            trace_var_diff=self.trace_diff[:, a, b],
            trace_cov_t_diff=self.trace_with_diff[:, a, b],
        )

    def law(self, first: str, second: str, batch_size: float, traces: int = 1) -> GradientLaw:
        """The law of two batch estimators against the population target (M3); for a grid, call ``pair`` once.

        Raises:
            ValueError: as for :meth:`Moments.population`, or an unknown name.
        """
        return self.pair(first, second).population(batch_size, traces)

    def error_matrix(self, batch_size: float, kappa: float = 1.0, traces: int = 1) -> Floats:
        """M = bias Gram + (kappa / B) covariance, with K averaged realisations of every estimator, [n + 1, J, J].

        The error of sum_a w_a g_a, sum w = 1, is w'Mw. As an unbiased estimate, M need not be positive semidefinite.

        Raises:
            ValueError: B < 1, K < 1 or kappa <= 0; or K > 1 where a trace variance is not identified.
        """
        require_setting(batch_size, kappa, traces)
        self.require_traces(traces)
        if traces == 1:
            return self.bias_gram + (kappa / batch_size) * self.covariance
        return self.bias_gram + (kappa / batch_size) * (self.covariance - (1 - 1 / traces) * self.trace_covariance)

    def require_traces(self, traces: int, *names: str) -> None:
        """Hold that averages of K realisations of these estimators can be predicted; of all, if none are named.

        Raises:
            ValueError: K > 1 where a trace covariance is not identified, or an unknown name.
        """
        which = [self.index(name) for name in names or self.names]
        if traces > 1 and np.isnan(self.trace_covariance[0][np.ix_(which, which)]).any():
            known = [f"{name}: {self.unidentified[name]}" for name in names or self.names if name in self.unidentified]
            raise ValueError(f"only traces=1 is possible: {[*known, 'no two disjoint blocks of common traces'][0]}")

    @cached_property
    def positive_parts(self) -> tuple[Floats, Floats]:
        """The positive semidefinite parts of ``bias_gram`` and ``covariance``, [n + 1, J, J] each."""
        return positive_part(self.bias_gram), positive_part(self.covariance)

    def bias_sq(self, name: str) -> Estimate:
        """|b_a|^2 against the target, unbiased and possibly negative; zero where declared unbiased.

        Raises:
            ValueError: an unknown name.
        """
        if name in self.unbiased:
            return Estimate.exact(0.0, self.n)
        return self.shift_sq(name, self.target)

    def shift_sq(self, first: str, second: str) -> Estimate:
        """|b_a - b_b|^2, unbiased and possibly negative, with a score-type interval.

        Raises:
            ValueError: an unknown name.
        """
        a, b = self.index(first), self.index(second)
        noise = self._noise(a, b)
        if noise is None:
            return Estimate.exact(0.0, self.n)
        return score_estimate(self.bias_diff_sq[:, a, b], noise, 1.0)

    def bias_of(self, first: str, second: str | None = None) -> Floats:
        """b_a, or b_a - b_b, as a combination [J] of the E g_j, what is declared to be zero left out.

        Raises:
            ValueError: an unknown name.
        """
        unit, m = np.eye(len(self.names)), self.index(self.target)
        a = self.index(first)
        own = 0.0 * unit[m] if first in self.unbiased else unit[a] - unit[m]
        if second is None:
            return own
        b = self.index(second)
        if first in self.unbiased or second in self.unbiased:
            return own - self.bias_of(second)
        return unit[a] - unit[b]

    def biases_are_clear(self, names: Sequence[str]) -> bool:
        """Whether every squared bias here is told from zero: declared to be zero, or with an interval above it.

        Where one is within its noise, the least error of a combination has no interval that is known to cover: the
        weights chase the noise, and so do their replicates.
        """
        return all(name in self.unbiased or self.bias_sq(name).ci_low > 0 for name in names)

    def index(self, name: str) -> int:
        """Position of an estimator.

        Raises:
            ValueError: an unknown name.
        """
        if name not in self.names:
            raise ValueError(f"unknown estimator {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def _noise(self, a: int, b: int) -> SquaredBiasNoise | None:
        """Noise of |b_a - b_b|^2: of the biased one against the target where the other is unbiased."""
        d = self.bias_of(self.names[a], self.names[b])
        if not d.any():
            return None
        p = self.products
        own, with_total = np.einsum("a,nab,b->n", d, p.own, d), np.einsum("a,nab,b->n", d, p.with_totals, d)
        u = _ustatistics(own[:, None], with_total[:, None], with_total[:, None])[:, 0]
        return squared_bias_noise(u, own, with_total, np.einsum("a,nak->nk", d, p.sketches))


def joint_moments(
    scores: ScoreSet,
    estimators: Mapping[str, Estimator],
    *,
    target: str,
    unbiased: Collection[str],
    target_bias: str = "none",
    group: str | None = None,
) -> JointMoments:
    """Joint moments of J estimators.

    Args:
        scores: inner products with the totals of every estimator (see ``estimators.totals_of``).
        estimators: by name.
        target: the name of the estimator whose expectation is the target; its own bias against it is zero by
            definition.
        unbiased: names whose expectation is that of the target, by theory (at the reference g_t, its averages, the
            pooled and the K-trace marginal estimators). Their biases are zero, not estimated.
        target_bias: bias order of the target itself, in words, such as "O(1/K^2)".
        group: restrict every inner product to this parameter group.

    Raises:
        ValueError: an unknown name, fewer than four prompts, or :func:`prompt_products` raises.
    """
    for name in (target, *unbiased):
        if name not in estimators:
            raise ValueError(f"unknown estimator {name!r}; there are {', '.join(estimators)}")
    if len(scores) < FEWEST_PROMPTS:
        raise ValueError(
            f"at least four prompts are needed for an interval, got {len(scores)}: with fewer, leaving one out says "
            "next to nothing about the spread between prompts"
        )
    p = prompt_products(scores, estimators, group=group)
    names, m = p.names, p.names.index(target)
    zero = np.array([name == target or name in unbiased for name in names])

    means = _ustatistics(p.own, p.with_totals, p.with_totals.transpose(0, 2, 1))
    unit = np.eye(len(names))
    difference = unit[:, None] - unit[None, :]
    # Biases b_a and their differences as combinations of the E g_j: what is known to be zero is left out.
    shift = np.where(zero[:, None], 0.0, unit - unit[m])
    known = (zero[:, None] | zero[None, :])[:, :, None]
    against = np.where(known, shift[:, None] - shift[None, :], difference)
    cross = _means(p.each_diff - p.trace_diff)  # E_x |E_r(g_a - g_b)|^2
    against_m = np.where(zero, 0.0, cross[:, :, m])
    prompt_diff = np.where(zero[:, None] | zero[None, :], against_m[:, :, None] + against_m[:, None, :], cross)
    prompt_bias = (against_m[:, :, None] + against_m[:, None, :] - prompt_diff) / 2
    return JointMoments(
        names=names,
        target=target,
        target_bias=target_bias,
        unbiased=tuple(name for name, unbiased_ in zip(names, zero, strict=True) if unbiased_),
        n=len(scores),
        bias_gram=shift @ means @ shift.T,
        bias_diff_sq=np.einsum("abj,ljk,abk->lab", against, means, against, optimize=True),
        bias_with_diff=np.einsum("laj,abj->lab", shift @ means, against),
        covariance=_means(p.each) - means,
        variance_diff=_means(p.each_diff) - np.einsum("abj,ljk,abk->lab", difference, means, difference, optimize=True),
        cov_with_diff=_means(p.each_with_diff) - np.einsum("laj,abj->lab", means, difference),
        trace_covariance=_means(p.trace),
        trace_diff=_means(p.trace_diff),
        trace_with_diff=_means(p.trace_with_diff),
        prompt_bias=prompt_bias,
        prompt_bias_diff=prompt_diff,
        means=means,
        target_dot=means[:, m],
        target_sq=means[:, m, m],
        unidentified={
            name: f"its trace noise needs two realisations on traces of their own; sample {_more(estimators[name])}"
            for a, name in enumerate(names)
            if np.isnan(p.trace[0, a, a])
        },
        products=p,
    )


def require_setting(batch_size: float, kappa: float, traces: int) -> None:
    """Hold that a batch size, a weight of the variance and a number of traces make sense.

    Raises:
        ValueError: B < 1, K < 1 or kappa <= 0.
    """
    if not batch_size >= 1 or not traces >= 1 or not kappa > 0:
        raise ValueError(
            f"batch_size and traces must be at least 1 and kappa positive, got {batch_size}, {traces}, {kappa}"
        )


def _more(estimator: Estimator) -> str:
    needs = estimator.needs
    wanted = [
        f"{2 * count} {kind}"
        for count, kind in ((needs.posterior, "posterior traces per answer"), (needs.prior, "prior traces"))
        if count
    ]
    return " and ".join(wanted)


def _means(x: Floats) -> Floats:
    """Means over n prompts, then the leave-one-out means; [n, ..] -> [n + 1, ..]."""
    mean = x.mean(axis=0, keepdims=True)
    return np.concatenate([mean, mean + (mean - x) / (len(x) - 1)])


def _ustatistics(own: Floats, a_total: Floats, b_total: Floats) -> Floats:
    """:func:`leave_one_out_ustatistic` of many pairs of vectors at once; [n, ..] each -> [n + 1, ..]."""
    n = len(own)
    total = (a_total - own).sum(axis=0, keepdims=True)
    left = (total - (a_total - own) - (b_total - own)) / ((n - 1) * (n - 2))
    return np.concatenate([total / (n * (n - 1)), left])


def positive_part(matrices: Floats) -> Floats:
    """The nearest symmetric positive semidefinite matrices, [.., J, J]: negative eigenvalues set to zero.

    Example:
        >>> positive_part(np.diag([2.0, -1.0])).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
        >>> positive_part(np.array([[2.0, 1.0], [0.0, 2.0]])).tolist()
        [[2.0, 0.5], [0.5, 2.0]]
    """
    symmetric = (matrices + matrices.swapaxes(-1, -2)) / 2
    values, vectors = np.linalg.eigh(symmetric)
    if values.min() >= 0:
        return np.asarray(symmetric)
    return np.asarray((vectors * np.maximum(values, 0.0)[..., None, :]) @ vectors.swapaxes(-1, -2))
