"""Processes that share a scoring run: the same bits for any number of them, whatever is interrupted."""

import itertools
import json
import random
import shutil

import numpy as np
import pytest

from bvpo_analysis.errors import InputError
from bvpo_analysis.estimators import EmptyTrace, Trace, totals_of
from bvpo_analysis.objectives import DPO
from bvpo_analysis.preferences import shipped_pairs
from bvpo_analysis.scores import ScoreEngine, passes, score_pairs
from bvpo_analysis.scores.blocks import BlockStore, require_all_counted
from bvpo_analysis.scores.shards import BlockFolder, Shard, ShardFinished

TOTALS = totals_of(Trace(DPO(0.1)), EmptyTrace(DPO(0.1)))
OPTIONS = {"traces": 2, "totals": TOTALS, "parameters": r"layers\.[01]\.self_attn\.q_norm|^model\.norm"}


@pytest.fixture(scope="module")
def pairs():
    return shipped_pairs("style", limit=28)  # blocks of 8, 8, 8 and 4


@pytest.fixture(scope="module")
def alone(lrm, pairs):
    return score_pairs(lrm, pairs, **OPTIONS)


@pytest.fixture(autouse=True)
def _every_block_is_kept(monkeypatch):
    monkeypatch.setattr(passes, "CHECKPOINT_SHARE", 1.0)


def same(a, b):
    np.testing.assert_array_equal(a.totals_gram, b.totals_gram)
    for x, y in zip(a.pairs, b.pairs, strict=True):
        np.testing.assert_array_equal(x.gram, y.gram)
        np.testing.assert_array_equal(x.with_totals, y.with_totals)
        np.testing.assert_array_equal(x.sketches, y.sketches)
        np.testing.assert_array_equal(x.log_probs.log_prob, y.log_probs.log_prob)
        assert x.log_probs.prompt_id == y.log_probs.prompt_id


def shard(lrm, pairs, folder, text, **changes):
    """Run one shard; what it says when it leaves."""
    with pytest.raises(ShardFinished) as finished:
        score_pairs(lrm, pairs, **{**OPTIONS, **changes}, blocks=BlockFolder(folder, Shard.parse(text)))
    return finished.value


@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_shards_in_any_order_gives_the_same_bits(lrm, pairs, alone, tmp_path, count):
    for order in itertools.islice(itertools.permutations(range(1, count + 1)), 1, 4):
        folder = tmp_path / "".join(map(str, order))
        states = [shard(lrm, pairs, folder, f"{i}/{count}") for i in order]
        # The last to finish finds all totals complete and does its second pass at once; a shard may have no block.
        assert [state.missing > 0 for state in states[:-1]] == [
            any(set(range(4)) & set(range(j - 1, 4, count)) for j in order[k + 1 :]) for k in range(count - 1)
        ]
        assert states[-1].products
        assert states[-1].missing == 0
        same(score_pairs(lrm, pairs, **OPTIONS, blocks=folder), alone)


def test_a_shard_run_again_does_its_second_pass_and_nothing_is_left_to_the_last(
    lrm, pairs, alone, tmp_path, monkeypatch
):
    shard(lrm, pairs, tmp_path, "1/2")
    shard(lrm, pairs, tmp_path, "2/2")
    assert not (tmp_path / "products-000000.safetensors").exists()
    assert shard(lrm, pairs, tmp_path, "1/2").products
    monkeypatch.setattr(ScoreEngine, "fill", lambda *args: pytest.fail("nothing is left to compute"))
    same(score_pairs(lrm, pairs, **OPTIONS, blocks=tmp_path), alone)


def test_a_folder_begun_with_another_number_of_processes_simply_works(lrm, pairs, alone, tmp_path):
    for texts in (["1/3"], ["2/2", "1/2"], ["3/4", "1/4", "2/4", "4/4"]):
        for text in texts:
            shard(lrm, pairs, tmp_path, text)
    require_all_counted(tmp_path)
    same(score_pairs(lrm, pairs, **OPTIONS, blocks=tmp_path), alone)


