"""results.json follows its schema, and the schema says what every key is."""

import copy
from dataclasses import asdict, fields

import pytest
from jsonschema import Draft202012Validator
from report_samples import sample

from bvpo_analysis.errors import StudyError
from bvpo_analysis.report.config import ReportConfig
from bvpo_analysis.report.schema import check_results, problems, results_schema
from bvpo_analysis.tables import MOMENTS, jsonable

NUMBERS = {"number", "integer"}


def nodes(schema, path="results"):
    """Every named key of the schema, with its place."""
    for key, value in schema.get("properties", {}).items():
        yield f"{path}.{key}", value
        yield from nodes(value, f"{path}.{key}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from nodes(schema[word], f"{path}[]")
    for key, value in schema.get("$defs", {}).items():
        yield f"{path}/{key}", value
        yield from nodes(value, f"{path}/{key}")


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(results_schema())


def test_every_key_is_described_and_every_number_has_a_unit():
    for place, node in nodes(results_schema()):
        if set(node) == {"$ref"}:
            continue
        assert len(node.get("description", "")) > 3, place
        types = node.get("type", [])
        numeric = bool(NUMBERS & set([types] if isinstance(types, str) else types))
        number = numeric or "estimate" in str(node.get("$ref", "")) or "anyOf" in node
        assert not number or node.get("unit"), place


def test_the_schema_knows_every_option_and_every_moment():
    known = results_schema()["properties"]
    assert set(known["config"]["properties"]) == {field.name for field in fields(ReportConfig)}
    assert set(known["moments"]["properties"]) == set(MOMENTS)


def complete():
    """Results with the options and facts that the invented ones leave out."""
    results = sample()
    del results["moments"]["unheard_of"], results["headline"]["gain"]
    results["moments"] |= {"var_t": results["moments"]["trace_var"], "var_e": None}
    results["config"] = jsonable(asdict(ReportConfig()))
    results["model"] |= {"reference": "the same", "reference_fingerprint": "3fa9"}
    return results


def test_complete_results_follow_it():
    assert problems(complete()) == []
    check_results(complete())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.pop("questions"), "'questions' is a required property"),
        (lambda r: r["headline"]["alpha"].update(recommended=1.5), "headline.alpha.recommended: 1.5 is greater"),
        (lambda r: r["measures"].update(extra=None), "'extra' was unexpected"),
        (lambda r: r["curve"][0].update(mse="much"), "curve.0.mse: 'much' is not of type"),
        (lambda r: r["alerts"][0].update(level="loud"), "'loud' is not one of"),
        (lambda r: r["measures"]["bias_share"].update(method="guess"), "measures.bias_share"),
    ],
)
def test_what_does_not_follow_it_is_named(change, says):
    results = copy.deepcopy(complete())
    change(results)
    assert any(says in line for line in problems(results)), problems(results)
    with pytest.raises(StudyError, match="would not follow its schema"):
        check_results(results)
