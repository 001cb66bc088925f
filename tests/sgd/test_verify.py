"""Bounds against runs: none fails on a reduced grid, wrong ones are caught, and where none applies it is said why."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis.sgd import verify as module
from bvpo_analysis.sgd.adversary import BIASES, Instances, bound_ratios, search
from bvpo_analysis.sgd.bounds import BOUNDS, CONSTANT
from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.rules import Fixed, FromStart, JamesStein, Scheduled
from bvpo_analysis.sgd.runs import simulate
from bvpo_analysis.sgd.trajectories import under_schedule, with_bounds
from bvpo_analysis.sgd.verify import check, claims, data_frame, facts_of, summary, verify, violations

CASES = {case.name: case for case in standard_cases()}
RULES = (Fixed(0.0), Fixed(1.0), FromStart("step"), JamesStein())


@pytest.fixture(scope="module")
def rows():
    return verify(standard_cases(), RULES, kappas=(0.1, 1.0), horizons=(10, 40), repetitions=60)


def test_every_bound_holds_on_the_reduced_grid(rows):
    """Catches a bound that is too small anywhere: ten problems, two step sizes, two horizons, four rules."""
    assert violations(rows) == []
    table = summary(rows).set_index("bound")
    assert set(table.index) == {bound.name for bound in BOUNDS}
    assert (table["checked"] == table["held"]).all()
    assert (table["checked"] >= 10).drop("biased ABC").all()
    assert table["tightest"].min() > 1 - 1e-9


def lowered(bound):
    return replace(bound, predicted=lambda facts, decrease: 0.9 * bound.predicted(facts, decrease))


@pytest.fixture(scope="module")
def broken():
    """Bounds with a violation when all of them are ten per cent too small."""
    cases = [CASES[name] for name in ("isotropic quadratic", "noiseless quadratic", "wells", "ripples (PL)")]
    how = {"kappas": (1.0,), "horizons": (10, 100), "repetitions": 60}
    return {row.bound for row in violations(verify(cases, RULES, **how, bounds=[lowered(b) for b in BOUNDS]))}


@pytest.mark.parametrize("name", [b.name for b in BOUNDS if b.name not in ("biased ABC", "convex")])
def test_a_bound_ten_per_cent_too_small_is_reported(broken, name):
    """Catches a comparison that cannot fail. (Biased ABC and the convex bound are more than twice the measured.)"""
    assert name in broken


def test_the_improved_bound_is_tight_where_theory_says(rows):
    """Catches constants that are not those of the mix: ratio 1 on the isotropic quadratic at kappa = 1 only."""
    mine = [r for r in rows if r.bound == "improved" and r.scheme == CONSTANT and r.constants == "exact"]
    tight = {(r.problem, r.kappa) for r in mine if abs(r.tightness - 1) < 1e-9}
    assert tight == {("isotropic quadratic", 1.0)}


def test_rows_say_why_a_bound_does_not_apply(rows):
    """Catches silent omissions: every row either has a verdict or a reason."""
    assert all((row.holds is None) == bool(row.reason) for row in rows)
    assert all(np.isnan(row.predicted) == bool(row.reason) for row in rows)
    reasons = {(row.bound, row.problem, row.scheme, row.kappa >= 0.99): row.reason for row in rows if row.reason}
    assert reasons["PL", "wells", "constant", True] == "the loss has no known PL constant"
    assert reasons["convex", "wells", "constant", False] == "the loss is not convex"
    assert reasons["convex", "quadratic, bounded noise", "constant", True] == "needs kappa <= 1/2"
    assert ("convex", "isotropic quadratic", "constant", False) not in reasons
    assert reasons["distance", "isotropic quadratic", "constant", False] == "needs gradients without noise"
    assert reasons["biased ABC", "wells", "constant", True] == "needs kappa <= 1/4"
    assert reasons["classical", "wells", "cosine", True] == "the step size varies"
    assert ("varying", "ripples (PL)", "decreasing", True) not in reasons
    assert reasons["varying", "wells", "constant", True] == "same as classical: step size, bias and noise do not vary"


def test_constants_are_exact_maxima_simulated_or_unknown(rows):
    """Catches maxima along one path passed off as exact constants."""
    known = {(row.problem, row.rule == "james-stein"): row.constants for row in rows}
    assert known["wells", False] == "exact"
    assert known["wells", True] == "simulated"
    assert known["reasoning model", False] == "maxima along the path"
    assert known["reasoning model", True] == "unknown"


def test_james_stein_constants_cover_those_of_a_rule_that_is_known():
    """Catches simulated constants below the true ones: with two directions James-Stein is alpha = 1, which is known."""
    case = CASES["quadratic, bounded noise"]
    zeta, noise = module._shrinkage_constants(case, JamesStein())
    law = case.oracle.law(case.start)
    assert np.sqrt(law.bias_sq(1.0)) <= zeta <= np.sqrt(law.bias_sq(1.0)) + 0.05
    assert law.noise_var(1.0) <= noise <= 1.05 * law.noise_var(1.0)


def test_path_means_and_maxima_come_from_the_points_visited():
    """Catches constants of the start used along the path, where bias grows."""
    case = CASES["reasoning model"]
    how = {"start": case.start, "step_size": 1.0, "steps": 30, "repetitions": 50, "seed": 0, "horizons": [10, 30]}
    run = simulate(case.oracle, Fixed(1.0), **how)
    facts, constants = facts_of(case, run, CONSTANT, 10)
    assert constants == "maxima along the path"
    assert facts.zeta**2 == pytest.approx(run.bias_sq[:10].max())
    np.testing.assert_array_equal(facts.zeta_sq_path, run.bias_sq[:10])
    assert facts.zeta_sq_path[0].max() < 1e-20 < facts.zeta_sq_path[-1].min()  # unbiased at the reference
    assert facts.radius == pytest.approx(np.sqrt((run.distance[:10] ** 2).mean(axis=1).max()))
    assert facts.steps == 10


def test_the_standard_error_is_that_of_the_difference():
    """Catches a verdict on the telescoped bound that ignores how the bound itself fluctuates."""
    case = CASES["wells"]
    how = {"start": case.start, "step_size": 1.0, "steps": 20, "repetitions": 400, "seed": 0, "horizons": [20]}
    facts, constants = facts_of(case, simulate(case.oracle, Fixed(0.5), **how), CONSTANT, 20)
    by_name = {bound.name: bound for bound in BOUNDS}
    telescoped, classical = (
        check(facts, by_name[name], problem="", rule="", constants=constants) for name in ("telescoped", "classical")
    )
    values, decrease = facts.average_gradient_sq, facts.decrease
    difference = values - 2 / 20 * decrease  # eta = L = 1
    assert telescoped.se == pytest.approx(difference.std(ddof=1) / 20, rel=1e-6)
    assert classical.se == pytest.approx(values.std(ddof=1) / 20, rel=1e-6)


def test_the_varying_bound_is_compared_repetition_by_repetition():
    """Catches a standard error that takes the biases met along the path for fixed numbers."""
    case = CASES["reasoning model"]
    eta = 1 / case.oracle.problem.smoothness
    how = {"start": case.start, "step_size": eta, "steps": 20, "repetitions": 300, "seed": 0, "horizons": [20]}
    run = simulate(case.oracle, Fixed(1.0), **how)
    facts, constants = facts_of(case, run, CONSTANT, 20)
    varying = next(bound for bound in BOUNDS if bound.name == "varying")
    row = check(facts, varying, problem="", rule="", constants=constants)
    allowed = 2 * facts.initial_gap / (20 * eta) + run.bias_sq.mean(axis=0) + run.noise_var.mean(axis=0)  # kappa = 1
    assert row.predicted == pytest.approx(allowed.mean())
    assert row.se == pytest.approx((run.average_gradient_sq(20) - allowed).std(ddof=1) / np.sqrt(300), rel=1e-6)


def test_a_mix_set_by_batches_without_noise_has_no_noise():
    """Catches rounding passed off as noise, which would hide the bound on the distance."""
    case = CASES["noiseless quadratic"]
    zeta, noise = module._shrinkage_constants(case, JamesStein())
    assert noise == 0
    assert zeta == pytest.approx(np.sqrt(case.oracle.law(case.start).bias_sq(1.0)), rel=1e-12)


def test_tables_and_claims_carry_what_was_checked(rows):
    frame = data_frame(rows)
    assert len(frame) == len(rows)
    assert {"problem", "rule", "kappa", "bound", "measured", "se", "predicted", "tightness", "holds"} <= set(frame)
    found = claims(rows)
    assert {claim.kind for claim in found} == {"upper"}
    assert all(claim.confirmed for claim in found)
    assert len({claim.name for claim in found}) == len(found) == len(BOUNDS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kappas": (1.5,)}, "kappa must be in"),
        ({"kappas": (0.0,)}, "kappa must be in"),
        ({"horizons": ()}, "horizons must be at least 1"),
        ({"horizons": (0,)}, "horizons must be at least 1"),
        ({"repetitions": 29}, "repetitions must be at least 30 for a verdict, got 29"),
    ],
)
def test_bad_grids_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        verify([CASES["wells"]], [Fixed(0.5)], **({"kappas": (1.0,), "horizons": (5,), "repetitions": 30} | changes))


# --- the search for violations ---------------------------------------------------------------------------


def test_the_search_finds_no_violation_and_the_known_equalities():
    """Catches bounds that fail on adversarial biases and skewed noise, and a search too weak to come near them."""
    found = {closest.bound: closest for closest in search(count=1000, rounds=6)}
    assert sum(closest.violated for closest in found.values()) == 0
    assert min(closest.checked for closest in found.values()) > 3000
    for bound in ("classical", "improved", "telescoped", "sharp", "PL", "distance"):
        assert found[bound].ratio == pytest.approx(1.0, abs=1e-6)
    assert 0.5 < found["convex"].ratio < 1


def one(**changes):
    plain = {"kappa": 1.0, "curvature": 1.0, "width": np.inf, "start": 2.0, "zeta": 0.0, "sigma": 0.0, "rare": 0.3}
    numbers = {name: np.array([value]) for name, value in (plain | changes).items() if name not in ("bias", "pattern")}
    bias = np.array([BIASES.index(changes.get("bias", "along the slope"))])
    return Instances(**numbers, bias=bias, pattern=np.array([changes.get("pattern", [-1.0] * 5)]))


def test_ratios_of_worst_cases_by_hand():
    """Catches a mistaken bias mode, noise law or loss in the search."""
    # One step of f = x^2/2 from 2 with kappa = 1/2 and b = -zeta sign: the sharp bound is exact, the others are not.
    ratios = bound_ratios(one(kappa=0.5, zeta=0.5), 1)
    assert ratios["sharp"][0] == pytest.approx(1.0, abs=1e-12)
    assert ratios["classical"][0] == pytest.approx(4 / (2 * 2 / 0.5 + 0.25))
    # Noise of two values at kappa = 1: every later loss is sigma^2/2 in the mean, and the improved bound is met.
    assert bound_ratios(one(sigma=1.5, start=1.0), 4)["improved"][0] == pytest.approx(1.0, abs=1e-12)
    # A freezing bias on a Huber loss never moves: f(xbar) stays, far below the convex bound's floor zeta R.
    frozen = one(kappa=0.5, width=0.1, zeta=0.1, bias="freezing")
    assert bound_ratios(frozen, 5)["convex"][0] == pytest.approx(0.1 * (2 - 0.05) / (4 / 5 + 0.2 + 0.005))
    # f = x^2/2, constant bias along +x: x_1 = 2 - (2 + 1)/2 = 0.5, while the distance bound allows 1 + 0.5.
    along = one(kappa=0.5, zeta=1.0, bias="fixed direction", pattern=[1.0])
    assert bound_ratios(along, 1)["distance"][0] == pytest.approx(0.5 / 1.5)
    # The sign may change between steps: 2 - (2 - 1)/2 = 1.5, then 1.5 - (1.5 + 0.5)/2 = 0.5.
    turning = one(kappa=0.5, zeta=1.0, pattern=[-1.0, 0.5])
    average = (2**2 + 1.5**2) / 2
    assert bound_ratios(turning, 2)["classical"][0] == pytest.approx(average / (2 * 2 / (0.5 * 2) + 1))
    assert bound_ratios(turning, 2)["telescoped"][0] == pytest.approx(average / (2 * (2 - 0.125) / (0.5 * 2) + 1))


def test_the_search_would_see_a_bound_that_is_a_little_too_small(monkeypatch):
    """Catches a search that stays away from the worst cases: one per cent off must be found."""
    from bvpo_analysis.sgd import adversary

    monkeypatch.setattr(adversary, "sharp_bound", lambda **law: 0.99 * module_sharp(**law))
    found = {closest.bound: closest for closest in adversary.search(count=300, rounds=5)}
    assert found["sharp"].violated > 0
    assert found["classical"].violated == 0


def module_sharp(**law):
    from bvpo_analysis.theory.nonconvex import sharp_bound

    return sharp_bound(**law)


# --- curves ----------------------------------------------------------------------------------------------


def test_curves_lie_below_their_bounds():
    """Catches a bound drawn for another horizon than the average beside it."""
    table = with_bounds(CASES["isotropic quadratic"], Fixed(0.5), kappa=1.0, steps=50)
    wide = table.pivot(index="step", columns="series", values="value")
    np.testing.assert_allclose(wide["measured"], wide["improved"], rtol=1e-9)
    np.testing.assert_allclose(wide["measured"], wide["sharp"], rtol=1e-9)
    assert (wide["classical"] > wide["improved"]).all()
    simulated = with_bounds(CASES["wells"], Fixed(0.5), kappa=0.5, steps=20, repetitions=100)
    assert (simulated[simulated.series == "measured"].se > 0).all()


def test_the_schedule_curve_starts_like_alpha_star_and_ends_lower():
    table = under_schedule([CASES["ill-conditioned quadratic"]], kappa=1.0, steps=200)
    by_rule = {rule: rows.set_index("step") for rule, rows in table.groupby("rule")}
    schedule, star = by_rule["schedule"], by_rule["α* throughout"]
    assert schedule["weight"].iloc[0] == star["weight"].iloc[0]
    assert schedule["value"].iloc[-1] < star["value"].iloc[-1]
    assert by_rule["best constant"]["value"].iloc[-1] <= min(
        star["value"].iloc[-1], by_rule["½ throughout"]["value"].iloc[-1]
    )
    with pytest.raises(ValueError, match="need constant biases"):
        under_schedule([CASES["reasoning model"]], kappa=1.0, steps=5)
    assert Scheduled().name == "schedule"
