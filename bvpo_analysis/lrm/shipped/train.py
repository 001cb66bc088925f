"""Trains the LRM in the box from scratch: ``python -m bvpo_analysis.lrm.shipped.train``.

Two stages of AdamW on freshly drawn rows, seeded, one thread, float32, so that a machine reproduces its
weights bit for bit. Rows with a trace are trained on everything after ``<|assistant|>``. Rows without one
teach the model to answer when thinking is switched off: there ``<think></think>`` is part of the prompt and
carries no loss, hence a model that opens a block itself practically never leaves it empty. The trained
model is evaluated, must pass every gate of :mod:`~bvpo_analysis.lrm.shipped.evaluation`, and only then
appears, complete, at the output path.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

from bvpo_analysis.lrm.shipped.evaluation import Evaluation, GateError, evaluate
from bvpo_analysis.lrm.shipped.model_card import render_model_card
from bvpo_analysis.lrm.shipped.task import SLIP_RATE, Row, sample_row
from bvpo_analysis.lrm.shipped.tokenizer import (
    END,
    END_THINK,
    PAD,
    THINK,
    VOCABULARY,
    build_tokenizer,
    prompt_text,
)

#: Looking up a letter's digit in the prompt is learned in one jump, and when depends on the seed: seed 1 makes it
#: within 300 steps, seed 0 had not after 1 800. A seed that never makes it fails the gates.
DEFAULT_SEED = 1
#: Label of positions without loss.
IGNORE = -100


@dataclass(frozen=True)
class Stage:
    """``steps`` updates with linear warm-up and a cosine decay from ``learning_rate`` to zero.

    ``sharpening`` multiplies the weight of the final norm, hence all logits, before the stage begins.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    sharpening: float = 1.0

    def learning_rate_factor(self, step: int) -> float:
        """Share of ``learning_rate`` used at ``step``, counted from zero.

        >>> [round(Stage(1000, 4e-3, 100).learning_rate_factor(s), 3) for s in (0, 99, 500, 999)]
        [0.01, 0.976, 0.5, 0.0]
        """
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return min(1.0, (step + 1) / self.warmup_steps) * cosine


@dataclass(frozen=True)
class Recipe:
    """Size of the model and settings of its training.

    The first stage learns the task. Its large steps leave the logits too soft: letters that the prompt does
    not contain keep 0.3 % of the probability at every choice, enough to give wrong answers broken traces.
    The second stage therefore starts from sharpened logits and settles with small steps.
    """

    hidden_size: int = 96
    layers: int = 3
    heads: int = 4
    feed_forward: int = 192
    initializer_range: float = 0.05
    batch_size: int = 48
    empty_share: float = 0.5
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    stages: tuple[Stage, ...] = (Stage(2_500, 4e-3, 100), Stage(500, 3e-4, 30, sharpening=1.3))


def build_model(recipe: Recipe, seed: int) -> Any:
    """An untrained Qwen3 causal language model with tied embeddings, initialised from ``seed``."""
    torch.manual_seed(seed)
    config = transformers.Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden_size // recipe.heads,
        intermediate_size=recipe.feed_forward,
        initializer_range=recipe.initializer_range,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=VOCABULARY.index(PAD),
        eos_token_id=VOCABULARY.index(END),
        bos_token_id=None,
    )
    return transformers.Qwen3ForCausalLM(config).float()


