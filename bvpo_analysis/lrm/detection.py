"""Finding a model's think format: by what its chat template does, then by its name, then by the user's word.

The template is rendered with sentinels for prompt, trace and answer, thinking on and off. What it does is found out
here, and not in a wrong number: that it cuts the trace from a completed turn (then only a table of known formats, or
the user, can say what the model writes around it), that the generation prompt opens the trace, or that a switch has no
effect.

Documented behaviour that the table of known formats relies on: DeepSeek-R1 and its distillations write
``<think>``, a line break, the trace, a line break, ``</think>``, an empty line and the answer, and their templates
delete everything up to ``</think>`` from completed turns; later editions, like QwQ, open the trace in the generation
prompt. DeepSeek-V3.1 puts the bare tags, and only ``</think>`` where thinking is off. GLM-4.5 and later put a line
break before the opening tag, and end a turn with the next role's token. gpt-oss writes channels of the Harmony
format, Gemma 4 a channel named thought.
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import REASONING_KEYS, ThinkFormat, flagged, render

_TRACE, _ANSWER, _PROMPT = "trace0sentinel", "answer0sentinel", "prompt0sentinel"
_USER = {"role": "user", "content": _PROMPT}
SWITCHES = ("enable_thinking", "thinking")
"""Template arguments that switch thinking on and off."""
FLAG = "/no_think"
"""Text of a system message that switches thinking off."""


@dataclass(frozen=True)
class KnownFormat:
    """What a family writes around trace and answer, for where its template does not say.

    Attributes:
        name: the family.
        marker: regular expression found in its chat template.
        open, close: the texts around the trace.
        end: the token that ends a turn, where the template writes none.
    """

    name: str
    marker: str
    open: str = "<think>\n"
    close: str = "\n</think>\n\n"
    end: str = ""


KNOWN_FORMATS: tuple[KnownFormat, ...] = (
    KnownFormat(
        "gpt-oss",
        r"<\|channel\|>analysis",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    KnownFormat("Gemma 4", r"<\|channel>thought", "<|channel>thought\n", "<channel|>"),
    KnownFormat("GLM", r"\[gMASK\]", "\n<think>", "</think>\n", "<|user|>"),
    KnownFormat("DeepSeek-V3", r"<｜Assistant｜>['\"\s+{}]*</think>", "<think>", "</think>"),
    KnownFormat("DeepSeek-R1", r"<｜Assistant｜>"),
    KnownFormat("SmolLM3", r"Reasoning Mode", close="\n</think>\n"),
    KnownFormat("Nemotron", r"(?s)/no_think.*</think>"),
    KnownFormat("LFM2", r"(?s)keep_past_thinking|preserve_thinking.*message\.thinking", "<think>", "</think>"),
    KnownFormat("Qwen3", r"(?s)enable_thinking.*</think>"),
    KnownFormat("think tags", r"</think>"),
)
"""Formats by a mark of their chat templates, the more particular ones first."""


def detect_format(
    tokenizer: Any,
    *,
    think_open: str | None = None,
    think_close: str | None = None,
    think_empty: str | None = None,
) -> ThinkFormat:
    """The think format of a tokenizer's chat template.

    Args:
        tokenizer: a Hugging Face tokenizer.
        think_open, think_close, think_empty: the user's word, which replaces what is found.

    Raises:
        InputError: no chat template; a template that neither shows nor is known to belong to a format; or one that
            cannot be followed.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        raise InputError(
            "the tokenizer has no chat template; give one with --chat-template FILE, or set tokenizer.chat_template "
            "before saving the model"
        )
    source = template if isinstance(template, str) else str(template)
    known = next((k for k in KNOWN_FORMATS if re.search(k.marker, source)), None)
    found = _switch(tokenizer)
    if think_close is not None:
        found = replace(_given(tokenizer, found, think_open or "", think_close), name="options")
    else:
        shown = _shown(tokenizer, found)
        if shown is not None:
            found = replace(shown, name=known.name if known else "chat template")
        elif known is not None:
            found = replace(_given(tokenizer, found, known.open, known.close), name=known.name)
        else:
            raise InputError(
                "the chat template says nothing about a reasoning trace; say what your model writes around it, such "
                "as --think-open '<think>\\n' --think-close '\\n</think>\\n\\n'"
            )
    found = replace(found, end=_end(tokenizer, found, known))
    return _with_empty(tokenizer, found, think_empty)


def _switch(tokenizer: Any) -> ThinkFormat:
    """How thinking is switched on and off, if it is."""
    bare = ThinkFormat(open="", close="", empty="", end="")
    for name in SWITCHES:
        on, off = ({name: value} for value in (True, False))
        texts = [render(tokenizer, [_USER], generation=True, options=options) for options in (on, off)]
        if texts[0] != texts[1]:
            return replace(bare, thinking=on, without=off)
    try:
        plain = render(tokenizer, flagged([_USER], "be brief"), generation=True)
        switched = render(tokenizer, flagged([_USER], f"be brief {FLAG}"), generation=True)
    except InputError:  # there is no system role
        return bare
    # A template that reads the flag takes it out of the text; in any other it is text like any other.
    return replace(bare, flag=FLAG) if FLAG not in switched and switched != plain else bare


def _opening(tokenizer: Any, found: ThinkFormat) -> str:
    return render(tokenizer, [_USER], generation=True, options=found.thinking)


def _turn(tokenizer: Any, found: ThinkFormat, content: str, trace: str | None = None) -> str:
    turn = {"role": "assistant", "content": content}
    if trace is not None:
        turn |= dict.fromkeys(REASONING_KEYS, trace)
    return render(tokenizer, [_USER, turn], generation=False, options=found.thinking)


