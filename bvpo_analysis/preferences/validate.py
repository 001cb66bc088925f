"""Is this file fit for a study, and what should one know about it? Everything found, not the first mistake only.

Without a model, lengths are in characters. With one they are in tokens, every sequence is assembled and held against
the chat template, and log-probabilities that a sampler recorded are compared with the model's.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.sampling_law import SamplingLaw
from bvpo_analysis.preferences.formats.base import prompt_name
from bvpo_analysis.preferences.rows import FileFacts, row_results
from bvpo_analysis.records import PreferencePair

if TYPE_CHECKING:
    from bvpo_analysis.lrm.loading import ReasoningModel
    from bvpo_analysis.preferences.recorded import SamplerMismatch

SHOWN = 10
"""Problems that are quoted one by one."""
LEAST_PAIRS = 4
"""Pairs below which no interval exists."""


@dataclass(frozen=True)
class Quantiles:
    """Minimum, quartiles, 95 % quantile and maximum of n numbers, and their mean.

    Example:
        >>> Quantiles.of([1, 2, 3, 4, 100]).median
        3.0
    """

    n: int
    mean: float
    minimum: float
    q25: float
    median: float
    q75: float
    q95: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quantiles | None":
        """Quantiles of the values; None where there are none."""
        if not len(values):
            return None
        q = [float(x) for x in np.quantile(values, [0, 0.25, 0.5, 0.75, 0.95, 1])]
        return cls(len(values), float(np.mean(values)), *q)


@dataclass(frozen=True)
class RoundTrips:
    """What became of the turns of a file under a model's chat template.

    Attributes:
        turns: turns tried, two per pair.
        failed: turns that cannot be assembled or that the template changes.
        too_long: those among them that exceed the model's context.
        cut: turns from which the template deletes the trace (scored as generated all the same).
        trimmed: turns in which the template changes white space only.
        failures: the first few failures, one line each.
    """

    turns: int
    failed: int
    too_long: int
    cut: int
    trimmed: int
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """What was found in a file of preference pairs.

    Attributes:
        source, format: the file and its format.
        rows, pairs: records read, and usable pairs among them.
        mistakes: rows that must be mended, by reason (keys of ``REASONS``).
        dropped: rows that the format leaves out, by reason.
        counts: what the format counted beside rows, such as responses that never closed.
        problems: the first ten of these rows, one line each, those to mend before those left out.
        ignored: columns that are not used.
        unit: "characters" or "tokens", of all lengths.
        trace_lengths, answer_lengths: of both sides.
        limit: number of generated units (trace and answer) beyond which a completion would be cut off.
        over_limit: share of completions beyond it.
        unclosed: share of completions whose trace never closed, among rows (or responses) that had one to judge.
        empty_own: pairs with answers of their own for the empty trace; the others repeat y+ and y-.
        posterior_traces: fewest traces per answer over pairs, the generating one included.
        prior_traces: fewest prior traces over pairs.
        duplicate_prompts: pairs whose prompt has the text of an earlier pair's under another name.
        margins: score of chosen minus score of rejected, where both are known.
        reversed_scores: pairs whose rejected answer has the higher score.
        other_law: pairs sampled at a temperature other than 1, or with top-p or top-k.
        unknown_law: pairs that do not say at which temperature.
        round_trips: with a model, whether its template reproduces the turns.
        recorded: with a model, recorded log-probabilities against the model's.
        alerts: what matters for a study, in sentences.
        usable: whether a study can run on the file as it is.
    """

    source: str
    format: str
    rows: int
    pairs: int
    mistakes: dict[str, int]
    dropped: dict[str, int]
    counts: dict[str, int]
    problems: tuple[str, ...]
    ignored: tuple[str, ...]
    unit: str
    trace_lengths: Quantiles | None
    answer_lengths: Quantiles | None
    limit: int | None
    over_limit: float | None
    unclosed: float
    empty_own: int
    posterior_traces: int
    prior_traces: int
    duplicate_prompts: int
    margins: Quantiles | None
    reversed_scores: int
    other_law: int
    unknown_law: int
    round_trips: RoundTrips | None
    recorded: "SamplerMismatch | None"
    alerts: tuple[str, ...]
    usable: bool


def validate(
    source: str | Path,
    lrm: "ReasoningModel | None" = None,
    *,
    format: str = "auto",
    limit: int | None = None,
    one_per_prompt: bool = False,
) -> Validation:
    """Read a whole file and say what is in it and what is wrong with it.

    Args:
        source: see :func:`bvpo_analysis.preferences.files.records`.
        lrm: the model of the study; without it nothing is tokenised.
        format: key of ``FORMATS``, or "auto".
        limit: generated tokens (without a model: characters) beyond which a completion counts as cut off; by default
            what the model's context leaves after the prompt, where the model has one.
        one_per_prompt: leave out further pairs of a prompt instead of calling them mistakes.

    Raises:
        InputError: the file cannot be read at all, or the limit is not positive.

    Example:
        >>> from bvpo_analysis.preferences.shipped import pairs_path
        >>> found = validate(pairs_path("style"))
        >>> found.usable, found.pairs, found.empty_own, found.posterior_traces
        (True, 256, 256, 4)
    """
    if limit is not None and limit < 1:
        raise InputError(f"--max-tokens must be at least 1, got {limit}")
    facts = FileFacts()
    pairs: list[PreferencePair] = []
    places: list[str] = []
    mistakes, dropped = Counter[str](), Counter[str]()
    problems: dict[bool, list[str]] = {True: [], False: []}
    for result in row_results(source, format=format, one_per_prompt=one_per_prompt, facts=facts):
        if result.pair is not None:
            pairs.append(result.pair)
            places.append(result.where)
            continue
        (mistakes if result.fatal else dropped)[result.reason] += 1
        if len(problems[result.fatal]) < SHOWN:
            problems[result.fatal].append(result.problem if result.fatal else f"{result.problem} (left out)")
    lengths = _lengths(pairs, lrm)
    context = lrm.assembler.context if lrm is not None else None
    beyond: list[bool] = []
    if limit is not None:
        beyond = [size > limit for size in lengths.completions]
    elif context is not None:
        beyond = [p + size > context for p, size in zip(lengths.prompts, lengths.completions, strict=True)]
    trips = _round_trips(pairs, places, lrm) if lrm is not None else None
    recorded = None
    if lrm is not None:
        from bvpo_analysis.preferences.recorded import sampler_mismatch

        recorded = sampler_mismatch(lrm, pairs)
    margins = [
        pair.score_chosen - pair.score_rejected
        for pair in pairs
        if pair.score_chosen is not None and pair.score_rejected is not None
    ]
    names = Counter(prompt_name(pair.prompt) for pair in pairs)
    unclosed_rows = mistakes["unclosed trace"] + dropped["unclosed trace"]
    responses = facts.counts["responses"]
    judged = responses or len(pairs) + unclosed_rows
    found = Validation(
        source=str(source),
        format=facts.format or "unknown",
        rows=facts.rows,
        pairs=len(pairs),
        mistakes=dict(mistakes.most_common()),
        dropped=dict(dropped.most_common()),
        counts=dict(facts.counts),
        problems=tuple([*problems[True], *problems[False]][:SHOWN]),
        ignored=tuple(sorted(facts.ignored)),
        unit=lengths.unit,
        trace_lengths=Quantiles.of(lengths.traces),
        answer_lengths=Quantiles.of(lengths.answers),
        limit=limit if limit is not None else context,
        over_limit=float(np.mean(beyond)) if beyond else None,
        unclosed=(facts.counts["unclosed responses"] if responses else unclosed_rows) / max(judged, 1),
        empty_own=sum(pair.empty_answers == "own" for pair in pairs),
        posterior_traces=min((len(pair.traces(side)) for pair in pairs for side in (0, 1)), default=0),
        prior_traces=min((len(pair.prior_traces) for pair in pairs), default=0),
        duplicate_prompts=sum(count - 1 for count in names.values()),
        margins=Quantiles.of(margins),
        reversed_scores=sum(margin < 0 for margin in margins),
        other_law=sum(not _from_policy(pair) for pair in pairs),
        unknown_law=sum(_from_policy(pair) and pair.meta.get("temperature") is None for pair in pairs),
        round_trips=trips,
        recorded=recorded,
        alerts=(),
        usable=not mistakes and len(pairs) >= LEAST_PAIRS and (trips is None or trips.failed == 0),
    )
    return _with_alerts(found)


def _from_policy(pair: PreferencePair) -> bool:
    """Whether a pair was sampled from the policy's own law, as far as it says."""
    try:
        return SamplingLaw.from_meta(pair.meta).is_policy
    except (InputError, TypeError):  # a law that cannot be, such as temperature 0
        return False


