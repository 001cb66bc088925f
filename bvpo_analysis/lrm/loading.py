"""Loading a reasoning model for analysis: float32, eager attention, eval mode, and a fingerprint of its weights.

Eager attention is the one implementation under which ``vmap`` over a batch of one, forward-mode derivatives and
second-order products all work and agree; ``dropout`` off and TF32 off make the scores a function of the weights alone.
Weights are read from safetensors only: a pickle can run code when it is opened.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from bvpo_analysis.errors import InputError, one_line
from bvpo_analysis.lrm.detection import detect_format
from bvpo_analysis.lrm.guards import require_sound
from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.lrm.sequences import SequenceAssembler
from bvpo_analysis.lrm.tokenization import load_tokenizer

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_VOLATILE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")


@dataclass(frozen=True)
class ReasoningModel:
    """A causal language model with its tokenizer and think format, ready to be scored.

    Attributes:
        name: path or hub id it was loaded from.
        model: the network in eval mode; parameters do not require grad.
        assembler: builds token sequences.
        fingerprint: BLAKE2b hash of names, shapes, types and values of all parameters.
        options: how it was loaded.
        revision: the commit of a hub id, where known.
        notes: what was decided about it that a reader of its numbers should know.
    """

    name: str
    model: torch.nn.Module
    assembler: SequenceAssembler
    fingerprint: str
    options: ModelOptions = field(default_factory=ModelOptions)
    revision: str | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.model.parameters())
        form = self.assembler.format
        return f"ReasoningModel({self.name}, {count} parameters, thinks between {form.open!r} and {form.close!r})"

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.assembler.tokenizer

    @property
    def context_length(self) -> int | None:
        """Longest sequence the model can read, in tokens."""
        return self.assembler.context

    @property
    def identity(self) -> str:
        """BLAKE2b hash of everything that log-probabilities depend on: weights and their type, configuration, revision,
        attention implementation, vocabulary, chat template and think format.
        """
        config: Any = getattr(self.model, "config", None)
        described = config.to_dict() if hasattr(config, "to_dict") else {}
        facts = {
            "weights": self.fingerprint,
            "configuration": {k: v for k, v in described.items() if k not in _VOLATILE},
            "revision": self.revision,
            "attention": self.options.attention,
            "vocabulary": self.tokenizer.get_vocab(),
            "chat_template": self.tokenizer.chat_template,
            "think_format": repr(self.assembler.format),
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def weights_fingerprint(model: torch.nn.Module) -> str:
    """BLAKE2b hash of names, shapes, types and values of all parameters.

    Models of one architecture and configuration with equal fingerprints compute the same scores.

    Example:
        >>> import torch
        >>> a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> weights_fingerprint(a) == weights_fingerprint(a), weights_fingerprint(a) == weights_fingerprint(b)
        (True, False)
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_model(
    path: str | Path | None = None,
    *,
    dtype: str | torch.dtype = "float32",
    device: str = "cpu",
    attention: str = "eager",
    revision: str | None = None,
    trust_remote_code: bool = False,
    think_open: str | None = None,
    think_close: str | None = None,
    think_empty: str | None = None,
    chat_template: str | Path | None = None,
) -> ReasoningModel:
    """Load a reasoning model; without a path, the one in the box.

    A folder never asks the network; a hub id does, unless ``HF_HUB_OFFLINE`` is set. The keyword arguments are the
    fields of :class:`~bvpo_analysis.lrm.options.ModelOptions`.

    Args:
        path: directory or hub id that ``AutoModelForCausalLM.from_pretrained`` understands.
        dtype: dtype of the weights. Analyse in float32; float64 serves tests; bf16 is not recommended.
        device: where to put it; "auto" spreads the layers over the devices at hand.
        attention: attention implementation; "eager" is the one that every engine supports.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code that comes with the checkpoint.
        think_open, think_close, think_empty: the texts around a trace, where the chat template does not say.
        chat_template: file with a chat template that replaces the tokenizer's.

    Raises:
        InputError: an option that cannot be meant; nothing loadable at ``path``; pickled or damaged weights; weights,
            configuration and tokenizer that do not belong together; an unfit chat template; a model that looks ahead.

    Example:
        >>> lrm = load_model()
        >>> sum(p.numel() for p in lrm.model.parameters()) < 1_000_000
        True
    """
    from bvpo_analysis.lrm.shipped import MODEL_DIR

    options = ModelOptions(
        dtype=str(dtype).removeprefix("torch."),
        device=str(device),
        attention=attention,
        revision=revision,
        trust_remote_code=trust_remote_code,
        think_open=think_open,
        think_close=think_close,
        think_empty=think_empty,
        chat_template=None if chat_template is None else str(chat_template),
    )
    source = str(path if path is not None else MODEL_DIR)
    local = _refuse_what_cannot_load(source, options)
    try:
        with _quiet():
            tokenizer, notes = load_tokenizer(source, options, local=local)
            model, found = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=getattr(torch, options.dtype),
                attn_implementation=attention,
                revision=revision,
                trust_remote_code=trust_remote_code,
                local_files_only=local,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named and refused below
                **({"device_map": "auto"} if options.device == "auto" else {}),
            )
    except InputError:
        raise
    except Exception as error:  # loaders raise whatever their parsers do: JSON, safetensors, Rust, Jinja, config checks
        raise _not_loaded(source, error) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found.get(problem):
            first = sorted(key if isinstance(key, str) else str(key[0]) for key in found[problem])[0]
            raise InputError(
                f"the weights in {source!r} do not fit their configuration ({problem.replace('_', ' ')}: {first}); "
                "save the model again with save_pretrained"
            )
    _prepare(model, options)
    _require_same_vocabulary(source, tokenizer, model, notes)
    think_format = detect_format(tokenizer, think_open=think_open, think_close=think_close, think_empty=think_empty)
    assembler = SequenceAssembler(
        tokenizer,
        think_format,
        stop_ids=_generation_stops(model),
        context=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        vocabulary=int(model.get_input_embeddings().weight.shape[0]),
    )
    if tokenizer.pad_token_id is None:
        filler = assembler.decode([assembler.pad_id])
        notes.append(f"the tokenizer has no padding token; rows are filled with {filler!r}, which is masked")
    require_sound(model)
    name = str(path) if path is not None else "the reasoning model in the box"
    commit = getattr(model.config, "_commit_hash", None)
    return ReasoningModel(name, model, assembler, weights_fingerprint(model), options, commit, tuple(notes))


