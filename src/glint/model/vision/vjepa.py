"""V-JEPA 2.0 and 2.1 as dense encoders of volumes and, with 2.1, of single slices.

Own code throughout: transformers knows 2.0 only, and takes the token grid from its configuration, not from the input.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from glint.errors import DataError
from glint.model.vision.base import EncoderArch, EncoderOutput, Grid, ImageEncoder, even_levels
from glint.model.vision.vjepa_vit import Rope, VideoViT
from glint.model.vision.vjepa_weights import read_vjepa
from glint.model.weights import RawWeights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRAINED_TUBELETS = 32  # of the longest clips in training, 64 frames


class VJEPAArch(EncoderArch):
    """Settings of a V-JEPA encoder."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    version: Literal["2.0", "2.1"] = "2.1"
    """Rotary positions, norms and the path for single slices. Published weights say which."""
    patch_px: int = Field(16, ge=2)
    """Rows and columns of a patch."""
    tubelet: int = Field(2, ge=1)
    """Slices of a patch."""
    width: int = Field(192, ge=12)
    depth: int = Field(6, ge=1)
    heads: int = Field(0, ge=0)
    """Attention heads; 0 means width / 64, as published but for the 2.0 H (16 heads of 80)."""
    mlp_width: int = Field(0, ge=0)
    """Hidden width of the MLP; 0 means 4 * width."""
    trained_grid: int = Field(16, ge=2)
    """2.1 maps rows and columns of any number onto this many; 16 is 256 px at patches of 16."""
    depth_rope: Literal["raw", "interpolate"] = "raw"
    """interpolate: more than 32 tubelets (the longest clip in training) are mapped onto 0 ... 31."""
    fold_gray: bool = False
    """Embed grey values directly, not repeated over the channels: the same up to rounding, a third of the input."""
    checkpointing: bool = False
    """Compute blocks again in the backward pass: less memory for the time of one more forward pass."""
    levels: tuple[int, ...] = ()
    """Blocks (from 0) whose outputs are the levels of dense feature regularization; () means the hierarchical
    layers of 2.1 before the last."""

    @model_validator(mode="after")
    def _fits(self) -> "VJEPAArch":
        if not self.heads and self.width % 64:
            raise ValueError(f"width {self.width} is no multiple of 64: say how many heads")
        size, left = divmod(self.width, self.num_heads)
        if left or size % 2 or size < 6:
            raise ValueError(
                f"width {self.width} with {self.num_heads} heads: a head needs an even number of channels, 6 or more"
            )
        if any(not 0 <= level < self.depth for level in self.levels):
            raise ValueError(f"levels {self.levels} must be blocks 0 to {self.depth - 1}")
        return self

    @property
    def num_heads(self) -> int:
        """Heads written out."""
        return self.heads or self.width // 64


def hierarchical_levels(depth: int) -> tuple[int, ...]:
    """Return the four blocks that 2.1 supervises: evenly spaced, but 11, 23, 37, 47 in G (as published, not 35)."""
    return (11, 23, 37, 47) if depth == 48 else even_levels(depth)


class VJEPA(ImageEncoder):
    """V-JEPA: tokens are the normed patch tokens of the last block.

    Input is a volume (B, 1, Z, Y, X), or (B, C, Z, Y, X) with channels of its own (such as three HU windows), in
    [0, 1]. 2.1 also takes single slices, Z = 1, and gives them a grid (1, Yp, Xp).

    The levels are outputs of blocks without their norms: dense feature regularization norms them itself, without
    parameters, as the training targets of 2.1 are; and the distilled B and L may never have trained the norms of
    intermediate levels.
    """

    Arch = VJEPAArch
    licence: ClassVar[str] = "MIT (V-JEPA 2 and 2.1, Meta): keep the copyright notice with derived weights"
    arch: VJEPAArch

    def __init__(self, arch: VJEPAArch) -> None:
        super().__init__()
        self.arch, self.width = arch, arch.width
        self.patch = self.multiple = patch = (arch.tubelet, arch.patch_px, arch.patch_px)
        hierarchy, is_21 = hierarchical_levels(arch.depth), arch.version == "2.1"
        self.levels = arch.levels or hierarchy[:-1] or (0,)
        self.net = VideoViT(
            channels=len(arch.mean),
            patch=patch,
            width=arch.width,
            depth=arch.depth,
            heads=arch.num_heads,
            mlp_width=arch.mlp_width or 4 * arch.width,
            norms=len(hierarchy) if is_21 else 0,
            rope=Rope(
                head_dim=arch.width // arch.num_heads,
                tiled=not is_21,
                trained_grid=arch.trained_grid if is_21 else 0,
                trained_depth=TRAINED_TUBELETS if arch.depth_rope == "interpolate" else 0,
            ),
            checkpointing=arch.checkpointing,
        )

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        if self.arch.fold_gray:
            numbers = torch.tensor((self.arch.mean, self.arch.std), dtype=images.dtype, device=images.device)
            tokens, levels = self.net(images, grid, self.levels, numbers.unbind())
        else:
            tokens, levels = self.net(self.normalise(images), grid, self.levels, None)
        return EncoderOutput(tokens, grid, levels)

    def grid(self, images: Tensor) -> Grid:
        """See ImageEncoder; 2.1 takes single slices, too.

        Raises:
            DataError: A side is no multiple of the patch, or the channels do not fit.
        """
        channels = {1} if self.arch.fold_gray else {1, len(self.arch.mean)}
        if images.dim() == 5 and images.shape[1] not in channels:
            raise DataError(
                f"a volume of {images.shape[1]} channels does not fit {type(self).__name__}",
                expected=" or ".join(map(str, sorted(channels))) + " channels",
                fix="vision.arch.fold_gray=false takes as many channels as vision.arch.mean has numbers",
            )
        if not self._is_slice(images):
            return super().grid(images)
        rows, columns = int(images.shape[3]), int(images.shape[4])
        side = self.arch.patch_px
        if rows % side or columns % side:
            raise DataError(
                f"a slice of {rows} x {columns} does not fit {type(self).__name__}",
                expected=f"sides that are multiples of {side}",
                fix="pad or letterbox it (ImageEncoder.pad)",
            )
        return (1, rows // side, columns // side)

    def pad(self, images: Tensor, value: float = 0.0) -> Tensor:
        """See ImageEncoder; a single slice stays one where that fits."""
        padded = super().pad(images, value)
        return padded[:, :, :1] if self._is_slice(images) else padded

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.blocks)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read official .pt files, safetensors with the same names, or the hub's folders of 2.0."""
        settings, tensors = read_vjepa(raw)
        return settings, {f"net.{name}": tensor for name, tensor in tensors.items()}

    def _is_slice(self, images: Tensor) -> bool:
        return self.arch.version == "2.1" and images.dim() == 5 and images.shape[2] == 1
