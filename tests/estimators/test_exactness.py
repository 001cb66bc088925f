"""Estimators against exact gradients of the model in the box, all 24 traces of every prompt enumerated, in float64.

The network's normalisation and attention round to float32 inside, also on the way back. A gradient of a sum and the
sum of gradients are then rounded differently and agree to about 1e-7 only. Tests that compare the two use a copy of the
model without these casts, where they agree to 1e-14 and are held to 1e-9; one test repeats it on the model as it is, to
1e-6.
"""

import copy
import types
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bvpo_analysis import mixing, shipped_pairs, theory
from bvpo_analysis.estimators import EmptyTrace, Marginal, Pooled, Trace, mean_coefficients, mix, totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, load_model, weights_fingerprint
from bvpo_analysis.moments import enumerated_moments, prompt_moments
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.records import Floats, PairLogProbs, ScoreSet
from bvpo_analysis.scores import LoopEngine, plan_pair, score_pairs
from bvpo_analysis.scores.engines import parameter_group
from bvpo_analysis.scores.log_probs import log_prob_parts, pad_batch

PAIRS = shipped_pairs("correct", limit=2)
LOSSES = (DPO(0.1), IPO(0.1), SimPO(2.0, 0.5))
ALPHAS = (-0.5, 0.0, 0.3, 0.5, 1.0, 1.4)


def _norm_in_float64(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def perturbed(lrm: ReasoningModel, scale: float, seed: int = 0) -> ReasoningModel:
    """A copy with seeded normal noise on every weight, relative to the size of its tensor."""
    model = copy.deepcopy(lrm.model)
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        p.data.add_(scale * noise * p.data.square().mean().sqrt())
    return replace(lrm, model=model, fingerprint=weights_fingerprint(model))


@pytest.fixture(scope="module")
def reference() -> ReasoningModel:
    """The model in the box in float64 throughout."""
    lrm = load_model(dtype=torch.float64, attention="sdpa")
    for module in lrm.model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm_in_float64, module)
    return lrm


@pytest.fixture(scope="module")
def moved(reference: ReasoningModel) -> ReasoningModel:
    """A policy some way off the reference."""
    return perturbed(reference, 0.1)


@dataclass(frozen=True)
class Exact:
    """Scores of all sequences of the pairs: as the package reduces them, and as explicit vectors.

    Attributes:
        scores: inner products and log-probabilities.
        rows: the scores themselves, [m, P] per pair.
        vectors: the scores in an orthonormal basis of their span, [m, M] per pair: an isometry of ``rows``.
    """

    scores: ScoreSet
    rows: tuple[torch.Tensor, ...]
    vectors: tuple[Floats, ...]

    @property
    def log_probs(self) -> list[PairLogProbs]:
        return [pair.log_probs for pair in self.scores.pairs]


def exact_scores(policy: ReasoningModel, reference: ReasoningModel) -> Exact:
    estimators = [f(loss) for loss in LOSSES for f in (Trace, EmptyTrace, Marginal)]
    estimators += [mix(Trace(LOSSES[0]), EmptyTrace(LOSSES[0]), a) for a in ALPHAS]
    scores = score_pairs(
        policy,
        PAIRS,
        totals=totals_of(*estimators),
        leave_one_out=False,
        reference=reference,
        enumerate_traces=shipped_traces,
        engine="loop",
    )
    engine = LoopEngine(policy.model)
    sequences = [plan_pair(policy.assembler, p, enumerate_traces=shipped_traces).sequences for p in PAIRS]
    rows = engine.buffer(sum(map(len, sequences)))
    engine.fill([s for part in sequences for s in part], rows)
    basis = torch.linalg.qr(rows.T, mode="r")[1].T.numpy()
    sizes = [len(part) for part in sequences]
    return Exact(scores, torch.split(rows, sizes), tuple(np.split(basis, np.cumsum(sizes)[:-1])))


@pytest.fixture(scope="module")
def at_reference(reference) -> Exact:
    return exact_scores(reference, reference)


@pytest.fixture(scope="module")
def off_reference(moved, reference) -> Exact:
    return exact_scores(moved, reference)


@pytest.fixture(scope="module", params=["at_reference", "off_reference"])
def exact(request) -> Exact:
    return request.getfixturevalue(request.param)


def flat(gradients: dict[str, torch.Tensor], groups: tuple[str, ...]) -> torch.Tensor:
    """Gradients by parameter name as one vector in the column order of the engines."""
    names = sorted(gradients, key=lambda name: groups.index(parameter_group(name)))
    return torch.cat([gradients[name].flatten() for name in names])


