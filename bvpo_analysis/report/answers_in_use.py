"""The second half of the answers: cost, fairness, alternatives, losses, training, statements, labels, accuracy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bvpo_analysis.report.answers import HERE, Answer, Facts, est, pct, side_of_one
from bvpo_analysis.report.formatting import number, weight_parts
from bvpo_analysis.report.train_runs import weight_sentence

ARMS = {"alpha=1": "g_t alone", "alpha=0.5": "equal mix"}
"""Ways to train, in words."""
MODES = {"empty": "without thinking"}
"""Ways to answer, in words."""
OTHER_USE = {
    1: "so that the mix is the better use of the sequences",
    -1: "so that the mix is not the best use of the sequences",
    0: "which does not tell the two apart",
}
"""What it says of a mix if another use of its sequences has more, less, or about the error of the best mix."""


def overhead(facts: Facts) -> Answer:
    tokens, sequences = facts.measure("overhead_tokens"), facts.measure("overhead_sequences")
    operations = facts.measure("overhead_flops")
    if tokens is None or sequences is None:
        return Answer("The cost of a step was not measured in this run.", "none")
    further = f" and {est(operations)} times the operations" if operations is not None else ""
    return Answer(
        f"It is not free: a mixed step passes {est(sequences)} times the sequences of a step of g_t on the same "
        f"prompts through the model, {est(tokens)} times the tokens{further}."
    )


def fairness(facts: Facts) -> Answer:
    twice, merged = facts.results["headline"].get("twice_the_prompts"), facts.measure("merged_over_best")
    parts = []
    if twice is not None and twice.get("value") is not None:
        parts.append(
            f"spent on twice the prompts for g_t alone, the sequences of a mixed step give {est(twice)} times the "
            f"error of the best mix, {OTHER_USE[side_of_one(twice)]}"
        )
    if merged is not None:
        parts.append(
            f"spent on one run over both data sets together, {est(merged)} times, {OTHER_USE[side_of_one(merged)]}"
        )
    if not parts:
        return Answer("The data do not determine it: the error of the best mix is not clearly positive.")
    text = "; ".join(parts)
    return Answer(f"{text[0].upper()}{text[1:]}.")


def alternatives(facts: Facts) -> Answer:
    leader, mix = facts.results.get("leader"), facts.measure("budget_mix")
    if not leader or mix is None:
        return Answer("Other estimators were not compared in this run.", "none")
    return Answer(
        f"For the tokens of {facts.batch} prompts of g_t the least error, {est(leader['relative'])} times that of g_t, "
        f"is that of: {leader['label']}. The best mix of g_t and g_e has {est(mix)} times. The best of several "
        "estimates looks better than it is."
    )


def other_losses(facts: Facts) -> Answer:
    rows = {row["name"]: row for row in facts.results.get("losses") or []}
    if not rows and not facts.at_reference:
        return Answer("Off the reference every loss has a target of its own, which takes a report of its own.", "none")
    shared = "At the reference DPO and IPO share the best weight, their gradients being multiples of one another"
    if "simpo" not in rows:
        return Answer(f"{shared}; what SimPO does is not identified by sampled traces.")
    simpo, dpo = rows["simpo"], rows["dpo"]
    text = [" ".join(part for part in weight_parts(row["alpha"]) if part) for row in (dpo, simpo)]
    return Answer(
        f"{shared}: {text[0]} per prompt, on {number(simpo['target_sq']['n'])} enumerated prompts. With SimPO g_t is "
        f"biased from the first step, by {est(simpo['bias_t'])} times |μ|² in the square, and the best weight is "
        f"{text[1]}."
    )


def along_training(facts: Facts) -> Answer:
    found = facts.committed
    first, last = span(found["path_alpha_first"]), span(found["path_alpha_last"])
    bias, price = span(found["path_bias_last"]), number(100 * (found["path_price"] - 1))
    where = "on these pairs" if facts.regime else "over its regimes"
    prompts = number(found["path_prompts"])
    runs = facts.results.get("training_runs") or []
    given = [sentence for run in runs if (sentence := weight_sentence(run))]
    return Answer(
        " ".join([*given, ""])
        + f"On {prompts} enumerated prompts of the model in the box, {where}, the best weight moves from {first} near "
        f"the reference to {last} at a trained checkpoint, where the bias of g_t is {bias} times |μ|; a weight that "
        f"takes g_t for unbiased has at most {price} % more than the least error anywhere on the way.",
        "given" if given else "committed",
    )


def span(values: Sequence[float]) -> str:
    """One number, or the range of several.

    Example:
        >>> span([0.31234]), span([0.4, 0.2, 0.3])
        ('0.312', '0.2 to 0.4')
    """
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def statements(facts: Facts) -> Answer:
    rows = facts.results.get("claims") or []
    weaker = [row for row in rows if row["only_if"]]
    return Answer(
        f"Of {len(rows)} measured statements {len(rows) - len(weaker)} hold as worded and {len(weaker)} only under a "
        "condition that the wording leaves out; each of these has a counterexample.",
        "committed",
    )


def labels(facts: Facts) -> Answer:
    aware = facts.committed["aware"]
    return Answer(
        "A ranker that reads only the answers does no harm: given the answers, the traces are still posteriors, and "
        "g_t is unbiased for the marginal gradient. One that reads the trace biases it: by "
        f"{number(aware['measured'])} times |μ| for the worst pair of answers of an enumerated example.",
        "committed",
    )


def reasoning_kept(facts: Facts) -> Answer:
    found = facts.committed["accuracy"]
    before = (
        f"{pct(found['right_thinking'])} of its answers are right with thinking, {pct(found['right_empty'])} without"
    )
    text = f"Before alignment, on the model in the box, {before}."
    changes = found_changes(facts.committed["accuracy_changes"])
    if not changes:
        return Answer(f"{text} After it: not measured here.", "none")
    return Answer(f"{text} {changes}", "given" if facts.committed["given_study"] else "committed")


def found_changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Changes of accuracy as a sentence; empty where there are none.

    Example:
        >>> change = {"value": -0.02, "se": None, "ci_low": -0.03, "ci_high": -0.01}
        >>> rows = [{"regime": "style", "arm": "DPO", "mode": "thinking", "runs": 5, "change": change}]
        >>> found_changes(rows)
        'Training changes the share of right answers by −2.0 % [−3.0, −1.0] (style, DPO, thinking, 5 runs).'
    """
    parts = [
        f"{pct(row['change'])} ({row['regime']}, {ARMS.get(row['arm'], row['arm'])}, "
        f"{MODES.get(row['mode'], row['mode'])}, {number(row['runs'])} runs)"
        for row in rows
    ]
    return f"Training changes the share of right answers by {'; '.join(parts)}." if parts else ""


ANSWERS: Mapping[int, Callable[[Facts], Answer]] = {
    **HERE,
    9: overhead,
    10: fairness,
    11: alternatives,
    12: other_losses,
    13: along_training,
    14: statements,
    15: labels,
    16: reasoning_kept,
}
"""How every question is answered, by its number."""
