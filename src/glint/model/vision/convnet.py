"""A small residual convolutional encoder with batch normalisation: learns from scratch on two cores.

Batch normalisation is what makes it quick: on the phantom, a supervised probe of the same data saw pacemakers
(AUROC 0.83) after 6,400 samples with this kind of encoder, and not yet (0.53) with a tiny ConvNeXt.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glint.config.schema import VisionConfig
from glint.model.vision.base import EncoderOutput, ImageEncoder, as_tokens, check_size


class ConvNet(ImageEncoder):
    """Stages at strides 4, 8, 16 (and 32) of residual 3x3 blocks; a neck joins the coarser ones at `token_stride`.

    Levels are the outputs of all stages but the first; the neck itself is free to move towards language.
    """

    def __init__(self, cfg: VisionConfig) -> None:
        super().__init__()
        self.width, self.stride_px = cfg.neck_width, cfg.token_stride
        widths = cfg.stage_widths
        # One 7x7 convolution at stride 4: two 3x3 ones at strides 2 and 4 took half of the time of the whole net.
        self.stem = _conv(1, widths[0], stride=4, size=7)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Identity() if before is None else _conv(before, width, stride=2),
                *(Residual(width) for _ in range(depth)),
            )
            for before, width, depth in zip((None, *widths[:-1]), widths, cfg.stage_depths, strict=True)
        )
        self.coarsest_px = cfg.coarsest_px
        self.first = 1 if cfg.token_stride == 8 else 2  # index of the stage at the token stride
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, cfg.neck_width, 1, bias=False), nn.BatchNorm2d(cfg.neck_width))
            for w in widths[self.first :]
        )
        # Channels last: a third faster on CPUs, and tokens are then a view.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        check_size(images, self.coarsest_px)
        x = self.stem(self.normalise(images, 1).contiguous(memory_format=torch.channels_last))
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        joined = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[self.first : -1]), strict=True):
            joined = lateral(finer) + F.interpolate(
                joined, size=finer.shape[-2:], mode="bilinear", align_corners=False
            )
        grid = (int(images.shape[-2]) // self.stride_px, int(images.shape[-1]) // self.stride_px)
        return EncoderOutput(as_tokens(F.relu(joined)), grid, tuple(as_tokens(m) for m in maps[1:]))


class Residual(nn.Module):
    """Two normalised 3x3 convolutions around an identity, (B, C, Y, X) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x + f(x))."""
        return F.relu(x + self.second(self.first(x)))


def _conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
