"""Decisions from measured laws: optimal weight, error parts, regret, and what an empty trace is worth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bvpo_analysis import mixing, theory
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import (
    GradientLaw,
    enumerated_moments,
    fieller_set,
    jackknife_estimate,
    leave_one_out_mean,
    population_moments,
)
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
ESTIMATORS = TRACE, EMPTY, MARGINAL = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)
FORM = ("bias_t_sq", "bias_e_sq", "bias_inner", "var_t", "var_e", "cov_te")


def exact_law(t, e, mu, *, trace_share=0.5) -> GradientLaw:
    """The law of equally likely joint values t, e [n, d] against mu [d]; a fixed share of Var(g_t) is trace noise."""

    def cov(x, y):
        return np.array([((x - x.mean(0)) * (y - y.mean(0))).sum(axis=1).mean()])

    def dot(x, y):
        return np.array([x @ y])

    bt, be, shift = t.mean(0) - mu, e.mean(0) - mu, (t - e).mean(0)
    return GradientLaw(
        target="test",
        bias_t_sq=dot(bt, bt),
        bias_e_sq=dot(be, be),
        bias_inner=dot(bt, be),
        bias_diff_sq=dot(shift, shift),
        bias_t_diff=dot(bt, shift),
        var_t_data=(1 - trace_share) * cov(t, t),
        var_t_trace=trace_share * cov(t, t),
        var_t=cov(t, t),
        var_e=cov(e, e),
        cov_te=cov(t, e),
        var_diff=cov(t - e, t - e),
        cov_t_diff=cov(t, t - e),
    )


def random_law(seed) -> GradientLaw:
    rng = np.random.default_rng(seed)
    return exact_law(rng.normal(size=(6, 3)), 0.7 * rng.normal(size=(6, 3)) + rng.normal(size=3), rng.normal(size=3))


def least_error(law, kappa=1.0):
    """The error at the recommended weight."""
    return mixing.error(law, mixing.recommended_weights(law, kappa), kappa)


def form(law) -> dict[str, float]:
    return {name: float(getattr(law, name)[0]) for name in FORM}


@pytest.fixture(scope="module")
def moments(by_hand):
    """Exact moments at the reference, where b_t = 0."""
    rng = np.random.default_rng(2)
    pairs = [by_hand.pair(rng, 2) for _ in range(4)]
    vectors = [rng.normal(size=(6, 4)) for _ in pairs]
    return enumerated_moments(by_hand.scores(pairs, vectors, *ESTIMATORS), *ESTIMATORS)


@pytest.fixture(scope="module")
def measured(by_hand):
    """Moments of 24 prompts with three sampled traces each, with replicates."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(6, 4))
    pairs, vectors = [], []
    for _ in range(24):
        pair = by_hand.pair(rng, 2)
        pairs.append(by_hand.sampled(pair, np.stack([rng.choice(side, 3) for side in pair.support], axis=1)))
        vectors.append(rng.normal(size=(6, 4)) + common)
    return population_moments(by_hand.scores(pairs, vectors, TRACE, EMPTY), TRACE, EMPTY)


SEEDS, KAPPAS = st.integers(0, 2**32 - 1), st.floats(-2, 1).map(lambda x: 10.0**x)


# --- the optimal weight ----------------------------------------------------------------------------------


@given(SEEDS, KAPPAS)
def test_optimal_alpha_of_an_exact_law_is_the_closed_form(seed, kappa):
    """Catches kappa on the bias, a lost minus of the dual form, and an interval around an exact number."""
    law = random_law(seed)
    alpha = mixing.optimal_alpha(law, kappa)
    expected = float(theory.weighted_optimal_weight(**form(law), kappa=kappa))
    assert alpha.estimate.value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert alpha.estimate.method == "exact"
    assert alpha.estimate.ci_low == alpha.estimate.ci_high == alpha.estimate.value
    assert alpha.recommended == alpha.recommended_low == alpha.recommended_high == np.clip(alpha.estimate.value, 0, 1)
    assert not alpha.degenerate


def test_the_name_holds_target_and_kappa(moments):
    """Catches a weight that cannot be told from another one."""
    assert mixing.optimal_alpha(moments.population(32, 2), 0.25).name == "alpha_star.population.B32.K2.kappa0.25"
    assert mixing.optimal_alpha(moments.per_prompt(4)).name == "alpha_star.per_prompt.K4.kappa1"


