"""Moments of batch gradients: how batch size B and trace count K move the law of (g_t, g_e).

A batch has B i.i.d. units (prompt with its pair); on each, K conditionally i.i.d. traces are averaged and g_e is taken
on the same units. With data variance v_t = Tr Var_x E[g_t | x], trace variance tau = E_x Tr Var_r(g_t | x),
v_e = Tr Var_x g_e and c = Tr Cov_x(E[g_t | x], g_e):

    S_t = (v_t + tau / K) / B,    S_e = v_e / B,    S_te = c / B,

and the biases do not change. So only kappa / B matters for the data and kappa / (B K) for the traces: averaging K joint
gradients never reduces b_t.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis.records import Floats


@dataclass(frozen=True)
class BatchLaw:
    """Variances of the batch gradients, each an array that broadcasts with the inputs of :func:`batch_law`."""

    var_t_data: Floats
    var_t_trace: Floats
    var_e: Floats
    cov_te: Floats

    @property
    def var_t(self) -> Floats:
        """S_t = data part + trace part."""
        return self.var_t_data + self.var_t_trace


def batch_law(
    data_var_t: ArrayLike,
    trace_var_t: ArrayLike,
    var_e: ArrayLike,
    cov_te: ArrayLike,
    *,
    batch_size: ArrayLike,
    traces: ArrayLike = 1,
) -> BatchLaw:
    """Variances at batch size B with K averaged traces from those of one unit with one trace.

    Raises:
        ValueError: ``batch_size`` or ``traces`` is below 1.

    Example:
        >>> law = batch_law(2.0, 6.0, 1.0, 0.5, batch_size=2, traces=3)
        >>> float(law.var_t), float(law.var_e), float(law.cov_te)
        (2.0, 0.5, 0.25)
    """
    size, k = np.asarray(batch_size, dtype=np.float64), np.asarray(traces, dtype=np.float64)
    if not (size >= 1).all() or not (k >= 1).all():
        raise ValueError(f"batch_size and traces must be at least 1, got {batch_size} and {traces}")
    return BatchLaw(
        var_t_data=np.asarray(data_var_t, dtype=np.float64) / size,
        var_t_trace=np.asarray(trace_var_t, dtype=np.float64) / (size * k),
        var_e=np.asarray(var_e, dtype=np.float64) / size,
        cov_te=np.asarray(cov_te, dtype=np.float64) / size,
    )
