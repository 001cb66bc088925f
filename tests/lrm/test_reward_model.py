"""Reward models: one logit of prompt and answer, the same alone and among others; unfit ones are refused."""

import pytest
import torch
from families import family_tokenizer
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.lrm.reward_model import load_reward_model

PROMPT = ({"role": "user", "content": "What is 3 times 4?"},)


def save(folder, *, labels=1, template=True, context=256):
    tokenizer = family_tokenizer("qwen3")
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        num_labels=labels,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForSequenceClassification(config).save_pretrained(folder)
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def test_a_score_is_the_logit_after_the_last_token(tmp_path):
    reward = load_reward_model(save(tmp_path))
    turn = {"role": "assistant", "content": "It is 12."}
    text = reward.tokenizer.apply_chat_template([*PROMPT, turn], tokenize=False)
    ids = torch.tensor([reward.tokenizer(text, add_special_tokens=False)["input_ids"]])
    hidden = reward.model.model(ids).last_hidden_state[0, -1]
    expected = float(reward.model.score.weight[0] @ hidden)
    assert reward.score(PROMPT, "It is 12.") == pytest.approx(expected, rel=1e-5)
    assert reward.score(PROMPT, "It is 13.") != reward.score(PROMPT, "It is 12.")
    assert not reward.model.training


def test_unfit_reward_models_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such folder.*give --reward-model a directory"):
        load_reward_model(tmp_path / "none")
    with pytest.raises(InputError, match="has 3 outputs; a reward model has one"):
        load_reward_model(save(tmp_path / "three", labels=3))
    with pytest.raises(InputError, match="has no chat template"):
        load_reward_model(save(tmp_path / "plain", template=False))
    headless = save(tmp_path / "headless")
    weights = load_file(headless / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, headless / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lack score\.weight, so its scores would be random"):
        load_reward_model(headless)
    pickled = save(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="no reward model could be loaded"):
        load_reward_model(pickled)


def test_what_cannot_be_scored_stops_with_the_reason(tmp_path):
    reward = load_reward_model(save(tmp_path, context=32))
    with pytest.raises(StudyError, match="reads 32 tokens at most"):
        reward.score(PROMPT, "It is twelve. " * 20)
    torch.nn.init.constant_(reward.model.score.weight, float("nan"))
    with pytest.raises(StudyError, match="gives nan; check its weights"):
        reward.score(PROMPT, "12")
