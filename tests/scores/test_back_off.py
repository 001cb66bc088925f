"""Batches that shrink when memory runs out."""

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import HooksEngine, VmapEngine, pair_work, plan_pair, score_pairs, sequence_log_probs
from bvpo_analysis.scores import log_probs as log_probs_module
from bvpo_analysis.scores.back_off import run_batches
from bvpo_analysis.scores.memory import available_bytes, is_out_of_memory

CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 "
    "bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture(scope="module")
def sequences(lrm):
    pairs = shipped_pairs("correct", limit=3)
    return [s for pair in pairs for s in plan_pair(lrm.assembler, pair, traces=3).sequences]


def test_what_torch_says_when_memory_is_short_is_recognised():
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**60)
    assert is_out_of_memory(refusal.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError(CPU_ERROR))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(StudyError("memory does not suffice: out of memory"))


def test_there_is_memory():
    assert 2**20 < available_bytes() < 2**50
    assert available_bytes("meta") is None


@pytest.mark.parametrize("kind", [HooksEngine, VmapEngine])
def test_scores_do_not_depend_on_the_memory(lrm64, sequences, monkeypatch, kind):
    engine = kind(lrm64.model, r"^model\.norm|layers\.0\.mlp")
    expected = engine.buffer(len(sequences))
    parts = engine.fill(sequences, expected)
    write, sizes = kind._write, []

    def scarce(self, batch, out, rows):
        sizes.append(len(rows))
        result = write(self, batch, out, rows)
        if len(rows) > 4:
            out[rows] = float("nan")  # a failed attempt leaves rubbish
            raise RuntimeError(CPU_ERROR)
        return result

    monkeypatch.setattr(kind, "_write", scarce)
    found = torch.full_like(expected, float("nan"))
    with pytest.warns(UserWarning, match="out of memory; going on with batches of at most"):
        again = engine.fill(sequences, found)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    for a, b in zip(again, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    assert max(sizes) > 4 >= sizes[-1]
    sizes.clear()
    engine.fill(sequences, found)  # the engine has learnt
    assert max(sizes) <= 4


def test_a_single_sequence_that_does_not_fit_is_an_error_with_the_remedy(lrm, sequences, monkeypatch):
    engine = VmapEngine(lrm.model, r"^model\.norm")

    def none(self, batch, out, rows):
        raise MemoryError

    monkeypatch.setattr(VmapEngine, "_write", none)
    with (
        pytest.raises(StudyError, match=r"does not suffice for one sequence of \d+ tokens; use --engine loop"),
        pytest.warns(UserWarning, match="out of memory"),
    ):
        engine.fill(sequences, engine.buffer(len(sequences)))


def test_other_errors_are_not_taken_for_it(sequences):
    def broken(batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        run_batches(sequences, 100, log_probs_module.batches_by_length, broken)


def test_log_probabilities_of_the_reference_do_not_depend_on_the_memory(lrm64, sequences, monkeypatch):
    expected = sequence_log_probs(lrm64.model, sequences)
    original = log_probs_module.log_prob_parts

    def scarce(model, parameters, ids, *masks):
        if len(ids) > 3:
            raise RuntimeError(CPU_ERROR)
        return original(model, parameters, ids, *masks)

    monkeypatch.setattr(log_probs_module, "log_prob_parts", scarce)
    with pytest.warns(UserWarning, match="out of memory"):
        found = sequence_log_probs(lrm64.model, sequences)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_scores_that_do_not_fit_are_an_error_with_the_remedy(lrm, monkeypatch):
    def none(self, rows):
        if rows:
            raise RuntimeError(CPU_ERROR)
        return torch.empty(0, self.size)

    monkeypatch.setattr(VmapEngine, "buffer", none)
    with pytest.raises(StudyError, match=r"the scores of one pair need .* GiB \(.* sequences x .*--params, use a LoRA"):
        score_pairs(lrm, shipped_pairs("correct", limit=1), engine="vmap", parameters=r"^model\.norm")
    assert pair_work.BUFFER_BYTES > 0
