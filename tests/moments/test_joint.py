"""Joint moments of several estimators: definitions on vectors, exact expectations, the pair as a special case."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from bvpo_analysis import mixing
from bvpo_analysis.estimators import (
    CoupledTrace,
    EmptyTrace,
    Marginal,
    MultiTrace,
    Pooled,
    PriorTrace,
    Trace,
    mix,
)
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.moments import Moments, enumerated_moments, joint_moments, population_moments
from bvpo_analysis.moments.resampling import EnumeratedPopulation
from bvpo_analysis.objectives import DPO

LOSS = DPO(2.0)
TRACE, EMPTY, MARGINAL = Trace(LOSS), EmptyTrace(LOSS), Marginal(LOSS)
NAMES = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]
AT_REFERENCE = {
    "trace": TRACE,
    "mean_of_2": MultiTrace(LOSS, 2),
    "pooled_3": Pooled(LOSS, 3),
    "coupled_2": CoupledTrace(LOSS, 2),
    "prior_shared": PriorTrace(LOSS),
    "empty": EMPTY,
}
UNBIASED = ("mean_of_2", "pooled_3", "coupled_2")


def population(prompts=8, traces=3, seed=0, parameters=6, off=0.0) -> EnumeratedPopulation:
    """Prompts of log-linear models, each a law of its own, with all traces as posterior and as prior traces."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    shared = rng.normal(size=(1, 3, parameters))
    for i in range(prompts):
        model = LogLinearModel(rng.normal(size=(traces, 3, parameters)) + shared)
        theta = 0.3 * rng.normal(size=parameters)
        pair, scores = model.pair(theta + off * rng.normal(size=parameters), theta, 0, 1, prior=range(traces))
        pairs.append(replace(pair, prompt_id=f"p{i}"))
        vectors.append(scores)
    ends = np.cumsum([len(v) for v in vectors])
    rows = tuple(np.arange(end - len(v), end) for v, end in zip(vectors, ends, strict=True))
    stacked = np.concatenate(vectors)
    return EnumeratedPopulation(tuple(pairs), rows, stacked @ stacked.T)


def sample(n=9, traces=6, prior=6, seed=1, estimators=AT_REFERENCE, **of):
    return population(**of).sample(np.random.default_rng(seed), n, traces, *estimators.values(), prior=prior)


def vectors_of(scores, estimators):
    """Realisations [R, d] of every estimator on every prompt, in coordinates of the joint Gram of each prompt."""
    out = []
    for pair in scores.pairs:
        values, basis = np.linalg.eigh(pair.gram.sum(axis=0))
        factor = basis * np.sqrt(np.maximum(values, 0.0))
        out.append({name: e.coefficients(pair.log_probs) @ factor for name, e in estimators.items()})
    return out


def ustatistic(scores, a, b):
    """U of the per-prompt means of two estimators, from the accumulated totals."""
    names = list(scores.totals)
    i, j = names.index(repr(a)), names.index(repr(b))
    n = len(scores)
    own = sum(
        (a.weights(p.log_probs) @ a.coefficients(p.log_probs))
        @ p.gram[0]
        @ (b.weights(p.log_probs) @ b.coefficients(p.log_probs))
        for p in scores.pairs
    )
    return (scores.totals_gram[0][i, j] - own) / (n * (n - 1))


# --- the pair (g_t, g_e) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("traces", [1, 4])
def test_the_pair_of_trace_and_empty_has_the_population_moments(traces):
    """Catches any moment of the joint code that is not that of the code for two estimators, replicates included."""
    scores = sample(traces=traces, estimators={"t": TRACE, "e": EMPTY})
    two = population_moments(scores, TRACE, EMPTY)
    joint = joint_moments(scores, {"e": EMPTY, "t": TRACE}, target="t", unbiased=())
    pair = joint.pair("t", "e")
    scale = two.var_t[0] + two.var_e[0]
    for name in NAMES:
        expected, found = getattr(two, name), getattr(pair, name)
        if expected is None:
            assert found is None, name
        else:
            np.testing.assert_allclose(found, expected, atol=1e-12 * scale, err_msg=name)
    assert pair.bias_noise.slope == pytest.approx(two.bias_noise.slope, rel=1e-9)
    np.testing.assert_allclose(pair.bias_noise.replicates, two.bias_noise.replicates, atol=1e-12 * scale)
    for k in {1, traces}:
        law, other = joint.law("t", "e", 16, k), two.population(16, k)
        assert mixing.optimal_alpha(law).estimate.value == pytest.approx(
            mixing.optimal_alpha(other).estimate.value, rel=1e-10
        )
        for alpha in (0.0, 0.5, 1.0):
            assert mixing.error(law, alpha).ci_low == pytest.approx(mixing.error(other, alpha).ci_low, rel=1e-9)
    assert joint.target_bias == "none"
    assert joint.unbiased == ("t",)


