"""Which mean squared error? Three targets of a batch of prompts, their optimal weights, and the parts of b_e.

Prompts i of probability p_i have marginal gradients mu_i and biases b_t,i = E_r[g_t | i] - mu_i, b_e,i = g_e,i - mu_i;
K traces per prompt are averaged, B prompts are drawn with replacement.

    per prompt   average over prompts of the error of g_c,i against mu_i          (M1)
    batch        error of the mean over the batch of g_c against that of mu_i     (M2)
    population   error of the mean over the batch of g_c against E mu_i = grad L_m  (M3)

M1 and M2 agree at B = 1. M2 and M3 have the same D, which is free of mu, but

    M3(alpha) - M2(alpha) = [v_mu + 2 Tr Cov(b_c,i, mu_i)] / B,   b_c = alpha b_t + (1 - alpha) b_e,

so their optima differ unless Tr Cov(b_t,i - b_e,i, mu_i) = 0. A weight therefore means nothing without its target.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import counts, distribution, finite, nonnegative
from bvpo_analysis.theory.mixing import error_curve, optimal_weight_from_distance, weight_change_with_target


@dataclass(frozen=True)
class TargetErrors:
    """Second moments of a pair of estimators against one target; arrays over the broadcast batch sizes and traces.

    Attributes:
        target: ``per_prompt``, ``batch`` or ``population``.
        error_t, error_e, cross: A, C, B.
        distance: D = E|g_t - g_e|^2, from differences.
        numerator: N = E<g_t - mu, g_t - g_e>, from differences.
    """

    target: str
    error_t: Floats
    error_e: Floats
    cross: Floats
    distance: Floats
    numerator: Floats

    @property
    def weight(self) -> Floats:
        """alpha* = 1 - N/D for this target, unclipped; 0.5 where g_t and g_e coincide."""
        return optimal_weight_from_distance(self.numerator, self.distance, self.error_t + self.error_e)

    def error(self, alpha: ArrayLike) -> Floats:
        """q(alpha) against this target; ``alpha`` broadcasts."""
        return error_curve(alpha, self.error_t, self.error_e, self.cross)


@dataclass(frozen=True)
class PromptLaw:
    """A population of prompts: what each contributes to bias and trace noise.

    Attributes:
        probabilities: p [n], adding up to 1.
        bias_t, bias_e: b_t,i and b_e,i, [n, d].
        targets: mu_i, [n, d].
        trace_var: tau_i = Tr Var_r(g_t | i) of one trace, [n].

    Raises:
        ValueError: an array is empty or not finite, shapes do not match, probabilities are negative or do not add up
            to 1, or a variance is negative.

    Example:
        >>> law = PromptLaw(
        ...     probabilities=np.array([0.5, 0.5]),
        ...     bias_t=np.zeros((2, 1)),
        ...     bias_e=np.array([[1.0], [-1.0]]),
        ...     targets=np.array([[0.0], [2.0]]),
        ...     trace_var=np.ones(2),
        ... )
        >>> float(law.per_prompt().weight), float(law.batch(4).weight), float(law.population(4).weight)
        (0.5, 0.5, 0.0)
    """

    probabilities: Floats
    bias_t: Floats
    bias_e: Floats
    targets: Floats
    trace_var: Floats

    def __post_init__(self) -> None:
        (p,), (tau,) = distribution(probabilities=self.probabilities), nonnegative(trace_var=self.trace_var)
        b_t, b_e, mu = finite(bias_t=self.bias_t, bias_e=self.bias_e, targets=self.targets)
        if tau.shape != p.shape:
            raise ValueError(f"trace_var must be [n] like probabilities, {p.shape}, got shape {tau.shape}")
        for name, array in (("bias_t", b_t), ("bias_e", b_e), ("targets", mu)):
            if array.ndim != 2 or len(array) != len(p) or array.shape != mu.shape:
                raise ValueError(f"{name} must be [n, d] with n = {len(p)} prompts and the d of targets")
        for name, array in zip(
            ("probabilities", "bias_t", "bias_e", "targets", "trace_var"), (p, b_t, b_e, mu, tau), strict=True
        ):
            object.__setattr__(self, name, array)

    def per_prompt(self, traces: ArrayLike = 1) -> TargetErrors:
        """M1: A = E[|b_t,i|^2 + tau_i / K], C = E|b_e,i|^2, B = E<b_t,i, b_e,i>; no batch is involved.

        Raises:
            ValueError: ``traces`` is not finite or below 1.
        """
        return self._errors("per_prompt", np.zeros_like(self.targets), 1, traces)

    def batch(self, batch_size: ArrayLike, traces: ArrayLike = 1) -> TargetErrors:
        """M2: E|mean_j x_j|^2 with x_j the error of the j-th prompt against its own mu.

        Proof: for B i.i.d. terms E|mean|^2 = |E x|^2 + Tr Var(x) / B; likewise for products. The terms |E x|^2 are
        products across prompts, absent from M1: the optimum at B > 1 is not a mean over prompts of anything.

        Raises:
            ValueError: an argument is not finite or below 1.
        """
        return self._errors("batch", np.zeros_like(self.targets), batch_size, traces)

    def population(self, batch_size: ArrayLike, traces: ArrayLike = 1) -> TargetErrors:
        """M3: as :meth:`batch` with x_j the error against the population gradient, so that mu_i is noise as well.

        Raises:
            ValueError: an argument is not finite or below 1.
        """
        return self._errors("population", self.targets - self.probabilities @ self.targets, batch_size, traces)

    def population_minus_batch(self, alpha: ArrayLike, batch_size: ArrayLike) -> Floats:
        """M3(alpha) - M2(alpha) = [v_mu + 2 Tr Cov(b_c,i, mu_i)] / B; may be negative.

        Proof: Tr Var(b_c + mu) - Tr Var(b_c) = Tr Var(mu) + 2 Tr Cov(b_c, mu), and both have the mean bias.

        Raises:
            ValueError: an argument is not finite, or ``batch_size`` is below 1.
        """
        (alpha,) = finite(alpha=alpha)
        (size,) = counts(batch_size=batch_size)
        with_t, with_e = self._cov(self.bias_t, self.targets), self._cov(self.bias_e, self.targets)
        return (self._cov(self.targets, self.targets) + 2 * (alpha * with_t + (1 - alpha) * with_e)) / size

    def weight_population_minus_batch(self, batch_size: ArrayLike, traces: ArrayLike = 1) -> Floats:
        """alpha*(M3) - alpha*(M2) = -Tr Cov(b_t,i - b_e,i, mu_i) / (B D).

        Proof: the difference of the two errors is affine in alpha with slope 2 Tr Cov(b_t,i - b_e,i, mu_i) / B, and
        adding an affine function of slope s to a parabola of curvature 2D moves its minimum by -s / (2D).

        Raises:
            ValueError: an argument is not finite or below 1, or D = 0.
        """
        (size,) = counts(batch_size=batch_size)
        move = -self._cov(self.bias_t - self.bias_e, self.targets) / size
        return weight_change_with_target(move, self.batch(batch_size, traces).distance)

    def prompt_numerators(self, traces: ArrayLike = 1) -> Floats:
        """N_i = <b_t,i, b_t,i - b_e,i> + tau_i / K, [n]: the numerator of 1 - alpha_i of each prompt; K a number."""
        (k,) = counts(traces=traces)
        return (self.bias_t * self._difference).sum(axis=1) + self.trace_var / k

    def prompt_distances(self, traces: ArrayLike = 1) -> Floats:
        """D_i = |b_t,i - b_e,i|^2 + tau_i / K, [n]; K a number."""
        (k,) = counts(traces=traces)
        return (self._difference**2).sum(axis=1) + self.trace_var / k

    @cached_property
    def _difference(self) -> Floats:
        return self.bias_t - self.bias_e

    def _cov(self, x: Floats, y: Floats) -> float:
        """Tr Cov over prompts of x_i and y_i."""
        p = self.probabilities
        return float(p @ ((x - p @ x) * (y - p @ y)).sum(axis=1))

    def _errors(self, target: str, shift: Floats, batch_size: ArrayLike, traces: ArrayLike) -> TargetErrors:
        """Moments of means of B terms x_j = bias + shift, whose common shift has mean 0."""
        size, k = counts(batch_size=batch_size, traces=traces)
        t, e, d = self.bias_t, self.bias_e, self._difference
        noise = float(self.probabilities @ self.trace_var) / k

        def mean_product(x: Floats, y: Floats) -> float:
            return float((self.probabilities @ x) @ (self.probabilities @ y))

        # One shape for all five, although C and B do not depend on the number of traces.
        a, c, b, distance, numerator = np.broadcast_arrays(
            mean_product(t, t) + (self._cov(t + shift, t + shift) + noise) / size,
            mean_product(e, e) + self._cov(e + shift, e + shift) / size,
            mean_product(t, e) + self._cov(t + shift, e + shift) / size,
            mean_product(d, d) + (self._cov(d, d) + noise) / size,
            mean_product(t, d) + (self._cov(t + shift, d) + noise) / size,
        )
        return TargetErrors(target, a, c, b, distance, numerator)


def pooled_weight(probabilities: ArrayLike, numerators: ArrayLike, distances: ArrayLike) -> Floats:
    """alpha* for M1: 1 - sum_i p_i N_i / sum_i p_i D_i, a ratio of sums and not a mean of the alpha_i = 1 - N_i/D_i.

    Proof: the average of the parabolas D_i (alpha - alpha_i)^2 has its minimum at their mean weighted by p_i D_i.
    Prompts whose two gradients nearly coincide have wild alpha_i and weight next to nothing here.

    Args:
        probabilities: p [n], or any non-negative weights of the prompts.
        numerators: N_i = E<g_t - mu_i, g_t - g_e>, [n].
        distances: D_i = E|g_t - g_e|^2, [n].

    Returns:
        A number; 0.5 if every prompt has g_t = g_e.

    Raises:
        ValueError: an array is empty or not finite, shapes differ, a weight or distance is negative, or no weight is
            positive.

    Example:
        >>> float(pooled_weight([0.5, 0.5], numerators=[0.5, 0.0], distances=[1.0, 4.0]))
        0.9
    """
    p, d = nonnegative(probabilities=probabilities, distances=distances)
    (n,) = finite(numerators=numerators)
    if not p.shape == d.shape == n.shape or p.ndim != 1:
        raise ValueError(
            f"probabilities, numerators and distances must all be [n], got {p.shape}, {n.shape}, {d.shape}"
        )
    if p.sum() <= 0:
        raise ValueError("probabilities must not all be zero")
    top, below = p @ n, p @ d
    return optimal_weight_from_distance(top, below, below + abs(top))


@dataclass(frozen=True)
class EmptyBiasSplit:
    """b_e = data_shift + trace_shift, vectors [.., d].

    Attributes:
        data_shift: E_{D_e} g_e - E_D g_e: g_e is trained on pairs of its own, generated without thinking.
        trace_shift: E_D g_e - mu: on the same pairs, the empty trace instead of the posterior traces.
    """

    data_shift: Floats
    trace_shift: Floats

    @property
    def bias_e(self) -> Floats:
        """b_e."""
        return self.data_shift + self.trace_shift

    @property
    def data_sq(self) -> Floats:
        """|data_shift|^2, [..]."""
        return (self.data_shift**2).sum(axis=-1)

    @property
    def trace_sq(self) -> Floats:
        """|trace_shift|^2, [..]."""
        return (self.trace_shift**2).sum(axis=-1)

    @property
    def interaction(self) -> Floats:
        """2 <data_shift, trace_shift>, [..]: |b_e|^2 = data_sq + trace_sq + interaction; it may be negative."""
        return 2 * (self.data_shift * self.trace_shift).sum(axis=-1)


def split_empty_bias(mean_e_own: ArrayLike, mean_e_shared: ArrayLike, target: ArrayLike) -> EmptyBiasSplit:
    """b_e = [E_{D_e} g_e - E_D g_e] + [E_D g_e - mu], with D_e the pairs of the empty-trace loss and D those of L_t.

    In the paper the empty-trace loss has its own pairs, so b_e holds a shift of the data besides that of the traces; on
    shared pairs the first part is 0. Proof: E_D g_e is added and subtracted. BVPO at a fixed alpha is plain SGD on
    alpha L_t + (1 - alpha) L_e, whichever pairs L_e has.

    Args:
        mean_e_own: E_{D_e} g_e, [.., d].
        mean_e_shared: E_D g_e, [.., d].
        target: mu, [.., d].

    Raises:
        ValueError: an argument is empty, not finite, or without an axis of parameters.

    Example:
        >>> split = split_empty_bias([3.0, 0.0], mean_e_shared=[1.0, 0.0], target=[0.0, 1.0])
        >>> split.data_shift.tolist(), split.trace_shift.tolist(), split.bias_e.tolist()
        ([2.0, 0.0], [1.0, -1.0], [3.0, -1.0])
    """
    own, shared, mu = finite(mean_e_own=mean_e_own, mean_e_shared=mean_e_shared, target=target)
    if 0 in (own.ndim, shared.ndim, mu.ndim):
        raise ValueError("mean_e_own, mean_e_shared and target must be vectors [.., d]")
    return EmptyBiasSplit(data_shift=own - shared, trace_shift=shared - mu)
