"""Checks a model, and the data it is to be studied on, before a study: ``python -m bvpo_analysis.doctor``.

Every number of a study rests on properties that a checkpoint, a chat template or an attention implementation can break
without a word: later tokens that reach earlier ones, padding that reaches sequences, dropout, a template that deletes
the trace. Each is tested on the model itself, on rows of the data, and the line says what to do where it does not hold.
"""

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch

from bvpo_analysis.errors import InputError, OneLineParser, StudyError, exit_with, one_line
from bvpo_analysis.lrm.guards import probe
from bvpo_analysis.lrm.loading import ReasoningModel, load_model
from bvpo_analysis.lrm.options import ModelOptions
from bvpo_analysis.lrm.sequences import SequenceAssembler, TokenSequence
from bvpo_analysis.preferences.rows import read_pairs
from bvpo_analysis.preferences.shipped import REGIMES, shipped_pairs
from bvpo_analysis.records import Completion, PreferencePair
from bvpo_analysis.scores import ENGINES, LoopEngine, plan_pair, score_engine, sequence_log_probs
from bvpo_analysis.scores.memory import available_bytes
from bvpo_analysis.scores.pair_work import BUFFER_BYTES

Status = Literal["pass", "warn", "fail"]

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}
"""Largest difference between ways to compute one log-probability (absolute) or score (relative to its length)."""
ROUNDING_LOW_PRECISION = 0.3
MOST_PAIRS = 500
"""Pairs whose template and length are checked."""
PLAIN = PreferencePair(
    prompt_id="plain",
    prompt=({"role": "user", "content": "How many legs do three spiders have?"},),
    chosen=Completion("24", "A spider has eight legs. Three times eight is 24."),
    rejected=Completion("18", "A spider has six legs, so three of them have 18."),
    empty_chosen="24",
    empty_rejected="18",
    empty_answers="copied",
)
"""A pair in plain text, for a model without data."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was checked.
        status: "pass"; "warn", which a study can live with; or "fail", with which its numbers would be wrong.
        text: what was found.
        remedy: what to do about it; empty where there is nothing to do.

    Example:
        >>> print(Check("dropout", "pass", "no module draws random numbers"))
        pass  dropout               no module draws random numbers
    """

    name: str
    status: Status
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.status}  {self.name:<20}  {self.text}"
        return f"{line}\n{'':28}-> {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Patient:
    """What is checked.

    Attributes:
        lrm: the model.
        pairs: pairs of the study.
        parameters: regular expression of the parameters to differentiate.
        sequences: a few short sequences of the pairs, of unequal length where there are such.
    """

    lrm: ReasoningModel
    pairs: tuple[PreferencePair, ...]
    parameters: str | None
    sequences: tuple[TokenSequence, ...]

    @property
    def tolerance(self) -> float:
        """Differences that rounding explains."""
        return ROUNDING.get(next(self.lrm.model.parameters()).dtype, ROUNDING_LOW_PRECISION)

    @property
    def unlimited(self) -> SequenceAssembler:
        """An assembler that does not mind sequences beyond the context."""
        own = self.lrm.assembler
        return SequenceAssembler(own.tokenizer, own.format, stop_ids=own.stop_ids, vocabulary=own.vocabulary)


def _log_probs(lrm: ReasoningModel, sequences: Sequence[TokenSequence], budget: int) -> torch.Tensor:
    return sum(sequence_log_probs(lrm.model, sequences, budget=budget), torch.zeros((), dtype=torch.float64))


