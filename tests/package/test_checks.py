"""A check says right only to what is right, and never gives the answer away."""

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manyheads import checks

DIGEST = checks.fingerprint(0.3517)


def said(capsys):
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "answer",
    [
        0.3517,
        0.352,
        0.35249,
        np.float32(0.3521),
        torch.tensor([0.352]),
        np.array([[0.352]]),
        [0.352],
        torch.tensor(0.352, dtype=torch.float64),
    ],
)
def test_a_right_number_is_right_to_the_digits_asked(capsys, answer):
    checks.number(answer, DIGEST)
    assert said(capsys) == "Right."


@pytest.mark.parametrize("answer", [0.351, 0.353, -0.352, 3.52, 0, 1e300])
def test_a_wrong_number_is_told_without_the_right_one(capsys, answer):
    checks.number(answer, DIGEST)
    told = said(capsys)
    assert told.startswith("Not yet: ")
    assert "0.352" not in told.replace("-0.352", "")


@pytest.mark.parametrize("answer", [None, ...])
def test_no_number_yet(capsys, answer):
    checks.number(answer, DIGEST)
    assert said(capsys).startswith("Not answered yet.")


@pytest.mark.parametrize(
    ("digits", "answer", "right"), [(2, 1049, True), (2, 1051, False), (1, 1400, True), (4, 1000.4, True)]
)
def test_digits_are_significant_ones(capsys, digits, answer, right):
    checks.number(answer, checks.fingerprint(1000, digits), digits)
    assert (said(capsys) == "Right.") == right


@given(st.floats(1e-6, 1e6), st.integers(1, 6))
def test_a_fingerprint_tells_numbers_apart_and_nothing_else(value, digits):
    mark = checks.fingerprint(value, digits)
    assert mark == checks.fingerprint(float(f"{value:.{digits - 1}e}"), digits)
    assert mark not in (checks.fingerprint(2 * value, digits), checks.fingerprint(-value, digits))
    assert len(mark) == 12
    assert set(mark) <= set("0123456789abcdef")


def test_zero_has_one_fingerprint():
    assert checks.fingerprint(0.0) == checks.fingerprint(-0.0) == checks.fingerprint(0)


@pytest.mark.parametrize(
    "answer", ["many", [1, 2], float("nan"), float("inf"), torch.ones(2), np.ones(0), 10**400, {}]
)
def test_what_is_no_number_says_so(answer):
    with pytest.raises(TypeError, match=r"one (finite )?number, got"):
        checks.number(answer, DIGEST)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("b", "Right."),
        ("  B ", "Right."),
        ("(b)", "Right."),
        ("b.", "Right."),
        ("c", "Not yet: 'c' isn't it."),
        ("", "Not yet: '' isn't it."),
        (2, "Not yet: '2' isn't it."),
        (None, "Not answered yet."),
        (..., "Not answered yet."),
    ],
)
def test_a_choice(capsys, answer, told):
    checks.choice(answer, checks.word_fingerprint("B"))
    assert said(capsys).startswith(told)


def test_words_are_compared_without_case_and_outer_space():
    assert checks.word_fingerprint(" One  HEAD ") == checks.word_fingerprint("one head")
    assert checks.word_fingerprint("one head") != checks.word_fingerprint("onehead")


def squares(x):
    return x * x


CASES = [(np.arange(3.0),), (np.array([[-1.0, 0.5]]),)]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (squares, "Right."),
        (lambda x: torch.tensor(x, requires_grad=True) ** 2, "Right."),
        (lambda x: list(x**2 + 1e-9), "Right."),
        (lambda x: ..., "Not answered yet."),
        (lambda x: None, "Not answered yet."),
        (
            lambda x: x,
            "Not yet: case 1, called with array([0., 1., 2.]), has the right shape, but is off by up to 2.",
        ),
        (
            lambda x: np.maximum(x, 0) ** 2,
            "Not yet: case 2, called with array([[-1. , 0.5]]), has the right shape, but is off by up to 1.",
        ),
        (
            lambda x: x * np.nan,
            "Not yet: case 1, called with array([0., 1., 2.]), has the right shape, but is off by up to nan",
        ),
        (
            lambda x: x[:2] ** 2,
            "Not yet: case 1, called with array([0., 1., 2.]), should have shape (3,), yours has (2,).",
        ),
        (
            lambda x: (x**2)[..., None],
            "Not yet: case 1, called with array([0., 1., 2.]), should have shape (3,), yours has (3, 1).",
        ),
        (lambda x: x.nothing, "Not yet: case 1, called with array([0., 1., 2.]), raises AttributeError:"),
        (lambda: 1, "Not yet: case 1, called with array([0., 1., 2.]), raises TypeError:"),
        (lambda x: "four", "Not yet: case 1, called with array([0., 1., 2.]), raises ValueError:"),
    ],
)
def test_a_function_is_judged_by_what_it_does(capsys, function, told):
    checks.behaves(function, squares, CASES)
    assert said(capsys).startswith(told)


