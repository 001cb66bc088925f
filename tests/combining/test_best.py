"""The best combination of estimators: closed forms, replicates, edges, and errors that hold in samples."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import mixing, theory
from bvpo_analysis.combining import best_combination
from bvpo_analysis.estimators import EmptyTrace, EmptyVariant, Estimator, Marginal, MultiTrace, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.moments import JointMoments, enumerated_moments, joint_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
ESTIMATORS: dict[str, Estimator] = {
    "trace": Trace(LOSS),
    "mean_of_2": MultiTrace(LOSS, 2),
    "shared": EmptyVariant(LOSS, "empty_shared"),
    "empty": EmptyTrace(LOSS),
}


def population(prompts=8, seed=0, traces=3, parameters=6):
    """Log-linear prompts whose two empty-trace gradients have clear biases in different directions."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    shifts = rng.normal(size=(2, parameters))
    for _ in range(prompts):
        model = LogLinearModel(rng.normal(size=(traces, 3, parameters)))
        theta = 0.3 * rng.normal(size=parameters)
        pair, scores = model.pair(theta, theta, 0, 1)
        scores[pair.empty[0]] += 0.7 * shifts[0]
        scores[pair.variants["empty_shared"][0]] += shifts[0] + shifts[1]
        pairs.append(pair)
        vectors.append(scores)
    ends = np.cumsum([len(v) for v in vectors])
    rows = tuple(np.arange(end - len(v), end) for v, end in zip(vectors, ends, strict=True))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)


def joint_of(n=48, seed=1, **of) -> JointMoments:
    scores = population(**of).sample(np.random.default_rng(seed), n, 4, *ESTIMATORS.values())
    joint = joint_moments(scores, ESTIMATORS, target="trace", unbiased=("mean_of_2",))
    assert all(joint.bias_sq(name).ci_low > 0 for name in ("shared", "empty"))
    return joint


def test_two_estimators_give_the_clipped_weight():
    """Catches weights in the other order, and another batch size or kappa than asked for."""
    joint = joint_of()
    for size, kappa in ((1, 1.0), (16, 1.0), (16, 0.1)):
        best = best_combination(joint, size, kappa, names=("trace", "empty"))
        law = joint.law("trace", "empty", size)
        expected = mixing.recommended_weights(law, kappa)[0]
        assert best.weights[0].value == pytest.approx(expected, abs=1e-9)
        assert best.weights[1].value == pytest.approx(1 - expected, abs=1e-9)
        assert best.error.value == pytest.approx(mixing.error(law, expected, kappa).value, rel=1e-9)


@pytest.mark.parametrize("size", [1, 8, 64])
def test_every_replicate_is_optimal_for_its_own_matrix(size):
    """Catches replicates that keep the weights of the sample, or a support that is no longer optimal."""
    joint = joint_of()
    best = best_combination(joint, size)
    errors, weights, raised = [], [], []
    for bias, noise in zip(joint.bias_gram, joint.covariance / size, strict=True):
        spectra = [np.linalg.eigh(part) for part in (bias, noise)]
        m = sum((v * np.maximum(w, 0)) @ v.T for w, v in spectra)
        exact = theory.simplex_combination(m)
        errors.append(exact.value)
        weights.append(exact.weights)
        raised.append(1 - np.trace(bias + noise) / np.trace(m))
    assert best.error.value == pytest.approx(errors[0], rel=1e-8)
    np.testing.assert_allclose([w.value for w in best.weights], weights[0], atol=1e-6)
    assert best.support == tuple(n for n, w in zip(best.names, weights[0], strict=True) if w > 1e-9)
    assert best.raised == pytest.approx(raised[0], abs=1e-12)
    n = joint.n
    left = np.array(errors[1:])
    assert best.error.se == pytest.approx(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()), rel=1e-6)
    assert best.optimism == pytest.approx(max((n - 1) * (errors[0] - left.mean()), 0.0), rel=1e-4, abs=1e-9)


