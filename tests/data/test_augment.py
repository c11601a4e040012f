from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glint.data.augment import augment
from glint.data.dataset import PairBatch


def batch_of(images: torch.Tensor) -> PairBatch:
    valid = torch.ones(len(images), *images.shape[-2:], dtype=torch.bool)
    return PairBatch(images, valid, [], torch.zeros(0, dtype=torch.int64), [], [], [], [])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def noise() -> PairBatch:
    return batch_of(torch.randint(0, 256, (16, 1, 64, 64), dtype=torch.uint8, generator=seeded(9)))


def test_augment__same_generator_same_images(noise: PairBatch):
    first, second, third = (augment(noise, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.valid_px, second.valid_px)
    assert not torch.equal(first.images, third.images)


def test_augment__range_type_and_source(noise: PairBatch):
    before = noise.images.clone()
    out = augment(noise, seeded(0))
    assert out.images.dtype == torch.float32
    assert 0 <= float(out.images.min()) <= float(out.images.max()) <= 1
    assert torch.equal(noise.images, before)


def test_augment__padding_is_black_and_invalid(noise: PairBatch):
    valid = noise.valid_px.clone()
    valid[:, :, :16] = False
    out = augment(replace(noise, valid_px=valid), seeded(0))
    assert float(out.images[:, 0][~out.valid_px].abs().max()) == 0
    assert not bool(out.valid_px[:, :, :4].any())
    assert float(out.valid_px.float().mean()) > 0.5


def test_augment__strength_goes_from_nothing_to_all(noise: PairBatch):
    smooth = F.avg_pool2d(noise.images.float(), 9, 1, 4).to(torch.uint8)
    batch = replace(noise, images=smooth)
    plain = batch.normalised().images
    changes = [float((augment(batch, seeded(3), s).images - plain).abs().mean()) for s in (0.0, 0.2, 1.0)]
    assert changes[0] < 1e-5
    assert changes[0] < changes[1] < changes[2]


def test_augment__never_flips():
    """A bright corner stays in its quadrant whatever the seed."""
    images = torch.full((64, 1, 64, 64), 20, dtype=torch.uint8)
    images[:, :, 12:24, 12:24] = 255
    out = augment(batch_of(images), seeded(5)).images[:, 0]
    quadrants = torch.stack([q.mean((1, 2)) for half in out.chunk(2, 1) for q in half.chunk(2, 2)])
    assert quadrants.argmax(0).tolist() == [0] * 64


def test_augment__image_and_mask_move_together():
    images = torch.full((32, 1, 64, 64), 200, dtype=torch.uint8)
    valid = torch.zeros(32, 64, 64, dtype=torch.bool)
    valid[:, 20:40, 16:44] = True
    out = augment(replace(batch_of(images), valid_px=valid), seeded(3))
    inside = out.images[:, 0][out.valid_px]
    assert float(inside.mean()) > 0.5  # what was bright is what is valid
    area = out.valid_px.float().sum((1, 2)) / (20 * 28)
    assert float(area.min()) > 0.85**2 - 0.1
    assert float(area.max()) < 1.15**2 + 0.1


@pytest.mark.slow
def test_augment__fast_enough():
    import time

    images = torch.randint(0, 256, (64, 1, 192, 192), dtype=torch.uint8)
    batch, generator = batch_of(images), seeded(0)
    augment(batch, generator)
    start = time.perf_counter()
    for _ in range(5):
        augment(batch, generator)
    assert (time.perf_counter() - start) / 5 < 0.25