@dataclass(frozen=True)
class _Lengths:
    """Lengths of both sides of every pair, in order: one entry per completion."""

    unit: str
    prompts: list[int]
    traces: list[int]
    answers: list[int]
    completions: list[int]


def _lengths(pairs: Sequence[PreferencePair], lrm: "ReasoningModel | None") -> _Lengths:
    found = _Lengths("characters" if lrm is None else "tokens", [], [], [], [])
    for pair in pairs:
        for completion in (pair.chosen, pair.rejected):
            trace, answer = completion.trace or "", completion.answer
            if lrm is None:
                prompt = sum(len(message["content"]) for message in pair.prompt)
                sizes = (len(trace), len(answer), len(trace) + len(answer))
            else:
                try:
                    prompt = len(lrm.assembler.prompt(pair.prompt))
                    pieces = len(lrm.assembler.encode(trace)), len(lrm.assembler.encode(answer))
                except InputError:  # the round trip below says what is wrong with it
                    continue
                around = len(lrm.assembler.encode(lrm.assembler.format.open + lrm.assembler.format.close))
                sizes = (*pieces, sum(pieces) + around + 1)
            found.prompts.append(prompt)
            found.traces.append(sizes[0])
            found.answers.append(sizes[1])
            found.completions.append(sizes[2])
    return found


