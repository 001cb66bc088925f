"""Think formats found by what chat templates do, by the table of known formats, and by options."""

import chat_templates
import pytest
from families import FAMILIES, INLINE, family_tokenizer

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.detection import KNOWN_FORMATS, detect_format, pin_dates
from bvpo_analysis.lrm.formats import render_prompt
from bvpo_analysis.lrm.sequences import SequenceAssembler

USER = {"role": "user", "content": "2 < 3?"}
# open, close, opener, keeps, end, name; then the ends of the thinking and of the empty prompt.
EXPECTED = {
    "qwen3": ("<think>\n", "\n</think>\n\n", "", "field", "<|im_end|>", "Qwen3", "assistant\n"),
    "qwen3_opens": ("", "\n</think>\n\n", "<think>\n", "field", "<|im_end|>", "Qwen3", "assistant\n<think>\n"),
    "r1_distill_qwen": (
        "",
        "\n</think>\n\n",
        "<think>\n",
        "cut",
        "<｜end▁of▁sentence｜>",
        "DeepSeek-R1",
        "｜><think>\n",
    ),
    "r1_model_opens": (
        "<think>\n",
        "\n</think>\n\n",
        "",
        "cut",
        "<｜end▁of▁sentence｜>",
        "DeepSeek-R1",
        "<｜Assistant｜>",
    ),
    "qwq": ("", "\n</think>\n\n", "<think>\n", "cut", "<|im_end|>", "think tags", "assistant\n<think>\n"),
    "llama": ("<think>\n", "\n</think>\n\n", "", "inline", "<|eot_id|>", "options", "<|end_header_id|>\n\n"),
    "nemotron": ("<think>\n", "\n</think>\n\n", "", "cut", "<|eot_id|>", "Nemotron", "<|end_header_id|>\n\n"),
    "gemma2": ("<think>\n", "\n</think>\n\n", "", "inline", "<end_of_turn>", "options", "<start_of_turn>model\n"),
    "gemma3": ("<think>\n", "\n</think>\n\n", "", "inline", "<end_of_turn>", "options", "<start_of_turn>model\n"),
    "gemma4": ("<|channel>thought\n", "<channel|>", "", "cut", "<turn|>", "Gemma 4", "<|turn>model\n"),
    "smollm3": ("<think>\n", "\n</think>\n", "", "inline", "<|im_end|>", "SmolLM3", "assistant\n"),
    "gpt_neox": ("<think>\n", "\n</think>\n\n", "", "inline", "<|endoftext|>", "options", "assistant: "),
    "glm": ("\n<think>", "</think>\n", "", "field", "<|user|>", "GLM", "<|assistant|>"),
    "channels": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "",
        "field",
        "<|return|>",
        "gpt-oss",
        "<|start|>assistant",
    ),
    "lfm": ("<think>", "</think>", "", "field", "<|im_end|>", "think tags", "assistant\n"),
    "deepseek_v31": (
        "",
        "</think>",
        "<think>",
        "cut",
        "<｜end▁of▁sentence｜>",
        "DeepSeek-V3",
        "<｜Assistant｜><think>",
    ),
}
# What follows the thinking prompt in mode "generated", and how the prompt with a prefilled empty trace ends.
BLANK = "<think>\n\n</think>\n\n"
EMPTY = {
    "qwen3": (BLANK, "assistant\n" + BLANK),
    "qwen3_opens": ("\n</think>\n\n", "assistant\n" + BLANK),
    "r1_distill_qwen": ("\n</think>\n\n", "<｜Assistant｜>" + BLANK),
    "r1_model_opens": (BLANK, "<｜Assistant｜>" + BLANK),
    "qwq": ("\n</think>\n\n", "assistant\n" + BLANK),
    "llama": (BLANK, "<|end_header_id|>\n\n" + BLANK),
    "nemotron": (BLANK, "<|end_header_id|>\n\n" + BLANK),
    "gemma2": (BLANK, "model\n" + BLANK),
    "gemma3": (BLANK, "model\n" + BLANK),
    "gemma4": ("<|channel>thought\n<channel|>", "2 < 3?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"),
    "smollm3": ("<think>\n\n</think>\n", "assistant\n<think>\n\n</think>\n"),
    "gpt_neox": (BLANK, "assistant: " + BLANK),
    "glm": ("\n<think></think>\n", "2 < 3?/nothink<|assistant|>\n<think></think>\n"),
    "channels": ("<|channel|>final<|message|>", "<|start|>assistant<|channel|>final<|message|>"),
    "lfm": ("<think></think>", "assistant\n<think></think>"),
    "deepseek_v31": ("</think>", "<｜Assistant｜></think>"),
}


