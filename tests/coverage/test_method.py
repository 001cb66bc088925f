"""The fingerprint of the code behind an interval: it changes with the code, and only with it."""

from pathlib import Path

import pytest

import bvpo_analysis
from bvpo_analysis.coverage import study
from bvpo_analysis.coverage.method import SOURCES, code_only, method_fingerprint
from bvpo_analysis.coverage.study import Setting


@pytest.mark.parametrize("source", SOURCES)
def test_every_module_of_the_method_counts_and_its_texts_do_not(source):
    """Catches a module that is listed but not there, an edit that goes unseen, and one of a comment that does not."""
    text = (Path(bvpo_analysis.__file__).parent / source).read_text(encoding="utf-8")
    assert code_only(text) == code_only(text + "\n# A remark.\n")
    assert code_only(text) != code_only(text + "\nFURTHER = 1\n")


def test_results_of_other_code_are_not_taken_for_done(tmp_path, monkeypatch):
    """Catches chunks of an older method summed up with those of a newer one."""
    unit = (tmp_path / "population-style.npz", Setting("style", 8, 1), 0, 2, tmp_path)
    here = study._chunk_path(*unit)
    assert method_fingerprint() in here.parts
    monkeypatch.setattr(study, "method_fingerprint", lambda: "another")
    assert study._chunk_path(*unit) != here
