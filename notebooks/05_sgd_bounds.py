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
# # SGD bounds: what a weight means for a run
#
# The mean squared error of one gradient is not yet a training run. A step size $\eta$ on an $L$-smooth loss averages
# noise out and keeps bias, by how much the bounds of biased SGD say. This notebook holds the bounds against runs on
# problems with known constants, and asks which weight runs prefer.

# %%
# %matplotlib inline
# %config InlineBackend.print_figure_kwargs = {"facecolor": "white", "bbox_inches": "tight"}
import numpy as np

from bvpo_analysis.figures import new_figure, paper_style, plot_best_weight, plot_run_bounds, plot_schedule_losses
from bvpo_analysis.sgd.cases import standard_cases
from bvpo_analysis.sgd.consequences import best_weights
from bvpo_analysis.sgd.regimes import shipped_cases
from bvpo_analysis.sgd.rules import Fixed, FromStart
from bvpo_analysis.sgd.trajectories import under_schedule, with_bounds
from bvpo_analysis.sgd.verify import verify, violations
from bvpo_analysis.theory import classical_bound, improved_bound

# %% [markdown]
# ## One bound, by hand
#
# The paper's bound on the average squared gradient of $T$ steps of biased SGD: the start, forgotten like $1/T$, then
# the squared bias $\zeta^2$, then the noise $\sigma^2$ weighted by $\kappa = \eta L$. A smaller step buys the noise
# down; the bias stays. Without the slack of the proof the bound is a little lower.

# %%
constants = {"initial_gap": 1.0, "smoothness": 1.0, "steps": 100, "bias_bound": 0.3, "noise_var": 2.0}
for step_size in (1.0, 0.5, 0.1, 0.01):
    classical = float(classical_bound(step_size=step_size, **constants))
    improved = float(improved_bound(step_size=step_size, **constants))
    print(f"kappa = {step_size:4}: classical bound {classical:6.3f}, improved {improved:6.3f}")

# %% [markdown]
# ## Bounds against a run
#
# Ten problems have a proved smoothness constant, a known minimum and a known law of $(g_t, g_e)$. On quadratics the
# expectations along a run are exact. Here one of them, with half and half of both gradients.

# %%
case = standard_cases()[1]
table = with_bounds(case, Fixed(0.5), kappa=0.5, steps=1000)
with paper_style():
    figure, ax = new_figure()
    plot_run_bounds(table, ax)
    ax.set_title(f"{case.name}, κ = 0.5", fontsize=8)
    ax.legend()
figure

# %% [markdown]
# Does any bound break, on any problem, for any mixing rule? Runs that are simulated get five standard errors of grace.

# %%
checks = verify(
    standard_cases()[:4], [Fixed(0.0), Fixed(0.5), Fixed(1.0), FromStart("mse")], kappas=[0.1, 1.0], horizons=[10, 100]
)
print(f"{len(checks)} checks, {len(violations(checks))} violations")

# %% [markdown]
# ## Which weight do runs prefer?
#
# The measured moments of the model in the box, put into a quadratic: biases and noises stay those of the reference.
# Small steps average noise over many steps, so they want the unbiased, noisy gradient.

# %%
correct = next(c for c in shipped_cases() if c.name == "correct")
best = best_weights([correct], kappas=np.geomspace(0.01, 1.0, 13).tolist(), horizons=[1000])
with paper_style():
    figure, ax = new_figure()
    plot_best_weight(best, ax)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown]
# The line is the weight of the step-size bound, $\alpha_\kappa$: it knows moments and $\kappa$, and no run. At
# $\kappa = 1$ on this isotropic quadratic it is exact.

# %%
steady = best[(best.yardstick == "steady gradient")]
print(steady[["kappa", "best", "step", "cost_step", "cost_mse", "cost_half"]].round(3).to_string(index=False))

# %% [markdown]
# ## Under a schedule
#
# When the step size decays, a constant weight keeps its share of the bias to the end. The schedule $\alpha_t$ moves to
# $g_t$ as steps shrink.

# %%
curves = under_schedule([correct], kappa=1.0, steps=1000)
with paper_style():
    figure, ax = new_figure()
    plot_schedule_losses(curves, ax)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %%
final = curves[curves.step == curves.step.max()].set_index("rule")["value"]
print((final / final.min()).round(2).to_string())

# %%
assert not violations(checks)
bounds = table[table.series != "measured"].merge(table[table.series == "measured"], on="step", suffixes=("", "_run"))
assert (bounds["value"] >= bounds["value_run"] * (1 - 1e-9)).all()
smallest, largest = steady.sort_values("kappa").iloc[[0, -1]].itertuples()
assert smallest.best > largest.best
assert np.isclose(largest.best, largest.step)
assert final["schedule"] < final["α* throughout"]
