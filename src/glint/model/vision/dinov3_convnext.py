"""DINOv3 ConvNeXt (transformers' class) with a small top-down neck, as a dense encoder."""

import re
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

from glint.model.vision.base import EncoderArch, EncoderOutput, ImageEncoder, as_tokens
from glint.model.vision.hub import count_blocks, expect_model, normalisation, shape_of
from glint.model.vision.vit import IMAGENET_MEAN, IMAGENET_STD
from glint.model.weights import RawWeights


class DINOv3ConvNeXtArch(EncoderArch):
    """Settings of a DINOv3 ConvNeXt."""

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    widths: tuple[int, int, int, int] = (32, 64, 160, 256)
    """Channels of the stages at strides 4, 8, 16, 32."""
    depths: tuple[int, int, int, int] = (1, 2, 4, 1)
    """Blocks of the stages."""
    layer_scale: float = 1.0
    """Start of the layer scales. 1e-6 is for deep nets: a tiny one would barely start."""
    token_stride: Literal[8, 16] = 8
    """Pixels per token; the neck joins coarser stages at this stride."""
    neck_width: int = Field(192, ge=0)
    """Width of the tokens; 0: no neck, tokens are the map of the stage at the token stride, as upstream gives it."""


class DINOv3ConvNeXt(ImageEncoder):
    """Stages at strides 4 to 32; the neck sums 1x1 projections of the coarser ones at `token_stride`.

    Levels are the outputs of all stages but the first; the neck itself is free to move towards language.
    """

    Arch = DINOv3ConvNeXtArch
    licence: ClassVar[str] = (
        "DINOv3 License: derivatives carry the same agreement; acknowledge DINOv3 in publications"
    )
    arch: DINOv3ConvNeXtArch

    def __init__(self, arch: DINOv3ConvNeXtArch) -> None:
        super().__init__()
        self.arch, self.patch, self.multiple = arch, (arch.token_stride,) * 2, (32, 32)
        self.first = 1 if arch.token_stride == 8 else 2  # index of the stage at the token stride
        self.width = arch.neck_width or arch.widths[self.first]
        self.net = DINOv3ConvNextModel(
            DINOv3ConvNextConfig(
                num_channels=len(arch.mean),
                hidden_sizes=list(arch.widths),
                depths=list(arch.depths),
                layer_scale_init_value=arch.layer_scale,
            )
        )
        self.net.layer_norm.requires_grad_(False)  # of the pooled output, which dense features do not use
        self.neck = Neck(arch.widths[self.first :], arch.neck_width) if arch.neck_width else None

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        maps: list[Tensor] = []
        x = self.normalise(images)
        for stage in self.net.model.stages:
            x = stage(x)
            maps.append(x)
        used = maps[self.first :]
        tokens = self.neck(used) if self.neck is not None else as_tokens(used[0])
        return EncoderOutput(tokens, grid, tuple(as_tokens(m) for m in maps[1:]))

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.model.stages)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a hub folder or an official .pth. Published weights have no neck: so has an encoder made of them.

        Its tokens come from the third stage, which holds most of the blocks, unless the recipe says otherwise.
        """
        expect_model(raw, "dinov3-convnext")
        tensors = {
            key.removeprefix("module.").removeprefix("backbone."): value
            for key, value in raw.tensors("teacher", "model", "state_dict").items()
        }
        if "norm.weight" in tensors:
            tensors = from_official(tensors)
        found = {f"net.model.{k}" if k.startswith("stages.") else f"net.{k}": v for k, v in tensors.items()}
        stages = [f"net.model.stages.{stage}.layers." for stage in range(4)]
        channels = shape_of(found, "net.model.stages.0.downsample_layers.0.weight", raw.where)[1]
        return {
            "widths": [shape_of(found, f"{stage}0.gamma", raw.where)[0] for stage in stages],
            "depths": raw.config.get("depths") or [count_blocks(found, stage) for stage in stages],
            "neck_width": 0,
            "token_stride": 16,
        } | normalisation(raw, channels), found


class Neck(nn.Module):
    """Sum 1x1 projections of maps, fine to coarse, at the resolution of the first; return its tokens (B, P, C)."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(w, width, 1) for w in widths)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Join from the coarsest map downwards."""
        joined = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            up = F.interpolate(joined, size=finer.shape[-2:], mode="bilinear", align_corners=False)
            joined = lateral(finer) + up
        tokens = self.norm(as_tokens(joined))
        return tokens + self.mix(tokens)


def from_official(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official .pth to those of transformers."""
    rules = [
        (r"^downsample_layers\.(\d)\.(\d)\.", r"stages.\1.downsample_layers.\2."),
        (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.layers.\2."),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"(stages\.\d\.layers\.\d+)\.norm\.", r"\1.layer_norm."),
        (r"\.pwconv([12])\.", r".pointwise_conv\1."),
        (r"^norm\.", "layer_norm."),
    ]
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not name.startswith("norms."):  # the same norm under a second name
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value
    return renamed
