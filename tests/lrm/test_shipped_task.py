"""Prompts, traces, answers and rewards of the LRM in the box."""

import itertools

import numpy as np
import pytest

from bvpo_analysis.lrm.shipped.task import (
    ENDINGS,
    ITEMS_PER_PROBLEM,
    LETTERS,
    SLIP_RATE,
    Answer,
    Problem,
    enumerate_traces,
    is_correct_trace,
    is_right,
    last_letter,
    parse_answer,
    parse_problem,
    sample_problem,
    sample_row,
    style_reward,
    value_reward,
)

PROMPT = "a3b7c2d9"


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    rng = np.random.default_rng(1)
    return [sample_problem(rng) for _ in range(2_000)]


def test_prompts_round_trip(problems):
    for problem in problems:
        assert parse_problem(problem.text) == problem


@pytest.mark.parametrize(
    "text", ["", "a3b7c2", "a3b7c2a9", "a3b7c2k9", "3ab7c2d9", "a3b7c2d9 ", "a3b7c2d9e1", "a٣b7c2d9"]
)
def test_malformed_prompts_are_refused(text):
    with pytest.raises(ValueError, match=r"not a prompt of this task|distinct letters"):
        parse_problem(text)


@pytest.mark.parametrize("item", [("z", 1), ("", 1), ("ab", 1), ("a", 10), ("a", -1)])
def test_a_problem_refuses_bad_items(item):
    with pytest.raises(ValueError, match="an item is a letter"):
        Problem((item, ("f", 1), ("g", 2), ("h", 3)))


def test_every_well_formed_answer_round_trips():
    for digit, letter, ending in itertools.product(range(10), LETTERS, ENDINGS):
        answer = Answer(digit, letter, ending)
        assert parse_answer(answer.text) == answer


@pytest.mark.parametrize("text", ["", "1", "1b", "b1.", "12b.", "1b..", "1b sure", "1bsure.", "1k.", " 1b.", "1b.\n"])
def test_malformed_answers_are_none_to_every_reader(text):
    assert parse_answer(text) is None
    assert not is_right(PROMPT, text)
    assert style_reward(PROMPT, text) is None
    assert value_reward(PROMPT, text) is None


def test_an_answer_cannot_be_built_malformed():
    with pytest.raises(ValueError, match="an answer is"):
        Answer(10, "a", ".")


def test_there_are_24_distinct_correct_traces_and_each_ends_in_the_total(problems):
    for problem in problems[:200]:
        traces = enumerate_traces(problem)
        assert len(set(traces)) == 24
        assert all(int(trace[-1]) == problem.total for trace in traces)
        assert all(is_correct_trace(problem, trace) for trace in traces)
        assert {last_letter(trace) for trace in traces} == {letter for letter, _ in problem.items}


def test_traces_follow_the_definition():
    order = (("c", 2), ("a", 3), ("d", 9), ("b", 7))
    running, steps = 0, []
    for letter, digit in order:
        running = (running + digit) % 10
        steps.append(f"{letter}{digit}={running}")
    assert " ".join(steps) in enumerate_traces(PROMPT)
    assert enumerate_traces(PROMPT) == enumerate_traces(parse_problem(PROMPT))


@pytest.mark.parametrize(
    "trace", ["", "c2=2 a3=5 d9=4", "c2=2 a3=5 d9=4 c2=6", "c2=2 a3=5 d9=4 b7=2", "c2=2 a3=5 d9=4 b7=1 "]
)
def test_broken_traces_are_recognised(trace):
    assert not is_correct_trace(PROMPT, trace)


def test_last_letter_of_a_broken_trace_is_an_error():
    with pytest.raises(ValueError, match="does not end in a step"):
        last_letter("")


def test_rewards_order_answers_as_documented():
    assert [style_reward(PROMPT, f"1b{ending}") for ending in ENDINGS] == [3, 2, 1, 0]
    assert {letter: value_reward(PROMPT, f"5{letter}!") for letter in "abcd"} == {"a": 3, "b": 7, "c": 2, "d": 9}
    assert value_reward(PROMPT, "1j.") is None
    assert [is_right(PROMPT, f"{digit}c ok!") for digit in range(10)] == [digit == 1 for digit in range(10)]
    assert not is_right(PROMPT, "1j.")


def test_problems_are_uniform(problems):
    """Chi-square of letters and digits at a fixed seed; 27.9 is the 0.1 % point for 9 degrees of freedom."""
    for part in (0, 1):
        values = [item[part] for problem in problems for item in problem.items]
        counts = np.array([values.count(v) for v in (LETTERS if part == 0 else range(10))])
        expected = len(problems) * ITEMS_PER_PROBLEM / 10
        assert ((counts - expected) ** 2 / expected).sum() < 27.9


@pytest.mark.parametrize("empty", [False, True])
def test_training_rows_have_the_stated_law(empty):
    rng = np.random.default_rng(2)
    rows = [sample_row(rng, empty=empty) for _ in range(4_000)]
    answers = [parse_answer(row.answer) for row in rows]
    offsets = [(a.digit - parse_problem(row.prompt).total) % 10 for a, row in zip(answers, rows, strict=True)]
    assert set(offsets) == {0, 1, 9}
    se = np.sqrt(SLIP_RATE / 2 / len(rows))
    assert abs(offsets.count(1) / len(rows) - SLIP_RATE / 2) < 4 * se
    assert abs(offsets.count(9) / len(rows) - SLIP_RATE / 2) < 4 * se
    for ending in ENDINGS:
        assert abs(sum(a.ending == ending for a in answers) / len(rows) - 0.25) < 4 * np.sqrt(0.1875 / len(rows))
    positions = [row.prompt.index(a.letter) // 2 for a, row in zip(answers, rows, strict=True)]
    for position in range(ITEMS_PER_PROBLEM):
        assert abs(positions.count(position) / len(rows) - 0.25) < 4 * np.sqrt(0.1875 / len(rows))
    if empty:
        assert all(row.trace == "" for row in rows)
    else:
        assert all(is_correct_trace(row.prompt, row.trace) for row in rows)
        assert all(last_letter(row.trace) == a.letter for a, row in zip(answers, rows, strict=True))


def test_training_traces_are_uniform_over_the_24():
    """Chi-square over the rank of the trace at a fixed seed; 49.7 is the 0.1 % point for 23 degrees of
    freedom."""
    rng = np.random.default_rng(3)
    rows = [sample_row(rng, empty=False) for _ in range(4_800)]
    ranks = np.array([enumerate_traces(row.prompt).index(row.trace) for row in rows])
    counts = np.bincount(ranks, minlength=24)
    assert ((counts - 200) ** 2 / 200).sum() < 49.7
