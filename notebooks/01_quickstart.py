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
# # Quickstart: which mixing weight should I use?
#
# A reasoning model writes a trace $r$, then an answer $y$. Preference optimisation with one sampled trace per answer
# has a noisy gradient $g_t$; with the reasoning switched off it has a quiet but biased one, $g_e$. The mix
# $g_c = \alpha g_t + (1 - \alpha) g_e$ lies between them. How much of each? Here the question is asked of the small
# reasoning model in the box, where the exact answer is known.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import torch

from bvpo_analysis import Study, load_model, shipped_pairs

torch.set_num_threads(1)
model = load_model()
pairs = shipped_pairs("correct", limit=96)
print(pairs[0].prompt[0]["content"], pairs[0].chosen, pairs[0].rejected, sep="\n")

# %% [markdown]
# One call scores every sequence once, with four traces per answer. Everything after it is algebra. The table is the
# short answer: the best weight depends on how many prompts a batch has.

# %%
study = Study.from_pairs(model, pairs)
study

# %% [markdown]
# The weight for batches of 16 prompts, with a 95 % interval. Its name says what it is a weight for: batch gradients
# against the gradient of the population's marginal loss, in which all traces are summed out.

# %%
alpha = study.optimal_alpha(batch_size=16)
print(alpha.name, "=", alpha.estimate)

# %% [markdown]
# What do other weights cost? Read from right to left: $g_t$ alone pays with variance, $g_e$ alone with bias.

# %%
for weight in (0.0, 0.5, alpha.recommended, 1.0):
    print(f"alpha = {weight:.2f}: MSE = {study.mse(weight, batch_size=16)}")

# %%
study.plot_mse_curve(batch_size=16)

# %% [markdown]
# Bias does not average out, variance does: larger batches and smaller steps ($\kappa = \eta L$, step size times
# smoothness) want more of $g_t$.

# %%
study.plot_alpha_grid()

# %% [markdown]
# Against each prompt's own marginal gradient (target M1), only trace noise counts, and $g_t$ deserves more weight.

# %%
per_prompt = study.optimal_alpha(target="per_prompt")
print(per_prompt.name, "=", per_prompt.estimate)

# %% [markdown]
# The traces of this model can be enumerated, so the estimate can be checked against the truth for these very prompts.

# %%
from bvpo_analysis.exact import shipped_traces

few = pairs[:16]
exact = Study.from_pairs(model, few, enumerate_traces=shipped_traces).optimal_alpha(target="per_prompt").estimate.value
sampled = Study.from_pairs(model, few).optimal_alpha(target="per_prompt").estimate
print(f"exact {exact:.3f}, estimated from 4 traces per answer {sampled}")

# %%
mse = {weight: study.mse(weight, batch_size=16).value for weight in (0.0, 0.5, alpha.recommended, 1.0)}
assert min(mse, key=mse.get) == alpha.recommended
assert alpha.recommended_low < alpha.recommended < alpha.recommended_high
assert per_prompt.estimate.value > alpha.estimate.value
assert abs(sampled.value - exact) < 5 * sampled.se
