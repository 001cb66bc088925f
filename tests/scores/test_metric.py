"""A diagonal metric: ones change nothing, the route equals preconditioned scores, and Adam's own metric."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bvpo_analysis import mixing
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Trace, mean_coefficients, mix, totals_of
from bvpo_analysis.moments import population_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import (
    LoopEngine,
    MetricEngine,
    VmapEngine,
    adam_metric,
    adam_metric_from_state,
    plan_pair,
    score_pairs,
)

TRACE, EMPTY = Trace(DPO(0.1)), EmptyTrace(DPO(0.1))
PARAMETERS = r"layers\.[01]\.self_attn|^model\.norm"
TOTALS = totals_of(TRACE, EMPTY)


@pytest.fixture(scope="module")
def pairs():
    return shipped_pairs("correct", limit=9)


def explicit_scores(lrm, pairs, traces=2):
    """Scores [m, P] of every pair by the loop engine."""
    engine = LoopEngine(lrm.model, PARAMETERS)
    rows = []
    for pair in pairs:
        plan = plan_pair(lrm.assembler, pair, traces=traces)
        out = engine.buffer(len(plan.sequences))
        engine.fill(plan.sequences, out)
        rows.append(out.double().numpy())
    return engine, rows


def test_a_metric_of_ones_changes_nothing(lrm64, pairs):
    """Catches a metric applied twice or to some of the products only."""
    engine = VmapEngine(lrm64.model, PARAMETERS)
    plain = score_pairs(lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS)
    ones = score_pairs(lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS, metric=torch.ones(engine.size))
    for a, b in zip(plain.pairs, ones.pairs, strict=True):
        np.testing.assert_array_equal(a.gram, b.gram)
        np.testing.assert_array_equal(a.with_totals, b.with_totals)
        np.testing.assert_array_equal(a.sketches, b.sketches)
    np.testing.assert_array_equal(plain.totals_gram, ones.totals_gram)
    assert "metric" in ones.settings
    assert "metric" not in plain.settings


@pytest.mark.parametrize("name", ["hooks", "vmap"])
def test_the_metric_route_is_that_of_preconditioned_scores(lrm64, pairs, name):
    """Catches P in place of its root, columns in another order, and a metric left out of the totals."""
    engine, rows = explicit_scores(lrm64, pairs)
    p = np.exp(np.random.default_rng(0).normal(size=engine.size))
    scores = score_pairs(
        lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS, metric=torch.from_numpy(p), engine=name
    )
    plain = score_pairs(lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS, engine=name)
    for g, columns in enumerate(engine.columns):
        means = [
            np.array([mean_coefficients(e, pair.log_probs) for e in (TRACE, EMPTY)]) @ r[:, columns]
            for pair, r in zip(scores.pairs, rows, strict=True)
        ]
        total = sum(means)
        for pair, r, v in zip(scores.pairs, rows, means, strict=True):
            expected = (r[:, columns] * p[columns]) @ r[:, columns].T
            np.testing.assert_allclose(pair.gram[g], expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
            expected = (v * p[columns]) @ total.T
            np.testing.assert_allclose(pair.with_totals[g], expected, rtol=1e-5, atol=1e-8 * np.abs(expected).max())
    for a, b in zip(plain.pairs, scores.pairs, strict=True):
        np.testing.assert_array_equal(a.log_probs.log_prob, b.log_probs.log_prob)
    weight = mixing.optimal_alpha(population_moments(scores, TRACE, EMPTY).population(4)).estimate.value
    d = np.stack(
        [
            (mean_coefficients(EMPTY, q.log_probs) - mean_coefficients(TRACE, q.log_probs)) @ r
            for q, r in zip(scores.pairs, rows, strict=True)
        ]
    ) * np.sqrt(p)
    n = len(d)
    gram = d @ d.T
    assert population_moments(scores, TRACE, EMPTY).bias_e_sq[0] == pytest.approx(
        (gram.sum() - np.trace(gram)) / (n * (n - 1)), rel=1e-5, abs=1e-7 * np.trace(gram) / n
    )
    assert weight != pytest.approx(
        mixing.optimal_alpha(population_moments(plain, TRACE, EMPTY).population(4)).estimate.value, abs=1e-6
    )


def test_adams_metric_is_the_second_moment_of_batch_gradients(lrm64, pairs):
    """Catches s^2 without 1/B, the biased |gbar|^2, and eps inside the root."""
    engine, rows = explicit_scores(lrm64, pairs)
    mixture = mix(TRACE, EMPTY, 0.5)
    logs = score_pairs(lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS).pairs
    g = np.stack([mean_coefficients(mixture, q.log_probs) @ r for q, r in zip(logs, rows, strict=True)])
    size, eps = 4, 1e-3
    second = g.mean(0) ** 2 - g.var(0, ddof=1) / len(g) + g.var(0, ddof=1) / size
    found = adam_metric(
        lrm64, pairs, partial(mean_coefficients, mixture), batch_size=size, epsilon=eps, traces=2, parameters=PARAMETERS
    )
    assert found.shape == (engine.size,)
    np.testing.assert_allclose(found.numpy(), 1 / (np.sqrt(second) + eps), rtol=1e-5)
    scores = score_pairs(lrm64, pairs, traces=2, totals=TOTALS, parameters=PARAMETERS, metric=found)
    alpha = mixing.optimal_alpha(population_moments(scores, TRACE, EMPTY).population(size))
    assert np.isfinite(alpha.estimate.value)


def test_adams_metric_from_its_state(lrm64, tmp_path):
    """Catches a bias correction that is left out, tensors in another order, and eps inside the root."""
    engine = VmapEngine(lrm64.model, PARAMETERS)
    generator = torch.Generator().manual_seed(0)
    sizes = {name: p.shape for name, p in lrm64.model.named_parameters()}
    state = {f"{n}.exp_avg_sq": torch.rand(sizes[n], generator=generator) for n in reversed(engine.names)}
    save_file(state, tmp_path / "adam.safetensors")
    found = adam_metric_from_state(lrm64, tmp_path / "adam.safetensors", step=3, beta2=0.9, parameters=PARAMETERS)
    for name, place in engine.places().items():
        v = state[f"{name}.exp_avg_sq"].double().reshape(-1) / (1 - 0.9**3)
        torch.testing.assert_close(found[place], 1 / (v.sqrt() + 1e-8))
    with pytest.raises(InputError, match="no second moment of 'model"):
        adam_metric_from_state(lrm64, tmp_path / "adam.safetensors", step=3)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        adam_metric_from_state(lrm64, tmp_path / "none.safetensors", step=3)
    with pytest.raises(InputError, match="step >= 1"):
        adam_metric_from_state(lrm64, tmp_path / "adam.safetensors", step=0)
    first = engine.names[0]
    save_file({**state, f"{first}.exp_avg_sq": torch.rand(3)}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match=r"has shape \(3,\)"):
        adam_metric_from_state(lrm64, tmp_path / "bad.safetensors", step=1, parameters=PARAMETERS)
    save_file({**state, f"{first}.exp_avg_sq": -state[f"{first}.exp_avg_sq"]}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="negative or not a number"):
        adam_metric_from_state(lrm64, tmp_path / "bad.safetensors", step=1, parameters=PARAMETERS)


def test_a_metric_belongs_to_the_key_of_blocks(lrm64, pairs, tmp_path):
    """Catches blocks of another metric taken up again."""
    size = VmapEngine(lrm64.model, PARAMETERS).size
    common = {"totals": TOTALS, "parameters": PARAMETERS, "blocks": tmp_path}
    score_pairs(lrm64, pairs, metric=torch.ones(size), **common)
    with pytest.raises(InputError, match="metric"):
        score_pairs(lrm64, pairs, metric=2 * torch.ones(size), **common)


def test_unfit_metrics_are_refused(lrm64, pairs):
    """Catches a metric of another parameter set, and one that is not positive."""
    engine = VmapEngine(lrm64.model, PARAMETERS)
    with pytest.raises(InputError, match=r"shape \(7,\), but \d+ parameters"):
        MetricEngine(engine, torch.ones(7))
    for bad in (0.0, -1.0, np.nan, np.inf):
        metric = torch.ones(engine.size)
        metric[3] = bad
        with pytest.raises(InputError, match="positive and finite"):
            MetricEngine(engine, metric)
    for size in (0.5, 10):
        with pytest.raises(InputError, match="batch size between 1"):
            adam_metric(lrm64, pairs, partial(mean_coefficients, TRACE), batch_size=size)
    with pytest.raises(InputError, match="epsilon must be positive"):
        adam_metric(lrm64, pairs, partial(mean_coefficients, TRACE), batch_size=4, epsilon=0.0)
