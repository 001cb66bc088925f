"""Oracles have the moments they state: by large samples, by enumeration, and by the package's own estimators."""

import numpy as np
import pytest

from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, mean_coefficients
from bvpo_analysis.objectives import DPO
from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.oracles import ConstantOracle
from bvpo_analysis.sgd.problems import Quadratic
from bvpo_analysis.sgd.reasoning import PreferenceData, ReasoningLoss, ReasoningOracle

CASES = {case.name: case for case in standard_cases()}
DRAWS = 200_000


@pytest.mark.parametrize("name", ["rotated quadratic", "quadratic, bounded noise", "reasoning model"])
def test_samples_have_the_stated_moments(name):
    """Catches biases and noises that are not those of the bounds: 5 SE on every mean and every second moment."""
    oracle = CASES[name].oracle
    x = oracle.problem.minimiser + 0.7
    pair = oracle.sample(np.broadcast_to(x, (DRAWS, len(x))), np.random.default_rng(3))
    law = oracle.law(x)
    error_t, error_e = pair.t - law.target - law.bias_t, pair.e - law.target - law.bias_e
    for error in (error_t, error_e):
        assert (np.abs(error.mean(axis=0)) <= 5 * error.std(axis=0) / np.sqrt(DRAWS)).all()
    for product, stated in (
        ((error_t**2).sum(axis=1), law.var_t),
        ((error_e**2).sum(axis=1), law.var_e),
        ((error_t * error_e).sum(axis=1), law.cov_te),
    ):
        se = product.std() / np.sqrt(DRAWS)
        assert se < 0.02 * float(law.var_t + law.var_e)  # power: an error of 10 % would show
        assert abs(product.mean() - stated) <= 5 * se
    outer = np.cov(error_t.T)
    assert np.abs(outer - oracle.covariance_t(x)).max() <= 0.03 * np.abs(outer).max()


def test_mixed_moments_are_those_of_the_mixed_sample():
    """Catches a wrong covariance term in the noise of the mix."""
    oracle = CASES["rotated quadratic"].oracle
    x, weight = np.ones(3), 0.3
    mixed = oracle.sample(np.broadcast_to(x, (DRAWS, 3)), np.random.default_rng(4)).mix(weight)
    law = oracle.law(x)
    assert law.noise_var(weight) == pytest.approx(np.trace(oracle.covariance_of_mix(weight)), rel=1e-12)
    assert law.noise_var(weight) == pytest.approx(mixed.var(axis=0).sum(), rel=0.02)
    assert law.bias_sq(weight) == pytest.approx((oracle.bias_of_mix(weight) ** 2).sum(), rel=1e-12)
    off = (mixed - law.target).mean(axis=0)
    np.testing.assert_allclose(off, oracle.bias_of_mix(weight), atol=5 * mixed.std() / np.sqrt(DRAWS))


def test_the_two_values_of_the_noise_are_skewed_with_unit_variance():
    """Catches a two-valued noise with the wrong probability."""
    line = Quadratic.diagonal("line", [1.0])
    oracle = ConstantOracle(line, np.zeros(1), np.zeros(1), np.diag([4.0, 0.0]), noise="two-atom")
    values, counts = np.unique(
        oracle.sample(np.zeros((10_000, 1)), np.random.default_rng(0)).t.round(9), return_counts=True
    )
    assert len(values) == 2
    assert sorted(np.abs(values)) == pytest.approx([2 / 3, 6.0])
    assert min(counts) / 10_000 == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("at", ["reference", "elsewhere"])
