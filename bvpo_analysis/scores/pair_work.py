"""The work on one pair: its scores, their inner products, its own vectors v_a = sum_j c_aj s_j and their sketches.

Products of float32 scores are taken in float32 over short chunks of columns and added up in float64. No more than the
scores of one panel of pairs exist at a time, and of those a few thousand columns in any other form.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from bvpo_analysis.errors import StudyError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.records import Floats, Ints, PairLogProbs, PairScores
from bvpo_analysis.scores.engines import ScoreEngine
from bvpo_analysis.scores.gram import chunked_products
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.memory import is_out_of_memory
from bvpo_analysis.scores.plan import PairSequences, pair_log_probs
from bvpo_analysis.scores.totals import FixedPointTotals, unit_exponents

BLOCK = 8
"""Pairs per unit of work."""
BUFFER_BYTES = 256 * 2**20
"""Score rows held at once; pairs of a block are taken in panels that fit, at least one pair at a time. A constant: the
batches, and with them the last bits of float32 scores, depend on it."""
PANEL = 16384
"""Columns of scores that are taken at once; they stay in the cache."""
SKETCH = 1024
"""Length k of a count sketch."""

MeanCoefficients = Callable[[PairLogProbs], Floats]
"""Coefficients [m] of a pair's v_a = sum_j c_j s_j, from log-probabilities only."""
ScoredPair = tuple[PairSequences, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]
"""A plan, its scores [m, P], and the (trace, answer) parts of log pi, [m] each."""


