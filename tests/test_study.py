"""``Study``: what it takes, and tables that say what the numbers behind them say."""

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.study import Study

PAIRS = shipped_pairs("correct", limit=8)


@pytest.fixture(scope="module")
def study(lrm):
    return Study.from_pairs(lrm, PAIRS, traces=2)


def test_model_and_pairs_in_the_wrong_order_are_told_apart(lrm):
    with pytest.raises(InputError, match="model is expected first, got tuple"):
        Study.from_pairs(PAIRS, lrm)


def test_a_bare_network_is_refused_with_the_remedy(lrm):
    with pytest.raises(InputError, match="load_model"):
        Study.from_pairs(lrm.model, PAIRS)
