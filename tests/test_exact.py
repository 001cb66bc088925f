"""The committed exact tables: recomputed, derived once more by automatic differentiation, and guarded."""

import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch

from bvpo_analysis import exact
from bvpo_analysis.errors import InputError, StudyError
from bvpo_analysis.exact import (
    ExactTable,
    compute_table,
    largest_deviation,
    load_table,
    pairs_fingerprint,
    shipped_traces,
    table_path,
)
from bvpo_analysis.lrm.loading import load_model, weights_fingerprint
from bvpo_analysis.moments import Moments, PromptMoments
from bvpo_analysis.objectives import DPO, IPO
from bvpo_analysis.preferences import REGIMES, shipped_pairs
from bvpo_analysis.records import Completion
from bvpo_analysis.scores import score_pairs, sequence_log_probs

LOSS = DPO(0.1)


@pytest.fixture(scope="module", params=REGIMES)
def regime(request):
    return request.param


@pytest.fixture(scope="module")
def table(regime):
    return load_table(regime)


# --- the committed tables ------------------------------------------------------------------------------------


def test_tables_belong_to_the_model_the_pairs_and_the_default_loss(regime, table, lrm):
    pairs = shipped_pairs(regime)
    assert table.model == lrm.fingerprint
    assert table.data == pairs_fingerprint(pairs)
    assert table.objective == repr(LOSS)
    assert list(table.prompts) == [pair.prompt_id for pair in pairs]
    assert table.moments.n == len(pairs) == 256
    assert table.moments.exact


def test_two_prompts_recomputed(regime, table, lrm):
    pairs = shipped_pairs(regime)
    assert largest_deviation(lrm, (pairs[3], pairs[200]), table, LOSS) < 1e-4


def test_means_over_prompts_are_the_moments_of_the_set(table):
    def mean(name):
        return np.mean([getattr(prompt, name) for prompt in table.prompts.values()])

    moments = {f.name: getattr(table.moments, f.name) for f in fields(Moments)}
    assert moments["trace_var"][0] == pytest.approx(mean("trace_var"), rel=1e-10)
    for name in ("bias_e_sq", "bias_diff_sq"):
        assert moments[f"prompt_{name}"][0] == pytest.approx(mean(name), rel=1e-10)
    # E|g|^2 = |E g|^2 + total variance, with the plain average over prompts
    assert moments["mean_e_sq"][0] + moments["var_e"][0] == pytest.approx(mean("mean_e_sq"), rel=1e-8)
    assert moments["var_t"][0] + moments["target_sq"][0] == pytest.approx(
        mean("mean_t_sq") + mean("trace_var"), rel=1e-8
    )


def test_as_a_sample_squares_of_means_are_ustatistics(table):
    n = table.moments.n
    for name in ("bias_e_sq", "bias_diff_sq", "target_sq", "mean_e_sq"):
        own = np.mean([getattr(prompt, name) for prompt in table.prompts.values()])
        plain = float(getattr(table.moments, name)[0])
        expected = (n * plain - own) / (n - 1)
        assert float(getattr(table.sample_moments, name)[0]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_trace_gradient_is_unbiased_at_the_reference_and_the_empty_one_is_not(table):
    size = float(table.moments.var_t[0])
    assert abs(float(table.moments.bias_t_sq[0])) < 1e-10 * size
    assert max(prompt.bias_t_sq for prompt in table.prompts.values()) < 1e-10 * size
    assert float(table.moments.bias_e_sq[0]) > 1e-4 * size


def test_one_prompt_by_automatic_differentiation_of_the_marginal(regime, table, lrm):
    """mu, g_e and g_t as gradients of plainly written losses of log-sum-exp over the 24 traces, without coefficients.

    To 1e-3 of the largest moment: the model runs in float32, batched otherwise than in the table.
    """
    pair = shipped_pairs(regime)[17]
    parameters = list(lrm.model.parameters())

    def joint(side):
        """log pi(r, y) of every trace, with a graph."""
        turns = [lrm.assembler.with_trace(pair.prompt, t, pair.answer(side)) for t in shipped_traces(pair)]
        (length,) = {len(turn.ids) for turn in turns}
        ids = torch.tensor([turn.ids for turn in turns])
        log_probs = torch.log_softmax(lrm.model(ids, use_cache=False).logits[:, :-1], dim=-1)
        token = log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        return token[:, turns[0].score_start - 1 : length].sum(-1)

    def empty(side):
        turn = lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side))
        ids = torch.tensor([turn.ids])
        log_probs = torch.log_softmax(lrm.model(ids, use_cache=False).logits[0, :-1], dim=-1)
        return log_probs.gather(-1, ids[0, 1:, None]).squeeze(-1)[turn.score_start - 1 :].sum()

    def gradient(loss):
        grads = torch.autograd.grad(loss, parameters, retain_graph=True)
        return torch.cat([g.flatten() for g in grads]).double()

    def dpo(chosen, rejected):
        """The loss at the reference: log-ratios are zero, their gradients are not."""
        margin = 0.1 * ((chosen - chosen.detach()) - (rejected - rejected.detach()))
        return -torch.nn.functional.logsigmoid(margin)

    for p in parameters:
        p.requires_grad_(True)
    try:
        sides = [joint(0), joint(1)]
        mu = gradient(dpo(sides[0].logsumexp(0), sides[1].logsumexp(0)))
        g_e = gradient(dpo(empty(0), empty(1)))
        # The two sides are independent given the answers, and g_t is a sum over them: its variance adds up.
        variance = 0.0
        for log_joint in sides:
            weights = torch.softmax(log_joint.detach().double(), 0)
            rows = torch.stack([gradient(0.05 * value) for value in log_joint])
            centred = rows - weights @ rows
            variance += float(weights @ (centred**2).sum(dim=1))
    finally:
        for p in parameters:
            p.requires_grad_(False)
    found = {
        "target_sq": float(mu @ mu),
        "mean_t_sq": float(mu @ mu),
        "mean_e_sq": float(g_e @ g_e),
        "target_dot_e": float(mu @ g_e),
        "bias_e_sq": float((g_e - mu) @ (g_e - mu)),
        "trace_var": variance,
    }
    expected = asdict(table.prompts[pair.prompt_id])
    scale = max(map(abs, expected.values()))
    for name, value in found.items():
        assert abs(value - expected[name]) <= 1e-3 * scale, name


