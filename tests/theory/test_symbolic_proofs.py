"""Closed forms derived by computer algebra, and compared with the package at rational points.

Each derivation starts from a definition (a square, a step, a recursion), is carried out on symbols, and is then
evaluated exactly at points where it applies; a package formula that differs anywhere fails. Points are made from small
integer vectors, so that every set of moments is that of a law.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from types import ModuleType

import numpy as np
import pytest

from bvpo_analysis.theory.descent import (
    cosine,
    cosine_optimal_weight,
    descent_bound,
    descent_optimal_weight,
    descent_weight_shift,
    retuned_step,
    retuned_weights,
)
from bvpo_analysis.theory.equal_weight import equal_mix
from bvpo_analysis.theory.mixing import (
    error_curve,
    optimal_error,
    optimal_error_from_distance,
    optimal_weight,
    optimal_weight_dual,
    optimal_weight_from_distance,
    regret,
    weight_change_with_target,
)
from bvpo_analysis.theory.quadratics import quadratic_stationary, steady_variance_weight
from bvpo_analysis.theory.step_size import (
    bias_optimal_weight,
    horizon_kappa,
    step_size_regret,
    step_size_regret_factor,
    unit_kappa_horizon,
    variance_optimal_weight,
    weight_shift,
    weighted_error_curve,
    weighted_optimal_weight,
)
from bvpo_analysis.theory.weight_given_data import conditional_weight

Point = dict[str, Fraction]


@pytest.fixture(scope="module")
def sp(proof_package: Callable[[str], ModuleType]) -> ModuleType:
    """SymPy."""
    return proof_package("sympy")


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.vectorize(Fraction)(rng.integers(-6, 7, size=shape))


def squares(first: np.ndarray, second: np.ndarray) -> tuple[Fraction, Fraction, Fraction]:
    return (first * first).sum(), (second * second).sum(), (first * second).sum()


def points(count: int = 12, seed: int = 0) -> Iterator[Point]:
    """Exact moments of random integer vectors, every combination under its argument's name."""
    rng = np.random.default_rng(seed)
    found = 0
    while found < count:
        t, e, noise_t, noise_e = integers(rng, 4, 3)
        mu = integers(rng, 3)
        bt, be, bi = squares(t - mu, e - mu)
        st, se, ste = squares(noise_t, noise_e)
        second_t, second_e, second_te = bt + st, be + se, bi + ste
        if bt + be - 2 * bi == 0 or st + se - 2 * ste == 0 or st * se == ste**2:
            continue
        qt, qe, qte = squares(t, e)
        found += 1
        yield {
            "alpha": Fraction(int(rng.integers(-8, 17)), 8),
            "kappa": Fraction(int(rng.integers(1, 9)), 8),
            "step_size": Fraction(int(rng.integers(1, 9)), 4),
            "smoothness": Fraction(int(rng.integers(1, 9)), 2),
            "error_t": second_t,
            "error_e": second_e,
            "cross": second_te,
            "bias_t_sq": bt,
            "bias_e_sq": be,
            "bias_inner": bi,
            "var_t": st,
            "var_e": se,
            "cov_te": ste,
            "second_t": qt + st,
            "second_e": qe + se,
            "second_te": qte + ste,
            "signal_t": (mu * t).sum(),
            "signal_e": (mu * e).sum(),
            "target_sq": (mu * mu).sum(),
        }


def agree(sp: ModuleType, expression, function: Callable[..., object], *names: str, at=None) -> None:
    """The package's function of these arguments equals the symbolic expression at every point."""
    symbols = sorted(expression.free_symbols, key=str)
    exact = sp.lambdify(symbols, expression, modules="math")  # plain arithmetic: exact on fractions
    for point in points() if at is None else at:
        found = float(np.asarray(function(**{name: float(point[name]) for name in names})))
        assert found == pytest.approx(float(exact(*(point[str(x)] for x in symbols))), rel=1e-11, abs=1e-11)


def vanishes(sp: ModuleType, expression) -> bool:
    """Whether a rational expression is identically zero: its numerator over a common denominator is."""
    return sp.expand(sp.numer(sp.together(expression))) == 0