def test_the_recommendation_is_clipped_and_the_estimate_is_not():
    """Catches clipping of the reported estimate, and a recommendation that extrapolates."""
    t = np.array([[1.0, 0.0], [-1.0, 0.0]])
    beyond = mixing.optimal_alpha(exact_law(t, 2 * t, np.zeros(2)))
    below = mixing.optimal_alpha(exact_law(2 * t, t, np.zeros(2)))
    assert (beyond.estimate.value, beyond.recommended) == pytest.approx((2.0, 1.0))
    assert (below.estimate.value, below.recommended) == pytest.approx((-1.0, 0.0))
    assert (beyond.recommended_low, beyond.recommended_high) == (1.0, 1.0)


def test_near_identical_estimators_are_not_degenerate():
    """Catches D formed as A + C - 2B: at a relative difference of 1e-8 only differences keep their digits (G12)."""
    rng = np.random.default_rng(4)
    e, mu = rng.normal(size=(5, 3)), rng.normal(size=3)
    t = e + 1e-8 * rng.normal(size=e.shape)
    law = exact_law(t, e, mu)
    expected = 1 - ((t - mu) * (t - e)).sum() / ((t - e) ** 2).sum()
    alpha = mixing.optimal_alpha(law)
    assert not alpha.degenerate
    assert alpha.estimate.value == pytest.approx(expected, rel=1e-6)


def test_identical_estimators_are_flagged():
    """Catches 0/0 passed on as a number with an interval (G11)."""
    x = np.random.default_rng(5).normal(size=(5, 3))
    alpha = mixing.optimal_alpha(exact_law(x, x, np.zeros(3)))
    assert alpha.degenerate
    assert alpha.recommended == 0.5
    assert (alpha.recommended_low, alpha.recommended_high, alpha.confidence_set) == (0.0, 1.0, "line")
    assert alpha.estimate.method == "degenerate"


@pytest.mark.parametrize("kappa", [0.0, -1.0, np.nan])
def test_kappa_must_be_positive(kappa, moments):
    """Catches an optimum for a step that does not exist, and nan that passes a comparison."""
    with pytest.raises(ValueError, match="kappa must be positive"):
        mixing.optimal_alpha(moments.population(1), kappa)


def test_a_non_finite_law_raises():
    """Catches NaN that becomes a weight (G13)."""
    law = replace(random_law(6), bias_t_diff=np.array([np.nan]))
    with pytest.raises(ValueError, match="must be finite"):
        mixing.optimal_alpha(law)


@pytest.mark.parametrize("kappa", [1.0, 0.1])
@pytest.mark.parametrize("target", ["population", "per_prompt"])
def test_measured_weights_come_with_a_set_around_them(target, kappa, measured):
    """Catches ends that are not mirrored by alpha = 1 - N/D, and clipped ends that are not those of the set."""
    law = measured.population(4) if target == "population" else measured.per_prompt()
    alpha = mixing.optimal_alpha(law, kappa)
    weights = mixing.weight_replicates(law, kappa)
    assert len(weights) == 25
    assert alpha.estimate.value == weights[0]
    assert alpha.estimate.se == pytest.approx(jackknife_estimate(weights).se)
    assert alpha.estimate.n == 24
    assert alpha.confidence_set == "interval"
    assert alpha.estimate.ci_low < alpha.estimate.value < alpha.estimate.ci_high
    ends = np.clip([alpha.estimate.ci_low, alpha.estimate.ci_high], 0, 1)
    assert (alpha.recommended_low, alpha.recommended_high) == pytest.approx(tuple(ends))
    if target == "per_prompt":
        spread = kappa * measured.trace_var
        found = fieller_set(spread, measured.prompt_bias_e_sq + spread)
        assert (1 - alpha.estimate.ci_high, 1 - alpha.estimate.ci_low) == pytest.approx((found.low, found.high))


def test_replicates_are_weights_without_one_prompt(measured):
    """Catches a mean of leave-one-out weights, and replicates that share the full-sample denominator."""
    law = measured.population(4)
    weights = mixing.weight_replicates(law, 0.5)
    for i in (0, 1, 24):
        one = {name: getattr(law, name)[[i]] for name in ("bias_t_diff", "cov_t_diff", "bias_diff_sq", "var_diff")}
        numerator = one["bias_t_diff"] + 0.5 * one["cov_t_diff"]
        distance = np.maximum(one["bias_diff_sq"], 0) + 0.5 * one["var_diff"]
        assert weights[i] == pytest.approx(1 - numerator[0] / distance[0], rel=1e-12)


# --- errors ----------------------------------------------------------------------------------------------


