"""Loading a tokenizer as its file describes it, with a chat template that says the same every day."""

from pathlib import Path
from typing import Any

import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import cached_file

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.detection import pin_dates
from bvpo_analysis.lrm.options import ModelOptions

PROBE_TEXT = "What is 12 × 34?\n\n<think>\nSo größer → 7.5,  it's x_1. \n</think>\n\nIt is 408."
"""Digits, letters of several bytes, white space and tags: where tokenizers differ."""
TEMPLATE_DAY = "2025-01-01"
"""The date that templates which print today's date are held at."""


def load_tokenizer(source: str, options: ModelOptions, *, local: bool) -> tuple[Any, list[str]]:
    """The tokenizer of a model and what was decided about it.

    The class that the library picks for a model type can bring rules of its own for splitting text. Where they are not
    those of ``tokenizer.json``, the file decides: it is what the model was trained with.

    Args:
        source: folder or hub id.
        options: revision, trust_remote_code and chat_template are used.
        local: ask no network.

    Raises:
        InputError: the chat template file is not UTF-8 text; errors of the library pass through.
    """
    common: dict[str, Any] = {"revision": options.revision, "local_files_only": local}
    notes: list[str] = []
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=options.trust_remote_code, **common)
    file = cached_file(
        source,
        "tokenizer.json",
        revision=options.revision,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is not None and not _same(tokenizer, tokenizers.Tokenizer.from_file(str(file))):
        plain = PreTrainedTokenizerFast.from_pretrained(source, **common)
        notes.append(
            f"{type(tokenizer).__name__}, which the library picks for this model, splits text otherwise than its "
            "tokenizer.json; the file is used"
        )
        tokenizer = plain
    if options.chat_template is not None:
        try:
            tokenizer.chat_template = Path(options.chat_template).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{options.chat_template}: not UTF-8 text; give --chat-template a text file") from error
        notes.append(f"chat template from {options.chat_template}")
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
        tokenizer.chat_template = template
    if isinstance(template, str) and (pinned := pin_dates(template, TEMPLATE_DAY)) != template:
        tokenizer.chat_template = pinned
        notes.append(f"the chat template prints today's date; it is held at {TEMPLATE_DAY}")
    return tokenizer, notes


def _same(tokenizer: Any, file: tokenizers.Tokenizer) -> bool:
    """Whether a loaded tokenizer has the rules of its file, and spells a probe like it."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return True  # a tokenizer in Python, which has no such file
    if repr(core.normalizer) != repr(file.normalizer) or repr(core.pre_tokenizer) != repr(file.pre_tokenizer):
        return False
    try:
        expected = file.encode(PROBE_TEXT, add_special_tokens=False).ids
    except Exception:  # a vocabulary of words that cannot spell the probe; the library raises nothing more specific
        return True
    return bool(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"] == expected)
