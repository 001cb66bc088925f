"""What training did, for the report: sections and numbers of the committed training study, none where there is none."""

from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.sections import Section
from bvpo_analysis.report.training_section import BASE, HALF, training_sections
from bvpo_analysis.training_study.committed import study_estimate, study_rows


def trained_sections(regime: str | None) -> tuple[Section, ...]:
    """Sections on training with the pairs of a shipped regime; none for other data, or without a committed study."""
    if regime is None:
        return ()
    try:
        return training_sections(regime)
    except InputError:  # the tables are made by a command of their own
        return ()


def accuracy_changes(regime: str | None) -> list[dict[str, Any]]:
    """Change of task accuracy from before to after training, of DPO and of the equal mix, with and without thinking.

    Args:
        regime: which pairs; all regimes, one after the other, when not given.

    Returns:
        Rows of arm, mode, runs and change (an :class:`Estimate`); none without a committed study.
    """
    found = []
    for name in REGIMES if regime is None else (regime,):
        for arm in (BASE, HALF):
            for row in _rows(name, arm):
                change = study_estimate(row, "change")
                if isinstance(change, Estimate):
                    found.append({"regime": name, "arm": arm, "mode": row["mode"], "runs": change.n, "change": change})
    return found


def _rows(regime: str, arm: str) -> list[dict[str, Any]]:
    try:
        return study_rows("accuracy", regime=regime, arm=arm)
    except InputError:
        return []
