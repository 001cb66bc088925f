"""The second-order law of (g_t, g_e) against a named target, and how batch size and trace count rescale it.

``Moments`` holds the moments of one unit (one prompt, one trace). ``Moments.population`` gives the law of the batch
gradient against grad L_m of the population (target M3), ``Moments.per_prompt`` the average law of single prompts
against their own marginal gradients (target M1). Both are a ``GradientLaw``, from which every MSE and every optimal
weight is algebra. Quantities of differences are kept apart, because D = E|g_t - g_e|^2 must never be formed as A + C -
2B.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bvpo_analysis.moments.intervals import SquaredBiasNoise
from bvpo_analysis.records import Floats


@dataclass(frozen=True)
class GradientLaw:
    """Second-order law of a pair of gradient estimators; every field an array of replicates [n + 1], or [1] if exact.

    Attributes:
        target: name of the target with batch size and trace count, such as ``population.B16.K1``.
        bias_t_sq, bias_e_sq, bias_inner: |b_t|^2, |b_e|^2, <b_t, b_e>.
        bias_diff_sq, bias_t_diff: |b_t - b_e|^2 and <b_t, b_t - b_e>.
        var_t_data, var_t_trace: the two parts of Tr Cov(g_t); ``var_t_data`` is nan where one trace per answer
            does not identify the split.
        var_t, var_e, cov_te: Tr Cov(g_t), Tr Cov(g_e), Tr Cov(g_t, g_e).
        var_diff, cov_t_diff: Tr Cov(g_t - g_e) and Tr Cov(g_t, g_t - g_e).
        bias_noise: sampling noise of ``bias_diff_sq`` where it is a U-statistic, else None.
        bias_share: the part of |b_t - b_e|^2 that Tr Cov(g_t - g_e) subtracts, 1/B: it is the second moment of a unit
            less the squared mean, over B.
    """

    target: str
    bias_t_sq: Floats
    bias_e_sq: Floats
    bias_inner: Floats
    bias_diff_sq: Floats
    bias_t_diff: Floats
    var_t_data: Floats
    var_t_trace: Floats
    var_t: Floats
    var_e: Floats
    cov_te: Floats
    var_diff: Floats
    cov_t_diff: Floats
    bias_noise: SquaredBiasNoise | None = None
    bias_share: float = 0.0

    def with_squared_bias(self, squared_bias: Floats) -> "GradientLaw":
        """The law if |b_t - b_e|^2 had this value, all products that are linear in b_t - b_e and |g|^2 as they are.

        Where b_e = 0 it is b_t that changes, else b_e. Variances of batch means lose what squared means gain.
        """
        more = squared_bias - self.bias_diff_sq
        less = self.bias_share * more
        if self.bias_t_sq.any() and not self.bias_e_sq.any():
            moved: dict[str, Any] = {
                "bias_t_sq": self.bias_t_sq + more,
                "bias_t_diff": self.bias_t_diff + more,
                "var_t": self.var_t - less,
                "cov_t_diff": self.cov_t_diff - less,
            }
        else:
            moved = {"bias_e_sq": self.bias_e_sq + more, "var_e": self.var_e - less}
        return replace(self, bias_diff_sq=squared_bias, var_diff=self.var_diff - less, **moved)


@dataclass(frozen=True)
class Moments:
    """Moments of one unit: one prompt with its pair, one trace per answer. Arrays of replicates [n + 1], or [1].

    Attributes:
        n: number of prompts.
        bias_t_sq ... cov_t_diff: as in :class:`GradientLaw`, against the population target, at B = K = 1.
        trace_var: E_x Tr Var_r(g_t | x), or None where one trace per answer does not identify it.
        prompt_bias_t_sq, prompt_bias_e_sq, prompt_bias_inner, prompt_bias_diff_sq, prompt_bias_t_diff: averages over
            prompts of the same products of the per-prompt biases E_r[g | x] - mu_x; None likewise.
        target_sq, target_dot_e, mean_e_sq: |mu|^2, <mu, E g_e>, |E g_e|^2.
        bias_noise: sampling noise of ``bias_e_sq`` where it is a U-statistic, else None.
    """

    n: int
    bias_t_sq: Floats
    bias_e_sq: Floats
    bias_inner: Floats
    bias_diff_sq: Floats
    bias_t_diff: Floats
    var_t: Floats
    var_e: Floats
    cov_te: Floats
    var_diff: Floats
    cov_t_diff: Floats
    trace_var: Floats | None
    prompt_bias_t_sq: Floats | None
    prompt_bias_e_sq: Floats | None
    prompt_bias_inner: Floats | None
    prompt_bias_diff_sq: Floats | None
    prompt_bias_t_diff: Floats | None
    target_sq: Floats
    target_dot_e: Floats
    mean_e_sq: Floats
    bias_noise: SquaredBiasNoise | None = None

    @property
    def exact(self) -> bool:
        """Whether the numbers carry no sampling error."""
        return len(self.bias_e_sq) == 1

    @property
    def identifies_trace_variance(self) -> bool:
        """Whether the data separate trace noise from data noise (two or more traces per answer)."""
        return self.trace_var is not None

    def population(self, batch_size: float, traces: int = 1) -> GradientLaw:
        """Target M3: a batch of B prompts with K averaged traces each, against grad L_m of the population.

        Var_t = (v_t + tau / K) / B, Var_e = v_e / B, Cov = c / B; the biases do not change.

        Raises:
            ValueError: B < 1 or K < 1, or K > 1 where the data do not identify the trace variance.
        """
        if not batch_size >= 1 or not traces >= 1:
            raise ValueError(f"batch_size and traces must be at least 1, got {batch_size} and {traces}")
        if traces > 1 and self.trace_var is None:
            raise ValueError("one trace per answer does not identify the trace variance, so only traces=1 is possible")
        saved = np.zeros_like(self.var_t) if self.trace_var is None else self.trace_var * (1 - 1 / traces)
        tau = np.full_like(self.var_t, np.nan) if self.trace_var is None else self.trace_var
        return GradientLaw(
            target=f"population.B{batch_size:g}.K{traces}",
            bias_t_sq=self.bias_t_sq,
            bias_e_sq=self.bias_e_sq,
            bias_inner=self.bias_inner,
            bias_diff_sq=self.bias_diff_sq,
            bias_t_diff=self.bias_t_diff,
            var_t_data=(self.var_t - tau) / batch_size,
            var_t_trace=tau / (traces * batch_size),
            var_t=(self.var_t - saved) / batch_size,
            var_e=self.var_e / batch_size,
            cov_te=self.cov_te / batch_size,
            var_diff=(self.var_diff - saved) / batch_size,
            cov_t_diff=(self.cov_t_diff - saved) / batch_size,
            bias_noise=self.bias_noise,
            bias_share=1.0 / batch_size,
        )

    def per_prompt(self, traces: int = 1) -> GradientLaw:
        """Target M1: average over prompts of the law of g_t and g_e against the prompt's own marginal gradient.

        Only the traces are random: Var_t = tau / K, Var_e = Cov = 0.

        Raises:
            ValueError: K < 1, or one trace per answer, which does not identify M1.
        """
        if not traces >= 1:
            raise ValueError(f"traces must be at least 1, got {traces}")
        parts = (
            self.prompt_bias_t_sq,
            self.prompt_bias_e_sq,
            self.prompt_bias_inner,
            self.prompt_bias_diff_sq,
            self.prompt_bias_t_diff,
        )
        if self.trace_var is None or any(part is None for part in parts):
            raise ValueError(
                "these traces do not identify the per-prompt target; use --traces 2 or more at the reference, "
                "and off it traces that can be enumerated"
            )
        zero, tau = np.zeros_like(self.trace_var), self.trace_var / traces
        bias_t_sq, bias_e_sq, bias_inner, bias_diff_sq, bias_t_diff = (p for p in parts if p is not None)
        return GradientLaw(
            target=f"per_prompt.K{traces}",
            bias_t_sq=bias_t_sq,
            bias_e_sq=bias_e_sq,
            bias_inner=bias_inner,
            bias_diff_sq=bias_diff_sq,
            bias_t_diff=bias_t_diff,
            var_t_data=zero,
            var_t_trace=tau,
            var_t=tau,
            var_e=zero,
            cov_te=zero,
            var_diff=tau,
            cov_t_diff=tau,
        )
