"""One plain sentence per question, from the numbers of a run; ``questions`` in results.json.

Wording is decided by intervals, not by point values, as that of the verdict is. Where a run has no number for a
question, the sentence says so; where the number is a committed one of the model in the box, it says that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bvpo_analysis.report.formatting import (
    estimate_text,
    number,
    percent_parts,
    recommended_parts,
    weight_parts,
)
from bvpo_analysis.report.questions import QUESTIONS, Question

Source = Literal["run", "committed", "given", "none"]
"""Where an answer is from: this run, a committed measurement that does not depend on it, or nowhere."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        text: one or two plain sentences.
        source: where its numbers are from.
    """

    text: str
    source: Source = "run"


@dataclass(frozen=True)
class Facts:
    """What the answers read: results.json before its questions, and what is committed.

    Attributes:
        results: the numbers of the run, as plain JSON values.
        committed: numbers of committed measurements, by name (see :mod:`bvpo_analysis.report.committed`).
        batch_size: B of the headline.
        regime: the shipped regime, for the model in the box on its own pairs; None for anything else.
        at_reference: whether g_t is unbiased for the target.
    """

    results: Mapping[str, Any]
    committed: Mapping[str, Any]
    batch_size: int
    regime: str | None = None
    at_reference: bool = True

    def measure(self, name: str) -> Mapping[str, Any] | None:
        """A number of the run, None where it has none or the data do not determine it."""
        found = self.results["measures"].get(name)
        return found if found is not None and found.get("value") is not None else None

    @property
    def batch(self) -> str:
        """The batch size of the headline, as text."""
        return number(self.batch_size)

    def relative(self, name: str) -> Mapping[str, Any] | None:
        """Error of a gradient of the first screen over that of g_t, by its name."""
        rows = {row["name"]: row["relative"] for row in self.results["headline"]["errors"]}
        return rows.get(name)


def est(estimate: Mapping[str, Any] | None) -> str:
    """An estimate with its interval."""
    return estimate_text(estimate)


def pct(estimate: Mapping[str, Any] | None) -> str:
    """A fraction as a percentage with its interval."""
    return " ".join(part for part in percent_parts(estimate) if part)


def side_of_one(estimate: Mapping[str, Any]) -> int:
    """1 or -1 where an interval lies above or below one, 0 where it holds it or is not bounded there.

    Example:
        >>> [side_of_one({"ci_low": a, "ci_high": b}) for a, b in ((1.2, 1.4), (0.8, 1.1), (0.2, 0.9))]
        [1, 0, -1]
    """
    low, high = estimate.get("ci_low"), estimate.get("ci_high")
    return 1 if low is not None and low > 1 else -1 if high is not None and high < 1 else 0


def which_weight(facts: Facts) -> Answer:
    head = facts.results["headline"]
    alpha = head["alpha"]
    if alpha["degenerate"]:
        return Answer("Every weight is equally good: g_t and g_e coincide on these data.")
    if alpha["confidence_set"] != "interval":
        return Answer(
            f"These data do not determine it: the estimate is {weight_parts(alpha)[0]}, and its confidence set is not "
            "bounded."
        )
    best = " ".join(part for part in recommended_parts(alpha) if part)
    text = f"At batches of {facts.batch} prompts the weight of g_t with the least error is {best}."
    regret = head.get("half_regret")
    if regret is not None and regret.get("value") is not None:
        worse = [
            f"{name.removesuffix(' alone')} alone {est(ratio)}"
            for name, key in (("g_t alone", "trace_over_best"), ("g_e alone", "empty_over_best"))
            if (ratio := facts.measure(key)) is not None
        ]
        ends = f"; {' and '.join(worse)} times as much as the best mix" if worse else ""
        text += f" The equal mix has {pct(regret)} more error{ends}."
    return Answer(text)


def how_sure(facts: Facts) -> Answer:
    alpha, found = facts.results["headline"]["alpha"], facts.committed
    coverage = (
        f"on the model in the box, where the truth is known, intervals of this number from {found['most_prompts']} "
        f"prompts held it in {number(found['coverage_low'])} to {number(found['coverage_high'])} of all samples"
    )
    if alpha["estimate"].get("method") == "exact":
        return Answer(f"All traces were enumerated, so that the number is exact for these pairs; {coverage}.")
    loss = facts.measure("estimation_loss")
    cost = (
        f" The noise of the estimate costs a step {pct(loss)} of the least error on average."
        if loss is not None
        else ""
    )
    how = (
        "At the reference no estimate of the marginal gradient is needed: g_t is unbiased for it, and products of "
        "different prompts give every squared bias without bias."
        if facts.at_reference
        else "Off the reference the marginal gradient is estimated from the traces of every answer, leaving one of "
        "them out at a time; its bias falls as the square of their number."
    )
    return Answer(f"{how}{cost} Checked by sampling: at the reference, {coverage}.")


def where_the_variance_is(facts: Facts) -> Answer:
    share, empty = facts.measure("trace_share"), facts.measure("empty_variance")
    other = f"the variance of g_e is {est(empty)} times that of g_t"
    if share is None:
        return Answer(f"In total, {other}; one trace per answer does not tell traces from prompts.")
    return Answer(
        f"Sampling traces makes {pct(share)} of the variance of g_t, prompts and their answers the rest; {other}."
    )


def empty_trace_alone(facts: Facts) -> Answer:
    against_trace, against_best = facts.relative("g_e alone"), facts.measure("empty_over_best")
    if against_trace is None or against_best is None:
        return Answer(
            "The data do not determine how g_e alone compares: its error, or that of the best mix, is not clearly "
            "positive."
        )
    words = {1: "more error than g_t alone", -1: "less error than g_t alone", 0: "an error not told from that of g_t"}
    first = f"At batches of {facts.batch} prompts g_e alone has {words[side_of_one(against_trace)]}"
    first += f" ({est(against_trace)} times)"
    best = side_of_one(against_best)
    end = f", and {est(against_best)} times the error of the best mix"
    if best > 0:
        return Answer(f"No: {first[0].lower()}{first[1:]}{end}.")
    return Answer(f"{first}{end}, which these data do not tell from one.")


def more_traces(facts: Facts) -> Answer:
    worth = facts.results["headline"].get("traces_worth")
    budget, traces = facts.measure("budget_mix"), facts.measure("budget_traces")
    parts = []
    if worth is not None:
        parts.append(f"given the data, an empty trace is worth {est(worth)} extra traces per answer")
    if traces is not None and budget is not None:
        parts.append(
            f"for the tokens of {facts.batch} prompts with one trace each, the best mean of several traces has "
            f"{est(traces)} times the error of g_t, the best mix {est(budget)} times"
        )
    if not parts:
        return Answer("Not identified: that takes two or more posterior traces per answer.", "none")
    text = "; ".join(parts)
    return Answer(f"{text[0].upper()}{text[1:]}.")


def bias_of_the_empty_trace(facts: Facts) -> Answer:
    share, cosine = facts.measure("bias_share"), facts.measure("cosine_e")
    if share is None or cosine is None:
        return Answer("The data do not determine it: the squared length of the marginal gradient is within its noise.")
    wide = (cosine.get("ci_low") or -1) <= -1 and (cosine.get("ci_high") or 1) >= 1
    angle = "the cosine of its mean to μ is not determined" if wide else f"its mean has a cosine of {est(cosine)} to μ"
    text = f"Its squared bias is {est(share)} times |μ|², and {angle}."
    gap = facts.measure("answer_gap_chosen")
    if gap is not None:
        text += f" Without its trace a chosen answer loses {est(gap)} nats of log-probability."
    return Answer(text)


def step_size(facts: Facts) -> Answer:
    steps, cosine = facts.results.get("step_sizes"), facts.measure("alpha_cos")
    turn = f" For an optimiser that rescales every step, the largest cosine to μ is at weight {est(cosine)}."
    turn = turn if cosine is not None else ""
    adam = "; ".join(f"{_one(row['alpha'])} ({row['regime']})" for row in facts.committed["adam"])
    box = f" In Adam's own metric, on the model in the box, the best weight at κ of one is {adam}."
    if not steps:
        return Answer(f"The smoothness of this model is not measured.{turn}{box}", "none")
    smooth, usual = steps["smoothness"]["SGD"], steps["rates"][len(steps["rates"]) // 2]
    price = f", where the recommended weight has {est(usual['price'])} times the least error"
    return Answer(
        f"On {number(smooth['prompts'])} prompts L is {number(smooth['smoothness'])}, so that κ is "
        f"{number(usual['kappa_sgd'])} at a learning rate of {number(usual['learning_rate'])}: the best weight there "
        f"is {' '.join(weight_parts(usual['alpha'])).strip()}{price if usual.get('price') else ''}.{turn}{box}"
    )


def _one(alpha: Mapping[str, Any]) -> str:
    return " ".join(part for part in weight_parts(alpha) if part)


def seeds_and_intervals(facts: Facts) -> Answer:
    estimate, found = facts.results["headline"]["alpha"]["estimate"], facts.committed
    if estimate.get("method") == "exact":
        return Answer("Numbers here are exact for the given pairs and carry no interval; nothing is drawn.")
    return Answer(
        f"Every interval is a 95 % one over {number(estimate['n'])} prompts, by leaving out one at a time; nothing in "
        "it depends on a seed but the pairs themselves. Committed measurements on the model in the box state their own "
        f"repetitions: {number(found['coverage_replications'])} samples for coverage. {_training_seeds(found)}"
    )


def _training_seeds(found: Mapping[str, Any]) -> str:
    counts = found["training_seeds"]
    if not counts:
        return "Seeds of training are no part of this run."
    least, most = number(min(counts)), number(max(counts))
    several = least if least == most else f"{least} to {most}"
    return (
        f"The policies that were trained from the model in the box have {several} seeds per weight; their intervals "
        "are over seeds and over the prompts or pairs that judge them."
    )


HERE: Mapping[int, Callable[[Facts], Answer]] = {
    1: which_weight,
    2: how_sure,
    3: where_the_variance_is,
    4: empty_trace_alone,
    5: more_traces,
    6: bias_of_the_empty_trace,
    7: step_size,
    8: seeds_and_intervals,
}
"""The first half of the questions; the others are in :mod:`bvpo_analysis.report.answers_in_use`."""


def question_rows(facts: Facts, answers: Mapping[int, Callable[[Facts], Answer]]) -> list[dict[str, Any]]:
    """Every question with its answer, as rows of results.json.

    Args:
        facts: the numbers.
        answers: how each question is answered, by its number.

    Raises:
        KeyError: a question without an answer.
    """
    return [_row(question, answers[question.number](facts)) for question in QUESTIONS]


def _row(question: Question, answer: Answer) -> dict[str, Any]:
    return {
        "number": question.number,
        "anchor": question.anchor,
        "short": question.short,
        "question": question.text,
        "answer": answer.text,
        "source": answer.source,
        "needs": question.needs if answer.source == "none" else "",
        "evidence": list(question.evidence),
    }
