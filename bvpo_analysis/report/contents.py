"""Which sections a report has, besides those that are made from the numbers of results.json when it is drawn.

Their order on a page is that of the questions (see :mod:`bvpo_analysis.report.questions`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bvpo_analysis.comparison import EstimatorComparison
from bvpo_analysis.cost import Cost
from bvpo_analysis.equal_budget import EqualBudgetRow, compare_at_equal_budget, pair_contenders
from bvpo_analysis.estimators import ESTIMATORS
from bvpo_analysis.moments.diagnostics import WeightSource, summarise_weights, weight_diagnostics
from bvpo_analysis.planner import Plan
from bvpo_analysis.records import Alpha, Estimate, PreferencePair
from bvpo_analysis.report.adam import adam_section
from bvpo_analysis.report.alternatives import estimators_section
from bvpo_analysis.report.box_sections import (
    accuracy_section,
    ranking_section,
    recovery_section,
    variance_along_section,
)
from bvpo_analysis.report.budget import cost_section, equal_budget_section, plan_section, step_cost_section
from bvpo_analysis.report.fairness import fairness_section
from bvpo_analysis.report.interval_section import intervals_section
from bvpo_analysis.report.losses import LossRow, losses_section, same_weight_section
from bvpo_analysis.report.measures import (
    answer_gaps,
    budget_measures,
    closeness_measures,
    comparison_measures,
    direction_measures,
    noise_measures,
    overhead_measures,
    trace_is_unbiased,
    variance_measures,
)
from bvpo_analysis.report.method_sections import coverage_section, off_reference_section
from bvpo_analysis.report.sections import Section
from bvpo_analysis.report.sensitivity import group_weights_section, label_noise_section, sample_size_section
from bvpo_analysis.report.target_sections import answers_section, closeness_section, directions_section
from bvpo_analysis.report.trained import StudyTables, trained_sections
from bvpo_analysis.report.weight_sections import (
    empty_alone_section,
    prices_section,
    schedule_section,
    variance_section,
)
from bvpo_analysis.report.weights import weights_section
from bvpo_analysis.study import Study

WEIGHT_SOURCES: tuple[WeightSource, ...] = ("posterior", "prior")


@dataclass(frozen=True)
class Measured:
    """What a report is made of.

    Attributes:
        study: the finished study.
        pairs: its pairs.
        batch_size, kappa: what the headline refers to.
        alpha: the weight of the headline.
        costs: mean cost of one prompt with one trace per answer, and with empty traces.
        regime: the shipped regime, for the model in the box on its own pairs; None for anything else.
        compared: other estimators on some of the pairs, if they were scored.
        losses: other losses on enumerated prompts, if there are any.
        tables: of a training study; the committed ones of the regime when not given.
    """

    study: Study
    pairs: Sequence[PreferencePair]
    batch_size: int
    kappa: float
    alpha: Alpha
    costs: tuple[Cost, Cost]
    regime: str | None = None
    compared: EstimatorComparison | None = None
    losses: Sequence[LossRow] = ()
    tables: StudyTables | None = None

    @property
    def study_tables(self) -> StudyTables:
        """The tables of a training study that are shown."""
        return self.tables or StudyTables(self.regime)

    @property
    def at_reference(self) -> bool:
        """Whether g_t is unbiased for the target."""
        return self.study.off_reference is None and trace_is_unbiased(self.study.whole)

    @property
    def traces_rows(self) -> tuple[EqualBudgetRow, ...]:
        """g_t, its means of several traces, g_e and their mixes at the token budget of the batch."""
        contenders = pair_contenders(self.study.whole, *self.costs)
        return compare_at_equal_budget(contenders, batch_size=self.batch_size, kappa=self.kappa)

    @property
    def all_rows(self) -> tuple[EqualBudgetRow, ...]:
        """The same with every other estimator; empty where none were scored."""
        if self.compared is None:
            return ()
        return self.compared.at_equal_budget(self.batch_size, kappa=self.kappa)


def measures_of(m: Measured, traces_rows: Sequence[EqualBudgetRow]) -> dict[str, Estimate | None]:
    """The numbers that single questions turn on, by name."""
    moments = m.study.whole
    return {
        **variance_measures(moments),
        **closeness_measures(moments),
        **noise_measures(moments, m.alpha, m.batch_size, m.kappa),
        **direction_measures(moments, m.batch_size),
        **comparison_measures(moments, m.batch_size, m.kappa),
        **overhead_measures(m.costs[0], m.costs[0] + m.costs[1]),
        **budget_measures(traces_rows),
        **answer_gaps(m.compared),
    }


def leader_of(rows: Sequence[EqualBudgetRow]) -> dict[str, object] | None:
    """The estimator with the least error at equal budget, by name; None where none were compared."""
    known = [row for row in rows if row.relative is not None]
    if not known:
        return None
    best = min(known, key=lambda row: row.relative.value if row.relative else 0.0)
    return {"label": best.label, "relative": best.relative}


def sections_of(
    m: Measured,
    measures: Mapping[str, Estimate | None],
    traces_rows: Sequence[EqualBudgetRow],
    all_rows: Sequence[EqualBudgetRow],
) -> list[Section]:
    """The sections that are data, in no particular order."""
    study, moments, batch_size, kappa, compared = m.study, m.study.whole, m.batch_size, m.kappa, m.compared
    optional = [
        answers_section(measures),
        directions_section(moments, measures, batch_size, kappa),
        group_weights_section(study, batch_size, kappa) if not moments.exact else None,
    ]
    if not moments.exact and m.at_reference:
        optional.append(sample_size_section(study, batch_size, kappa))
        own = all(pair.empty_answers == "own" for pair in m.pairs)
        optional.append(label_noise_section(study, batch_size, kappa, own_answers=own))
    sections = [
        prices_section(moments, batch_size, kappa),
        variance_section(moments, batch_size, kappa),
        empty_alone_section(moments, kappa),
        equal_budget_section(
            traces_rows, batch_size=batch_size, anchor="equal-traces", title="Several traces at equal budget"
        ),
        closeness_section(moments, measures, compared),
        intervals_section(moments),
        step_cost_section(*m.costs, batch_size),
        fairness_section(moments, batch_size, kappa),
        plan_section(study.plan(present=Plan(batch_size, 1, 0.5), kappa=kappa)),
        schedule_section(moments, batch_size, kappa),
        *(section for section in optional if section is not None),
    ]
    if m.losses:
        sections.append(losses_section(m.losses))
    elif m.at_reference:
        sections.append(same_weight_section(study.objective.name, m.alpha))
    logs = [pair.log_probs for pair in (study if compared is None else compared).scores.pairs]
    sources = [source for source in WEIGHT_SOURCES if source == "posterior" or len(logs[0].prior)]
    if moments.exact or compared is not None:
        sections.append(weights_section([summarise_weights(weight_diagnostics(logs, source)) for source in sources]))
    if compared is not None:
        labels = {key: entry.label for key, entry in ESTIMATORS.items()}
        sections += [
            estimators_section(compared, batch_size),
            cost_section(compared.costs, labels=labels),
            equal_budget_section(all_rows, batch_size=batch_size),
        ]
    return [*sections, *committed_sections(m.regime), *trained_sections(m.study_tables)]


def committed_sections(regime: str | None) -> list[Section]:
    """Sections that show committed measurements on the model in the box, of one regime or of all."""
    return [
        recovery_section(regime),
        coverage_section(),
        variance_along_section(regime),
        off_reference_section(regime),
        ranking_section(),
        accuracy_section(),
        adam_section(regime),
    ]
