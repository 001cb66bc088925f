"""Is the trace-based gradient unbiased at the reference? Which losses, which traces, and how the pairs were made.

The left side of every claim is a sum over all pairs of traces of random log-linear prompts, through the package's own
estimators; the right side is the closed form.
"""

import numpy as np

from bvpo_analysis.claims.instances import ROUNDING, worst
from bvpo_analysis.claims.log_linear_prompts import (
    CHOSEN,
    LOSSES,
    REJECTED,
    Draw,
    Prompt,
    norm,
    pairs_from_two_draws,
    prompts,
)
from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.objectives import DPO, SimPO
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.trace_bias import (
    prior_trace_bias,
    trace_variance_at_reference,
)
from bvpo_analysis.theory.trace_laws import TraceLaw

PROOF = "bvpo_analysis.theory.trace_bias"


# --- at the reference ------------------------------------------------------------------------------------


def posterior_traces_are_unbiased() -> Claim:
    """E_r g_t = mu at theta_ref, under every joint law of reference-posterior traces."""
    instances = [
        (norm(g.bias) / g.size, 0.0, 1.0)
        for prompt in prompts(60)
        for strength in (0.0, 1.0, -1.0)
        for objective, _ in LOSSES
        for g in [prompt.gradients(objective, prompt.ref, prompt.dependent(prompt.ref, strength))]
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="posterior-traces-are-unbiased",
        statement="At the reference, with posterior traces, the trace-based gradient of DPO and IPO is unbiased",
        reference=f"{PROOF}; Fisher's identity",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="|E g_t - mu| / largest entry; 60 prompts, DPO and IPO, traces independent and dependent both ways",
        note="Only the marginal laws of the two traces matter.",
    )


def unbiased_at_initialisation_for_any_loss() -> Claim:
    """The stronger reading fails for a loss without a reference: its margin varies with the trace from the start."""
    largest = max(
        (prompt.gradients(SimPO(beta=2.0, gamma=0.0), prompt.ref) for prompt in prompts(20)),
        key=lambda g: g.relative_bias,
    )
    return Claim(
        name="unbiased-at-initialisation-for-any-loss",
        statement="At initialisation the trace-based gradient is unbiased",
        reference="the statement above without its loss",
        kind="identity",
        measured=largest.relative_bias,
        predicted=0.0,
        tolerance=ROUNDING,
        only_if="the coefficients of the loss do not vary with the trace there (DPO, IPO; not SimPO, CPO, ORPO)",
        setting="|E g_t - mu| / |mu| for SimPO (arXiv 2405.14734), the largest of 20 prompts",
        note="The marginal of a length-normalised loss is normalised by the answer, the only length it has.",
    )


def trace_variance_at_initialisation() -> Claim:
    """Tr Var_r(g_t) = slope^2 Tr Cov(s+ - s-); (beta^2/4)(Tr C+ + Tr C-) for DPO and independent traces."""
    instances = []
    for prompt in prompts(30):
        for strength in (0.0, 1.0, -1.0):
            joint = None if strength == 0 else prompt.dependent(prompt.ref, strength)
            for objective, loss in LOSSES:
                g = prompt.gradients(objective, prompt.ref, joint)
                instances.append(
                    (g.variance, trace_variance_at_reference(*prompt.laws(prompt.ref), loss, joint), g.size**2)
                )
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="trace-variance-at-initialisation",
        statement="At the reference Tr Var(g_t) is the squared slope of the loss times Tr Cov(s+ - s-)",
        reference=f"{PROOF}.trace_variance_at_reference",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="30 prompts, DPO and IPO, traces independent and dependent both ways",
    )