def test_swapping_the_two_gives_one_minus_alpha():
    """Catches a difference moment with the wrong sign in one of the two orders."""
    joint = joint_moments(sample(), AT_REFERENCE, target="trace", unbiased=UNBIASED)
    for a, b in (("trace", "empty"), ("prior_shared", "empty"), ("mean_of_2", "prior_shared")):
        first, second = (mixing.weight_replicates(joint.law(x, y, 16)) for x, y in ((a, b), (b, a)))
        np.testing.assert_allclose(first, 1 - second, rtol=1e-9, atol=1e-9)


# --- definitions -----------------------------------------------------------------------------------------


def test_common_realisations_are_those_on_the_same_traces():
    """Catches partners on different traces, a lost T/(T - 1), and rows of dependent groups taken as independent."""
    scores = sample()
    joint = joint_moments(scores, AT_REFERENCE, target="trace", unbiased=UNBIASED)
    realised = vectors_of(scores, AT_REFERENCE)
    # With six draws and six prior traces: partners (row of a, row of b) of every block.
    blocks = {
        ("trace", "trace"): [[(k, k)] for k in range(6)],
        ("trace", "mean_of_2"): [[(2 * k, k), (2 * k + 1, k)] for k in range(3)],
        ("trace", "pooled_3"): [[(0, 0)], [(1, 1)], [(2, 2)]],
        # Row k of the pool takes draw k and prior traces 2k, 2k + 1; with blocks of two draws only k = 0 fits.
        ("mean_of_2", "pooled_3"): [[(0, 0)]],
        ("trace", "coupled_2"): [[(2 * k + i, 2 * k + j) for i in (0, 1) for j in (0, 1)] for k in range(3)],
        ("coupled_2", "coupled_2"): [[(2 * k, 2 * k), (2 * k + 1, 2 * k + 1)] for k in range(3)],
        ("pooled_3", "prior_shared"): [[(k, 2 * k), (k, 2 * k + 1)] for k in range(3)],
        ("trace", "prior_shared"): [[(k, k)] for k in range(6)],
        ("trace", "empty"): [[(k, 0)] for k in range(6)],
        ("empty", "empty"): [[(0, 0)]],
    }
    for (first, second), partners in blocks.items():
        each, noise = [], []
        for vectors in realised:
            a, b = vectors[first], vectors[second]
            each.append(np.mean([np.mean([a[i] @ b[j] for i, j in block]) for block in partners]))
            across = [
                a[i] @ b[j]
                for one, other in itertools.permutations(partners, 2)
                for i in {i for i, _ in one}
                for j in {j for _, j in other}
            ]
            noise.append(each[-1] - np.mean(across) if across else np.nan)
        u = ustatistic(scores, AT_REFERENCE[first], AT_REFERENCE[second])
        a, b = joint.index(first), joint.index(second)
        assert joint.covariance[0, a, b] == pytest.approx(np.mean(each) - u, rel=1e-10, abs=1e-10), (first, second)
        expected = 0.0 if "empty" in (first, second) else np.mean(noise)
        assert np.isnan(expected) == ((first, second) == ("mean_of_2", "pooled_3"))
        assert joint.trace_covariance[0, a, b] == pytest.approx(expected, rel=1e-9, abs=1e-10, nan_ok=True)
        np.testing.assert_allclose(joint.covariance[:, a, b], joint.covariance[:, b, a], rtol=1e-12)


