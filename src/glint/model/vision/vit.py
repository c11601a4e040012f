"""What the vision transformers of transformers have in common: settings, and the way from pixels to tokens."""

from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from glint.model.vision.base import EncoderArch, EncoderOutput, ImageEncoder, even_levels

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ViTArch(EncoderArch):
    """Settings that every ViT has. There is no dropout: it would part a student from its teacher at step 0."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    patch_px: int = Field(16, ge=4)
    width: int = Field(192, ge=8)
    depth: int = Field(6, ge=1)
    heads: int = Field(3, ge=1)
    norm_eps: float = Field(1e-6, gt=0)
    """Added to the variance in layer normalisation."""
    levels: tuple[int, ...] = ()
    """Blocks (from 0) whose outputs are the levels of dense feature regularization; () means 1/4, 2/4, 3/4."""

    @model_validator(mode="after")
    def _fits(self) -> "ViTArch":
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 4 * heads = {4 * self.heads}")
        if any(not 0 <= level < self.depth for level in self.levels):
            raise ValueError(f"levels {self.levels} must lie between 0 and depth - 1 = {self.depth - 1}")
        return self


class LearntPositionsArch(ViTArch):
    """Settings of a ViT with a table of positions, made for images of one size (DINOv2, SigLIP)."""

    patch_px: int = Field(14, ge=4)
    image_px: int = Field(224, ge=8)
    """Side of the images that the learnt positions are for; for other sizes they are interpolated."""

    @model_validator(mode="after")
    def _holds_patches(self) -> "LearntPositionsArch":
        if self.image_px % self.patch_px:
            raise ValueError(f"image_px {self.image_px} must be a multiple of patch_px {self.patch_px}")
        return self


class HubViT(ImageEncoder):
    """A ViT of transformers: tokens are the normed patch tokens of the last block, levels those of blocks before it.

    Args:
        arch: The settings.
        net: The model; its sequence is `prefix` tokens (CLS, registers), then the patches in row-major order.
        prefix: How many tokens are no patches.
    """

    options: ClassVar[dict[str, Any]] = {}  # for the forward pass of `net`

    def __init__(self, arch: ViTArch, net: nn.Module, prefix: int) -> None:
        super().__init__()
        self.arch, self.width, self.prefix = arch, arch.width, prefix
        self.patch = self.multiple = (arch.patch_px, arch.patch_px)
        self.levels = arch.levels or even_levels(arch.depth)[:-1] or (0,)
        self.net: Any = net

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        output = self.net(self.normalise(images), output_hidden_states=True, **self.options)
        # hidden_states[0] is the embedding, hidden_states[i + 1] the output of block i, before the last norm.
        levels = tuple(output.hidden_states[i + 1][:, self.prefix :] for i in self.levels)
        return EncoderOutput(output.last_hidden_state[:, self.prefix :], grid, levels)
