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
# # Estimators and their geometry
#
# Every gradient estimator here is a combination $\sum_j c_j s_j$ of the scores $s_j = \nabla \log \pi(r_j, y_j | x)$
# of a pair. Estimators differ in the coefficients only, so inner products of scores say where all of them lie.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import numpy as np
import torch

from bvpo_analysis import DPO, EmptyTrace, EstimatorComparison, Marginal, Trace, load_model, mix, shipped_pairs
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.figures import new_figure, paper_style
from bvpo_analysis.scores import score_pairs
from bvpo_analysis.theory import optimal_weight

torch.set_num_threads(1)
model = load_model()
pairs = shipped_pairs("valid", limit=32)

# %% [markdown]
# ## One prompt, all of its traces
#
# The model in the box has 24 right traces per prompt, so one pair has $24 \times 24$ realisations of $g_t$, one $g_e$,
# and an exact marginal gradient $\mu$. An estimator gives one row of coefficients per realisation.

# %%
scored = score_pairs(model, pairs[:1], enumerate_traces=shipped_traces).pairs[0]
trace, empty, marginal = Trace(DPO()), EmptyTrace(DPO()), Marginal(DPO())
c_t, c_e, c_mu = (estimator.coefficients(scored.log_probs) for estimator in (trace, empty, marginal))
probability = trace.weights(scored.log_probs)
print("coefficients of g_t, g_e, mu:", c_t.shape, c_e.shape, c_mu.shape)

# %% [markdown]
# The geometry needs no vectors of 280 000 parameters, only the Gram matrix. With $\mu$ as the origin: one axis along
# the bias of $g_e$, one along the largest part of the noise of $g_t$ across it. Points are as large as they are
# probable; most of the 576 draws hardly ever occur, since a trace ends in the letter that its answer names.

# %%
gram = scored.gram.sum(axis=0)
draws, bias = c_t - c_mu, (c_e - c_mu)[0]
length = np.sqrt(bias @ gram @ bias)
along = draws @ gram @ bias / length
across = draws - np.outer(along / length, bias)
values, vectors = np.linalg.eigh(np.sqrt(np.outer(probability, probability)) * (across @ gram @ across.T))
noise = vectors[:, -1] * np.sqrt(values[-1]) / np.sqrt(probability)

with paper_style():
    figure, ax = new_figure(height=3.4)
    seen = probability > 0.01 * probability.max()
    ax.scatter(
        along[seen],
        noise[seen],
        s=2000 * probability[seen],
        label="draws of $g_t$",
        color="#0072B2",
        alpha=0.6,
        linewidths=0,
    )
    ax.plot([0, length], [0, 0], color="#1b1f24", label="means of the mixes")
    ax.plot([length], [0], "s", color="#D55E00", label="$g_e$")
    ax.plot([0], [0], "+", color="#1b1f24", markersize=9, label="μ")
    ax.set_xlabel("along the bias of $g_e$")
    ax.set_ylabel("largest noise of $g_t$ across it")
    ax.set_aspect("equal")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown]
# The draws scatter around $\mu$: $g_t$ is unbiased here. $g_e$ is one point away from it. Mixing pulls the cloud
# towards $g_e$ and shrinks it: the error is $\alpha^2 V + (1 - \alpha)^2 |b_e|^2$, with $V$ the trace variance, and the
# best weight $\alpha^* = |b_e|^2 / (|b_e|^2 + V)$.

# %%
mean = probability @ draws
variance = float(probability @ np.einsum("rj,jk,rk->r", draws, gram, draws))
best = length**2 / (length**2 + variance)
print(f"|E g_t - mu| / |b_e| = {np.sqrt(max(mean @ gram @ mean, 0.0)) / length:.1e}")
print(f"V = {variance:.3f}, |b_e|^2 = {length**2:.3f}, best weight of this prompt {best:.3f}")

# %%
weights = np.linspace(0, 1, 21)
errors = []
for weight in weights:
    coefficients = mix(trace, empty, weight).coefficients(scored.log_probs) - c_mu
    errors.append(float(probability @ np.einsum("rj,jk,rk->r", coefficients, gram, coefficients)))
with paper_style():
    figure, ax = new_figure(height=2.4)
    ax.plot(weights, errors, "o", label="from all draws of the mix")
    ax.plot(weights, weights**2 * variance + (1 - weights) ** 2 * length**2, label="closed form")
    ax.axvline(best, linestyle=":", color="#6a737d")
    ax.set_xlabel("weight α of $g_t$")
    ax.set_ylabel("E |g_c − μ|²")
    ax.legend()
figure

# %% [markdown]
# ## Many prompts, many estimators
#
# The same comparison over 32 prompts with sampled traces, for every estimator that the pairs allow: pools with traces
# that were sampled without sight of the answer, matched traces, and what a trace may be replaced by. Bias and variance
# are of one realisation on one prompt.

# %%
compared = EstimatorComparison.from_pairs(model, pairs)
compared

# %% [markdown]
# ## At equal budget
#
# A mix needs twice the sequences. What would the same tokens buy elsewhere? The batch size of every row is what the
# budget of 16 prompts with $g_t$ pays for.

# %%
budget = [row for row in compared.at_equal_budget(16) if row.relative is not None]
shown = sorted(budget, key=lambda row: row.relative.value)[:12][::-1]
with paper_style():
    figure, ax = new_figure(height=3.2)
    for y, row in enumerate(shown):
        ax.plot([row.relative.ci_low, row.relative.ci_high], [y, y], color="#0072B2")
        ax.plot([row.relative.value], [y], "o", color="#0072B2")
    ax.axvline(1, linestyle=":", color="#6a737d")
    ax.set_yticks(range(len(shown)), [f"{row.label}  (B = {row.batch_size.value:.1f})" for row in shown])
    ax.set_xlabel("MSE over that of $g_t$, equal tokens")
figure

# %%
assert np.sqrt(max(mean @ gram @ mean, 0.0)) < 1e-3 * length
assert np.allclose(errors, weights**2 * variance + (1 - weights) ** 2 * length**2, rtol=1e-3)
assert np.isclose(best, float(optimal_weight(error_t=variance, error_e=length**2, cross=0.0)))
rows = {row.key: row for row in compared.rows()}
assert rows["trace"].bias_sq.value == 0 < rows["empty"].bias_sq.value
assert rows["pooled_4"].variance.value < rows["trace"].variance.value
assert rows["empty"].variance.value < rows["trace"].variance.value
