"""Which sections a report has besides its fixed ones, and in which order."""

from collections.abc import Sequence

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.equal_budget import compare_at_equal_budget, pair_contenders
from bvpo_analysis.estimators import ESTIMATORS
from bvpo_analysis.moments.diagnostics import WeightSource, summarise_weights, weight_diagnostics
from bvpo_analysis.planner import Plan
from bvpo_analysis.records import PreferencePair
from bvpo_analysis.report.alternatives import estimators_section
from bvpo_analysis.report.budget import cost_section, equal_budget_section, plan_section
from bvpo_analysis.report.method_sections import coverage_section, off_reference_section
from bvpo_analysis.report.sections import Section
from bvpo_analysis.report.sensitivity import group_weights_section, label_noise_section, sample_size_section
from bvpo_analysis.report.weights import weights_section
from bvpo_analysis.study import Study

WEIGHT_SOURCES: tuple[WeightSource, ...] = ("posterior", "prior")


def sections_of(
    study: Study,
    pairs: Sequence[PreferencePair],
    compared: EstimatorComparison | None,
    batch_size: int,
    kappa: float,
    regime: str | None,
) -> list[Section]:
    """The sections that are data: estimators and budgets first, then what is judged and measured once and for all."""
    present = Plan(batch_size, 1, 0.5)
    sections = [plan_section(study.plan(present=present, kappa=kappa))]
    if study.whole.exact:
        rows = compare_at_equal_budget(pair_contenders(study.whole, *study.costs()), batch_size=batch_size, kappa=kappa)
        logs = [pair.log_probs for pair in study.scores.pairs]
        weights = weights_section([summarise_weights(weight_diagnostics(logs, "posterior"))])
        sections = [equal_budget_section(rows, batch_size=batch_size), *sections, weights]
    else:
        own = all(pair.empty_answers == "own" for pair in pairs)
        sections.append(label_noise_section(study, batch_size, kappa, own_answers=own))
        for section in (sample_size_section(study, batch_size, kappa), group_weights_section(study, batch_size, kappa)):
            if section is not None:
                sections.append(section)
    if compared is not None:
        labels = {key: entry.label for key, entry in ESTIMATORS.items()}
        logs = [pair.log_probs for pair in compared.scores.pairs]
        sources = [source for source in WEIGHT_SOURCES if source == "posterior" or len(logs[0].prior)]
        sections = [
            estimators_section(compared, batch_size),
            cost_section(compared.costs, labels=labels),
            equal_budget_section(compared.at_equal_budget(batch_size, kappa=kappa), batch_size=batch_size),
            *sections,
            weights_section([summarise_weights(weight_diagnostics(logs, source)) for source in sources]),
        ]
    return [*sections, off_reference_section(regime), coverage_section()]