def check_causality(patient: Patient) -> Check:
    """Other tokens at the end of a sequence leave the log-probabilities before them as they are."""
    change = 0.0
    model: Any = patient.lrm.model
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    for sequence in patient.sequences:
        cut = max(sequence.score_start + 1, (sequence.score_start + len(sequence.ids)) // 2)
        if cut >= len(sequence.ids):
            continue
        other = tuple((token + 1) % vocabulary for token in sequence.ids[cut:])
        both = [
            replace(sequence, ids=sequence.ids[:cut] + tail, answer_start=cut) for tail in (sequence.ids[cut:], other)
        ]
        trace, _ = sequence_log_probs(patient.lrm.model, both, budget=1)
        change = max(change, float((trace[0] - trace[1]).abs()))
    text = f"changing later tokens moves earlier log-probabilities by {change:.1g}"
    if change <= patient.tolerance:
        return Check("causality", "pass", text)
    return Check("causality", "fail", text, "use --attention eager; if it stays, this is no causal language model")


def check_repeatability(patient: Patient) -> Check:
    """Two passes over the same tokens give the same numbers."""
    seen = probe(patient.lrm.model)
    if not seen.finite:
        return Check("repeatability", "fail", "the logits are not finite", "check the weights for NaN; use float32")
    text = f"two passes differ by {seen.repeat:.1g}"
    if seen.repeat == 0:
        return Check("repeatability", "pass", text)
    return Check("repeatability", "fail", text, "use --attention eager and --device cpu")


def check_dropout(patient: Patient) -> Check:
    """No module draws random numbers."""
    active = [n for n, m in patient.lrm.model.named_modules() if isinstance(m, torch.nn.Dropout) and m.training and m.p]
    if patient.lrm.model.training or active:
        return Check("dropout", "fail", f"active in {active[0] if active else 'training mode'}", "call model.eval()")
    idle = sum(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in patient.lrm.model.modules())
    return Check("dropout", "pass", f"evaluation mode{f'; {idle} dropout modules are off' if idle else ''}")


def check_padding(patient: Patient) -> Check:
    """A row alone, in a padded batch and in a batch of equal rows has one log-probability."""
    rows = list(patient.sequences)
    alone = _log_probs(patient.lrm, rows, 1)
    padded = _log_probs(patient.lrm, rows, sum(len(s.ids) for s in rows) * len(rows))
    doubled = _log_probs(patient.lrm, [s for s in rows for _ in range(2)], 2 * max(len(s.ids) for s in rows))[::2]
    change = float(torch.maximum((alone - padded).abs(), (alone - doubled).abs()).max())
    text = f"row alone, padded and batched differ by {change:.1g} nats"
    if change <= patient.tolerance * max(1.0, float(alone.abs().max()) / 100):
        return Check("padding", "pass", text)
    return Check("padding", "fail", text, "use --attention eager; right padding must not reach earlier tokens")


def check_engines(patient: Patient) -> Check:
    """The engines give the scores of ``torch.autograd.grad``, one sequence at a time."""
    rows = sorted(patient.sequences, key=lambda s: len(s.ids))[:: max(1, len(patient.sequences) // 2)][:2]
    oracle = LoopEngine(patient.lrm.model, patient.parameters)
    expected = oracle.buffer(len(rows))
    oracle.fill(rows, expected)
    lengths = expected.double().norm(dim=1)
    found: dict[str, str] = {}
    worst = 0.0
    for name in (n for n in ENGINES if n != "loop"):
        try:
            engine = score_engine(name, patient.lrm.model, patient.parameters)
            scores = engine.buffer(len(rows))
            engine.fill(rows, scores)
        except (RuntimeError, NotImplementedError) as error:
            found[name] = f"cannot run ({one_line(error)[:60]})"
            continue
        distance = float(((scores - expected).double().norm(dim=1) / lengths).max())
        found[name] = f"{distance:.1g}" + (" (by vmap)" if getattr(engine, "fallback", None) else "")
        worst = max(worst, distance)
    text = "relative to loop: " + ", ".join(f"{name} {said}" for name, said in found.items())
    if not worst <= patient.tolerance:
        return Check("engines", "fail", text, "use --engine loop and --attention eager")
    if any("cannot" in said for said in found.values()):
        usable = [name for name, said in found.items() if "cannot" not in said] or ["loop"]
        return Check("engines", "warn", text, f"use --engine {usable[0]}, or --attention eager for all engines")
    return Check("engines", "pass", text)


def check_precision(patient: Patient) -> Check:
    """Log-probabilities and scores against the same weights in float64."""
    model = patient.lrm.model
    needed = 3 * 8 * sum(p.numel() for p in model.parameters())
    free = available_bytes(next(model.parameters()).device)
    if free is not None and needed > free // 2:
        return Check("precision", "warn", "not checked: a copy in float64 does not fit into memory", "use float32")
    rows = sorted(patient.sequences, key=lambda s: len(s.ids))[-2:]
    exact = copy.deepcopy(model).double()
    scores = {}
    for name, network in (("own", model), ("exact", exact)):
        engine = LoopEngine(network, patient.parameters)
        held = engine.buffer(len(rows))
        parts = engine.fill(rows, held)
        scores[name] = (held.double(), parts[0] + parts[1])
    (own, log_own), (best, log_best) = scores["own"], scores["exact"]
    log_error = float((log_own - log_best).abs().max())
    error = float(((own - best).norm(dim=1) / best.norm(dim=1)).max())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    text = f"{dtype} against float64: log-probabilities {log_error:.1g} nats, scores {error:.1g} of their length"
    if error <= 1e-3 and log_error <= 1e-2:
        return Check("precision", "pass", text)
    status: Status = "warn" if error <= 0.3 else "fail"
    return Check("precision", status, text, "use --dtype float32" if dtype != "float32" else "use --dtype float64")


def check_tied_weights(patient: Patient) -> Check:
    """Weights that the configuration calls tied are one tensor, and count once."""
    model: Any = patient.lrm.model
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    shared = head is not None and head.weight.data_ptr() == embedding.weight.data_ptr()
    wanted = bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))
    counted = sum(p.numel() for p in model.parameters())
    if wanted and not shared:
        return Check(
            "tied weights",
            "fail",
            "the configuration ties input and output embeddings, but they are two tensors",
            "save the model again with save_pretrained, or set tie_word_embeddings to false",
        )
    text = "input and output embeddings are one tensor" if shared else "input and output embeddings are apart"
    return Check("tied weights", "pass", f"{text}; {counted} parameters")


def check_special_tokens(patient: Patient) -> Check:
    """Turns end with one known token, prompts begin as the tokenizer wants them, and nothing is unknown."""
    assembler, tokenizer = patient.lrm.assembler, patient.lrm.tokenizer
    ids = [token for s in patient.sequences for token in s.ids]
    bos, unknown = tokenizer.bos_token_id, tokenizer.unk_token_id
    first = patient.sequences[0].ids
    if bos is not None and first[:2] == (bos, bos):
        return Check("special tokens", "fail", "prompts begin with two bos tokens", "remove one from the chat template")
    if unknown is not None and unknown not in assembler.stop_ids and unknown != assembler.pad_id and unknown in ids:
        return Check("special tokens", "warn", "some text has unknown tokens", "is --model the model of these data?")
    stops = ", ".join(repr(assembler.decode([token])) for token in assembler.stop_ids)
    if bos is not None and getattr(tokenizer, "add_bos_token", False) and first[0] != bos:
        return Check(
            "special tokens",
            "warn",
            f"the tokenizer adds {tokenizer.bos_token!r} to texts, but the chat template does not write it",
            "add it to the template with --chat-template, unless the model was trained without",
        )
    return Check("special tokens", "pass", f"a turn ends with {stops}")


def check_think_format(patient: Patient) -> Check:
    """The texts around a trace, as found."""
    f = patient.lrm.assembler.format
    opened = f"{(f.opener or f.open)!r}{' in the prompt' if f.opener else ''}"
    return Check("think format", "pass", f"{f.name}: opens {opened}, closes {f.close!r}, empty {f.empty!r}")


def check_round_trip(patient: Patient) -> Check:
    """The assembled turn is the one the chat template writes, on rows of the data."""
    found: Counter[str] = Counter()
    first = ""
    assembler = patient.unlimited
    for pair in patient.pairs[:MOST_PAIRS]:
        for side in (0, 1):
            for trace in pair.traces(side)[:1]:
                try:
                    found[assembler.check_round_trip(pair.prompt, trace, pair.answer(side))] += 1
                except InputError as error:
                    found["refused"] += 1
                    first = first or f"prompt {pair.prompt_id!r}: {one_line(error)}"
    total = sum(found.values())
    if not total:
        return Check("template", "warn", "no row has a trace", "give data with traces")
    if found["refused"]:
        return Check("template", "fail", f"{found['refused']} of {total} turns do not survive it", first)
    said = {"same": "written alike", "trimmed": "with white space trimmed", "cut": "with the trace deleted"}
    text = ", ".join(f"{count} {said[kind]}" for kind, count in found.items())
    if found["cut"]:
        remedy = "what is scored follows the generation prompt, as when sampling; only the template's own turns differ"
        return Check("template", "warn", f"of {total} turns, {text}", remedy)
    return Check("template", "pass", f"of {total} turns, {text}")


def check_empty_traces(patient: Patient) -> Check:
    """Both empty modes give a finite log-probability of the same answer tokens."""
    pair, assembler = patient.pairs[0], patient.unlimited
    both = [assembler.with_empty_trace(pair.prompt, pair.empty_answer(0), mode) for mode in ("prefilled", "generated")]
    prefilled, generated = both
    if prefilled.ids[prefilled.answer_start :] != generated.ids[generated.answer_start :]:
        return Check("empty traces", "fail", "the two modes have different answer tokens", "set --think-empty")
    trace, answer = sequence_log_probs(patient.lrm.model, both)
    block = generated.answer_start - generated.score_start
    if block == 0:
        return Check("empty traces", "fail", "the empty block has no tokens", "set --think-empty")
    text = f"log pi(y') {answer[0]:.2f} prefilled, {answer[1]:.2f} generated after {block} tokens of {trace[1]:.2f}"
    return Check("empty traces", "pass", text)


def check_context(patient: Patient) -> Check:
    """Rows are no longer than what the model can read."""
    context = patient.lrm.context_length
    pairs = patient.pairs[:MOST_PAIRS]
    longest = [max(len(s.ids) for s in plan_pair(patient.unlimited, pair).sequences) for pair in pairs]
    if context is None:
        return Check("context length", "pass", f"longest row {max(longest)} tokens; the model states no limit")
    beyond = sum(length > context for length in longest)
    text = f"longest row {max(longest)} of {context} tokens"
    if not beyond:
        return Check("context length", "pass", text)
    share = f"{beyond} of {len(longest)} pairs ({beyond / len(longest):.0%}) are beyond it"
    return Check("context length", "fail", f"{text}; {share}", "drop these rows, or shorten prompt, trace or answer")


def check_memory(patient: Patient) -> Check:
    """The scores of a pair, the totals and the own vectors of a study fit into memory."""
    engine = score_engine("loop", patient.lrm.model, patient.parameters)
    row = engine.size * engine.buffer(0).element_size()
    rows = max(len(plan_pair(patient.unlimited, pair).sequences) for pair in patient.pairs[:MOST_PAIRS])
    needed = max(BUFFER_BYTES, rows * row) + 2 * engine.size * 8 + 3 * 2 * row
    free = available_bytes(engine.device)
    text = f"a study holds about {needed / 2**30:.2g} GiB of scores ({engine.size} parameters, {rows} rows per pair)"
    if free is None:
        return Check("memory", "pass", text)
    text += f"; {free / 2**30:.3g} GiB are free"
    if needed < 0.7 * free:
        return Check("memory", "pass", text)
    status: Status = "warn" if needed < free else "fail"
    return Check("memory", status, text, "use --params REGEX, a LoRA adapter, fewer --traces or a larger machine")


CHECKS: tuple[Callable[[Patient], Check], ...] = (
    check_think_format,
    check_round_trip,
    check_special_tokens,
    check_context,
    check_tied_weights,
    check_dropout,
    check_repeatability,
    check_causality,
    check_padding,
    check_empty_traces,
    check_engines,
    check_precision,
    check_memory,
)
"""All checks, cheap ones first."""


def examine(lrm: ReasoningModel, pairs: Sequence[PreferencePair] = (), parameters: str | None = None) -> list[Check]:
    """Run every check.

    Args:
        lrm: the model.
        pairs: pairs of the study; one pair in plain text when not given.
        parameters: regular expression of the parameters to differentiate.

    Returns:
        One finding per check; a check that an error ends has failed.

    Raises:
        InputError: no parameter matches.

    Example:
        >>> from bvpo_analysis import shipped_pairs
        >>> from bvpo_analysis.lrm.loading import load_model
        >>> {check.status for check in examine(load_model(), shipped_pairs("correct", limit=2), "norm")}
        {'pass'}
    """
    score_engine("loop", lrm.model, parameters)
    chosen = tuple(pairs) or (PLAIN,)
    patient = Patient(lrm, chosen, parameters, ())
    try:
        found = [s for pair in chosen[:4] for s in plan_pair(patient.unlimited, pair).sequences]
    except InputError as error:
        return [Check("sequences", "fail", "rows cannot be assembled", one_line(error))]
    context = lrm.context_length
    within = [s for s in found if context is None or len(s.ids) <= context]
    if not within:
        return [Check("context length", "fail", "no row fits into the context", "shorten the rows")]
    patient = replace(patient, sequences=tuple(sorted(set(within), key=lambda s: (len(s.ids), s.ids)))[:12])
    results = []
    for check in CHECKS:
        try:
            results.append(check(patient))
        except (InputError, StudyError, RuntimeError) as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            results.append(Check(name, "fail", f"ended with {type(error).__name__}", one_line(error)[:200]))
    return results


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = OneLineParser(prog="python -m bvpo_analysis.doctor", description="Checks a model and its data before a study.")
    p.add_argument("--model", help="reasoning model: directory or hub id (default: the one in the box)")
    p.add_argument("--data", help="preference pairs of the study (default: shipped pairs, or one pair in plain text)")
    p.add_argument("--regime", default="correct", help=f"shipped pairs: {', '.join(REGIMES)} (default: correct)")
    p.add_argument("--params", metavar="REGEX", help="differentiate matching parameters only (default: all)")
    for f in fields(ModelOptions):
        option = "--" + f.name.replace("_", "-")
        if f.name == "trust_remote_code":
            p.add_argument(option, action="store_true", default=None, help="run code that comes with the model")
        else:
            p.add_argument(option, help=f"as for a report (default: {f.default})")
    p.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if nothing failed, 1 if something did, 2 for wrong usage or input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parser().parse_args(arguments)
        given = {f.name: v for f in fields(ModelOptions) if (v := getattr(options, f.name)) is not None}
        if options.regime not in REGIMES:
            raise InputError(f"--regime must be one of {', '.join(REGIMES)}, got {options.regime!r}")
        if options.data is not None:
            pairs: tuple[PreferencePair, ...] = tuple(read_pairs(options.data))
        else:
            pairs = tuple(shipped_pairs(options.regime)) if options.model is None else ()
        torch.set_num_threads(1)
        checks = examine(load_model(options.model, **ModelOptions(**given).plain()), pairs, options.params)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except (InputError, StudyError) as error:
        if "--debug" in arguments:
            raise
        return exit_with(error)
    for check in checks:
        print(check)
    counts = Counter(check.status for check in checks)
    print(", ".join(f"{counts[status]} {status}" for status in ("pass", "warn", "fail")))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
