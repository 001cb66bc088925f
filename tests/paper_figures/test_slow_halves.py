"""What the slow halves of the paper figures compute, on a few pairs and on made-up populations."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bvpo_analysis import EstimatorComparison, Study, load_model, shipped_pairs
from bvpo_analysis.coverage.population import FinitePopulation

FOLDER = Path(__file__).parents[2] / "paper_figures"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STUDIES, ESTIMATORS, POPULATION = (load(f"compute_{name}") for name in ("studies", "estimators", "population"))


@pytest.fixture(scope="module")
def study():
    return Study.from_pairs(load_model(), shipped_pairs("valid", limit=8), traces=2)


def test_more_traces_cost_more_than_they_are_worth_by_the_formula(study):
    """K (1 - (tau / v) (1 - 1/K)): catches prices of the wrong number of prompts or traces."""
    rows = [row for row in STUDIES.budget_rows(study) if row["series"] == "g_t, more traces"]
    share = float(study.whole.trace_var[0] / study.whole.var_t[0])
    for row in rows:
        k = row["traces"]
        assert row["tokens"] == pytest.approx(k)
        assert row["relative"] == pytest.approx(k * (1 - share * (1 - 1 / k)))


def test_more_prompts_are_the_level_and_a_mix_pays_for_both(study):
    rows = STUDIES.budget_rows(study)
    assert [row["relative"] for row in rows if row["series"] == "g_t, more prompts"] == pytest.approx([1.0] * 5)
    trace, empty = (float(cost.of("tokens")[0]) for cost in study.costs())
    mixed = [row for row in rows if row["series"] == "equal mix, more prompts"]
    assert [row["tokens"] for row in mixed] == pytest.approx([t * (1 + empty / trace) for t in (1, 2, 4, 8, 16)])
    deep = [row for row in rows if row["series"] == "optimal mix, more traces"]
    assert [row["tokens"] for row in deep] == pytest.approx([t + empty / trace for t in (1, 2, 4, 8, 16)])


def test_variance_rows_name_every_part(study):
    rows = STUDIES.variance_rows([pair.log_probs for pair in study.scores.pairs])
    assert len(rows) == 2 * (4 + 3)
    logs = [pair.log_probs for pair in study.scores.pairs]
    within = np.mean([np.var(p.log_prob[p.draws], axis=0, ddof=1) for p in logs])
    row = next(r for r in rows if (r["quantity"], r["mode"], r["part"]) == ("log_prob", "thinking", "traces"))
    assert row["value"] == pytest.approx(within)


def test_nested_variance_is_unbiased():
    """200 tables of 40 prompts: each mean within 4 of its standard errors (a false alarm in 4 000 per part)."""
    rng = np.random.default_rng(3)
    parts = {"traces": 2.0, "answers": 0.5, "prompts": 3.0, "total": 5.5}
    found = {name: [] for name in parts}
    for _ in range(200):
        answers = np.sqrt(0.5) * np.array([1.0, -1.0])[None, :, None]  # a random one of the two has variance 1/2
        prompts = np.sqrt(3) * rng.standard_normal((40, 1, 1))
        table = 100 + prompts + answers + np.sqrt(2) * rng.standard_normal((40, 2, 3))
        for name, estimate in STUDIES.nested_variance(table).items():
            found[name].append(estimate.value)
    for name, true in parts.items():
        values = np.array(found[name])
        assert abs(values.mean() - true) < 4 * values.std(ddof=1) / np.sqrt(200), name


def test_nested_variance_without_traces_is_the_plain_one():
    table = np.random.default_rng(0).standard_normal((12, 2, 1))
    found = STUDIES.nested_variance(table)
    assert "traces" not in found
    assert found["answers"].value == pytest.approx(np.mean((table[:, 0] - table[:, 1]) ** 2) / 4)
    assert found["prompts"].value == pytest.approx(table.mean(axis=1).var(ddof=1))
    left_out = STUDIES.nested_variance(np.delete(table, 3, axis=0))["total"].value
    replicates = [STUDIES.nested_variance(np.delete(table, i, axis=0))["total"].value for i in range(12)]
    assert replicates[3] == left_out
    spread = np.sqrt(11 / 12 * np.sum((np.array(replicates) - np.mean(replicates)) ** 2))
    assert found["total"].se == pytest.approx(spread)


@pytest.mark.slow
def test_variances_of_mixes_and_means_follow_from_those_of_the_gradients():
    compared = EstimatorComparison.from_pairs(load_model(), shipped_pairs("valid", limit=8), traces=4)
    rows = {row["key"]: row for row in ESTIMATORS.variance_rows(compared)}
    law = compared.joint.pair("trace", "empty").population(1)
    half = (law.var_t[0] + law.var_e[0] + 2 * law.cov_te[0]) / 4 / law.var_t[0]
    assert rows["half"]["value"] == pytest.approx(half)
    assert rows["trace"]["value"] == 1.0
    saved = rows["trace"]["trace"] * 3 / 4
    assert rows["mean_of_4"]["value"] == pytest.approx(1 - saved)
    assert rows["pooled_4"]["trace"] is None


@pytest.fixture(scope="module")
def population():
    """Three prompts, two traces per answer, five dimensions."""
    rng = np.random.default_rng(7)
    posterior = rng.dirichlet([2.0, 2.0], size=(3, 2))
    return FinitePopulation(rng.standard_normal((3, 2, 2, 5)), posterior, rng.standard_normal((3, 5)) + 1.0)


def test_a_prompt_lies_in_a_plane_that_shows_its_bias(population):
    """Catches a bias in other units than the points, and an error of the mix that is not the parabola's."""
    found = POPULATION.prompt_plane(population, np.random.default_rng(0))
    alpha, rms = found["alpha"], found["rms"]
    e = np.array(found["points"]["g_e"])
    np.testing.assert_allclose(e, [[found["bias"], 0.0]] * len(e), atol=1e-12)
    assert rms["g_e"] == pytest.approx(found["bias"])
    assert rms["g_c"] ** 2 == pytest.approx((alpha * rms["g_t"]) ** 2 + ((1 - alpha) * rms["g_e"]) ** 2)
    assert alpha == pytest.approx(rms["g_e"] ** 2 / (rms["g_e"] ** 2 + rms["g_t"] ** 2))
    t, c = (np.array(found["points"][name]) for name in ("g_t", "g_c"))
    np.testing.assert_allclose(c, alpha * t + (1 - alpha) * e, atol=1e-12)
    assert 0 < found["share"] <= 1


