"""The committed table of coverage: it meets what the intervals promise, or names the limit."""

import numpy as np
import pytest

from bvpo_analysis.coverage import QUANTITIES, coverage_summaries, measured_coverage, text_table
from bvpo_analysis.coverage.measured import HEADLINE, LIMITS, write_table
from bvpo_analysis.preferences.shipped import REGIMES

ROWS = measured_coverage()
SLACK = 3 * np.sqrt(0.95 * 0.05 / 4000)
"""Three Monte Carlo standard errors of a coverage of 95 %."""


def limited(row):
    return any(limit.applies(row.quantity, row.prompts) for limit in LIMITS)


def test_the_table_holds_every_setting_and_quantity():
    """Catches a table of a shorter study, or of another list of numbers."""
    found = {(row.regime, row.prompts, row.traces, row.quantity) for row in ROWS}
    expected = {
        (regime, prompts, traces, quantity.name)
        for regime in REGIMES
        for prompts in (16, 64, 256)
        for traces in (1, 4)
        for quantity in QUANTITIES
        if traces > 1 or not quantity.split
    }
    assert found == expected
    assert len(ROWS) == len(expected)
    assert min(row.replications for row in ROWS) >= 4000


@pytest.mark.parametrize("group", ["weight", "squared norm"])
def test_weights_and_squared_norms_are_covered_at_64_prompts_and_above(group):
    """Catches intervals that are too short, or so long that they say nothing: 93 to 97 %, plus 3 SE of the study."""
    for row in ROWS:
        if row.group == group and row.prompts >= 64 and not limited(row):
            assert 0.93 - SLACK <= row.coverage <= 0.97 + SLACK, row


def test_no_interval_is_much_too_short_at_64_prompts_and_above():
    """Catches any other interval below 92 %, plus 3 SE of the study, that no limit names."""
    for row in ROWS:
        if row.prompts >= 64 and not limited(row):
            assert row.coverage >= 0.92 - SLACK, row


def test_unbiased_estimators_are_unbiased():
    """Catches a mean error beyond 4 Monte Carlo SE; by chance that happens in one table of 90."""
    checked = [row for row in ROWS if row.unbiased]
    assert len(checked) == 180
    for row in checked:
        assert abs(row.error_in_se) <= 4, row


def test_every_limit_is_seen_in_the_table():
    """Catches a limit that no longer exists, or one that swallows more than it says."""
    for limit in LIMITS:
        rows = [row for row in ROWS if limit.applies(row.quantity, row.prompts)]
        assert rows, limit
        outside = [row for row in rows if not 0.93 - SLACK <= row.coverage <= 0.97 + SLACK]
        assert outside, limit
        assert limit.lowest - 5e-4 <= min(row.coverage for row in rows), limit
        assert max(row.coverage for row in rows) <= limit.highest + 5e-4, limit


def test_limits_leave_almost_all_of_the_promise():
    """Catches a requirement that is met by exceptions: one weight at one sample size is all that a limit takes out."""
    promised = [row for row in ROWS if row.group in ("weight", "squared norm") and row.prompts >= 64]
    assert {(row.quantity, row.prompts) for row in promised if limited(row)} == {
        ("alpha_star.population.B16.K1.kappa1", 64)
    }
    outside = [row for row in promised if not 0.93 - SLACK <= row.coverage <= 0.97 + SLACK]
    assert [(row.regime, row.prompts, row.traces) for row in outside] == [("style", 64, 4)]


def test_summaries_are_ranges_over_the_settings():
    """Catches a mean in place of a range, and settings of another sample size."""
    for summary in coverage_summaries(ROWS):
        here = [row for row in ROWS if (row.quantity, row.prompts) == (summary.quantity, summary.prompts)]
        assert summary.label == HEADLINE[summary.quantity]
        assert summary.settings == len(here)
        assert (summary.lowest, summary.highest) == (min(r.coverage for r in here), max(r.coverage for r in here))
        assert summary.largest_error_in_se == max(abs(r.error_in_se) for r in here)
    lines = text_table(ROWS).splitlines()
    assert len(lines) == 1 + len({row.quantity for row in ROWS})
    assert lines[0].split() == [
        "coverage",
        "of",
        "95",
        "%",
        "intervals",
        "n",
        "=",
        "16",
        "n",
        "=",
        "64",
        "n",
        "=",
        "256",
    ]


def test_the_table_comes_back_from_its_file(tmp_path):
    """Catches columns that swap or change their type."""
    path = tmp_path / "table.csv"
    write_table(path, ROWS)
    assert repr(measured_coverage(path)) == repr(ROWS)
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    first = ROWS[0]
    assert (type(first.prompts), type(first.unbiased), type(first.coverage)) == (int, bool, float)
