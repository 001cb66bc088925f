"""Rules for the weight alpha of g_t in a step.

| rule | weight |
|---|---|
| a number | that number in every step (the paper: 1/2) |
| auto | alpha* of the batch gradient, from running moments: the smallest mean squared error, kappa = 1 |
| kappa | alpha_kappa, the same with the variance weighted by kappa, as in a descent bound |
| schedule | alpha_kappa with kappa_t = kappa eta_t / eta_max, which follows the learning rate towards less bias |
| cosine | the weight whose mix has the largest cosine to mu, for optimisers that rescale the step |
| james_stein | (1 - c/|g_t - g_e|^2)_+ of this very batch, c from the running Cov(g_t, g_t - g_e) |

All of them measure gradients by their plain length, also under AdamW, whose own metric changes from step to step;
``training_study.predictions`` and reports have the weights in the metric of Adam's first step.

All but the number and james_stein use earlier batches only. Until enough batches have been seen a rule gives its start
value, 1/2. The rules take b_t = 0, which holds exactly at the reference and drifts off with training; a study at a
checkpoint says how far.
"""

from dataclasses import dataclass

import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.training.running_moments import RunningMoments

RULES = ("auto", "kappa", "schedule", "cosine", "james_stein")
START = 0.5
"""Weight until the running moments are used."""
FIRST_STEPS = 5
"""Batches that running moments must have seen."""


@dataclass(frozen=True)
class WeightRule:
    """How alpha is chosen.

    Attributes:
        name: "fixed" or one of ``RULES``.
        value: the weight, if fixed.
        kappa: of the rule "kappa"; of "schedule", at the peak of the learning rate.
    """

    name: str
    value: float = START
    kappa: float = 1.0

    @property
    def adaptive(self) -> bool:
        """Whether running moments are needed."""
        return self.name != "fixed"

    def weight(
        self, moments: RunningMoments, rate: float, trace: torch.Tensor | None = None, empty: torch.Tensor | None = None
    ) -> float:
        """alpha of a step.

        Args:
            moments: from the batches before this one.
            rate: learning rate of the step as a share of its peak.
            trace, empty: [P] g_t and g_e of the step; "james_stein" reads their distance.
        """
        if self.name == "fixed":
            return self.value
        if moments.steps < FIRST_STEPS:
            return START
        if self.name == "cosine":
            return moments.cosine_weight()
        if self.name == "james_stein":
            if trace is None or empty is None:
                raise ValueError("the James-Stein weight needs both gradients of the step")
            distance = float((trace - empty).square().sum())
            return max(1.0 - moments.shrinkage_constant() / distance, 0.0) if distance > 0 else 0.0
        kappa = {"auto": 1.0, "kappa": self.kappa, "schedule": max(self.kappa * rate, 1e-12)}[self.name]
        return min(max(moments.weight(kappa), 0.0), 1.0)


def weight_rule(alpha: float | str, *, kappa: float = 1.0, allow_extrapolation: bool = False) -> WeightRule:
    """A rule from an option.

    Args:
        alpha: a number, or one of ``RULES``.
        kappa: of the rule "kappa", and at the peak of the learning rate of "schedule".
        allow_extrapolation: accept a number outside [0, 1].

    Raises:
        InputError: an unknown rule, a weight outside [0, 1], or kappa that is not positive.

    Example:
        >>> weight_rule("0.5").value, weight_rule("auto").adaptive
        (0.5, True)
    """
    if not 0 < kappa < float("inf"):
        raise InputError(f"--kappa must be a positive number, got {kappa}")
    if isinstance(alpha, str) and alpha in RULES:
        return WeightRule(alpha, kappa=kappa)
    try:
        value = float(alpha)
    except ValueError:
        raise InputError(f"--alpha must be a number or one of {', '.join(RULES)}, got {alpha!r}") from None
    if not allow_extrapolation and not 0 <= value <= 1:
        raise InputError(f"--alpha must be in [0, 1], got {value}; --allow-extrapolation accepts other weights")
    if not abs(value) < float("inf"):
        raise InputError(f"--alpha must be finite, got {value}")
    return WeightRule("fixed", value)
