"""Token sequences with spans: prompt | trace part | answer part, each tokenised by itself.

The parts are tokenised one by one and concatenated, so that the boundary between trace and answer falls between two
tokens whatever the tokenizer would merge across it, and the same trace has the same tokens with every answer. A trace
and its tags are one part: models write the last full stop and the line break before ``</think>`` as one token, and a
trace tokenised apart from its closing tag would be a sequence the model never produces. The scored part starts after
the prompt (thinking), after the empty block (empty trace, prefilled) or at the empty block (empty trace, generated);
nothing after the end-of-turn token exists.

The generation prompt followed by what the model wrote is what the model saw when it sampled, so that is what is scored,
also where the chat template would afterwards cut the trace from the completed turn. The round-trip check holds the
assembled text against the template's as far as the template goes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.detection import detect_format
from bvpo_analysis.lrm.formats import EmptyMode, ThinkFormat, render_prompt, render_turn

RoundTrip = Literal["same", "trimmed", "cut"]
"""The template writes the same text; the same but for white space at the ends of trace and answer; or no trace."""


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


@dataclass(frozen=True)
class SampledTurn:
    """Generated tokens read as a turn.

    Attributes:
        trace: the trace; None if it never closes.
        answer: the answer; None if the turn never ends.
        canonical: whether assembling trace and answer again gives the generated tokens. A tokenizer can spell a text in
            several ways and encodes it in one: where a model has written another, the sequence scored is not the one
            sampled, and its log-probability differs.
    """

    trace: str | None
    answer: str | None
    canonical: bool

    @property
    def complete(self) -> bool:
        """Whether the turn has a closed trace and an end."""
        return self.trace is not None and self.answer is not None


class SequenceAssembler:
    """Builds :class:`TokenSequence` objects for one tokenizer and :class:`ThinkFormat`.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        think_format: the pieces around trace and answer; detected when not given.
        stop_ids: tokens that end generation beside the end-of-turn token and the tokenizer's eos.
        context: longest sequence the model can read, in tokens; None for no limit.
        vocabulary: number of tokens the model has embeddings of; None for no limit.

    Attributes:
        end_id: the end-of-turn token, the last scored token of every answer.
        stop_ids: all tokens that end generation, the end-of-turn token first.
        pad_id: the token that fills up rows; it is masked everywhere, so any serves.

    Raises:
        InputError: the template is unfit.
    """

    def __init__(
        self,
        tokenizer: Any,
        think_format: ThinkFormat | None = None,
        *,
        stop_ids: Sequence[int] = (),
        context: int | None = None,
        vocabulary: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.context = context
        self.vocabulary = vocabulary
        self.format = think_format or detect_format(tokenizer)
        self.end_id = int(tokenizer.convert_tokens_to_ids(self.format.end))
        eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self.stop_ids = tuple(dict.fromkeys([self.end_id, *eos, *stop_ids]))
        fillers = (tokenizer.pad_token_id, tokenizer.unk_token_id, self.end_id)
        self.pad_id = int(next(token for token in fillers if token is not None))
        self._encode = lru_cache(maxsize=65536)(self._encode_text)

    def _encode_text(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        except Exception as error:  # the tokenizers library raises nothing more specific
            shown = text if len(text) <= 60 else text[:57] + "..."
            raise InputError(
                f"the tokenizer cannot encode {shown!r} ({error}); is --model the model of these data?"
            ) from error

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of one piece of text, no special tokens added."""
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def prompt(self, prompt: Sequence[Mapping[str, str]], *, empty: bool = False) -> tuple[int, ...]:
        """Ids of the generation prompt; if ``empty``, of the prompt in which the empty trace is prefilled."""
        return self.encode(render_prompt(self.tokenizer, self.format, prompt, empty=empty))

    def with_trace(self, prompt: Sequence[Mapping[str, str]], trace: str, answer: str) -> TokenSequence:
        """(r, y) given x, all of r and y scored."""
        given = self.prompt(prompt)
        thought = self._thought(trace)
        ids = given + thought + self._ended(answer)
        return self._sequence(ids, score_start=len(given), answer_start=len(given) + len(thought))

    def trace_only(self, prompt: Sequence[Mapping[str, str]], trace: str) -> TokenSequence:
        """r given x: a closed trace without an answer."""
        given = self.prompt(prompt)
        ids = given + self._thought(trace)
        return self._sequence(ids, score_start=len(given), answer_start=len(ids))

    def with_empty_trace(
        self, prompt: Sequence[Mapping[str, str]], answer: str, mode: EmptyMode = "prefilled"
    ) -> TokenSequence:
        """(empty, y) given x.

        In mode "prefilled" the prompt is the template's own without thinking, where it has one, and the answer alone is
        scored; in mode "generated" the empty block follows the thinking prompt and is scored too.
        """
        if mode == "prefilled":
            given = self.prompt(prompt, empty=True)
            return self._sequence(given + self._ended(answer), score_start=len(given), answer_start=len(given))
        given = self.prompt(prompt)
        block = self.encode(self.format.empty)
        ids = given + block + self._ended(answer)
        return self._sequence(ids, score_start=len(given), answer_start=len(given) + len(block))

    def _thought(self, trace: str) -> tuple[int, ...]:
        return self.encode(self.format.open + trace + self.format.close)

    def _ended(self, answer: str) -> tuple[int, ...]:
        return (*self.encode(answer), self.end_id)

    def _sequence(self, ids: tuple[int, ...], score_start: int, answer_start: int) -> TokenSequence:
        if self.context is not None and len(ids) > self.context:
            raise InputError(
                f"the sequence has {len(ids)} tokens, more than the model's context of {self.context}; "
                "drop the row, or shorten its prompt, trace or answer"
            )
        if self.vocabulary is not None and max(ids) >= self.vocabulary:
            raise InputError(
                f"token {self.decode([max(ids)])!r} has number {max(ids)}, but the model has embeddings of "
                f"{self.vocabulary} tokens; use the tokenizer of this model"
            )
        return TokenSequence(ids, score_start, answer_start)

    def check_round_trip(self, prompt: Sequence[Mapping[str, str]], trace: str, answer: str) -> RoundTrip:
        """Hold the assembled tokens and text of a turn against the tokenizer and the chat template.

        Returns:
            "same" if the template writes the same text, "trimmed" if it differs in white space at the ends of trace and
            answer only, "cut" if the template drops traces from completed turns, so that prompt and answer alone could
            be compared. In each case the tokens scored are those of the generation prompt and of what the model wrote.

        Raises:
            InputError: think tags or a stop token inside trace or answer, a text that does not survive encoding and
                decoding, a sequence beyond the model's context, or a template that writes another turn.
        """
        for name, piece in (("trace", trace), ("answer", answer)):
            self._check_piece(name, piece)
        opening = render_prompt(self.tokenizer, self.format, prompt)
        sequence = self.with_trace(prompt, trace, answer)
        ours = opening + self.format.open + trace + self.format.close + answer
        decoded = self.decode(sequence.ids[:-1])
        if decoded != ours:
            at = next((i for i, (a, b) in enumerate(zip(decoded, ours, strict=False)) if a != b), len(ours))
            near = slice(max(at - 20, 0), at + 20)
            raise InputError(
                f"the tokenizer changes the text where its pieces meet: it reads {decoded[near]!r} for {ours[near]!r}; "
                "use the model's own fast tokenizer"
            )
        expected = render_turn(self.tokenizer, self.format, prompt, trace, answer)
        end = expected[len(ours) :].lstrip() if expected.startswith(ours) else None
        if end is not None and (not end or end.startswith(self.format.end)):
            return "same"
        if self.format.keeps != "cut" and self._matches(
            expected, opening + self.format.open, trace, self.format.close, answer
        ):
            return "trimmed"
        # What is before the model's part must be there; the template has its own way with what follows.
        base = opening.removesuffix(self.format.opener) if self.format.opener else opening
        if (self.format.keeps == "cut" or not trace.strip()) and expected.startswith(base.rstrip()):
            rest = expected[len(base.rstrip()) :]
            if re.search(re.escape(answer.strip()) + r"\s*(" + re.escape(self.format.end) + r"|$)", rest):
                return "cut"
        raise InputError(
            f"the chat template changes trace or answer: expected text starting with "
            f"{ours[-60:] + self.format.end!r}, the template wrote {expected[-80:]!r}"
        )

    def _matches(self, expected: str, *pieces: str) -> bool:
        """Whether a text is the pieces and the end, up to white space between them."""
        pattern = r"\s*".join(re.escape(piece.strip()) for piece in pieces)
        return re.match(rf"\s*{pattern}\s*({re.escape(self.format.end)}|$)", expected) is not None

    def _check_piece(self, name: str, piece: str) -> None:
        for tag in self.format.tags:
            if tag in piece:
                raise InputError(
                    f"think tag {tag!r} inside the {name} {piece[:60]!r}; give the trace and the answer apart, without "
                    "the tags, and leave out completions whose trace does not close"
                )
        ids = self.encode(piece)
        stop = next((token for token in ids if token in self.stop_ids), None)
        if stop is not None:
            raise InputError(
                f"end-of-turn token {self.decode([stop])!r} inside the {name} {piece[:60]!r}; cut the text before it"
            )
        decoded = self.decode(ids)
        if decoded != piece:
            raise InputError(f"the tokenizer does not preserve the {name} {piece[:60]!r}: it reads {decoded[:60]!r}")

    def read(self, ids: Sequence[int]) -> SampledTurn:
        """Read generated ids (after the thinking prompt) as a turn.

        The trace ends at the first closing tag. Where the white space around a tag is not the format's own, it stays
        with trace and answer, and the turn is not canonical.
        """
        ended = len(ids) > 0 and ids[-1] in self.stop_ids
        text = self.decode(ids[:-1] if ended else ids)
        opening, tag = self.format.open, self.format.close.strip()
        if not text.startswith(opening):
            opening = opening.strip()
            text = text.lstrip() if opening else text
        if not text.startswith(opening) or tag not in text:
            return SampledTurn(None, None, canonical=False)
        body = text[len(opening) :]
        before = body.index(tag) - self.format.close.index(tag)
        if before >= 0 and body.startswith(self.format.close, before):
            trace, answer = body[:before], body[before + len(self.format.close) :]
        else:
            trace, answer = body.split(tag, 1)
        if not ended:
            return SampledTurn(trace, None, canonical=False)
        again = self._thought(trace) + self._ended(answer)
        return SampledTurn(trace, answer, canonical=tuple(ids) == again)

    def read_answer(self, ids: Sequence[int]) -> SampledTurn:
        """Read ids generated after the prompt with a prefilled empty trace; the trace is the empty text."""
        if not ids or ids[-1] not in self.stop_ids:
            return SampledTurn("", None, canonical=False)
        answer = self.decode(ids[:-1])
        return SampledTurn("", answer, canonical=tuple(ids) == self._ended(answer))

    def split(self, ids: Sequence[int]) -> tuple[str | None, str | None]:
        """(trace, answer) of generated ids, see :meth:`read`: (trace, None) when the turn never ends, (None, None) when
        the trace never closes.
        """
        turn = self.read(ids)
        return turn.trace, turn.answer
