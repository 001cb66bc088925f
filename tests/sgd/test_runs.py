"""Runs against exact recursions, closed forms and refusals; the rules' weights against their definitions."""

import numpy as np
import pytest

from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.oracles import ConstantOracle, GradientPair
from bvpo_analysis.sgd.problems import Quadratic, Wells
from bvpo_analysis.sgd.rules import CRITERIA, Fixed, FromStart, JamesStein, PlannedRule, Rule, Scheduled, standard_rules
from bvpo_analysis.sgd.runs import exact_run, simulate
from bvpo_analysis.theory.nonconvex import improved_bound, telescoped_bound
from bvpo_analysis.theory.quadratics import quadratic_path, quadratic_stationary
from bvpo_analysis.theory.step_size import cosine_step_sizes

CASES = {case.name: case for case in standard_cases()}
ROTATED = CASES["rotated quadratic"]


def isotropic(curvature=2.0, d=3):
    problem = Quadratic.diagonal("bowl", [curvature] * d)
    bias_t, bias_e = np.array([0.2, 0, 0]), np.array([0, 0.7, 0])
    return ConstantOracle.isotropic(problem, bias_t, bias_e, var_t=3.0, var_e=1.0, cov_te=0.4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_the_improved_bound_is_attained_at_kappa_one(weight, steps):
    """Catches 1/T for 1 - 1/T, a wrong kappa, a wrong initial gap: an isotropic quadratic meets the bound exactly."""
    oracle, start = isotropic(), np.array([1.0, -2.0, 0.5])
    run = exact_run(oracle, Fixed(weight), start=start, step_size=0.5, steps=steps)
    gap = float(oracle.problem.value(start))
    law = {"steps": steps, "step_size": 0.5, "smoothness": 2.0}
    law |= {"bias_bound": np.sqrt(run.bias_sq[0]), "noise_var": run.noise_var[0]}
    measured = run.average_gradient_sq(steps)
    assert measured == pytest.approx(float(improved_bound(initial_gap=gap, **law)), rel=1e-9)
    decrease = gap - run.excess_loss[-1]
    assert measured == pytest.approx(float(telescoped_bound(decrease=decrease, **law)), rel=1e-9)


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.9])
def test_the_steady_weight_of_the_variance_is_kappa_over_two_minus_kappa(kappa):
    """Catches a recursion whose noise does not contract, and the bound's kappa in place of kappa/(2 - kappa)."""
    oracle = isotropic()
    run = exact_run(oracle, Fixed(0.4), start=np.ones(3), step_size=kappa / 2, steps=2000)
    expected = run.bias_sq[0] + kappa / (2 - kappa) * run.noise_var[0]
    assert run.gradient_sq[-1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["ill-conditioned quadratic", "rotated quadratic"])
def test_exact_runs_agree_with_the_recursion_in_the_eigenbasis(name):
    """Catches an error in either recursion: matrices here, eigenvalues there."""
    case, weight, eta = CASES[name], 0.35, 0.8
    oracle = case.oracle
    run = exact_run(oracle, Fixed(weight), start=case.start, step_size=eta, steps=60)
    path = quadratic_path(
        hessian=oracle.problem.hessian,
        start=case.start,
        bias=oracle.bias_of_mix(weight),
        noise_cov=oracle.covariance_of_mix(weight),
        step_size=eta,
        steps=60,
    )
    np.testing.assert_allclose(run.gradient_sq, path.gradient_sq, rtol=1e-10)
    np.testing.assert_allclose(run.excess_loss, path.excess_loss, rtol=1e-10)
    longer = exact_run(oracle, Fixed(weight), start=case.start, step_size=eta, steps=3000)
    still = quadratic_stationary(
        hessian=oracle.problem.hessian,
        bias=oracle.bias_of_mix(weight),
        noise_cov=oracle.covariance_of_mix(weight),
        step_size=eta,
    )
    assert longer.gradient_sq[-1] == pytest.approx(still.gradient_sq, rel=1e-9)
    assert longer.excess_loss[-1] == pytest.approx(still.excess_loss, rel=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "two-atom"])