def _shown(tokenizer: Any, found: ThinkFormat) -> ThinkFormat | None:
    """The pieces as the template writes them around a trace in a field of its own; None if it writes no such trace."""
    opening, whole = _opening(tokenizer, found), _turn(tokenizer, found, _ANSWER, _TRACE)
    if _ANSWER not in whole:
        raise InputError("the chat template writes no content of an assistant's turn; cannot locate the answer")
    if _TRACE not in whole:
        return None
    if not whole.startswith(opening) or whole.index(_TRACE) > whole.index(_ANSWER):
        raise InputError(
            f"the chat template does not continue its own generation prompt {opening[-40:]!r} in a completed turn; "
            "give --chat-template a file with one that does"
        )
    before, after = whole[len(opening) :].split(_TRACE, 1)
    close = after.split(_ANSWER, 1)[0]
    if not close.strip():
        raise InputError("the chat template puts nothing between trace and answer; give --think-open and --think-close")
    opener = "" if before.strip() else _last_tag(opening)
    return replace(found, open=before, close=close, opener=opener, keeps="field")


def _last_tag(text: str) -> str:
    """The tag, and the white space after it, with which a text ends; empty if it ends otherwise."""
    match = re.search(r"<[^<>\s]+>\s*$", text)
    return match.group() if match else ""


def _given(tokenizer: Any, found: ThinkFormat, opening_text: str, close: str) -> ThinkFormat:
    """The pieces as told, less what the generation prompt has written already."""
    prompt = _opening(tokenizer, found)
    tag = opening_text.strip()
    opener, rest = "", opening_text
    if tag and prompt.rstrip().endswith(tag):
        opener = prompt[prompt.rindex(tag) :]
        rest = opening_text[len(opener) :] if opening_text.startswith(opener) else ""
    whole = _turn(tokenizer, found, opener + rest + _TRACE + close + _ANSWER)
    if _ANSWER not in whole:
        raise InputError("the chat template writes no content of an assistant's turn; cannot locate the answer")
    inline = (prompt + rest + _TRACE + close + _ANSWER) in whole
    return replace(found, open=rest, close=close, opener=opener, keeps="inline" if inline else "cut")


def _end(tokenizer: Any, found: ThinkFormat, known: KnownFormat | None) -> str:
    """The token after the answer of a completed turn."""
    trace = _TRACE if found.keeps == "field" else None
    after = _turn(tokenizer, found, _ANSWER, trace).split(_ANSWER, 1)[1].lstrip()
    tokens = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    fitting = [token for token in tokens if token and after.startswith(token)]
    if fitting:
        return max(fitting, key=len)
    if after:
        raise InputError(
            f"the chat template ends a turn with {after[:40]!r}, which is no token of the tokenizer; give "
            "--chat-template a file with a template that ends turns with a special token"
        )
    if known and known.end in tokens:
        return known.end
    if tokenizer.eos_token is None:
        raise InputError(
            "the tokenizer has no end-of-turn token and its chat template writes none; set tokenizer.eos_token and "
            "save it again"
        )
    return str(tokenizer.eos_token)


def _with_empty(tokenizer: Any, found: ThinkFormat, given: str | None) -> ThinkFormat:
    """Add what stands for an empty trace, after the thinking prompt and after the template's own prompt without."""
    opening = _opening(tokenizer, found)
    switched = bool(found.without or found.flag)
    messages = flagged([_USER], found.flag)
    off = render(tokenizer, messages, generation=True, options=found.without) if switched else opening
    turn = {"role": "assistant", "content": _ANSWER}
    lead = render(tokenizer, [*messages, turn], generation=False, options=found.without).split(_ANSWER, 1)[0]
    if given is not None:
        empty = given.removeprefix(found.opener) if found.opener else given
        return replace(found, empty=empty, prefill=empty, without=found.thinking, flag="")
    prefill = ""
    if switched and off.rstrip().endswith(found.close.strip()):
        rest = lead[len(off) :] if lead.startswith(off) else ""
        prefill = rest if not rest.strip() else ""
        empty = _empty_block(found, opening, off + prefill)
    else:
        # What the template writes before an answer without a trace; where that is nothing, an empty trace is spelt out.
        plain = _turn(tokenizer, found, _ANSWER).split(_ANSWER, 1)[0]
        block = plain[len(opening) :] if plain.startswith(opening) else ""
        empty = prefill = block if block.strip() else found.open + found.close
    return replace(found, empty=empty, prefill=prefill)


def _empty_block(found: ThinkFormat, opening: str, off: str) -> str:
    """The empty trace in the template's prompt without thinking, as it would follow the thinking prompt."""
    if off.startswith(opening):
        return off[len(opening) :]
    opened = found.opener + found.open
    start = off.rfind(opened.strip()) if opened.strip() else -1
    if start < 0:
        return found.open + found.close
    indent = opened[: len(opened) - len(opened.lstrip())]
    start -= len(indent) if off[:start].endswith(indent) else 0
    return off[start:].removeprefix(found.opener) if found.opener else off[start:]


def pin_dates(template: str, day: str) -> str:
    """The template with today's date held at ``day`` (ISO), so that prompts do not change from day to day.

    Example:
        >>> pin_dates("{{ 'Today: ' + strftime_now('%d %B %Y') }}", "2025-07-01")
        "{{ 'Today: ' + '01 July 2025' }}"
    """
    moment = date.fromisoformat(day)
    return re.sub(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda call: repr(moment.strftime(call[2])), template)