def _round_trips(pairs: Sequence[PreferencePair], places: Sequence[str], lrm: "ReasoningModel") -> RoundTrips:
    kinds, failures = Counter[str](), list[str]()
    for pair, where in zip(pairs, places, strict=True):
        for side in (0, 1):
            kind, problem = "same", ""
            try:
                for trace in (*pair.traces(side), *pair.prior_traces):
                    kind = lrm.assembler.check_round_trip(pair.prompt, trace, pair.answer(side)) or "same"
                lrm.assembler.with_empty_trace(pair.prompt, pair.empty_answer(side))
            except InputError as error:
                problem = str(error)
                kind = "too long" if "model's context" in problem else "failed"
            kinds[kind] += 1
            if problem and len(failures) < SHOWN:
                failures.append(f"{where}: {problem}")
    return RoundTrips(
        turns=2 * len(pairs),
        failed=kinds["failed"] + kinds["too long"],
        too_long=kinds["too long"],
        cut=kinds["cut"],
        trimmed=kinds["trimmed"],
        failures=tuple(failures),
    )


def _with_alerts(found: Validation) -> Validation:
    alerts = []
    if found.mistakes:
        alerts.append(f"{sum(found.mistakes.values())} rows must be mended before the file can be used")
    if found.pairs < LEAST_PAIRS:
        alerts.append(f"{found.pairs} usable pairs; at least {LEAST_PAIRS} are needed for an interval")
    if found.unclosed > 0:
        alerts.append(
            f"{found.unclosed:.1%} of the completions never close their trace; leaving them out conditions the policy "
            "on short traces and biases the trace-based gradient, so generate with a larger limit"
        )
    if found.over_limit:
        alerts.append(f"{found.over_limit:.1%} of the completions are longer than the limit of {found.limit}")
    if found.other_law:
        alerts.append(
            f"sampled at a temperature other than 1, or with top-p or top-k: {found.other_law} of {found.pairs} pairs; "
            "their traces are no draws from the posterior of the model, so the trace-based gradient is biased"
        )
    if found.pairs and found.empty_own < found.pairs:
        alerts.append(
            f"no answers of their own for the empty trace in {found.pairs - found.empty_own} of {found.pairs} pairs; "
            "y+ and y- serve instead (merge adds a file of answers generated without thinking)"
        )
    if found.duplicate_prompts:
        alerts.append(
            f"the prompt of another pair under another prompt_id in {found.duplicate_prompts} of {found.pairs} pairs; "
            "prompts are the clusters of every interval, so intervals come out too narrow"
        )
    if found.reversed_scores:
        alerts.append(f"the rejected answer has the higher score in {found.reversed_scores} of {found.pairs} pairs")
    if found.round_trips is not None and found.round_trips.failed:
        alerts.append(f"{found.round_trips.failed} of {found.round_trips.turns} turns do not fit the model")
    if found.round_trips is not None and found.round_trips.cut:
        alerts.append(
            "the chat template deletes traces from completed turns; they are scored as generated, but a trainer that "
            "applies the template would not see them"
        )
    if found.recorded is not None and found.recorded.share_notable > 0:
        alerts.append(
            f"{found.recorded.share_notable:.1%} of the recorded log-probabilities are more than 0.1 nats off the "
            f"model's (largest {found.recorded.largest:.3g}, prompt {found.recorded.prompt!r}): other weights, another "
            "precision, or another temperature"
        )
    return replace(found, alerts=tuple(alerts))
