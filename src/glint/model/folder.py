"""A saved model is a folder: glint.json (recipe), model.safetensors (weights), README.md (model card).

The frozen text encoder is not inside: it is named in the recipe and found again by that name.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor

import glint.weights
from glint.atomic import write_text, write_whole
from glint.config.schema import GlintConfig
from glint.errors import UsageError, WeightsError
from glint.model.checksums import sha256, write_sums
from glint.model.glint import GlintModel
from glint.model.weights import check_keys, read_safetensors

RECIPE_FILE, WEIGHTS_FILE, CARD_FILE = "glint.json", "model.safetensors", "README.md"
PACKAGED = Path(glint.weights.__file__).parent


def packaged_models() -> list[str]:
    """Return the names of the models that come with GLINT."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{RECIPE_FILE}"))


def save_model(model: GlintModel, folder: Path, card: str, *, half: bool = False) -> None:
    """Write a model folder, weights last and atomically; `half` stores fp16 (for small packaged models)."""
    # The start weights are inside model.safetensors now: a loaded model must not look for them.
    vision = model.cfg.vision.model_copy(update={"init": ""})
    cfg = model.cfg.model_copy(update={"vision": vision})
    write_text(folder / RECIPE_FILE, cfg.model_dump_json(indent=1) + "\n")
    write_text(folder / CARD_FILE, card)
    tensors = {
        name: (value.half() if half and value.numel() > 64 else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    write_whole(folder / WEIGHTS_FILE, lambda part: save_file(tensors, part))
    write_sums(folder)


def save_calibration(folder: Path, scale: float, offset: float, mask_threshold: float) -> None:
    """Replace the calibration of scores and masks of a saved model."""
    tensors = read_safetensors(folder / WEIGHTS_FILE)
    tensors["calibration"] = torch.tensor([scale, offset])
    tensors["mask_threshold"] = torch.tensor(mask_threshold)
    write_whole(folder / WEIGHTS_FILE, lambda part: save_file(tensors, part))
    write_sums(folder)


def load_model(name: str | Path) -> GlintModel:
    """Load a model folder, or a packaged model by name, ready for inference on the CPU.

    Raises:
        UsageError: No such folder and no packaged model of that name.
        WeightsError: The folder is incomplete or damaged, or weights and recipe do not fit.
    """
    model = GlintModel(load_recipe(name))
    load_weights(model, name)
    return model.eval()


def load_recipe(name: str | Path) -> GlintConfig:
    """Return the recipe of a saved model; errors as `load_model`."""
    folder = _find(str(name))
    recipe = folder / RECIPE_FILE
    for file in (recipe, folder / WEIGHTS_FILE):
        if not file.is_file():
            raise WeightsError(
                "the model folder is incomplete",
                where=str(file),
                expected=f"{RECIPE_FILE} and {WEIGHTS_FILE}",
                fix="copy the folder again, or train the model again",
            )
    try:
        return GlintConfig.model_validate(json.loads(recipe.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise WeightsError(
            "the recipe of the model cannot be read", where=str(recipe), expected=str(error)
        ) from error


def load_weights(
    model: GlintModel, name: str | Path, adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> None:
    """Give a model all weights of a saved one, calibration included.

    Args:
        model: The model.
        name: Folder or name of the saved one.
        adapt: What makes tensors of this model of the saved ones; they are taken as they are by default.

    Raises:
        WeightsError: They are damaged, or do not fit.
    """
    weights = _find(str(name)) / WEIGHTS_FILE
    tensors = {"mask_threshold": torch.tensor(0.5)} | read_safetensors(weights)  # older models have none
    tensors = adapt(tensors)
    check_keys(tensors, model.state_dict(), str(weights))
    model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=True)


def reads_volumes(name: str | Path) -> bool | None:
    """Say whether a model is one of CT volumes, from its recipe alone; None when that cannot be read.

    `load_model` tells what is wrong then.

    Raises:
        UsageError: As `load_model`.
    """
    try:
        recipe = json.loads((_find(str(name)) / RECIPE_FILE).read_text(encoding="utf-8"))
        return recipe["data"].get("volume") is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def model_digest(name: str | Path) -> str:
    """Return 16 hexadecimal digits that tell the weights of a model from others of the same name.

    Raises:
        UsageError: No such folder and no packaged model of that name.
        WeightsError: The weights are missing.
    """
    weights = _find(str(name)) / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError("the model folder is incomplete", where=str(weights), fix="copy the folder again")
    return sha256(weights)[:16]


def _find(name: str) -> Path:
    if (PACKAGED / name / RECIPE_FILE).is_file():
        return PACKAGED / name
    if Path(name).is_dir():
        return Path(name)
    raise UsageError(
        f"there is no model '{name}'",
        expected=f"a model folder written by `glint train`, or one of: {', '.join(packaged_models())}",
        fix="run `glint models` to list what is there",
    )
