"""The gradients of a policy on a few held-out pairs with all their traces: variances, biases and alpha*, exact.

The moments are those of the analysis: the policy's scores, coefficients of the DPO loss against the reference, the law
of the traces that of the data. The prompts count as a sample of a larger population, so squared biases are unbiased and
may be negative.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bvpo_analysis import mixing, theory
from bvpo_analysis.errors import StudyError
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, weights_fingerprint
from bvpo_analysis.moments import Moments, enumerated_moments
from bvpo_analysis.objectives import DPO
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.scores import score_pairs
from bvpo_analysis.training_study.arms import BATCH, WEIGHTS

VARIANCES = ("var_t", "var_e", "cov_te", "trace_var")
"""Moments of one prompt and one trace of which the leave-one-prompt-out values are kept as well."""


class Probe:
    """A fixed set of pairs.

    Args:
        reference: pi_ref.
        pairs: at least two pairs whose traces can be enumerated.
        beta: of the DPO loss.
    """

    def __init__(self, reference: ReasoningModel, pairs: Sequence[PreferencePair], beta: float = 0.1):
        self.reference, self.pairs, self.objective = reference, tuple(pairs), DPO(beta)

    def at(self, policy: ReasoningModel) -> dict[str, Any]:
        """Moments at one policy, by name; empty where a log-probability is not finite.

        var_t, var_e, cov_te, trace_var are those of one prompt and one trace, ``without`` their values without each of
        the prompts; var_c:ALPHA and mse_c:ALPHA are variance and MSE of the mix of a batch, alpha the weight of target
        M3 at the batch size of the study, with alpha_low and alpha_high over prompts.
        """
        trace, empty, marginal = Trace(self.objective), EmptyTrace(self.objective), Marginal(self.objective)
        # The engine's hooks need parameters that do not require gradients of their own.
        wanted = [parameter.requires_grad for parameter in policy.model.parameters()]
        policy.model.requires_grad_(False)
        try:
            scores = score_pairs(
                # The weights have changed in place, and with them whether the policy is its own reference.
                replace(policy, fingerprint=weights_fingerprint(policy.model)),
                self.pairs,
                totals=totals_of(trace, empty, marginal),
                reference=self.reference,
                enumerate_traces=shipped_traces,
                label="probe",
            )
        except StudyError:
            return {}
        finally:
            for parameter, needs in zip(policy.model.parameters(), wanted, strict=True):
                parameter.requires_grad_(needs)
        return moment_numbers(enumerated_moments(scores, trace, empty, marginal, as_sample=True))


def moment_numbers(moments: Moments, batch_size: int = BATCH) -> dict[str, Any]:
    """What is kept of moments."""
    law = moments.population(batch_size)
    names = ("bias_t_sq", "bias_e_sq", "var_t", "var_e", "cov_te", "target_sq", "target_dot_e", "mean_e_sq")
    found: dict[str, Any] = {name: float(getattr(moments, name)[0]) for name in names}
    if moments.trace_var is not None:
        found["trace_var"] = float(moments.trace_var[0])
    variance = {a: theory.error_curve(a, law.var_t[0], law.var_e[0], law.cov_te[0]) for a in WEIGHTS}
    found |= {f"var_c:{alpha:g}": float(value) for alpha, value in variance.items()}
    found |= {f"mse_c:{alpha:g}": mixing.error(law, alpha).value for alpha in WEIGHTS}
    best = mixing.optimal_alpha(law).estimate
    found |= {"alpha": best.value, "alpha_low": best.ci_low, "alpha_high": best.ci_high}
    kept = {name: values for name in VARIANCES if (values := getattr(moments, name)) is not None}
    return found | {"without": {name: [float(f"{x:.6g}") for x in values[1:]] for name, values in kept.items()}}
