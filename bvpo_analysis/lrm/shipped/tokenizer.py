"""Tokenizer and chat template of the LRM in the box.

One token per character, except the style words `` sure`` and `` ok``, which are one token each with their
leading space. No token spans a boundary between prompt, trace and answer, so separately encoded pieces
concatenate to the encoding of the whole text, and decoding reproduces the text exactly. A character outside
the task's alphabet raises: there is no unknown token that would hide it. The chat template renders
``<|user|>PROMPT<|assistant|><think>TRACE</think>ANSWER<|end|>``; ``enable_thinking=False`` prefills the
empty block ``<think></think>`` in the generation prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bvpo_analysis.lrm.shipped.task import LETTERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, USER, ASSISTANT, END, THINK, END_THINK = SPECIAL_TOKENS = (
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<think>",
    "</think>",
)
#: The token of each id: specials, digits, letters, and the characters of traces and endings.
VOCABULARY: tuple[str, ...] = (*SPECIAL_TOKENS, *"0123456789", *LETTERS, *"= .!", " sure", " ok")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{- '<|user|>' + message.content -}}
{%- elif message.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- if message.reasoning_content or '</think>' not in message.content -%}
{{- '<think>' + (message.reasoning_content or '') + '</think>' -}}
{%- endif -%}
{{- message.content + '<|end|>' -}}
{%- else -%}
{{- raise_exception("roles are 'user' and 'assistant', got '" + message.role + "'") -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- if enable_thinking is defined and not enable_thinking -%}
{{- '<think></think>' -}}
{%- endif -%}
{%- endif -%}"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as a Hugging Face fast tokenizer, 32 tokens.

    >>> tokenizer = build_tokenizer()
    >>> tokenizer.tokenize("<think>b7=1</think>1b sure.")
    ['<think>', 'b', '7', '=', '1', '</think>', '1', 'b', ' sure', '.']
    >>> tokenizer.apply_chat_template([{"role": "user", "content": "a3b7c2d9"}], tokenize=False,
    ...                               add_generation_prompt=True, enable_thinking=False)
    '<|user|>a3b7c2d9<|assistant|><think></think>'
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" sure| ok|[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    # The think tags are ordinary text for readers, so they are matched whole but survive skip_special_tokens.
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, USER, ASSISTANT, END)])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in (THINK, END_THINK)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        padding_side="right",
        chat_template=CHAT_TEMPLATE,
    )


def prompt_text(prompt: str, *, empty: bool) -> str:
    """The generation prompt that the chat template renders for one user message.

    >>> prompt_text("a3b7c2d9", empty=True)
    '<|user|>a3b7c2d9<|assistant|><think></think>'
    """
    return f"{USER}{prompt}{ASSISTANT}" + (f"{THINK}{END_THINK}" if empty else "")
