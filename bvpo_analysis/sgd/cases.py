"""The problems that the study runs, with the biases and noises of g_t and g_e and a starting point.

g_t is little biased and noisy, g_e biased and quiet, as long traces and empty ones are; the numbers are in units of the
smoothness, which is about 1 everywhere.
"""

from dataclasses import dataclass

import numpy as np

from bvpo_analysis.records import Floats
from bvpo_analysis.sgd.oracles import ConstantOracle, Oracle
from bvpo_analysis.sgd.problems import CosineQuadratic, NeuronRegression, Quadratic, Wells
from bvpo_analysis.sgd.reasoning import PreferenceData, ReasoningLoss, ReasoningOracle


@dataclass(frozen=True)
class Case:
    """A problem with its oracle and start.

    Attributes:
        name: short, unique.
        oracle: the law of (g_t, g_e), which names the problem.
        start: x_0, [d].
        simulate: run repetitions even where exact expectations are possible.
    """

    name: str
    oracle: Oracle
    start: Floats
    simulate: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether exact expectations serve for rules with planned weights."""
        return (
            isinstance(self.oracle, ConstantOracle) and isinstance(self.oracle.problem, Quadratic) and not self.simulate
        )


def standard_cases() -> tuple[Case, ...]:
    """Ten cases: quadratics (exact), bounded noise, a well, ripples (PL), rugged, a neuron, and a reasoning model.

    Example:
        >>> len({case.name for case in standard_cases()})
        10
    """
    rng = np.random.default_rng(20)
    bowl = Quadratic.diagonal("isotropic quadratic", [1.0] * 4)
    valley = Quadratic.diagonal("ill-conditioned quadratic", [1.0, 0.3, 0.05])
    turned = Quadratic.rotated("rotated quadratic", [1.0, 0.4, 0.1], rng)
    quiet = Quadratic.diagonal("noiseless quadratic", [1.0, 0.3, 0.05])
    bounded = Quadratic.diagonal("quadratic, bounded noise", [1.0, 0.5])
    wells = Wells("wells", 4, 0.5)
    ripples = CosineQuadratic("ripples (PL)", 2, curvature=0.25, amplitude=0.1875, frequency=2.0)
    rugged = CosineQuadratic("rugged", 2, curvature=0.1, amplitude=0.1, frequency=3.0)
    neuron = NeuronRegression("neuron", rng.normal(size=(20, 4)) / 1.5, np.array([1.0, -1.0, 0.5, 0.0]))
    joint = rng.normal(size=(6, 6)) / 3
    reasoning = ReasoningLoss("reasoning model", PreferenceData.random(np.random.default_rng(1), trace_spread=2.0))
    noisy = {"var_t": 2.0, "var_e": 0.5, "cov_te": 0.2}
    return (
        Case("isotropic quadratic", _constant(bowl, 0.1, 0.5, **noisy), np.full(4, 1.0)),
        Case("ill-conditioned quadratic", _constant(valley, 0.0, 0.4, **noisy), np.array([1.0, 1.0, 4.0])),
        Case(
            "rotated quadratic",
            ConstantOracle(turned, np.array([0.1, 0.0, 0.0]), np.array([0.0, 0.3, -0.4]), joint @ joint.T),
            np.array([2.0, -1.0, 1.0]),
        ),
        Case(
            "noiseless quadratic",
            _constant(quiet, 0.1, 0.5, var_t=0.0, var_e=0.0, cov_te=0.0),
            np.array([1.0, 1.0, 4.0]),
        ),
        Case(
            "quadratic, bounded noise",
            ConstantOracle.isotropic(bounded, [0.0, 0.1], [0.3, 0.0], noise="two-atom", **noisy),
            np.array([2.0, 2.0]),
            simulate=True,
        ),
        Case("wells", _constant(wells, 0.02, 0.1, var_t=0.2, var_e=0.05, cov_te=0.02), np.full(4, 0.8)),
        Case("ripples (PL)", _constant(ripples, 0.1, 0.3, **noisy), np.array([3.0, -4.0])),
        Case("rugged", _constant(rugged, 0.1, 0.3, **noisy), np.array([4.0, -3.0])),
        Case("neuron", _constant(neuron, 0.02, 0.1, var_t=0.2, var_e=0.05, cov_te=0.02), np.full(4, -0.5)),
        Case("reasoning model", ReasoningOracle(reasoning, batch_size=4), reasoning.data.reference),
    )


def _constant(
    problem: Quadratic | Wells | CosineQuadratic | NeuronRegression,
    bias_t: float,
    bias_e: float,
    *,
    var_t: float,
    var_e: float,
    cov_te: float,
) -> ConstantOracle:
    """Biases of these norms along the first and the last coordinate."""
    first, last = np.eye(problem.dimension)[[0, -1]]
    return ConstantOracle.isotropic(problem, bias_t * first, bias_e * last, var_t=var_t, var_e=var_e, cov_te=cov_te)
