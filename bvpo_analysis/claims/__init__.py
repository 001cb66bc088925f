"""Each theorem of the paper, and of the theory around it, as a function that measures both of its sides.

``CLAIMS`` lists them in reading order; each is a function without arguments that returns a :class:`Claim`, seeded and
deterministic. Tests, the report and ``python -m bvpo_analysis.claims`` read this one list.
"""

from bvpo_analysis.claims import mixing

CLAIMS = (*mixing.CLAIMS,)
"""Every claim, in reading order."""

__all__ = ["CLAIMS"]
