"""Bootstrap over prompts of U-statistics and of the optimal weight, a thousand replicates at a time.

A replicate takes prompt i c_i times, c multinomial. A U-statistic must not pair a prompt with its own copies: those
products are squared norms, not estimates of <E a, E b>. Without them

    U* = n/(n-1) sum_{i != j} c_i c_j <a_i, b_j> / (n (n-1)),

where n/(n-1) undoes E c_i c_j = (n-1)/n, so that E* U* = U exactly. With c = 1 + delta the sum is

    sum_{i != j} <a_i, b_j> + sum_i delta_i (<a_i, V_b> + <V_a, b_i> - 2 <a_i, b_i>)
    + sum_{i != j} delta_i delta_j <a_i, b_j>,

whose first two parts are exact from the products with the totals. The last needs products across prompts: exact ones
if a full Gram is at hand, else those of the count sketches, which are unbiased with a relative error of order
1/sqrt(k). It is the degenerate part, of relative order 1/n unless the mean is within noise of zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from bvpo_analysis.moments.intervals import LEVEL
from bvpo_analysis.moments.joint import JointMoments, require_setting
from bvpo_analysis.records import Estimate, Floats, Ints

Method = Literal["percentile", "bca"]


@dataclass(frozen=True)
class PromptBootstrap:
    """Replicates of everything that joint moments hold.

    Attributes:
        joint: the joint moments of the sample.
        counts: [R, n] how often each prompt is taken.
        across: [n, J, n, J] exact products of the per-prompt means of all prompts; None for those of the sketches.
    """

    joint: JointMoments
    counts: Ints
    across: Floats | None

    @property
    def source(self) -> Literal["exact", "sketches"]:
        """Where products across prompts come from."""
        return "sketches" if self.across is None else "exact"

    def mean(self, values: Floats) -> Floats:
        """Replicates [R] of the mean of per-prompt values [n]."""
        return np.asarray(self.counts @ values / len(values))

    def product(self, first: Floats, second: Floats) -> Floats:
        """Replicates [R] of the U-statistic of <sum_a x_a E g_a, sum_b y_b E g_b>, for x and y [J]."""
        p, n = self.joint.products, self.joint.n
        own = np.einsum("a,nab,b->n", first, p.own, second)
        rows = np.einsum("a,nab,b->n", first, p.with_totals, second) - own
        columns = np.einsum("a,nab,b->n", second, p.with_totals, first) - own
        delta = self.counts - 1.0
        if self.across is None:
            across = np.einsum("a,nak->nk", first, p.sketches) @ np.einsum("a,nak->nk", second, p.sketches).T
        else:
            across = np.einsum("a,namb,b->nm", first, self.across, second, optimize=True)
        np.fill_diagonal(across, 0.0)
        quadratic = np.einsum("ri,ri->r", delta @ across, delta)
        total = rows.sum() + delta @ (rows + columns) + quadratic
        return np.asarray(total / (n - 1) ** 2)

    def bias_sq(self, name: str) -> Floats:
        """Replicates [R] of |b_a|^2 against the target."""
        b = self.joint.bias_of(name)
        return self.product(b, b)

    def weight(self, first: str, second: str, batch_size: float, *, kappa: float = 1.0, traces: int = 1) -> Floats:
        """Replicates [R] of the unclipped optimal weight of ``first`` in its mix with ``second``.

        Raises:
            ValueError: as for :meth:`JointMoments.error_matrix`.
        """
        return self.weight_grid(first, second, (batch_size,), (kappa,), traces=traces)[0, 0]

    def weight_grid(
        self, first: str, second: str, batch_sizes: Sequence[float], kappas: Sequence[float], *, traces: int = 1
    ) -> Floats:
        """Replicates [B, kappa, R] of the weight on a grid; what does not depend on B and kappa is computed once.

        Raises:
            ValueError: as for :meth:`JointMoments.error_matrix`.
        """
        for size in batch_sizes:
            for kappa in kappas:
                require_setting(size, kappa, traces)
        own_bias, bias_sq, covariance, variance = self._parts(first, second, traces)
        share = np.divide.outer(kappas, batch_sizes).T[..., None]
        return np.asarray(1.0 - (own_bias + share * covariance) / (bias_sq + share * variance))

    def weight_estimate(
        self,
        first: str,
        second: str,
        batch_size: float,
        *,
        kappa: float = 1.0,
        traces: int = 1,
        method: Method = "bca",
    ) -> Estimate:
        """The optimal weight with a 95 % bootstrap interval.

        Raises:
            ValueError: as for :meth:`weight`, or an unknown method.
        """
        law = self.joint.law(first, second, batch_size, traces)
        numerator = law.bias_t_diff + kappa * law.cov_t_diff
        distance = np.maximum(law.bias_diff_sq, 0.0) + kappa * law.var_diff
        left = self.weight(first, second, batch_size, kappa=kappa, traces=traces)
        return bootstrap_interval(1 - numerator / distance, left, method)

    def _parts(self, first: str, second: str, traces: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Replicates of <b_a, b_a - b_b>, (|b_a - b_b|^2)_+, Tr Cov(g_a, g_a - g_b) and Tr Var(g_a - g_b)."""
        p, unit = self.joint.products, np.eye(len(self.joint.names))
        a, b = self.joint.index(first), self.joint.index(second)
        self.joint.require_traces(traces, first, second)
        share = 1 - 1 / traces
        own, noise = p.each_with_diff[:, a, b], p.each_diff[:, a, b]
        if share:
            own, noise = own - share * p.trace_with_diff[:, a, b], noise - share * p.trace_diff[:, a, b]
        d = unit[a] - unit[b]
        spread = self.product(d, d)
        difference, own_bias = self.joint.bias_of(first, second), self.joint.bias_of(first)
        same = np.array_equal(np.abs(difference), np.abs(d))
        bias_sq = spread if same else self.product(difference, difference)
        return (
            self.product(own_bias, difference) if own_bias.any() else np.zeros(len(self.counts)),
            np.maximum(bias_sq, 0.0),
            self.mean(own) - self.product(unit[a], d),
            self.mean(noise) - spread,
        )


