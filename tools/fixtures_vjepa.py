"""Make the parity fixtures of V-JEPA: tests/model/fixtures/vjepa_2_{0,1}.safetensors, from a checkout of the authors'.

    tools/fixtures_vjepa.py PATH_OF_A_CHECKOUT_OF_facebookresearch/vjepa2

The committed files were made with commit 204698b45b37. They hold tensors only: small random weights (all of them,
norms and biases too), grey pixels in [0, 1], and what the authors' code makes of them in fp32. Weights are rounded to
fp16 before the authors' code runs, so that half of the bytes hold exactly what it used.

Names in a file: `weights.<official name>`, `<case>.pixels`, `<case>.tokens`, `oblong.level<i>` (normed, 2.1).
"""

import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "tests" / "model" / "fixtures"
PATCH, WIDTH, HEADS, DEPTH, MLP_RATIO = 4, 128, 2, 4, 0.5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {
    "square": (6, 16, 16),
    "oblong": (8, 12, 24),
    "slice": (1, 20, 12),
}  # voxels; 4 per patch, 2 per tubelet


def stand_in_for_unused_imports() -> None:
    """Let the authors' modules import: they name two packages, of which an encoder in evaluation calls nothing."""
    for name, attributes in {
        "einops": {"rearrange": None},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {"drop_path": None},
    }.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)


def build(version: str) -> nn.Module:
    """Return the authors' encoder, cut to four blocks and small patches, with random weights."""
    if version == "2.1":
        from app.vjepa_2_1.models.utils.patch_embed import PatchEmbed3D
        from app.vjepa_2_1.models.vision_transformer import VisionTransformer

        flavour = {"img_temporal_dim_size": 1, "interpolate_rope": True}
    else:
        from src.models.utils.patch_embed import PatchEmbed3D
        from src.models.vision_transformer import VisionTransformer

        flavour = {}
    net = VisionTransformer(
        img_size=(256, 256),
        patch_size=16,
        num_frames=16,
        tubelet_size=2,
        embed_dim=WIDTH,
        depth=12,
        num_heads=HEADS,
        mlp_ratio=MLP_RATIO,
        use_rope=True,
        norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
        **flavour,
    )
    # Their class knows the levels of 12 and more blocks of patches of 16 only: cut it down after it is built.
    net.blocks, net.patch_size = net.blocks[:DEPTH], PATCH
    net.patch_embed = PatchEmbed3D(patch_size=PATCH, tubelet_size=2, in_chans=3, embed_dim=WIDTH)
    if version == "2.1":
        net.patch_embed_img = PatchEmbed3D(patch_size=PATCH, tubelet_size=1, in_chans=3, embed_dim=WIDTH)
        net.hierarchical_layers = net.out_layers_distillation = list(range(DEPTH))
    randomise(net)
    return net.eval()


@torch.no_grad()
def randomise(net: nn.Module) -> None:
    """Fill all parameters with random numbers that fp16 holds exactly, large enough that attention is not flat."""
    random = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape, generator=random)
        if parameter.dim() > 1 and "mod_embed" not in name:
            noise *= 1.5 / parameter[0].numel() ** 0.5
        else:
            noise = noise * 0.3 + (1 if "norm" in name and name.endswith("weight") else 0)
        parameter.copy_(noise.half().float())


@torch.no_grad()
def outputs(net: nn.Module, pixels: Tensor, with_levels: bool) -> dict[str, Tensor]:
    """Return what the authors' encoder makes of grey pixels: the last tokens, and all normed levels if asked for."""
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1, 1) for numbers in (MEAN, STD))
    normalised = (pixels - mean) / std
    found = {"tokens": net(normalised)}
    if with_levels:
        net.return_hierarchical = True
        found |= {f"level{i}": level for i, level in enumerate(net(normalised).chunk(DEPTH, dim=-1))}
        net.return_hierarchical = False
    return found


def main() -> None:
    """Write both files."""
    sys.path.insert(0, sys.argv[1])
    stand_in_for_unused_imports()
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for version in ("2.0", "2.1"):
        net = build(version)
        content = {f"weights.{name}": value.half().contiguous() for name, value in net.state_dict().items()}
        for case, size in SIZES.items():
            if version == "2.1" or case != "slice":
                pixels = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
                content[f"{case}.pixels"] = pixels
                for name, value in outputs(net, pixels, (version, case) == ("2.1", "oblong")).items():
                    content[f"{case}.{name}"] = value.contiguous().clone()
        file = FOLDER / f"vjepa_{version.replace('.', '_')}.safetensors"
        save_file(content, file)
        print(f"{file.name}: {file.stat().st_size} bytes, {len(content)} tensors")


if __name__ == "__main__":
    main()
