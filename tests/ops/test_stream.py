"""The best of a stream of queries are those of a sort of all of them, with their maps."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.errors import UsageError
from glint.ops.reference import gate_and_cosine, gated_pool_reference
from glint.ops.stream import top_queries

from .conftest import inputs


@given(seed=st.integers(0, 999), part=st.integers(1, 40), count=st.integers(1, 45))
@settings(max_examples=30)
def test_top_queries__equal_a_full_sort(seed: int, part: int, count: int) -> None:
    x = inputs(seed, sentences=40, images=1)
    stream = zip(x.text.split(part), x.queries.split(part), strict=True)
    top = top_queries(x, stream, count)
    scores, mass = (values[:, 0] for values in gated_pool_reference(x))
    order = scores.argsort(descending=True, stable=True)[:count]
    assert torch.equal(top.index, order)
    torch.testing.assert_close((top.scores, top.mass), (scores[order], mass[order]))
    gate, cosine = gate_and_cosine(x)
    torch.testing.assert_close((top.gate, top.cosine), (gate[order, 0], cosine[order, 0]))


def test_top_queries__no_queries_and_nan() -> None:
    x = inputs(images=1)
    assert top_queries(x, [], 3).gate.shape == (0, 10)
    x.text[5] = torch.nan
    assert int(top_queries(x, [(x.text, x.queries)], 1).index[0]) == 5


def test_top_queries__refuses_two_studies_and_no_query() -> None:
    x = inputs(images=2)
    with pytest.raises(UsageError, match="2 images"):
        top_queries(x, [], 1)
    with pytest.raises(UsageError, match="best 0"):
        top_queries(dataclasses.replace(inputs(images=1)), [], 0)
