"""On-policy preference pairs: sample n completions per prompt, rank answers by a reward, pair best with worst.

The paper's pipeline: n completions with thinking give (y+, r+), (y-, r-); n completions with an empty trace, ranked by
the same rule, give the empty-trace answers (y'+, y'-). The rule sees (prompt, answers) only, never a trace: then, given
the answers, the traces are independent draws from the posterior pi(r | x, y), so that g_t is unbiased at the reference.

Further posterior traces of a given answer are drawn by exact rejection: sample (r, y) again and keep r whenever the
answer comes out equal. That is feasible for short answers and needs no approximation.

Prior traces, drawn without regard to any answer, come from completions of their own: those sampled for pairing are
posterior traces of their answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.lrm.sampling import row_seed, sample_completions
from bvpo_analysis.records import Completion, PreferencePair

Score = Callable[[str, str], float | None]
"""(prompt text, answer) -> reward."""

Rule = Callable[[str, Sequence[str]], tuple[int, int] | None]
"""(prompt text, answers) -> indices of the chosen and the rejected answer, or None for a tie."""

Message = Mapping[str, str]


@dataclass
class BuildCounts:
    """What happened to the prompts and samples of one build.

    Attributes:
        prompts: prompts sampled.
        unclosed: thinking completions whose trace or turn never ended; their rate is a bias to be reported.
        no_pair: prompts dropped because the rule found no pair among the thinking answers.
        no_empty_pair: prompts dropped because it found none among the empty-trace answers.
        no_traces: prompts dropped because further posterior traces were not found in time.
        completions: thinking completions sampled for pairing.
        empty_unclosed: completions without thinking whose turn never ended, of as many as ``completions``.
        respelt: thinking completions whose text is encoded in other tokens than were generated; what is scored is then
            not quite what was sampled.
        rejection_completions: completions sampled for further posterior traces.
        prior_completions: completions sampled for prior traces.
        prior_unclosed: those among them whose trace never closed, which gives no prior trace.
    """

    prompts: int = 0
    unclosed: int = 0
    no_pair: int = 0
    no_empty_pair: int = 0
    no_traces: int = 0
    completions: int = 0
    empty_unclosed: int = 0
    respelt: int = 0
    rejection_completions: int = 0
    prior_completions: int = 0
    prior_unclosed: int = 0


@dataclass(frozen=True)
class OnPolicySampler:
    """Draws completions of one model, each from a random stream of its own.

    Attributes:
        lrm: the policy.
        seed: base seed; a row's stream depends on (seed, prompt id, purpose, index) only.
        max_new_tokens: length limit; longer turns count as unclosed.
        temperature: 1 samples the policy itself; anything else changes the posterior of the traces.
        batch_size: rows generated together.
    """

    lrm: ReasoningModel
    seed: int = 0
    max_new_tokens: int = 64
    temperature: float = 1.0
    batch_size: int = 512

    def _sample(self, requests: Sequence[tuple[str, Sequence[Message], str, int]], *, empty: bool) -> list[list[int]]:
        assembler = self.lrm.assembler
        prompts = [assembler.prompt(prompt, empty=empty) for _, prompt, _, _ in requests]
        seeds = [row_seed(self.seed, prompt_id, purpose, index) for prompt_id, _, purpose, index in requests]
        room = self.max_new_tokens
        if assembler.context is not None and prompts:
            room = min(room, assembler.context - min(map(len, prompts)))
        drawn = sample_completions(
            self.lrm.model,
            prompts,
            seeds,
            max_new_tokens=room,
            temperature=self.temperature,
            eos_id=assembler.stop_ids,
            pad_id=assembler.pad_id,
            batch_size=self.batch_size,
        )
        # A turn that runs over the context is cut off there, whatever room a neighbour with a shorter prompt had.
        most = [room if assembler.context is None else assembler.context - len(prompt) for prompt in prompts]
        return [ids[:length] for ids, length in zip(drawn, most, strict=True)]

    def check(self, prompt_id: str, prompt: Sequence[Message]) -> None:
        """Hold that a prompt can be encoded and leaves room for a completion.

        Raises:
            InputError: it cannot or does not.
        """
        assembler = self.lrm.assembler
        try:
            tokens = max(len(assembler.prompt(prompt, empty=empty)) for empty in (False, True))
        except InputError as error:
            raise InputError(f"prompt {prompt_id!r}: {error}") from error
        if assembler.context is not None and tokens >= assembler.context:
            raise InputError(
                f"prompt {prompt_id!r} has {tokens} tokens, which leaves nothing of the model's context of "
                f"{assembler.context}; drop or shorten it"
            )

    def thinking(
        self, requests: Sequence[tuple[str, Sequence[Message], str, int]], *, counts: "BuildCounts | None" = None
    ) -> list[Completion | None]:
        """Completions with a trace for (prompt id, prompt, purpose, index) requests; None for unclosed ones.

        ``counts.respelt`` is increased by those whose text is encoded in other tokens than were generated.
        """
        turns = [self.lrm.assembler.read(ids) for ids in self._sample(requests, empty=False)]
        if counts is not None:
            counts.respelt += sum(turn.complete and not turn.canonical for turn in turns)
        return [None if turn.answer is None else Completion(turn.answer, turn.trace) for turn in turns]

    def traces(self, requests: Sequence[tuple[str, Sequence[Message], str, int]]) -> list[str | None]:
        """Traces for the same requests, whatever follows them; None for those that never close."""
        return [self.lrm.assembler.split(ids)[0] for ids in self._sample(requests, empty=False)]

    def without_thinking(self, requests: Sequence[tuple[str, Sequence[Message], str, int]]) -> list[str | None]:
        """Answers after the prefilled empty block; None for those that never end."""
        return [self.lrm.assembler.read_answer(ids).answer for ids in self._sample(requests, empty=True)]


def build_pairs(
    sampler: OnPolicySampler,
    prompts: Sequence[tuple[str, Sequence[Message]]],
    rule: Rule,
    *,
    samples: int = 5,
    meta: Mapping[str, Any] | None = None,
    score: Score | None = None,
    counts: BuildCounts | None = None,
) -> list[PreferencePair]:
    """Pair the completions of each prompt by a rule that reads answers only.

    Args:
        sampler: the policy.
        prompts: (prompt id, chat messages); the text of the last message is what the rule reads.
        rule: picks (chosen, rejected) among the answers.
        samples: n completions per prompt with thinking, and n without.
        meta: provenance copied into every pair.
        score: reward of (prompt text, answer), written into the rows.
        counts: filled with what was dropped and why.

    Returns:
        Pairs with their generating traces and own empty-trace answers, in prompt order.
    """
    counts = counts if counts is not None else BuildCounts()
    candidates = sample_candidates(sampler, prompts, samples=samples, counts=counts)
    meta = {"temperature": sampler.temperature, **(meta or {})}
    pairs = [
        choose_pair(prompt_id, prompt, here, rule, meta=meta, score=score, counts=counts)
        for (prompt_id, prompt), here in zip(prompts, candidates, strict=True)
    ]
    return [pair for pair in pairs if pair is not None]


@dataclass(frozen=True)
class Candidates:
    """The usable completions of one prompt: with thinking, and answers without."""

    thinking: tuple[Completion, ...]
    without: tuple[str, ...]


def sample_candidates(
    sampler: OnPolicySampler,
    prompts: Sequence[tuple[str, Sequence[Message]]],
    *,
    samples: int,
    counts: BuildCounts,
) -> list[Candidates]:
    """``samples`` completions of each prompt with thinking and as many without; those that never end are counted."""

    def requests(purpose: str) -> list[tuple[str, Sequence[Message], str, int]]:
        return [(prompt_id, prompt, purpose, k) for prompt_id, prompt in prompts for k in range(samples)]

    thinking = sampler.thinking(requests("think"), counts=counts)
    empties = sampler.without_thinking(requests("empty"))
    counts.prompts += len(prompts)
    counts.completions += len(thinking)
    counts.unclosed += sum(completion is None for completion in thinking)
    counts.empty_unclosed += sum(answer is None for answer in empties)
    return [
        Candidates(
            tuple(c for c in thinking[i * samples : (i + 1) * samples] if c is not None),
            tuple(a for a in empties[i * samples : (i + 1) * samples] if a is not None),
        )
        for i in range(len(prompts))
    ]


def choose_pair(
    prompt_id: str,
    prompt: Sequence[Message],
    candidates: Candidates,
    rule: Rule,
    *,
    meta: Mapping[str, Any],
    score: Score | None,
    counts: BuildCounts,
) -> PreferencePair | None:
    """The pair that a rule picks among the completions of one prompt; None, and counted, if it picks none."""
    text, here, answers = prompt[-1]["content"], candidates.thinking, candidates.without
    pick, pick_empty = rule(text, [c.answer for c in here]), rule(text, answers)
    if pick is None or here[pick[0]].answer == here[pick[1]].answer:
        counts.no_pair += 1
        return None
    if pick_empty is None or answers[pick_empty[0]] == answers[pick_empty[1]]:
        counts.no_empty_pair += 1
        return None
    chosen, rejected = here[pick[0]], here[pick[1]]
    return PreferencePair(
        prompt_id=prompt_id,
        prompt=tuple(prompt),
        chosen=chosen,
        rejected=rejected,
        empty_chosen=answers[pick_empty[0]],
        empty_rejected=answers[pick_empty[1]],
        score_chosen=score(text, chosen.answer) if score else None,
        score_rejected=score(text, rejected.answer) if score else None,
        meta=dict(meta),
    )


@dataclass
class _Search:
    """Rejection sampling for one pair: the traces found so far and the next sample index."""

    pair: PreferencePair
    wanted: int
    found: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))
    next_index: int = 0

    @property
    def complete(self) -> bool:
        return all(len(traces) >= self.wanted for traces in self.found)


def add_posterior_traces(
    sampler: OnPolicySampler,
    pairs: Sequence[PreferencePair],
    further: int,
    *,
    per_round: int = 32,
    max_samples: int = 8192,
    counts: BuildCounts | None = None,
) -> list[PreferencePair]:
    """Add ``further`` posterior traces per answer by exact rejection sampling.

    A sample (r, y) of the policy is kept for the side whose answer equals y; the kept traces are i.i.d. draws from
    pi(r | x, y). Samples are used in index order, each from its own random stream, until both sides are complete. A
    pair that is still incomplete after ``max_samples`` samples is dropped and counted: its answer is too rare, a fact
    about the answers that no trace enters.
    """
    counts = counts if counts is not None else BuildCounts()
    searches = [_Search(pair, further) for pair in pairs]
    open_searches = [search for search in searches if not search.complete]
    progress = tqdm(total=len(pairs), desc="posterior traces", unit="pair", leave=False)
    while open_searches:
        requests = [
            (search.pair.prompt_id, search.pair.prompt, "posterior", search.next_index + k)
            for search in open_searches
            for k in range(per_round)
        ]
        drawn = sampler.thinking(requests)
        counts.rejection_completions += len(drawn)
        for i, search in enumerate(open_searches):
            search.next_index += per_round
            for completion in drawn[i * per_round : (i + 1) * per_round]:
                for side in (0, 1):
                    traces = search.found[side]
                    if completion is None or completion.answer != search.pair.answer(side):
                        continue
                    if len(traces) < search.wanted:
                        traces.append(completion.trace or "")
        open_searches = [s for s in open_searches if not s.complete and s.next_index < max_samples]
        progress.n = sum(search.complete for search in searches)
        progress.refresh()
    progress.close()
    complete = [search for search in searches if search.complete]
    counts.no_traces += len(searches) - len(complete)
    return [replace(s.pair, chosen_traces=tuple(s.found[0]), rejected_traces=tuple(s.found[1])) for s in complete]


def add_prior_traces(
    sampler: OnPolicySampler,
    pairs: Sequence[PreferencePair],
    count: int,
    *,
    counts: BuildCounts | None = None,
) -> list[PreferencePair]:
    """Set the prior traces of each pair: ``count`` draws from pi(r | x), made without sight of an answer.

    Draw m of a prompt has a random stream of its own, so a longer list begins with the shorter one. A trace that never
    closes can be followed by no answer: it has pi(y | x, r) = 0, no sequence (r, y), and weight zero in a pool. It is
    left out and counted, and no other draw replaces it, which would condition the policy on closing its traces; such a
    pair has fewer prior traces than the others.

    Args:
        sampler: the policy.
        pairs: the pairs; prior traces that they have are replaced.
        count: draws per prompt.
        counts: filled with the draws and with those that never closed.

    Returns:
        The pairs in the same order.
    """
    counts = counts if counts is not None else BuildCounts()
    drawn = sampler.traces([(pair.prompt_id, pair.prompt, "prior", m) for pair in pairs for m in range(count)])
    counts.prior_completions += len(drawn)
    counts.prior_unclosed += sum(trace is None for trace in drawn)
    lists = [drawn[i * count : (i + 1) * count] for i in range(len(pairs))]
    return [
        replace(pair, prior_traces=tuple(trace for trace in traces if trace is not None))
        for pair, traces in zip(pairs, lists, strict=True)
    ]
