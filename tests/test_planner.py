"""The planner against brute force, closed forms and, on samples of a known population, the plan that truth prefers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from bvpo_analysis import mixing, theory
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.moments import (
    Moments,
    enumerated_moments,
    jackknife_estimate,
    population_moments,
)
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO
from bvpo_analysis.planner import Plan, plan

LOSS = DPO(1.0)
TRACE, EMPTY, MARGINAL = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)


def exact_moments(*, bias=1.0, data=2.0, tau=6.0, var_e=3.0, cov=1.0, target=4.0, signal=0.0, bias_t=0.0) -> Moments:
    """Exact moments with these numbers; ``signal`` is <mu, b_e>, and b_t is orthogonal to b_e."""
    one = np.ones(1)
    return Moments(
        n=0,
        bias_t_sq=bias_t * one,
        bias_e_sq=bias * one,
        bias_inner=0 * one,
        bias_diff_sq=(bias + bias_t) * one,
        bias_t_diff=bias_t * one,
        var_t=(data + tau) * one,
        var_e=var_e * one,
        cov_te=cov * one,
        var_diff=(data + tau + var_e - 2 * cov) * one,
        cov_t_diff=(data + tau - cov) * one,
        trace_var=tau * one,
        prompt_bias_t_sq=None,
        prompt_bias_e_sq=None,
        prompt_bias_inner=None,
        prompt_bias_diff_sq=None,
        prompt_bias_t_diff=None,
        target_sq=target * one,
        target_dot_e=(target + signal) * one,
        mean_e_sq=(target + 2 * signal + bias) * one,
    )


def value_by_hand(m: Moments, batch, traces, alpha, kappa, criterion):
    """F_kappa, or minus the decrease, from the definitions."""
    tau = m.trace_var[0]
    var_t, var_e, cov = (m.var_t[0] - tau + tau / max(traces, 1)) / batch, m.var_e[0] / batch, m.cov_te[0] / batch
    variance = alpha**2 * var_t + (1 - alpha) ** 2 * var_e + 2 * alpha * (1 - alpha) * cov
    if criterion == "mse":
        bias = alpha**2 * m.bias_t_sq[0] + (1 - alpha) ** 2 * m.bias_e_sq[0]
        return bias + kappa * variance
    signal = m.target_dot_e[0] - m.target_sq[0]
    along = m.target_sq[0] + (1 - alpha) * signal
    second = m.target_sq[0] + 2 * (1 - alpha) * signal + (1 - alpha) ** 2 * m.bias_e_sq[0] + variance
    return -(kappa * along - kappa**2 / 2 * second)


# --- the optimum -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["mse", "descent"])
@pytest.mark.parametrize("seed", range(12))
def test_the_plan_is_the_best_of_all(criterion, seed):
    """Brute force over every B, K and a grid of alpha that the budget allows.

    Catches a batch that leaves money unspent or overspends, empties paid for at alpha = 1, and a wrong weight.
    """
    rng = np.random.default_rng(seed)
    m = exact_moments(
        bias=rng.exponential() * 10 ** rng.uniform(-2, 1),
        data=rng.exponential(2),
        tau=rng.exponential(6),
        var_e=1 + rng.exponential(3),
        cov=rng.uniform(-0.3, 0.3),
        signal=rng.uniform(-1, 1),
        bias_t=rng.exponential() if criterion == "mse" and seed % 2 else 0.0,
    )
    kappa = float(rng.choice([1.0, 0.5, 0.1]))
    cost_x, cost_t, cost_e = float(rng.choice([0.0, 20.0])), rng.uniform(5, 15), rng.uniform(1, 6)
    budget = rng.uniform(60, 200)
    found = plan(m, cost_t, cost_e, budget, cost_prompt=cost_x, kappa=kappa, criterion=criterion, max_traces=4)
    best = np.inf
    for k in range(0, 5):
        for alpha in np.linspace(0, 1, 401) if k else [0.0]:
            unit = cost_x + (k * cost_t if alpha > 0 else 0) + (cost_e if alpha < 1 else 0)
            for batch in range(1, int(budget / unit) + 1):
                best = min(best, value_by_hand(m, batch, k, alpha, kappa, criterion))
    chosen = found.best
    achieved = value_by_hand(m, chosen.batch_size, chosen.traces, chosen.alpha, kappa, criterion)
    assert found.value.value == pytest.approx(achieved if criterion == "mse" else -achieved, rel=1e-10)
    assert achieved <= best + 1e-12 * abs(best)
    assert achieved >= best - 1e-4 * abs(best)  # the grid is that fine
    assert found.cost.value <= budget * (1 + 1e-9)
    unit = cost_x + chosen.traces * cost_t * (chosen.alpha > 0) + cost_e * (chosen.alpha < 1)
    assert found.cost.value == pytest.approx(chosen.batch_size * unit)
    assert (chosen.batch_size + 1) * unit > budget


def test_without_a_useful_empty_trace_k_is_that_of_the_closed_form():
    """K = sqrt(tau c_x / (v_t c_t)) = 6 here; a large budget makes the rounding of B immaterial."""
    m = exact_moments(bias=1e9, data=1.0, tau=9.0)
    found = plan(m, 1.0, 1.0, 1e6, cost_prompt=4.0, max_traces=20)
    assert found.best.traces == float(
        theory.optimal_traces(data_var_t=1.0, trace_var=9.0, cost_prompt=4.0, cost_trace=1.0)
    )
    assert found.best.alpha == 1.0
    expected = theory.variance_at_budget(
        budget=1e6, data_var_t=1.0, trace_var=9.0, cost_prompt=4.0, cost_trace=1.0, traces=6
    )
    assert found.value.value == pytest.approx(float(expected), rel=1e-4)
    assert plan(m, 1.0, 1.0, 1e6).best.traces == 1  # without a cost per prompt, prompts are the better buy


def test_cheap_unbiased_empties_are_all_one_needs():
    found = plan(exact_moments(bias=0.0, var_e=0.5, cov=0.5), 10.0, 1.0, 200.0)
    assert found.best == Plan(200, 0, 0.0)
    assert found.value.value == pytest.approx(0.5 / 200)


def test_at_kappa_one_both_criteria_agree():
    """The guaranteed decrease is |mu|^2 / 2 less half the MSE there."""
    m = exact_moments(bias=0.7, signal=-0.5)
    by_error, by_descent = (plan(m, 10.0, 3.0, 300.0, criterion=c) for c in ("mse", "descent"))
    assert by_error.best.batch_size == by_descent.best.batch_size
    assert by_error.best.alpha == pytest.approx(by_descent.best.alpha, rel=1e-12)
    assert by_descent.value.value == pytest.approx(m.target_sq[0] / 2 - by_error.value.value / 2, rel=1e-12)


def test_the_decrease_is_that_of_the_descent_lemma():
    m = exact_moments(bias=0.7, signal=0.1)
    found = plan(m, 10.0, 3.0, 300.0, criterion="descent", kappa=0.4, present=Plan(30, 1, 1.0), max_traces=1)
    law = m.population(found.best.batch_size)
    moments = {
        "second_t": m.target_sq + law.var_t,
        "second_e": m.mean_e_sq + law.var_e,
        "second_te": m.target_dot_e + law.cov_te,
        "signal_t": m.target_sq,
        "signal_e": m.target_dot_e,
    }
    smoothness = 5.0
    bound = theory.descent_bound(
        found.best.alpha, **moments, target_sq=m.target_sq, step_size=0.4 / smoothness, smoothness=smoothness
    )
    assert found.value.value / smoothness == pytest.approx(-float(bound.change[0]), rel=1e-12)
    assert 0 < found.best.alpha < 1
    best = float(theory.descent_optimal_weight(**moments, kappa=0.4)[0])
    assert found.best.alpha == pytest.approx(best, rel=1e-10)
    assert found.ratio.value == pytest.approx(found.value.value / found.present_value.value)
    assert found.ratio.value >= 1
    law = m.population(30)
    second = m.target_sq[0] + law.var_t[0]
    assert found.present_value.value == pytest.approx(0.4 * m.target_sq[0] - 0.08 * second, rel=1e-12)


def test_the_present_plan_sets_the_budget_and_the_comparison():
    m = exact_moments()
    found = plan(m, 10.0, 3.0, present=Plan(16, 2, 0.5))
    assert found.budget == 16 * 23
    assert found.present_cost.value == 16 * 23
    assert found.present_value.value == pytest.approx(value_by_hand(m, 16, 2, 0.5, 1.0, "mse"))
    assert found.ratio.value == pytest.approx(found.value.value / found.present_value.value)
    assert found.ratio.value <= 1
    # The same plan is found among those considered, where it is the best.
    again = plan(m, 10.0, 3.0, present=found.best)
    assert again.best == found.best
    assert again.ratio.value == pytest.approx(1.0, abs=1e-12)
    # alpha = 0 takes no traces, alpha = 1 no empties.
    assert plan(m, 10.0, 3.0, present=Plan(16, 2, 0.0)).budget == 48
    assert plan(m, 10.0, 3.0, present=Plan(16, 2, 1.0)).budget == 320


def test_a_present_plan_beyond_the_budget_is_noted():
    found = plan(exact_moments(), 10.0, 3.0, 100.0, present=Plan(16))
    assert any("more than the budget" in note for note in found.notes)
    assert found.present_cost.value == 160


# --- samples -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def population(by_hand) -> EnumeratedPopulation:
    """Forty prompts with a biased, less noisy empty-trace gradient."""
    rng = np.random.default_rng(21)
    pairs = tuple(by_hand.pair(rng, 4) for _ in range(40))
    vectors = []
    for pair in pairs:
        v = 1.5 * rng.normal(size=(pair.size, 16)) + rng.normal(size=16)
        v[pair.support[1]] += 0.6
        mu = (MARGINAL.coefficients(pair) @ v)[0]
        v[pair.empty[1]] = v[pair.empty[0]] + 2 * (mu + 0.3 * rng.normal(size=16) + 0.12)
        vectors.append(v)
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(pairs, tuple(np.arange(i * 10, (i + 1) * 10) for i in range(40)), stacked @ stacked.T)


@pytest.fixture(scope="module")
def truth(population):
    return enumerated_moments(population.exact_scores(TRACE, EMPTY, MARGINAL), TRACE, EMPTY, MARGINAL)


COSTS = {"cost_trace": 10.0, "cost_empty": 3.0, "max_traces": 6}


def true_error(truth: Moments, chosen: Plan) -> float:
    law = truth.population(chosen.batch_size, max(chosen.traces, 1))
    return mixing.error(law, chosen.alpha).value


def test_a_plan_from_a_sample_is_near_the_best_under_the_truth(population, truth):
    """Regret F(chosen) / F(best) - 1 under the true moments, over 40 samples: small, and smaller with more prompts.

    In 300 samples the mean regret was 1.8 % at 32 prompts and 1.0 % at 128 (the two best plans are 1.8 % apart); the
    bounds are twice that.
    """
    best = plan(truth, **COSTS, budget=400.0)
    rng = np.random.default_rng(2)
    means = []
    for prompts, bound in ((32, 0.036), (128, 0.02)):
        regrets = []
        for _ in range(40):
            sample = population_moments(population.sample(rng, prompts, 2, TRACE, EMPTY), TRACE, EMPTY)
            regrets.append(true_error(truth, plan(sample, **COSTS, budget=400.0).best) / best.value.value - 1)
        assert min(regrets) >= -1e-12  # nothing beats the planner on the truth
        means.append(np.mean(regrets))
        assert means[-1] < bound
    assert means[1] < means[0]


@pytest.mark.slow
def test_intervals_of_the_best_value_and_of_the_gain_cover(population, truth):
    """300 samples of 64 prompts: 95 % intervals cover at least 90 % less three Monte-Carlo standard errors.

    The best of several estimates looks better than it is, which costs some coverage; measured: 93 % for
    the value, 94 % for the ratio, and a value that is 8 % too low on average at 64 prompts, 4 % at 128.
    """
    best = plan(truth, **COSTS, budget=400.0, present=Plan(40))
    rng, covered = np.random.default_rng(164), []
    for _ in range(300):
        sample = population_moments(population.sample(rng, 64, 2, TRACE, EMPTY), TRACE, EMPTY)
        found = plan(sample, **COSTS, budget=400.0, present=Plan(40))
        pairs = ((found.value, best.value.value), (found.ratio, best.ratio.value))
        covered.append([e is not None and e.ci_low <= t <= e.ci_high for e, t in pairs])
    assert (np.mean(covered, axis=0) >= 0.90 - 3 * np.sqrt(0.9 * 0.1 / 300)).all()


def test_replicates_choose_anew(population):
    """The interval of the best value is that of re-optimised leave-one-out samples, redone here one by one."""
    scores = population.sample(np.random.default_rng(3), 12, 2, TRACE, EMPTY)
    moments = population_moments(scores, TRACE, EMPTY)
    found = plan(moments, **COSTS, budget=400.0, present=Plan(40))
    arrays = {k: v for k, v in vars(moments).items() if isinstance(v, np.ndarray)}
    values = []
    for i in range(13):
        one = replace(moments, **{k: v[i : i + 1] for k, v in arrays.items()}, bias_noise=None)
        values.append(plan(one, **COSTS, budget=400.0).value.value)
    left = np.array(values[1:])
    se = np.sqrt(11 / 12 * ((left - left.mean()) ** 2).sum())
    assert (moments.bias_e_sq > 0).all()  # where squared biases are positive, values and replicates agree
    assert found.value.value == pytest.approx(values[0], rel=1e-12)
    assert found.value.se == pytest.approx(se, rel=1e-9)
    assert found.value.n == 12


def test_a_biased_trace_gradient_gets_plain_intervals(population):
    """Off the reference the moments depend on more than |b_e|^2, so its noise does not describe the interval."""
    moments = population_moments(population.sample(np.random.default_rng(3), 12, 2, TRACE, EMPTY), TRACE, EMPTY)
    biased = replace(moments, bias_t_sq=moments.bias_t_sq + 0.01, bias_diff_sq=moments.bias_diff_sq + 0.01)
    methods = [plan(m, **COSTS, budget=400.0).value.method for m in (moments, biased)]
    assert methods == ["profile-jackknife", "jackknife"]


def test_ties_and_probabilities(population):
    """Probabilities sum to one (no mix has a weight of 0 or 1 here), and near-ties are those within noise."""
    sample = population_moments(population.sample(np.random.default_rng(4), 64, 2, TRACE, EMPTY), TRACE, EMPTY)
    found = plan(sample, **COSTS, budget=400.0)
    assert sum(row.wins for row in found.considered) == pytest.approx(1.0)
    assert found.considered[0].plan == found.best
    assert found.considered[0].loss.value == 0.0
    losses = [row.loss.value for row in found.considered]
    assert losses == sorted(losses)
    assert found.near_ties == tuple(row for row in found.considered[1:] if row.loss.ci_low <= 0)
    assert found.clear == (not found.near_ties)
    far = [row for row in found.considered[1:] if not row.tied]
    assert far
    assert all(row.wins < 0.05 for row in far)


def test_probabilities_are_those_of_the_jackknife_normal_law(population):
    """Where no squared bias is near zero: Phi(difference / SE) between g_e alone and g_t alone, the only two plans."""
    sample = population_moments(population.sample(np.random.default_rng(4), 64, 1, TRACE, EMPTY), TRACE, EMPTY)
    # The mixes of this law are as good as g_e alone at best: g_e is g_t shrunk, with a bias far from zero.
    u = sample.bias_e_sq + 1.0
    shrunk = replace(sample, bias_e_sq=u, bias_diff_sq=u, cov_te=sample.var_e, cov_t_diff=sample.var_t - sample.var_e)
    shrunk = replace(shrunk, var_diff=shrunk.var_t - shrunk.var_e)
    t, e = shrunk.var_t / 13, shrunk.bias_e_sq + shrunk.var_e / 43
    price = {"cost_trace": 10.0, "cost_empty": 3.0, "budget": 130.0}
    for gap in (-1.0, 0.0, 1.5):  # moves g_e to this many standard errors above g_t
        difference = jackknife_estimate(e - t)
        more = gap * difference.se - difference.value
        moved = replace(shrunk, bias_e_sq=u + more, bias_diff_sq=u + more)
        rows = {row.plan.traces: row.wins for row in plan(moved, **price).considered if row.plan.alpha in (0.0, 1.0)}
        mixes = 1 - rows[0] - rows[1]
        assert rows[0] == pytest.approx(norm.cdf(-gap), abs=5 * np.sqrt(0.25 / 4000) + mixes)
        assert rows[0] > 0.01


def test_a_squared_bias_cut_at_zero_is_no_certainty(population):
    """Catches objectives without the noise of a bias that is cut at zero in the sample and without each prompt.

    The squared bias is estimated at half a standard error below zero. Then g_e alone looks best by far, but in about
    0.3 of the draws its bias is positive, and a few per cent of |mu|^2 would rule it out at this budget.
    """
    sample = population_moments(population.sample(np.random.default_rng(4), 64, 2, TRACE, EMPTY), TRACE, EMPTY)
    below = sample.bias_e_sq - sample.bias_e_sq[0] - 0.5 * jackknife_estimate(sample.bias_e_sq).se
    assert (below < 0).all()  # every leave-one-out sample cuts it
    found = plan(replace(sample, bias_e_sq=below, bias_diff_sq=below), **COSTS, budget=40_000.0)
    assert found.best.alpha == 0.0
    assert found.near_ties
    assert found.considered[0].wins == pytest.approx(norm.cdf(0.5), abs=0.03)
    assert sum(row.wins for row in found.considered) <= 1.0 + 1e-12


def test_mixes_that_the_sample_rules_out_stay_in_the_replicates(population):
    """A mix whose weight is 0 in the sample is not listed, but caps the error if the bias is larger than estimated.

    Catches an interval of the best value that reaches up to the error of g_t alone, which a mix would undercut.
    """
    moments = population_moments(population.sample(np.random.default_rng(4), 64, 1, TRACE, EMPTY), TRACE, EMPTY)
    below = moments.bias_e_sq - moments.bias_e_sq[0] - 1e-3
    noise = replace(moments.bias_noise, replicates=below)
    zero = replace(moments, bias_e_sq=below, bias_diff_sq=below, cov_te=moments.var_e, bias_noise=noise)
    zero = replace(zero, cov_t_diff=zero.var_t - zero.var_e, var_diff=zero.var_t - zero.var_e)
    found = plan(zero, 10.0, 0.1, 400.0)
    assert [row.plan for row in found.considered] == [Plan(4000, 0, 0.0), Plan(40, 1, 1.0)]
    assert sum(row.wins for row in found.considered) < 0.95  # the rest is the mix
    assert found.value.ci_high < 0.9 * zero.var_t[0] / 40


def test_exact_moments_have_a_certain_winner(truth):
    found = plan(truth, **COSTS, budget=400.0)
    assert [row.wins for row in found.considered] == [1.0] + [0.0] * (len(found.considered) - 1)
    assert found.value.method == "exact"


def test_the_noise_of_costs_reaches_the_cost_of_the_plan_only(population):
    """B is set by the mean cost; what the plan then costs is known up to its sampling error."""
    moments = population_moments(population.sample(np.random.default_rng(8), 20, 2, TRACE, EMPTY), TRACE, EMPTY)
    rng = np.random.default_rng(9)
    costs = np.concatenate([[10.0], 10.0 + 0.1 * rng.normal(size=20)])
    noisy, fixed = (plan(moments, c, 3.0, 400.0) for c in (costs, 10.0))
    assert noisy.best == fixed.best
    assert noisy.value == fixed.value
    if noisy.best.traces:
        assert noisy.cost.se > 0
    assert fixed.cost.method == "exact"


def test_one_trace_per_answer_means_one_trace_per_prompt(population):
    scores = population.sample(np.random.default_rng(5), 16, 1, TRACE, EMPTY)
    moments = population_moments(scores, TRACE, EMPTY)
    found = plan(moments, 10.0, 3.0, 400.0)
    assert {row.plan.traces for row in found.considered} <= {0, 1}
    assert any("Only K = 1" in note for note in found.notes)
    with pytest.raises(ValueError, match="does not identify the trace variance"):
        plan(moments, 10.0, 3.0, 400.0, present=Plan(16, 2))


# --- bad input ---------------------------------------------------------------------------------------------


def test_budgets_that_buy_nothing_are_refused_with_the_price():
    m = exact_moments()
    with pytest.raises(InputError, match="does not pay for one prompt, which costs 3"):
        plan(m, 10.0, 3.0, 2.9)
    with pytest.raises(InputError, match="give a budget"):
        plan(m, 10.0, 3.0)
    for budget in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="positive number"):
            plan(m, 10.0, 3.0, budget)
    assert plan(m, 10.0, 3.0, 3.0).best == Plan(1, 0, 0.0)


def test_a_small_budget_leaves_out_what_it_does_not_pay_for():
    found = plan(exact_moments(), 10.0, 3.0, 12.0)
    assert {(row.plan.batch_size, row.plan.traces) for row in found.considered} == {(1, 1), (4, 0)}


def test_arguments_out_of_range_are_refused():
    m = exact_moments()
    for bad in ({"kappa": 0.0}, {"kappa": np.nan}, {"max_traces": 0}):
        with pytest.raises(ValueError, match="kappa must be positive and max_traces"):
            plan(m, 10.0, 3.0, 100.0, **bad)
    with pytest.raises(ValueError, match="unknown criterion"):
        plan(m, 10.0, 3.0, 100.0, criterion="cosine")
    with pytest.raises(ValueError, match="only where g_t is unbiased"):
        plan(exact_moments(bias_t=0.5), 10.0, 3.0, 100.0, criterion="descent")
    for costs in ((0.0, 3.0), (10.0, -1.0), (np.nan, 3.0), (10.0, np.inf)):
        with pytest.raises(ValueError, match="finite positive number"):
            plan(m, *costs, 100.0)
    with pytest.raises(ValueError, match="cost_prompt"):
        plan(m, 10.0, 3.0, 100.0, cost_prompt=-1.0)
    for batch, traces, alpha in ((0, 1, 1.0), (1, -1, 1.0), (1, 1, np.nan), (1, 0, 0.5)):
        with pytest.raises(ValueError, match=r"a plan needs|without traces"):
            Plan(batch, traces, alpha)
