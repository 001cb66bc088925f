"""Per-prompt inner products of J estimators on common traces, from which all joint moments are means.

What is common: in one unit (one prompt), every estimator takes the first traces it needs, so g_t and the mean of four
traces share a trace, and the K-trace marginal and its jackknife share all. Realisation k of an estimator that takes s
posterior and p prior traces rests on draws ks .. ks + s - 1 and prior traces kp .. kp + p - 1. For a pair (a, b) the
traces are cut into T blocks of max(s_a, s_b) and max(p_a, p_b); a block holds one realisation of the estimator that
needs more and as many of the other as fit, all of which are equally good partners. Blocks share no trace, so they are
independent given the data:

    each(u, w)  = mean over blocks and partners of <u, w>            E <u, w>
    trace(u, w) = each(u, w) - <u, w> between different blocks       E Tr Cov_r(u, w | x)

for u, w among g_a, g_b and g_a - g_b. Squares of differences come from differences of coefficients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bvpo_analysis.estimators.base import Estimator
from bvpo_analysis.records import Floats, Ints, ScoreSet


@dataclass(frozen=True)
class Realisations:
    """The realisations of one estimator on n prompts, zero-padded to the largest prompt.

    Attributes:
        coefficients: [n, R, m].
        weights: [n, R], summing to one.
        posterior, prior: traces behind one group of realisations; both 0 without trace randomness.
        groups: T, how many groups with traces of their own; consecutive rows make a group.
        whole: True when the rows are the whole law of the traces.
    """

    coefficients: Floats
    weights: Floats
    posterior: int
    prior: int
    groups: int
    whole: bool

    @property
    def random(self) -> bool:
        """Whether it depends on any trace."""
        return self.posterior > 0 or self.prior > 0

    @property
    def mean(self) -> Floats:
        """Coefficients [n, m] of the mean over realisations."""
        return np.asarray(np.einsum("nr,nrm->nm", self.weights, self.coefficients))


@dataclass(frozen=True)
class PromptProducts:
    """Inner products of J estimators on each of n prompts; [n, J, J] unless said otherwise.

    Attributes:
        names: of the J estimators.
        means: [n, J, m] coefficients of the means over realisations v_a, padded with zeros.
        own: <v_a, v_b> of the means over realisations v.
        with_totals: <v_a, V_b> with the totals V over prompts.
        each: mean of <g_a, g_b> over common realisations.
        each_diff: mean of |g_a - g_b|^2; symmetric.
        each_with_diff: mean of <g_a, g_a - g_b>.
        trace, trace_diff, trace_with_diff: the trace covariances of the same products; nan where not identified.
        sketches: [n, J, k] vectors with the inner products of the v_a across prompts, to a few per cent.
    """

    names: tuple[str, ...]
    means: Floats
    own: Floats
    with_totals: Floats
    each: Floats
    each_diff: Floats
    each_with_diff: Floats
    trace: Floats
    trace_diff: Floats
    trace_with_diff: Floats
    sketches: Floats


def realisations(estimator: Estimator, scores: ScoreSet) -> Realisations:
    """The realisations of an estimator on every prompt.

    Raises:
        ValueError: prompts with different numbers of realisations, or the pairs lack what the estimator needs.

    Example:
        >>> from bvpo_analysis.estimators import Trace
        >>> from bvpo_analysis.objectives import DPO
        >>> from bvpo_analysis.records import PairScores
        >>> from bvpo_analysis.testing import toy_pair
        >>> pair = PairScores(toy_pair(), np.eye(6)[None], np.zeros((1, 0, 0)), np.zeros((1, 0, 0)))
        >>> found = realisations(Trace(DPO(2.0)), ScoreSet((pair,), ("all",), (6,), (), np.zeros((1, 0, 0)), {}))
        >>> found.coefficients.shape, found.groups, found.mean[0]
        ((1, 2, 6), 2, array([-0.5, -0.5,  0.5,  0.5,  0. ,  0. ]))
    """
    logs = [pair.log_probs for pair in scores.pairs]
    rows = [estimator.coefficients(log) for log in logs]
    counts = {len(r) for r in rows}
    if len(counts) > 1:
        raise ValueError(
            f"pairs have different numbers of trace draws or prior traces: {estimator!r} has {sorted(counts)} "
            f"realisations; use the same number for every pair (--traces {min(len(log.draws) for log in logs)})"
        )
    count, width = counts.pop(), max(log.size for log in logs)
    coefficients = np.zeros((len(rows), count, width))
    for i, row in enumerate(rows):
        coefficients[i, :, : row.shape[1]] = row
    weights = np.stack([estimator.weights(log) for log in logs])
    needs = estimator.needs
    if not estimator.random:
        return Realisations(coefficients, weights, 0, 0, 1, False)
    whole = logs[0].enumerated
    # A single realisation (of the generating trace, say) belongs to the first block, however many traces follow.
    groups = count if whole or estimator.independent else min(count, _blocks(scores, needs.posterior, needs.prior))
    return Realisations(coefficients, weights, needs.posterior, needs.prior, groups, whole)


def prompt_products(
    scores: ScoreSet, estimators: Mapping[str, Estimator], *, group: str | None = None
) -> PromptProducts:
    """Inner products of the estimators on every prompt.

    Args:
        scores: inner products with the totals of every estimator (see ``estimators.totals_of``).
        estimators: by name; the names are labels of the result.
        group: restrict every inner product to this parameter group.

    Raises:
        ValueError: no estimators, the totals of one were not accumulated, the group is unknown, some pairs are
            enumerated and others are not, or :func:`realisations` raises.
    """
    if not estimators:
        raise ValueError("no estimators were given")
    columns = [total_column(scores, estimator) for estimator in estimators.values()]
    which = parameter_group(scores, group)
    if len({pair.log_probs.enumerated for pair in scores.pairs}) > 1:
        raise ValueError("some pairs have enumerated traces and others sampled ones; score them alike")
    found = [realisations(estimator, scores) for estimator in estimators.values()]
    n, j = len(scores), len(found)
    width = found[0].coefficients.shape[2]
    gram = np.zeros((n, width, width))
    for i, pair in enumerate(scores.pairs):
        gram[i, : pair.log_probs.size, : pair.log_probs.size] = pair.gram[which].sum(axis=0)
    means = np.stack([f.mean for f in found], axis=1)
    factor = _factor(gram)
    vectors = [f.coefficients @ factor for f in found]
    out = {name: np.zeros((n, j, j)) for name in _MEANS}
    for a in range(j):
        for b in range(a, j):
            common = _common(found[a], found[b], scores)
            for name, (ab, ba) in common.products(found[a], found[b], vectors[a], vectors[b], factor).items():
                out[name][:, a, b], out[name][:, b, a] = ab, ba
    return PromptProducts(
        names=tuple(estimators),
        means=means,
        own=means @ gram @ means.transpose(0, 2, 1),
        with_totals=np.stack([p.with_totals[which].sum(axis=0)[np.ix_(columns, columns)] for p in scores.pairs]),
        sketches=np.stack([p.sketches[which][:, columns].transpose(1, 0, 2).reshape(j, -1) for p in scores.pairs]),
        **out,
    )


def total_column(scores: ScoreSet, estimator: Estimator) -> int:
    """The position of an estimator among the totals.

    Raises:
        ValueError: its total, or the products with it, were not accumulated.
    """
    name = repr(estimator)
    if name not in scores.totals or scores.pairs[0].with_totals.shape[-1] == 0:
        declared = ", ".join(scores.totals) or "none"
        raise ValueError(f"products with the total of {name} were not accumulated (declared: {declared}); score again")
    return scores.totals.index(name)


def parameter_group(scores: ScoreSet, group: str | None) -> slice:
    """The positions of a parameter group; of all groups for None.

    Raises:
        ValueError: the group is unknown.
    """
    if group is None:
        return slice(None)
    if group not in scores.groups:
        raise ValueError(f"unknown parameter group {group!r}; there are {', '.join(scores.groups)}")
    return slice(g := scores.groups.index(group), g + 1)


_MEANS = ("each", "each_diff", "each_with_diff", "trace", "trace_diff", "trace_with_diff")


def _factor(gram: Floats) -> Floats:
    """F [n, m, m] with F F' = the Gram matrix of each prompt, so that products of realisations are those of vectors."""
    values, basis = np.linalg.eigh(gram)
    return np.asarray(basis * np.sqrt(np.maximum(values, 0.0))[:, None, :])


