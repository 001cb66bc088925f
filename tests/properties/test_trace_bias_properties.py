"""Invariants of trace bias on random log-linear models, whose traces and answers are enumerated.

The estimators are the package's own, on the package's pairs; the closed forms of ``theory`` are held against sums over
every pair of traces. Numbered G35 to G43 and G70.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO, IPO, Objective, SimPO
from bvpo_analysis.records import Floats
from bvpo_analysis.theory.empty_trace import (
    empty_trace_bias,
    initial_weight,
    largest_gap,
    largest_initial_weight,
    posterior_variance_from_tokens,
)
from bvpo_analysis.theory.trace_bias import (
    offline_trace_bias,
    on_policy_trace_bias,
    prior_trace_bias,
    small_beta_bias,
    small_beta_remainder,
    trace_loss_lower_bound,
    trace_variance_at_reference,
)
from bvpo_analysis.theory.trace_laws import LossAtReference, TraceLaw, difference_covariance, posterior_divergence

CHOSEN, REJECTED = 0, 1
BETAS = st.floats(0.01, 5.0)
DEPENDENCE = st.sampled_from([0.0, 1.0, -1.0, 0.5])
LOSSES = ((DPO, LossAtReference.dpo), (IPO, LossAtReference.ipo))


@dataclass(frozen=True)
class Prompt:
    """A log-linear model with the reference, another policy, and two numbers per trace that dependence is made of."""

    model: LogLinearModel
    ref: Floats
    theta: Floats
    direction: Floats
    tilt: Floats

    def law(self, theta: Floats, answer: int) -> TraceLaw:
        """The posterior of one answer's traces with the scores, at theta."""
        return TraceLaw(self.model.posterior(theta, answer), self.model.scores(theta)[:, answer])

    def laws(self, theta: Floats) -> tuple[TraceLaw, TraceLaw]:
        return self.law(theta, CHOSEN), self.law(theta, REJECTED)

    def joint(self, theta: Floats, dependence: float) -> Floats:
        """A joint law with the posteriors at theta as marginals: p q' (1 + dependence a b'), E a = E b = 0."""
        p, q = (self.model.posterior(theta, y) for y in (CHOSEN, REJECTED))
        a, b = (x - w @ x for x, w in zip(self.tilt, (p, q), strict=True))
        spread = np.ptp(self.tilt, axis=1)
        return np.outer(p, q) * (1 + dependence * np.outer(a, b) / (spread[0] * spread[1]))

    def log_ratios(self, theta: Floats) -> tuple[Floats, Floats]:
        """rho of every trace with the chosen and with the rejected answer."""
        rho = self.model.log_probs(theta) - self.model.log_probs(self.ref)
        return rho[:, CHOSEN], rho[:, REJECTED]

    def gradients(self, objective: Objective, theta: Floats, joint: Floats | None = None) -> "Gradients":
        """What the package's estimators give on this pair at theta, as vectors."""
        pair, scores = self.model.pair(theta, self.ref, CHOSEN, REJECTED, joint=joint)
        return Gradients(
            p=pair.weights,
            t=Trace(objective).coefficients(pair) @ scores,
            e=(EmptyTrace(objective).coefficients(pair) @ scores)[0],
            mu=(Marginal(objective).coefficients(pair) @ scores)[0],
        )


@dataclass(frozen=True)
class Gradients:
    """g_t [n, d] with probabilities p [n], g_e [d] and mu [d]."""

    p: Floats
    t: Floats
    e: Floats
    mu: Floats

    @property
    def bias(self) -> Floats:
        return self.p @ self.t - self.mu

    @property
    def variance(self) -> float:
        return float(self.p @ ((self.t - self.p @ self.t) ** 2).sum(axis=1))

    @property
    def size(self) -> float:
        """The largest gradient that is averaged: rounding is relative to it."""
        return float(np.abs(self.t).max() + np.abs(self.mu).max())


