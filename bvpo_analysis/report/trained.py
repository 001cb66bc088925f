"""What training did, for the report: sections and numbers from the tables of a training study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.records import Estimate
from bvpo_analysis.report.sections import Section
from bvpo_analysis.report.training_section import training_sections
from bvpo_analysis.report.training_verdict import BASE, HALF
from bvpo_analysis.training_study.committed import FOLDER, studied_regimes, study_estimate, study_rows

NEEDED = ("sweep", "win_rates", "accuracy", "training", "predictions")
"""Tables without which a study is not shown; of the others it may have no rows."""


@dataclass(frozen=True)
class StudyTables:
    """Which tables of a training study a report shows.

    Attributes:
        regime: of the shipped pairs; None for other data.
        folder: where the tables are; the committed ones when not given.
    """

    regime: str | None
    folder: Path = FOLDER

    @property
    def given(self) -> bool:
        """Whether the tables are others than the committed ones."""
        return self.folder != FOLDER

    def require(self) -> "StudyTables":
        """Hold that tables which were asked for are there.

        Raises:
            InputError: no folder of tables, or none of the regime.
        """
        if not self.given:
            return self
        missing = [name for name in NEEDED if not (self.folder / f"{name}.csv").is_file()]
        if missing:
            raise InputError(
                f"{self.folder}: has no {missing[0]}.csv; give --from-study the folder that "
                "python -m bvpo_analysis.training_study --tables wrote, of a study with runs of the sweep"
            )
        held = studied_regimes(self.folder)
        if self.regime not in held:
            raise InputError(
                f"{self.folder}: the study has no runs of the regime {self.regime!r}; it has {', '.join(held)}"
            )
        return self


def trained_sections(tables: StudyTables) -> tuple[Section, ...]:
    """Sections on training with the pairs of a shipped regime; none for other data, or without a committed study."""
    if tables.regime is None:
        return ()
    try:
        return training_sections(tables.regime, tables.folder)
    except InputError:  # the tables are made by a command of their own
        if tables.given:
            raise
        return ()


def accuracy_changes(tables: StudyTables) -> list[dict[str, Any]]:
    """Change of task accuracy from before to after training, of DPO and of the equal mix, with and without thinking.

    Args:
        tables: whose regime is shown; all regimes, one after the other, where it has none.

    Returns:
        Rows of arm, mode, runs and change (an :class:`Estimate`); none without a study.
    """
    found = []
    for name in REGIMES if tables.regime is None else (tables.regime,):
        for arm in (BASE, HALF):
            for row in _rows("accuracy", tables.folder, regime=name, arm=arm):
                change = study_estimate(row, "change")
                if isinstance(change, Estimate):
                    found.append({"regime": name, "arm": arm, "mode": row["mode"], "runs": change.n, "change": change})
    return found


def training_seeds(tables: StudyTables) -> list[int]:
    """Runs of every weight of the sweep, of the regime or of all; none without a study."""
    fixed = {} if tables.regime is None else {"regime": tables.regime}
    return [int(row["seeds"]) for row in _rows("sweep", tables.folder, optimiser="sgd", **fixed)]


def _rows(table: str, folder: Path, **fixed: Any) -> list[dict[str, Any]]:
    try:
        return study_rows(table, folder, **fixed)
    except InputError:
        return []
