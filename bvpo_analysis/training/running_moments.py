"""Moments of the batch gradients during training, from independent halves of every batch.

Each half h gives (t_h, e_h), means over half the pairs. With g = (g_1 + g_2)/2 the gradient of the whole batch,

    Tr Cov(a, b)   is estimated without bias by <a_1 - a_2, b_1 - b_2> / 4,
    <E a, E b>     by (<a_1, b_2> + <a_2, b_1>) / 2,

so no product of a vector with itself enters and nothing is biased by noise. Exponential moving averages with the usual
correction of their start carry them from step to step. A weight that is made from them depends on earlier batches only,
and is therefore independent of the batch it is applied to: used on its own batch it would correlate with the noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from bvpo_analysis import theory

PRODUCTS = ("var_t", "var_e", "cov_te", "mean_t_sq", "mean_e_sq", "mean_te", "noise_sq")


@dataclass(frozen=True)
class RunningMoments:
    """Averages of products of half-batch gradients, at the size of the whole batch.

    Attributes:
        decay: of the moving averages, in [0, 1).
        steps: number of batches seen.
        sums: uncorrected averages by name; ``noise_sq`` is <n_s, n_{s-1}>^2 of the noise of g_t in successive batches,
            whose mean is Tr S^2, S the covariance of g_t.

    Example:
        >>> moments = RunningMoments(decay=0.5).updated([torch.tensor([1.0]), torch.tensor([3.0])],
        ...                                             [torch.tensor([1.0]), torch.tensor([1.0])])[0]
        >>> moments["var_t"], moments["mean_t_sq"], moments["mean_te"]
        (1.0, 3.0, 2.0)
    """

    decay: float = 0.9
    steps: int = 0
    sums: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PRODUCTS, 0.0))

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def __getitem__(self, name: str) -> float:
        """A bias-corrected average; ValueError before the first batch."""
        seen = self.steps - 1 if name == "noise_sq" else self.steps
        if seen < 1:
            raise ValueError("no batch has been seen yet")
        return self.sums[name] / (1 - self.decay**seen)

    def updated(
        self,
        trace: Sequence[torch.Tensor],
        empty: Sequence[torch.Tensor],
        noise_before: torch.Tensor | None = None,
    ) -> tuple["RunningMoments", torch.Tensor]:
        """The moments after one more batch, and the noise of g_t in it (t_1 - t_2)/2.

        Args:
            trace, empty: the two halves' gradients, [P] each.
            noise_before: the noise of the batch before.
        """
        (t1, t2), (e1, e2) = trace, empty
        dt, de = t1 - t2, e1 - e2
        found = {
            "var_t": float(dt @ dt) / 4,
            "var_e": float(de @ de) / 4,
            "cov_te": float(dt @ de) / 4,
            "mean_t_sq": float(t1 @ t2),
            "mean_e_sq": float(e1 @ e2),
            "mean_te": float(t1 @ e2 + t2 @ e1) / 2,
        }
        noise = dt / 2
        if noise_before is not None:
            found["noise_sq"] = float(noise @ noise_before) ** 2
        # The first product of successive noises comes with the second batch.
        sums = {n: self.decay * self.sums[n] + (1 - self.decay) * found[n] if n in found else 0.0 for n in PRODUCTS}
        return RunningMoments(self.decay, self.steps + 1, sums), noise

    def weight(self, kappa: float = 1.0) -> float:
        """alpha_kappa = 1 - kappa Tr Cov(g_t, d) / (|E d|^2 + kappa Tr Cov(d)) with d = g_t - g_e, at b_t = 0."""
        distance = max(self["mean_t_sq"] + self["mean_e_sq"] - 2 * self["mean_te"], 0.0)
        spread = max(self["var_t"] + self["var_e"] - 2 * self["cov_te"], 0.0)
        numerator = kappa * (self["var_t"] - self["cov_te"])
        scale = abs(self["mean_e_sq"]) + kappa * (self["var_t"] + self["var_e"])
        return float(theory.optimal_weight_from_distance(numerator, distance + kappa * spread, scale))

    def cosine_weight(self) -> float:
        """The weight in [0, 1] whose mix has the largest cosine to mu = E g_t; an end where the inner one ascends."""
        second = [[self["mean_t_sq"] + self["var_t"], self["mean_te"] + self["cov_te"]], [0.0, 0.0]]
        second[1] = [second[0][1], self["mean_e_sq"] + self["var_e"]]
        signals = (self["mean_t_sq"], self["mean_te"])

        def cosine(a: float) -> float:
            length = a * a * second[0][0] + 2 * a * (1 - a) * second[0][1] + (1 - a) ** 2 * second[1][1]
            along = a * signals[0] + (1 - a) * signals[1]
            return along / length**0.5 if length > 0 else -float("inf")

        (tt, te), (_, ee) = second
        bottom = (ee - te) * signals[0] + (tt - te) * signals[1]
        inner = (ee * signals[0] - te * signals[1]) / bottom if bottom != 0 else 1.0
        return max((a for a in (1.0, 0.0, inner) if 0 <= a <= 1), key=cosine)

    def shrinkage_constant(self) -> float:
        """c = (Tr C - 2 sqrt(Tr S^2))_+ for the weight 1 - c/|g_t - g_e|^2, with C = Cov(g_t, g_t - g_e), S = Cov(g_t).

        Both gradients see the same prompts. By Stein's identity the noise of g_t then enters through its covariance
        with the difference; where g_e is fixed or independent, C is S. sqrt(Tr S^2) >= lambda_max(S) stands for the
        norm of C.
        """
        if self.steps < 2:
            return 0.0
        return max(self["var_t"] - self["cov_te"] - 2 * max(self["noise_sq"], 0.0) ** 0.5, 0.0)