@given(SEEDS, KAPPAS, st.floats(-1.0, 2.0))
def test_error_parts_sum_to_the_curve(seed, kappa, alpha):
    """Catches a part counted twice, kappa on the bias, and alpha for alpha^2 on the trace part."""
    law = random_law(seed)
    parts = mixing.error_parts(law, alpha, kappa)
    expected = float(theory.weighted_error_curve(alpha, **form(law), kappa=kappa))
    assert parts.total[0] == pytest.approx(expected, rel=1e-10)
    assert (parts.bias_sq + parts.trace_var + parts.data_var)[0] == pytest.approx(parts.total[0], rel=1e-10)
    assert parts.trace_var[0] == pytest.approx(kappa * alpha**2 * law.var_t_trace[0])
    assert mixing.error(law, alpha, kappa).value == parts.total[0]


def test_without_the_split_the_total_is_known_and_the_parts_are_not():
    """Catches a total that turns nan, or parts that pretend, with one trace per answer."""
    unknown = np.array([np.nan])
    law = replace(random_law(7), var_t_data=unknown, var_t_trace=unknown)
    parts = mixing.error_parts(law, 0.4)
    assert np.isnan([parts.trace_var[0], parts.data_var[0]]).all()
    assert parts.total[0] == pytest.approx(float(theory.weighted_error_curve(0.4, **form(law))))


@given(SEEDS, KAPPAS)
def test_error_at_the_optimum_is_the_least_and_regret_its_price(seed, kappa):
    """Catches an optimum of another kappa, and a regret relative to F(alpha) for F*."""
    law = random_law(seed)
    least = least_error(law, kappa).value
    grid = np.linspace(0, 1, 41)
    errors = np.array([mixing.error(law, float(a), kappa).value for a in grid])
    assert (errors >= least * (1 - 1e-12)).all()
    best = mixing.optimal_alpha(law, kappa)
    assert mixing.error(law, best.recommended, kappa).value == pytest.approx(least, rel=1e-12)
    for a, f in zip(grid[::10], errors[::10], strict=True):
        assert mixing.relative_regret(law, float(a), kappa).value == pytest.approx((f - least) / least, abs=1e-9)
    assert mixing.batch_size_equivalent(law, kappa).value == pytest.approx(errors[-1] / least, rel=1e-9)
    inside = 0 <= best.estimate.value <= 1
    if inside:
        distance = law.bias_diff_sq[0] + kappa * law.var_diff[0]
        price = float(theory.regret(0.25, best.estimate.value, distance))
        assert mixing.relative_regret(law, 0.25, kappa).value * least == pytest.approx(price, rel=1e-8, abs=1e-10)


def test_errors_of_measured_laws_have_jackknife_replicates(measured):
    """Catches an optimum held fixed while its error is resampled, and a ratio of the wrong two errors."""
    law = measured.population(4)
    best = np.clip(mixing.weight_replicates(law), 0, 1)
    np.testing.assert_array_equal(mixing.recommended_weights(law), best)
    total = mixing.error_parts(law, best).total
    found = least_error(law)
    assert (found.value, found.se) == pytest.approx((total[0], jackknife_estimate(total).se), rel=1e-10)
    ratio = mixing.error_parts(law, 0.5).total / total - 1
    regret = mixing.relative_regret(law, 0.5)
    assert (regret.value, regret.se) == pytest.approx((ratio[0], jackknife_estimate(ratio).se), rel=1e-10)
    assert 0 <= regret.ci_low <= regret.value <= regret.ci_high


def with_squared_bias(moments, value):
    """The same measured moments with another estimate of |b_e|^2."""
    u = moments.bias_e_sq - moments.bias_e_sq[0] + value
    noise = replace(moments.bias_noise, replicates=u)
    return replace(moments, bias_e_sq=u, bias_diff_sq=u, bias_noise=noise)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_an_error_is_never_below_the_variance(alpha, measured):
    """Catches a negative estimate of a squared bias reported as a negative error, or an interval without its value."""
    law = with_squared_bias(measured, -0.5).population(1024)
    variance = float(theory.error_curve(alpha, law.var_t[0], law.var_e[0], law.cov_te[0]))
    found = mixing.error(law, alpha)
    assert found.value == pytest.approx(variance, rel=1e-12)
    assert mixing.error_parts(law, alpha).total[0] <= variance
    assert 0 <= found.ci_low <= found.value <= found.ci_high


def test_a_ratio_of_errors_is_withheld_where_the_denominator_may_be_zero(measured):
    """Catches a regret relative to noise; an exact denominator is never withheld."""
    vague = with_squared_bias(measured, 0.0).population(10**9)
    vague = replace(vague, var_e=vague.var_e - 0.999 * vague.var_e[0])
    assert mixing.error(vague, 0.0).ci_low == 0.0
    assert mixing.error_ratio(vague, 1.0, vague, 0.0) is None
    law = random_law(3)
    expected = mixing.error(law, 0.2).value / mixing.error(law, 0.9).value
    assert mixing.error_ratio(law, 0.2, law, 0.9).value == pytest.approx(expected, rel=1e-12)


