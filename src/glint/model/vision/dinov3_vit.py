"""DINOv3 vision transformer (transformers' class) as a dense encoder, from the hub's or the official files."""

import re
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from glint.errors import WeightsError
from glint.model.vision.hub import count_blocks, expect_activation, expect_model, normalisation, shape_of
from glint.model.vision.vit import HubViT, ViTArch
from glint.model.weights import RawWeights

SAT_MEAN, SAT_STD = (0.430, 0.411, 0.296), (0.213, 0.156, 0.143)  # the models of satellite images


class DINOv3ViTArch(ViTArch):
    """Settings of a DINOv3 ViT."""

    norm_eps: float = Field(1e-5, gt=0)
    """Added to the variance in layer normalisation."""
    mlp_width: int = 0
    """Hidden width of the MLP; 0 means 4 * width."""
    gated_mlp: bool = False
    """SwiGLU (S+, H+, 7B) instead of GELU."""
    qv_bias: bool = True
    """Bias of queries and values; the 7B has none."""
    key_bias: bool = False
    """Bias of keys. Official weights mask theirs to zero."""
    registers: int = Field(4, ge=0)
    rope_theta: float = 100.0
    rope_rescale: float | None = None
    """Augmentation of positions in training (upstream: 2.0). Makes a student differ from its teacher at step 0."""


class DINOv3ViT(HubViT):
    """DINOv3 ViT. Positions are rotary and relative to the sides of the image, so any multiple of the patch will do."""

    Arch = DINOv3ViTArch
    licence: ClassVar[str] = (
        "DINOv3 License: derivatives carry the same agreement; acknowledge DINOv3 in publications"
    )
    arch: DINOv3ViTArch

    def __init__(self, arch: DINOv3ViTArch) -> None:
        super().__init__(arch, DINOv3ViTModel(_hf_config(arch)), 1 + arch.registers)
        self.net.embeddings.mask_token.requires_grad_(False)  # masking is done in pixels (losses/masked.py)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.model.layer)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a hub folder (config.json), or an official .pth, also one nested under `teacher`."""
        expect_model(raw, "dinov3-vit")
        tensors = raw.tensors("teacher", "model", "state_dict")
        found = {
            key.removeprefix("module.").removeprefix("backbone."): value for key, value in tensors.items()
        }
        if "embeddings.cls_token" not in found:
            found = from_official(found, raw.where)
        renamed = {"net." + re.sub(r"^layer\.", "model.layer.", key): value for key, value in found.items()}
        return _arch_of(renamed, raw), renamed


def _hf_config(arch: DINOv3ViTArch) -> DINOv3ViTConfig:
    return DINOv3ViTConfig(
        patch_size=arch.patch_px,
        hidden_size=arch.width,
        intermediate_size=arch.mlp_width or 4 * arch.width,
        num_hidden_layers=arch.depth,
        num_attention_heads=arch.heads,
        hidden_act="silu" if arch.gated_mlp else "gelu",
        use_gated_mlp=arch.gated_mlp,
        query_bias=arch.qv_bias,
        key_bias=arch.key_bias,
        value_bias=arch.qv_bias,
        num_register_tokens=arch.registers,
        num_channels=len(arch.mean),
        layer_norm_eps=arch.norm_eps,
        rope_theta=arch.rope_theta,
        pos_embed_rescale=arch.rope_rescale,
    )


# Names of the official files -> names of transformers' module.
OFFICIAL = [
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^storage_tokens$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layer.\1.attention.o_proj."),
    (r"^blocks\.(\d+)\.ls([12])\.gamma$", r"layer.\1.layer_scale\2.lambda1"),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layer.\1.mlp.up_proj."),
    (r"^blocks\.(\d+)\.mlp\.(fc2|w3)\.", r"layer.\1.mlp.down_proj."),
    (r"^blocks\.(\d+)\.mlp\.w1\.", r"layer.\1.mlp.gate_proj."),
    (r"^blocks\.(\d+)\.mlp\.w2\.", r"layer.\1.mlp.up_proj."),
    (r"^blocks\.(\d+)\.(norm[12])\.", r"layer.\1.\2."),
]
# Heads of training and constants that the module makes itself.
DROPPED = re.compile(r"rope_embed\.periods|.*\.bias_mask|local_cls_norm\..*|(dino|ibot)\w*(head|loss).*")


def from_official(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Rename the tensors of an official .pth and split qkv; a key bias that upstream masks to zero is dropped."""
    if "cls_token" not in tensors:
        raise WeightsError(
            f"these are no DINOv3 ViT weights: no cls_token among {sorted(tensors)[:4]}",
            where=where,
            expected="dinov3_vit*.pth, or a hub folder of facebook/dinov3-vit*",
        )
    # Weights without registers have no such tensor; transformers' module has one of length 0.
    renamed = {"embeddings.register_tokens": tensors["cls_token"][:, :0]}
    for name, value in tensors.items():
        qkv = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if qkv:
            masked = f"blocks.{qkv[1]}.attn.qkv.bias_mask" in tensors
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                if not (masked and (part, qkv[2]) == ("k", "bias")):
                    renamed[f"layer.{qkv[1]}.attention.{part}_proj.{qkv[2]}"] = chunk
        elif not DROPPED.fullmatch(name):
            for pattern, replacement in OFFICIAL:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value[None] if name.endswith("mask_token") and value.dim() == 2 else value
    return renamed


def _arch_of(tensors: dict[str, Tensor], raw: RawWeights) -> dict[str, Any]:
    """Infer the settings from shapes; heads and normalisation from the files beside them."""
    first, config = "net.model.layer.0.", raw.config
    width, channels, patch, *_ = shape_of(tensors, "net.embeddings.patch_embeddings.weight", raw.where)
    gated = f"{first}mlp.gate_proj.weight" in tensors
    expect_activation(config, "silu" if gated else "gelu", raw.where)
    arch = {
        "patch_px": patch,
        "width": width,
        "depth": config.get("num_hidden_layers") or count_blocks(tensors, "net.model.layer."),
        # Official files do not name their heads: 64 channels each, but 128 in the 7B.
        "heads": config.get("num_attention_heads") or width // (128 if width == 4096 else 64) or 1,
        "mlp_width": shape_of(tensors, f"{first}mlp.up_proj.weight", raw.where)[0],
        "gated_mlp": gated,
        "qv_bias": f"{first}attention.q_proj.bias" in tensors,
        "key_bias": f"{first}attention.k_proj.bias" in tensors,
        "registers": shape_of(tensors, "net.embeddings.register_tokens", raw.where)[1],
        "rope_theta": config.get("rope_theta", 100.0),
        "norm_eps": config.get("layer_norm_eps", 1e-5),
    }
    if "sat493m" in raw.where.lower():  # official files say it in their name only
        arch |= {"mean": SAT_MEAN, "std": SAT_STD}
    return arch | normalisation(raw, channels)
