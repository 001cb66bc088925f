"""The pairing rules of the three shipped regimes. They read (prompt, answers) only, never a trace."""

from collections import defaultdict
from collections.abc import Sequence

from bvpo_analysis.lrm.shipped.task import is_right, parse_answer, style_reward, value_reward
from bvpo_analysis.preferences.on_policy import Rule

Pick = tuple[int, int] | None


def by_style(prompt: str, answers: Sequence[str]) -> Pick:
    """Best and worst ending within the largest group of answers that share digit and letter.

    Example:
        >>> by_style("a3b7c2d9", ["1b!", "1b.", "1a.", "1b sure."])
        (1, 0)
        >>> by_style("a3b7c2d9", ["1b.", "1b.", "1a!"]) is None
        True
    """
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, text in enumerate(answers):
        if answer := parse_answer(text):
            groups[answer.digit, answer.letter].append(i)
    if not groups:
        return None
    rewards = [style_reward(prompt, text) or 0.0 for text in answers]
    group = max(groups.values(), key=len)  # the first of the largest groups
    return _extremes(group, rewards)


def by_value(prompt: str, answers: Sequence[str]) -> Pick:
    """Among right answers, the highest against the lowest value of the named item, with equal endings if possible.

    Example:
        >>> by_value("a3b7c2d9", ["1b.", "1a.", "1c!", "1c."])
        (0, 3)
    """
    right = [i for i, text in enumerate(answers) if is_right(prompt, text)]
    values = [value_reward(prompt, text) for text in answers]
    known = [v for i in right if (v := values[i]) is not None]
    if not known or min(known) == max(known):
        return None
    best = [i for i in right if values[i] == max(known)]
    worst = [i for i in right if values[i] == min(known)]
    return max(((i, j) for i in best for j in worst), key=lambda ij: _same(answers, ij)[1])


def by_correctness(prompt: str, answers: Sequence[str]) -> Pick:
    """A right digit over a wrong one, with equal letter, then equal ending, if possible.

    Example:
        >>> by_correctness("a3b7c2d9", ["1b.", "2a.", "2b!", "0b."])
        (0, 3)
    """
    right = [i for i, text in enumerate(answers) if is_right(prompt, text)]
    wrong = [i for i, text in enumerate(answers) if parse_answer(text) and not is_right(prompt, text)]
    if not right or not wrong:
        return None
    return max(((i, j) for i in right for j in wrong), key=lambda ij: _same(answers, ij))


def _same(answers: Sequence[str], pair: tuple[int, int]) -> tuple[bool, bool]:
    """(equal letter, equal ending) of two well-formed answers."""
    first, second = (parse_answer(answers[i]) for i in pair)
    if first is None or second is None:
        return False, False
    return first.letter == second.letter, first.ending == second.ending


def _extremes(group: Sequence[int], rewards: Sequence[float]) -> Pick:
    best, worst = max(group, key=lambda i: rewards[i]), min(group, key=lambda i: rewards[i])
    return None if rewards[best] == rewards[worst] else (best, worst)


RULES: dict[str, Rule] = {"style": by_style, "valid": by_value, "correct": by_correctness}
"""The rule of each regime."""