def with_errors(joint, cross):
    """Joint moments of two unbiased estimators with variances 1 and 4 and these covariances [n + 1]."""
    covariance = np.array([[[1.0, c], [c, 4.0]] for c in cross])
    names = ("trace", "empty")
    return replace(joint, names=names, unbiased=names, bias_gram=0 * covariance, covariance=covariance)


def test_free_signs_are_never_worse_and_solve_their_equations():
    """Catches a clipped affine weight: errors of 1 and 4 that move together call for a negative second weight."""
    made = with_errors(joint_of(), np.full(49, 1.5))
    bounded, free = best_combination(made, 1), best_combination(made, 1, signs="free")
    assert [w.value for w in bounded.weights] == [1.0, 0.0]
    exact = theory.affine_combination([[1.0, 1.5], [1.5, 4.0]])
    np.testing.assert_allclose([w.value for w in free.weights], exact.weights, atol=1e-9)
    assert free.weights[1].value < 0
    assert free.error.value == pytest.approx(exact.value)
    assert free.error.value < bounded.error.value
    assert free.support == free.names


def test_a_copy_of_an_estimator_is_not_told_apart():
    """Catches free weights reported as determined where two estimators coincide."""
    joint = joint_of()
    assert best_combination(joint, 16, names=("trace", "empty"), signs="free").determined
    a = [0, 3, 3]
    doubled = replace(
        joint,
        names=("trace", "empty", "copy"),
        unbiased=("trace", "empty", "copy"),  # so that nothing but the Gram of the biases is read
        bias_gram=joint.bias_gram[:, a][:, :, a],
        covariance=joint.covariance[:, a][:, :, a],
    )
    free = best_combination(doubled, 16, signs="free")
    assert not free.determined
    assert free.error.value == pytest.approx(
        best_combination(joint, 16, names=("trace", "empty")).error.value, rel=1e-6
    )


def test_an_edge_is_named():
    """Catches an interval at the boundary that passes for a regular one: the second weight is positive below c = 1."""
    joint = joint_of()
    for middle, expected in ((0.5, ()), (0.99, ("empty",)), (1.01, ("empty",)), (1.5, ())):
        made = with_errors(joint, np.concatenate([[middle], np.linspace(middle - 0.03, middle + 0.03, 48)]))
        assert best_combination(made, 1).at_edge == expected
    for size in (1, 4096):
        for weight in best_combination(joint, size).weights:
            assert 0 <= weight.ci_low <= weight.value <= weight.ci_high <= 1


def test_the_error_of_the_best_mix_is_covered():
    """Catches an interval that ignores that the weights were estimated: 120 samples of 48 prompts, against the truth.

    The truth is the least error of the population; the bound leaves 3 points and 3 Monte Carlo standard errors.
    """
    pop = population(prompts=10, seed=3)
    names = {name: ESTIMATORS[name] for name in ("trace", "empty")}
    rng = np.random.default_rng(2)
    marginal = Marginal(LOSS)
    scores = pop.exact_scores(*names.values(), marginal)
    exact = enumerated_moments(scores, names["trace"], names["empty"], marginal).population(8)
    truth = mixing.error(exact, mixing.recommended_weights(exact)).value
    hits, optimism, values = 0, [], []
    for _ in range(120):
        joint = joint_moments(pop.sample(rng, 48, 2, *names.values()), names, target="trace", unbiased=())
        best = best_combination(joint, 8)
        hits += best.error.ci_low <= truth <= best.error.ci_high
        optimism.append(best.optimism)
        values.append(best.error.value)
    assert hits / 120 >= 0.95 - 0.03 - 3 * np.sqrt(0.95 * 0.05 / 120)
    assert abs(truth - np.mean(values)) < np.mean(optimism) + 4 * np.std(values) / np.sqrt(120)


def test_refusals():
    """Catches a combination of one, and K where the trace noise is unknown."""
    joint = joint_of()
    with pytest.raises(ValueError, match="at least two estimators"):
        best_combination(joint, 8, names=("trace",))
    with pytest.raises(ValueError, match="unknown estimator 'g'"):
        best_combination(joint, 8, names=("trace", "g"))
    with pytest.raises(ValueError, match="kappa positive"):
        best_combination(joint, 8, 0.0)
