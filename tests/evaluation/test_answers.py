"""Answers of the model in the box: each from its own seed, read as turns, rewarded by rules that see the answer."""

import numpy as np
import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.evaluation import MODES, REWARDS, AnswerSet, SampledAnswer, fresh_prompts, sample_answers
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.lrm.shipped.task import is_correct_trace
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs


@pytest.fixture(scope="module")
def lrm():
    return load_model()


def test_fresh_prompts_are_in_no_shipped_pair():
    known = {pair.prompt[-1]["content"] for regime in REGIMES for pair in shipped_pairs(regime)}
    prompts = fresh_prompts(300)
    assert len({p.text for p in prompts}) == len({p.prompt_id for p in prompts}) == 300
    assert not known & {p.text for p in prompts}
    assert fresh_prompts(5, seed=1) != prompts[:5]


def test_an_answer_depends_on_its_prompt_and_index_only(lrm):
    """Catches random numbers shared between rows: fewer answers, or fewer prompts, leave the rest as they are."""
    prompts = fresh_prompts(4)
    whole = sample_answers(lrm, prompts, "thinking", answers=3)
    part = sample_answers(lrm, prompts[1:3], "thinking", answers=2)
    assert [row[:2] for row in whole.answers[1:3]] == list(part.answers)
    other = sample_answers(lrm, prompts, "thinking", answers=3, stream="reference")
    assert other.answers != whole.answers


def test_traces_and_answers_are_read_and_counted(lrm):
    prompts = fresh_prompts(12)
    thinking, empty = (sample_answers(lrm, prompts, mode) for mode in MODES)
    right = [is_correct_trace(p.text, row[0].trace) for p, row in zip(prompts, thinking.answers, strict=True)]
    assert sum(right) >= 11
    for found, thought in ((thinking, 21), (empty, 0)):
        for row in found.answers:
            answer = row[0]
            assert answer.tokens_trace == thought
            assert len(answer.ids) - answer.start == answer.tokens_trace + answer.tokens_answer
            assert lrm.assembler.decode(answer.ids).endswith(answer.answer + "<|end|>")
    assert thinking.trace_lengths().mean() == 21
    assert empty.unreadable().sum() == 0


def test_rewards_of_the_regimes():
    prompts = fresh_prompts(1)
    text = prompts[0].text
    total = sum(int(text[i]) for i in (1, 3, 5, 7)) % 10
    answers = [f"{total}{text[0]}.", f"{(total + 1) % 10}{text[0]}.", "nonsense", None]
    row = tuple(SampledAnswer("", answer, 0, 3, (1, 2, 3), 0) for answer in answers)
    found = AnswerSet("empty", "policy", prompts, (row,))
    lowest = [-np.inf, -np.inf]
    assert found.rewards(REWARDS["correct"])[0].tolist() == [1.0, 0.0, *lowest]
    assert found.rewards(REWARDS["valid"])[0].tolist() == [float(text[1]), -1.0, *lowest]
    assert found.rewards(REWARDS["style"])[0].tolist() == [3.0, 3.0, *lowest]
    assert found.unreadable()[0].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_nothing_to_answer_is_refused(lrm):
    with pytest.raises(InputError, match="evaluation needs prompts"):
        sample_answers(lrm, [], "thinking")
    with pytest.raises(InputError, match="mode 'loud'"):
        sample_answers(lrm, fresh_prompts(1), "loud")
