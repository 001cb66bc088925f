"""Tiny random models of many families, saved as a user's model would be, and preference pairs for any of them.

``family_model("qwen3", folder)`` writes a model of two layers, a byte-level tokenizer trained on the sentences below
and the family's chat template, and returns the folder; ``FAMILIES[name].options`` are the options of
``load_model`` it needs. ``family_pairs(8)`` are pairs in plain text that every family can read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import chat_templates
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from bvpo_analysis.records import Completion, PreferencePair

SENTENCES = (
    "What is seven times eight?",
    "Seven times eight: seven times ten is seventy, minus fourteen, is fifty-six.",
    "Let me think. The larger of the two numbers is the one further to the right.",
    "It is 56. The answer is 56, and not 54.",
    "größer als 55 → yes\n\nno, wait: 12 + 30 = 42",
    "user assistant system: How many legs do three spiders have? Twenty-four.",
)
SIZES = {"vocab_size": 420, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512, "initializer_range": 0.2}
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
LLAMA = ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
GEMMA = ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
GEMMA4 = ("<pad>", "<bos>", "<eos>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>")
GLM = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
CHANNELS = ("<|startoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>")
TAGS = ("<think>", "</think>")
INLINE: Mapping[str, Any] = {"think_open": "<think>\n", "think_close": "\n</think>\n\n"}


@dataclass(frozen=True)
class Family:
    """How a family's tiny model is made.

    Attributes:
        config: makes the configuration.
        template: the chat template, if the tokenizer has one.
        special: special tokens, in the order of their ids.
        tags: think tags that are tokens of their own, not special ones.
        names: which special token serves as bos, eos and pad.
        stops: further tokens that end generation, in generation_config.json.
        options: what ``load_model`` must be told; ``chat_template`` is the text of a template, which
            ``family_options`` writes to a file.
    """

    config: Callable[[], Any]
    template: str | None
    special: tuple[str, ...]
    names: Mapping[str, str]
    tags: tuple[str, ...] = TAGS
    stops: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def _config(name: str, **more: Any) -> Callable[[], Any]:
    # Named by text, so that a family whose architecture an older library lacks costs nothing until it is asked for.
    return lambda: getattr(transformers, name)(**{**SIZES, **HEADS, **more})


_CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
_DEEPSEEK = {"bos_token": DEEPSEEK[0], "eos_token": DEEPSEEK[1], "pad_token": DEEPSEEK[1]}
_LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
_GEMMA = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
_CHANNELS = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|startoftext|>"}

FAMILIES: dict[str, Family] = {
    "qwen3": Family(
        _config("Qwen3Config", head_dim=12, tie_word_embeddings=True),
        chat_templates.QWEN3,
        CHATML,
        _CHATML,
        stops=("<|endoftext|>",),
    ),
    "qwen3_opens": Family(
        _config("Qwen3Config", head_dim=12), chat_templates.QWEN3_OPENS, CHATML, _CHATML, stops=("<|endoftext|>",)
    ),
    "r1_distill_qwen": Family(_config("Qwen2Config"), chat_templates.R1_DISTILL, DEEPSEEK, _DEEPSEEK),
    "r1_model_opens": Family(_config("Qwen3Config", head_dim=12), chat_templates.R1_MODEL_OPENS, DEEPSEEK, _DEEPSEEK),
    "qwq": Family(_config("Qwen2Config"), chat_templates.QWQ, CHATML, _CHATML, stops=("<|endoftext|>",)),
    "llama": Family(_config("LlamaConfig"), chat_templates.LLAMA, LLAMA, _LLAMA, tags=(), options=INLINE),
    "nemotron": Family(_config("LlamaConfig"), chat_templates.NEMOTRON, LLAMA, _LLAMA),
    "gemma2": Family(
        _config("Gemma2Config", head_dim=12, sliding_window=16, tie_word_embeddings=True),
        chat_templates.GEMMA,
        GEMMA,
        _GEMMA,
        tags=(),
        options=INLINE,
    ),
    "gemma3": Family(
        _config("Gemma3TextConfig", head_dim=12, sliding_window=16, tie_word_embeddings=True),
        chat_templates.GEMMA,
        GEMMA,
        _GEMMA,
        tags=(),
        options=INLINE,
    ),
    "gemma4": Family(
        _config(
            "Gemma4TextConfig",
            head_dim=12,
            global_head_dim=12,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"],
            hidden_size_per_layer_input=0,
            vocab_size_per_layer_input=420,
            num_kv_shared_layers=0,
        ),
        chat_templates.GEMMA4,
        GEMMA4,
        _GEMMA,
        tags=(),
        stops=("<turn|>",),
    ),
    "smollm3": Family(_config("SmolLM3Config"), chat_templates.SMOLLM3, CHATML, _CHATML),
    "gpt_neox": Family(
        _config("GPTNeoXConfig", num_key_value_heads=2, tie_word_embeddings=False),
        None,
        ("<|endoftext|>", "<|padding|>"),
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        tags=(),
        options={**INLINE, "chat_template": chat_templates.PLAIN},
    ),
    "glm": Family(
        _config("Glm4Config", head_dim=12),
        chat_templates.GLM,
        GLM,
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        stops=("<|user|>", "<|observation|>"),
    ),
    "channels": Family(_config("LlamaConfig"), chat_templates.CHANNELS, CHANNELS, _CHANNELS, tags=()),
    "lfm": Family(
        _config("LlamaConfig"),
        chat_templates.LFM,
        ("<|startoftext|>", *CHATML),
        {**_CHATML, "bos_token": "<|startoftext|>"},
    ),
    "deepseek_v31": Family(_config("LlamaConfig"), chat_templates.DEEPSEEK_V31, DEEPSEEK, _DEEPSEEK),
}
"""The families by name."""

FURTHER: dict[str, Family] = {
    "qwen3_5": replace(
        FAMILIES["qwen3_opens"],
        config=_config(
            "Qwen3_5TextConfig",
            head_dim=12,
            layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
    ),
    "qwen3_moe": replace(
        FAMILIES["qwen3"],
        config=_config("Qwen3MoeConfig", head_dim=12, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    ),
    "gpt_oss": replace(
        FAMILIES["channels"],
        config=_config("GptOssConfig", head_dim=12, num_local_experts=4, num_experts_per_tok=2, sliding_window=16),
    ),
    "lfm2": replace(FAMILIES["lfm"], config=_config("Lfm2Config", layer_types=["conv", "full_attention"])),
    "nemotron_arch": replace(FAMILIES["nemotron"], config=_config("NemotronConfig")),
    "mistral": replace(FAMILIES["llama"], config=_config("MistralConfig", head_dim=12, sliding_window=16)),
    "phi3": replace(FAMILIES["llama"], config=_config("Phi3Config")),
    "olmo2": replace(FAMILIES["llama"], config=_config("Olmo2Config")),
}
"""The same formats on further architectures: linear attention, experts, convolutions."""


def _family(name: str) -> Family:
    return FAMILIES[name] if name in FAMILIES else FURTHER[name]


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The family's tokenizer: byte-level pairs trained on the sentences, then the think tags as ordinary tokens."""
    family = _family(name)
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(family.special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES * 4, trainer)
    core.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in family.tags])
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=family.template, **family.names)


