"""What weights mean for runs: parabolas against brute force, predicted optima where they are exact, matched moments."""

import numpy as np
import pytest

from bvpo_analysis.exact import load_table
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.sgd import consequences
from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.consequences import WeightCurve, gradient_path, realised_curves, steady_curve
from bvpo_analysis.sgd.regimes import matched_case, shipped_cases, vectors_of
from bvpo_analysis.sgd.rules import Fixed
from bvpo_analysis.sgd.runs import exact_run
from bvpo_analysis.theory.step_size import cosine_step_sizes, weighted_optimal_weight

CASES = {case.name: case for case in standard_cases()}
VALLEY = CASES["ill-conditioned quadratic"]


@pytest.fixture(scope="module")
def regimes():
    return {case.name: case for case in shipped_cases()}


@pytest.mark.parametrize("regime", REGIMES)
def test_matched_quadratics_have_the_measured_moments(regimes, regime):
    """Catches a lost covariance, a wrong batch size, or a start at which the gradient is not mu."""
    case, moments = regimes[regime], load_table(regime).moments
    law, exact = case.oracle.law(case.start), moments.population(16)
    for name, value in law.moments.items():
        assert float(value) == pytest.approx(float(getattr(exact, name)[0]), rel=1e-9, abs=1e-15)
    assert law.target @ law.target == pytest.approx(moments.target_sq[0], rel=1e-12)
    assert law.target @ (law.target + law.bias_e) == pytest.approx(moments.target_dot_e[0], rel=1e-9)
    assert weighted_optimal_weight(**law.moments) == pytest.approx(
        float(weighted_optimal_weight(**case.oracle.law(2 * case.start).moments))
    )


def test_the_matched_start_follows_the_hessian():
    """Catches a start at mu instead of H^{-1} mu."""
    moments = load_table("valid").moments
    case = matched_case("valid", moments, curvatures=(1.0, 0.5, 0.1))
    gradient = case.oracle.problem.gradient(case.start)
    assert gradient @ gradient == pytest.approx(moments.target_sq[0], rel=1e-12)
    assert np.linalg.norm(case.start) > 1.2 * np.sqrt(moments.target_sq[0])


