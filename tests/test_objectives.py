"""Losses: coefficients are the derivative of the loss, at any margin, with the sign of a loss gradient."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from bvpo_analysis.objectives import DPO, IPO, OBJECTIVES, SequenceLogProbs, SimPO

LOG_PROBS = st.floats(-1e3, 0.0)
BETAS = st.floats(-2.0, 0.7).map(lambda x: 10.0**x)
LOSSES = st.one_of(
    st.builds(DPO, beta=BETAS), st.builds(IPO, beta=BETAS), st.builds(SimPO, beta=BETAS, gamma=st.floats(-2.0, 2.0))
)
TOKENS = st.integers(1, 200)


def side(*numbers: float) -> SequenceLogProbs:
    return SequenceLogProbs(*(np.array([float(x)]) for x in numbers))


def sides(chosen, rejected, chosen_ref, rejected_ref, chosen_tokens=7, rejected_tokens=9):
    return side(chosen, chosen_ref, chosen_tokens), side(rejected, rejected_ref, rejected_tokens)


def loss_of(objective, chosen, rejected) -> float:
    return float(
        objective.loss(
            *(
                torch.from_numpy(x)
                for x in (
                    chosen.log_prob,
                    rejected.log_prob,
                    chosen.log_prob_ref,
                    rejected.log_prob_ref,
                    chosen.tokens,
                    rejected.tokens,
                )
            )
        )
    )


def autograd(objective, chosen, rejected) -> tuple[float, float]:
    x, y = (torch.tensor(s.log_prob, requires_grad=True) for s in (chosen, rejected))
    rest = [torch.from_numpy(v) for v in (chosen.log_prob_ref, rejected.log_prob_ref, chosen.tokens, rejected.tokens)]
    first, second = torch.autograd.grad(objective.loss(x, y, *rest).sum(), [x, y])
    return float(first), float(second)


# torch's softplus is linear beyond 20, where its derivative is 1 instead of sigmoid(20) = 1 - 2e-9.
LINEAR = 3e-9


@given(LOSSES, LOG_PROBS, LOG_PROBS, LOG_PROBS, LOG_PROBS, TOKENS, TOKENS)
def test_coefficients_are_the_derivative_of_the_loss(objective, c, r, c_ref, r_ref, c_tokens, r_tokens):
    """Catches sigmoid(+m) for sigmoid(-m), a lost beta, a swapped side, and the wrong length in SimPO."""
    pair = sides(c, r, c_ref, r_ref, c_tokens, r_tokens)
    got = [float(x[0]) for x in objective.coefficients(*pair)]
    np.testing.assert_allclose(got, autograd(objective, *pair), rtol=LINEAR, atol=1e-300)


@pytest.mark.parametrize("objective", [DPO(0.01), DPO(1.0), IPO(0.1), SimPO(2.0, 1.0)], ids=repr)
@pytest.mark.parametrize("margin", [-1e3, -30.0, 0.0, 30.0, 1e3])
def test_extreme_margins_do_not_overflow(objective, margin):
    """Catches exp(-m) computed on the wrong branch: inf, nan or a warning (warnings are errors here)."""
    pair = sides(*((margin, 0.0) if margin < 0 else (0.0, -margin)), 0.0, 0.0, 1, 1)
    got = np.array([x[0] for x in objective.coefficients(*pair)])
    assert np.isfinite(got).all()
    assert np.isfinite(loss_of(objective, *pair))
    np.testing.assert_allclose(got, autograd(objective, *pair), rtol=LINEAR, atol=1e-300)


@pytest.mark.parametrize("objective", [DPO(0.1), SimPO(2.0, 1.0)], ids=repr)
def test_the_slope_saturates_where_the_pair_is_wrong_and_fades_where_it_is_right(objective):
    """Catches sigmoid(+m): wrongly ordered pairs must get the whole slope, rightly ordered ones none."""
    wrong, right = sides(-1e3, 0, 0, 0, 1, 1), sides(0, -1e3, 0, 0, 1, 1)
    np.testing.assert_allclose(np.ravel(objective.coefficients(*wrong)), [-objective.beta, objective.beta], rtol=1e-12)
    np.testing.assert_allclose(np.ravel(objective.coefficients(*right)), 0.0, atol=1e-40)


@given(LOSSES, *[st.floats(-5.0, 0.0)] * 4, TOKENS, TOKENS)
def test_descent_on_the_loss_lowers_it_and_raises_the_margin(objective, c, r, c_ref, r_ref, c_tokens, r_tokens):
    """Catches the ascent sign: gradients here are gradients of the loss, followed downhill."""
    pair = sides(c, r, c_ref, r_ref, c_tokens, r_tokens)
    (first,), (second,) = objective.coefficients(*pair)
    norm = np.hypot(first, second)
    assume(norm > 1e-6)
    step = 1e-4 / norm
    if isinstance(objective, IPO):
        step *= min(1.0, norm)
    moved = sides(c - step * first, r - step * second, c_ref, r_ref, c_tokens, r_tokens)
    drop = loss_of(objective, *pair) - loss_of(objective, *moved)
    assert drop == pytest.approx(step * norm**2, rel=0.05)
    if not isinstance(objective, IPO) or (c - c_ref) - (r - r_ref) < 0.5 / objective.beta:
        assert first < 0 < second


@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_at_the_reference_dpo_and_ipo_do_not_look_at_the_sequence(beta):
    """Catches coefficients that vary with the trace at the reference, which would make g_t biased there."""
    lengths = np.array([3.0, 50.0])
    one = SequenceLogProbs(np.array([-2.0, -70.0]), np.array([-2.0, -70.0]), lengths)
    other = SequenceLogProbs(np.array([-9.0, -1.0]), np.array([-9.0, -1.0]), lengths[::-1])
    np.testing.assert_array_equal(DPO(beta).coefficients(one, other), [[-beta / 2] * 2, [beta / 2] * 2])
    np.testing.assert_allclose(IPO(beta).coefficients(one, other), [[-1 / beta] * 2, [1 / beta] * 2], rtol=1e-15)
    chosen, rejected = SimPO(beta).coefficients(one, other)
    assert abs(chosen[0] / chosen[1] - 1) > 0.1
    assert abs(rejected[0] / rejected[1] - 1) > 0.1


def test_worked_values():
    """Catches a wrong constant that derivative checks cannot see, such as IPO's 1/(2 beta) or a missing gamma."""
    pair = sides(-3.0, -5.0, -4.0, -4.5, 2, 4)  # log-ratios 1 and -1/2, mean log-probabilities -1.5 and -1.25
    assert loss_of(DPO(2.0), *pair) == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-14)
    assert loss_of(IPO(0.25), *pair) == pytest.approx(0.25, rel=1e-14)
    assert loss_of(SimPO(2.0, 1.0), *pair) == pytest.approx(np.log1p(np.exp(1.5)), rel=1e-14)


