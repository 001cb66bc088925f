"""The log-linear model: probabilities against brute force, scores against finite differences, pairs against both."""

import numpy as np
import pytest

from bvpo_analysis.log_linear import LogLinearModel

STEP = 1e-5


@pytest.fixture
def model() -> LogLinearModel:
    return LogLinearModel.random(np.random.default_rng(3), traces=4, answers=3, parameters=5)


@pytest.fixture
def theta() -> np.ndarray:
    return np.random.default_rng(4).normal(size=5)


def gradient(f, theta):
    """Central differences of a scalar function."""
    units = STEP * np.eye(len(theta))
    return np.array([(f(theta + u) - f(theta - u)) / (2 * STEP) for u in units])


def table(model, theta):
    """pi_theta(r, y) from exponentials, summed by hand."""
    weights = np.exp(np.array([[float(theta @ phi) for phi in row] for row in model.features]))
    return weights / sum(weights.ravel())


def test_probabilities_are_those_of_the_table(model, theta):
    """Catches a normaliser over the wrong axis, and posterior, prior and likelihood mixed up."""
    p = table(model, theta)
    np.testing.assert_allclose(np.exp(model.log_probs(theta)), p, rtol=1e-12)
    np.testing.assert_allclose(np.exp(model.log_marginal(theta)), p.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.prior(theta), p.sum(axis=1), rtol=1e-12)
    for y in range(3):
        np.testing.assert_allclose(model.posterior(theta, y), p[:, y] / p[:, y].sum(), rtol=1e-12)
        np.testing.assert_allclose(model.likelihood(theta, y), p[:, y] / p.sum(axis=1), rtol=1e-12)


def test_scores_are_derivatives_of_the_log_probabilities(model, theta):
    """Catches scores centred by the wrong mean or not at all."""
    for r in range(4):
        for y in range(3):
            by_differences = gradient(lambda x, r=r, y=y: model.log_probs(x)[r, y], theta)
            np.testing.assert_allclose(model.scores(theta)[r, y], by_differences, atol=1e-9)


def test_the_marginal_score_is_the_derivative_of_the_log_marginal_and_the_posterior_mean_of_scores(model, theta):
    """Catches prior weights in the marginal score, and a Fisher identity that is not one."""
    for y in range(3):
        by_differences = gradient(lambda x, y=y: model.log_marginal(x)[y], theta)
        np.testing.assert_allclose(model.marginal_score(theta, y), by_differences, atol=1e-9)
        by_fisher = sum(p * s for p, s in zip(model.posterior(theta, y), model.scores(theta)[:, y], strict=True))
        np.testing.assert_allclose(model.marginal_score(theta, y), by_fisher, atol=1e-13)


def test_the_answer_score_is_the_derivative_of_the_likelihood(model, theta):
    """Catches the score of the whole sequence returned where only the answer is scored."""
    for r in range(4):
        by_differences = gradient(lambda x, r=r: np.log(model.likelihood(x, 2)[r]), theta)
        np.testing.assert_allclose(model.answer_score(theta, r, 2), by_differences, atol=1e-9)


def test_the_posterior_covariance_is_a_double_sum(model, theta):
    """Catches a missing centre, a wrong mean, and a ddof: C = sum_{r,q} p_r p_q (s_r - s_q)(s_r - s_q)' / 2."""
    p, s = model.posterior(theta, 1), model.scores(theta)[:, 1]
    brute = sum(
        p[r] * p[q] * np.outer(s[r] - s[q], s[r] - s[q]) / 2  # one term per ordered pair
        for r in range(4)
        for q in range(4)
    )
    np.testing.assert_allclose(model.posterior_covariance(theta, 1), brute, rtol=1e-12, atol=1e-15)


def test_a_pair_carries_the_log_probabilities_of_the_sequences_it_names(model, theta):
    """Catches rows in the wrong order: chosen traces, rejected traces, the two empty-trace sequences."""
    reference = np.zeros(5)
    pair, scores = model.pair(theta, reference, chosen=2, rejected=0)
    current, answers = model.log_probs(theta), np.log([model.likelihood(theta, y) for y in range(3)])
    expected = [*((r, 2) for r in range(4)), *((r, 0) for r in range(4)), (0, 2), (0, 0)]
    for row, (r, y) in enumerate(expected):
        assert pair.log_prob[row] == current[r, y]
        assert pair.log_prob_ref[row] == model.log_probs(reference)[r, y]
        assert pair.log_prob_answer[row] == pytest.approx(answers[y, r], abs=1e-12)
        assert (pair.tokens[row], pair.tokens_answer[row]) == (r + 2, 1)
        np.testing.assert_array_equal(scores[row], model.scores(theta)[r, y])
    assert pair.empty.tolist() == [8, 9]
    assert pair.support.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_draws_follow_the_joint_law(model, theta):
    """Catches a transposed joint law, and posteriors under theta where those of the reference are due."""
    reference = np.zeros(5)
    pair, _ = model.pair(theta, reference, chosen=2, rejected=0)
    for weight, (first, second) in zip(pair.weights, pair.draws, strict=True):
        expected = model.posterior(reference, 2)[first] * model.posterior(reference, 0)[second - 4]
        assert weight == pytest.approx(expected, rel=1e-12)
    joint = np.zeros((4, 4))
    joint[1, 3] = 1.0
    pair, _ = model.pair(theta, reference, chosen=2, rejected=0, joint=joint)
    assert pair.draws[pair.weights == 1.0].tolist() == [[1, 4 + 3]]