def make_prompt(seed: int, traces: int, answers: int, parameters: int, spread: float) -> Prompt:
    rng = np.random.default_rng(seed)
    model = LogLinearModel.random(rng, traces=traces, answers=answers, parameters=parameters, spread=spread)
    ref = 0.5 * rng.normal(size=parameters)
    direction = rng.normal(size=parameters)
    return Prompt(
        model,
        ref,
        theta=ref + 0.5 * rng.normal(size=parameters),
        direction=direction / np.linalg.norm(direction),
        tilt=rng.normal(size=(2, traces)),
    )


def prompts(*, parameters: tuple[int, int] = (1, 6), largest_spread: float = 2.0) -> st.SearchStrategy[Prompt]:
    """Random prompts with 2 to 4 traces and 2 to 4 answers."""
    return st.builds(
        make_prompt,
        seed=st.integers(0, 2**32 - 1),
        traces=st.integers(2, 4),
        answers=st.integers(2, 4),
        parameters=st.integers(*parameters),
        spread=st.sampled_from([s for s in (0.5, 1.0, 2.0) if s <= largest_spread]),
    )


def comonotone(p: Floats, q: Floats) -> Floats:
    """The joint law of the quantiles of p and q at one uniform number, in the order of the traces."""
    first, second = np.concatenate([[0], np.cumsum(p)]), np.concatenate([[0], np.cumsum(q)])
    low = np.maximum(first[:-1, None], second[None, :-1])
    high = np.minimum(first[1:, None], second[None, 1:])
    return np.maximum(high - low, 0.0)


def norm(x: Floats) -> float:
    return float(np.linalg.norm(x))


# --- the target ------------------------------------------------------------------------------------------


@given(prompts(), BETAS)
def test_g35_the_target_is_the_derivative_of_the_marginal_loss(prompt, beta):
    """Catches sigmoid(m) for sigmoid(-m), the ascent sign, and posterior weights under the wrong parameters."""
    import torch  # here, because no other test of a closed form needs it

    features = torch.tensor(prompt.model.features)
    theta = torch.tensor(prompt.theta, requires_grad=True)

    def marginals(x):
        energy = features @ x
        return torch.logsumexp(energy, dim=0) - torch.logsumexp(energy.flatten(), dim=0)

    ratios = marginals(theta) - marginals(torch.tensor(prompt.ref))
    margin = beta * (ratios[CHOSEN] - ratios[REJECTED])
    (-torch.nn.functional.logsigmoid(margin)).backward()  # softplus is a straight line above 20
    exact = prompt.gradients(DPO(beta), prompt.theta)
    scale = beta * np.abs(prompt.model.features).max()
    np.testing.assert_allclose(exact.mu, theta.grad.numpy(), rtol=1e-10, atol=1e-12 * scale)
    # And in the form of the text: -beta sigmoid(-m) (sbar+ - sbar-).
    slope = beta / (1 + np.exp(margin.item()))
    by_hand = -slope * (prompt.law(prompt.theta, CHOSEN).mean - prompt.law(prompt.theta, REJECTED).mean)
    np.testing.assert_allclose(exact.mu, by_hand, rtol=1e-10, atol=1e-12 * scale)


@given(prompts(), BETAS)
def test_g70_the_target_is_a_gradient_of_the_loss(prompt, beta):
    """Catches the ascent sign: a small step along -mu lowers L_m; at the reference g_t points along mu on average."""

    def loss(theta):
        ratios = prompt.model.log_marginal(theta) - prompt.model.log_marginal(prompt.ref)
        return np.logaddexp(0.0, -beta * (ratios[CHOSEN] - ratios[REJECTED]))

    g = prompt.gradients(DPO(beta), prompt.ref)
    square = float(g.mu @ g.mu)
    assert g.p @ (g.t @ g.mu) >= square - 1e-12 * g.size**2
    assume(square > 1e-8)
    assert loss(prompt.ref - 1e-4 * g.mu) < loss(prompt.ref)


