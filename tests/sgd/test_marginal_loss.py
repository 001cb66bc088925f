"""The exact marginal loss of the model in the box: its gradient, its laws and its curvature, on few traces."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bvpo_analysis import shipped_pairs, theory
from bvpo_analysis.errors import StudyError
from bvpo_analysis.estimators import EmptyTrace, Trace
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.objectives import DPO
from bvpo_analysis.sgd import marginal_loss
from bvpo_analysis.sgd.language_model import RunSettings, against_bounds, curvature, run, start_weights
from bvpo_analysis.sgd.marginal_loss import MarginalLoss

TRACES = 3


@pytest.fixture(scope="module")
def loss(lrm64) -> MarginalLoss:
    """Two prompts with three of their traces each, in float64."""
    return MarginalLoss(lrm64, shipped_pairs("correct", limit=2), DPO(0.5), lambda pair: shipped_traces(pair)[:TRACES])


@pytest.fixture(scope="module")
def moved(loss):
    """A point off the reference, along the gradient and across it."""
    rng = np.random.default_rng(0)
    law = loss.at(loss.start).law()
    return loss.start - 0.02 * law.gradient + 1e-3 * rng.normal(size=len(loss.start))


def test_at_the_reference_the_loss_is_log_two_and_traces_are_unbiased(loss):
    """Catches a margin that is not zero at the reference, and prior weights in the law of the traces."""
    point = loss.at(loss.start)
    law = point.law()
    assert point.value == pytest.approx(np.log(2), rel=1e-12)
    assert loss.value(loss.start) == pytest.approx(np.log(2), rel=1e-12)
    assert np.linalg.norm(law.mean_t - law.gradient) < 1e-12 * np.linalg.norm(law.gradient)
    assert np.linalg.norm(law.mean_e - law.gradient) > 0.1 * np.linalg.norm(law.gradient)


def test_the_gradient_is_that_of_the_value(loss, moved):
    """Catches a gradient of another loss, or in another order of parameters: central differences along two vectors."""
    gradient = loss.at(moved).law().gradient
    rng = np.random.default_rng(1)
    for direction in (gradient / np.linalg.norm(gradient), rng.normal(size=len(gradient)) / np.sqrt(len(gradient))):
        # Values carry float32 rounding of the network, 1e-7, so the step is wide and the allowance that over the step.
        h = 2e-3
        slope = (loss.value(moved + h * direction) - loss.value(moved - h * direction)) / (2 * h)
        assert slope == pytest.approx(gradient @ direction, rel=1e-3, abs=1e-4)


def test_off_the_reference_the_trace_gradient_is_biased(loss, moved):
    """Catches an off-reference law that still uses the current posterior for the draws."""
    law = loss.at(moved).law()
    assert np.linalg.norm(law.mean_t - law.gradient) > 1e-4 * np.linalg.norm(law.gradient)


def test_the_law_is_that_of_the_draws(loss, moved):
    """Catches a missing data part of the variance, a trace part on the wrong scale, or a wrong batch size."""
    point, batch, alpha = loss.at(moved), 2, 0.7
    law = point.law()
    rng = np.random.default_rng(2)
    # A fixed choice of coordinates keeps 400 draws of 300 000 numbers small.
    keep = np.random.default_rng(3).choice(len(loss.start), size=3000, replace=False)
    draws = np.stack([point.draw(rng, alpha, batch)[keep] for _ in range(400)])
    n = len(draws)
    mean, spread = draws.mean(axis=0), draws.var(axis=0, ddof=1)
    assert np.sum((mean - law.mean(alpha)[keep]) ** 2) < 1.6 * spread.sum() / n
    units = []
    for pair, rows in zip(point.pairs, point.scores, strict=True):
        c = alpha * Trace(DPO(0.5)).coefficients(pair) + (1 - alpha) * EmptyTrace(DPO(0.5)).coefficients(pair)
        units.append((pair.weights / len(point.pairs), c @ rows.numpy()))
    weights, vectors = np.concatenate([w for w, _ in units]), np.concatenate([v for _, v in units])
    centre = weights @ vectors
    exact = weights @ (vectors - centre) ** 2 / batch
    assert law.variance(alpha, batch) == pytest.approx(exact.sum(), rel=1e-10)
    assert np.linalg.norm(centre - law.mean(alpha)) < 1e-10 * np.linalg.norm(centre)
    assert spread.sum() == pytest.approx(exact[keep].sum(), rel=0.15)


def test_moments_are_those_of_a_batch(loss, moved):
    """Catches biases divided by the batch size, and variances that are not."""
    law = loss.at(moved).law()
    one, four = law.moments(1), law.moments(4)
    for name, value in one.items():
        assert four[name] == pytest.approx(value if "bias" in name else value / 4, rel=1e-12)
    direct = float(theory.weighted_error_curve(0.3, **four))
    bias = law.mean(0.3) - law.gradient
    assert direct == pytest.approx(bias @ bias + law.variance(0.3, 4), rel=1e-10)


def test_the_hessian_product_is_the_derivative_of_the_gradient(loss, moved):
    """Catches a product at another point, and one that attention or a fused kernel gets wrong."""
    v = loss.at(moved).law().gradient
    v /= np.linalg.norm(v)
    h = 1e-3
    difference = (loss.at(moved + h * v).law().gradient - loss.at(moved - h * v).law().gradient) / (2 * h)
    product = loss.hessian_product(moved, v)
    assert np.linalg.norm(product - difference) < 1e-3 * np.linalg.norm(product)


def test_prompts_in_groups_make_the_same_loss(lrm64, loss, moved, monkeypatch):
    """Catches a group that is left out, counted twice, or weighted by its own size."""
    monkeypatch.setattr(marginal_loss, "PROMPTS_AT_ONCE", 1)
    one_by_one = MarginalLoss(
        lrm64, shipped_pairs("correct", limit=2), DPO(0.5), lambda pair: shipped_traces(pair)[:TRACES]
    )
    assert one_by_one.value(moved) == pytest.approx(loss.value(moved), rel=1e-6)
    v = np.random.default_rng(5).normal(size=len(moved))
    product, expected = one_by_one.hessian_product(moved, v), loss.hessian_product(moved, v)
    assert np.linalg.norm(product - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_run_repeats_itself_and_obeys_its_bound(loss):
    """Catches hidden randomness, and bounds on the wrong side: ten times the squared gradient must break them."""
    settings = RunSettings(prompts=2, batch_size=2, steps=1, draws=20)
    weights = start_weights(loss.at(loss.start).law(), settings.batch_size)
    assert list(weights) == ["g_e alone", "equal mix", "g_t alone", "alpha*"]
    begin = curvature(loss, loss.start)
    same = {"rule": "equal mix", "alpha": 0.5, "step_size": 0.1 / begin, "start_curvature": begin}
    found, again = run(loss, settings, **same), run(loss, settings, **same)
    assert found == again
    assert len(found.curvatures) == 2
    assert found.curvatures[0] == begin != found.curvatures[1]
    table = against_bounds(found, step_size=0.1 / begin)
    assert table["applies"].all()
    assert table["holds"].all()
    assert table["smoothness"].iloc[0] == pytest.approx(1.2 * max(found.curvatures))
    steep = tuple(replace(i, gradient_sq=10 * i.gradient_sq) for i in found.iterates)
    assert not against_bounds(replace(found, iterates=steep), step_size=0.1 / begin)["holds"].any()


def test_a_run_into_high_curvature_has_no_bound(loss):
    """Catches a bound that is applied beyond eta L = 1, and a missing bound that counts as broken."""
    found = run(loss, RunSettings(steps=1, draws=2), rule="g_t alone", alpha=1.0, step_size=0.01, start_curvature=1.0)
    table = against_bounds(replace(found, curvatures=(1.0, 200.0)), step_size=0.01)
    assert table["kappa"].iloc[0] == pytest.approx(2.4)
    assert not table["applies"].any()
    assert table["bound"].isna().all()
    assert table["holds"].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"prompts": 0}, "prompts must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"draws": 1}, "draws must be at least 2"),
        ({"kappa": 1.5}, r"kappa must be in \(0, 1\]"),
    ],
)
def test_settings_that_make_no_run(change, message):
    with pytest.raises(ValueError, match=message):
        RunSettings(**change)


def test_no_prompts_make_no_loss(lrm64):
    with pytest.raises(ValueError, match="pairs must not be empty"):
        MarginalLoss(lrm64, [], DPO(), shipped_traces)


def test_weights_that_are_not_finite_are_named(loss):
    with pytest.raises(StudyError, match="log pi"):
        loss.at(np.full_like(loss.start, np.nan))
    loss.at(loss.start)
    assert torch.isfinite(torch.tensor(loss.value(loss.start)))