def real(sp: ModuleType, names: str):
    return sp.symbols(names, real=True)


def minimiser(sp: ModuleType, expression, variable):
    """The stationary point of a parabola that opens upwards."""
    (solution,) = sp.solve(sp.diff(expression, variable), variable)
    return sp.cancel(solution)


def mixed_square(first, second, inner, a):
    return a**2 * first + (1 - a) ** 2 * second + 2 * a * (1 - a) * inner


ERRORS = ("error_t", "error_e", "cross")
BIASES = ("bias_t_sq", "bias_e_sq", "bias_inner")
VARIANCES = ("var_t", "var_e", "cov_te")
SECONDS = ("second_t", "second_e", "second_te")
SIGNALS = ("signal_t", "signal_e")


# --- the mean squared error ------------------------------------------------------------------------------


def test_the_square_of_a_mix_has_the_three_moments(sp):
    """Catches a cross term of the wrong size: |a x + (1 - a) z|^2 for vectors, term by term."""
    a, *coordinates = real(sp, "a x1 x2 z1 z2")
    x, z = sp.Matrix(coordinates[:2]), sp.Matrix(coordinates[2:])
    mix = a * x + (1 - a) * z
    assert sp.expand(mix.dot(mix) - mixed_square(x.dot(x), z.dot(z), x.dot(z), a)) == 0


def test_optimal_weight_and_its_error(sp):
    """Catches a wrong alpha*, q* or parabola of regret."""
    a, big_a, c, b = real(sp, "alpha error_t error_e cross")
    q = mixed_square(big_a, c, b, a)
    best = minimiser(sp, q, a)
    distance = big_a + c - 2 * b
    least = sp.factor(q.subs(a, best))
    assert vanishes(sp, best - (c - b) / distance)
    assert vanishes(sp, least - (big_a * c - b**2) / distance)
    assert vanishes(sp, q - least - distance * (a - best) ** 2)
    agree(sp, q, error_curve, "alpha", *ERRORS)
    agree(sp, best, optimal_weight, *ERRORS)
    agree(sp, least, optimal_error, *ERRORS)
    agree(sp, q.subs(a, sp.Rational(1, 2)) - least, lambda **m: equal_mix(**m).regret, *ERRORS)

    def package_regret(alpha: float, error_t: float, error_e: float, cross: float) -> object:
        return regret(alpha, optimal_weight(error_t, error_e, cross), error_t + error_e - 2 * cross)

    agree(sp, q - least, package_regret, "alpha", *ERRORS)


def test_dual_forms_and_the_one_scalar_of_the_target(sp):
    """Catches a dual form with g_t for g_e, and the sign with which the target enters."""
    names = "t1 t2 e1 e2 mu1 mu2 v1 v2"
    t, e, mu, v = (sp.Matrix(pair) for pair in zip(*[iter(real(sp, names))] * 2, strict=True))
    x, z = t - mu, e - mu
    big_a, c, b = x.dot(x), z.dot(z), x.dot(z)
    distance, numerator, numerator_e = (t - e).dot(t - e), x.dot(t - e), z.dot(e - t)
    assert sp.expand(big_a + c - 2 * b - distance) == 0
    assert sp.expand(c - b - numerator_e) == 0
    assert sp.expand(big_a - b - numerator) == 0
    moved = (e - mu - v).dot(e - t)
    assert sp.expand(moved - numerator_e - v.dot(t - e)) == 0
    rng = np.random.default_rng(1)
    for _ in range(12):
        values = [integers(rng, 2) for _ in range(4)]
        found = dict(zip(sp.symbols(names, real=True), np.concatenate(values).tolist(), strict=True))
        exact = [float(sp.sympify(y).subs(found)) for y in (numerator, numerator_e, distance, big_a, c, v.dot(t - e))]
        n, n_e, d, a_, c_, move = exact
        alpha = n_e / d
        assert float(optimal_weight_from_distance(n, d, a_ + c_)) == pytest.approx(alpha, rel=1e-12, abs=1e-12)
        assert float(optimal_weight_dual(n_e, d, a_ + c_)) == pytest.approx(alpha, rel=1e-12)
        assert float(optimal_error_from_distance(a_, n, d)) == pytest.approx(a_ - n**2 / d, rel=1e-9, abs=1e-9)
        shifted = float((moved / distance).subs(found))
        assert float(weight_change_with_target(move, d)) == pytest.approx(shifted - alpha, rel=1e-9, abs=1e-12)


