"""What the files of a hub folder say: which model it is, how its pixels are normalised, how large its tensors are."""

import re
from typing import Any

from torch import Tensor

from glint.errors import WeightsError
from glint.model.weights import RawWeights

# model_type of config.json -> our name of the encoder that reads it.
ENCODER_OF = {
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "dinov3_convnext": "dinov3-convnext",
    "dinov3_vit": "dinov3-vit",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
}


def expect_model(raw: RawWeights, name: str) -> None:
    """Raise a WeightsError if config.json describes a model that encoder `name` does not read; none says nothing."""
    found = str(raw.config.get("model_type", ""))
    if found and ENCODER_OF.get(found) != name:
        reader = ENCODER_OF.get(found)
        raise WeightsError(
            f"config.json describes a model of another kind: model_type = {found}",
            where=raw.where,
            expected=" or ".join(kind for kind, encoder in ENCODER_OF.items() if encoder == name),
            fix=f"set vision.name = {reader}"
            if reader
            else "choose other weights, or write an encoder for them",
        )


def expect_activation(config: dict[str, Any], wanted: str, where: str) -> None:
    """Raise a WeightsError if the config asks for another activation: no shape would tell."""
    found = config.get("hidden_act", wanted)
    if found != wanted:
        raise WeightsError(
            f"hidden_act = {found} in config.json is not supported", where=where, expected=wanted
        )


def need(raw: RawWeights, what: dict[str, Any], file: str) -> dict[str, Any]:
    """Return the content of a file that has to lie beside the weights.

    Raises:
        WeightsError: It is not there.
    """
    if not what:
        raise WeightsError(
            f"{file} is missing beside the weights: they cannot be understood without it",
            where=raw.where,
            expected="a hub folder, or a hub id",
            fix=f"copy {file} of the same model into the folder, and name the folder instead of the file",
        )
    return what


def normalisation(raw: RawWeights, channels: int) -> dict[str, list[float]]:
    """Return mean and std of pixels in [0, 1], one a channel, from preprocessor_config.json; {} if it has none.

    Processors multiply bytes by `rescale_factor`, then subtract and divide; ours divides bytes by 255 first.
    """
    given = raw.preprocessor
    if "image_mean" not in given or "image_std" not in given:
        return {}
    scale = 255 * given.get("rescale_factor", 1 / 255) if given.get("do_rescale", True) else 255.0
    mean, std = (given["image_mean"], given["image_std"]) if given.get("do_normalize", True) else (0.0, 1.0)
    return {"mean": _per_channel(mean, scale, channels), "std": _per_channel(std, scale, channels)}


def shape_of(tensors: dict[str, Tensor], name: str, where: str) -> tuple[int, ...]:
    """Return the shape of a tensor that the settings are inferred from.

    Raises:
        WeightsError: It is not there.
    """
    if name not in tensors:
        raise WeightsError(
            f"these are no weights for this encoder: missing {name.removeprefix('net.')}",
            where=where,
            expected=f"its tensors; there are {sorted(key.removeprefix('net.') for key in tensors)[:3]} ...",
            fix="check vision.name against what the weights were made with, or get the whole file",
        )
    return tuple(tensors[name].shape)


def count_blocks(tensors: dict[str, Tensor], prefix: str) -> int:
    """Return 1 + the highest number behind the prefix, 0 if there is none: a gap is found by the check of keys."""
    numbers = [re.match(rf"{re.escape(prefix)}(\d+)\.", key) for key in tensors]
    return 1 + max((int(found[1]) for found in numbers if found), default=-1)


def _per_channel(values: float | list[float], scale: float, channels: int) -> list[float]:
    numbers = [float(v) / scale for v in (values if isinstance(values, list) else [values])]
    return numbers * channels if len(numbers) == 1 else numbers