def tokenizer_and_format(name):
    tokenizer, options = family_tokenizer(name), dict(FAMILIES[name].options)
    tokenizer.chat_template = options.pop("chat_template", tokenizer.chat_template)
    return tokenizer, detect_format(tokenizer, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_format_of_each_family(name):
    tokenizer, found = tokenizer_and_format(name)
    *pieces, prompt_end = EXPECTED[name]
    assert [found.open, found.close, found.opener, found.keeps, found.end, found.name] == pieces
    assert render_prompt(tokenizer, found, [USER]).endswith(prompt_end)


@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_to_an_empty_trace(name):
    tokenizer, found = tokenizer_and_format(name)
    generated, prefilled = EMPTY[name]
    assert found.empty == generated
    assert render_prompt(tokenizer, found, [USER], empty=True).endswith(prefilled)
    # A trace that happens to be empty is the generated empty block, but where a format has another way to say it.
    if name not in ("channels",):
        assert "".join((found.opener + found.open + found.close).split()) == "".join(
            (found.opener + found.empty).split()
        )


def test_the_template_in_the_box(lrm):
    found = detect_format(lrm.tokenizer)
    assert (found.open, found.close, found.empty, found.end) == ("<think>", "</think>", "<think></think>", "<|end|>")
    assert (found.opener, found.prefill, found.keeps) == ("", "", "field")
    assert found == lrm.assembler.format


def test_switches_are_found_by_their_effect():
    switches = {}
    for name in FAMILIES:
        _, found = tokenizer_and_format(name)
        switches[name] = (*found.without, found.flag)
    assert switches.pop("deepseek_v31") == ("thinking", "")
    assert switches.pop("nemotron") == ("/no_think",)
    assert {name for name, switch in switches.items() if switch == ("enable_thinking", "")} == {
        "qwen3",
        "qwen3_opens",
        "smollm3",
        "glm",
        "gemma4",
    }
    assert set(switches.values()) == {("enable_thinking", ""), ("",)}


def test_options_replace_what_is_found():
    tokenizer = family_tokenizer("qwen3")
    found = detect_format(tokenizer, think_open="<think>", think_close="</think>", think_empty="<think> </think>")
    assert (found.open, found.close, found.empty, found.name) == ("<think>", "</think>", "<think> </think>", "options")
    assert render_prompt(tokenizer, found, [USER], empty=True).endswith("assistant\n<think> </think>")
    opened = detect_format(family_tokenizer("qwq"), think_open="<think>", think_close="</think>", think_empty=BLANK)
    assert (opened.opener, opened.open, opened.empty) == ("<think>\n", "", "\n</think>\n\n")


def test_a_system_text_that_speaks_of_the_tags_opens_nothing():
    """SmolLM3's own says how to use the tags; the prompt does not end with one."""
    tokenizer = family_tokenizer("smollm3")
    tokenizer.chat_template = chat_templates.SMOLLM3.replace(
        "'You are a helpful assistant.'", "'Use <think> Thought </think> Solution.'"
    )
    found = detect_format(tokenizer)
    assert (found.open, found.close, found.opener) == ("<think>\n", "\n</think>\n", "")
    assert found.empty == "<think>\n\n</think>\n"


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("qwen3", lambda t: None, "no chat template; give one with --chat-template FILE"),
        ("llama", lambda t: t, "says nothing about a reasoning trace; say .* --think-open"),
        ("qwen3", lambda t: t.replace("message.content.lstrip('\\n')", "''"), "cannot locate the answer"),
        (
            "qwq",
            lambda t: t.replace("message.content.split('</think>')[-1].lstrip('\\n')", "''"),
            "cannot locate the ans",
        ),
        (
            "qwen3",
            lambda t: t.replace("'<|im_start|>assistant\\n' }}\n{%- if loop", "'BOT' }}\n{%- if loop"),
            "continue",
        ),
        ("qwen3", lambda t: t.replace("+ '\\n</think>\\n\\n'", "+ '\\n'"), "nothing between trace and answer"),
        (
            "qwen3",
            lambda t: t.replace("{{- '<|im_end|>\\n' }}", "{{- '[STOP]' }}"),
            "ends a turn with '.STOP.', which is no",
        ),
    ],
    ids=["none", "silent", "drops answers", "drops answers and traces", "no continuation", "no close", "no end token"],
)
def test_unfit_templates_are_refused_with_the_remedy(family, change, says):
    tokenizer = family_tokenizer(family)
    changed = change(tokenizer.chat_template)
    assert changed is None or changed != tokenizer.chat_template or family == "llama"
    tokenizer.chat_template = changed
    with pytest.raises(InputError, match=says):
        detect_format(tokenizer)
    with pytest.raises(InputError, match=says):
        SequenceAssembler(tokenizer)


def test_a_turn_without_any_end_token_is_refused():
    tokenizer = family_tokenizer("llama")
    tokenizer.chat_template = chat_templates.LLAMA.replace("+ '<|eot_id|>'", "")
    assert detect_format(tokenizer, **INLINE).end == "<|eot_id|>"  # its eos
    tokenizer.eos_token = None
    with pytest.raises(
        InputError, match=r"no end-of-turn token and its chat template writes none; set tokenizer.eos_tok"
    ):
        detect_format(tokenizer, **INLINE)


def test_known_formats_have_distinct_names_and_markers_in_order():
    names = [known.name for known in KNOWN_FORMATS]
    assert len(set(names)) == len(names)
    assert names[-1] == "think tags"  # matches everything with tags, so it must come last


def test_dates_are_held():
    template = chat_templates.SMOLLM3
    pinned = pin_dates(template, "2025-01-01")
    assert "strftime_now" in template
    assert "strftime_now" not in pinned
    assert "'01 January 2025'" in pinned
    assert "'2025-01-01'" in pin_dates(chat_templates.CHANNELS, "2025-01-01")
    assert pin_dates(chat_templates.QWEN3, "2025-01-01") == chat_templates.QWEN3
