"""Which error, over what, and with how large a batch: the optimal weight is not one number.

Batches of independent prompts are enumerated by how often each prompt occurs in them. Given these counts, the noise of
the traces is a sum of independent terms.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar

from bvpo_analysis.claims.instances import ROUNDING, FiniteLaw, worst
from bvpo_analysis.records import Claim, Floats
from bvpo_analysis.theory.batch import batch_optimal_weight, batch_weight_limits
from bvpo_analysis.theory.targets import PromptLaw, pooled_weight

BATCH_SIZE = 32
TOY = PromptLaw(
    probabilities=np.full(3, 1 / 3),
    bias_t=np.zeros((3, 1)),
    bias_e=np.array([[0.0], [-2.0], [1.0]]),
    targets=np.array([[-4.0], [4.0], [-3.0]]),
    trace_var=np.array([7.0, 2.0, 9.0]),
)
"""Three equally likely prompts with an unbiased g_t: one empty trace is exact, two err against their own target."""
TOY_SETTING = f"three prompts, b_t = 0, every batch of {BATCH_SIZE} enumerated"


@dataclass(frozen=True)
class Batches:
    """Every batch of B prompts drawn with replacement, with K traces each: the means over it of what its prompts have.

    Attributes:
        law: the population of prompts.
        batch_size, traces: B and K.
    """

    law: PromptLaw
    batch_size: int
    traces: int = 1

    @cached_property
    def counts(self) -> Floats:
        """[m, n] how often each prompt occurs."""
        n, size = len(self.law.probabilities), self.batch_size
        bars = itertools.combinations(range(size + n - 1), n - 1)
        ends = np.array([(-1, *bar, size + n - 1) for bar in bars])
        return (np.diff(ends, axis=1) - 1).astype(np.float64)

    @cached_property
    def p(self) -> Floats:
        """[m] multinomial probabilities of the counts."""
        log_factorial = np.array([math.lgamma(k + 1) for k in range(self.batch_size + 1)])
        ways = log_factorial[-1] - log_factorial[self.counts.astype(int)].sum(axis=1)
        return np.exp(ways + self.counts @ np.log(self.law.probabilities))

    def error(self, alpha: float, *, population: bool) -> float:
        """E|mean g_c - target|^2, the target being the mean mu of the batch, or that of the population."""
        law, share = self.law, self.counts / self.batch_size
        mixed = alpha * law.bias_t + (1 - alpha) * law.bias_e + law.targets
        target = law.probabilities @ law.targets if population else share @ law.targets
        noise = alpha**2 * share @ law.trace_var / (self.batch_size * self.traces)
        return float(self.p @ (((share @ mixed - target) ** 2).sum(axis=1) + noise))

    def best_weight(self, *, population: bool) -> float:
        """Vertex of the parabola through three errors."""
        minus, zero, one = (self.error(alpha, population=population) for alpha in (-1.0, 0.0, 1.0))
        return (minus - one) / (2 * (minus + one - 2 * zero))


def random_populations(count: int, seed: int) -> list[PromptLaw]:
    """Populations of 2 to 4 prompts in 1 to 3 dimensions, biased g_t and g_e."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        n, d = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        b_t, b_e, mu = rng.normal(size=(3, n, d)) + rng.normal(size=(3, 1, d))
        found.append(PromptLaw(rng.dirichlet(np.ones(n)), b_t, b_e, mu, rng.gamma(1.0, 4.0, size=n)))
    return found


def one_optimal_weight() -> Claim:
    """Per prompt, per batch and against the population gradient, the same prompts have three optimal weights."""
    weights = [
        Batches(TOY, 1).best_weight(population=False),
        Batches(TOY, BATCH_SIZE).best_weight(population=False),
        Batches(TOY, BATCH_SIZE).best_weight(population=True),
    ]
    ordered = sorted(weights)
    return Claim(
        name="one-optimal-weight",
        statement="Given the data, the batch size and the traces, the weight of least mean squared error is one number",
        reference="reading of BVPO, arXiv 2510.05095, Theorem 2, whose target does not say over what it averages",
        kind="identity",
        measured=min(ordered[1] / ordered[0], ordered[2] / ordered[1]),
        predicted=1.0,
        tolerance=ROUNDING,
        only_if="it is said against which target: each prompt's own gradient, the batch's, or the population's",
        setting=f"{TOY_SETTING}; smallest ratio between two of the three weights",
        note="Optimal weights: per prompt {:.3f}, batch {:.3f}, population {:.3f}.".format(*weights),
    )


