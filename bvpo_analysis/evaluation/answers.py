"""Answers of a policy to prompts, with thinking or with an empty trace, each from a random stream of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.lrm.sampling import row_seed, sample_completions
from bvpo_analysis.records import Floats

Mode = Literal["thinking", "empty"]
MODES: tuple[Mode, ...] = ("thinking", "empty")
"""With a trace, and after a prefilled empty trace."""

Reward = Callable[[str, str], float | None]
"""(text of the prompt, answer) -> reward, None for an answer that cannot be judged."""


@dataclass(frozen=True)
class EvaluationPrompt:
    """A prompt to answer.

    Attributes:
        prompt_id: unique name, part of the seed of its answers.
        messages: chat messages.
    """

    prompt_id: str
    messages: tuple[Mapping[str, str], ...]

    @property
    def text(self) -> str:
        """The last message, which rewards read."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class SampledAnswer:
    """One answer.

    Attributes:
        trace: the trace; None if it never closed, "" for an empty one.
        answer: the answer; None if it never ended.
        tokens_trace, tokens_answer: tokens generated in each part, the tags and the end counted.
        ids: prompt and generated tokens.
        start: index of the first generated token.
    """

    trace: str | None
    answer: str | None
    tokens_trace: int
    tokens_answer: int
    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class AnswerSet:
    """Answers of one policy in one mode.

    Attributes:
        mode: "thinking" or "empty".
        stream: name of the random streams; sets of the same stream are dependent.
        prompts: the n prompts.
        answers: [n][K] answers.
    """

    mode: Mode
    stream: str
    prompts: tuple[EvaluationPrompt, ...]
    answers: tuple[tuple[SampledAnswer, ...], ...]

    def values(self, function: Callable[[EvaluationPrompt, SampledAnswer], float]) -> Floats:
        """A number of every answer, [n, K]."""
        return np.array(
            [[function(p, a) for a in row] for p, row in zip(self.prompts, self.answers, strict=True)],
            dtype=np.float64,
        )

    def rewards(self, reward: Reward) -> Floats:
        """Rewards [n, K]; an answer that never ended, or cannot be judged, has the lowest of all, -inf."""

        def judged(prompt: EvaluationPrompt, answer: SampledAnswer) -> float:
            value = None if answer.answer is None else reward(prompt.text, answer.answer)
            return -np.inf if value is None else float(value)

        return self.values(judged)

    def lengths(self) -> Floats:
        """Tokens of the answers [n, K], the traces left out."""
        return self.values(lambda _, answer: float(answer.tokens_answer))

    def trace_lengths(self) -> Floats:
        """Tokens of the traces [n, K]."""
        return self.values(lambda _, answer: float(answer.tokens_trace))

    def unreadable(self) -> Floats:
        """1 for an answer that never ended or whose trace never closed, else 0, [n, K]."""
        return self.values(lambda _, answer: float(answer.answer is None or answer.trace is None))


def sample_answers(
    lrm: ReasoningModel,
    prompts: Sequence[EvaluationPrompt],
    mode: Mode,
    *,
    answers: int = 1,
    seed: int = 0,
    stream: str = "policy",
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    batch_size: int = 256,
) -> AnswerSet:
    """Sample answers of a policy; answer k of a prompt depends on the policy, the prompt, the stream and k only.

    Two policies that answer in the same stream share their randomness, which makes their difference on the same
    prompts less noisy; compare them with ``same_streams``.

    Args:
        lrm: the policy.
        prompts: n prompts.
        mode: "thinking", or "empty" for a prefilled empty trace.
        answers: K per prompt.
        seed: base seed.
        stream: name of the random streams.
        max_new_tokens: length limit; what is longer counts as never ended.
        temperature: 1 samples the policy itself.
        batch_size: rows generated together.

    Raises:
        InputError: no prompts, fewer than one answer, or an unknown mode.

    Example:
        >>> from bvpo_analysis.lrm.loading import load_model
        >>> prompt = EvaluationPrompt("p", ({"role": "user", "content": "a3b7c2d9"},))
        >>> found = sample_answers(load_model(), [prompt], "empty", answers=2, max_new_tokens=8)
        >>> len(found.answers[0]), found.answers[0][0].trace
        (2, '')
    """
    if not prompts or answers < 1 or mode not in MODES:
        raise InputError(
            f"evaluation needs prompts, one answer or more, and a mode among {', '.join(MODES)}; got {len(prompts)} "
            f"prompts, {answers} answers and mode {mode!r}"
        )
    assembler, empty = lrm.assembler, mode == "empty"
    given = [assembler.prompt(prompt.messages, empty=empty) for prompt in prompts for _ in range(answers)]
    seeds = [row_seed(seed, p.prompt_id, f"{stream}:{mode}", k) for p in prompts for k in range(answers)]
    drawn = sample_completions(
        lrm.model,
        given,
        seeds,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        eos_id=assembler.stop_ids,
        pad_id=assembler.pad_id,
        batch_size=batch_size,
    )
    rows = [_read(lrm, list(start), ids, empty=empty) for start, ids in zip(given, drawn, strict=True)]
    grouped = tuple(tuple(rows[i * answers : (i + 1) * answers]) for i in range(len(prompts)))
    return AnswerSet(mode, stream, tuple(prompts), grouped)


def _read(lrm: ReasoningModel, given: list[int], ids: list[int], *, empty: bool) -> SampledAnswer:
    turn = lrm.assembler.read_answer(ids) if empty else lrm.assembler.read(ids)
    trace = "" if empty else turn.trace
    if trace is None:
        thought = len(ids)
    else:
        form = lrm.assembler.format
        piece = () if empty else lrm.assembler.encode(form.open + trace + form.close)
        thought = min(len(piece), len(ids))
    return SampledAnswer(trace, turn.answer, thought, len(ids) - thought, (*given, *ids), len(given))
