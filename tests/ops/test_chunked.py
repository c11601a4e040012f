"""The chunked form against the reference: values, gradients, memory, odd shapes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import glint.ops.chunked as chunked_module
from glint.ops.chunked import gated_pool_chunked, maps
from glint.ops.reference import GateInputs, Pool, gate_and_cosine, gated_pool_reference

from .conftest import inputs

POOLS: tuple[Pool, ...] = ("null", "l2_mean", "vlcabs")
NAMES = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null", "tau")


def differentiable(x: GateInputs) -> GateInputs:
    return dataclasses.replace(x, **{name: getattr(x, name).clone().requires_grad_() for name in NAMES})


def gradients(x: GateInputs, pool: Pool, form: object) -> dict[str, Tensor]:
    y = differentiable(x)
    scores, mass = form(y, pool)  # type: ignore[operator]
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(scores.shape, generator=g, dtype=torch.float64).to(scores.dtype) for _ in range(2)]
    ((scores * weights[0]).sum() + 0.1 * (mass * weights[1]).sum()).backward()
    return {
        name: torch.zeros_like(getattr(y, name)) if getattr(y, name).grad is None else getattr(y, name).grad
        for name in NAMES
    }


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks per image, none of which divides the number of patches."""
    monkeypatch.setattr(chunked_module, "MAX_SENTENCES", 5)
    monkeypatch.setattr(chunked_module, "CACHE_BYTES", 1)


@pytest.mark.parametrize("pool", POOLS)
@given(
    seed=st.integers(0, 10**6),
    sentences=st.integers(1, 12),
    images=st.integers(1, 4),
    patches=st.sampled_from([1, 3, 64, 65, 130]),
    alpha=st.sampled_from([1.0, 6.0, 50.0]),
    beta=st.sampled_from([-60.0, -6.0, 0.0, 60.0]),
    below_null=st.sampled_from([1.0, 0.02, 0.0]),
)
@settings(max_examples=25)
def test_values_and_gradients__equal_the_reference(
    pool: Pool,
    seed: int,
    sentences: int,
    images: int,
    patches: int,
    alpha: float,
    beta: float,
    below_null: float,
) -> None:
    x = inputs(seed, sentences, images, patches, alpha=alpha, beta=beta, below_null=below_null)
    for mine, truth in zip(gated_pool_chunked(x, pool), gated_pool_reference(x, pool), strict=True):
        assert torch.allclose(mine, truth, atol=1e-12, rtol=1e-9)
    mine, truth = gradients(x, pool, gated_pool_chunked), gradients(x, pool, gated_pool_reference)
    for name in NAMES:
        assert torch.allclose(mine[name], truth[name], atol=1e-10, rtol=1e-8), name


@pytest.mark.parametrize("below_null", [1.0, 0.1])
@pytest.mark.parametrize("pool", POOLS)
def test_gradcheck(pool: Pool, below_null: float) -> None:
    x = inputs(sentences=3, images=2, patches=5, below_null=below_null)
    leaves = tuple(getattr(x, name).clone().requires_grad_() for name in NAMES)

    def call(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return gated_pool_chunked(dataclasses.replace(x, **dict(zip(NAMES, tensors, strict=True))), pool)

    assert torch.autograd.gradcheck(call, leaves, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision__stays_close_to_fp64(pool: Pool, dtype: torch.dtype, tolerance: float) -> None:
    x = inputs(sentences=9, images=3, patches=200, width=64, gate_width=32, dtype=dtype)
    exact = dataclasses.replace(x, **{n: getattr(x, n).double() for n in NAMES})
    scores, mass = gated_pool_chunked(x, pool)
    truth = gated_pool_reference(exact, pool)
    assert scores.dtype == mass.dtype == torch.float32
    assert float((scores - truth[0]).abs().max()) < tolerance
    assert float(((mass - truth[1]) / truth[1]).abs().max()) < 10 * tolerance


def test_no_patches_valid__is_an_empty_gate() -> None:
    x = inputs(images=1)
    x = dataclasses.replace(x, valid=torch.zeros_like(x.valid))
    scores, mass = gated_pool_chunked(x, "null")
    assert torch.allclose(scores[:, 0], x.text @ x.null)
    assert float(mass.abs().sum()) == 0.0
    for pool in ("l2_mean", "vlcabs"):
        for form in (gated_pool_chunked, gated_pool_reference):
            assert float(form(x, pool)[0].abs().max()) == 0.0
            assert all(bool(g.isfinite().all()) for g in gradients(x, pool, form).values())


@pytest.mark.parametrize(("sentences", "images"), [(0, 3), (4, 0)])
def test_nothing_to_pair__gives_empty_scores(sentences: int, images: int) -> None:
    x = inputs(sentences=sentences, images=images)
    assert gated_pool_chunked(x)[0].shape == (sentences, images)


@pytest.mark.parametrize("pool", POOLS)
def test_nan__is_not_hidden(pool: Pool) -> None:
    x = inputs()
    (x.patches if pool == "vlcabs" else x.keys)[0, 0, 0] = torch.nan
    scores, _ = gated_pool_chunked(x, pool)
    assert bool(scores[:, 0].isnan().all())
    assert bool(scores[:, 1:].isfinite().all())


def test_maps__are_those_of_the_reference() -> None:
    x = inputs()
    gate, cosine = gate_and_cosine(x)
    mine = maps(x, slice(2, 5), 1)
    assert torch.allclose(mine[0], gate[2:5, 1], atol=1e-12)
    assert torch.allclose(mine[1], cosine[2:5, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("text", torch.zeros(7), "text has 1 axes"),
        ("queries", torch.zeros(7, 9), "queries has the shape"),
        ("valid", torch.ones(3, 10), "valid is torch.float32"),
        ("keys", torch.zeros(3, 9, 4), "keys has the shape"),
        ("text", torch.zeros(7, 6), "one floating-point type"),
    ],
)
def test_check__names_what_does_not_fit(field: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(inputs(), **{field: value}).check()