@dataclass(frozen=True)
class _Parts:
    """Vectors [n, T, q, m]: whole, deviation from the block (None for q = 1), and of the block from the mean."""

    whole: Floats
    within: Floats | None
    between: Floats


@dataclass(frozen=True)
class _Common:
    """Which realisations of two estimators go together: T blocks with q pairs of partners.

    Attributes:
        first, second: [T, q] rows of a and of b.
        blocks: [n, T] weights of the blocks, summing to one.
        partners: [q] weights within a block, summing to one.
        correction: T / (T - 1), 1 for the whole law, nan where a single block leaves the trace noise unidentified.
    """

    first: Ints
    second: Ints
    blocks: Floats
    partners: Floats
    correction: float

    def products(
        self, a: Realisations, b: Realisations, a_vectors: Floats, b_vectors: Floats, factor: Floats
    ) -> dict[str, tuple[Floats, Floats]]:
        """Every entry of ``_MEANS``, [n], in the order (a, b) and in the order (b, a)."""
        difference = a.coefficients[:, self.first] - b.coefficients[:, self.second]
        n, blocks, partners, width = difference.shape
        d = self._parts((difference.reshape(n, -1, width) @ factor).reshape(n, blocks, partners, -1))
        x, y = self._parts(a_vectors[:, self.first]), self._parts(b_vectors[:, self.second])
        noise = a.random or b.random
        each, trace = self._means(x, y, a.random and b.random)
        diff, trace_diff = self._means(d, d, noise)
        a_d, trace_a_d = self._means(x, d, a.random)
        b_d, trace_b_d = self._means(y, d, b.random)
        return {
            "each": (each, each),
            "each_diff": (diff, diff),
            "each_with_diff": (a_d, -b_d),
            "trace": (trace, trace),
            "trace_diff": (trace_diff, trace_diff),
            "trace_with_diff": (trace_a_d, -trace_b_d),
        }

    def _parts(self, x: Floats) -> _Parts:
        block = np.einsum("q,ntqm->ntm", self.partners, x)[:, :, None]
        between = block - np.einsum("nt,ntqm->nqm", self.blocks, block)[:, None]
        return _Parts(x, x - block if len(self.partners) > 1 else None, between)

    def _means(self, x: _Parts, y: _Parts, random: bool) -> tuple[Floats, Floats]:
        """Means [n] of <x, y> and of its trace covariance."""

        def mean(left: Floats, right: Floats) -> Floats:
            weights = self.partners if left.shape[2] > 1 else np.ones(1)
            products = np.einsum("ntqm,ntqm->ntq", left, right)
            return np.asarray(np.einsum("nt,q,ntq->n", self.blocks, weights, products))

        each = mean(x.whole, y.whole)
        if not random:
            return each, np.zeros_like(each)
        trace = self.correction * mean(x.between, y.between)
        if x.within is not None and y.within is not None:
            trace = trace + mean(x.within, y.within)
        return each, trace


