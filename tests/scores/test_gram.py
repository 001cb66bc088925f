"""Inner products in chunks: those of the rows, symmetric, and in float32 as good as its last bits."""

import pytest
import torch

from bvpo_analysis.scores.gram import CHUNK, chunked_products, full_gram
from bvpo_analysis.scores.hooks import HooksEngine
from bvpo_analysis.scores.plan import plan_pair


@pytest.mark.parametrize("columns", [3, CHUNK, CHUNK + 1, 5000])
@pytest.mark.parametrize("rows", [1, 5, 32, 33, 50, 128])
def test_chunked_products_are_the_products_of_the_rows(rows, columns):
    """Catches a lost rest of columns, a block of rows left out, and sums in float32 over many columns."""
    generator = torch.Generator().manual_seed(rows + columns)
    x = 0.5 + torch.randn(rows, columns, generator=generator)  # a common part, so that no product is small
    exact = x.double() @ x.double().T
    lengths = exact.diag().sqrt()
    found = chunked_products(x)
    assert found.dtype == torch.float64
    assert ((found - exact).abs() <= 5e-7 * torch.outer(lengths, lengths)).all()
    torch.testing.assert_close(chunked_products(x.double()), exact, rtol=1e-12, atol=1e-12 * columns)
    if rows > 32:
        assert torch.equal(found, found.T)


def test_a_buffer_can_be_used_again(lrm):
    from bvpo_analysis.preferences import shipped_pairs

    engine = HooksEngine(lrm.model, r"layers\.0")
    sequences = plan_pair(lrm.assembler, shipped_pairs("correct", limit=1)[0], traces=3).sequences
    rows = engine.buffer(len(sequences))
    expected = full_gram(engine, sequences)
    for _ in range(2):
        rows.fill_(float("nan"))
        for a, b in zip(full_gram(engine, sequences, rows=rows), expected, strict=True):
            assert (a == b).all()
