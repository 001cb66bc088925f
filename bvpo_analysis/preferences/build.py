"""On-policy preference pairs of any model, in restartable parts.

For each prompt n completions are sampled with thinking and n without, each kind is ranked by a reward of the answers,
and the best is paired with the worst. Prompts are taken eight at a time; batches never cross such a chunk and every row
has a random stream of its own, so the pairs do not depend on interruptions or on how the prompts are spread over
processes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.loading import ReasoningModel
from bvpo_analysis.preferences.files import records
from bvpo_analysis.preferences.formats.base import prompt_name
from bvpo_analysis.preferences.native import RowError, field_error, pair_from_row, pair_to_row, prompt_from
from bvpo_analysis.preferences.on_policy import (
    BuildCounts,
    OnPolicySampler,
    Rule,
    add_posterior_traces,
    add_prior_traces,
    choose_pair,
    sample_candidates,
)
from bvpo_analysis.preferences.rewards import Prompt, Reward, best_and_worst
from bvpo_analysis.preferences.rows import write_lines
from bvpo_analysis.records import PreferencePair

CHUNK = 8
"""Prompts per unit of work."""
_PROMPT_KEYS = ("prompt", "question", "problem")
_REFERENCE_KEYS = ("reference", "solution", "answer")


@dataclass(frozen=True)
class BuildSettings:
    """What a build depends on, beside model, prompts and reward.

    Attributes:
        samples: completions per prompt, of each kind.
        further: further posterior traces per answer, by rejection; answers that do not come up again are dropped.
        prior: prior traces per prompt.
        max_tokens: length limit of a completion.
        temperature: 1 samples the policy; any other value changes the posterior of the traces.
        rows: completions generated together.
        seed: of all samples.

    Raises:
        InputError: a value out of range, naming the option.
    """

    samples: int = 5
    further: int = 0
    prior: int = 0
    max_tokens: int = 4096
    temperature: float = 1.0
    rows: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"samples": 2, "further": 0, "prior": 0, "max_tokens": 1, "rows": 1, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                option = name.replace("_", "-")
                raise InputError(f"--{option} must be at least {bound}, got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"--temperature must be a positive number, got {self.temperature}")


@dataclass
class BuildReport:
    """What happened to the prompts of a build.

    Attributes:
        counts: prompts and samples, see :class:`BuildCounts`.
        tags: pairs dropped because think tags inside trace or answer leave no native row.
        pairs: pairs written.
    """

    counts: BuildCounts = field(default_factory=BuildCounts)
    tags: int = 0
    pairs: int = 0

    @property
    def unclosed(self) -> float:
        """Share of the thinking completions that never ended."""
        return self.counts.unclosed / max(self.counts.completions, 1)

    @property
    def empty_unclosed(self) -> float:
        """Share of the completions without thinking that never ended."""
        return self.counts.empty_unclosed / max(self.counts.completions, 1)

    def add(self, found: dict[str, Any]) -> None:
        """Add the counts of a finished chunk."""
        for f in fields(BuildCounts):
            setattr(self.counts, f.name, getattr(self.counts, f.name) + found["counts"].get(f.name, 0))
        self.tags += found["tags"]
        self.pairs += len(found["rows"])


def read_prompts(source: str | Path, *, limit: int | None = None, references: bool = False) -> tuple[Prompt, ...]:
    """Prompts of a file: JSON strings, or objects with prompt (or question, problem) and, for verifiers, an answer.

    Args:
        source: see :func:`bvpo_analysis.preferences.files.records`.
        limit: the first so many only.
        references: whether each must carry a right answer under reference, solution or answer.

    Raises:
        InputError: an unreadable file, a record that is no prompt, a missing answer, or a repeated prompt.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        ...     _ = file.write('{"question": "2 + 2?", "answer": "4"}'); file.flush()
        ...     (prompt,) = read_prompts(file.name, references=True)
        >>> prompt.messages, prompt.reference
        (({'role': 'user', 'content': '2 + 2?'},), '4')
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    found: dict[str, Prompt] = {}
    for record in records(source):
        if limit is not None and len(found) >= limit:
            break
        if record.error is not None:
            raise RowError(record.error)
        prompt = _prompt(record.value, record.where, references)
        if prompt.prompt_id in found:
            raise RowError(f"{record.where}: prompt {prompt.prompt_id!r} is there twice; keep one row per prompt")
        found[prompt.prompt_id] = prompt
    if not found:
        raise InputError(f"{source}: no prompts in the file; expected one JSON object with a prompt per line")
    return tuple(found.values())