# --- at the reference ------------------------------------------------------------------------------------


@given(prompts(), BETAS, DEPENDENCE)
def test_g36_posterior_traces_are_unbiased_at_the_reference(prompt, beta, dependence):
    """Catches prior for posterior traces, and a proof that needs independent traces."""
    g = prompt.gradients(DPO(beta), prompt.ref, prompt.joint(prompt.ref, dependence))
    np.testing.assert_allclose(g.bias, 0.0, atol=1e-12 * g.size)


@given(prompts(), BETAS)
def test_g36_also_when_the_traces_are_coupled_closely(prompt, beta):
    """Catches the same with comonotone traces."""
    joint = comonotone(prompt.model.posterior(prompt.ref, CHOSEN), prompt.model.posterior(prompt.ref, REJECTED))
    g = prompt.gradients(DPO(beta), prompt.ref, joint)
    np.testing.assert_allclose(g.bias, 0.0, atol=1e-12 * g.size)


@given(prompts(), BETAS, DEPENDENCE)
def test_g37_so_they_are_for_ipo(prompt, beta, dependence):
    """Catches coefficients of IPO that depend on the trace at the reference."""
    g = prompt.gradients(IPO(beta), prompt.ref, prompt.joint(prompt.ref, dependence))
    np.testing.assert_allclose(g.bias, 0.0, atol=1e-12 * g.size)


def test_g37_a_reference_free_loss_is_biased_from_the_start():
    """Catches unbiasedness asserted for every loss: SimPO's margin varies with the trace at the reference."""
    prompt = make_prompt(seed=0, traces=3, answers=3, parameters=4, spread=1.0)
    assert norm(prompt.gradients(SimPO(beta=2.0, gamma=0.0), prompt.ref).bias) > 0.1
    # Not a matter of length normalisation: equal lengths, and a target normalised by the same length.
    pair, scores = prompt.model.pair(prompt.ref, prompt.ref, CHOSEN, REJECTED)
    equal = np.ones_like(pair.tokens)
    pair = type(pair)(**{**vars(pair), "tokens": equal, "tokens_answer": equal})
    g_t, mu = (f(SimPO(beta=2.0, gamma=0.0)).coefficients(pair) @ scores for f in (Trace, Marginal))
    assert norm(pair.weights @ g_t - mu[0]) > 0.01


@pytest.mark.parametrize(("loss", "at_reference"), LOSSES)
@given(prompt=prompts(), beta=BETAS, dependence=DEPENDENCE)
def test_g38_trace_variance_at_the_reference(loss, at_reference, prompt, beta, dependence):
    """Catches a slope that is not squared, a missing side, and a cross-covariance with the wrong sign or half of it."""
    chosen, rejected = prompt.laws(prompt.ref)
    measured = prompt.gradients(loss(beta), prompt.ref).variance
    assert measured == pytest.approx(at_reference(beta).slope ** 2 * (chosen.variance + rejected.variance), rel=1e-10)
    assert measured == pytest.approx(trace_variance_at_reference(chosen, rejected, at_reference(beta)), rel=1e-10)
    joint = prompt.joint(prompt.ref, dependence)
    coupled = prompt.gradients(loss(beta), prompt.ref, joint).variance
    predicted = trace_variance_at_reference(chosen, rejected, at_reference(beta), joint)
    assert coupled == pytest.approx(predicted, rel=1e-10, abs=1e-12 * measured)


