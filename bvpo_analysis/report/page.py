"""The order of a page: sixteen questions with their evidence, then what belongs to none of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bvpo_analysis.report.appendix import limits_section, method_section, provenance_sections
from bvpo_analysis.report.evidence import evidence
from bvpo_analysis.report.sections import Section

SOURCES = {
    "run": "measured in this run",
    "committed": "a committed measurement, not of this run",
    "given": "read from runs or tables that were given",
    "none": "not measured in this run",
}
"""Where an answer is from, in words."""


@dataclass(frozen=True)
class Part:
    """One numbered question with what answers it, ready to be written.

    Attributes:
        number, anchor, short, question, answer, needs: as in results.json.
        source: where the answer is from, in words.
        missing: whether the run has no answer.
        sections: the evidence, as dicts.
    """

    number: int
    anchor: str
    short: str
    question: str
    answer: str
    needs: str
    source: str
    missing: bool
    sections: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Page:
    """Everything after the summary screen.

    Attributes:
        parts: the questions.
        appendix: sections without a question, as dicts.
    """

    parts: tuple[Part, ...]
    appendix: tuple[Mapping[str, Any], ...]


def page_of(results: Mapping[str, Any]) -> Page:
    """Sort what results.json holds under its questions; sections that no question names go to the appendix."""
    found: dict[str, Mapping[str, Any]] = {anchor: asdict(s) for anchor, s in evidence(results).items()}
    found |= {section["anchor"]: section for section in results.get("sections") or []}
    questions = results.get("questions") or []
    parts = tuple(
        Part(
            number=row["number"],
            anchor=row["anchor"],
            short=row["short"],
            question=row["question"],
            answer=row["answer"],
            needs=row["needs"],
            source=SOURCES[row["source"]],
            missing=row["source"] == "none",
            sections=tuple(found[anchor] for anchor in row["evidence"] if anchor in found),
        )
        for row in questions
    )
    named = {anchor for row in questions for anchor in row["evidence"]}
    estimate = results["headline"]["alpha"]["estimate"]
    closing: list[Section] = [
        method_section(estimate.get("method") == "exact", estimate.get("n")),
        limits_section(),
        *provenance_sections(results),
    ]
    rest = [section for anchor, section in found.items() if anchor not in named]
    return Page(parts, (*rest, *(asdict(section) for section in closing)))
