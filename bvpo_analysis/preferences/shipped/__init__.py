"""The preference pairs in the box: 256 per regime, generated on-policy by the reasoning model in the box.

Every pair has own empty-trace answers, four posterior traces per answer (the generating one and three further) and
seven prior traces, drawn without sight of any answer.

Regimes (rules read answers only): ``style`` ranks endings within the largest group of equal digit and letter; ``valid``
ranks right answers by the value of the item they name; ``correct`` prefers a right digit over a wrong one. Rebuild with
``python -m bvpo_analysis.preferences.shipped.build``.
"""

from pathlib import Path
from typing import Literal

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences.rows import read_pairs
from bvpo_analysis.records import PreferencePair

Regime = Literal["style", "valid", "correct"]
REGIMES: tuple[Regime, ...] = ("style", "valid", "correct")
DIRECTORY = Path(__file__).parent


def pairs_path(regime: str) -> Path:
    """The JSONL file of a regime."""
    if regime not in REGIMES:
        raise InputError(f"unknown regime {regime!r}; choose among {', '.join(REGIMES)}")
    return DIRECTORY / f"{regime}.jsonl"


def shipped_pairs(regime: str = "correct", *, limit: int | None = None) -> tuple[PreferencePair, ...]:
    """The shipped pairs of a regime.

    Example:
        >>> pairs = shipped_pairs("correct", limit=3)
        >>> len(pairs), pairs[0].empty_answers
        (3, 'own')
    """
    return read_pairs(pairs_path(regime), limit=limit)
