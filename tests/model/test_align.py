"""Aligner: the equations of docs/method.md, recomputed by hand, and properties that must hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.config.schema import AlignConfig
from glint.model.align import Aligner, drop_tokens, take_tokens

S, B, P, E, C = 3, 2, 12, 10, 8


def make(**settings_: object) -> tuple[Aligner, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    aligner = Aligner(AlignConfig(dim=16, gate_dim=16, **settings_), E, C, P).eval()  # type: ignore[arg-type]
    return aligner.requires_grad_(False), torch.randn(S, E), torch.randn(B, P, C)


@pytest.mark.parametrize("below_null", [1.0, 0.25])
@pytest.mark.parametrize("pool", ["null_mass", "null_token", "l2_mean"])
def test_all_pairs__equals_the_equations(pool: str, below_null: float) -> None:
    aligner, text, tokens = make(pool=pool, eps0=2.0, below_null=below_null)
    sentences, patches = aligner.project_text(text), aligner.project_patches(tokens)
    result = aligner.all_pairs(sentences, patches)
    assert aligner.gate is not None
    for s in range(S):
        for b in range(B):
            weights = []
            for p in range(P):
                z = float(aligner.gate.alpha) * float(sentences.queries[s] @ patches.keys[b, p])  # type: ignore[index]
                weights.append(1 / (1 + math.exp(-(z + float(aligner.gate.beta)))))
            g = torch.tensor(weights)
            c = patches.values[b] @ sentences.values[s]
            if pool == "l2_mean":
                pooled = (g[:, None] * patches.values[b]).sum(0)
                expected = torch.dot(sentences.values[s], pooled) / pooled.norm()
            else:
                null = torch.zeros(())
                if aligner.null is not None:
                    null = torch.dot(sentences.values[s], aligner.null / aligner.null.norm())
                answer = torch.where(c < null, null + below_null * (c - null), c)
                expected = ((g * answer).sum() + 2.0 * null) / (2.0 + g.sum())
            assert result.scores[s, b] == pytest.approx(float(expected), abs=1e-5)
            torch.testing.assert_close(result.gate[s, b], g, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["fastest", "reference", "chunked"])
@pytest.mark.parametrize("below_null", [1.0, 0.25])
@pytest.mark.parametrize("pool", ["null_mass", "null_token", "l2_mean"])
def test_pool_and_gates__are_those_of_all_pairs(pool: str, below_null: float, kernel: str) -> None:
    aligner, text, tokens = make(pool=pool, eps0=2.0, kernel=kernel, below_null=below_null)
    valid = torch.arange(P)[None] < torch.tensor([[P], [7]])
    sentences, patches = aligner.project_text(text), aligner.project_patches(tokens, valid)
    whole, pooled = aligner.all_pairs(sentences, patches), aligner.pool(sentences, patches)
    torch.testing.assert_close(pooled.scores, whole.scores)
    torch.testing.assert_close(pooled.open, whole.gate.mean(-1))
    pairs = torch.tensor([[True, False], [True, True], [False, False]])
    found = aligner.gates(sentences, patches, pairs)
    torch.testing.assert_close(found, torch.stack([whole.gate[0, 0], whole.gate[1, 0], whole.gate[1, 1]]))
    assert aligner.gates(sentences, patches, pairs & False).shape == (0, P)


@pytest.mark.parametrize("kind", ["vlcabs", "global"])
def test_pool__of_baselines_is_that_of_all_pairs(kind: str) -> None:
    aligner, text, tokens = make(type=kind)
    sentences, patches = aligner.project_text(text), aligner.project_patches(tokens)
    whole, pooled = aligner.all_pairs(sentences, patches), aligner.pool(sentences, patches)
    torch.testing.assert_close((pooled.scores, pooled.open), (whole.scores, whole.maps.mean(-1)))


@pytest.mark.parametrize("kind", ["gated", "vlcabs", "global"])
def test_all_pairs__padding_changes_nothing(kind: str) -> None:
    aligner, text, tokens = make(type=kind)
    padded = torch.cat([tokens, torch.randn(B, 5, C) * 9], 1)
    valid = torch.arange(P + 5)[None].expand(B, -1) < P
    sentences = aligner.project_text(text)
    plain = aligner.all_pairs(sentences, aligner.project_patches(tokens))
    masked = aligner.all_pairs(sentences, aligner.project_patches(padded, valid))
    torch.testing.assert_close(masked.scores, plain.scores)
    assert float(masked.maps[..., P:].abs().max()) == 0.0


@pytest.mark.parametrize(
    "changes",
    [{}, {"type": "vlcabs"}, {"type": "global"}, {"gate_activation": "softmax"}, {"pool": "l2_mean"}],
)
def test_all_pairs__an_image_without_a_valid_patch_does_no_harm(changes: dict[str, str]) -> None:
    aligner, text, tokens = make(**changes)
    aligner.requires_grad_(True)
    valid = torch.tensor([[True], [False]]).expand(B, P)
    pooled = aligner.pool(aligner.project_text(text), aligner.project_patches(tokens, valid))
    assert torch.isfinite(pooled.scores).all()
    pooled.scores.sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in aligner.parameters() if w.grad is not None)


def test_all_pairs__closed_gate_scores_zero_and_open_gate_the_mean() -> None:
    aligner, text, tokens = make()
    assert aligner.gate is not None
    sentences, patches = aligner.project_text(text), aligner.project_patches(tokens)
    aligner.gate.beta.fill_(-90.0)
    assert float(aligner.all_pairs(sentences, patches).scores.abs().max()) < 1e-12
    aligner.gate.beta.fill_(90.0)
    opened = aligner.all_pairs(sentences, patches)
    torch.testing.assert_close(opened.scores, opened.cosine.sum(-1) / (1.0 + P))


@pytest.mark.parametrize("kind", ["gated", "vlcabs", "global"])
def test_evidence__is_gate_times_positive_cosine_or_the_map(kind: str) -> None:
    aligner, text, tokens = make(type=kind)
    result = aligner.all_pairs(aligner.project_text(text), aligner.project_patches(tokens))
    expected = result.gate * result.cosine.relu() if kind == "gated" else result.maps
    torch.testing.assert_close(result.evidence, expected)
    assert (result.cosine < 0).any()
    assert 0 <= float(result.evidence.min()) <= float(result.evidence.max()) <= 1


def test_gate__starts_closed_but_able_to_open() -> None:
    aligner, _, _ = make()
    assert aligner.gate is not None
    assert float(aligner.gate.beta) == pytest.approx(-math.log(P))
    assert float(aligner.gate.logits(torch.tensor(1.0)).sigmoid()) > 0.9
    assert float(aligner.gate.logits(torch.tensor(0.0)).sigmoid()) == pytest.approx(1 / (P + 1), rel=1e-3)


@given(rows=st.integers(1, 13), cols=st.integers(1, 13), keep=st.floats(0.05, 1.0), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_drop_tokens__keeps_the_share_without_repeats(rows: int, cols: int, keep: float, seed: int) -> None:
    kept = drop_tokens((rows, cols), 3, keep, torch.Generator().manual_seed(seed), 4)
    assert kept.shape == (3, max(1, round(keep * (rows * cols))))
    for row in kept:
        assert len(set(row.tolist())) == len(row)
        assert 0 <= int(row.min()) <= int(row.max()) < rows * cols


def test_take_tokens__those_of_gather_with_the_same_gradient() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(B, P, C, requires_grad=True)
    chosen = drop_tokens((3, 4), B, 0.5, torch.Generator().manual_seed(0), 1)
    weights = torch.randn(B, chosen.shape[1], C)
    results = [take_tokens(tokens, chosen), tokens.gather(1, chosen[..., None].expand(-1, -1, C))]
    assert torch.equal(*results)
    gradients = [torch.autograd.grad((result * weights).sum(), tokens)[0] for result in results]
    assert torch.equal(*gradients)