def marginal_gradient(policy: ReasoningModel, pair, logs: PairLogProbs, objective, groups) -> torch.Tensor:
    """autograd of the loss written on log sum_r pi(r, y | x): no coefficients, no Fisher identity, no scores."""
    sequences = plan_pair(policy.assembler, pair, enumerate_traces=shipped_traces).sequences
    weights = {n: p.detach().clone().requires_grad_(True) for n, p in policy.model.named_parameters()}
    parts = log_prob_parts(policy.model, weights, *pad_batch(sequences, "cpu"))
    log_prob, ref = parts[0] + parts[1], torch.from_numpy(logs.log_prob_ref)
    sides = [torch.from_numpy(rows) for rows in logs.support]
    tokens = [torch.tensor([sequences[int(rows[0])].tokens_answer]) for rows in logs.support]
    loss = objective.loss(*(x[rows].logsumexp(0, keepdim=True) for x in (log_prob, ref) for rows in sides), *tokens)
    return flat(dict(zip(weights, torch.autograd.grad(loss.sum(), list(weights.values())), strict=True)), groups)


# --- the marginal gradient -------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", LOSSES, ids=repr)
def test_marginal_is_autograd_of_the_marginal_loss_off_the_reference(objective, moved, off_reference):
    """Catches reference-posterior weights in mu, sigmoid(+m), a margin averaged over traces, a wrong length (G35)."""
    logs = off_reference.log_probs[0]
    expected = marginal_gradient(moved, PAIRS[0], logs, objective, off_reference.scores.groups)
    got = torch.from_numpy(Marginal(objective).coefficients(logs)[0]) @ off_reference.rows[0]
    assert abs(logs.log_prob - logs.log_prob_ref).max() > 0.1
    assert float((got - expected).norm() / expected.norm()) < 1e-9


def test_marginal_is_autograd_of_the_marginal_loss_on_the_model_as_it_is(lrm64, engine64):
    """Catches the same through the reference engine and the network's own float32 casts, which cost 1e-7."""
    policy = perturbed(lrm64, 0.05)
    scores = score_pairs(policy, PAIRS[:1], reference=lrm64, enumerate_traces=shipped_traces)
    logs = scores.pairs[0].log_probs
    engine = type(engine64)(policy.model)
    rows = engine.buffer(logs.size)
    engine.fill(plan_pair(policy.assembler, PAIRS[0], enumerate_traces=shipped_traces).sequences, rows)
    expected = marginal_gradient(policy, PAIRS[0], logs, LOSSES[0], engine.groups)
    got = torch.from_numpy(Marginal(LOSSES[0]).coefficients(logs)[0]) @ rows
    assert float((got - expected).norm() / expected.norm()) < 1e-6


def test_inner_products_are_those_of_the_explicit_vectors(exact):
    """Catches a Gram matrix of the wrong sequences, and groups that do not add up to the whole (G54)."""
    for pair, rows, vectors in zip(exact.scores.pairs, exact.rows, exact.vectors, strict=True):
        gram = pair.gram.sum(axis=0)
        assert np.abs(gram - (rows @ rows.T).numpy()).max() < 1e-12 * np.trace(gram)
        assert np.abs(gram - vectors @ vectors.T).max() < 1e-12 * np.trace(gram)


# --- bias ------------------------------------------------------------------------------------------------


def relative_bias(exact: Exact, estimator, objective, weights=None) -> list[float]:
    """|E_r g - mu| / |mu| of each prompt."""
    found = []
    for logs, vectors in zip(exact.log_probs, exact.vectors, strict=True):
        p = logs.weights if weights is None else weights(logs)
        mu = (Marginal(objective).coefficients(logs) @ vectors)[0]
        found.append(np.linalg.norm(p @ estimator.coefficients(logs) @ vectors - mu) / np.linalg.norm(mu))
    return found


def prior_weights(logs: PairLogProbs) -> Floats:
    """Probabilities of the draws if traces were drawn from pi_ref(r | x), without sight of the answers."""
    trace = logs.log_prob_ref - logs.log_prob_answer
    sides = [np.exp(trace[s] - np.logaddexp.reduce(trace[s])) for s in logs.support]
    return np.outer(*sides).ravel()


@pytest.mark.parametrize("objective", LOSSES[:2], ids=repr)
def test_trace_gradient_is_unbiased_at_the_reference(objective, at_reference):
    """Catches traces weighted by anything but the reference posterior (G36, G37)."""
    assert max(relative_bias(at_reference, Trace(objective), objective)) < 1e-9


