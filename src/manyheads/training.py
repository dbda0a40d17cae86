"""One readable training loop, for many seeds at once: what one seed shows may be luck.

The parameters of all seeds are stacked along a new first axis and ``torch.func.vmap`` runs the model
over that axis: six seeds cost about as much as two, and none of them sees another.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import trange

from manyheads.sizes import counts, whole

Model = TypeVar("Model", bound=nn.Module)


class Lessons(Protocol):
    """What :func:`fit` needs: examples to draw, and a loss."""

    def draw(self, stream: torch.Generator, size: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Make ``size`` fresh examples: the inputs of the model, and the target."""

    def loss(self, output: Any, target: Tensor) -> Tensor:
        """Say with one number how far the output is from the target."""


class Task(Lessons, Protocol):
    """What a task can do beside; :mod:`manyheads.tasks` has some."""

    def score(self, output: Any, target: Tensor) -> dict[str, Tensor]:
        """Give the numbers to report, each under its name."""


@dataclass(frozen=True)
class Run(Generic[Model]):
    """What training leaves behind.

    Attributes
    ----------
    models : list of Module
        One trained model a seed, in the order of the seeds.
    history : Tensor of shape (step, seed)
        The loss on each step's fresh batch, before that step.
    """

    models: list[Model]
    history: Tensor


def stream(seed: int) -> torch.Generator:
    """Give the random numbers of the examples, apart from those of the initial weights.

    Parameters
    ----------
    seed : int

    Returns
    -------
    torch.Generator
        The same numbers for the same seed. Its own seed is moved by a million, because a model built
        after ``torch.manual_seed(seed)`` would else start from the very numbers that its first examples
        are made of.
    """
    return torch.Generator().manual_seed(1_000_000 + seed)


def fit(
    build: Callable[[], Model],
    task: Lessons,
    *,
    seeds: Sequence[int],
    steps: int,
    lr: float = 1e-2,
    batch: int = 64,
    progress: bool = False,
) -> Run[Model]:
    """Train one model a seed, all seeds at once: Adam, a learning rate that rises and falls once.

    Everything is float64, so that stored digits don't hang on the machine that trained. Each seed draws
    its own initial weights and its own examples, fresh at every step: nothing can be learnt by heart.

    Parameters
    ----------
    build : callable
        Gives a new model; called once a seed, right after ``torch.manual_seed(seed)``.
    task : Task
        Draws examples and measures the loss.
    seeds : sequence of int
    steps : int
    lr : float
        The highest learning rate of the cycle.
    batch : int
        Examples a step.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If no seed is given, or a seed is given twice, if there is no step or no example, if the rate isn't
        positive, or if the model draws random numbers while it runs, as with dropout.
    TypeError
        If a seed, the steps or the batch isn't a whole number.
    FloatingPointError
        If a loss isn't finite.

    Source: Kingma & Ba 2015 (Adam); Smith & Topin 2019 (the cycle).
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"give at least one seed, and each once: got {list(seeds)}")
    seeds = [seed for each in seeds for seed in whole(seed=each)]
    steps, batch = counts(steps=steps, batch=batch)
    if not 0 < lr < math.inf:
        raise ValueError(f"a learning rate is a positive number, got lr={lr}")
    models = [_seeded(build, seed) for seed in seeds]
    parameters, buffers = stack_module_state(models)  # each (seed, ...)
    optimizer = torch.optim.Adam(parameters.values(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    streams = [stream(seed) for seed in seeds]

    def loss_of_one(state: tuple[dict, dict], inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        return task.loss(functional_call(models[0], state, inputs), target)

    history = []
    for step in trange(steps, disable=not progress, leave=False, desc=f"{len(seeds)} seeds"):
        inputs, targets = _stack([task.draw(stream, batch) for stream in streams])
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel can't be run under vmap
            try:
                losses = vmap(loss_of_one)((parameters, buffers), inputs, targets)  # (seed,)
            except RuntimeError as error:
                if "randomness" not in str(error):
                    raise
                raise ValueError(
                    "fit trains without dropout or other random numbers in the model, so that one seed's "
                    "numbers don't hang on how many others are trained beside it: build it with dropout=0"
                ) from error
        _check_finite(losses.detach(), step, seeds, lr)
        optimizer.zero_grad()
        losses.sum().backward()  # no seed's loss depends on another seed's parameters
        optimizer.step()
        schedule.step()
        history.append(losses.detach())

    for i, model in enumerate(models):
        model.load_state_dict({name: stacked[i] for name, stacked in (parameters | buffers).items()})
    return Run(models, torch.stack(history))


def _seeded(build: Callable[[], Model], seed: int) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double()


def _stack(drawn: list[tuple[tuple[Tensor, ...], Tensor]]) -> tuple[tuple[Tensor, ...], Tensor]:
    inputs, targets = zip(*drawn, strict=True)
    return tuple(map(torch.stack, zip(*inputs, strict=True))), torch.stack(targets)


def _check_finite(losses: Tensor, step: int, seeds: Sequence[int], lr: float) -> None:
    for seed, loss in zip(seeds, losses.tolist(), strict=True):
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of seed {seed} is {loss} at step {step}: train with a rate below lr={lr}, and "
                f"look for a division by zero or a log of zero in the model and the task"
            )


TEST_SEED = 999_999  # examples that no training run draws


TEST_SIZE = 4096


def trained(
    task: Task, build: Callable[[], Model], *, seeds: Sequence[int], **how
) -> tuple[list[Model], dict]:
    """Train one model a seed and score all of them on the same fresh examples.

    Parameters
    ----------
    task : Task
    build : callable
        Gives a new model.
    seeds : sequence of int
    **how
        ``steps``, ``lr``, as in :func:`manyheads.training.fit`.

    Returns
    -------
    models : list of Module
        One a seed.
    measured : dict
        ``per_seed`` scores and the number of ``parameters`` of one model.
    """
    models = fit(build, task, seeds=seeds, **how).models
    return models, {
        "parameters": sum(p.numel() for p in models[0].parameters()),
        "per_seed": scores(task, models),
    }


def scores(task: Task, models: Sequence[nn.Module]) -> dict[str, list[float]]:
    """Score models on examples that none of them was trained on, the same for all.

    Parameters
    ----------
    task : Task
    models : sequence of Module

    Returns
    -------
    dict of list
        One number a model for each score of the task.
    """
    inputs, target = task.draw(stream(TEST_SEED), TEST_SIZE)
    with torch.no_grad():
        found = [task.score(model(*inputs), target) for model in models]
    return {name: [float(one[name]) for one in found] for name in found[0]}
