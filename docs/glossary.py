"""The glossary: symbol of the paper, name in the code, plain words. Names are looked up, so none can be out of date."""

import re

from markup import table

from bvpo_analysis import theory
from bvpo_analysis.tables import MOMENTS

GRADIENTS: tuple[tuple[str, str, str], ...] = (
    (
        "g_t",
        "estimators.Trace",
        "trace-based gradient: the preference loss on answers with one sampled reasoning trace",
    ),
    ("g_e", "estimators.EmptyTrace", "empty-trace gradient: the same loss on answers given without thinking"),
    ("g_c", "estimators.mix", "their mixture, α g_t + (1 − α) g_e"),
    ("∇L_m, μ", "estimators.Marginal", "marginal gradient: of the loss in which all traces are summed out; the target"),
    ("mean of K", "estimators.MultiTrace", "average of g_t over K traces per answer"),
    ("L_m with K traces", "estimators.KMarginal", "gradient of the marginal loss with sums over K sampled traces"),
    ("g_p", "estimators.Pooled", "one trace of the answer in a pool with traces sampled without sight of it"),
    (
        "s(r, y)",
        "scores.score_pairs",
        "score: gradient of log π(r, y given x) of one sequence; everything is built of these",
    ),
    ("α*", "study.Study.optimal_alpha", "the weight of g_t with the smallest error"),
    ("MSE(α)", "study.Study.mse", "mean squared distance of g_c to the target"),
    ("L_t, L_e, L_c", "training.bvpo_loss", "losses behind the three gradients, to drop into another training loop"),
)
"""Symbol, importable name below ``bvpo_analysis``, plain words."""

WORDS: tuple[tuple[str, str], ...] = (
    ("answer y", "what the model says after its trace; rewards and rankings see only this"),
    ("batch size B", "prompts per optimiser step. It divides variances and leaves biases as they are"),
    ("bias", "mean of an estimator minus the target. It does not average out"),
    ("coverage", "how often a 95 % interval holds the truth; measured, see [what we found](what-we-found.md)"),
    ("data variance", "the part of the variance that comes from which prompts are in the batch"),
    ("empty trace", "the reasoning switched off: an empty thinking block, prefilled or generated"),
    ("enumeration", "summing over all traces instead of sampling; possible for the model in the box"),
    ("equal budget", "the same tokens, sequences or operations spent on another estimator"),
    ("per-prompt target (M1)", "each prompt's own marginal gradient. Only traces are random"),
    ("population target (M3)", "the marginal gradient of all prompts. Traces and prompts are random; the default"),
    ("posterior trace", "a trace drawn given the answer, as the trace that was sampled with it is"),
    ("prior trace", "a trace drawn from the prompt alone, without sight of an answer"),
    ("reference", "the policy where training starts. There g_t is unbiased for DPO and IPO"),
    ("regime", "a rule that ranks answers: `style`, `valid` or `correct`"),
    ("regret", "error at a weight over the least error, minus one"),
    ("trace r", "the reasoning before the answer"),
    ("trace variance τ", "the part of the variance that comes from which trace was sampled"),
    ("unclipped", "a weight as estimated; the recommended one is clipped to [0, 1]"),
    ("κ (kappa)", "step size times smoothness, ηL. The variance counts κ times in the bound of a step"),
)
"""Words used in reports, in alphabetical order."""

HEAD = """\
# Glossary

Symbols of the paper (BVPO, arXiv [2510.05095](https://arxiv.org/abs/2510.05095)) and of the theory around it, the
names in
the code, and what they mean.
"""


def arguments() -> list[list[str]]:
    """The rows of the symbol table in the docstring of ``theory``: symbol, argument, meaning."""
    lines = (theory.__doc__ or "").splitlines()
    rules = [i for i, line in enumerate(lines) if re.fullmatch(r"\s*=+\s+=+\s+=+", line)]
    starts = [match.start() for match in re.finditer(r"=+", lines[rules[0]])]
    rows = []
    for line in lines[rules[1] + 1 : rules[2]]:
        symbol, meaning, name = (line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True))
        rows.append([symbol, name.replace("``", "`"), meaning])
    return rows


def page() -> str:
    """The whole page."""
    left = "|---|---|---|"
    gradients = table(["symbol", "in the code", "in words"], [[s, f"`{name}`", words] for s, name, words in GRADIENTS])
    moments = table(
        ["symbol", "row of `study.moments()`", "in words"], [[s, f"`{n}`", w] for n, (s, w) in MOMENTS.items()]
    )
    theirs = table(["symbol", "argument in `theory`", "meaning"], arguments())
    words = table(["word", "meaning"], [list(row) for row in WORDS]).replace("|---|--:|", "|---|---|")
    parts = [
        HEAD.rstrip(),
        "## Gradients and what is asked of them",
        gradients,
        "## Moments",
        "Of one unit: one prompt, one trace. `study.law(batch_size=…, traces=…)` rescales them to a batch.",
        moments,
        "## Arguments of the closed forms",
        theirs,
        "B is a batch size or a cross moment; the argument's name says which.",
        "## Words",
        words,
    ]
    return "\n\n".join(parts).replace("|---|--:|--:|", left) + "\n"
