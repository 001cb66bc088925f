"""What belongs to no question: the method, the limits, what the data allow, and what a run was made with."""

from collections.abc import Mapping
from typing import Any

from bvpo_analysis.report.formatting import flat_facts, number
from bvpo_analysis.report.sections import Kind, Section, table

_LABELS = {
    "regime": "preference regime",
    "source": "data",
    "pairs": "preference pairs",
    "traces_per_answer": "posterior traces per answer",
    "empty_answers_own": "pairs with empty-trace answers of their own",
    "tokens_trace_mean": "tokens per trace, mean",
    "tokens_answer_mean": "tokens per answer, mean",
    "ref_model": "reference model",
    "model": "model (not set: the model in the box)",
    "data": "data file (not set: the pairs in the box)",
    "params": "parameters (regular expression; not set: all)",
    "limit": "limit on pairs",
}

LIMITS = (
    "Safety, refusals and toxicity are not measured.",
    "Win rates as of AlpacaEval 2 and Arena-Hard are not measured: nothing here judges open-ended answers.",
    "With sampled traces, everything about the target holds at the reference, the start of training, and for losses "
    "whose coefficients are constant there (DPO, IPO). Away from it, or for SimPO, the target takes traces that can be "
    "enumerated.",
    "The gradients are those of the loss. What an optimiser makes of them (clipping, momentum, a metric of its own) is "
    "not part of the error.",
    "The best weight is that of the least error of one step. That a smaller error trains a better model is a claim of "
    "its own.",
)
"""What this report does not say."""


def method_section(exact: bool, clusters: int | None) -> Section:
    """How the numbers come about."""
    target = (
        "M3: the batch gradient is compared with the gradient of the loss of the whole population of prompts. M1 "
        "compares each prompt with its own marginal gradient, so that only traces are random."
    )
    known = (
        "All traces were enumerated, so μ is known exactly, at the reference or off it."
        if exact
        else "At the reference, with traces from the posterior of each answer, g_t is unbiased for the marginal "
        "gradient. So E g_t stands for μ, and no estimate of μ is needed."
    )
    intervals = (
        "Numbers here are exact for the given pairs and carry no interval."
        if exact
        else f"All are 95 % intervals from leaving out one prompt at a time (jackknife), over {number(clusters)} "
        "prompts. Where a squared bias is part of a number, its noise is taken at the value under test (score "
        "intervals), because a low estimate comes with a low standard error. Ratios such as α* have Fieller sets, "
        "which for α* use that a squared bias is not negative; where a set is unbounded, the data do not determine the "
        "ratio, and the report says so."
    )
    rows = [
        ("Target", target),
        (
            "Conditioning",
            "Prompts, their answers and their traces are random; the pairs of other prompts are not given.",
        ),
        ("Why the target is known", known),
        ("Intervals", intervals),
        (
            "Negative squares",
            "Squared biases are estimated without bias from products of different prompts. Such an estimate can be "
            "negative when the true value is small; the table of moments shows it as it is, and an MSE takes its "
            "positive part.",
        ),
        (
            "κ",
            "Step size times smoothness. It weights variance against squared bias, as the paper's descent bound does; "
            "weighted equally, the two make the MSE.",
        ),
        (
            "What mixing is worth",
            "Statements about extra traces and larger batches hold where g_t is unbiased, that is at the reference.",
        ),
    ]
    columns: list[tuple[str, Kind]] = [("Of", "symbol"), ("How", "words")]
    return Section("method", "Method", "Method", tables=(table("method", columns, rows),))


def limits_section() -> Section:
    """What is not measured."""
    return Section("limits", "Limits: what this report does not measure", "Limits", text=LIMITS)


def provenance_sections(results: Mapping[str, Any]) -> list[Section]:
    """Options, model, data and versions, as they are."""
    parts = (
        ("options", "Options", results.get("config")),
        ("model", "Model", results.get("model")),
        ("data", "Data", results.get("data")),
        ("versions", "Versions", results.get("versions")),
    )
    columns: list[tuple[str, Kind]] = [("What", "words"), ("Value", "words")]
    return [
        Section(anchor, title, title, tables=(table(title.lower(), columns, labelled(facts)),))
        for anchor, title, facts in parts
        if facts
    ]


def labelled(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts as rows, under the labels that readers know."""
    return [(_LABELS.get(key, key.replace("_", " ")), value) for key, value in flat_facts(facts)]
