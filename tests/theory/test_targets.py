"""Three targets of a batch of prompts on single inputs: worked values, a population where they disagree, refusals."""

import numpy as np
import pytest

from bvpo_analysis.theory.targets import PromptLaw, pooled_weight, split_empty_bias

FIELDS = {
    "probabilities": np.array([0.25, 0.75]),
    "bias_t": np.array([[0.0], [0.0]]),
    "bias_e": np.array([[2.0], [0.0]]),
    "targets": np.array([[-3.0], [1.0]]),
    "trace_var": np.array([4.0, 0.0]),
}
LAW = PromptLaw(**FIELDS)


def test_worked_values_per_prompt():
    """Catches prompts weighted equally and K on the wrong term: A = 1/K, C = 1, B = 0."""
    for traces in (1, 4):
        errors = LAW.per_prompt(traces)
        assert (float(errors.error_t), float(errors.error_e), float(errors.cross)) == (1 / traces, 1.0, 0.0)
        assert float(errors.distance) == 1 + 1 / traces
        assert float(errors.weight) == pytest.approx(traces / (traces + 1))


def test_worked_values_of_a_batch():
    """Catches a bias that shrinks with B: the mean bias 1/2 stays, its variance 3/4 over prompts is divided by B."""
    errors = LAW.batch(3)
    assert float(errors.error_e) == pytest.approx(0.25 + 0.75 / 3)
    assert float(errors.error_t) == pytest.approx(1 / 3)
    assert float(errors.distance) == pytest.approx(0.25 + 1.75 / 3)


def test_worked_values_of_the_population():
    """Catches a target without noise of its own: mu varies by 3 and falls where b_e rises, Cov = -3/2."""
    errors = LAW.population(3)
    assert float(errors.error_t) == pytest.approx((1 + 3) / 3)
    assert float(errors.error_e) == pytest.approx(0.25 + (0.75 + 3 - 3) / 3)
    assert float(LAW.population_minus_batch(0.0, 3)) == pytest.approx((3 - 3) / 3)
    assert float(LAW.population_minus_batch(1.0, 3)) == pytest.approx(1.0)
    assert float(errors.distance) == pytest.approx(float(LAW.batch(3).distance))
    gap = float(errors.weight - LAW.batch(3).weight)
    assert gap == pytest.approx(-1.5 / 3 / (0.25 + 1.75 / 3))
    assert float(LAW.weight_population_minus_batch(3)) == pytest.approx(gap)


def test_a_large_batch_forgets_everything_but_the_mean_bias():
    """Catches M1 reported for M2: per prompt 1/2 is optimal, in large batches an unbiased g_t is all one needs."""
    assert float(LAW.per_prompt().weight) == 0.5
    assert float(LAW.batch(1e9).weight) == pytest.approx(1.0, abs=1e-6)
    assert float(LAW.population(1e9).weight) == pytest.approx(1.0, abs=1e-6)


def test_batch_sizes_and_traces_broadcast():
    """Catches C and B in another shape than A."""
    errors = LAW.batch(np.array([1.0, 2.0, 4.0]), np.array([[1.0], [2.0]]))
    assert {np.shape(getattr(errors, x)) for x in ("error_t", "error_e", "cross", "distance", "numerator")} == {(2, 3)}
    assert float(errors.weight[1, 2]) == pytest.approx(float(LAW.batch(4, 2).weight))


def test_identical_gradients_on_every_prompt():
    """Catches 0/0: any weight is optimal, and there is no difference of weights to speak of."""
    same = PromptLaw(**{**FIELDS, "bias_t": FIELDS["bias_e"], "trace_var": np.zeros(2)})
    assert float(same.per_prompt().weight) == 0.5
    assert float(same.population(4).weight) == 0.5
    with pytest.raises(ValueError, match=r"^distance must be positive"):
        same.weight_population_minus_batch(4)


def test_pooled_weight():
    """Catches a mean of ratios: (1.5 + 0)/(1 + 4) and not the mean of 1.5 and 0."""
    assert float(pooled_weight([0.5, 0.5], [1.5, 0.0], [1.0, 4.0])) == pytest.approx(0.7)
    assert float(pooled_weight([1.0, 0.0], [1.5, 0.0], [1.0, 4.0])) == pytest.approx(-0.5)
    assert float(pooled_weight([0.5, 0.5], [0.0, 0.0], [0.0, 0.0])) == 0.5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("probabilities", [0.5, 0.6], "probabilities must sum to one"),
        ("probabilities", [-0.5, 1.5], "probabilities must not be negative"),
        ("probabilities", [1.0], r"trace_var must be \[n\] like probabilities"),
        ("trace_var", [-1.0, 1.0], "trace_var must not be negative"),
        ("trace_var", [np.nan, 1.0], "trace_var must be finite"),
        ("bias_t", [[np.inf], [0.0]], "bias_t must be finite"),
        ("bias_e", [[0.0, 1.0], [0.0, 1.0]], r"bias_e must be \[n, d\]"),
        ("targets", [[0.0]], r"must be \[n, d\]"),
        ("targets", np.empty((2, 0)), "targets must not be empty"),
    ],
)
def test_a_population_that_makes_no_sense_is_refused(field, value, message):
    """Catches shapes that broadcast by accident, and probabilities of something else."""
    with pytest.raises(ValueError, match=message):
        PromptLaw(**{**FIELDS, field: np.array(value)})


def test_other_arguments_that_make_no_sense_are_refused():
    """Catches half a trace, an empty batch, weights of no prompt, and scalars for vectors."""
    for call in (LAW.per_prompt, lambda k: LAW.batch(4, k), LAW.prompt_distances, LAW.prompt_numerators):
        with pytest.raises(ValueError, match=r"^traces must be at least 1"):
            call(0.5)
    for call in (LAW.batch, LAW.population, LAW.weight_population_minus_batch):
        with pytest.raises(ValueError, match=r"^batch_size must be at least 1"):
            call(0)
    with pytest.raises(ValueError, match="must not all be zero"):
        pooled_weight([0.0, 0.0], [1.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"must all be \[n\]"):
        pooled_weight([0.5, 0.5], [1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"must be vectors"):
        split_empty_bias(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"^mean_e_shared must be finite"):
        split_empty_bias([1.0], [np.nan], [3.0])


def test_on_shared_pairs_the_bias_has_no_data_part():
    """Catches the two parts swapped."""
    split = split_empty_bias([3.0, 4.0], [3.0, 4.0], [0.0, 0.0])
    assert (float(split.data_sq), float(split.trace_sq), float(split.interaction)) == (0.0, 25.0, 0.0)
    opposite = split_empty_bias([0.0], [2.0], [0.0])
    assert (float(opposite.data_sq), float(opposite.trace_sq), float(opposite.interaction)) == (4.0, 4.0, -8.0)


def test_a_population_of_lists_is_one_of_arrays():
    """Catches fields that are checked as arrays and used as they came."""
    law = PromptLaw([0.5, 0.5], [[0.0], [0.0]], [[1.0], [-1.0]], [[0.0], [2.0]], [1, 1])
    assert float(law.population(4).weight) == 0.0