def encode_rows(tokenizer: Any, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of shape (rows, length), padded on the right; labels are IGNORE where no loss is
    taken.

    >>> ids, labels = encode_rows(build_tokenizer(), [Row("a3b7c2d9", "", "1b.")])
    >>> (labels != IGNORE).sum().item()  # digit, letter, ending, end of sequence
    4
    """
    prompts = tokenizer([prompt_text(row.prompt, empty=not row.trace) for row in rows])["input_ids"]
    targets = tokenizer([(THINK + row.trace + END_THINK if row.trace else "") + row.answer + END for row in rows])[
        "input_ids"
    ]
    width = max(len(p) + len(t) for p, t in zip(prompts, targets, strict=True))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORE)
    for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        end = len(prompt) + len(target)
        ids[i, :end] = torch.tensor(prompt + target)
        labels[i, len(prompt) : end] = torch.tensor(target)
    return ids, labels


def train_model(recipe: Recipe, seed: int, *, progress: bool = True) -> tuple[Any, list[float]]:
    """Train from scratch. Returns the model in eval mode and the training loss of every step."""
    model = build_model(recipe, seed).train()
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    with tqdm(total=sum(stage.steps for stage in recipe.stages), disable=not progress) as bar:
        for stage in recipe.stages:
            for loss in _train_stage(model, stage, recipe, rng):
                losses.append(loss)
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update()
    return model.eval(), losses


def _train_stage(model: Any, stage: Stage, recipe: Recipe, rng: np.random.Generator) -> Iterator[float]:
    """Run one stage, yielding the loss of each step."""
    with torch.no_grad():
        model.model.norm.weight.mul_(stage.sharpening)
    tokenizer = build_tokenizer()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, stage.learning_rate_factor)
    empty_rows = round(recipe.empty_share * recipe.batch_size)
    for _ in range(stage.steps):
        rows = [sample_row(rng, empty=i < empty_rows) for i in range(recipe.batch_size)]
        ids, labels = encode_rows(tokenizer, rows)
        logits = model(input_ids=ids[:, :-1]).logits  # right padding needs no mask under causal attention
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        yield loss.item()


def write_model(
    output: Path, model: Any, recipe: Recipe, seed: int, evaluation: Evaluation, cpu_seconds: float
) -> None:
    """Write weights, tokenizer, evaluation and model card next to ``output``, then rename into place."""
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=48,
        pad_token_id=model.config.pad_token_id,
        eos_token_id=model.config.eos_token_id,
    )
    facts = {
        "seed": seed,
        "parameters": model.num_parameters(),
        "training_cpu_seconds": round(cpu_seconds, 1),
        "slip_rate": SLIP_RATE,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "recipe": dataclasses.asdict(recipe),
        **dataclasses.asdict(evaluation),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        new = Path(scratch) / "new"
        model.save_pretrained(new)
        build_tokenizer().save_pretrained(new)
        numbers = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (new / "evaluation.json").write_text(numbers, encoding="utf-8")
        (new / "README.md").write_text(render_model_card(facts), encoding="utf-8")
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors writes files that only the owner can read
        if output.exists():
            output.rename(Path(scratch) / "old")
        new.rename(output)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line. Exit code 0 if the model was written, 1 if it fails a gate, 2 for an unusable output
    path."""
    parser = argparse.ArgumentParser(
        prog="python -m bvpo_analysis.lrm.shipped.train",
        description="Train the small reasoning model that ships with the package (minutes on one CPU core).",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/lrm"), help="model directory [runs/lrm]")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help=f"seed of weights, data and evaluation [{DEFAULT_SEED}]"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an output directory that is not empty")
    args = parser.parse_args(argv)
    if args.output.exists() and any(args.output.iterdir()) and not args.overwrite:
        print(f"{args.output} is not empty; choose another --output or pass --overwrite", file=sys.stderr)
        return 2

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    recipe = Recipe()
    start = time.process_time()
    model, _ = train_model(recipe, args.seed)
    cpu_seconds = time.process_time() - start
    evaluation = evaluate(model, build_tokenizer(), seed=args.seed + 1)
    for name, m in evaluation.measurements.items():
        print(f"{name:24s} {m.value:8.4f}  [{m.ci_low:.4f}, {m.ci_high:.4f}]  n = {m.n}")
    try:
        evaluation.require()
    except GateError as error:
        print(error, file=sys.stderr)
        print("Nothing was written. Try another --seed.", file=sys.stderr)
        return 1
    write_model(args.output, model, recipe, args.seed, evaluation, cpu_seconds)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
