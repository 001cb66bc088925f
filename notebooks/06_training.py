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
# # Training with the mixed gradient
#
# The trainer in this package forms its gradients from the same coefficients that a study analyses. So what a study says
# before training can be held against what happens in training. Three short runs on the model in the box: $g_t$ alone,
# the equal mix, and a weight from running moments. They show how it is done, not which method is better: that takes
# many seeds.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import numpy as np
import pandas as pd
import torch

from bvpo_analysis import DPO, Study, load_model, shipped_pairs
from bvpo_analysis.figures import new_figure, paper_style
from bvpo_analysis.training import HeldOut, TrainConfig, bvpo_loss, split_pairs, train

torch.set_num_threads(1)
training, held_out = split_pairs(shipped_pairs("correct", limit=128), share=0.25, seed=0)
print(len(training), "pairs to train on,", len(held_out), "held out")

# %% [markdown]
# ## Before training: a prediction
#
# A study of the training pairs gives the moments of both gradients. A batch of $B$ prompts then has
# $E|g_t|^2 = |\mu|^2 + \operatorname{Tr Cov}(g_t) / B$, and likewise $g_e$.

# %%
study = Study.from_pairs(load_model(), training)
moment = study.moments()["value"]
batch = 16
predicted = {
    "trace": moment["target_sq"] + moment["var_t"] / batch,
    "empty": moment["mean_e_sq"] + moment["var_e"] / batch,
}
alpha = study.optimal_alpha(batch_size=batch)
print(f"alpha* for batches of {batch}: {alpha.estimate}")

# %% [markdown]
# ## The trainer's gradients are those of the study
#
# With a step size of almost nothing the policy stays at the reference, and one pass over the data gives independent
# batches to compare with.

# %%
config = TrainConfig(method="bvpo", alpha=0.5, batch_size=batch, steps=len(training) // batch, lr=1e-12, clip=None)
still = train(config, load_model(), training).log[:-1]
rows = []
for name, expected in predicted.items():
    squares = np.array([entry[f"{name}/grad_norm"] ** 2 for entry in still])
    se = squares.std(ddof=1) / np.sqrt(len(squares))
    rows.append({"gradient": name, "mean square": squares.mean(), "standard error": se, "predicted": expected})
compared = pd.DataFrame(rows).set_index("gradient")
compared.round(3)

# %% [markdown]
# ## Three runs on the same batches
#
# One seed gives all three the same batches in the same order. Every few steps the held-out pairs are evaluated.

# %%
runs = {}
for name, options in {
    "g_t alone": {"method": "dpo"},
    "equal mix": {"method": "bvpo", "alpha": 0.5},
    "running weight": {"method": "bvpo", "alpha": "auto"},
}.items():
    config = TrainConfig(**options, batch_size=batch, steps=15, lr=1e-3, evaluate_every=5)
    policy = load_model()
    runs[name] = train(config, policy, training, callbacks=[HeldOut.of(config, policy, held_out)]).log
print("logged at each step:", ", ".join(list(runs["equal mix"][1])[:9]), "...")

# %%
curves = {name: [entry for entry in log if "eval/loss" in entry] for name, log in runs.items()}
with paper_style():
    figure, ax = new_figure(height=2.6)
    for (name, log), line in zip(curves.items(), ("-", "--", ":"), strict=True):
        ax.errorbar(
            [entry["step"] for entry in log],
            [entry["eval/loss"] for entry in log],
            [entry["eval/loss_se"] for entry in log],
            linestyle=line,
            capsize=2,
            label=name,
        )
    ax.set_xlabel("step")
    ax.set_ylabel("held-out loss, with a trace")
    ax.legend()
figure

# %% [markdown]
# $g_t$ alone goes down furthest here, and should: this is the loss whose gradient it follows, while a mix also follows
# the loss without traces. Bars are standard errors over the held-out prompts; one seed says nothing about the next. The
# gradients of the mixes are shorter from the first step on.

# %%
with paper_style():
    figure, ax = new_figure(height=2.6)
    for (name, log), line in zip(runs.items(), ("-", "--", ":"), strict=True):
        ax.plot([entry["grad_norm"] for entry in log[:-1]], linestyle=line, label=name)
    ax.set_xlabel("step")
    ax.set_ylabel("norm of the gradient used")
    ax.legend()
figure

# %% [markdown]
# The running weight starts at 1/2, then follows moments of earlier half batches. A few noisy batches are behind it, so
# it is rougher than the study's weight, and drifts as the policy leaves the reference.

# %%
weights = [entry["alpha"] for entry in runs["running weight"][:-1]]
print("running weight:", " ".join(f"{weight:.2f}" for weight in weights))
print(f"study before training: {alpha.estimate}")

# %% [markdown]
# ## In another trainer
#
# The same loss as a pure function of log-probabilities: weight the two losses of a batch.

# %%
chosen, rejected, reference = torch.tensor([-3.0]), torch.tensor([-5.0]), torch.tensor([-4.0])
pair, fixed = (chosen, rejected), (reference, reference)
values = [float(bvpo_loss(DPO(0.1), pair, fixed, (reference, chosen), fixed, weight)) for weight in (0.0, 0.5, 1.0)]
print("alpha = 0, 1/2, 1:", ", ".join(f"{value:.4f}" for value in values))

# %%
assert (np.abs(compared["mean square"] - compared["predicted"]) < 4 * compared["standard error"]).all()
assert all(log[-1]["eval/loss"] < log[0]["eval/loss"] for log in runs.values())
assert runs["equal mix"][0]["grad_norm"] < runs["g_t alone"][0]["grad_norm"]
assert weights[0] == 0.5
assert all(0 <= weight <= 1 for weight in weights)
assert np.isclose(values[1], (values[0] + values[2]) / 2)
