"""Weights by parameter group: shrinkage, coverage on average, gain, and agreement with the closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import theory
from bvpo_analysis.combining import realised_gain, shrunken_group_weights
from bvpo_analysis.moments import GradientLaw


def laws_of(rng, truth, distances, n=60, noise=1.0, common=0.0):
    """Laws of groups with known alpha_l and D_l, from per-prompt numerators that scatter around the truth."""
    shared = common * rng.normal(size=n)
    laws = {}
    for i, (alpha, d) in enumerate(zip(truth, distances, strict=True)):
        per_prompt = (1 - alpha) * d + d * (noise * rng.normal(size=n) + shared)
        mean = per_prompt.mean()
        top = np.concatenate([[mean], mean + (mean - per_prompt) / (n - 1)])
        zero, whole = np.zeros(n + 1), np.full(n + 1, d)
        laws[f"group {i}"] = GradientLaw(
            "population.B1.K1", zero, zero, zero, zero, zero, zero, zero, whole, whole, zero, whole, top
        )
    return laws


def test_without_noise_the_raw_weights_are_kept():
    """Catches shrinkage of what is known, and another common weight or gain than the closed form's."""
    rng = np.random.default_rng(0)
    truth, distances = rng.uniform(size=6), rng.uniform(0.5, 2.0, size=6)
    found = shrunken_group_weights(laws_of(rng, truth, distances, noise=1e-6))
    exact = theory.blockwise_gain(truth, distances)
    np.testing.assert_allclose([g.shrunken.value for g in found.groups], truth, atol=1e-6)
    assert found.common.value == pytest.approx(exact.pooled, abs=1e-6)
    assert found.gain.value == pytest.approx(exact.gain, rel=1e-4)
    assert all(g.trust > 0.999 for g in found.groups)
    assert found.spread > 0
    error = ((1 - 2 * exact.pooled + 2 * exact.pooled**2) * distances).sum()
    assert found.gain_share == pytest.approx(exact.gain / error, rel=1e-3)


def test_equal_weights_are_pooled():
    """Catches a spread estimated from noise alone: the noise-corrected gain is zero on average, trust is low."""
    rng = np.random.default_rng(1)
    gains, trusts = [], []
    for _ in range(200):
        found = shrunken_group_weights(laws_of(rng, np.full(8, 0.4), np.linspace(0.5, 2, 8)))
        gains.append(found.gain.value)
        trusts.append(np.mean([g.trust for g in found.groups]))
    assert abs(np.mean(gains)) < 4 * np.std(gains) / np.sqrt(200)
    assert np.median(trusts) < 0.35
    assert min(gains) < 0


@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_shrinking_loses_less_than_raw_and_than_one_weight(spread):
    """Catches shrinkage in the wrong direction or by the wrong variance: 200 data sets, paired."""
    rng = np.random.default_rng(2)
    distances = np.linspace(0.5, 2.0, 10)
    saved = {"raw": [], "common": []}
    covered = []
    for _ in range(200):
        truth = 0.5 + spread * rng.normal(size=10)
        found = shrunken_group_weights(laws_of(rng, truth, distances, common=0.5))
        shrunken = np.array([g.shrunken.value for g in found.groups])
        raw = np.array([g.raw.value for g in found.groups])
        gain = realised_gain(shrunken, truth, distances)
        saved["raw"].append(gain - realised_gain(raw, truth, distances))
        saved["common"].append(gain - realised_gain(np.full(10, found.common.value), truth, distances))
        covered += [g.shrunken.ci_low <= t <= g.shrunken.ci_high for g, t in zip(found.groups, truth, strict=True)]
    mean = {name: np.mean(values) for name, values in saved.items()}
    se = {name: np.std(values) / np.sqrt(200) for name, values in saved.items()}
    if spread < 0.1:  # below the noise of 0.13: much better than raw, and little worse than knowing that there is none
        assert mean["raw"] > 3 * se["raw"]
        assert mean["common"] > -mean["raw"] / 5
    else:
        assert mean["raw"] > -3 * se["raw"]
        assert mean["common"] > 3 * se["common"]
    assert np.mean(covered) > 0.92


def test_noisy_groups_are_trusted_less():
    """Catches one shrinkage factor for all groups."""
    rng = np.random.default_rng(3)
    laws = laws_of(rng, np.linspace(0, 1, 6), np.ones(6), noise=0.5)
    first = laws["group 0"]
    laws["group 0"] = replace(first, cov_t_diff=first.cov_t_diff[0] + 6 * (first.cov_t_diff - first.cov_t_diff[0]))
    found = shrunken_group_weights(laws)
    assert found.groups[0].trust < min(g.trust for g in found.groups[1:])
    inside = (found.groups[0].raw.value - found.groups[0].shrunken.value) * (
        found.groups[0].shrunken.value - found.common.value
    )
    assert inside >= 0


def test_groups_where_the_estimators_coincide_are_left_out():
    """Catches a division by D_l = 0."""
    rng = np.random.default_rng(4)
    laws = laws_of(rng, np.linspace(0, 1, 5), np.ones(5))
    zero = np.zeros_like(laws["group 2"].var_diff)
    laws["group 2"] = replace(laws["group 2"], var_diff=zero, cov_t_diff=zero)
    found = shrunken_group_weights(laws)
    assert found.left_out == ("group 2",)
    assert [g.group for g in found.groups] == ["group 0", "group 1", "group 3", "group 4"]
    assert sum(g.share for g in found.groups) == pytest.approx(1.0)


def test_refusals():
    """Catches a spread of three groups, exact laws, and groups of different prompts."""
    rng = np.random.default_rng(5)
    laws = laws_of(rng, np.linspace(0, 1, 3), np.ones(3))
    with pytest.raises(ValueError, match="at least four groups"):
        shrunken_group_weights(laws)
    with pytest.raises(ValueError, match="same prompts"):
        shrunken_group_weights({**laws, "other": laws_of(rng, [0.5], [1.0], n=10)["group 0"]})
    with pytest.raises(ValueError, match="kappa must be positive"):
        shrunken_group_weights(laws, 0.0)
