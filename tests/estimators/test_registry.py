"""The registry: every entry does what it says, by enumeration where it claims to be unbiased."""

from dataclasses import replace

import numpy as np
import pytest

from bvpo_analysis import estimators
from bvpo_analysis.estimators import ESTIMATORS, Estimator, Marginal, Sum, available
from bvpo_analysis.objectives import DPO, IPO, SimPO
from bvpo_analysis.testing import toy_pair

KEYS = [
    "trace",
    "mean_of_2",
    "mean_of_4",
    "mean_of_8",
    "marginal_2",
    "marginal_4",
    "marginal_8",
    "jackknife_2",
    "jackknife_4",
    "jackknife_8",
    "randomised",
    "pooled_2",
    "pooled_4",
    "coupled_2",
    "coupled_4",
    "coupled_8",
    "prior_shared",
    "prior_independent",
    "prior_controlled",
    "empty",
    "empty_shared",
    "empty_generated",
    "short",
]
LOSSES = (DPO(1.5), IPO(0.8))


def realisations(prompt, key, loss):
    """All values of an estimator with their probabilities, whatever it takes; None for fixed sequences."""
    entry = ESTIMATORS[key]
    estimator, needs = entry.make(loss), entry.needs
    if needs.variants or not estimator.random:
        return None
    if needs.posterior and needs.prior:
        return prompt.from_pools(estimator, needs.prior)
    if needs.prior:
        return prompt.from_prior(estimator, needs.prior)
    return prompt.from_draws(estimator, needs.posterior, ordered=key == "randomised")


def test_keys_are_stable_and_in_order():
    """Committed tables refer to them."""
    assert list(ESTIMATORS) == KEYS
    assert [entry.key for entry in ESTIMATORS.values()] == KEYS
    assert len({entry.label for entry in ESTIMATORS.values()}) == len(KEYS)


def test_every_estimator_of_the_package_has_an_entry():
    """Catches an estimator that no study would show; the target and sums are no estimators of their own."""
    public = {x for x in vars(estimators).values() if isinstance(x, type) and issubclass(x, Estimator)}
    registered = {type(entry.make(DPO())) for entry in ESTIMATORS.values()}
    assert public - registered == {Estimator, Sum, Marginal}


@pytest.fixture
def two_traces(at_reference):
    """Prompts of two traces at the reference."""
    return [replace(p, model=type(p.model)(p.model.features[:2])) for p in at_reference]


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("key", [key for key in KEYS if ESTIMATORS[key].unbiased != "nowhere"])
def test_entries_that_claim_to_be_unbiased_at_the_reference_are(two_traces, key, loss):
    """Catches a wrong entry and a wrong estimator alike."""
    assert ESTIMATORS[key].unbiased_for(loss, at_reference=True)
    assert not ESTIMATORS[key].unbiased_for(loss, at_reference=False)
    for prompt in two_traces:
        found = realisations(prompt, key, loss)
        np.testing.assert_allclose(found.mean, prompt.target(loss), atol=1e-11 * np.abs(found.g).max())


@pytest.mark.parametrize("key", [key for key in KEYS if ESTIMATORS[key].unbiased == "nowhere"])
def test_entries_that_claim_no_unbiasedness_have_a_bias(two_traces, key):
    """Power of the test above; for the empty and short traces the bias is that of a fixed gradient."""
    entry = ESTIMATORS[key]
    assert not entry.unbiased_for(DPO(), at_reference=True)
    for prompt in two_traces:
        pair, scores = prompt.pair([(1, 1)])
        found = realisations(prompt, key, LOSSES[0])
        mean = (entry.make(LOSSES[0]).coefficients(pair) @ scores)[0] if found is None else found.mean
        assert np.linalg.norm(mean - prompt.target(LOSSES[0])) > 1e-3


@pytest.mark.parametrize("key", [key for key in KEYS if ESTIMATORS[key].unbiased == "in the limit"])
def test_entries_in_the_limit_are_biased_off_the_reference_by_less_than_one_trace(off_reference, key):
    """Catches "in the limit" said of a mean of joint gradients, whose bias does not fall."""
    for prompt in off_reference:
        mu = prompt.target(LOSSES[0])
        bias, single = (np.linalg.norm(realisations(prompt, k, LOSSES[0]).mean - mu) for k in (key, "trace"))
        assert 1e-6 < bias < 0.75 * single