# --- step sizes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighted(sp):
    """F_kappa(alpha), its minimiser, and its symbols."""
    a, k, bt, be, bi, st, se, ste = real(sp, "alpha kappa " + " ".join((*BIASES, *VARIANCES)))
    curve = mixed_square(bt, be, bi, a) + k * mixed_square(st, se, ste, a)
    d0, d1 = bt + be - 2 * bi, st + se - 2 * ste
    return a, k, curve, minimiser(sp, curve, a), d0, d1


def test_weight_under_a_step_size(sp, weighted):
    """Catches kappa on the bias, and wrong limits."""
    a, k, curve, best, d0, d1 = weighted
    assert vanishes(sp, curve - curve.subs(a, best) - (d0 + k * d1) * (a - best) ** 2)
    assert vanishes(sp, best.subs(k, 1) - minimiser(sp, curve.subs(k, 1), a))
    agree(sp, curve, weighted_error_curve, "alpha", "kappa", *BIASES, *VARIANCES)
    agree(sp, best, weighted_optimal_weight, "kappa", *BIASES, *VARIANCES)
    agree(sp, sp.limit(best, k, 0), bias_optimal_weight, *BIASES)
    agree(sp, sp.limit(best, k, sp.oo), variance_optimal_weight, *VARIANCES)


def test_shift_and_price_of_the_mse_optimal_weight(sp, weighted):
    """Catches a wrong power or sign in the difference of the weights and in its cost."""
    a, k, curve, best, *_ = weighted
    agree(sp, best - best.subs(k, 1), weight_shift, "kappa", *BIASES, *VARIANCES)
    price = curve.subs(a, best.subs(k, 1)) - curve.subs(a, best)
    agree(sp, price, step_size_regret, "kappa", *BIASES, *VARIANCES)
    # The closed forms, in the parabolas d0 a^2 - 2 p0 a and d1 a^2 - 2 p1 a, whose constants cancel in differences.
    d0, d1, p0, p1 = real(sp, "d0 d1 p0 p1")
    parabola = (d0 + k * d1) * a**2 - 2 * (p0 + k * p1) * a
    ours = minimiser(sp, parabola, a)
    bias, variance, first = p0 / d0, p1 / d1, ours.subs(k, 1)
    apart = (1 - k) * d0 * d1 * (bias - variance) / ((d0 + d1) * (d0 + k * d1))
    assert vanishes(sp, ours - first - apart)
    cost = d0**2 * d1**2 * (1 - k) ** 2 * (variance - bias) ** 2 / ((d0 + d1) ** 2 * (d0 + k * d1))
    assert vanishes(sp, parabola.subs(a, first) - parabola.subs(a, ours) - cost)


def test_the_factor_is_the_supremum_of_a_family(sp):
    """Catches a factor that is too small or not attained, by a certificate: the gap is a square over positive terms.

    g_e has bias 1 and no noise, g_t has bias x in the same direction and variance r.
    """
    a, x = real(sp, "alpha x")
    k, r = sp.symbols("kappa r", positive=True)
    curve = (a * x + 1 - a) ** 2 + k * a**2 * r
    best = minimiser(sp, curve, a)
    first, least = curve.subs(a, best.subs(k, 1)), curve.subs(a, best)
    factor = (1 + k) ** 2 / (4 * k)
    d0 = (1 - x) ** 2
    certificate = r * (1 - k) ** 2 * (r - d0) ** 2 / (4 * (d0 + r) ** 2 * (d0 + k * r))
    assert vanishes(sp, factor * least - first - certificate)
    attained = sp.simplify((first / least).subs(r, d0))
    assert vanishes(sp, attained - factor)
    for kappa in (Fraction(1, 100), Fraction(1, 10), Fraction(1, 2), Fraction(3, 1)):
        exact = attained.subs({k: sp.Rational(kappa), x: sp.Rational(1, 3)})
        assert float(step_size_regret_factor(float(kappa))) == pytest.approx(float(exact), rel=1e-12)


