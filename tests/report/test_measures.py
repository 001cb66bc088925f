"""Numbers of single questions against the same numbers by another route, on laws that are known exactly."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.coverage.measured import measured_coverage
from bvpo_analysis.exact import enumerate_prompts, load_table
from bvpo_analysis.moments import Moments
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.report.box_sections import RECOVERED, recovery_rows
from bvpo_analysis.report.fairness import fairness_rows, merged_law
from bvpo_analysis.report.losses import compared_losses, loss_rows
from bvpo_analysis.report.measures import (
    closeness_measures,
    comparison_measures,
    direction_measures,
    noise_measures,
    variance_measures,
)
from bvpo_analysis.report.weight_sections import SCHEDULE, prices_section, schedule_section


def drawn(n=4000, seed=0):
    """Gradients of n prompts in two dimensions with a known law, and their moments as the population."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 2))
    t = np.array([1.0, 0.0]) + shared + rng.normal(size=(n, 2))
    e = np.array([0.4, 0.3]) + 0.5 * shared + 0.3 * rng.normal(size=(n, 2))
    mu, mean_e = t.mean(axis=0), e.mean(axis=0)

    def one(value):
        return np.array([float(value)])

    bias = mean_e - mu
    cov = ((t - mu) * (e - mean_e)).sum(axis=1).mean()
    var_t, var_e = ((t - mu) ** 2).sum(axis=1).mean(), ((e - mean_e) ** 2).sum(axis=1).mean()
    zero = np.zeros(1)
    return (t, e, mu), Moments(
        n=n,
        bias_t_sq=zero,
        bias_e_sq=one(bias @ bias),
        bias_inner=zero,
        bias_diff_sq=one(bias @ bias),
        bias_t_diff=zero,
        var_t=one(var_t),
        var_e=one(var_e),
        cov_te=one(cov),
        var_diff=one(var_t + var_e - 2 * cov),
        cov_t_diff=one(var_t - cov),
        trace_var=one(0.5 * var_t),
        prompt_bias_t_sq=None,
        prompt_bias_e_sq=None,
        prompt_bias_inner=None,
        prompt_bias_diff_sq=None,
        prompt_bias_t_diff=None,
        target_sq=one(mu @ mu),
        target_dot_e=one(mu @ mean_e),
        mean_e_sq=one(mean_e @ mean_e),
    )


def test_one_run_on_both_data_sets_has_the_error_of_its_rows():
    """The law in closed form against the moments of rows drawn from either data set. Catches a lost factor or term."""
    (t, e, mu), moments = drawn()
    share, rows = 0.3, 24
    mean = share * t.mean(axis=0) + (1 - share) * e.mean(axis=0)
    second = share * (t**2).sum(axis=1).mean() + (1 - share) * (e**2).sum(axis=1).mean()
    expected = ((mean - mu) ** 2).sum() + (second - mean @ mean) / rows
    found = mixing.error(merged_law(moments, share, rows), share).value
    assert found == pytest.approx(expected, rel=1e-12)
    # What the squared bias takes off the variance when it is moved is what the second moment of rows keeps.
    law = merged_law(moments, share, rows)
    moved = law.with_squared_bias(law.bias_diff_sq + 0.1)
    other = replace(moments, bias_e_sq=moments.bias_e_sq + 0.1, bias_diff_sq=moments.bias_diff_sq + 0.1)
    other = replace(other, var_e=other.var_e - 0.1)
    expected = mixing.error(merged_law(other, share, rows), share).value
    assert mixing.error(moved, share).value == pytest.approx(expected, rel=1e-12)
    for bad in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            merged_law(moments, bad, rows)


def test_rows_of_equal_sequences():
    """Catches a batch size of another row: g_t on twice the prompts has half the variance and no bias."""
    _, moments = drawn()
    rows = {name: (sequences, relative.value) for name, _, sequences, relative in fairness_rows(moments, 16, 1.0)}
    assert rows["g_t on the prompts"] == (2, 1.0)
    assert rows["g_t on twice the prompts"] == (4, pytest.approx(0.5))
    least = min(value for _, value in rows.values())
    assert rows["g_c, best mix"][1] <= rows["g_c, equal mix"][1]
    assert least > 0