def _shared_trace_scores() -> Prompt:
    """phi(r, y) = a(r) + b(y): the score depends on the trace in the same way for every answer."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 1, 4)) + rng.normal(size=(1, 2, 4))
    ref = 0.5 * rng.normal(size=4)
    return Prompt(LogLinearModel(features), ref, ref, rng.normal(size=(2, 3)))


def pairing_the_traces_lowers_the_variance() -> Claim:
    """One trace for both answers, where its score does not depend on the answer: no variance is left."""
    prompt = _shared_trace_scores()
    posterior, _ = prompt.posteriors(prompt.ref)
    independent = prompt.gradients(DPO(1.0), prompt.ref)
    paired = prompt.gradients(DPO(1.0), prompt.ref, np.diag(posterior))
    return Claim(
        name="pairing-the-traces-lowers-the-variance",
        statement="Traces coupled so that their scores correlate positively give less variance at the same mean",
        reference=f"{PROOF}.trace_variance_at_reference",
        kind="upper",
        measured=paired.variance,
        predicted=independent.variance,
        setting="phi(r, y) = a(r) + b(y), both posteriors equal; the same trace for both answers against independent",
        note="No trace variance is left here, and g_t is as unbiased as before.",
    )


def any_pairing_lowers_the_variance() -> Claim:
    """Traces coupled against each other raise it."""
    prompt = _shared_trace_scores()
    posterior, _ = prompt.posteriors(prompt.ref)
    scores = prompt.model.scores(prompt.ref)[:, CHOSEN] @ np.linalg.svd(prompt.model.features[:, CHOSEN])[2][0]
    tilted = Prompt(prompt.model, prompt.ref, prompt.ref, np.stack([scores, -scores]))
    opposed = tilted.gradients(DPO(1.0), prompt.ref, tilted.dependent(prompt.ref, 1.0))
    independent = prompt.gradients(DPO(1.0), prompt.ref, np.outer(posterior, posterior))
    return Claim(
        name="any-pairing-lowers-the-variance",
        statement="Dependent traces give at most the variance of independent ones",
        reference="the statement above without its sign",
        kind="upper",
        measured=opposed.variance,
        predicted=independent.variance,
        only_if="Tr Cov(s+, s-) >= 0, that is, if the scores of the two traces do not go against each other",
        setting="the same prompt, traces whose scores correlate negatively",
    )


# --- how the pairs were made -----------------------------------------------------------------------------


def _pipeline_bias(prompt: Prompt, tables: dict[tuple[int, int], Floats]) -> float:
    """The largest |E[g_t | y+, y-] - mu| / |mu| over the pairs of answers that a pipeline gives."""
    return max(
        prompt.gradients(DPO(1.0), prompt.ref, table / table.sum(), answers).relative_bias
        for answers, table in tables.items()
    )


def _better_answer(first: Draw, second: Draw) -> Draw | None:
    """Rank by the answer alone: the larger index wins, ties are dropped."""
    if first[1] == second[1]:
        return None
    return max(first, second, key=lambda draw: draw[1])


def _unless_truncated(first: Draw, second: Draw) -> Draw | None:
    """The same, but rows with the longest trace are dropped."""
    return None if max(first[0], second[0]) == 3 else _better_answer(first, second)


def _better_sequence(first: Draw, second: Draw) -> Draw | None:
    """Rank by answer and trace: among different answers the longer trace costs points."""
    if first[1] == second[1]:
        return None
    return max(first, second, key=lambda draw: (draw[1] - 1.5 * draw[0], draw[1]))


def _four_traces() -> Prompt:
    rng = np.random.default_rng(1)
    model = LogLinearModel.random(rng, traces=4, answers=3, parameters=5)
    ref = 0.5 * rng.normal(size=5)
    return Prompt(model, ref, ref, rng.normal(size=(2, 4)))


def ranking_by_answers_gives_posterior_traces() -> Claim:
    """Sample (r, y) twice, rank by a score of y only: given the answers the traces are independent posteriors."""
    measured, predicted, tolerance = worst(
        (_pipeline_bias(prompt, pairs_from_two_draws(prompt, _better_answer)), 0.0, 1.0) for prompt in prompts(8)
    )
    return Claim(
        name="ranking-by-answers-gives-posterior-traces",
        statement="Sampling trace and answer together and ranking by the answer only leaves g_t unbiased",
        reference="given the answers, a rule that reads only them leaves the traces independent posteriors",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="|E[g_t | y+, y-] - mu| / |mu|, all pairs of draws and of answers of 8 prompts",
    )


def a_ranker_may_read_the_trace() -> Claim:
    """A score that counts the trace selects traces, so that they are posteriors no more."""
    prompt = _four_traces()
    return Claim(
        name="a-ranker-may-read-the-trace",
        statement="Whatever ranks the two samples, g_t is unbiased at the reference",
        reference="the statement above for any ranker",
        kind="identity",
        measured=_pipeline_bias(prompt, pairs_from_two_draws(prompt, _better_sequence)),
        predicted=0.0,
        tolerance=ROUNDING,
        only_if="the ranker reads the answers only",
        setting="|E[g_t | y+, y-] - mu| / |mu|, worst pair of answers; a ranker that charges for long traces",
    )


def rows_may_be_dropped_by_their_trace() -> Claim:
    """Dropping truncated, long or duplicate traces conditions the policy on the rest."""
    prompt = _four_traces()
    return Claim(
        name="rows-may-be-dropped-by-their-trace",
        statement="Dropping rows whose trace is too long leaves g_t unbiased",
        reference="common practice in preference data",
        kind="identity",
        measured=_pipeline_bias(prompt, pairs_from_two_draws(prompt, _unless_truncated)),
        predicted=0.0,
        tolerance=ROUNDING,
        only_if="mu is that of the policy conditioned on the traces that are kept",
        setting="|E[g_t | y+, y-] - mu| / |mu|, worst pair of answers; one of four traces is dropped",
    )


def prior_traces_have_a_covariance_bias() -> Claim:
    """b_t = slope [Cov_prior(w+, s+) - Cov_prior(w-, s-)], whatever the coupling."""
    instances = []
    for prompt in prompts(60):
        prior, scores = prompt.model.prior(prompt.ref), prompt.model.scores(prompt.ref)
        for objective, loss in LOSSES:
            predicted = prior_trace_bias(
                TraceLaw(prior, scores[:, CHOSEN]),
                TraceLaw(prior, scores[:, REJECTED]),
                prompt.model.likelihood(prompt.ref, CHOSEN),
                prompt.model.likelihood(prompt.ref, REJECTED),
                loss,
            )
            for joint in (np.outer(prior, prior), np.diag(prior)):
                g = prompt.gradients(objective, prompt.ref, joint)
                instances += [(b, p, g.size) for b, p in zip(g.bias, predicted, strict=True)]
    measured, expected, tolerance = worst(instances)
    return Claim(
        name="prior-traces-have-a-covariance-bias",
        statement="Traces drawn without the answer bias g_t by slope [Cov(w+, s+) - Cov(w-, s-)]",
        reference=f"{PROOF}.prior_trace_bias",
        kind="identity",
        measured=measured,
        predicted=expected,
        tolerance=tolerance,
        setting="every entry; 60 prompts, DPO and IPO, one trace for both answers or independent ones",
    )


def any_trace_of_the_model_will_do() -> Claim:
    """The same traces, read as if they were posterior ones."""

    def relative_bias(prompt: Prompt) -> float:
        prior = prompt.model.prior(prompt.ref)
        return prompt.gradients(DPO(1.0), prompt.ref, np.outer(prior, prior)).relative_bias

    return Claim(
        name="any-trace-of-the-model-will-do",
        statement="With any traces of the reference model g_t is unbiased at the reference",
        reference="the statement on posterior traces, for any traces",
        kind="identity",
        measured=float(np.median([relative_bias(prompt) for prompt in prompts(101)])),
        predicted=0.0,
        tolerance=ROUNDING,
        only_if="the traces come from the posterior pi_ref(r | x, y), as those sampled together with y do",
        setting="|b_t| / |mu| with prior traces, the median of 101 prompts",
        note="Other prior traces are unbiased only where Cov(w+, s+) = Cov(w-, s-).",
    )


CLAIMS = (
    posterior_traces_are_unbiased,
    unbiased_at_initialisation_for_any_loss,
    trace_variance_at_initialisation,
    pairing_the_traces_lowers_the_variance,
    any_pairing_lowers_the_variance,
    ranking_by_answers_gives_posterior_traces,
    a_ranker_may_read_the_trace,
    rows_may_be_dropped_by_their_trace,
    prior_traces_have_a_covariance_bias,
    any_trace_of_the_model_will_do,
)
