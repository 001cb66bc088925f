"""Reports made by several processes, by killed ones, and by those that torchrun starts: the same numbers."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bvpo_analysis.errors import InputError
from bvpo_analysis.report import build
from bvpo_analysis.report.__main__ import main
from bvpo_analysis.report.processes import agreed_shard, torchrun_shard
from bvpo_analysis.scores.shards import Shard

OPTIONS = ["--limit", "20", "--traces", "1", "--compare", "4", "--params", r"^model\.norm|layers\.0\.self_attn"]
"""Three blocks of pairs, and quick."""


@pytest.fixture(autouse=True)
def _restore_torch(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(build, "write_figures", lambda results, folder: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(build, "render_html", lambda results: "<html></html>")


def core(folder):
    """results.json without what may differ between equal runs."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results["cost"].pop("seconds")
    results["cost"].pop("peak_memory_bytes")
    return results


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "write_figures", lambda results, folder: folder.mkdir(exist_ok=True))
        patch.setattr(build, "render_html", lambda results: "<html></html>")
        assert main([*OPTIONS, "--output-dir", str(folder)]) == 0
    return core(folder)


@pytest.mark.usefixtures("no_pictures")
def test_shards_and_a_merge_give_the_report_of_one_process(alone, tmp_path, capsys):
    folder = tmp_path / "run"
    place = ["--output-dir", str(folder)]
    assert main([*OPTIONS, *place, "--shard", "2/3"]) == 0
    printed = capsys.readouterr()
    assert "shard 2/3 has finished its 1 block(s); other shards have not finished theirs" in printed.out
    assert f"--output-dir {folder} --merge" in printed.out
    assert main([*OPTIONS, *place, "--merge"]) == 2
    assert "2 of 3 blocks are missing, those of shard 1/3 (1 block(s)), 3/3 (1 block(s))" in capsys.readouterr().err
    assert main([*OPTIONS, *place, "--shard", "1/3", "--beta", "0.2"]) == 2
    assert "other options (beta: 0.1 there, 0.2 here)" in capsys.readouterr().err
    for shard in ("1/3", "3/3"):
        assert main([*OPTIONS, *place, "--shard", shard]) == 0
    assert "all shards have finished their first pass" in capsys.readouterr().out
    assert not (folder / "results.json").exists()
    assert main([*OPTIONS, *place, "--merge"]) == 0
    assert core(folder) == alone


@pytest.mark.usefixtures("no_pictures")
def test_what_shards_leave_undone_one_process_can_finish(alone, tmp_path):
    place = ["--output-dir", str(tmp_path / "run")]
    assert main([*OPTIONS, *place, "--shard", "2/2"]) == 0
    assert main([*OPTIONS, *place, "--resume"]) == 0
    assert core(tmp_path / "run") == alone


def test_merging_where_no_shard_has_begun(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    assert main([*OPTIONS, "--output-dir", str(tmp_path / "run"), "--merge"]) == 2
    assert "no process has begun here; run --shard 1/n to n/n" in capsys.readouterr().err


# --- torchrun ----------------------------------------------------------------------------------------------

HERE = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RANK": "1"}, "must both be whole numbers"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "must both be whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2", **HERE}, "RANK 2 is not below WORLD_SIZE 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE is 2 but MASTER_ADDR is not set"),
    ],
)
def test_incomplete_variables_of_torchrun(environment, says):
    with pytest.raises(InputError, match=says):
        torchrun_shard(environment)


def test_parts_asked_for_and_started():
    assert torchrun_shard({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert torchrun_shard({"RANK": "0", "WORLD_SIZE": "2", **HERE}) == Shard(1, 2)
    assert agreed_shard(None, None) is None
    assert agreed_shard(Shard(2, 3), Shard(2, 3)) == Shard(2, 3)
    with pytest.raises(InputError, match="--shard 1/2 was asked for, but torchrun started this process as 1 of 3"):
        agreed_shard(Shard(1, 2), Shard(1, 3))


def environment():
    root = str(Path(build.__file__).parents[2])
    keep = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {k: v for k, v in keep.items() if k not in ("RANK", "WORLD_SIZE")}


def torchrun(count, *argv, cwd):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", str(port)),
        *("-m", "bvpo_analysis.report", *argv),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment(), timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_torchrun_gives_the_numbers_of_one_process(alone, tmp_path, count):
    done = torchrun(count, *OPTIONS, "--output-dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert core(tmp_path / "run") == alone
    assert done.stdout.count("report: run/report.html") == 1
    names = {path.name for path in (tmp_path / "run" / "blocks").glob("totals-*")}
    assert names == {f"totals-{i + 1}of{count}.npz" for i in range(count)}


@pytest.mark.slow
def test_torchrun_refuses_what_one_process_refuses(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    done = torchrun(2, *OPTIONS, "--output-dir", "run", cwd=tmp_path)
    assert done.returncode != 0
    assert "error: run: is not empty" in done.stderr
    done = torchrun(2, *OPTIONS, "--output-dir", "other", "--shard", "1/3", cwd=tmp_path)
    assert done.returncode != 0
    assert "error: --shard 1/3 was asked for, but torchrun started this process as" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert not (tmp_path / "other").exists()


# --- kill -9 -----------------------------------------------------------------------------------------------

NURSERY = """
import json, os, sys
import bvpo_analysis.report.build as build
from bvpo_analysis.lrm.loading import load_model
from bvpo_analysis.report.__main__ import main
load_model()
build.write_figures = lambda results, folder: folder.mkdir(exist_ok=True)
build.render_html = lambda results: "<html></html>"
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""A process that has done the imports, and forks one that runs the command for every line it reads."""


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else set()


@pytest.mark.slow
def test_killed_at_twenty_random_moments_a_run_resumes_to_the_same_numbers(alone, tmp_path):
    """SIGKILL at a random time, again and again on the same folder, until a run gets through; then on a new one."""
    rng = random.Random(7)
    kills, finished, states = 0, 0, set()
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as nursery:

        def run(folder, seconds):
            """Whether the run got through before it was killed."""
            resume = ["--resume"] if folder.is_dir() else []
            nursery.stdin.write(json.dumps([*OPTIONS, "--output-dir", str(folder), *resume]) + "\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            if seconds is not None:
                time.sleep(seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            status = int(nursery.stdout.readline())
            if os.WIFSIGNALED(status):
                assert os.WTERMSIG(status) == signal.SIGKILL
                return False
            assert os.WEXITSTATUS(status) == 0
            return True

        begun = time.monotonic()
        assert run(tmp_path / "undisturbed", None)
        longest = time.monotonic() - begun
        assert core(tmp_path / "undisturbed") == alone
        while kills < 20:
            folder = tmp_path / f"run-{finished}"
            if run(folder, rng.uniform(0.0, longest)):
                assert core(folder) == alone
                finished += 1
            else:
                kills += 1
                states.add(frozenset(files(folder)))
        folder = tmp_path / f"run-{finished}"
        assert run(folder, None)
        nursery.stdin.close()
    assert core(folder) == alone
    assert not list(folder.rglob("*.part*"))
    assert len(states) >= 5  # the kills met runs in different states
