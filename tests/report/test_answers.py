"""Sentences of the report: each number in its place, wording by intervals, and what is missing said to be missing."""

import copy
from pathlib import Path

import pytest
from report_samples import alpha, answered, bare, degenerate, estimate, exact, sample

from bvpo_analysis.report.answers_in_use import ANSWERS, found_changes
from bvpo_analysis.report.page import page_of
from bvpo_analysis.report.questions import QUESTIONS
from bvpo_analysis.report.trained import StudyTables, accuracy_changes, training_seeds


def answer(results, number):
    return answered(results)["questions"][number - 1]


def changed(**measures):
    results = copy.deepcopy(sample())
    results["measures"] |= measures
    return results


def test_there_are_sixteen_questions_in_order():
    assert [question.number for question in QUESTIONS] == list(range(1, 17))
    assert sorted(ANSWERS) == list(range(1, 17))
    named = [anchor for question in QUESTIONS for anchor in question.evidence]
    assert len(named) == len(set(named))  # no section stands in two places


def test_every_question_has_an_answer_whatever_the_run():
    for make in (sample, bare, degenerate, exact):
        for row in make()["questions"]:
            assert row["answer"].endswith("."), row
            assert (row["source"] == "none") == bool(row["needs"]), row
            assert "None" not in row["answer"]
            assert "nan" not in row["answer"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "the weight of g_t with the least error is 0.32 [0.21, 0.44]. The equal mix has 23 % [11, 35] more error"),
        (1, "g_t alone 2.14 [1.93, 2.35] and g_e alone 1.58 [1.44, 1.72] times as much as the best mix"),
        (2, "costs a step 1.2 % [0.2, 2.2] of the least error"),
        (3, "Sampling traces makes 43.2 % [38.2, 48.2] of the variance of g_t"),
        (3, "the variance of g_e is 0.611 [0.568, 0.654] times that of g_t"),
        (4, "No: at batches of 16 prompts g_e alone has less error than g_t alone (0.51 [0.30, 0.72] times)"),
        (5, "an empty trace is worth 0.56 [0.43, 0.70] extra traces"),
        (5, "has 1.77 [1.69, 1.86] times the error of g_t, the best mix 0.69 [0.64, 0.74] times"),
        (6, "squared bias is 0.88 [0.77, 0.99] times |μ|², and its mean has a cosine of 0.32 [0.24, 0.40]"),
        (6, "a chosen answer loses 4.11 [3.84, 4.38] nats"),
        (7, "so that κ is 0.0322 at a learning rate of 0.01: the best weight there is 0.812 [0.765, 0.859]"),
        (7, "has 14.1 [12.8, 15.4] times the least error"),
        (8, "over 64 prompts"),
        (9, "passes 2 times the sequences"),
        (9, "1.461 [1.454, 1.468] times the tokens and 1.453 [1.446, 1.460] times the operations"),
        (10, "give 1.71 [1.29, 2.13] times the error of the best mix, so that the mix is the better use"),
        (10, "0.917 [0.877, 0.957] times, so that the mix is not the best use"),
        (
            11,
            "0.291 [0.270, 0.312] times that of g_t, is that of: a pool of traces. The best mix of g_t and g_e has",
        ),
        (12, "0.61 [0.56, 0.66] per prompt, on 64 enumerated prompts"),
        (12, "by 0.242 [0.225, 0.259] times |μ|² in the square, and the best weight is 0.77 [0.72"),
        (13, "enumerated prompts of the model in the box, on these pairs"),
        (14, "Of 2 measured statements 1 hold as worded and 1 only under a condition"),
        (15, "it: by 0.782 times |μ|"),
        (16, "with thinking, 10.4 %"),
    ],
)
def test_numbers_stand_in_their_sentences(number, says):
    """Catches a number of another question, a fraction that is not a percentage, a ratio turned round."""
    assert says in answer(sample(), number)["answer"]


