"""The mixed loss as a pure function of log-probabilities, for training loops that are not ours.

alpha and the batch are data, not state: the gradient of the value is alpha g_t + (1 - alpha) g_e of this batch.
"""

import torch

from bvpo_analysis.objectives import Objective


def bvpo_loss(
    objective: Objective,
    trace: tuple[torch.Tensor, torch.Tensor],
    trace_ref: tuple[torch.Tensor, torch.Tensor],
    empty: tuple[torch.Tensor, torch.Tensor],
    empty_ref: tuple[torch.Tensor, torch.Tensor],
    alpha: float | torch.Tensor,
    *,
    trace_tokens: tuple[torch.Tensor, torch.Tensor] | None = None,
    empty_tokens: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """alpha L_t + (1 - alpha) L_e, averaged over the batch (paper, section 4: L_c).

    Every pair is (chosen, rejected), each [n]: summed log-probabilities of the scored tokens. IPO is eq. 17 of its
    paper on these sums; TRL divides each log-ratio by its number of tokens, so means in place of sums give its IPO.

    Args:
        objective: DPO, IPO or SimPO.
        trace, trace_ref: log pi_theta and log pi_ref of (r, y).
        empty, empty_ref: the same of answers after an empty trace; n may differ from that of the trace rows.
        alpha: weight of the trace-based loss.
        trace_tokens, empty_tokens: numbers of scored tokens, which length-normalised losses need.

    Raises:
        ValueError: a length-normalised loss without the numbers of tokens, or an empty batch.

    Example:
        >>> from bvpo_analysis.objectives import DPO
        >>> zero = torch.zeros(2)
        >>> float(bvpo_loss(DPO(0.1), (zero, zero), (zero, zero), (zero, zero), (zero, zero), alpha=0.5))
        0.6931471824645996
    """
    parts = []
    for sides, references, tokens in ((trace, trace_ref, trace_tokens), (empty, empty_ref, empty_tokens)):
        if len(sides[0]) == 0:
            raise ValueError("an empty batch has no loss; give at least one pair of each kind")
        if tokens is None and objective.reference_free:
            raise ValueError(f"the {objective.name} loss is normalised by length; give trace_tokens and empty_tokens")
        lengths = tokens if tokens is not None else (torch.ones_like(sides[0]), torch.ones_like(sides[1]))
        parts.append(objective.loss(*sides, *references, *lengths).mean())
    return alpha * parts[0] + (1 - alpha) * parts[1]