def _blocks(scores: ScoreSet, posterior: int, prior: int) -> int:
    """How many disjoint blocks of so many traces every pair holds; 1 if none are needed."""
    draws = min(len(pair.log_probs.draws) for pair in scores.pairs)
    pool = min(len(pair.log_probs.prior) for pair in scores.pairs)
    limits = [have // need for have, need in ((draws, posterior), (pool, prior)) if need]
    return min(limits, default=1)


def _common(a: Realisations, b: Realisations, scores: ScoreSet) -> _Common:
    """The common realisations of two estimators; see the head of this file."""
    if a.whole or b.whole:
        if a.whole and b.whole and a.weights.shape != b.weights.shape:
            raise ValueError("two estimators have different laws of enumerated traces; they must share them")
        law = (a if a.whole else b).weights
        rows = [np.arange(law.shape[1]) if x.whole else np.zeros(law.shape[1], dtype=np.int64) for x in (a, b)]
        return _Common(rows[0][:, None], rows[1][:, None], law, np.ones(1), 1.0)
    posterior, prior = max(a.posterior, b.posterior), max(a.prior, b.prior)
    blocks = [_partners(a, b, block, posterior, prior) for block in range(_blocks(scores, posterior, prior))]
    blocks = [block for block in blocks if len(block[0]) == len(blocks[0][0])]
    first, second = (np.array([block[side] for block in blocks]) for side in (0, 1))
    partners = a.weights[0, first[0]] * (1.0 if a is b or _alike(a, b) else b.weights[0, second[0]])
    count = len(blocks)
    return _Common(
        first,
        second,
        blocks=np.full((len(scores), count), 1.0 / count),
        partners=partners / partners.sum(),
        correction=count / (count - 1) if count > 1 else np.nan,
    )


def _alike(a: Realisations, b: Realisations) -> bool:
    """Whether row k of one and row k of the other come from the same traces and the same further randomness."""
    return (
        (a.posterior, a.prior, a.groups) == (b.posterior, b.prior, b.groups)
        and a.weights.shape == b.weights.shape
        and np.array_equal(a.weights[0], b.weights[0])
    )


def _partners(a: Realisations, b: Realisations, block: int, posterior: int, prior: int) -> tuple[Ints, Ints]:
    """Rows of a and of b that go together in one block."""
    first, second = (_rows(x, block, posterior, prior) for x in (a, b))
    if _alike(a, b):
        return first, second
    left, right = np.meshgrid(first, second, indexing="ij")
    return left.ravel(), right.ravel()


def _rows(x: Realisations, block: int, posterior: int, prior: int) -> Ints:
    """Rows of the realisations whose traces all lie in a block of so many posterior and prior traces."""
    if not x.random:
        return np.arange(len(x.weights[0]))
    first, stop = 0, x.groups
    for size, need in ((posterior, x.posterior), (prior, x.prior)):
        if need:
            first, stop = max(first, -(-block * size // need)), min(stop, (block + 1) * size // need)
    per_group = len(x.weights[0]) // x.groups
    return np.arange(first * per_group, max(stop, first) * per_group)
