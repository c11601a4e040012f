"""DINOv3 vision transformer (transformers' class) as a dense encoder, from the hub's or the official files."""

import re
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from glint.errors import WeightsError
from glint.model.vision.base import EncoderArch, EncoderOutput, ImageEncoder, even_levels
from glint.model.weights import RawWeights

LVD_MEAN, LVD_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv3ViTArch(EncoderArch):
    """Settings of a DINOv3 ViT."""

    mean: tuple[float, ...] = LVD_MEAN
    std: tuple[float, ...] = LVD_STD
    patch_px: int = Field(16, ge=4)
    width: int = Field(192, ge=8)
    depth: int = Field(6, ge=1)
    heads: int = Field(3, ge=1)
    mlp_width: int = 0
    """Hidden width of the MLP; 0 means 4 * width."""
    gated_mlp: bool = False
    """SwiGLU (S+, H+, 7B) instead of GELU."""
    qv_bias: bool = True
    """Bias of queries and values; the 7B has none."""
    registers: int = Field(4, ge=0)
    rope_theta: float = 100.0
    rope_rescale: float | None = None
    """Augmentation of positions in training (upstream: 2.0). Makes a student differ from its teacher at step 0."""
    levels: tuple[int, ...] = ()
    """Blocks (from 0) whose outputs are the levels of dense feature regularization; () means 1/4, 2/4, 3/4."""

    @model_validator(mode="after")
    def _heads_fit(self) -> "DINOv3ViTArch":
        if self.width % (4 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 4 * heads = {4 * self.heads}")
        return self


class DINOv3ViT(ImageEncoder):
    """DINOv3 ViT: tokens are the normed patch tokens of the last block, without CLS and registers."""

    Arch = DINOv3ViTArch
    licence: ClassVar[str] = (
        "DINOv3 License: derivatives carry the same agreement; acknowledge DINOv3 in publications"
    )
    arch: DINOv3ViTArch

    def __init__(self, arch: DINOv3ViTArch) -> None:
        super().__init__()
        self.arch, self.width = arch, arch.width
        self.patch = self.multiple = (arch.patch_px, arch.patch_px)
        self.net = DINOv3ViTModel(_hf_config(arch))
        self.net.embeddings.mask_token.requires_grad_(False)  # masking is done in pixels (losses/masked.py)
        self.prefix = 1 + arch.registers
        self.levels = arch.levels or even_levels(arch.depth)[:-1] or (0,)

    def forward(self, images: Tensor) -> EncoderOutput:
        """See ImageEncoder."""
        grid = self.grid(images)
        output = self.net(self.normalise(images), output_hidden_states=True)
        # hidden_states[0] is the embedding, hidden_states[i + 1] the output of block i, before the last norm.
        levels = tuple(output.hidden_states[i + 1][:, self.prefix :] for i in self.levels)
        return EncoderOutput(output.last_hidden_state[:, self.prefix :], grid, levels)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.model.layer)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a hub folder (config.json), or an official .pth, also one nested under `teacher`."""
        tensors = raw.tensors("teacher", "model", "state_dict")
        found = {
            key.removeprefix("module.").removeprefix("backbone."): value for key, value in tensors.items()
        }
        if "embeddings.cls_token" not in found:
            found = from_official(found, raw.where)
        renamed = {re.sub(r"^layer\.", "model.layer.", key): value for key, value in found.items()}
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
        value_bias=arch.qv_bias,
        num_register_tokens=arch.registers,
        num_channels=len(arch.mean),
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
    """Rename the tensors of an official .pth; split qkv and drop the key bias, which upstream masks to zero."""
    if "storage_tokens" not in tensors and "cls_token" not in tensors:
        raise WeightsError(
            f"these are no DINOv3 ViT weights: no cls_token among {sorted(tensors)[:4]}",
            where=where,
            expected="dinov3_vit*.pth, or a hub folder of facebook/dinov3-vit*",
        )
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        qkv = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if qkv:
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                if (part, qkv[2]) != ("k", "bias"):
                    renamed[f"layer.{qkv[1]}.attention.{part}_proj.{qkv[2]}"] = chunk
        elif not DROPPED.fullmatch(name):
            for pattern, replacement in OFFICIAL:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value[None] if name.endswith("mask_token") and value.dim() == 2 else value
    return renamed


def _arch_of(tensors: dict[str, Tensor], raw: RawWeights) -> dict[str, Any]:
    """Infer the settings from shapes; heads and normalisation from the files beside them."""
    patches = tensors.get("embeddings.patch_embeddings.weight", torch.empty(0))
    if patches.dim() != 4:
        raise WeightsError("these are no DINOv3 ViT weights: no 2D patch embedding", where=raw.where)
    width = len(patches)
    gated = "model.layer.0.mlp.gate_proj.weight" in tensors
    depth = 1 + max(int(k.split(".")[2]) for k in tensors if k.startswith("model.layer."))
    # Official files do not name their heads: 64 channels each, but 128 in the 7B.
    heads = raw.config.get("num_attention_heads", width // (128 if width == 4096 else 64) or 1)
    registers = tensors.get("embeddings.register_tokens")
    arch = {
        "patch_px": patches.shape[-1],
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_width": len(tensors["model.layer.0.mlp.up_proj.weight"]),
        "gated_mlp": gated,
        "qv_bias": "model.layer.0.attention.q_proj.bias" in tensors,
        "registers": 0 if registers is None else registers.shape[1],
        "rope_theta": raw.config.get("rope_theta", 100.0),
    }
    normalisation = {"mean": raw.preprocessor.get("image_mean"), "std": raw.preprocessor.get("image_std")}
    return arch | {key: value for key, value in normalisation.items() if value}
