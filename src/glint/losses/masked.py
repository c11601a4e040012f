"""Self-supervision for any dense image encoder: say what is under the masked blocks.

    L = w_latent smoothL1(predict(h_p), LN(teacher(x)_p))  +  w_pixel MSE(reconstruct(h_p), patch-normalised x_p)

over the masked patches p that are not padding. The student sees the image with blocks replaced by grey noise, the
teacher (moving average of the student) sees all of it. The pixel term keeps the pair from agreeing on a constant.
Axes: B studies, P patches on a grid Yp x Xp, C encoder width, Y X pixels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import PretrainConfig
from glint.model.teacher import Teacher
from glint.model.vision.base import ImageEncoder

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch


class MaskedPrediction(nn.Module):
    """Objective of `glint pretrain`.

    Args:
        cfg: Mask, moving average and weights of the two terms.
        vision: The student; any encoder.
    """

    def __init__(self, cfg: PretrainConfig, vision: ImageEncoder) -> None:
        super().__init__()
        self.cfg, self.vision = cfg, vision
        self.teacher = Teacher(vision, moving=True)
        width, cell = vision.width, math.prod(vision.patch)
        self.predictor = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.to_latent = nn.Linear(2 * width, width)
        self.to_pixels = nn.Linear(2 * width, cell)

    def forward(self, batch: "PairBatch", generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts; `generator` (CPU) places the blocks. Reports are not looked at."""
        images, patch = batch.images, self.vision.patch
        mask_px = block_mask(
            len(images), images.shape[2:], self.cfg.mask_block_px, self.cfg.mask_ratio, generator
        )
        mask_px = mask_px.to(images.device)
        student = self.vision(hide(images, mask_px, generator)).tokens
        reference = self.teacher(images).tokens
        scored = whole_cells(mask_px, patch) & whole_cells(batch.valid_px, patch)
        with torch.autocast(images.device.type, enabled=False):
            hidden = self.predictor(student.float()[scored])
            target = F.layer_norm(reference.float()[scored], reference.shape[-1:])
            latent = F.smooth_l1_loss(self.to_latent(hidden), target)
            pixel = F.mse_loss(self.to_pixels(hidden), normalised_cells(images, patch)[scored])
            total = self.cfg.latent_weight * latent + self.cfg.pixel_weight * pixel
        parts = {"loss_latent": latent, "loss_pixel": pixel, "teacher_spread": token_spread(reference)}
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def update_teacher(self) -> None:
        """Move the teacher a little towards the student."""
        self.teacher.follow(self.vision, self.cfg.ema)


def block_mask(
    count: int, shape: Sequence[int], block_px: int, ratio: float, generator: torch.Generator
) -> Tensor:
    """Return (B, Y, X) or (B, Z, Y, X) bool, True in randomly placed blocks: as many in every image.

    The lattice of blocks is shifted at random by whole eighths of a block, so that block borders move.
    """
    sides = [-(-side // block_px) + 1 for side in shape]
    order = torch.rand(count, math.prod(sides), generator=generator).argsort(1)
    mask = (order < round(ratio * math.prod(sides))).view(count, *sides)
    for axis in range(1, 1 + len(sides)):
        mask = mask.repeat_interleave(block_px, axis)
    shifts = torch.randint(8, (len(sides),), generator=generator)
    for axis, (side, eighths) in enumerate(zip(shape, shifts, strict=True), start=1):
        mask = mask.narrow(axis, int(eighths) * max(block_px // 8, 1), side)
    return mask


def hide(images: Tensor, mask_px: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (B, C, ...) with masked pixels (B, ...) replaced by the image's mean grey and coarse noise."""
    mean = images.mean(tuple(range(2, images.ndim)), keepdim=True)
    noise = torch.randn(images.shape[2:], generator=generator).to(images.device) * 0.1
    return torch.where(mask_px[:, None], mean + noise, images)


def token_spread(tokens: Tensor) -> Tensor:
    """Return the spread () of tokens (B, P, C) over patches: it falls towards 0 when all agree on a constant."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:]).std((0, 1)).mean()


def whole_cells(mask_px: Tensor, patch: Sequence[int]) -> Tensor:
    """Return (B, P): True where every pixel of a patch is True in (B, Y, X) or (B, Z, Y, X)."""
    pool = F.max_pool2d if len(patch) == 2 else F.max_pool3d
    return pool(1 - mask_px[:, None].float(), tuple(patch)).flatten(1) < 0.5


def normalised_cells(images: Tensor, patch: Sequence[int]) -> Tensor:
    """Return the pixels of each patch (B, P, pixels) of images (B, C, ...), the mean of their channels.

    Zero mean and unit variance; flat patches are left flat.
    """
    cells = images.float().mean(1)
    for axis, side in enumerate(patch):
        cells = cells.unflatten(1 + 2 * axis, (-1, side))
    # (B, Zp, z, Yp, y, Xp, x) -> (B, z, y, x, Zp, Yp, Xp) -> (B, P, pixels)
    outer, inner = range(1, cells.ndim, 2), range(2, cells.ndim, 2)
    cells = cells.permute(0, *inner, *outer).flatten(1, len(patch)).flatten(2).transpose(1, 2)
    deviation = (cells.var(-1, keepdim=True) + 1e-4).sqrt()
    return (cells - cells.mean(-1, keepdim=True)) / deviation
