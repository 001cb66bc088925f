"""Theorems 1 and 2 and Corollary 1: what mixing does to variance and to mean squared error.

The left side of every claim is a sum over the atoms of a finite law of (g_t, g_e) as explicit vectors; the right side
is the closed form.
"""

import numpy as np

from bvpo_analysis import theory
from bvpo_analysis.claims.instances import FiniteLaw, finite_laws, worst
from bvpo_analysis.records import Claim

PAPER = "BVPO, arXiv 2510.05095"


def theorem_1() -> Claim:
    """Var_r(alpha g_t + (1 - alpha) g_e | data) = alpha^2 Var_r(g_t | data), g_e having no trace randomness."""
    instances = [
        (law.variance_of_mix(alpha), theory.error_curve(alpha, law.var_t, 0.0, 0.0), law.scale)
        for law in finite_laws(count=200, fixed_e=True)
        for alpha in (0.0, 0.3, 0.5, 0.9)
    ]
    measured, predicted, tolerance = worst(instances)
    return Claim(
        name="theorem-1",
        statement="Given the data, mixing multiplies the trace variance of g_t by alpha squared",
        reference=f"{PAPER}, Theorem 1",
        kind="identity",
        measured=measured,
        predicted=predicted,
        tolerance=tolerance,
        setting="800 mixes of random finite laws, g_e fixed",
    )


def theorem_1_total_variance() -> Claim:
    """The stronger reading fails: over prompts, mixing in a noisier g_e raises the variance."""
    law = FiniteLaw.independent(np.array([-1.0, 1.0]), np.array([-10.0, 10.0]))
    return Claim(
        name="theorem-1-total",
        statement="The total variance of the equal mix is at most that of g_t",
        reference=f"reading of {PAPER}, Theorem 1, without its conditioning",
        kind="upper",
        measured=law.variance_of_mix(0.5),
        predicted=law.var_t,
        only_if="the variance is conditional on the data; over prompts g_e has variance of its own",
        setting="Var g_t = 1, Var g_e = 100, uncorrelated",
        note="The conditional statement says nothing about signal: g_e = 0 shrinks the variance as much.",
    )


CLAIMS = (theorem_1, theorem_1_total_variance)