def prompt_bootstrap(
    joint: JointMoments, *, replicates: int = 1000, seed: int = 0, across: Floats | None = None
) -> PromptBootstrap:
    """Draw the bootstrap samples of the prompts behind joint moments.

    Args:
        joint: joint moments of at least four prompts.
        replicates: R.
        seed: of the resampling.
        across: [n, J, n, J] exact products of the per-prompt means (:func:`cross_products`, from a full Gram); those of
            the count sketches by default.

    Raises:
        ValueError: fewer than 100 replicates, which determine no 2.5 % quantile, or products of another shape.
    """
    if replicates < 100:
        raise ValueError(f"at least 100 replicates are needed for a 2.5 % quantile, got {replicates}")
    shape = (joint.n, len(joint.names))
    if across is not None and across.shape != 2 * shape:
        raise ValueError(f"across must have shape {2 * shape}, got {across.shape}")
    counts = np.random.default_rng(seed).multinomial(joint.n, np.full(joint.n, 1 / joint.n), size=replicates)
    return PromptBootstrap(joint, counts, across)


def cross_products(joint: JointMoments, rows: Sequence[Ints], gram: Floats) -> Floats:
    """Exact products [n, J, n, J] of the per-prompt means of J estimators, from the Gram of all sequences.

    Args:
        joint: the joint moments of the estimators, which hold the coefficients of the means.
        rows: for each pair, the positions [m] of its sequences among all N.
        gram: [N, N].

    Raises:
        ValueError: another number of pairs.
    """
    if len(rows) != joint.n:
        raise ValueError(f"rows must name the sequences of {joint.n} pairs, got {len(rows)}")
    means = [mean[:, : len(here)] for mean, here in zip(joint.products.means, rows, strict=True)]
    count = len(joint.names)
    out = np.empty((joint.n, count, joint.n, count))
    for i, (mean, here) in enumerate(zip(means, rows, strict=True)):
        with_all = mean @ gram[here]
        for j in range(i + 1):
            out[i, :, j] = with_all[:, rows[j]] @ means[j].T
            out[j, :, i] = out[i, :, j].T
    return out


def bootstrap_interval(left_out: Floats, replicates: Floats, method: Method = "bca") -> Estimate:
    """Value and 95 % interval of a statistic from its bootstrap replicates.

    "percentile" takes quantiles of the replicates; "bca" moves them by the median bias of the replicates and by the
    acceleration of the jackknife values (Efron, JASA 82, 1987). A bootstrap studentised by the influence of each prompt
    is not offered: where the squared bias is within noise of zero it covered 60 % in a trial.

    Args:
        left_out: [n + 1] the statistic and its leave-one-prompt-out values.
        replicates: [R].
        method: "percentile" or "bca".

    Raises:
        ValueError: another method, or replicates that are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=50)
        >>> means = rng.choice(x, (1000, 50)).mean(axis=1)
        >>> found = bootstrap_interval(np.concatenate([[x.mean()], (x.sum() - x) / 49]), means)
        >>> bool(found.ci_low < x.mean() < found.ci_high), found.method
        (True, 'bootstrap-bca')
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"method must be 'percentile' or 'bca', got {method!r}")
    if not np.isfinite(replicates).all():
        raise ValueError("some bootstrap replicates are not finite; the statistic is not defined on every resample")
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if method == "bca":
        count = len(replicates)
        below = np.clip((np.sum(replicates < left_out[0]) + 0.5) / (count + 1), 0.5 / count, 1 - 0.5 / count)
        shift, z = stats.norm.ppf(below), stats.norm.ppf(tails)
        change = left_out[1:].mean() - left_out[1:]
        size = (change**2).sum() ** 1.5
        acceleration = (change**3).sum() / (6 * size) if size > 0 else 0.0
        tails = stats.norm.cdf(shift + (shift + z) / (1 - acceleration * (shift + z)))
    low, high = np.quantile(replicates, tails)
    n = len(left_out) - 1
    return Estimate(
        float(left_out[0]), float(replicates.std(ddof=1)), float(low), float(high), n, f"bootstrap-{method}"
    )
