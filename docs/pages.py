"""Small helpers of the generated pages: wrapping of prose, and the first sentence of a docstring."""

import inspect
import re
import textwrap
from typing import Any

WIDTH = 120
"""Columns of prose; tables and headings are as long as they are."""


def wrapped(text: str) -> str:
    """Markdown with its prose filled to ``WIDTH`` columns; tables, headings, code and images stay as they are.

    Example:
        >>> wrapped("a\\nb\\n\\n| x | y |")
        'a b\\n\\n| x | y |'
    """
    parts = []
    for block in re.split(r"(```.*?```)", text, flags=re.DOTALL):
        if block.startswith("```"):
            parts.append(block)
            continue
        parts.append("\n\n".join(_filled(paragraph) for paragraph in block.split("\n\n")))
    return "".join(parts)


def _filled(paragraph: str) -> str:
    if not paragraph.strip() or paragraph.lstrip().startswith(("|", "#", "![", "<")):
        return paragraph
    lead, tail = re.match(r"\n*", paragraph), re.search(r"\n*$", paragraph)
    body = paragraph.strip("\n")
    if body.startswith("* "):
        items = re.split(r"\n(?=\* )", body)
        filled = "\n".join(_fill(item, subsequent_indent="  ") for item in items)
    else:
        filled = _fill(body)
    return f"{lead[0] if lead else ''}{filled}{tail[0] if tail else ''}"


def _fill(text: str, subsequent_indent: str = "") -> str:
    """One paragraph, with no line break between a number and its per cent sign."""
    line = re.sub(r"(?<=\d) %", "\xa0%", " ".join(re.split(r"[ \n]+", text.strip())))
    return textwrap.fill(
        line, WIDTH, subsequent_indent=subsequent_indent, break_long_words=False, break_on_hyphens=False
    )


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, on one line; empty without one.

    Example:
        >>> first_sentence(first_sentence)
        'The first sentence of a docstring, on one line; empty without one.'
    """
    doc = inspect.getdoc(thing) or ""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`*])", paragraph)[0]
