# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model and data
#
# A study needs a reasoning model and preference pairs sampled from it. This notebook goes the whole way on a model
# folder and a file of prompts: build pairs, check the file, check the model, study, and write a training file with the
# weight that was found. Put your own folder and file in their place.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from bvpo_analysis import Study, load_model, read_pairs

torch.set_num_threads(1)
os.chdir(tempfile.mkdtemp())

# %% [markdown]
# The stand-in for your model: the model in the box with every weight moved a little, saved as any Hugging Face model
# is. From here on only the folder `MODEL` is used.

# %%
own = load_model()
noise = torch.Generator().manual_seed(0)
with torch.no_grad():
    for weight in own.model.parameters():
        weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=noise)
own.model.save_pretrained("MODEL")
own.tokenizer.save_pretrained("MODEL")

model = load_model("MODEL")
print(sorted(path.name for path in Path("MODEL").iterdir()))
print("thinks between", repr(model.assembler.format.open), "and", repr(model.assembler.format.close))

# %% [markdown]
# Prompts are one JSON object per line. The task of this model: add the digits modulo ten.

# %%
from bvpo_analysis.lrm.shipped.task import is_right, sample_problem

rng = np.random.default_rng(7)
prompts = sorted({sample_problem(rng).text for _ in range(64)})
Path("PROMPTS.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
print(Path("PROMPTS.jsonl").read_text().splitlines()[:3])

# %% [markdown]
# Pairs must come from the model itself, at temperature 1, and be ranked by their answers only: then the sampled trace
# is a draw from the posterior, and $g_t$ is unbiased at the start of training. `build` does that, with thinking and
# without. The reward sees a prompt and an answer, never a trace. On the command line:
# `python -m bvpo_analysis.preferences build PROMPTS.jsonl --model MODEL --reward MODULE:FUNCTION --output PAIRS.jsonl`

# %%
from bvpo_analysis.preferences.build import BuildSettings, build, read_prompts
from bvpo_analysis.preferences.rewards import Reward


def reward(prompt, answer):
    """A right digit first, then a full stop at the end."""
    return 2.0 * is_right(prompt.messages[-1]["content"], answer) + answer.endswith(".")


settings = BuildSettings(samples=5, max_tokens=64)
report = build(
    model, read_prompts("PROMPTS.jsonl"), Reward("digit and full stop", reward), Path("PAIRS.jsonl"), settings
)
print(f"{report.pairs} pairs from {report.counts.prompts} prompts, {report.unclosed:.1%} of the traces never closed")

# %% [markdown]
# What is in the file, and what is wrong with it? (`python -m bvpo_analysis.preferences validate PAIRS.jsonl`)

# %%
from bvpo_analysis.preferences.validate import validate
from bvpo_analysis.preferences.validation_text import validation_text

validation = validate("PAIRS.jsonl", model)
print(validation_text(validation))

# %% [markdown]
# Can this model be scored, and are its scores right?
# (`python -m bvpo_analysis.doctor --model MODEL --data PAIRS.jsonl`)

# %%
from bvpo_analysis.doctor import examine

checks = examine(model, read_pairs("PAIRS.jsonl"))
for check in checks:
    if check.name in ("think format", "causality", "padding", "engines", "precision"):
        print(check)
print({status: sum(check.status == status for check in checks) for status in ("pass", "warn", "fail")})

# %% [markdown]
# The study takes the folder and the file.

# %%
study = Study.from_pairs("MODEL", "PAIRS.jsonl")
study

# %% [markdown]
# Sixty pairs say a lot about batches of 16 and little about batches of 256: there the squared bias decides, which is
# within its noise. The intervals show it; more pairs shorten them.

# %%
study.plot_mse_curve(batch_size=16)

# %% [markdown]
# There is one trace per answer, as in most preference data. That identifies the total variance, and with it the weight
# for the population target. What it cannot do is split the variance into noise of traces and noise of prompts.

# %%
print("identified:", ", ".join(study.moments().index))
try:
    study.optimal_alpha(target="per_prompt")
except ValueError as error:
    print("not identified:", error)

# %% [markdown]
# A training file with that share of rows with a trace, for any DPO trainer.
# (`python -m bvpo_analysis.preferences export-trl PAIRS.jsonl --alpha ... --model MODEL --output mixed.jsonl`)

# %%
from bvpo_analysis.preferences.export import mixed_rows

alpha = study.optimal_alpha(batch_size=16)
rows = mixed_rows(len(read_pairs("PAIRS.jsonl")), round(alpha.recommended, 2))
print(f"alpha* = {alpha.estimate}: {sum(rows.thinking)} of {len(rows.pair)} rows with a trace")

# %%
assert validation.usable
assert validation.empty_own == validation.pairs == report.pairs
assert not any(check.status == "fail" for check in checks)
assert "trace_var" not in study.moments().index
best = study.mse(alpha.recommended, batch_size=16).value
assert best <= min(study.mse(weight, batch_size=16).value for weight in (0.0, 0.5, 1.0))
assert abs(rows.share - alpha.recommended) < 0.01
