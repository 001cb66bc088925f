"""The best use of a budget per optimiser step: prompts B, traces K and weight alpha, against the plan in use.

A plan takes B prompts, averages K trace-based gradients on each, and mixes in the empty-trace gradient with weight
1 - alpha; it costs B (c_x + K c_t + c_e), without c_e if alpha = 1 and without K c_t if alpha = 0. Two criteria:

    "mse"        F_kappa = |b_c|^2 + kappa Tr Var(g_c),   the mean squared error at kappa = 1: as small as possible
    "descent"    kappa <mu, E g_c> - (kappa^2 / 2) E|g_c|^2,   as large as possible: the decrease of an L-smooth loss
                 that one step of size eta = kappa / L is sure of, in units of 1/L

At a given alpha and K more prompts are never worse, so for every K the best B is the largest whole number that the
budget pays for; of the mixes alpha is the best in [0, 1] at that B. With at most K_max traces that leaves 2 K_max + 1
plans, which are compared with each other. kappa belongs to the step size; it stays as given when B changes, so a rule
that scales the step with the batch needs a kappa for each.

The numbers are estimates from n prompts, and the best of several estimates looks better than it is. Intervals come from
delete-a-prompt replicates, in each of which the whole choice is made anew; plans that cannot be told from the best are
listed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from bvpo_analysis import mixing
from bvpo_analysis.errors import InputError
from bvpo_analysis.moments import GradientLaw, Moments, jackknife_covariance, jackknife_estimate, profile_estimate
from bvpo_analysis.records import Estimate, Floats

Criterion = Literal["mse", "descent"]
DRAWS = 4000
"""Draws from the normal law of the moments, for how often a plan is the best."""
ROUNDING = 1e-9
"""Relative amount by which a batch may exceed the budget, so that a budget computed from a batch pays for it."""


@dataclass(frozen=True)
class Plan:
    """How one optimiser step is spent.

    Attributes:
        batch_size: B, prompts.
        traces: K, trace pairs averaged per prompt; 0 for empty traces alone.
        alpha: weight of the trace-based gradient; below 1, every prompt has an empty-trace pair too.

    Raises:
        ValueError: B < 1, K < 0, or K = 0 with alpha other than 0.

    Example:
        >>> print(Plan(16, 1, 0.5))
        B = 16, K = 1, alpha = 0.500
    """

    batch_size: int
    traces: int = 1
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.traces < 0 or not np.isfinite(self.alpha):
            raise ValueError(f"a plan needs B >= 1, K >= 0 and a finite alpha, got {self}")
        if self.traces == 0 and self.alpha != 0:
            raise ValueError(f"without traces alpha is 0, got {self.alpha}")

    @property
    def empties(self) -> bool:
        """Whether every prompt has an empty-trace pair."""
        return self.alpha != 1

    def __str__(self) -> str:
        return f"B = {self.batch_size}, K = {self.traces}, alpha = {self.alpha:.3f}"


@dataclass(frozen=True)
class PlanValue:
    """A plan with what it is predicted to achieve.

    Attributes:
        plan: the plan.
        value: F_kappa, or the guaranteed decrease, depending on the criterion.
        loss: by how much the plan falls short of the best: F - F_best, or decrease_best - decrease; 0 for the best.
        tied: whether the interval of ``loss`` reaches 0, so that the data do not tell the plan from the best.
        wins: how often this plan is the best, its weight found anew, when the moments are drawn from the normal law of
            their estimates (jackknife covariance) and squared biases cut at zero in every draw; 1 or 0 where the
            moments are exact. What is missing to a sum of one belongs to mixes whose weight is 0 or 1 in the sample.
    """

    plan: Plan
    value: Estimate
    loss: Estimate
    tied: bool
    wins: float


@dataclass(frozen=True)
class PlanResult:
    """The best plan at a budget, beside the plan in use.

    Attributes:
        criterion, kappa: what was optimised.
        budget: what one step may cost.
        best: the best plan.
        value: its F_kappa or decrease, with the choice made anew in every replicate.
        cost: its mean cost per step; on average over prompts it keeps the budget.
        present, present_value, present_cost: the same of the plan in use; None without one.
        ratio: ``value`` / ``present_value``: below 1 (mse) or above 1 (descent) the best plan gains; None without a
            present plan, or where the data do not determine the ratio.
        considered: all plans compared, the best first.
        clear: whether no other plan is tied with the best.
        notes: what limits the comparison.
    """

    criterion: Criterion
    kappa: float
    budget: float
    best: Plan
    value: Estimate
    cost: Estimate
    present: Plan | None
    present_value: Estimate | None
    present_cost: Estimate | None
    ratio: Estimate | None
    considered: tuple[PlanValue, ...]
    notes: tuple[str, ...]

    @property
    def near_ties(self) -> tuple[PlanValue, ...]:
        """The other plans that the data do not tell from the best."""
        return tuple(row for row in self.considered[1:] if row.tied)

    @property
    def clear(self) -> bool:
        """Whether no other plan is tied with the best."""
        return not self.near_ties


def plan(
    moments: Moments,
    cost_trace: ArrayLike,
    cost_empty: ArrayLike,
    budget: float | None = None,
    *,
    cost_prompt: ArrayLike = 0.0,
    kappa: float = 1.0,
    present: Plan | None = None,
    criterion: Criterion = "mse",
    max_traces: int = 16,
) -> PlanResult:
    """The plan with the least predicted error, or the largest guaranteed decrease, that the budget pays for.

    Args:
        moments: of (g_t, g_e) against the population target.
        cost_trace: c_t, mean cost of a trace pair: a number, or replicates [n + 1] as of
            :meth:`bvpo_analysis.cost.Cost.of`; the unit is that of the budget.
        cost_empty: c_e, of an empty-trace pair.
        budget: what one optimiser step may cost; what the present plan costs when not given.
        cost_prompt: c_x, of a prompt besides its sequences. At 0, K > 1 pays only beside empty traces.
        kappa: eta L, the weight of the variance in F_kappa, or the step size for "descent".
        present: the plan in use.
        criterion: "mse" or "descent".
        max_traces: largest K to consider.

    Raises:
        InputError: the budget does not pay for a single prompt, or neither a budget nor a plan in use is given.
        ValueError: costs, kappa or max_traces out of range; a present K > 1 where the trace variance is not identified;
            "descent" where g_t is biased, whose product with mu the moments do not hold.

    Example:
        >>> from bvpo_analysis.moments import Moments
        >>> zero, one = np.zeros(1), np.ones(1)
        >>> unit = dict(n=0, bias_t_sq=zero, bias_e_sq=one, bias_inner=zero, bias_diff_sq=one,
        ...             bias_t_diff=zero, var_t=8 * one, var_e=one, cov_te=one, var_diff=7 * one, cov_t_diff=7 * one,
        ...             trace_var=7 * one, prompt_bias_t_sq=None, prompt_bias_e_sq=None, prompt_bias_inner=None,
        ...             prompt_bias_diff_sq=None, prompt_bias_t_diff=None, target_sq=one, target_dot_e=one,
        ...             mean_e_sq=one)
        >>> found = plan(Moments(**unit), cost_trace=10, cost_empty=2, budget=120, present=Plan(12))
        >>> print(found.best, "->", found.ratio)
        B = 10, K = 1, alpha = 0.588 -> 0.768
    """
    if not kappa > 0 or max_traces < 1:
        raise ValueError(f"kappa must be positive and max_traces at least 1, got {kappa} and {max_traces}")
    if criterion not in ("mse", "descent"):
        raise ValueError(f"unknown criterion {criterion!r}; choose 'mse' or 'descent'")
    if criterion == "descent" and not moments.bias_t_sq[0] <= 1e-12 * moments.var_t[0]:
        raise ValueError("the criterion 'descent' needs <mu, b_t>, which is known only where g_t is unbiased")
    prices = _Prices(*(np.atleast_1d(np.asarray(c, dtype=np.float64)) for c in (cost_prompt, cost_trace, cost_empty)))
    if budget is None:
        if present is None:
            raise InputError("give a budget, or the plan in use, whose cost is then the budget")
        budget = float(prices.of(present)[0])
    if not budget > 0 or not np.isfinite(budget):
        raise InputError(f"the budget must be a positive number, got {budget}")
    problem = _Problem(moments, criterion, kappa)
    shapes = [(k, empties) for k in range(1, max_traces + 1) for empties in (False, True)]
    notes = []
    if not moments.identifies_trace_variance:
        shapes = [shape for shape in shapes if shape[0] == 1]
        notes.append("Only K = 1: one trace per answer does not identify the trace variance; sample two or more.")
    candidates = list(_candidates(problem, prices, budget, [*shapes, (0, True)]))
    if not candidates:
        cheapest = min(prices.of(Plan(1, 1, 1.0))[0], prices.of(Plan(1, 0, 0.0))[0])
        raise InputError(f"a budget of {budget:g} does not pay for one prompt, which costs {cheapest:g}; raise it")
    return _result(problem, prices, budget, candidates, present, tuple(notes))


@dataclass(frozen=True)
class _Prices:
    """c_x, c_t and c_e; numbers [1] or replicates [n + 1]."""

    prompt: Floats
    trace: Floats
    empty: Floats

    def __post_init__(self) -> None:
        if not (np.isfinite(self.prompt).all() and (self.prompt >= 0).all()):
            raise ValueError("cost_prompt must be a finite number, at least 0")
        for name in ("trace", "empty"):
            if not (np.isfinite(getattr(self, name)).all() and (getattr(self, name) > 0).all()):
                raise ValueError(f"cost_{name} must be a finite positive number")

    def of(self, plan: Plan) -> Floats:
        """B (c_x + K c_t + c_e), or without the part that the weight leaves out."""
        traces = plan.traces if plan.alpha != 0 else 0
        return plan.batch_size * (self.prompt + traces * self.trace + plan.empties * self.empty)


@dataclass(frozen=True)
class _Problem:
    """A criterion on given moments, as a function to be minimised."""

    moments: Moments
    criterion: Criterion
    kappa: float

    def law(self, plan: Plan) -> GradientLaw:
        return self.moments.population(plan.batch_size, max(plan.traces, 1))

    def best_weights(self, law: GradientLaw) -> Floats:
        """The best alpha in [0, 1], one per replicate."""
        if self.criterion == "mse":
            return mixing.recommended_weights(law, self.kappa)
        # E|g_c - mu/kappa|^2 with E g_c = mu + (1 - alpha) b_e and b_t = 0, a parabola in 1 - alpha.
        shift = (1 - 1 / self.kappa) * self._signal
        distance = np.maximum(law.bias_diff_sq, 0.0) + law.var_diff
        safe = np.where(distance > 0, distance, 1.0)
        return np.clip(1 - np.where(distance > 0, (law.cov_t_diff - shift) / safe, 0.5), 0.0, 1.0)

    @property
    def _signal(self) -> Floats:
        """<mu, b_e>."""
        return self.moments.target_dot_e - self.moments.target_sq

    def value(self, law: GradientLaw, alpha: ArrayLike) -> Floats:
        """F_kappa, or the guaranteed decrease in units of 1/L, from the moments as they are; [n + 1]."""
        if self.criterion == "mse":
            return mixing.error_parts(law, alpha, self.kappa).total
        q = 1 - np.asarray(alpha, dtype=np.float64)
        along = self.moments.target_sq + q * self._signal  # <mu, E g_c>
        second = self.moments.target_sq + 2 * q * self._signal + mixing.error_parts(law, alpha).total  # E|g_c|^2
        return self.kappa * along - self.kappa**2 / 2 * second

    def objective(self, law: GradientLaw, alpha: ArrayLike) -> Floats:
        """What the plans are ranked by, least best: squared biases taken at their positive parts."""
        value = self.value(_at_least_zero(law), alpha)
        return value if self.criterion == "mse" else -value

    def law_given(self, law: GradientLaw, squared_bias: Floats | None) -> GradientLaw:
        """The law if |b_e|^2 had these values; as it is for None."""
        return law if squared_bias is None else law.with_squared_bias(squared_bias)

    def estimate(self, statistic: Callable[[Floats | None], Floats], value: float) -> Estimate:
        """An interval for a number that depends on |b_e|^2, extended to hold ``value``, which is reported.

        Args:
            statistic: replicates, given what to take for |b_e|^2 (see :func:`profile_estimate`); None: as estimated.
            value: the number at the positive parts of squared biases.
        """
        # Where g_t is biased too, the moments depend on more than |b_e|^2.
        noise = self.moments.bias_noise if not self.moments.bias_t_sq.any() else None
        raw = jackknife_estimate(statistic(None)) if noise is None else profile_estimate(statistic, noise)
        return replace(raw, value=value, ci_low=min(raw.ci_low, value), ci_high=max(raw.ci_high, value))


@dataclass(frozen=True)
class _Candidate:
    """A plan, its law and what it is ranked by, least best; ``mixed``: its weight is found anew in every replicate."""

    plan: Plan
    law: GradientLaw
    mixed: bool
    objective: float

    @property
    def listed(self) -> bool:
        """Whether it is a plan of its own; a mix of weight 0 or 1 is one of the two gradients with fewer prompts."""
        return not self.mixed or 0.0 < self.plan.alpha < 1.0

    def weights(self, problem: _Problem, law: GradientLaw) -> ArrayLike:
        return problem.best_weights(law) if self.mixed else self.plan.alpha

    def value(self, problem: _Problem, squared_bias: Floats | None) -> Floats:
        law = problem.law_given(self.law, squared_bias)
        return problem.value(law, self.weights(problem, law))

    def reported(self, problem: _Problem) -> float:
        return float(problem.value(_at_least_zero(self.law), self.plan.alpha)[0])


def _candidates(
    problem: _Problem, prices: _Prices, budget: float, shapes: list[tuple[int, bool]]
) -> Iterator[_Candidate]:
    for traces, empties in shapes:
        # A stand-in weight says which sequences the plan has; the best one follows from the law.
        stand_in = 1.0 if not empties else 0.5 if traces else 0.0
        unit = float(prices.of(Plan(1, traces, stand_in))[0])
        size = int(np.floor(budget / unit * (1 + ROUNDING)))
        if size < 1:
            continue
        law = problem.law(Plan(size, traces, stand_in))
        weights = problem.best_weights(law) if stand_in == 0.5 else np.full_like(law.var_t, stand_in)
        chosen = Plan(size, traces, float(weights[0]))
        yield _Candidate(chosen, law, stand_in == 0.5, float(problem.objective(law, weights)[0]))


def _best_value(problem: _Problem, candidates: list[_Candidate], squared_bias: Floats | None) -> Floats:
    """The value of the best candidate, chosen anew in every replicate."""
    objectives, values = [], []
    for candidate in candidates:
        law = problem.law_given(candidate.law, squared_bias)
        weights = candidate.weights(problem, law)
        objectives.append(problem.objective(law, weights))
        values.append(problem.value(law, weights))
    chosen = np.argmin(objectives, axis=0)
    return np.take_along_axis(np.stack(values), chosen[None], axis=0)[0]


def _result(
    problem: _Problem,
    prices: _Prices,
    budget: float,
    candidates: list[_Candidate],
    present: Plan | None,
    notes: tuple[str, ...],
) -> PlanResult:
    # Among equals a plan of its own comes first.
    candidates = sorted(candidates, key=lambda c: (c.objective, not c.listed))
    best = candidates[0]
    wins = _win_shares(problem, candidates)
    considered = tuple(
        _plan_value(problem, candidate, best, float(share))
        for candidate, share in zip(candidates, wins, strict=True)
        if candidate.listed
    )
    value = _signed(problem, problem.estimate(partial(_best_value, problem, candidates), best.reported(problem)))
    present_value = present_cost = ratio = None
    if present is not None:
        now = _Candidate(present, problem.law(present), mixed=False, objective=np.nan)
        present_value = _signed(problem, problem.estimate(partial(now.value, problem), now.reported(problem)))
        present_cost = jackknife_estimate(prices.of(present))
        if present_value.ci_low > 0 and present_value.value > 0:
            ratio = _signed(
                problem,
                problem.estimate(
                    lambda u: _best_value(problem, candidates, u) / now.value(problem, u),
                    value.value / present_value.value,
                ),
            )
        if present_cost.value > budget * (1 + ROUNDING):
            notes = (*notes, f"The present plan costs {present_cost.value:.3g}, more than the budget of {budget:.3g}.")
    return PlanResult(
        criterion=problem.criterion,
        kappa=problem.kappa,
        budget=budget,
        best=best.plan,
        value=value,
        cost=jackknife_estimate(prices.of(best.plan)),
        present=present,
        present_value=present_value,
        present_cost=present_cost,
        ratio=ratio,
        considered=considered,
        notes=notes,
    )


def _signed(problem: _Problem, estimate: Estimate) -> Estimate:
    """An error cannot be negative, a decrease can."""
    return replace(estimate, ci_low=max(estimate.ci_low, 0.0)) if problem.criterion == "mse" else estimate


def _plan_value(problem: _Problem, candidate: _Candidate, best: _Candidate, wins: float) -> PlanValue:
    sign = 1.0 if problem.criterion == "mse" else -1.0

    def loss(squared_bias: Floats | None) -> Floats:
        return sign * (candidate.value(problem, squared_bias) - best.value(problem, squared_bias))

    short = problem.estimate(loss, candidate.objective - best.objective)
    return PlanValue(
        plan=candidate.plan,
        value=_signed(problem, problem.estimate(partial(candidate.value, problem), candidate.reported(problem))),
        loss=short,
        tied=short.ci_low <= 0,
        wins=wins,
    )


def _win_shares(problem: _Problem, candidates: list[_Candidate]) -> Floats:
    """Share of the draws of the moments in which each candidate is the best, [J].

    The moments are drawn, not the objectives: where squared biases are cut at zero in the sample, they are in most
    leave-one-out samples too, so that objectives would have no noise from them.
    """
    if problem.moments.exact:
        return np.eye(len(candidates))[0]
    drawn = replace(problem, moments=_drawn(problem.moments))
    objectives = []
    for candidate in candidates:
        law = drawn.law(candidate.plan)
        objectives.append(drawn.objective(law, candidate.weights(drawn, law)))
    return np.bincount(np.argmin(objectives, axis=0), minlength=len(candidates)) / DRAWS


def _drawn(moments: Moments) -> Moments:
    """Draws of all moments at once, [DRAWS], from the normal law with their jackknife covariance; a fixed seed."""
    arrays = {f.name: getattr(moments, f.name) for f in fields(moments)}
    arrays = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
    drawn: dict[str, Any] = {name: np.full(DRAWS, np.nan) for name, x in arrays.items() if not np.isfinite(x).all()}
    arrays = {name: value for name, value in arrays.items() if name not in drawn}
    values = np.array([value[0] for value in arrays.values()])
    covariance = jackknife_covariance(*arrays.values())
    # Moments of different sizes are put on one scale, so that rounding is relative to each.
    size = np.sqrt(np.diag(covariance))
    scale = np.where(size > 0, size, 1.0)
    spectrum, basis = np.linalg.eigh(covariance / np.outer(scale, scale))
    z = np.random.default_rng(0).standard_normal((DRAWS, len(values)))
    noise = (z * np.sqrt(np.maximum(spectrum, 0.0))) @ basis.T * size
    drawn.update(zip(arrays, (values + noise).T, strict=True))
    return replace(moments, **drawn, bias_noise=None)


def _at_least_zero(law: GradientLaw) -> GradientLaw:
    """The law with the positive parts of its squared biases."""
    return replace(law, bias_e_sq=np.maximum(law.bias_e_sq, 0.0), bias_diff_sq=np.maximum(law.bias_diff_sq, 0.0))
