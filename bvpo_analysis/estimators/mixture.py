"""The paper's mixture g_c = alpha g_t + (1 - alpha) g_e, for any two estimators."""

from bvpo_analysis.estimators.base import Estimator


def mix(first: Estimator, second: Estimator, alpha: float) -> Estimator:
    """alpha * first + (1 - alpha) * second; any finite alpha, the optimum may lie outside [0, 1].

    Example:
        >>> from bvpo_analysis.estimators import EmptyTrace, Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.testing import toy_pair
        >>> mix(Trace(DPO(beta=2.0)), EmptyTrace(DPO(beta=2.0)), 0.75).coefficients(toy_pair())[0]
        array([-0.75,  0.  ,  0.75,  0.  , -0.25,  0.25])
    """
    return alpha * first + (1.0 - alpha) * second
