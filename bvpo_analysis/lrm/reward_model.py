"""Reward models: sequence classifiers with one output that read a prompt and an answer, never a trace.

Each (prompt, answer) is scored on its own, without padding or neighbours, so that a score is a function of its text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bvpo_analysis.errors import InputError, StudyError, one_line


@dataclass(frozen=True)
class RewardModel:
    """A sequence classifier with one output and the tokenizer whose chat template lays out what it reads.

    Attributes:
        name: path or hub id it was loaded from.
        model: the classifier in eval mode.
        tokenizer: its tokenizer.
    """

    name: str
    model: torch.nn.Module
    tokenizer: Any

    def score(self, prompt: Sequence[Mapping[str, str]], answer: str) -> float:
        """The reward of an answer: the classifier's single logit.

        Raises:
            StudyError: the logit is not finite, or the text is longer than the model's context.
        """
        turn = {"role": "assistant", "content": answer}
        text = self.tokenizer.apply_chat_template([*map(dict, prompt), turn], tokenize=False)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        config: Any = getattr(self.model, "config", None)
        context = getattr(config, "max_position_embeddings", None)
        if context is not None and len(ids) > context:
            raise StudyError(
                f"the reward model {self.name!r} reads {context} tokens at most, an answer with its prompt has "
                f"{len(ids)}; use a reward model with a longer context, or shorter answers"
            )
        with torch.no_grad():
            logits = self.model(torch.tensor([ids], device=next(self.model.parameters()).device)).logits
        reward = float(logits[0, 0])
        if not abs(reward) < float("inf"):
            raise StudyError(f"the reward model {self.name!r} gives {reward}; check its weights, and use float32")
        return reward


def load_reward_model(path: str | Path, *, device: str = "cpu") -> RewardModel:
    """Load a reward model in float32 from a directory or hub id; weights in safetensors only.

    Raises:
        InputError: nothing loadable, a head that is missing or has several outputs, or no chat template.
    """
    source = str(path)
    local = source.startswith(("/", ".", "~")) or Path(source).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, local_files_only=local, output_loading_info=True
        )
    except Exception as error:  # loaders raise whatever their parsers do
        reason = "no such folder" if local and not Path(source).is_dir() else None
        raise InputError(
            f"no reward model could be loaded from {source!r} ({reason or one_line(error)[:160]}); give --reward-model "
            "a directory that holds config.json, model.safetensors and a tokenizer, or a hub id you have downloaded"
        ) from error
    if model.config.num_labels != 1:
        raise InputError(
            f"the classifier in {source!r} has {model.config.num_labels} outputs; a reward model has one (num_labels 1)"
        )
    if missing := sorted(map(str, found["missing_keys"])):
        raise InputError(
            f"the weights in {source!r} lack {missing[0]}, so its scores would be random; give a trained reward model"
        )
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"the tokenizer in {source!r} has no chat template; set one before saving the reward model")
    model.eval().requires_grad_(False).to(device)
    return RewardModel(source, model, tokenizer)