def test_ratios_are_those_of_the_moments():
    _, m = drawn()
    assert variance_measures(m)["trace_share"].value == pytest.approx(0.5)
    assert variance_measures(m)["empty_variance"].value == pytest.approx(float(m.var_e[0] / m.var_t[0]))
    assert closeness_measures(m)["bias_share"].value == pytest.approx(float(m.bias_e_sq[0] / m.target_sq[0]))
    law = m.population(16)
    best = mixing.optimal_alpha(law).recommended
    found = comparison_measures(m, 16, 1.0)
    for name, weight in (("empty_over_best", 0.0), ("trace_over_best", 1.0)):
        expected = mixing.error(law, weight).value / mixing.error(law, best).value
        assert found[name].value == pytest.approx(expected)


def test_no_target_no_ratio():
    _, m = drawn()
    none = closeness_measures(replace(m, target_sq=np.array([-0.1])))
    assert none == {"bias_share": None, "cosine_e": None}
    biased = replace(m, bias_t_sq=np.array([0.2]))
    assert direction_measures(biased, 16) == {"alpha_cos": None}


def test_the_weight_of_the_largest_cosine_is_found_by_search():
    """Catches a signal or a second moment in the place of another."""
    (_, _, mu), m = drawn()
    size = 16
    law = m.population(size)
    grid = np.linspace(0, 1, 2001)
    signal = grid * float(m.target_sq[0]) + (1 - grid) * float(m.target_dot_e[0])
    second = (
        grid**2 * (law.var_t + m.target_sq)
        + (1 - grid) ** 2 * (law.var_e + m.mean_e_sq)
        + 2 * grid * (1 - grid) * (law.cov_te + m.target_dot_e)
    )
    best = grid[np.argmax(signal / np.sqrt(second))]
    assert direction_measures(m, size)["alpha_cos"].value == pytest.approx(best, abs=1e-3)
    assert mu @ mu > 0


def test_the_noise_of_the_weight_costs_its_variance_times_the_curvature():
    """F(a) - F* = D (a - alpha*)^2: the loss at one SE is D se^2 / F*."""
    from bvpo_analysis.records import Alpha, Estimate

    _, m = drawn()
    law = m.population(16)
    best = mixing.optimal_alpha(law).estimate.value
    se = 0.05
    estimate = Estimate(best, se, best - 0.08, best + 0.12, 64, "fieller-jackknife")
    alpha = Alpha("alpha_star.population.B16.K1.kappa1", estimate, best, best - 0.08, best + 0.12)
    sampled = replace(m, **{name: np.repeat(getattr(m, name), 2) for name in ("bias_e_sq",)})
    loss = noise_measures(sampled, alpha, 16, 1.0)["estimation_loss"]
    expected = mixing.error(law, best + se).value / mixing.error(law, best).value - 1
    farthest = mixing.error(law, best + 0.12).value / mixing.error(law, best).value - 1
    assert loss.value == pytest.approx(expected, rel=1e-9)
    assert loss.ci_high == pytest.approx(farthest, rel=1e-9)
    assert noise_measures(m, alpha, 16, 1.0) == {"estimation_loss": None}  # exact


def test_prices_and_schedules_of_weights():
    _, m = drawn()
    rows = {row[0]: row for row in prices_section(m, 16, 1.0).tables[0].rows}
    assert rows[1.0][2].value == pytest.approx(mixing.relative_regret(m.population(16), 1.0).value)
    assert min(row[2].value for row in rows.values()) >= 0
    along = schedule_section(m, 16, 0.5).tables[0].rows
    assert len(along) == SCHEDULE
    assert along[0][1] == pytest.approx(0.5)
    weights = [row[2].estimate.value for row in along]
    assert weights == sorted(weights)  # smaller steps: more weight on the unbiased gradient


