"""Attention obeys its laws: on chosen cases with a prime for each axis, and on whatever hypothesis draws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import ATTEND, CASES, FACTS, LAYERS, MASKS, Case

from manyheads import attention


def named(functions):
    return [pytest.param(function, id=function.__name__) for function in functions]


@st.composite
def cases(draw, *dtypes):
    def few(most):
        return draw(st.integers(1, most))

    mask = draw(st.sampled_from(MASKS))
    n_query = few(6)
    return Case(
        leading=tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        n_query=n_query,
        n_key=n_query + few(4) - 1 if mask.startswith("causal") else few(7),
        n_kv_heads=few(3),
        group=few(3),
        d_head=few(5),
        d_value=few(5),
        d_model=few(7),
        mask=mask,
        dtype=draw(st.sampled_from(dtypes)),
        seed=draw(st.integers(0, 1000)),
    )


@pytest.mark.parametrize("fact", named(FACTS))
def test_fact(fact):
    fact(attention)


@pytest.mark.parametrize("law", named(ATTEND + LAYERS))
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.mask}-{case.seed}")
def test_law_with_a_prime_for_each_axis(law, case):
    law(attention, case)


@pytest.mark.parametrize("law", named(ATTEND + LAYERS))
@given(case=cases(torch.float64, torch.float32))
def test_law_on_any_case(law, case):
    law(attention, case)


@pytest.mark.parametrize("law", named(ATTEND))
@given(case=cases(torch.float16, torch.bfloat16))
def test_law_in_half_precision(law, case):
    law(attention, case)
