"""What a row was sampled from, and when that matters."""

import math

import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.sampling_law import SamplingLaw


def test_only_the_untouched_softmax_is_the_policy():
    assert SamplingLaw().is_policy
    assert SamplingLaw().alert is None
    for law, named in (
        (SamplingLaw(temperature=0.6), "temperature 0.6"),
        (SamplingLaw(top_p=0.95), "top-p 0.95"),
        (SamplingLaw(top_k=20), "top-k 20"),
        (SamplingLaw(1.5, 0.9, 5), "temperature 1.5, top-p 0.9, top-k 5"),
    ):
        assert not law.is_policy
        assert (
            law.alert
            == f"Sampled at {named}: not the policy's own law, so traces are no posterior draws and g_t is biased."
        )


def test_the_law_survives_the_meta_of_a_row():
    for law in (SamplingLaw(), SamplingLaw(0.6, 0.95, 20)):
        assert SamplingLaw.from_meta({"seed": 3, **law.meta()}) == law
    assert SamplingLaw.from_meta({}) == SamplingLaw()
    assert SamplingLaw.from_meta({"temperature": None, "top_k": -1}) == SamplingLaw()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"temperature": math.nan}, "temperature must be positive"),
        ({"temperature": math.inf}, "temperature must be positive"),
        ({"top_p": 0.0}, "top-p must lie in"),
        ({"top_p": 1.1}, "top-p must lie in"),
        ({"top_k": -2}, "top-k must be a whole number"),
        ({"top_k": 1.5}, "top-k must be a whole number"),
        ({"top_k": True}, "top-k must be a whole number"),
    ],
)
def test_values_out_of_range_are_refused(values, says):
    with pytest.raises(InputError, match=says):
        SamplingLaw(**values)