def test_the_learner_cannot_change_the_cases(capsys):
    """A function that works in place must not spoil the right answer's input."""

    def in_place(x):
        x *= x
        return x

    checks.behaves(in_place, squares, [(np.array([3.0]),)])
    assert said(capsys) == "Right."


def test_a_second_run_meets_the_same_cases(capsys):
    def keeps(x, seen=[]):  # noqa: B006
        seen.append(x)
        x += 1
        return x - 1

    cases = [([1.0, 2.0], np.array([3.0]))]

    def first(numbers, array):
        numbers.append(0)
        array += 7
        return array - 7

    for _ in range(2):
        checks.behaves(keeps, lambda x: x, [(array := np.array([3.0]),)])
        checks.behaves(first, lambda _, array: array, cases)
        assert said(capsys) == "Right.\nRight."
    assert cases[0][0] == [1.0, 2.0]
    assert cases[0][1] == array == [3.0]


def test_no_case_is_no_proof(capsys):
    generator = ((np.ones(2),) for _ in range(1))
    checks.behaves(lambda x: x + 9, lambda x: x, generator)
    assert said(capsys).startswith("Not yet: case 1, called with array([1., 1.]), ")
    for cases in (generator, [], ()):
        with pytest.raises(ValueError, match="at least one case, got none"):
            checks.behaves(lambda x: x, lambda x: x, cases)


LOG = [(np.array([1.0, -1.0, 0.0]),)]


@pytest.mark.parametrize(
    ("instead", "told"),
    [
        (-np.inf, "Right."),
        (-1e9, "off by up to inf"),
        (np.inf, "off by up to inf"),
        (np.nan, "off by up to nan"),
        (3.0, "off by up to inf"),
    ],
)
def test_infinities_of_one_sign_are_equal(capsys, instead, told):
    checks.behaves(lambda x: np.where(x > 0, x, instead), lambda x: np.where(x > 0, x, -np.inf), LOG)
    assert told in said(capsys)


@pytest.mark.parametrize(
    ("instead", "told"), [(np.nan, "Right."), (0.0, "off by up to nan"), (np.inf, "nan")]
)
def test_nan_is_right_where_it_is_the_answer_and_nowhere_else(capsys, instead, told):
    checks.behaves(lambda x: np.where(x > 0, x, instead), lambda x: np.where(x > 0, x, np.nan), LOG)
    assert told in said(capsys)


def test_lists_of_tensors_with_gradients_and_halves_are_read(capsys):
    x = torch.ones(3, requires_grad=True)
    for answer in (
        [x, 2 * x],
        (x, [2, 2, 2]),
        torch.stack([x, 2 * x]).bfloat16(),
        [x.half(), 2 * x.detach()],
    ):
        checks.behaves(lambda answer=answer: answer, lambda: np.array([[1.0] * 3, [2.0] * 3]), [()])
        assert said(capsys) == "Right."
    checks.behaves(lambda: [x, x], lambda: np.array([[1.0] * 3, [2.0] * 3]), [()])
    assert said(capsys) == "Not yet: case 1, called with nothing, has the right shape, but is off by up to 1."
    checks.behaves(lambda: [x, x[:2]], lambda: np.ones((2, 3)), [()])
    assert said(capsys).startswith("Not yet: case 1, called with nothing, raises ValueError")


def test_a_case_is_named_in_words(capsys):
    checks.behaves(
        lambda *_: 1, lambda *_: 2, [(np.zeros((7, 5)), 3, torch.zeros(2, 11), "a b", list(range(99)))]
    )
    assert "case 1, called with ndarray of shape (7, 5), 3, Tensor of shape (2, 11), 'a b' and list," in said(
        capsys
    )


def test_digits_are_counted_from_one():
    with pytest.raises(ValueError, match="at least one digit must count, got digits=0"):
        checks.number(1.0, DIGEST, 0)
    with pytest.raises(TypeError, match="integer"):
        checks.fingerprint(1.0, 2.5)


def test_a_broken_check_is_a_crash_not_an_answer():
    with pytest.raises(ZeroDivisionError):
        checks.behaves(squares, lambda x: 1 / 0, CASES)


def test_every_public_check_is_tested_here():
    names = {name for name, _ in inspect.getmembers(checks, inspect.isfunction) if not name.startswith("_")}
    assert names == {"number", "fingerprint", "choice", "word_fingerprint", "behaves"}
