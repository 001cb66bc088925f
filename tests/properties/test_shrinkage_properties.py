"""Invariants of James-Stein weights: their range, exact risks, and dominance in a paired simulation (G65, G66)."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import ENTRIES, REL

from bvpo_analysis.theory.shrinkage import (
    exact_risk,
    isotropic_risk,
    risk_bound,
    shrinkage_spectrum,
    shrinkage_weight,
)

SIZES = st.one_of(st.just(0.0), st.floats(-6.0, 6.0).map(lambda x: 10.0**x))


@given(st.one_of(SIZES, SIZES.map(lambda x: -x)), SIZES)
def test_g65_the_weight_is_the_positive_part(c, z):
    """Catches a weight outside [0, 1], 0/0 at Z = 0, and shrinking where c <= 0 says not to."""
    alpha = float(shrinkage_weight(c, z))
    if c <= 0:
        assert alpha == 1.0
    elif z == 0:
        assert alpha == 0.0
    else:
        assert 0.0 <= alpha <= 1.0
        assert abs(alpha - max(0.0, 1 - c / z)) <= 1e-15
        assert float(shrinkage_weight(c, 1e3 * max(c, z))) >= 0.999


@given(SIZES, SIZES, SIZES)
def test_g65_the_weight_grows_with_the_distance_and_falls_with_the_constant(c, z, more):
    """Catches c and |Z|^2 swapped."""
    assert float(shrinkage_weight(c, z + more)) >= float(shrinkage_weight(c, z))
    assert float(shrinkage_weight(c + more, z)) <= float(shrinkage_weight(c, z))


P, DRAWS = 20, 100_000
BIASES = (0.0, 1.0, 10.0, 100.0)


def _paired_differences(alpha_of, norm: float) -> np.ndarray:
    """|g_c - mu|^2 - |g_t - mu|^2 over the same draws of g_t ~ N(mu, I), with |b_e| = norm; mu = 0."""
    t = np.random.default_rng(66).normal(size=(DRAWS, P))
    e = np.zeros(P)
    e[0] = norm
    z = t - e
    mixed = e + alpha_of((z**2).sum(axis=1))[:, None] * z
    return (mixed**2).sum(axis=1) - (t**2).sum(axis=1)


@pytest.mark.parametrize("norm", BIASES)
def test_g66_the_james_stein_weight_beats_the_trace_gradient_at_every_bias(norm):
    """Catches a weight on the wrong estimator or a constant beyond its limit.

    Paired, so that the noise of g_t cancels: the expected difference is at least 20 standard errors below zero at
    every bias, and a true zero would pass with probability 0.0013.
    """
    c = shrinkage_spectrum(np.ones(P)).constant
    difference = _paired_differences(lambda z: shrinkage_weight(c, z), norm)
    assert difference.mean() + 3 * difference.std(ddof=1) / np.sqrt(DRAWS) < 0


@pytest.mark.parametrize("norm", BIASES)
def test_g66_the_saving_without_positive_part_is_the_exact_one(norm):
    """Catches a wrong risk formula at any bias; 5 standard errors, a false alarm in 1.7 million."""
    c = shrinkage_spectrum(np.ones(P)).constant
    difference = _paired_differences(lambda z: 1 - c / z, norm)
    se = difference.std(ddof=1) / np.sqrt(DRAWS)
    expected = float(isotropic_risk(P, 1.0, norm**2)) - P
    assert abs(difference.mean() - expected) < 5 * se
    assert abs(expected) > 20 * se


def test_g66_a_constant_weight_does_not():
    """Guards the test itself: the same simulation refutes alpha = 1/2 at |b_e| = 10 and 100."""
    for norm in (10.0, 100.0):
        difference = _paired_differences(lambda z: np.full(len(z), 0.5), norm)
        assert difference.mean() - 3 * difference.std(ddof=1) / np.sqrt(DRAWS) > 0


@st.composite
def spectra(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [p] between 1e-3 and 1e3, and a bias of any size, 3 to 8 dimensions."""
    p = draw(st.integers(3, 8))
    values = 10.0 ** draw(hnp.arrays(float, p, elements=st.floats(-3.0, 3.0)))
    return values, draw(hnp.arrays(float, p, elements=ENTRIES))


@settings(max_examples=60)
@given(spectra(), st.floats(0.01, 1.99))
def test_g66_inside_the_interval_the_exact_risk_is_below_that_of_the_trace_gradient(spectrum, fraction):
    """Catches a wrong interval or bound, exactly and for anisotropic noise: risk <= bound < Tr S."""
    values, bias = spectrum
    summary = shrinkage_spectrum(values)
    assume(summary.effective_rank > 2.01)
    c = fraction * summary.constant
    risk, bound = exact_risk(values, bias, c), risk_bound(values, bias, c)
    assert risk <= bound + REL * summary.trace
    assert bound < summary.trace * (1 + 1e-12)
    if summary.trace > 1e-6 * float(bias @ bias):
        assert bound < summary.trace


@settings(max_examples=60)
@given(spectra(), st.floats(0.001, 10.0))
def test_g66_below_effective_rank_two_every_constant_fails_somewhere(spectrum, fraction):
    """Catches an unconditional claim: far out along the largest eigenvector the risk exceeds Tr S for each c > 0."""
    values, _ = spectrum
    summary = shrinkage_spectrum(values)
    assume(summary.effective_rank < 1.99)
    bias = np.zeros(len(values))
    bias[values.argmax()] = 30.0 * np.sqrt(summary.trace / (2.0 - summary.effective_rank))
    c = fraction * summary.trace
    assert exact_risk(values, bias, c) > summary.trace
    assert exact_risk(values, bias) == summary.trace
