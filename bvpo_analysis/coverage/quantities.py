"""Every number with an interval that is taken from the moments of (g_t, g_e), by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bvpo_analysis import mixing
from bvpo_analysis.moments import Moments, score_estimate
from bvpo_analysis.records import Estimate

BATCH_SIZES: tuple[int, ...] = (1, 16, 64)
"""Batch sizes at which weights and errors are covered: single pairs, the headline, and a large batch."""
WEIGHTS: tuple[float, ...] = (0.0, 0.5, 1.0)
"""Fixed weights whose errors are covered."""


@dataclass(frozen=True)
class Quantity:
    """A number, and how it is estimated.

    Attributes:
        name: full name, such as ``alpha_star.population.B16.K1.kappa1``.
        group: what sort of number it is: "weight", "squared norm", "variance", "error" or "ratio".
        unbiased: whether the point estimate is unbiased by construction.
        split: whether it needs the split of trace and data noise, that is two or more traces per answer.
        estimate: the estimate with its interval, or None where it is withheld.
    """

    name: str
    group: str
    unbiased: bool
    split: bool
    estimate: Callable[[Moments], Estimate | None]


def _field(name: str, moments: Moments) -> Estimate:
    noise = moments.bias_noise if name == "bias_e_sq" else None
    return score_estimate(getattr(moments, name), noise)


def _weight(batch_size: int, moments: Moments) -> Estimate:
    return mixing.optimal_alpha(moments.population(batch_size)).estimate


def _weight_per_prompt(moments: Moments) -> Estimate:
    return mixing.optimal_alpha(moments.per_prompt()).estimate


def _error(batch_size: int, alpha: float | None, moments: Moments) -> Estimate:
    return mixing.error(moments.population(batch_size), mixing.recommended_weights if alpha is None else alpha)


def _regret(batch_size: int, moments: Moments) -> Estimate | None:
    return mixing.relative_regret(moments.population(batch_size), 0.5)


def _batch_size_equivalent(batch_size: int, moments: Moments) -> Estimate | None:
    return mixing.batch_size_equivalent(moments.population(batch_size))


def _all() -> tuple[Quantity, ...]:
    found = [
        Quantity(f"alpha_star.population.B{size}.K1.kappa1", "weight", False, False, partial(_weight, size))
        for size in BATCH_SIZES
    ]
    found.append(Quantity("alpha_star.per_prompt.K1.kappa1", "weight", False, True, _weight_per_prompt))
    squared_norms = ("bias_e_sq", "target_sq", "mean_e_sq", "prompt_bias_e_sq")
    variances = ("var_t", "var_e", "cov_te", "var_diff", "cov_t_diff", "target_dot_e", "trace_var")
    found += [
        Quantity(
            name,
            "squared norm" if name in squared_norms else "variance",
            True,
            name in ("prompt_bias_e_sq", "trace_var"),
            partial(_field, name),
        )
        for name in (*squared_norms, *variances)
    ]
    for size in BATCH_SIZES:
        found += [
            Quantity(f"mse.alpha{alpha:g}.B{size}", "error", False, False, partial(_error, size, alpha))
            for alpha in WEIGHTS
        ]
        found.append(Quantity(f"mse.recommended.B{size}", "error", False, False, partial(_error, size, None)))
        found.append(Quantity(f"regret.alpha0.5.B{size}", "ratio", False, False, partial(_regret, size)))
        worth = partial(_batch_size_equivalent, size)
        found.append(Quantity(f"batch_size_equivalent.B{size}", "ratio", False, False, worth))
    found.append(Quantity("traces_worth", "ratio", False, True, mixing.traces_worth))
    found.append(Quantity("cosine_e", "ratio", False, False, mixing.cosine_to_target))
    return tuple(found)


QUANTITIES: tuple[Quantity, ...] = _all()
"""All of them, in the order of the table. ``twice_the_prompts_instead`` is half of ``batch_size_equivalent``."""
