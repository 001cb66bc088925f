"""Runs: they lower the loss, resume to the same bits, stop when they should, and refuse what they cannot do."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.training import TrainConfig, train
from bvpo_analysis.training.batches import BatchOrder
from bvpo_analysis.training.checkpoints import load_checkpoint

PAIRS = shipped_pairs("style", limit=8)
SHORT = {"batch_size": 4, "steps": 6, "lr": 3e-4, "save_every": 2, "warmup": 0.0}


def fresh(config, policy=None, **options):
    return train(config, policy or load_model(), PAIRS, **options)


@pytest.mark.parametrize(
    "method",
    [
        {"method": "dpo"},
        {"method": "empty"},
        {"method": "bvpo", "alpha": 0.5},
        {"method": "mixed_data"},
        {"method": "multi_trace", "traces": 2, "combination": "marginal"},
        {"method": "multi_trace", "traces": 2, "combination": "average"},
        {"method": "multi_trace", "traces": 4, "combination": "pooled"},
    ],
    ids=lambda m: "-".join(str(v) for v in m.values()),
)
def test_every_method_lowers_its_loss(method):
    """Catches ascent, and a gradient of something else."""
    options = {"batch_size": 8, "steps": 5, "lr": 3e-4, "warmup": 0.0, "final_rate": 1.0} | method
    log = fresh(TrainConfig(**options)).log
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert log[4]["loss"] < log[0]["loss"] - 0.002
    # Mixed data: two steps see every row, with and without a trace, once.
    weight = np.mean([row["alpha"] for row in log[:4]])
    assert weight == {"empty": 0.0, "bvpo": 0.5, "mixed_data": 0.5}.get(method["method"], 1.0)


def test_what_is_logged_of_a_step():
    """Catches a loss of one part, rewards without beta, and kappa that does not follow the rate."""
    options = {"beta": 0.5, "alpha": 0.25, "smoothness": 20.0, "lr": 1e-3, "evaluate_every": 1}
    seen = []
    run = fresh(TrainConfig(**(SHORT | options)), callbacks=[lambda step, lrm: seen.append(step) or {"mine": 2.0}])
    assert run.kappa == pytest.approx(0.02)
    assert seen == list(range(7))
    for row in run.log[:-1]:
        assert row["loss"] == pytest.approx(0.25 * row["trace/loss"] + 0.75 * row["empty/loss"], rel=1e-12)
        assert row["rewards/margins"] == pytest.approx(row["rewards/chosen"] - row["rewards/rejected"], abs=1e-9)
        assert row["kappa"] == pytest.approx(20.0 * row["learning_rate"])
        assert row["mine"] == 2.0
        assert row["sequences"] == 16
        assert {"epoch", "grad_norm", "trace/grad_norm", "empty/grad_norm", "rewards/accuracies"} <= set(row)
    assert run.log[0]["rewards/accuracies"] == 0.5
    # At the reference g_t and g_e are all there is, and the mix is at most as long as its parts.
    first = run.log[0]
    longest = 0.25 * first["trace/grad_norm"] + 0.75 * first["empty/grad_norm"]
    assert 0 < first["grad_norm"] <= longest
    log_ratio = run.log[3]["rewards/chosen"] / 0.5
    assert abs(log_ratio) > 1e-3
    assert run.log[3]["logps/chosen"] < 0


def test_rewards_of_a_reference_free_loss_are_per_token():
    log = fresh(TrainConfig(**(SHORT | {"loss": "simpo", "beta": 2.0, "gamma": 0.5, "steps": 1}))).log
    assert log[0]["rewards/chosen"] > 2.0 * log[0]["logps/chosen"] / 10
    assert log[0]["rewards/chosen"] < 0


def test_only_the_named_parameters_move():
    """Catches weight decay on frozen weights and a step on all of them."""
    before, lrm = load_model(), load_model()
    train(TrainConfig(**(SHORT | {"steps": 2, "weight_decay": 0.5}), params=r"layers\.2\.mlp"), lrm, PAIRS)
    old = dict(before.model.named_parameters())
    moved = {name for name, p in lrm.model.named_parameters() if not torch.equal(p, old[name])}
    assert moved == {name for name in old if "layers.2.mlp" in name}
    with pytest.raises(InputError, match="matches no parameter; names look like"):
        fresh(TrainConfig(**SHORT, params="no_such"))


def test_weight_decay_shrinks_what_has_no_gradient():
    """Catches decay inside the gradient of AdamW: decoupled, it multiplies weights by 1 - lr decay."""
    lrm = load_model()
    old = {n: p.clone() for n, p in lrm.model.named_parameters()}
    options = SHORT | {"steps": 1, "lr": 1e-2, "weight_decay": 0.5}
    plain, decayed = load_model(), lrm
    train(TrainConfig(**(options | {"weight_decay": 0.0})), plain, PAIRS)
    train(TrainConfig(**options), decayed, PAIRS)
    new = dict(plain.model.named_parameters())
    for name, p in decayed.model.named_parameters():
        assert torch.allclose(p, new[name] - 0.005 * old[name], atol=1e-6)


def test_parts_of_a_batch_add_up_to_it():
    """Catches gradient accumulation that sums means of parts."""
    ends = []
    for parts in (1, 4):
        lrm = load_model()
        train(TrainConfig(**(SHORT | {"steps": 2, "micro_batches": parts})), lrm, PAIRS)
        ends.append(torch.cat([p.flatten() for p in lrm.model.parameters()]))
    start = torch.cat([p.flatten() for p in load_model().model.parameters()])
    assert float((ends[0] - ends[1]).norm()) < 0.05 * float((ends[0] - start).norm())


def test_another_reference_changes_the_loss():
    """Catches a reference that is always the model itself."""
    reference = load_model()
    for p in reference.model.parameters():
        p.data *= 0.97
    log = fresh(TrainConfig(**(SHORT | {"steps": 1})), reference=reference).log
    assert abs(log[0]["rewards/chosen"]) > 1e-3


def test_copies_are_not_answers_to_an_empty_trace():
    copied = [replace(pair, empty_answers="copied") for pair in PAIRS]
    with pytest.raises(InputError, match="8 of 8 pairs have no empty-trace answers of their own, which --method bvpo"):
        train(TrainConfig(**SHORT), load_model(), copied)
    train(TrainConfig(**(SHORT | {"steps": 1}), copied_empty=True), load_model(), copied)
    train(TrainConfig(**(SHORT | {"steps": 1}), method="dpo"), load_model(), copied)


def test_a_mix_at_the_ends_is_the_method_alone():
    """Catches exchanged weights: alpha = 1 trains as dpo, alpha = 0 as empty."""
    for alpha, method in ((1.0, "dpo"), (0.0, "empty")):
        mixed, alone = load_model(), load_model()
        train(TrainConfig(alpha=alpha, **SHORT), mixed, PAIRS)
        train(TrainConfig(method=method, **SHORT), alone, PAIRS)
        for a, b in zip(mixed.model.parameters(), alone.model.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, optimiser):
    """Catches state that is not in the checkpoint: optimiser, running moments, noise, order of the batches."""
    config = TrainConfig(alpha="james_stein", optimiser=optimiser, momentum=0.5, **(SHORT | {"steps": 8}))
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    whole.mkdir()
    halted.mkdir()
    expected = fresh(config, folder=whole)

    def stop(step, lrm):
        if step >= 5:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(
            TrainConfig(**(config_dict(config) | {"evaluate_every": 1})), load_model(), PAIRS, halted, callbacks=[stop]
        )
    assert load_checkpoint(halted / "checkpoint.safetensors").step == 4
    found = train(config, load_model(), PAIRS, halted, resume=True)
    assert found.log == expected.log
    assert (halted / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    ends = [load_checkpoint(folder / "checkpoint.safetensors") for folder in (whole, halted)]
    for name, value in ends[0].parameters.items():
        assert torch.equal(value, ends[1].parameters[name])
    assert len(json.loads((whole / "log.jsonl").read_text().splitlines()[0])) > 10


def config_dict(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_early_stopping_waits_for_its_patience():
    """Catches a run that stops at once, or never."""
    seen = []

    def accuracy(step, lrm):
        seen.append(step)
        return {"eval/accuracy": {0: 0.5, 1: 0.7}.get(step, 0.6)}

    run = fresh(TrainConfig(**(SHORT | {"evaluate_every": 1, "patience": 2})), callbacks=[accuracy])
    assert run.stopped == "held-out accuracy has not risen for 2 evaluations"
    assert run.steps == 3
    assert seen[:4] == [0, 1, 2, 3]


def test_an_evaluation_is_counted_once_by_a_run_that_resumes(tmp_path):
    """Catches patience that runs out sooner because the evaluation before a checkpoint is counted again."""
    config = TrainConfig(**(SHORT | {"steps": 9, "evaluate_every": 2, "patience": 3, "save_every": 4}))

    def accuracy(step, lrm):
        return {"eval/accuracy": 0.5}

    def stop(step, lrm):
        if step == 5:
            raise KeyboardInterrupt
        return {}

    stop.every = 1
    with pytest.raises(KeyboardInterrupt):
        fresh(config, folder=tmp_path, callbacks=[accuracy, stop])
    assert load_checkpoint(tmp_path / "checkpoint.safetensors").step == 4
    resumed = fresh(config, folder=tmp_path, callbacks=[accuracy], resume=True)
    whole = fresh(config, callbacks=[accuracy])
    assert (resumed.steps, resumed.stopped) == (whole.steps, whole.stopped)
    assert whole.steps == 6
    assert resumed.log == whole.log


@pytest.mark.parametrize(("best", "steps"), [(1, 3), (4, 6)])
def test_early_stopping_ends_with_the_weights_of_the_best_evaluation(tmp_path, best, steps):
    """Catches a run that ends with its last weights, whether it was stopped, or interrupted after the best step."""
    config = TrainConfig(**(SHORT | {"steps": 9, "evaluate_every": 1, "patience": 2, "save_every": 1}))
    weights = {}

    def accuracy(step, lrm):
        weights.setdefault(step, next(lrm.model.parameters()).detach().clone())
        now = next(lrm.model.parameters())
        return {"eval/accuracy": 0.1 * step if torch.equal(now, weights[step]) and step <= best else 0.05}

    def interrupt(step, lrm):
        if step == best + 1:
            raise KeyboardInterrupt
        return {}

    whole = fresh(config, callbacks=[accuracy], policy=(policy := load_model()))
    with pytest.raises(KeyboardInterrupt):
        fresh(config, folder=tmp_path, callbacks=[accuracy, interrupt])
    resumed = fresh(config, folder=tmp_path, callbacks=[accuracy], resume=True, policy=(other := load_model()))
    assert (whole.steps, whole.kept_step) == (resumed.steps, resumed.kept_step) == (steps, best)
    assert whole.log[-1]["kept_step"] == best
    for lrm in (policy, other):
        assert torch.equal(next(lrm.model.parameters()), weights[best])
        assert not torch.equal(next(lrm.model.parameters()), weights[steps])


def test_a_run_to_its_end_with_patience_ends_with_its_best_weights():
    """Catches best weights that are put back only where a run was stopped, and a last evaluation that is not seen."""
    for rising, kept in ((True, 4), (False, 2)):
        config = TrainConfig(**(SHORT | {"steps": 4, "evaluate_every": 1, "patience": 3}))
        seen = []

        def accuracy(step, lrm, seen=seen, rising=rising):
            seen.append(next(lrm.model.parameters()).detach().clone())
            return {"eval/accuracy": 0.1 * step if rising or step <= 2 else 0.1}

        run = fresh(config, callbacks=[accuracy], policy=(policy := load_model()))
        assert (run.steps, run.kept_step, run.stopped) == (4, kept, "")
        assert torch.equal(next(policy.model.parameters()), seen[kept])


def test_clipping_bounds_the_step():
    """Catches clipping of a part, or of nothing: plain SGD moves by rate x clip at most."""
    before, lrm = load_model(), load_model()
    train(TrainConfig(**(SHORT | {"steps": 1}), optimiser="sgd", clip=1e-3), lrm, PAIRS)
    pairs = zip(before.model.parameters(), lrm.model.parameters(), strict=True)
    moved = torch.cat([(a - b).flatten() for a, b in pairs]).norm()
    assert float(moved) == pytest.approx(3e-4 * 1e-3, rel=1e-2)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    config = TrainConfig(**(SHORT | {"lr": 1e6, "optimiser": "sgd", "clip": None, "save_every": 1, "steps": 50}))
    with pytest.raises(StudyError, match=r"^step \d+, batch of prompts style-.*smaller learning rate"):
        fresh(config, folder=tmp_path)
    held = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == held.step
    for name, value in load_model().model.named_parameters():
        assert held.step > 0 or torch.equal(held.parameters[name], value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 16}, "--batch-size 16 is more than the 8 rows"),
        ({"method": "multi_trace", "traces": 9}, "has 4 .*traces per answer|traces"),
    ],
)
def test_data_that_do_not_suffice(options, says):
    with pytest.raises(InputError, match=says):
        fresh(TrainConfig(**(SHORT | options)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "ppo"}, "--method must be one of dpo, empty"),
        ({"alpha": 2.0}, r"--alpha must be in \[0, 1\]"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"steps": 1.5}, "--steps must be a whole number, got 1.5"),
        ({"lr": "fast"}, "--lr must be a number, got 'fast'"),
        ({"lr": -1.0}, "--lr must be a positive number"),
        ({"batch_size": 3}, "--batch-size 3 must be a multiple of --micro-batches 2"),
        ({"alpha": "auto", "batch_size": 3, "micro_batches": 3}, "needs an even number of --micro-batches"),
        ({"method": "multi_trace"}, "multi_trace needs --traces 2 or more"),
        ({"combination": "sum"}, "--combination must be one of average, marginal, pooled"),
        ({"model": "m"}, "--model needs --data"),
    ],
)
def test_options_out_of_range(options, says):
    with pytest.raises(InputError, match=says):
        TrainConfig(**options)


def test_a_configuration_replays(tmp_path):
    config = TrainConfig(alpha="auto", steps=7, clip=None)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config
    assert TrainConfig.from_yaml(tmp_path / "config.yaml", {"steps": 8}).steps == 8
    (tmp_path / "config.yaml").write_text("stepps: 3\n")
    with pytest.raises(InputError, match="unknown option 'stepps'"):
        TrainConfig.from_yaml(tmp_path / "config.yaml")


def test_an_epoch_sees_every_row_once_and_epochs_differ():
    """Catches sampling with replacement and an order that repeats."""
    order = BatchOrder(rows=6, batch_size=4, seed=1)
    rows = [i for step in range(6) for i in order.batch(step)]
    epochs = [rows[k : k + 6] for k in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert order.epoch(3) == 2.0
    with pytest.raises(ValueError, match=r"batch_size must be in 1..6"):
        BatchOrder(rows=6, batch_size=7)


TWO_PROCESSES = """
import json, os, sys, torch
torch.set_num_threads(1)
from bvpo_analysis import load_model, shipped_pairs
from bvpo_analysis.training import TrainConfig, train
run = train(TrainConfig(alpha="auto", batch_size=8, steps=7, lr=3e-4), load_model(), shipped_pairs("style", limit=8))
if os.environ.get("RANK", "0") == "0":
    shown = ("alpha", "grad_norm", "loss", "logps/chosen", "tokens")
    print(json.dumps([[row[k] for k in shown] for row in run.log[:-1]]))
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    """Catches a mean of means and a weight that differs between processes."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    one, two = (
        subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=300).stdout
        for command in ([sys.executable, str(script)], launch)
    )
    np.testing.assert_allclose(json.loads(two.strip().splitlines()[-1]), json.loads(one.strip()), rtol=2e-4)