def test_replicates_are_the_estimates_without_one_prompt():
    """Catches replicates that still contain the prompt, in any array."""
    scores = sample(n=6)
    whole = joint_moments(scores, AT_REFERENCE, target="trace", unbiased=UNBIASED)
    pop = population()
    order = [pair.log_probs.prompt_id for pair in scores.pairs]
    for left in (0, 5):
        keep = [i for i in range(6) if i != left]
        chosen = [int(order[i][1:]) for i in keep]
        rest = pop._score_set([scores.pairs[i].log_probs for i in keep], chosen, list(AT_REFERENCE.values()))
        alone = joint_moments(rest, AT_REFERENCE, target="trace", unbiased=UNBIASED)
        for f in fields(whole):
            if isinstance(getattr(whole, f.name), np.ndarray):
                np.testing.assert_allclose(
                    getattr(whole, f.name)[left + 1], getattr(alone, f.name)[0], rtol=1e-8, atol=1e-9, err_msg=f.name
                )


# --- expectations ----------------------------------------------------------------------------------------


def exact_vectors(pop, estimators_by_name):
    """Mean [prompts, d] of each enumerable estimator over its traces, in coordinates of the whole Gram."""
    factor = pop._factor
    return {
        name: np.stack([e.weights(p) @ e.coefficients(p) @ factor[r] for p, r in zip(pop.pairs, pop.rows, strict=True)])
        for name, e in estimators_by_name.items()
    }


def test_sampled_joint_moments_average_to_the_exact_ones():
    """Catches a joint law other than the stated one: 180 samples within 4.5 SE, SE below an eighth of the truth.

    Truth by enumeration: Cov(g_t, mean of two) and Cov(g_t, mean of two | x) from the exact trace variance of g_t, the
    bias of prior traces from exact prior probabilities, everything against the exact marginal gradient.
    """
    pop = population(prompts=6, traces=3, seed=5)
    names = {"trace": TRACE, "mean_of_2": MultiTrace(LOSS, 2), "prior_shared": PriorTrace(LOSS), "empty": EMPTY}
    exact = enumerated_moments(pop.exact_scores(TRACE, EMPTY, MARGINAL), TRACE, EMPTY, MARGINAL)
    means = exact_vectors(pop, {"trace": TRACE, "empty": EMPTY})
    prior, spread = [], []
    for pair, rows in zip(pop.pairs, pop.rows, strict=True):
        law = np.exp(pair.log_prob_ref[pair.prior[:, 0]] - pair.log_prob_answer[pair.prior[:, 0]])
        g = PriorTrace(LOSS).coefficients(pair) @ pop._factor[rows]
        prior.append(law @ g)
        spread.append(law @ ((g - prior[-1]) ** 2).sum(axis=1))
    prior, mu, empty = np.array(prior), means["trace"], means["empty"]
    tau, between = exact.trace_var[0], lambda a, b: ((a - a.mean(0)) * (b - b.mean(0))).sum(axis=1).mean()
    shift = prior - mu
    truth = {
        ("covariance", "trace", "mean_of_2"): between(mu, mu) + tau / 2,
        ("covariance", "mean_of_2", "mean_of_2"): between(mu, mu) + tau / 2,
        ("covariance", "prior_shared", "prior_shared"): between(prior, prior) + np.mean(spread),
        ("covariance", "trace", "prior_shared"): between(mu, prior),
        ("trace_covariance", "trace", "mean_of_2"): tau / 2,
        ("trace_covariance", "prior_shared", "prior_shared"): np.mean(spread),
        ("bias_gram", "empty", "empty"): exact.bias_e_sq[0],
        ("bias_gram", "prior_shared", "prior_shared"): shift.mean(0) @ shift.mean(0),
        ("bias_gram", "prior_shared", "empty"): shift.mean(0) @ (empty - mu).mean(0),
        ("bias_diff_sq", "prior_shared", "empty"): ((prior - empty).mean(0) ** 2).sum(),
        ("bias_with_diff", "empty", "prior_shared"): (empty - mu).mean(0) @ (empty - prior).mean(0),
        ("prompt_bias", "prior_shared", "empty"): (shift * (empty - mu)).sum(axis=1).mean(),
        ("prompt_bias_diff", "prior_shared", "empty"): ((prior - empty) ** 2).sum(axis=1).mean(),
        ("variance_diff", "trace", "prior_shared"): between(mu - prior, mu - prior) + tau + np.mean(spread),
        ("trace_diff", "trace", "mean_of_2"): tau / 2,
        ("cov_with_diff", "empty", "trace"): between(empty, empty - mu),
        ("trace_with_diff", "trace", "mean_of_2"): tau / 2,
        ("trace_with_diff", "mean_of_2", "trace"): 0.0,
    }
    scale = exact.var_t[0]
    rng = np.random.default_rng(6)
    found = {key: [] for key in truth}
    for _ in range(180):
        scores = pop.sample(rng, 24, 4, *names.values(), prior=4)
        joint = joint_moments(scores, names, target="trace", unbiased=("mean_of_2",))
        for array, a, b in truth:
            found[array, a, b].append(getattr(joint, array)[0, joint.index(a), joint.index(b)])
    for key, values in found.items():
        se = np.std(values, ddof=1) / np.sqrt(len(values))
        assert 4.5 * se < 0.125 * max(abs(truth[key]), scale), f"{key}: no power, SE {se:.3g} at {truth[key]:.3g}"
        assert abs(np.mean(values) - truth[key]) < 4.5 * se + 1e-12, (
            f"{key}: {np.mean(values):.4g} for {truth[key]:.4g}, SE {se:.2g}"
        )