def test_simulated_runs_agree_with_exact_ones(noise):
    """Catches wrong noise, mixing or step in the simulation: 5 SE on four quantities, with a power gate."""
    joint = ROTATED.oracle.noise_cov
    oracle = ConstantOracle(ROTATED.oracle.problem, ROTATED.oracle.bias_t, ROTATED.oracle.bias_e, joint, noise)
    etas = cosine_step_sizes(1.0, 30)[:-1]
    exact = exact_run(oracle, Scheduled(), start=ROTATED.start, step_size=etas, steps=30)
    run = simulate(
        oracle, Scheduled(), start=ROTATED.start, step_size=etas, steps=30, repetitions=20_000, seed=7, horizons=[30]
    )
    assert np.ptp(exact.weights) > 0.05
    np.testing.assert_array_equal(run.weights, exact.weights)
    for values, expected in (
        (run.average_gradient_sq(30), exact.average_gradient_sq(30)),
        (run.excess_loss[-1], exact.excess_loss[-1]),
        (run.distance[-1] ** 2, exact.distance_sq[-1]),
        (run.mean_iterate_excess[0], exact.mean_iterate_excess[-1]),
    ):
        se = values.std(ddof=1) / np.sqrt(len(values))
        assert se < 0.02 * expected
        assert abs(values.mean() - expected) <= 5 * se
    np.testing.assert_allclose(run.bias_sq, np.repeat(exact.bias_sq[:, None], 20_000, axis=1), rtol=1e-12)
    np.testing.assert_allclose(run.noise_var[:, 0], exact.noise_var, rtol=1e-12)


def test_the_average_iterate_is_that_of_the_first_steps():
    """Catches an average that includes x_T or leaves out x_0: two noiseless steps by hand."""
    line = Quadratic.diagonal("line", [1.0])
    oracle = ConstantOracle.isotropic(line, [0.0], [0.0], var_t=0.0, var_e=0.0, cov_te=0.0)
    how = {"start": np.array([4.0]), "step_size": 0.5, "steps": 3, "repetitions": 1, "seed": 0}
    run = simulate(oracle, Fixed(1.0), **how, horizons=[1, 2, 3])
    assert run.horizons == (1, 2, 3)
    assert run.mean_iterate_excess[:, 0].tolist() == pytest.approx([4**2 / 2, 3**2 / 2, (7 / 3) ** 2 / 2])
    exact = exact_run(oracle, Fixed(1.0), start=np.array([4.0]), step_size=0.5, steps=3)
    assert np.isnan(exact.mean_iterate_excess[0])
    np.testing.assert_allclose(exact.mean_iterate_excess[1:], run.mean_iterate_excess[:, 0], rtol=1e-12)
    assert run.average_gradient_sq(2).tolist() == [(16 + 4) / 2]
    assert run.distance[:, 0].tolist() == [4.0, 2.0, 1.0, 0.5]


def test_averages_weigh_steps_by_their_size():
    """Catches a plain average under a schedule, which the bound for varying steps is not about."""
    line = Quadratic.diagonal("line", [1.0])
    oracle = ConstantOracle.isotropic(line, [0.0], [0.0], var_t=0.0, var_e=0.0, cov_te=0.0)
    run = exact_run(oracle, Fixed(1.0), start=np.array([4.0]), step_size=[0.5, 0.25], steps=2)
    assert run.average_gradient_sq(2) == pytest.approx((0.5 * 16 + 0.25 * 4) / 0.75)


