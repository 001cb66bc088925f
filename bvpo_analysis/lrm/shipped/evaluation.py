"""What a trained LRM in the box must show before it is written, measured on fresh prompts.

Every number that is a share comes from samples at temperature 1 without truncation, one sample per prompt,
so that samples are independent and the binomial interval (Wilson) is valid. Entropy and mass of the 24
correct traces are exact per prompt: the traces are enumerated and scored. The number that decides whether
enumeration serves a preference study is *posterior coverage*: among samples (r, y) with a right (or wrong)
answer digit, the share whose trace r is one of the 24. It estimates Σ_{r in the 24} π(r|x, y), and a model
that errs only through broken traces would score near zero on wrong answers.

A gate holds only if the whole 95 % interval of its measurement lies inside the gate's bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bvpo_analysis.lrm.sampling import row_seed, sample_completions
from bvpo_analysis.lrm.shipped.task import (
    ENDINGS,
    LETTERS,
    Problem,
    enumerate_traces,
    is_correct_trace,
    is_right,
    last_letter,
    parse_answer,
    sample_problem,
)
from bvpo_analysis.lrm.shipped.tokenizer import END, END_THINK, THINK, prompt_text

#: Far more than the 23 tokens of a regular completion; a sample that reaches it counts as unclosed.
MAX_NEW_TOKENS = 48
_Z = 1.959963984540054


@dataclass(frozen=True)
class Measurement:
    """A number with its standard error, 95 % interval and sample size."""

    value: float
    se: float
    ci_low: float
    ci_high: float
    n: int

    @classmethod
    def of_share(cls, hits: Sequence[bool]) -> Measurement:
        """Share of true entries with its binomial SE and Wilson interval. NaN without entries.

        >>> m = Measurement.of_share([True] * 95 + [False] * 5)
        >>> m.value, round(m.se, 4), round(m.ci_low, 4), round(m.ci_high, 4)
        (0.95, 0.0218, 0.8882, 0.9785)
        """
        n = len(hits)
        if n == 0:
            return cls(math.nan, math.nan, math.nan, math.nan, 0)
        p = sum(hits) / n
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
        return cls(p, math.sqrt(p * (1 - p) / n), max(0.0, centre - half), min(1.0, centre + half), n)

    @classmethod
    def of_mean(cls, values: Sequence[float] | np.ndarray) -> Measurement:
        """Mean of independent values with its SE and normal interval."""
        x = np.asarray(values, dtype=float)
        mean, se = float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))
        return cls(mean, se, mean - _Z * se, mean + _Z * se, len(x))


@dataclass(frozen=True)
class Gate:
    """Bounds on one measurement, with the reason why the model is of no use outside them."""

    low: float
    high: float
    why: str

    def holds(self, m: Measurement) -> bool:
        """Whether the whole interval lies inside the bounds (False for NaN)."""
        return m.ci_low >= self.low and m.ci_high <= self.high


GATES: dict[str, Gate] = {
    "correct_trace": Gate(0.98, 1.0, "thinking samples carry one of the 24 correct traces"),
    "unclosed": Gate(0.0, 0.01, "thinking samples close the trace and end"),
    "generated_empty_trace": Gate(0.0, 0.005, "thinking is not skipped unless the empty block is prefilled"),
    "malformed_thinking": Gate(0.0, 0.01, "answers after a trace can be read"),
    "malformed_empty": Gate(0.0, 0.01, "answers after the empty block can be read"),
    "right_thinking": Gate(0.82, 0.94, "thinking solves the task except for deliberate slips"),
    "right_empty": Gate(0.0, 0.25, "without thinking the digit is nearly a guess"),
    "letter_follows_trace": Gate(0.98, 1.0, "the answer's letter is the last one visited"),
    "trace_entropy": Gate(2.8, math.log(24) + 1e-9, "nats; traces of a prompt differ"),
    "prior_mass": Gate(0.98, 1.0 + 1e-6, "the 24 traces carry the prior mass"),
    "coverage": Gate(0.95, 1.0, "the 24 traces carry the posterior mass of sampled answers"),
    "coverage_right": Gate(0.95, 1.0, "likewise, of answers with the right digit"),
    "coverage_wrong": Gate(0.95, 1.0, "likewise, of answers with a wrong digit"),
}


class GateError(RuntimeError):
    """The trained model fails at least one gate; the message names each with its measurement."""


@dataclass(frozen=True)
class Sample:
    """One completion split at ``</think>``; ``trace`` is None if the block was not opened or not closed."""

    problem: Problem
    trace: str | None
    answer: str
    ended: bool


@dataclass(frozen=True)
class Evaluation:
    """All measurements by name, and the counts of digits, letters and endings in sampled answers."""

    measurements: dict[str, Measurement]
    answer_counts: dict[str, dict[str, int]]

    def failures(self) -> list[str]:
        """One line per gate that does not hold, and per digit, letter or ending that never occurs."""
        lines = [
            f"{name} = {m.value:.4f} [{m.ci_low:.4f}, {m.ci_high:.4f}] (n = {m.n}) "
            f"outside [{gate.low:.4g}, {gate.high:.4g}]: {gate.why}"
            for name, gate in GATES.items()
            if not gate.holds(m := self.measurements[name])
        ]
        for part, counts in self.answer_counts.items():
            lines += [f"{part}: {value!r} never occurs" for value, count in counts.items() if count == 0]
        return lines

    def require(self) -> None:
        """Raise GateError unless every gate holds."""
        if failures := self.failures():
            raise GateError("the trained model fails its gates:\n  " + "\n  ".join(failures))


def draw_samples(
    model: Any, tokenizer: Any, problems: Sequence[Problem], *, empty: bool, seed: int, batch_size: int = 250
) -> list[Sample]:
    """Sample one completion per problem at temperature 1, with the empty block prefilled or not."""
    texts = [prompt_text(p.text, empty=empty) for p in problems]
    side = "empty" if empty else "think"
    completions = sample_completions(
        model,
        tokenizer(texts)["input_ids"],
        [row_seed(seed, f"{i}:{p.text}", side, 0) for i, p in enumerate(problems)],
        max_new_tokens=MAX_NEW_TOKENS,
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        batch_size=batch_size,
    )
    samples = []
    for problem, text in zip(problems, tokenizer.batch_decode(completions), strict=True):
        trace: str | None = "" if empty else None
        answer = text.removesuffix(END)
        if not empty and text.startswith(THINK) and END_THINK in text:
            trace, answer = answer.removeprefix(THINK).split(END_THINK, 1)
        samples.append(Sample(problem, trace, answer, text.endswith(END)))
    return samples


@torch.no_grad()
def trace_log_probs(model: Any, tokenizer: Any, problems: Sequence[Problem], *, batch_size: int = 20) -> np.ndarray:
    """Exact log π(r|x) of the 24 correct traces, shape (problems, 24), in the order of ``enumerate_traces``.

    A trace is the piece ``<think>…</think>``, so exp of a row sums to the probability of thinking correctly
    at all. All sequences of this task have the same length, hence no padding.
    """
    blocks = []
    for start in range(0, len(problems), batch_size):
        chunk = problems[start : start + batch_size]
        texts = [
            prompt_text(p.text, empty=False) + THINK + trace + END_THINK for p in chunk for trace in enumerate_traces(p)
        ]
        ids = torch.tensor(tokenizer(texts)["input_ids"], device=model.device)
        first = len(tokenizer(prompt_text(chunk[0].text, empty=False))["input_ids"])
        log_probs = model(input_ids=ids[:, :-1]).logits.double().log_softmax(-1)
        token_log_probs = log_probs.gather(-1, ids[:, 1:, None])[..., 0]
        blocks.append(token_log_probs[:, first - 1 :].sum(-1).reshape(len(chunk), -1).cpu().numpy())
    return np.concatenate(blocks)


def evaluate(model: Any, tokenizer: Any, *, seed: int, samples: int = 10_000, exact_prompts: int = 1_000) -> Evaluation:
    """Measure everything the gates need on fresh prompts drawn from ``seed``.

    ``samples`` completions are drawn with thinking and as many with the empty block prefilled, on the same
    prompts; the traces of the first ``exact_prompts`` of these are enumerated and scored. The model is put
    in eval mode.
    """
    model.eval()
    rng = np.random.default_rng(seed)
    problems = [sample_problem(rng) for _ in range(samples)]
    think = draw_samples(model, tokenizer, problems, empty=False, seed=seed)
    empty = draw_samples(model, tokenizer, problems, empty=True, seed=seed)
    correct = [s.trace is not None and is_correct_trace(s.problem, s.trace) for s in think]
    right = [is_right(s.problem, s.answer) for s in think]
    readable = [parse_answer(s.answer) is not None for s in think]
    follows = [
        answer.letter == last_letter(s.trace or "")
        for s, c in zip(think, correct, strict=True)
        if c and (answer := parse_answer(s.answer)) is not None
    ]
    wrong = [r and not ok for r, ok in zip(readable, right, strict=True)]

    log_p = trace_log_probs(model, tokenizer, problems[:exact_prompts])
    mass = np.exp(log_p).sum(axis=1)
    posterior = np.exp(log_p) / mass[:, None]
    share, mean = Measurement.of_share, Measurement.of_mean
    measurements = {
        "correct_trace": share(correct),
        "unclosed": share([s.trace is None or not s.ended for s in think]),
        "generated_empty_trace": share([s.trace == "" for s in think]),
        "malformed_thinking": share([not r for r in readable]),
        "malformed_empty": share([parse_answer(s.answer) is None for s in empty]),
        "right_thinking": share(right),
        "right_empty": share([is_right(s.problem, s.answer) for s in empty]),
        "letter_follows_trace": share(follows),
        "trace_entropy": mean(-(posterior * np.log(posterior)).sum(axis=1)),
        "prior_mass": mean(mass),
        "coverage": share([c for c, r in zip(correct, readable, strict=True) if r]),
        "coverage_right": share([c for c, ok in zip(correct, right, strict=True) if ok]),
        "coverage_wrong": share([c for c, bad in zip(correct, wrong, strict=True) if bad]),
    }
    return Evaluation(measurements, _answer_counts(think, "thinking") | _answer_counts(empty, "empty"))


def _answer_counts(samples: Sequence[Sample], mode: str) -> dict[str, dict[str, int]]:
    """How often each digit, letter and ending occurs among readable answers."""
    answers = [a for s in samples if (a := parse_answer(s.answer)) is not None]
    parts = {
        "digits": ([str(a.digit) for a in answers], [str(d) for d in range(10)]),
        "letters": ([a.letter for a in answers], list(LETTERS)),
        "endings": ([a.ending for a in answers], list(ENDINGS)),
    }
    return {f"{part}_{mode}": {value: seen.count(value) for value in values} for part, (seen, values) in parts.items()}
