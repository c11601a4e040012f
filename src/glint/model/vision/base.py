"""What every image encoder hands over, and what it says about itself.

Axes: B studies, C encoder width, P patches on a grid (Yp, Xp) or (Zp, Yp, Xp), Pl and Cl patches and width of a level.
Prefix tokens (CLS, registers) never leave an encoder: they carry global information and must not meet the gate.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.settings import Settings
from glint.errors import DataError, WeightsError
from glint.model.weights import RawWeights

Grid = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """Dense features of a batch of images.

    Attributes:
        tokens: (B, P, C) patch tokens in row-major order of the grid.
        grid: (Yp, Xp) or (Zp, Yp, Xp); its product is P.
        levels: Intermediate feature sets (B, Pl, Cl), shallow to deep, for dense feature regularization.
    """

    tokens: Tensor
    grid: Grid
    levels: tuple[Tensor, ...]


class EncoderArch(Settings):
    """Everything but the weights that decides what an encoder computes; saved with the model. Subclass it.

    `mean` and `std` have one number a channel, for pixels in [0, 1]; grey images are repeated over the channels.
    """

    mean: tuple[float, ...] = (0.5,)
    """Subtracted from pixels in [0, 1], one number a channel."""
    std: tuple[float, ...] = (0.25,)
    """Divides them afterwards."""
    licence: str = ""
    """What the licence of the weights it started from asks of models derived from them; goes on into every card."""


class ImageEncoder(nn.Module):
    """Base class: pixels in, dense features out. To add one, copy _template.py.

    Attributes:
        Arch: Settings of this kind of encoder.
        arch: The settings of this one.
        width: C of the tokens.
        patch: Pixels of the input per token, (Y, X), or voxels, (Z, Y, X).
        multiple: Each side of an input must be a multiple of this; `patch` unless coarser stages ask for more.
        licence: What the licence of its published weights asks of models derived from them, or "".
    """

    Arch: ClassVar[type[EncoderArch]] = EncoderArch
    licence: ClassVar[str] = ""
    arch: Any  # an instance of Arch; subclasses say which
    width: int
    patch: Grid
    multiple: Grid

    def forward(self, images: Tensor) -> EncoderOutput:
        """Encode images (B, 1, Y, X) in [0, 1], bright = dense, or volumes (B, 1, Z, Y, X).

        Raises:
            DataError: A side is no multiple of `multiple` (see `pad`).
        """
        raise NotImplementedError

    def intermediate(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the levels alone, all that a teacher is asked for; encoders leave out what is behind them."""
        return self(images).levels

    def blocks(self) -> list[nn.Module]:
        """Return the blocks in order of depth: what tuning modes and layer-wise learning rates count."""
        raise NotImplementedError

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read published weights: the settings that follow from them, and the tensors under our names.

        Raises:
            WeightsError: These are no weights for this kind of encoder.
        """
        raise WeightsError(
            f"there are no published weights for {cls.__name__}",
            where=raw.where,
            expected="a folder written by `glint pretrain`",
        )

    def patch_mm(self, spacing_mm: tuple[float, ...]) -> tuple[float, ...]:
        """Return the size of a patch in mm, given the spacing of the input pixels on the same axes."""
        return tuple(size * spacing for size, spacing in zip(self.patch, spacing_mm, strict=True))

    def normalise(self, images: Tensor) -> Tensor:
        """Repeat grey values (B, 1, ...) over the channels, subtract their means, divide by their deviations."""
        shape = (1, -1, *(1 for _ in self.patch))
        mean = torch.tensor(self.arch.mean, dtype=images.dtype, device=images.device).view(shape)
        std = torch.tensor(self.arch.std, dtype=images.dtype, device=images.device).view(shape)
        return (images - mean) / std

    def grid(self, images: Tensor) -> Grid:
        """Return the token grid of an input.

        Raises:
            DataError: A side is no multiple of `multiple`.
        """
        sides = tuple(int(side) for side in images.shape[2:])
        if len(sides) != len(self.patch) or any(s % m for s, m in zip(sides, self.multiple, strict=True)):
            raise DataError(
                f"an image of {_by(sides)} does not fit {type(self).__name__}",
                expected=f"{len(self.patch)} axes, sides that are multiples of {_by(self.multiple)}",
                fix="pad or letterbox it (ImageEncoder.pad)",
            )
        return tuple(side // size for side, size in zip(sides, self.patch, strict=True))

    def pad(self, images: Tensor, value: float = 0.0) -> Tensor:
        """Pad images at the far ends of their axes to the next size that fits."""
        missing = [-side % m for side, m in zip(images.shape[2:], self.multiple, strict=True)]
        return F.pad(images, [n for size in reversed(missing) for n in (0, size)], value=value)


def as_tokens(feature_map: Tensor) -> Tensor:
    """Turn a map (B, C, Yp, Xp) or (B, C, Zp, Yp, Xp) into tokens (B, P, C) in row-major order."""
    return feature_map.flatten(2).transpose(1, 2)


def even_levels(depth: int, parts: int = 4) -> tuple[int, ...]:
    """Return `parts` evenly spaced block indices, the last one the last block: 12 -> 2, 5, 8, 11.

    This is the choice of DINOv3 and of V-JEPA 2.1 for 12, 24 and 40 blocks.
    """
    return tuple(sorted({max(0, round(depth * (i + 1) / parts) - 1) for i in range(parts)}))


def _by(numbers: Grid) -> str:
    return " x ".join(map(str, numbers))
