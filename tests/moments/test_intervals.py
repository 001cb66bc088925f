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
    profile_estimate,
    score_estimate,
    squared_bias_noise,
)

SEEDS = st.integers(0, 2**32 - 1)


def t_squared(n: int) -> float:
    return stats.t.ppf(0.975, n - 1) ** 2


def squared_mean(x):
    """U-statistic of |E x|^2 from vectors [n, d], with its noise."""
    own, with_total = (x * x).sum(1), x @ x.sum(axis=0)
    u = leave_one_out_ustatistic(own, with_total, with_total)
    return u, squared_bias_noise(u, own, with_total, x)


def normal_noise(u):
    """A law of U that is normal, with the jackknife variance at every |b|^2."""
    return SquaredBiasNoise(u, constant=float(jackknife_covariance(u)[0, 0]), linear=0.0, slope=0.0, third=0.0)


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


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_fieller_of_proportional_statistics_is_a_point_in_any_unit(scale):
    """Catches a sign test of the quadratic coefficient that depends on the unit of the numbers."""
    d = scale * leave_one_out_mean(np.array([1.0, 1.1, 0.9, 1.05]))
    found = fieller_set(2 * d, d)
    assert found.shape == "interval"
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0)


def test_fieller_narrows_to_the_delta_interval():
    """Catches a set of the wrong width: with a precise denominator it is value -+ t SE."""
    numerator, denominator = ratio_sample(6, 50.0, n=200)
    found, plain = fieller_set(numerator, denominator), jackknife_estimate(numerator / denominator)
    assert (found.low, found.high) == pytest.approx((plain.ci_low, plain.ci_high), rel=1e-2)


def test_exact_inputs_have_no_confidence_set():
    """Catches a zero-width interval presented as a measured one."""
    with pytest.raises(ValueError, match="no sampling error"):
        fieller_set(np.array([1.0]), np.array([2.0]))


# --- a squared bias --------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.0, 1.0), st.floats(0.1, 3.0))
def test_both_ends_of_the_interval_of_a_squared_bias_solve_their_equation(seed, mean, spike):
    """Catches quantiles of the wrong tail, the law at the estimate instead of at the hypothesis, and ends swapped."""
    x = np.random.default_rng(seed).normal(size=(40, 5)) * [spike, 1, 1, 1, 1] + mean
    u, noise = squared_mean(x)
    low, high = noise.interval
    assert low < u[0] < high
    stretch = np.sqrt(t_squared(40)) / stats.norm.ppf(0.975)
    for end, probability in ((low, 0.975), (high, 0.025)):
        at = max(end, 0.0)
        skew = noise.skewness(at)
        quantile = stretch * stats.pearson3.ppf(probability, skew)
        assert u[0] - end == pytest.approx(quantile * np.sqrt(noise.variance(at)), rel=1e-6)


def test_the_law_of_a_squared_bias_at_the_hypothesis():
    """Catches a slope that starts elsewhere than at the estimate, a negative variance, and a wrong cumulant."""
    noise = SquaredBiasNoise(np.array([2.0, 1.0, 3.0]), constant=0.5, linear=-0.25, slope=0.125, third=0.3)
    assert noise.variance(2.0) == 0.5
    assert noise.variance(0.0) == 0.5
    assert noise.variance(6.0) == pytest.approx(0.5 - 0.25 + 0.125 * 4)
    assert noise.skewness(0.0) == pytest.approx(0.3 / 0.5**1.5)
    assert noise.skewness(6.0) == pytest.approx((0.3 + 1.5 * 0.125 * 0.25) / 0.75**1.5)


def test_a_squared_bias_without_noise_is_known():
    """Catches 0/0, and a search that does not end."""
    u = np.full(9, 0.3)
    assert SquaredBiasNoise(u, 0.0, 0.0, 0.0, 0.0).interval == (0.3, 0.3)