# --- what the check notices ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    return shipped_pairs("correct", limit=2)


@pytest.fixture(scope="module")
def correct():
    return load_table("correct")


@pytest.fixture(scope="module")
def recomputed(lrm, few):
    """The scores of the check, computed once for all names."""
    return score_pairs(lrm, few, enumerate_traces=shipped_traces)


@pytest.mark.parametrize("name", [f.name for f in fields(PromptMoments)])
def test_the_check_notices_any_altered_moment(lrm, few, correct, recomputed, name, monkeypatch):
    prompts = {pair.prompt_id: correct.prompts[pair.prompt_id] for pair in few}
    monkeypatch.setattr(exact, "score_pairs", lambda *args, **options: recomputed)
    assert largest_deviation(lrm, few, correct, LOSS) < 1e-4
    last = few[1].prompt_id
    scale = max(abs(v) for v in asdict(prompts[last]).values())
    altered = replace(prompts[last], **{name: getattr(prompts[last], name) + 0.01 * scale})
    table = replace(correct, prompts={**prompts, last: altered})
    assert largest_deviation(lrm, few, table, LOSS) == pytest.approx(0.01, rel=0.05)


def test_another_model_loss_or_set_of_prompts_is_refused(lrm, few, correct):
    other = load_model()
    other.model.model.norm.weight[0] += 1e-3
    other = replace(other, fingerprint=weights_fingerprint(other.model))
    says = "the exact table belongs to another model, loss or data set; recompute it with `make exact`"
    for model, pairs, loss in (
        (other, few, LOSS),
        (lrm, few, DPO(0.2)),
        (lrm, few, IPO(0.1)),
        (lrm, shipped_pairs("style", limit=2), LOSS),
        (lrm, [few[0], replace(few[1], prompt_id="new")], LOSS),
    ):
        with pytest.raises(StudyError, match=says):
            largest_deviation(model, pairs, correct, loss)


def test_the_fingerprint_of_the_data_sees_prompts_answers_and_order_but_no_traces(few):
    base = pairs_fingerprint(few)
    first = few[0]
    changes = [
        {"prompt_id": "new"},
        {"prompt": ({"role": "user", "content": "a0b0c0d0"},)},
        {"chosen": Completion("0a.", first.chosen.trace)},
        {"rejected": Completion("0a.", first.rejected.trace)},
        {"empty_chosen": "0a."},
        {"empty_rejected": "0a."},
    ]
    seen = {base, pairs_fingerprint(few[::-1]), pairs_fingerprint(few[:1])}
    seen |= {pairs_fingerprint([replace(first, **change), few[1]]) for change in changes}
    assert len(seen) == 3 + len(changes)
    assert pairs_fingerprint([replace(first, chosen_traces=(), meta={}), few[1]]) == base


def test_traces_are_enumerated_for_the_task_in_the_box_only(few):
    traces = shipped_traces(few[0])
    assert len(set(traces)) == 24
    with pytest.raises(InputError, match=r"prompt 'q': traces can be enumerated for the task.*use --traces with a num"):
        shipped_traces(replace(few[0], prompt_id="q", prompt=({"role": "user", "content": "2 + 2?"},)))


def test_enumerated_traces_carry_the_prior_mass(lrm, few):
    for pair in few:
        sequences = [lrm.assembler.with_trace(pair.prompt, t, pair.answer(0)) for t in shipped_traces(pair)]
        trace_part, _ = sequence_log_probs(lrm.model, sequences)
        assert 0.95 < trace_part.exp().sum() <= 1 + 1e-6


# --- writing and reading -------------------------------------------------------------------------------------


def test_a_table_survives_json_bit_for_bit(correct):
    again = ExactTable.from_json(json.loads(json.dumps(correct.to_json())))
    assert again.prompts == correct.prompts
    assert (again.model, again.data, again.objective) == (correct.model, correct.data, correct.objective)
    for f in fields(Moments):
        assert getattr(again.moments, f.name) == getattr(correct.moments, f.name), f.name


def test_a_missing_table_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(exact, "DIRECTORY", tmp_path)
    with pytest.raises(InputError, match=r"style\.exact\.json is missing; .*-m bvpo_analysis\.exact --regime style"):
        load_table("style")


def test_the_command_writes_what_the_function_computes(monkeypatch, tmp_path, lrm, capsys):
    monkeypatch.setattr(exact, "shipped_pairs", lambda regime: shipped_pairs(regime, limit=2))
    assert exact.main(["--regime", "valid", "--output-dir", str(tmp_path / "new"), "--beta", "0.1"]) == 0
    assert "valid: exact moments of 2 prompts written" in capsys.readouterr().out
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == table_path("valid").name
    found = ExactTable.from_json(json.loads(path.read_text()))
    assert found.to_json() == compute_table(lrm, "valid", LOSS).to_json()
    committed = load_table("valid")
    for prompt_id, moments in found.prompts.items():
        expected = asdict(committed.prompts[prompt_id])
        scale = max(map(abs, expected.values()))
        assert all(abs(v - expected[k]) < 1e-4 * scale for k, v in asdict(moments).items())
