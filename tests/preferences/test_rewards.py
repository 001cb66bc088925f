"""Rewards see prompt and answer only, and anything but a finite number stops a build with the reason."""

import pytest

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.preferences.rewards import (
    Prompt,
    Reward,
    best_and_worst,
    exact,
    function_reward,
    number,
    verifier,
)

PROMPT = Prompt("q", ({"role": "system", "content": "s"}, {"role": "user", "content": "3 * 4?"}), "12")


def test_a_function_of_the_user_is_called_with_the_last_message_and_the_answer(tmp_path, monkeypatch):
    (tmp_path / "taste.py").write_text(
        "seen = []\n"
        "def brevity(prompt, answer):\n    seen.append((prompt, answer))\n    return -len(answer)\n"
        "def no_number(prompt, answer):\n    return 'good'\n"
        "def not_finite(prompt, answer):\n    return float('nan')\n"
        "def yes(prompt, answer):\n    return answer == 'yes'\n"
        "def failing(prompt, answer):\n    raise KeyError('weights')\n"
        "five = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert function_reward("taste:brevity")(PROMPT, "twelve") == -6.0
    import taste

    assert taste.seen == [("3 * 4?", "twelve")]
    assert function_reward("taste:yes")(PROMPT, "yes") == 1.0
    for name, says in (
        ("no_number", "gave 'good' on prompt 'q'; it must return a finite number"),
        ("not_finite", "gave nan on prompt 'q'"),
        ("failing", r"raised KeyError on prompt 'q' \('weights'\)"),
    ):
        with pytest.raises(StudyError, match=says):
            function_reward(f"taste:{name}")(PROMPT, "x")
    for name, says in (
        ("taste", "--reward must be MODULE:FUNCTION"),
        (":brevity", "--reward must be MODULE:FUNCTION"),
        ("taste:", "--reward must be MODULE:FUNCTION"),
        ("taste:five", "has no function 'five'"),
        ("taste:none", "has no function 'none'"),
        ("nosuchmodule:f", "No module named 'nosuchmodule'; run where the module can be imported"),
    ):
        with pytest.raises(InputError, match=says):
            function_reward(name)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("12", "12", 1.0),
        ("3 * 4 = 12.", "... #### 12", 1.0),
        ("12.0", "12", 1.0),
        ("1,200", "1200", 1.0),
        ("-12", "12", 0.0),
        ("12 or 13", "12", 0.0),
        ("twelve", "12", 0.0),
        ("", "12", 0.0),
    ],
)
def test_numbers_are_compared_by_the_last_one(answer, reference, right):
    assert number(answer, reference) == right


def test_verifiers_compare_with_the_reference_of_the_prompt():
    assert exact(" 12 ", "12\n") == 1.0
    assert exact("12.", "12") == 0.0
    assert verifier("exact")(PROMPT, "12") == 1.0
    assert verifier("exact")(PROMPT, "13") == 0.0
    assert verifier("number").needs_reference
    with pytest.raises(InputError, match="--verifier must be one of exact, number, got 'llm'"):
        verifier("llm")


def test_the_first_of_equals_is_taken_and_ties_give_nothing():
    assert best_and_worst([1.0, 3.0, 0.0, 3.0, 0.0]) == (1, 2)
    assert best_and_worst([2.0]) is None
    assert best_and_worst([]) is None


def test_errors_of_the_package_pass_through():
    def refuse(prompt, answer):
        raise StudyError("too long")

    with pytest.raises(StudyError, match=r"^too long$"):
        Reward("r", refuse)(PROMPT, "x")