def test_equal_seeds_draw_equal_noise():
    case = CASES["wells"]
    how = {"start": case.start, "step_size": 0.5, "steps": 5, "repetitions": 3}
    first, again, other = (simulate(case.oracle, Fixed(0.5), **how, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.gradient_sq, again.gradient_sq)
    assert np.abs(first.gradient_sq - other.gradient_sq)[1:].max() > 1e-3


# --- rules ----------------------------------------------------------------------------------------------


def test_weights_minimise_what_they_are_named_for():
    """Catches swapped criteria: each weight beats its neighbours in its own objective, on explicit vectors."""
    case = CASES["ill-conditioned quadratic"]
    law, kappa = case.oracle.law(case.start), 0.3
    grid = np.linspace(0, 1, 2001)
    bias = grid[:, None] * law.bias_t + (1 - grid[:, None]) * law.bias_e
    noise = np.array([np.trace(case.oracle.covariance_of_mix(a)) for a in grid])
    mean = law.target + bias
    objectives = {
        "mse": (bias**2).sum(axis=1) + noise,
        "step": (bias**2).sum(axis=1) + kappa * noise,
        "descent": ((mean - law.target / kappa) ** 2).sum(axis=1) + noise,
        "cosine": -(mean @ law.target) / np.sqrt((mean**2).sum(axis=1) + noise),
    }
    found = {}
    for criterion in CRITERIA:
        weights = FromStart(criterion).weights(law, np.array([kappa, 0.1]))
        assert weights[0] == weights[1]
        found[criterion] = weights[0]
        assert weights[0] == pytest.approx(grid[np.argmin(objectives[criterion])], abs=1e-3)
    assert len({round(weight, 3) for weight in found.values()}) >= 3


def test_the_schedule_follows_the_step_and_ends_at_the_least_bias():
    """Catches a schedule that ignores kappa_t, or runs the wrong way."""
    case = CASES["ill-conditioned quadratic"]
    law = case.oracle.law(case.start)
    kappas = np.array([1.0, 0.3, 0.01, 0.0])
    weights = Scheduled().weights(law, kappas)
    assert weights[0] == FromStart("mse").weights(law, kappas)[0]
    assert weights[1] == FromStart("step").weights(law, kappas[1:])[0]
    assert (np.diff(weights) > 0).all()
    assert weights[-1] == pytest.approx(1.0)  # b_t = 0 in this case


def test_james_stein_shrinks_by_the_batch_and_only_above_rank_two():
    """Catches a constant of the wrong covariance, and shrinkage where it has no guarantee."""
    rule = JamesStein()
    pair = GradientPair(np.array([[3.0, 0.0], [0.5, 0.0]]), np.zeros((2, 2)))
    assert rule.constant(np.eye(4) * 0.5) == pytest.approx(1.0)
    assert rule.batch_weights(pair, 1.0).tolist() == pytest.approx([1 - 1 / 9, 0.0])
    assert rule.constant(np.eye(2)) <= 0
    assert rule.batch_weights(pair, 0.0).tolist() == [1.0, 1.0]
    case = CASES["isotropic quadratic"]
    how = {"start": case.start, "step_size": 1.0, "steps": 40, "repetitions": 2000, "seed": 0}
    shrunk, plain = (simulate(case.oracle, r, **how) for r in (rule, Fixed(1.0)))
    assert shrunk.bias_sq is None
    assert 0.2 < shrunk.weights.mean() < 0.9
    difference = shrunk.average_gradient_sq(40) - plain.average_gradient_sq(40)
    assert difference.mean() + 5 * difference.std() / np.sqrt(2000) < 0


def test_names_of_rules_are_unique():
    names = [rule.name for rule in (*standard_rules(), Scheduled())]
    assert len(set(names)) == len(names) == 9


# --- refusals -------------------------------------------------------------------------------------------


class Unbounded(Wells):
    """A loss that claims no minimum."""

    minimum = -np.inf


class Broken(Wells):
    """A gradient that is not a number away from the start."""

    def gradient(self, x):
        return np.where(np.abs(x) < 0.79, np.nan, super().gradient(x))


class Planless(Rule):
    name = "planless"


def wells_oracle(problem):
    return ConstantOracle.isotropic(problem, np.zeros(1), np.zeros(1), var_t=0.0, var_e=0.0, cov_te=0.0)


GOOD = {"start": np.array([0.8]), "step_size": 0.5, "steps": 5, "repetitions": 2, "seed": 0}


@pytest.mark.parametrize(
    ("changes", "problem", "message"),
    [
        ({"step_size": 1.01}, Wells, r"step_size must be at most 1/L = 1.0 on 'w', got 1.01"),
        ({"step_size": [0.5, 0.5, 2.0, 0.5, 0.5]}, Wells, r"at most 1/L = 1\.0 on 'w', got 2\.0"),
        ({"step_size": 0.0}, Wells, "step_size must be positive"),
        ({"step_size": [0.5, 0.5, np.nan, 0.5, 0.5]}, Wells, "step_size must be positive and finite, got nan"),
        ({"step_size": [0.5, 0.5]}, Wells, r"one number or one per step \[5\]"),
        ({"steps": 0}, Wells, "steps must be at least 1, got 0"),
        ({"repetitions": 0}, Wells, "repetitions must be at least 1"),
        ({"horizons": [6]}, Wells, "horizons must lie between 1 and steps = 5"),
        ({"start": np.array([np.inf])}, Wells, "start must be finite"),
        ({}, Unbounded, "not bounded below"),
        ({}, Broken, "gradient is not finite after 1 steps"),
    ],
)
def test_runs_without_a_meaning_are_refused(changes, problem, message):
    with pytest.raises(ValueError, match=message):
        simulate(wells_oracle(problem("w", 1, 0.5)), Fixed(0.5), **(GOOD | changes))


def test_exact_runs_need_a_quadratic_and_a_rule_needs_weights():
    case = CASES["wells"]
    with pytest.raises(ValueError, match="need a quadratic loss, got 'wells'"):
        exact_run(case.oracle, Fixed(0.5), start=case.start, step_size=0.5, steps=1)
    with pytest.raises(ValueError, match="plans no weights"):
        simulate(wells_oracle(Wells("w", 1, 0.5)), Planless(), **GOOD)
    with pytest.raises(ValueError, match="criterion must be one of"):
        FromStart("best")
    with pytest.raises(ValueError, match="weight must be finite"):
        Fixed(np.nan)
    assert not issubclass(Planless, PlannedRule)
