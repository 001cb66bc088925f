"""Inner products for every moment, in memory that does not grow with pairs x parameters.

Every distinct sequence of a pair is backpropagated once. That gives the within-pair Gram matrix <s_j, s_k> and the
pair's own vectors v_a = sum_j c_aj s_j, which are added to running totals V_a (one P-vector per declared estimator).
U-statistics of squared norms need only sum_i v_i; their delete-a-prompt jackknife needs <v_i, V> and <v_i, v_i>: so
the products of the own vectors with the final totals complete every moment and every interval, and no N x N matrix and
no N x P array exists. The own vectors of a study wait in memory for the totals while there is room (``OWN_BYTES``);
beyond, a second pass computes them again. The spread of the U-statistics near zero needs products across pairs, to a
few per cent only: a count sketch of each v_a serves (k numbers instead of P).

The unit of work is a block of eight consecutive pairs. Batches never cross a block, and totals are integers, whose sums
do not depend on their order (``totals``). So results are bit-identical for any number of processes that share the
blocks, and after any interruption, as long as the machines round alike.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import Floats, PairScores, PreferencePair, ScoreSet
from bvpo_analysis.scores.blocks import BlockStore, code_version, digest
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.scores.engines import ScoreEngine
from bvpo_analysis.scores.memory import available_bytes
from bvpo_analysis.scores.metric import MetricEngine
from bvpo_analysis.scores.pair_work import BLOCK, BUFFER_BYTES, MeanCoefficients, PairWork, ScoredPair
from bvpo_analysis.scores.plan import PairSequences, TraceEnumerator, plan_pair
from bvpo_analysis.scores.shards import BlockFolder, ShardFinished
from bvpo_analysis.scores.totals import FixedPointTotals

OWN_BYTES = 5 * 2**29
"""Own vectors kept for the products with the totals, at most; what does not fit is computed twice."""
OWN_SHARE = 0.4
"""Part of the memory that is free, at most, for own vectors; the rest is for scores and activations."""
CHECKPOINT_SHARE = 0.2
"""Part of the time, at most, that goes into writing totals; until the next writing, finished blocks do not count."""
TRIM_EVERY = 8
"""Blocks after which freed memory is given back."""
_C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None


def score_pairs(
    lrm: ReasoningModel,
    pairs: Sequence[PreferencePair],
    *,
    traces: int = 1,
    totals: Mapping[str, MeanCoefficients] | None = None,
    leave_one_out: bool = True,
    reference: ReasoningModel | None = None,
    empty_mode: EmptyMode = "prefilled",
    enumerate_traces: TraceEnumerator | None = None,
    prior: int = 0,
    trace_only: bool = False,
    variants: Collection[str] = (),
    parameters: str | None = None,
    metric: torch.Tensor | None = None,
    engine: str = "auto",
    settings: Mapping[str, Any] | None = None,
    blocks: Path | BlockFolder | None = None,
    label: str = "scores",
) -> ScoreSet:
    """Score preference pairs and reduce the scores to inner products.

    Args:
        lrm: the model under study, pi_theta.
        pairs: the data.
        traces: posterior traces per answer to use.
        totals: the per-pair vectors to accumulate over pairs, by name.
        leave_one_out: take the products with the totals, which intervals need.
        reference: pi_ref; the model itself when not given.
        empty_mode: whether the empty block is prefilled (not scored) or generated (scored).
        enumerate_traces: score all traces of each prompt instead of the sampled ones.
        prior, trace_only, variants: further sequences to score, see :func:`bvpo_analysis.scores.plan.plan_pair`.
        parameters: regular expression of the parameters to differentiate.
        metric: positive [P]; every inner product becomes <s, P s'> (see :mod:`bvpo_analysis.scores.metric`).
        engine: "hooks", "vmap", "loop", or "auto": hooks where they serve the whole model, else vmap.
        settings: what the totals depend on, kept with the result.
        blocks: folder for finished blocks, or a :class:`BlockFolder` that says which of them this process does; a
            later call with the same arguments resumes there.
        label: text of the progress bar.

    Returns:
        Inner products per pair and parameter group, with the log-probabilities.

    Raises:
        InputError: no pairs, too few traces, unknown engine, an unfit metric, or blocks of another run in the folder.
        StudyError: a log-probability is not finite, or memory does not suffice for a single sequence.
        ShardFinished: this process has done its part of the blocks and is not the one that goes on.
    """
    if not pairs:
        raise InputError("no preference pairs to score; check --data, --regime and --limit")
    scorer = score_engine(engine, lrm.model, parameters)
    engine_name, metric_name = scorer.name, None
    if metric is not None:
        scorer = MetricEngine(scorer, metric)
        metric_name = scorer.fingerprint
        settings = {**(settings or {}), "metric": metric_name}
    plans = [
        plan_pair(
            lrm.assembler,
            pair,
            traces=traces,
            empty_mode=empty_mode,
            enumerate_traces=enumerate_traces,
            prior=prior,
            trace_only=trace_only,
            variants=variants,
        )
        for pair in pairs
    ]
    work = PairWork(lrm, reference, scorer, plans, dict(totals or {}))
    folder = blocks if isinstance(blocks, BlockFolder) or blocks is None else BlockFolder(Path(blocks))
    store = None
    if folder is not None:
        key = {
            "model": {
                "weights": lrm.fingerprint,
                "config": digest(str(getattr(lrm.model, "config", None))),
                "reference weights": (reference or lrm).fingerprint,
            },
            "data": _data_key(plans),
            "options": {
                "engine": engine_name,
                "parameters": parameters,
                "metric": metric_name,
                "totals": list(totals or {}),
                "device": scorer.device.type,
                "attention": getattr(getattr(lrm.model, "config", None), "_attn_implementation", None),
                "token budget": scorer.token_budget,
                "buffer": BUFFER_BYTES,
                **dict(settings or {}),
            },
            "code": code_version(),
            "blocks": list(range(0, len(plans), BLOCK)),
        }
        store = BlockStore(folder.path, key, folder.shard)
    run = _Run(work, store, folder or BlockFolder(Path()), finish=leave_one_out and bool(totals), label=label)
    run.first_pass()
    run.meet()
    vectors = run.all_totals().to_float()
    run.second_pass(vectors)
    run.part()
    gram = np.stack([(vectors[:, c] @ vectors[:, c].T).cpu().numpy() for c in scorer.columns])
    return _score_set(run.collect(), scorer, work.totals, gram, settings or {})


def _data_key(plans: Sequence[PairSequences]) -> dict[str, str]:
    """What the blocks depend on of the data, one hash per aspect that can be named."""
    return {
        "prompts": digest([plan.pair.prompt_id for plan in plans]),
        "token sequences": digest([[(s.ids, s.score_start, s.answer_start) for s in plan.sequences] for plan in plans]),
        "trace draws": digest([[plan.draws.tolist(), plan.support.tolist(), plan.empty.tolist()] for plan in plans]),
        "further sequences": digest(
            [
                [plan.prior.tolist(), plan.trace_only.tolist(), {k: v.tolist() for k, v in plan.variants.items()}]
                for plan in plans
            ]
        ),
    }


def kept_blocks(pairs: int, totals: int, scorer: ScoreEngine) -> int:
    """How many blocks' own vectors are kept in memory; those of the others are computed twice."""
    row = scorer.size * scorer.buffer(0).element_size()
    free = available_bytes(scorer.device)
    # The totals, and a pair's scores, come first.
    room = OWN_BYTES if free is None else min(OWN_BYTES, int(OWN_SHARE * max(free - 3 * totals * row, 0)))
    return min(-(-pairs // BLOCK), room // max(BLOCK * totals * row, 1))


def return_freed_memory() -> None:
    """Give freed memory back to the system where the C library keeps it (glibc).

    Scoring frees large temporaries between small results that stay, which fragments the heap: without this the resident
    memory of a long pass grows with the number of pairs although what is kept does not.
    """
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _score_set(
    pairs: tuple[PairScores, ...],
    scorer: ScoreEngine,
    totals: Mapping[str, Any],
    totals_gram: Floats | None,
    settings: Mapping[str, Any],
) -> ScoreSet:
    return ScoreSet(
        pairs=pairs,
        groups=scorer.groups,
        parameters=tuple(c.stop - c.start for c in scorer.columns),
        totals=tuple(totals),
        totals_gram=np.zeros((len(scorer.groups), 0, 0)) if totals_gram is None else totals_gram,
        settings=dict(settings),
    )


@dataclass
class _Saver:
    """Writes the totals as often as that takes no more than its share of the time."""

    write: Callable[[], None]
    due: float = 0.0

    def offer(self, *, last: bool) -> None:
        """Write now if it is due, or if this is the last occasion."""
        begun = time.monotonic()
        if last or begun >= self.due:
            self.write()
            ended = time.monotonic()
            self.due = ended + (ended - begun) * (1 / CHECKPOINT_SHARE - 1)


class _Run:
    """One process's part of a scoring run."""

    def __init__(self, work: PairWork, store: BlockStore | None, folder: BlockFolder, *, finish: bool, label: str):
        self.work = work
        self.store = store
        self.folder = folder
        self.finish = finish
        self.label = label
        self.starts = list(range(0, len(work.plans), BLOCK))
        self.own_starts = [start for number, start in enumerate(self.starts) if folder.shard.takes(number)]
        self.scored: dict[int, list[PairScores]] = {}
        self.kept: dict[int, list[torch.Tensor]] = {}
        self.totals: FixedPointTotals | None = None
        if store is not None and folder.shard.count == 1:
            store.remove_partial_files()

    def _size(self, start: int) -> int:
        return min(BLOCK, len(self.work.plans) - start)

    def _begin(self, scored: ScoredPair | None = None) -> FixedPointTotals:
        """The totals, empty, in units that every process uses; ``scored`` is the first pair where it is at hand."""
        held = self.store.units() if self.store is not None else None
        if held is None:
            held = self.work.units(scored if scored is not None else next(self.work.rows(0)))
            held = self.store.set_units(held) if self.store is not None else held
        scorer = self.work.scorer
        return FixedPointTotals(held, scorer.columns, scorer.device)

    def first_pass(self) -> None:
        """Products within the pairs of this process's blocks that no process has counted, and their totals."""
        done: set[int] = set()
        counted: set[int] = set()
        if self.store is not None:
            counted = self.store.counted()
            if counted:
                self.totals = self._begin()
                done = self.store.restore(self.totals)
        todo = [start for start in self.own_starts if start not in counted]
        if todo and self.totals is None and todo[0] != 0:
            self.totals = self._begin()
        room = kept_blocks(len(self.work.plans), len(self.work.totals), self.work.scorer) if self.finish else 0
        saver = _Saver(lambda: self._checkpoint(done))
        scorer = self.work.scorer
        with tqdm(total=sum(map(self._size, self.own_starts)), desc=self.label, unit="pair", leave=False) as progress:
            progress.update(sum(self._size(start) for start in self.own_starts if start in counted))
            for index, start in enumerate(todo, start=1):
                block, own = [], []
                keep = len(self.kept) < room
                for scored in self.work.rows(start):
                    if self.totals is None:
                        self.totals = self._begin(scored)
                    pair, vectors = self.work.gram(scored, self.totals, keep=keep)
                    block.append(pair)
                    if vectors is not None:
                        own.append(vectors)
                if keep:
                    self.kept[start] = own
                self.scored[start] = block
                done.add(start)
                if self.store is not None:
                    self.store.write("gram", start, _score_set(tuple(block), scorer, {}, None, {}))
                    saver.offer(last=index == len(todo))
                progress.update(len(block))
                if index % TRIM_EVERY == 0:
                    return_freed_memory()

    def _checkpoint(self, done: set[int]) -> None:
        if self.store is not None and self.totals is not None:
            self.store.checkpoint(sorted(done), self.totals)

    def meet(self) -> None:
        """Wait for the other processes, or hold that they have finished.

        Raises:
            ShardFinished: they have not, and this process does not wait for them.
        """
        if self.folder.synchronise is not None:
            self.folder.synchronise()
        if self.folder.shard.count == 1 or self.store is None:
            return
        missing = len(set(self.starts) - self.store.counted())
        if missing:
            raise ShardFinished(self.folder.shard, len(self.own_starts), missing, products=False)

    def all_totals(self) -> FixedPointTotals:
        """The totals over all processes."""
        totals = self.totals if self.totals is not None else self._begin()
        if self.store is not None:
            self.store.merge_others(totals)
        self.totals = None
        return totals

    def second_pass(self, vectors: torch.Tensor) -> None:
        """Products of the own vectors of this process's blocks with the totals [A, P]."""
        if not self.finish:
            return
        todo = [start for start in self.own_starts if self.store is None or not self.store.has("products", start)]
        again = sum(self._size(start) for start in todo if start not in self.kept)
        with tqdm(total=again, desc=f"{self.label} again", unit="pair", leave=False, disable=not again) as progress:
            for index, start in enumerate(todo, start=1):
                computed = start not in self.kept
                here = self._block("gram", start)
                own = self.work.own_again(start, here) if computed else self.kept.pop(start)
                block = [self.work.products(pair, v, vectors) for pair, v in zip(here, own, strict=True)]
                if self.store is not None:
                    self.store.write(
                        "products", start, _score_set(tuple(block), self.work.scorer, self.work.totals, None, {})
                    )
                self.scored[start] = block
                progress.update(len(block) if computed else 0)
                if index % TRIM_EVERY == 0:
                    return_freed_memory()
        for start in set(self.own_starts) - set(todo):
            self.scored.pop(start, None)  # products of an earlier run; collect() reads them

    def part(self) -> None:
        """Leave, unless this is the process that goes on with the whole result.

        Raises:
            ShardFinished: it is not.
        """
        shard = self.folder.shard
        if self.folder.synchronise is not None:
            self.folder.synchronise()
        if shard.count == 1 or self.store is None:
            return
        first = shard.index == 1 and self.folder.synchronise is not None
        if not first:
            raise ShardFinished(shard, len(self.own_starts), 0, products=True)

    def collect(self) -> tuple[PairScores, ...]:
        """Every pair's products, in data order."""
        kind = "products" if self.finish else "gram"
        return tuple(pair for start in self.starts for pair in self._block(kind, start))

    def _block(self, kind: str, start: int) -> list[PairScores]:
        if start in self.scored:
            return self.scored[start]
        if self.store is None:
            raise ValueError(f"the block of pair {start} was not scored")
        return list(self.store.read(kind, start).pairs)