@pytest.mark.parametrize(("loss", "at_reference"), LOSSES)
@given(prompt=prompts(), beta=BETAS, shared=st.booleans())
def test_g39_the_bias_of_prior_traces(loss, at_reference, prompt, beta, shared):
    """Catches exchanged sides, likelihoods that are not normalised, and a bias that depends on the coupling."""
    prior = prompt.model.prior(prompt.ref)
    joint = np.diag(prior) if shared else np.outer(prior, prior)
    g = prompt.gradients(loss(beta), prompt.ref, joint)
    scores = prompt.model.scores(prompt.ref)
    predicted = prior_trace_bias(
        TraceLaw(prior, scores[:, CHOSEN]),
        TraceLaw(prior, scores[:, REJECTED]),
        prompt.model.likelihood(prompt.ref, CHOSEN),
        7.0 * prompt.model.likelihood(prompt.ref, REJECTED),  # a constant factor does not matter
        at_reference(beta),
    )
    np.testing.assert_allclose(g.bias, predicted, atol=1e-12 * g.size)


# --- away from the reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("on_policy", [False, True])
@pytest.mark.parametrize(("loss", "at_reference"), LOSSES)
@given(prompt=prompts(parameters=(2, 6), largest_spread=1.0), beta=st.floats(0.1, 2.0), dependence=DEPENDENCE)
def test_g40_leading_bias_off_the_reference(on_policy, loss, at_reference, prompt, beta, dependence):
    """Catches a wrong sign, side or factor of either term, and independence assumed: a wrong lead shrinks by 10."""
    chosen, rejected = prompt.laws(prompt.ref)
    lead_of = on_policy_trace_bias if on_policy else offline_trace_bias
    shape = at_reference(beta)
    # Steps in units in which margins move by t: terms of higher order are then smaller by t, whatever the scores.
    unit = (
        prompt.direction / max(1.0, beta) / max(np.linalg.norm(law.centred, axis=1).max() for law in (chosen, rejected))
    )
    third = sum(float(law.p @ np.linalg.norm(law.centred, axis=1) ** 3) for law in (chosen, rejected))
    # Where the coefficient of |d|^2 happens to be tiny, that of |d|^3 shows: such instances decide nothing.
    negligible = max(1e-6, 2e-2 * (shape.slope + shape.curvature) * third * float(unit @ unit))
    remainder = {}
    for t in (1e-2, 1e-3, 1e-4):
        d = t * unit
        joint = prompt.joint(prompt.ref + d if on_policy else prompt.ref, dependence)
        lead = lead_of(chosen, rejected, d, shape, None if dependence == 0 else prompt.joint(prompt.ref, dependence))
        remainder[t] = norm(prompt.gradients(loss(beta), prompt.ref + d, joint).bias - lead)
        assume(remainder[t] >= negligible * t * t)
    assert 80 <= remainder[1e-2] / remainder[1e-3] <= 125
    assert 80 <= remainder[1e-3] / remainder[1e-4] <= 125


@given(prompt=prompts(), dependence=DEPENDENCE)
def test_g41_leading_bias_for_small_beta(prompt, dependence):
    """Catches the forgotten shift by KL+ - KL-, and independence assumed: relative to beta^2, 100 times per decade."""
    joint = prompt.joint(prompt.theta, dependence)
    ratios = prompt.log_ratios(prompt.theta)
    remainder = {}
    for beta in (1e-1, 1e-2, 1e-3):
        lead = small_beta_bias(
            *prompt.laws(prompt.theta), *ratios, LossAtReference.dpo(beta), None if dependence == 0 else joint
        )
        remainder[beta] = norm(prompt.gradients(DPO(beta), prompt.theta, joint).bias - lead) / beta**2
        assume(remainder[beta] >= 1e-6 * beta**2)
    assert 80 <= remainder[1e-1] / remainder[1e-2] <= 120
    assert 80 <= remainder[1e-2] / remainder[1e-3] <= 120


@given(prompts(), BETAS, DEPENDENCE)
def test_g41_the_remainder_is_within_its_bound_at_every_beta(prompt, beta, dependence):
    """Catches a wrong constant in the third-order bound."""
    joint, ratios = prompt.joint(prompt.theta, dependence), prompt.log_ratios(prompt.theta)
    laws = prompt.laws(prompt.theta)
    g = prompt.gradients(DPO(beta), prompt.theta, joint)
    remainder = norm(g.bias - small_beta_bias(*laws, *ratios, LossAtReference.dpo(beta), joint))
    assert remainder <= small_beta_remainder(*laws, *ratios, beta, joint) + 1e-12 * g.size


