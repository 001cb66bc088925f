"""Fixed-point totals: the order of additions, their accuracy and their range."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.scores.totals import LARGEST, FixedPointTotals, unit_exponents

COLUMNS = (slice(0, 40), slice(40, 100))


def vectors(count=50, seed=0, dtype=torch.float32):
    """[count, A, P] vectors, the second group a thousand times smaller than the first."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(count, 2, 100, generator=generator, dtype=dtype)
    found[..., 40:] *= 1e-3
    return found


def exponents(first, dtype=torch.float32):
    size = np.array([[float(v[c].square().mean().sqrt()) for c in COLUMNS] for v in first.double()])
    return unit_exponents(size, dtype)


def total(data, units, order=None, width=7):
    totals = FixedPointTotals(units, COLUMNS, "cpu")
    for i in range(len(data)) if order is None else order:
        for g, columns in enumerate(COLUMNS):
            for start in range(columns.start, columns.stop, width):
                place = slice(start, min(start + width, columns.stop))
                totals.add(g, place, data[i][:, place])
        totals.close(f"vector {i}")
    return totals


def test_any_order_and_any_grouping_gives_the_same_bits():
    data = vectors(dtype=torch.float64)
    units = exponents(data[0])
    expected = total(data, units).to_float()
    rng = np.random.default_rng(1)
    for parts in (1, 2, 3, 7):
        order = rng.permutation(len(data))
        shares = [total(data, units, order[k::parts], width=13) for k in range(parts)]
        merged = shares[0]
        for other in shares[1:]:
            for row in range(2):
                merged.merge(row, other.counts[row], other.bound[row])
        assert torch.equal(merged.to_float(), expected)
    # A floating-point sum has no such property, on these very numbers.
    shuffled = data[torch.from_numpy(rng.permutation(len(data)))]
    assert not torch.equal(sum(data), sum(shuffled))


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-9), (torch.float64, 2e-12)])
def test_the_sum_is_far_more_accurate_than_float32(dtype, accuracy):
    """Against exact rational sums; every group by its own length, however small beside the others."""
    data = vectors(dtype=dtype)
    found = total(data, exponents(data[0], dtype)).to_float()
    exact = np.array(
        [[float(sum(map(Fraction, column))) for column in row.T] for row in data.double().numpy().swapaxes(0, 1)]
    )
    for columns in COLUMNS:
        error = np.linalg.norm(found[:, columns].numpy() - exact[:, columns], axis=1)
        assert (error <= accuracy * np.linalg.norm(exact[:, columns], axis=1)).all()
        assert (error > 0).all()


def test_what_leaves_the_range_is_an_error_before_it_happens():
    units = np.array([[-32, -32], [-32, -32]])
    data = torch.zeros(3, 2, 100, dtype=torch.float64)
    data[:, 1, 50] = 0.45 * LARGEST * 2.0**-32
    totals = total(data[:2], units)
    expected = 2 * data[0, 1, 50]
    for g, columns in enumerate(COLUMNS):
        totals.add(g, columns, data[2][:, columns])
    with pytest.raises(
        StudyError, match=r"prompt 'x': the gradients are not finite, or so much larger than .* leave it out"
    ):
        totals.close("prompt 'x'")
    assert totals.to_float()[1, 50] == expected  # nothing has wrapped round
    shares = [total(data[:2], units), total(data[:1], units)]
    with pytest.raises(StudyError, match="the totals of all processes"):
        shares[0].merge(1, shares[1].counts[1], shares[1].bound[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_an_error(value):
    data = vectors(2)
    data[1, 0, 3] = value
    with pytest.raises(StudyError, match="vector 1"):
        total(data, exponents(data[0]))
    with pytest.raises(StudyError, match="not finite"):
        unit_exponents(np.array([[1.0, value]]), torch.float32)


def test_units_of_vectors_that_vanish_are_those_of_the_others():
    assert unit_exponents(np.array([[0.0, 5.0], [0.1, 0.0]]), torch.float32).tolist() == [[-29, -29], [-35, -29]]
    assert unit_exponents(np.zeros((1, 2)), torch.float64).tolist() == [[-42, -42]]
    assert unit_exponents(np.zeros((0, 2)), torch.float32).shape == (0, 2)
