"""The coverage study: the same numbers in any order and after any interruption, and its arithmetic."""

import numpy as np
import pytest

from bvpo_analysis.coverage import QUANTITIES, FinitePopulation, Setting, run_study, study
from bvpo_analysis.coverage.measured import write_table
from bvpo_analysis.coverage.population import write_population
from bvpo_analysis.coverage.study import replication, summarise
from bvpo_analysis.objectives import DPO

SETTINGS = [Setting("style", 8, 1), Setting("valid", 8, 2)]


def small_population(by_hand, seed=1, prompts=30, d=8, bias=0.0):
    """Prompts with unequal directions; the empty traces differ from the marginal gradient, on average by ``bias``."""
    rng = np.random.default_rng(seed)
    pairs = [by_hand.pair(rng, 3) for _ in range(prompts)]
    vectors = []
    for pair in pairs:
        v = rng.normal(size=(pair.size, d)) / np.sqrt(1 + np.arange(d)) + rng.normal(size=d)
        v[pair.empty[0]] += bias
        vectors.append(v)
    return FinitePopulation.from_scores(pairs, vectors, DPO(2.0))


@pytest.fixture
def populations(tmp_path, by_hand):
    paths = [tmp_path / f"population-{i}.npz" for i in range(2)]
    for i, path in enumerate(paths):
        write_population(path, small_population(by_hand, seed=i))
    return paths


def test_an_interrupted_study_goes_on_to_the_same_bytes(tmp_path, populations, monkeypatch):
    """Catches seeds that depend on order, a half-written chunk taken for a whole one, and finished work done again."""
    monkeypatch.setattr(study, "CHUNK", 2)
    whole = run_study(populations, SETTINGS, 6, tmp_path / "whole")
    calls = []

    def interrupted(population, setting, index):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append((setting, index))
        return replication(population, setting, index)

    monkeypatch.setattr(study, "replication", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(populations, SETTINGS, 6, tmp_path / "parts")
    kept = sorted((tmp_path / "parts").rglob("*.npy"))
    assert len(kept) == 2
    assert not list((tmp_path / "parts").rglob("*.part"))
    calls.clear()
    monkeypatch.setattr(study, "replication", lambda p, s, i: calls.append((s, i)) or replication(p, s, i))
    resumed = run_study(populations, SETTINGS, 6, tmp_path / "parts")
    assert len(calls) == 12 - 4
    for name, rows in (("a.csv", whole), ("b.csv", resumed)):
        write_table(tmp_path / name, rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    # Fewer settings, in another order, are the same rows.
    again = run_study(populations[1:], SETTINGS[1:], 6, tmp_path / "other")
    assert [repr(row) for row in again] == [repr(row) for row in whole if row.regime == "valid"]


def test_replications_of_different_settings_and_indices_differ(by_hand):
    """Catches a seed that forgets one of its words."""
    population = small_population(by_hand)
    settings = [Setting("style", 8, 2), Setting("valid", 8, 2), Setting("style", 9, 2), Setting("style", 8, 3)]
    values = [replication(population, setting, 0)[0, 0] for setting in settings]
    values.append(replication(population, settings[0], 1)[0, 0])
    assert len(set(values)) == 5
    np.testing.assert_array_equal(replication(population, settings[0], 0), replication(population, settings[0], 0))


def test_numbers_that_one_trace_does_not_identify_are_left_out(by_hand, tmp_path):
    """Catches coverage reported of an interval that does not exist."""
    population = small_population(by_hand)
    one, two = replication(population, Setting("style", 8, 1), 0), replication(population, Setting("style", 8, 2), 0)
    split = np.array([quantity.split for quantity in QUANTITIES])
    assert np.isnan(one[split]).all()
    assert not np.isnan(two[split]).any()
    rows = summarise(Setting("style", 8, 1), np.stack([one, one]), np.ones(len(QUANTITIES)))
    assert [row.quantity for row in rows] == [quantity.name for quantity in QUANTITIES if not quantity.split]


def test_a_row_counts_misses_widths_and_withheld_intervals():
    """Catches sides mixed up, withheld intervals counted as misses, and infinite widths averaged."""
    results = np.zeros((200, len(QUANTITIES), 4))
    results[:, 0, 0] = np.where(np.arange(200) % 2, 3.0, 1.0)
    results[:, 0, 2:] = [0.0, 2.0]
    results[:10, 0, 2:] = [1.5, np.inf]
    results[10:16, 0, 2:] = [0.0, 0.5]
    results[16:36, 0] = np.nan
    row = summarise(Setting("style", 64, 4), results, np.full(len(QUANTITIES), 1.0))[0]
    assert (row.missed_high, row.missed_low) == pytest.approx((10 / 180, 6 / 180))
    assert row.coverage == pytest.approx(164 / 180)
    assert row.coverage_se == pytest.approx(np.sqrt(164 / 180 * 16 / 180 / 180))
    assert row.unbounded == pytest.approx(10 / 180)
    assert row.withheld == pytest.approx(20 / 200)
    assert row.width_median == 2.0
    assert row.width_mean == pytest.approx((164 * 2 + 6 * 0.5) / 170)
    values = results[~np.isnan(results[:, 0, 0]), 0, 0]
    assert row.mean_error == pytest.approx(1.0)
    assert row.error_in_se == pytest.approx(1.0 / (values.std(ddof=1) / np.sqrt(180)))
    assert (row.regime, row.prompts, row.traces, row.replications) == ("style", 64, 4, 200)


@pytest.mark.parametrize("replications", [0, -1, study.CHUNK + 1])
def test_replications_must_fill_chunks(replications, tmp_path):
    """Catches a remainder that is dropped without a word."""
    with pytest.raises(ValueError, match="replications must be"):
        run_study([], [], replications, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 1.0], ids=["nearly unbiased", "clearly biased"])
def test_intervals_cover_and_estimates_are_unbiased_in_a_synthetic_population(bias, by_hand):
    """Catches an interval or an estimator that holds in the shipped populations only: 400 samples of 64 prompts.

    The bounds leave 2 points for the finite sample and 3 Monte Carlo standard errors (bias: 4, of 13 numbers).
    """
    population = small_population(by_hand, seed=5, prompts=60, bias=bias)
    setting = Setting("style", 64, 2)
    truth = np.array([quantity.estimate(population.truth).value for quantity in QUANTITIES])
    rows = summarise(setting, np.stack([replication(population, setting, i) for i in range(400)]), truth)
    slack = 3 * np.sqrt(0.05 * 0.95 / 400)
    for row in rows:
        if row.group in ("weight", "squared norm", "error", "variance"):
            assert row.coverage >= 0.93 - slack, row
        if row.unbiased:
            assert abs(row.error_in_se) <= 4, row
