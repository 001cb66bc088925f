"""What step size and smoothness mean for the weight: kappa = eta L at the learning rates people use.

The smoothness L of the marginal loss is committed for the reasoning model in the box (``make sgd-study``); for other
models it is not known, and the report says so.
"""

from functools import partial
from typing import Any

from bvpo_analysis import mixing
from bvpo_analysis.moments import GradientLaw
from bvpo_analysis.sgd.measured import measured_runs, measured_smoothness

LEARNING_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Learning rates people use."""


def step_size_results(law: GradientLaw, recommended: float, regime: str | None) -> dict[str, Any] | None:
    """The part ``step_sizes`` of results.json; None where the smoothness is not known.

    Args:
        law: the law of a batch against the population gradient.
        recommended: the weight of the headline, whose price at these step sizes is told.
        regime: the shipped regime, for the model in the box; None for any other model or data.
    """
    if regime is None:
        return None
    smoothness = measured_smoothness(regime)
    rates = [
        {
            "learning_rate": rate,
            "kappa_sgd": (kappa := rate * smoothness["SGD"].smoothness),
            "alpha": mixing.optimal_alpha(law, kappa),
            "price": mixing.error_ratio(law, recommended, law, partial(mixing.recommended_weights, kappa=kappa), kappa),
            "kappa_adam": rate * smoothness["Adam"].smoothness,
        }
        for rate in LEARNING_RATES
    ]
    return {"smoothness": smoothness, "rates": rates, "runs": measured_runs(regime)}