def test_batches_scatter_around_the_target_with_the_exact_error(population, monkeypatch):
    """Catches an origin that is not mu, and a batch size that errors and draws do not share."""
    monkeypatch.setattr(POPULATION, "DRAWS", 4000)
    monkeypatch.setattr(POPULATION, "BATCH_SIZE", 2)
    found = POPULATION.batch_plane(population, np.random.default_rng(0))
    t = np.array(found["points"]["g_t"])
    assert np.abs(t.mean(axis=0)).max() < 5 * t.std(axis=0).max() / np.sqrt(4000)
    shown = found["share"] * found["rms"]["g_t"] ** 2
    assert (t**2).sum(axis=1).mean() == pytest.approx(shown, rel=0.1)


def test_both_routes_to_the_leading_direction_agree():
    rows = np.random.default_rng(1).standard_normal((4, 6))
    expected = np.linalg.svd(rows)[2][0]
    assert abs(POPULATION._leading(rows) @ expected) == pytest.approx(1.0)


def test_histograms_count_every_sample(population, monkeypatch):
    monkeypatch.setattr(POPULATION, "REPLICATIONS", 20)
    row = POPULATION.sampled_weights(population, np.random.default_rng(0), 16)
    assert sum(row["counts"]) + row["below"] + row["above"] == 20
    assert row["prompts"] == 16