@pytest.mark.parametrize("spike", [1.0, 4.0], ids=["flat", "spiked"])
@pytest.mark.parametrize("mean", [0.0, 0.15, 0.6], ids=["zero", "small", "clear"])
@pytest.mark.parametrize("along", [0, 1], ids=["along the spike", "beside it"])
def test_the_interval_of_a_squared_bias_covers(spike, mean, along):
    """Catches an interval that misses, or wastes width: 600 samples of n = 60, normal and skewed coordinates.

    The bounds leave 2 points for the finite sample and 3 Monte Carlo standard errors on either side.
    """
    rng, n, d = np.random.default_rng(8), 60, 12
    truth = np.zeros(d)
    truth[along] = mean
    scale = np.ones(d)
    scale[0] = spike
    hits = 0
    for _ in range(600):
        x = rng.normal(size=(n, d))
        x[:, ::2] = rng.gamma(4.0, size=(n, d // 2)) / 2 - 2
        low, high = squared_mean(truth + x * scale)[1].interval
        hits += low <= truth @ truth <= high
    slack = 0.02 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert abs(hits / 600 - 0.95) <= slack, f"coverage {hits / 600:.3f}"


# --- statistics that contain a squared bias --------------------------------------------------------------


def test_score_interval_reduces_to_the_plain_one():
    """Catches a correction applied without cause: no noise, no weight, a normal law of U, an exact number."""
    x = np.random.default_rng(7).normal(size=(25, 4))
    f = leave_one_out_mean(x[:, 0])
    u, noise = squared_mean(x)
    plain = jackknife_estimate(f)
    assert score_estimate(f, None) == plain
    for other in (score_estimate(f, noise, weight=0.0), score_estimate(f, normal_noise(u), weight=-0.7)):
        assert (other.ci_low, other.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), rel=1e-9)
        assert (other.value, other.se, other.n, other.method) == (plain.value, plain.se, 25, "score-jackknife")
    assert score_estimate(np.array([3.0]), noise) == jackknife_estimate(np.array([3.0]))


@pytest.mark.parametrize("weight", [2.5, -0.4])
def test_the_interval_of_a_multiple_of_a_squared_bias_is_its_multiple(weight):
    """Catches ends that do not swap with the sign, a weight that is squared, and one that is not found if not given."""
    u, noise = squared_mean(np.random.default_rng(11).normal(size=(30, 4)) + 0.2)
    expected = sorted(weight * np.array(noise.interval))
    for given_weight in (None, weight):
        found = score_estimate(weight * u, noise, given_weight)
        assert (found.ci_low, found.ci_high) == pytest.approx(tuple(expected), rel=1e-9)


@given(SEEDS, st.floats(0.0, 1.0), st.floats(-2.0, 2.0))
def test_score_interval_combines_the_margins(seed, mean, weight):
    """Catches a lost correlation or its sign, and margins of U taken on the wrong side."""
    x = np.random.default_rng(seed).normal(size=(40, 5)) + mean
    u, noise = squared_mean(x)
    h = leave_one_out_mean(x[:, 0] ** 2)
    found = score_estimate(weight * u + h, noise, weight)
    s = jackknife_covariance(h, u)
    t = np.sqrt(t_squared(40))
    rho = np.clip(s[0, 1] / np.sqrt(s[0, 0] * noise.variance(u[0])), -1, 1)
    low, high = noise.interval
    below, above = (u[0] - low, high - u[0]) if weight >= 0 else (high - u[0], u[0] - low)
    for margin, own in ((found.value - found.ci_low, below), (found.ci_high - found.value, above)):
        rest = t * np.sqrt(s[0, 0])
        expected = rest**2 + (weight * own) ** 2 + 2 * rho * weight * own * rest
        assert margin**2 == pytest.approx(expected, rel=1e-6, abs=1e-9 * rest**2)


@pytest.mark.parametrize("weight", [1.5, -0.5])
def test_profile_of_a_linear_function_is_the_score_interval(weight):
    """Catches an end of the range taken from the other side, and a correlation with the wrong sign."""
    x = np.random.default_rng(12).normal(size=(40, 5)) + 1.0
    u, noise = squared_mean(x)
    assert noise.interval[0] > 0
    h = leave_one_out_mean(x[:, 0])
    found, expected = profile_estimate(lambda b: weight * b + h, noise), score_estimate(weight * u + h, noise, weight)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.ci_low, expected.ci_high), rel=2e-3)
    assert (found.value, found.se) == pytest.approx((expected.value, expected.se))
    assert found.method == "profile-jackknife"


def test_profile_sees_an_extremum_inside_the_interval():
    """Catches a linearisation where the slope vanishes: (|b|^2 - U)^2 is 0 at the estimate, and up to m^2 beside it."""
    u, noise = squared_mean(np.random.default_rng(13).normal(size=(40, 5)) + 1.0)
    rest = 1e-9 * leave_one_out_mean(np.random.default_rng(14).normal(size=40))
    centre = u[0]
    found = profile_estimate(lambda b: (b - centre) ** 2 + rest, noise)
    reach = max(centre - noise.interval[0], noise.interval[1] - centre)
    assert found.ci_high == pytest.approx(reach**2, rel=1e-6)
    assert found.ci_low == pytest.approx(0.0, abs=1e-8)


