"""How a model writes a reasoning trace: the text pieces around trace and answer, read off its chat template.

A completed assistant turn is ``open + trace + close + answer + end``; without thinking it is ``empty + answer + end``.
The pieces are found by rendering the template with sentinels for trace and answer, so a template that drops traces
from completed turns, or that a mode switch does not reach, is found out here and not in a wrong number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jinja2

from bvpo_analysis.errors import InputError

EmptyMode = Literal["prefilled", "generated"]
"""Whether the empty block is given to the model (not scored) or written by it (scored)."""

_TRACE, _ANSWER, _PROMPT = "trace0sentinel", "answer0sentinel", "prompt0sentinel"


@dataclass(frozen=True)
class ThinkFormat:
    """Text pieces of a completed turn, after the generation prompt.

    Attributes:
        open: what precedes the trace, written by the model (``<think>``).
        close: what stands between trace and answer (``</think>``).
        empty: the whole empty block (``<think></think>``).
        end: the end-of-turn token.
    """

    open: str
    close: str
    empty: str
    end: str

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "ThinkFormat":
        """Read the pieces off the chat template.

        Raises:
            InputError: no chat template, a template that drops the trace of a completed turn, or one in which
                ``enable_thinking=False`` has no effect.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("the tokenizer has no chat template; set tokenizer.chat_template before saving the model")
        user = {"role": "user", "content": _PROMPT}
        turn = {"role": "assistant", "content": _ANSWER, "reasoning_content": _TRACE}
        opening = _render(tokenizer, [user], generation=True)
        whole = _render(tokenizer, [user, turn], generation=False)
        if not whole.startswith(opening) or _ANSWER not in whole:
            raise InputError("the chat template does not continue its own generation prompt; cannot locate the answer")
        rest = whole[len(opening) :]
        if _TRACE not in rest:
            raise InputError(
                "the chat template drops the reasoning trace of a completed turn; "
                "use a template that renders reasoning_content"
            )
        before, after = rest.split(_TRACE, 1)
        close = after.split(_ANSWER, 1)[0]
        without = _render(tokenizer, [user], generation=True, enable_thinking=False)
        empty = without[len(opening) :] if without.startswith(opening) else ""
        if not empty:
            raise InputError(
                "enable_thinking=False has no effect in the chat template, so there is no empty-trace mode; "
                "use a template that writes an empty think block"
            )
        return cls(open=before, close=close, empty=empty, end=tokenizer.eos_token)


def _render(tokenizer: Any, messages: Sequence[Mapping[str, str]], *, generation: bool, **options: Any) -> str:
    turns = [dict(message) for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation, **options))
    except jinja2.TemplateError as error:
        raise InputError(f"the chat template refuses the messages ({error}); change prompt or template") from error


def render_prompt(tokenizer: Any, prompt: Sequence[Mapping[str, str]]) -> str:
    """The prompt up to and including the generation prompt, in thinking mode."""
    return _render(tokenizer, prompt, generation=True)


def render_turn(tokenizer: Any, prompt: Sequence[Mapping[str, str]], trace: str, answer: str) -> str:
    """Prompt and completed turn as the chat template itself writes them."""
    turn = {"role": "assistant", "content": answer, "reasoning_content": trace}
    return _render(tokenizer, [*prompt, turn], generation=False)
