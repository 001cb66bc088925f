"""Token sequences: spans, what is scored, and reading generated tokens back."""

import json

import pytest
from families import FAMILIES, INLINE, family_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.detection import detect_format
from bvpo_analysis.lrm.sequences import SequenceAssembler, TokenSequence
from bvpo_analysis.lrm.shipped.task import ENDINGS, enumerate_traces
from bvpo_analysis.preferences import shipped_pairs

PROMPT = ({"role": "user", "content": "a3b7c2d9"},)
TRACE, ANSWER = "c2=2 a3=5 d9=4 b7=1", "1b sure."


@pytest.fixture(scope="module")
def assembler(lrm):
    return lrm.assembler


def text(lrm, ids):
    return lrm.tokenizer.decode(list(ids), skip_special_tokens=False)


def test_spans_of_a_turn_with_trace(lrm, assembler):
    sequence = assembler.with_trace(PROMPT, TRACE, ANSWER)
    ids = sequence.ids
    assert text(lrm, ids[: sequence.score_start]) == "<|user|>a3b7c2d9<|assistant|>"
    assert text(lrm, ids[sequence.score_start : sequence.answer_start]) == f"<think>{TRACE}</think>"
    assert text(lrm, ids[sequence.answer_start :]) == f"{ANSWER}<|end|>"
    assert sequence.tokens == 1 + len(TRACE) + 1 + 4 + 1  # tags; "1b sure." is four tokens; the end is scored
    assert sequence.tokens_answer == 5
    assert ids[-1] == lrm.tokenizer.eos_token_id
    assert ids.count(lrm.tokenizer.eos_token_id) == 1


@pytest.mark.parametrize(("mode", "scored"), [("prefilled", "1b.<|end|>"), ("generated", "<think></think>1b.<|end|>")])
def test_the_empty_block_is_scored_only_when_generated(lrm, assembler, mode, scored):
    sequence = assembler.with_empty_trace(PROMPT, "1b.", mode)
    assert text(lrm, sequence.ids) == "<|user|>a3b7c2d9<|assistant|><think></think>1b.<|end|>"
    assert text(lrm, sequence.ids[sequence.score_start :]) == scored
    assert text(lrm, sequence.ids[sequence.answer_start :]) == "1b.<|end|>"
    assert (sequence.tokens, sequence.tokens_answer) == ({"prefilled": 4, "generated": 6}[mode], 4)


def test_prefilled_is_the_default(assembler):
    assert assembler.with_empty_trace(PROMPT, "1b.") == assembler.with_empty_trace(PROMPT, "1b.", "prefilled")


def test_the_pieces_of_a_sequence_do_not_depend_on_each_other(assembler):
    """The same trace has the same tokens with every answer, and the same answer with every trace."""
    traces = enumerate_traces("a3b7c2d9")[:4]
    table = {(t, e): assembler.with_trace(PROMPT, t, f"1b{e}") for t in traces for e in ENDINGS}
    for t in traces:
        assert len({s.ids[: s.answer_start] for (u, _), s in table.items() if u == t}) == 1
    for e in ENDINGS:
        assert len({s.ids[s.answer_start :] for (_, f), s in table.items() if f == e}) == 1


def test_the_assembled_ids_are_those_of_the_chat_template(lrm, assembler):
    for pair in shipped_pairs("style", limit=8):
        for side in (0, 1):
            turn = {"role": "assistant", "content": pair.answer(side), "reasoning_content": pair.traces(side)[0]}
            expected = lrm.tokenizer.apply_chat_template([*pair.prompt, turn])["input_ids"]
            assert list(assembler.with_trace(pair.prompt, pair.traces(side)[0], pair.answer(side)).ids) == expected
        given = lrm.tokenizer.apply_chat_template(list(pair.prompt), add_generation_prompt=True, enable_thinking=False)[
            "input_ids"
        ]
        assert list(assembler.prompt(pair.prompt, empty=True)) == given
        assert assembler.with_empty_trace(pair.prompt, "1b.").ids[: len(given)] == tuple(given)


