import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from glint.config.schema import PretrainConfig, VisionConfig
from glint.data.dataset import PairBatch
from glint.losses.masked import MaskedPrediction, block_mask, hide, normalised_cells, whole_cells
from glint.model.vision.registry import build_vision


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 1000), block=st.sampled_from([8, 16, 24, 32]), ratio=st.floats(0.2, 0.8))
def test_block_mask__covers_about_its_ratio(seed: int, block: int, ratio: float):
    mask = block_mask(64, (96, 96), block, ratio, seeded(seed))
    assert mask.shape == (64, 96, 96)
    assert float(mask.float().mean()) == pytest.approx(ratio, abs=0.12)


def test_hide__changes_masked_pixels_only():
    images = torch.rand(2, 1, 32, 32, generator=seeded(0))
    mask = block_mask(2, (32, 32), 8, 0.5, seeded(1))
    hidden = hide(images, mask, seeded(2))
    assert torch.equal(hidden[:, 0][~mask], images[:, 0][~mask])
    assert not bool((hidden[:, 0][mask] == images[:, 0][mask]).any())


def test_whole_cells__needs_every_pixel():
    mask = torch.ones(1, 16, 16, dtype=torch.bool)
    mask[0, 3, 12] = False
    assert whole_cells(mask, (8, 8)).tolist() == [[True, False, True, True]]


def test_normalised_cells__row_major_order_and_unit_variance():
    images = torch.rand(1, 1, 16, 24, generator=seeded(0))
    cells = normalised_cells(images, (8, 8))
    assert cells.shape == (1, 6, 64)
    assert torch.allclose(cells.mean(-1), torch.zeros(1, 6), atol=1e-4)
    second = images[0, 0, 0:8, 8:16].flatten()
    expected = (second - second.mean()) / (second.var() + 1e-4).sqrt()
    assert torch.allclose(cells[0, 1], expected, atol=1e-5)
    assert float(normalised_cells(torch.full((1, 1, 8, 8), 0.5), (8, 8)).abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["dinov3-convnext", "dinov3-vit"])
def test_masked_prediction__gradient_reaches_every_part_but_the_teacher(name: str):
    vit: dict[str, JsonValue] = {"width": 24, "depth": 2, "heads": 3}
    stages: dict[str, JsonValue] = {"widths": [8, 8, 16, 16], "neck_width": 16}
    vision = VisionConfig(name=name, arch=vit if name == "dinov3-vit" else stages)
    objective = MaskedPrediction(PretrainConfig(), build_vision(vision))  # pyright: ignore[reportCallIssue]
    batch = PairBatch(
        torch.rand(4, 1, 64, 64, generator=seeded(0)),
        torch.ones(4, 64, 64, dtype=torch.bool),
        [],
        torch.zeros(0, dtype=torch.int64),
        [],
        [],
        [],
        [],
    )
    loss, report = objective(batch, seeded(0))
    loss.backward()
    assert report["loss_pixel"] > 0
    assert objective.to_latent.weight.grad is not None
    reached = [p.grad is not None for p in objective.vision.parameters()]
    assert sum(reached) > 0.8 * len(reached)
    assert all(p.grad is None for p in objective.teacher.parameters())
    before = [p.clone() for p in objective.teacher.parameters()]
    with torch.no_grad():
        for p in objective.vision.parameters():
            p.add_(1.0)
    objective.update_teacher()
    moved = [float((p - b).mean()) for p, b in zip(objective.teacher.parameters(), before, strict=True)]
    assert moved == pytest.approx([1 - 0.996] * len(moved), abs=1e-4)


@given(seed=st.integers(0, 100), block=st.sampled_from([8, 12, 16]), ratio=st.floats(0.3, 0.7))
def test_block_mask__is_blocks_in_three_dimensions(seed: int, block: int, ratio: float):
    mask = block_mask(2, (24, 32, 40), block, ratio, seeded(seed))
    assert mask.shape == (2, 24, 32, 40)
    for axis in (1, 2, 3):  # inside a block neighbours agree along every axis
        changes = (mask.diff(dim=axis)).movedim(axis, 1).flatten(2).any(2).sum(1)
        assert int(changes.max()) <= -(-mask.shape[axis] // block)


def test_normalised_cells__of_volumes_in_token_order():
    images = torch.rand(1, 2, 4, 8, 8, generator=seeded(0))
    cells = normalised_cells(images, (2, 4, 4))
    assert cells.shape == (1, 8, 32)
    box = images[0].mean(0)[2:4, 0:4, 4:8].flatten()  # token (1, 0, 1)
    torch.testing.assert_close(cells[0, 5], (box - box.mean()) / (box.var() + 1e-4).sqrt())
