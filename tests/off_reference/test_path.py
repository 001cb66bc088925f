"""Exact numbers along a path on the model in the box: against an independent route, and against the expansions."""

from functools import cache

import numpy as np
import pytest
import torch

from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.off_reference.checkpoints import ShortRun, between, displacement, train_briefly
from bvpo_analysis.off_reference.path import CountSketch, DataAlongPath
from bvpo_analysis.off_reference.replications import exact_moments
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.study import Study

PROMPTS = 2


@cache
def setting(regime="valid", dtype=torch.float32):
    reference, pairs = load_model(dtype=dtype), shipped_pairs(regime, limit=16)
    trained = train_briefly(reference, pairs, DPO(0.1), ShortRun(steps=8, batch_size=8))
    d = displacement(reference, trained, score_engine("auto", reference.model, None).names)
    return reference, trained, pairs[:PROMPTS], DataAlongPath(reference, pairs[:PROMPTS], d, shipped_traces)


def at(share, *, regime="valid", dtype=torch.float32, **options):
    reference, trained, _, data = setting(regime, dtype)
    return data.at(between(reference, trained, share), share, **options)


def test_moments_are_those_of_a_study_of_the_same_model():
    reference, trained, pairs, _ = setting()
    point = at(1.0).point
    study = Study.from_pairs(trained, pairs, enumerate_traces=shipped_traces, reference=reference)
    m = study.whole
    for name in ("target_sq", "bias_t_sq", "bias_e_sq", "prompt_bias_t_sq", "prompt_bias_e_sq", "trace_var"):
        assert getattr(point, name) == pytest.approx(float(getattr(m, name)[0]), rel=1e-4), name
    assert point.alpha == pytest.approx(study.optimal_alpha(batch_size=16).estimate.value, rel=1e-5)
    assert point.alpha_prompt == pytest.approx(study.optimal_alpha(target="per_prompt").estimate.value, rel=1e-5)
    assert point.stale.bias_population**2 == pytest.approx(point.bias_t_sq, rel=1e-6)
    assert point.stale.bias_prompts**2 == pytest.approx(point.prompt_bias_t_sq, rel=1e-6)
    assert point.ess_share < 1
    assert 0.9 < point.mass_lowest <= point.mass <= 1
    assert min(point.error_ratio_trace, point.error_ratio_empty, point.error_ratio_equal) >= 1


def test_at_the_reference_there_is_no_bias():
    point = at(0.0).point
    assert point.bias_t_sq < 1e-12 * point.target_sq
    assert point.fresh.bias_prompts**2 < 1e-12 * point.target_sq
    assert point.ess_share == pytest.approx(1.0)
    assert point.alpha_unbiased == pytest.approx(point.alpha, rel=1e-9)
    assert point.divergence == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_the_bias_grows_as_predicted_with_a_remainder_of_second_order():
    for regime in ("style", "valid", "correct"):
        near, far = (at(t, regime=regime, dtype=torch.float64).point for t in (1 / 32, 1 / 16))
        for name in ("stale", "fresh"):
            first, second = getattr(near, name), getattr(far, name)
            for which in ("population", "prompts"):
                rest, lead = (
                    np.array([getattr(p, f"{what}_{which}") for p in (first, second)]) for what in ("remainder", "lead")
                )
                assert lead[1] == pytest.approx(2 * lead[0], rel=1e-9)
                # A wrong lead would leave a remainder that doubles.
                assert 3.5 < rest[1] / rest[0] < 4.5, (regime, name, which)
                assert rest[0] < 0.1 * lead[0], (regime, name, which)
        assert near.pull > 0


@pytest.mark.slow
def test_fresh_traces_are_biased_by_the_square_of_beta():
    found = at(0.5, dtype=torch.float64, betas=(0.1, 0.05, 0.025)).betas
    assert [point.beta for point in found] == [0.1, 0.05, 0.025]
    relative = [point.fresh.remainder_population / point.fresh.lead_population for point in found]
    assert relative[0] / relative[1] == pytest.approx(4, rel=0.1)
    assert relative[1] / relative[2] == pytest.approx(4, rel=0.1)
    assert relative[2] < 0.01
    of_mu = [point.fresh.bias_population / np.sqrt(point.target_sq) for point in found]
    assert of_mu[0] / of_mu[2] == pytest.approx(4, rel=0.1)  # O(beta) beside mu
    stale = [np.sqrt(point.stale_bias_sq / point.target_sq) for point in found]
    assert stale[0] / stale[2] < 2  # stale traces stay biased at any beta


def test_projected_scores_keep_the_population():
    found = at(1.0, projection=2048)
    assert found.population is not None
    moments = exact_moments(found.population, DPO(0.1))
    assert float(moments.bias_e_sq[0]) == pytest.approx(found.point.bias_e_sq, rel=0.2)
    assert float(moments.trace_var[0]) == pytest.approx(found.point.trace_var, rel=0.2)


def test_a_sketch_keeps_inner_products_on_average():
    rows = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    rows[2] = rows[0] + rows[1]
    sketch = CountSketch(5000, 1024).of(rows)
    np.testing.assert_allclose(sketch[2], sketch[0] + sketch[1], atol=1e-5)
    exact = (rows @ rows.T).numpy()
    spread = np.sqrt(2 / 1024) * np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert (np.abs(sketch @ sketch.T - exact) < 4 * spread).all()


def test_a_direction_of_another_length_is_refused():
    reference, _, pairs, _ = setting()
    with pytest.raises(ValueError, match="entries"):
        DataAlongPath(reference, pairs, np.zeros(3), shipped_traces)
