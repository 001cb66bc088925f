"""Small populations of log-linear prompts away from their reference."""

import numpy as np
import pytest

from bvpo_analysis.log_linear import LogLinearModel
from bvpo_analysis.off_reference.population import ProjectedPopulation


def log_linear_population(length, *, prompts=8, seed=0, parameters=12):
    """Prompts whose policies lie ``length`` random steps from their references."""
    rng = np.random.default_rng(seed)
    pairs, vectors = [], []
    for _ in range(prompts):
        model = LogLinearModel.random(rng, traces=6, answers=3, parameters=parameters)
        ref = 0.3 * rng.normal(size=parameters)
        pair, scores = model.pair(ref + length * rng.normal(size=parameters), ref, 0, 1)
        pairs.append(pair)
        vectors.append(scores)
    return ProjectedPopulation.of(pairs, vectors)


@pytest.fixture(scope="session")
def population_of():
    return log_linear_population