class PairWork:
    """The arguments of a scoring run that the work on one pair needs, and that work.

    Args:
        lrm: the model under study.
        reference: pi_ref; the model itself when None.
        scorer: the engine.
        plans: every pair's plan, in data order.
        totals: the own vectors to take, by name.
    """

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
        self._bucket = self._hashes()

    def _hashes(self) -> torch.Tensor:
        """[P] bucket of each column in [0, 2k): a count sketch adds a coordinate, with a random sign, to one of k
        buckets; those of negative sign come second. The hashes never change."""
        size, step = self.scorer.size, 1 << 20
        generator = torch.Generator().manual_seed(0)
        bucket = torch.empty(size, dtype=torch.int16)
        for start in range(0, size, step):
            part = bucket[start : start + step]
            part.copy_(torch.randint(SKETCH, (len(part),), generator=generator))
        for start in range(0, size, step):
            part = bucket[start : start + step]
            part += SKETCH * (1 - torch.randint(2, (len(part),), generator=generator, dtype=torch.int8).short())
        return bucket.to(self.scorer.device)

    def panels(self) -> Iterator[tuple[int, slice]]:
        """(group, columns) of each panel, in order."""
        for g, columns in enumerate(self.scorer.columns):
            for start in range(columns.start, columns.stop, PANEL):
                yield g, slice(start, min(start + PANEL, columns.stop))

    def rows(self, start: int) -> Iterator[ScoredPair]:
        """The scored pairs of the block that begins at ``start``.

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
                self._buffer = self._allocate(count, row_bytes)
            sequences = [sequence for plan in panel for sequence in plan.sequences]
            trace, answer = self.scorer.fill(sequences, self._buffer[:count])
            first = 0
            for plan in panel:
                here = slice(first, first + len(plan.sequences))
                yield plan, self._buffer[here], (trace[here], answer[here])
                first = here.stop

    def _allocate(self, count: int, row_bytes: int) -> torch.Tensor:
        self._buffer = self.scorer.buffer(0)
        try:
            return self.scorer.buffer(count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise StudyError(
                f"the scores of one pair need {count * row_bytes / 2**30:.1f} GiB ({count} sequences x "
                f"{self.scorer.size} parameters), more than there is; differentiate fewer parameters with --params, "
                "use a LoRA adapter, or fewer --traces"
            ) from error

    def units(self, scored: ScoredPair) -> Ints:
        """Exponents [A, G] of the units of the totals, from the first pair of a study."""
        plan, rows, parts = scored
        weights = self.weights(self.log_probs(plan, parts), rows).abs().double().cpu().numpy()
        squares = np.zeros((len(self.scorer.groups), len(rows)))
        for g, columns in self.panels():
            squares[g] += rows[:, columns].double().square().sum(1).cpu().numpy()
        sizes = np.array([c.stop - c.start for c in self.scorer.columns])
        return unit_exponents(weights @ np.sqrt(squares / sizes[:, None]).T, rows.dtype)

    def gram(
        self, scored: ScoredPair, totals: FixedPointTotals, *, keep: bool
    ) -> tuple[PairScores, torch.Tensor | None]:
        """Products within one pair, whose v_a are added to ``totals``; and these v_a [A, P] if they are to be kept."""
        plan, rows, parts = scored
        log_probs = self.log_probs(plan, parts)
        weights = self.weights(log_probs, rows)
        kept = torch.empty(len(weights), rows.shape[1], dtype=weights.dtype, device=rows.device) if keep else None
        gram = torch.zeros(len(self.scorer.groups), log_probs.size, log_probs.size, dtype=torch.float64)
        halves = torch.zeros(len(gram), len(weights), 2 * SKETCH, dtype=torch.float64, device=rows.device)
        for g, columns in self.panels():
            scores = rows[:, columns].to(weights.dtype)
            own = weights @ scores
            gram[g] += chunked_products(scores).cpu()
            totals.add(g, columns, own)
            halves[g].index_add_(1, self._bucket[columns].long(), own.double())
            if kept is not None:
                kept[:, columns] = own
        totals.close(f"prompt {log_probs.prompt_id!r}")
        sketches = (halves[..., :SKETCH] - halves[..., SKETCH:]).cpu().numpy()
        return PairScores(log_probs, gram.numpy(), np.zeros((len(gram), 0, 0)), sketches), kept

    def weights(self, log_probs: PairLogProbs, rows: torch.Tensor) -> torch.Tensor:
        """Coefficients [A, m] of a pair's own vectors, in the type products are taken in: at least float32."""
        coefficients = np.array([f(log_probs) for f in self.totals.values()]).reshape(-1, log_probs.size)
        return torch.from_numpy(coefficients).to(rows.device, torch.promote_types(rows.dtype, torch.float32))

    def own_again(self, start: int, pairs: Sequence[PairScores]) -> Iterator[torch.Tensor]:
        """The v_a [A, P] of each pair of the block that begins at ``start``, from its scores computed once more."""
        for pair, (_, rows, _) in zip(pairs, self.rows(start), strict=True):
            weights = self.weights(pair.log_probs, rows)
            own = torch.empty(len(weights), rows.shape[1], dtype=weights.dtype, device=rows.device)
            for _, columns in self.panels():
                own[:, columns] = weights @ rows[:, columns].to(weights.dtype)
            yield own

    def products(self, pair: PairScores, own: torch.Tensor, vectors: torch.Tensor) -> PairScores:
        """Products <v_a, V_b> of one pair's own vectors [A, P] with the totals [A, P], per group."""
        by_group = torch.zeros(len(self.scorer.groups), len(own), len(own), dtype=torch.float64, device=own.device)
        for g, columns in self.panels():
            by_group[g] += own[:, columns].double() @ vectors[:, columns].T
        return PairScores(pair.log_probs, pair.gram, by_group.cpu().numpy(), pair.sketches)

    def log_probs(self, plan: PairSequences, parts: tuple[torch.Tensor, torch.Tensor]) -> PairLogProbs:
        """What estimators look at."""
        trace, answer = (part.numpy() for part in parts)
        if self.reference is None:
            return pair_log_probs(plan, trace, answer, trace + answer)
        ref = sequence_log_probs(self.reference.model, plan.sequences)
        return pair_log_probs(plan, trace, answer, (ref[0] + ref[1]).numpy())