@pytest.mark.parametrize("objective", LOSSES[:2], ids=repr)
def test_a_pool_with_a_prior_trace_is_unbiased_at_the_reference_with_less_variance(objective, at_reference):
    """Catches weights that are not pi(y | x, r), over all (r+, r-, r) of 24 traces each (G71)."""
    for logs, vectors in zip(at_reference.log_probs, at_reference.vectors, strict=True):
        first, second, pool = (a.ravel() for a in np.indices((24, 24, 24)))
        prior = np.exp((logs.log_prob - logs.log_prob_answer)[logs.support[0]])
        chance = logs.weights.reshape(24, 24)[first, second] * (prior / prior.sum())[pool]
        listed = replace(
            logs,
            draws=np.stack([logs.support[0][first], logs.support[1][second]], axis=1),
            weights=chance,
            enumerated=False,
            prior=logs.support.T[pool],
        )
        mu = (Marginal(objective).coefficients(logs) @ vectors)[0]
        pooled = Pooled(objective, 2).coefficients(listed)
        mean = chance @ pooled @ vectors
        assert np.linalg.norm(mean - mu) < 1e-9 * np.linalg.norm(mu)
        gram = vectors @ vectors.T
        squares = [chance @ np.einsum("rj,rj->r", c @ gram, c) for c in (pooled, Trace(objective).coefficients(listed))]
        assert squares[0] - mean @ mean < 0.9 * (squares[1] - mean @ mean)


def test_reference_free_losses_are_biased_from_the_first_step(at_reference):
    """Catches a SimPO whose coefficient ignores the length of the trace (G37)."""
    assert min(relative_bias(at_reference, Trace(LOSSES[2]), LOSSES[2])) > 0.05


@pytest.mark.parametrize("objective", LOSSES[:2], ids=repr)
def test_prior_traces_are_biased_at_the_reference(objective, at_reference):
    """Catches prior for posterior traces, and gives the unbiasedness test its power (G36, G39)."""
    assert min(relative_bias(at_reference, Trace(objective), objective, prior_weights)) > 0.05


@pytest.mark.parametrize("objective", LOSSES[:2], ids=repr)
def test_trace_gradient_is_biased_off_the_reference(objective, off_reference):
    """Catches a claim of unbiasedness that is not tied to the reference."""
    assert min(relative_bias(off_reference, Trace(objective), objective)) > 0.01


def test_the_draw_probabilities_are_the_reference_posterior_even_off_the_reference(off_reference):
    """Catches draw probabilities that follow the current policy, which did not generate the data."""
    for logs in off_reference.log_probs:
        p = np.exp(logs.log_prob_ref)
        expected = np.outer(*(p[s] / p[s].sum() for s in logs.support)).ravel()
        np.testing.assert_allclose(logs.weights, expected, rtol=1e-12)


# --- mean squared error and variance ---------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_per_prompt_error_is_squared_bias_plus_variance_over_all_outcomes(alpha, exact):
    """Catches a missing cross term, a trace variance with ddof, and moments of the wrong estimator (target M1)."""
    trace, empty, marginal = Trace(LOSSES[0]), EmptyTrace(LOSSES[0]), Marginal(LOSSES[0])
    brute = []
    for pair, vectors in zip(exact.scores.pairs, exact.vectors, strict=True):
        logs = pair.log_probs
        errors = (mix(trace, empty, alpha).coefficients(logs) - marginal.coefficients(logs)) @ vectors
        brute.append(logs.weights @ (errors**2).sum(axis=1))
        m = prompt_moments(pair, trace, empty, marginal)
        bias = float(theory.error_curve(alpha, m.bias_t_sq, m.bias_e_sq, m.bias_inner))
        assert bias + alpha**2 * m.trace_var == pytest.approx(brute[-1], rel=1e-9)
    law = enumerated_moments(exact.scores, trace, empty, marginal).per_prompt()
    assert mixing.error(law, alpha).value == pytest.approx(np.mean(brute), rel=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_population_error_is_squared_bias_plus_variance_over_all_outcomes(alpha, exact):
    """Catches a data variance left out or counted twice, and a covariance with the wrong sign (target M3, B = 1)."""
    trace, empty, marginal = Trace(LOSSES[0]), EmptyTrace(LOSSES[0]), Marginal(LOSSES[0])
    both = list(zip(exact.log_probs, exact.vectors, strict=True))
    mu = np.mean([(marginal.coefficients(logs) @ v)[0] for logs, v in both], axis=0)
    brute = np.mean(
        [logs.weights @ ((mix(trace, empty, alpha).coefficients(logs) @ v - mu) ** 2).sum(1) for logs, v in both]
    )
    law = enumerated_moments(exact.scores, trace, empty, marginal).population(1)
    assert mixing.error(law, alpha).value == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_theorem_1_holds_given_the_data(alpha, exact):
    """Catches trace randomness in g_e: Var_r(g_c) = alpha^2 Var_r(g_t) for every prompt (G18)."""
    trace, empty, marginal = Trace(LOSSES[0]), EmptyTrace(LOSSES[0]), Marginal(LOSSES[0])
    for pair in exact.scores.pairs:
        single = prompt_moments(pair, trace, empty, marginal).trace_var
        mixed = prompt_moments(pair, mix(trace, empty, alpha), empty, marginal).trace_var
        assert mixed == pytest.approx(alpha**2 * single, rel=1e-9, abs=1e-12 * single)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5])
