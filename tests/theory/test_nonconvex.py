"""Bounds for smooth losses on single inputs: worked values, the order between them, extremal cases, bad inputs."""

import numpy as np
import pytest

from bvpo_analysis.theory import nonconvex

RUN = {"steps": 5, "step_size": 0.25, "smoothness": 2.0, "bias_bound": 0.6, "noise_var": 1.4}
BY_GAP = [nonconvex.classical_bound, nonconvex.improved_bound]
BY_DECREASE = [nonconvex.telescoped_bound, nonconvex.sharp_bound]
CALLS = [
    *((f, {**RUN, "initial_gap": 1.3}) for f in BY_GAP),
    *((f, {**RUN, "decrease": 0.9}) for f in BY_DECREASE),
    (
        nonconvex.one_step_bound,
        {"gradient_sq": 2.0, "step_size": 0.25, "smoothness": 2.0, "bias_bound": 0.6, "noise_var": 1.4},
    ),
    (
        nonconvex.varying_steps_bound,
        {"initial_gap": 1.0, "step_sizes": [0.5, 0.2], "smoothness": 2.0, "bias_bounds": 0.6, "noise_vars": 1.4},
    ),
    (nonconvex.stationarity_floor, {"kappa": 0.5, "bias_bound": 0.6, "noise_var": 1.4}),
]
IDS = [f.__name__ for f, _ in CALLS]


def test_worked_values():
    """Catches a lost factor: 2 Delta/(eta T) = 2.08, zeta^2 = 0.36, kappa sigma^2 = 0.7."""
    gap = {**RUN, "initial_gap": 1.3}
    assert float(nonconvex.classical_bound(**gap)) == pytest.approx(2.08 + 0.36 + 0.7)
    assert float(nonconvex.improved_bound(**gap)) == pytest.approx(2.08 + 0.8 * 1.06)
    assert float(nonconvex.telescoped_bound(**RUN, decrease=-0.4)) == pytest.approx(-0.64 + 1.06)
    # G solves (1 - kappa/2) G^2 - (1 - kappa) zeta G - kappa/2 (zeta^2 + sigma^2) = R, here with R = 0.9/1.25.
    root = np.sqrt(nonconvex.sharp_bound(**RUN, decrease=0.9))
    assert 0.75 * root**2 - 0.5 * 0.6 * root - 0.25 * (0.36 + 1.4) == pytest.approx(0.72)


def test_the_improved_bound_may_grow_with_the_number_of_steps():
    """Catches an overclaim: below the floor, more steps raise (1 - 1/T) faster than they lower 2 Delta/(eta T)."""
    values = nonconvex.improved_bound(**{**RUN, "steps": [1, 2, 10]}, initial_gap=0.01)
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.1])
def test_the_one_step_inequality_is_attained(kappa):
    """Catches any loosening: on (L/2) x^2 with b = -grad f the mean step is zero and the noise alone moves x."""
    smoothness, zeta, noise = 2.0, 0.7, 0.9
    eta, x = kappa / smoothness, zeta / smoothness
    after = [smoothness / 2 * (x - eta * xi) ** 2 for xi in (-noise, noise)]
    change = np.mean(after) - smoothness / 2 * x**2
    bound = nonconvex.one_step_bound(
        gradient_sq=zeta**2, step_size=eta, smoothness=smoothness, bias_bound=zeta, noise_var=noise**2
    )
    assert float(bound) == pytest.approx(change)


@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.1])
@pytest.mark.parametrize("bias", [0.7, -0.2, 0.0])
def test_with_the_mean_step_the_one_step_inequality_is_exact_on_a_quadratic(kappa, bias):
    """Catches the sign and the factor 1 - kappa of the term that the paper's form leaves out: (L/2) x^2, any bias."""
    smoothness, gradient, noise = 2.0, 1.3, 0.9
    eta, x = kappa / smoothness, gradient / smoothness
    after = [smoothness / 2 * (x - eta * (gradient + bias + xi)) ** 2 for xi in (-noise, noise)]
    law = {"step_size": eta, "smoothness": smoothness, "bias_bound": abs(bias), "noise_var": noise**2}
    bound = nonconvex.one_step_bound(gradient_sq=gradient**2, mean_step_sq=(gradient + bias) ** 2, **law)
    assert float(bound) == pytest.approx(np.mean(after) - smoothness / 2 * x**2)