def test_wording_follows_intervals_not_values():
    """Catches a verdict by point value: the same value with a wider interval is not the same finding."""
    better, unclear = sample(), sample()
    unclear["headline"]["twice_the_prompts"] = estimate(1.713, 0.9)
    assert "so that the mix is the better use" in answer(better, 10)["answer"]
    assert (
        "1.7 [0.8, 2.6] times the error of the best mix, which does not tell the two apart"
        in (answer(unclear, 10)["answer"])
    )
    alone = changed(empty_over_best=estimate(1.01, 0.2))
    assert "which these data do not tell from one" in answer(alone, 4)["answer"]
    wide = changed(cosine_e=estimate(0.4, 2.0))
    assert "the cosine of its mean to μ is not determined" in answer(wide, 6)["answer"]


def test_an_unbounded_weight_is_not_recommended():
    results = sample()
    results["headline"]["alpha"] = alpha("n", -0.44, 0.474, 3.046, "complement")
    assert "These data do not determine it: the estimate is −0.44" in answer(results, 1)["answer"]


def test_what_is_missing_says_what_fills_it():
    rows = {row["number"]: row for row in bare()["questions"]}
    missing = {number for number, row in rows.items() if row["source"] == "none"}
    assert missing == {5, 7, 9, 11} | (set() if accuracy_changes(StudyTables("correct")) else {16})
    assert "chosen_traces" in rows[5]["needs"]
    assert "--compare" in rows[11]["needs"]


def test_changes_of_accuracy_are_told_with_their_intervals():
    """Catches a share that is not a percentage, and an arm or a mode left out."""
    change = estimate(-0.0213, 0.0101)
    rows = [{"regime": "style", "arm": arm, "mode": "empty", "runs": 5, "change": change} for arm in ("alpha=1", "new")]
    text = found_changes(rows)
    assert "−2.1 % [−3.1, −1.1] (style, g_t alone, without thinking, 5 runs); " in text
    assert "(style, new, without thinking" in text
    assert found_changes([]) == ""


def test_answers_of_the_model_in_the_box_say_so_on_other_data():
    """Catches committed numbers passed off as those of another model."""
    results = sample()
    results["data"]["regime"] = None
    results["training_runs"] = []
    assert "of the model in the box, over its regimes" in answer(results, 13)["answer"]
    assert answer(results, 13)["source"] == "committed"
    assert "on the model in the box" in answer(results, 2)["answer"]
    assert "on the model in the box" in answer(results, 16)["answer"]


def test_seeds_of_training_are_named_where_policies_were_trained():
    """Catches seeds of a study passed over, or invented where there was none."""
    assert "from the model in the box have 5 seeds per weight" in answer(sample(), 8)["answer"]
    assert training_seeds(StudyTables("correct")) == [5] * 5
    assert training_seeds(StudyTables("correct", Path("nowhere"))) == []


def test_a_given_run_answers_for_the_weight_along_training():
    """Catches a run that was given and is not told of, and one without probes that is."""
    found = answer(sample(), 13)
    assert found["source"] == "given"
    assert "In my-run the best weight of a batch is 0.41 [0.31, 0.51] at step 0 and" in found["answer"].replace(
        "0.414", "0.41"
    )
    bare_runs = sample()
    for run in bare_runs["training_runs"]:
        run["log"] = [{k: v for k, v in line.items() if not k.startswith("probe/")} for line in run["log"]]
    assert answer(bare_runs, 13)["source"] == "committed"


def test_a_page_holds_every_section_once():
    """Catches a section that no place shows, and one that two places show."""
    page = page_of(sample())
    shown = [s["anchor"] for part in page.parts for s in part.sections] + [s["anchor"] for s in page.appendix]
    assert len(shown) == len(set(shown))
    assert {"curve", "batch", "targets", "claims", "method", "limits", "options", "versions", "train-runs"} <= set(
        shown
    )
    assert [part.number for part in page.parts] == list(range(1, 17))
    assert page.parts[-1].missing == (not accuracy_changes(StudyTables("correct")))
