"""What every image encoder hands over, and how one is built by name.

Axes: B studies, C encoder width, P patches on a grid of Yp x Xp, Pl and Cl patches and width of a level.
Prefix tokens (CLS, registers) never leave an encoder: they carry global information and must not meet the gate.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glint.config.schema import VisionConfig
from glint.errors import WeightsError


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """Dense features of a batch of images.

    Attributes:
        tokens: (B, P, C) patch tokens in row-major order of the grid.
        grid: (Yp, Xp) with Yp * Xp = P.
        levels: Intermediate feature sets (B, Pl, Cl), shallow to deep, for dense feature regularization.
    """

    tokens: Tensor
    grid: tuple[int, int]
    levels: tuple[Tensor, ...]


class ImageEncoder(nn.Module):
    """Base class: pixels in [0, 1] in, dense features out.

    Attributes:
        width: C of the tokens.
        stride_px: Pixels of the input per token, in both directions.
    """

    width: int
    stride_px: int

    def forward(self, images: Tensor) -> EncoderOutput:
        """Encode images (B, 1, Y, X) in [0, 1], bright = dense; Y and X multiples of the stride."""
        raise NotImplementedError

    @staticmethod
    def normalise(images: Tensor, channels: int) -> Tensor:
        """Shift grey values to about zero mean, unit variance and repeat them over the channels."""
        return ((images - 0.5) / 0.25).expand(-1, channels, -1, -1)


def build_vision(cfg: VisionConfig) -> ImageEncoder:
    """Return the encoder a recipe names, with the weights of `cfg.init` when that is given."""
    from glint.model.vision.convnet import ConvNet
    from glint.model.vision.dinov3_convnext import DINOv3ConvNeXt
    from glint.model.vision.dinov3_vit import DINOv3ViT

    # The whole registry: to add an encoder, copy _template.py and add a line here and in VisionConfig.name.
    encoders: dict[str, Callable[[VisionConfig], ImageEncoder]] = {
        "dinov3-vit": DINOv3ViT,
        "dinov3-convnext": DINOv3ConvNeXt,
        "convnet": ConvNet,
    }
    encoder = encoders[cfg.name](cfg)
    if cfg.init:
        load_encoder(encoder, cfg)
    return encoder


ENCODER_FILE = "encoder.safetensors"
ENCODER_CARD = "encoder.json"


def save_encoder(encoder: ImageEncoder, cfg: VisionConfig, folder: Path) -> None:
    """Write an encoder so that `vision.init=FOLDER` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    save_file(tensors, folder / ENCODER_FILE)
    (folder / ENCODER_CARD).write_text(json.dumps(cfg.model_dump(exclude={"init"}), indent=1) + "\n")


def load_encoder(encoder: ImageEncoder, cfg: VisionConfig) -> None:
    """Fill an encoder from `cfg.init`, every tensor of it, or fail.

    Raises:
        WeightsError: File missing or damaged, or made for another architecture (names the first keys).
    """
    path = Path(cfg.init)
    file = path / ENCODER_FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            "the encoder weights to start from were not found",
            where=f"vision.init = {cfg.init}",
            expected=f"a folder with {ENCODER_FILE}, as `glint pretrain` writes it, or a safetensors file",
            fix="run `glint pretrain` first, or set vision.init='' to start from random weights",
        )
    try:
        tensors = load_file(file)
    except Exception as error:
        raise WeightsError(
            "the encoder weights are damaged", where=str(file), fix="make them again"
        ) from error
    check_keys(tensors, encoder.state_dict(), str(file))
    encoder.load_state_dict(tensors, strict=True)


def check_keys(found: dict[str, Tensor], wanted: dict[str, Tensor], where: str) -> None:
    """Raise a WeightsError that names what differs; never load a part of a model silently."""
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(found.keys() & wanted.keys())
        if found[key].shape != wanted[key].shape
    ]
    problems = [f"missing {missing[:3]}"] if missing else []
    problems += [f"unknown {extra[:3]}"] if extra else []
    problems += [f"other shape {shapes[:3]}"] if shapes else []
    if problems:
        count = len(missing) + len(extra) + len(shapes)
        raise WeightsError(
            f"the weights do not fit the architecture ({count} tensors differ): " + "; ".join(problems),
            where=where,
            expected="weights of the same encoder name, widths and depths",
            fix="check the `vision` section of the recipe against the one the weights were made with",
        )


def as_tokens(feature_map: Tensor) -> Tensor:
    """Turn a map (B, C, Yp, Xp) into tokens (B, Yp * Xp, C) in row-major order."""
    return feature_map.flatten(2).transpose(1, 2)


def check_size(images: Tensor, stride: int) -> tuple[int, int]:
    """Return the token grid of an input, which must be a multiple of the stride (callers letterbox)."""
    height, width = int(images.shape[-2]), int(images.shape[-1])
    assert (height % stride, width % stride) == (0, 0), f"{height}x{width} is not a multiple of {stride}"
    return height // stride, width // stride
