"""One run: what it records, and that looking at it does not change it."""

import numpy as np
import pytest
import torch

from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.training import TrainConfig, train
from bvpo_analysis.training_study.arms import Run, core_arms
from bvpo_analysis.training_study.probe import VARIANCES, Probe
from bvpo_analysis.training_study.run import (
    TINY,
    Size,
    at_start,
    displacement,
    held_out_pairs,
    measured_pairs,
    run_one,
    the_reference,
    training_pairs,
)


def arm(name, regime="style"):
    return next(a for a in core_arms() if (a.name, a.regime) == (name, regime))


@pytest.mark.slow
def test_a_run_is_the_trainer_with_its_options():
    """Catches callbacks that change training: weights, random numbers, or what needs a gradient."""
    found = run_one(Run(arm("alpha=auto"), 0), TINY)
    lrm = load_model()
    config = arm("alpha=auto").config(0, steps=TINY.steps, evaluate_every=2)
    alone = train(config, lrm, training_pairs("style", TINY))
    assert [row["loss"] for row in found["log"]] == pytest.approx([row["loss"] for row in alone.log[:-1]], rel=1e-8)
    assert found["displacement"] == displacement(lrm, the_reference())
    assert [point["step"] for point in found["curve"]] == [0, 2, 4]
    assert found["curve"][0] == {"step": 0} | at_start(TINY.held_out_pairs)
    assert found["held_out"] == {name: values for name, values in found["curve"][-1].items() if name != "step"}
    assert [probe["step"] for probe in found["probes"]] == [2, 4]
    assert all(parameter.requires_grad is False for parameter in the_reference().model.parameters())


def test_no_pair_is_trained_on_and_held_out_or_stopped_by():
    """Catches early stopping that is judged by the pairs it chose its weights on."""
    size = Size()
    parts = [training_pairs("valid", size), held_out_pairs("valid", size)]
    stopping = measured_pairs("valid", size, "stopping").plans
    names = [{pair.prompt_id for pair in part} for part in parts] + [{plan.pair.prompt_id for plan in stopping}]
    assert [len(part) for part in names] == [size.train_pairs, size.held_out_pairs, size.stopping_pairs]
    assert len(set.union(*names)) == 256
    assert at_start(2)["marginal_loss"] == pytest.approx([np.log(2)] * 2)


def test_a_probe_away_from_the_reference_sees_the_reference():
    """Catches a policy that is taken for its own reference because its weights changed in place.

    After one large step the margins are not zero, so the coefficients are not beta/2 any more and g_t is biased.
    """
    reference, policy = load_model(), load_model()
    pairs = shipped_pairs("correct", limit=4)
    train(TrainConfig(method="dpo", optimiser="sgd", lr=1.0, steps=2, batch_size=4, warmup=0.0), policy, pairs)
    probe = Probe(reference, pairs)
    start, moved = probe.at(reference), probe.at(policy)
    assert start["bias_t_sq"] == pytest.approx(0.0, abs=1e-9)
    assert abs(moved["bias_t_sq"]) > 1e-4 * moved["target_sq"]
    assert moved["var_t"] != pytest.approx(start["var_t"], rel=0.02)
    assert moved["var_c:0.5"] == pytest.approx(
        (0.25 * moved["var_t"] + 0.25 * moved["var_e"] + 0.5 * moved["cov_te"]) / 16
    )
    assert probe.objective == DPO(0.1)
    for found in (start, moved):
        assert {name: len(values) for name, values in found["without"].items()} == dict.fromkeys(VARIANCES, 4)
        assert found["alpha_low"] < found["alpha"] < found["alpha_high"]


def test_a_displacement_has_its_norm_and_a_sketch_of_it():
    reference, policy = load_model(), load_model()
    torch.manual_seed(0)
    total = 0.0
    with torch.no_grad():
        for parameter in policy.model.parameters():
            step = 0.01 * torch.randn_like(parameter)
            parameter.add_(step)
            total += float(step.double().square().sum())
    found = displacement(policy, reference)
    assert found["norm"] == pytest.approx(np.sqrt(total), rel=1e-4)
    assert np.linalg.norm(found["sketch"]) == pytest.approx(np.sqrt(total), rel=0.15)
    assert displacement(reference, reference)["norm"] == 0.0