@given(prompts(), BETAS, DEPENDENCE)
def test_g41_the_expansion_is_exact_for_ipo(prompt, beta, dependence):
    """Catches a term of second order that is missing: IPO's loss is a parabola, so nothing else is left."""
    joint = prompt.joint(prompt.theta, dependence)
    g = prompt.gradients(IPO(beta), prompt.theta, joint)
    predicted = small_beta_bias(
        *prompt.laws(prompt.theta), *prompt.log_ratios(prompt.theta), LossAtReference.ipo(beta), joint
    )
    np.testing.assert_allclose(g.bias, predicted, atol=1e-11 * g.size)


@given(prompts())
def test_g43_identities_of_the_log_ratios(prompt):
    """Catches KL in the wrong direction, and h - KL for h + KL."""
    h = prompt.model.log_marginal(prompt.theta) - prompt.model.log_marginal(prompt.ref)
    for y, rho in zip((CHOSEN, REJECTED), prompt.log_ratios(prompt.theta), strict=True):
        reference, current = prompt.model.posterior(prompt.ref, y), prompt.model.posterior(prompt.theta, y)
        scale = 1e-12 * (1 + np.abs(rho).max())
        assert np.log(reference @ np.exp(rho)) == pytest.approx(h[y], abs=scale)
        backward = float(reference @ np.log(reference / current))
        forward = float(current @ np.log(current / reference))
        assert reference @ rho == pytest.approx(h[y] - backward, abs=scale)
        assert current @ rho == pytest.approx(h[y] + forward, abs=scale)
        assert posterior_divergence(reference, -rho) == pytest.approx(backward, abs=scale)
        assert posterior_divergence(current, rho) == pytest.approx(forward, abs=scale)


@given(prompts(), BETAS, DEPENDENCE)
def test_the_trace_loss_lies_above_its_jensen_bound(prompt, beta, dependence):
    """Catches KL+ - KL- with the wrong sign, and KL(theta || ref) for KL(ref || theta)."""
    first, second = prompt.log_ratios(prompt.theta)
    h = prompt.model.log_marginal(prompt.theta) - prompt.model.log_marginal(prompt.ref)
    losses = np.logaddexp(0.0, -beta * (first[:, None] - second[None]))
    measured = float((prompt.joint(prompt.ref, dependence) * losses).sum())
    divergences = [
        posterior_divergence(prompt.model.posterior(prompt.ref, y), -rho)
        for y, rho in ((CHOSEN, first), (REJECTED, second))
    ]
    bound = float(trace_loss_lower_bound(beta * (h[CHOSEN] - h[REJECTED]), *divergences, beta))
    assert measured >= bound - 1e-12 * (1 + measured)
    # For small beta softplus is a line and the bound is met up to second order: a wrong divergence shows.
    small = 1e-4
    linear = float(trace_loss_lower_bound(small * (h[CHOSEN] - h[REJECTED]), *divergences, small))
    exact = float((prompt.joint(prompt.ref, dependence) * np.logaddexp(0.0, -small * (first[:, None] - second))).sum())
    assert abs(exact - linear) <= small**2 / 8 * float(np.abs(first[:, None] - second).max()) ** 2 + 1e-14


# --- the empty trace -------------------------------------------------------------------------------------


def gaps(prompt: Prompt) -> tuple[Floats, Floats]:
    """e(y) = s(empty, y) - sbar(y) at the reference, by differentiating the marginal."""
    scores = prompt.model.scores(prompt.ref)[0]
    first, second = (scores[y] - prompt.model.marginal_score(prompt.ref, y) for y in (CHOSEN, REJECTED))
    return first, second