@pytest.mark.parametrize(("start", "answer", "length"), [(0, 2, 4), (3, 2, 4), (4, 4, 4), (2, 5, 4), (1, 1, 1)])
def test_spans_out_of_order_are_refused(start, answer, length):
    with pytest.raises(ValueError, match="spans out of order"):
        TokenSequence(tuple(range(length)), start, answer)


def test_sequences_are_hashable_values(assembler):
    assert len({assembler.with_trace(PROMPT, TRACE, ANSWER) for _ in range(3)}) == 1
    modes = {assembler.with_empty_trace(PROMPT, "1b.", mode) for mode in ("prefilled", "generated")}
    assert len(modes) == 2  # equal ids, but other tokens are scored


# --- reading generated tokens ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generated", "read"),
    [
        (f"<think>{TRACE}</think>1b.<|end|>", (TRACE, "1b.")),
        ("<think></think>1b.<|end|>", ("", "1b.")),
        (f"<think>{TRACE}</think><|end|>", (TRACE, "")),
        (f"<think>{TRACE}</think>1b.", (TRACE, None)),  # never ends
        (f"<think>{TRACE}</think>", (TRACE, None)),
        (f"<think>{TRACE}", (None, None)),  # never closes
        (f"<think>{TRACE}<|end|>", (None, None)),  # ends before it closes
        ("1b.<|end|>", (None, None)),  # never opens
        ("1</think>1b.<|end|>", (None, None)),
        ("<think>a</think>b</think>1<|end|>", ("a", "b</think>1")),  # the first close counts
        ("<|end|>", (None, None)),
        ("", (None, None)),
    ],
)
def test_split(assembler, generated, read):
    assert assembler.split(assembler.encode(generated)) == read


def test_split_inverts_assembly(assembler):
    for trace in enumerate_traces("a3b7c2d9"):
        sequence = assembler.with_trace(PROMPT, trace, ANSWER)
        assert assembler.split(sequence.ids[sequence.score_start :]) == (trace, ANSWER)


# --- the round trip ----------------------------------------------------------------------------------------


def test_the_round_trip_holds_for_the_model_in_the_box(assembler):
    assembler.check_round_trip(PROMPT, TRACE, ANSWER)
    assembler.check_round_trip(PROMPT, "", "1")


class Altered:
    """The tokenizer in the box with another chat template or decoder."""

    def __init__(self, tokenizer, *, template=None, decode=None):
        self._tokenizer, self._decode = tokenizer, decode
        self.chat_template = template or tokenizer.chat_template

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **kwargs):
        return self._tokenizer(*args, **kwargs)

    def apply_chat_template(self, *args, **kwargs):
        return self._tokenizer.apply_chat_template(*args, chat_template=self.chat_template, **kwargs)

    def decode(self, *args, **kwargs):
        return (self._decode or (lambda text: text))(self._tokenizer.decode(*args, **kwargs))


@pytest.mark.parametrize(
    ("change", "trace", "answer"),
    [
        (("message.content + '<|end|>'", "message.content.replace('b', '') + '<|end|>'"), TRACE, "1b."),
        (("(message.reasoning_content or '')", "(message.reasoning_content or '').upper()"), TRACE, "1b."),
        (("+ '<|end|>'", "+ '!<|end|>'"), TRACE, "1b."),
    ],
    ids=["shortens the answer", "rewrites the trace", "adds before the end"],
)
def test_a_template_that_changes_trace_or_answer_is_found_out(lrm, change, trace, answer):
    template = lrm.tokenizer.chat_template
    assert change[0] in template
    altered = SequenceAssembler(Altered(lrm.tokenizer, template=template.replace(*change)), lrm.assembler.format)
    with pytest.raises(InputError, match="the chat template changes trace or answer: expected text starting with"):
        altered.check_round_trip(PROMPT, trace, answer)


def test_a_tokenizer_that_does_not_preserve_text_is_found_out(lrm):
    altered = SequenceAssembler(Altered(lrm.tokenizer, decode=lambda text: text.replace("=2 ", "=2")))
    with pytest.raises(InputError, match=r"does not preserve the trace 'c2=2 a3=5 d9=4 b7=1': it reads 'c2=2a3"):
        altered.check_round_trip(PROMPT, TRACE, ANSWER)
    altered = SequenceAssembler(Altered(lrm.tokenizer, decode=lambda text: text.replace(" sure", "sure")))
    with pytest.raises(InputError, match=r"does not preserve the answer '1b sure.': it reads '1bsure.'"):
        altered.check_round_trip(PROMPT, TRACE, ANSWER)


