"""Other empty-trace gradients and the short trace: which sequences they take, and how the bias of g_e splits."""

import numpy as np
import pytest

from bvpo_analysis.estimators import EmptyTrace, EmptyVariant, ShortTrace
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

LOSSES = (DPO(0.7), IPO(0.4), SimPO(2.0, 0.5))
PAIR = toy_pair(log_prob=np.random.default_rng(0).normal(-4, 1, 21), log_prob_ref=np.full(21, -4.0), further=True)
ROWS = {"empty_shared": (15, 16), "empty_generated": (17, 18), "short": (19, 20)}


def estimator_of(loss, name):
    return ShortTrace(loss) if name == "short" else EmptyVariant(loss, name)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_each_takes_its_own_rows_with_the_scalars_of_the_loss(loss, name):
    """Catches the rows of another variant, sides swapped, and a margin from other sequences."""
    chosen, rejected = ROWS[name]
    c = estimator_of(loss, name).coefficients(PAIR)
    assert c.shape == (1, 21)
    assert np.flatnonzero(c[0]).tolist() == [chosen, rejected]
    plus, minus = PAIR.log_prob[[chosen, rejected]]
    margin = plus - minus  # equal reference log-probabilities
    if loss.name == "dpo":
        expected = np.array([-1, 1]) * loss.beta / (1 + np.exp(loss.beta * margin))
    elif loss.name == "ipo":
        expected = np.array([1, -1]) * 2 * (margin - 0.5 / loss.beta)
    else:
        n = PAIR.tokens[[chosen, rejected]]
        slope = loss.beta / (1 + np.exp(loss.beta * (plus / n[0] - minus / n[1]) - loss.gamma))
        expected = np.array([-1, 1]) * slope / n
    np.testing.assert_allclose(c[0, [chosen, rejected]], expected, rtol=1e-12)


def test_on_a_log_linear_prompt_they_are_gradients_of_what_they_say(at_reference):
    """Catches a scored empty block where it is given, and the whole trace where half is meant."""
    for prompt in at_reference:
        pair, scores = prompt.pair([(2, 1)])
        model, ref = prompt.model, prompt.ref

        def of(estimator, pair=pair, scores=scores):
            return (estimator.coefficients(pair) @ scores)[0]

        given = [model.answer_score(ref, 0, y) for y in (0, 1)]
        np.testing.assert_allclose(of(EmptyVariant(DPO(2.0), "empty_shared")), given[1] - given[0], atol=1e-13)
        s = model.scores(ref)
        np.testing.assert_allclose(of(EmptyVariant(DPO(2.0), "empty_generated")), s[0, 1] - s[0, 0], atol=1e-13)
        np.testing.assert_allclose(of(EmptyTrace(DPO(2.0))), s[0, 1] - s[0, 0], atol=1e-13)
        np.testing.assert_allclose(of(ShortTrace(DPO(2.0))), s[0, 1] - s[1, 0], atol=1e-13)


def test_only_the_short_trace_is_random():
    """Catches a short trace taken for one that is fixed given the answers: it is half of a sampled trace."""
    assert not EmptyTrace(DPO()).random
    assert not EmptyVariant(DPO(), "empty_shared").random
    assert ShortTrace(DPO()).random
    assert not ShortTrace(DPO()).independent


def test_what_they_refuse():
    with pytest.raises(ValueError, match="variant must be 'empty_shared' or 'empty_generated', got 'short'"):
        EmptyVariant(DPO(), "short")
    for estimator in (EmptyVariant(DPO(), "empty_shared"), ShortTrace(DPO())):
        with pytest.raises(ValueError, match=r"'toy': its sequences '(empty_shared|short)' were not scored"):
            estimator.coefficients(toy_pair())


def test_names_of_the_plain_empty_trace_stay_as_they_are():
    """Committed tables and blocks name estimators by their repr."""
    assert repr(EmptyTrace(DPO(beta=0.1))) == "EmptyTrace(objective=DPO(beta=0.1))"
