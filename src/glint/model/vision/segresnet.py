"""CT-FM's encoder (arXiv 2501.09001): MONAI's SegResEncoder (arXiv 1810.11654) as a dense encoder. Needs monai."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from glint.errors import ConfigError, WeightsError
from glint.model.vision.base import EncoderOutput
from glint.model.vision.volume import Spacing, VolumeArch, VolumeEncoder
from glint.model.weights import RawWeights


class SegResNetArch(VolumeArch):
    """Settings of a SegResEncoder. The defaults are CT-FM's: SPL, HU [-1024, 2048], 3 mm slices of 1 mm pixels."""

    window_hu: tuple[tuple[float, float], ...] = ((-1024.0, 2048.0),)
    spacing_mm: Spacing | None = (3.0, 1.0, 1.0)
    orientation: str = "SPL"
    width: int = Field(32, ge=1)
    """Channels of the first stage; each further one has twice as many at twice the stride."""
    depths: tuple[int, ...] = Field((1, 2, 2, 4, 4), min_length=3)
    """Residual blocks of the stages, which are at strides 1, 2, 4, 8, 16."""
    token_stride: Literal[4, 8, 16] = 16
    """Voxels per token. CT-FM's contrastive training saw the map at 16 only, and most of the weights belong to it.
    Later stages than that of the tokens are kept with the weights, neither run nor trained."""

    @model_validator(mode="after")
    def _stride_fits(self) -> "SegResNetArch":
        if self.token_stride >= 2 ** len(self.depths):
            raise ValueError(f"token_stride {self.token_stride} needs more than {len(self.depths)} stages")
        return self


class SegResNet(VolumeEncoder):
    """SegResEncoder: tokens are the map of one stage, levels those of the two before it."""

    Arch = SegResNetArch
    licence: ClassVar[str] = "Apache-2.0 (CT-FM, project-lighter)"
    arch: SegResNetArch

    def __init__(self, arch: SegResNetArch) -> None:
        super().__init__()
        self.arch = arch
        self.net = _monai_encoder(arch)
        self.num_run = arch.token_stride.bit_length()  # stages that run: 16 -> 5
        for unused in self.net.layers[self.num_run :]:
            unused.requires_grad_(False)
        self.net.layers[self.num_run - 1].downsample.requires_grad_(False)
        self.width = arch.width * arch.token_stride
        self.patch = self.multiple = (arch.token_stride,) * 3

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        x = self.net.conv_init(self.turn(self.normalise(images)))
        maps: list[Tensor] = []
        for stage in self.net.layers[: self.num_run]:
            x = stage["blocks"](x)
            maps.append(x)
            if len(maps) < self.num_run:
                x = stage["downsample"](x)
        return self.output(maps, grid)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder; residual blocks, and the convolutions between stages."""
        found: list[nn.Module] = []
        for number, stage in enumerate(self.net.layers[: self.num_run], 1):
            found += [*stage["blocks"], *([stage["downsample"]] if number < self.num_run else [])]
        return found

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read ct_fm_feature_extractor, or the encoder of ct_fm_segresnet (whose decoder is left out)."""
        tensors = raw.tensors("state_dict", "model")
        inside = {k.removeprefix("encoder."): v for k, v in tensors.items() if k.startswith("encoder.")}
        found = inside or tensors
        stem = found.get("conv_init.weight")
        if stem is None or stem.dim() != 5:
            raise WeightsError(
                f"these are no weights of a SegResEncoder: no 3D conv_init among {sorted(tensors)[:4]}",
                where=raw.where,
                expected="project-lighter/ct_fm_feature_extractor or ct_fm_segresnet",
            )
        depths: list[int] = []
        while block := {k.split(".")[3] for k in found if k.startswith(f"layers.{len(depths)}.blocks.")}:
            depths.append(len(block))
        return {"width": stem.shape[0], "depths": depths}, {f"net.{k}": v for k, v in found.items()}


def _monai_encoder(arch: SegResNetArch) -> Any:
    """Return MONAI's module; it is imported here only, since it is an extra and slow to import."""
    try:
        from monai.networks.nets.segresnet_ds import SegResEncoder
    except ImportError as error:
        raise ConfigError(
            "the encoder ct-fm needs MONAI, which is not installed",
            where="vision.name = ct-fm",
            fix='pip install "glint-radiology[ct]"',
        ) from error
    return SegResEncoder(
        spatial_dims=3, init_filters=arch.width, in_channels=len(arch.mean), blocks_down=arch.depths
    )