def family_model(name: str, folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Save the family's tiny random model into ``folder`` and return it; the same weights on every call."""
    family, tokenizer = _family(name), family_tokenizer(name)
    config = family.config()
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    stops = [tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(family.stops))]
    model.generation_config.eos_token_id = stops if family.stops else stops[0]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def family_options(name: str, folder: Path) -> dict[str, Any]:
    """The keyword arguments ``load_model`` needs for the family; a chat template is written to a file in ``folder``."""
    options = dict(_family(name).options)
    if "chat_template" in options:
        file = folder / "given_template.jinja"
        file.write_text(options["chat_template"], encoding="utf-8")
        options["chat_template"] = str(file)
    return options


def family_pairs(count: int, traces: int = 1) -> list[PreferencePair]:
    """Pairs in plain text with ``traces`` posterior traces per answer and answers of their own without thinking."""

    def pair(i: int) -> PreferencePair:
        a, b = 3 + i, 8 + 2 * i
        said = f"{a} times {b}: {a} times ten is {10 * a}"
        more = [f"think of {b} rows of {a}\nand count them, step {k}" for k in range(1, traces)]
        return PreferencePair(
            prompt_id=f"q{i}",
            prompt=({"role": "user", "content": f"What is {a} times {b}?"},),
            chosen=Completion(f"It is {a * b}.", f"{said}, so it is {a * b}."),
            rejected=Completion(f"{a * b + 1}, I guess.", f"{said} → larger than 55"),
            empty_chosen=f"{a * b}",
            empty_rejected=f"{a * b - 2}!",
            chosen_traces=tuple(more),
            rejected_traces=tuple(f"{text}, or guess" for text in more),
            meta={"temperature": 1.0},
        )

    return [pair(i) for i in range(count)]
