"""What the section on other estimators shows is what the comparison found."""

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.alternatives import estimators_section


def column(section, label):
    (table,) = section.tables
    at = [c.label for c in table.columns].index(label)
    return {row[0]: row[at] for row in table.rows}


def test_every_estimator_is_listed_with_its_numbers(lrm):
    """Catches a column of another number and a row that is left out."""
    compared = EstimatorComparison.from_pairs(lrm, shipped_pairs("correct", limit=6), traces=2, prior=1)
    section, rows = estimators_section(compared, 16), {row.label: row for row in compared.rows()}
    assert column(section, "Variance") == {label: row.variance for label, row in rows.items()}
    assert column(section, "Squared bias") == {label: row.bias_sq for label, row in rows.items()}
    assert str(column(section, "Cosine to μ")) == str({label: row.cosine for label, row in rows.items()})
    assert column(section, "of which traces") == {label: row.trace_share for label, row in rows.items()}
    assert "was not judged: that takes 36 prompts" in section.notes[0]
