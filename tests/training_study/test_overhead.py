"""What a step costs: memory is counted from where training begins."""

import sys

import numpy as np
import pytest

from bvpo_analysis.training_study.overhead import resident, restart_peak


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not tell")
def test_the_peak_is_that_since_the_restart():
    """Catches a peak that was reached before, by this process or by the one that started it."""
    np.ones(40_000_000).sum()  # 320 MB, freed
    before = restart_peak()
    assert resident("VmHWM") - before < 100e6
    np.ones(10_000_000).sum()
    assert 70e6 < resident("VmHWM") - before < 180e6
    assert np.isnan(resident("VmNothing"))