@pytest.mark.parametrize("key", [key for key in KEYS if ESTIMATORS[key].reference_free])
def test_entries_that_take_reference_free_losses_do_and_claim_nothing_for_them(two_traces, key):
    entry = ESTIMATORS[key]
    assert not entry.unbiased_for(SimPO(), at_reference=True)
    pair, _ = two_traces[0].pair([(0, 1), (1, 1)] * 4, [0, 1, 1, 0, 1, 0, 1])
    assert np.isfinite(entry.make(SimPO()).coefficients(pair)).all()


@pytest.mark.parametrize("key", [key for key in KEYS if not ESTIMATORS[key].reference_free])
def test_entries_that_do_not_take_reference_free_losses_refuse_them(key):
    with pytest.raises(ValueError, match="the simpo loss depends on log pi"):
        ESTIMATORS[key].make(SimPO())


def test_what_is_available_can_be_computed_and_what_is_not_cannot(two_traces):
    """Catches needs that are stated wrongly, on pairs with less and less in them."""
    whole, _ = two_traces[0].pair([(0, 1), (1, 1)] * 4, [0, 1, 1, 0, 1, 0, 1])
    enumerated, _ = two_traces[0].model.pair(two_traces[0].ref, two_traces[0].ref, 0, 1)
    off = replace(whole, log_prob=whole.log_prob - 0.1)
    bare, further = toy_pair(), toy_pair(further=True)
    assert available(whole) == tuple(KEYS)
    assert set(available(off)) == set(KEYS) - {"pooled_2", "pooled_4"}
    assert set(available(replace(further, variants={}))) == {*available(bare), *KEYS[11:13], *KEYS[16:19]}
    for pair in (whole, enumerated, off, bare, further, replace(further, trace_only=np.empty(0, dtype=np.int64))):
        for loss in (DPO(), SimPO()):
            keys = available(pair, loss)
            for key, entry in ESTIMATORS.items():
                if key in keys:
                    estimator = entry.make(loss)
                    assert estimator.coefficients(pair).shape == (len(estimator.weights(pair)), pair.size)
                elif entry.reference_free or not loss.reference_free:
                    with pytest.raises(ValueError, match=r"^prompt "):
                        entry.make(loss).coefficients(pair)
                    if entry.make(loss).random and key != "short":
                        with pytest.raises(ValueError, match=r"^prompt "):
                            entry.make(loss).weights(pair)


@pytest.mark.parametrize("key", KEYS)
def test_what_must_be_generated_is_what_a_realisation_rests_on(key):
    """Catches costs of another K: on all-different traces, count the sequences behind one realisation."""
    count = 16
    size = 21 + 2 * count
    base = toy_pair(further=True)
    log_prob = np.full(size, -4.0)
    draws = np.stack([21 + np.arange(count), 21 + count + np.arange(count)], axis=1)
    pair = replace(
        base,
        log_prob=log_prob,
        log_prob_ref=log_prob,
        log_prob_answer=np.linspace(-3.0, -1.0, size),
        tokens=np.full(size, 4),
        tokens_answer=np.full(size, 2),
        draws=draws,
        weights=np.full(count, 1 / count),
    )
    entry = ESTIMATORS[key]
    estimator = entry.make(DPO())
    rows, weights = estimator.coefficients(pair) != 0, estimator.weights(pair)
    generated = entry.generated
    posterior = weights @ rows[:, 21:].sum(axis=1)
    if key.startswith("coupled"):
        assert posterior == 2
        assert generated.posterior == 2 * estimator.needs.posterior  # the others of its group were generated too
    elif key == "short":
        assert (rows[0, 19:21].sum(), generated.posterior) == (2, 2)
    elif key == "randomised":
        assert generated.posterior == pytest.approx(2 * (0.738796 * 2 + 0.261204 * 4), rel=1e-5)
    else:
        assert posterior == generated.posterior
    prior = np.unique(np.argwhere(pair.prior[:, :, None] == np.flatnonzero(rows[0]))[:, 0])
    assert len(prior) == generated.prior
    own = rows[0, [4, 5, 17, 18]].sum()
    assert own == generated.empty
