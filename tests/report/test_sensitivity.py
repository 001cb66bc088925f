"""Sections on what the optimal weight depends on."""

import pytest

from bvpo_analysis import mixing
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.sensitivity import WIDTHS, group_weights_section, label_noise_section, sample_size_section
from bvpo_analysis.study import Study


@pytest.fixture(scope="module")
def study(lrm):
    return Study.from_pairs(lrm, shipped_pairs("correct", limit=10), traces=2)


def test_without_flips_everything_is_as_measured(study):
    """Catches a table of other moments than those of the study, and labels flipped the wrong way."""
    (table,) = label_noise_section(study, 8, 1.0, own_answers=True).tables
    clean, *flipped = table.rows
    law = study.law(batch_size=8)
    assert clean[0] == 0.0
    assert clean[1].value == pytest.approx(law.var_t[0])
    assert clean[3].value == pytest.approx(0.0, abs=1e-12)
    assert clean[4].value == pytest.approx(mixing.error(law, 1.0).value)
    assert clean[5].estimate.value == pytest.approx(study.optimal_alpha(batch_size=8).estimate.value)
    assert all(row[1].value > clean[1].value for row in flipped) == (study.whole.target_sq[0] > 0)


def test_narrower_intervals_take_more_prompts(study):
    section = sample_size_section(study, 8, 1.0)
    assert section is not None
    (table,) = section.tables
    assert [row[0] for row in table.rows] == list(WIDTHS)
    prompts = [row[1] for row in table.rows if row[1] is not None]
    assert prompts == sorted(prompts)
    assert len(prompts) >= 2
    assert all(row[2] <= row[1] <= row[3] for row in table.rows if row[1] is not None)


def test_every_group_has_its_weight(study):
    section = group_weights_section(study, 8, 1.0)
    assert section is not None
    (table,) = section.tables
    assert {row[0] for row in table.rows} <= set(study.by_group)
    assert sum(row[3] for row in table.rows) == pytest.approx(1.0, abs=0.01)


def test_few_groups_have_no_table(lrm):
    found = Study.from_pairs(lrm, shipped_pairs("correct", limit=6), traces=1, parameters=r"layers\.0")
    assert group_weights_section(found, 8, 1.0) is None