@pytest.mark.parametrize("reference_free", [False, True])
def test_the_flag_says_whether_the_reference_matters(reference_free):
    """Catches a loss that reads the reference although it declares not to, or the reverse."""
    for kind in OBJECTIVES.values():
        if kind.reference_free is reference_free:
            near, far = (kind(0.3).coefficients(*sides(-3.0, -5.0, ref, -4.5)) for ref in (-4.0, -8.0))
            assert np.array_equal(near, far) is reference_free


@pytest.mark.parametrize("kind", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.parametrize("beta", [0.0, -0.1, np.nan, np.inf])
def test_a_bad_beta_raises(kind, beta):
    """Catches a loss whose sign turns with beta, or NaN that travels into every number."""
    with pytest.raises(ValueError, match="beta must be a positive number"):
        kind(beta=beta)


@pytest.mark.parametrize("gamma", [np.nan, np.inf])
def test_a_bad_gamma_raises(gamma):
    """Catches NaN that travels into every number."""
    with pytest.raises(ValueError, match="gamma must be finite"):
        SimPO(gamma=gamma)


def test_objectives_are_listed_by_their_names():
    """Catches a loss that the command line cannot name."""
    assert {name: kind.name for name, kind in OBJECTIVES.items()} == {"dpo": "dpo", "ipo": "ipo", "simpo": "simpo"}
