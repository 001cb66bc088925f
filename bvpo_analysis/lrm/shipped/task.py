"""The task of the LRM in the box: add four digits modulo ten, thinking aloud.

A prompt lists four letters with a digit each (``a3b7c2d9``). A trace visits the four letters in any order
with running sums modulo ten (``c2=2 a3=5 d9=4 b7=1``), so a prompt has exactly 4! = 24 correct traces. An
answer is the final digit, the last visited letter and a style ending (``1b sure.``): the digit can be
verified, the letter is a trace left in the answer, and the ending is pure style. Each of the three yields a
preference signal that reads only (prompt, answer), never the trace. Training answers contain deliberate
*slips* (digit ± 1 after a correct trace), so that wrong answers, too, arise from enumerable traces.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np

LETTERS = "abcdefghij"
ITEMS_PER_PROBLEM = 4
#: Style endings, best first; rewards 3, 2, 1, 0.
ENDINGS: tuple[str, ...] = (".", " sure.", " ok!", "!")
#: Probability that the digit of a training answer is off by one, in either direction with equal probability.
SLIP_RATE = 0.12

_PROBLEM = re.compile(rf"(?:[{LETTERS}][0-9]){{{ITEMS_PER_PROBLEM}}}")
_ANSWER = re.compile(rf"([0-9])([{LETTERS}])({'|'.join(map(re.escape, ENDINGS))})")


@dataclass(frozen=True)
class Problem:
    """Four (letter, digit) items with distinct letters, in the order in which the prompt shows them.

    >>> problem = Problem((("a", 3), ("b", 7), ("c", 2), ("d", 9)))
    >>> problem.text, problem.total, problem.value("c")
    ('a3b7c2d9', 1, 2)
    """

    items: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        letters = [letter for letter, _ in self.items]
        if len(letters) != ITEMS_PER_PROBLEM or len(set(letters)) != ITEMS_PER_PROBLEM:
            raise ValueError(f"a problem has {ITEMS_PER_PROBLEM} distinct letters, got {letters}")
        for letter, digit in self.items:
            if len(letter) != 1 or letter not in LETTERS or digit not in range(10):
                raise ValueError(f"an item is a letter from {LETTERS!r} and a digit 0..9, got {(letter, digit)!r}")

    @property
    def text(self) -> str:
        """The prompt, eight characters."""
        return "".join(f"{letter}{digit}" for letter, digit in self.items)

    @property
    def total(self) -> int:
        """Sum of the digits modulo ten: the right answer digit."""
        return sum(digit for _, digit in self.items) % 10

    def value(self, letter: str) -> int | None:
        """Digit that belongs to ``letter``, or None if the prompt does not contain it."""
        return dict(self.items).get(letter)


@dataclass(frozen=True)
class Answer:
    """Final digit, last visited letter and style ending.

    >>> Answer(1, "b", " sure.").text
    '1b sure.'
    """

    digit: int
    letter: str
    ending: str

    def __post_init__(self) -> None:
        if _ANSWER.fullmatch(self.text) is None:
            raise ValueError(
                f"an answer is a digit, a letter from {LETTERS!r} and an ending from {ENDINGS}, got {self.text!r}"
            )

    @property
    def text(self) -> str:
        return f"{self.digit}{self.letter}{self.ending}"


@dataclass(frozen=True)
class Row:
    """One training example. ``trace`` is empty in rows that teach the model to answer without thinking."""

    prompt: str
    trace: str
    answer: str


def parse_problem(text: str) -> Problem:
    """Read a prompt. Raises ValueError if it is not four letter-digit items with distinct letters.

    >>> parse_problem("a3b7c2d9").items[0]
    ('a', 3)
    """
    if _PROBLEM.fullmatch(text) is None:
        raise ValueError(f"not a prompt of this task (four items such as a3b7c2d9, letters {LETTERS!r}): {text!r}")
    return Problem(tuple((text[i], int(text[i + 1])) for i in range(0, len(text), 2)))


def parse_answer(text: str) -> Answer | None:
    """Read an answer. Returns None if it is malformed, because a sampled answer may be.

    >>> parse_answer("1b sure.")
    Answer(digit=1, letter='b', ending=' sure.')
    >>> parse_answer("b1.") is None
    True
    """
    match = _ANSWER.fullmatch(text)
    return Answer(int(match[1]), match[2], match[3]) if match else None


def _problem(prompt: Problem | str) -> Problem:
    return prompt if isinstance(prompt, Problem) else parse_problem(prompt)


def sample_problem(rng: np.random.Generator) -> Problem:
    """A problem drawn uniformly: four of the ten letters in random order, independent uniform digits.

    >>> sample_problem(np.random.default_rng(0)).text
    'e5g6c9h7'
    """
    letters = rng.permutation(len(LETTERS))[:ITEMS_PER_PROBLEM]
    digits = rng.integers(10, size=ITEMS_PER_PROBLEM)
    return Problem(tuple((LETTERS[i], int(digit)) for i, digit in zip(letters, digits, strict=True)))


def _trace(order: tuple[tuple[str, int], ...]) -> str:
    sums = itertools.accumulate(digit for _, digit in order)
    return " ".join(f"{letter}{digit}={total % 10}" for (letter, digit), total in zip(order, sums, strict=True))


def enumerate_traces(prompt: Problem | str) -> tuple[str, ...]:
    """All 24 correct traces, in the lexicographic order of the visited positions.

    >>> traces = enumerate_traces("a3b7c2d9")
    >>> len(traces), traces[0], traces[-1]
    (24, 'a3=3 b7=0 c2=2 d9=1', 'd9=9 c2=1 b7=8 a3=1')
    """
    return tuple(_trace(order) for order in itertools.permutations(_problem(prompt).items))


def is_correct_trace(prompt: Problem | str, trace: str) -> bool:
    """Whether ``trace`` visits every letter of the prompt once, with its digit and the right running sums.

    >>> is_correct_trace("a3b7c2d9", "c2=2 a3=5 d9=4 b7=1")
    True
    >>> is_correct_trace("a3b7c2d9", "c2=2 a3=6 d9=5 b7=2")
    False
    """
    return trace in enumerate_traces(prompt)


def last_letter(trace: str) -> str:
    """Letter visited last. Raises ValueError if the trace does not end in a step such as ``b7=1``.

    >>> last_letter("c2=2 a3=5 d9=4 b7=1")
    'b'
    """
    match = re.search(rf"([{LETTERS}])[0-9]=[0-9]$", trace)
    if match is None:
        raise ValueError(f"the trace does not end in a step such as b7=1: {trace!r}")
    return match[1]


def is_right(prompt: Problem | str, answer: str) -> bool:
    """Verifier: a well-formed answer that names a letter of the prompt and the right digit.

    >>> is_right("a3b7c2d9", "1b."), is_right("a3b7c2d9", "2b."), is_right("a3b7c2d9", "1j.")
    (True, False, False)
    """
    problem, parsed = _problem(prompt), parse_answer(answer)
    return parsed is not None and problem.value(parsed.letter) is not None and parsed.digit == problem.total


def style_reward(prompt: Problem | str, answer: str) -> float | None:
    """Reward 3, 2, 1, 0 for the endings from best to worst; None for a malformed answer.

    >>> [style_reward("a3b7c2d9", "1b" + ending) for ending in ENDINGS]
    [3.0, 2.0, 1.0, 0.0]
    """
    parsed = parse_answer(answer)
    return None if parsed is None else float(len(ENDINGS) - 1 - ENDINGS.index(parsed.ending))


def value_reward(prompt: Problem | str, answer: str) -> float | None:
    """Value of the item that the answer's letter names; None if malformed or if the prompt lacks the letter.

    >>> value_reward("a3b7c2d9", "1b."), value_reward("a3b7c2d9", "1j."), value_reward("a3b7c2d9", "")
    (7.0, None, None)
    """
    parsed = parse_answer(answer)
    value = None if parsed is None else _problem(prompt).value(parsed.letter)
    return None if value is None else float(value)


def sample_row(rng: np.random.Generator, *, empty: bool, slip_rate: float = SLIP_RATE) -> Row:
    """Draw one training row: a uniform problem, a uniform correct trace, and an answer that follows from it.

    The answer's letter is the last one visited, its digit is the total, off by one with probability
    ``slip_rate``, and its ending is uniform and independent of the rest. With ``empty`` the trace is then
    discarded: the answer keeps the very same distribution given the prompt, but the model can no longer
    read it off.

    >>> sample_row(np.random.default_rng(0), empty=False, slip_rate=0.0)
    Row(prompt='e5g6c9h7', trace='e5=5 c9=4 g6=0 h7=7', answer='7h ok!')
    """
    problem = sample_problem(rng)
    trace = _trace(tuple(problem.items[i] for i in rng.permutation(ITEMS_PER_PROBLEM)))
    slip = int(rng.choice((-1, 1))) if rng.random() < slip_rate else 0
    ending = ENDINGS[rng.integers(len(ENDINGS))]
    answer = Answer((problem.total + slip) % 10, last_letter(trace), ending)
    return Row(problem.text, "" if empty else trace, answer.text)
