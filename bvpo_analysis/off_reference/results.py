"""What is found off the reference, as plain records: they hold numbers, are kept as JSON, and need no model."""

from dataclasses import dataclass
from typing import Literal, get_args

Target = Literal["plug-in", "jackknife"]
TARGETS: tuple[Target, ...] = get_args(Target)
STATISTICS = ("bias_t_sq", "bias_e_sq", "alpha")
"""|b_t|^2, |b_e|^2 (population target) and the unclipped M3 weight."""


@dataclass(frozen=True)
class SampledCell:
    """One statistic over the replications of one kind of study.

    Attributes:
        share: t of the checkpoint.
        ess_share: mean of 1 / (1 + chi^2) over prompts and answers there.
        target: the estimate that stands for mu.
        traces: K.
        prompts: n, drawn with replacement.
        statistic: one of ``STATISTICS``.
        truth: its exact value.
        mean, mean_se: over replications, with the Monte-Carlo standard error.
        spread: standard deviation of one study.
        predicted: what the plug-in target gives on average by its closed-form bias delta = c/K; nan for the jackknife,
            and where chi^2 >= K for some answer, since the expansion is in chi^2 / K.
        coverage, coverage_se: share of 95 % intervals that hold the truth, with its Monte-Carlo standard error.
        width: median length of the interval.
        replications: how many studies.
    """

    share: float
    ess_share: float
    target: Target
    traces: int
    prompts: int
    statistic: str
    truth: float
    mean: float
    mean_se: float
    spread: float
    predicted: float
    coverage: float
    coverage_se: float
    width: float
    replications: int

    @property
    def relative_bias(self) -> float:
        """(mean - truth) over the spread of one study: below about 0.5, intervals keep near their level."""
        return (self.mean - self.truth) / self.spread


@dataclass(frozen=True)
class Prediction:
    """A measured bias of g_t against its leading term; every number a norm.

    ``population`` is that of the mean vector over prompts, ``prompts`` the root mean square over prompts.

    Attributes:
        bias_population, bias_prompts: |b_t|.
        lead_population, lead_prompts: |leading term|.
        remainder_population, remainder_prompts: |b_t - leading term|.
    """

    bias_population: float
    bias_prompts: float
    lead_population: float
    lead_prompts: float
    remainder_population: float
    remainder_prompts: float


@dataclass(frozen=True)
class PathPoint:
    """Exact numbers at one checkpoint, one trace per answer.

    Attributes:
        share, distance: t and |t d|.
        beta, prompts, batch_size: of the DPO loss; how many prompts; B of the batch weights.
        mass, mass_lowest: prior probability of the enumerated traces under theta, mean and lowest prompt.
        margin: mean of beta (h+ - h-), the margin of the marginal loss.
        divergence, divergence_highest: KL(pi_ref(r | x, y) || pi_theta(r | x, y)) in nats, mean and highest answer.
        ess_share, ess_share_lowest: 1 / (1 + chi^2), the share of K reference-posterior traces that count under theta.
        target_sq: |mu|^2 of the population.
        bias_t_sq, bias_e_sq: |b_t|^2 and |b_e|^2 of the population (M3).
        prompt_bias_t_sq, prompt_bias_e_sq: the same of single prompts, on average (M1).
        trace_var: tau = E_x Tr Var_r(g_t).
        cosine_t, cosine_e: cosines of E g_t and E g_e with mu.
        alpha, alpha_prompt: unclipped optimal weights, M3 at B and M1.
        alpha_unbiased: M3 weight from the same numbers if E g_t is taken for mu, as the formulas at the reference do.
        error_ratio_trace, error_ratio_empty, error_ratio_equal, error_ratio_unbiased: MSE at B of g_t, of g_e, of the
            equal mix and of the mix at alpha_unbiased in [0, 1], each over that at the best weight in [0, 1].
        stale: b_t with reference-posterior traces against its leading term.
        fresh: b_t with current-posterior traces against its own.
        pull: cosine of the population's b_t with d for fresh traces. A descent step follows -b_t, so a positive number
            is a pull back to the reference.
    """

    share: float
    distance: float
    beta: float
    prompts: int
    batch_size: int
    mass: float
    mass_lowest: float
    margin: float
    divergence: float
    divergence_highest: float
    ess_share: float
    ess_share_lowest: float
    target_sq: float
    bias_t_sq: float
    bias_e_sq: float
    prompt_bias_t_sq: float
    prompt_bias_e_sq: float
    trace_var: float
    cosine_t: float
    cosine_e: float
    alpha: float
    alpha_prompt: float
    alpha_unbiased: float
    error_ratio_trace: float
    error_ratio_empty: float
    error_ratio_equal: float
    error_ratio_unbiased: float
    stale: Prediction
    fresh: Prediction
    pull: float


@dataclass(frozen=True)
class SmallBetaPoint:
    """b_t with fresh traces at a fixed theta and one beta, against its leading term in beta.

    Attributes:
        beta: of the DPO loss.
        target_sq: |mu|^2 of the population.
        fresh: bias and leading term.
        stale_bias_sq: |b_t|^2 of the population with reference-posterior traces, which no beta makes small beside mu.
    """

    beta: float
    target_sq: float
    fresh: Prediction
    stale_bias_sq: float
