"""A model that looks ahead, forgets to repeat itself or is in training mode is refused."""

import copy

import pytest
import torch
from torch import nn

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.guards import LOOK_AHEAD_TOLERANCE, probe, require_sound


def test_the_model_in_the_box_is_sound(lrm, lrm64):
    for model in (lrm.model, lrm64.model):
        seen = probe(model)
        assert seen.finite
        assert seen.repeat == 0
        assert seen.look_ahead < LOOK_AHEAD_TOLERANCE / 100
        require_sound(model)


def test_a_dropped_causal_mask_is_found(lrm, monkeypatch):
    monkeypatch.setattr("transformers.models.qwen3.modeling_qwen3.create_causal_mask", lambda **_: None)
    assert probe(lrm.model).look_ahead > 0.1
    with pytest.raises(InputError, match=r"changing later tokens changes earlier predictions .*attention eager"):
        require_sound(lrm.model)


def test_noise_is_found(lrm):
    noisy = copy.deepcopy(lrm.model)
    noisy.lm_head = nn.Sequential(noisy.lm_head, nn.Dropout(0.5).train())
    with pytest.raises(InputError, match="two passes over the same tokens differ"):
        require_sound(noisy)


def test_training_mode_is_refused(lrm):
    with pytest.raises(InputError, match=r"training mode.* call model.eval\(\)"):
        require_sound(copy.deepcopy(lrm.model).train())


def test_weights_that_are_not_finite_are_left_to_the_scoring(lrm):
    broken = copy.deepcopy(lrm.model)
    with torch.no_grad():
        broken.model.norm.weight[0] = torch.nan
    assert not probe(broken).finite
    require_sound(broken)