def test_the_score_of_a_trace_is_the_derivative_of_its_probability(model, theta):
    """Catches a mean over traces, or over answers under the marginal instead of given the trace."""
    for r in range(4):
        by_differences = gradient(lambda x, r=r: np.log(model.prior(x)[r]), theta)
        np.testing.assert_allclose(model.trace_scores(theta)[r], by_differences, atol=1e-9)


def test_further_sequences_are_those_of_the_prior_traces_and_variants(model, theta):
    """Catches rows, log-probabilities and scores of another trace, answer or part of a sequence."""
    reference = np.zeros(5)
    pair, scores = model.pair(theta, reference, chosen=2, rejected=0, draws=[(3, 1), (0, 2)], prior=[2, 0, 2])
    assert not pair.enumerated
    assert pair.draws.tolist() == [[3, 5], [0, 6]]
    assert pair.weights.tolist() == [0.5, 0.5]
    assert pair.support.shape == (2, 0)
    for (chosen, rejected), alone, r in zip(pair.prior, pair.trace_only, (2, 0, 2), strict=True):
        assert (chosen, rejected) == (r, 4 + r)
        assert pair.log_prob[alone] == pytest.approx(np.log(model.prior(theta)[r]), rel=1e-12)
        assert pair.log_prob_ref[alone] == pytest.approx(np.log(model.prior(reference)[r]), rel=1e-12)
        assert (pair.log_prob_answer[alone], pair.tokens[alone], pair.tokens_answer[alone]) == (0.0, r + 1, 0)
        np.testing.assert_array_equal(scores[alone], model.trace_scores(theta)[r])
    for row, y in zip(pair.variants["empty_shared"], (2, 0), strict=True):
        given = np.log(model.likelihood(theta, y)[0])
        assert pair.log_prob[row] == pytest.approx(given, rel=1e-12)
        assert pair.log_prob_answer[row] == pytest.approx(given, rel=1e-12)
        assert pair.log_prob_ref[row] == pytest.approx(np.log(model.likelihood(reference, y)[0]), rel=1e-12)
        assert (pair.tokens[row], pair.tokens_answer[row]) == (1, 1)
        np.testing.assert_array_equal(scores[row], model.answer_score(theta, 0, y))
    assert pair.variants["empty_generated"].tolist() == pair.empty.tolist()
    assert pair.variants["short"].tolist() == [1, 4 + 0]
    assert len(scores) == pair.size == 3 * 4 + 4


@pytest.mark.parametrize("further", [{"prior": [4]}, {"prior": [-1]}, {"draws": [(0, 4)]}])
def test_unknown_traces_are_refused(model, further):
    with pytest.raises(ValueError, match=r"traces must be in 0\.\.3"):
        model.pair(np.zeros(5), np.zeros(5), 0, 1, **further)


def test_a_joint_law_beside_draws_is_refused(model):
    with pytest.raises(ValueError, match="not both"):
        model.pair(np.zeros(5), np.zeros(5), 0, 1, joint=np.full((4, 4), 1 / 16), draws=[(0, 0)])


def test_large_parameters_do_not_overflow(model):
    """Catches exponentials taken before the largest energy is subtracted."""
    theta = np.full(5, 1e4)
    assert np.exp(model.log_probs(theta)).sum() == pytest.approx(1.0, abs=1e-10)
    for y in range(3):
        assert model.posterior(theta, y).sum() == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("features", [np.zeros((2, 3)), np.zeros((0, 2, 2)), np.full((2, 2, 2), np.nan)])
def test_features_that_are_no_table_are_refused(features):
    with pytest.raises(ValueError, match="features must be a finite array"):
        LogLinearModel(features)


@pytest.mark.parametrize("theta", [np.zeros(4), np.zeros((5, 1)), np.array([0.0, 0, 0, 0, np.inf])])
def test_parameters_of_another_model_are_refused(model, theta):
    for call in (model.log_probs, model.scores, model.prior, lambda x: model.pair(np.zeros(5), x, 0, 1)):
        with pytest.raises(ValueError, match="theta must be 5 finite numbers"):
            call(theta)


@pytest.mark.parametrize("answer", [-1, 3])
def test_unknown_answers_are_refused(model, answer):
    """Catches an index from the end taken for an answer."""
    theta = np.zeros(5)
    for call in (model.posterior, model.likelihood, model.marginal_score, model.posterior_covariance):
        with pytest.raises(ValueError, match="answer must be in"):
            call(theta, answer)
    with pytest.raises(ValueError, match="answer must be in"):
        model.pair(theta, theta, chosen=0, rejected=answer)


@pytest.mark.parametrize(
    "joint", [np.full((4, 3), 1 / 12), np.full((4, 4), 1 / 15), np.full((4, 4), np.nan), np.diag([2.0, -1, 0, 0])]
)
def test_a_joint_law_that_is_none_is_refused(model, joint):
    with pytest.raises(ValueError, match="joint must be a table"):
        model.pair(np.zeros(5), np.zeros(5), 0, 1, joint=joint)
