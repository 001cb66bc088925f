"""The questions that a report answers, in order, each under its number, and where in the report the evidence is.

They are what readers of a paper on trace-based preference gradients ask. A question whose evidence a run does not have
stays in its place, and says what fills it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: its place, from 1 on.
        short: the question in the table of contents.
        text: the question as it is asked.
        evidence: anchors of the sections that answer it, in the order in which they are shown; those that a run does
            not have are left out.
        needs: what to do where the answer is missing.
    """

    number: int
    short: str
    text: str
    evidence: tuple[str, ...]
    needs: str

    @property
    def anchor(self) -> str:
        """Its name in links.

        Example:
            >>> QUESTIONS[0].anchor
            'q1'
        """
        return f"q{self.number}"


_SPLIT = "give every row chosen_traces and rejected_traces, and use --traces with two or more"
_COMPARE = "use --compare with four pairs or more, and sampled traces at the reference"

_QUESTIONS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "Which weight",
        "Which weight α, and how much does it matter?",
        ("curve", "prices", "batch", "targets"),
        "add prompts until the confidence set of the weight is an interval",
    ),
    (
        "How sure",
        "The best weight depends on the marginal gradient, which nobody has. How is it estimated, and how far off?",
        ("noise", "recovery", "coverage", "prompts", "enumeration", "weights"),
        "use sampled traces on four pairs or more",
    ),
    (
        "Where the variance is",
        "Where does the variance of the gradients come from?",
        ("variance", "layers", "group-weights", "variance-along"),
        _SPLIT,
    ),
    (
        "Empty trace alone",
        "Is it the empty trace alone (weight zero) that helps?",
        ("empty-alone", "runs"),
        "use a data set on which the error of g_t is clearly positive",
    ),
    (
        "More traces instead",
        "Why not simply average several traces?",
        ("estimators", "equal-traces"),
        _SPLIT,
    ),
    (
        "Bias of the empty trace",
        "Is the empty-trace gradient anywhere near the marginal gradient?",
        ("closeness", "answers", "moments"),
        "use more prompts, or a larger gradient",
    ),
    (
        "Step size and optimiser",
        "The theory ties the weight to step size times smoothness being one. What are they, and what of Adam?",
        ("steps", "adam", "directions"),
        "measure L on your own runs and give --kappa; for the model in the box that is python -m bvpo_analysis.sgd",
    ),
    (
        "Seeds and intervals",
        "How many seeds, and what are the error bars?",
        ("intervals",),
        "use sampled traces on four pairs or more",
    ),
    (
        "Overhead",
        "What does mixing cost?",
        ("step-cost", "training_overhead", "cost", "run-cost"),
        _COMPARE,
    ),
    (
        "Equal data, equal tokens",
        "Mixing sees two data sets, with traces and without. Is the comparison fair?",
        ("fairness", "equal-budget", "plan"),
        "use sampled traces on four pairs or more",
    ),
    (
        "Alternatives",
        "What of control variates, importance weights, matched traces, shorter traces, shrinkage?",
        ("alternatives",),
        _COMPARE,
    ),
    (
        "Other losses",
        "Does it hold for other losses than DPO?",
        ("losses",),
        "run a report with --loss ipo; SimPO takes --traces exact, on the model in the box",
    ),
    (
        "Along training",
        "Does the best weight move during training?",
        ("train-runs", "off-reference", "schedule", "training_gradients"),
        "use --ref-model with --traces exact on a checkpoint of the model in the box",
    ),
    (
        "Statements",
        "Which statements of the theory are weaker than they sound?",
        ("claims", "sound"),
        "run python -m bvpo_analysis.claims",
    ),
    (
        "Labels",
        "Labels score the answer only, while the loss uses trace and answer. Does that matter?",
        ("ranking", "labels"),
        "run python -m bvpo_analysis.claims",
    ),
    (
        "Reasoning kept",
        "Does the alignment harm reasoning?",
        ("accuracy", "training_methods", "training"),
        "run make train-study, which trains with every method and compares accuracies before and after",
    ),
)

QUESTIONS: tuple[Question, ...] = tuple(Question(i, *parts) for i, parts in enumerate(_QUESTIONS, start=1))
"""All questions in order."""
