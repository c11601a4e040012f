"""DINOv3 ConvNeXt (transformers' class) with a small top-down neck, as a dense encoder.

A convolutional encoder is local by construction, which is what grounding needs when it is trained from
scratch on little data; docs/results.md compares it with the ViT.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

from glint.config.schema import VisionConfig
from glint.model.vision.base import EncoderOutput, ImageEncoder, as_tokens, check_size


class DINOv3ConvNeXt(ImageEncoder):
    """Stages at strides 4, 8, 16 (and 32); the neck sums 1x1 projections of the coarser ones at `token_stride`.

    Levels are the outputs of all stages but the first; the neck itself is free to move towards language.
    """

    def __init__(self, cfg: VisionConfig) -> None:
        super().__init__()
        self.width, self.stride_px, self.channels = cfg.neck_width, cfg.token_stride, cfg.in_channels
        self.net = DINOv3ConvNextModel(
            DINOv3ConvNextConfig(
                num_channels=cfg.in_channels,
                hidden_sizes=list(cfg.stage_widths),
                depths=list(cfg.stage_depths),
                layer_scale_init_value=1.0,  # 1e-6 is for deep pretrained nets: a tiny one would barely start
            )
        )
        self.net.layer_norm.requires_grad_(
            False
        )  # belongs to the pooled output, which dense features do not use
        self.coarsest_px = cfg.coarsest_px
        self.first = 1 if cfg.token_stride == 8 else 2  # index of the stage at the token stride
        self.laterals = nn.ModuleList(nn.Conv2d(w, cfg.neck_width, 1) for w in cfg.stage_widths[self.first :])
        self.norm = nn.LayerNorm(cfg.neck_width)
        self.mix = nn.Sequential(nn.Linear(cfg.neck_width, cfg.neck_width), nn.GELU())

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        check_size(images, self.coarsest_px)
        grid = (int(images.shape[-2]) // self.stride_px, int(images.shape[-1]) // self.stride_px)
        maps: list[Tensor] = []
        x = self.normalise(images, self.channels)
        for stage in self.net.model.stages:
            x = stage(x)
            maps.append(x)
        joined = self.laterals[-1](maps[-1])
        for lateral, feature_map in zip(
            reversed(self.laterals[:-1]), reversed(maps[self.first : -1]), strict=True
        ):
            up = F.interpolate(joined, size=feature_map.shape[-2:], mode="bilinear", align_corners=False)
            joined = lateral(feature_map) + up
        tokens = self.norm(as_tokens(joined))
        tokens = tokens + self.mix(tokens)
        return EncoderOutput(tokens, grid, tuple(as_tokens(m) for m in maps[1:]))