def as_model(model: ReasoningModel | str | Path | None) -> ReasoningModel:
    """A loaded model as it is; a path, a hub id or None (the model in the box) as :func:`load_model` takes it.

    Raises:
        InputError: anything else, or nothing loadable at the path.

    Example:
        >>> as_model(load_model()).name
        'the reasoning model in the box'
    """
    if isinstance(model, ReasoningModel):
        return model
    if model is None or isinstance(model, str | Path):
        return load_model(model)
    raise InputError(
        f"a reasoning model is expected first, got {type(model).__name__}; give the directory or hub id of one, or "
        "what load_model returns"
    )


def _refuse_what_cannot_load(source: str, options: ModelOptions) -> bool:
    """Whether to stay off the network; refuses what is neither a folder of safetensors nor could be a hub id."""
    folder = Path(source).expanduser()
    if not source or source.startswith(("/", ".", "~")) or folder.is_dir():
        if not source or not folder.is_dir():
            raise _not_loaded(source, "no such folder")
        weights = list(folder.glob("*.safetensors"))
        pickles = sorted(file for pattern in _PICKLES for file in folder.glob(pattern))
        if pickles and not weights:
            raise InputError(
                f"{pickles[0]}: weights in pickle format, which can run code when opened, are not loaded; convert them "
                "where you trust them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER) writes "
                "safetensors"
            )
        if options.revision is not None:
            raise InputError(f"--revision belongs to a hub id, but {source!r} is a folder; leave it out")
        return True
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise _not_loaded(source, "neither a folder nor a hub id")
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _not_loaded(source: str, reason: str | BaseException) -> InputError:
    text = reason if isinstance(reason, str) else one_line(reason)[:160] or type(reason).__name__
    return InputError(
        f"no reasoning model could be loaded from {source!r} ({text}); give --model a directory "
        "that holds config.json, weights and a tokenizer, or a hub id you have downloaded"
    )


def _prepare(model: Any, options: ModelOptions) -> None:
    """Evaluation mode, frozen weights, exact products."""
    model.eval().requires_grad_(False)
    if options.device != "auto":
        try:
            model.to(options.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"--device {options.device}: {one_line(error)[:160]}; use --device cpu") from error
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _require_same_vocabulary(source: str, tokenizer: Any, model: Any, notes: list[str]) -> None:
    """Hold that the model has an embedding of every token, but for added ones that it may never meet."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    beyond = {token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return
    if beyond - set(tokenizer.get_added_vocab()) or len(beyond) > 0.01 * rows:
        raise InputError(
            f"the tokenizer in {source!r} has {len(tokenizer)} tokens, but the model has embeddings of {rows}; save "
            "model and tokenizer of the same checkpoint together"
        )
    notes.append(f"{len(beyond)} added tokens have no embedding, such as {min(beyond)!r}; data with them are refused")


def _generation_stops(model: Any) -> list[int]:
    """The tokens at which the checkpoint's own generation settings stop."""
    stops = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return [] if stops is None else [stops] if isinstance(stops, int) else list(stops)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loader's progress bars; errors still raise."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
