"""More than two estimators, and one weight per block of parameters: what the closed forms promise, on explicit vectors.

The left sides are errors of mixed vectors; optima are found by least squares on every support, without the moment
matrix that the closed forms take.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import ROUNDING, FiniteLaw, finite_laws, worst
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.blocks import blockwise_gain
from bvpo_analysis.theory.combination import affine_combination, scaling_combination, simplex_combination

BATES_GRANGER = "Bates & Granger, Oper. Res. Quart. 20, 1969"


def _stacked_errors(count: int, estimators: int, seed: int) -> Iterator[Floats]:
    """Random laws of J estimators as matrices V [atoms x dimensions, J] of errors times sqrt(p).

    So E|sum a_i x_i|^2 = |Va|^2. Every third law has an estimator twice, another third one that is without error in
    half of the rows.
    """
    rng = np.random.default_rng(seed)
    for i in range(count):
        rows = int(rng.integers(2, 9))
        v = (rng.normal(size=(rows, estimators)) + rng.normal(size=(rows, 1))) * 10.0 ** rng.uniform(-1, 1, estimators)
        if i % 3 == 1:
            v[:, 1] = v[:, 0]
        elif i % 3 == 2:
            v[: rows // 2, 0] = 0.0
        yield v


def _error(v: Floats, a: Floats) -> float:
    return float(np.square(v @ a).sum())


def _affine_by_differences(v: Floats) -> Floats:
    """Weights of sum 1 and either sign, by least squares on the differences to the last estimator."""
    free = np.linalg.lstsq(v[:, :-1] - v[:, -1:], -v[:, -1], rcond=None)[0]
    return np.append(free, 1.0 - free.sum())


def _simplex_by_enumeration(v: Floats) -> float:
    """The least error over all supports whose own optimum has no negative weight."""
    j = v.shape[1]
    best = min(_error(v, a) for a in np.eye(j))
    for size in range(2, j + 1):
        for support in map(list, combinations(range(j), size)):
            weights = _affine_by_differences(v[:, support])
            if (weights >= 0).all():
                best = min(best, _error(v[:, support], weights))
    return best


def combination_simplex() -> Claim:
    """The quadratic program against the enumeration of all supports."""
    measured, predicted, tolerance = worst(
        (_simplex_by_enumeration(v), simplex_combination(v.T @ v).value, float(np.square(v).sum()))
        for v in _stacked_errors(90, estimators=4, seed=0)
    )
    return Claim(
        name="combination-simplex",
        statement="The least error of a convex mix of J estimators is the value of a quadratic program in E<x_i, x_j>",
        reference=BATES_GRANGER,
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="90 laws of 4 estimators, a third of them singular; all supports enumerated",
    )


def combination_affine() -> Claim:
    """Weights of either sign against least squares on vectors, also where the moment matrix is singular."""
    measured, predicted, tolerance = worst(
        (_error(v, _affine_by_differences(v)), affine_combination(v.T @ v).value, float(np.square(v).sum()))
        for v in _stacked_errors(90, estimators=4, seed=1)
    )
    return Claim(
        name="combination-affine",
        statement="The least error with weights of sum 1 solves M a = lambda 1, 1'a = 1, for singular M too",
        reference=BATES_GRANGER,
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="90 laws of 4 estimators in 2 to 8 coordinates, so that many M are singular",
    )


def combination_pseudo_inverse() -> Claim:
    """1/(1'M^+1) fails for an exact estimator beside a noisy one."""
    v = np.diag([0.0, 1.0])
    return Claim(
        name="combination-pseudo-inverse",
        statement="The least error with weights of sum 1 is 1/(1'M^+ 1), M^+ the pseudo-inverse",
        reference="formula for invertible M, used beyond it",
        kind="identity",
        measured=_error(v, _affine_by_differences(v)),
        predicted=float(1.0 / np.linalg.pinv(v.T @ v).sum()),
        tolerance=ROUNDING,
        only_if="the vector of ones lies in the range of M",
        setting="M = diag(0, 1): one estimator is exact",
    )


def combination_adding() -> Claim:
    """The error of the best mix of J + 1 against the optimal value of J."""
    measured, predicted, scale = max(
        (
            (_error(v, simplex_combination(v.T @ v).weights), simplex_combination(v[:, :-1].T @ v[:, :-1]).value, size)
            for v in _stacked_errors(90, estimators=5, seed=2)
            for size in [float(np.square(v).sum())]
        ),
        key=lambda row: (row[0] - row[1]) / row[2],
    )
    return Claim(
        name="combination-adding",
        statement="A further estimator, however poor, never raises the error of the best convex mix",
        reference=f"weight zero is allowed; {BATES_GRANGER}",
        kind="upper",
        measured=measured,
        predicted=predicted,
        tolerance=ROUNDING * scale,
        setting="90 laws of 5 estimators, the fifth left out; the closest case",
        note="At the oracle weights. Weights that are estimated pay for every further estimator.",
    )


def combination_scaling() -> Claim:
    """Weights without a constraint against least squares of mu on the gradients."""

    def sides(law: FiniteLaw) -> tuple[float, float, float]:
        root = np.sqrt(law.p)[:, None]
        stacked = np.stack([(root * law.t).ravel(), (root * law.e).ravel()], axis=1)
        goal = (root * law.mu).ravel()
        free = np.linalg.lstsq(stacked, goal, rcond=None)[0]
        value = scaling_combination(stacked.T @ stacked, stacked.T @ goal, float(law.mu @ law.mu)).value
        return float(np.square(stacked @ free - goal).sum()), value, law.scale

    measured, predicted, tolerance = worst(sides(law) for law in finite_laws(200, seed=3))
    return Claim(
        name="combination-scaling",
        statement="With g = 0 among the estimators the best mix is Q^-1 u, of error |mu|^2 - u'Q^-1 u",
        reference="Wiener filter",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="200 random finite laws of (g_t, g_e)",
    )


def block_gain() -> Claim:
    """q at the one best weight minus the sum of q_l at their own, from the coordinates of each block."""

    def sides(law: FiniteLaw) -> tuple[float, float, float]:
        blocks = [
            FiniteLaw(law.p, law.t[:, keep], law.e[:, keep], law.mu[keep])
            for keep in np.array_split(np.arange(len(law.mu)), min(3, len(law.mu)))
        ]
        weights = [float(theory.optimal_weight(**b.errors)) for b in blocks]
        saved = blockwise_gain(weights, [b.inner(b.t - b.e, b.t - b.e) for b in blocks])
        apart = sum(b.error_of_mix(a) for b, a in zip(blocks, weights, strict=True))
        single = float(theory.optimal_weight(**law.errors))
        return law.error_of_mix(single) - apart, saved.gain, max(1.0, *np.square(weights)) * law.scale

    measured, predicted, tolerance = worst(sides(law) for law in finite_laws(200, seed=4))
    return Claim(
        name="block-gain",
        statement="A weight per block saves sum_l D_l (alpha_l - alpha*)^2 over one weight for all",
        reference="q is a sum over blocks; parallel-axis identity",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="200 random finite laws, coordinates cut into up to three blocks",
        note="With weights that differ per block, g_c is no longer the gradient of one loss.",
    )


CLAIMS = (
    combination_simplex,
    combination_affine,
    combination_pseudo_inverse,
    combination_adding,
    combination_scaling,
    block_gain,
)
