"""Loading: the model in the box, models of other architectures saved on disk, fingerprints, and what is refused."""

import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from bvpo_analysis.errors import InputError, one_line
from bvpo_analysis.lrm.loading import load_model, weights_fingerprint
from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.lrm.shipped import MODEL_DIR
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.records import Completion, PreferencePair
from bvpo_analysis.scores import LoopEngine, VmapEngine, score_pairs, sequence_log_probs

TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{{- '[BOT]' }}
{%- if message.reasoning_content is string %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content + '[EOT]' }}
{%- else %}
{{- '[' + message.role.upper() + ']' + message.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '[BOT]' }}
{%- if enable_thinking is defined and not enable_thinking %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""

TEXTS = [
    "What is seven times eight?",
    "Seven times eight: seven times ten is seventy, minus fourteen, is fifty-six.",
    "It is 56.",
    "größer als 55 → yes",
]


def trained_tokenizer(**special):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["[PAD]", "[EOT]", "[USER]", "[BOT]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS * 8, trainer)
    names = {"pad_token": "[PAD]", "eos_token": "[EOT]", "chat_template": TEMPLATE, **special}
    return PreTrainedTokenizerFast(tokenizer_object=core, **{k: v for k, v in names.items() if v is not None})


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
ARCHITECTURES = {"llama": (LlamaConfig, LlamaForCausalLM, False), "qwen2": (Qwen2Config, Qwen2ForCausalLM, True)}


def save_random_model(folder, kind, **special):
    config, architecture, tied = ARCHITECTURES[kind]
    tokenizer = trained_tokenizer(**special)
    torch.manual_seed(7)
    model = architecture(config(vocab_size=len(tokenizer), tie_word_embeddings=tied, initializer_range=0.3, **SIZES))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def pairs():
    def pair(i, user, chosen, rejected, further):
        return PreferencePair(
            f"q{i}",
            ({"role": "user", "content": user},),
            Completion(*chosen),
            Completion(*rejected),
            *("56!", "54, I guess"),
            chosen_traces=further[:1],
            rejected_traces=further[1:],
        )

    return [
        pair(0, TEXTS[0], (TEXTS[2], TEXTS[1]), ("54.", "Seven and eight\n\nare 54."), ("7 · 8 = 56", "guess")),
        pair(1, "größer?", (TEXTS[3], "56 > 55"), ("no", ""), ("compare", "55 < 56,\nno")),
    ]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def other(request, tmp_path_factory):
    """(saved model, the model as loaded) of an architecture that is not the one in the box."""
    folder = tmp_path_factory.mktemp(request.param)
    return save_random_model(folder, request.param), load_model(folder)


# --- loading ---------------------------------------------------------------------------------------------


def test_the_model_in_the_box_is_the_default(lrm):
    assert lrm.name == "the reasoning model in the box"
    assert load_model(MODEL_DIR).fingerprint == lrm.fingerprint
    assert load_model(str(MODEL_DIR)).name == str(MODEL_DIR)


def test_a_loaded_model_is_ready_for_analysis(lrm, lrm64):
    for loaded, dtype in ((lrm, torch.float32), (lrm64, torch.float64)):
        assert not loaded.model.training
        assert all(p.dtype == dtype and not p.requires_grad for p in loaded.model.parameters())
        assert loaded.model.config._attn_implementation == "eager"
        assert loaded.tokenizer is loaded.assembler.tokenizer
    assert not torch.backends.cuda.matmul.allow_tf32


def test_other_architectures_load_and_keep_their_weights(other):
    saved, loaded = other
    assert type(loaded.model) is type(saved)
    assert loaded.fingerprint == weights_fingerprint(saved)
    assert loaded.assembler.format.close == "\n</think>\n\n"
    for pair in pairs():
        loaded.assembler.check_round_trip(pair.prompt, pair.traces(1)[0], pair.answer(1))


def test_vmap_equals_the_loop_on_other_architectures(other):
    """With merges, line breaks, an empty trace and letters of several bytes; each parameter to 1e-5 of its size."""
    _, loaded = other
    sequences = [
        loaded.assembler.with_trace(pair.prompt, trace, pair.answer(side))
        for pair in pairs()
        for side in (0, 1)
        for trace in pair.traces(side)
    ]
    sequences += [loaded.assembler.with_empty_trace(pairs()[0].prompt, "56!", m) for m in ("prefilled", "generated")]
    assert len({len(s.ids) for s in sequences}) > 4
    rows = []
    for engine in (VmapEngine(loaded.model), LoopEngine(loaded.model)):
        out = engine.buffer(len(sequences))
        log_probs = engine.fill(sequences, out)
        rows.append((out, log_probs[0] + log_probs[1]))
    (fast, fast_log), (slow, slow_log) = rows
    plain = sequence_log_probs(loaded.model, sequences)
    torch.testing.assert_close(fast_log, slow_log, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain[0] + plain[1], slow_log, rtol=1e-5, atol=1e-5)
    assert slow.shape[1] == sum(p.numel() for p in loaded.model.parameters())
    start = 0
    for name in engine.names:
        size = dict(loaded.model.named_parameters())[name].numel()
        a, b = fast[:, start : start + size], slow[:, start : start + size]
        assert (a - b).abs().amax() <= 1e-5 * b.abs().amax(), name
        assert b.abs().amax() > 0, name
        start += size


def test_whole_studies_of_other_architectures_agree_between_engines(other):
    _, loaded = other
    vmap, loop = (score_pairs(loaded, pairs(), traces=2, engine=engine) for engine in ("vmap", "loop"))
    assert vmap.groups == loop.groups
    assert set(vmap.groups) >= {"embedding", "layer 0", "layer 1", "final norm"}
    for a, b in zip(vmap.pairs, loop.pairs, strict=True):
        scale = abs(b.gram).max(axis=(1, 2), keepdims=True)
        assert (abs(a.gram - b.gram) <= 1e-5 * scale).all()


# --- fingerprints ----------------------------------------------------------------------------------------


def test_the_fingerprint_sees_one_weight_in_its_last_bit(lrm):
    copy = load_model()
    assert copy.fingerprint == lrm.fingerprint
    for name in ("model.layers.1.mlp.down_proj.weight", "model.norm.weight"):
        weight = dict(copy.model.named_parameters())[name].view(-1)
        old = weight[-1].clone()
        weight[-1] = torch.nextafter(old, torch.tensor(torch.inf))
        assert weights_fingerprint(copy.model) != lrm.fingerprint
        weight[-1] = old
        assert weights_fingerprint(copy.model) == lrm.fingerprint


def test_the_fingerprint_sees_the_dtype_and_swapped_weights(lrm, lrm64):
    assert lrm64.fingerprint != lrm.fingerprint
    copy = load_model()
    parameters = dict(copy.model.named_parameters())
    gate, up = (parameters[f"model.layers.0.mlp.{name}_proj.weight"] for name in ("gate", "up"))
    kept = gate.clone()
    gate.copy_(up)
    up.copy_(kept)
    assert weights_fingerprint(copy.model) != lrm.fingerprint


# --- what is refused -------------------------------------------------------------------------------------


def refused(path):
    with pytest.raises(InputError) as caught:
        load_model(path)
    text = str(caught.value)
    assert text == one_line(caught.value)
    return text


def copy_of_the_box(folder):
    return shutil.copytree(MODEL_DIR, folder)


@pytest.mark.parametrize("path", ["no/such-model", "/no/such/folder", "", "nowhere"])
def test_an_unknown_path_is_named_on_one_line_with_the_fix(path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = refused(path)
    assert text.startswith(f"no reasoning model could be loaded from {path!r}")
    assert "give --model a directory that holds config.json, weights and a tokenizer" in text
    assert len(text) < 500


def test_a_folder_without_a_model(tmp_path):
    assert "no reasoning model could be loaded" in refused(tmp_path)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_incomplete_model(missing, tmp_path):
    folder = copy_of_the_box(tmp_path / "model")
    (folder / missing).unlink()
    assert str(folder) in refused(folder)


WEIGHT = "model.layers.1.mlp.down_proj.weight"


def test_a_checkpoint_that_lacks_a_weight(tmp_path):
    folder = copy_of_the_box(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights[WEIGHT]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert str(folder) in refused(folder)


def test_a_checkpoint_of_another_shape(tmp_path):
    folder = copy_of_the_box(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights[WEIGHT] = weights[WEIGHT][:50].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    text = refused(folder)
    assert str(folder) in text
    assert "the weights" in text
    assert f"do not fit their configuration (mismatched keys: {WEIGHT})" in text


def test_damaged_weights(tmp_path):
    folder = copy_of_the_box(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert str(folder) in refused(folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", "{", ""),
        ("config.json", '"model_type": "qwen3"', '"model_type": "nonsense"'),
        ("tokenizer.json", "{", ""),
    ],
)
def test_damaged_configuration(file, old, new, tmp_path):
    folder = copy_of_the_box(tmp_path / "model")
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    assert str(folder) in refused(folder)


def test_unfit_tokenizers(tmp_path):
    save_random_model(tmp_path / "b", "llama", chat_template=None)
    assert "the tokenizer has no chat template; give one with --chat-template FILE" in refused(tmp_path / "b")
    save_random_model(tmp_path / "c", "llama", eos_token=None, chat_template=TEMPLATE.replace(" + '[EOT]'", ""))
    assert "no end-of-turn token" in refused(tmp_path / "c")


def test_a_missing_padding_token_is_replaced_and_said(tmp_path):
    save_random_model(tmp_path / "a", "llama", pad_token=None)
    loaded = load_model(tmp_path / "a")
    assert loaded.assembler.pad_id == loaded.assembler.end_id == loaded.tokenizer.eos_token_id
    assert loaded.notes == ("the tokenizer has no padding token; rows are filled with '[EOT]', which is masked",)
    save_random_model(tmp_path / "b", "llama", pad_token=None, unk_token="[USER]")
    assert load_model(tmp_path / "b").assembler.pad_id == loaded.tokenizer.convert_tokens_to_ids("[USER]")
    save_random_model(tmp_path / "c", "llama")
    assert load_model(tmp_path / "c").assembler.pad_id == loaded.tokenizer.convert_tokens_to_ids("[PAD]")
    assert load_model(tmp_path / "c").notes == ()


def test_pickled_weights_are_never_opened(tmp_path):
    """The file is no pickle at all: opening it would fail otherwise."""
    folder = copy_of_the_box(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not a pickle")
    text = refused(folder)
    assert "weights in pickle format, which can run code when opened, are not loaded; convert them" in text
    assert str(folder / "pytorch_model.bin") in text
    shutil.copy(MODEL_DIR / "model.safetensors", folder)
    assert load_model(folder).fingerprint == load_model().fingerprint  # beside safetensors it is not looked at


def test_a_folder_never_asks_the_network(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def no_network(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert load_model(copy_of_the_box(tmp_path / "model")).fingerprint == load_model().fingerprint
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "neither a folder nor a hub id" in refused("two words/of text")


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings(tmp_path):
    save_random_model(tmp_path / "small", "llama")
    larger = trained_tokenizer()
    rows = len(larger)
    larger.add_tokens(["<beyond>"])
    larger.save_pretrained(tmp_path / "small")
    loaded = load_model(tmp_path / "small")  # one added token: it may never be met
    assert loaded.notes == ("1 added tokens have no embedding, such as '<beyond>'; data with them are refused",)
    user = [{"role": "user", "content": "x"}]
    assert loaded.assembler.with_trace(user, "a", "b").ids
    with pytest.raises(InputError, match=rf"'<beyond>' has number {rows}, but the model has embeddings of {rows}"):
        loaded.assembler.with_trace(user, "a <beyond>", "b")
    larger.add_tokens([f"<more{i}>" for i in range(20)])
    larger.save_pretrained(tmp_path / "small")
    assert "but the model has embeddings of" in refused(tmp_path / "small")
    assert "save model and tokenizer of the same checkpoint together" in refused(tmp_path / "small")


def test_a_tokenizer_is_what_its_file_says(tmp_path):
    """The class that the library picks for Qwen2 splits text by rules of its own."""
    save_random_model(tmp_path / "model", "qwen2")
    loaded = load_model(tmp_path / "model")
    core = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    for text in (*TEXTS, "12 + 3 = 15\n\nso", "x_1  y"):
        assert list(loaded.assembler.encode(text)) == core.encode(text, add_special_tokens=False).ids


def test_options_are_kept_and_checked(tmp_path, lrm):
    folder = copy_of_the_box(tmp_path / "model")
    loaded = load_model(folder, dtype="float64", attention="sdpa")
    assert loaded.options == ModelOptions(dtype="float64", attention="sdpa")
    assert loaded.model.config._attn_implementation == "sdpa"
    assert loaded.context_length == lrm.model.config.max_position_embeddings
    for options, says in (
        ({"dtype": "int8"}, "--dtype must be one of float32"),
        ({"attention": "fast"}, "--attention must be one of eager"),
        ({"device": "gpu"}, "--device must be cpu"),
        ({"revision": "main"}, "--revision belongs to a hub id"),
        ({"think_open": "<t>"}, "--think-open needs --think-close"),
        ({"chat_template": tmp_path / "none.jinja"}, "no such file; give --chat-template"),
    ):
        with pytest.raises(InputError, match=says):
            load_model(folder, **options)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"--device cuda: .*; use --device cpu"):
            load_model(folder, device="cuda")


def test_a_chat_template_from_a_file_replaces_the_tokenizer_s(tmp_path):
    save_random_model(tmp_path / "model", "llama", chat_template=None)
    file = tmp_path / "template.jinja"
    file.write_text(TEMPLATE.replace("[BOT]", "[BOT]Well, "), encoding="utf-8")
    loaded = load_model(tmp_path / "model", chat_template=file)
    assert loaded.assembler.decode(loaded.assembler.prompt([{"role": "user", "content": "x"}])) == "[USER]x[BOT]Well, "
    assert any("chat template from" in note for note in loaded.notes)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8 text; give --chat-template a text file"):
        load_model(tmp_path / "model", chat_template=file)


def test_the_identity_sees_what_the_weights_do_not_tell(tmp_path, lrm):
    folder = copy_of_the_box(tmp_path / "model")
    same = load_model(folder)
    assert (same.fingerprint, same.identity) == (lrm.fingerprint, lrm.identity)
    assert load_model(folder, attention="sdpa").identity != lrm.identity
    text = (folder / "config.json").read_text()
    assert '"rms_norm_eps": 1e-06' in text
    (folder / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    other = load_model(folder)
    assert other.fingerprint == lrm.fingerprint
    assert other.identity != lrm.identity


def test_the_pairs_in_the_box_do_not_fit_another_tokenizer_silently(other):
    """Letters and digits have tokens in every byte-level vocabulary: the ids differ, the text does not."""
    _, loaded = other
    pair = shipped_pairs("style", limit=1)[0]
    sequence = loaded.assembler.with_trace(pair.prompt, pair.traces(0)[0], pair.answer(0))
    text = loaded.tokenizer.decode(list(sequence.ids), skip_special_tokens=False)
    assert text == f"[USER]{pair.prompt[0]['content']}[BOT]<think>\n{pair.traces(0)[0]}\n</think>\n\n" + (
        f"{pair.answer(0)}[EOT]"
    )


def test_a_model_is_shown_in_one_line(lrm):
    """Catches a notebook cell that prints every layer."""
    assert repr(lrm) == (
        "ReasoningModel(the reasoning model in the box, 280368 parameters, thinks between '<think>' and '</think>')"
    )
