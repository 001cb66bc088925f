"""Means and U-statistics with their leave-one-out values: brute-force pair sums, recomputation, invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bvpo_analysis.moments import jackknife_covariance, leave_one_out_mean, leave_one_out_ustatistic

ENTRIES = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))
SIZES = st.tuples(st.integers(3, 8), st.integers(1, 5))


@st.composite
def two_samples(draw):
    """Vectors a_i, b_i of n prompts."""
    shape = draw(SIZES)
    return tuple(draw(hnp.arrays(float, shape, elements=ENTRIES)) for _ in range(2))


def ustatistic(a, b):
    """The package's arrays from explicit vectors."""
    return leave_one_out_ustatistic((a * b).sum(1), a @ b.sum(0), b @ a.sum(0))


def pair_sum(a, b):
    """sum_{i != j} <a_i, b_j> / (n (n - 1)) by two loops."""
    n = len(a)
    return sum(a[i] @ b[j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))


def tolerance(a, b):
    return 1e-10 * max(1.0, np.abs(a).max() * np.abs(b).max() * a.shape[1])


@given(two_samples())
def test_g52_ustatistic_is_the_pair_sum(samples):
    """Catches equal-index pairs left in (the plug-in square), and n^2 for n (n - 1)."""
    a, b = samples
    assert abs(ustatistic(a, b)[0] - pair_sum(a, b)) <= tolerance(a, b)
    gram = a @ a.T
    n = len(a)
    assert abs(ustatistic(a, a)[0] - (gram.sum() - np.trace(gram)) / (n * (n - 1))) <= tolerance(a, a)


@given(two_samples())
def test_leave_one_out_values_are_those_of_the_smaller_sample(samples):
    """Catches <a_l, b_l> subtracted once instead of twice, and one cross product forgotten."""
    a, b = samples
    means, us = leave_one_out_mean(a[:, 0]), ustatistic(a, b)
    assert len(means) == len(us) == len(a) + 1
    for left in range(len(a)):
        rest = np.delete(np.arange(len(a)), left)
        assert abs(means[left + 1] - a[rest, 0].mean()) <= tolerance(a, a)
        assert abs(us[left + 1] - pair_sum(a[rest], b[rest])) <= tolerance(a, b)


@given(two_samples(), st.integers(0, 2**32 - 1))
def test_g53_order_and_rotation_change_nothing(samples, seed):
    """Catches a statistic that depends on the order of prompts or on coordinates."""
    a, b = samples
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(a.shape[1],) * 2))
    order = rng.permutation(len(a))
    assert abs(ustatistic(a[order] @ q, b[order] @ q)[0] - ustatistic(a, b)[0]) <= 10 * tolerance(a, b)


def test_g53_an_unbiased_square_may_be_negative():
    """Catches silent clipping at zero."""
    a = np.array([1.0, -1.0, 0.5, -0.5])[:, None]
    assert ustatistic(a, a)[0] == pytest.approx(-2.5 / 12)


def test_unbiased_for_the_inner_product_of_the_means():
    """Catches n^2 for n (n - 1) by exact enumeration of all samples of three from two atoms."""
    atoms_a, atoms_b = np.array([[1.0, 0.0], [3.0, -2.0]]), np.array([[2.0, 1.0], [0.0, 5.0]])
    p = np.array([0.3, 0.7])
    total = 0.0
    for choice in np.ndindex(2, 2, 2):
        index = list(choice)
        total += p[index].prod() * ustatistic(atoms_a[index], atoms_b[index])[0]
    assert total == pytest.approx((p @ atoms_a) @ (p @ atoms_b), rel=1e-12)


@given(hnp.arrays(float, st.integers(3, 30), elements=ENTRIES))
def test_g47_jackknife_variance_of_a_mean_is_s_squared_over_n(x):
    """Catches a jackknife factor of 1/(n - 1) or 1 for (n - 1)/n."""
    expected = x.var(ddof=1) / len(x)
    scale = max(1.0, np.abs(x).max() ** 2)
    assert abs(jackknife_covariance(leave_one_out_mean(x))[0, 0] - expected) <= 1e-10 * scale


def test_g47_jackknife_bias_correction_of_the_plug_in_variance_gives_ddof_1():
    """Catches leave-one-out values that belong to another prompt, through an identity that needs them all."""
    x = np.random.default_rng(0).normal(size=12)
    plug_in = leave_one_out_mean(x**2) - leave_one_out_mean(x) ** 2
    corrected = len(x) * plug_in[0] - (len(x) - 1) * plug_in[1:].mean()
    assert corrected == pytest.approx(x.var(ddof=1), rel=1e-12)


@pytest.mark.parametrize("values", [[1.0, 2.0], [], [[1.0, 2.0, 3.0]]])
def test_too_few_prompts_raise(values):
    """Catches a division by zero that would be reported as infinite uncertainty."""
    with pytest.raises(ValueError, match="at least three prompts"):
        leave_one_out_mean(values)
    with pytest.raises(ValueError, match="at least three prompts"):
        leave_one_out_ustatistic(values, values, values)