def test_enumerated_traces_leave_the_sampling_of_prompts_only():
    """Catches a correction T/(T - 1) of a law that is complete, and weights of traces that are ignored."""
    pop = population(off=0.4)
    estimators = {"t": TRACE, "e": EMPTY, "m": MARGINAL}
    scores = pop.exact_scores(*estimators.values())
    joint = joint_moments(scores, estimators, target="m", unbiased=())
    pair, exact = joint.pair("t", "e"), enumerated_moments(scores, TRACE, EMPTY, MARGINAL, as_sample=True)
    for name in NAMES:
        assert getattr(pair, name)[0] == pytest.approx(getattr(exact, name)[0], rel=1e-9, abs=1e-10), name
    assert abs(joint.bias_gram[0, 0, 0]) > 1e-6  # off the reference nothing is declared


# --- structure -------------------------------------------------------------------------------------------


def test_declared_biases_are_zero_and_no_others():
    """Catches noise in place of a structural zero, and a zero that was not declared."""
    joint = joint_moments(sample(), AT_REFERENCE, target="trace", unbiased=("mean_of_2",))
    for name in AT_REFERENCE:
        a = joint.index(name)
        if name in ("trace", "mean_of_2"):
            assert not joint.bias_gram[:, a].any()
            assert not joint.prompt_bias[:, a].any()
            assert joint.bias_sq(name).method == "exact"
        elif name != "coupled_2":  # whose mean over all ranks is that of g_t
            assert (joint.bias_gram[:, a, a] != 0).all(), name
    a, b = joint.index("mean_of_2"), joint.index("empty")
    np.testing.assert_allclose(joint.bias_diff_sq[:, a, b], joint.bias_gram[:, b, b], rtol=1e-12)
    assert not joint.bias_with_diff[:, a].any()
    np.testing.assert_allclose(joint.bias_with_diff[:, b, a], joint.bias_gram[:, b, b], rtol=1e-12)


def test_the_error_matrix_is_the_error_of_every_mix():
    """Catches kappa on the bias, a batch size on the bias, and K applied to the data variance."""
    names = {k: AT_REFERENCE[k] for k in ("trace", "prior_shared", "empty")}
    joint = joint_moments(sample(estimators=names), names, target="trace", unbiased=())
    for k, kappa in ((1, 1.0), (3, 0.25)):
        m = joint.error_matrix(8, kappa, k)
        law = joint.law("prior_shared", "empty", 8, k)
        for alpha in (0.0, 0.3, 1.0):
            w = np.array([0.0, alpha, 1 - alpha])
            np.testing.assert_allclose(w @ m @ w, mixing.error_parts(law, alpha, kappa).total, rtol=1e-9, atol=1e-10)