def test_vectors_from_inner_products():
    gram = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.0, 0.5, 3.0]])
    np.testing.assert_allclose(vectors_of(gram) @ vectors_of(gram).T, gram, atol=1e-12)
    with pytest.raises(ValueError, match="positive semidefinite"):
        vectors_of([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="symmetric"):
        vectors_of([[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match="three numbers"):
        matched_case("x", load_table("valid").moments, curvatures=(1.0,))


@pytest.mark.parametrize("kappa", [0.05, 1.0])
def test_the_parabola_is_the_curve_of_every_weight(kappa):
    """Catches a yardstick that is not quadratic in the weight, or a parabola through the wrong points."""
    (found,) = realised_curves(VALLEY, kappa=kappa, horizons=[25])
    for weight in (0.2, 0.77, 1.4):
        run = exact_run(VALLEY.oracle, Fixed(weight), start=VALLEY.start, step_size=kappa, steps=25)
        assert float(found.average.value(weight)) == pytest.approx(run.average_gradient_sq(25), rel=1e-9)
        assert float(found.final_gradient.value(weight)) == pytest.approx(run.gradient_sq[-1], rel=1e-9)
        assert float(found.final_loss.value(weight)) == pytest.approx(run.excess_loss[-1], rel=1e-9)
    grid = np.linspace(0, 1, 10_001)
    assert found.average.best == pytest.approx(grid[np.argmin(found.average.value(grid))], abs=1e-4)


def test_a_weight_that_makes_no_difference_has_no_optimum():
    assert np.isnan(WeightCurve.through(1.0, 1.0, 1.0).unclipped)
    assert WeightCurve.through(0.0, 1.0, 4.0).unclipped == 0.0
    assert WeightCurve.through(4.0, 1.0, 0.0).best == 1.0


@pytest.mark.parametrize("kappa", [0.01, 0.1, 0.5, 1.0])
def test_the_steady_optimum_counts_variance_kappa_over_two_minus_kappa_times(regimes, kappa):
    """Catches the bound's alpha_kappa taken for the realised optimum: they agree at kappa = 1 only."""
    for case in regimes.values():
        law = case.oracle.law(case.start).moments
        exact = float(weighted_optimal_weight(**law, kappa=kappa / (2 - kappa)))
        bound = float(weighted_optimal_weight(**law, kappa=kappa))
        assert steady_curve(case, kappa=kappa).unclipped == pytest.approx(exact, rel=1e-9)
        assert (abs(bound - exact) < 1e-9) == (kappa == 1.0)
        assert bound <= exact  # g_t is unbiased: the bound mixes in too much of g_e


def test_closed_form_paths_agree_with_the_recursion():
    """Catches a sign or a power in the closed form behind steps_to_target."""
    for case in (VALLEY, CASES["rotated quadratic"]):
        eta = 0.3 / case.oracle.problem.smoothness
        run = exact_run(case.oracle, Fixed(0.3), start=case.start, step_size=eta, steps=80)
        np.testing.assert_allclose(gradient_path(case, 0.3, kappa=0.3, steps=80), run.gradient_sq, rtol=1e-9)


def test_best_weights_name_the_cheapest_rule(regimes):
    """Catches costs below 1, and predictions attributed to the wrong rule."""
    table = consequences.best_weights(list(regimes.values()), kappas=[0.01, 1.0], horizons=[200])
    costs = table[[c for c in table if c.startswith("cost_")]]
    assert (costs >= 1 - 1e-9).all(axis=None)
    steady = table[table.yardstick == "steady gradient"].set_index(["problem", "kappa"])
    for regime in REGIMES:
        assert steady.loc[(regime, 1.0), "best"] == pytest.approx(steady.loc[(regime, 1.0), "mse"], rel=1e-9)
        small = steady.loc[(regime, 0.01)]
        assert small["mse"] < small["step"] < small["best"]
        assert 1 < small["cost_step"] < 1.25 < small["cost_mse"]
    # What a step hundred times too small for alpha* costs at it, where the bias of g_e is large.
    assert steady.loc[("valid", 0.01), "cost_mse"] > 10
    assert steady.loc[("valid", 0.01), "cost_half"] > 8


def test_winners_change_from_the_trace_to_the_mix_as_steps_grow(regimes):
    """Catches a comparison at the wrong kappa: small steps want g_t alone, large ones the mix."""
    table = consequences.winners(list(regimes.values()), kappas=[0.01, 1.0], steps=300)
    wins = table.set_index(["problem", "kappa"])["average gradient"]
    for regime in REGIMES:
        assert wins[regime, 0.01] == 1.0
        assert wins[regime, 1.0] == 0.5


def test_the_bound_ranks_weights_better_than_the_mse_at_small_steps(regimes):
    """Catches a correlation with the wrong column."""
    table = consequences.rankings(list(regimes.values()), kappas=[0.05, 1.0], steps=300).set_index(["problem", "kappa"])
    for regime in REGIMES:
        assert table.loc[(regime, 0.05), "bound_average"] > table.loc[(regime, 0.05), "mse_average"] + 0.1
        assert table.loc[(regime, 1.0), "bound_average"] == pytest.approx(table.loc[(regime, 1.0), "mse_average"])
        assert table.loc[(regime, 1.0), "bound_average"] > 0.99


def test_the_schedule_beats_alpha_star_and_is_near_the_best_constant(regimes):
    """Catches a schedule that does not move, and a "best constant" that is not best."""
    table = consequences.schedules(list(regimes.values()), kappas=[1.0], steps=300).set_index(["problem", "rule"])
    for regime in REGIMES:
        loss = table.loc[regime]["final loss"]
        assert table.loc[(regime, "schedule"), "last weight"] > 0.95
        assert table.loc[(regime, "mse"), "last weight"] == table.loc[(regime, "mse"), "first weight"]
        assert loss["schedule"] < loss["mse"]
        assert loss["best constant"] <= loss.drop("schedule").min() * (1 + 1e-12)
    etas = cosine_step_sizes(1.0, 300)[:-1]
    weight = consequences.best_final_weight(regimes["valid"], etas)
    around = [
        exact_run(regimes["valid"].oracle, Fixed(w), start=regimes["valid"].start, step_size=etas, steps=300)
        for w in (weight - 0.05, weight, weight + 0.05)
    ]
    assert np.argmin([run.excess_loss[-1] for run in around]) == 1


def test_steps_to_a_target_are_the_first_that_reach_it(regimes):
    """Catches off-by-one steps, and a biased weight credited with a target below its floor."""
    table = consequences.steps_to_target(list(regimes.values()), kappas=[0.01, 0.1, 1.0], longest=2000)
    for _, row in table[np.isfinite(table.steps)].iterrows():
        path = gradient_path(regimes[row.problem], row.weight, kappa=row.kappa, steps=int(row.steps))
        assert path[-1] <= row.target < path[:-1].min()
        assert row.times >= 1
    wins = table.set_index(["problem", "rule"])["steps"]
    assert np.isinf(wins["valid", "alpha = 0"])  # its bias alone exceeds the target
    assert np.isinf(wins["valid", "mse"])
    assert np.isfinite(wins["valid", "alpha = 1"])
    with pytest.raises(ValueError, match="shares must be in"):
        consequences.steps_to_target([VALLEY], kappas=[1.0], shares=[1.0])


def test_curves_need_a_quadratic_with_constant_biases():
    for name in ("wells", "reasoning model"):
        with pytest.raises(ValueError, match=f"need a quadratic with constant biases, got '{name}'"):
            consequences.winners([CASES[name]], kappas=[1.0])
