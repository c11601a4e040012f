"""Latent prediction: masks, distances, targets, gradients."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glint.config.schema import PretrainConfig, VisionConfig
from glint.data.dataset import PairBatch
from glint.errors import ConfigError
from glint.losses.jepa import LatentPrediction, distance_to, masked_mean, positions, side_by_side
from glint.losses.masked import block_mask
from glint.model.vision.base import EncoderOutput
from glint.model.vision.registry import build_vision

SMALL = PretrainConfig(method="jepa", predictor_width=32, predictor_depth=1)  # pyright: ignore[reportCallIssue]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective() -> LatentPrediction:
    torch.manual_seed(0)
    return LatentPrediction(
        SMALL, build_vision(VisionConfig(name="dinov3-vit", arch={"width": 32, "depth": 4, "heads": 2}))
    )


def batch(count: int = 3, size: int = 64) -> PairBatch:
    images = torch.rand(count, 1, size, size, generator=seeded(0))
    valid = torch.ones(count, size, size, dtype=torch.bool)
    return PairBatch(images, valid, [], torch.zeros(0, dtype=torch.int64), [], [], [], [])


def test_latent_prediction__gradient_reaches_student_and_predictor_only() -> None:
    task = objective()
    loss, report = task(batch(), seeded(1))
    loss.backward()
    assert report.keys() == {"loss_masked", "loss_context", "teacher_spread"}
    assert float(loss.detach()) == pytest.approx(
        report["loss_masked"] + 0.5 * report["loss_context"], rel=1e-5
    )
    assert all(p.grad is not None for p in task.predictor.parameters())
    assert task.vision.net.embeddings.patch_embeddings.weight.grad.abs().sum() > 0  # pyright: ignore
    assert all(p.grad is None for p in task.teacher.parameters())


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 1, 3, 64, 64)])
def test_latent_prediction__hidden_pixels_do_not_reach_the_student(shape: tuple[int, ...]) -> None:
    task = objective()
    images = torch.rand(shape, generator=seeded(0))
    mask = block_mask(2, (64, 64), 16, 0.5, seeded(1))
    under = mask.view(2, *(1 for _ in shape[1:-2]), 64, 64).expand(shape)
    other = images.clone()
    planes, kept, changed = images.view(-1, 64, 64), under.reshape(-1, 64, 64), other.view(-1, 64, 64)
    for i in range(len(planes)):  # other pixels of the same mean, which is all that is left of them
        changed[i][kept[i]] = planes[i][kept[i]].flip(0)
    assert not torch.equal(images, other)
    hidden, again = task._hide(images, mask, seeded(2)), task._hide(other, mask, seeded(2))
    assert torch.allclose(hidden, again, atol=1e-5)
    assert torch.equal(hidden[~under], images[~under])


@pytest.mark.parametrize("slices", [1, 4])
def test_latent_prediction__volumes_and_single_slices_train_a_video_encoder(slices: int) -> None:
    torch.manual_seed(0)
    arch = {"patch_px": 8, "width": 48, "depth": 4, "heads": 4}
    task = LatentPrediction(SMALL, build_vision(VisionConfig(name="vjepa", arch=arch)))  # pyright: ignore
    plain = batch(2, 32)
    volumes = torch.rand(2, 1, slices, 32, 32, generator=seeded(0))
    given = plain if slices == 1 else dataclasses.replace(plain, images=volumes)  # an X-ray is a single slice
    loss, _ = task(given, seeded(1))
    loss.backward()
    embedding = task.vision.net.patch_embed_img if slices == 1 else task.vision.net.patch_embed  # pyright: ignore
    assert float(embedding.proj.weight.grad.abs().sum()) > 0


def test_latent_prediction__encoders_with_several_grids_are_refused() -> None:
    with pytest.raises(ConfigError, match="one token grid"):
        LatentPrediction(SMALL, build_vision(VisionConfig(name="convnet")))


def test_side_by_side__targets_are_normalised_level_by_level() -> None:
    output = EncoderOutput(torch.randn(2, 4, 8) * 5 + 3, (2, 2), (torch.randn(2, 4, 6) * 100,))
    joined = side_by_side(output)
    assert joined.shape == (2, 4, 14)
    assert torch.allclose(joined[..., :6], F.layer_norm(output.levels[0], (6,)))
    assert torch.allclose(joined[..., 6:].mean(-1), torch.zeros(2, 4), atol=1e-5)


@given(seed=st.integers(0, 200), grid=st.sampled_from([(4, 5), (2, 3, 4)]))
def test_distance_to__is_the_distance_to_the_nearest_hidden_patch(seed: int, grid: tuple[int, ...]) -> None:
    count = torch.Size(grid).numel()
    hidden = torch.rand(2, count, generator=seeded(seed)) < 0.3
    found = distance_to(hidden, grid)
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).float()
    for b in range(2):
        for p in range(count):
            wanted = 1.0 if not hidden[b].any() else float((places[hidden[b]] - places[p]).norm(dim=-1).min())
            assert float(found[b, p]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 4)])
def test_positions__no_two_places_look_alike(grid: tuple[int, ...]) -> None:
    table = positions(grid, 50)
    assert table.shape == (torch.Size(grid).numel(), 50)
    assert float((torch.cdist(table, table) + 9 * torch.eye(len(table))).min()) > 0.1


def test_masked_mean__counts_what_is_kept() -> None:
    values = torch.tensor([[1.0, 5.0, 100.0]])
    assert float(masked_mean(values, torch.tensor([[True, True, False]]))) == 3.0
    assert float(masked_mean(values, torch.zeros(1, 3, dtype=torch.bool))) == 0.0
