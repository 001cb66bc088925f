"""The pairing rules: what each prefers, what it calls a tie, and that nothing but prompt and answers is read."""

import inspect
import itertools

import numpy as np
import pytest

from bvpo_analysis.lrm.shipped.task import ENDINGS, is_right, parse_answer, style_reward, value_reward
from bvpo_analysis.preferences.shipped import REGIMES
from bvpo_analysis.preferences.shipped.rules import RULES, by_correctness, by_style, by_value

PROMPT = "a3b7c2d9"  # the sum is 21: right answers begin with 1

ANSWERS = [f"{digit}{letter}{ending}" for digit in "102" for letter in "abj" for ending in ENDINGS] + ["", "b1.", "1b"]


def samples(count=400, size=5):
    rng = np.random.default_rng(11)
    return [[ANSWERS[i] for i in rng.integers(len(ANSWERS), size=size)] for _ in range(count)]


def test_every_regime_has_its_rule():
    assert tuple(RULES) == REGIMES == ("style", "valid", "correct")


@pytest.mark.parametrize(
    ("rule", "answers", "picked"),
    [
        # style: within the largest group of equal digit and letter, best ending over worst
        (by_style, ["1b!", "1b.", "1a.", "1b sure."], (1, 0)),
        (by_style, ["1a!", "1b ok!", "1b.", "1a sure."], (3, 0)),  # equal groups: the one seen first
        (by_style, ["2a.", "2a!", "1b."], (0, 1)),  # a wrong digit is no matter of style
        (by_style, ["1b.", "1b.", "1a!"], None),  # the largest group is tied, the rest plays no role
        (by_style, ["1b.", "1a!", "1c!"], None),  # groups of one
        (by_style, ["nonsense", "b1."], None),
        (by_style, [], None),
        # valid: among right answers, the item of highest value over the one of lowest
        (by_value, ["1b.", "1a.", "1c!", "1c."], (0, 3)),  # of two equally low ones the one with an equal ending
        (by_value, ["1c!", "1d.", "1d!"], (2, 0)),  # of two equally high ones likewise
        (by_value, ["1d.", "2a."], None),  # a wrong answer is not the lower one
        (by_value, ["1b.", "1b!"], None),  # same item: tie
        (by_value, ["1b.", "1j."], None),  # a letter that the prompt lacks has no value
        (by_value, [], None),
        # correct: right digit over wrong digit, letter and then ending equal if possible
        (by_correctness, ["1b.", "2a.", "2b!", "0b."], (0, 3)),
        (by_correctness, ["2a.", "1b!", "1a ok!"], (2, 0)),  # an equal letter comes before an equal ending
        (by_correctness, ["1b.", "2a!"], (0, 1)),
        (by_correctness, ["1b.", "1a."], None),
        (by_correctness, ["2b.", "2a."], None),
        (by_correctness, ["1b.", "nonsense", ""], None),  # a malformed answer is not a wrong one
        (by_correctness, [], None),
    ],
)
def test_picks(rule, answers, picked):
    assert rule(PROMPT, answers) == picked


def test_a_style_pair_differs_in_the_ending_only():
    found = 0
    for answers in samples():
        if pick := by_style(PROMPT, answers):
            found += 1
            chosen, rejected = (parse_answer(answers[i]) for i in pick)
            assert (chosen.digit, chosen.letter) == (rejected.digit, rejected.letter)
            assert style_reward(PROMPT, answers[pick[0]]) > style_reward(PROMPT, answers[pick[1]])
            same = [
                a for a in answers if (p := parse_answer(a)) and (p.digit, p.letter) == (chosen.digit, chosen.letter)
            ]
            assert answers[pick[0]] == min(same, key=lambda a: ENDINGS.index(parse_answer(a).ending))
            assert answers[pick[1]] == max(same, key=lambda a: ENDINGS.index(parse_answer(a).ending))
    assert found > 50


def test_a_valid_pair_spans_all_values_among_the_right_answers():
    found = 0
    for answers in samples():
        right = [value_reward(PROMPT, a) for a in answers if is_right(PROMPT, a)]
        pick = by_value(PROMPT, answers)
        assert (pick is None) == (len(set(right)) < 2)
        if pick:
            found += 1
            assert all(is_right(PROMPT, answers[i]) for i in pick)
            assert [value_reward(PROMPT, answers[i]) for i in pick] == [max(right), min(right)]
    assert found > 20


def test_a_correct_pair_is_as_equal_as_the_answers_allow():
    found = 0
    for answers in samples():
        right = [a for a in answers if is_right(PROMPT, a)]
        wrong = [a for a in answers if parse_answer(a) and not is_right(PROMPT, a)]
        pick = by_correctness(PROMPT, answers)
        assert (pick is None) == (not right or not wrong)
        if pick:
            found += 1
            chosen, rejected = (answers[i] for i in pick)
            assert chosen in right
            assert rejected in wrong

            def likeness(a, b):
                a, b = parse_answer(a), parse_answer(b)
                return a.letter == b.letter, a.ending == b.ending

            assert likeness(chosen, rejected) == max(likeness(a, b) for a, b in itertools.product(right, wrong))
    assert found > 100


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_rules_are_pure_functions_of_prompt_and_answers(rule):
    assert list(inspect.signature(rule).parameters) == ["prompt", "answers"]
    for answers in samples(100):
        kept = list(answers)
        first = rule(PROMPT, answers)
        rule("a0b0c0d0", answers)  # another call in between leaves nothing behind
        assert rule(PROMPT, tuple(answers)) == first
        assert answers == kept


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_more_malformed_answers_change_nothing_but_the_indices(rule):
    for answers in samples(100):
        shifted = rule(PROMPT, ["junk", *answers, ""])
        plain = rule(PROMPT, answers)
        assert shifted == (None if plain is None else (plain[0] + 1, plain[1] + 1))
