"""Inner products for every moment, in memory that does not grow with pairs x parameters.

Every distinct sequence of a pair is backpropagated once. That gives the within-pair Gram matrix <s_j, s_k> and the
pair's own vectors v_a = sum_j c_aj s_j, which are added to running totals V_a (one P-vector per declared estimator).
U-statistics of squared norms need only sum_i v_i; their delete-a-prompt jackknife needs <v_i, V> and <v_i, v_i>: so
the products of the own vectors with the final totals complete every moment and every interval, and no N x N matrix and
no N x P array exists. The own vectors of a study wait in memory for the totals while they fit into ``OWN_BYTES``;
beyond, a second pass computes them again. The spread of the U-statistics near zero needs products across pairs, to a
few per cent only: a count sketch of each v_a serves (k numbers instead of P).

Products of float32 scores are taken in float32 over short chunks of columns and added up in float64.

The unit of work is a block of eight consecutive pairs. Batches never cross a block, and totals merge in block order in
float64, so an interrupted run resumes to bit-identical results.
"""

import ctypes
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.formats import EmptyMode
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import Floats, PairLogProbs, PairScores, PreferencePair, ScoreSet
from bvpo_analysis.scores.choice import score_engine
from bvpo_analysis.scores.engines import ScoreEngine
from bvpo_analysis.scores.gram import chunked_products
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.plan import PairSequences, TraceEnumerator, pair_log_probs, plan_pair
from bvpo_analysis.scores.store import BlockStore

BLOCK = 8
"""Pairs per unit of work."""
BUFFER_BYTES = 256 * 2**20
"""Score rows held at once; pairs of a block are taken in panels that fit, at least one pair at a time."""
OWN_BYTES = 2**30
"""Own vectors kept for the products with the totals; what does not fit is computed twice."""
PANEL = 16384
"""Columns of scores that are taken at once; they stay in the cache."""
SKETCH = 1024
"""Length k of a count sketch."""

TRIM_EVERY = 8
"""Blocks after which freed memory is given back."""
_C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None

