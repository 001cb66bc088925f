"""The law a sampler draws from: the model's own, or one sharpened by temperature or cut by top-p and top-k.

Traces that come with answers sampled from the policy itself are draws from the posterior pi(r | x, y), which is what
makes the trace-based gradient unbiased. Any other law changes that posterior, so it is recorded with every row and
named wherever numbers rest on it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bvpo_analysis.errors import InputError


@dataclass(frozen=True)
class SamplingLaw:
    """Softmax of logits / temperature, restricted to the ``top_k`` likeliest tokens and, of these, to the fewest whose
    probabilities sum to ``top_p``.

    Attributes:
        temperature: 1 for the policy itself.
        top_p: 1 for no restriction.
        top_k: 0 for no restriction.

    Raises:
        InputError: a value out of range.

    Example:
        >>> SamplingLaw().is_policy, SamplingLaw(0.6, 0.95, 20).is_policy
        (True, False)
        >>> SamplingLaw(0.6, 0.95).alert.split(":")[0]
        'Sampled at temperature 0.6, top-p 0.95'
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be positive, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p must lie in (0, 1], got {self.top_p}")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise InputError(f"top-k must be a whole number, 0 for none, got {self.top_k!r}")

    @property
    def is_policy(self) -> bool:
        """Whether this is the policy's own law."""
        return self.temperature == 1 and self.top_p == 1 and self.top_k == 0

    @property
    def alert(self) -> str | None:
        """What a reader must know, or None."""
        if self.is_policy:
            return None
        changed = [f"temperature {self.temperature:g}"] * (self.temperature != 1)
        changed += [f"top-p {self.top_p:g}"] * (self.top_p != 1) + [f"top-k {self.top_k}"] * (self.top_k != 0)
        return (
            f"Sampled at {', '.join(changed)}: not the policy's own law, so traces are no posterior draws and g_t is "
            "biased."
        )

    def meta(self) -> dict[str, Any]:
        """The fields that go into the ``meta`` of a row."""
        return asdict(self)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "SamplingLaw":
        """The law a row was sampled from, as far as its ``meta`` says; what it does not say is taken as unrestricted.

        Some samplers write -1 for "no top-k"; that is read as 0.

        Example:
            >>> SamplingLaw.from_meta({"temperature": 0.6, "top_k": -1, "seed": 3})
            SamplingLaw(temperature=0.6, top_p=1.0, top_k=0)
        """
        given = {k: meta[k] for k in ("temperature", "top_p", "top_k") if meta.get(k) is not None}
        if given.get("top_k") == -1:
            given["top_k"] = 0
        return cls(**given)
