"""DINOv2 vision transformers (transformers' classes) from hub folders: RAD-DINO, RAD-DINO-MAIRA-2, XrayDINOv2."""

import re
from math import isqrt
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from glint.model.vision.hub import expect_activation, expect_model, need, normalisation, shape_of
from glint.model.vision.vit import HubViT, LearntPositionsArch
from glint.model.weights import RawWeights


class Dinov2Arch(LearntPositionsArch):
    """Settings of a DINOv2 ViT."""

    mlp_ratio: int = Field(4, ge=1)
    gated_mlp: bool = False
    """SwiGLU (ViT-g) instead of GELU; its hidden width is 2/3 of mlp_ratio * width."""
    qkv_bias: bool = True
    registers: int = Field(0, ge=0)
    """With registers, positions are interpolated with antialiasing, as upstream does."""


class Dinov2(HubViT):
    """DINOv2 ViT with learnt positions, without CLS and registers in what it hands over."""

    Arch = Dinov2Arch
    licence: ClassVar[str] = (
        "depends on the weights, and their files do not say: DINOv2 Apache-2.0, RAD-DINO MIT, RAD-DINO-MAIRA-2 MSRLA "
        "(research only); look at where yours came from"
    )
    arch: Dinov2Arch

    def __init__(self, arch: Dinov2Arch) -> None:
        common: dict[str, Any] = {
            "patch_size": arch.patch_px,
            "image_size": arch.image_px,
            "hidden_size": arch.width,
            "num_hidden_layers": arch.depth,
            "num_attention_heads": arch.heads,
            "mlp_ratio": arch.mlp_ratio,
            "use_swiglu_ffn": arch.gated_mlp,
            "qkv_bias": arch.qkv_bias,
            "num_channels": len(arch.mean),
            "layer_norm_eps": arch.norm_eps,
        }
        if arch.registers:
            net = Dinov2WithRegistersModel(
                Dinov2WithRegistersConfig(num_register_tokens=arch.registers, **common)
            )
        else:
            net = Dinov2Model(Dinov2Config(**common))
        super().__init__(arch, net, 1 + arch.registers)
        self.net.embeddings.mask_token = None  # only for masked pretraining; some files have none

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.encoder.layer)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a hub folder: config.json, preprocessor_config.json and safetensors."""
        expect_model(raw, "dinov2")
        config = need(raw, raw.config, "config.json")
        need(
            raw, raw.preprocessor, "preprocessor_config.json"
        )  # radiographs are not normalised as photographs
        tensors = {f"net.{key}": value for key, value in _present_names(raw.tensors()).items()}
        _, channels, patch, *_ = shape_of(
            tensors, "net.embeddings.patch_embeddings.projection.weight", raw.where
        )
        positions, width = shape_of(tensors, "net.embeddings.position_embeddings", raw.where)[1:]
        expect_activation(config, "gelu", raw.where)
        full = Dinov2WithRegistersConfig if "net.embeddings.register_tokens" in tensors else Dinov2Config
        known: Any = full.from_dict(config)  # fills in what config.json leaves out because it is the default
        return {
            "patch_px": patch,
            "image_px": isqrt(positions - 1) * patch,
            "width": width,
            "depth": known.num_hidden_layers,
            "heads": known.num_attention_heads,
            "mlp_ratio": known.mlp_ratio,
            "gated_mlp": known.use_swiglu_ffn,
            "qkv_bias": known.qkv_bias,
            "registers": getattr(known, "num_register_tokens", 0),
            "norm_eps": known.layer_norm_eps,
        } | normalisation(raw, channels), tensors


# Names in published files -> names of transformers' module since version 5.
RENAMED = [
    (r"\.attention\.attention\.(q)uery\.", r".attention.\1_proj."),
    (r"\.attention\.attention\.(k)ey\.", r".attention.\1_proj."),
    (r"\.attention\.attention\.(v)alue\.", r".attention.\1_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.mlp\.weights_out\.", ".mlp.down_proj."),
]


def _present_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, split the joined input of SwiGLU, and drop the mask token."""
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".mlp.weights_in." in name:
            for part, chunk in zip(("gate", "up"), value.chunk(2), strict=True):
                renamed[name.replace("weights_in", f"{part}_proj")] = chunk
        elif name != "embeddings.mask_token":
            renamed[name] = value
    return renamed
