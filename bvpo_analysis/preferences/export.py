"""Training files for TRL in which a share alpha of the rows is trace-based and the rest has an empty trace.

In which sense such a file realises the mixed gradient g_c = alpha g_t + (1 - alpha) g_e: a trainer draws rows, each
either a trace-based pair, with gradient g_t(x), or an empty-trace pair, with gradient g_e(x). A row drawn uniformly
from a file with share alpha has expected gradient alpha E g_t + (1 - alpha) E g_e, that of g_c, and so has a batch. The
*variance* is not that of g_c: drawing a kind per row instead of averaging both kinds per prompt adds

    alpha (1 - alpha) E |g_t(x) - g_e(x)|^2 / B

to the mean squared error of a batch of B rows, compared with g_c on B prompts. (Both kinds of B prompts are 2B rows, so
at equal compute part of it comes back.) The weight that minimises the error of g_c is therefore not exactly the best
share of rows; a trainer that adds the two losses per prompt realises g_c itself.

Where numbers do not come out even, one kind is complete and the other is a random sample of pairs ("thin"), or complete
with a random sample of pairs repeated ("repeat"). Every pair has the same chance, so over the seed the expectation
above is exact with the share of the file, which is within half a row of alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.records import PreferencePair

if TYPE_CHECKING:
    from bvpo_analysis.lrm.loading import ReasoningModel
    from bvpo_analysis.lrm.sequences import TokenSequence

Method = Literal["thin", "repeat"]
"""Leave out rows of the rarer kind, or repeat rows of the more frequent one."""
METHODS: tuple[Method, ...] = ("thin", "repeat")


@dataclass(frozen=True)
class MixedRows:
    """Which pairs appear with which kind of row, in file order.

    Attributes:
        pair: index of the pair of each row.
        thinking: whether the row is trace-based.
        alpha: the share that was asked for.
    """

    pair: tuple[int, ...]
    thinking: tuple[bool, ...]
    alpha: float

    @property
    def share(self) -> float:
        """The share of trace-based rows that the file has."""
        return sum(self.thinking) / len(self.thinking)


def mixed_rows(pairs: int, alpha: float, *, method: Method = "thin", seed: int = 0) -> MixedRows:
    """Choose trace-based and empty-trace rows of ``pairs`` pairs so that the share of the former is alpha.

    With "thin" the more frequent kind appears once per pair and the other is a random sample without replacement. With
    "repeat" the rarer kind appears once per pair, and pairs of the other appear floor(r) or floor(r) + 1 times each, r
    the ratio of the two kinds. The order of the rows is random.

    Args:
        pairs: number of pairs.
        alpha: share of trace-based rows, between 0 and 1; at 0 and 1 there are rows of one kind only.
        method: "thin" or "repeat".
        seed: of the sample and the order.

    Raises:
        InputError: alpha outside [0, 1], an unknown method, no pairs, or a share that needs more than 100 copies.

    Example:
        >>> rows = mixed_rows(100, 0.4)
        >>> len(rows.pair), sum(rows.thinking), round(rows.share, 3)
        (167, 67, 0.401)
        >>> rows = mixed_rows(100, 0.4, method="repeat")
        >>> len(rows.pair), sum(rows.thinking), rows.share
        (250, 100, 0.4)
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha must be between 0 and 1, got {alpha}")
    if method not in METHODS:
        raise InputError(f"--method must be one of {', '.join(METHODS)}, got {method!r}")
    if pairs < 1:
        raise InputError("no pairs to export")
    rng = np.random.default_rng(seed)
    share = {True: alpha, False: 1 - alpha}
    complete = max(share, key=share.__getitem__) if method == "thin" else min(share, key=share.__getitem__)
    if share[complete] == 0:  # "repeat" at the ends: the only kind there is
        complete = not complete
    other = share[not complete] / share[complete] * pairs
    if other > 100 * pairs:
        raise InputError(f"--alpha {alpha} needs more than 100 copies of each pair; use --method thin")
    copies, rest = divmod(round(other), pairs)
    chosen = [*list(range(pairs)) * copies, *rng.permutation(pairs)[:rest].tolist()]
    rows = [(i, complete) for i in range(pairs)] + [(i, not complete) for i in chosen]
    order = rng.permutation(len(rows))
    return MixedRows(tuple(rows[k][0] for k in order), tuple(rows[k][1] for k in order), alpha)


@dataclass(frozen=True)
class TrlRow:
    """One row of text for a trainer.

    Attributes:
        prompt, chosen, rejected: the columns.
        same_tokens: whether a trainer that tokenises prompt and completion in one piece, and appends the
            end-of-sequence token, arrives at the tokens that a study scores. A study tokenises trace and answer apart;
            a tokenizer that merges across the border spells such a row otherwise.
    """

    prompt: str
    chosen: str
    rejected: str
    same_tokens: bool

    def columns(self) -> dict[str, str]:
        """The columns by name."""
        return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}


def trl_row(lrm: "ReasoningModel", pair: PreferencePair, *, thinking: bool) -> TrlRow:
    """One row of prompt, chosen and rejected as plain text: the text that a study scores.

    The prompt is the rendered generation prompt, for an empty trace with the empty block; the completions hold what the
    model writes, with its think markers. Text is used, not messages, because many chat templates delete traces from
    completed turns. What TRL adds is left to it: the end-of-sequence token, and the token that begins a sequence where
    the tokenizer puts one by itself. Another end-of-turn token is written.

    Raises:
        InputError: a piece of text that the tokenizer cannot encode.

    Example:
        >>> from bvpo_analysis import load_model, shipped_pairs
        >>> row = trl_row(load_model(), shipped_pairs("style", limit=1)[0], thinking=False)
        >>> row.prompt.endswith("<think></think>"), "<think>" in row.chosen, row.same_tokens
        (True, False, True)
    """
    sides = []
    for side in (0, 1):
        if thinking:
            trace = (pair.chosen, pair.rejected)[side].trace or ""
            sides.append(lrm.assembler.with_trace(pair.prompt, trace, pair.answer(side)))
        else:
            sides.append(lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side)))
    (prompt, chosen, same_chosen), (_, rejected, same_rejected) = (_texts(lrm, sequence) for sequence in sides)
    return TrlRow(prompt, chosen, rejected, same_chosen and same_rejected)


def _texts(lrm: "ReasoningModel", sequence: "TokenSequence") -> tuple[str, str, bool]:
    """(given text, scored text) of a sequence, and whether they are tokenised to it again."""
    tokenizer: Any = lrm.tokenizer

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, verbose=False)["input_ids"])

    eos, ids = tokenizer.eos_token_id, sequence.ids
    end = len(ids) - (ids[-1] == eos)
    prompt, completion = decode(ids[: sequence.score_start]), decode(ids[sequence.score_start : end])
    begin = tokenizer.bos_token
    if begin and prompt.startswith(begin) and encode(prompt)[:2] == (tokenizer.bos_token_id,) * 2:
        prompt = prompt.removeprefix(begin)
    try:
        whole = encode(prompt + completion + (tokenizer.eos_token or ""))
        same = whole == (*ids[:end], eos) and encode(prompt) == ids[: sequence.score_start]
    except Exception:  # a tokenizer that spells the pieces but not the whole; the library raises nothing more specific
        same = False
    return prompt, completion, same
