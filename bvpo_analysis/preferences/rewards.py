"""Where preferences come from: a function of the user, agreement with a reference answer, or a reward model.

Every reward is a function of prompt and answer alone. One that saw the trace would tie the choice of the pair to its
trace, and the trace-based gradient would be biased from the start.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bvpo_analysis.errors import InputError, StudyError, one_line


@dataclass(frozen=True)
class Prompt:
    """A prompt to sample from.

    Attributes:
        prompt_id: unique name.
        messages: chat messages.
        reference: the right answer, for verifiers; None where there is none.
    """

    prompt_id: str
    messages: tuple[Mapping[str, str], ...]
    reference: str | None = None


@dataclass(frozen=True)
class Reward:
    """A reward with the words that describe it in provenance.

    Attributes:
        description: such as ``mypackage.rewards:brevity`` or ``verifier number``.
        function: (prompt, answer) -> finite number.
        needs_reference: whether prompts must carry a right answer.
    """

    description: str
    function: Callable[[Prompt, str], float]
    needs_reference: bool = False

    def __call__(self, prompt: Prompt, answer: str) -> float:
        """The reward of an answer.

        Raises:
            StudyError: the function raises, or returns something that is not a finite number.
        """
        try:
            value: Any = self.function(prompt, answer)
        except (InputError, StudyError):
            raise
        except Exception as error:  # code of the user
            raise StudyError(
                f"the reward {self.description} raised {type(error).__name__} on prompt {prompt.prompt_id!r} "
                f"({one_line(error)[:120]}); make it return a number for every answer"
            ) from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise StudyError(
                f"the reward {self.description} gave {value!r} on prompt {prompt.prompt_id!r}; it must return a finite "
                "number for every answer"
            )
        return number


def function_reward(name: str) -> Reward:
    """A function of the user, named ``module:function``: (text of the last message, answer) -> number.

    Raises:
        InputError: no such module or function.

    Example:
        >>> reward = function_reward("operator:eq")
        >>> reward(Prompt("p", ({"role": "user", "content": "echo"},)), "echo")
        1.0
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise InputError(f"--reward must be MODULE:FUNCTION, such as mypackage.rewards:brevity, got {name!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"--reward {name}: {one_line(error)}; run where the module can be imported") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"--reward {name}: the module {module_name} has no function {function_name!r}")
    return Reward(name, lambda prompt, answer: function(prompt.messages[-1]["content"], answer))


def exact(answer: str, reference: str) -> float:
    """1 if the texts agree but for white space at the ends, else 0.

    Example:
        >>> exact(" yes\\n", "yes"), exact("no", "yes")
        (1.0, 0.0)
    """
    return float(answer.strip() == reference.strip())


def number(answer: str, reference: str) -> float:
    """1 if the last numbers of the texts agree, else 0; thousands separators are read, a text without number is wrong.

    Example:
        >>> number("So it costs $1,250.00.", "... #### 1250"), number("None.", "0"), number("It is -3", "3")
        (1.0, 0.0, 0.0)
    """
    last = [re.findall(r"-?\d[\d,]*(?:\.\d+)?", text) for text in (answer, reference)]
    if not last[0] or not last[1]:
        return 0.0
    given, right = (float(found[-1].replace(",", "")) for found in last)
    return float(given == right)


VERIFIERS: dict[str, Callable[[str, str], float]] = {"exact": exact, "number": number}
"""Ways to compare an answer with the reference of its prompt."""


def verifier(name: str) -> Reward:
    """Reward 1 for an answer that agrees with the reference of its prompt, else 0.

    Raises:
        InputError: unknown name.

    Example:
        >>> verifier("number")(Prompt("p", ({"role": "user", "content": "2 + 2?"},), "4"), "It is 4.")
        1.0
    """
    if name not in VERIFIERS:
        raise InputError(f"--verifier must be one of {', '.join(VERIFIERS)}, got {name!r}")
    compare = VERIFIERS[name]
    return Reward(f"verifier {name}", lambda p, answer: compare(answer, p.reference or ""), needs_reference=True)


def model_reward(path: str, *, device: str = "cpu") -> Reward:
    """A reward model that reads prompt and answer.

    Raises:
        InputError: it cannot be loaded.
    """
    from bvpo_analysis.lrm.reward_model import load_reward_model

    model = load_reward_model(path, device=device)
    return Reward(f"reward model {path}", lambda prompt, answer: model.score(prompt.messages, answer))


def best_and_worst(rewards: Sequence[float]) -> tuple[int, int] | None:
    """Indices of the highest and the lowest reward, the first of equals; None if all are equal.

    Example:
        >>> best_and_worst([0.1, 0.9, -2.0, 0.9]), best_and_worst([1.0, 1.0]), best_and_worst([])
        ((1, 2), None, None)
    """
    if not rewards or max(rewards) == min(rewards):
        return None
    order = range(len(rewards))
    return max(order, key=rewards.__getitem__), min(order, key=rewards.__getitem__)