@pytest.mark.parametrize(("loss", "at_reference"), LOSSES)
@given(prompt=prompts(), beta=BETAS)
def test_the_bias_of_the_empty_trace_at_the_reference(loss, at_reference, prompt, beta):
    """Catches the ascent sign, exchanged sides and the slope of the other loss."""
    g = prompt.gradients(loss(beta), prompt.ref)
    np.testing.assert_allclose(g.e - g.mu, empty_trace_bias(*gaps(prompt), at_reference(beta)), atol=1e-12 * g.size)


@given(prompts(), BETAS, BETAS, DEPENDENCE)
def test_g42_the_initial_weight_is_free_of_beta(prompt, beta, other, dependence):
    """Catches a slope left on one of bias and variance: the optimum is one number for every beta and two losses."""
    joint = prompt.joint(prompt.ref, dependence)
    first, second = gaps(prompt)
    covariance = difference_covariance(*prompt.laws(prompt.ref), joint)
    predicted = float(initial_weight(float((first - second) @ (first - second)), float(np.trace(covariance))))
    for objective in (DPO(beta), DPO(other), IPO(beta)):
        g = prompt.gradients(objective, prompt.ref, joint)
        difference = g.t - g.e
        distance = float(g.p @ (difference**2).sum(axis=1))
        assume(distance > 1e-6 * g.size**2)
        measured = 1 - float(g.p @ ((g.t - g.mu) * difference).sum(axis=1)) / distance
        assert measured == pytest.approx(predicted, abs=1e-9)


@given(prompts())
def test_the_empty_trace_is_within_the_samuelson_bound(prompt):
    """Catches p0/(1 - p0) for its inverse, and the standard deviation for the variance."""
    bounds = []
    for y, gap in zip((CHOSEN, REJECTED), gaps(prompt), strict=True):
        law = prompt.law(prompt.ref, y)
        bound = float(largest_gap(law.p[0], law.variance))
        assert float(gap @ gap) <= bound * (1 + 1e-9)
        if len(law.p) == 2:
            assert float(gap @ gap) == pytest.approx(bound, rel=1e-9)
        bounds.append(law)
    first, second = gaps(prompt)
    weight = initial_weight(float((first - second) @ (first - second)), bounds[0].variance + bounds[1].variance)
    assert float(weight) <= float(largest_initial_weight(bounds[0].p[0], bounds[1].p[0])) * (1 + 1e-9)


@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(2, 3), depth=st.integers(2, 3), parameters=st.integers(1, 5))
def test_token_scores_add_up_to_the_posterior_variance(seed, tokens, depth, parameters):
    """Catches token scores that are not centred given their prefix, and a marginal energy that is not subtracted."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=parameters)
    leaves = [(1.0, (), [])]  # probability, tokens, scores of the tokens
    for _ in range(depth):
        grown = []
        for probability, prefix, token_scores in leaves:
            features = rng.normal(size=(tokens, parameters))
            p = np.exp(features @ theta - np.logaddexp.reduce(features @ theta))
            grown += [
                (probability * p[k], (*prefix, k), [*token_scores, features[k] - p @ features]) for k in range(tokens)
            ]
        leaves = grown
    p = np.array([leaf[0] for leaf in leaves])
    answers = np.array([leaf[1][-1] for leaf in leaves])
    token_scores = np.array([leaf[2] for leaf in leaves])  # [leaves, depth, d]
    measured = marginal = 0.0
    for y in range(tokens):
        mass = p[answers == y].sum()
        law = TraceLaw(p[answers == y] / mass, token_scores[answers == y].sum(axis=1))
        measured += mass * law.variance
        marginal += mass * float(law.mean @ law.mean)
    energy = p @ (token_scores**2).sum(axis=2)
    predicted = float(posterior_variance_from_tokens(energy, marginal))
    assert predicted == pytest.approx(measured, rel=1e-9, abs=1e-12 * energy.sum())
