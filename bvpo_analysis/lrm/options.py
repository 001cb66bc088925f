"""How a reasoning model is loaded, as plain values: what a command line gives and a config.yaml keeps.

Nothing here imports torch, so that options can be parsed and checked before anything heavy is loaded.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bvpo_analysis.errors import InputError

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""Types of the weights by name; analyse in float32."""
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flex_attention")
"""Attention implementations of transformers that a causal model may know."""


@dataclass(frozen=True)
class ModelOptions:
    """Everything about a model but its name; the fields are the keyword arguments of ``load_model``.

    Attributes:
        dtype: type of the weights.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" to spread the layers over all devices (engine "loop").
        attention: attention implementation; "eager" is the one every engine supports.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run Python code that comes with the checkpoint.
        think_open: text that opens a trace, where the chat template does not say.
        think_close: text between trace and answer.
        think_empty: text of an empty trace; the opening and the closing text together when not given.
        chat_template: file with a chat template that replaces the tokenizer's.

    Raises:
        InputError: a value that cannot be meant, naming the option and the fix.

    Example:
        >>> ModelOptions(dtype="bfloat16").plain()["dtype"]
        'bfloat16'
        >>> ModelOptions.from_plain({"think_open": "<t>", "think_close": "</t>"}).device
        'cpu'
    """

    dtype: str = "float32"
    device: str = "cpu"
    attention: str = "eager"
    revision: str | None = None
    trust_remote_code: bool = False
    think_open: str | None = None
    think_close: str | None = None
    think_empty: str | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            wanted, kind = (bool, "true or false") if name == "trust_remote_code" else (str, "text")
            if not isinstance(value, wanted) and not (value is None and name not in ("dtype", "device", "attention")):
                raise InputError(f"--{name.replace('_', '-')} must be {kind}, got {value!r}")
        if self.dtype not in DTYPES:
            raise InputError(f"--dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.attention not in ATTENTIONS:
            raise InputError(f"--attention must be one of {', '.join(ATTENTIONS)}, got {self.attention!r}")
        if not re.fullmatch(r"auto|cpu|mps|xpu|(cuda|xpu)(:\d+)?", self.device):
            raise InputError(f"--device must be cpu, cuda, cuda:N, mps, xpu or auto, got {self.device!r}")
        if self.think_open is not None and not self.think_close:
            raise InputError("--think-open needs --think-close, the text between trace and answer")
        if self.think_empty is not None and self.think_close is None:
            raise InputError("--think-empty needs --think-open and --think-close, the texts around a trace")
        if self.chat_template is not None and not Path(self.chat_template).is_file():
            raise InputError(f"{self.chat_template}: no such file; give --chat-template a file with a Jinja template")

    def plain(self) -> dict[str, Any]:
        """The options as plain values, for YAML or JSON and as keyword arguments of ``load_model``."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "ModelOptions":
        """Options from plain values; what is not given has its default.

        Raises:
            InputError: an unknown option, or a value of the wrong kind.
        """
        unknown = sorted(set(map(str, values)) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(f"unknown model option {unknown[0]!r}; known are {', '.join(cls.__dataclass_fields__)}")
        return cls(**values)
