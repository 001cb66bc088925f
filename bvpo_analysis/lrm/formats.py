"""How a model writes a reasoning trace: the text pieces around trace and answer, and the prompts they follow.

A completed assistant turn is ``open + trace + close + answer + end``, after a generation prompt that may have opened
the trace already; without thinking it is ``empty + answer + end``, or the answer alone after a prompt in which the
template itself has switched thinking off. :mod:`bvpo_analysis.lrm.detection` finds the pieces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jinja2

from bvpo_analysis.errors import InputError

EmptyMode = Literal["prefilled", "generated"]
"""Whether the empty block is given to the model (not scored) or written by it (scored)."""

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Where templates look for the trace of a message; all are given, each template reads its own."""


@dataclass(frozen=True)
class ThinkFormat:
    """Text pieces of a completed turn, and how the chat template is asked to think or not.

    Attributes:
        open: what the model writes before the trace (``<think>``); empty if the generation prompt opens the trace.
        close: what stands between trace and answer (``</think>``).
        empty: the whole of an empty trace after the thinking prompt (``<think></think>``).
        end: the token that ends a turn.
        opener: end of the generation prompt that opens the trace; empty if the model does that.
        prefill: what follows the template's own prompt without thinking, before the answer.
        thinking: arguments of the template that switch thinking on.
        without: arguments that switch it off.
        flag: text of a system message that switches it off, for templates that read one.
        keeps: what the template does with the trace of a completed turn: writes it from its own "field", leaves it
            "inline" in the content, or has it "cut".
        name: the known format the pieces are from, or "chat template", or "options".
    """

    open: str
    close: str
    empty: str
    end: str
    opener: str = ""
    prefill: str = ""
    thinking: Mapping[str, bool] = field(default_factory=dict)
    without: Mapping[str, bool] = field(default_factory=dict)
    flag: str = ""
    keeps: Literal["field", "inline", "cut"] = "field"
    name: str = "chat template"

    @property
    def tags(self) -> tuple[str, ...]:
        """The opening and the closing text without white space: neither may occur inside a trace or an answer."""
        return tuple(tag for tag in (self.opener.strip() or self.open.strip(), self.close.strip()) if tag)


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    *,
    generation: bool,
    options: Mapping[str, bool] | None = None,
) -> str:
    """What the chat template writes for these messages, with the generation prompt or without.

    Raises:
        InputError: the template refuses the messages or fails on them.
    """
    turns = [dict(message) for message in messages]
    try:
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=generation, **dict(options or {})
        )
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise InputError(f"the chat template refuses the messages ({error}); change prompt or template") from error
    return str(text)


def render_prompt(
    tokenizer: Any, think_format: ThinkFormat, prompt: Sequence[Mapping[str, str]], *, empty: bool = False
) -> str:
    """The prompt up to and including the generation prompt, thinking or with the empty trace prefilled."""
    if not empty:
        return render(tokenizer, prompt, generation=True, options=think_format.thinking)
    messages = flagged(prompt, think_format.flag)
    return render(tokenizer, messages, generation=True, options=think_format.without) + think_format.prefill


def render_turn(
    tokenizer: Any, think_format: ThinkFormat, prompt: Sequence[Mapping[str, str]], trace: str, answer: str
) -> str:
    """Prompt and completed turn as the chat template itself writes them."""
    if think_format.keeps == "field":
        turn = {"role": "assistant", "content": answer, **dict.fromkeys(REASONING_KEYS, trace)}
    elif think_format.keeps == "inline":
        opening = think_format.opener + think_format.open
        turn = {"role": "assistant", "content": opening + trace + think_format.close + answer}
    else:
        turn = {"role": "assistant", "content": answer}
    return render(tokenizer, [*prompt, turn], generation=False, options=think_format.thinking)


def flagged(prompt: Sequence[Mapping[str, str]], flag: str) -> list[Mapping[str, str]]:
    """The prompt with ``flag`` in its system message, which is added if there is none.

    Example:
        >>> flagged([{"role": "user", "content": "x"}], "/no_think")[0]
        {'role': 'system', 'content': '/no_think'}
        >>> flagged([{"role": "system", "content": "be brief"}], "/no_think")
        [{'role': 'system', 'content': 'be brief /no_think'}]
    """
    messages = list(prompt)
    if not flag:
        return messages
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{messages[0]['content']} {flag}"}, *messages[1:]]
    return [{"role": "system", "content": flag}, *messages]
