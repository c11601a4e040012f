"""Inflated 3D ResNet-152: the image encoder of Merlin (arXiv 2406.06512) and, trained on, of Astra; own code.

A ResNet whose 2D kernels were inflated along Z (I3D, arXiv 1705.07750). Strides are 16 along Z, 32 in the plane.
"""

import re
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from glint.errors import WeightsError
from glint.model.vision.base import EncoderOutput
from glint.model.vision.volume import Spacing, VolumeArch, VolumeEncoder
from glint.model.weights import RawWeights


class I3ResNetArch(VolumeArch):
    """Settings of an inflated ResNet. The defaults are Merlin's: abdominal CT at 1.5 x 1.5 x 3 mm."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    window_hu: tuple[tuple[float, float], ...] = ((-1000.0, 1000.0),)
    spacing_mm: Spacing | None = (3.0, 1.5, 1.5)
    size_vox: tuple[int, int, int] | None = (160, 224, 224)
    axes: Literal["zyx", "zxy", "xyz"] = "zxy"
    """Upstream arrays are (X, Y, Z) towards R, A, S; its network turns them to (Z, X, Y)."""
    width: int = Field(64, ge=1)
    """Channels of the stem; the stages have 4, 8, 16 and 32 times as many."""
    depths: tuple[int, int, int, int] = (3, 8, 36, 3)
    token_stage: Literal[2, 3, 4] = 4
    """Stage whose map becomes the tokens: 2 (4 x 8 x 8 voxels), 3 (8 x 16 x 16) or 4 (16 x 32 x 32). The weights were
    trained to describe reports with the last. Stages after it are kept with the weights, neither run nor trained."""


# Chest recipe of Astra: no spacing; what is denser than air is stretched to the size.
ASTRA = {"window_hu": ((-1000.0, 200.0),), "spacing_mm": None, "size_vox": (160, 224, 224)}


class I3ResNet(VolumeEncoder):
    """Inflated ResNet: tokens are the map of a stage, levels those of up to two stages before it."""

    Arch = I3ResNetArch
    licence: ClassVar[str] = "MIT (Merlin: Stanford MIMI Lab; Astra: zzzwzh/Astra_CTRG)"
    arch: I3ResNetArch

    def __init__(self, arch: I3ResNetArch) -> None:
        super().__init__()
        self.arch, base = arch, arch.width
        self.conv1 = nn.Conv3d(len(arch.mean), base, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(base)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inputs = (base, 4 * base, 8 * base, 16 * base)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(width, base * 2**i, depth, stride=1 if i == 0 else 2)
            for i, (width, depth) in enumerate(zip(inputs, arch.depths, strict=True))
        )
        for unused in self._stages()[arch.token_stage :]:
            unused.requires_grad_(False)
        step = 2**arch.token_stage
        self.width = 2 * base * step
        self.patch = self.multiple = self.turn_grid((step, 2 * step, 2 * step))

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        x = self.maxpool(self.bn1(self.conv1(self.turn(self.normalise(images)))).relu())
        maps: list[Tensor] = []
        for stage in self._stages()[: self.arch.token_stage]:
            x = stage(x)
            maps.append(x)
        return self.output(maps, grid)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder; the bottlenecks that run."""
        return [block for stage in self._stages()[: self.arch.token_stage] for block in stage]

    def _stages(self) -> list[nn.Sequential]:
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read Merlin's checkpoint, Astra's, or the image encoder alone (with the file's `meta` saying whose)."""
        tensors = raw.tensors("state_dict", "model")
        inside = {
            key.split("i3_resnet.", 1)[1]: value for key, value in tensors.items() if "i3_resnet." in key
        }
        found = {
            key: value
            for key, value in (inside or tensors).items()
            if not key.startswith(("classifier.", "contrastive_head."))
        }
        stem = found.get("conv1.weight")
        if stem is None or stem.dim() != 5 or "layer1.0.conv2.weight" not in found:
            raise WeightsError(
                f"these are no weights of an inflated ResNet: no 3D conv1 among {sorted(tensors)[:4]}",
                where=raw.where,
                expected="Merlin's or Astra's checkpoint, or the tensors of its image encoder (i3_resnet)",
            )
        origin = str(raw.tree.get("meta", "")) + " ".join(tensors)
        depths = [
            sum(bool(re.fullmatch(rf"layer{i}\.\d+\.conv1\.weight", key)) for key in found)
            for i in range(1, 5)
        ]
        arch: dict[str, Any] = {"width": stem.shape[0], "depths": depths}
        return arch | (ASTRA if "visual_encoder." in origin else {}), found


class Bottleneck(nn.Module):
    """1, 3, 1 convolutions with batch normalisation around a shortcut, (B, C, ...) -> (B, 4 * width, ...)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + f(x))."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


def _stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    first.downsample = nn.Sequential(
        nn.Conv3d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm3d(4 * width)
    )
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(depth - 1)))