# --- other families ----------------------------------------------------------------------------------------


def assembler_of(name, **limits):
    options = dict(FAMILIES[name].options)
    tokenizer = family_tokenizer(name)
    return SequenceAssembler(tokenizer, detect_format(tokenizer, **options), **limits)


USER = ({"role": "user", "content": "What is 3 times 8?"},)


def test_a_trace_is_tokenised_with_its_tags():
    """A merge of the last full stop with the line break before the closing tag is what a model writes."""
    tokenizer = family_tokenizer("qwen3")
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core["pre_tokenizer"]["use_regex"] = False  # the family's real rule keeps full stops and line breaks together
    core["model"]["vocab"][".Ċ"] = 419
    core["model"]["merges"].append([".", "Ċ"])
    merged = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(core)),
        chat_template=tokenizer.chat_template,
        **FAMILIES["qwen3"].names,
    )
    assembler = SequenceAssembler(merged)
    sequence = assembler.with_trace(USER, "It is 24.", "24")
    assert 419 in sequence.ids
    assert assembler.read(sequence.ids[sequence.score_start :]).canonical
    assert assembler.check_round_trip(USER, "It is 24.", "24") == "same"
    apart = (
        assembler.encode("<think>\n") + assembler.encode("It is 24.") + assembler.encode("\n</think>\n\n")
    ) + sequence.ids[sequence.answer_start :]
    assert not assembler.read(apart).canonical  # the same text in tokens that the tokenizer would not choose


@pytest.mark.parametrize(
    ("family", "generated", "trace", "answer"),
    [
        ("qwen3", "<think>\nso 24\n</think>\n\n24<|im_end|>", "so 24", "24"),
        ("qwen3", "<think>so 24</think>24<|im_end|>", "so 24", "24"),
        ("qwen3", "<think>\n\nso 24.</think>\n24<|endoftext|>", "\nso 24.", "\n24"),
        ("qwen3_opens", "so 24\n</think>\n\n24<|im_end|>", "so 24", "24"),
        ("qwen3_opens", "so 24</think> 24<|im_end|>", "so 24", " 24"),
        ("glm", "\n<think>so 24</think>\n24<|user|>", "so 24", "24"),
        ("glm", "<think>so 24</think>24<|observation|>", "so 24", "24"),
        ("smollm3", "<think>\nso 24\n</think>\n24<|im_end|>", "so 24", "24"),
    ],
)
def test_white_space_around_tags_is_kept_where_it_is_not_the_format_s(family, generated, trace, answer):
    stops = {"qwen3": ["<|endoftext|>"], "qwen3_opens": ["<|endoftext|>"], "glm": ["<|endoftext|>", "<|observation|>"]}
    tokenizer = family_tokenizer(family)
    assembler = assembler_of(family, stop_ids=tokenizer.convert_tokens_to_ids(stops.get(family, [])))
    turn = assembler.read(assembler.encode(generated))
    assert (turn.trace, turn.answer, turn.complete) == (trace, answer, True)
    form = assembler.format
    assert turn.canonical == (generated == form.open + trace + form.close + answer + form.end)


def test_turns_that_never_close_or_end_are_not_complete():
    assembler = assembler_of("qwen3_opens")
    for text, trace in (("so 24", None), ("so 24<|im_end|>", None), ("so\n</think>\n\n24", "so")):
        turn = assembler.read(assembler.encode(text))
        assert (turn.trace, turn.answer, turn.complete, turn.canonical) == (trace, None, False, False)
    assert assembler.read_answer(assembler.encode("24")).answer is None
    assert assembler.read_answer(()).answer is None


