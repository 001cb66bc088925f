"""The tables that ``make train-study`` wrote, committed for reports and figures; reads no model."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bvpo_analysis.errors import InputError, one_line
from bvpo_analysis.preferences.shipped import REGIMES, Regime
from bvpo_analysis.records import Estimate

FOLDER = Path(__file__).with_name("measured")
TABLES = (
    "win_rates",
    "accuracy",
    "training",
    "sweep",
    "rankings",
    "alpha_path",
    "curves",
    "equal_tokens",
    "predictions",
    "overhead",
)
"""Names of the tables; see :mod:`bvpo_analysis.training_study.tables` and ``overhead``."""

Row = dict[str, Any]
StudyRows = Callable[..., list[Row]]
""":func:`study_rows`, of one folder."""


@cache
def _read(path: Path) -> tuple[Row, ...]:
    if not path.exists():
        raise InputError(f"{path.name} is missing; make it with: make train-study")
    try:
        records = pd.read_csv(path).to_dict("records")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table of a training study ({one_line(error)}); make it again") from error
    return tuple({str(k): None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in records)


def study_rows(table: str, folder: Path = FOLDER, **fixed: Any) -> list[Row]:
    """The rows of a table whose columns have the given values; None for an empty cell.

    Raises:
        InputError: there is no such table.

    Example:
        >>> [row["alpha"] for row in study_rows("sweep", regime="style", optimiser="sgd")]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if table not in TABLES:
        raise InputError(f"no table {table!r} of the training study; there are {', '.join(TABLES)}")
    rows = _read(folder / f"{table}.csv")
    if rows and (missing := [name for name in fixed if name not in rows[0]]):
        raise InputError(f"{folder / table}.csv: not a table of a training study (no column {missing[0]!r})")
    return [dict(row) for row in rows if all(row[name] == value for name, value in fixed.items())]


def study_estimate(row: Row, name: str) -> Estimate | None:
    """Columns NAME, NAME_low, NAME_high as an estimate; None for an empty cell.

    Example:
        >>> str(study_estimate({"x": 0.5, "x_low": 0.4, "x_high": 0.6, "seeds": 5}, "x"))
        '0.5 [0.4, 0.6]'
        >>> str(study_estimate({"x": 0.5, "x_low": None, "x_high": None}, "x"))
        '0.5'
    """
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    count = int(row.get("seeds") or 0)
    if value is None:
        return None
    if low is None or high is None:
        return Estimate.without_interval(float(value), count)
    return Estimate(float(value), float("nan"), float(low), float(high), count, "jackknife")


def studied_regimes(folder: Path = FOLDER) -> tuple[Regime, ...]:
    """The regimes that the tables hold.

    Example:
        >>> studied_regimes()
        ('style', 'valid', 'correct')
    """
    return tuple(regime for regime in REGIMES if study_rows("sweep", folder, regime=regime, optimiser="sgd"))