def test_the_reasoning_oracle_agrees_with_the_estimators(at):
    """Catches direct formulas that are not DPO's: biases, variance and covariance from enumerated log-linear models."""
    data = PreferenceData.random(np.random.default_rng(5), prompts=3, trace_spread=1.5, beta=0.7)
    oracle = ReasoningOracle(ReasoningLoss("r", data), batch_size=3)
    theta = data.reference if at == "reference" else data.reference + np.array([0.5, -0.8, 0.3])
    objective = DPO(data.beta)
    weights, rows_t, rows_e, target = [], [], [], 0.0
    for i in range(3):
        model = data.model(i)
        for pair, label in ((data.pairs[i], 1 - data.flip), (data.pairs[i][::-1], data.flip)):
            logs, scores = model.pair(theta, data.reference, int(pair[0]), int(pair[1]))
            target = target + label / 3 * mean_coefficients(Marginal(objective), logs) @ scores
            t = Trace(objective).coefficients(logs) @ scores
            for empty, other in ((data.empty_pairs[i], 1 - data.flip), (data.empty_pairs[i][::-1], data.flip)):
                empty_logs, empty_scores = model.pair(theta, data.reference, int(empty[0]), int(empty[1]))
                e = (EmptyTrace(objective).coefficients(empty_logs) @ empty_scores)[0]
                weights.append(label * other / 3 * logs.weights)
                rows_t.append(t)
                rows_e.append(np.broadcast_to(e, t.shape))
    p, t, e = np.concatenate(weights), np.concatenate(rows_t), np.concatenate(rows_e)
    assert p.sum() == pytest.approx(1.0)
    law = oracle.law(theta)
    np.testing.assert_allclose(law.target, target, atol=1e-12)
    np.testing.assert_allclose(law.bias_t, p @ t - target, atol=1e-12)
    np.testing.assert_allclose(law.bias_e, p @ e - target, atol=1e-12)
    t, e = t - p @ t, e - p @ e
    for stated, (a, b) in ((law.var_t, (t, t)), (law.var_e, (e, e)), (law.cov_te, (t, e))):
        assert stated == pytest.approx(p @ (a * b).sum(axis=1) / 3, abs=1e-12)
    np.testing.assert_allclose(oracle.covariance_t(theta), (p[:, None] * t).T @ t / 3, atol=1e-12)
    unbiased = np.linalg.norm(law.bias_t) < 1e-12
    assert unbiased == (at == "reference")
    assert np.linalg.norm(law.bias_e) > 0.01


def test_law_and_points_broadcast():
    """Catches moments that belong to another point of the batch."""
    oracle = CASES["reasoning model"].oracle
    x = np.random.default_rng(0).normal(size=(4, 3))
    together = oracle.law(x)
    for i in range(4):
        alone = oracle.law(x[i])
        np.testing.assert_allclose(together.bias_t[i], alone.bias_t, atol=1e-13)
        assert together.var_t[i] == pytest.approx(float(alone.var_t), rel=1e-12)
        assert together.cov_te[i] == pytest.approx(float(alone.cov_te), rel=1e-9, abs=1e-15)


LINE = Quadratic.diagonal("line", [1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantOracle(LINE, np.ones(2), np.ones(1), np.eye(2)), "bias_t must have 1 coordinates"),
        (lambda: ConstantOracle(LINE, np.ones(1), np.array([np.inf]), np.eye(2)), "bias_e must be finite"),
        (
            lambda: ConstantOracle(LINE, np.ones(1), np.ones(1), np.eye(3)),
            r"noise_cov must be a finite matrix \[2, 2\]",
        ),
        (lambda: ConstantOracle(LINE, np.ones(1), np.ones(1), np.array([[1, 2.0], [2, 1]])), "semidefinite"),
        (lambda: ConstantOracle(LINE, np.ones(1), np.ones(1), np.array([[1, 0.5], [0, 1]])), "symmetric"),
        (lambda: ConstantOracle(LINE, np.ones(1), np.ones(1), np.eye(2), noise="levy"), "noise must be"),
        (lambda: ReasoningOracle(CASES["reasoning model"].oracle.problem, 0), "batch_size must be at least 1"),
        (lambda: PreferenceData.random(np.random.default_rng(0), flip=0.0), "no minimiser"),
        (lambda: PreferenceData.random(np.random.default_rng(0), beta=-1.0), "beta must be a positive number"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
