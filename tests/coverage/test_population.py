"""Finite populations: their exact moments against enumeration, sketches, and files that give back what they got."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from bvpo_analysis.coverage.population import (
    FinitePopulation,
    count_sketch,
    population_file,
    read_population,
    write_population,
)
from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.moments import Moments, enumerated_moments
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import score_pairs

NUMBERS = [f.name for f in fields(Moments) if f.name not in ("n", "bias_noise")]


def build(by_hand, objective, seed=1, prompts=4, traces=3, d=6):
    rng = np.random.default_rng(seed)
    pairs = [by_hand.pair(rng, traces) for _ in range(prompts)]
    vectors = [rng.normal(size=(pair.size, d)) for pair in pairs]
    return pairs, vectors, FinitePopulation.from_scores(pairs, vectors, objective)


@pytest.mark.parametrize("objective", [DPO(1.5), IPO(0.7)], ids=["dpo", "ipo"])
def test_the_truth_is_that_of_enumeration(objective, by_hand):
    """Catches a side with the wrong sign, probabilities of the other side, and any moment with another definition."""
    pairs, vectors, population = build(by_hand, objective)
    estimators = Trace(objective), EmptyTrace(objective), Marginal(objective)
    expected = enumerated_moments(by_hand.scores(pairs, vectors, *estimators), *estimators)
    scale = float(expected.var_t[0] + expected.var_e[0] + expected.target_sq[0])
    for name in NUMBERS:
        found = getattr(population.truth, name)
        assert found.shape == (1,), name
        assert found[0] == pytest.approx(getattr(expected, name)[0], abs=1e-12 * scale), name
    assert (population.truth.n, population.truth.exact, len(population)) == (4, True, 4)


def test_only_enumerated_pairs_at_their_reference_make_a_population(by_hand):
    """Catches sampled traces taken for the whole law, a policy that has moved, and trace-dependent coefficients."""
    rng = np.random.default_rng(2)
    pair = by_hand.pair(rng, 2)
    vectors = [rng.normal(size=(pair.size, 3))]
    for wrong in (
        by_hand.sampled(pair, pair.draws[:1]),
        replace(pair, log_prob=pair.log_prob + 0.1),
    ):
        with pytest.raises(ValueError, match="at its reference with all traces enumerated"):
            FinitePopulation.from_scores([wrong], vectors, DPO())
    uneven = replace(pair, tokens=np.arange(5, 5 + pair.size))
    with pytest.raises(ValueError, match="constant coefficients"):
        FinitePopulation.from_scores([uneven], vectors, SimPO(2.0, 0.5))


def test_a_count_sketch_is_linear_and_keeps_inner_products():
    """Catches a sketch without signs or with hashes that change: 300 vectors of 20 000 normal numbers."""
    rows = torch.randn(300, 20_000, generator=torch.Generator().manual_seed(3))
    sketches = count_sketch(rows)
    assert sketches.shape == (300, 2048)
    assert sketches.dtype == np.float64
    np.testing.assert_array_equal(sketches[:2], count_sketch(rows[:2]))
    np.testing.assert_allclose(count_sketch(rows[:1] + 2 * rows[1:2]), sketches[:1] + 2 * sketches[1:2], atol=1e-4)
    gram, found = (rows @ rows.T).numpy(), sketches @ sketches.T
    off = ~np.eye(300, dtype=bool)
    # Relative error of a product about sqrt(2 / 2048) of the norms.
    assert np.abs(np.diag(found) / np.diag(gram) - 1).mean() < 0.05
    error = (found - gram)[off] / 20_000
    assert abs(error.mean()) < 0.002
    assert error.std() == pytest.approx(np.sqrt(1 / 2048), rel=0.1)


def test_a_population_comes_back_from_its_file(tmp_path, by_hand):
    """Catches arrays that swap, lose precision, or a part left behind."""
    _, _, population = build(by_hand, DPO())
    path = tmp_path / "deep" / "population.npz"
    write_population(path, population)
    found = read_population(path)
    for name in ("traces", "posterior", "empty"):
        np.testing.assert_array_equal(getattr(found, name), getattr(population, name))
    assert [p.name for p in path.parent.iterdir()] == ["population.npz"]


def test_the_population_of_a_regime_is_that_of_its_scores(tmp_path, lrm):
    """Catches traces or empties of another prompt, and a sketch of other vectors than the scores."""
    path = population_file(lrm, "style", DPO(), tmp_path, prompts=2)
    population = read_population(path)
    assert population.traces.shape == (2, 2, 24, 2048)
    assert path == population_file(lrm, "style", DPO(), tmp_path, prompts=2)
    assert path != population_file(lrm, "style", DPO(0.2), tmp_path, prompts=2)
    pairs = shipped_pairs("style", limit=2)
    estimators = Trace(DPO()), EmptyTrace(DPO()), Marginal(DPO())
    totals = {repr(e): lambda pair, e=e: e.weights(pair) @ e.coefficients(pair) for e in estimators}
    scores = score_pairs(lrm, pairs, totals=totals, leave_one_out=False, enumerate_traces=shipped_traces)
    expected = enumerated_moments(scores, *estimators)
    for name in ("trace_var", "var_e", "prompt_bias_e_sq", "target_sq"):
        # The sketch defines the vectors; it agrees with the whole gradients to a few per cent.
        assert getattr(population.truth, name)[0] == pytest.approx(getattr(expected, name)[0], rel=0.15), name
    np.testing.assert_allclose(population.posterior.sum(axis=2), 1.0)


def test_a_population_larger_than_the_shipped_pairs_is_refused(tmp_path, lrm):
    """Catches a population that is silently smaller than asked for."""
    with pytest.raises(InputError, match="use fewer prompts"):
        population_file(lrm, "style", DPO(), tmp_path, prompts=100_000)
