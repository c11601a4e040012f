"""Copy this file to add an image encoder (docs/encoders.md), then add its name to `ENCODERS` in registry.py.

The contract: settings in an EncoderArch; `width`, `patch` and `multiple` are set; `forward` takes (B, 1, Y, X) in
[0, 1] and returns patch tokens in row-major order, without prefix tokens, plus intermediate levels; `blocks` lists
what tuning modes count. `adopt` reads published weights, if there are any.
"""

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from glint.model.vision.base import EncoderArch, EncoderOutput, ImageEncoder, as_tokens


class TemplateArch(EncoderArch):
    """Settings of the template."""

    width: int = Field(48, ge=8)


class TemplateEncoder(ImageEncoder):
    """Three convolutions: the smallest thing that fulfils the contract (tests run it)."""

    Arch = TemplateArch
    arch: TemplateArch

    def __init__(self, arch: TemplateArch) -> None:
        super().__init__()
        self.arch, self.width = arch, arch.width
        self.patch = self.multiple = (8, 8)
        widths = (len(arch.mean), arch.width // 4, arch.width // 2, arch.width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GELU()) for a, b in pairwise(widths)
        )

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        x, maps = self.normalise(images), list[Tensor]()
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return EncoderOutput(as_tokens(x), grid, tuple(as_tokens(m) for m in maps))

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.layers)
