"""Encoders by name: how one is found, built, filled with weights, saved."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

from glint.atomic import write_text, write_whole
from glint.config.schema import DataConfig, GlintConfig, VisionConfig
from glint.errors import ConfigError, WeightsError
from glint.model.vision.base import EncoderArch, Grid, ImageEncoder
from glint.model.vision.tuning import tune
from glint.model.weights import check_keys, open_weights

# To add an encoder, copy _template.py and add a line here; or keep it in your own package and write
# vision.name = "package.module:Class" in the recipe.
ENCODERS = {
    "convnet": "glint.model.vision.convnet:ConvNet",
    "convnet3d": "glint.model.vision.convnet:ConvNet3d",
    "ct-fm": "glint.model.vision.segresnet:SegResNet",
    "dinov2": "glint.model.vision.dinov2:Dinov2",
    "dinov3-convnext": "glint.model.vision.dinov3_convnext:DINOv3ConvNeXt",
    "dinov3-vit": "glint.model.vision.dinov3_vit:DINOv3ViT",
    "i3resnet": "glint.model.vision.i3resnet:I3ResNet",
    "primus": "glint.model.vision.primus:Primus",
    "siglip": "glint.model.vision.siglip:Siglip",
    "vjepa": "glint.model.vision.vjepa:VJEPA",
}
ENCODER_FILE, ENCODER_CARD = "encoder.safetensors", "encoder.json"


def encoder_class(name: str) -> type[ImageEncoder]:
    """Return the class behind a registered name or "package.module:Class".

    Raises:
        ConfigError: Unknown name, or not importable.
    """
    module, colon, attribute = ENCODERS.get(name, name).partition(":")
    try:
        if colon:
            found = getattr(importlib.import_module(module), attribute)
            if isinstance(found, type) and issubclass(found, ImageEncoder):
                return found
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the image encoder cannot be imported ({error})", where=f"vision.name = {name}"
        ) from error
    raise ConfigError(
        f"there is no image encoder '{name}'",
        where="vision.name",
        expected=f"one of {', '.join(ENCODERS)}; or package.module:Class, a subclass of ImageEncoder",
    )


def build_vision(cfg: VisionConfig) -> ImageEncoder:
    """Return the encoder a recipe names, in evaluation form of its settings, with the weights of `cfg.init` if given.

    Settings come from the weights; those in `cfg.arch` win, and must then fit the weights.

    Raises:
        ConfigError: Unknown encoder or setting.
        WeightsError: Weights missing, damaged, or made for something else.
    """
    kind = encoder_class(cfg.name)
    if not cfg.init:
        return kind(make_arch(cfg))
    settings, tensors = read_encoder(cfg.init, kind)
    encoder = kind(make_arch(cfg, settings))
    check_keys(tensors, encoder.state_dict(), cfg.init)
    encoder.load_state_dict(tensors, strict=True)
    return encoder


def input_grid(encoder: ImageEncoder, data: DataConfig) -> Grid:
    """Return the token grid of the network input of a recipe.

    Raises:
        ConfigError: The encoder is of the other dimension, or `data.size_px` or `data.volume.crop` does not fit it.
    """
    shape, key = data.input_shape, "data.size_px" if data.volume is None else "data.volume.crop"
    if len(shape) != len(encoder.multiple):
        raise ConfigError(
            f"{type(encoder).__name__} sees {len(encoder.multiple)} dimensions, the data have {len(shape)}",
            where="vision.name with data.volume",
            fix="set data.volume for CT and leave it out for radiographs, or choose another encoder",
        )
    if any(side % multiple for side, multiple in zip(shape, encoder.multiple, strict=True)):
        fitting = [-(-side // m) * m for side, m in zip(shape, encoder.multiple, strict=True)]
        raise ConfigError(
            f"{key} = {data.size_px if data.volume is None else list(shape)} does not fit the image encoder: "
            f"it is not a multiple of {' x '.join(map(str, dict.fromkeys(encoder.multiple)))}",
            where=f"{key} with {type(encoder).__name__}",
            fix=f"set {key} to {max(fitting) if data.volume is None else fitting}",
        )
    return tuple(side // patch for side, patch in zip(shape, encoder.patch, strict=True))


def resolve_vision(cfg: GlintConfig) -> GlintConfig:
    """Return the recipe with every setting of its encoder written out, after checking that it can be built.

    Nothing is computed: a recipe that cannot be trained fails here, before a run directory is made.

    Raises:
        ConfigError: Unknown encoder or setting, a size that does not fit, or a tuning that the encoder does not allow.
        WeightsError: `vision.init` missing or damaged.
    """
    kind = encoder_class(cfg.vision.name)
    found = read_encoder(cfg.vision.init, kind)[0] if cfg.vision.init else None
    arch = make_arch(cfg.vision, found)
    with torch.device("meta"):
        input_grid(tune(kind(arch), cfg.vision), cfg.data)
    vision = cfg.vision.model_copy(update={"arch": arch.model_dump(mode="json")})
    return cfg.model_copy(update={"vision": vision})


def make_arch(cfg: VisionConfig, found: dict[str, Any] | None = None) -> EncoderArch:
    """Return the checked settings of an encoder: defaults, then those found in weights, then the recipe's.

    Raises:
        ConfigError: A setting that this encoder does not have, or a bad value.
    """
    try:
        return encoder_class(cfg.name).Arch.model_validate((found or {}) | cfg.arch)
    except ValidationError as error:
        known = ", ".join(encoder_class(cfg.name).Arch.model_fields)
        problems = "; ".join(
            f"{'.'.join(('vision.arch', *map(str, e['loc'])))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise ConfigError(
            f"the settings of the image encoder are not valid: {problems}",
            where=f"vision.name = {cfg.name}",
            expected=f"settings of {cfg.name}: {known}",
        ) from error


def read_encoder(source: str, kind: type[ImageEncoder]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and tensors of weights of our own (`save_encoder`) or of anybody's (`ImageEncoder.adopt`).

    Raises:
        WeightsError: Weights missing, damaged, or made for something else.
    """
    raw = open_weights(source)
    own = raw.config.get("arch")
    if isinstance(own, dict):
        name = raw.config.get("name", "")
        if name in ENCODERS and encoder_class(name) is not kind:
            raise WeightsError(
                f"encoder.json describes an encoder of another kind: {name}",
                where=source,
                fix=f"set vision.name = {name}",
            )
        return own, raw.tensors()
    settings, tensors = kind.adopt(raw)
    return {"licence": kind.licence} | settings, tensors


def save_encoder(encoder: ImageEncoder, name: str, folder: Path) -> None:
    """Write an encoder so that `vision.init=FOLDER` finds it."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    write_whole(folder / ENCODER_FILE, lambda part: save_file(tensors, part))
    card = {"name": name, "arch": encoder.arch.model_dump(mode="json")}
    write_text(folder / ENCODER_CARD, json.dumps(card, indent=1) + "\n")
