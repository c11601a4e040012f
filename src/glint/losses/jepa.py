"""Dense prediction in latent space with deep supervision, in the way of V-JEPA 2.1 (arXiv 2603.14482).

    L = mean over masked p of |f(h)_p - y_p|  +  w_context mean over visible p of d_p^-1/2 |f'(h)_p - y_p|

y is the moving-average teacher's view of the whole image: its levels and its tokens, each through a LayerNorm without
parameters, side by side (deep supervision). h are the same levels of the student, which sees the image with blocks of
patches hidden; f is a small transformer with one output for hidden and one for visible patches; d_p is the distance of
a visible patch to the nearest hidden one, in patches.

Upstream drops hidden patches from the student's sequence; here their pixels are replaced (losses/masked.py), so that
any encoder whose levels share one token grid can be trained, in 2D and in 3D. Blocks run through all slices.
Axes: B studies, P patches, L levels and tokens, C encoder width, H width of the predictor.
"""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import PretrainConfig
from glint.errors import ConfigError
from glint.losses.masked import block_mask, hide, whole_cells
from glint.model.teacher import Teacher
from glint.model.vision.base import EncoderOutput, Grid, ImageEncoder

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch


class LatentPrediction(nn.Module):
    """Objective of `glint pretrain` with `pretrain.method=jepa`.

    Args:
        cfg: Masks, moving average, predictor.
        vision: The student; its levels must lie on the grid of its tokens (ViTs do).
    """

    def __init__(self, cfg: PretrainConfig, vision: ImageEncoder) -> None:
        super().__init__()
        self.cfg, self.vision = cfg, vision
        self.teacher = Teacher(vision, moving=True)
        with torch.no_grad():
            sample = self.vision.eval()(torch.zeros(1, 1, *vision.multiple))
        if any(level.shape[1] != sample.tokens.shape[1] for level in sample.levels):
            raise ConfigError(
                "pretrain.method=jepa needs an encoder whose levels lie on one token grid",
                where=f"vision.name, {type(vision).__name__}",
                fix="take a vision transformer, or pretrain.method=masked or dino",
            )
        width = sum(level.shape[-1] for level in sample.levels) + vision.width
        self.predictor = Predictor(width, cfg.predictor_width, cfg.predictor_depth)

    def forward(self, batch: "PairBatch", generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and its parts; `generator` (CPU) places the blocks. Reports are not looked at."""
        images = self._as_volume(batch.images)
        mask_px = block_mask(
            len(images), images.shape[-2:], self.cfg.mask_block_px, self.cfg.mask_ratio, generator
        ).to(images.device)
        student = self.vision(self._hide(images, mask_px, generator))
        grid = student.grid
        hidden, valid = (self._on_grid(x, grid) for x in (mask_px, batch.valid_px))
        with torch.autocast(images.device.type, enabled=False):
            target = side_by_side(self.teacher(images))
            for_hidden, for_visible = self.predictor(side_by_side(student, norm=False), hidden, grid)
            masked = masked_mean((for_hidden - target).abs().mean(-1), hidden & valid)
            weight = distance_to(hidden, grid).clamp_min(1).rsqrt()
            context = masked_mean(weight * (for_visible - target).abs().mean(-1), ~hidden & valid)
            total = masked + self.cfg.context_weight * context
        parts = {"loss_masked": masked, "loss_context": context, "teacher_spread": target.std((0, 1)).mean()}
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def update_teacher(self) -> None:
        """Move the teacher a little towards the student."""
        self.teacher.follow(self.vision, self.cfg.ema)

    def _as_volume(self, images: Tensor) -> Tensor:
        """Give 2D images (B, 1, Y, X) the single slice that a 3D encoder asks for."""
        return images[:, :, None] if len(self.vision.patch) == 3 and images.dim() == 4 else images

    def _hide(self, images: Tensor, mask_px: Tensor, generator: torch.Generator) -> Tensor:
        if images.dim() == 4:
            return hide(images, mask_px, generator)
        slices = images.transpose(1, 2)  # (B, Z, 1, Y, X): blocks run through all of them
        flat = hide(slices.flatten(0, 1), mask_px.repeat_interleave(slices.shape[1], 0), generator)
        return flat.view(slices.shape).transpose(1, 2)

    def _on_grid(self, px: Tensor, grid: Grid) -> Tensor:
        """Turn (B, Z, Y, X), or (B, Y, X) for every slice, into (B, P): True where a whole patch is True."""
        cells = whole_cells(px, self.vision.patch[-(px.ndim - 1) :])
        return cells.repeat(1, math.prod(grid) // cells.shape[1])


class Predictor(nn.Module):
    """Transformer that tells the teacher's view of every patch from the student's, (B, P, LC) -> twice (B, P, LC)."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.mask_token = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width,
            max(1, width // 32),
            4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.for_hidden, self.for_visible = nn.Linear(width, inputs), nn.Linear(width, inputs)

    def forward(self, features: Tensor, hidden: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return the guesses for hidden and for visible patches; each is meant to be read at its own patches."""
        x = torch.where(hidden[..., None], self.mask_token, self.embed(features))
        x = self.blocks(x + positions(grid, x.shape[-1]).to(x.device))
        return self.for_hidden(x), self.for_visible(x)


def side_by_side(output: EncoderOutput, *, norm: bool = True) -> Tensor:
    """Join levels and tokens to (B, P, LC), each through a LayerNorm without parameters if `norm`."""
    parts = [part.float() for part in (*output.levels, output.tokens)]
    return torch.cat([F.layer_norm(part, part.shape[-1:]) if norm else part for part in parts], -1)


def positions(grid: Grid, width: int) -> Tensor:
    """Return sine and cosine positions (P, width) of a grid of any number of axes."""
    share = width // (2 * len(grid))
    rates = 10000.0 ** (-torch.arange(share) / max(share, 1))
    axes = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in grid), indexing="ij"), -1).flatten(
        0, -2
    )
    angles = (axes[:, :, None] * rates).flatten(1)
    return F.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * share * len(grid)))


def distance_to(hidden: Tensor, grid: Grid) -> Tensor:
    """Return (B, P): distance of each patch to the nearest hidden one, in patches; 0 where it is hidden itself."""
    axes = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in grid), indexing="ij"), -1).flatten(
        0, -2
    )
    between = torch.cdist(axes, axes).to(hidden.device)
    # One image after the other: (P, P) is a gigabyte for the 16,384 patches of a volume, (B, P, P) would be many.
    apart = torch.stack([between.masked_fill(~row, torch.inf).amin(-1) for row in hidden])
    return apart.masked_fill(~hidden.any(1, keepdim=True), 1.0)


def masked_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Return the mean of values (B, P) where `kept`; 0 when nothing is."""
    return (values * kept).sum() / kept.sum().clamp_min(1)
