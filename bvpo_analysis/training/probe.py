"""The gradients of a policy in training, studied by the analyser on a fixed set of pairs: variances, biases, alpha*.

The numbers are those of ``Study`` at a checkpoint, from the same scores: at the start, where the policy is its
reference, those of a report; later, against a target that is estimated from the sampled traces.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bvpo_analysis.lrm.loading import ReasoningModel, weights_fingerprint
from bvpo_analysis.moments import jackknife_estimate
from bvpo_analysis.preferences.rows import require_traces
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.study import Study
from bvpo_analysis.tables import moment_estimates
from bvpo_analysis.training.config import TrainConfig

BIASES = ("bias_t_sq", "bias_e_sq")
"""Squared biases among the moments of a study."""


def probe_pairs(pairs: Sequence[PreferencePair], count: int, seed: int) -> tuple[PreferencePair, ...]:
    """``count`` of the training pairs (all, where there are fewer), drawn by the seed, in file order."""
    chosen = np.sort(np.random.default_rng([seed, 2]).permutation(len(pairs))[:count])
    return tuple(pairs[i] for i in chosen)


@dataclass(frozen=True)
class Probe:
    """A study of g_t, g_e and g_c every ``every`` steps; a callback of the training loop.

    Attributes:
        config: the options of the run.
        reference: pi_ref, a model that training does not move.
        pairs: the pairs that are studied.
    """

    config: TrainConfig
    reference: ReasoningModel
    pairs: tuple[PreferencePair, ...]

    @classmethod
    def of(cls, config: TrainConfig, reference: ReasoningModel, pairs: Sequence[PreferencePair]) -> "Probe":
        """Choose the pairs and keep a copy of the reference as it is now.

        Raises:
            InputError: too few traces per answer.
        """
        chosen = probe_pairs(pairs, config.probe_pairs, config.seed)
        require_traces(chosen, config.probe_traces)
        return cls(config, at_rest(reference), chosen)

    @property
    def every(self) -> int:
        """Steps between two studies."""
        return self.config.probe_every or self.config.evaluate_every

    def study(self, lrm: ReasoningModel) -> Study:
        """The study of a policy as it is now."""
        return Study.from_pairs(
            at_rest(lrm),
            self.pairs,
            objective=self.config.objective,
            traces=self.config.probe_traces,
            reference=self.reference,
            empty_mode=self.config.empty_mode,
            parameters=studied_parameters(self.config),
            label="probe",
        )

    def __call__(self, step: int, lrm: ReasoningModel) -> Mapping[str, float | None]:
        """What :func:`probed` gives, under probe/."""
        return {f"probe/{name}": value for name, value in probed(self.study(lrm), self.config).items()}


def studied_parameters(config: TrainConfig) -> str | None:
    """A regular expression of the parameters that are trained.

    Example:
        >>> studied_parameters(TrainConfig()) is None
        True
        >>> studied_parameters(TrainConfig(lora_rank=2, params="mlp"))
        '^(?=.*lora_).*(?:mlp)'
    """
    if config.lora_rank == 0:
        return config.params
    return "lora_" if config.params is None else f"^(?=.*lora_).*(?:{config.params})"


def probed(study: Study, config: TrainConfig) -> dict[str, float | None]:
    """What a probe logs of a study, every number with _low and _high, its 95 % interval; None where it is unbounded.

    ``alpha`` is the unclipped alpha* of the batch gradient (M3, one trace per answer, kappa = 1); ``var_t``, ``var_e``
    and ``var_c`` are Tr Cov of the batch gradients; ``var_c`` belongs to the mix with the weight ``var_c_alpha``, see
    :func:`studied_weight`, and is left out where the run trains on no such mix. The squared biases ``bias_t_sq`` and
    ``bias_e_sq`` do not depend on the batch size. Off the reference ``ess_share`` is the mean ESS / K of the traces
    under the policy: where it is small the study says less than its intervals (``warnings`` counts the reasons).
    """
    law, found = study.law(batch_size=config.batch_size), study.optimal_alpha(batch_size=config.batch_size)
    numbers = {
        "alpha": found.estimate,
        "var_t": jackknife_estimate(law.var_t),
        "var_e": jackknife_estimate(law.var_e),
        **{name: e for name, e in moment_estimates(study.whole).items() if name in BIASES and e is not None},
    }
    out: dict[str, float | None] = {}
    a = studied_weight(config, found.recommended)
    if a is not None:
        out["var_c_alpha"] = a
        var_c = a * a * law.var_t + (1 - a) ** 2 * law.var_e + 2 * a * (1 - a) * law.cov_te
        numbers["var_c"] = jackknife_estimate(var_c)
    for name, e in numbers.items():
        limits = {name: e.value, f"{name}_low": e.ci_low, f"{name}_high": e.ci_high}
        out |= {key: value if np.isfinite(value) else None for key, value in limits.items()}
    if study.off_reference is not None:
        off = study.off_reference
        out |= {"ess_share": off.weights.ess_share.value, "warnings": len(off.flags(config.batch_size))}
    return out


def studied_weight(config: TrainConfig, recommended: float) -> float | None:
    """The weight of g_t in what a run steps along; ``recommended`` where the run finds it on the way.

    Example:
        >>> [studied_weight(TrainConfig(method=method), 0.4) for method in ("dpo", "empty", "bvpo", "mixed_data")]
        [1.0, 0.0, 0.5, None]
    """
    ends = {"dpo": 1.0, "empty": 0.0}
    if config.method != "bvpo":
        return ends.get(config.method)
    return recommended if config.rule.adaptive else config.rule.value


def at_rest(lrm: ReasoningModel) -> ReasoningModel:
    """A copy that training does not move, with the fingerprint of the weights as they are."""
    model = copy.deepcopy(lrm.model).requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = None
    return replace(lrm, model=model, fingerprint=weights_fingerprint(model))
