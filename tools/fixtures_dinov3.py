"""Make the fixtures of tests/model/test_dinov3.py from a checkout of the official DINOv3 code (done once).

    python tools/fixtures_dinov3.py PATH_OF_CHECKOUT

Every parameter is random, layer scales included, and exact in half precision; inputs are grey, in [0, 1]. A file holds
the state dict under `weights.`, and for each input its name, the patch tokens after the last norm, and what the blocks
(stages) hand over before it. dinov3_shapes.json holds names, shapes and counts of all published sizes, of block 0 only.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

OUT = Path(__file__).parents[1] / "tests" / "model" / "fixtures"
LVD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = {"square": (64, 64), "wide": (48, 80)}
# As the published models are made, but small.
COMMON = {
    "pos_embed_rope_dtype": "fp32",
    "pos_embed_rope_rescale_coords": 2,
    "layerscale_init": 1e-5,
    "norm_layer": "layernormbf16",
    "n_storage_tokens": 4,
    "mask_k_bias": True,
}
VITS: dict[str, dict[str, Any]] = {
    "mlp": {"embed_dim": 32, "depth": 4, "num_heads": 2, "ffn_layer": "mlp", "ffn_ratio": 4},
    "swiglu": {"embed_dim": 32, "depth": 4, "num_heads": 2, "ffn_layer": "swiglu", "ffn_ratio": 6},
    "swiglu64": {
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 3,
        "ffn_layer": "swiglu64",
        "ffn_ratio": 3,
        "qkv_bias": False,
        "untie_global_and_local_cls_norm": True,
    },
}


@torch.no_grad()
def randomise(net: nn.Module) -> None:
    """Fill every parameter so that none is special and signals keep their size."""
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() > 1 and "token" not in name:
            noise = noise * parameter[0].numel() ** -0.5
        elif re.search(r"gamma$|norm\w*\.weight$", name):
            noise = 0.7 + 0.3 * noise
        elif name.endswith("bias"):
            noise = 0.3 * noise
        parameter.copy_(noise.half())


def normalised(image: Tensor) -> Tensor:
    """Return a grey image as three normalised channels."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in LVD)
    return (image.expand(-1, 3, -1, -1) - mean) / std


def write(name: str, net: nn.Module, features: Callable[[Tensor], dict[str, Tensor]]) -> None:
    """Save weights, inputs and outputs of one model."""
    content = {
        f"weights.{key}": value.half() if value.dim() else value for key, value in net.state_dict().items()
    }
    for size, sides in SIZES.items():
        sides = tuple(-(-side // 32) * 32 for side in sides) if "convnext" in name else sides
        image = torch.rand(1, 1, *sides)
        content[f"{size}.image"] = image
        content |= {f"{size}.{key}": value for key, value in features(normalised(image)).items()}
    save_file(
        {key: value.detach().contiguous().clone() for key, value in content.items()},
        OUT / f"{name}.safetensors",
    )


def write_vit(name: str, settings: dict[str, Any]) -> None:
    """Write one case of a ViT."""
    from dinov3.models.vision_transformer import DinoVisionTransformer

    net = DinoVisionTransformer(**COMMON, **settings)
    net.init_weights()
    randomise(net)
    net.eval()

    def features(x: Tensor) -> dict[str, Tensor]:
        blocks = net.get_intermediate_layers(x, n=range(settings["depth"]), norm=False)
        tokens = net.forward_features(x)["x_norm_patchtokens"]
        return {"tokens": tokens} | {f"block{i}": block for i, block in enumerate(blocks)}

    write(f"dinov3_vit_{name}", net, features)


def write_convnext() -> None:
    """Write the case of a ConvNeXt: maps of all stages, before any norm."""
    from dinov3.models.convnext import ConvNeXt

    net = ConvNeXt(depths=[1, 1, 2, 1], dims=[8, 16, 24, 32]).eval()
    net.init_weights()
    randomise(net)
    write(
        "dinov3_convnext",
        net,
        lambda x: {
            f"block{i}": m for i, m in enumerate(net.get_intermediate_layers(x, n=range(4), norm=False))
        },
    )


def published_shapes() -> dict[str, Any]:
    """Return what a state dict of each published size holds; numbered blocks but the first left out."""
    from dinov3.hub import backbones

    found: dict[str, Any] = {}
    for name in sorted(dir(backbones)):
        if not name.startswith(("dinov3_vit", "dinov3_convnext")):
            continue
        with torch.device("meta"):
            net = getattr(backbones, name)(pretrained=False)
        convnext = hasattr(net, "downsample_layers")
        later = re.compile(r"stages\.\d\.[1-9]\d*\." if convnext else r"blocks\.[1-9]\d*\.")
        found[name] = {
            "depths": [len(stage) for stage in net.stages] if convnext else [len(net.blocks)],
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "tensors": {k: list(v.shape) for k, v in net.state_dict().items() if not later.match(k)},
        } | ({} if convnext else {"heads": net.num_heads})
    return found


def main() -> None:
    """Write all fixtures."""
    sys.path.insert(0, sys.argv[1])
    torch.manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, settings in VITS.items():
        write_vit(name, settings)
    write_convnext()
    lines = (f'"{name}": {json.dumps(content)}' for name, content in published_shapes().items())
    (OUT / "dinov3_shapes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