MeanCoefficients = Callable[[PairLogProbs], Floats]
"""Coefficients [m] of a pair's v_a = sum_j c_j s_j, from log-probabilities only."""


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
    engine: str = "auto",
    settings: Mapping[str, Any] | None = None,
    blocks: Path | None = None,
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
        engine: "hooks", "vmap", "loop", or "auto": hooks where they serve the whole model, else vmap.
        settings: what the totals depend on, kept with the result.
        blocks: folder for finished blocks; a later call with the same arguments resumes there.
        label: text of the progress bar.

    Returns:
        Inner products per pair and parameter group, with the log-probabilities.

    Raises:
        InputError: no pairs, too few traces, unknown engine, or blocks of another run in the folder.
        StudyError: a log-probability is not finite.
    """
    if not pairs:
        raise InputError("no preference pairs to score; check --data, --regime and --limit")
    scorer = score_engine(engine, lrm.model, parameters)
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
    task = _Task(lrm, reference, scorer, plans, dict(totals or {}))
    key = {
        "model": lrm.fingerprint,
        "reference": (reference or lrm).fingerprint,
        "engine": scorer.name,
        "parameters": parameters,
        "totals": list(totals or {}),
        "settings": dict(settings or {}),
        "products": "own vectors",
        "config": str(getattr(lrm.model, "config", None)),
        "prompts": [plan.pair.prompt_id for plan in plans],
        "sequences": [[(s.ids, s.score_start, s.answer_start) for s in plan.sequences] for plan in plans],
        "draws": [[plan.draws.tolist(), plan.support.tolist(), plan.empty.tolist()] for plan in plans],
        "further": [
            [plan.prior.tolist(), plan.trace_only.tolist(), {k: v.tolist() for k, v in plan.variants.items()}]
            for plan in plans
        ],
    }
    store = BlockStore(blocks, key) if blocks is not None else None
    starts = range(0, len(plans), BLOCK)
    finish = leave_one_out and bool(totals)
    kept: dict[int, list[torch.Tensor]] = {}
    room = kept_blocks(len(plans), len(task.totals), scorer) if finish else 0

    vectors = torch.zeros(len(task.totals), scorer.size, dtype=torch.float64, device=scorer.device)
    scored: list[PairScores] = []
    done = 0
    with tqdm(total=len(plans), desc=label, unit="pair", leave=False) as progress:
        if store is not None:
            done, vectors = store.restore(vectors)
            for start in starts[:done]:
                scored.extend(store.read("gram", start).pairs)
                progress.update(min(BLOCK, len(plans) - start))
        for index, start in enumerate(starts[done:], start=done + 1):
            block, own = [], []
            for plan, rows, parts in task.rows(start):
                pair, vector = task.gram(plan, rows, parts, vectors)
                block.append(pair)
                own.append(vector)
            if len(kept) < room:
                kept[start] = own
            scored.extend(block)
            if store is not None:
                store.write("gram", start, _score_set(tuple(block), scorer, {}, None, {}))
                store.checkpoint(index, vectors)
            progress.update(len(block))
            if index % TRIM_EVERY == 0:
                return_freed_memory()

        again = set(starts) - set(kept) if finish else set()
        progress.reset(total=len(plans) + sum(min(BLOCK, len(plans) - start) for start in again))
        progress.update(len(plans))
        for index, start in enumerate(starts if finish else (), start=1):
            if store is not None and store.has("products", start):
                block = list(store.read("products", start).pairs)
            else:
                here = scored[start : start + BLOCK]
                own_vectors = kept.pop(start) if start in kept else task.own_again(start, here)
                block = [task.products(pair, vector, vectors) for pair, vector in zip(here, own_vectors, strict=True)]
                if store is not None:
                    store.write("products", start, _score_set(tuple(block), scorer, task.totals, None, {}))
            scored[start : start + BLOCK] = block
            if start in again:
                progress.update(len(block))
            if index % TRIM_EVERY == 0:
                return_freed_memory()
    gram = np.stack([(vectors[:, c] @ vectors[:, c].T).cpu().numpy() for c in scorer.columns])
    return _score_set(tuple(scored), scorer, task.totals, gram, settings or {})


def kept_blocks(pairs: int, totals: int, scorer: ScoreEngine) -> int:
    """How many blocks' own vectors are kept in memory; those of the others are computed twice."""
    block = BLOCK * totals * scorer.size * scorer.buffer(0).element_size()
    return min(-(-pairs // BLOCK), OWN_BYTES // max(block, 1))


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


def _computing(rows: torch.Tensor) -> torch.dtype:
    """The type products are taken in: that of the scores, but no less than float32."""
    return torch.promote_types(rows.dtype, torch.float32)


class _Task:
    """The arguments of one call, and the work on one pair."""

    def __init__(
        self,
        lrm: ReasoningModel,
        reference: ReasoningModel | None,
        scorer: ScoreEngine,
        plans: Sequence[PairSequences],
        totals: Mapping[str, MeanCoefficients],
    ):
        same = reference is None or reference.fingerprint == lrm.fingerprint
        self.reference = None if same else reference
        self.scorer = scorer
        self.plans = plans
        self.totals = totals
        self._buffer = scorer.buffer(0)
        # A count sketch adds each coordinate, with a random sign, to one of k buckets. The hashes never change.
        hashes = torch.Generator().manual_seed(0)
        self._bucket = torch.randint(SKETCH, (scorer.size,), generator=hashes).to(scorer.device)
        self._sign = (torch.randint(2, (scorer.size,), generator=hashes, dtype=torch.int8) * 2 - 1).to(scorer.device)

    def rows(self, start: int) -> Iterator[tuple[PairSequences, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        """(plan, scores [m, P], (trace, answer) parts of log pi) of each pair of the block that begins at ``start``.

        The scores are a view of a reused buffer, valid until the next item.
        """
        block = list(self.plans[start : start + BLOCK])
        row_bytes = self.scorer.size * self._buffer.element_size()
        while block:
            panel = [block.pop(0)]
            count = len(panel[0].sequences)
            while block and (count + len(block[0].sequences)) * row_bytes <= BUFFER_BYTES:
                count += len(block[0].sequences)
                panel.append(block.pop(0))
            if len(self._buffer) < count:
                self._buffer = self.scorer.buffer(count)
            sequences = [sequence for plan in panel for sequence in plan.sequences]
            trace, answer = self.scorer.fill(sequences, self._buffer[:count])
            first = 0
            for plan in panel:
                here = slice(first, first + len(plan.sequences))
                yield plan, self._buffer[here], (trace[here], answer[here])
                first = here.stop

    def gram(
        self,
        plan: PairSequences,
        rows: torch.Tensor,
        parts: tuple[torch.Tensor, torch.Tensor],
        vectors: torch.Tensor,
    ) -> tuple[PairScores, torch.Tensor]:
        """Within-pair products of one pair, and its v_a [A, P], which are added to ``vectors`` [A, P] in place."""
        log_probs = self._log_probs(plan, parts)
        weights = self.weights(log_probs, rows)
        gram = torch.zeros(len(self.scorer.groups), log_probs.size, log_probs.size, dtype=torch.float64)
        own = self.own(weights, rows, gram)
        sketches = torch.zeros(len(gram), len(own), SKETCH, dtype=torch.float64, device=rows.device)
        for g, columns in enumerate(self.scorer.columns):
            group = own[:, columns].double()
            vectors[:, columns] += group
            sketches[g].index_add_(1, self._bucket[columns], group * self._sign[columns])
        return PairScores(log_probs, gram.numpy(), np.zeros((len(gram), 0, 0)), sketches.cpu().numpy()), own

    def weights(self, log_probs: PairLogProbs, rows: torch.Tensor) -> torch.Tensor:
        """Coefficients [A, m] of a pair's own vectors."""
        coefficients = np.array([f(log_probs) for f in self.totals.values()]).reshape(-1, log_probs.size)
        return torch.from_numpy(coefficients).to(rows.device, _computing(rows))

    def own(self, weights: torch.Tensor, rows: torch.Tensor, gram: torch.Tensor | None = None) -> torch.Tensor:
        """A pair's v_a [A, P]; adds the products of its scores, per group, to ``gram`` [G, m, m] in place."""
        own = torch.empty(len(weights), rows.shape[1], dtype=weights.dtype, device=rows.device)
        for g, columns in enumerate(self.scorer.columns):
            for start in range(columns.start, columns.stop, PANEL):
                panel = slice(start, min(start + PANEL, columns.stop))
                scores = rows[:, panel].to(weights.dtype)
                own[:, panel] = weights @ scores
                if gram is not None:
                    gram[g] += chunked_products(scores).cpu()
        return own

    def own_again(self, start: int, pairs: Sequence[PairScores]) -> Iterator[torch.Tensor]:
        """The v_a [A, P] of each pair of the block that begins at ``start``, from its scores computed once more."""
        for pair, (_, rows, _) in zip(pairs, self.rows(start), strict=True):
            yield self.own(self.weights(pair.log_probs, rows), rows)

    def products(self, pair: PairScores, own: torch.Tensor, vectors: torch.Tensor) -> PairScores:
        """Products <v_a, V_b> of one pair's own vectors with the totals, per group."""
        by_group = [(own[:, c].double() @ vectors[:, c].T).cpu().numpy() for c in self.scorer.columns]
        return PairScores(pair.log_probs, pair.gram, np.stack(by_group), pair.sketches)

    def _log_probs(self, plan: PairSequences, parts: tuple[torch.Tensor, torch.Tensor]) -> PairLogProbs:
        trace, answer = (part.numpy() for part in parts)
        if self.reference is None:
            return pair_log_probs(plan, trace, answer, trace + answer)
        ref = sequence_log_probs(self.reference.model, plan.sequences)
        return pair_log_probs(plan, trace, answer, (ref[0] + ref[1]).numpy())
