"""Every claim is measured and says what it should; the command prints the whole table and fails when one fails."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from bvpo_analysis import claims
from bvpo_analysis.claims import CLAIMS, __main__, measure, name_of, table
from bvpo_analysis.records import Claim

FUNCTIONS = [pytest.param(f, id=name_of(f)) for family in CLAIMS.values() for f in family]


@cache
def measured_once(function) -> Claim:
    """One measurement, shared by the tests of it."""
    return function()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_measurement_says_what_the_claim_says(function):
    """Catches a wrong closed form, a wrong measurement, and a counterexample that contradicts nothing."""
    claim = measured_once(function)
    assert claim.confirmed, f"{claim.name}: measured {claim.measured}, predicted {claim.predicted}, {claim.verdict}"
    assert np.isfinite([claim.measured, claim.predicted, claim.se, claim.tolerance]).all()
    assert claim.statement
    assert claim.reference
    assert claim.setting


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_claim_can_be_found_by_name_and_measured_again(function):
    """Catches a name in the table that selects nothing, and a measurement that depends on hidden state."""
    claim = measured_once(function)
    assert claim.name == name_of(function)
    assert function() == claim


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_allowance_is_small_beside_the_numbers(function):
    """Catches a claim that holds because its tolerance swallows the numbers: doubling or negating one must show."""
    claim = measured_once(function)
    size = max(abs(claim.measured), abs(claim.predicted))
    if size == 0 or claim.kind in ("upper", "lower"):
        assert claim.tolerance <= 1e-3 * max(size, 1.0)
    elif claim.predicted == 0:
        assert claim.tolerance <= 1e-3
    else:
        assert claim.tolerance + claim.STANDARD_ERRORS * claim.se <= 0.2 * size


def test_names_are_unique():
    names = [name_of(f) for family in CLAIMS.values() for f in family]
    assert len(set(names)) == len(names)


def test_the_committed_table_is_a_measurement_of_today():
    """Catches a table in reports that the code no longer gives."""
    fresh = [table.to_row(measured_once(function)) for family in CLAIMS.values() for function in family]
    committed = table.load_measured()
    assert [row["name"] for row in committed] == [row["name"] for row in fresh], "run: make claims"
    for old, new in zip(committed, fresh, strict=True):
        for key, value in new.items():
            if key in ("measured", "predicted", "se", "tolerance"):
                size = max(abs(new["measured"]), abs(new["predicted"]))
                # What is zero up to rounding depends on the number of threads; it is held to its allowance.
                vanishes = new["predicted"] == 0 and not new["only_if"]
                allowance = new["tolerance"] if vanishes else 1e-6 * size + 1e-12
                assert old[key] == pytest.approx(value, rel=1e-4, abs=allowance), (old["name"], key)
            elif key != "note":  # a note may quote a measured number
                assert old[key] == value, old["name"]


def claim_with(**changes) -> Claim:
    return replace(Claim("toy", "a statement", "a source", "identity", measured=1.0, predicted=1.0), **changes)


@pytest.mark.parametrize(
    ("kind", "measured", "holds"),
    [
        ("identity", 1.0, True),
        ("identity", 1.2, False),
        ("identity", 0.8, False),
        ("tight", 1.2, False),
        ("tight", 0.8, False),
        ("upper", 0.8, True),
        ("upper", 1.2, False),
        ("lower", 1.2, True),
        ("lower", 0.8, False),
    ],
)
def test_each_kind_has_its_relation(kind, measured, holds):
    """Catches swapped directions of a bound."""
    claim = claim_with(kind=kind, measured=measured)
    assert claim.relation_holds is holds
    assert claim.verdict == ("holds" if holds else "FAILS")
    needs = replace(claim, only_if="x > 0")
    assert needs.confirmed is not holds
    assert needs.verdict == ("FAILS: the counterexample agrees with the statement" if holds else "holds only if x > 0")


@pytest.mark.parametrize("kind", ["identity", "tight", "upper", "lower"])
def test_rounding_and_noise_are_allowed_for_and_no_more(kind):
    """Catches a tolerance of the wrong sign and standard errors that count once instead of five times."""
    off = 1.2 if kind != "lower" else 0.8
    assert claim_with(kind=kind, measured=off, tolerance=0.21).relation_holds
    assert not claim_with(kind=kind, measured=off, tolerance=0.19).relation_holds
    assert claim_with(kind=kind, measured=off, se=0.041).relation_holds
    assert not claim_with(kind=kind, measured=off, se=0.039).relation_holds


@pytest.mark.parametrize("kind", ["identity", "tight", "upper", "lower"])
@pytest.mark.parametrize("field", ["measured", "predicted"])
def test_not_a_number_confirms_nothing(kind, field):
    """Catches a comparison with nan that comes out in favour of a claim or of a counterexample."""
    claim = claim_with(kind=kind, **{field: float("nan")})
    assert not claim.confirmed
    assert not replace(claim, only_if="never").confirmed


# --- the command -----------------------------------------------------------------------------------------


def test_the_table_has_a_line_per_claim_under_the_heading_of_its_family(capsys):
    assert __main__.main(["theorem-1", "cosine-ascent"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["claim", "measured", "predicted", "verdict"]
    rows = {line.split()[0]: i for i, line in enumerate(lines) if line and line[0] != " "}
    assert lines[rows["theorem-1"]].split()[2::2] == ["=", "holds"]
    assert lines[rows["theorem-1-total"]].split()[1:] == ["25.25", "<=", "1", "counterexample"]
    assert lines[rows["cosine-ascent"] - 1] == "one step of descent"
    assert "every measurement agrees" in lines[-1]


def test_a_counterexample_says_what_it_refutes_and_what_is_needed():
    refuted = claim_with(measured=2.0, statement="all is 1", only_if="two is one")
    assert table.text_table([refuted]).splitlines()[2:] == ["    all is 1:", "    holds only if two is one"]
    assert len(table.text_table([claim_with()]).splitlines()) == 2
    assert table.text_table([replace(refuted, measured=1.0)]).splitlines()[1].endswith("  FAILS")


def test_a_standard_error_stands_beside_its_number():
    """Catches an error that is left out, or one that moves the numbers of other rows out of their column."""
    rows = table.text_table([claim_with(se=0.25), claim_with(measured=0.125, predicted=0.125)]).splitlines()[1:]
    assert rows[0].split() == ["toy", "1", "+-", "0.2", "=", "1", "holds"]
    assert rows[0].index(" = ") == rows[1].index(" = ")
    assert [row.rindex(number) + len(number) for row, number in zip(rows, ("1  ", "0.125  "), strict=True)] == [
        rows[0].index("holds")
    ] * 2


@pytest.mark.parametrize("width", [80, 110])
def test_the_whole_table_with_its_prose_fits_the_terminal(width):
    """Catches prose that is not wrapped, and a name or number that pushes the verdict out of a usual terminal."""
    shown = [measured_once(function) for family in CLAIMS.values() for function in family]
    lines = table.text_table(shown, claims.families(), explain=True, width=width).splitlines()
    assert max(len(line) for line in lines if line.startswith(" ")) <= width
    assert max(map(len, lines)) <= 110


def test_explanations_follow_on_request(capsys):
    assert __main__.main(["theorem-1", "--explain"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # lines are wrapped to the width of the terminal
    claim = measure("theorem-1")[0]
    assert claim.statement in text
    assert claim.reference in text


def test_machine_readable_forms_carry_every_field(capsys):
    expected = {f.name for f in fields(Claim)} | {"verdict", "confirmed"}
    assert __main__.main(["theorem-1", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows[0]) == expected
    assert __main__.main(["theorem-1", "--format", "csv"]) == 0
    read = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert set(read[0]) == expected
    assert [row["name"] for row in read] == [row["name"] for row in rows]


def test_a_claim_that_fails_fails_the_command(monkeypatch, capsys):
    """Catches an exit code that does not depend on the verdicts."""

    def broken() -> Claim:
        return claim_with(name="broken", measured=2.0)

    monkeypatch.setattr(claims, "CLAIMS", {"toy": (broken,)})
    assert __main__.main([]) == 1
    assert "FAILED: broken" in capsys.readouterr().out


def test_the_table_can_go_to_a_file(tmp_path, capsys):
    target = tmp_path / "claims.json"
    assert __main__.main(["theorem-1", "--format", "json", "--output", str(target)]) == 0
    assert json.loads(target.read_text())[0]["name"] == "theorem-1"
    assert "every measurement agrees" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]


@pytest.mark.parametrize(
    "arguments",
    [["no-such-claim"], ["--format", "pdf"], ["--no-such-option"], ["--output", "no/such/folder/claims.json"]],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, capsys):
    assert __main__.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_list_of_claims_and_help_need_no_torch():
    code = "import sys, bvpo_analysis.claims, bvpo_analysis.claims.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = (
        "import sys; from bvpo_analysis.claims.__main__ import main; main(['--help']); "
        "sys.exit(bool({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_numbers_without_a_value_are_null():
    assert table.to_row(claim_with(measured=float("nan")))["measured"] is None
