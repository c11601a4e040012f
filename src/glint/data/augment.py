"""Small changes that leave a report true: turn, zoom, shift, crop, contrast, noise, blur. Never a flip:
sentences name sides (mirror.py turns both).

All random numbers come from one generator, in a fixed order, so a step can be repeated exactly. Uint8 goes in
because brightness, contrast and gamma are then one table of 256 values for each image.
Axes: B studies, Y X pixels.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from glint.data.dataset import PairBatch

ROTATION_DEG = 8.0
SCALE = (0.85, 1.15)
SHIFT = 0.06  # of the side
CROP = 0.05  # of the side, from each border
CONTRAST = (0.75, 1.3)
BRIGHTNESS = 0.1
GAMMA = (0.75, 1.33)
NOISE = 0.03  # largest standard deviation
BLUR = 0.7  # largest weight of the 3 x 3 mean


CHUNK = 8  # images at a time on a CPU: their intermediate results stay in its cache, which is several times faster


def augment(batch: PairBatch, generator: torch.Generator, strength: float = 1.0) -> PairBatch:
    """Return the batch with changed images in [0, 1] and the padding mask that belongs to them.

    Args:
        batch: Images (B, 1, Y, X) uint8 on any device.
        generator: CPU generator; the result does not depend on anything else.
        strength: 0 to 1, a factor of every range: 0 changes nothing but the type.
    """
    images, device = batch.images, batch.images.device
    count, size = len(images), int(images.shape[-1])
    drawn = (
        _tone_tables(count, strength, generator),
        _crop_mask(count, size, strength, generator),
        _affine(count, strength, generator),
        strength * _uniform(count, -BLUR, BLUR, generator).clamp(min=0),  # half of the images stay sharp
        _noise(count, size, strength, generator),
    )
    inputs = [images, batch.valid_px, *(part.to(device) for part in drawn)]
    chunk = CHUNK if device.type == "cpu" else count
    done = [_apply(*parts) for parts in zip(*(part.split(chunk) for part in inputs), strict=True)]
    return replace(batch, images=torch.cat([d[0] for d in done]), valid_px=torch.cat([d[1] for d in done]))


def _apply(
    images: Tensor,
    valid_px: Tensor,
    table: Tensor,
    uncropped: Tensor,
    theta: Tensor,
    blur: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """Change some images (B, 1, Y, X) by numbers drawn before."""
    # Image and mask take the same way as two channels; the mask leaves it as a soft edge that is cut at 1/2.
    both = torch.empty(len(images), 2, *images.shape[-2:], device=images.device)
    both[:, 1] = valid_px & uncropped
    torch.mul(table.gather(1, images.flatten(1).long()).view_as(valid_px), both[:, 1], out=both[:, 0])
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    sharp, valid = moved[:, :1], moved[:, 1:] > 0.5
    images = torch.lerp(sharp, _mean3(sharp), blur[:, None, None, None]).add_(noise)
    return images.clamp_(0, 1).mul_(valid), valid[:, 0]


def _mean3(images: Tensor) -> Tensor:
    """Return the 3 x 3 mean; sums of shifted images are faster than a pooling layer."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).mul_(1 / 9)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.empty(count).uniform_(low, high, generator=generator)


def _factor(count: int, bounds: tuple[float, float], strength: float, generator: torch.Generator) -> Tensor:
    """Return factors around 1, evenly spread in their logarithm."""
    low, high = (strength * math.log(bound) for bound in bounds)
    return _uniform(count, low, high, generator).exp()


def _tone_tables(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return (B, 256): what each grey value becomes."""
    grey = torch.linspace(0, 1, 256).expand(count, -1)
    gamma = _factor(count, GAMMA, strength, generator)[:, None]
    contrast = _factor(count, CONTRAST, strength, generator)[:, None]
    brightness = strength * _uniform(count, -BRIGHTNESS, BRIGHTNESS, generator)[:, None]
    return ((grey**gamma - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def _affine(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return (B, 2, 3) maps from output to input coordinates in [-1, 1]."""
    angle = strength * _uniform(count, -ROTATION_DEG, ROTATION_DEG, generator).deg2rad()
    scale = _factor(count, SCALE, strength, generator)
    shift = strength * torch.empty(count, 2).uniform_(-2 * SHIFT, 2 * SHIFT, generator=generator)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return torch.cat([rows, shift[:, :, None]], 2)


def _crop_mask(count: int, size: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return (B, Y, X): False on a random strip along each border, as another collimation would leave it."""
    cut = torch.empty(count, 4, 1).uniform_(-CROP, CROP, generator=generator).clamp(min=0) * (strength * size)
    along = torch.arange(size)[None]
    rows = (along >= cut[:, 0]) & (along < size - cut[:, 1])
    columns = (along >= cut[:, 2]) & (along < size - cut[:, 3])
    return rows[:, :, None] & columns[:, None, :]


def _noise(count: int, size: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise (B, 1, Y, X); one larger tile is drawn and cut at random places, which is much cheaper."""
    spare = 64
    tile = torch.randn(size + spare, size + spare, generator=generator)
    offsets = torch.randint(spare, (count, 2), generator=generator).tolist()
    sigma = strength * _uniform(count, 0, NOISE, generator)
    cut = torch.stack([tile[y : y + size, x : x + size] for y, x in offsets])
    return cut.mul_(sigma[:, None, None])[:, None]
