"""The sparse form keeps its promise of error, skips, falls back, and hides nothing."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import glint.ops.sparse as sparse
from glint.ops.reference import GateInputs, gate_and_cosine, gated_pool_reference
from glint.ops.sparse import gated_pool_sparse, open_tiles

from .conftest import inputs

NAMES = ("text", "queries", "patches", "keys", "alpha", "beta", "eps0", "null")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "TILE", 4)
    monkeypatch.setattr(sparse, "CACHE_BYTES", 1)


def gradients(
    form: object, x: GateInputs, d_scores: torch.Tensor, d_mass: torch.Tensor
) -> dict[str, torch.Tensor]:
    leaves = {name: getattr(x, name).clone().requires_grad_() for name in NAMES}
    scores, mass = form(dataclasses.replace(x, **leaves))  # type: ignore[operator]
    ((scores * d_scores).sum() + (mass * d_mass).sum()).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}  # type: ignore[misc]


@given(
    seed=st.integers(0, 10**6),
    sentences=st.integers(1, 9),
    patches=st.sampled_from([1, 4, 7, 32, 61]),
    alpha=st.sampled_from([1.0, 12.0, 50.0]),
    beta=st.sampled_from([-40.0, -7.0, -4.0, 3.0]),
    epsilon=st.sampled_from([0.0, 1e-4, 1e-2, 0.3]),
    below_null=st.sampled_from([1.0, 0.02]),
)
@settings(max_examples=60)
def test_error__is_within_the_promise(
    seed: int, sentences: int, patches: int, alpha: float, beta: float, epsilon: float, below_null: float
) -> None:
    x = inputs(seed, sentences, 3, patches, alpha=alpha, beta=beta, below_null=below_null)
    (scores, mass), (truth, true_mass) = gated_pool_sparse(x, epsilon), gated_pool_reference(x)
    torch.testing.assert_close(mass, true_mass)
    assert float((scores - truth).abs().max()) <= epsilon + 1e-12
    g = torch.Generator().manual_seed(seed)
    ds, dm = (torch.randn(scores.shape, generator=g, dtype=torch.float64) for _ in range(2))
    mine = gradients(lambda y: gated_pool_sparse(y, epsilon), x, ds, dm)
    right = gradients(gated_pool_reference, x, ds, dm)
    # docs/gate.md: what the skipped tiles and the changed score may do to the gradients.
    n = x.eps0 + true_mass
    tol = 1e-9
    gate_side = 2 * epsilon * ds.abs() + epsilon * n * dm.abs() + epsilon * ds.abs() * true_mass / n
    assert bool(((mine["text"] - right["text"]).norm(dim=-1) <= epsilon * ds.abs().sum(1) + tol).all())
    assert bool(((mine["queries"] - right["queries"]).norm(dim=-1) <= alpha * gate_side.sum(1) + tol).all())
    assert float((mine["beta"] - right["beta"]).abs()) <= float(gate_side.sum()) + tol


def test_open_tiles__closed_gates_are_skipped_and_open_ones_are_not() -> None:
    x = inputs(sentences=3, images=2, patches=10, ragged=False)
    x.queries[:], x.keys[:] = 0.0, 0.0
    x.queries[:, 0] = x.keys[0, 5, 0] = 1.0  # patch 5 of image 0 is in its second tile
    x = dataclasses.replace(x, alpha=torch.tensor(40.0).double(), beta=torch.tensor(-20.0).double())
    mass, is_open = open_tiles(x, 1e-3)
    assert is_open.tolist() == [[[False, True, False], [False, False, False]]] * 3
    torch.testing.assert_close(mass, gate_and_cosine(x)[0].sum(-1))


def test_nothing_to_skip__is_dense_and_exact() -> None:
    x = inputs(beta=5.0, ragged=False)
    assert bool(open_tiles(x, 1e-3)[1].all())
    assert [step[1] for step in sparse._walk(x, open_tiles(x, 1e-3)[1])] == [slice(0, 7)] * 3  # pyright: ignore[reportPrivateUsage]
    torch.testing.assert_close(gated_pool_sparse(x, 1e-3), gated_pool_reference(x))


@pytest.mark.parametrize("name", ["patches", "keys", "text", "queries"])
def test_nan_behind_a_closed_gate__is_not_hidden(name: str) -> None:
    x = inputs(beta=-60.0)
    getattr(x, name)[0] = torch.nan
    scores, _ = gated_pool_sparse(x, 0.1)
    truth, _ = gated_pool_reference(x)
    assert torch.equal(scores.isnan(), truth.isnan())
    assert bool(truth.isnan().any())


@pytest.mark.parametrize(("sentences", "images", "patches"), [(0, 2, 5), (3, 0, 5), (3, 2, 0)])
def test_empty_axes(sentences: int, images: int, patches: int) -> None:
    x = inputs(sentences=sentences, images=images, patches=patches, ragged=False)
    torch.testing.assert_close(gated_pool_sparse(x), gated_pool_reference(x))
