"""Pairwise preference losses as pure functions of log-probabilities, with their coefficients dL / d log pi.

Every loss here has the form L = l(m) of one margin m that is affine in log pi(chosen) and log pi(rejected), so its
gradient is a combination of two scores, grad L = c+ s+ + c- s-, with scalars

    c+ = l'(m) dm/dlog pi+,      c- = l'(m) dm/dlog pi-

that need log-probabilities only. ``loss`` works on torch tensors (for training and autograd checks), ``coefficients``
on NumPy arrays in float64 (for analysis); a test holds the one to be the derivative of the other. Only ``loss`` imports
torch, and only when it is called: estimators, moments and claims are NumPy.

All gradients in this project are gradients of the LOSS: a descent step follows their negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from scipy.special import expit

from bvpo_analysis.records import Floats

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SequenceLogProbs:
    """Log-probabilities of one side of a batch of comparisons, all of shape [R].

    Attributes:
        log_prob: log pi_theta.
        log_prob_ref: log pi_ref.
        tokens: number of scored tokens, used by length-normalised losses only.
    """

    log_prob: Floats
    log_prob_ref: Floats
    tokens: Floats


class Objective(Protocol):
    """A pairwise loss."""

    name: ClassVar[str]
    reference_free: ClassVar[bool]

    @property
    def beta(self) -> float:
        """Inverse temperature of the loss."""

    def loss(
        self,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        chosen_ref: torch.Tensor,
        rejected_ref: torch.Tensor,
        chosen_tokens: torch.Tensor,
        rejected_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """Loss of each comparison, shape [R]."""

    def coefficients(self, chosen: SequenceLogProbs, rejected: SequenceLogProbs) -> tuple[Floats, Floats]:
        """(c+, c-), each of shape [R]."""


def _log_sigmoid(margin: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    return functional.logsigmoid(margin)


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value}")


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

    With log-ratios rho = log pi_theta - log pi_ref and margin m = beta (rho+ - rho-):

        L = -log sigmoid(m),    c+ = -beta sigmoid(-m),    c- = +beta sigmoid(-m)

    At the reference m = 0, so c+- = -+ beta/2 whatever the traces are. That is why the trace-based gradient is
    unbiased there.

    Example:
        >>> import numpy as np
        >>> side = SequenceLogProbs(np.array([-3.0]), np.array([-3.0]), np.array([5.0]))
        >>> DPO(beta=0.1).coefficients(side, side)
        (array([-0.05]), array([0.05]))
    """

    beta: float = 0.1
    name: ClassVar[str] = "dpo"
    reference_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)

    def loss(
        self,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        chosen_ref: torch.Tensor,
        rejected_ref: torch.Tensor,
        chosen_tokens: torch.Tensor,
        rejected_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """-log sigmoid(m), shape [R]; the token counts are not used."""
        margin = self.beta * ((chosen - chosen_ref) - (rejected - rejected_ref))
        return -_log_sigmoid(margin)

    def coefficients(self, chosen: SequenceLogProbs, rejected: SequenceLogProbs) -> tuple[Floats, Floats]:
        """(-beta sigmoid(-m), +beta sigmoid(-m))."""
        rho_chosen = chosen.log_prob - chosen.log_prob_ref
        rho_rejected = rejected.log_prob - rejected.log_prob_ref
        slope = self.beta * expit(-self.beta * (rho_chosen - rho_rejected))
        return -slope, slope


@dataclass(frozen=True)
class IPO:
    """Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036, eq. 17).

        L = (rho+ - rho- - 1/(2 beta))^2,    c+- = +-2 (rho+ - rho- - 1/(2 beta))

    Constant coefficients at the reference, like DPO: -+ 1/beta.

    Example:
        >>> import numpy as np
        >>> side = SequenceLogProbs(np.array([-3.0]), np.array([-3.0]), np.array([5.0]))
        >>> IPO(beta=0.1).coefficients(side, side)
        (array([-10.]), array([10.]))
    """

    beta: float = 0.1
    name: ClassVar[str] = "ipo"
    reference_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)

    def loss(
        self,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        chosen_ref: torch.Tensor,
        rejected_ref: torch.Tensor,
        chosen_tokens: torch.Tensor,
        rejected_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """(rho+ - rho- - 1/(2 beta))^2, shape [R]; the token counts are not used."""
        return ((chosen - chosen_ref) - (rejected - rejected_ref) - 0.5 / self.beta) ** 2

    def coefficients(self, chosen: SequenceLogProbs, rejected: SequenceLogProbs) -> tuple[Floats, Floats]:
        """(2 (rho+ - rho- - 1/(2 beta)), the same with the opposite sign)."""
        rho_chosen = chosen.log_prob - chosen.log_prob_ref
        rho_rejected = rejected.log_prob - rejected.log_prob_ref
        slope = 2.0 * (rho_chosen - rho_rejected - 0.5 / self.beta)
        return slope, -slope


@dataclass(frozen=True)
class SimPO:
    """Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734, eq. 6), reference-free.

    With n tokens per sequence and margin m = beta (log pi+ / n+ - log pi- / n-) - gamma:

        L = -log sigmoid(m),    c+ = -beta sigmoid(-m) / n+,    c- = +beta sigmoid(-m) / n-

    Its coefficients vary with the trace even at initialisation, so the trace-based gradient is biased from step 0.

    Example:
        >>> import numpy as np
        >>> side = SequenceLogProbs(np.array([-4.0]), np.array([-9.0]), np.array([4.0]))
        >>> SimPO(beta=2.0, gamma=0.0).coefficients(side, side)
        (array([-0.25]), array([0.25]))
    """

    beta: float = 2.0
    gamma: float = 1.0
    name: ClassVar[str] = "simpo"
    reference_free: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_positive("beta", self.beta)
        if not np.isfinite(self.gamma):
            raise ValueError(f"gamma must be finite, got {self.gamma}")

    def loss(
        self,
        chosen: torch.Tensor,
        rejected: torch.Tensor,
        chosen_ref: torch.Tensor,
        rejected_ref: torch.Tensor,
        chosen_tokens: torch.Tensor,
        rejected_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """-log sigmoid(m), shape [R]; the reference log-probabilities are not used."""
        margin = self.beta * (chosen / chosen_tokens - rejected / rejected_tokens) - self.gamma
        return -_log_sigmoid(margin)

    def coefficients(self, chosen: SequenceLogProbs, rejected: SequenceLogProbs) -> tuple[Floats, Floats]:
        """(-beta sigmoid(-m) / n+, +beta sigmoid(-m) / n-)."""
        margin = self.beta * (chosen.log_prob / chosen.tokens - rejected.log_prob / rejected.tokens) - self.gamma
        slope = self.beta * expit(-margin)
        return -slope / chosen.tokens, slope / rejected.tokens


OBJECTIVES: dict[str, type[DPO] | type[IPO] | type[SimPO]] = {c.name: c for c in (DPO, IPO, SimPO)}
"""The losses by name."""
