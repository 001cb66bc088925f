"""Rewards behind the preference regimes in the box, as numbers of (prompt, answer), for win rates.

Each continues the rule that paired the answers to any two answers of a prompt: ``style`` by the ending, ``valid`` by
the value of the named item among right answers, all wrong ones below, ``correct`` by the digit.
"""

from bvpo_analysis.evaluation.answers import Reward
from bvpo_analysis.lrm.shipped.task import is_right, parse_answer, style_reward, value_reward
from bvpo_analysis.preferences.shipped import Regime


def style(prompt: str, answer: str) -> float | None:
    """3, 2, 1, 0 for the endings from best to worst.

    Example:
        >>> style("a3b7c2d9", "1b."), style("a3b7c2d9", "b1.") is None
        (3.0, True)
    """
    return style_reward(prompt, answer)


def valid(prompt: str, answer: str) -> float | None:
    """Value of the named item if the digit is right, else -1.

    Example:
        >>> valid("a3b7c2d9", "1b."), valid("a3b7c2d9", "2b.")
        (7.0, -1.0)
    """
    return value_reward(prompt, answer) if is_right(prompt, answer) else _wrong(answer, -1.0)


def correct(prompt: str, answer: str) -> float | None:
    """1 for a right digit, else 0.

    Example:
        >>> correct("a3b7c2d9", "1b."), correct("a3b7c2d9", "2b.")
        (1.0, 0.0)
    """
    return 1.0 if is_right(prompt, answer) else _wrong(answer, 0.0)


def _wrong(answer: str, reward: float) -> float | None:
    return None if parse_answer(answer) is None else reward


REWARDS: dict[Regime, Reward] = {"style": style, "valid": valid, "correct": correct}
"""The reward of each regime."""