# --- what an empty trace is worth ------------------------------------------------------------------------


@pytest.mark.parametrize("traces", [1, 2, 7])
def test_g67_precision_adds_given_the_data(traces, moments):
    """Catches tau for tau/K and |b_e|^2 of the population for the prompts': 1/MSE = K/tau + 1/E|b_e(x)|^2."""
    law = moments.per_prompt(traces)
    tau, bias = moments.trace_var[0], moments.prompt_bias_e_sq[0]
    best = mixing.optimal_alpha(law)
    assert best.estimate.value == pytest.approx(bias / (bias + tau / traces), rel=1e-10)
    assert 1 / least_error(law).value == pytest.approx(traces / tau + 1 / bias, rel=1e-10)


def test_an_empty_trace_is_worth_that_many_traces(moments):
    """Catches the ratio upside down: adding traces_worth traces to g_t alone reaches the error of the mix."""
    worth = mixing.traces_worth(moments).value
    assert worth == pytest.approx(moments.trace_var[0] / moments.prompt_bias_e_sq[0], rel=1e-12)
    mixed = least_error(moments.per_prompt(3)).value
    assert moments.trace_var[0] / (3 + worth) == pytest.approx(mixed, rel=1e-10)


def test_worth_of_measured_traces_is_a_ratio_of_means_with_its_fieller_set(measured):
    """Catches a mean of per-prompt ratios, and an interval of another ratio."""
    worth = mixing.traces_worth(measured)
    assert worth.value == pytest.approx(measured.trace_var[0] / measured.prompt_bias_e_sq[0], rel=1e-12)
    found = fieller_set(measured.trace_var, measured.prompt_bias_e_sq)
    assert found.shape == "interval"
    assert (worth.ci_low, worth.ci_high) == pytest.approx((found.low, found.high))
    vague = replace(measured, prompt_bias_e_sq=measured.prompt_bias_e_sq - measured.prompt_bias_e_sq[0] + 1e-6)
    unbounded = mixing.traces_worth(vague)
    assert (unbounded.ci_low, unbounded.ci_high) == (0.0, np.inf)


@pytest.mark.parametrize("size", [1, 16])
def test_batch_size_equivalent_for_an_unbiased_trace_gradient(size, moments):
    """Catches the ratio upside down: g_t alone at B times the equivalent has the error of the mix at B."""
    equivalent = mixing.batch_size_equivalent(moments.population(size)).value
    assert equivalent >= 1
    alone = mixing.error(moments.population(size * equivalent), 1.0).value
    assert alone == pytest.approx(least_error(moments.population(size)).value, rel=1e-10)


@pytest.mark.parametrize("size", [1, 16])
def test_twice_the_prompts_halves_the_variance_of_the_trace_gradient(size, moments, measured):
    """Catches the ratio upside down, and the mix at the doubled batch: v_t/(2B) over the best error at B (b_t = 0)."""
    best = least_error(moments.population(size)).value
    found = mixing.twice_the_prompts_instead(moments, size).value
    assert found == pytest.approx(moments.var_t[0] / (2 * size) / best, rel=1e-10)
    law = measured.population(size)
    ratio = measured.var_t / (2 * size) / mixing.error_parts(law, np.clip(mixing.weight_replicates(law), 0, 1)).total
    measured_ratio = mixing.twice_the_prompts_instead(measured, size)
    assert (measured_ratio.value, measured_ratio.se) == pytest.approx((ratio[0], jackknife_estimate(ratio).se))


def test_cosine_to_target(moments, measured):
    """Catches a cosine normalised by a mixed product; nan where an unbiased square is not positive."""
    squares = moments.target_sq[0] * moments.mean_e_sq[0]
    assert mixing.cosine_to_target(moments).value == pytest.approx(moments.target_dot_e[0] / np.sqrt(squares))
    negative = replace(moments, target_sq=-moments.target_sq)
    assert np.isnan(mixing.cosine_to_target(negative).value)
    replicates = measured.target_dot_e / np.sqrt(measured.target_sq * measured.mean_e_sq)
    assert mixing.cosine_to_target(measured).se == pytest.approx(jackknife_estimate(replicates).se)


def test_a_shift_of_all_replicates_moves_only_the_value():
    """Catches a standard error that depends on where the number lies."""
    x = leave_one_out_mean(np.random.default_rng(9).normal(size=12))
    assert jackknife_estimate(x + 5).se == pytest.approx(jackknife_estimate(x).se, rel=1e-9)