def test_the_step_that_a_horizon_wants(sp):
    """Catches a lost factor of 2: minimise 2 Delta L/(kappa T) + kappa sigma^2, and find T with kappa = 1."""
    k, steps, gap, smooth, variance = sp.symbols("kappa steps initial_gap smoothness noise_var", positive=True)
    slope = sp.diff(2 * gap * smooth / (k * steps) + k * variance, k)
    (best,) = sp.solve(slope, k)
    (horizon,) = sp.solve(best - 1, steps)
    rng = np.random.default_rng(2)
    for _ in range(10):
        values = {s: sp.Rational(int(rng.integers(1, 40)), 4) for s in (gap, smooth, variance)}
        task = {str(s): float(v) for s, v in values.items()}
        assert float(unit_kappa_horizon(**task)) == pytest.approx(float(horizon.subs(values)), rel=1e-12)
        for count in (1, 3, 50, 10**4):
            exact = min(1.0, float(best.subs({**values, steps: count})))
            assert float(horizon_kappa(count, **task)) == pytest.approx(exact, rel=1e-12)


# --- descent ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uncentred(sp):
    """E|g_c|^2 and <mu, E g_c>, with alpha."""
    a, qt, qe, qte, ut, ue = real(sp, "alpha " + " ".join((*SECONDS, *SIGNALS)))
    return a, mixed_square(qt, qe, qte, a), a * ut + (1 - a) * ue


def test_completing_the_square_in_the_descent_lemma(sp, uncentred):
    """Catches a lost 1/2 or kappa in the split of the bound."""
    eta, smooth, *coordinates = real(sp, "step_size smoothness g1 g2 mu1 mu2")
    g, mu = sp.Matrix(coordinates[:2]), sp.Matrix(coordinates[2:])
    rescaled = g - mu / (eta * smooth)
    lemma = -eta * mu.dot(g) + smooth * eta**2 / 2 * g.dot(g)
    assert vanishes(sp, lemma + mu.dot(mu) / (2 * smooth) - smooth * eta**2 / 2 * rescaled.dot(rescaled))
    _, square, signal = uncentred
    target_sq = real(sp, "target_sq")
    names = ("alpha", *SECONDS, *SIGNALS, "target_sq", "step_size", "smoothness")
    change = -eta * signal + smooth * eta**2 / 2 * square
    excess = smooth * eta**2 / 2 * (square - 2 * signal / (eta * smooth) + target_sq / (eta * smooth) ** 2)
    agree(sp, change, lambda **m: descent_bound(**m).change, *names)
    agree(sp, excess, lambda **m: descent_bound(**m).excess, *names)


def test_weight_of_the_steepest_step(sp, uncentred):
    """Catches kappa on the wrong term; at kappa = 1 it must be alpha*, elsewhere shifted by one scalar."""
    a, square, signal = uncentred
    k, target_sq = real(sp, "kappa target_sq")
    best = minimiser(sp, k * square / 2 - signal, a)
    mse = minimiser(sp, square - 2 * signal + target_sq, a)
    assert vanishes(sp, best.subs(k, 1) - mse)
    agree(sp, best, descent_optimal_weight, *SECONDS, *SIGNALS, "kappa")
    agree(sp, mse, optimal_weight, *ERRORS, at=[*_consistent()])

    def shift(second_t: float, second_e: float, second_te: float, **rest: float) -> object:
        return descent_weight_shift(distance=second_t + second_e - 2 * second_te, **rest)

    agree(sp, best - mse, shift, *SECONDS, *SIGNALS, "kappa")


def _consistent() -> Iterator[Point]:
    """Points as they are: errors, second moments and signals are of one law."""
    for point in points(seed=3):
        u_t, u_e, mu_sq = point["signal_t"], point["signal_e"], point["target_sq"]
        assert point["error_t"] == point["second_t"] - 2 * u_t + mu_sq
        assert point["cross"] == point["second_te"] - u_t - u_e + mu_sq
        yield point


