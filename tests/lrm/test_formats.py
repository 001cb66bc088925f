"""The pieces around trace and answer, read off chat templates of several manners; unfit templates are refused."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import ThinkFormat, render_prompt, render_turn
from bvpo_analysis.lrm.sequences import SequenceAssembler

# In the manner of Qwen3: newlines around the tags, an empty block written by enable_thinking=False, and only the
# last turn keeps its trace.
NEWLINES = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '[BOT]\\n' }}
{%- if message.reasoning_content is string and loop.last %}
{{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content + '[EOT]\\n' }}
{%- else %}
{{- '[' + message.role.upper() + ']\\n' + message.content + '[EOT]\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '[BOT]\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""

DROPS_TRACES = NEWLINES.replace("message.reasoning_content is string and loop.last", "false")
IGNORES_SWITCH = NEWLINES.replace("enable_thinking is defined and enable_thinking is false", "false")
# The generation prompt opens the trace; without thinking the block is closed at once.
OPENS_IN_PROMPT = NEWLINES.replace(
    "{{- '[BOT]\\n' }}\n{%- if enable", "{{- '[BOT]\\n<think>\\n' }}\n{%- if enable"
).replace("{{- '<think>\\n\\n</think>", "{{- '\\n</think>")
OTHER_END = NEWLINES.replace("message.content + '[EOT]\\n' }}\n{%- else", "message.content + '[STOP]' }}\n{%- else")

USER = {"role": "user", "content": "2 < 3?"}


def byte_tokenizer(template=NEWLINES, **special):
    """Byte-level tokens, no merges: every text survives."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[EOT]", *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["[PAD]", "[EOT]"])
    names = {"pad_token": "[PAD]", "eos_token": "[EOT]", **special}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, chat_template=template, **{k: v for k, v in names.items() if v is not None}
    )


def test_the_template_in_the_box(lrm):
    assert ThinkFormat.from_tokenizer(lrm.tokenizer) == ThinkFormat("<think>", "</think>", "<think></think>", "<|end|>")


def test_newlines_belong_to_the_pieces():
    found = ThinkFormat.from_tokenizer(byte_tokenizer())
    assert found == ThinkFormat("<think>\n", "\n</think>\n\n", "<think>\n\n</think>\n\n", "[EOT]")


def test_an_opener_in_the_prompt_is_not_written_by_the_model():
    found = ThinkFormat.from_tokenizer(byte_tokenizer(OPENS_IN_PROMPT))
    assert found == ThinkFormat("", "\n</think>\n\n", "\n</think>\n\n", "[EOT]")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (DROPS_TRACES, "drops the reasoning trace of a completed turn; use a template that renders reasoning_content"),
        (IGNORES_SWITCH, "enable_thinking=False has no effect in the chat template.*use a template that writes an emp"),
        (None, "the tokenizer has no chat template; set tokenizer.chat_template"),
        (DROPS_TRACES.replace("'[BOT]\\n' }}\n{%- if enable", "'[BOT]<think>' }}\n{%- if enable"), "does not continue"),
        ("{%- for message in messages %}{{ message.role }}{%- endfor %}", "cannot locate the answer"),
    ],
    ids=["drops traces", "ignores the switch", "no template", "opens in the prompt only", "drops answers"],
)
def test_unfit_templates_are_refused_with_the_remedy(template, says):
    with pytest.raises(InputError, match=says):
        ThinkFormat.from_tokenizer(byte_tokenizer(template))
    with pytest.raises(InputError, match=says):
        SequenceAssembler(byte_tokenizer(template))


@pytest.mark.parametrize("template", [NEWLINES, OPENS_IN_PROMPT], ids=["newlines", "opener in prompt"])
def test_the_pieces_rebuild_what_the_template_writes(template):
    tokenizer = byte_tokenizer(template)
    pieces = ThinkFormat.from_tokenizer(tokenizer)
    for prompt in ([USER], [{"role": "system", "content": "be brief"}, USER]):
        whole = render_turn(tokenizer, prompt, "no:\ncount", "yes")
        built = render_prompt(tokenizer, prompt) + pieces.open + "no:\ncount" + pieces.close + "yes" + pieces.end
        assert whole.startswith(built)
        assert whole[len(built) :].strip() == ""


def test_rendering_leaves_the_messages_as_they_were():
    prompt = (dict(USER),)
    render_turn(byte_tokenizer(), prompt, "t", "a")
    render_prompt(byte_tokenizer(), prompt)
    assert prompt == (USER,)


@pytest.mark.parametrize(("token", "says"), [("pad_token", "no padding token"), ("eos_token", "no end-of-turn token")])
def test_a_missing_special_token_is_named_with_the_remedy(token, says):
    with pytest.raises(InputError, match=f"{says}; set tokenizer.{token} and save it again"):
        SequenceAssembler(byte_tokenizer(**{token: None}))


def test_a_template_that_ends_turns_otherwise_is_found_out():
    assembler = SequenceAssembler(byte_tokenizer(OTHER_END))
    with pytest.raises(InputError, match="the chat template changes trace or answer"):
        assembler.check_round_trip([USER], "t", "a")
