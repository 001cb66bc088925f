"""One weight per block of parameters (a layer, a module) instead of one for all.

A squared norm is a sum over blocks, so q(alpha) = sum_l q_l(alpha) with q_l(alpha) = q_l* + D_l (alpha - alpha_l)^2.
One weight for all blocks is best at abar = sum_l D_l alpha_l / sum_l D_l, which is alpha*; a weight per block saves

    sum_l D_l (alpha_l - abar)^2 >= 0.

Proof: sum_l D_l (alpha - alpha_l)^2 is least at the weighted mean abar, and is 0 when every block has its own alpha_l.

What it costs: with one alpha and a fixed g_t and g_e, g_c is the gradient of alpha L_t + (1 - alpha) L_e. With
different weights per block it is in general not the gradient of any scalar loss, because its Jacobian
diag(alpha) H_t + (I - diag(alpha)) H_e is not symmetric.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bvpo_analysis.records import Floats
from bvpo_analysis.theory.arguments import finite, nonnegative


@dataclass(frozen=True)
class BlockGain:
    """What a weight per block saves over one weight.

    Attributes:
        pooled: abar = sum_l D_l alpha_l / sum_l D_l, the best single weight; 0.5 where every D_l is 0.
        gain: sum_l D_l (alpha_l - abar)^2, squared units of the gradients.
        shares: D_l (alpha_l - abar)^2 per block, [L].
        degenerate: [L], the blocks with D_l = 0. There g_t = g_e, every weight is optimal, alpha_l carries no
            information, and the block counts neither in ``pooled`` nor in ``gain``.
    """

    pooled: float
    gain: float
    shares: Floats
    degenerate: NDArray[np.bool_]


def blockwise_gain(weights: ArrayLike, distances: ArrayLike) -> BlockGain:
    """The saving sum_l D_l (alpha_l - abar)^2 of unclipped weights per block over the best single weight.

    Weights clipped to [0, 1] save something nonnegative too, but not this amount: clipping and pooling do not commute.

    Args:
        weights: alpha_l, the unclipped optimum of every block, [L].
        distances: D_l = E|g_t - g_e|^2 over the coordinates of the block, [L].

    Raises:
        ValueError: an argument is empty, not finite or not one-dimensional, the lengths differ, or some D_l < 0.

    Example:
        >>> saved = blockwise_gain(weights=[0.0, 1.0], distances=[1.0, 3.0])
        >>> saved.pooled, saved.gain
        (0.75, 0.75)
        >>> blockwise_gain(weights=[0.2, 0.5], distances=[2.0, 0.0]).gain
        0.0
    """
    (alpha,) = finite(weights=weights)
    (distance,) = nonnegative(distances=distances)
    if alpha.ndim != 1:
        raise ValueError(f"weights must have one entry per block, got shape {alpha.shape}")
    if distance.shape != alpha.shape:
        raise ValueError(f"distances must have shape {alpha.shape}, one entry per block, got {distance.shape}")
    degenerate = distance == 0
    largest = float(distance.max())
    if largest == 0:
        return BlockGain(0.5, 0.0, np.zeros_like(distance), degenerate)
    share = distance / largest  # first to unit size: the sum of large distances must not overflow
    share = share / share.sum()
    anchor = alpha[int(distance.argmax())]
    pooled = float(anchor + share @ (alpha - anchor))  # equal weights pool to themselves, without rounding
    shares = distance * (alpha - pooled) ** 2
    return BlockGain(pooled, float(shares.sum()), shares, degenerate)