def test_the_term_that_theorem_3_drops(sp):
    """Catches the wrong account of the slack: it is -(eta/2)(1 - kappa)|E g_c|^2, zero at kappa = 1."""
    eta, smooth, spread, *coordinates = real(sp, "eta L S m1 m2 mu1 mu2")
    mean, mu = sp.Matrix(coordinates[:2]), sp.Matrix(coordinates[2:])
    bias = mean - mu
    lemma = -eta * mu.dot(mean) + smooth * eta**2 / 2 * (mean.dot(mean) + spread)
    relaxed = -eta / 2 * mu.dot(mu) + eta / 2 * (bias.dot(bias) + eta * smooth * spread)
    assert vanishes(sp, lemma - relaxed + eta / 2 * (1 - eta * smooth) * mean.dot(mean))


def test_weight_of_the_largest_cosine(sp, uncentred):
    """Catches a wrong entry of Q^{-1}u: its normalised form is the only stationary point of the squared cosine."""
    a, square, signal = uncentred
    qt, qe, qte, ut, ue, target_sq = real(sp, " ".join((*SECONDS, *SIGNALS, "target_sq")))
    matrix, signals = sp.Matrix([[qt, qte], [qte, qe]]), sp.Matrix([ut, ue])
    weights = matrix.LUsolve(signals)
    best = sp.simplify(weights[0] / (weights[0] + weights[1]))
    formula = (qe * ut - qte * ue) / ((qe - qte) * ut + (qt - qte) * ue)
    assert vanishes(sp, best - formula)
    stationary = sp.numer(sp.together(sp.diff(signal**2 / square, a)))
    assert vanishes(sp, stationary.subs(a, formula))
    # Of the factors of the slope one is the cosine itself; the other is linear, so that there is no second optimum.
    factors = {factor for factor, _ in sp.factor_list(stationary)[1] if factor.has(a)}
    assert sorted(sp.degree(factor, a) for factor in factors) == [1, 1]
    assert vanishes(sp, (signal**2 / square).subs(a, formula) - (signals.T * weights)[0])
    names = (*SECONDS, *SIGNALS)
    agree(sp, weights[0], lambda **m: cosine_optimal_weight(**m).weight_t, *names)
    agree(sp, weights[1], lambda **m: cosine_optimal_weight(**m).weight_e, *names)
    agree(sp, signal / sp.sqrt(target_sq * square), cosine, "alpha", *names, "target_sq")

    def downhill() -> Iterator[Point]:
        for point in points(count=30, seed=4):
            t, e, te, u_t, u_e = (point[name] for name in names)
            if (e - te) * u_t + (t - te) * u_e > 0:
                yield point

    assert len(list(downhill())) >= 10
    agree(sp, best, lambda **m: cosine_optimal_weight(**m).alpha, *names, at=downhill())


def test_the_best_step_size_at_a_weight(sp, uncentred):
    """Catches a lost 1/2 or 1/L in the retuned step and its gain."""
    _, square, signal = uncentred
    eta, smooth = real(sp, "step_size smoothness")
    change = -eta * signal + smooth * eta**2 / 2 * square
    best = minimiser(sp, change, eta)
    descends = [
        p for p in points(count=30, seed=5) if p["alpha"] * p["signal_t"] + (1 - p["alpha"]) * p["signal_e"] > 0
    ]
    assert len(descends) >= 8
    names = ("alpha", *SECONDS, *SIGNALS, "smoothness")
    agree(sp, best, lambda **m: retuned_step(**m).step_size, *names, at=descends)
    agree(sp, change.subs(eta, best), lambda **m: retuned_step(**m).change, *names, at=descends)


def test_any_number_of_estimators_solve_one_linear_system(sp):
    """Catches a transposed or normalised solution for three estimators."""
    w = sp.Matrix(real(sp, "w0 w1 w2"))
    rng = np.random.default_rng(6)
    for _ in range(6):
        g, u = integers(rng, 3, 4), integers(rng, 3)
        q = sp.Matrix(3, 3, [(g[i] * g[j]).sum() for i, j in product(range(3), repeat=2)])
        if q.det() == 0:
            continue
        signals = sp.Matrix([sp.Rational(x) for x in u])
        decrease = (w.T * q * w)[0] / 2 - (signals.T * w)[0]
        exact = sp.solve([sp.diff(decrease, x) for x in w], list(w), dict=True)[0]
        found = retuned_weights(np.array(q.tolist(), dtype=float), u.astype(float))
        np.testing.assert_allclose(found.weights, [float(exact[x]) for x in w], rtol=1e-8, atol=1e-9)
        assert found.progress == pytest.approx(float(-2 * decrease.subs(exact)), rel=1e-8)


