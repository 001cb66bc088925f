"""Rendering prompts and turns with a chat template, thinking and not."""

import pytest
from families import FAMILIES, family_tokenizer

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.detection import detect_format
from bvpo_analysis.lrm.formats import ThinkFormat, flagged, render_prompt, render_turn

USER = {"role": "user", "content": "2 < 3?"}
SYSTEM = {"role": "system", "content": "be brief"}


def test_the_pieces_rebuild_what_the_template_writes():
    for name in ("qwen3", "qwen3_opens", "glm", "lfm", "smollm3"):
        tokenizer = family_tokenizer(name)
        pieces = detect_format(tokenizer)
        for prompt in ([USER], [SYSTEM, USER]):
            whole = render_turn(tokenizer, pieces, prompt, "no:\ncount", "yes")
            built = render_prompt(tokenizer, pieces, prompt) + pieces.open + "no:\ncount" + pieces.close + "yes"
            assert whole.startswith(built), name
            assert whole[len(built) :].removeprefix(pieces.end).strip() == "", name


def test_rendering_leaves_the_messages_as_they_were():
    tokenizer = family_tokenizer("nemotron")
    pieces = detect_format(tokenizer)
    prompt = (dict(SYSTEM), dict(USER))
    render_turn(tokenizer, pieces, prompt, "t", "a")
    render_prompt(tokenizer, pieces, prompt, empty=True)
    assert prompt == (SYSTEM, USER)


def test_a_flag_goes_into_the_system_message_once():
    tokenizer = family_tokenizer("nemotron")
    pieces = detect_format(tokenizer)
    text = render_prompt(tokenizer, pieces, [SYSTEM, USER], empty=True)
    assert text.count("be brief") == 1
    assert "/no_think" not in text
    assert text.endswith("<think>\n\n</think>\n\n")
    assert flagged([USER], "") == [USER]


def test_a_template_that_refuses_the_messages_is_named():
    tokenizer = family_tokenizer("gemma2")
    pieces = ThinkFormat("<think>", "</think>", "", "<end_of_turn>")
    with pytest.raises(InputError, match=r"refuses the messages .this model has no system role.; change prompt"):
        render_prompt(tokenizer, pieces, [SYSTEM, USER])
    tokenizer.chat_template = "{{ messages[0].content.nothing() }}"
    with pytest.raises(InputError, match="refuses the messages"):
        render_prompt(tokenizer, pieces, [USER])
    tokenizer.chat_template = "{{ messages "
    with pytest.raises(InputError, match="refuses the messages"):
        render_prompt(tokenizer, pieces, [USER])


def test_tags_are_the_texts_around_a_trace_without_white_space():
    found = detect_format(family_tokenizer("qwen3_opens"))
    assert (found.open, found.opener, found.tags) == ("", "<think>\n", ("<think>", "</think>"))
    assert detect_format(family_tokenizer("glm")).tags == ("<think>", "</think>")
    assert set(FAMILIES) >= {"qwen3", "llama", "gemma2", "smollm3", "gpt_neox"}
