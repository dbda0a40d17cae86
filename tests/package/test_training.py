"""The loop against a plain one, and what it promises about seeds."""

import math

import pytest
import torch
from torch import nn

from manyheads.attention import MultiHeadAttention
from manyheads.tasks import Nearest
from manyheads.training import fit, stream


def build(n_heads=2):
    return MultiHeadAttention(16, n_heads)


def states(run):
    return [torch.cat([x.flatten() for x in model.state_dict().values()]) for model in run.models]


def test_a_seed_is_trained_as_a_plain_loop_would():
    task, seed, steps = Nearest(), 7, 20
    torch.manual_seed(seed)
    model = build().double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    draws, losses = stream(seed), []
    for _ in range(steps):
        (query, vectors), target = task.draw(draws, 13)
        output, _ = model(query, vectors, return_weights=True)
        loss = (output - target).square().mean() / target.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())

    run = fit(build, task, seeds=[3, seed], steps=steps, batch=13)
    torch.testing.assert_close(run.history[:, 1], torch.stack(losses), rtol=1e-10, atol=0)
    for name, wanted in model.state_dict().items():
        torch.testing.assert_close(run.models[1].state_dict()[name], wanted, rtol=1e-8, atol=1e-10)


def test_no_seed_sees_another():
    alone = fit(build, Nearest(), seeds=[5], steps=30)
    among = fit(build, Nearest(), seeds=[2, 5, 11], steps=30)
    torch.testing.assert_close(among.history[:, 1], alone.history[:, 0], rtol=1e-9, atol=0)
    torch.testing.assert_close(states(among)[1], states(alone)[0], rtol=1e-7, atol=1e-9)
    assert not torch.allclose(among.history[:, 0], among.history[:, 1])


def test_the_same_seeds_give_the_same_run_and_leave_the_readers_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = fit(build, Nearest(), seeds=[2, 3], steps=5)
    assert torch.equal(torch.rand(3), expected)
    second = fit(build, Nearest(), seeds=[2, 3], steps=5)
    assert torch.equal(first.history, second.history)
    assert all(map(torch.equal, states(first), states(second)))


def test_it_learns():
    task = Nearest()
    run = fit(lambda: MultiHeadAttention(16, 1), task, seeds=[0, 1], steps=200, lr=5e-2)
    assert run.history.shape == (200, 2)
    assert run.history.dtype == torch.float64
    inputs, target = task.draw(stream(99), 500)
    for model, losses in zip(run.models, run.history.T, strict=True):
        assert losses[0] > 0.9
        assert task.score(model(*inputs), target)["left_over"] < 0.4


class Constant(nn.Module):
    """Learn the number that its own buffer holds, one that hangs on the seed."""

    def __init__(self):
        super().__init__()
        self.register_buffer("wanted", torch.rand(()))
        self.found = nn.Parameter(torch.zeros(()))

    def forward(self):
        return self.found - self.wanted


class Square:
    def draw(self, stream, size):
        return (), torch.zeros(())

    def loss(self, output, target):
        return output.square()


def test_each_seed_keeps_its_own_buffers():
    run = fit(Constant, Square(), seeds=[1, 2, 3], steps=300, lr=0.1)
    wanted = [model.wanted.item() for model in run.models]
    assert len(set(wanted)) == 3
    assert [model.found.item() for model in run.models] == pytest.approx(wanted, abs=1e-3)


class BreaksAtStep3(Square):
    def __init__(self, broken):
        self.steps, self.broken = 0, broken

    def draw(self, stream, size):
        self.steps += 1
        is_second_seed = self.steps % 2 == 0
        return (), torch.tensor(self.broken if self.steps > 6 and is_second_seed else 0.0)

    def loss(self, output, target):
        return output.square() + target


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_the_step_the_seed_and_what_to_do(broken):
    with pytest.raises(
        FloatingPointError,
        match=rf"the loss of seed 23 is {broken} at step 3: train with a rate below lr=0.01",
    ):
        fit(Constant, BreaksAtStep3(broken), seeds=[19, 23], steps=10)


class Noisy(MultiHeadAttention):
    def forward(self, query, *others, **options):
        return super().forward(query + torch.rand(query.shape), *others, **options)


@pytest.mark.parametrize(
    "build_random",
    [lambda: MultiHeadAttention(16, 2, dropout=0.1), lambda: Noisy(16, 2)],
    ids=["dropout", "noise"],
)
def test_a_model_that_draws_while_it_runs_is_refused(build_random):
    with pytest.raises(ValueError, match=r"fit trains without dropout or other random numbers.*dropout=0"):
        fit(build_random, Nearest(), seeds=[0, 1], steps=2)


class WrongShape(MultiHeadAttention):
    def forward(self, query, *others, **options):
        return super().forward(query @ query, *others, **options)


def test_an_error_of_the_model_comes_as_it_is():
    with pytest.raises(RuntimeError, match="Expected size"):
        fit(lambda: WrongShape(16, 2), Nearest(), seeds=[0], steps=2)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"steps": 0}, ValueError, "steps is counted from 1, got steps=0"),
        ({"steps": 2.5}, TypeError, "steps is counted and must be an int, got 2.5"),
        ({"batch": 0}, ValueError, "batch is counted from 1, got batch=0"),
        ({"seeds": [1.5]}, TypeError, "seed is counted and must be an int, got 1.5"),
        ({"lr": 0.0}, ValueError, "a learning rate is a positive number, got lr=0.0"),
        ({"lr": math.nan}, ValueError, "positive number, got lr=nan"),
    ],
)
def test_what_cannot_be_trained_is_named(wrong, error, told):
    with pytest.raises(error, match=told):
        fit(build, Nearest(), **{"seeds": [0], "steps": 2} | wrong)


@pytest.mark.parametrize("seeds", [[], [3, 5, 3]])
def test_seeds_are_given_once_each(seeds):
    with pytest.raises(ValueError, match="at least one seed, and each once"):
        fit(build, Nearest(), seeds=seeds, steps=5)


def test_progress_is_shown_on_request_only(capsys):
    fit(Constant, Square(), seeds=[1], steps=5)
    assert capsys.readouterr() == ("", "")
    fit(Constant, Square(), seeds=[1, 2], steps=5, progress=True)
    assert "2 seeds" in capsys.readouterr().err