# --- runs and estimates ----------------------------------------------------------------------------------


def test_stationary_law_of_biased_steps(sp):
    """Catches kappa for kappa/(2 - kappa): the fixed point of mean and variance of x+ = x - eta (h x + b + xi)."""
    mean, variance, h, eta, b, s = real(sp, "mean variance h eta b s")
    at_rest = sp.solve(mean - (mean - eta * (h * mean + b)), mean)[0]
    (spread,) = sp.solve(variance - ((1 - eta * h) ** 2 * variance + eta**2 * s), variance)
    gradient_sq = sp.simplify(h**2 * (at_rest**2 + spread))
    loss = sp.simplify(h / 2 * (at_rest**2 + spread))
    smooth, k = sp.symbols("L kappa", positive=True)
    weight = sp.simplify((gradient_sq.subs({h: smooth, eta: k / smooth}) - b**2) / s)
    assert vanishes(sp, weight - k / (2 - k))
    rng = np.random.default_rng(7)
    for _ in range(8):
        curvatures, bias, noise = rng.integers(1, 9, size=(3, 2))
        step = Fraction(int(rng.integers(1, 12)), 60)
        found = quadratic_stationary(hessian=curvatures, bias=bias, noise_cov=noise, step_size=float(step))
        rows = [
            {h: int(x), b: int(y), s: int(z), eta: sp.Rational(step)}
            for x, y, z in zip(curvatures, bias, noise, strict=True)
        ]
        assert found.gradient_sq == pytest.approx(float(sum(gradient_sq.subs(row) for row in rows)), rel=1e-11)
        assert found.excess_loss == pytest.approx(float(sum(loss.subs(row) for row in rows)), rel=1e-11)
        kappa = sp.Rational(step) * 6
        assert float(steady_variance_weight(float(kappa))) == pytest.approx(float(weight.subs(k, kappa)), rel=1e-12)


def test_bias_traps_of_two_traces(sp):
    """Catches ddof and the plug-in bias: all samples of K = 2 traces from a law with two atoms, on symbols."""
    p, x, y, e = real(sp, "p x y e")
    atoms = ((p, x), (1 - p, y))
    mean = p * x + (1 - p) * y
    variance = p * (x - mean) ** 2 + (1 - p) * (y - mean) ** 2
    samples = [(u * v, first, second) for (u, first), (v, second) in product(atoms, repeat=2)]

    def expected(value: Callable) -> object:
        return sum(weight * value(first, second) for weight, first, second in samples)

    spread = expected(lambda a, b: (a - b) ** 2 / 2)
    distance = expected(lambda a, b: ((a - e) ** 2 + (b - e) ** 2) / 2)
    plug_in = expected(lambda a, b: (e - (a + b) / 2) ** 2)
    assert vanishes(sp, spread - variance)
    assert vanishes(sp, distance - variance - (e - mean) ** 2)
    assert vanishes(sp, plug_in - (e - mean) ** 2 - variance / 2)
    corrected = sp.simplify(plug_in - spread / 2)
    for values in ((Fraction(1, 3), 1, 4, 2), (Fraction(3, 4), -2, 5, 7)):
        at = dict(zip((p, x, y, e), map(sp.Rational, values), strict=True))
        means = np.zeros(3)
        for weight, first, second in samples:
            drawn = [[float(sp.sympify(g).subs(at))] for g in (first, second)]
            found = conditional_weight(drawn, [float(values[3])])
            means += float(weight.subs(at)) * np.array([found.var_t, found.distance, found.bias_e_sq])
        np.testing.assert_allclose(means, [float(v.subs(at)) for v in (spread, distance, corrected)], rtol=1e-12)
