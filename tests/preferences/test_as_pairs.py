"""What may be given where preference pairs are expected."""

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.preferences import shipped_pairs, write_pairs
from bvpo_analysis.preferences.rows import as_pairs


def test_a_path_is_read_and_pairs_stay_as_they_are(tmp_path):
    pairs = shipped_pairs("correct", limit=2)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert as_pairs(pairs) is pairs
    assert as_pairs(tmp_path / "pairs.jsonl") == as_pairs(str(tmp_path / "pairs.jsonl")) == pairs


@pytest.mark.parametrize("given", [3, None, ["text"], {"prompt": "x"}])
def test_anything_else_is_one_line_with_the_remedy(given):
    with pytest.raises(InputError, match=r"expected second.*read_pairs") as caught:
        as_pairs(given)
    assert "\n" not in str(caught.value)
