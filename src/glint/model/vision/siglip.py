"""SigLIP vision transformers (transformers' class) from hub folders: MedSigLIP."""

from math import isqrt
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from glint.model.vision.hub import expect_activation, expect_model, need, normalisation, shape_of
from glint.model.vision.vit import HubViT, LearntPositionsArch
from glint.model.weights import RawWeights


class SiglipArch(LearntPositionsArch):
    """Settings of a SigLIP ViT."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    mlp_width: int = Field(768, ge=8)


class Siglip(HubViT):
    """SigLIP ViT: all of its tokens are patches. The attention pooling behind them is left out."""

    Arch = SiglipArch
    licence: ClassVar[str] = (
        "depends on the weights, and their files do not say: MedSigLIP is under the Health AI Developer Foundations "
        "terms, which follow its derivatives; SigLIP is Apache-2.0"
    )
    arch: SiglipArch
    options: ClassVar[dict[str, Any]] = {
        "interpolate_pos_encoding": True
    }  # changes nothing at the native size

    def __init__(self, arch: SiglipArch) -> None:
        config = SiglipVisionConfig(
            patch_size=arch.patch_px,
            image_size=arch.image_px,
            hidden_size=arch.width,
            intermediate_size=arch.mlp_width,
            num_hidden_layers=arch.depth,
            num_attention_heads=arch.heads,
            num_channels=len(arch.mean),
            layer_norm_eps=arch.norm_eps,
            vision_use_head=False,
        )
        super().__init__(arch, SiglipVisionModel(config), 0)

    def blocks(self) -> list[nn.Module]:
        """See ImageEncoder."""
        return list(self.net.encoder.layers)

    @classmethod
    def adopt(cls, raw: RawWeights) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Read a hub folder of a whole SiglipModel, of which the image half is taken, or of a SiglipVisionModel."""
        expect_model(raw, "siglip")
        config = need(raw, raw.config, "config.json")
        tensors = {
            f"net.{key.removeprefix('vision_model.')}": value
            for key, value in raw.tensors().items()
            if not key.startswith(("text_model.", "logit_", "vision_model.head.", "head."))
        }
        width, channels, patch, *_ = shape_of(tensors, "net.embeddings.patch_embedding.weight", raw.where)
        positions = shape_of(tensors, "net.embeddings.position_embedding.weight", raw.where)[0]
        # Fills in what config.json leaves out because it is the default.
        known: Any = SiglipVisionConfig.from_dict(config.get("vision_config", config))
        expect_activation({"hidden_act": known.hidden_act}, "gelu_pytorch_tanh", raw.where)
        return {
            "patch_px": patch,
            "image_px": isqrt(positions) * patch,
            "width": width,
            "depth": known.num_hidden_layers,
            "heads": known.num_attention_heads,
            "mlp_width": known.intermediate_size,
            "norm_eps": known.layer_norm_eps,
        } | normalisation(raw, channels), tensors