class Interruption(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("seed", range(3))
def test_shards_killed_again_and_again_count_every_block_once(lrm, pairs, alone, tmp_path, monkeypatch, seed):
    """Kills between and after the writes of any file, with the number of processes changing as it goes."""
    rng = random.Random(seed)
    originals = {name: getattr(BlockStore, name) for name in ("write", "checkpoint", "set_units")}
    fuse = [0]

    def arm(name):
        def dying(self, *args):
            fuse[0] -= 1
            if fuse[0] == 0:
                raise Interruption
            result = originals[name](self, *args)
            if fuse[0] == 1:
                raise Interruption
            return result

        monkeypatch.setattr(BlockStore, name, dying)

    for name in originals:
        arm(name)
    for _ in range(8):
        fuse[0] = rng.randint(1, 6)
        count = rng.randint(1, 3)
        part = BlockFolder(tmp_path, Shard(rng.randint(1, count), count))
        try:
            same(score_pairs(lrm, pairs, **OPTIONS, blocks=part), alone)
        except (Interruption, ShardFinished):
            continue
    fuse[0] = 10**6
    same(score_pairs(lrm, pairs, **OPTIONS, blocks=tmp_path), alone)
    assert not list(tmp_path.glob("*.part"))


def test_processes_that_wait_for_each_other_leave_the_whole_result_to_the_first(lrm, pairs, alone, tmp_path):
    """In threads, which share nothing but the folder and a barrier."""
    import copy
    import threading

    barrier = threading.Barrier(2, timeout=60)
    found = {}

    def work(index):
        own = copy.deepcopy(lrm)
        place = BlockFolder(tmp_path, Shard(index, 2), lambda: barrier.wait() and None)
        try:
            found[index] = score_pairs(own, pairs, **OPTIONS, blocks=place)
        except ShardFinished as finished:
            found[index] = finished

    threads = [threading.Thread(target=work, args=(i,)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(found[1], alone)
    assert isinstance(found[2], ShardFinished)
    assert found[2].products


def test_a_shard_that_has_not_finished_is_named(lrm, pairs, tmp_path):
    with pytest.raises(InputError, match="no process has begun here; run --shard 1/n to n/n"):
        require_all_counted(tmp_path)
    shard(lrm, pairs, tmp_path, "1/3")
    shard(lrm, pairs, tmp_path, "3/3")
    with pytest.raises(InputError, match=r"1 of 4 blocks are missing, those of shard 2/3 \(1 block\(s\)\); run each"):
        require_all_counted(tmp_path)


def test_work_done_twice_is_an_error_that_names_the_files(lrm, pairs, alone, tmp_path):
    """What two processes leave that were started on the same work at the same time."""
    shard(lrm, pairs, tmp_path, "1/2")
    shutil.copy(tmp_path / "totals-1of2.npz", tmp_path / "totals-1of4.npz")
    with pytest.raises(InputError, match=r"totals-1of2\.npz and totals-1of4\.npz both count the block of pair 0"):
        score_pairs(lrm, pairs, **OPTIONS, blocks=tmp_path)
    (tmp_path / "totals-1of4.npz").unlink()
    same(score_pairs(lrm, pairs, **OPTIONS, blocks=tmp_path), alone)


def test_units_are_set_once_whoever_comes_first(lrm, pairs, alone, tmp_path):
    """A process without the first block needs the same units as the one that has it, and finds them by itself."""
    shard(lrm, pairs, tmp_path / "a", "2/2")
    shard(lrm, pairs, tmp_path / "b", "1/2")
    held = [json.loads((tmp_path / name / "units.json").read_text()) for name in "ab"]
    assert held[0] == held[1]
    assert np.array(held[0]["exponents"]).shape == (2, 3)


@pytest.mark.parametrize("text", ["3/2", "0/2", "0/0", "-1/2", "1", "1/2/3", "a/b", "1/ 2", "١/2", ""])
def test_wrong_shards(text):
    with pytest.raises(InputError, match="--shard"):
        Shard.parse(text)