@pytest.mark.parametrize("kappa", [1.0, 0.7, 0.1])
@pytest.mark.parametrize("gradient", [0.8, 2.0, 30.0])
def test_the_sharp_bound_is_attained_in_one_step(kappa, gradient):
    """Catches any loosening or sign error: (L/2) x^2 with b = -zeta sign(x) and two-atom noise."""
    smoothness, zeta, noise = 2.0, 0.7, 0.9
    eta, x = kappa / smoothness, gradient / smoothness
    after = [smoothness / 2 * (x - eta * (gradient - zeta + xi)) ** 2 for xi in (-noise, noise)]
    run = {"steps": 1, "step_size": eta, "smoothness": smoothness, "bias_bound": zeta, "noise_var": noise**2}
    decrease = smoothness / 2 * x**2 - np.mean(after)
    assert float(nonconvex.sharp_bound(**run, decrease=decrease)) == pytest.approx(gradient**2)
    if kappa < 1:
        assert float(nonconvex.telescoped_bound(**run, decrease=decrease)) > gradient**2 * (1 + 1e-4)


def test_the_floor_is_the_limit_of_the_sharp_bound():
    """Catches a floor that belongs to another bound."""
    run = {**RUN, "steps": 1e12}
    floor = nonconvex.stationarity_floor(kappa=0.5, bias_bound=0.6, noise_var=1.4)
    assert float(nonconvex.sharp_bound(**run, decrease=1.0)) == pytest.approx(float(floor.floor), rel=1e-9)
    assert float(nonconvex.classical_bound(**run, initial_gap=1.0)) == pytest.approx(float(floor.upper), rel=1e-9)


@pytest.mark.parametrize(("zeta", "var", "weight"), [(0.0, 2.0, 0.5 / 1.5), (100.0, 1e-3, 0.5)])
def test_the_weight_of_the_noise_in_the_floor(zeta, var, weight):
    """Catches one weight for all regimes: kappa/(2 - kappa) without bias, kappa where the bias dwarfs the noise."""
    floor = float(nonconvex.stationarity_floor(kappa=0.5, bias_bound=zeta, noise_var=var).floor)
    assert (floor - zeta**2) / var == pytest.approx(weight, rel=1e-4)


def test_constant_steps_are_a_special_case_of_varying_ones():
    """Catches weights that do not sum to one, and L left out of the noise term."""
    varying = nonconvex.varying_steps_bound(
        initial_gap=1.3, step_sizes=np.full(5, 0.25), smoothness=2.0, bias_bounds=0.6, noise_vars=np.full(5, 1.4)
    )
    assert float(varying) == pytest.approx(float(nonconvex.classical_bound(**RUN, initial_gap=1.3)))


def test_varying_steps_worked_value():
    """Catches unweighted averages: [2 + (1*4 + .5*1) + .8*(1*1 + .25*3)] / 1.5 with everything varying."""
    value = nonconvex.varying_steps_bound(
        initial_gap=1.0, step_sizes=[1.0, 0.5], smoothness=0.8, bias_bounds=[2.0, 1.0], noise_vars=[1.0, 3.0]
    )
    assert float(value) == pytest.approx((2 + 4.5 + 0.8 * 1.75) / 1.5)


def test_decreasing_steps_remove_the_noise_but_not_the_bias():
    """Catches a bias term that vanishes with the step."""
    etas = 0.5 / np.sqrt(np.arange(1, 10**6 + 1))
    law = {"initial_gap": 1.0, "step_sizes": etas, "smoothness": 2.0}
    assert float(nonconvex.varying_steps_bound(**law, bias_bounds=0.0, noise_vars=1.0)) < 0.02
    assert float(nonconvex.varying_steps_bound(**law, bias_bounds=0.6, noise_vars=0.0)) > 0.36