@pytest.mark.parametrize(
    ("family", "trace", "answer", "found"),
    [
        ("qwen3", "so 24", "24", "same"),
        ("qwen3", "\nso 24\n", "24", "trimmed"),
        ("qwen3", "so 24", "\n24", "trimmed"),
        ("qwen3_opens", "\nso 24", "24", "trimmed"),
        ("llama", "so 24", "24 ", "trimmed"),
        ("glm", " so 24 ", "24", "trimmed"),
        ("channels", "so 24", "24", "same"),
        ("channels", "", "24", "cut"),  # the template writes no channel for an empty trace
        ("qwq", "so 24", "24", "cut"),
        ("deepseek_v31", "\nso 24", "24", "cut"),
    ],
)
def test_what_the_template_does_with_a_turn(family, trace, answer, found):
    """Whatever it is, the tokens scored are those of the generation prompt and of what the model wrote."""
    assembler = assembler_of(family)
    assert assembler.check_round_trip(USER, trace, answer) == found
    sequence = assembler.with_trace(USER, trace, answer)
    form = assembler.format
    assert assembler.decode(sequence.ids[sequence.score_start :]) == form.open + trace + form.close + answer + form.end


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("qwq", ("message.role + '\\n' + message.content", "message.role + '\\n' + message.content[:-1]")),
        ("qwq", ("lstrip('\\n') + '<|im_end|>", "lstrip('\\n') + '!<|im_end|>")),
        ("r1_distill_qwen", ("'<｜Assistant｜>' + message", "'<｜Bot｜>' + message")),
        ("glm", ("+ (thought | trim) +", "+ (thought | upper) +")),
    ],
    ids=["another prompt", "another end", "another header", "another trace"],
)
def test_a_template_that_writes_another_turn_is_refused(family, change):
    """Formats found before are held against a template that has changed since."""
    tokenizer = family_tokenizer(family)
    form = detect_format(tokenizer)
    assert change[0] in tokenizer.chat_template
    if change[1].endswith("[:-1]"):  # in completed turns alone
        change = (change[0], "message.role + '\\n' + (message.content if add_generation_prompt else 'another')")
    tokenizer.chat_template = tokenizer.chat_template.replace(*change)
    with pytest.raises(InputError, match="the chat template changes trace or answer"):
        SequenceAssembler(tokenizer, form).check_round_trip(USER, "so 24", "24")


def test_a_tokenizer_that_adds_spaces_between_pieces_is_found_out():
    """As SentencePiece does with a dummy prefix: every piece by itself survives, the whole does not."""
    tokenizer = family_tokenizer("llama")
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    core["decoder"] = {"type": "Sequence", "decoders": [core["decoder"], strip]}
    core["pre_tokenizer"]["add_prefix_space"] = True
    spaced = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(core)),
        chat_template=tokenizer.chat_template,
        **FAMILIES["llama"].names,
    )
    with pytest.raises(InputError, match=r"the tokenizer (changes the text where its pieces meet|does not preserve)"):
        SequenceAssembler(spaced, detect_format(spaced, **INLINE)).check_round_trip(USER, "so 24", "24")


def test_limits_of_the_model_are_kept():
    assembler = assembler_of("qwen3", context=40)
    assert assembler.with_trace(USER, "so", "24").ids
    for make in (assembler.with_trace, assembler.trace_only):
        with pytest.raises(InputError, match=r"tokens, more than the model's context of 40; drop the row, or shorten"):
            make(USER, "so " * 40, *(["24"] if make == assembler.with_trace else []))
    with pytest.raises(InputError, match="more than the model's context"):
        assembler.with_empty_trace(USER, "24 " * 40)
    small = assembler_of("qwen3", vocabulary=300)
    with pytest.raises(InputError, match=r"has number 40., but the model has embeddings of 300 tokens; use"):
        small.with_trace(USER, "so", "24")


def test_the_padding_token_falls_back_on_one_that_exists():
    tokenizer = family_tokenizer("llama")
    assert tokenizer.pad_token is None
    assembler = SequenceAssembler(tokenizer, detect_format(tokenizer, **INLINE))
    assert assembler.pad_id == assembler.end_id == assembler.stop_ids[0]
    tokenizer.unk_token = "<|begin_of_text|>"
    assert SequenceAssembler(tokenizer, assembler.format).pad_id == tokenizer.unk_token_id
