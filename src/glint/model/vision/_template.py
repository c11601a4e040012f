"""Copy this file to add an image encoder; then add its name to VisionConfig.name and to build_vision.

The contract: `width` and `stride_px` are set, `forward` takes (B, 1, Y, X) in [0, 1] and returns patch tokens in
row-major order, without prefix tokens, plus three intermediate levels. Normalisation is the encoder's own business.
"""

from itertools import pairwise

from torch import Tensor, nn

from glint.config.schema import VisionConfig
from glint.model.vision.base import EncoderOutput, ImageEncoder, as_tokens, check_size


class TemplateEncoder(ImageEncoder):
    """Three convolutions: the smallest thing that fulfils the contract (tests run it)."""

    def __init__(self, cfg: VisionConfig) -> None:
        super().__init__()
        self.width, self.stride_px, self.channels = cfg.width, 8, cfg.in_channels
        widths = (cfg.in_channels, cfg.width // 4, cfg.width // 2, cfg.width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GELU()) for a, b in pairwise(widths)
        )

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = check_size(images, self.stride_px)
        x, maps = self.normalise(images, self.channels), list[Tensor]()
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return EncoderOutput(as_tokens(x), grid, tuple(as_tokens(m) for m in maps))