def test_everything_broadcasts():
    """Catches scalar-only branches."""
    grid = {**RUN, "step_size": np.array([[0.1], [0.5]]), "bias_bound": np.array([0.0, 1.0, 2.0])}
    for bound, extra in [*((f, "initial_gap") for f in BY_GAP), *((f, "decrease") for f in BY_DECREASE)]:
        values = bound(**grid, **{extra: 1.0})
        alone = bound(**{**RUN, "step_size": 0.5, "bias_bound": 2.0}, **{extra: 1.0})
        assert values.shape == (2, 3)
        assert values[1, 2] == float(alone)
    assert nonconvex.varying_steps_bound(
        initial_gap=[1.0, 2.0], step_sizes=np.full((2, 3), 0.1), smoothness=[1.0, 2.0], bias_bounds=0.0, noise_vars=1.0
    ) == pytest.approx([2 / 0.3 + 0.1, 4 / 0.3 + 0.2])


def test_steps_of_exactly_one_over_l_are_admitted():
    """Catches a comparison that rounding breaks: (1/L) L may exceed 1."""
    for smoothness in np.geomspace(1e-3, 1e3, 301):
        run = {**RUN, "step_size": 1 / smoothness, "smoothness": smoothness}
        assert float(nonconvex.improved_bound(**run, initial_gap=0.0)) == pytest.approx(0.8 * (0.36 + 1.4))


@pytest.mark.parametrize(
    "bound", [f for f, _ in CALLS if f is not nonconvex.stationarity_floor], ids=lambda f: f.__name__
)
def test_a_step_beyond_one_over_l_raises(bound):
    """Catches a bound quoted where it does not hold."""
    arguments = dict(CALLS)[bound]
    name = "step_sizes" if "step_sizes" in arguments else "step_size"
    with pytest.raises(ValueError, match=f"^{name} must be at most 1 / smoothness = 0.5, got 0.51"):
        bound(**{**arguments, name: [0.5, 0.51]})


@pytest.mark.parametrize("bound", BY_DECREASE)
def test_an_impossible_rise_of_the_loss_raises(bound):
    """Catches the root of a negative number."""
    with pytest.raises(ValueError, match="decrease is more negative"):
        bound(**RUN, decrease=-10.0)


@pytest.mark.parametrize("kappa", [0.0, 1.1])
def test_the_floor_needs_kappa_in_the_unit_interval(kappa):
    """Catches a kappa beyond the reach of the descent lemma."""
    with pytest.raises(ValueError, match="kappa must be in"):
        nonconvex.stationarity_floor(kappa=kappa, bias_bound=1.0, noise_var=1.0)


def test_fewer_than_one_step_raises():
    """Catches a division by zero steps."""
    for bound, arguments in CALLS[:4]:
        with pytest.raises(ValueError, match="steps must be at least 1"):
            bound(**{**arguments, "steps": 0})
    with pytest.raises(ValueError, match="must have an axis of steps"):
        nonconvex.varying_steps_bound(**{**dict(CALLS)[nonconvex.varying_steps_bound], "step_sizes": 0.5})


@pytest.mark.parametrize(("bound", "arguments"), CALLS, ids=IDS)
def test_bad_numbers_raise_by_name(bound, arguments):
    """Catches NaN, infinity and negative sizes that come out as a number."""
    for name in arguments:
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match=f"^{name} must be finite"):
                bound(**{**arguments, name: bad})
        if name != "decrease":
            with pytest.raises(ValueError, match=f"^{name} must"):
                bound(**{**arguments, name: -1.0})


@pytest.mark.parametrize("name", ["bias_bounds", "noise_vars"])
def test_one_step_size_does_not_stand_for_many_steps(name):
    """Catches a sum over more biases than steps, divided by the steps."""
    law = {"bias_bounds": [1.0], "noise_vars": [1.0], name: [1.0, 1.0]}
    with pytest.raises(ValueError, match=f"{name} must have one number per step, 1, got 2"):
        nonconvex.varying_steps_bound(initial_gap=1.0, step_sizes=[0.5], smoothness=1.0, **law)