def test_profile_keeps_to_what_a_squared_bias_can_be():
    """Catches negative values of |b|^2 handed to a function that is not defined there."""
    x = np.random.default_rng(15).normal(size=(40, 5))
    u, noise = squared_mean(x - x.mean(axis=0))
    assert u[0] < 0
    seen = []

    def root(b):
        seen.append(np.min(b))
        return np.sqrt(np.maximum(b, 0.0)) + 0 * u

    found = profile_estimate(root, noise)
    assert min(seen[1:]) >= 0.0
    assert found.ci_low == pytest.approx(0.0, abs=1e-12)
    assert found.ci_high == pytest.approx(np.sqrt(max(noise.interval[1], 0.0)))


def test_profile_of_an_exact_number_is_exact():
    """Catches an interval around a number that has no sampling error."""
    assert profile_estimate(lambda _: np.array([2.0]), None) == jackknife_estimate(np.array([2.0]))


# --- ratio with a squared bias in the denominator --------------------------------------------------------


def bounded_inputs(seed, mean, n=60, level=6.0):
    rng = np.random.default_rng(seed)
    _, noise = squared_mean(rng.normal(size=(n, 6)) + mean / np.sqrt(6))
    v = rng.gamma(level, size=n)
    return leave_one_out_mean(0.7 * v + rng.normal(size=n)), leave_one_out_mean(v), noise


def hypothesis(a, numerator, rest, noise, weight):
    """The interval of N - a (V + w U)."""
    return score_estimate(numerator - a * (rest + weight * noise.replicates), noise, -a * weight)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mean", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_bounded_ratio_set_solves_its_equation_inside_the_bounds(seed, mean, weight):
    """Catches a set beyond N/V, and ends where the hypothesis is not just rejected."""
    numerator, rest, noise = bounded_inputs(seed, mean)
    found = bounded_ratio_set(numerator, rest, noise, weight)
    outer = fieller_set(numerator, rest)
    assert found.shape == "interval"
    assert min(0.0, outer.low) <= found.low <= found.high <= max(0.0, outer.high)
    for end, bound in ((found.low, min(0.0, outer.low)), (found.high, max(0.0, outer.high))):
        if end != bound:
            estimate = hypothesis(end, numerator, rest, noise, weight)
            nearest = min(abs(estimate.ci_low), abs(estimate.ci_high))
            assert nearest <= 1e-6 * (estimate.ci_high - estimate.ci_low)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shrink", [1.0, 1e-3, 1e-6])
def test_bounded_ratio_set_is_the_span_of_all_accepted_ratios(seed, shrink):
    """Catches ends that are grid points, and a set that is lost between them when N and V are small beside |b|^2."""
    numerator, rest, noise = bounded_inputs(seed, 1.0)
    numerator, rest = shrink * numerator, shrink * rest
    found = bounded_ratio_set(numerator, rest, noise, 0.9)
    centre = numerator[0] / (0.9 * noise.replicates[0] + rest[0])
    assert found.low < centre < found.high
    grid = centre + (found.high - found.low) * np.linspace(-1.5, 1.5, 601)
    inside = [h.ci_low <= 0 <= h.ci_high for h in (hypothesis(a, numerator, rest, noise, 0.9) for a in grid)]
    accepted = grid[np.array(inside) & (grid >= 0)]
    assert (found.low, found.high) == pytest.approx((accepted[0], accepted[-1]), abs=2 * (grid[1] - grid[0]))


def test_bounded_ratio_set_is_fieller_where_the_squared_bias_is_far_from_zero():
    """Catches a bound that binds without cause: with a large bias and a normal law both sets agree."""
    numerator, rest, noise = bounded_inputs(1, 6.0, n=400)
    flat = normal_noise(noise.replicates)
    found, plain = bounded_ratio_set(numerator, rest, flat), fieller_set(numerator, rest + noise.replicates)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-6)


@pytest.mark.parametrize("weight", [0.0, -0.5])
def test_without_a_squared_bias_in_the_denominator_the_set_is_fieller(weight):
    """Catches bounds that need a positive weight."""
    numerator, rest, noise = bounded_inputs(2, 1.0)
    assert bounded_ratio_set(numerator, rest, noise, weight) == fieller_set(numerator, rest + weight * noise.replicates)


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
