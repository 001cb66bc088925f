"""Intervals as solutions of their own equations, their shapes, and the limits in which they become textbook ones."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from bvpo_analysis.moments import (
    SquaredBiasNoise,
    bounded_ratio_set,
    fieller_set,
    intervals,
    jackknife_covariance,
    jackknife_estimate,
    leave_one_out_mean,
    leave_one_out_ustatistic,
    score_estimate,
)

SEEDS = st.integers(0, 2**32 - 1)


def t_squared(n: int) -> float:
    return stats.t.ppf(0.975, n - 1) ** 2


def squared_mean(x):
    """U-statistic of |E x|^2 from vectors [n, d], with its noise."""
    n, total = len(x), x.sum(axis=0)
    u = leave_one_out_ustatistic((x * x).sum(1), x @ total, x @ total)
    along, size = x @ (total / n), (total / n) @ (total / n)
    return u, SquaredBiasNoise(u, slope=float(4 * along.var(ddof=1) / size / n))


# --- plain jackknife -------------------------------------------------------------------------------------


def test_jackknife_of_a_mean_is_the_t_interval():
    """Catches a wrong standard error (s/sqrt(n)), quantile (t with n - 1) or centre."""
    x = np.random.default_rng(1).gamma(2.0, size=17)
    estimate = jackknife_estimate(leave_one_out_mean(x))
    se = x.std(ddof=1) / np.sqrt(17)
    assert estimate.value == pytest.approx(x.mean())
    assert estimate.se == pytest.approx(se, rel=1e-12)
    low, high = stats.t.interval(0.95, 16, x.mean(), se)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx((low, high), rel=1e-12)
    assert (estimate.n, estimate.method) == (17, "jackknife")


def test_jackknife_covariance_of_means_is_the_sample_covariance():
    """Catches covariances that lose their sign or their mean."""
    x = np.random.default_rng(2).normal(size=(3, 20))
    x[1] -= 2 * x[0]
    found = jackknife_covariance(*(leave_one_out_mean(row) for row in x))
    np.testing.assert_allclose(found, np.cov(x) / 20, rtol=1e-10)


def test_jackknife_of_a_ratio_agrees_with_the_delta_method():
    """Catches leave-one-out values of a mean of ratios (G56): within 5 % of the delta standard error at n = 400."""
    rng = np.random.default_rng(3)
    d = rng.gamma(4.0, size=400)
    top = 0.4 * d + rng.normal(size=400)
    ratio = leave_one_out_mean(top) / leave_one_out_mean(d)
    residual = top - ratio[0] * d
    delta = np.sqrt((residual**2).sum() / (400 * 399)) / d.mean()
    assert jackknife_estimate(ratio).se == pytest.approx(delta, rel=0.05)


def test_one_number_is_exact():
    """Catches an interval around a number that has no sampling error."""
    estimate = jackknife_estimate(np.array([2.0]))
    assert (estimate.se, estimate.ci_low, estimate.ci_high, estimate.method) == (0.0, 2.0, 2.0, "exact")


# --- Fieller ---------------------------------------------------------------------------------------------


def fieller_excess(a, numerator, denominator):
    """(N - aD)^2 - t^2 SE(N - aD)^2 from the replicates of the single statistic N - aD."""
    statistic = numerator - a * denominator
    return statistic[0] ** 2 - t_squared(len(statistic) - 1) * jackknife_covariance(statistic)[0, 0]


def ratio_sample(seed, mean, n=30):
    rng = np.random.default_rng(seed)
    d = rng.normal(mean, 1.0, n)
    return leave_one_out_mean(0.5 * d + rng.normal(0.3, 1.0, n)), leave_one_out_mean(d)


@given(SEEDS, st.floats(0.0, 2.0))
def test_fieller_ends_solve_their_equation_and_the_estimate_belongs(seed, mean):
    """Catches a sign of the covariance term, t for t^2, and ends in the wrong order."""
    numerator, denominator = ratio_sample(seed, mean)
    found = fieller_set(numerator, denominator)
    ratio = numerator[0] / denominator[0]
    if found.shape == "line":
        for a in (-1e3, -1.0, 0.0, ratio, 1.0, 1e3):
            assert fieller_excess(a, numerator, denominator) <= 0
        return
    assert found.low <= found.high
    inside = found.low <= ratio <= found.high
    assert inside if found.shape == "interval" else ratio <= found.low or ratio >= found.high
    for end in (found.low, found.high):
        scale = numerator[0] ** 2 + end**2 * denominator[0] ** 2 + 1e-3
        assert abs(fieller_excess(end, numerator, denominator)) <= 1e-8 * max(scale, end**2)
    middle, outside = (found.low + found.high) / 2, found.high + (found.high - found.low) + 1.0
    assume(found.high - found.low > 1e-9)
    inner, outer = (fieller_excess(a, numerator, denominator) for a in (middle, outside))
    assert (inner < 0 < outer) if found.shape == "interval" else (outer < 0 < inner)


@pytest.mark.parametrize(
    ("mean", "shift", "shape"), [(5.0, 1.0, "interval"), (0.05, 3.0, "complement"), (0.0, 0.0, "line")]
)
def test_fieller_shapes(mean, shift, shape):
    """Catches an interval reported although the denominator may be zero."""
    z = np.random.default_rng(4).normal(size=(2, 40))
    z -= z.mean(axis=1, keepdims=True)
    found = fieller_set(leave_one_out_mean(z[0] + shift), leave_one_out_mean(z[1] + mean))
    assert found.shape == shape
    assert np.isfinite([found.low, found.high]).all() == (shape != "line")


@pytest.mark.parametrize(("top", "low", "high"), [(3.0, 0.75, np.inf), (-3.0, -np.inf, -0.75), (0.0, -np.inf, np.inf)])
def test_fieller_half_line_when_the_denominator_is_just_significant(top, low, high, monkeypatch):
    """Catches a division by zero at a zero leading coefficient: (3 - 2a)^2 <= 4 a^2 is a >= 3/4."""
    monkeypatch.setattr(intervals, "_quantile", lambda n: 2.0)
    found = fieller_set(np.full(3, top), np.array([2.0, 1.0, 3.0]))
    assert found.shape == ("half-line" if top else "line")
    assert (found.low, found.high) == pytest.approx((low, high))


def test_fieller_of_proportional_statistics_is_a_point():
    """Catches a negative discriminant from rounding."""
    d = leave_one_out_mean(np.random.default_rng(5).normal(4.0, 1.0, 30))
    found = fieller_set(0.25 * d, d)
    assert found.shape == "interval"
    assert (found.low, found.high) == pytest.approx((0.25, 0.25), rel=1e-6)


def test_fieller_narrows_to_the_delta_interval():
    """Catches a set of the wrong width: with a precise denominator it is value -+ t SE."""
    numerator, denominator = ratio_sample(6, 50.0, n=200)
    found, plain = fieller_set(numerator, denominator), jackknife_estimate(numerator / denominator)
    assert (found.low, found.high) == pytest.approx((plain.ci_low, plain.ci_high), rel=1e-2)


def test_exact_inputs_have_no_confidence_set():
    """Catches a zero-width interval presented as a measured one."""
    with pytest.raises(ValueError, match="no sampling error"):
        fieller_set(np.array([1.0]), np.array([2.0]))


# --- score-type intervals --------------------------------------------------------------------------------


def test_score_interval_reduces_to_the_plain_one():
    """Catches a correction applied without cause: no noise, no slope, an exact number, an unmoved statistic."""
    x = np.random.default_rng(7).normal(size=(25, 4))
    f = leave_one_out_mean(x[:, 0])
    u, noise = squared_mean(x)
    plain = jackknife_estimate(f)
    assert score_estimate(f, None) == plain
    flat = score_estimate(f, SquaredBiasNoise(u, slope=0.0))
    assert (flat.ci_low, flat.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), rel=1e-12)
    constant = score_estimate(f, SquaredBiasNoise(np.ones_like(u), slope=1.0))
    assert (constant.ci_low, constant.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), rel=1e-12)
    assert score_estimate(np.array([3.0]), noise) == jackknife_estimate(np.array([3.0]))


@given(SEEDS, st.floats(0.0, 3.0), st.floats(-2.0, 2.0))
def test_score_interval_solves_its_equation(seed, mean, weight):
    """Catches a wrong place or sign of the slope: at both ends x^2 = t^2 (s^2 + w r^2 (4 lambda/n) x)."""
    x = np.random.default_rng(seed).normal(size=(40, 5)) + mean / np.sqrt(5)
    u, noise = squared_mean(x)
    f = weight * u + leave_one_out_mean(x[:, 0])
    s = jackknife_covariance(f, u)
    assume(s[0, 0] > 1e-12)
    w = s[0, 1] / s[1, 1]
    slope = w * (s[0, 1] ** 2 / (s[0, 0] * s[1, 1])) * noise.slope
    estimate = score_estimate(f, noise)
    assert estimate.ci_low <= estimate.value <= estimate.ci_high
    for end in (estimate.ci_low, estimate.ci_high):
        move = end - f[0]
        scale = t_squared(40) * (s[0, 0] + abs(slope * move)) + move**2
        assert abs(move**2 - t_squared(40) * (s[0, 0] + slope * move)) <= 1e-9 * scale
    assert (estimate.ci_high - estimate.value >= estimate.value - estimate.ci_low) == (slope >= 0)


def test_score_interval_of_a_squared_mean_covers_where_the_plain_one_does_not():
    """Catches a correction of no effect: near zero the plain interval misses from below. 800 samples of n = 60."""
    rng, n, d = np.random.default_rng(8), 60, 12
    truth = np.zeros(d)
    truth[0] = 0.15
    hits = np.zeros(2)
    for _ in range(800):
        u, noise = squared_mean(truth + rng.normal(size=(n, d)))
        for k, estimate in enumerate((jackknife_estimate(u), score_estimate(u, noise))):
            hits[k] += estimate.ci_low <= truth @ truth <= estimate.ci_high
    plain, score = hits / 800
    assert score >= 0.93 - 3 * np.sqrt(0.05 * 0.95 / 800), f"coverage {score:.3f} (plain {plain:.3f})"


# --- ratio with a squared bias in the denominator --------------------------------------------------------


def bounded_inputs(seed, mean, n=60, level=6.0):
    rng = np.random.default_rng(seed)
    _, noise = squared_mean(rng.normal(size=(n, 6)) + mean / np.sqrt(6))
    v = rng.gamma(level, size=n)
    return leave_one_out_mean(0.7 * v + rng.normal(size=n)), leave_one_out_mean(v), noise


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mean", [0.0, 0.3, 2.0])
def test_bounded_ratio_set_solves_its_equation_inside_the_bounds(seed, mean):
    """Catches a set beyond N/V, and ends where the hypothesis is not just rejected."""
    numerator, rest, noise = bounded_inputs(seed, mean)
    found = bounded_ratio_set(numerator, rest, noise)
    outer = fieller_set(numerator, rest)
    assert found.shape == "interval"
    assert min(0.0, outer.low) <= found.low <= found.high <= max(0.0, outer.high)
    u, t2 = noise.replicates, t_squared(60)
    for end, bound in ((found.low, min(0.0, outer.low)), (found.high, max(0.0, outer.high))):
        f = numerator - end * (u + rest)
        s = jackknife_covariance(f, u)
        w = s[0, 1] / s[1, 1]
        variance = s[0, 0] - w * (s[0, 1] ** 2 / (s[0, 0] * s[1, 1])) * noise.slope * f[0]
        if end != bound:
            assert f[0] ** 2 == pytest.approx(t2 * variance, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shrink", [1.0, 1e-3, 1e-6])
def test_bounded_ratio_set_is_the_span_of_all_accepted_ratios(seed, shrink):
    """Catches ends that are grid points, and a set that is lost between them when N and V are small beside |b|^2."""
    numerator, rest, noise = bounded_inputs(seed, 1.0)
    numerator, rest, u = shrink * numerator, shrink * rest, noise.replicates
    found = bounded_ratio_set(numerator, rest, noise)
    centre = numerator[0] / (u[0] + rest[0])
    assert found.low < centre < found.high
    a = centre + (found.high - found.low) * np.linspace(-3, 3, 60_001)
    s = jackknife_covariance(numerator, u + rest, u)
    f = numerator[0] - a * (u[0] + rest[0])
    variance = s[0, 0] - 2 * a * s[0, 1] + a**2 * s[1, 1]
    along = s[0, 2] - a * s[1, 2]
    slope = along / s[2, 2] * np.minimum(along**2 / (s[2, 2] * variance), 1) * noise.slope
    accepted = a[(f**2 <= t_squared(60) * (variance - slope * f)) & (a >= 0)]
    step = a[1] - a[0]
    assert (found.low, found.high) == pytest.approx((accepted[0], accepted[-1]), abs=2 * step)


def test_bounded_ratio_set_is_fieller_where_the_squared_bias_is_far_from_zero():
    """Catches a bound that binds without cause: with a large bias both sets agree."""
    numerator, rest, noise = bounded_inputs(1, 6.0, n=400)
    flat = SquaredBiasNoise(noise.replicates, slope=0.0)
    found, plain = bounded_ratio_set(numerator, rest, flat), fieller_set(numerator, rest + noise.replicates)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


def test_bounded_ratio_set_says_nothing_where_the_variance_may_be_zero():
    """Catches a bounded set from an insignificant denominator."""
    z = np.random.default_rng(9).normal(size=(2, 40))
    z -= z.mean(axis=1, keepdims=True)
    _, noise = squared_mean(np.random.default_rng(10).normal(size=(40, 3)))
    found = bounded_ratio_set(leave_one_out_mean(z[0]), leave_one_out_mean(z[1] + 0.01), noise)
    assert found.shape == "line"


@pytest.mark.parametrize("seed", [2, 5, 9, 16, 23])
def test_bounded_ratio_set_may_end_at_its_bounds(seed):
    """Catches an end looked for beyond the last accepted ratio: with U < 0 the bounds themselves are accepted."""
    rng = np.random.default_rng(seed)
    _, noise = squared_mean(rng.normal(size=(60, 6)))
    rest = leave_one_out_mean(rng.gamma(6.0, size=60))
    numerator = leave_one_out_mean(rng.normal(size=60))
    found, outer = bounded_ratio_set(numerator, rest, noise), fieller_set(numerator, rest)
    bounds = min(0.0, outer.low), max(0.0, outer.high)
    assert found.low == bounds[0] or found.high == bounds[1]
    assert found.shape == "interval"
    assert found.low < numerator[0] / rest[0] < found.high
