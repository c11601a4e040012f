"""The public door: what it refuses, what it takes where, and sentences that belong to one image each."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glint.ops.pool as pool_module
from glint.errors import UsageError
from glint.ops import gated_pool, gated_pool_owned
from glint.ops.pool import Kernel
from glint.ops.reference import Pool, gated_pool_reference

from .conftest import inputs

POOLS: tuple[Pool, ...] = ("null", "l2_mean", "vlcabs")


@pytest.mark.parametrize("pool", POOLS)
def test_gated_pool__is_the_same_in_every_form(pool: Pool) -> None:
    x = inputs()
    truth = gated_pool_reference(x, pool)
    for kernel in ("fastest", "reference", "chunked"):
        for mine, right in zip(gated_pool(x, pool, kernel), truth, strict=True):
            torch.testing.assert_close(mine, right)


@pytest.mark.parametrize("kernel", ["reference", "chunked"])
def test_below_null__no_open_patch_denies(kernel: Kernel) -> None:
    x = inputs(beta=40.0, ragged=False)  # everything is open
    closed = (x.text @ x.null)[:, None]
    lower = x.text @ x.patches.mean(1).T < closed
    assert bool(lower.any())
    scores, _ = gated_pool(x, kernel=kernel)
    assert bool((scores[lower] < closed.expand_as(scores)[lower]).all())
    scores, _ = gated_pool(dataclasses.replace(x, below_null=0.0), kernel=kernel)
    assert bool((scores >= closed).all())


def test_auto__holds_maps_only_while_they_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(dtype=torch.float32)  # maps of 7 x 3 x 10 numbers of 4 bytes
    for limit, expected in ((840, "reference"), (839, "chunked")):
        monkeypatch.setattr(pool_module, "SMALL_BYTES", limit)
        for name in ("reference", "chunked"):
            monkeypatch.setattr(pool_module, f"gated_pool_{name}", lambda x, pool, name=name: name)
        assert gated_pool(x) == expected
    assert gated_pool(inputs(dtype=torch.bfloat16)) == "chunked"  # the reference would sum in 16 bits


@pytest.mark.parametrize("pool", POOLS)
@given(seed=st.integers(0, 999), owner=st.lists(st.integers(0, 3), max_size=9))
@settings(max_examples=15)
def test_gated_pool_owned__is_one_cell_a_sentence(pool: Pool, seed: int, owner: list[int]) -> None:
    x = inputs(seed, sentences=len(owner), images=4)
    images = torch.tensor(owner, dtype=torch.int64)
    truth = gated_pool_reference(x, pool)
    for mine, right in zip(gated_pool_owned(x, images, pool), truth, strict=True):
        torch.testing.assert_close(mine, right[torch.arange(len(owner)), images])


def test_gated_pool_owned__gradients_reach_their_image_only() -> None:
    x = inputs(sentences=5, images=3)
    x = dataclasses.replace(x, patches=x.patches.requires_grad_(), text=x.text.requires_grad_())
    owner = torch.tensor([2, 0, 0, 2, 2])
    gated_pool_owned(x, owner)[0].sum().backward()
    mine = (x.text.grad, x.patches.grad)
    x.text.grad = x.patches.grad = None
    gated_pool_reference(x)[0][torch.arange(5), owner].sum().backward()
    torch.testing.assert_close(mine, (x.text.grad, x.patches.grad))
    assert float(mine[1][1].abs().max()) == 0.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (torch.zeros(6, dtype=torch.int64), r"\(6,\)"),
        (torch.zeros(7), "float32"),
        (torch.full((7,), 3), "not there"),
        (torch.full((7,), -1), "not there"),
    ],
)
def test_gated_pool_owned__refuses_what_is_no_owner(owner: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gated_pool_owned(inputs(), owner)


def test_gated_pool__refuses_what_does_not_fit() -> None:
    x = inputs()
    with pytest.raises(UsageError, match="keys has the shape"):
        gated_pool(dataclasses.replace(x, keys=x.keys[:, :4]))
    with pytest.raises(UsageError, match="one floating-point type"):
        gated_pool(dataclasses.replace(x, text=x.text.float()))
    with pytest.raises(UsageError, match="Triton cannot"):
        gated_pool(inputs(dtype=torch.float32), "vlcabs", "triton")
    with pytest.raises(UsageError, match="below_null is 2"):
        gated_pool(inputs(below_null=2))


@pytest.mark.parametrize(("sentences", "images", "patches"), [(0, 3, 4), (4, 0, 4), (4, 3, 0)])
@pytest.mark.parametrize("pool", POOLS)
def test_gated_pool__empty_axes(pool: Pool, sentences: int, images: int, patches: int) -> None:
    x = inputs(sentences=sentences, images=images, patches=patches, ragged=False)
    scores, mass = gated_pool(x, pool)
    assert scores.shape == mass.shape == (sentences, images)
    assert float(mass.abs().sum()) == 0.0
    expected = (x.text @ x.null)[:, None].expand(-1, images) if pool == "null" else torch.zeros_like(scores)
    torch.testing.assert_close(scores, expected)
