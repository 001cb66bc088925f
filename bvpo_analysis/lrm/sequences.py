"""Token sequences with spans: prompt | trace part | answer part, assembled from separately tokenised pieces.

Pieces are tokenised one by one and concatenated, so that the boundary between trace and answer falls between two
tokens whatever the tokenizer would merge across it, and the same trace has the same tokens with every answer. The
scored part starts after the prompt (thinking), after the empty block (empty trace, prefilled) or at the empty block
(empty trace, generated); nothing after the end-of-turn token exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import EmptyMode, ThinkFormat, render_prompt, render_turn


@dataclass(frozen=True)
class TokenSequence:
    """One sequence to score.

    Attributes:
        ids: token ids, end of turn included.
        score_start: index of the first scored token; ids before it are given.
        answer_start: index of the first token of the answer part; scored ids before it are the trace part. The length
            of ``ids`` where there is no answer part.

    Example:
        >>> s = TokenSequence(ids=(7, 8, 1, 5, 2, 9, 3), score_start=2, answer_start=5)
        >>> s.tokens, s.tokens_answer
        (5, 2)
    """

    ids: tuple[int, ...]
    score_start: int
    answer_start: int

    def __post_init__(self) -> None:
        if not 1 <= self.score_start <= self.answer_start <= len(self.ids) or self.score_start == len(self.ids):
            raise ValueError(
                f"spans out of order: 1 <= score_start {self.score_start} <= answer_start {self.answer_start} "
                f"<= length {len(self.ids)} with at least one scored token is required"
            )

    @property
    def tokens(self) -> int:
        """Number of scored tokens."""
        return len(self.ids) - self.score_start

    @property
    def tokens_answer(self) -> int:
        """Number of scored tokens of the answer part."""
        return len(self.ids) - self.answer_start


class SequenceAssembler:
    """Builds :class:`TokenSequence` objects for one tokenizer and :class:`ThinkFormat`.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template and a padding token.
        think_format: the pieces around trace and answer; read off the template when not given.

    Raises:
        InputError: the tokenizer has no padding or end-of-turn token, or its template is unfit.
    """

    def __init__(self, tokenizer: Any, think_format: ThinkFormat | None = None):
        if tokenizer.pad_token_id is None:
            raise InputError("the tokenizer has no padding token; set tokenizer.pad_token and save it again")
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-turn token; set tokenizer.eos_token and save it again")
        self.tokenizer = tokenizer
        self.format = think_format or ThinkFormat.from_tokenizer(tokenizer)
        self._encode = lru_cache(maxsize=65536)(self._encode_text)

    def _encode_text(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        except Exception as error:  # the tokenizers library raises nothing more specific
            shown = text if len(text) <= 60 else text[:57] + "..."
            raise InputError(
                f"the tokenizer cannot encode {shown!r} ({error}); is --model the model of these data?"
            ) from error

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of one piece of text, no special tokens added."""
        return self._encode(text)

    def prompt(self, prompt: Sequence[Mapping[str, str]], *, empty: bool = False) -> tuple[int, ...]:
        """Ids of the generation prompt, followed by the prefilled empty block if ``empty``."""
        ids = self.encode(render_prompt(self.tokenizer, prompt))
        return ids + self.encode(self.format.empty) if empty else ids

    def with_trace(self, prompt: Sequence[Mapping[str, str]], trace: str, answer: str) -> TokenSequence:
        """(r, y) given x, all of r and y scored."""
        given = self.prompt(prompt)
        thought = self.encode(self.format.open) + self.encode(trace) + self.encode(self.format.close)
        ids = given + thought + self._ended(answer)
        return TokenSequence(ids, score_start=len(given), answer_start=len(given) + len(thought))

    def trace_only(self, prompt: Sequence[Mapping[str, str]], trace: str) -> TokenSequence:
        """r given x: a closed trace without an answer."""
        given = self.prompt(prompt)
        thought = self.encode(self.format.open) + self.encode(trace) + self.encode(self.format.close)
        return TokenSequence(given + thought, score_start=len(given), answer_start=len(given) + len(thought))

    def with_empty_trace(
        self, prompt: Sequence[Mapping[str, str]], answer: str, mode: EmptyMode = "prefilled"
    ) -> TokenSequence:
        """(empty, y) given x; the empty block is scored only in mode "generated"."""
        given = self.prompt(prompt)
        block = self.encode(self.format.empty)
        ids = given + block + self._ended(answer)
        start = len(given) + (len(block) if mode == "prefilled" else 0)
        return TokenSequence(ids, score_start=start, answer_start=len(given) + len(block))

    def _ended(self, answer: str) -> tuple[int, ...]:
        return (*self.encode(answer), self.tokenizer.eos_token_id)

    def check_round_trip(self, prompt: Sequence[Mapping[str, str]], trace: str, answer: str) -> None:
        """Hold the assembled text of a turn against the chat template's own.

        Raises:
            InputError: the texts differ, or a piece does not survive encoding and decoding.
        """
        self.prompt(prompt)  # every piece must be encodable
        expected = render_turn(self.tokenizer, prompt, trace, answer)
        ours = render_prompt(self.tokenizer, prompt) + self.format.open + trace + self.format.close + answer
        if not expected.startswith(ours + self.format.end):
            raise InputError(
                f"the chat template changes trace or answer: expected text starting with "
                f"{ours[-60:] + self.format.end!r}, the template wrote {expected[-80:]!r}"
            )
        for name, piece in (("trace", trace), ("answer", answer)):
            decoded = self.tokenizer.decode(self.encode(piece), clean_up_tokenization_spaces=False)
            if decoded != piece:
                raise InputError(
                    f"the tokenizer does not preserve the {name} {piece[:60]!r}: it reads {decoded[:60]!r}"
                )

    def split(self, ids: Sequence[int]) -> tuple[str | None, str | None]:
        """Read generated ids (after the generation prompt) as (trace, answer).

        Returns:
            (trace, answer) of a complete turn; (trace, None) when the turn never ends;
            (None, None) when the trace never closes.
        """
        ended = len(ids) > 0 and ids[-1] == self.tokenizer.eos_token_id
        text = self.tokenizer.decode(
            list(ids[:-1] if ended else ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if not text.startswith(self.format.open) or self.format.close not in text:
            return None, None
        trace, answer = text[len(self.format.open) :].split(self.format.close, 1)
        return trace, answer if ended else None
