"""A probe says what the analyser says: at the reference that of a report, off it that of an estimated target."""

import json

import pytest
import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.study import Study
from bvpo_analysis.training import TrainConfig, train
from bvpo_analysis.training.probe import Probe, probe_pairs, probed

PAIRS = shipped_pairs("style", limit=8)
CONFIG = TrainConfig(batch_size=4, steps=2, alpha=0.3, probe_every=2, probe_pairs=6, warmup=0.0, lr=1e-3)


@pytest.fixture(scope="module")
def run():
    lrm = load_model()
    probe = Probe.of(CONFIG, lrm, PAIRS)
    return probe, train(CONFIG, lrm, PAIRS, callbacks=[probe]), lrm


def test_at_the_reference_it_is_the_study(run):
    """Catches another batch size, other pairs, other traces, and a policy that has moved already."""
    probe, found, _ = run
    row = found.log[0]
    study = Study.from_pairs(load_model(), probe_pairs(PAIRS, 6, 0), traces=4)
    law, alpha = study.law(batch_size=4), study.optimal_alpha(batch_size=4)
    assert len(probe.pairs) == 6
    assert row["probe/alpha"] == alpha.estimate.value
    assert row["probe/alpha_low"] == alpha.estimate.ci_low
    assert row["probe/alpha_high"] == alpha.estimate.ci_high
    assert row["probe/var_t"] == law.var_t[0]
    assert row["probe/var_e"] == law.var_e[0]
    mixed = 0.09 * law.var_t[0] + 0.49 * law.var_e[0] + 0.42 * law.cov_te[0]
    assert row["probe/var_c"] == pytest.approx(mixed, rel=1e-12)
    assert row["probe/var_c_low"] < row["probe/var_c"] < row["probe/var_c_high"]
    assert row["probe/var_c_alpha"] == 0.3
    assert row["probe/bias_t_sq"] == 0.0
    assert row["probe/bias_e_sq"] == study.moments().loc["bias_e_sq", "value"]
    assert "probe/ess_share" not in row


def test_the_variance_is_that_of_what_the_method_steps_along():
    """Catches the variance of the equal mix shown for a run on g_t alone, or for one that trains on no mix."""
    study = Study.from_pairs(load_model(), probe_pairs(PAIRS, 6, 0), traces=4)
    law = study.law(batch_size=4)
    for method, variance in (("dpo", law.var_t), ("empty", law.var_e)):
        config = TrainConfig(method=method, batch_size=4)
        assert probed(study, config)["var_c"] == pytest.approx(variance[0], rel=1e-12)
    for options in ({"method": "mixed_data"}, {"method": "multi_trace", "traces": 4}):
        assert "var_c" not in probed(study, TrainConfig(batch_size=4, **options))


def test_off_the_reference_the_target_is_estimated(run):
    """Catches a reference that is trained along, under which nothing would ever be off it."""
    probe, found, lrm = run
    last = found.log[-1]
    assert 0.5 < last["probe/ess_share"] < 1.0
    assert last["probe/bias_t_sq"] != 0.0
    assert last["probe/var_t"] != found.log[0]["probe/var_t"]
    assert "probe/alpha" not in found.log[1]
    again = probe.study(lrm)
    assert last["probe/alpha"] == again.optimal_alpha(batch_size=4).estimate.value
    assert again.off_reference is not None


def test_it_leaves_the_training_as_it_is(run):
    """Catches gradients that are switched off, and hooks that stay."""
    plain = load_model()
    train(CONFIG, plain, PAIRS)
    for a, b in zip(plain.model.parameters(), run[2].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_it_logs_is_json(run):
    for row in run[1].log:
        json.dumps(row, allow_nan=False)


def test_too_few_traces_are_refused():
    with pytest.raises(InputError, match="traces"):
        Probe.of(TrainConfig(probe_every=2, probe_pairs=6, probe_traces=9), load_model(), PAIRS)
    with pytest.raises(InputError, match="--probe-traces must be at least 2"):
        TrainConfig(probe_every=2, probe_traces=1)
    with pytest.raises(InputError, match="--probe-every needs a loss with a reference"):
        TrainConfig(probe_every=2, loss="simpo")