def _prompt(value: Any, where: str, references: bool) -> Prompt:
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        raise RowError(f"{where}: expected a JSON object with a prompt, got {type(value).__name__}")
    key = next((key for key in _PROMPT_KEYS if key in value), None)
    if key is None:
        raise RowError(f"{where}: no prompt; expected one of the fields {', '.join(_PROMPT_KEYS)}")
    given = [{"role": "user", "content": value[key]}] if isinstance(value[key], str) else value[key]
    messages = prompt_from(given, where)
    name = value.get("prompt_id")
    if name is not None and (isinstance(name, bool) or not isinstance(name, str | int) or name == ""):
        raise field_error(where, "prompt_id", "text or a whole number", name)
    reference = next((value[key] for key in _REFERENCE_KEYS if value.get(key) is not None), None)
    if references and (isinstance(reference, bool) or not isinstance(reference, str | int | float)):
        raise field_error(where, "reference", "the right answer, which a verifier compares with", reference)
    return Prompt(
        prompt_id=str(name) if name is not None else prompt_name(messages),
        messages=messages,
        reference=str(reference) if references else None,
    )


def part_of(prompts: Sequence[Prompt], shard: str | None) -> tuple[Prompt, ...]:
    """Part I of N ("I/N") of the prompts: whole chunks, in order, so that the parts joined are the whole build.

    Raises:
        InputError: not of the form I/N with 1 <= I <= N, or a part without prompts.

    Example:
        >>> prompts = [Prompt(str(i), ()) for i in range(20)]
        >>> [len(part_of(prompts, f"{i}/2")) for i in (1, 2)]
        [16, 4]
    """
    if shard is None:
        return tuple(prompts)
    first, _, second = shard.partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
        raise InputError(f"--shard must be I/N with 1 <= I <= N, such as 1/4, got {shard!r}")
    index, parts = int(first), int(second)
    chunks = -(-len(prompts) // CHUNK)
    start, stop = (chunks * (index - 1) + parts - 1) // parts, (chunks * index + parts - 1) // parts
    part = tuple(prompts[start * CHUNK : stop * CHUNK])
    if not part:
        raise InputError(f"--shard {shard}: there are only {chunks} chunks of {CHUNK} prompts; use fewer parts")
    return part


def build(
    lrm: ReasoningModel,
    prompts: Sequence[Prompt],
    reward: Reward,
    output: Path,
    settings: BuildSettings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    may_be_empty: bool = False,
) -> BuildReport:
    """Build pairs and write them as native rows to ``output``, with ``output``.counts.json beside it.

    Finished chunks wait in the folder ``output``.parts until the whole is written; then it is removed.

    Args:
        lrm: the policy.
        prompts: what to sample from.
        reward: ranks the answers.
        output: JSONL file.
        settings: numbers of samples and the like.
        resume: continue an interrupted build; finished chunks are kept.
        overwrite: begin anew where an interrupted build was left.
        may_be_empty: write a file without rows where no prompt gives a pair, as for one part of several.

    Raises:
        InputError: a prompt that the model cannot read; an interrupted build that is in the way, or differs from this
            one; or no prompt gives a pair.
        StudyError: the reward fails; finished chunks stay.
    """
    settings = settings if settings is not None else BuildSettings()
    key = {
        "model": lrm.fingerprint,
        "reward": reward.description,
        "prompts": hashlib.blake2b(
            json.dumps([[p.prompt_id, list(map(dict, p.messages)), p.reference] for p in prompts]).encode(),
            digest_size=16,
        ).hexdigest(),
        **asdict(settings),
    }
    sampler = OnPolicySampler(
        lrm,
        seed=settings.seed,
        max_new_tokens=settings.max_tokens,
        temperature=settings.temperature,
        batch_size=settings.rows,
    )
    for prompt in prompts:
        sampler.check(prompt.prompt_id, prompt.messages)
    parts = output.with_name(output.name + ".parts")
    _open_parts(parts, key, resume=resume, overwrite=overwrite)
    meta = {
        "policy": lrm.fingerprint,
        "seed": settings.seed,
        "reward": reward.description,
        "max_tokens": settings.max_tokens,
        "trace_source": "posterior",
    }
    report = BuildReport()
    starts = range(0, len(prompts), CHUNK)
    try:
        with tqdm(total=len(prompts), desc="pairs", unit="prompt", leave=False) as progress:
            for start in starts:
                path = parts / f"chunk-{start:08d}.json"
                if not path.is_file():
                    found = _chunk(sampler, prompts[start : start + CHUNK], reward, settings, meta)
                    write_lines(path, [json.dumps(found, ensure_ascii=False)])
                report.add(json.loads(path.read_text(encoding="utf-8")))
                progress.update(min(CHUNK, len(prompts) - start))
    except BaseException:
        if not list(parts.glob("chunk-*.json")):
            shutil.rmtree(parts)  # nothing is finished, so there is nothing to resume
        raise
    if not report.pairs and not may_be_empty:
        shutil.rmtree(parts)
        raise InputError(
            f"none of {len(prompts)} prompts gives a pair: {report.counts.unclosed} of {report.counts.completions} "
            "completions never ended, and the rewards of the rest do not differ; use a larger --max-tokens, more "
            "--samples or another reward"
        )

    def rows() -> Iterator[str]:
        for start in starts:
            chunk = json.loads((parts / f"chunk-{start:08d}.json").read_text(encoding="utf-8"))
            yield from (json.dumps(row, ensure_ascii=False) for row in chunk["rows"])

    write_lines(output, rows())
    facts = {**key, "pairs": report.pairs, "dropped_for_tags": report.tags, "counts": asdict(report.counts)}
    write_lines(output.with_name(output.name + ".counts.json"), [json.dumps(facts, indent=1, ensure_ascii=False)])
    shutil.rmtree(parts)
    return report


def _open_parts(parts: Path, key: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Make the folder of finished chunks, or hold that the one there belongs to the same build."""
    description = parts / "build.json"
    if parts.exists() and overwrite and not resume:
        foreign = [p.name for p in parts.iterdir() if not p.name.startswith(("chunk-", "build.json"))]
        if foreign:
            raise InputError(f"{parts}: holds {foreign[0]!r}, which no build has made; move it or use another --output")
        shutil.rmtree(parts)
    if description.is_file():
        if not resume:
            raise InputError(f"{parts}: holds an interrupted build; continue it with --resume, or use --overwrite")
        before = json.loads(description.read_text(encoding="utf-8"))
        differing = [name for name in key if before.get(name) != key[name]]
        if differing:
            name = differing[0]
            raise InputError(
                f"{parts}: the interrupted build had another {name} ({before.get(name)!r}, not {key[name]!r}); "
                "use --overwrite or another --output"
            )
    elif parts.exists() and any(parts.iterdir()):
        raise InputError(f"{parts}: was not made by a build; move it or use another --output")
    try:
        parts.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{parts}: cannot be made ({error.strerror}); use another --output") from error
    write_lines(description, [json.dumps(key, ensure_ascii=False)])


def _chunk(
    sampler: OnPolicySampler, prompts: Sequence[Prompt], reward: Reward, settings: BuildSettings, meta: dict[str, Any]
) -> dict[str, Any]:
    """Rows and counts of one chunk."""
    counts = BuildCounts()
    here = [(prompt.prompt_id, prompt.messages) for prompt in prompts]
    candidates = sample_candidates(sampler, here, samples=settings.samples, counts=counts)
    meta = {**meta, "temperature": settings.temperature}
    pairs: list[PreferencePair] = []
    for prompt, found in zip(prompts, candidates, strict=True):
        rule, score = _rule(prompt, reward)
        pair = choose_pair(prompt.prompt_id, prompt.messages, found, rule, meta=meta, score=score, counts=counts)
        if pair is not None:
            pairs.append(pair)
    if settings.further:
        pairs = add_posterior_traces(sampler, pairs, settings.further, counts=counts)
    if settings.prior:
        pairs = add_prior_traces(sampler, pairs, settings.prior, counts=counts)
    rows, tags = [], 0
    for pair in pairs:
        row = pair_to_row(pair)
        try:
            pair_from_row(row)
        except RowError:
            tags += 1
            continue
        rows.append(row)
    return {"rows": rows, "counts": asdict(counts), "tags": tags}


def _rule(prompt: Prompt, reward: Reward) -> tuple[Rule, Callable[[str, str], float]]:
    """The pairing rule of one prompt and its scores; every distinct answer is scored once, empty ones never."""
    known: dict[str, float] = {}

    def score(_: str, answer: str) -> float:
        if answer not in known:
            known[answer] = reward(prompt, answer)
        return known[answer]

    def rule(text: str, answers: Sequence[str]) -> tuple[int, int] | None:
        usable = [i for i, answer in enumerate(answers) if answer]
        pick = best_and_worst([score(text, answers[i]) for i in usable])
        return None if pick is None else (usable[pick[0]], usable[pick[1]])

    return rule, score
