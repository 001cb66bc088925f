"""The streaming passes against the full Gram matrix, their interruption, and score sets on disk."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.estimators import EmptyTrace, Marginal, Trace, mean_coefficients, totals_of
from bvpo_analysis.exact import shipped_traces
from bvpo_analysis.lrm.loading import ReasoningModel, weights_fingerprint
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.records import Completion
from bvpo_analysis.scores import (
    HooksEngine,
    ScoreEngine,
    VmapEngine,
    blocks,
    load_scores,
    pair_work,
    passes,
    plan_pair,
    save_scores,
    score_pairs,
    store,
)
from bvpo_analysis.scores.gram import full_gram
from bvpo_analysis.scores.log_probs import sequence_log_probs

TRACE, EMPTY, MARGINAL = Trace(DPO(0.1)), EmptyTrace(DPO(0.1)), Marginal(DPO(0.1))
PARAMETERS = r"layers\.[01]\.self_attn|^model\.norm"
"""Three groups: enough to mix groups up, and quick."""


@pytest.fixture(scope="module")
def pairs():
    """Ten pairs, so that the second block is not full."""
    return shipped_pairs("correct", limit=10)


def perturbed(lrm, scale=0.02, seed=4):
    """A model near the one given: every weight moved a little."""
    model = copy.deepcopy(lrm.model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * p.std() * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return ReasoningModel("perturbed", model, lrm.assembler, weights_fingerprint(model))


def same_scores(a, b):
    """Every field of two score sets is equal, bit for bit."""
    assert (a.groups, a.parameters, a.totals, a.settings) == (b.groups, b.parameters, b.totals, b.settings)
    assert len(a) == len(b)
    np.testing.assert_array_equal(a.totals_gram, b.totals_gram)
    for x, y in zip(a.pairs, b.pairs, strict=True):
        np.testing.assert_array_equal(x.gram, y.gram)
        np.testing.assert_array_equal(x.with_totals, y.with_totals)
        np.testing.assert_array_equal(x.sketches, y.sketches)
        for name, value in vars(x.log_probs).items():
            other = getattr(y.log_probs, name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, other, err_msg=name)
                assert value.dtype == other.dtype, name
                assert value.shape == other.shape, name
            else:
                assert value == other, name


# --- against the full Gram matrix -------------------------------------------------------------------------


@pytest.mark.parametrize("enumerate_traces", [None, lambda pair: shipped_traces(pair)[::6]], ids=["sampled", "all"])
def test_the_passes_equal_the_full_gram_matrix(lrm64, pairs, enumerate_traces):
    """Sizes of 1e-10 are relative to the largest product of the kind: some of them vanish."""
    totals = totals_of(TRACE, EMPTY)
    options = {"traces": 3, "enumerate_traces": enumerate_traces}
    scores = score_pairs(lrm64, pairs, totals=totals, parameters=PARAMETERS, **options)
    plans = [plan_pair(lrm64.assembler, pair, **options) for pair in pairs]
    engine = VmapEngine(lrm64.model, PARAMETERS)
    sequences = [s for plan in plans for s in plan.sequences]
    gram, trace, answer = full_gram(engine, sequences, panel=17)
    assert (scores.groups, scores.totals) == (engine.groups, tuple(totals))
    assert scores.parameters == tuple(c.stop - c.start for c in engine.columns)
    coefficients = np.zeros((2, len(sequences)))
    first = 0
    for plan, pair in zip(plans, scores.pairs, strict=True):
        here = slice(first, first + len(plan.sequences))
        coefficients[:, here] = [mean_coefficients(f, pair.log_probs) for f in (TRACE, EMPTY)]
        np.testing.assert_allclose(pair.log_probs.log_prob, (trace + answer)[here], rtol=1e-10)
        np.testing.assert_allclose(pair.log_probs.log_prob_answer, answer[here], rtol=1e-10)
        np.testing.assert_allclose(pair.gram, gram[:, here, here], rtol=1e-10, atol=1e-10 * abs(gram).max())
        first = here.stop
    products = gram @ coefficients.T  # [G, N, A]
    first = 0
    largest = max(abs(pair.with_totals).max() for pair in scores.pairs)
    for pair in scores.pairs:
        here = slice(first, first + pair.log_probs.size)
        own = coefficients[:, here] @ products[:, here]
        np.testing.assert_allclose(pair.with_totals, own, rtol=1e-10, atol=1e-10 * largest)
        first = here.stop
    expected = coefficients @ products
    np.testing.assert_allclose(scores.totals_gram, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())
    assert abs(coefficients).sum() > 0
    np.testing.assert_allclose(scores.totals_gram, np.swapaxes(scores.totals_gram, 1, 2), rtol=1e-12)


def test_products_of_the_groups_sum_to_the_whole(lrm64, pairs):
    """The whole is the product of whole rows, and the sum over any partition of the parameters."""
    some = pairs[:2]
    scores = score_pairs(lrm64, some, traces=2, parameters=PARAMETERS)
    engine = VmapEngine(lrm64.model, PARAMETERS)
    for pair, result in zip(some, scores.pairs, strict=True):
        plan = plan_pair(lrm64.assembler, pair, traces=2)
        rows = engine.buffer(len(plan.sequences))
        engine.fill(plan.sequences, rows)
        whole = (rows @ rows.T).numpy()
        np.testing.assert_allclose(result.gram.sum(axis=0), whole, rtol=1e-10, atol=1e-10 * whole.max())
        parts = [
            score_pairs(lrm64, [pair], traces=2, parameters=p).pairs[0].gram.sum(axis=0)
            for p in (r"layers\.0\.self_attn|^model\.norm", r"layers\.1\.self_attn")
        ]
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-10, atol=1e-10 * whole.max())


def test_panels_of_any_size_give_the_same_numbers(lrm64, pairs, monkeypatch):
    totals = totals_of(TRACE, EMPTY)
    expected = score_pairs(lrm64, pairs[:4], traces=2, totals=totals, parameters=PARAMETERS)
    monkeypatch.setattr(pair_work, "BUFFER_BYTES", 1)  # one pair at a time
    found = score_pairs(lrm64, pairs[:4], traces=2, totals=totals, parameters=PARAMETERS)
    np.testing.assert_allclose(
        found.totals_gram, expected.totals_gram, rtol=1e-10, atol=1e-10 * abs(expected.totals_gram).max()
    )
    for a, b in zip(found.pairs, expected.pairs, strict=True):
        np.testing.assert_allclose(a.gram, b.gram, rtol=1e-10, atol=1e-10 * abs(b.gram).max())


def test_own_vectors_computed_again_equal_those_kept(lrm, pairs, monkeypatch):
    """Catches totals of one pass against vectors of another: bit for bit, with room for none, one block and all."""
    options = {"traces": 2, "totals": totals_of(TRACE, EMPTY), "parameters": r"layers\.0\.mlp\.up|^model\.norm"}
    expected = score_pairs(lrm, pairs, **options)
    scorer = VmapEngine(lrm.model, options["parameters"])
    assert passes.kept_blocks(len(pairs), 2, scorer) == 2
    block = passes.BLOCK * 2 * scorer.size * 4
    for room, count in ((0, 0), (block, 1)):
        monkeypatch.setattr(passes, "OWN_BYTES", room)
        assert passes.kept_blocks(len(pairs), 2, scorer) == count
        same_scores(score_pairs(lrm, pairs, **options), expected)


def test_products_of_float32_scores_lose_nothing_that_matters(lrm, pairs):
    """Each product to 1e-6 of the lengths of its factors, against float64 products of the same scores."""
    scores = score_pairs(lrm, pairs[:3], traces=2, totals=totals_of(TRACE, EMPTY), engine="hooks")
    plans = [plan_pair(lrm.assembler, pair, traces=2) for pair in pairs[:3]]
    engine = HooksEngine(lrm.model)
    sequences = [s for plan in plans for s in plan.sequences]
    held = engine.buffer(len(sequences))
    engine.fill(sequences, held)
    first, own = 0, []
    for plan, pair in zip(plans, scores.pairs, strict=True):
        here = held[first : first + len(plan.sequences)].double()
        first += len(plan.sequences)
        own.append(np.array([mean_coefficients(f, pair.log_probs) for f in (TRACE, EMPTY)]) @ here.numpy())
        for g, columns in enumerate(engine.columns):
            group = here[:, columns]
            lengths = group.norm(dim=1).numpy()
            error = abs(pair.gram[g] - (group @ group.T).numpy())
            assert (error <= 1e-6 * np.outer(lengths, lengths)).all()
    totals = sum(own)
    for vectors, pair in zip(own, scores.pairs, strict=True):
        for g, columns in enumerate(engine.columns):
            a, b = vectors[:, columns], totals[:, columns]
            bound = 1e-6 * np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
            assert (abs(pair.with_totals[g] - a @ b.T) <= bound).all()


def test_without_totals_there_is_one_pass_and_without_the_second_no_products(lrm, pairs):
    plain = score_pairs(lrm, pairs[:2], traces=1, parameters=PARAMETERS)
    assert plain.totals == ()
    assert plain.totals_gram.shape == (3, 0, 0)
    assert plain.pairs[0].with_totals.shape == (3, 0, 0)
    options = {"traces": 1, "totals": totals_of(TRACE), "parameters": PARAMETERS}
    one, two = (score_pairs(lrm, pairs[:2], leave_one_out=flag, **options) for flag in (False, True))
    assert one.pairs[0].with_totals.shape[2] == 0
    assert two.pairs[0].with_totals.shape[2] == 1
    np.testing.assert_array_equal(one.totals_gram, two.totals_gram)


# --- plans ------------------------------------------------------------------------------------------------


def test_repeated_traces_are_scored_once_and_still_counted(lrm):
    pair = next(p for p in shipped_pairs("style") if len(set(p.traces(0))) < 4 and p.empty_answers == "own")
    plan = plan_pair(lrm.assembler, pair, traces=4)
    distinct = len(set(pair.traces(0))) + len(set(pair.traces(1))) + 2
    assert len(plan.sequences) == distinct == len(set(plan.sequences))
    assert not plan.enumerated
    assert plan.draws.shape == (4, 2)
    for k, (chosen, rejected) in enumerate(plan.draws):
        assert plan.sequences[chosen] == lrm.assembler.with_trace(pair.prompt, pair.traces(0)[k], pair.answer(0))
        assert plan.sequences[rejected] == lrm.assembler.with_trace(pair.prompt, pair.traces(1)[k], pair.answer(1))
    for side in (0, 1):
        expected = lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side))
        assert plan.sequences[plan.empty[side]] == expected


@pytest.mark.parametrize("mode", ["prefilled", "generated"])
def test_the_empty_mode_reaches_the_sequences(lrm, pairs, mode):
    plan = plan_pair(lrm.assembler, pairs[0], empty_mode=mode)
    first = plan.sequences[plan.empty[0]]
    assert first.tokens - first.tokens_answer == {"prefilled": 0, "generated": 2}[mode]
    scores = score_pairs(lrm, pairs[:1], empty_mode=mode, parameters=r"^model\.norm")
    assert scores.pairs[0].log_probs.tokens[plan.empty[0]] == first.tokens
    assert scores.pairs[0].log_probs.length.tolist() == [len(sequence.ids) for sequence in plan.sequences]


def test_enumerated_draws_are_all_combinations_in_order(lrm, pairs):
    pair = pairs[0]
    plan = plan_pair(lrm.assembler, pair, enumerate_traces=shipped_traces)
    assert plan.enumerated
    assert plan.support.shape == (2, 24)
    assert len(plan.sequences) == 50
    traces = shipped_traces(pair)
    for side in (0, 1):
        for row, trace in zip(plan.support[side], traces, strict=True):
            assert plan.sequences[row] == lrm.assembler.with_trace(pair.prompt, trace, pair.answer(side))
    assert plan.draws.tolist() == [[a, b] for a in plan.support[0] for b in plan.support[1]]


def test_too_few_traces_are_refused_by_name(lrm, pairs):
    poor = replace(pairs[0], rejected_traces=())
    with pytest.raises(InputError, match=f"{pairs[0].prompt_id!r} has 1 posterior trace.*--traces 2.*use --traces 1"):
        score_pairs(lrm, [poor], traces=2)


# --- weights and references -------------------------------------------------------------------------------


def test_sampled_weights_are_equal_and_enumerated_ones_are_the_posterior_of_the_reference(lrm, pairs):
    sampled = score_pairs(lrm, pairs[:1], traces=4, parameters=r"^model\.norm").pairs[0].log_probs
    assert sampled.weights.tolist() == [0.25] * 4
    assert not sampled.enumerated
    other = perturbed(lrm)
    for reference in (None, other):
        (pair,) = score_pairs(
            lrm, pairs[:1], enumerate_traces=shipped_traces, reference=reference, parameters=r"^model\.norm"
        ).pairs
        judge = reference or lrm
        sides = []
        for side in (0, 1):
            sequences = [
                lrm.assembler.with_trace(pairs[0].prompt, t, pairs[0].answer(side)) for t in shipped_traces(pairs[0])
            ]
            trace, answer = sequence_log_probs(judge.model, sequences)
            joint = torch.exp(trace + answer).numpy()
            sides.append(joint / joint.sum())
        np.testing.assert_allclose(pair.log_probs.weights, np.outer(*sides).ravel(), rtol=1e-4, atol=1e-12)
        assert pair.log_probs.weights.sum() == pytest.approx(1, abs=1e-12)
        assert pair.log_probs.enumerated


def test_a_reference_of_its_own_gives_the_reference_log_probabilities_alone(lrm, pairs):
    other = perturbed(lrm)
    at, off = (
        score_pairs(lrm, pairs[:2], traces=2, reference=reference, parameters=PARAMETERS) for reference in (None, other)
    )
    for pair, here, there in zip(pairs, at.pairs, off.pairs, strict=False):
        plan = plan_pair(lrm.assembler, pair, traces=2)
        expected = sum(part.numpy() for part in sequence_log_probs(other.model, plan.sequences))
        np.testing.assert_array_equal(here.log_probs.log_prob_ref, here.log_probs.log_prob)
        np.testing.assert_allclose(there.log_probs.log_prob_ref, expected, rtol=1e-5)
        assert abs(expected - there.log_probs.log_prob).max() > 1e-3
        np.testing.assert_array_equal(there.log_probs.log_prob, here.log_probs.log_prob)
        np.testing.assert_array_equal(there.gram, here.gram)


def test_a_reference_that_equals_the_model_is_no_other_reference(lrm, pairs):
    same = ReasoningModel("copy", copy.deepcopy(lrm.model), lrm.assembler, lrm.fingerprint)
    same_scores(
        score_pairs(lrm, pairs[:2], parameters=PARAMETERS),
        score_pairs(lrm, pairs[:2], reference=same, parameters=PARAMETERS),
    )


# --- interruption -----------------------------------------------------------------------------------------


class Interruption(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def many():
    return shipped_pairs("style", limit=20)  # blocks of 8, 8 and 4


def run(lrm, pairs, blocks=None, **changes):
    options = {"traces": 2, "totals": totals_of(TRACE, EMPTY), "parameters": PARAMETERS, "settings": {"beta": 0.1}}
    return score_pairs(lrm, pairs, blocks=blocks, **{**options, **changes})


@pytest.fixture(scope="module")
def undisturbed(lrm, many):
    return run(lrm, many)


@pytest.fixture
def die_at(monkeypatch):
    """Let the n-th call of a method of the block store (counted from 1) be the last; before or after its work."""

    def arm(method, call, *, after=False):
        original, calls = getattr(blocks.BlockStore, method), []

        def dying(self, *args):
            calls.append(args)
            if len(calls) == call:
                if after:
                    original(self, *args)
                raise Interruption
            return original(self, *args)

        monkeypatch.setattr(passes, "CHECKPOINT_SHARE", 1.0)  # after every block, however long that takes
        monkeypatch.setattr(blocks.BlockStore, method, dying)

    return arm


def test_blocks_do_not_change_the_numbers(lrm, many, undisturbed, tmp_path):
    same_scores(run(lrm, many, tmp_path), undisturbed)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["totals-1of1.npz", "key.json", "units.json"]
        + [f"{kind}-{i:06d}.safetensors" for kind in ("gram", "products") for i in (0, 8, 16)]
    )


@pytest.mark.parametrize(
    ("method", "call", "after"),
    [
        ("write", 1, False),  # nothing is finished
        ("write", 1, True),  # a block is written, the totals do not hold it yet
        ("checkpoint", 2, False),
        ("checkpoint", 2, True),
        ("write", 3, True),  # the last block of the first pass, without its checkpoint
        ("write", 4, False),  # the first pass is complete
        ("write", 5, True),  # within the second pass
        ("write", 6, True),  # everything is written, nothing was returned
    ],
)
def test_a_resumed_run_is_bit_identical(lrm, many, undisturbed, tmp_path, die_at, monkeypatch, method, call, after):
    die_at(method, call, after=after)
    with pytest.raises(Interruption):
        run(lrm, many, tmp_path)
    monkeypatch.undo()
    (tmp_path / "gram-000008.safetensors.1of1.part").write_bytes(b"half a block")  # what a kill may leave
    scored = []
    original = ScoreEngine.fill

    def counting(self, sequences, out):
        scored.append(len(sequences))
        return original(self, sequences, out)

    monkeypatch.setattr(ScoreEngine, "fill", counting)
    same_scores(run(lrm, many, tmp_path), undisturbed)
    resumed = sum(scored)
    scored.clear()
    same_scores(run(lrm, many, tmp_path), undisturbed)
    assert sum(scored) == 0  # a finished run is only read
    assert resumed == 0 if (call, after) == (6, True) else resumed > 0
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("module", "writer", "call"),
    [
        (blocks.np, "savez", 1),
        (blocks.np, "savez", 2),
        (store, "save_file", 2),
        (store, "save_file", 5),
        (blocks.os, "link", 1),
        (blocks.os, "link", 2),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_kill_in_the_middle_of_a_file_loses_that_file_only(
    lrm, many, undisturbed, tmp_path, monkeypatch, module, writer, call
):
    original, calls = getattr(module, writer), []

    def dying(first, *args, **kwargs):
        calls.append(first)
        if len(calls) == call:
            if hasattr(first, "write"):
                first.write(b"half a file")
            elif args and not args[0].exists():
                args[0].with_name(args[0].name + ".1of1.part").write_bytes(b"half a file")
            raise Interruption
        return original(first, *args, **kwargs)

    monkeypatch.setattr(module, writer, dying)
    with pytest.raises(Interruption):
        run(lrm, many, tmp_path)
    monkeypatch.undo()
    same_scores(run(lrm, many, tmp_path), undisturbed)


def test_a_resumed_run_does_not_repeat_finished_work(lrm, many, tmp_path, monkeypatch):
    run(lrm, many, tmp_path)
    for name in ("products-000016", "products-000008"):
        (tmp_path / f"{name}.safetensors").unlink()
    seen = []
    original = ScoreEngine.fill
    monkeypatch.setattr(ScoreEngine, "fill", lambda self, s, out: seen.append(len(s)) or original(self, s, out))
    run(lrm, many, tmp_path)
    sizes = [len(plan_pair(lrm.assembler, pair, traces=2).sequences) for pair in many]
    assert sum(seen) == sum(sizes[8:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"traces": 1}, "data: token sequences .*; data: trace draws"),
        ({"settings": {"beta": 0.2}}, r"options: beta \(0.1 there, 0.2 here\)"),
        ({"parameters": "norm"}, r"options: parameters \(\^model"),
        ({"totals": totals_of(TRACE)}, "options: totals"),
        ({"engine": "loop"}, r"options: engine \(hooks there, loop here\)"),
        ({"empty_mode": "generated"}, "data: token sequences"),
        ({"reference": "perturbed"}, r"model: reference weights \("),
        ({"data": "fewer"}, "data: prompts.*; data: token sequences"),
        ({"data": "another answer"}, r"differs in data: token sequences \([^;]*\); use"),
        ({"data": "other draws"}, "differs in data: trace draws"),
        ({"data": "other names"}, r"differs in data: prompts \([^;]*\); use"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",  # values may have no name of their own
)
def test_blocks_of_another_run_are_refused(lrm, many, tmp_path, change, says):
    a, b = shipped_traces(many[0])[:2]
    first = replace(many[0], chosen=Completion(many[0].answer(0), a), chosen_traces=(b, a))
    few = (first, many[1])
    run(lrm, few, tmp_path, traces=3, parameters=r"^model\.norm")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    data = {
        None: few,
        "fewer": few[:1],
        "another answer": (first, replace(many[1], chosen=Completion("1a!", many[1].chosen.trace))),
        "other draws": (replace(first, chosen_traces=(b, b)), many[1]),
        "other names": (replace(first, prompt_id="renamed"), many[1]),
    }[change.get("data")]
    change = {k: v for k, v in change.items() if k != "data"}
    if "reference" in change:
        change["reference"] = perturbed(lrm)
    with pytest.raises(InputError, match=says) as refusal:
        run(lrm, data, tmp_path, **{"traces": 3, "parameters": r"^model\.norm", **change})
    assert "use --overwrite to start again" in str(refusal.value)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_blocks_of_another_model_or_another_version_of_the_code_are_refused(lrm, many, tmp_path, monkeypatch):
    run(lrm, many[:1], tmp_path, parameters=r"^model\.norm")
    other = perturbed(lrm)
    with pytest.raises(InputError, match=r"differs in model: weights \(") as refusal:
        run(other, many[:1], tmp_path, parameters=r"^model\.norm")
    assert other.fingerprint in str(refusal.value)
    version = blocks.code_version()
    assert set(version) == {"bvpo_analysis", "torch", "transformers"}
    for name in version:
        monkeypatch.setattr(passes, "code_version", lambda name=name: {**version, name: "another"})
        with pytest.raises(
            InputError, match=rf"differs in code: {name} \({re.escape(version[name])} there, another here\)"
        ):
            run(lrm, many[:1], tmp_path, parameters=r"^model\.norm")


def test_a_failing_model_leaves_no_block(lrm, many, tmp_path):
    broken = perturbed(lrm)
    broken.model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(StudyError, match="check the weights"):
        run(broken, many[:2], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["key.json"]


# --- on disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"enumerate_traces": shipped_traces}, {"leave_one_out": False}, {"totals": None}]
)
def test_score_sets_are_read_back_bit_for_bit(lrm, many, tmp_path, options):
    scores = run(lrm, many[:3], parameters=r"^model\.norm|layers\.0\.self_attn\.q_norm", **options)
    save_scores(tmp_path / "s.safetensors", scores)
    same_scores(load_scores(tmp_path / "s.safetensors"), scores)
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_estimators_need_no_more_than_the_disk_holds(lrm, many, tmp_path):
    """Not only the arrays: what is computed from them is the same, so shapes and types survived."""
    scores = run(lrm, many[:2], parameters=r"^model\.norm", enumerate_traces=shipped_traces)
    save_scores(tmp_path / "s.safetensors", scores)
    for a, b in zip(scores.pairs, load_scores(tmp_path / "s.safetensors").pairs, strict=True):
        for estimator in (TRACE, EMPTY, MARGINAL):
            np.testing.assert_array_equal(estimator.coefficients(a.log_probs), estimator.coefficients(b.log_probs))


@pytest.mark.parametrize("damage", ["missing", "cut", "overwritten", "empty", "other file"])
def test_damaged_score_sets_are_refused(lrm, many, tmp_path, damage):
    path = tmp_path / "s.safetensors"
    save_scores(path, run(lrm, many[:1], parameters=r"^model\.norm"))
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other file":
        from safetensors.numpy import save_file

        save_file({"x": np.zeros(3)}, path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "overwritten": b"x" * len(whole), "empty": b""}[damage])
    with pytest.raises(InputError, match=r"s\.safetensors: not a score set .*recompute it with --overwrite"):
        load_scores(path)


def test_a_damaged_block_stops_the_resumed_run(lrm, many, tmp_path):
    run(lrm, many[:9], tmp_path, parameters=r"^model\.norm")
    block = tmp_path / "products-000000.safetensors"
    block.write_bytes(block.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"products-000000\.safetensors: not a score set"):
        run(lrm, many[:9], tmp_path, parameters=r"^model\.norm")


@pytest.mark.parametrize("name", ["totals-1of1.npz", "key.json", "units.json"])
@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty", "a bit"])
def test_a_damaged_file_stops_the_resumed_run_by_name(lrm, many, tmp_path, name, damage):
    options = {"parameters": r"^model\.norm"}
    run(lrm, many[:9], tmp_path, **options)
    path = tmp_path / name
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-len(whole) // 2] ^= 1
    harm = {"cut": whole[:-12], "overwritten": b"x" * len(whole), "empty": b"", "a bit": bytes(flipped)}
    path.write_bytes(harm[damage])
    # One changed bit of a text is still a text, of another run.
    text = "is damaged|differs in|has other units" if damage == "a bit" and name != "totals-1of1.npz" else "is damaged"
    with pytest.raises(InputError, match=text) as refusal:
        run(lrm, many[:9], tmp_path, **options)
    assert "--overwrite" in str(refusal.value)


@pytest.mark.parametrize("options", [{"engine": "fast"}, {"pairs": ()}])
def test_wrong_usage(lrm, pairs, options):
    data = options.pop("pairs", pairs[:1])
    unknown = "unknown engine 'fast'; choose among auto, vmap, hooks, loop"
    says = unknown if options else "no preference pairs to score; check --data"
    with pytest.raises(InputError, match=says):
        score_pairs(lrm, data, **options)