def test_a_mix_has_the_moments_of_its_parts():
    """Catches a covariance that is not bilinear: the moments of a mix from its own realisations."""
    names = {"trace": TRACE, "empty": EMPTY, "mix": mix(TRACE, EMPTY, 0.3)}
    joint = joint_moments(sample(estimators=names), names, target="trace", unbiased=())
    w = np.array([0.3, 0.7])
    for array in (joint.covariance, joint.bias_gram, joint.trace_covariance, joint.prompt_bias, joint.means):
        np.testing.assert_allclose(array[:, 2, 2], w @ array[:, :2, :2] @ w, rtol=1e-9, atol=1e-10)


def test_signals():
    """Catches the product with another estimator, and a target that is not the declared one."""
    scores = sample()
    joint = joint_moments(scores, AT_REFERENCE, target="mean_of_2", unbiased=("trace",))
    assert joint.target_sq[0] == pytest.approx(ustatistic(scores, MultiTrace(LOSS, 2), MultiTrace(LOSS, 2)))
    dot = ustatistic(scores, MultiTrace(LOSS, 2), EMPTY)
    assert joint.target_dot[0, joint.index("empty")] == pytest.approx(dot)


def test_one_trace_identifies_no_trace_noise():
    """Catches a trace variance of one realisation: zero, or 0/0 that goes unnoticed."""
    names = {"trace": TRACE, "mean_of_2": MultiTrace(LOSS, 2), "empty": EMPTY}
    joint = joint_moments(sample(traces=2, estimators=names), names, target="trace", unbiased=("mean_of_2",))
    assert list(joint.unidentified) == ["mean_of_2"]
    assert joint.unidentified["mean_of_2"].endswith("sample 4 posterior traces per answer")
    assert joint.pair("mean_of_2", "empty").trace_var is None
    assert joint.pair("trace", "empty").trace_var is not None
    assert np.isfinite(joint.error_matrix(4)).all()
    with pytest.raises(ValueError, match=r"only traces=1 is possible: mean_of_2: .*sample 4 posterior"):
        joint.error_matrix(4, traces=2)


def test_what_cannot_be_estimated_raises():
    """Catches numbers under an unknown name, from other totals, from three prompts, or from ragged draws."""
    scores = sample()
    with pytest.raises(ValueError, match="unknown estimator 'g'; there are trace, mean_of_2"):
        joint_moments(scores, AT_REFERENCE, target="g", unbiased=())
    with pytest.raises(ValueError, match="unknown estimator 'g'"):
        joint_moments(scores, AT_REFERENCE, target="trace", unbiased=("g",))
    with pytest.raises(ValueError, match="at least four prompts are needed for an interval, got 3"):
        joint_moments(sample(n=3), AT_REFERENCE, target="trace", unbiased=())
    with pytest.raises(ValueError, match=r"were not accumulated \(declared: Trace"):
        joint_moments(scores, {"t": TRACE, "m": MultiTrace(LOSS, 3)}, target="t", unbiased=())
    with pytest.raises(ValueError, match="unknown parameter group 'c'; there are all"):
        joint_moments(scores, AT_REFERENCE, target="trace", unbiased=(), group="c")
    joint = joint_moments(scores, AT_REFERENCE, target="trace", unbiased=())
    with pytest.raises(ValueError, match="unknown estimator 'g'"):
        joint.pair("g", "empty")
    with pytest.raises(ValueError, match="kappa positive"):
        joint.error_matrix(1, kappa=0.0)
    first = scores.pairs[0]
    fewer = replace(first.log_probs, draws=first.log_probs.draws[:4], weights=np.full(4, 0.25))
    short = replace(first, log_probs=fewer)
    ragged = replace(scores, pairs=(short, *scores.pairs[1:]))
    with pytest.raises(ValueError, match=r"Trace\(.*has \[4, 6\] realisations; use the same number .*--traces 4"):
        joint_moments(ragged, AT_REFERENCE, target="trace", unbiased=())