def test_recovery_is_read_off_the_table_of_coverage():
    """Catches a spread without its square root, and a loss in other units."""
    row = next(r for r in measured_coverage() if r.quantity == RECOVERED and r.regime == "valid" and r.prompts == 64)
    found = next(r for r in recovery_rows("valid") if r[1:3] == (64, row.traces))
    spread = found[5]
    assert row.mean_error / (spread / np.sqrt(row.replications)) == pytest.approx(row.error_in_se, rel=1e-6)
    # Intervals of a normal law would be about four standard errors wide.
    assert 2.5 < row.width_mean / spread < 5.5
    assert 0 < found[7] < 0.1
    assert {r[0] for r in recovery_rows()} == {"style", "valid", "correct"}


@pytest.fixture(scope="module")
def losses(lrm):
    scores = enumerate_prompts(lrm, shipped_pairs("correct", limit=4))
    return scores, {row.name: row for row in loss_rows(scores, compared_losses(DPO()))}


def test_dpo_and_ipo_share_every_ratio(losses):
    _, rows = losses
    for name in ("bias_e", "trace_var"):
        assert getattr(rows["dpo"], name).value == pytest.approx(getattr(rows["ipo"], name).value, rel=1e-9)
    assert rows["dpo"].alpha.estimate.value == pytest.approx(rows["ipo"].alpha.estimate.value, rel=1e-9)
    assert rows["dpo"].target_sq.value != pytest.approx(rows["ipo"].target_sq.value, rel=0.1)
    assert rows["dpo"].bias_t.value < 1e-9
    assert rows["simpo"].bias_t.value > 0.01
    assert rows["simpo"].bias_t.ci_low > 0


def test_a_loss_row_is_the_ratio_of_means_over_prompts(losses):
    """Against the committed moments of the same prompts. Catches a mean of ratios, and target and bias exchanged."""
    scores, rows = losses
    table = load_table("correct").prompts
    known = [table[pair.log_probs.prompt_id] for pair in scores.pairs]
    target = np.mean([p.target_sq for p in known])
    assert rows["dpo"].target_sq.value == pytest.approx(target, rel=1e-4)
    assert rows["dpo"].bias_e.value == pytest.approx(np.mean([p.bias_e_sq for p in known]) / target, rel=1e-4)
    tau, bias = (np.mean([getattr(p, name) for p in known]) for name in ("trace_var", "bias_e_sq"))
    assert rows["dpo"].trace_var.value == pytest.approx(tau / target, rel=1e-4)
    assert rows["dpo"].alpha.estimate.value == pytest.approx(bias / (bias + tau), rel=1e-4)
    assert rows["dpo"].target_sq.n == len(known)


def test_the_loss_of_the_study_keeps_its_beta():
    assert compared_losses(DPO(beta=0.7))[0] == DPO(beta=0.7)
    assert [type(loss) for loss in compared_losses(IPO(beta=0.2))] == [DPO, IPO, SimPO]
    assert compared_losses(IPO(beta=0.2))[1] == IPO(beta=0.2)


def test_shares_and_cosines_stay_in_their_range():
    """An unbiased estimate of a square may be negative, and a cosine beyond one; a sentence does not quote that."""
    _, m = drawn()
    n = 64
    spread = 1 + 0.01 * np.sin(np.arange(n + 1))
    outside = replace(
        m,
        n=n,
        target_sq=m.target_sq * spread,
        mean_e_sq=m.target_sq * spread,
        target_dot_e=1.01 * m.target_sq * spread,
        bias_e_sq=-0.02 * m.target_sq * spread,
        bias_t_sq=np.zeros(n + 1),
        var_t=m.var_t * spread,
    )
    found = closeness_measures(outside)
    assert found["bias_share"].value == 0.0
    assert found["bias_share"].ci_low == 0.0
    assert found["cosine_e"].value == 1.0
    assert found["cosine_e"].ci_high == 1.0
    assert found["cosine_e"].ci_low <= 1.0
