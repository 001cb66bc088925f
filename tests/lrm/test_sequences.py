"""Token sequences: spans, what is scored, and reading generated tokens back."""

import pytest

from bvpo_analysis.errors import InputError
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
