"""Each theorem of the paper, and of the theory around it, as a function that measures both of its sides.

``CLAIMS`` lists them in reading order; each is a function without arguments that returns a :class:`Claim`, seeded and
deterministic. Tests, the report and ``python -m bvpo_analysis.claims`` read this one list.
"""

from collections.abc import Callable

from bvpo_analysis.claims import (
    bounds,
    combination,
    compute,
    descent,
    empty_traces,
    estimation,
    excess_loss_bounds,
    importance_sampling,
    language_model,
    mixing,
    shrinkage,
    step_size,
    targets,
    traces,
    traces_off_reference,
)
from bvpo_analysis.errors import InputError
from bvpo_analysis.records import Claim

CLAIMS: dict[str, tuple[Callable[[], Claim], ...]] = {
    "what mixing does to the error": mixing.CLAIMS,
    "which target, which batch": targets.CLAIMS,
    "step sizes": step_size.CLAIMS,
    "one step of descent": descent.CLAIMS,
    "convergence": bounds.CLAIMS,
    "excess loss": excess_loss_bounds.CLAIMS,
    "trace-based gradients": traces.CLAIMS,
    "empty traces": empty_traces.CLAIMS,
    "away from the reference": traces_off_reference.CLAIMS,
    "pools and weights of traces": importance_sampling.CLAIMS,
    "estimating the target and the weight": estimation.CLAIMS,
    "more than two estimators": combination.CLAIMS,
    "shrinkage": shrinkage.CLAIMS,
    "at equal cost": compute.CLAIMS,
    "on the reasoning model in the box": language_model.CLAIMS,
}
"""Every claim, by family, in reading order."""


def name_of(function: Callable[[], Claim]) -> str:
    """The name of the claim that a function measures, known without measuring.

    Example:
        >>> name_of(mixing.theorem_1)
        'theorem-1'
    """
    return function.__name__.replace("_", "-")


def families() -> dict[str, str]:
    """The family of each claim, by its name.

    Example:
        >>> families()["theorem-1"]
        'what mixing does to the error'
    """
    return {name_of(function): family for family, functions in CLAIMS.items() for function in functions}


def measure(*words: str) -> list[Claim]:
    """Measure the claims whose name contains one of these words; all of them without arguments.

    Raises:
        InputError: a word occurs in no name.

    Example:
        >>> [(claim.name, claim.verdict) for claim in measure("theorem-1")][0]
        ('theorem-1', 'holds')
    """
    known = {name_of(function): function for family in CLAIMS.values() for function in family}
    for word in words:
        if not any(word in name for name in known):
            raise InputError(f"no claim has {word!r} in its name; there are {', '.join(known)}")
    return [function() for name, function in known.items() if not words or any(word in name for word in words)]


__all__ = ["CLAIMS", "families", "measure", "name_of"]