def test_theorem_1_does_not_hold_for_the_total_variance(alpha, exact):
    """Catches data variance that is left out: over prompts the mix varies by far more than alpha^2 Var(g_t) (G20)."""
    trace, empty, marginal = Trace(LOSSES[0]), EmptyTrace(LOSSES[0]), Marginal(LOSSES[0])
    single = enumerated_moments(exact.scores, trace, empty, marginal).var_t[0]
    mixed = enumerated_moments(exact.scores, mix(trace, empty, alpha), empty, marginal)
    assert mixed.var_t[0] > 1.2 * alpha**2 * single + 1e-3 * single
    both = [(p.log_probs, v) for p, v in zip(exact.scores.pairs, exact.vectors, strict=True)]
    means = np.stack([mean_coefficients(mix(trace, empty, alpha), logs) @ v for logs, v in both])
    data_part = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert mixed.var_t[0] - mixed.trace_var[0] == pytest.approx(data_part, rel=1e-9)


# --- direction -------------------------------------------------------------------------------------------


def marginal_loss(policy: ReasoningModel, logs: list[PairLogProbs], objective) -> float:
    """L_m on the pairs, the reference log-probabilities held fixed."""
    total = 0.0
    for pair, log in zip(PAIRS, logs, strict=True):
        sequences = plan_pair(policy.assembler, pair, enumerate_traces=shipped_traces).sequences
        with torch.no_grad():
            weights = dict(policy.model.named_parameters())
            parts = log_prob_parts(policy.model, weights, *pad_batch(sequences, "cpu"))
        log_prob, ref = parts[0] + parts[1], torch.from_numpy(log.log_prob_ref)
        sides = [torch.from_numpy(rows) for rows in log.support]
        none = torch.ones(1)
        loss = objective.loss(*(x[s].logsumexp(0, keepdim=True) for x in (log_prob, ref) for s in sides), none, none)
        total += float(loss)
    return total / len(PAIRS)


@pytest.mark.parametrize("where", ["reference", "moved"])
def test_a_step_against_mu_lowers_the_marginal_loss(where, request):
    """Catches the ascent sign and a wrong length of mu: the loss falls by eta |mu|^2 to first order (G70)."""
    policy = request.getfixturevalue(where)
    exact = request.getfixturevalue({"reference": "at_reference", "moved": "off_reference"}[where])
    objective, eta = LOSSES[0], 1e-4
    marginal = Marginal(objective)
    mu = sum(
        torch.from_numpy(marginal.coefficients(logs)[0]) @ rows
        for logs, rows in zip(exact.log_probs, exact.rows, strict=True)
    ) / len(PAIRS)
    model = copy.deepcopy(policy.model)
    groups, start = exact.scores.groups, 0
    for _, p in sorted(model.named_parameters(), key=lambda item: groups.index(parameter_group(item[0]))):
        p.data.sub_(eta * mu[start : start + p.numel()].view_as(p))
        start += p.numel()
    drop = marginal_loss(policy, exact.log_probs, objective) - marginal_loss(
        replace(policy, model=model), exact.log_probs, objective
    )
    assert drop == pytest.approx(eta * float(mu @ mu), rel=0.05)
    moments = enumerated_moments(exact.scores, Trace(objective), EmptyTrace(objective), marginal)
    assert float(mu @ mu) == pytest.approx(moments.target_sq[0], rel=1e-9)
