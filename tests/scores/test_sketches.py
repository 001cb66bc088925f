"""Count sketches keep inner products across pairs: unbiased, with an error of order 1/sqrt(k)."""

import numpy as np

from bvpo_analysis.estimators import EmptyTrace, Trace, mean_coefficients, totals_of
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import VmapEngine, plan_pair, score_pairs
from bvpo_analysis.scores.gram import full_gram
from bvpo_analysis.scores.pair_work import SKETCH

TRACE, EMPTY = Trace(DPO(0.1)), EmptyTrace(DPO(0.1))


def test_sketches_keep_inner_products_between_pairs(lrm):
    """Catches a lost sign, a bucket outside its group, and vectors of the wrong estimator.

    The error of a product has standard deviation at most sqrt(2 / k) |v| |w|. Six of them hold for each of 1 200
    products with a false-alarm rate below 1e-5 under normal errors; the power gate says that a sketch without signs,
    which adds whole buckets up, would be far outside.
    """
    pairs = shipped_pairs("valid", limit=8)
    scores = score_pairs(lrm, pairs, traces=2, totals=totals_of(TRACE, EMPTY))
    plans = [plan_pair(lrm.assembler, pair, traces=2) for pair in pairs]
    sequences = [sequence for plan in plans for sequence in plan.sequences]
    gram, _, _ = full_gram(VmapEngine(lrm.model), sequences)

    rows, first = np.zeros((len(pairs), 2, len(sequences))), 0
    for i, pair in enumerate(scores.pairs):
        here = slice(first, first + pair.log_probs.size)
        rows[i, :, here] = [mean_coefficients(estimator, pair.log_probs) for estimator in (TRACE, EMPTY)]
        first = here.stop
    vectors = rows.reshape(-1, len(sequences))
    for g in range(len(scores.groups)):
        exact = vectors @ gram[g] @ vectors.T
        sketched = np.concatenate([pair.sketches[g] for pair in scores.pairs])
        norms = np.sqrt(np.diag(exact))
        error = (sketched @ sketched.T - exact) / np.outer(norms, norms)
        if scores.parameters[g] > SKETCH:
            assert np.abs(error).max() < 6 * np.sqrt(2 / SKETCH)
        # Across the products of a group the errors average out: no systematic part.
        assert abs(error[np.triu_indices(len(error), 1)].mean()) < 3 * np.sqrt(2 / SKETCH)
    largest = max(scores.parameters)
    assert 6 * np.sqrt(2 / SKETCH) < 0.3 < np.sqrt(largest / SKETCH)