def three_targets() -> Claim:
    """The closed forms of all three, against enumeration."""
    instances = []
    for law in [TOY, *random_populations(40, seed=1)]:
        for size in (1, 2, 7):
            batches = Batches(law, size, traces=2)
            for errors in (law.batch(size, 2), law.population(size, 2)):
                found = batches.best_weight(population=errors.target == "population")
                instances.append((found, errors.weight, (errors.error_t + errors.error_e) / errors.distance))
        single = Batches(law, 1, traces=2).best_weight(population=False)
        own = law.per_prompt(2)
        instances.append((single, own.weight, (own.error_t + own.error_e) / own.distance))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="three-targets",
        statement="Each target has its closed form; that of the prompt is that of batches of one",
        reference="means of independent terms: the squared mean stays, the variance is divided by B",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="41 populations of 2 to 4 prompts, every batch of 1, 2 and 7, two traces each",
    )


def population_minus_batch_error() -> Claim:
    """M3(alpha) - M2(alpha) = [v_mu + 2 Tr Cov(b_c, mu)] / B."""
    instances = []
    for law in [TOY, *random_populations(60, seed=2)]:
        for size, alpha in ((1, 0.2), (5, 0.9), (9, -0.5)):
            batches = Batches(law, size)
            sides = [batches.error(alpha, population=target) for target in (True, False)]
            instances.append((sides[0] - sides[1], law.population_minus_batch(alpha, size), sum(sides)))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="population-minus-batch-error",
        statement="Against the population gradient the error exceeds that against the batch's own by the variance of "
        "mu plus twice its covariance with the bias of the mix, over B",
        reference="variance of a sum",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="61 populations of 2 to 4 prompts, every batch of 1, 5 and 9",
        note="It may be negative, and it moves the optimal weight unless the covariance with b_t - b_e vanishes.",
    )


def mean_of_prompt_weights() -> Claim:
    """One prompt whose two gradients nearly coincide has a wild optimum of its own and no say in the pooled one."""
    law = PromptLaw(
        probabilities=np.array([0.5, 0.5]),
        bias_t=np.zeros((2, 1)),
        bias_e=np.array([[2.0], [0.1]]),
        targets=np.zeros((2, 1)),
        trace_var=np.array([1.0, 0.09]),
    )
    each = [
        Batches(PromptLaw(np.ones(1), *(x[[i]] for x in _arrays(law))), 1).best_weight(population=False)
        for i in range(2)
    ]
    return Claim(
        name="mean-of-prompt-weights",
        statement="The best weight for a population of prompts is the mean of the best weights of its prompts",
        reference="averaging estimated weights over prompts",
        kind="identity",
        measured=float(Batches(law, 1).best_weight(population=False)),
        predicted=float(np.mean(each)),
        tolerance=ROUNDING,
        only_if="the weights do not correlate with D = E|g_t - g_e|^2 over prompts, as when D is the same on all",
        setting="two prompts, |b_e|^2 = 4 and 0.01, trace variance 1 and 0.09, b_t = 0",
    )


def pooled_weight_is_a_ratio_of_sums() -> Claim:
    """The minimiser of the average of the prompts' errors, found numerically, against the ratio of sums."""
    instances = []
    for law in random_populations(40, seed=3):
        singles = [
            Batches(PromptLaw(np.ones(1), *(x[[i]] for x in _arrays(law))), 1) for i in range(len(law.probabilities))
        ]

        def average(alpha: float, law: PromptLaw = law, singles: list[Batches] = singles) -> float:
            return float(law.probabilities @ [single.error(alpha, population=False) for single in singles])

        found = minimize_scalar(average, bracket=(0.0, 1.0), tol=1e-10)
        best = float(pooled_weight(law.probabilities, law.prompt_numerators(), law.prompt_distances()))
        own = law.per_prompt()
        instances.append((found.fun, own.error(best), own.error_t + own.error_e))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="pooled-weight-is-a-ratio-of-sums",
        statement="The average error of the prompts is least at 1 - sum N_i / sum D_i, the mean of their weights "
        "weighted by D_i = E|g_t - g_e|^2",
        reference="sum of parabolas",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="least average error found by a numerical search, 40 random populations",
    )


def weight_of_batch_and_traces() -> Claim:
    """alpha*(B, K) from seven scalars of one unit, against enumeration."""
    instances = []
    for law in [TOY, *random_populations(60, seed=4)]:
        for size, traces in ((1, 1), (3, 2), (8, 5)):
            found = Batches(law, size, traces).best_weight(population=True)
            closed = batch_optimal_weight(**_unit(law), batch_size=size, traces=traces)
            errors = law.population(size, traces)
            instances.append((found, closed, (errors.error_t + errors.error_e) / errors.distance))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="weight-of-batch-and-traces",
        statement="Batch size and trace count enter the optimal weight through data noise over B and trace noise over "
        "B K, and nothing else",
        reference="law of total variance for means of independent units",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="61 populations of 2 to 4 prompts, every batch of 1, 3 and 8 with 1, 2 and 5 traces",
    )


