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
# # The optimal weight and its uncertainty
#
# $\alpha^*$ is estimated from some prompts and some traces. How far off can it be, how is that measured, and how much
# does it matter? The model in the box answers, since its truth is known.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import tempfile
from pathlib import Path

import numpy as np
import torch

from bvpo_analysis import DPO, Study, load_model, mixing, shipped_pairs
from bvpo_analysis.coverage.population import population_file, read_population
from bvpo_analysis.coverage.replication import draw_sample, sample_moments
from bvpo_analysis.figures import new_figure, paper_style

torch.set_num_threads(1)
model = load_model()
study = Study.from_pairs(model, shipped_pairs("correct", limit=96))

# %% [markdown]
# ## One weight, one interval
#
# $\alpha^* = 1 - N / D$, with $N = \kappa \operatorname{Tr Cov}(g_t, g_t - g_e)$ and
# $D = |b_e|^2 + \kappa \operatorname{Tr Var}(g_t - g_e)$ at the reference. Both are measured on the same prompts, so
# the interval holds all ratios that the data do not reject. It need not be symmetric.

# %%
alpha = study.optimal_alpha(batch_size=16)
print(f"{alpha.name} = {alpha.estimate}")
print(f"standard error {alpha.estimate.se:.3f}, {alpha.estimate.n} prompts, {alpha.estimate.method}")

# %% [markdown]
# ## A weight for what?
#
# The batch size $B$ divides variances, not biases. Averaging $K$ traces per answer divides the trace part of the
# variance. The per-prompt target leaves the noise of prompts out. So there is no one best weight of a model.

# %%
for name, found in {
    "B = 16, K = 1": study.optimal_alpha(batch_size=16),
    "B = 256, K = 1": study.optimal_alpha(batch_size=256),
    "B = 16, K = 4": study.optimal_alpha(batch_size=16, traces=4),
    "B = 16, K = 1, kappa = 0.1": study.optimal_alpha(batch_size=16, kappa=0.1),
    "per prompt": study.optimal_alpha(target="per_prompt"),
}.items():
    print(f"{name:28} {found.estimate}")

# %%
study.plot_alpha_grid()

# %% [markdown]
# ## Does the interval keep its word?
#
# A population whose truth is known to the last digit: 32 prompts, each with all of its traces and their probabilities.
# From it, 200 studies of 64 prompts with two traces per answer are drawn. The interval of each should hold the true
# weight 95 times in 100.

# %%
with tempfile.TemporaryDirectory() as folder:
    population = read_population(population_file(model, "correct", DPO(), Path(folder), prompts=32))
truth = mixing.optimal_alpha(population.truth.population(16)).estimate.value
rng = np.random.default_rng(1)
found = [
    mixing.optimal_alpha(sample_moments(population, draw_sample(population, rng, 64, 2)).population(16)).estimate
    for _ in range(200)
]
held = np.mean([one.ci_low <= truth <= one.ci_high for one in found])
print(
    f"truth {truth:.3f}; mean estimate {np.mean([one.value for one in found]):.3f}; intervals that hold it: {held:.1%}"
)

# %%
with paper_style():
    figure, ax = new_figure(height=2.4)
    ax.hist([one.value for one in found], bins=30, color="#56B4E9")
    ax.axvline(truth, color="#1b1f24", label="truth")
    ax.set_xlabel("estimated α*, 64 prompts, two traces per answer")
    ax.set_ylabel("studies")
    ax.legend()
figure

# %% [markdown]
# The first forty intervals. Those that miss are drawn in red.

# %%
with paper_style():
    figure, ax = new_figure(height=2.6)
    for x, one in enumerate(found[:40]):
        holds = one.ci_low <= truth <= one.ci_high
        colour = "#0072B2" if holds else "#D55E00"
        ax.plot([x, x], [one.ci_low, one.ci_high], color=colour, linestyle="-" if holds else "--")
        ax.plot([x], [one.value], "o", color=colour, markersize=2.5)
    ax.axhline(truth, color="#1b1f24", linewidth=0.8)
    ax.set_xlabel("study")
    ax.set_ylabel("α* and its interval")
figure

# %% [markdown]
# ## What does a wrong weight cost?
#
# The error is a parabola in $\alpha$, so near its minimum it is flat: a weight that is off by $\delta$ costs
# $D\,\delta^2$. What counts is therefore not the width of the interval but the price of its ends.

# %%
study.plot_mse_curve(batch_size=16)

# %%
least = study.mse(alpha.recommended, batch_size=16).value
for label, weight in {
    "lower end": alpha.recommended_low,
    "alpha*": alpha.recommended,
    "upper end": alpha.recommended_high,
    "1/2": 0.5,
    "g_t alone": 1.0,
}.items():
    print(f"{label:10} {weight:.3f}   MSE / least MSE = {study.mse(weight, batch_size=16).value / least:.3f}")

# %%
price = max(study.mse(w, batch_size=16).value for w in (alpha.recommended_low, alpha.recommended_high)) / least - 1
assert 0.90 <= held <= 1.0
assert abs(np.mean([one.value for one in found]) - truth) < 0.05
assert price < study.mse(1.0, batch_size=16).value / least - 1
assert study.optimal_alpha(batch_size=256).estimate.value > alpha.estimate.value
assert study.optimal_alpha(batch_size=16, kappa=0.1).estimate.value > alpha.estimate.value
