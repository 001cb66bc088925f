"""Held-out pairs: how they are chosen and what is said of them."""

import numpy as np
import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.preferences.shipped import shipped_pairs
from bvpo_analysis.training import HeldOut, TrainConfig, split_pairs, train

PAIRS = shipped_pairs("style", limit=24)


def test_the_parts_are_disjoint_and_depend_on_the_seed():
    """Catches a pair that is trained on and evaluated on."""
    ids = {p.prompt_id for p in PAIRS}
    parts = [split_pairs(PAIRS, 0.25, seed) for seed in (0, 0, 1)]
    for training, held in parts:
        assert len(held) == 6
        assert {p.prompt_id for p in training} | {p.prompt_id for p in held} == ids
        assert len(training) == 18
    assert parts[0] == parts[1]
    assert parts[0] != parts[2]
    assert split_pairs(PAIRS, 0.0, 0)[1] == []
    assert len(split_pairs(PAIRS, 0.01, 0)[1]) == 1
    with pytest.raises(InputError, match=r"--held-out 0.01 of 1 pairs leaves none to train on"):
        split_pairs(PAIRS[:1], 0.01, 0)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo"])
def test_at_the_reference_nothing_is_known(loss):
    """Catches a sign of the margin and the reference of another sequence: all ties but for a reference-free loss."""
    lrm = load_model()
    config = TrainConfig(loss=loss, beta=0.5)
    found = HeldOut.of(config, lrm, PAIRS[:6])(0, lrm)
    value = {"dpo": np.log(2.0), "ipo": 1.0}.get(loss)
    for kind in ("", "empty_"):
        if value is not None:
            assert found[f"eval/{kind}loss"] == pytest.approx(value, rel=1e-12)
            assert found[f"eval/{kind}accuracy"] == 0.5
            assert found[f"eval/{kind}accuracy_se"] == 0.0
            assert found[f"eval/{kind}accuracy_low"] < 0.3 < 0.7 < found[f"eval/{kind}accuracy_high"]
    with pytest.raises(InputError, match="no held-out pairs"):
        HeldOut.of(config, lrm, [])


def test_training_raises_the_accuracy_on_its_own_pairs():
    """Catches an accuracy of the rejected completion."""
    lrm = load_model()
    config = TrainConfig(batch_size=8, steps=6, evaluate_every=6, warmup=0.0, final_rate=1.0)
    run = train(config, lrm, PAIRS[:8], callbacks=[HeldOut.of(config, lrm, PAIRS[:8])])
    first, last = run.log[0], run.log[-1]
    assert first["eval/accuracy"] == 0.5
    assert last["eval/accuracy"] > 0.8
    assert last["eval/loss"] < first["eval/loss"]
    assert last["eval/empty_loss"] < first["eval/empty_loss"]