def one_weight_for_every_batch() -> Claim:
    """With an unbiased g_t the optimal weight goes to 1 as batches grow: no constant serves two batch sizes."""
    limit = float(batch_weight_limits(**_unit(TOY), batch_size=1).bias_only)
    return Claim(
        name="one-weight-for-every-batch",
        statement="The optimal weight at one batch size is optimal at another",
        reference="reading of BVPO, arXiv 2510.05095, which uses alpha = 1/2 throughout",
        kind="identity",
        measured=Batches(TOY, 256).best_weight(population=True),
        predicted=Batches(TOY, BATCH_SIZE).best_weight(population=True),
        tolerance=ROUNDING,
        only_if="b_t = b_e, Var(g_t - g_e) = 0, or the weights of least bias and of least variance coincide",
        setting="three prompts, b_t = 0, every batch of 32 and of 256 enumerated",
        note=f"In the limit of large batches the weight is {limit:g}: an unbiased g_t needs no help.",
    )


def weight_without_the_target() -> Claim:
    """With b_t = 0 the pairs (g_t, g_e), one trace each, say which weight is best against a target they never see."""
    instances = []
    for drawn in random_populations(40, seed=5):
        law = PromptLaw(drawn.probabilities, np.zeros_like(drawn.bias_t), drawn.bias_e, drawn.targets, drawn.trace_var)
        seen = _pairs(law)
        shift = seen.p @ (seen.e - seen.t)
        for size in (1, 3, 8):
            closed = batch_optimal_weight(
                bias_t_sq=0.0,
                bias_e_sq=float(shift @ shift),
                bias_inner=0.0,
                data_var_t=seen.var_t,
                trace_var=0.0,  # in the variance of single pairs already
                var_e=seen.covariance(seen.e, seen.e),
                data_cov=seen.covariance(seen.t, seen.e),
                batch_size=size,
            )
            errors = law.population(size, 1)
            scale = (errors.error_t + errors.error_e) / errors.distance
            instances.append((Batches(law, size).best_weight(population=True), closed, scale))
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="weight-without-the-target",
        statement="If b_t = 0, the weight against the population gradient follows from the pairs (g_t, g_e), one trace "
        "per answer: 1 - alpha* = [Var(g_t) - Cov(g_t, g_e)] / [B |E(g_e - g_t)|^2 + Var(g_t - g_e)]",
        reference="b_t = 0, so that |b_e|^2 = |E(g_e - g_t)|^2",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="40 populations of 2 to 4 prompts with b_t = 0, every batch of 1, 3 and 8; moments of single pairs",
        note="So at the reference, where b_t = 0, the weight need not be guessed: no target has to be estimated.",
    )


def _pairs(law: PromptLaw) -> FiniteLaw:
    """Single pairs (g_t, g_e): each prompt with two equally likely traces of its variance; the target is left out."""
    mean, noise = law.bias_t + law.targets, np.zeros_like(law.targets)
    noise[:, 0] = np.sqrt(law.trace_var)
    t = np.concatenate([mean + noise, mean - noise])
    e = np.tile(law.bias_e + law.targets, (2, 1))
    return FiniteLaw(np.tile(law.probabilities / 2, 2), t, e, np.zeros(t.shape[1]))


def _arrays(law: PromptLaw) -> tuple[Floats, Floats, Floats, Floats]:
    return law.bias_t, law.bias_e, law.targets, law.trace_var


def _unit(law: PromptLaw) -> dict[str, float]:
    """The seven scalars of one unit, against the population gradient."""
    p = law.probabilities
    t, e = law.bias_t + law.targets, law.bias_e + law.targets
    b_t, b_e = p @ law.bias_t, p @ law.bias_e

    def cov(x: Floats, y: Floats) -> float:
        return float(p @ ((x - p @ x) * (y - p @ y)).sum(axis=1))

    return {
        "bias_t_sq": float(b_t @ b_t),
        "bias_e_sq": float(b_e @ b_e),
        "bias_inner": float(b_t @ b_e),
        "data_var_t": cov(t, t),
        "trace_var": float(p @ law.trace_var),
        "var_e": cov(e, e),
        "data_cov": cov(t, e),
    }


CLAIMS = (
    one_optimal_weight,
    three_targets,
    population_minus_batch_error,
    mean_of_prompt_weights,
    pooled_weight_is_a_ratio_of_sums,
    weight_of_batch_and_traces,
    one_weight_for_every_batch,
    weight_without_the_target,
)
