"""Published V-JEPA weights: which network they are for, and their tensors under its names."""

import re
import warnings
from typing import Any

import torch
from torch import Tensor

from glint.errors import WeightsError
from glint.model.weights import RawWeights

# A training checkpoint holds several encoders; the moving average is the one that was published for use.
CHECKPOINT_KEYS = ("ema_encoder", "target_encoder", "encoder")
EXPECTED = "vjepa2*.pt, safetensors with the same names, or a hub folder of facebook/vjepa2-vit* (2.0)"
HEADS_OF_WIDTH = {1280: 16}  # the 2.0 H; all others have heads of 64 channels

# Names of transformers' VJEPA2Model -> official names. Older files say attention.attention.
HUB = [
    (r"^encoder\.embeddings\.patch_embeddings\.", "patch_embed."),
    (r"^encoder\.layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.attention\.(?:attention\.)?(query|key|value|proj)\.", r"blocks.\1.attn.\2."),
    (r"^encoder\.layer\.", "blocks."),
]
PARTS = ("query", "key", "value")


def read_vjepa(raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the settings that follow from the weights (VJEPAArch), and the tensors under their official names.

    Nothing is left out but `pos_embed` (both versions use rotary positions) and the hub's predictor.

    Raises:
        WeightsError: These are no V-JEPA weights.
    """
    found = {
        name.replace("module.", "").replace("backbone.", ""): tensor
        for name, tensor in raw.tensors(*CHECKPOINT_KEYS).items()
    }
    if any(name.startswith("encoder.layer.") for name in found):
        found = _from_hub(found, raw.where)
    found.pop("pos_embed", None)
    settings = _settings(found, raw)
    if settings["version"] == "2.1":
        _warn_of_untrained_norms(found, raw.where)
    return settings, found


def _from_hub(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Rename the tensors of a hub folder, without the predictor; join queries, keys and values."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith("predictor."):
            for pattern, replacement in HUB:
                name = re.sub(pattern, replacement, name)
            renamed[name] = tensor
    for query in [name for name in renamed if ".attn.query." in name]:
        names = [query.replace(".query.", f".{part}.") for part in PARTS]
        missing = [name for name in names if name not in renamed]
        if missing:
            raise WeightsError(f"the weights lack {missing}", where=where, fix="copy or download them again")
        renamed[query.replace(".query.", ".qkv.")] = torch.cat([renamed.pop(name) for name in names])
    return renamed


def _settings(tensors: dict[str, Tensor], raw: RawWeights) -> dict[str, Any]:
    """Infer settings from names and shapes; heads and normalisation from the files beside them, if any."""
    patches, hidden = tensors.get("patch_embed.proj.weight"), tensors.get("blocks.0.mlp.fc1.weight")
    is_21, is_20 = "norms_block.0.weight" in tensors, "norm.weight" in tensors
    if patches is None or patches.dim() != 5 or hidden is None or is_21 == is_20:
        raise WeightsError(
            f"these are no V-JEPA weights: {_lack(patches, hidden)} among {sorted(tensors)[:4]}",
            where=raw.where,
            expected=EXPECTED,
        )
    width, _, tubelet, rows, columns = patches.shape
    if rows != columns:
        raise WeightsError(
            f"the patch embedding has the shape {tuple(patches.shape)}",
            where=raw.where,
            expected="(width, channels, tubelet, patch, patch)",
            fix="files made for MLX have the channels last: permute the convolutions (0, 4, 1, 2, 3)",
        )
    settings: dict[str, Any] = {
        "version": "2.1" if is_21 else "2.0",
        "patch_px": rows,
        "tubelet": tubelet,
        "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in tensors if re.match(r"blocks\.\d+\.", name)),
        "heads": raw.config.get("num_attention_heads", HEADS_OF_WIDTH.get(width, 0)),
        "mlp_width": len(hidden),
    }
    normalisation = {"mean": raw.preprocessor.get("image_mean"), "std": raw.preprocessor.get("image_std")}
    return settings | {key: value for key, value in normalisation.items() if value}


def _lack(patches: Tensor | None, hidden: Tensor | None) -> str:
    if patches is None or patches.dim() != 5:
        return "no 3D patch_embed.proj.weight"
    return "no blocks.0.mlp.fc1.weight" if hidden is None else "not exactly one of norm and norms_block"


def _warn_of_untrained_norms(tensors: dict[str, Tensor], where: str) -> None:
    fresh = [
        level
        for level in range(3)
        if f"norms_block.{level}.weight" in tensors
        and bool((tensors[f"norms_block.{level}.weight"] == 1).all())
        and not bool(tensors.get(f"norms_block.{level}.bias", torch.ones(1)).any())
    ]
    if fresh:
        warnings.warn(
            f"{where}: norms_block {fresh} were never trained (weights 1, biases 0), as expected of distilled models;"
            " GLINT does not use them",
            stacklevel=2,
        )
