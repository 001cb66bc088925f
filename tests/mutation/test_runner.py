"""The runner on a toy package of one module: verdicts, resuming, the sample, the choice of tests and the summary."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from operators import Mutant, enumerate_mutants
from runner import Equivalent, Result, rate, read_results, sample, summary
from selection import files_testing, modules
from worker import Verdict

HERE = Path(__file__).parent


@pytest.fixture
def toy(tmp_path):
    """A package with one function, a doctest that fixes its value at zero, and a test that fixes its slope."""
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['slow', 'gpu', 'chromium']\n",
        "bvpo_analysis/__init__.py": "",
        "bvpo_analysis/theory/__init__.py": "from bvpo_analysis.theory.line import line\n",
        "bvpo_analysis/theory/line.py": '''
            def line(x):
                """The line.

                Example:
                    >>> line(0)
                    1
                """
                steps = 3
                while steps > 0:
                    steps = steps - 1
                return 2 * x + 1
            ''',
        "bvpo_analysis/theory/other.py": "def other(x):\n    return x\n",
        "tests/theory/test_line.py": """
            from bvpo_analysis import theory

            def test_slope():
                assert theory.line(3) - theory.line(2) == 2
            """,
        "tests/theory/test_unrelated.py": "def test_nothing():\n    pass\n",
        "tests/moments/test_none.py": "",
        "tests/properties/test_line_properties.py": "from bvpo_analysis.theory import line\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    (tmp_path / "bvpo_analysis" / "moments").mkdir()
    return tmp_path


def test_files_are_chosen_by_the_names_they_use(toy):
    """Catches tests that never touch the module, and its own tests run last."""
    assert modules(toy) == ["theory/line.py", "theory/other.py"]
    assert files_testing("theory/line.py", toy) == [
        "tests/theory/test_line.py",
        "tests/properties/test_line_properties.py",
    ]
    assert files_testing("theory/other.py", toy) == []


SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import runner
root, out = Path(sys.argv[2]), Path(sys.argv[3])
subjects = {"theory/line.py": runner.subject("theory/line.py", root)}
mutants = [m for m in runner.mutants_of(subjects.values())["theory/line.py"] if m.after in json.loads(sys.argv[4])]
base = [(name, v.status) for name, v in runner.baseline(subjects.values(), root=root, limit=20)]
results = list(runner.run(subjects, mutants, out, root=root, jobs=2, limit=1))
found = {r.mutant.after: [r.verdict.status, *r.verdict.by] for r in results}
print(json.dumps({"baseline": base, "results": found}))
"""


def test_verdicts_of_a_whole_module_and_a_second_call_that_goes_on(toy):
    """Catches edits that never reach the import system, an endless loop that hangs the run, and results run twice."""
    out = toy / "runs" / "results.jsonl"
    expected = {
        "return 2 * x + 2": ["killed", "doctest"],
        "return 3 * x + 1": ["killed", "tests/theory/test_line.py::test_slope"],
        "steps = steps + 1": ["timeout"],
        # The loop has no effect on the value: nothing can see this one.
        "steps = 4": ["survived"],
    }

    def call():
        command = [sys.executable, "-c", SCRIPT, str(HERE), str(toy), str(out), json.dumps(list(expected))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = call()
    assert found["baseline"] == [["doctests of theory/line.py", "survived"], ["2 test files", "survived"]]
    assert found["results"] == expected
    lines = out.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(expected)
    # A kill in the middle of a line costs that mutant only.
    out.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40] + "\n", encoding="utf-8")
    assert len(read_results(out)) == len(lines) - 1
    assert call()["results"] == expected
    again = out.read_text(encoding="utf-8").splitlines()
    assert again[: len(lines) - 1] == lines[:-1]
    assert len(again) == len(lines) + 1


def some(module, n):
    return enumerate_mutants(module, "x = " + " + ".join(f"a{i}" for i in range(n)))


def test_the_sample_is_seeded_stratified_and_grows():
    """Catches a module left out, another sample for the same seed, and results lost when the sample is enlarged."""
    mutants = {"theory/a.py": some("theory/a.py", 40), "theory/b.py": some("theory/b.py", 2)}
    small, large = sample(mutants, 10, 0), sample(mutants, 40, 0)
    assert small == sample(mutants, 10, 0)
    assert small != sample(mutants, 10, 1)
    assert set(small) <= set(large)
    assert {m.module for m in small} == set(mutants)
    assert len(set(large)) == len(large)
    assert abs(len(large) - 40) <= 1


def test_the_summary_counts_and_separates_argued_survivors():
    """Catches survivors counted as killed, and equivalents that vanish from the first rate."""
    mutants = some("theory/a.py", 6)[:8]
    status = ["killed"] * 5 + ["timeout", "survived", "survived"]
    results = [Result(str(i), m, Verdict(s, (), 1.0)) for i, (m, s) in enumerate(zip(mutants, status, strict=True))]
    argued = [Equivalent("theory/a.py", mutants[7].before, mutants[7].after, "the same number in another order")]
    text = summary(results, argued)
    assert "6/8 = 75.0%" in text
    assert "6/7 = 85.7%" in text
    assert "survivors: 1\n  " + mutants[6].name in text
    assert "argued equivalent: 1\n  " + mutants[7].name in text


def test_the_interval_of_a_rate_is_that_of_wilson():
    """Catches a normal interval, which has no width at 100 %: 20 of 20 is [z^2-corrected 83.9 %, 100 %]."""
    assert rate(20, 20) == "20/20 = 100.0% [83.9%, 100.0%]"
    assert rate(0, 0) == "none"


def test_a_mutant_keeps_its_name_when_lines_move():
    """Catches keys that change with a comment above: the text of the edit is the name."""
    (first,) = (m for m in enumerate_mutants("m.py", "x = -a"))
    (moved,) = (m for m in enumerate_mutants("m.py", "\n\nx = -a"))
    assert isinstance(first, Mutant)
    assert (first.before, first.after, first.operator) == (moved.before, moved.after, moved.operator)
    assert moved.line == first.line + 2
