"""The section on importance weights."""

import numpy as np
import pytest

from bvpo_analysis.moments.diagnostics import WeightDiagnostics, summarise_weights
from bvpo_analysis.report.weights import weights_section


def summary(khat, draws=50, source="posterior"):
    n = len(khat)
    share = np.linspace(0.1, 0.9, n)[:, None] * np.ones(2)
    return summarise_weights(WeightDiagnostics(source, tuple(map(str, range(n))), np.full(n, draws), share, khat))


def test_numbers_stand_in_their_columns():
    khat = np.repeat([[0.1], [0.3], [0.5], [0.75], [0.9]], 2, axis=1)
    s = summary(khat)
    section = weights_section([s, summary(np.full((5, 2), np.nan), draws=0, source="prior")])
    t = section.tables[0]
    found = dict(zip([c.label for c in t.columns], t.rows[0], strict=True))
    assert found["per answer"] == "50"
    assert found["ESS / draws, mean"].value == pytest.approx(0.5)
    assert found["ESS / draws, median"] == pytest.approx(0.5)
    assert found["ESS / draws, 5 % quantile"] == pytest.approx(0.1)
    assert found["sets with a low ESS"].value == pytest.approx(0.2)
    assert found["tail shape, median"] == "0.50"
    assert found["sets with a shape above 0.7"].value == pytest.approx(0.4)
    assert found["sets with a shape too high for their draws"].value == pytest.approx(0.6)  # above 1 - 1/log10 50 = .41
    assert t.rows[1][:2] == ("prior traces, for pooled estimators", "all")
    assert t.rows[1][6:] == ("not available", None, None)
    assert section.notes[: len(s.flags)] == tuple(flag.text for flag in s.flags)


def test_an_infinite_shape_is_said():
    assert weights_section([summary(np.full((4, 2), np.inf))]).tables[0].rows[0][6] == "infinite"


def test_no_weights_are_refused():
    with pytest.raises(ValueError, match="no weights"):
        weights_section([])
