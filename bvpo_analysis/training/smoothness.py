"""The smoothness L of the training loss where a run starts, for kappa = eta L.

L is taken as the largest absolute eigenvalue of the Hessian of the mixed loss on one batch, by power iteration with
Hessian-vector products H v = (g(theta + h v) - g(theta - h v)) / 2h from the gradient that is trained. It is the
curvature at the start: a bound over a whole run it is not. Nor is eta L the kappa of AdamW, which rescales every
coordinate.
"""

from collections.abc import Mapping

import torch

from bvpo_analysis.training.config import TrainConfig
from bvpo_analysis.training.problem import TrainingProblem
from bvpo_analysis.training.steps import step_gradients
from bvpo_analysis.training.weights import START

ITERATIONS = 20
STEP = 1e-3
"""Length of the difference, as a share of the length of the parameters."""


def peak_kappa(
    config: TrainConfig,
    problem: TrainingProblem,
    model: torch.nn.Module,
    parameters: Mapping[str, torch.Tensor],
) -> float:
    """kappa = eta L at the peak of the learning rate: as given by --kappa, or with L given or measured."""
    if config.smoothness is None:
        return config.kappa
    if isinstance(config.smoothness, str):
        return config.lr * largest_curvature(config, problem, model, parameters)
    return config.lr * config.smoothness


def largest_curvature(
    config: TrainConfig,
    problem: TrainingProblem,
    model: torch.nn.Module,
    parameters: Mapping[str, torch.Tensor],
    *,
    iterations: int = ITERATIONS,
) -> float:
    """max |eigenvalue| of the Hessian of alpha L_t + (1 - alpha) L_e on the first batch; alpha = 1/2 for a rule.

    Args:
        config: the options.
        problem: the data.
        model: the policy, which is moved and put back.
        parameters: its trained parameters.
        iterations: of the power method, which approaches the value from below.

    Raises:
        StudyError: a gradient is not finite.
    """
    alpha = config.rule.value if problem.method.mixes and not config.rule.adaptive else START
    sizes = [p.numel() for p in parameters.values()]
    start = torch.cat([p.detach().flatten() for p in parameters.values()])

    def place(vector: torch.Tensor) -> None:
        with torch.no_grad():
            for p, piece in zip(parameters.values(), vector.split(sizes), strict=True):
                p.copy_(piece.view_as(p))

    def gradient(vector: torch.Tensor) -> torch.Tensor:
        place(vector)
        trace, empty = step_gradients(problem, model, parameters, config.objective, 0, config.micro_batches)
        given = [(w, g.mean) for w, g in ((alpha, trace), (1 - alpha, empty)) if g is not None]
        total = sum(w for w, _ in given)
        return torch.stack([w / total * g for w, g in given]).sum(0)

    h = STEP * float(start.norm())
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(config.seed)).to(start)
    largest = 0.0
    try:
        for _ in range(iterations):
            direction = direction / direction.norm()
            product = (gradient(start + h * direction) - gradient(start - h * direction)) / (2 * h)
            largest = float(product.norm())
            if largest == 0.0:
                break
            direction = product
    finally:
        place(start)
    return largest
