"""Whitening of sentence vectors: what it does to what differs little, and that a model keeps it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from glint.config.schema import TextConfig
from glint.model.text import TextEncoder, Whitening

SIDES = [f"{what} in the {side} {part} lung." for what in ("Nodule", "Mass", "Consolidation", "Bleb", "Scar")
         for side in ("left", "right") for part in ("upper", "lower")]  # fmt: skip


def cosine(vectors: torch.Tensor) -> float:
    a, b = F.normalize(vectors, dim=-1)
    return float(a @ b)


def test_whitening__equal_variances_without_shrinkage():
    vectors = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 7.0) + 3
    whitening = Whitening(6, 1e-9)
    whitening.fit(vectors)
    projected = (vectors - whitening.mean) @ whitening.matrix
    covariance = torch.cov(projected.T)
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(projected.mean(0), torch.zeros(6), atol=1e-4, rtol=0)


def test_whitening__large_shrinkage_only_centres_and_scales():
    vectors = torch.randn(200, 5, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 6.0)
    whitening = Whitening(5, 1e6)
    whitening.fit(vectors)
    torch.testing.assert_close(
        whitening(vectors), F.normalize(vectors - vectors.mean(0), dim=-1), atol=1e-4, rtol=0
    )


def test_whitening__directions_that_never_occur_stay_finite():
    vectors = torch.zeros(50, 8)
    vectors[:, 0] = torch.linspace(-1, 1, 50)
    whitening = Whitening(8, 0.03)
    whitening.fit(vectors)
    assert torch.isfinite(whitening(torch.randn(3, 8))).all()


@pytest.mark.parametrize("number", [0, 1])
def test_whitening__too_few_sentences_change_nothing(number: int):
    whitening = Whitening(4, 0.1)
    whitening.fit(torch.ones(number, 4))
    torch.testing.assert_close(whitening(torch.eye(4)), torch.eye(4))


def test_packaged_encoder__left_and_right_come_apart():
    encoder = TextEncoder(TextConfig(whiten=0.03, adapter_hidden=0))
    encoder.fit_whitening(SIDES)
    sides = ["Mass in the left lung.", "Mass in the right lung."]
    plain, whitened = cosine(encoder.frozen_vectors(sides)), cosine(encoder.encode(sides))
    assert whitened < 0.75 < 0.95 < plain


def test_state_dict__keeps_the_fit(tmp_path: Path):
    encoder, other = (TextEncoder(TextConfig(whiten=0.03)) for _ in range(2))
    encoder.fit_whitening(SIDES)
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other.encode(SIDES[:2]), encoder.encode(SIDES[:2]))


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_config__needs_a_frozen_encoder(tuning: str):
    with pytest.raises(ValueError, match=r"text\.tuning=frozen"):
        TextConfig.model_validate({"whiten": 0.03, "tuning": tuning})
